//! Starts the visualizer of `--visualizer` and passes it the results of each run.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crate::log::Log;
use crate::plan::Plan;
use crate::report::json;
use crate::spec::Spec;
use crate::stats::Summary;
use crate::visualizer::{Limits, Visualizer};

/// Starts the visualizer if the plans have one. The error is one line.
pub fn start(spec: &Spec, plans: &[Plan], log: &Arc<Log>, stop: &AtomicU8) -> Result<Option<Visualizer>, String> {
    let Some((first, visualizer_plan)) = plans.first().and_then(|plan| Some((plan, plan.report.visualizer.as_ref()?)))
    else {
        return Ok(None);
    };
    // The arguments of the whole call; the arguments of a run have only its own load.
    let mut call = spec.masked();
    call.target.url = Some(first.target.url.clone());
    call.target.model = Some(first.report.model.clone());
    let config = serde_json::to_string(&call)
        .map_err(|error| format!("cannot serialize the arguments for --visualizer: {error}"))?;
    let single = plans.len() < 2 && !spec.sla.sla_auto_tune;
    Visualizer::start(visualizer_plan, plans, single, &config, Limits::default(), log, stop).map(Some)
}

/// Passes the results of a run to the visualizer.
pub fn run_ended(visualizer: Option<&mut Visualizer>, plan: &Plan, summary: &Summary) {
    if let Some(visualizer) = visualizer {
        visualizer.run_ended(plan, &json::summary(summary), &json::percentiles(summary));
    }
}
