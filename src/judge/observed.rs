//! What a client did, from the server's records.

use std::collections::HashSet;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::Asked;
use crate::mock::Truth;
use crate::time::Tick;

/// Smallest, mean and largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub min: f64,
    pub mean: f64,
    pub max: f64,
}

/// The load that the server received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Valid requests that were received, without connection tests.
    pub requests: u64,
    /// Connection tests and warm-up requests before the load; they are in no other figure.
    #[serde(default)]
    pub tests: u64,
    /// Requests that the server rejected: an unknown path, invalid JSON, no HTTP. They are in no other figure.
    #[serde(default)]
    pub refused: u64,
    /// From the first to the last request, seconds.
    pub sending_s: f64,
    /// Requests per second while requests were sent: gaps divided by their sum.
    pub rate: Option<f64>,
    /// The coefficient of variation of the gaps between requests: 0 for a constant rate, 1 for a Poisson process.
    pub gap_variation: Option<f64>,
    /// The median and the 99th percentile of these gaps, seconds.
    pub gap_p50_s: Option<f64>,
    pub gap_p99_s: Option<f64>,
    pub peak_in_flight: u64,
    /// Time average between the first request and the last one.
    pub mean_in_flight: Option<f64>,
    pub connections: u64,
    /// Closed loops: from the first request to the one that filled the last slot, seconds.
    pub first_wave_s: Option<f64>,
    /// Closed loops: from the end of an answer to the next request, median and 99th percentile, seconds.
    pub turnaround_p50_s: Option<f64>,
    pub turnaround_p99_s: Option<f64>,
    /// Share of the requests that asked for a stream, and for token counts at its end.
    pub streamed: f64,
    pub usage_asked: f64,
    /// Limits of output tokens, of the requests that have one.
    pub max_tokens: Option<Range>,
    /// Words of the prompts, and tokens that were sent.
    pub prompt_tokens: Option<Range>,
    pub output_tokens: Option<Range>,
    /// Requests whose prompt an earlier request had.
    pub repeated_prompts: u64,
    /// Requests that equal an earlier one in endpoint, prompt and limit of output tokens.
    #[serde(default)]
    pub repeated: u64,
    /// Requests that the client gave up before the end of the answer.
    pub given_up: u64,
}

/// A client may send so many requests before the load that it is judged by: a connection test and a warm-up.
pub const MAX_TESTS: u64 = 2;

/// The records without connection tests: requests beyond those asked for, at the beginning, each of which had ended when
/// the next one began.
pub fn without_tests<'a>(truths: &'a [Truth], asked: &Asked) -> &'a [Truth] {
    let number = asked.number.unwrap_or(u64::MAX);
    let is_test = |rest: &[Truth]| match rest {
        [test, next, ..] => rest.len() as u64 > number && end(test) < next.received_first,
        _ => false,
    };
    let tests = (0..MAX_TESTS as usize).take_while(|&tests| is_test(truths.get(tests..).unwrap_or_default())).count();
    &truths[tests..]
}

