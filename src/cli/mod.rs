//! The command line: parses the arguments into a [`crate::spec::Spec`] or the options of another subcommand, and formats
//! parse errors. Planning is in [`crate::spec`].

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::visible::visible;

mod calibration;
mod call_output;
pub(crate) mod calls;
pub mod compare;
pub(crate) mod config;
mod documents;
pub mod entry;
mod exit;
pub mod guide;
mod help;
pub mod interrupt;
pub mod judge;
pub mod live;
pub mod merge;
pub mod mock;
pub mod perf_args;
pub mod perf_command;
pub mod progress;
pub mod report;
pub mod rig;
mod run_files;
mod search;
pub mod shell;
mod terminal;
mod version;
mod visualizer;

pub use exit::{EarlyExit, status};

/// A load generator for LLM inference servers that stamps every token in the kernel and measures its own error.
#[derive(Parser, Debug)]
#[command(name = "ringmark", version = version::TEXT, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a load test against an LLM server
    Perf(Box<perf_args::PerfArgs>),
    /// Run the built-in mock server, which records the send time of every event
    Mock(mock::MockArgs),
    /// Print the tables of stored runs; write HTML, CSV and other exports
    Report(report::ReportArgs),
    /// Combine the shards of a load that several processes sent
    Merge(merge::MergeArgs),
    /// Compare stored runs, with a confidence interval for each difference
    Compare(compare::CompareArgs),
    /// Check this machine as a load generator and measure its limits
    Rig(rig::RigArgs),
    /// Judge any client against the built-in server, which records what it really received and sent
    Judge(judge::JudgeArgs),
    /// Show the manual: how to measure, read, compare; every figure, finding and column
    Guide(guide::GuideArgs),
    /// Print the version, the commit, the target and the features of this program
    Version,
    /// Print a script that completes commands and flags in a shell
    Completions(shell::CompletionsArgs),
    /// Print a manual page in the format of man(1)
    Man(shell::ManArgs),
}

/// Parses the command line.
pub fn parse<I: IntoIterator<Item = T>, T: Into<OsString>>(arguments: I) -> Result<Command, EarlyExit> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if let Some((first, second)) = two_names_of_one_flag(&arguments) {
        return Err(EarlyExit::error(&format!("{first} and {second} are names of one flag: give one of them")));
    }
    let help = help_for(arguments.get(1));
    let parsed = help::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map(|cli| cli.command).map_err(|error| early_exit(&error, &help))
}

/// Two names of one flag of the subcommand, such as `--parallel` and `--max-concurrency`, if both are given. Their values
/// would otherwise become one list.
fn two_names_of_one_flag(arguments: &[OsString]) -> Option<(String, String)> {
    let cli = help::command();
    let command = cli.find_subcommand(arguments.get(1)?.to_str()?)?;
    let mut given: Vec<(&str, &str)> = Vec::new();
    let words = arguments[2..].iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    for name in words.filter_map(|word| word.strip_prefix("--")?.split('=').next()) {
        let is_named = |argument: &&clap::Arg| {
            argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|all| all.contains(&name))
        };
        let Some(argument) = command.get_arguments().find(is_named) else { continue };
        let id = argument.get_id().as_str();
        match given.iter().find(|(other, before)| *other == id && *before != name) {
            Some((_, before)) => return Some((format!("--{before}"), format!("--{name}"))),
            None => given.push((id, name)),
        }
    }
    None
}

/// The command that prints the help of the subcommand that was tried.
fn help_for(first: Option<&OsString>) -> String {
    let first = first.and_then(|word| word.to_str());
    match first.filter(|word| Cli::command().find_subcommand(word).is_some()) {
        Some(command) => format!("ringmark {command} --help"),
        None => "ringmark --help".to_string(),
    }
}

fn early_exit(error: &clap::Error, help: &str) -> EarlyExit {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => EarlyExit { text, to_stdout: true, status: status::DONE },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            EarlyExit { text, to_stdout: false, status: status::UNABLE }
        }
        _ => {
            let text = match foreign_flag(error) {
                Some((flag, topic, ours)) => format!(
                    "error: '{}' is a flag of another program\nhint: in ringmark, {ours}; see 'ringmark guide {topic}'\n",
                    visible(flag)
                ),
                None => shorten(&text, help),
            };
            EarlyExit { text, to_stdout: false, status: status::UNABLE }
        }
    }
}

/// The unknown flag of an error, if it is one of another program, the topic of the guide about that program, and what to
/// write instead.
fn foreign_flag(error: &clap::Error) -> Option<(&str, &'static str, String)> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => {
            // LMDeploy's flags may have underscores.
            let name = flag.split('=').next().unwrap_or(flag).replace('_', "-");
            let (topic, ours) = crate::guide::replacement(&name)?;
            Some((flag, topic, ours))
        }
        _ => None,
    }
}

