//! The entry point of the program: parses the command line, runs a subcommand, returns the exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{Command, EarlyExit, compare, mock, parse, perf_command, report, rig};

/// Runs `ringmark` with `arguments`, the program's name first, and returns its exit status. Output goes to standard
/// output and standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let status = parse(arguments).and_then(run_command);
    ExitCode::from(status.unwrap_or_else(|early| early.show()))
}

/// Runs a subcommand; returns the exit status.
fn run_command(command: Command) -> Result<u8, EarlyExit> {
    match command {
        Command::Perf(args) => perf_command::run(&args.spec),
        Command::Mock(args) => mock::serve(&args),
        Command::Report(args) => report::show(&args),
        Command::Compare(args) => compare::show(&args),
        Command::Rig(args) => rig::show(&args),
    }
}
