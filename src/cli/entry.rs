//! The entry point of the program: parses the command line, runs a subcommand, returns the exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use super::terminal::{print, print_error};
use super::{
    Command, EarlyExit, calls, compare, guide, interrupt, judge, merge, mock, parse, report, rig, shell, version,
};

/// Runs `ringmark` with `arguments`, the program's name first, and returns its exit status. Output goes to standard
/// output and standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    interrupt::report_file_size_limit();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let status = parse(&arguments).and_then(|command| run_command(command, &arguments));
    ExitCode::from(status.unwrap_or_else(|early| show(&early)))
}

/// Prints the text of an early exit; returns the exit status.
fn show(early: &EarlyExit) -> u8 {
    let printed = match early.to_stdout {
        true => print(&early.text),
        false => Err(early.clone()),
    };
    printed.map_or_else(
        |error| {
            print_error(&error.text);
            error.status
        },
        |()| early.status,
    )
}

/// Runs a subcommand; returns the exit status. `arguments` are the whole command line.
fn run_command(command: Command, arguments: &[OsString]) -> Result<u8, EarlyExit> {
    match command {
        Command::Perf(args) => calls::run(&args, arguments),
        Command::Mock(args) => mock::serve(&args),
        Command::Report(args) => report::show(&args),
        Command::Merge(args) => merge::show(&args),
        Command::Compare(args) => compare::show(&args),
        Command::Rig(args) => rig::show(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Guide(args) => guide::show(&args),
        Command::Version => version::show(),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    }
}
