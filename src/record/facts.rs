//! What the database knows of a run beside its requests: enough to make every table again.

use serde::{Deserialize, Serialize};

use crate::finding::OpenFiles;
use crate::plan::sla::{SearchPlan, Variable};
use crate::plan::{Arrival, Load, Plan};
use crate::time::Tick;

/// The plan as the figures need it, without addresses and without secrets. Stored as JSON before the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Version of the program that measured.
    pub version: String,
    pub name: String,
    pub model: String,
    pub dataset: String,
    pub api: String,
    pub url: String,
    pub stream: bool,
    pub mode: Mode,
    /// The cap on requests in flight; `None` in an open loop.
    pub parallel: Option<u32>,
    /// The rate of the schedule; `None` without one.
    pub rate_per_s: Option<f64>,
    /// How the schedule is drawn, as typed on the command line.
    pub arrival: Option<String>,
    /// Requests measured, every turn of every conversation among them; `None` when only the duration ends the run.
    pub requests: Option<u64>,
    /// What is special about conversations; `None` for single requests.
    #[serde(default)]
    pub conversations: Option<ConversationFacts>,
    pub duration_ns: Option<u64>,
    pub drain_ns: u64,
    pub warmup_requests: u64,
    pub ramp_ns: u64,
    pub seed: u64,
    pub workers: u32,
    pub spin: bool,
    pub cold: bool,
    /// Request ids are `<prefix>-<phase letter><index>`.
    pub request_id_prefix: String,
    /// Objectives as typed after `--slo`; empty without.
    #[serde(default)]
    pub slo: String,
    /// The search that asked for this run; `None` without one.
    #[serde(default)]
    pub search: Option<SearchPlan>,
    /// Connections of the witness; 0 without one.
    #[serde(default)]
    pub witness: u32,
}

/// A load of conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationFacts {
    /// Conversations measured; `None` when only the duration ends the run.
    pub planned: Option<u64>,
    /// There is a pause between two turns.
    pub thinks: bool,
}

/// How load is offered; see [`Load`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Closed,
    Paced,
    Open,
}

impl RunFacts {
    /// The facts of a plan whose requests carry ids with this prefix.
    pub fn of(plan: &Plan, request_id_prefix: &str) -> RunFacts {
        let schedule = plan.load.schedule();
        RunFacts {
            version: env!("CARGO_PKG_VERSION").to_string(),
            name: plan.report.name.clone(),
            model: plan.report.model.clone(),
            dataset: plan.report.dataset.clone(),
            api: plan.report.api.clone(),
            url: plan.target.url.clone(),
            stream: plan.stream,
            mode: match plan.load {
                Load::Closed { .. } => Mode::Closed,
                Load::Paced { .. } => Mode::Paced,
                Load::Open { .. } => Mode::Open,
            },
            parallel: plan.load.parallel(),
            rate_per_s: schedule.map(|s| s.rate_per_s),
            arrival: schedule.map(|s| arrival_name(&s.arrival)),
            requests: plan.requests,
            conversations: None,
            duration_ns: plan.duration_ns,
            drain_ns: plan.drain_ns,
            warmup_requests: plan.warmup_requests,
            ramp_ns: plan.ramp_ns,
            seed: plan.seed,
            workers: plan.cores.len() as u32,
            spin: plan.spin,
            cold: plan.cold,
            request_id_prefix: request_id_prefix.to_string(),
            slo: plan.report.slo.clone(),
            search: plan.report.search.clone(),
            witness: plan.witness.map_or(0, |witness| witness.connections),
        }
    }

    /// What was varied by a search, at this run.
    pub fn searched_load(&self, variable: Variable) -> Option<f64> {
        match variable {
            Variable::Parallel => self.parallel.map(f64::from),
            Variable::Rate => self.rate_per_s,
        }
    }
}

/// A load that a search wanted and this machine could not offer: there is no run of it. Stored with another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub load: f64,
    /// In English.
    pub why: String,
    /// The same as numbers; `None` in what earlier versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<OpenFiles>,
}

fn arrival_name(arrival: &Arrival) -> String {
    match arrival {
        Arrival::Poisson => "poisson".to_string(),
        Arrival::Constant => "constant".to_string(),
        Arrival::Gamma { cv } => format!("gamma:{cv}"),
        Arrival::Burst => "burst".to_string(),
        Arrival::Trace(_) => "trace".to_string(),
    }
}

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// Nanoseconds of the run's own clock; see [`Tick`].
    pub tick_ns: u64,
    /// Nanoseconds since the Unix epoch at that instant.
    pub unix_ns: i64,
}

impl ClockPair {
    /// What has to be added to a tick for Unix time, nanoseconds.
    pub fn offset_ns(self) -> i64 {
        self.unix_ns.wrapping_sub(self.tick_ns as i64)
    }

    /// The tick of this pair.
    pub fn tick(self) -> Tick {
        Tick(self.tick_ns)
    }
}

/// What is known only when the run is over. A run that was killed has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    pub clock: ClockPair,
    /// A person ended the run before the plan did.
    pub interrupted: bool,
    /// Most parcels that ever waited for the collector.
    pub peak_backlog: u64,
    /// Requests that could not be written to the database.
    pub rows_lost: u64,
}
