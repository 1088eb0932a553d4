//! Findings about requests that failed or did not finish, and their effect on the figures of the others.

use crate::finding::Finding;
use crate::record::{Failure, facts::RunEnd};
use crate::stats::summary::Summary;

/// A larger share of failed requests is reported.
const FAILED: f64 = 0.05;
/// A larger share of unfinished requests is reported, because p99 is then wrong.
const UNFINISHED: f64 = 0.01;

/// In these failure classes the request was not sent.
const BEFORE_THE_WIRE: [Failure; 3] = [Failure::Connect, Failure::ConnectTimeout, Failure::Tls];

/// The run ended before its plan did.
pub fn ended(s: &Summary) -> Option<Finding> {
    let Some(end) = &s.end else {
        return Some(Finding::Killed);
    };
    let c = s.counts;
    end.interrupted.then_some(Finding::Interrupted { unsent: c.unsent, unfinished: c.unfinished })
}

/// `--abort-on` ended the run.
pub fn aborted(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    // Its warm-up did, which is a finding of the run.
    if s.findings.iter().any(|finding| matches!(finding, Finding::AbortedInWarmUp { .. })) {
        return None;
    }
    let (criterion, failed, ended) = (s.facts.abort_on.clone(), c.failed, c.ok + c.failed);
    s.is_aborted().then_some(Finding::Aborted { criterion, failed, ended, unsent: c.unsent })
}

/// Failures that affect the figures of the others.
pub fn failures(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    if c.ok == 0 && c.failed > 0 {
        return Some(Finding::AllFailed { unfinished: c.unfinished });
    }
    let share = c.failed as f64 / (c.ok + c.failed).max(1) as f64;
    (share > FAILED).then_some(Finding::Failures { share })
}

/// Failures that a flag prevents: the server does not accept the field that requests token counts.
pub fn stream_options_refused(s: &Summary) -> Option<Finding> {
    let refused = s.failures.iter().filter(|failed| failed.failure == Failure::Status);
    let texts = refused.flat_map(|failed| &failed.texts).filter(|text| text.example.contains("stream_options"));
    let requests = texts.map(|text| text.count).sum();
    (requests > 0).then_some(Finding::StreamOptionsRefused { requests })
}

/// Requests that the end of the run cut off: the longest ones, which are missing in the latencies.
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
