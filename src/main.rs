//! The `ringmark` program: runs the command line and exits with its status.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringmark::cli_main(std::env::args_os())
}
