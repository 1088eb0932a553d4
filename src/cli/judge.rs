//! `ringmark judge`: runs a client against the mock and compares what it did and reported with the mock's records.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use clap::Args;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::interrupt;
use super::terminal::print;
use crate::files;
use crate::host::children;
use crate::host::limits::raise_open_files;
use crate::judge::checks::Verdict;
use crate::judge::claims::{FORMATS, Format, format_named};
use crate::judge::client::PLACEHOLDERS;
use crate::judge::scenario::{self, Scenario};
use crate::judge::{Asked, Judgement, Judging, judge, text};

/// Flags of `ringmark judge`.
#[derive(Args, Debug)]
#[command(after_help = after_help())]
pub struct JudgeArgs {
    /// What the server does: one of the scenarios below, or all
    #[arg(long, value_name = "NAME", default_value = "steady")]
    scenario: String,
    /// Requests in flight at a time that the command asks for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    parallel: Option<u32>,
    /// Requests per second that the command asks for
    #[arg(long, value_name = "R", value_parser = positive)]
    rate: Option<f64>,
    /// Requests that the command asks for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Format of the client's result file, whose figures are compared with the true ones; see below
    #[arg(long, value_name = "FORMAT", value_parser = format_named)]
    read: Option<Format>,
    /// The client's result file, relative to the folder in which it starts [default: the newest file of the format]
    #[arg(long, value_name = "FILE", requires = "read")]
    result: Option<PathBuf>,
    /// Seconds after which a client is ended
    #[arg(long, value_name = "S", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Write all that was found as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Parameters of the server that replace those of the scenario; see 'ringmark mock --help'
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// The client: program and arguments, with placeholders; no shell is involved
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "must be a number greater than 0".to_string())
}

fn after_help() -> String {
    let mut out = String::from("Scenarios:\n");
    for scenario in &scenario::ALL {
        out.push_str(&format!("  {:<18} {}\n", scenario.name, scenario.about));
    }
    out.push_str("\nPlaceholders in the command:\n");
    for (written, meaning) in PLACEHOLDERS {
        out.push_str(&format!("  {written}\n      {meaning}\n"));
    }
    out.push_str("\nFormats of results:\n");
    for (name, _, meaning) in FORMATS {
        out.push_str(&format!("  {name:<18} {meaning}\n"));
    }
    out.push_str(
        "\nThe client starts in an empty folder, which is also its HOME, with a process group of its own, without secrets in its\n\
         environment, on all cores but the server's. Exit status: 0 if nothing is wrong, 1 if a check failed, 2 if the client\n\
         could not be judged, 3 if the server was too late to judge it.\n\n\
         Example: ringmark judge --parallel 8 --number 100 --read vllm -- vllm-rs bench serve --base-url {url} --model {model}\n",
    );
    out
}

/// Values of the placeholders if they are not given.
const PARALLEL: u32 = 8;
const RATE: f64 = 20.0;
const NUMBER: u64 = 100;

impl JudgeArgs {
    fn scenarios(&self) -> Result<Vec<&'static Scenario>, String> {
        match self.scenario.as_str() {
            "all" => Ok(scenario::ALL.iter().collect()),
            name => Ok(vec![scenario::named(name)?]),
        }
    }

    fn judging(&self) -> Judging {
        let mentions = |placeholder: &str| self.command.iter().any(|word| word.contains(placeholder));
        Judging {
            command: self.command.clone(),
            mock: self.parameters.join("&"),
            parallel: self.parallel.unwrap_or(PARALLEL),
            rate: self.rate.unwrap_or(RATE),
            number: self.number.unwrap_or(NUMBER),
            // A placeholder in the command asks for its default.
            asked: Asked {
                parallel: self.parallel.or_else(|| mentions("{parallel}").then_some(PARALLEL)),
                rate: self.rate.or_else(|| mentions("{rate}").then_some(RATE)),
                number: self.number.or_else(|| mentions("{number}").then_some(NUMBER)),
            },
            read: self.read,
            result: self.result.clone(),
            timeout: Duration::from_secs(self.timeout),
        }
    }
}

/// Judges the client in each scenario and prints what was found.
pub fn run(args: &JudgeArgs) -> Result<u8, EarlyExit> {
    let error = |error: String| EarlyExit::error(&error);
    let scenarios = args.scenarios().map_err(|why| error(format!("--scenario: {why}")))?;
    let judging = args.judging();
    let stop = Arc::new(AtomicU8::new(interrupt::GO_ON));
    interrupt::watch(stop.clone(), || {}, children::kill_all).map_err(|why| error(why.to_string()))?;
    raise_open_files();
    let width = screen_width();
    let mut judgements = Vec::new();
    for scenario in scenarios {
        let judged = judge(&judging, scenario, &stop);
        if stop.load(Ordering::SeqCst) != interrupt::GO_ON {
            return Ok(status::INTERRUPTED);
        }
        let judgement = judged.map_err(error)?;
        print(&format!("{}\n", text::scenario(&judgement, width)))?;
        judgements.push(judgement);
    }
    if judgements.len() > 1 {
        print(&text::sheet(&judgements, width))?;
    }
    print(&text::score(&judgements))?;
    if let Some(file) = &args.json {
        write_json(file, &judgements)?;
    }
    Ok(exit_status(&judgements))
}

fn write_json(file: &std::path::Path, judgements: &[Judgement]) -> Result<(), EarlyExit> {
    let wrong = |why: String| EarlyExit::error(&format!("--json {}: {why}", file.display()));
    let mut text = serde_json::to_string_pretty(judgements).map_err(|why| wrong(why.to_string()))?;
    text.push('\n');
    files::write_named(file, text.as_bytes()).map_err(|why| wrong(why.to_string()))
}

fn exit_status(judgements: &[Judgement]) -> u8 {
    let failed = |name: Option<&str>| {
        let checks = judgements.iter().flat_map(|judgement| &judgement.checks);
        checks.filter(|check| name.is_none_or(|name| check.name == name)).any(|check| check.verdict == Verdict::Fail)
    };
    match (failed(Some("mock")), failed(None)) {
        (true, _) => status::VOID,
        (_, true) => status::MISSED,
        _ => status::DONE,
    }
}
