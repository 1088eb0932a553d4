//! Requests without an answer: which, why, and what their absence does to the figures of the others.

use crate::finding::Finding;
use crate::record::{Failure, facts::RunEnd};
use crate::stats::Summary;

/// Failures above this part of the requests.
const FAILED: f64 = 0.05;
/// Unfinished requests above this part of those sent: p99 is no longer what it says.
const UNFINISHED: f64 = 0.01;

/// Failures of these classes never put their request onto the wire.
const BEFORE_THE_WIRE: [Failure; 3] = [Failure::Connect, Failure::ConnectTimeout, Failure::Tls];

/// The run ended before its plan did.
pub fn ended(s: &Summary) -> Option<Finding> {
    let Some(end) = &s.end else {
        return Some(Finding::Killed);
    };
    let c = s.counts;
    end.interrupted.then_some(Finding::Interrupted { unsent: c.unsent, unfinished: c.unfinished })
}

/// Failures that touch the figures of the others.
pub fn failures(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    if c.ok == 0 && c.failed > 0 {
        return Some(Finding::AllFailed { unfinished: c.unfinished });
    }
    let share = c.failed as f64 / (c.ok + c.failed).max(1) as f64;
    (share > FAILED).then_some(Finding::Failures { share })
}

/// Requests cut off by the end of the run: the longest of all, which no latency contains.
pub fn unfinished(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    let sent = c.ok + c.failed + c.unfinished;
    let interrupted = s.end.as_ref().is_none_or(|RunEnd { interrupted, .. }| *interrupted);
    if c.ok == 0 && c.failed == 0 && c.unfinished > 0 {
        return Some(Finding::NoneFinished { in_flight: c.unfinished, interrupted });
    }
    let share = c.unfinished as f64 / sent.max(1) as f64;
    (share > UNFINISHED).then_some(Finding::Unfinished { share, unfinished: c.unfinished, sent, interrupted })
}

/// Requests that failed before a byte of them was sent.
pub fn never_on_the_wire(s: &Summary) -> u64 {
    s.failures.iter().filter(|failed| BEFORE_THE_WIRE.contains(&failed.failure)).map(|failed| failed.count).sum()
}
