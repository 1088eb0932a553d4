//! One finding of every kind, and more where the text depends on the fields.

use super::{
    ApartFigure, CountKind, Figure, Finding, Misfit, Oddity, OddityCount, OpenFiles, SearchReason, SearchTrouble,
    Severity, UnequalCount, UnequalPercentile,
};

fn text(content: &str) -> String {
    content.to_string()
}

/// Findings of every kind.
pub fn findings() -> Vec<Finding> {
    [of_plans(), of_runs(), of_figures(), of_comparisons()].concat()
}

fn of_plans() -> Vec<Finding> {
    let url = || text("http://h/v1/completions");
    vec![
        Finding::ParallelNotUsed,
        Finding::CertificateNotVerified,
        Finding::ProxyVariableNotUsed { variable: text("https_proxy") },
        Finding::ProxyUsed { proxy: text("proxy.example:3128") },
        Finding::ProxyNotUsed { url: text("unix:/run/s") },
        Finding::SeveralAddresses {
            host: text("llm.example"),
            used: vec![text("192.0.2.1:80")],
            spare: vec![text("192.0.2.2:80")],
            silent: vec![text("192.0.2.3:80")],
            rotated: false,
        },
        Finding::UrlCompleted { path: text("/v1/chat/completions"), url: url() },
        Finding::TokenIdsRedirected { url: url() },
        Finding::BarePromptsRedirected { dataset: text("speed_benchmark"), url: url() },
        Finding::WitnessAddsLoad { connections: 2, parallel: 8, most_in_flight: 10 },
        Finding::WorkersShareCores { workers: 4, cores: 2 },
        Finding::WorkersLeftOut { parallel: 2, workers: 4 },
        Finding::CpuQuota { cores: 2.5, workers: 1, given: false },
        Finding::CpuQuota { cores: 2.5, workers: 4, given: true },
        Finding::DatasetNotRead,
        Finding::FieldsNotSent { api: text("embeddings"), flags: vec![text("--top-k"), text("--stop")] },
        Finding::NotStreamed { api: text("rerank") },
        Finding::TemplateLacks { stream: true },
        Finding::TemplateLacks { stream: false },
        Finding::FlagsBesidePrompt { flags: vec![text("--prefix-length"), text("--max-prompt-length")] },
        Finding::FlagsWithoutEffect { flags: vec![text("--num-workers"), text("--db-commit-interval")] },
        Finding::SameSeed,
        Finding::SamePrompt,
        Finding::BoundInSeconds { criterion: text("p99_ttft<=500"), seconds: 500.0 },
        Finding::CalibrationsUnreadable { reason: text("cannot read c.json: denied") },
        Finding::CalibrationNotUsed { path: text("c.json"), why: Misfit::OtherMachine },
        Finding::CalibrationNotUsed { path: text("c.json"), why: Misfit::Old { days: 31 } },
        Finding::PromptLengths { off: 3, made: 100, worst_tokens: 1 },
        Finding::PromptsRepeat { prompts: 3, requests: 20, most: 7 },
        Finding::TraceRead { format: text("Bailian"), unit: text("s"), block: 16, rows: 6 },
        Finding::TraceRowsSkipped { skipped: 3 },
        Finding::TestRepeatsPrompt,
        Finding::WitnessRepeatsPrompts { prompts: 40 },
        Finding::ServerSharesCores,
        Finding::MockLate { p99_ns: 3_000_000 },
    ]
}

