//! The `ringmark` program: runs the command line and exits with its status.

use std::process::ExitCode;

fn main() -> ExitCode {
    exit_on_broken_pipe();
    ringmark::cli_main(std::env::args_os())
}

/// Exits when the reader of standard output goes away, as in `ringmark report FILE.db | head`. `print!` would panic. The
/// exit status is that of a program killed by SIGPIPE.
fn exit_on_broken_pipe() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(141);
        }
        default_hook(panic);
    }));
}
