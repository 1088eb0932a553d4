//! Findings about requests that failed or did not finish, and their effect on the figures of the others.

use crate::record::finding::Finding;
use crate::record::{Failure, facts::RunEnd};
use crate::stats::format::percent;
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
        return Some(Finding::caution(
            "killed",
            "The run was killed before it ended: these are the requests that were stored by then, and nothing is \
             known of the client's own error.",
        ));
    };
    end.interrupted.then(|| Finding::note("interrupted", interrupted(s.counts.unsent, s.counts.unfinished)))
}

fn interrupted(unsent: u64, unfinished: u64) -> String {
    let [unsent_were, unfinished_were] = [unsent, unfinished].map(were);
    match (unsent, unfinished) {
        (0, 0) => "The run was interrupted.".to_string(),
        (_, 0) => format!("The run was interrupted: {unsent_were} not sent."),
        (0, _) => format!("The run was interrupted: {unfinished_were} still in flight at its end."),
        _ => format!(
            "The run was interrupted: {unsent_were} not sent, and {unfinished_were} still in flight at its end."
        ),
    }
}

/// Failures that affect the figures of the others.
pub fn failures(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    if c.ok == 0 && c.failed > 0 {
        let text = match c.unfinished {
            0 => "Every request failed; the table of failures says why.",
            _ => "Every request that ended failed; the table of failures says why.",
        };
        return Some(Finding::caution("failures", text));
    }
    let share = c.failed as f64 / (c.ok + c.failed).max(1) as f64;
    (share > FAILED).then(|| {
        Finding::caution(
            "failures",
            format!(
                "{} of the requests failed. Latencies are those of the others only, which may have had an easier \
                 time for it; see the table of failures.",
                percent(share)
            ),
        )
    })
}

/// Requests that the end of the run cut off: the longest ones, which are missing in the latencies.
pub fn unfinished(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    let sent = c.ok + c.failed + c.unfinished;
    let by_hand = s.end.as_ref().is_none_or(|RunEnd { interrupted, .. }| *interrupted);
    let advice = if by_hand { "" } else { " Raise --drain or --duration." };
    if c.ok == 0 && c.failed == 0 && c.unfinished > 0 {
        let text = format!("No request ended before the run did ({} were in flight).{advice}", c.unfinished);
        return Some(Finding::caution("unfinished", text));
    }
    let share = c.unfinished as f64 / sent.max(1) as f64;
    (share > UNFINISHED).then(|| {
        Finding::caution(
            "unfinished",
            format!(
                "{} of the requests sent ({} of {sent}) had not ended when the run did. Latencies are those of the \
                 others only: the longest answers are missing.{advice}",
                percent(share),
                c.unfinished
            ),
        )
    })
}

/// Requests that failed before a byte of them was sent.
pub fn never_on_the_wire(s: &Summary) -> u64 {
    s.failures.iter().filter(|failed| BEFORE_THE_WIRE.contains(&failed.failure)).map(|failed| failed.count).sum()
}

/// The beginning of a sentence about `count` requests.
pub fn were(count: u64) -> String {
    if count == 1 { "1 request was".to_string() } else { format!("{count} requests were") }
}
