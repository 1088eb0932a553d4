//! `ringmark guide`: the manual.

use clap::Args;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::terminal::{Output, print};
use crate::guide;

/// Flags of `ringmark guide`.
#[derive(Args, Debug)]
pub struct GuideArgs {
    /// Topic, or the name of a finding, such as send_lag [default: a list of all topics]
    #[arg(value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Heading of a section of the topic: only this section is shown
    #[arg(value_name = "SECTION")]
    pub section: Vec<String>,
    /// List the sections in which WORD occurs
    #[arg(long, value_name = "WORD", conflicts_with = "topic")]
    pub search: Option<String>,
    /// Print the Markdown source
    #[arg(long)]
    pub markdown: bool,
}

/// Prints a topic, the list of topics, or what was found.
pub(crate) fn show(args: &GuideArgs) -> Result<u8, EarlyExit> {
    let text = text(args).map_err(|error| EarlyExit::error(&error))?;
    print(&match args.markdown {
        true => text,
        false => guide::render(&text, screen_width(), Output::default().has_colours()),
    })?;
    Ok(status::DONE)
}

fn text(args: &GuideArgs) -> Result<String, String> {
    match (&args.search, &args.topic) {
        (Some(word), _) => guide::search(word)
            .ok_or_else(|| format!("'{word}' does not occur in the guide: 'ringmark guide' lists its topics")),
        (None, Some(topic)) => guide::lookup(topic, &args.section).map(str::to_string),
        (None, None) => Ok(guide::contents()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use crate::cli::help;
    use crate::guide::{FOREIGN_TOOLS, foreign_row, topic};

    fn long_flags(command: &Command) -> Vec<String> {
        let own = command.get_arguments().flat_map(|argument| {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            argument.get_long().into_iter().chain(aliases).map(str::to_string).collect::<Vec<_>>()
        });
        own.chain(command.get_subcommands().flat_map(long_flags)).collect()
    }

    #[test]
    fn replacements_of_foreign_flags_name_flags_that_exist() {
        let known = long_flags(&help::command());
        for tool in FOREIGN_TOOLS {
            for (flags, ours) in topic(tool).unwrap().text.lines().filter_map(foreign_row) {
                // What follows is for the server, or a flag of the other program in a condition.
                let ours = ours.split("--server-args").next().unwrap_or_default();
                for word in ours.split([' ', ':', ';', ',']).filter_map(|word| word.strip_prefix("--")) {
                    let of_theirs = word == "max-concurrency" || flags.iter().any(|flag| flag == &format!("--{word}"));
                    assert!(known.iter().any(|flag| flag == word) || of_theirs, "{tool} {flags:?}: --{word}");
                }
                // A flag that is called the same must exist.
                if ours.starts_with("the same") {
                    let one = flags.iter().any(|flag| known.iter().any(|ours| *flag == format!("--{ours}")));
                    assert!(one, "{tool}: {flags:?} is not a flag of ringmark");
                }
            }
        }
    }
}
