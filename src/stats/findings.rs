//! Findings about the figures of a run: what was observed, how severe it is, and what to do.

mod load;
mod outcome;

use super::samples::Samples;
use super::summary::Summary;
use super::{measurement_error, network, reconcile, server_timings, steady, witness};
use crate::finding::{Finding, Oddity, OddityCount, Severity};
use crate::record::WorkerReport;
use crate::record::facts::Mode;
use crate::time::{MS, US};

/// p99 of the client's own send lag above this many nanoseconds, and above [`SEND_LAG_OF_TTFT`] of the median TTFT, is
/// reported.
const SEND_LAG_NS: f64 = 100.0 * US as f64;
const SEND_LAG_OF_TTFT: f64 = 0.01;
/// Above this share of the median TTFT the send lag makes a run void, if it is also above [`SEND_LAG_VOID_NS`], so that
/// a single page fault does not.
const SEND_LAG_OF_TTFT_VOID: f64 = 0.5;
const SEND_LAG_VOID_NS: f64 = 10.0 * MS as f64;
/// Tolerated relative difference between sent and scheduled rate.
const RATE_TOLERANCE: f64 = 0.01;
/// A worker with a higher CPU share has no reserve for bursts.
const WORKER_CPU: f64 = 0.70;
/// p99 of the receive lag above this share of the median ITL is reported.
const RECEIVE_LAG_OF_ITL: f64 = 0.05;
/// A larger share of reads with two or more events is reported.
const COALESCED_READS: f64 = 0.05;
/// A larger share of reads without a kernel timestamp is reported.
const UNSTAMPED_READS: f64 = 0.001;
/// Tolerated relative difference between mean in flight and rate times latency.
const LITTLE_TOLERANCE: f64 = 0.005;
/// Growth of the requests in flight over an open loop that is reported.
const GROWTH: f64 = 1.5;
/// Growth is reported only if the due times span this many latencies: the first fifth, which fills the server, is
/// excluded.
const SPAN_OF_ANSWERS: f64 = 5.0;
/// Involuntary context switches of a worker per second.
const SWITCHES_PER_S: f64 = 50.0;
/// Fewer switches, or switches in a shorter time, are not reported.
const SWITCHES: u64 = 20;
const SWITCHES_WITHIN_NS: u64 = 100 * MS;
/// Below this share of `--parallel`, a closed loop did not keep its concurrency.
const OFFERED_CONCURRENCY: f64 = 0.95;

/// A wider range of the mean TPOT is reported, as a share of its upper end.
const TPOT_RANGE: f64 = 0.005;
/// If the client kept a slot idle for a smaller share of the latency, it is not the reason for idle slots.
const TURNAROUND_OF_LATENCY: f64 = 0.01;

type Check = fn(&Summary) -> Option<Finding>;

/// Every finding about a run and its measured requests, which are sorted by due time. `workers` are the reports of the
/// measured phase.
pub(crate) fn compute(summary: &Summary, workers: &[&WorkerReport], samples: &Samples) -> Vec<Finding> {
    let checks: [Check; 27] = [
        totals,
        rows_lost,
        little,
        cap_exceeded,
        outcome::ended,
        outcome::aborted,
        outcome::failures,
        outcome::stream_options_refused,
        outcome::unfinished,
        broken_conversations,
        send_lag,
        built_late,
        rate_kept,
        growth,
        offered_concurrency,
        load::tail,
        load::cached_tokens,
        receive_lag,
        unstamped,
        coalesced,
        at_once,
        several_tokens,
        odd_responses,
        tpot_range,
        unknown_tokens,
        switches,
        retries,
    ];
    let mut found: Vec<Finding> = checks.iter().filter_map(|check| check(summary)).collect();
    found.extend(load::short_answers(summary, samples));
    // What compares requests at different times.
    if summary.one_clock {
        found.extend(load::rate_held_back(summary, samples));
        found.extend(load::schedule_count(summary, samples));
        found.extend(load::stragglers(summary, samples));
        found.extend(steady::findings(&summary.facts, samples));
    }
    found.extend(worker_cpu(summary, workers));
    found.extend(resources(summary));
    // The finding about send lag says what to do; the bounds that follow from it would only repeat it.
    let mut reported = summary.findings.iter().chain(&found);
    let late_sends =
        reported.any(|finding| matches!(finding, Finding::SendLag { .. } | Finding::RequestsBuiltLate { .. }));
    found.extend(measurement_error::findings(&summary.measurement_error, &summary.series, late_sends));
    found.extend(summary.network.as_ref().and_then(network::findings));
    found.extend(summary.witness.iter().flat_map(witness::findings));
    let compared: Vec<Finding> = summary.server.iter().flat_map(reconcile::findings).collect();
    // What the server says of itself in its metrics and in its answers has one cause.
    if !compared.iter().any(|finding| matches!(finding, Finding::ServerApart { .. })) {
        found.extend(summary.server_timings.as_ref().and_then(server_timings::findings));
    }
    found.extend(compared);
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
    let expected = (sent * s.concurrency.mean_stay_s? + s.concurrency.warmup_stay_s) / s.time_s?;
    let apart = (mean - expected).abs() / expected.max(f64::MIN_POSITIVE);
    (expected > 0.0 && apart > LITTLE_TOLERANCE).then_some(Finding::LittlesLaw { mean, expected })
}