fn of_runs() -> Vec<Finding> {
    let program = |responses_kept| Finding::ProgramFailed {
        program: text("api.py"),
        reason: text("it printed 3 lines for 4 answers"),
        responses_kept,
    };
    vec![
        Finding::WorkerNotPinned { worker: 1, core: 9 },
        Finding::ServerClosesConnections,
        Finding::EpollRequested,
        Finding::EpollInstead { reason: text("Operation not permitted") },
        Finding::ServerDied { reason: text("exit status: 1"), after_s: Some(12.3) },
        Finding::ServerDied { reason: text("exit status: 1"), after_s: None },
        Finding::ServerEnded { after_s: Some(12.3) },
        Finding::ServerEnded { after_s: None },
        Finding::VisualizerLost { points: 7, service: text("wandb") },
        Finding::WitnessMissing { reason: text("connection refused") },
        Finding::MetricsUnavailable { reason: text("no address") },
        Finding::MetricsFailed { failed: 2, asked: 9, url: text("http://h/metrics"), reason: text("status 404") },
        Finding::MetricsUnknown { url: text("http://h/metrics") },
        program(true),
        program(false),
        Finding::Shards { shards: 3 },
        Finding::ProcessClocksUnknown { processes: 3 },
        Finding::ShardClocks { error_ns: 2_000_000, span_ns: 60_000_000_000 },
        Finding::ShardClocks { error_ns: 2_000_000_000, span_ns: 60_000_000_000 },
        Finding::ShardClocks { error_ns: 9_000_000_000, span_ns: 60_000_000_000 },
        Finding::ShardClocksUnknown { shards: vec![1, 2] },
        Finding::ShardClockJumped { shard: 1, after_ns: 12_000_000_000 },
        Finding::ShardEnded { shard: 2, until_ns: 12_300_000_000, killed: true },
        Finding::ShardEnded { shard: 2, until_ns: 12_300_000_000, killed: false },
        Finding::ShardRowsLost { shard: 1, requests: 1, until_ns: 2_300_000_000 },
        Finding::ShardRowsLost { shard: 1, requests: 321, until_ns: 12_300_000_000 },
        Finding::ShardLate { shard: 1, late_ns: 2_100_000_000 },
        Finding::ShardsNeverTogether { shards: 2 },
        Finding::ShardsShareCores { shards: vec![0, 1], cores: vec![1] },
        Finding::ShardsShareCores { shards: vec![0, 2, 3], cores: vec![4, 5] },
        Finding::ShardsUneven { shard: 0, alone_ns: 8_000_000_000, span_ns: 60_000_000_000 },
        Finding::ShardSlow { shard: 3, send_lag_p99_ns: 80_000_000, others_p99_ns: 2_000_000 },
        Finding::ShardsSamePrompts { shards: 2 },
        Finding::ShardsMissing { missing: vec![1], killed: vec![], shards: 4, allowed: false },
        Finding::ShardsMissing { missing: vec![], killed: vec![0, 3], shards: 4, allowed: true },
        Finding::ShardsMissing { missing: vec![1], killed: vec![2], shards: 4, allowed: false },
        Finding::Killed,
        Finding::Interrupted { unsent: 0, unfinished: 0 },
        Finding::Interrupted { unsent: 7, unfinished: 0 },
        Finding::Interrupted { unsent: 0, unfinished: 1 },
        Finding::Interrupted { unsent: 7, unfinished: 2 },
        Finding::Aborted { criterion: text("failed>20%"), failed: 15, ended: 40, unsent: 960 },
        Finding::AbortedInWarmUp { criterion: text("failed>20%"), failed: 15, ended: 20 },
        Finding::AllFailed { unfinished: 0 },
        Finding::AllFailed { unfinished: 4 },
        Finding::Failures { share: 0.25 },
        Finding::StreamOptionsRefused { requests: 40 },
        Finding::NoneFinished { in_flight: 6, interrupted: false },
        Finding::Unfinished { share: 0.2, unfinished: 2, sent: 10, interrupted: true },
        Finding::BrokenConversations { broken: 1, begun: 8 },
        Finding::Retried { requests: 1 },
    ]
}

