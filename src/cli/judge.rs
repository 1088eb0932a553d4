//! `ringmark judge`: runs a client against the mock and compares what it did and reported with the mock's records.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use clap::Args;

use super::call_output::FILE_WIDTH;
use super::documents::{is_stdout, write_text};
use super::exit::{EarlyExit, status};
use super::interrupt;
use super::terminal::Output;
use crate::host::children;
use crate::host::limits::raise_open_files;
use crate::judge::client::PLACEHOLDERS;
use crate::judge::result_file::{FORMATS, Format, format_named};
use crate::judge::scenario::{self, Scenario};
use crate::judge::sheet::{self, Client};
use crate::judge::verdict::Verdict;
use crate::judge::{Asked, Judgement, Judging, judge, page, processes, text};
use crate::server::local;

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
    /// The prompts of these requests all differ: a repeated one is a request that was sent again
    #[arg(long)]
    distinct_prompts: bool,
    /// Format of the client's result file, whose figures are compared with the true ones; see below
    #[arg(long, value_name = "FORMAT", value_parser = format_named)]
    read: Option<Format>,
    /// The client's result file, relative to the folder in which it starts [default: the newest file of the format]
    #[arg(long, value_name = "FILE", requires = "read")]
    result: Option<PathBuf>,
    /// Seconds after which a client is ended
    #[arg(long, value_name = "S", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Name of the client on pages and sheets [default: the program's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write all that was found as JSON to FILE; with -, to standard output, and the texts to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write all that was found as an HTML page to FILE; with -, to standard output, and the texts to standard error
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show clients that were judged before side by side: files that --json wrote. No client is started
    #[arg(
        long,
        value_name = "FILE",
        num_args = 1..,
        conflicts_with_all = ["scenario", "parallel", "rate", "number", "distinct_prompts", "read", "result", "timeout", "name", "parameters", "command"],
    )]
    compare: Vec<PathBuf>,
    /// Parameters of the server that replace those of the scenario; see 'ringmark mock --help'
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// The client: program and arguments, with placeholders; no shell is involved
    #[arg(last = true, required_unless_present = "compare", value_name = "COMMAND")]
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
        "\nThe client starts in a folder of its own, which is also its HOME, with a process group of its own, without secrets in its\n\
         environment, on all cores but the server's. Exit status: 0 if nothing is wrong, 1 if a check failed, 2 if the client\n\
         could not be judged, 3 if the server was too late to judge it; with --compare 0, or 2 if a file cannot be read.\n\
         'ringmark guide judge' describes the checks.\n\n\
         Examples:\n  \
         ringmark judge --parallel 8 --number 100 --read vllm -- vllm-rs bench serve --base-url {url} --model {model}\n  \
         ringmark judge --compare vllm.json sglang.json --html clients.html\n",
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
        let program = self.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        Judging {
            name: self.name.clone().unwrap_or_else(|| program.to_string_lossy().into_owned()),
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
            distinct_prompts: self.distinct_prompts,
            read: self.read,
            result: self.result.clone(),
            timeout: Duration::from_secs(self.timeout),
        }
    }
}

/// Judges the client in each scenario, or reads what was found earlier, and prints it.
pub fn run(args: &JudgeArgs) -> Result<u8, EarlyExit> {
    if !args.compare.is_empty() {
        return compare(args);
    }
    let error = |error: String| EarlyExit::error(&error);
    let scenarios = args.scenarios().map_err(|why| error(format!("--scenario: {why}")))?;
    let judging = args.judging();
    let stop = Arc::new(AtomicU8::new(interrupt::GO_ON));
    let kill_all = || {
        children::kill_all();
        local::kill_all();
        processes::kill_all();
    };
    interrupt::watch(stop.clone(), || {}, kill_all).map_err(|why| error(why.to_string()))?;
    raise_open_files();
    let screen = output(args)?;
    let width = screen.width(FILE_WIDTH);
    let mut judgements = Vec::new();
    for scenario in scenarios {
        let judged = judge(&judging, scenario, &stop);
        if stop.load(Ordering::SeqCst) != interrupt::GO_ON {
            return Ok(status::INTERRUPTED);
        }
        let judgement = judged.map_err(error)?;
        screen.print(&format!("{}\n", text::scenario(&judgement, width)));
        judgements.push(judgement);
    }
    if judgements.len() > 1 {
        screen.print(&text::summary(&judgements, width));
    }
    screen.print(&text::score(&judgements));
    let status = exit_status(&judgements);
    write_files(args, &sheet::clients(judgements, ""))?;
    screen.finish()?;
    Ok(status)
}

/// Shows clients that were judged before side by side.
fn compare(args: &JudgeArgs) -> Result<u8, EarlyExit> {
    let clients = sheet::read(&args.compare).map_err(|why| EarlyExit::error(&format!("--compare: {why}")))?;
    let screen = output(args)?;
    screen.print(&text::side_by_side(&clients, screen.width(FILE_WIDTH)));
    write_files(args, &clients)?;
    screen.finish()?;
    Ok(status::DONE)
}

/// Where the texts go.
fn output(args: &JudgeArgs) -> Result<Output, EarlyExit> {
    match (is_stdout(args.json.as_ref()), is_stdout(args.html.as_ref())) {
        (true, true) => {
            Err(EarlyExit::error("--json - and --html - both need standard output: give one of them a file"))
        }
        (json, html) => Ok(Output::beside_document(json || html)),
    }
}

fn write_files(args: &JudgeArgs, clients: &[Client]) -> Result<(), EarlyExit> {
    if let Some(file) = &args.json {
        let judgements: Vec<&Judgement> = clients.iter().flat_map(|client| &client.judgements).collect();
        let text = serde_json::to_string_pretty(&judgements);
        let mut text = text.map_err(|why| EarlyExit::error(&format!("--json: {why}")))?;
        text.push('\n');
        write_text("--json", file, &text, true)?;
    }
    if let Some(file) = &args.html {
        write_text("--html", file, &page::html(clients), true)?;
    }
    Ok(())
}

fn exit_status(judgements: &[Judgement]) -> u8 {
    let mut checks = judgements.iter().flat_map(|judgement| &judgement.checks);
    match checks.any(|check| check.verdict == Verdict::Fail) {
        _ if judgements.iter().any(Judgement::is_void) => status::VOID,
        true => status::MISSED,
        false => status::DONE,
    }
}
