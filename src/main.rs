//! Reads the command line, does what it says, ends with its status.

use std::process::ExitCode;

use ringmark::cli::{self, Command, status};
use ringmark::plan::{RigFacts, resolve};
use ringmark::spec::{Spec, mask};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => {
            carry_out(command).unwrap_or_else(|text| end(&format!("error: {text}\n"), false, status::UNABLE))
        }
        Err(early) => end(&early.text, early.to_stdout, early.status),
    }
}

/// Runs a subcommand; an error is the one line to show.
fn carry_out(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Perf(args) => {
            let spec = Spec::from(*args);
            let cores = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
            let facts = RigFacts { allowed_cores: cores, ..RigFacts::default() };
            let plans = resolve(&spec, &facts).map_err(|error| mask(&error.to_string(), &spec.secrets()))?;
            Err(format!("{} runs are planned, but running them is not wired up yet", plans.len()))
        }
        Command::Mock(_) | Command::Report(_) | Command::Rig(_) => {
            Err("this subcommand is not wired up yet".to_string())
        }
    }
}

fn end(text: &str, to_stdout: bool, status: u8) -> ExitCode {
    if to_stdout {
        print!("{text}");
    } else {
        eprint!("{text}");
    }
    ExitCode::from(status)
}