fn cap_exceeded(s: &Summary) -> Option<Finding> {
    let (cap, peak) = (s.facts.parallel?, s.concurrency.peak?);
    (peak > cap).then_some(Finding::CapExceeded { peak, parallel: cap })
}

fn broken_conversations(s: &Summary) -> Option<Finding> {
    let turns = s.turns.as_ref().filter(|turns| turns.broken > 0)?;
    Some(Finding::BrokenConversations { broken: turns.broken, begun: turns.begun })
}

/// The median TTFT, nanoseconds, or that of the latency if nothing was streamed, and whether it is the latter.
fn median_first_output_ns(s: &Summary) -> Option<(f64, bool)> {
    // Without streaming the whole response arrives at once.
    let ttft_s = s.series.ttft_s.value(500);
    Some((ttft_s.or(s.series.latency_s.value(500))? * 1e9, ttft_s.is_none()))
}

/// Most of the send lag is the wait for bodies that were built late, so more workers do not help.
fn is_late_by_bodies(s: &Summary) -> bool {
    s.client.body_wait.p99 as f64 > s.client.own_send_lag.p99 as f64 / 2.0
}

fn send_lag(s: &Summary) -> Option<Finding> {
    let lag = s.client.own_send_lag;
    let (ttft_ns, of_latency) = median_first_output_ns(s)?;
    let p99 = lag.p99 as f64;
    if p99 <= SEND_LAG_NS.max(SEND_LAG_OF_TTFT * ttft_ns) {
        return None;
    }
    let own = p99 > SEND_LAG_VOID_NS.max(SEND_LAG_OF_TTFT_VOID * ttft_ns);
    let severity = if own { Severity::Void } else { Severity::Caution };
    if is_late_by_bodies(s) {
        // Reported with its own cause.
        return None;
    }
    Some(Finding::SendLag { severity, p99_ns: lag.p99, median_ttft_ns: ttft_ns as u64, of_latency })
}

fn built_late(s: &Summary) -> Option<Finding> {
    let waits = s.client.body_wait;
    let (ttft_ns, of_latency) = median_first_output_ns(s)?;
    if waits.max as f64 <= SEND_LAG_NS.max(SEND_LAG_OF_TTFT * ttft_ns) {
        return None;
    }
    let void = waits.p99 as f64 > SEND_LAG_VOID_NS.max(SEND_LAG_OF_TTFT_VOID * ttft_ns);
    Some(Finding::RequestsBuiltLate {
        severity: if void { Severity::Void } else { Severity::Caution },
        requests: s.client.late_bodies,
        max_ns: waits.max,
        median_ttft_ns: ttft_ns as u64,
        of_latency,
    })
}

fn rate_kept(s: &Summary) -> Option<Finding> {
    if s.facts.mode != Mode::Open {
        return None;
    }
    let (offered_per_s, sent_per_s) = (s.rates.offered_per_s?, s.rates.sent_per_s?);
    if (sent_per_s - offered_per_s).abs() <= RATE_TOLERANCE * offered_per_s {
        return None;
    }
    // One cause: the bodies of the requests that are missing in the rate.
    if is_late_by_bodies(s) && built_late(s).is_some() {
        return None;
    }
    // More cores do not help if the server, or a limit of this process, refused connections.
    Some(match outcome::never_on_the_wire(s) {
        0 => Finding::RateNotKept { offered_per_s, sent_per_s },
        requests => Finding::RateWithoutConnections { offered_per_s, sent_per_s, requests },
    })
}

fn growth(s: &Summary) -> Option<Finding> {
    // The requests in flight always grow if the run was cut off, or if all requests were due before the first response
    // ended. The shortest latency is used, because latencies of an overloaded server keep growing.
    let cut_off = s.end.as_ref().is_none_or(|end| end.interrupted);
    if s.facts.mode != Mode::Open || s.facts.ramp_ns > 0 || cut_off {
        return None;
    }
    if s.concurrency.due_span_s? < SPAN_OF_ANSWERS * s.series.latency_s.min? {
        return None;
    }
    // The first part is excluded because it fills the idle server. Random arrivals scatter by about the square root.
    let [_, early, b, c, late] = s.concurrency.parts?;
    let grows =
        early <= b && b <= c && c <= late && late > GROWTH * early && late - early > 3.0 * early.sqrt().max(1.0);
    grows.then_some(Finding::Growth { early, late })
}

