//! How far the figures can be trusted: what was seen, how much it weighs, and what to do about it.

mod outcome;

use super::summary::Summary;
use crate::finding::{Finding, Severity};
use crate::record::WorkerReport;
use crate::record::facts::Mode;
use crate::time::{MS, US};

/// p99 of our own send lag above this many nanoseconds, and above [`SEND_LAG_OF_TTFT`] of the median TTFT, is told.
const SEND_LAG_NS: f64 = 100.0 * US as f64;
const SEND_LAG_OF_TTFT: f64 = 0.01;
/// The send lag makes the figures ours rather than the server's above this part of the median TTFT. Only where there
/// is enough of it to be no matter of a single page fault.
const SEND_LAG_OF_TTFT_VOID: f64 = 0.5;
const SEND_LAG_VOID_NS: f64 = 10.0 * MS as f64;
/// Sent or answered differs from scheduled by more than this.
const RATE_TOLERANCE: f64 = 0.01;
/// A worker busier than this has no room left for bursts.
const WORKER_CPU: f64 = 0.70;
/// p99 of the receive lag above this part of the median ITL.
const RECEIVE_LAG_OF_ITL: f64 = 0.05;
/// More than this part of the reads carried two or more events.
const COALESCED_READS: f64 = 0.05;
/// Reads without a kernel stamp above this part.
const UNSTAMPED_READS: f64 = 0.001;
/// Difference between mean in flight and rate times latency.
const LITTLE_TOLERANCE: f64 = 0.005;
/// In flight at the end of an open loop, against its beginning.
const GROWTH: f64 = 1.5;
/// Growth is told when the requests were due over this many answers: the fifth that fills the server is left out.
const SPAN_OF_ANSWERS: f64 = 5.0;
/// Involuntary context switches of a worker per second.
const SWITCHES_PER_S: f64 = 50.0;
/// Fewer than this many, or in a shorter time, are chance.
const SWITCHES: u64 = 20;
const SWITCHES_WITHIN_NS: u64 = 100 * MS;
/// Below this part of `--parallel` a closed loop did not offer what was asked.
const OFFERED_CONCURRENCY: f64 = 0.95;

type Check = fn(&Summary) -> Option<Finding>;

/// Every finding about the figures of a run.
pub fn of(summary: &Summary, workers: &[&WorkerReport]) -> Vec<Finding> {
    let checks: [Check; 19] = [
        totals,
        rows_lost,
        little,
        cap_exceeded,
        outcome::ended,
        outcome::failures,
        outcome::unfinished,
        broken_conversations,
        send_lag,
        rate_kept,
        growth,
        offered_concurrency,
        receive_lag,
        unstamped,
        coalesced,
        at_once,
        unknown_tokens,
        switches,
        retries,
    ];
    let mut found: Vec<Finding> = checks.iter().filter_map(|check| check(summary)).collect();
    found.extend(worker_cpu(summary, workers));
    found.extend(resources(summary));
    found
}

fn totals(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    let accounted = c.ok + c.failed + c.unfinished + c.unsent + c.unknown;
    (accounted != c.scheduled).then_some(Finding::RecordsLost { scheduled: c.scheduled, accounted })
}

fn rows_lost(s: &Summary) -> Option<Finding> {
    let lost = s.end.as_ref().map_or(0, |end| end.rows_lost);
    (lost > 0).then_some(Finding::RowsLost { requests: lost })
}

fn little(s: &Summary) -> Option<Finding> {
    let sent = s.counts.sent() as f64;
    let mean = s.concurrency.mean?;
    let expected = sent / s.time_s? * s.concurrency.mean_stay_s?;
    let apart = (mean - expected).abs() / expected.max(f64::MIN_POSITIVE);
    (expected > 0.0 && apart > LITTLE_TOLERANCE).then_some(Finding::LittlesLaw { mean, expected })
}

fn cap_exceeded(s: &Summary) -> Option<Finding> {
    let cap = s.facts.parallel?;
    (s.concurrency.peak > cap).then_some(Finding::CapExceeded { peak: s.concurrency.peak, parallel: cap })
}

fn broken_conversations(s: &Summary) -> Option<Finding> {
    let turns = s.turns.as_ref().filter(|turns| turns.broken > 0)?;
    Some(Finding::BrokenConversations { broken: turns.broken, begun: turns.begun })
}

fn send_lag(s: &Summary) -> Option<Finding> {
    let lag = s.client.own_send_lag;
    let ttft_ns = s.series.ttft_s.value(500)? * 1e9;
    let p99 = lag.p99 as f64;
    if p99 <= SEND_LAG_NS.max(SEND_LAG_OF_TTFT * ttft_ns) {
        return None;
    }
    let own = p99 > SEND_LAG_VOID_NS.max(SEND_LAG_OF_TTFT_VOID * ttft_ns);
    let severity = if own { Severity::Void } else { Severity::Caution };
    Some(Finding::SendLag { severity, p99_ns: lag.p99, median_ttft_ns: ttft_ns as u64 })
}

fn rate_kept(s: &Summary) -> Option<Finding> {
    if s.facts.mode != Mode::Open {
        return None;
    }
    let (offered_per_s, sent_per_s) = (s.rates.offered_per_s?, s.rates.sent_per_s?);
    if (sent_per_s - offered_per_s).abs() <= RATE_TOLERANCE * offered_per_s {
        return None;
    }
    // More cores cannot mend what the server, or a limit of this process, refused.
    Some(match outcome::never_on_the_wire(s) {
        0 => Finding::RateNotKept { offered_per_s, sent_per_s },
        requests => Finding::RateWithoutConnections { offered_per_s, sent_per_s, requests },
    })
}

