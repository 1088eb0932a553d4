//! Findings: what a reader of the figures must know, as typed values.
//!
//! A finding is made where it is detected, from numbers. It is stored and exported as a JSON object of its fields, and
//! becomes text only when it is shown: [`Finding::en`] and [`Finding::zh`] write the whole text, [`Finding::en_symptom`]
//! and [`Finding::zh_symptom`] the observation without the advice, for a list of symptoms of one [`Cause`]. The texts
//! are in `en.rs` and `zh.rs`; a variant without both does not compile.

mod comparison;
mod en;
mod fields;
mod render;
mod search;
mod zh;

#[cfg(any(test, feature = "internals"))]
pub mod samples;
#[cfg(test)]
mod tests;

pub use comparison::{CountNote, NotJudged};
pub use fields::{
    ApartFigure, Cause, CountKind, Figure, Misfit, Oddity, OddityCount, Severity, UnequalCount, UnequalPercentile,
};
pub use search::{OpenFiles, SearchReason, SearchTrouble};

use serde::{Deserialize, Serialize};

/// A finding. Fields ending in `_ns` are nanoseconds, in `_s` seconds, in `_per_s` a rate per second; a `share` is from
/// 0 to 1; other numbers are counts. The name of a variant in snake case is its `kind` in JSON.
#[allow(missing_docs, reason = "names say what variants and fields hold, en.rs what they mean")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    // Decisions of the plan.
    /// `--parallel` given with `--open-loop`.
    ParallelNotUsed,
    /// `--insecure`.
    CertificateNotVerified,
    /// An environment variable names a proxy that is not used.
    ProxyVariableNotUsed {
        variable: String,
    },
    ProxyUsed {
        proxy: String,
    },
    /// The target is a Unix socket or a server started here.
    ProxyNotUsed {
        url: String,
    },
    /// The server's name has several addresses. Connections go to those in `used`; `spare` answered as well, `silent` did
    /// not.
    SeveralAddresses {
        host: String,
        used: Vec<String>,
        spare: Vec<String>,
        silent: Vec<String>,
        rotated: bool,
    },
    /// The path of `--url` was completed.
    UrlCompleted {
        path: String,
        url: String,
    },
    /// Requests with token ids go to `/completions`.
    TokenIdsRedirected {
        url: String,
    },
    /// Requests of a dataset of bare prompts go to `/completions`.
    BarePromptsRedirected {
        dataset: String,
        url: String,
    },
    WitnessAddsLoad {
        connections: u32,
        parallel: u32,
        most_in_flight: u32,
    },
    WorkersShareCores {
        workers: usize,
        cores: usize,
    },
    WorkersLeftOut {
        parallel: usize,
        workers: usize,
    },
    /// The CPU quota of a control group, in cores, and the workers; `given`: by flags, despite the quota.
    CpuQuota {
        cores: f64,
        workers: usize,
        given: bool,
    },
    /// `--prompt` together with a dataset.
    DatasetNotRead,
    FieldsNotSent {
        api: String,
        flags: Vec<String>,
    },
    NotStreamed {
        api: String,
    },
    /// A query template without a field that the figures need. `stream`: it asks for no stream; else for no usage.
    TemplateLacks {
        stream: bool,
    },
    /// Flags of a dataset beside `--prompt`.
    FlagsBesidePrompt {
        flags: Vec<String>,
    },
    /// Flags that concern evalscope's own implementation.
    FlagsWithoutEffect {
        flags: Vec<String>,
    },
    /// Every request has the same seed, and a temperature.
    SameSeed,
    /// A query template with a fixed prompt.
    SamePrompt,
    /// A criterion whose bound is probably meant in milliseconds.
    BoundInSeconds {
        criterion: String,
        seconds: f64,
    },
    CalibrationsUnreadable {
        reason: String,
    },
    CalibrationNotUsed {
        path: String,
        why: Misfit,
    },

    // The workload.
    PromptLengths {
        off: u64,
        made: u64,
        worst_tokens: u64,
    },
    /// The data set has fewer prompts than the run sends requests.
    PromptsRepeat {
        prompts: u64,
        requests: u64,
        /// How often the prompts that are sent most often are sent.
        most: u64,
    },
    /// How a trace is read. `unit` is that of its times, `block` the tokens for each hash id.
    TraceRead {
        format: String,
        unit: String,
        block: u32,
        rows: u64,
    },
    /// Rows of a trace without input or output tokens.
    TraceRowsSkipped {
        skipped: u64,
    },
    /// The connection test sends the body of a measured request.
    TestRepeatsPrompt,
    /// The witness sends the prompts of measured requests.
    WitnessRepeatsPrompts {
        prompts: u64,
    },

    // A measurement of this machine.
    ServerSharesCores,
    /// p99 of the lateness of the built-in server.
    MockLate {
        p99_ns: u64,
    },

    // The engine.
    WorkerNotPinned {
        worker: u16,
        core: usize,
    },
    /// Connections end after each response without an announcement.
    ServerClosesConnections,
    EpollRequested,
    EpollInstead {
        reason: String,
    },

    // The run, apart from its records.
    /// A server that was started for the run ended; `after_s` counts from the start of the measured phase.
    ServerDied {
        reason: String,
        #[serde(default)]
        after_s: Option<f64>,
    },
    /// The server refused connections from then to the end of the run, and after it.
    ServerEnded {
        after_s: Option<f64>,
    },
    VisualizerLost {
        points: u64,
        service: String,
    },
    WitnessMissing {
        reason: String,
    },
    MetricsUnavailable {
        reason: String,
    },
    MetricsFailed {
        failed: u64,
        asked: u64,
        url: String,
        reason: String,
    },
    MetricsUnknown {
        url: String,
    },
    /// The program of `--api` could not read the responses.
    ProgramFailed {
        program: String,
        reason: String,
        responses_kept: bool,
    },
    /// Processes with one clock that were started as a load of their own each.
    Shards {
        shards: usize,
    },
    /// Such processes with clocks that differ by an amount that is not known.
    ProcessClocksUnknown {
        processes: usize,
    },
    /// The clocks of shards on several machines differ by an amount that is known within `error_ns`.
    ShardClocks {
        error_ns: u64,
        span_ns: u64,
    },
    /// The clocks of shards differ by an amount that is not known.
    ShardClocksUnknown {
        shards: Vec<u32>,
    },
    /// A clock jumped while the shards compared them, so long after the start at the latest.
    ShardClockJumped {
        shard: u32,
        after_ns: u64,
    },
    /// A shard took part until then only, from the start: it was `killed`, or the user or `--abort-on` ended it while the
    /// others went on.
    ShardEnded {
        shard: u32,
        until_ns: u64,
        killed: bool,
    },
    /// A shard could not store this many requests, the last ones; its records are complete until then, from the start.
    ShardRowsLost {
        shard: u32,
        requests: u64,
        until_ns: u64,
    },
    /// A shard began so long after the start.
    ShardLate {
        shard: u32,
        late_ns: u64,
    },
    /// There is no time in which all shards measured.
    ShardsNeverTogether {
        shards: u32,
    },
    /// Workers of these shards ran on the same cores of one machine.
    ShardsShareCores {
        shards: Vec<u32>,
        cores: Vec<u32>,
    },
    /// A shard had done its part so long before the end of the run.
    ShardsUneven {
        shard: u32,
        alone_ns: u64,
        span_ns: u64,
    },
    /// The send lag of a shard is many times that of the others, of which this is the median.
    ShardSlow {
        shard: u32,
        send_lag_p99_ns: u64,
        others_p99_ns: u64,
    },
    /// Processes that were started as a load of their own each, with the same prompts.
    ShardsSamePrompts {
        shards: usize,
    },
    /// Shards without a database, and those that were killed and nothing proves until when they took part. `allowed`: with
    /// `--allow-missing`.
    ShardsMissing {
        missing: Vec<u32>,
        killed: Vec<u32>,
        shards: u32,
        allowed: bool,
    },

    // The records of the run.
    RecordsLost {
        scheduled: u64,
        accounted: u64,
    },
    RowsLost {
        requests: u64,
    },
    /// Mean number of requests in flight, and rate times latency.
    LittlesLaw {
        mean: f64,
        expected: f64,
    },
    CapExceeded {
        peak: u32,
        parallel: u32,
    },
    Killed,
    Interrupted {
        unsent: u64,
        unfinished: u64,
    },
    /// `--abort-on` ended the run. `ended` requests succeeded or failed.
    Aborted {
        criterion: String,
        failed: u64,
        ended: u64,
        unsent: u64,
    },
    /// The same for the warm-up: `ended` of its requests succeeded or failed.
    AbortedInWarmUp {
        criterion: String,
        failed: u64,
        ended: u64,
    },
    AllFailed {
        unfinished: u64,
    },
    Failures {
        share: f64,
    },
    /// Requests failed with a status whose text names the field that requests token counts.
    StreamOptionsRefused {
        requests: u64,
    },
    NoneFinished {
        in_flight: u64,
        interrupted: bool,
    },
    Unfinished {
        share: f64,
        unfinished: u64,
        sent: u64,
        interrupted: bool,
    },
    BrokenConversations {
        broken: u64,
        begun: u64,
    },
    SendLag {
        severity: Severity,
        p99_ns: u64,
        median_ttft_ns: u64,
        /// The median is that of the latency: nothing was streamed.
        #[serde(default)]
        of_latency: bool,
    },
    /// Requests waited for their bodies, which are built while the run lasts.
    RequestsBuiltLate {
        severity: Severity,
        requests: u64,
        max_ns: u64,
        median_ttft_ns: u64,
        /// The median is that of the latency: nothing was streamed.
        #[serde(default)]
        of_latency: bool,
    },
    RateNotKept {
        offered_per_s: f64,
        sent_per_s: f64,
    },
    /// Requests failed before any byte was sent.
    RateWithoutConnections {
        offered_per_s: f64,
        sent_per_s: f64,
        requests: u64,
    },
    /// `--parallel` delayed the schedule. `held_share` of the requests waited for a slot; the mean wait is that of all.
    /// `needed` requests in flight carry the rate at the measured latency.
    RateHeldBack {
        severity: Severity,
        offered_per_s: f64,
        sent_per_s: f64,
        parallel: u32,
        held_share: f64,
        mean_wait_ns: u64,
        needed: u32,
    },
    /// Requests that a random schedule has after its first one, and its rate times its time.
    ScheduleCount {
        requests: u64,
        expected: f64,
        rate_per_s: f64,
        span_s: f64,
    },
    /// Requests per second of the whole run, and without the end of the run that waited for few requests.
    Tail {
        severity: Severity,
        tail_s: f64,
        share: f64,
        requests: u64,
        total_per_s: f64,
        steady_per_s: f64,
    },
    /// Few requests of a closed loop that occupied a large share of the slots' time.
    Stragglers {
        requests: u64,
        share: f64,
        longest_ns: u64,
        median_ns: u64,
    },
    /// Most requests above a percentile had segments that were sent again or arrived out of order.
    LossTail {
        figure: Figure,
        percentile: String,
        value_ns: u64,
        above: u64,
        with_loss: u64,
        /// Of all requests whose network was recorded.
        all_with_loss: u64,
        recorded: u64,
    },
    /// Answers that ended early despite `ignore_eos`.
    ShortAnswers {
        short: u64,
        answers: u64,
        asked_tokens: Option<u32>,
        mean_tokens: Option<f64>,
    },
    /// Input tokens that the server had in its prefix cache.
    CachedTokens {
        severity: Severity,
        share: f64,
        shares_nothing: bool,
        /// From the server's metrics, because its responses do not say it.
        by_metrics: bool,
    },
    /// Mean number of requests in flight in the second and in the last fifth of the run.
    Growth {
        early: f64,
        late: f64,
    },
    /// Too few conversations were left to fill the slots.
    FewConversations {
        mean: f64,
        parallel: u32,
    },
    IdleSlots {
        mean: f64,
        parallel: u32,
    },
    /// Reads have kernel timestamps. `shared_timestamps`: tokens that came in one read share one.
    ReceiveLag {
        p99_ns: u64,
        median_itl_ns: u64,
        shared_timestamps: bool,
    },
    /// Reads without a kernel timestamp carry the lag.
    ReceiveLagUnstamped {
        p99_ns: u64,
        median_itl_ns: u64,
        unstamped_share: f64,
    },
    NoTimestamps {
        share: f64,
    },
    /// `poll_gaps`: the client did not poll for long enough to explain events that came in one read.
    CoalescedReads {
        share: f64,
        #[serde(default)]
        poll_gaps: bool,
    },
    /// The median TPOT is 0.
    AtOnce,
    /// Output events carry several tokens; medians of ITL and TPOT, and the mean ends of TPOT if it is a range.
    SeveralTokensPerEvent {
        tokens_per_event: f64,
        median_itl_ns: u64,
        median_tpot_ns: u64,
        #[serde(default)]
        mean_low_ns: Option<u64>,
        #[serde(default)]
        mean_high_ns: Option<u64>,
    },
    /// Responses that common clients accept although something is wrong with them, of this many succeeded requests.
    OddResponses {
        oddities: Vec<OddityCount>,
        succeeded: u64,
    },
    /// The time per output token of these answers is a range, because they have more tokens than events. All are means.
    TpotRange {
        requests: usize,
        succeeded: u64,
        /// The value shown.
        value_s: f64,
        low_s: f64,
        high_s: f64,
    },
    NoTokenCounts,
    TokenCountsMissing {
        missing: u64,
        answers: u64,
    },
    ForcedSwitches {
        per_worker_per_s: f64,
    },
    Retried {
        requests: u64,
    },
    BusyWorkers {
        busy: usize,
        workers: usize,
        limit_share: f64,
        max_share: f64,
    },
    WorkersNotPinned {
        workers: usize,
    },
    BufferShortages {
        shortages: u64,
    },
    /// The mean of a figure with and without the first requests.
    WarmUp {
        figure: Figure,
        requests: usize,
        with_s: f64,
        without_s: f64,
        /// The `--warmup-num` that would have covered them; `None` for conversations, which it counts.
        warmup_num: Option<u64>,
    },
    /// The warm-up has fewer requests, or conversations, than there are slots.
    WarmUpSmall {
        warmup: u64,
        parallel: u32,
    },
    /// Mean latency of the first and of the last fifth.
    Drift {
        from_s: f64,
        to_s: f64,
        open_loop: bool,
    },

    // Measurement error.
    CalibrationMisfit {
        why: Misfit,
        timestamp_error_ns: u64,
    },
    /// Gaps between tokens whose events share a timestamp after a poll gap.
    PollGaps {
        share: f64,
        by_ns: u64,
        longest_ns: u64,
    },
    /// A percentile that measurement error may have moved.
    OwnError {
        severity: Severity,
        figure: Figure,
        percentile: String,
        by_ns: u64,
        value_ns: u64,
    },

    // The client's figures compared with those of the server and of the witness.
    /// The time that differs the most, and the others.
    ServerApart {
        figure: Figure,
        server: String,
        by_ns: u64,
        longer_here: bool,
        #[serde(default)]
        also: Vec<ApartFigure>,
        /// Both sides counted as many requests and tokens.
        #[serde(default)]
        equal_counts: bool,
    },
    /// The network and the server's frontend are a large part of TTFT.
    FrontendTime {
        server: String,
        by_ns: u64,
        share: f64,
    },
    ServerCounts {
        server: String,
        counts: Vec<UnequalCount>,
    },
    ServerRestarted {
        server: String,
    },
    ServerTimesApart {
        figure: Figure,
        by_ns: u64,
        longer_here: bool,
        #[serde(default)]
        also: Vec<ApartFigure>,
    },
    WitnessTooFew {
        figures: Vec<Figure>,
        requests: usize,
    },
    WitnessFailed {
        failed: u64,
        requests: usize,
    },
    WitnessDiffers {
        figure: Figure,
        percentiles: Vec<UnequalPercentile>,
    },

    /// A finding of a database whose fields this version does not have: its text is all that is known.
    Stored {
        severity: Severity,
        code: String,
        text: String,
    },
}

