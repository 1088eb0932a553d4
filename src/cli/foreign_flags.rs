//! Flags of other load generators: what to write instead. Those whose meaning is the same are hidden aliases of ours.

/// A flag of vllm bench, SGLang's bench_serving, LMDeploy, AIPerf or GuideLLM, and the hint for it.
const FLAGS: [(&str, &str); 100] = [
    ("--append-result", "leave it out: results are always saved; --export vllm=FILE writes the file of vllm bench"),
    ("--arrival-pattern", "use --arrival poisson, constant or gamma:CV"),
    ("--arrival-smoothness", "use --arrival gamma:CV, where CV is 1/sqrt(smoothness)"),
    ("--artifact-dir", "use --outputs-dir DIR"),
    ("--backend", "use --api NAME"),
    ("--base-url", "use --url URL, with the path of the endpoint"),
    ("--benchmark-grace-period", "use --drain S"),
    ("--burstiness", "use --arrival gamma:CV, where CV is 1/sqrt(burstiness)"),
    ("--concurrency-ramp-duration", "use --ramp S"),
    ("--conversation-num", "use --number N with --dataset random_multi_turn"),
    ("--conversation-turn-mean", "use --min-turns and --max-turns"),
    ("--custom-dataset-type", "use --dataset NAME with --dataset-path FILE"),
    ("--custom-endpoint", "use --url URL, with the path of the endpoint"),
    ("--data", "use --dataset NAME, with --dataset-path FILE for a file"),
    ("--dataset-name", "use --dataset NAME"),
    (
        "--disable-ignore-eos",
        "leave it out: answers end where the model ends them, unless --extra-args asks for ignore_eos",
    ),
    ("--disable-progress", "use --quiet"),
    ("--disable-stream", "use --no-stream"),
    ("--disable-tqdm", "use --quiet"),
    ("--disable-warmup", "leave it out: there is no warm-up unless --warmup-num is given"),
    ("--endpoint", "use --url URL, with the path of the endpoint"),
    ("--endpoint-type", "use --api NAME, and --url with the path of the endpoint"),
    ("--endpoint-url", "use --url URL, with the path of the endpoint"),
    ("--extra-body", "use --extra-args JSON"),
    ("--extra-inputs", "use --extra-args JSON"),
    ("--extra-request-body", "use --extra-args JSON"),
    ("--failed-request-threshold", "use --abort-on 'failed>20%'"),
    ("--fixed-schedule", "use --dataset trace --dataset-path FILE"),
    ("--goodput", "use --slo 'p99_ttft<=200ms p99_tpot<=50ms'"),
    ("--header", "use --headers KEY=VALUE"),
    ("--host", "use --url http://HOST:PORT/v1/chat/completions"),
    ("--ignore-eos", r#"use --extra-args '{"ignore_eos": true}'"#),
    ("--input-file", "use --dataset-path FILE with --dataset NAME"),
    ("--input-len", "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL"),
    (
        "--input-sequence-length",
        "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL",
    ),
    ("--isl", "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL"),
    ("--isl-stddev", "use --min-prompt-length and --max-prompt-length, the bounds of a uniform distribution"),
    ("--max-error-rate", "use --abort-on 'failed>20%'"),
    ("--max-errors", "use --abort-on 'failed>20%'"),
    ("--max-workers", "use --workers N"),
    ("--metric-percentiles", "leave it out: all percentiles of all metrics are computed"),
    ("--num-prefix-prompts", "use --prefix-count N --prefix-length N"),
    ("--num-sessions", "use --number N with --dataset random_multi_turn"),
    ("--num-warmup-requests", "use --warmup-num N"),
    ("--num-warmups", "use --warmup-num N"),
    ("--osl", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--osl-stddev", "use --max-tokens LOW HIGH, the bounds of a uniform distribution"),
    ("--output-artifact-dir", "use --outputs-dir DIR"),
    ("--output-dir", "use --outputs-dir DIR"),
    ("--output-file", "use --outputs-dir DIR, or --export FORMAT=FILE"),
    ("--output-len", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--output-path", "use --outputs-dir DIR, or --export FORMAT=FILE"),
    ("--output-sequence-length", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--output-tokens-mean", "use --max-tokens N --min-tokens N"),
    ("--output-tokens-stddev", "use --max-tokens LOW HIGH, the bounds of a uniform distribution"),
    ("--percentile-metrics", "leave it out: all percentiles of all metrics are computed"),
    ("--prefix-prompt-length", "use --prefix-length N, and --prefix-count for several prefixes"),
    ("--profile-export-file", "use --export aiperf=FILE"),
    (
        "--prompt-input-tokens-mean",
        "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL",
    ),
    (
        "--prompt-input-tokens-stddev",
        "use --min-prompt-length and --max-prompt-length, the bounds of a uniform distribution",
    ),
    ("--prompt-output-tokens-mean", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--public-dataset", "use --dataset NAME"),
    ("--ramp-up-end-rps", "use --ramp S, which raises the rate or the concurrency linearly from the start"),
    ("--ramp-up-start-rps", "use --ramp S, which raises the rate or the concurrency linearly from the start"),
    ("--ramp-up-strategy", "use --ramp S, which raises the rate or the concurrency linearly from the start"),
    ("--random-input", "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL"),
    ("--random-input-len", "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL"),
    ("--random-output", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--random-output-len", r#"use --max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--random-prefix-len", "use --prefix-length N, and --prefix-count for several prefixes"),
    ("--random-range-ratio", "use --min-prompt-length and --max-prompt-length"),
    ("--random-seed", "use --seed N"),
    (
        "--rate-type",
        "use --parallel N for concurrent users, --open-loop --rate R for a rate, and several values for a sweep",
    ),
    ("--ready-check-timeout-sec", "use --ready-timeout S"),
    ("--request-rate", "use --open-loop --rate R, or with --max-concurrency N: --rate R --parallel N"),
    ("--request-rate-mode", "use --arrival poisson, constant or gamma:CV"),
    ("--request-rate-ramp-duration", "use --ramp S"),
    ("--request-timeout-seconds", "use --total-timeout S"),
    ("--request-type", "use --api NAME"),
    ("--result-dir", "use --outputs-dir DIR"),
    (
        "--result-filename",
        "use --name NAME for the results folder; --export FORMAT=FILE writes a file of another program",
    ),
    ("--save-detailed", "leave it out: every request is in benchmark_data.db"),
    ("--save-result", "leave it out: results are always saved; --export vllm=FILE writes the file of vllm bench"),
    ("--served-model-name", "use --model NAME"),
    ("--session-turns-mean", "use --min-turns and --max-turns"),
    ("--slice-duration", "leave it out: perf_report.html has all figures over time"),
    ("--stream-output", "leave it out: responses are streamed unless --no-stream is given"),
    ("--streaming", "leave it out: responses are streamed unless --no-stream is given"),
    (
        "--synthetic-input-tokens-mean",
        "use --dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL",
    ),
    (
        "--synthetic-input-tokens-stddev",
        "use --min-prompt-length and --max-prompt-length, the bounds of a uniform distribution",
    ),
    ("--target", "use --url URL, with the path of the endpoint"),
    ("--tokenizer-revision", "use --tokenizer-path with a folder of that revision"),
    ("--tokenizer-trust-remote-code", "leave it out: tokenizers are read from tokenizer.json, and no code is run"),
    ("--trust-remote-code", "leave it out: tokenizers are read from tokenizer.json, and no code is run"),
    ("--ui", "use --live for a full-screen view, or --quiet"),
    ("--ui-type", "use --live for a full-screen view, or --quiet"),
    ("--use-server-token-count", "leave it out: the counts of the server are used if it sends them"),
    ("--warmup-request-count", "use --warmup-num N"),
    ("--warmup-requests", "use --warmup-num N"),
    ("--workers-max", "use --workers N"),
];

/// The hint for a flag of another program; `None` if it is no such flag. LMDeploy's flags may have underscores.
pub(super) fn hint(flag: &str) -> Option<&'static str> {
    let name = flag.split('=').next().unwrap_or(flag).replace('_', "-");
    FLAGS.iter().find(|(foreign, _)| *foreign == name).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn is_ours(perf: &clap::Command, name: &str) -> bool {
        let has = |argument: &clap::Arg| {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            argument.get_long() == Some(name) || aliases.contains(&name)
        };
        perf.get_arguments().any(has)
    }

    #[test]
    fn no_foreign_flag_is_one_of_ours() {
        let cli = Cli::command();
        let perf = cli.find_subcommand("perf").unwrap();
        for (foreign, _) in FLAGS {
            assert!(!is_ours(perf, &foreign[2..]), "{foreign}");
        }
    }

    #[test]
    fn hints_name_flags_that_exist() {
        let cli = Cli::command();
        let perf = cli.find_subcommand("perf").unwrap();
        for (foreign, hint) in FLAGS {
            assert!(["use ", "leave it out: "].iter().any(|start| hint.starts_with(start)), "{foreign}: {hint}");
            for word in hint.split([' ', ':', ';', ',']).filter_map(|word| word.strip_prefix("--")) {
                assert!(is_ours(perf, word), "{foreign}: --{word}");
            }
        }
    }

    #[test]
    fn flags_are_found_in_every_spelling() {
        assert!(hint("--isl").is_some_and(|hint| hint.contains("--min-prompt-length")));
        assert!(hint("--stream_output=True").is_some_and(|hint| hint.starts_with("leave it out")));
        assert_eq!(hint("--paralel"), None);
    }
}
