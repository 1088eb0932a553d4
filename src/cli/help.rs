//! The help texts: `-h` has the first sentence about each flag, `--help` everything and examples.

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// Examples for `--help`, by command. `tests/guide.rs` runs them.
const EXAMPLES: [(&str, &str); 6] = [
    (
        "perf",
        "Examples:
  Try it without a server, against the built-in one:
    ringmark perf --url mock: --parallel 8 --number 200
  Keep 8 requests in flight:
    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions \\
        --parallel 8 --number 200
  Send 20 requests/s, whatever the server does:
    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions \\
        --open-loop --rate 20 --number 1000
  Measure several loads, each after a warm-up:
    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions \\
        --parallel 1 4 16 --number 20 80 320 --warmup-num 0.1
  Find the highest number of concurrent requests that meets objectives:
    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions \\
        --sla-auto-tune --sla-params 'p99_ttft<=2 p99_tpot<=50ms' \\
        --sla-upper-bound 256
  Exit with status 1 if an objective is missed:
    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions \\
        --parallel 8 --number 200 --slo 'p99_ttft<=2 failed<=1%'",
    ),
    (
        "mock",
        "Examples:
  A server on port 8000 that needs 200 ms for the first token and 10 ms for each other one:
    ringmark mock ttft=200ms itl=10ms tokens=100
  One that sends what vLLM sends, 4 requests at a time, on core 1:
    ringmark mock --cores 1 like=vllm max_running=4",
    ),
    (
        "report",
        "Examples:
  All runs of a call, here one with --name old, with a page for the browser:
    ringmark report outputs/*/old --html report.html
  The file that vllm bench writes:
    ringmark report outputs/*/old --export vllm=vllm.json",
    ),
    (
        "compare",
        "Examples:
  Two calls, load by load:
    ringmark compare outputs/*/old outputs/*/new
  Two runs with different prompts, also as a page for the browser:
    ringmark compare outputs/*/old outputs/*/new --force --html compare.html",
    ),
    (
        "rig",
        "Examples:
  Everything in the way of an exact measurement on this machine:
    ringmark rig
  Measure the error of timestamps at the load that is planned:
    ringmark rig --calibrate --parallel 8 --ttft 80ms --itl 12ms",
    ),
    (
        "guide",
        "Examples:
  The list of topics, one topic, one section:
    ringmark guide
    ringmark guide database
    ringmark guide findings send_lag
  Where a word occurs:
    ringmark guide --search goodput",
    ),
];

/// The command line with the texts for `-h` and for `--help`.
pub(super) fn command() -> Command {
    Cli::command().after_help("'ringmark guide' is the manual.").mut_subcommands(|command| {
        let name = command.get_name().to_string();
        let more = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
        let examples = EXAMPLES.iter().find(|(of, _)| *of == name).map(|(_, text)| text.to_string());
        let long: Vec<String> = examples.into_iter().chain(more).collect();
        let command = command.mut_args(with_short_help).mut_args(with_both_spellings);
        match long.is_empty() {
            true => command,
            false => command
                .after_help(format!("More about each flag, and examples: ringmark {name} --help"))
                .after_long_help(long.join("\n\n")),
        }
    })
}

/// The argument with each of its names in dashes and in underscores, as other programs and files of flags write them.
fn with_both_spellings(argument: Arg) -> Arg {
    let names = argument.get_long().into_iter().chain(argument.get_all_aliases().unwrap_or_default());
    let names: Vec<String> = names.map(str::to_string).collect();
    let mut others: Vec<String> = Vec::new();
    for other in names.iter().flat_map(|name| [name.replace('-', "_"), name.replace('_', "-")]) {
        if !names.contains(&other) && !others.contains(&other) {
            others.push(other);
        }
    }
    argument.aliases(others)
}

/// The argument with the first sentence of its help for `-h`.
fn with_short_help(argument: Arg) -> Arg {
    let Some(help) = argument.get_long_help().or(argument.get_help()).map(ToString::to_string) else { return argument };
    argument.help(short(&help)).long_help(help)
}

