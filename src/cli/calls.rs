//! Runs the calls of `ringmark perf`: one, or the scenarios of `--config` one after the other.

use std::ffi::OsString;

use super::config::{self, Call};
use super::documents::{self, CallResult, Documented, is_stdout};
use super::exit::{EarlyExit, status};
use super::perf_args::PerfArgs;
use super::perf_command::{self, Interrupts};
use super::terminal::{print, print_error};
use crate::prepare::secret_values;

/// Runs the calls that a command line means; returns the exit status. `arguments` are all of it, from the program's name
/// on.
pub(crate) fn run(args: &PerfArgs, arguments: &[OsString]) -> Result<u8, EarlyExit> {
    let mut calls = config::calls(args, arguments, std::env::vars_os())?;
    if args.print_config {
        let text = config::print(&calls).map_err(|error| EarlyExit::error(&error))?;
        return print(&text).map(|()| status::DONE);
    }
    for call in &mut calls {
        let resolved = secret_values::resolve(&call.spec, &|name| std::env::var(name).ok());
        call.spec = resolved.map_err(|error| EarlyExit::error(&error))?;
    }
    run_all(&calls)
}

/// Runs all calls. An error and an interrupt end them. The exit status is the highest of all.
fn run_all(calls: &[Call]) -> Result<u8, EarlyExit> {
    let interrupts = Interrupts::watch()?;
    let stdout_is_document = calls.iter().any(|call| is_stdout(call.spec.output.json.as_ref()));
    let mut documented: Vec<Documented> = Vec::new();
    let mut highest = status::DONE;
    for (number, call) in calls.iter().enumerate() {
        announce(call, number, calls.len());
        let mut result = None;
        let outcome = perf_command::run(&call.spec, &interrupts, stdout_is_document, &mut result)
            .map_err(|early| in_scenario(call, early));
        if let (None, Err(early)) = (&result, &outcome) {
            // A call that is rejected changes no file, unless an earlier scenario has results.
            result = (number > 0).then(|| CallResult::failed(&call.spec, early.status, early.text.trim_end()));
        }
        if let Some(result) = result {
            let output = &call.spec.output;
            let (json, junit) = (output.json.clone(), output.junit.clone());
            documented.push(Documented { scenario: call.scenario.clone(), json, junit, result });
        }
        highest = highest.max(*outcome.as_ref().unwrap_or_else(|early| &early.status));
        let is_last = outcome.is_err() || highest == status::INTERRUPTED || number + 1 == calls.len();
        let written = documents::write(&documented, highest, is_last);
        outcome?;
        written?;
        if is_last {
            break;
        }
    }
    Ok(highest)
}

/// Prints what starts. The programs of a file also with --quiet, which the file may have set.
fn announce(call: &Call, number: usize, all: usize) {
    call.programs.iter().for_each(|line| print_error(&format!("{line}\n")));
    if let Some(scenario) = call.scenario.as_ref().filter(|_| !call.spec.output.quiet) {
        print_error(&format!("Scenario {scenario} ({} of {all})\n", number + 1));
    }
}

/// An error with the scenario that it belongs to.
fn in_scenario(call: &Call, early: EarlyExit) -> EarlyExit {
    match (&call.scenario, early.text.strip_prefix("error: ")) {
        (Some(scenario), Some(text)) => {
            let text = format!("error: scenario {}: {text}", crate::visible::visible_line(scenario));
            EarlyExit { text, ..early }
        }
        _ => early,
    }
}