impl Finding {
    /// Short stable name of the subject; several kinds may share one.
    pub fn code(&self) -> &str {
        self.class().0
    }

    /// Its severity.
    pub fn severity(&self) -> Severity {
        self.class().1
    }

    /// Its cause.
    pub fn cause(&self) -> Cause {
        self.class().2
    }

    /// Code, severity and cause of each kind.
    #[rustfmt::skip]
    fn class(&self) -> (&str, Severity, Cause) {
        use Severity::{Caution, Note, Void};
        match self {
            Finding::ParallelNotUsed => ("plan", Note, Cause::Configuration),
            Finding::CertificateNotVerified => ("plan", Note, Cause::Configuration),
            Finding::ProxyVariableNotUsed { .. } => ("plan", Note, Cause::Configuration),
            Finding::ProxyUsed { .. } => ("plan", Note, Cause::Network),
            Finding::ProxyNotUsed { .. } => ("plan", Note, Cause::Configuration),
            Finding::SeveralAddresses { .. } => ("addresses", Note, Cause::Network),
            Finding::UrlCompleted { .. } => ("plan", Note, Cause::Configuration),
            Finding::TokenIdsRedirected { .. } => ("plan", Note, Cause::Configuration),
            Finding::BarePromptsRedirected { .. } => ("plan", Note, Cause::Configuration),
            Finding::WitnessAddsLoad { .. } => ("plan", Note, Cause::Configuration),
            Finding::WorkersShareCores { .. } => ("plan", Note, Cause::Configuration),
            Finding::WorkersLeftOut { .. } => ("plan", Note, Cause::Configuration),
            Finding::CpuQuota { .. } => ("plan", Note, Cause::Configuration),
            Finding::DatasetNotRead => ("plan", Note, Cause::Workload),
            Finding::FieldsNotSent { .. } => ("plan", Note, Cause::Configuration),
            Finding::NotStreamed { .. } => ("plan", Note, Cause::Configuration),
            Finding::TemplateLacks { .. } => ("plan", Note, Cause::Configuration),
            Finding::FlagsBesidePrompt { .. } => ("plan", Note, Cause::Workload),
            Finding::FlagsWithoutEffect { .. } => ("plan", Note, Cause::Configuration),
            Finding::SameSeed => ("plan", Note, Cause::Workload),
            Finding::SamePrompt => ("plan", Note, Cause::Workload),
            Finding::BoundInSeconds { .. } => ("plan", Note, Cause::Configuration),
            Finding::CalibrationsUnreadable { .. } => ("plan", Note, Cause::Clock),
            Finding::CalibrationNotUsed { .. } => ("plan", Note, Cause::Clock),
            Finding::PromptLengths { .. } => ("plan", Note, Cause::Workload),
            Finding::PromptsRepeat { .. } => ("repeats", Note, Cause::Workload),
            Finding::TraceRead { .. } => ("trace", Note, Cause::Workload),
            Finding::TraceRowsSkipped { .. } => ("trace", Note, Cause::Workload),
            Finding::TestRepeatsPrompt => ("repeats", Note, Cause::Workload),
            Finding::WitnessRepeatsPrompts { .. } => ("repeats", Note, Cause::Workload),
            Finding::ServerSharesCores => ("rig", Note, Cause::Configuration),
            Finding::MockLate { .. } => ("rig", Note, Cause::Configuration),
            Finding::WorkerNotPinned { .. } => ("engine", Note, Cause::Configuration),
            Finding::ServerClosesConnections => ("engine", Note, Cause::ServerAnswers),
            Finding::EpollRequested => ("engine", Note, Cause::Configuration),
            Finding::EpollInstead { .. } => ("engine", Note, Cause::Configuration),
            Finding::ServerDied { .. } => ("server_died", Void, Cause::ServerAnswers),
            Finding::ServerEnded { .. } => ("server_ended", Void, Cause::ServerAnswers),
            Finding::VisualizerLost { .. } => ("visualizer", Note, Cause::Output),
            Finding::WitnessMissing { .. } => ("witness", Note, Cause::Witness),
            Finding::MetricsUnavailable { .. } => ("server_metrics", Note, Cause::ServerMetrics),
            Finding::MetricsFailed { .. } => ("server_metrics", Note, Cause::ServerMetrics),
            Finding::MetricsUnknown { .. } => ("server_metrics", Note, Cause::ServerMetrics),
            Finding::ProgramFailed { .. } => ("api_program", Caution, Cause::ServerAnswers),
            Finding::Shards { .. } => ("shards", Note, Cause::Clock),
            Finding::ProcessClocksUnknown { .. } => ("shards", Void, Cause::Clock),
            Finding::ShardClocks { error_ns, span_ns } => ("shards", clock_severity(*error_ns, *span_ns), Cause::Clock),
            Finding::ShardClocksUnknown { .. } => ("shards", Void, Cause::Clock),
            Finding::ShardClockJumped { .. } => ("shards", Void, Cause::Clock),
            Finding::ShardEnded { .. } => ("shards_missing", Caution, Cause::RunLength),
            Finding::ShardRowsLost { .. } => ("shards_missing", Caution, Cause::Output),
            Finding::ShardLate { .. } => ("shards_missing", Caution, Cause::ClientBusy),
            Finding::ShardsNeverTogether { .. } => ("shards_missing", Void, Cause::RunLength),
            Finding::ShardsShareCores { .. } => ("shards_cores", Caution, Cause::Configuration),
            Finding::ShardsUneven { .. } => ("shards_uneven", Caution, Cause::RunLength),
            Finding::ShardSlow { .. } => ("shards_uneven", Caution, Cause::ClientBusy),
            Finding::ShardsSamePrompts { .. } => ("repeats", Caution, Cause::Workload),
            Finding::ShardsMissing { allowed, .. } => {
                ("shards_missing", if *allowed { Caution } else { Void }, Cause::RunLength)
            }
            Finding::RecordsLost { .. } => ("totals", Void, Cause::Bug),
            Finding::RowsLost { .. } => ("store", Void, Cause::Output),
            Finding::LittlesLaw { .. } => ("little", Void, Cause::Bug),
            Finding::CapExceeded { .. } => ("cap", Void, Cause::Bug),
            Finding::Killed => ("killed", Caution, Cause::RunLength),
            Finding::Interrupted { .. } => ("interrupted", Note, Cause::RunLength),
            Finding::Aborted { .. } => ("aborted", Caution, Cause::ServerAnswers),
            Finding::AbortedInWarmUp { .. } => ("aborted", Caution, Cause::ServerAnswers),
            Finding::AllFailed { .. } => ("failures", Caution, Cause::ServerAnswers),
            Finding::Failures { .. } => ("failures", Caution, Cause::ServerAnswers),
            Finding::StreamOptionsRefused { .. } => ("failures", Note, Cause::Configuration),
            Finding::NoneFinished { .. } => ("unfinished", Caution, Cause::RunLength),
            Finding::Unfinished { .. } => ("unfinished", Caution, Cause::RunLength),
            Finding::BrokenConversations { .. } => ("conversations", Note, Cause::ServerAnswers),
            Finding::SendLag { severity, .. } => ("send_lag", *severity, Cause::ClientBusy),
            Finding::RequestsBuiltLate { severity, .. } => ("built_late", *severity, Cause::RequestBuilding),
            Finding::RateNotKept { .. } => ("rate", Caution, Cause::ClientBusy),
            Finding::RateWithoutConnections { .. } => ("rate", Caution, Cause::Network),
            Finding::RateHeldBack { severity, .. } => ("rate_held_back", *severity, Cause::Configuration),
            Finding::ScheduleCount { .. } => ("schedule", Caution, Cause::Workload),
            Finding::Tail { severity, .. } => ("tail", *severity, Cause::RunLength),
            Finding::Stragglers { .. } => ("stragglers", Caution, Cause::ServerAnswers),
            Finding::LossTail { .. } => ("loss_tail", Caution, Cause::Network),
            Finding::ShortAnswers { .. } => ("short_answers", Caution, Cause::ServerAnswers),
            Finding::CachedTokens { severity, .. } => ("cached_tokens", *severity, Cause::Workload),
            Finding::Growth { .. } => ("growth", Caution, Cause::ServerCapacity),
            Finding::FewConversations { .. } => ("concurrency", Note, Cause::RunLength),
            Finding::IdleSlots { .. } => ("concurrency", Caution, Cause::ClientBusy),
            Finding::ReceiveLag { .. } => ("receive_lag", Note, Cause::ClientBusy),
            Finding::ReceiveLagUnstamped { .. } => ("receive_lag", Caution, Cause::ClientBusy),
            Finding::NoTimestamps { .. } => ("stamps", Note, Cause::Clock),
            Finding::CoalescedReads { poll_gaps: true, .. } => ("coalesced", Caution, Cause::ClientBusy),
            Finding::CoalescedReads { .. } => ("coalesced", Caution, Cause::ServerAnswers),
            Finding::AtOnce => ("at_once", Caution, Cause::ServerAnswers),
            Finding::SeveralTokensPerEvent { .. } => ("tokens_per_event", Note, Cause::ServerAnswers),
            Finding::OddResponses { .. } => ("odd_responses", Note, Cause::ServerAnswers),
            Finding::TpotRange { .. } => ("tpot_range", Note, Cause::ServerAnswers),
            Finding::NoTokenCounts => ("tokens", Note, Cause::ServerAnswers),
            Finding::TokenCountsMissing { .. } => ("tokens", Caution, Cause::ServerAnswers),
            Finding::ForcedSwitches { .. } => ("switches", Caution, Cause::ClientBusy),
            Finding::Retried { .. } => ("retried", Note, Cause::ServerAnswers),
            Finding::BusyWorkers { .. } => ("worker_cpu", Caution, Cause::ClientBusy),
            Finding::WorkersNotPinned { .. } => ("pinning", Note, Cause::Configuration),
            Finding::BufferShortages { .. } => ("buffers", Note, Cause::Configuration),
            Finding::WarmUp { .. } | Finding::WarmUpSmall { .. } => ("warm_up", Note, Cause::RunLength),
            Finding::Drift { from_s, to_s, open_loop: true } if to_s > from_s => {
                ("drift", Caution, Cause::ServerCapacity)
            }
            Finding::Drift { .. } => ("drift", Caution, Cause::RunLength),
            Finding::CalibrationMisfit { .. } => ("calibration", Note, Cause::Clock),
            Finding::PollGaps { .. } => ("held_up", Caution, Cause::ClientBusy),
            Finding::OwnError { severity, .. } => ("own_error", *severity, Cause::ClientBusy),
            Finding::ServerApart { .. } => ("server_apart", Caution, Cause::ServerMetrics),
            Finding::FrontendTime { .. } => ("frontend_time", Note, Cause::ServerMetrics),
            Finding::ServerCounts { .. } => ("server_counts", Caution, Cause::ServerMetrics),
            Finding::ServerRestarted { .. } => ("server_restarted", Caution, Cause::ServerMetrics),
            Finding::ServerTimesApart { .. } => ("server_times_apart", Caution, Cause::ServerMetrics),
            Finding::WitnessTooFew { .. } => ("witness", Note, Cause::Witness),
            Finding::WitnessFailed { .. } => ("witness", Note, Cause::Witness),
            Finding::WitnessDiffers { .. } => ("witness", Caution, Cause::ServerAnswers),
            Finding::Stored { severity, code, .. } => (code, *severity, Cause::Unknown),
        }
    }