/// Reduces clap's error of several paragraphs to its first paragraph and a hint: clap's tip, or the help command.
fn shorten(text: &str, help: &str) -> String {
    let mut paragraphs = text.split("\n\n");
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = one_line(paragraphs.next().unwrap_or(text));
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: ")).map(one_line);
    let hint = tip.unwrap_or_else(|| format!("see '{help}'"));
    format!("{}\nhint: {}\n", visible(&message), visible(&hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Cores, RigFacts, Spec, resolve};

    fn spec(line: &str) -> Spec {
        let words = ["ringmark", "perf"].into_iter().chain(line.split_whitespace());
        match parse(words) {
            Ok(Command::Perf(args)) => args.spec,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_flag_has_a_help_text() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn no_flags_give_the_default_spec() {
        assert_eq!(spec(""), Spec::default());
    }

    #[test]
    fn lists_and_negative_numbers_are_read() {
        let spec = spec(
            "--parallel 1 10 50 -n 10 20 100 --rate -1 --max-tokens 10 20 --headers A=b C=d --stop x y \
             --stop-token-ids 7 8 --top-k -1 --frequency-penalty -0.5 --cores 0,2-3 5",
        );
        assert_eq!((spec.load.parallel, spec.load.number), (vec![1, 10, 50], vec![10, 20, 100]));
        assert_eq!((spec.load.rate, spec.sampling.max_tokens), (vec![-1.0], vec![10, 20]));
        assert_eq!(
            (spec.target.headers, spec.sampling.stop),
            (vec!["A=b".into(), "C=d".into()], vec!["x".into(), "y".into()])
        );
        assert_eq!(
            (spec.sampling.stop_token_ids, spec.sampling.top_k, spec.sampling.frequency_penalty),
            (vec![7, 8], Some(-1), Some(-0.5))
        );
        assert_eq!(spec.client.cores, [Cores(vec![0, 2, 3]), Cores(vec![5])]);
    }

    #[test]
    fn documented_calls_are_parsed() {
        for line in [
            "--url http://127.0.0.1:8000/v1/chat/completions --parallel 1 --model qwen2.5 --number 15 --api openai --stream",
            "--url http://127.0.0.1:8000/v1/chat/completions --parallel 2 --model qwen2.5 --log-every-n-query 10 \
             --read-timeout 120 --connect-timeout 120 --number 20 --max-prompt-length 128000 --min-prompt-length 128 \
             --api openai --temperature 0.7 --max-tokens 1024 --stop <|im_end|>",
            "--url http://h/v1/completions --parallel 2 --model qwen2.5 --number 20 --temperature 0.9 --prompt @prompt.txt",
            "--parallel 1 10 50 100 200 --number 10 20 100 200 400 --model Qwen2.5-0.5B-Instruct --max-tokens 1024 \
             --min-tokens 1024 --url http://127.0.0.1:8801/v1/chat/completions --extra-args {\"ignore_eos\":true}",
            "--url http://h/v1/chat/completions --model m --open-loop --rate 5 10 20 --number 500 1000 2000 --stream",
            "--url http://h/v1/chat/completions --parallel 10 --model m --number 100 --warmup-num 0.1 --stream",
        ] {
            let facts = RigFacts { allowed_cores: vec![0, 1], ..RigFacts::default() };
            let plans = resolve(&spec(line), &facts).unwrap();
            assert!(plans.iter().all(|plan| plan.notes.is_empty()), "{line}: {:?}", plans[0].notes);
        }
    }

    #[test]
    fn opposite_flags_are_parsed_and_exclude_each_other() {
        assert!(spec("--stream").sampling.stream);
        assert!(spec("--no-stream").sampling.no_stream);
        for both in ["--no-stream --stream", "--apply-chat-template --no-apply-chat-template"] {
            let early = parse(["ringmark", "perf"].into_iter().chain(both.split_whitespace())).unwrap_err();
            assert!(both.split_whitespace().all(|flag| early.text.contains(flag)), "{}", early.text);
        }
    }

    #[test]
    fn concurrency_is_an_alias_of_parallel() {
        assert_eq!(spec("--concurrency 4").load.parallel, vec![4]);
        let load = spec("--max-concurrency 4 --num-prompts 9").load;
        assert_eq!((load.parallel, load.number), (vec![4], vec![9]));
        let load = spec("--max_concurrency 4 --num_prompts 9").load;
        assert_eq!((load.parallel, load.number), (vec![4], vec![9]));
        assert_eq!(spec("--max_tokens 5 --request_count 7").sampling.max_tokens, [5]);
        assert_eq!(spec("--top_k 3 --top_p 0.5").sampling.top_k, Some(3));
    }

    #[test]
    fn a_flag_is_given_under_one_name() {
        for (line, names) in [
            ("--parallel 1 --max-concurrency 2", ["--parallel", "--max-concurrency"]),
            ("--num-prompts 5 --number=6", ["--num-prompts", "--number"]),
            ("--concurrency 3 --max-concurrency 3", ["--concurrency", "--max-concurrency"]),
            ("--max-concurrency 3 --max_concurrency 3", ["--max-concurrency", "--max_concurrency"]),
        ] {
            let early = parse(["ringmark", "perf"].into_iter().chain(line.split_whitespace())).unwrap_err();
            assert!(names.iter().all(|name| early.text.contains(name)), "{line}: {}", early.text);
        }
        assert_eq!(spec("--request-count 7 --benchmark-duration 30 --tokenizer t").load.number, [7]);
    }

    #[test]
    fn parse_errors_are_one_line_and_a_hint() {
        for (line, message, hint) in [
            ("perf --paralel 2", "'--paralel'", "--parallel"),
            ("perf --request-rate 5", "'--request-rate'", "--open-loop --rate R"),
            ("perf --ignore-eos", "'--ignore-eos'", "ignore_eos"),
            ("perf --parallel 0", "--parallel", "perf --help"),
            ("perf --parallel -3", "at least 1", "perf --help"),
            ("perf --number", "--number", "perf --help"),
            ("perf --save everything", "text, full, metrics", "perf --help"),
            ("report", "<FILE>", "report --help"),
            ("prof", "'prof'", "perf"),
        ] {
            let early = parse(["ringmark"].into_iter().chain(line.split_whitespace())).unwrap_err();
            let lines: Vec<&str> = early.text.lines().collect();
            assert_eq!((lines.len(), early.status), (2, 2), "{line}: {}", early.text);
            assert!(lines[0].starts_with("error: ") && lines[0].contains(message), "{line}: {}", early.text);
            assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{line}: {}", early.text);
        }
    }
}
