//! A server that ended for good during the run: a local one that has died, or one that refuses connections from some
//! time to the end of the run, and after it.

use crate::engine::Engine;
use crate::finding::Finding;
use crate::plan::Plan;
use crate::server::http_get::refuses;
use crate::server::local::Local;
use crate::time::Tick;

/// The finding about the end of the server, if it ended. Called at the end of the run.
pub(super) fn server_end(engine: &Engine, plan: &Plan, local: Option<&Local>) -> Option<Finding> {
    let since_start_s = |at: Tick| engine.measured_from.map(|start| (at.ns_since(start) as f64 / 1e9).max(0.0));
    if let Some((reason, at)) = local.and_then(Local::died) {
        return Some(Finding::ServerDied { reason, after_s: since_start_s(at) });
    }
    let since = engine.server.gone_since()?;
    // One more attempt: the last connections may have been refused for a moment only.
    refuses(&plan.target).then(|| Finding::ServerEnded { after_s: since_start_s(since) })
}
