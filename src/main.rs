//! Reads the command line, does what it says, ends with its status.

use std::process::ExitCode;

use ringmark::cli::{self, Command, Early};
use ringmark::plan::{RigFacts, resolve};
use ringmark::spec::{Spec, mask};

fn main() -> ExitCode {
    let ended = cli::parse(std::env::args_os()).and_then(carry_out);
    ExitCode::from(ended.unwrap_or_else(|early| early.show()))
}

/// Runs a subcommand; gives the exit status.
fn carry_out(command: Command) -> Result<u8, Early> {
    match command {
        Command::Perf(args) => {
            let spec = Spec::from(*args);
            let cores = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
            let facts = RigFacts { allowed_cores: cores, ..RigFacts::default() };
            let plans =
                resolve(&spec, &facts).map_err(|error| Early::mistake(&mask(&error.to_string(), &spec.secrets())))?;
            Err(Early::mistake(&format!("{} runs are planned, but running them is not wired up yet", plans.len())))
        }
        Command::Mock(_) | Command::Report(_) | Command::Rig(_) => {
            Err(Early::mistake("this subcommand is not wired up yet"))
        }
    }
}
