//! Findings about the figures of a run: what was observed, how severe it is, and what to do.

mod outcome;

use super::format::percent;
use super::samples::Sample;
use super::summary::Summary;
use super::{measurement_error, reconcile, server_timings, steady, witness};
use crate::record::WorkerReport;
use crate::record::facts::Mode;
use crate::record::finding::{Finding, Severity};
use crate::time::{MS, US, format_ns};

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

type Check = fn(&Summary) -> Option<Finding>;

/// Every finding about a run and its measured requests, which are sorted by due time. `workers` are the reports of the
/// measured phase.
pub fn compute(summary: &Summary, workers: &[&WorkerReport], samples: &[Sample]) -> Vec<Finding> {
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
    found.extend(steady::findings(&summary.facts, samples));
    // The finding about send lag says what to do; the bounds that follow from it would only repeat it.
    let mut reported = summary.findings.iter().chain(&found);
    let late_sends = reported.any(|finding| finding.code == "send_lag" && finding.severity > Severity::Note);
    found.extend(measurement_error::findings(&summary.measurement_error, &summary.series, late_sends));
    found.extend(summary.server_timings.iter().flat_map(server_timings::findings));
    found.extend(summary.witness.iter().flat_map(witness::findings));
    found.extend(summary.server.iter().flat_map(reconcile::findings));
    found
}

fn totals(s: &Summary) -> Option<Finding> {
    let c = s.counts;
    let accounted = c.ok + c.failed + c.unfinished + c.unsent + c.unknown;
    (accounted != c.scheduled).then(|| {
        Finding::void(
            "totals",
            format!(
                "{} requests were scheduled but {accounted} are accounted for: records were lost. Run again; if it \
                 happens again, report it as a bug.",
                c.scheduled
            ),
        )
    })
}

fn rows_lost(s: &Summary) -> Option<Finding> {
    let lost = s.end.as_ref().map_or(0, |end| end.rows_lost);
    (lost > 0).then(|| {
        Finding::void(
            "store",
            format!("{lost} requests could not be written to the database. Make room on its disk and run again."),
        )
    })
}

fn little(s: &Summary) -> Option<Finding> {
    let sent = s.counts.sent() as f64;
    let mean = s.concurrency.mean?;
    let expected = sent / s.time_s? * s.concurrency.mean_stay_s?;
    let apart = (mean - expected).abs() / expected.max(f64::MIN_POSITIVE);
    (expected > 0.0 && apart > LITTLE_TOLERANCE).then(|| {
        Finding::void(
            "little",
            format!(
                "Little's law does not hold: {mean:.2} requests were in flight on average, rate times latency gives \
                 {expected:.2}. Records were lost or instants are wrong; run again and report it as a bug."
            ),
        )
    })
}

fn cap_exceeded(s: &Summary) -> Option<Finding> {
    let cap = s.facts.parallel?;
    (s.concurrency.peak > cap).then(|| {
        Finding::void(
            "cap",
            format!(
                "{} requests were in flight at once, --parallel allows {cap}. Report it as a bug.",
                s.concurrency.peak
            ),
        )
    })
}

fn broken_conversations(s: &Summary) -> Option<Finding> {
    let turns = s.turns.as_ref().filter(|turns| turns.broken > 0)?;
    Some(Finding::note(
        "conversations",
        format!(
            "{} of {} conversations ended with a failed turn: what was to come after it counts as unsent.",
            turns.broken, turns.begun
        ),
    ))
}

fn send_lag(s: &Summary) -> Option<Finding> {
    let lag = s.client.own_send_lag;
    let ttft_ns = s.series.ttft_s.value(500)? * 1e9;
    let p99 = lag.p99 as f64;
    if p99 <= SEND_LAG_NS.max(SEND_LAG_OF_TTFT * ttft_ns) {
        return None;
    }
    let text = format!(
        "1 % of the requests left us more than {} late (median time to first token {}). It is part of TTFT and \
         latency. Give more --workers or cores, lower the rate, or use --spin.",
        format_ns(lag.p99),
        format_ns(ttft_ns as u64)
    );
    let own = p99 > SEND_LAG_VOID_NS.max(SEND_LAG_OF_TTFT_VOID * ttft_ns);
    Some(if own { Finding::void("send_lag", text) } else { Finding::caution("send_lag", text) })
}

fn rate_kept(s: &Summary) -> Option<Finding> {
    if s.facts.mode != Mode::Open {
        return None;
    }
    let (offered, sent) = (s.rates.offered_per_s?, s.rates.sent_per_s?);
    if (sent - offered).abs() <= RATE_TOLERANCE * offered {
        return None;
    }
    // More cores do not help if the server, or a limit of this process, refused connections.
    let lost = outcome::never_on_the_wire(s);
    let text = if lost > 0 {
        format!(
            "The schedule offered {offered:.2} requests/s, {sent:.2} went onto the wire: {} left without a \
             connection. The table of failures says why.",
            outcome::were(lost)
        )
    } else {
        format!(
            "The schedule offered {offered:.2} requests/s, {sent:.2} went onto the wire. Give more --workers or \
             cores, or lower the rate."
        )
    };
    Some(Finding::caution("rate", text))
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
    grows.then(|| {
        Finding::caution(
            "growth",
            format!(
                "Requests in flight grew through the run, from {early:.1} to {late:.1}: the arrival rate exceeds \
                 capacity, and the figures depend on how long the run was. Lower --rate."
            ),
        )
    })
}

