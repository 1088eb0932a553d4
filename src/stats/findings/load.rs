//! Findings about the load: whether it was the one asked for, and what decides the throughput.

use crate::finding::{Finding, Severity};
use crate::record::Finish;
use crate::record::facts::Mode;
use crate::stats::samples::{Sample, Samples};
use crate::stats::summary::Summary;
use crate::time::MS;

/// Fewer requests say nothing about a rate.
const FEWEST: usize = 10;
/// Waits for a slot say something with fewer.
const FEWEST_WAITS: usize = 4;
/// A rate of which a smaller share was sent was not kept.
const KEPT: f64 = 0.95;
/// A shorter wait for a slot is the client's own lag, nanoseconds.
const WAIT_NS: u64 = MS;
/// Waits for a slot of a larger share of the mean latency are reported even if the rate was kept.
const WAIT_OF_LATENCY: f64 = 0.10;
/// Tolerated difference between scheduled requests and rate times time: this share, or twice the standard deviation of a
/// Poisson process if that is more.
const SCHEDULE_TOLERANCE: f64 = 0.05;
/// Total throughput below this share of the steady one is reported, and below the second it is a Caution.
const TAIL: f64 = 0.90;
const TAIL_CAUTION: f64 = 0.75;
/// A request that is in flight for this many times the median is a straggler. Stragglers are reported if they are at most
/// this share of the requests and occupy more than this share of the slots' time.
const STRAGGLER: u64 = 10;
const FEW_STRAGGLERS: f64 = 0.10;
const SLOT_TIME: f64 = 0.10;
/// A larger share of input tokens from the server's cache is reported.
const CACHED: f64 = 0.01;

/// A schedule that the limit on requests in flight delayed.
pub fn rate_held_back(s: &Summary, samples: &Samples) -> Option<Finding> {
    let parallel = s.facts.parallel.filter(|_| s.facts.mode == Mode::Paced)?;
    let sent = || samples.iter().filter(|sample| sample.write_start.is_some());
    let sent_count = sent().count();
    if sent_count < FEWEST_WAITS {
        return None;
    }
    let (offered_per_s, sent_per_s) = (s.rates.offered_per_s?, s.rates.sent_per_s?);
    let waits_ns = || sent().map(|sample| sample.pick_lag.unwrap_or(0)).filter(|&ns| ns > WAIT_NS);
    let held_share = waits_ns().count() as f64 / sent_count as f64;
    let mean_wait_ns = waits_ns().sum::<u64>() as f64 / sent_count as f64;
    let is_kept = sent_per_s >= KEPT * offered_per_s;
    if held_share == 0.0 || (is_kept && mean_wait_ns / 1e9 <= WAIT_OF_LATENCY * s.series.latency_s.mean?) {
        return None;
    }
    // By Little's law.
    let needed = (offered_per_s * s.series.service_latency_s.mean?).ceil() as u32;
    Some(Finding::RateHeldBack {
        severity: if is_kept { Severity::Note } else { Severity::Caution },
        offered_per_s,
        sent_per_s,
        parallel,
        held_share,
        mean_wait_ns: mean_wait_ns as u64,
        needed: needed.max(parallel.saturating_add(1)),
    })
}

/// A random schedule that offered clearly more or less than its rate.
pub fn schedule_count(s: &Summary, samples: &Samples) -> Option<Finding> {
    let facts = &s.facts;
    let random = matches!(facts.arrival.as_deref(), Some(law) if law != "trace" && law != "burst");
    // A ramp changes the rate, and the schedule of conversations has their first turns only.
    if !random || facts.ramp_ns > 0 || facts.conversations.is_some() || samples.len() < FEWEST {
        return None;
    }
    let rate_per_s = facts.rate_per_s?;
    let (requests, span_s) = (samples.len() as u64 - 1, s.concurrency.due_span_s?);
    let expected = rate_per_s * span_s;
    let tolerance = (SCHEDULE_TOLERANCE * expected).max(2.0 * expected.max(requests as f64).sqrt());
    let apart = (requests as f64 - expected).abs() > tolerance;
    apart.then_some(Finding::ScheduleCount { requests, expected, rate_per_s, span_s })
}