fn offered_concurrency(s: &Summary) -> Option<Finding> {
    let parallel = s.facts.parallel?;
    let cap = f64::from(parallel);
    // With few waves, most of the time between the first and the last send is start-up.
    let steady = s.facts.ramp_ns == 0 && !s.facts.conversations.is_some_and(|conversations| conversations.thinks);
    // If the run was killed, the requests in flight are not stored.
    let stored = s.end.is_some();
    let enough = s.facts.mode == Mode::Closed && steady && stored && s.counts.ok as f64 >= 4.0 * cap;
    let mean = s.concurrency.mean_while_sending?;
    if !enough || mean >= OFFERED_CONCURRENCY * cap {
        return None;
    }
    // A conversation is in one slot at a time, so slots are idle when fewer conversations are left.
    let turnaround_s = s.client.turnaround.p50 as f64 / 1e9;
    let prompt =
        s.series.latency_s.value(500).is_some_and(|latency_s| turnaround_s <= TURNAROUND_OF_LATENCY * latency_s);
    Some(match s.facts.conversations {
        Some(_) if prompt => Finding::FewConversations { mean, parallel },
        _ => Finding::IdleSlots { mean, parallel },
    })
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
        let shared_timestamps = s.measurement_error.doubtful.is_some();
        Finding::ReceiveLag { p99_ns, median_itl_ns, shared_timestamps }
    } else {
        Finding::ReceiveLagUnstamped { p99_ns, median_itl_ns, unstamped_share }
    })
}

fn unstamped(s: &Summary) -> Option<Finding> {
    let unstamped = 1.0 - s.client.stamped_reads?;
    (unstamped > UNSTAMPED_READS).then_some(Finding::NoTimestamps { share: unstamped })
}

fn coalesced(s: &Summary) -> Option<Finding> {
    // Then TPOT is affected as well.
    let share = s.client.coalesced_reads.filter(|_| at_once(s).is_none())?;
    let poll_gaps = s.measurement_error.doubtful.is_some();
    (share > COALESCED_READS).then_some(Finding::CoalescedReads { share, poll_gaps })
}

fn at_once(s: &Summary) -> Option<Finding> {
    (s.series.tpot_s.value(500) == Some(0.0)).then_some(Finding::AtOnce)
}

/// An event carries several tokens, rather than that tokens have no event: by the pace of the events, a token takes a part of
/// the time between two events, not all of it.
fn several_tokens(s: &Summary) -> Option<Finding> {
    let tokens_per_event = s.tokens_per_event?;
    let (itl_s, tpot_s) = (s.series.itl_s.value(500)?, s.series.tpot_s.value(500)?);
    // The middle of the two, as a ratio. A TPOT of 0 is not known.
    if tpot_s == 0.0 || tpot_s * tokens_per_event.sqrt() >= itl_s {
        return None;
    }
    let range = wide_tpot_range(s);
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    Some(Finding::SeveralTokensPerEvent {
        tokens_per_event,
        median_itl_ns: ns(itl_s),
        median_tpot_ns: ns(tpot_s),
        mean_low_ns: range.map(|(low_s, _)| ns(low_s)),
        mean_high_ns: range.map(|(_, high_s)| ns(high_s)),
    })
}

fn odd_responses(s: &Summary) -> Option<Finding> {
    let counts = s.counts.oddities.into_iter().zip(Oddity::ALL).filter(|(responses, _)| *responses > 0);
    let oddities: Vec<OddityCount> = counts.map(|(responses, oddity)| OddityCount { oddity, responses }).collect();
    (!oddities.is_empty()).then_some(Finding::OddResponses { oddities, succeeded: s.counts.ok })
}

/// The mean ends of TPOT, seconds, unless the range is too narrow to matter.
fn wide_tpot_range(s: &Summary) -> Option<(f64, f64)> {
    let range = s.series.tpot_range.as_ref()?;
    let (low_s, high_s) = (range.low_s.mean?, range.high_s.mean?);
    (high_s - low_s > TPOT_RANGE * high_s).then_some((low_s, high_s))
}

fn tpot_range(s: &Summary) -> Option<Finding> {
    // One cause: that finding has the range as well.
    if several_tokens(s).is_some() {
        return None;
    }
    let (requests, value_s) = (s.series.tpot_range.as_ref()?.requests, s.series.tpot_s.mean?);
    let (low_s, high_s) = wide_tpot_range(s)?;
    Some(Finding::TpotRange { requests, succeeded: s.counts.ok, value_s, low_s, high_s })
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
    // A worker that spins is always busy; its lags show whether it keeps up.
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