    /// The text in English.
    pub fn en(&self) -> String {
        en::text(self).joined(" ")
    }

    /// The text in Chinese.
    pub fn zh(&self) -> String {
        zh::text(self).joined("")
    }

    /// The English text without its advice.
    pub fn en_symptom(&self) -> String {
        en::text(self).observed
    }

    /// The Chinese text without its advice.
    pub fn zh_symptom(&self) -> String {
        zh::text(self).observed
    }

    /// Every field with text from outside: a URL, a server's message, a name that the user chose.
    pub fn foreign_words(&mut self) -> Vec<&mut String> {
        match self {
            Finding::ProxyVariableNotUsed { variable: word }
            | Finding::ProxyUsed { proxy: word }
            | Finding::ProxyNotUsed { url: word }
            | Finding::TokenIdsRedirected { url: word }
            | Finding::NotStreamed { api: word }
            | Finding::CalibrationsUnreadable { reason: word }
            | Finding::CalibrationNotUsed { path: word, .. }
            | Finding::EpollInstead { reason: word }
            | Finding::BoundInSeconds { criterion: word, .. }
            | Finding::Aborted { criterion: word, .. }
            | Finding::AbortedInWarmUp { criterion: word, .. }
            | Finding::ServerDied { reason: word, .. }
            | Finding::VisualizerLost { service: word, .. }
            | Finding::WitnessMissing { reason: word }
            | Finding::MetricsUnavailable { reason: word }
            | Finding::MetricsUnknown { url: word }
            | Finding::ServerApart { server: word, .. }
            | Finding::FrontendTime { server: word, .. }
            | Finding::ServerCounts { server: word, .. }
            | Finding::ServerRestarted { server: word }
            | Finding::Stored { text: word, .. } => vec![word],
            Finding::UrlCompleted { path: one, url: other }
            | Finding::BarePromptsRedirected { dataset: one, url: other }
            | Finding::MetricsFailed { url: one, reason: other, .. }
            | Finding::ProgramFailed { program: one, reason: other, .. } => vec![one, other],
            Finding::SeveralAddresses { host, .. } => vec![host],
            Finding::FieldsNotSent { api, flags } => flags.iter_mut().chain([api]).collect(),
            Finding::ParallelNotUsed
            | Finding::CertificateNotVerified
            | Finding::WitnessAddsLoad { .. }
            | Finding::WorkersShareCores { .. }
            | Finding::WorkersLeftOut { .. }
            | Finding::DatasetNotRead
            | Finding::SameSeed
            | Finding::SamePrompt
            | Finding::PromptLengths { .. }
            | Finding::PromptsRepeat { .. }
            | Finding::TraceRead { .. }
            | Finding::TraceRowsSkipped { .. }
            | Finding::TestRepeatsPrompt
            | Finding::WitnessRepeatsPrompts { .. }
            | Finding::ServerSharesCores
            | Finding::MockLate { .. }
            | Finding::WorkerNotPinned { .. }
            | Finding::ServerClosesConnections
            | Finding::EpollRequested
            | Finding::CpuQuota { .. }
            | Finding::ServerEnded { .. }
            | Finding::Shards { .. }
            | Finding::ProcessClocksUnknown { .. }
            | Finding::ShardClocks { .. }
            | Finding::ShardClocksUnknown { .. }
            | Finding::ShardClockJumped { .. }
            | Finding::ShardEnded { .. }
            | Finding::ShardRowsLost { .. }
            | Finding::ShardLate { .. }
            | Finding::ShardsNeverTogether { .. }
            | Finding::ShardsShareCores { .. }
            | Finding::ShardsUneven { .. }
            | Finding::ShardSlow { .. }
            | Finding::ShardsSamePrompts { .. }
            | Finding::ShardsMissing { .. }
            | Finding::RecordsLost { .. }
            | Finding::RowsLost { .. }
            | Finding::LittlesLaw { .. }
            | Finding::CapExceeded { .. }
            | Finding::Killed
            | Finding::Interrupted { .. }
            | Finding::AllFailed { .. }
            | Finding::Failures { .. }
            | Finding::StreamOptionsRefused { .. }
            | Finding::NoneFinished { .. }
            | Finding::Unfinished { .. }
            | Finding::BrokenConversations { .. }
            | Finding::SendLag { .. }
            | Finding::RequestsBuiltLate { .. }
            | Finding::RateNotKept { .. }
            | Finding::RateWithoutConnections { .. }
            | Finding::RateHeldBack { .. }
            | Finding::ScheduleCount { .. }
            | Finding::Tail { .. }
            | Finding::Stragglers { .. }
            | Finding::LossTail { .. }
            | Finding::ShortAnswers { .. }
            | Finding::CachedTokens { .. }
            | Finding::Growth { .. }
            | Finding::FewConversations { .. }
            | Finding::IdleSlots { .. }
            | Finding::ReceiveLag { .. }
            | Finding::ReceiveLagUnstamped { .. }
            | Finding::NoTimestamps { .. }
            | Finding::CoalescedReads { .. }
            | Finding::AtOnce
            | Finding::TemplateLacks { .. }
            | Finding::FlagsBesidePrompt { .. }
            | Finding::FlagsWithoutEffect { .. }
            | Finding::SeveralTokensPerEvent { .. }
            | Finding::OddResponses { .. }
            | Finding::TpotRange { .. }
            | Finding::NoTokenCounts
            | Finding::TokenCountsMissing { .. }
            | Finding::ForcedSwitches { .. }
            | Finding::Retried { .. }
            | Finding::BusyWorkers { .. }
            | Finding::WorkersNotPinned { .. }
            | Finding::BufferShortages { .. }
            | Finding::WarmUp { .. }
            | Finding::WarmUpSmall { .. }
            | Finding::Drift { .. }
            | Finding::CalibrationMisfit { .. }
            | Finding::PollGaps { .. }
            | Finding::OwnError { .. }
            | Finding::ServerTimesApart { .. }
            | Finding::WitnessTooFew { .. }
            | Finding::WitnessFailed { .. }
            | Finding::WitnessDiffers { .. } => Vec::new(),
        }
    }