/// A few requests at the end of the run that lower its throughput.
pub fn tail(s: &Summary) -> Option<Finding> {
    let steady = s.steady_throughput.as_ref()?;
    let (total_per_s, steady_per_s) = (s.throughput.requests_per_s?, steady.throughput.requests_per_s?);
    let lost = 1.0 - total_per_s / steady_per_s;
    let share = steady.tail_s / s.time_s?;
    // Otherwise, start-up or a ramp lowers it.
    let is_tail = share >= lost / 2.0 && steady.waiting > 0;
    (is_tail && total_per_s < TAIL * steady_per_s).then_some(Finding::Tail {
        severity: if total_per_s < TAIL_CAUTION * steady_per_s { Severity::Caution } else { Severity::Note },
        tail_s: steady.tail_s,
        share,
        requests: steady.waiting,
        total_per_s,
        steady_per_s,
    })
}

/// Requests that occupied their slots for so long that the throughput of a closed loop is lower.
pub fn stragglers(s: &Summary, samples: &Samples) -> Option<Finding> {
    let stay_ns = |sample: Sample| Some(sample.end.saturating_sub(sample.write_start?));
    let mut stays_ns: Vec<u64> = samples.iter().filter_map(stay_ns).collect();
    stays_ns.sort_unstable();
    // A hanging request may fail, but quick refusals are no measure of what is long.
    let mut answered_ns: Vec<u64> = samples.iter().filter(|sample| sample.ok).filter_map(stay_ns).collect();
    answered_ns.sort_unstable();
    if s.facts.mode != Mode::Closed || answered_ns.len() < FEWEST || tail(s).is_some() {
        return None;
    }
    let (median_ns, longest_ns) = (answered_ns[answered_ns.len() / 2], *stays_ns.last()?);
    let long = &stays_ns[stays_ns.partition_point(|&ns| ns < STRAGGLER.saturating_mul(median_ns.max(1)))..];
    let share = long.iter().sum::<u64>() as f64 / stays_ns.iter().sum::<u64>() as f64;
    let requests = long.len() as u64;
    let few = requests as f64 <= FEW_STRAGGLERS * stays_ns.len() as f64;
    (few && share > SLOT_TIME).then_some(Finding::Stragglers { requests, share, longest_ns, median_ns })
}

/// Answers that ended early although `ignore_eos` asks for their full length.
pub fn short_answers(s: &Summary, samples: &Samples) -> Option<Finding> {
    if !s.facts.ignore_eos {
        return None;
    }
    let least = s.facts.full_answer_tokens;
    let is_short = |sample: &Sample| {
        let too_few = |tokens: u32| least.is_some_and(|least| tokens < least);
        sample.ok && (sample.finish == Finish::Stop || sample.output_tokens.is_some_and(too_few))
    };
    let short = samples.iter().filter(is_short).count() as u64;
    (short > 0).then_some(Finding::ShortAnswers {
        short,
        answers: s.counts.ok,
        asked_tokens: least,
        mean_tokens: s.series.output_tokens.mean,
    })
}

/// Input that the server did not compute but had in its prefix cache.
pub fn cached_tokens(s: &Summary) -> Option<Finding> {
    let by_metrics = s.cached_share.is_none();
    // Without a witness, all requests between the scrapes are those of the run, unless others use the server as well.
    let share = s.cached_share.or(s.server.as_ref().and_then(|server| server.cached_share));
    let share = share.filter(|&share| share >= CACHED)?;
    let shares_nothing = s.facts.distinct_prompts;
    let severity = if shares_nothing { Severity::Caution } else { Severity::Note };
    Some(Finding::CachedTokens { severity, share, shares_nothing, by_metrics })
}
