//! `--abort-on`: ends a run in which too many requests fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::plan::Plan;
use crate::plan::slo::Criterion;
use crate::store::live::Counts;

/// Fewer requests say nothing about the others.
const FEWEST: u64 = 20;

/// Watches the outcomes of a run.
pub(super) struct AbortWatch {
    limit: Option<Criterion>,
    /// Requests that must have ended.
    fewest: u64,
    flag: Arc<AtomicBool>,
}

impl AbortWatch {
    /// Sets `flag` when the limit of the plan is reached. The first responses of a closed loop can be refusals of those
    /// beyond what the server admits, so as many requests must have ended as are in flight.
    pub(super) fn new(plan: &Plan, flag: Arc<AtomicBool>) -> AbortWatch {
        let in_flight = plan.load.parallel().unwrap_or(0);
        AbortWatch { limit: plan.abort_on.clone(), fewest: FEWEST.max(in_flight.into()), flag }
    }

    /// Checks the outcomes so far; the line for the log when the limit is reached for the first time.
    pub(super) fn check(&self, counts: Counts) -> Option<String> {
        let limit = self.limit.as_ref()?;
        let ended = counts.ok + counts.failed;
        if ended < self.fewest || !limit.is_met_by(counts.failed as f64 * 100.0 / ended as f64) {
            return None;
        }
        let is_first = !self.flag.swap(true, Ordering::Relaxed);
        is_first.then(|| {
            format!(
                "{} of {ended} requests failed (--abort-on '{}'): no more requests are sent, requests in flight end",
                counts.failed, limit.text
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::slo::scan;

    #[test]
    fn the_limit_needs_enough_requests_and_is_reported_once() {
        let watch = AbortWatch { limit: scan("failed>20%").ok(), fewest: 20, flag: Arc::default() };
        assert_eq!(watch.check(Counts { ok: 0, failed: 19 }), None);
        assert_eq!(watch.check(Counts { ok: 16, failed: 4 }), None);
        assert!(!watch.flag.load(Ordering::Relaxed));
        let line = watch.check(Counts { ok: 15, failed: 5 }).unwrap();
        assert!(line.starts_with("5 of 20 requests failed"), "{line}");
        assert!(watch.flag.load(Ordering::Relaxed) && watch.check(Counts { ok: 15, failed: 6 }).is_none());
    }
}