fn of_figures() -> Vec<Finding> {
    let misfit = |why| Finding::CalibrationMisfit { why, timestamp_error_ns: 20_000 };
    let held_back = |severity| Finding::RateHeldBack {
        severity,
        offered_per_s: 50.0,
        sent_per_s: 9.04,
        parallel: 2,
        held_share: 0.95,
        mean_wait_ns: 3_890_000_000,
        needed: 11,
    };
    let several_tokens = |range: Option<(u64, u64)>| Finding::SeveralTokensPerEvent {
        tokens_per_event: 4.0,
        median_itl_ns: 40_800_000,
        median_tpot_ns: 9_500_000,
        mean_low_ns: range.map(|range| range.0),
        mean_high_ns: range.map(|range| range.1),
    };
    let receive_lag =
        |shared_timestamps| Finding::ReceiveLag { p99_ns: 1_500_000, median_itl_ns: 10_000_000, shared_timestamps };
    vec![
        Finding::RecordsLost { scheduled: 5, accounted: 4 },
        Finding::RowsLost { requests: 1 },
        Finding::LittlesLaw { mean: 3.25, expected: 2.5 },
        Finding::CapExceeded { peak: 9, parallel: 8 },
        Finding::SendLag {
            severity: Severity::Caution,
            p99_ns: 807_000_000,
            median_ttft_ns: 900_000_000,
            of_latency: true,
        },
        Finding::SendLag {
            severity: Severity::Void,
            p99_ns: 807_000_000,
            median_ttft_ns: 90_000_000,
            of_latency: false,
        },
        Finding::RequestsBuiltLate {
            severity: Severity::Caution,
            requests: 12,
            max_ns: 31_000_000,
            median_ttft_ns: 90_000_000,
            of_latency: false,
        },
        Finding::RateNotKept { offered_per_s: 10.0, sent_per_s: 8.25 },
        Finding::RateWithoutConnections { offered_per_s: 10.0, sent_per_s: 8.25, requests: 1 },
        held_back(Severity::Caution),
        held_back(Severity::Note),
        Finding::ScheduleCount { requests: 29, expected: 41.5, rate_per_s: 200.0, span_s: 0.25 },
        Finding::Tail {
            severity: Severity::Caution,
            tail_s: 19.75,
            share: 0.85,
            requests: 1,
            total_per_s: 2.6,
            steady_per_s: 16.5,
        },
        Finding::Stragglers { requests: 1, share: 0.625, longest_ns: 20_000_000_000, median_ns: 215_000_000 },
        Finding::LossTail {
            figure: Figure::Ttft,
            percentile: "99%".to_string(),
            value_ns: 214_000_000,
            above: 16,
            with_loss: 14,
            all_with_loss: 15,
            recorded: 1_600,
        },
        Finding::ShortAnswers { short: 3, answers: 40, asked_tokens: Some(256), mean_tokens: Some(101.5) },
        Finding::ShortAnswers { short: 3, answers: 40, asked_tokens: None, mean_tokens: None },
        Finding::CachedTokens { severity: Severity::Caution, share: 0.625, shares_nothing: true, by_metrics: true },
        Finding::CachedTokens { severity: Severity::Note, share: 0.625, shares_nothing: false, by_metrics: false },
        Finding::Growth { early: 3.5, late: 90.25 },
        Finding::FewConversations { mean: 6.5, parallel: 8 },
        Finding::IdleSlots { mean: 6.5, parallel: 8 },
        receive_lag(true),
        receive_lag(false),
        Finding::ReceiveLagUnstamped { p99_ns: 1_500_000, median_itl_ns: 10_000_000, unstamped_share: 0.5 },
        Finding::NoTimestamps { share: 0.5 },
        Finding::CoalescedReads { share: 0.125, poll_gaps: false },
        Finding::CoalescedReads { share: 0.125, poll_gaps: true },
        Finding::AtOnce,
        several_tokens(None),
        several_tokens(Some((9_400_000, 12_100_000))),
        Finding::OddResponses {
            oddities: Oddity::ALL.into_iter().map(|oddity| OddityCount { oddity, responses: 3 }).collect(),
            succeeded: 12,
        },
        Finding::TpotRange { requests: 7, succeeded: 9, value_s: 0.0131, low_s: 0.0125, high_s: 0.016 },
        Finding::NoTokenCounts,
        Finding::TokenCountsMissing { missing: 2, answers: 9 },
        Finding::ForcedSwitches { per_worker_per_s: 120.5 },
        Finding::BusyWorkers { busy: 1, workers: 3, limit_share: 0.7, max_share: 0.925 },
        Finding::WorkersNotPinned { workers: 1 },
        Finding::BufferShortages { shortages: 2 },
        Finding::WarmUp { figure: Figure::Latency, requests: 30, with_s: 0.3, without_s: 0.2, warmup_num: Some(50) },
        Finding::WarmUp { figure: Figure::Ttft, requests: 30, with_s: 0.3, without_s: 0.2, warmup_num: None },
        Finding::WarmUpSmall { warmup: 10, parallel: 64 },
        Finding::Drift { from_s: 0.1, to_s: 0.25, open_loop: true },
        Finding::Drift { from_s: 0.25, to_s: 0.1, open_loop: false },
        misfit(Misfit::Parallel { calibrated: 6, run: 20 }),
        misfit(Misfit::Rate { calibrated_per_s: 6.5, run_per_s: 20.0 }),
        misfit(Misfit::Events { calibrated_per_s: 5_000.0, run_per_s: 9_000.0 }),
        misfit(Misfit::NoTimestamps),
        Finding::PollGaps { share: 0.0625, by_ns: 304_000_000, longest_ns: 304_000_000 },
        Finding::OwnError {
            severity: Severity::Void,
            figure: Figure::Latency,
            percentile: text("50%"),
            by_ns: 12_000_000,
            value_ns: 20_000_000,
        },
    ]
}

