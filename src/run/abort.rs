//! `--abort-on`: ends a run in which too many requests fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::finding::Finding;
use crate::plan::Plan;
use crate::plan::slo::Criterion;
use crate::store::live::Counts;

/// Fewer requests say nothing about the others.
const FEWEST: u64 = 20;

/// Watches the outcomes of a run.
#[derive(Clone)]
pub(super) struct AbortWatch {
    limit: Option<Criterion>,
    /// Requests that must have ended.
    fewest: u64,
    flag: Arc<AtomicBool>,
    /// The finding, if the failures of the warm-up reached the limit.
    in_warmup: Arc<OnceLock<Finding>>,
}

impl AbortWatch {
    /// Sets `flag` when the limit of the plan is reached. The first responses of a closed loop can be refusals of those
    /// beyond what the server admits, so as many requests must have ended as are in flight.
    pub(super) fn new(plan: &Plan, flag: Arc<AtomicBool>) -> AbortWatch {
        let in_flight = plan.slots().unwrap_or(0);
        AbortWatch {
            limit: plan.abort_on.clone(),
            fewest: FEWEST.max(in_flight.into()),
            flag,
            in_warmup: Arc::default(),
        }
    }

    /// Checks the outcomes so far, those of the warm-up and those of the measured requests apart; the line for the log
    /// when the limit is reached for the first time.
    pub(super) fn check(&self, counts: Counts) -> Option<String> {
        let criterion = &self.limit.as_ref()?.text;
        if self.flag.load(Ordering::Relaxed) {
            return None;
        }
        let (failed, ended, what) = if self.is_reached(counts.failed, counts.ok) {
            (counts.failed, counts.ok + counts.failed, "requests")
        } else if self.is_reached(counts.warmup_failed, counts.warmup_ok) {
            let (failed, ended) = (counts.warmup_failed, counts.warmup_ok + counts.warmup_failed);
            // It is empty: the flag below ends the checks.
            let _ = self.in_warmup.set(Finding::AbortedInWarmUp { criterion: criterion.clone(), failed, ended });
            (failed, ended, "requests of the warm-up")
        } else {
            return None;
        };
        self.flag.store(true, Ordering::Release);
        Some(format!(
            "{failed} of {ended} {what} failed (--abort-on '{criterion}'): no more requests are sent, requests in flight end"
        ))
    }

    /// The finding that the failures of the warm-up ended the run.
    pub(super) fn warmup_finding(&self) -> Option<Finding> {
        self.in_warmup.get().cloned()
    }

    fn is_reached(&self, failed: u64, ok: u64) -> bool {
        let ended = ok + failed;
        let is_met = |limit: &Criterion| limit.is_met_by(failed as f64 * 100.0 / ended as f64);
        ended >= self.fewest && self.limit.as_ref().is_some_and(is_met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::slo::scan;

    fn watch() -> AbortWatch {
        AbortWatch { limit: scan("failed>20%").ok(), fewest: 20, flag: Arc::default(), in_warmup: Arc::default() }
    }

    #[test]
    fn the_limit_needs_enough_requests_and_is_reported_once() {
        let watch = watch();
        let measured = |ok, failed| Counts { ok, failed, ..Counts::default() };
        assert_eq!(watch.check(measured(0, 19)), None);
        assert_eq!(watch.check(measured(16, 4)), None);
        assert!(!watch.flag.load(Ordering::Relaxed));
        let line = watch.check(measured(15, 5)).unwrap();
        assert!(line.starts_with("5 of 20 requests failed"), "{line}");
        assert!(watch.flag.load(Ordering::Relaxed) && watch.check(measured(15, 6)).is_none());
    }
    #[test]
    fn the_warm_up_is_judged_apart() {
        let watch = watch();
        let counts = |warmup_ok, warmup_failed| Counts { ok: 15, failed: 0, warmup_ok, warmup_failed };
        assert_eq!((watch.check(counts(0, 19)), watch.warmup_finding()), (None, None));
        let line = watch.check(counts(2, 20)).unwrap();
        assert!(line.starts_with("20 of 22 requests of the warm-up failed"), "{line}");
        let finding = Finding::AbortedInWarmUp { criterion: "failed>20%".to_string(), failed: 20, ended: 22 };
        assert_eq!((watch.check(counts(90, 21)), watch.warmup_finding()), (None, Some(finding)));
    }
}
