//! Flags of `ringmark perf` from a file (`--config`) and from the environment (`RINGMARK_FLAG_*`). clap's definitions of
//! the flags are the only list: their long names are the keys of the file, and every value is parsed by clap.
//!
//! A flag is taken from the command line, else from the environment, else from the scenario, else from the shared keys
//! of the file, else it has its default. A flag that excludes one from a higher place is ignored.

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Id};

use self::flag::is_own;
use super::perf_args::PerfArgs;
use super::{Cli, EarlyExit, early_exit, help_for};
use crate::spec::Spec;
use crate::spec::names::nearest;

mod environment;
mod file;
mod flag;
mod print;
mod programs;

pub(crate) use print::print;

/// One call of `ringmark perf`: that of the command line, or a scenario of the file.
#[derive(Debug)]
pub(crate) struct Call {
    /// The name of the scenario; `None` if the file has none.
    pub scenario: Option<String>,
    pub spec: Spec,
    /// The line that names the programs which the file makes this call start; `None` if there are none.
    pub programs: Option<String>,
    /// Where its values come from; empty if only the command line gives any, and none are printed.
    matches: ArgMatches,
}

/// A flag and its values, from somewhere else than the command line.
#[derive(Clone, Debug, PartialEq)]
struct Setting {
    id: Id,
    /// The long name of the flag, with dashes.
    flag: String,
    values: Values,
    place: Place,
}

/// The values of a flag.
#[derive(Clone, Debug, PartialEq)]
enum Values {
    /// A flag without values, or without its optional value, is given.
    On,
    /// It is not given, whatever lower places have.
    Off,
    /// It is given once for each value.
    Each(Vec<String>),
}

/// Where a setting is.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// The name of the variable.
    Variable(String),
    File {
        path: String,
        line: usize,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Variable(name) => f.write_str(name),
            Place::File { path, line } => write!(f, "{path}:{line}"),
        }
    }
}

impl Setting {
    /// The arguments that give the flag. With `=`, a value may begin with a dash, and ends there.
    fn arguments(&self) -> Vec<OsString> {
        match &self.values {
            Values::On => vec![format!("--{}", self.flag).into()],
            Values::Off => Vec::new(),
            Values::Each(values) => values.iter().map(|value| format!("--{}={value}", self.flag).into()).collect(),
        }
    }
}

/// The calls that a command line means, in order. `arguments` are all of it, from the program's name on; `variables` are
/// those of the environment.
///
/// # Errors
/// One line that names the flag, and the file with the line or the variable.
pub(crate) fn calls(
    args: &PerfArgs,
    arguments: &[OsString],
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Call>, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let perf = perf_command();
    let environment = environment::settings(&perf, variables).map_err(exit)?;
    if environment.is_empty() && args.config.is_none() && args.scenario.is_empty() && !args.print_config {
        // Nothing but the command line, which has been parsed.
        let matches = ArgMatches::default();
        return Ok(vec![Call { scenario: None, spec: args.spec.clone(), programs: None, matches }]);
    }
    let file = args.config.as_deref().map(|path| file::read(&perf, path)).transpose().map_err(exit)?;
    let (shared, scenarios) = file.map_or_else(Default::default, |file| (file.shared, file.scenarios));
    for setting in environment.iter().chain(&shared).chain(scenarios.iter().flat_map(|scenario| &scenario.settings)) {
        check(&perf, setting)?;
    }
    let selected = select(&scenarios, &args.scenario, args.config.as_deref()).map_err(exit)?;
    let given = given_ids(&perf, &matches_of(arguments)?);
    let call = |scenario: Option<&file::Scenario>| {
        let own = scenario.map_or(&[][..], |scenario| &scenario.settings);
        let chosen = choose(&perf, &given, &[&environment, own, &shared]);
        call(scenario.map(|scenario| scenario.name.clone()), &chosen, arguments)
    };
    let calls: Vec<Call> = match scenarios.is_empty() {
        true => vec![call(None)?],
        false => selected.into_iter().map(|scenario| call(Some(scenario))).collect::<Result<_, _>>()?,
    };
    check_files(&calls).map_err(exit)?;
    Ok(calls)
}

/// clap's definition of `perf`.
fn perf_command() -> Command {
    let perf = Cli::command().find_subcommand("perf").cloned();
    perf.unwrap_or_default().no_binary_name(true)
}

/// The matches of `perf` in a whole command line.
fn matches_of(arguments: &[OsString]) -> Result<ArgMatches, EarlyExit> {
    let help = help_for(arguments.get(1));
    let matches = Cli::command().try_get_matches_from(arguments).map_err(|error| early_exit(&error, &help))?;
    Ok(matches.subcommand_matches("perf").cloned().unwrap_or_default())
}

