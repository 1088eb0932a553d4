//! `ringmark completions` and `ringmark man`: the command line for shells and man(1).

use clap::Args;
use clap_complete::Shell;

use super::exit::{EarlyExit, status};
use super::help;
use super::terminal::print;

/// Arguments of `ringmark completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `ringmark man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Command whose page is printed, such as perf [default: the page of ringmark itself]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// Prints the script for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<u8, EarlyExit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "ringmark", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(status::DONE)
}

/// Prints a manual page.
pub(crate) fn man(args: &ManArgs) -> Result<u8, EarlyExit> {
    let mut command = help::command().version(env!("CARGO_PKG_VERSION"));
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            EarlyExit::error(&format!("'{name}' is not a command of ringmark: 'ringmark help' lists all of them"))
        })?,
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page)
        .source(format!("ringmark {}", env!("CARGO_PKG_VERSION")))
        .render(&mut roff)
        .map_err(|error| EarlyExit::error(&format!("cannot write the manual page: {error}")))?;
    print(&String::from_utf8_lossy(&roff))?;
    Ok(status::DONE)
}
