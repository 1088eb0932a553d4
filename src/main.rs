//! Reads the command line, does what it says, ends with its status.

use std::process::ExitCode;

use ringmark::cli::{self, Command, Early};
use ringmark::spec::Spec;

fn main() -> ExitCode {
    let ended = cli::parse(std::env::args_os()).and_then(carry_out);
    ExitCode::from(ended.unwrap_or_else(|early| early.show()))
}

/// Runs a subcommand; gives the exit status.
fn carry_out(command: Command) -> Result<u8, Early> {
    match command {
        Command::Perf(args) => cli::measure::perf(&Spec::from(*args)),
        Command::Mock(args) => cli::mock::serve(&args),
        Command::Report(args) => cli::report::show(&args),
        Command::Compare(args) => cli::compare::show(&args),
        Command::Rig(args) => cli::rig::show(&args),
    }
}
