//! Sends figures to wandb, SwanLab and ClearML. A helper process communicates with the service through its Python SDK.
//!
//! The SDK does not delay the measurement: figures go through a bounded queue to a separate thread that does not run on
//! the workers' cores. Figures that the helper cannot process in time are dropped and counted.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::host::affinity;
use crate::log::Log;
use crate::plan::{Plan, Service, VisualizerPlan};

mod feed;
mod helper;
mod message;

pub use feed::{Feed, Series};
use helper::{FinishError, Helper, HelperResponse};

/// How long the helper may take to start and to finish.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: Duration,
    pub finish: Duration,
}

impl Default for Limits {
    /// Slightly longer than the SDKs' own timeouts.
    fn default() -> Limits {
        Limits { start: Duration::from_secs(120), finish: Duration::from_secs(60) }
    }
}

/// Period of the checks for an interrupt while the helper starts.
const POLL_PERIOD: Duration = Duration::from_millis(50);

/// A running helper for one service.
pub struct Visualizer {
    service: Service,
    limits: Limits,
    log: Arc<Log>,
    feed: Feed,
    helper: Helper,
    /// The final figures of each run, for the table over all runs.
    results: Vec<(String, Map<String, Json>)>,
}

impl Visualizer {
    /// Starts the helper outside the cores of all `plans` and waits until the service has accepted `config` (JSON
    /// without secrets). `single`: there will be one run, whose figures need no prefix.
    ///
    /// # Errors
    /// One line with the cause and what to do.
    pub fn start(
        visual: &VisualizerPlan,
        plans: &[Plan],
        single: bool,
        config: &str,
        limits: Limits,
        log: &Arc<Log>,
        stop: &AtomicU8,
    ) -> Result<Visualizer, String> {
        log.info(&format!("{}: starting its SDK (--visualizer)", visual.service.name()));
        let cores: Vec<usize> = plans.iter().flat_map(|plan| plan.cores.clone()).collect();
        let affinity = affinity::exclude_cores(&cores);
        let folder = plans.first().map_or(Path::new("."), |plan| &plan.report.root);
        let start = message::start(visual, folder, config);
        let (helper, feed) = Helper::start(visual, single, &start, log)?;
        drop(affinity);
        let service = visual.service;
        let visualizer = Visualizer { service, limits, log: log.clone(), feed, helper, results: Vec::new() };
        visualizer.wait_until_ready(stop)
    }

    fn wait_until_ready(self, stop: &AtomicU8) -> Result<Visualizer, String> {
        let name = self.service.name();
        let began = Instant::now();
        let reason = loop {
            if stop.load(Ordering::Relaxed) != 0 {
                break "interrupted before it was ready".to_string();
            }
            if began.elapsed() > self.limits.start {
                break format!("it was not ready within {} s", self.limits.start.as_secs_f64());
            }
            match self.helper.next_response(POLL_PERIOD) {
                Some(HelperResponse::Ready(place)) => {
                    let place = place.map_or(String::new(), |place| format!(": {place}"));
                    self.log.info(&format!("{name} is ready{place}"));
                    return Ok(self);
                }
                Some(HelperResponse::Failed { text, hint: true }) => {
                    break format!("{}; {}", text.trim_end_matches('.'), login_hint(self.service));
                }
                Some(HelperResponse::Failed { text, hint: false }) => break text,
                Some(HelperResponse::Exited(last)) => break format!("its helper exited before it was ready: {last}"),
                Some(HelperResponse::Ended) | None => {}
            }
        };
        self.helper.kill();
        Err(format!("--visualizer {name}: {reason}"))
    }

    /// The queue for figures during runs.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Sends the final figures of a run: the contents of its `benchmark_summary.json` and `benchmark_percentile.json`.
    pub(crate) fn run_ended(&mut self, plan: &Plan, summary: &Json, percentiles: &Json) {
        let series = self.feed.series(plan);
        let values = message::numbers(summary);
        series.send(json!({"do": "results", "series": series.name(), "values": values}));
        series.send(message::table("percentiles", series.name(), &message::percentile_rows(percentiles)));
        self.results.push((message::load_name(plan), values));
    }

    /// Sends the table over all runs and waits, at most the limit, until the service has all data. `ok`: the call has
    /// succeeded. Logs a warning if data were lost.
    pub fn finish(self, ok: bool) {
        let name = self.service.name();
        self.feed.send(message::table("summary", "", &message::result_rows(&self.results)));
        self.feed.end(ok);
        let limit = self.limits.finish;
        self.log.info(&format!("{name}: sending the remaining data"));
        let problem = match self.helper.finish(limit) {
            Ok(()) => None,
            Err(FinishError::Timeout) => {
                Some(format!("its helper did not exit within {} s and was killed", limit.as_secs_f64()))
            }
            Err(FinishError::Died(how)) => Some(format!("its helper exited too early ({how})")),
        };
        if let Some(problem) = problem {
            self.log.warning(&format!("Caution: {name} may lack figures of this call: {problem}; see benchmark.log"));
        }
        if let Some(dropped) = self.feed.note() {
            self.log.warning(&format!("Note: {}", dropped.en()));
        }
    }
}

/// How to log in to a service, or use it offline.
fn login_hint(service: Service) -> &'static str {
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