fn growth(s: &Summary) -> Option<Finding> {
    // An open loop that was cut off, or whose requests all came before the first answer had ended, grows by itself. The
    // shortest answer is taken, because those of a server that cannot follow get longer and longer.
    let cut_off = s.end.as_ref().is_none_or(|end| end.interrupted);
    if s.facts.mode != Mode::Open || s.facts.ramp_ns > 0 || cut_off {
        return None;
    }
    if s.concurrency.due_span_s? < SPAN_OF_ANSWERS * s.series.latency_s.min? {
        return None;
    }
    // The first part is left out: it fills an empty server. Random arrivals scatter by about the square root.
    let [_, early, b, c, late] = s.concurrency.parts?;
    let grows =
        early <= b && b <= c && c <= late && late > GROWTH * early && late - early > 3.0 * early.sqrt().max(1.0);
    grows.then_some(Finding::Growth { early, late })
}

fn offered_concurrency(s: &Summary) -> Option<Finding> {
    let parallel = s.facts.parallel?;
    let cap = f64::from(parallel);
    // With few waves the time between the first and the last request sent is mostly their beginning.
    let steady = s.facts.ramp_ns == 0 && !s.facts.conversations.is_some_and(|conversations| conversations.thinks);
    // Of a run that was killed, what was in flight is missing.
    let stored = s.end.is_some();
    let enough = s.facts.mode == Mode::Closed && steady && stored && s.counts.ok as f64 >= 4.0 * cap;
    let mean = s.concurrency.mean_while_sending?;
    (enough && mean < OFFERED_CONCURRENCY * cap).then_some(Finding::IdleSlots { mean, parallel })
}

fn receive_lag(s: &Summary) -> Option<Finding> {
    let itl_ns = s.series.itl_s.value(500)? * 1e9;
    let lag = s.client.receive_lag;
    if lag.count == 0 || lag.p99 as f64 <= RECEIVE_LAG_OF_ITL * itl_ns {
        return None;
    }
    let (p99_ns, median_itl_ns) = (lag.p99, itl_ns as u64);
    let unstamped_share = 1.0 - s.client.stamped_reads.unwrap_or(0.0);
    Some(if unstamped_share <= UNSTAMPED_READS {
        Finding::ReceiveLag { p99_ns, median_itl_ns, shared_timestamps: s.own_error.doubtful.is_some() }
    } else {
        Finding::ReceiveLagUnstamped { p99_ns, median_itl_ns, unstamped_share }
    })
}

fn unstamped(s: &Summary) -> Option<Finding> {
    let unstamped = 1.0 - s.client.stamped_reads?;
    (unstamped > UNSTAMPED_READS).then_some(Finding::NoTimestamps { share: unstamped })
}

fn coalesced(s: &Summary) -> Option<Finding> {
    let share = s.client.coalesced_reads?;
    (share > COALESCED_READS).then_some(Finding::CoalescedReads { share })
}

fn at_once(s: &Summary) -> Option<Finding> {
    (s.series.tpot_s.value(500) == Some(0.0)).then_some(Finding::AtOnce)
}

fn unknown_tokens(s: &Summary) -> Option<Finding> {
    let unknown = s.counts.unknown_tokens;
    if unknown == 0 {
        return None;
    }
    Some(if unknown == s.counts.ok {
        Finding::NoTokenCounts
    } else {
        Finding::TokenCountsMissing { missing: unknown, answers: s.counts.ok }
    })
}

fn switches(s: &Summary) -> Option<Finding> {
    if s.client.wall_ns < SWITCHES_WITHIN_NS || s.client.involuntary_switches < SWITCHES {
        return None;
    }
    let per_s = s.client.involuntary_switches as f64 * 1e9 / s.client.wall_ns as f64;
    (per_s > SWITCHES_PER_S).then_some(Finding::ForcedSwitches { per_worker_per_s: per_s })
}

fn retries(s: &Summary) -> Option<Finding> {
    (s.client.retried > 0).then_some(Finding::Retried { requests: s.client.retried })
}

fn worker_cpu(s: &Summary, workers: &[&WorkerReport]) -> Option<Finding> {
    // A worker that polls is always busy; its lags tell whether it keeps up.
    if s.facts.spin {
        return None;
    }
    let busy = workers
        .iter()
        .filter(|w| w.wall_ns >= 100 * MS && (w.cpu_user_ns + w.cpu_system_ns) as f64 > WORKER_CPU * w.wall_ns as f64)
        .count();
    let max_share = s.client.cpu_max?;
    let workers = workers.len();
    (busy > 0).then_some(Finding::BusyWorkers { busy, workers, limit_share: WORKER_CPU, max_share })
}

fn resources(s: &Summary) -> Vec<Finding> {
    let mut found = Vec::new();
    if s.client.unpinned_workers > 0 {
        found.push(Finding::WorkersNotPinned { workers: s.client.unpinned_workers });
    }
    if s.client.buffer_shortages > 0 {
        found.push(Finding::BufferShortages { shortages: s.client.buffer_shortages });
    }
    found
}