fn of_comparisons() -> Vec<Finding> {
    let also = |longer_here| vec![ApartFigure { figure: Figure::Itl, by_ns: 4_000_000, longer_here }];
    let apart = |figure, longer_here, equal_counts| Finding::ServerApart {
        figure,
        server: text("vLLM"),
        by_ns: 5_000_000,
        longer_here,
        also: also(longer_here),
        equal_counts,
    };
    let count = |quantity| UnequalCount { quantity, client: 10, server: 12 };
    vec![
        apart(Figure::Tpot, true, true),
        apart(Figure::Latency, false, true),
        apart(Figure::Ttft, false, false),
        Finding::FrontendTime { server: text("vLLM"), by_ns: 9_000_000, share: 0.25 },
        Finding::ServerCounts {
            server: text("vLLM"),
            counts: vec![count(CountKind::Requests), count(CountKind::PromptTokens), count(CountKind::OutputTokens)],
        },
        Finding::ServerRestarted { server: text("vLLM") },
        Finding::ServerTimesApart { figure: Figure::Ttft, by_ns: 5_000_000, longer_here: true, also: vec![] },
        Finding::ServerTimesApart { figure: Figure::Tpot, by_ns: 5_000_000, longer_here: false, also: also(false) },
        Finding::WitnessTooFew { figures: vec![Figure::Ttft, Figure::Itl], requests: 4 },
        Finding::WitnessFailed { failed: 1, requests: 4 },
        Finding::WitnessDiffers {
            figure: Figure::Ttft,
            percentiles: vec![
                UnequalPercentile {
                    percentile: 50,
                    load_ns: 9_000_000,
                    witness_ns: 5_000_000,
                    difference_ns: 4_000_000,
                },
                UnequalPercentile {
                    percentile: 90,
                    load_ns: 5_000_000,
                    witness_ns: 9_000_000,
                    difference_ns: -4_000_000,
                },
            ],
        },
        Finding::Stored { severity: Severity::Caution, code: text("failures"), text: text("As it was stored.") },
    ]
}

/// Reasons of every kind.
pub fn reasons() -> Vec<SearchReason> {
    vec![
        SearchReason::HoldsToUpperBound,
        SearchReason::FailsAtLowerBound { lower: 3.0 },
        SearchReason::HoldsHere { fails_at: 9.0 },
        SearchReason::HoldsAgain { fails_at: 9.0, holds_at: 12.0 },
        SearchReason::Between { too_little_at: 8.0, fails_at: 9.0 },
        SearchReason::TooLittleEverywhere,
        SearchReason::Best,
        SearchReason::NoneUsable,
        SearchReason::Undecided { has_best: true },
        SearchReason::Undecided { has_best: false },
    ]
}

/// Troubles of every kind that has a text of its own.
pub fn troubles() -> Vec<SearchTrouble> {
    let files = |with_mock| OpenFiles { parallel: 5_000, needed: 10_064, limit: 1_024, with_mock };
    vec![
        SearchTrouble::Void { run: 2 },
        SearchTrouble::Failed { run: 1, succeeded: 3, sent: 4 },
        SearchTrouble::OpenFiles(files(true)),
        SearchTrouble::OpenFiles(files(false)),
    ]
}