/// The flags that the command line gives.
fn given_ids(perf: &Command, matches: &ArgMatches) -> Vec<Id> {
    let is_given = |id: &Id| matches.value_source(id.as_str()) == Some(clap::parser::ValueSource::CommandLine);
    perf.get_arguments().map(|arg| arg.get_id().clone()).filter(is_given).collect()
}

/// Checks a setting alone, so that the error can name its place.
fn check(perf: &Command, setting: &Setting) -> Result<(), EarlyExit> {
    let parsed = perf.clone().try_get_matches_from(setting.arguments());
    parsed.map(drop).map_err(|error| {
        let early = early_exit(&error, "ringmark perf --help");
        let text = early.text.strip_prefix("error: ").unwrap_or(&early.text);
        EarlyExit {
            text: format!("error: {}: {text}", crate::visible::visible_line(&setting.place.to_string())),
            ..early
        }
    })
}

/// The scenarios that `names` selects, in the order of the file; all without names.
fn select<'a>(
    scenarios: &'a [file::Scenario],
    names: &[String],
    config: Option<&Path>,
) -> Result<Vec<&'a file::Scenario>, String> {
    let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            let path = config.map_or_else(String::new, |path| path.display().to_string());
            return Err(match (known.is_empty(), nearest(name, &known)) {
                (true, _) => format!("--scenario {name}: {path} has no [[scenario]] tables"),
                (false, Some(nearest)) => {
                    format!("--scenario: {path} has no scenario '{name}': did you mean '{nearest}'?")
                }
                (false, None) => format!("--scenario: {path} has no scenario '{name}', only: {}", known.join(", ")),
            });
        }
    }
    Ok(scenarios.iter().filter(|scenario| names.is_empty() || names.contains(&scenario.name)).collect())
}

/// The settings that count, from the highest place to the lowest: the first of each flag, unless a flag of a higher place
/// excludes it.
fn choose<'a>(perf: &Command, given: &[Id], places: &[&'a [Setting]]) -> Vec<&'a Setting> {
    let mut decided: Vec<Id> = given.to_vec();
    let mut on: Vec<Id> = given.to_vec();
    let mut chosen: Vec<&Setting> = Vec::new();
    for place in places {
        let counts = |setting: &&Setting| !decided.contains(&setting.id) && !is_excluded(perf, &setting.id, &on);
        let here: Vec<&Setting> = place.iter().filter(counts).collect();
        decided.extend(here.iter().map(|setting| setting.id.clone()));
        on.extend(here.iter().filter(|setting| setting.values != Values::Off).map(|setting| setting.id.clone()));
        chosen.extend(here);
    }
    chosen
}

/// Whether a flag and one of `others` exclude each other.
fn is_excluded(perf: &Command, id: &Id, others: &[Id]) -> bool {
    let excludes = |a: &Id, b: &Id| {
        let argument = perf.get_arguments().find(|argument| argument.get_id() == a);
        argument.is_some_and(|argument| perf.get_arg_conflicts_with(argument).iter().any(|other| other.get_id() == b))
    };
    others.iter().any(|other| excludes(id, other) || excludes(other, id))
}

/// Parses the chosen settings with the command line.
fn call(scenario: Option<String>, chosen: &[&Setting], arguments: &[OsString]) -> Result<Call, EarlyExit> {
    // Before the arguments, of which the last may take all that follows.
    let (program, own) = arguments.split_at(arguments.len().min(2));
    let settings = chosen.iter().flat_map(|setting| setting.arguments());
    let all: Vec<OsString> = program.iter().cloned().chain(settings).chain(own.iter().cloned()).collect();
    let matches = matches_of(&all)?;
    let parsed = PerfArgs::from_arg_matches(&matches).map_err(|error| early_exit(&error, "ringmark perf --help"))?;
    let programs = programs::line(&parsed.spec, chosen);
    Ok(Call { scenario, spec: parsed.spec, programs, matches })
}

/// Checks that no two calls write to one file.
fn check_files(calls: &[Call]) -> Result<(), String> {
    for (number, call) in calls.iter().enumerate() {
        for earlier in &calls[..number] {
            let (a, b) = (&earlier.spec.output, &call.spec.output);
            let shared_export = b.export.iter().find(|export| a.export.contains(export));
            let shared = match (&a.csv, shared_export) {
                (Some(csv), _) if b.csv.as_ref() == Some(csv) => Some(format!("--csv {}", csv.display())),
                (_, Some(export)) => Some(format!("--export {export}")),
                _ if a.no_timestamp && b.no_timestamp && (&a.outputs_dir, &a.name) == (&b.outputs_dir, &b.name) => {
                    Some(format!("--no-timestamp and --name {}", a.name.as_deref().unwrap_or_default()))
                }
                _ => None,
            };
            if let Some(shared) = shared {
                let name = |call: &Call| call.scenario.clone().unwrap_or_default();
                return Err(format!(
                    "scenarios '{}' and '{}' write to the same files ({shared}): set them in each scenario, or select one \
                     with --scenario",
                    name(earlier),
                    name(call)
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