    /// The object that databases keep: `code`, `severity`, `cause`, `kind` and the fields.
    pub fn record(&self) -> Export<'_> {
        Export { severity: self.severity(), code: self.code(), cause: self.cause(), text: None, fields: self }
    }

    /// The object that result files show: the same with the English `text`.
    pub fn export(&self) -> Export<'_> {
        Export { text: Some(self.en()), ..self.record() }
    }
}

/// A finding as a JSON object. [`Finding`] reads it back. Make a JSON value of it rather than text: fields that the
/// finding has under the same name (`severity` of one whose severity varies) are then there once.
#[derive(Clone, Debug, Serialize)]
pub struct Export<'a> {
    severity: Severity,
    code: &'a str,
    cause: Cause,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(flatten)]
    fields: &'a Finding,
}

/// A text in two parts.
struct Text {
    /// What happened, and what it means for the figures.
    observed: String,
    /// What to do; empty where there is nothing to do.
    advice: String,
}

impl Text {
    fn joined(self, separator: &str) -> String {
        if self.advice.is_empty() { self.observed } else { self.observed + separator + &self.advice }
    }
}

/// A text without advice.
fn observed(text: impl Into<String>) -> Text {
    Text { observed: text.into(), advice: String::new() }
}

impl Text {
    /// The same with advice.
    fn advise(self, advice: impl Into<String>) -> Text {
        Text { advice: advice.into(), ..self }
    }
}

/// A share as a percentage with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How much clocks that are known within `error_ns` limit the figures over all shards of a span.
fn clock_severity(error_ns: u64, span_ns: u64) -> Severity {
    // Throughput is wrong by the same share.
    match error_ns as f64 / span_ns.max(1) as f64 {
        share if share > 0.05 => Severity::Void,
        share if share > 0.005 => Severity::Caution,
        _ => Severity::Note,
    }
}
