//! Flags of other load generators: what to write instead. Those whose meaning is the same are hidden aliases of ours.

/// A flag of vllm bench, SGLang's bench_serving, LMDeploy or AIPerf, and what ringmark has for it.
const FLAGS: [(&str, &str); 29] = [
    ("--backend", "--api NAME"),
    ("--base-url", "--url URL, with the path of the endpoint"),
    ("--burstiness", "--arrival gamma:CV, where CV is 1/sqrt(burstiness)"),
    ("--conversation-num", "--number N with --dataset random_multi_turn"),
    ("--dataset-name", "--dataset NAME"),
    ("--endpoint", "--url URL, with the path of the endpoint"),
    ("--endpoint-type", "--api NAME, and --url with the path of the endpoint"),
    ("--goodput", "--slo 'p99_ttft<=200ms p99_tpot<=50ms'"),
    ("--host", "--url http://HOST:PORT/v1/chat/completions"),
    ("--ignore-eos", r#"--extra-args '{"ignore_eos": true}'"#),
    ("--num-warmups", "--warmup-num N"),
    ("--output-tokens-mean", "--max-tokens N --min-tokens N"),
    ("--output-file", "--outputs-dir DIR, or --export FORMAT=FILE"),
    ("--percentile-metrics", "nothing: all percentiles of all metrics are computed"),
    ("--metric-percentiles", "nothing: all percentiles of all metrics are computed"),
    ("--random-input-len", "--dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL"),
    ("--random-output-len", r#"--max-tokens N --extra-args '{"ignore_eos": true}'"#),
    ("--random-prefix-len", "--prefix-length N"),
    ("--random-range-ratio", "--min-prompt-length and --max-prompt-length"),
    ("--request-count", "--number N"),
    ("--request-rate", "--open-loop --rate R, or with --max-concurrency N: --rate R --parallel N"),
    ("--result-dir", "--outputs-dir DIR"),
    ("--save-result", "nothing: results are always saved; --export vllm=FILE writes the file of vllm bench"),
    ("--save-detailed", "nothing: every request is in benchmark_data.db"),
    ("--served-model-name", "--model NAME"),
    ("--stream_output", "nothing: responses are streamed unless --no-stream is given"),
    ("--streaming", "nothing: responses are streamed unless --no-stream is given"),
    (
        "--synthetic-input-tokens-mean",
        "--dataset random --min-prompt-length N --max-prompt-length N --tokenizer-path MODEL",
    ),
    ("--tokenizer", "--tokenizer-path MODEL"),
];

/// What to write instead of the flag of another program; `None` if it is no such flag.
pub(super) fn replacement(flag: &str) -> Option<&'static str> {
    let name = flag.split('=').next().unwrap_or(flag);
    FLAGS.iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn no_foreign_flag_is_one_of_ours() {
        let cli = Cli::command();
        let perf = cli.find_subcommand("perf").unwrap();
        for (foreign, _) in FLAGS {
            let ours = perf.get_arguments().any(|argument| argument.get_long() == foreign.strip_prefix("--"));
            assert!(!ours, "{foreign}");
        }
    }

    #[test]
    fn replacements_name_flags_that_exist() {
        let cli = Cli::command();
        let perf = cli.find_subcommand("perf").unwrap();
        for (foreign, ours) in FLAGS {
            for word in ours.split([' ', ':', ';', ',']).filter_map(|word| word.strip_prefix("--")) {
                // The flag of the other program, in a condition.
                let known = word == "max-concurrency"
                    || perf.get_arguments().any(|argument| argument.get_long() == Some(word.trim_end_matches('.')));
                assert!(known, "{foreign}: --{word}");
            }
        }
    }
}
