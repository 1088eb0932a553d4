//! The `ringmark` program: runs the command line and exits with its status.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmark::cli_main(std::env::args_os())
}
