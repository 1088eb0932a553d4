//! Reads the command line, does what it says, ends with its status.

use std::process::ExitCode;

use ringmark::cli::{self, Command, Early};

fn main() -> ExitCode {
    end_quietly_on_closed_pipe();
    let ended = cli::parse(std::env::args_os()).and_then(carry_out);
    ExitCode::from(ended.unwrap_or_else(|early| early.show()))
}

/// Runs a subcommand; gives the exit status.
fn carry_out(command: Command) -> Result<u8, Early> {
    match command {
        Command::Perf(args) => cli::measure::perf(&args.spec),
        Command::Mock(args) => cli::mock::serve(&args),
        Command::Report(args) => cli::report::show(&args),
        Command::Compare(args) => cli::compare::show(&args),
        Command::Rig(args) => cli::rig::show(&args),
    }
}

/// `ringmark report FILE.db | head` closes our output before we have written it all, which is no mistake: `print!` would
/// turn it into a panic. The status is that of a program ended by SIGPIPE.
fn end_quietly_on_closed_pipe() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if words.starts_with("failed printing to stdout") && words.contains("Broken pipe") {
            std::process::exit(141);
        }
        usual(panic);
    }));
}