/// The first sentence of a help text, or its first part if that can stand alone, and the default value at its end.
fn short(help: &str) -> String {
    let (text, default) = match help.rfind(" [default").filter(|_| help.ends_with(']')) {
        Some(at) => help.split_at(at),
        None => (help, ""),
    };
    // "random: length of a prefix" begins with what the flag belongs to; "Server URL: http://, ..." with what it is.
    let is_thing = |part: &str| part.contains(' ') && part != "Closed loop";
    let stands_alone = |end: &str, at: usize| is_balanced(&text[..at]) && (end != ": " || is_thing(&text[..at]));
    let first = |end: &&str| text.match_indices(*end).map(|(at, _)| at).find(|at| stands_alone(end, *at));
    let end = [". ", "; ", ": ", "\n"].iter().filter_map(first).min().unwrap_or(text.len());
    format!("{}{default}", &text[..end])
}

/// Whether all quotes, parentheses and braces are closed.
fn is_balanced(text: &str) -> bool {
    let count = |c: char| text.matches(c).count();
    count('"').is_multiple_of(2) && count('(') == count(')') && count('{') == count('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_help_is_the_first_part() {
        for (help, expected) in [
            ("Server URL: http://, https://", "Server URL"),
            (
                "random: width of each picture, pixels [default: 224]",
                "random: width of each picture, pixels [default: 224]",
            ),
            (
                "Number of requests; several values: one for each load [default: 1000]",
                "Number of requests [default: 1000]",
            ),
            ("Dataset. builtin: 100 questions", "Dataset"),
            ("Key, sent as \"A: K\"; masked", "Key, sent as \"A: K\""),
            ("JSON, such as '{\"a\": 1}'; null removes a field", "JSON, such as '{\"a\": 1}'"),
            ("Closed loop: do not connect; wait", "Closed loop: do not connect"),
            ("Print help", "Print help"),
        ] {
            assert_eq!(short(help), expected);
        }
    }

    #[test]
    fn the_guide_has_every_flag_by_its_purpose() {
        let mut command = command();
        command.build();
        let perf = command.find_subcommand("perf").unwrap();
        let text = crate::guide::topic("flags").unwrap().text;
        let is_named = |name: &str| {
            let flag = format!("--{name}");
            text.match_indices(&flag).any(|(at, _)| {
                let next = text[at + flag.len()..].chars().next();
                next.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-')
            })
        };
        let visible = perf.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != "help");
        let missing: Vec<&str> =
            visible.filter_map(|argument| argument.get_long()).filter(|name| !is_named(name)).collect();
        assert!(missing.is_empty(), "src/guide/flags.md lacks {missing:?}");
    }

    #[test]
    fn short_help_is_shorter_than_the_long_one() {
        let mut command = command();
        command.build();
        let perf = command.find_subcommand_mut("perf").map(|perf| {
            let perf = perf.clone().term_width(80);
            (perf.clone().render_help().to_string(), perf.clone().render_long_help().to_string())
        });
        let Some((short, long)) = perf else { panic!("perf is a command") };
        assert!(short.lines().count() * 2 < long.lines().count(), "{short}");
        assert!(short.contains("--help") && long.contains("Examples:") && !short.contains("Examples:"));
        for line in short.lines().chain(long.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn every_name_of_a_flag_has_both_spellings() {
        let command = command();
        command.clone().debug_assert();
        for argument in command.get_subcommands().flat_map(Command::get_arguments) {
            let names: Vec<&str> =
                argument.get_long().into_iter().chain(argument.get_all_aliases().unwrap_or_default()).collect();
            for name in &names {
                for other in [name.replace('-', "_"), name.replace('_', "-")] {
                    assert!(names.contains(&other.as_str()), "--{other}");
                }
            }
        }
    }

    #[test]
    fn every_example_is_of_a_command() {
        for (name, _) in EXAMPLES {
            assert!(Cli::command().find_subcommand(name).is_some(), "{name}");
        }
    }
}
