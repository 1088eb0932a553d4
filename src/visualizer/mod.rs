//! Figures for wandb, SwanLab and ClearML: a helper process of ours speaks to the service through its own Python SDK.
//!
//! Whatever the SDK does, nobody who measures waits for it: figures go through a short queue to a thread of its own,
//! off the workers' cores, and where they come faster than the helper takes them they are dropped and counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::log::Log;
use crate::plan::{Plan, Service, VisualPlan};
use crate::rig::affinity;

mod feed;
mod helper;
mod message;

pub use feed::{Feed, Series};
use helper::{Answer, Helper};

/// How long the helper may take to begin and to end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: Duration,
    pub finish: Duration,
}

impl Default for Limits {
    /// A little more than the services' own patience with their servers.
    fn default() -> Limits {
        Limits { start: Duration::from_secs(120), finish: Duration::from_secs(60) }
    }
}

/// A look at an interrupt while the helper begins.
const STEP: Duration = Duration::from_millis(50);

/// A service that takes figures.
pub struct Visualizer {
    service: Service,
    limits: Limits,
    log: Arc<Log>,
    feed: Feed,
    helper: Helper,
    /// The final figures of each run, for the table over all of them.
    results: Vec<(String, Map<String, Json>)>,
}

impl Visualizer {
    /// Starts the helper off the cores of all `plans` and waits until the service has taken `config` (JSON without
    /// secrets). `single`: there will be one run, whose figures need no name before them. The error is one line that
    /// says what to do.
    pub fn start(
        asked: &VisualPlan,
        plans: &[Plan],
        single: bool,
        config: &str,
        limits: Limits,
        log: &Arc<Log>,
        stop: &AtomicU8,
    ) -> Result<Visualizer, String> {
        log.info(&format!("{}: starting its SDK (--visualizer)", asked.service.name()));
        let cores: Vec<usize> = plans.iter().flat_map(|plan| plan.cores.clone()).collect();
        let kept = affinity::keep_off(&cores);
        let folder = plans.first().map_or(Path::new("."), |plan| &plan.report.root);
        let start = message::start(asked, folder, config);
        let (helper, feed) = Helper::start(asked, single, &start, log)?;
        drop(kept);
        let service = asked.service;
        let visualizer = Visualizer { service, limits, log: log.clone(), feed, helper, results: Vec::new() };
        visualizer.wait_until_ready(stop)
    }

    fn wait_until_ready(self, stop: &AtomicU8) -> Result<Visualizer, String> {
        let name = self.service.name();
        let began = Instant::now();
        let refused = loop {
            if stop.load(Ordering::Relaxed) != 0 {
                break "interrupted before it was ready".to_string();
            }
            if began.elapsed() > self.limits.start {
                break format!("it was not ready within {} s", self.limits.start.as_secs_f64());
            }
            match self.helper.next_answer(STEP) {
                Some(Answer::Ready(place)) => {
                    let place = place.map_or(String::new(), |place| format!(": {place}"));
                    self.log.info(&format!("{name} takes the figures{place}"));
                    return Ok(self);
                }
                Some(Answer::Failed { text, hint: true }) => {
                    break format!("{}; {}", text.trim_end_matches('.'), way_in(self.service));
                }
                Some(Answer::Failed { text, hint: false }) => break text,
                Some(Answer::Gone(last)) => break format!("its helper ended before it was ready: {last}"),
                Some(Answer::Ended) | None => {}
            }
        };
        self.helper.kill();
        Err(format!("--visualizer {name}: {refused}"))
    }

    /// Takes the figures of runs while they go on.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Takes the final figures of a run: the contents of its `benchmark_summary.json` and `benchmark_percentile.json`.
    pub fn run_ended(&mut self, plan: &Plan, summary: &Json, percentiles: &Json) {
        let series = self.feed.series(plan);
        let values = message::numbers(summary);
        series.send(json!({"do": "results", "series": series.name(), "values": values}));
        series.send(message::table("percentiles", series.name(), &message::percentile_rows(percentiles)));
        self.results.push((message::load_name(plan), values));
    }

    /// Sends the table over all runs and waits, but not for ever, until the service has everything. `ok`: the call
    /// ended well. What was lost is told as a caution.
    pub fn finish(self, ok: bool) {
        let name = self.service.name();
        self.feed.send(message::table("summary", "", &message::result_rows(&self.results)));
        self.feed.end(ok);
        let limit = self.limits.finish;
        self.log.info(&format!("{name}: sending what is left"));
        let trouble = match self.helper.finish(limit) {
            Ok(()) => None,
            Err(helper::NotEnded::Late) => {
                Some(format!("it did not end within {} s and was stopped", limit.as_secs_f64()))
            }
            Err(helper::NotEnded::Died(how)) => Some(format!("its helper ended too early ({how})")),
        };
        if let Some(trouble) = trouble {
            self.log.warning(&format!("Caution: {name} may lack figures of this call: {trouble}; see benchmark.log"));
        }
        if let Some(dropped) = self.feed.note() {
            self.log.warning(&format!("Note: {}", dropped.en()));
        }
    }
}

/// What lets us in.
fn way_in(service: Service) -> &'static str {
    match service {
        Service::Wandb => {
            "set WANDB_API_KEY (or give --wandb-api-key), or WANDB_MODE=offline to keep it on this machine"
        }
        Service::Swanlab => {
            "give --swanlab-api-key KEY (or run swanlab login), or SWANLAB_MODE=offline to keep it here"
        }
        Service::Clearml => "run clearml-init, or set CLEARML_OFFLINE_MODE=1 to keep it on this machine",
    }
}