fn offered_concurrency(s: &Summary) -> Option<Finding> {
    let cap = f64::from(s.facts.parallel?);
    // With few waves, most of the time between the first and the last send is start-up.
    let steady = s.facts.ramp_ns == 0 && !s.facts.conversations.is_some_and(|conversations| conversations.thinks);
    // If the run was killed, the requests in flight are not stored.
    let stored = s.end.is_some();
    let enough = s.facts.mode == Mode::Closed && steady && stored && s.counts.ok as f64 >= 4.0 * cap;
    let mean = s.concurrency.mean_while_sending?;
    (enough && mean < OFFERED_CONCURRENCY * cap).then(|| {
        Finding::caution(
            "concurrency",
            format!(
                "On average {mean:.1} requests were in flight while --parallel asked for {cap}: between two requests \
                 a lane stood idle (turnaround below). Give more --workers or cores."
            ),
        )
    })
}

fn receive_lag(s: &Summary) -> Option<Finding> {
    let itl_ns = s.series.itl_s.value(500)? * 1e9;
    let lag = s.client.receive_lag;
    if lag.count == 0 || lag.p99 as f64 <= RECEIVE_LAG_OF_ITL * itl_ns {
        return None;
    }
    let seen = format!(
        "1 % of the reads were looked at more than {} after they had arrived (median ITL {}).",
        format_ns(lag.p99),
        format_ns(itl_ns as u64)
    );
    let unstamped = 1.0 - s.client.stamped_reads.unwrap_or(0.0);
    Some(if unstamped <= UNSTAMPED_READS {
        let stands = match s.measurement_error.doubtful {
            None => "Arrivals are the kernel's stamps, so the figures stand; only our next sends are later for it.",
            Some(_) => {
                "Arrivals are the kernel's stamps, but tokens that came in one read share the last one's: see the \
                 bounds of ITL."
            }
        };
        Finding::note("receive_lag", format!("{seen} {stands}"))
    } else {
        Finding::caution(
            "receive_lag",
            format!(
                "{seen} {} of the reads have no kernel stamp and carry this error. Give more --workers or cores.",
                percent(unstamped)
            ),
        )
    })
}

fn unstamped(s: &Summary) -> Option<Finding> {
    let unstamped = 1.0 - s.client.stamped_reads?;
    (unstamped > UNSTAMPED_READS).then(|| {
        Finding::note(
            "stamps",
            format!(
                "{} of the reads came without the kernel's receive stamp (Unix sockets never have one): their \
                 arrival is the instant we saw them, late by the receive lag.",
                percent(unstamped)
            ),
        )
    })
}

fn coalesced(s: &Summary) -> Option<Finding> {
    let share = s.client.coalesced_reads?;
    (share > COALESCED_READS).then(|| {
        Finding::caution(
            "coalesced",
            format!(
                "{} of the reads carried two or more output events: the server, or a proxy before it, sends them \
                 together, or they queued up on the way. Events of one read share one instant, so low ITL \
                 percentiles are 0; TPOT and latency are not touched.",
                percent(share)
            ),
        )
    })
}

fn at_once(s: &Summary) -> Option<Finding> {
    (s.series.tpot_s.value(500) == Some(0.0)).then(|| {
        Finding::caution(
            "at_once",
            "At least half of the answers came all at once, though they have several tokens: TPOT is 0 because nothing \
             was seen of the time between them, and TTFT is the whole latency. The server, or a proxy before it, holds \
             text back.",
        )
    })
}

fn unknown_tokens(s: &Summary) -> Option<Finding> {
    let unknown = s.counts.unknown_tokens;
    if unknown == 0 {
        return None;
    }
    Some(if unknown == s.counts.ok {
        Finding::note("tokens", "The server sent no token counts; figures that need them are shown as '-'.")
    } else {
        Finding::caution(
            "tokens",
            format!(
                "{unknown} of {} answers came without token counts: token throughput is a lower bound, and figures \
                 per request are those of the others.",
                s.counts.ok
            ),
        )
    })
}

fn switches(s: &Summary) -> Option<Finding> {
    if s.client.wall_ns < SWITCHES_WITHIN_NS || s.client.involuntary_switches < SWITCHES {
        return None;
    }
    let per_s = s.client.involuntary_switches as f64 * 1e9 / s.client.wall_ns as f64;
    (per_s > SWITCHES_PER_S).then(|| {
        Finding::caution(
            "switches",
            format!(
                "The workers were pushed off their cores {per_s:.0} times a second each: something else runs there. \
                 Stop it, or choose quiet --cores."
            ),
        )
    })
}

fn retries(s: &Summary) -> Option<Finding> {
    (s.client.retried > 0).then(|| {
        Finding::note(
            "retried",
            format!(
                "{} sent again on a fresh connection, because the server had closed the reused one without a word.",
                outcome::were(s.client.retried)
            ),
        )
    })
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
    let max = s.client.cpu_max?;
    (busy > 0).then(|| {
        Finding::caution(
            "worker_cpu",
            format!(
                "{busy} of {} workers used more than {} of their core (the busiest {}): they may hold the server up. \
                 Give more --workers or cores.",
                workers.len(),
                percent(WORKER_CPU),
                percent(max)
            ),
        )
    })
}

fn resources(s: &Summary) -> Vec<Finding> {
    let mut found = Vec::new();
    if s.client.unpinned_workers > 0 {
        found.push(Finding::note(
            "pinning",
            format!(
                "{} could not be pinned to a core; choose --cores that exist.",
                match s.client.unpinned_workers {
                    1 => "1 worker".to_string(),
                    several => format!("{several} workers"),
                }
            ),
        ));
    }
    if s.client.buffer_shortages > 0 {
        found.push(Finding::note(
            "buffers",
            format!(
                "The receive ring ran out of buffers {} times: bytes waited in the kernel, stamps are not touched.",
                s.client.buffer_shortages
            ),
        ));
    }
    found
}