/// Evaluates the records, which are in order of arrival and follow `tests` connection tests. Rejected requests have no record.
pub fn observe(truths: &[Truth], tests: usize, asked: &Asked) -> Observed {
    let count = truths.len() as f64;
    let share = |test: &dyn Fn(&Truth) -> bool| match truths {
        [] => 0.0,
        _ => truths.iter().filter(|truth| test(truth)).count() as f64 / count,
    };
    let starts: Vec<Tick> = sorted(truths.iter().map(|truth| truth.received_first).collect());
    let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1].seconds_since(pair[0])).collect();
    let sending_s = gaps.iter().sum();
    let mut ordered_gaps = gaps.clone();
    ordered_gaps.sort_unstable_by(f64::total_cmp);
    let (peak_in_flight, mean_in_flight) = in_flight(truths);
    let turnarounds = asked.parallel.map_or_else(Vec::new, |parallel| turnarounds(truths, parallel as usize));
    let mut connections: Vec<u64> = truths.iter().map(|truth| truth.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    let first_wave = asked.parallel.and_then(|parallel| starts.get((parallel as usize).checked_sub(1)?));
    Observed {
        requests: truths.len() as u64,
        tests: tests as u64,
        refused: 0,
        sending_s,
        rate: (sending_s > 0.0).then(|| gaps.len() as f64 / sending_s),
        gap_variation: variation(&gaps),
        gap_p50_s: nearest(&ordered_gaps, 0.5),
        gap_p99_s: nearest(&ordered_gaps, 0.99),
        peak_in_flight,
        mean_in_flight,
        connections: connections.len() as u64,
        first_wave_s: first_wave.zip(starts.first()).map(|(last, first)| last.seconds_since(*first)),
        turnaround_p50_s: nearest(&turnarounds, 0.5),
        turnaround_p99_s: nearest(&turnarounds, 0.99),
        streamed: share(&|truth| truth.streamed),
        usage_asked: share(&|truth| truth.usage_asked),
        max_tokens: range(truths.iter().filter_map(|truth| truth.max_tokens.map(f64::from))),
        prompt_tokens: range(truths.iter().map(|truth| f64::from(truth.prompt_tokens))),
        output_tokens: range(truths.iter().map(|truth| f64::from(truth.output_tokens))),
        repeated_prompts: repeated(truths, |truth| truth.prompt_hash),
        repeated: repeated(truths, |truth| (truth.endpoint.path(), truth.prompt_hash, truth.max_tokens)),
        given_up: truths.iter().filter(|truth| truth.end == crate::mock::End::ClientGone).count() as u64,
    }
}

fn sorted(mut ticks: Vec<Tick>) -> Vec<Tick> {
    ticks.sort_unstable();
    ticks
}

/// When the last byte of an answer was sent. A request without an answer ends when it was received.
fn end(truth: &Truth) -> Tick {
    truth.last_byte.unwrap_or(truth.received_last)
}

/// Peak and time average of the requests in flight. The average ends with the last request, because a run's last
/// answers leave slots empty.
fn in_flight(truths: &[Truth]) -> (u64, Option<f64>) {
    let begins = truths.iter().map(|truth| (truth.received_first, 1_i64));
    // An end comes before a beginning at the same time.
    let ends = truths.iter().map(|truth| (end(truth).max(truth.received_first), -1_i64));
    let mut steps: Vec<(Tick, i64)> = begins.chain(ends).collect();
    steps.sort_unstable();
    let last_begin = truths.iter().map(|truth| truth.received_first).max();
    let (mut now, mut peak, mut area_s, mut until) = (0_i64, 0_i64, 0.0, steps.first().map(|step| step.0));
    for (at, change) in &steps {
        if let (Some(from), Some(last)) = (until, last_begin)
            && *at <= last
        {
            area_s += now as f64 * at.seconds_since(from);
            until = Some(*at);
        }
        now += change;
        peak = peak.max(now);
    }
    let span_s = steps.first().zip(last_begin).map_or(0.0, |(first, last)| last.seconds_since(first.0));
    (peak.max(0) as u64, (span_s > 0.0).then_some(area_s / span_s))
}

/// Times from the end of an answer to the request that takes its slot: the k-th end is followed by the k-th request after
/// the first wave.
fn turnarounds(truths: &[Truth], parallel: usize) -> Vec<f64> {
    let starts = sorted(truths.iter().map(|truth| truth.received_first).collect());
    let ends = sorted(truths.iter().map(end).collect());
    let mut times: Vec<f64> =
        starts.iter().skip(parallel).zip(&ends).map(|(start, end)| start.seconds_since(*end)).collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn variation(gaps: &[f64]) -> Option<f64> {
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (gaps.len() >= 2 && mean > 0.0).then(|| variance.sqrt() / mean)
}

/// The nearest rank of sorted values.
pub(super) fn nearest<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

fn range(values: impl Iterator<Item = f64>) -> Option<Range> {
    let values: Vec<f64> = values.collect();
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    Some(Range { min, mean: values.iter().sum::<f64>() / values.len() as f64, max })
}

/// Requests whose identity an earlier one has.
fn repeated<T: Eq + Hash>(truths: &[Truth], identity: impl Fn(&Truth) -> T) -> u64 {
    let distinct: HashSet<T> = truths.iter().map(identity).collect();
    (truths.len() - distinct.len()) as u64
}
