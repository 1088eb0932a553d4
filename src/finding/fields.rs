//! The severity and cause of findings, and the types of their fields.

use serde::{Deserialize, Serialize};

/// How much a finding limits the use of the figures, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; the figures stand.
    Note,
    /// Some figures are less exact than they look, or do not mean what they usually do.
    Caution,
    /// The figures must not be used.
    Void,
}

/// The cause of a finding. Several findings of one cause may be symptoms of one problem, see
/// [`Cause::has_symptoms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The load generator did not keep up with the load.
    ClientBusy,
    /// The threads that build requests during the run did not keep up with the load.
    RequestBuilding,
    /// The server did not keep up with the load.
    ServerCapacity,
    /// The responses of the server.
    ServerAnswers,
    /// What the server reports about itself: metrics, times, counts.
    ServerMetrics,
    /// The network, a proxy, or connections.
    Network,
    /// The accuracy of timestamps, and the basis of their error bounds.
    Clock,
    /// The content of the requests.
    Workload,
    /// Flags, and the resources of this machine.
    Configuration,
    /// How long the run was, and how it ended.
    RunLength,
    /// The witness failed, or has too few samples.
    Witness,
    /// Files, disks and services that receive results.
    Output,
    /// A defect of this program.
    Bug,
    /// Not known: a finding that another version stored.
    Unknown,
}

/// A time whose definition server, witness and client share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    #[serde(rename = "TTFT")]
    Ttft,
    #[serde(rename = "ITL")]
    Itl,
    #[serde(rename = "TPOT")]
    Tpot,
    Latency,
}

impl Figure {
    /// The English name, at the beginning of a sentence or alone.
    pub fn en(self) -> &'static str {
        match self {
            Figure::Ttft => "TTFT",
            Figure::Itl => "ITL",
            Figure::Tpot => "TPOT",
            Figure::Latency => "Latency",
        }
    }

    /// The Chinese name.
    pub fn zh(self) -> &'static str {
        match self {
            Figure::Latency => "端到端时延",
            Figure::Ttft | Figure::Itl | Figure::Tpot => self.en(),
        }
    }
}

/// In English.
impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.en())
    }
}

/// A time that differs between client and server by more than can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApartFigure {
    pub figure: Figure,
    pub by_ns: u64,
    pub longer_here: bool,
}

/// Why a calibration of the timestamps cannot be used for a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Misfit {
    /// Another CPU, kernel or number of cores.
    OtherMachine,
    Old {
        days: i64,
    },
    Parallel {
        calibrated: u32,
        run: u32,
    },
    /// Requests per second.
    Rate {
        calibrated_per_s: f64,
        run_per_s: f64,
    },
    /// Output events per second.
    Events {
        calibrated_per_s: f64,
        run_per_s: f64,
    },
    /// It holds no error of the timestamps.
    NoTimestamps,
}

/// Something unusual about a response, which was accepted nonetheless because common clients accept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// Invalid UTF-8 or lone surrogates in JSON strings.
    InvalidText,
    /// `NaN`, infinities, or numbers beyond 64 bits in JSON.
    InvalidNumbers,
    /// Events without a blank line between them.
    MissingBlankLines,
    /// Heartbeats as data that is not JSON.
    Heartbeats,
    /// Events under the media type of something else.
    MediaType,
    /// The body stayed open for a while after the end event.
    OpenAfterEnd,
    /// Usage of zero tokens despite output.
    ZeroUsage,
    /// Usage with fewer output tokens than events with output.
    FewerTokensThanEvents,
}

impl Oddity {
    /// Every oddity.
    pub const ALL: [Oddity; 8] = [
        Oddity::InvalidText,
        Oddity::InvalidNumbers,
        Oddity::MissingBlankLines,
        Oddity::Heartbeats,
        Oddity::MediaType,
        Oddity::OpenAfterEnd,
        Oddity::ZeroUsage,
        Oddity::FewerTokensThanEvents,
    ];

    /// The name in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Oddity::InvalidText => "invalid_text",
            Oddity::InvalidNumbers => "invalid_numbers",
            Oddity::MissingBlankLines => "missing_blank_lines",
            Oddity::Heartbeats => "heartbeats",
            Oddity::MediaType => "media_type",
            Oddity::OpenAfterEnd => "open_after_end",
            Oddity::ZeroUsage => "zero_usage",
            Oddity::FewerTokensThanEvents => "fewer_tokens_than_events",
        }
    }
}

/// In how many responses an oddity occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OddityCount {
    pub oddity: Oddity,
    pub responses: u64,
}

/// A quantity that client and server both count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountKind {
    Requests,
    PromptTokens,
    OutputTokens,
}

impl CountKind {
    /// The English name.
    pub fn en(self) -> &'static str {
        match self {
            CountKind::Requests => "Requests",
            CountKind::PromptTokens => "Prompt tokens",
            CountKind::OutputTokens => "Output tokens",
        }
    }

    /// The Chinese name.
    pub fn zh(self) -> &'static str {
        match self {
            CountKind::Requests => "请求数",
            CountKind::PromptTokens => "输入 token 数",
            CountKind::OutputTokens => "输出 token 数",
        }
    }
}

/// Two counts of one quantity that should be equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnequalCount {
    pub quantity: CountKind,
    pub client: u64,
    pub server: u64,
}

/// A percentile that the load and the witness measured differently, nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnequalPercentile {
    pub percentile: u32,
    pub load_ns: u64,
    pub witness_ns: u64,
    /// Load − witness.
    pub difference_ns: i64,
}

/// Numbers of shards as a list: `1, 2`.
pub(super) fn numbers(shards: &[u32]) -> String {
    shards.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
