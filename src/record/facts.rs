//! What the database holds of a run beside its requests: enough to compute every table again.

use serde::{Deserialize, Serialize};

use super::search::{SearchPlan, Variable};
use super::share::Share;
use crate::finding::OpenFiles;

/// The plan as the statistics need it, without secrets. Stored as JSON before the run; `Plan::facts` makes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Version of the program that measured.
    pub version: String,
    pub name: String,
    pub model: String,
    pub dataset: String,
    pub api: String,
    pub url: String,
    /// The addresses of the server, or of its proxy, that connections went to; empty with a Unix socket, if none answered
    /// before the run, and in what earlier versions stored.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub stream: bool,
    pub mode: Mode,
    /// The cap on requests in flight; `None` in an open loop.
    pub parallel: Option<u32>,
    /// The arrival rate of the schedule, requests per second; `None` without a schedule.
    pub rate_per_s: Option<f64>,
    /// The arrival process of the schedule, as on the command line.
    pub arrival: Option<String>,
    /// Measured requests, counting every turn of every conversation; `None` when only the duration ends the run.
    pub requests: Option<u64>,
    /// The facts of a multi-turn load; `None` for single requests.
    #[serde(default)]
    pub conversations: Option<ConversationFacts>,
    pub duration_ns: Option<u64>,
    pub drain_ns: u64,
    pub warmup_requests: u64,
    /// The warm-up flows into the measured requests, and the server's metrics cover it. In runs of earlier versions it
    /// had ended before.
    #[serde(default)]
    pub warmup_flows: bool,
    pub ramp_ns: u64,
    /// The data seed: determines lengths, choices and schedules.
    pub seed: u64,
    /// Changes synthetic text; 0 in what earlier versions stored.
    #[serde(default)]
    pub salt: u64,
    /// The number of the run within its call, from 1; 0 in what earlier versions stored.
    #[serde(default)]
    pub run: u32,
    pub workers: u32,
    pub spin: bool,
    pub cold: bool,
    /// Request ids are `<prefix>-<phase letter><index>`.
    pub request_id_prefix: String,
    /// Service level objectives as given with `--slo`; empty without.
    #[serde(default)]
    pub slo: String,
    /// GPUs of the server, from `--gpus`; `None` if it was not given.
    #[serde(default)]
    pub gpus: Option<u32>,
    /// The search that this run belongs to; `None` without one.
    #[serde(default)]
    pub search: Option<SearchPlan>,
    /// The limit of `--abort-on` as it was given; empty without.
    #[serde(default)]
    pub abort_on: String,
    /// Prompts are generated and share nothing on purpose: no prefix, no history, no recorded sharing.
    #[serde(default)]
    pub distinct_prompts: bool,
    /// Requests ask with `ignore_eos` for answers of full length.
    #[serde(default)]
    pub ignore_eos: bool,
    /// The shortest answer that a request asks for with `ignore_eos`, tokens; `None` if it is not the same for all.
    #[serde(default)]
    pub full_answer_tokens: Option<u32>,
    /// Connections of the witness; 0 without one.
    #[serde(default)]
    pub witness: u32,
    /// Choices of each answer; 0 in what earlier versions stored, whatever it was.
    #[serde(default)]
    pub choices: u32,
    /// The kernel whose clock the run used; see `crate::host::clock_domain`. Empty if unknown, and in what earlier versions
    /// stored, which have it for shards only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clock_domain: String,
    /// The shard that this run was; `None` for a whole load. The load above is then the share of the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardFacts>,
}

/// A shard of a load that several processes sent together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardFacts {
    #[serde(flatten)]
    pub share: Share,
    /// The same for all shards of one call, and for no others.
    pub call_id: String,
    /// A hash of what all shards must have in common; see `crate::run`. Empty in a merged run.
    pub plan_hash: String,
    /// The kernel whose clock the shard used; see `crate::host::clock_domain`. Empty if unknown.
    pub clock_domain: String,
    /// The load of all shards.
    pub parallel: Option<u32>,
    pub rate_per_s: Option<f64>,
    pub requests: Option<u64>,
    pub warmup_requests: u64,
    /// Planned conversations of all shards.
    pub conversations: Option<u64>,
}

/// A load of conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationFacts {
    /// Conversations to measure; `None` when only the duration ends the run.
    pub planned: Option<u64>,
    /// There is a pause between two turns.
    pub thinks: bool,
}

/// How load is offered; see `crate::plan::Load`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Closed,
    Paced,
    Open,
}

impl RunFacts {
    /// The kernel whose clock the run used; `None` if it is unknown.
    pub(crate) fn clock_domain(&self) -> Option<&str> {
        let of_shard = self.shard.as_ref().map_or("", |shard| &shard.clock_domain);
        [self.clock_domain.as_str(), of_shard].into_iter().find(|domain| !domain.is_empty())
    }

    /// Whether a warm-up flows into the measured requests.
    pub(crate) fn has_flowing_warmup(&self) -> bool {
        self.warmup_flows && self.warmup_requests > 0
    }

    /// The value of the load parameter `variable` in this run; `None` where the load has no such parameter.
    pub fn searched_load(&self, variable: Variable) -> Option<f64> {
        match variable {
            Variable::Parallel => self.parallel.map(f64::from),
            Variable::Rate => self.rate_per_s,
        }
    }
}

/// A load that a search asked for and that this machine could not offer. It has no run and is stored with another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub load: f64,
    /// In English.
    pub why: String,
    /// The same as numbers; `None` in what earlier versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<OpenFiles>,
}

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// Nanoseconds of the run's own clock; see [`crate::time::Tick`].
    pub tick_ns: u64,
    /// Nanoseconds since the Unix epoch at that instant.
    pub unix_ns: i64,
}

impl ClockPair {
    /// The offset to add to a tick to get Unix time, nanoseconds.
    pub fn offset_ns(self) -> i64 {
        self.unix_ns.wrapping_sub(self.tick_ns as i64)
    }
}

/// The Unix clock of shard 0 minus that of another shard, nanoseconds: an interval that contains it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    pub low_ns: i64,
    pub high_ns: i64,
}

impl ClockOffset {
    /// The middle of the interval, nanoseconds.
    pub(crate) fn middle_ns(self) -> i64 {
        self.low_ns + self.high_ns.saturating_sub(self.low_ns) / 2
    }

    /// The greatest distance of the offset from the middle, nanoseconds.
    pub(crate) fn half_width_ns(self) -> u64 {
        self.high_ns.abs_diff(self.low_ns).div_ceil(2)
    }
}

/// What is known only when the run has ended. A run that was killed has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    pub clock: ClockPair,
    /// The user ended the run before its plan did.
    pub interrupted: bool,
    /// The largest error of a worker's clock that its fits have shown, nanoseconds; `None` in what earlier versions stored.
    #[serde(default)]
    pub clock_error_ns: Option<u64>,
    /// The run ended because of `--abort-on`.
    #[serde(default)]
    pub aborted: bool,
    /// The highest number of messages that waited for the collector.
    pub peak_backlog: u64,
    /// Requests that could not be written to the database.
    pub rows_lost: u64,
    /// The start of a shard, which all shards agreed on, on both clocks of this machine; `None` for a whole load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_start: Option<ClockPair>,
    /// How much later than that this shard began, nanoseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shard_late_ns: u64,
    /// How the clock of shard 0 differs from that of this shard; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<ClockOffset>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(ns: &u64) -> bool {
    *ns == 0
}
