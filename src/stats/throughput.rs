//! Throughput over the run, and request rates from the schedule to the responses.

use super::concurrency::InFlight;
use super::samples::{Sample, Samples, Selection};
use crate::record::facts::{Mode, RunFacts};

/// Amounts divided by the duration of the run; `None` if the amount is unknown or the duration is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    pub total_tokens_per_s: Option<f64>,
    pub input_tokens_per_s: Option<f64>,
}

/// Requests per second as scheduled, as sent, and as completed. Each rate is `(n − 1) / (last − first)` over its
/// events, so that neither the wait for the first response nor the drain after the last request lowers it. `None` for a
/// closed loop, which has no schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub offered_per_s: Option<f64>,
    pub sent_per_s: Option<f64>,
    pub achieved_per_s: Option<f64>,
}

impl Throughput {
    /// Throughput of the succeeded requests over `time_s` seconds.
    pub fn compute(ok: &Selection<'_>, time_s: Option<f64>) -> Throughput {
        let output = sum(ok.iter().map(|sample| sample.output_tokens));
        let input = sum(ok.iter().map(|sample| sample.input_tokens));
        let per_s = |amount: Option<u64>| Some(amount? as f64 / time_s?);
        Throughput {
            requests_per_s: per_s(Some(ok.len() as u64)),
            output_tokens_per_s: per_s(output),
            input_tokens_per_s: per_s(input),
            total_tokens_per_s: per_s(input.zip(output).map(|(input, output)| input + output)),
        }
    }
}

/// Throughput between start-up and drain: of a closed loop from the first to the last time at which all slots were busy,
/// of a schedule while it was offering. One request that hangs at the end does not change it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteadyThroughput {
    /// From the first due time to the start of this part, seconds.
    pub from_s: f64,
    /// Its length, seconds.
    pub span_s: f64,
    /// Requests that succeeded in it.
    pub requests: u64,
    /// Work done in it: a request that was only partly in it counts with the share of its time, and so do its tokens.
    /// With requests of equal length, all slots end together, and a count of those that ended would miss a whole round.
    pub throughput: Throughput,
    /// From its end to the end of the last request, seconds.
    pub tail_s: f64,
    /// Requests in flight in the middle of that time.
    pub waiting: u64,
}

impl SteadyThroughput {
    /// A shorter part, or one with fewer requests, has too few for a rate.
    const LEAST_S: f64 = 1.0;
    const LEAST_REQUESTS: usize = 30;

    /// The throughput of the steady part of requests sorted by due time, whose first due time and last end are `span`,
    /// tick nanoseconds. `None` if the part is too short.
    pub(crate) fn compute(facts: &RunFacts, samples: &Samples, span: Option<(u64, u64)>) -> Option<SteadyThroughput> {
        let (first_due, last_end) = span?;
        let sent = samples.iter().filter_map(|sample| Some((sample.write_start?, sample.end)));
        let (from, to) = match facts.mode {
            Mode::Closed => InFlight::from_spans(sent.clone()).at_least(facts.parallel?)?,
            Mode::Paced => (first_due, sent.clone().map(|(start, _)| start).max()?),
            Mode::Open => (first_due, samples.last()?.due),
        };
        let span_s = to.checked_sub(from)? as f64 / 1e9;
        let ended = samples.iter().filter(|s| s.ok && from < s.end && s.end <= to).count();
        if span_s < Self::LEAST_S || ended < Self::LEAST_REQUESTS {
            return None;
        }
        let middle = to + last_end.saturating_sub(to) / 2;
        Some(SteadyThroughput {
            from_s: from.saturating_sub(first_due) as f64 / 1e9,
            span_s,
            requests: ended as u64,
            throughput: work_between(samples.iter().filter(|sample| sample.ok), (from, to), span_s),
            tail_s: last_end.saturating_sub(to) as f64 / 1e9,
            waiting: sent.filter(|&(start, end)| start <= middle && middle < end).count() as u64,
        })
    }
}

/// The throughput of the parts of these requests between two times that are `span_s` seconds apart.
fn work_between(ok: impl Iterator<Item = Sample> + Clone, (from, to): (u64, u64), span_s: f64) -> Throughput {
    let share = |sample: &Sample| {
        let start = sample.write_start.unwrap_or(sample.due);
        let within = sample.end.min(to).saturating_sub(start.max(from));
        match sample.end.saturating_sub(start) {
            0 => f64::from(u8::from(from < sample.end && sample.end <= to)),
            whole => within as f64 / whole as f64,
        }
    };
    let total = |count: fn(&Sample) -> Option<u32>| {
        let counted = ok.clone().filter_map(|sample| Some(f64::from(count(&sample)?) * share(&sample)));
        counted.reduce(|sum, part| sum + part).map(|sum| sum / span_s)
    };
    let output = total(|sample| sample.output_tokens);
    let input = total(|sample| sample.input_tokens);
    Throughput {
        requests_per_s: total(|_| Some(1)),
        output_tokens_per_s: output,
        total_tokens_per_s: input.zip(output).map(|(input, output)| input + output),
        input_tokens_per_s: input,
    }
}

impl Rates {
    /// Rates of requests sorted by due time; all `None` unless they were `scheduled`.
    pub fn compute(samples: &Samples, scheduled: bool) -> Rates {
        if !scheduled {
            return Rates::default();
        }
        Rates {
            offered_per_s: event_rate(samples.iter().map(|sample| sample.due)),
            sent_per_s: event_rate(samples.iter().filter_map(|sample| sample.write_start)),
            achieved_per_s: event_rate(samples.iter().filter(|sample| sample.ok).map(|sample| sample.end)),
        }
    }
}

/// The sum of the known values; `None` if there are values and all are unknown.
fn sum(values: impl Iterator<Item = Option<u32>> + Clone) -> Option<u64> {
    let known = values.clone().any(|value| value.is_some()) || values.clone().next().is_none();
    known.then(|| values.map(|value| u64::from(value.unwrap_or(0))).sum())
}

/// The number of intervals between events divided by the time that they span.
fn event_rate(events: impl Iterator<Item = u64>) -> Option<f64> {
    let (first, last, count) =
        events.fold((u64::MAX, 0, 0u64), |(first, last, count), at| (first.min(at), last.max(at), count + 1));
    (count > 1 && last > first).then(|| (count - 1) as f64 * 1e9 / (last - first) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of `ms` milliseconds, one after the other, in each of two slots.
    fn two_slots(requests: u64, ms: u64) -> Vec<Sample> {
        let ns = ms * 1_000_000;
        let sample = |index: u64| {
            let due = index / 2 * ns;
            let (write_start, output_tokens) = (Some(due), Some(10));
            Sample { index, due, write_start, end: due + ns, ok: true, output_tokens, ..Sample::default() }
        };
        (0..requests).map(sample).collect()
    }

    fn steady(samples: &[Sample], mode: Mode) -> Option<SteadyThroughput> {
        let facts = RunFacts { mode, parallel: (mode != Mode::Open).then_some(2), ..RunFacts::default() };
        let last_end = samples.iter().map(|sample| sample.end).max();
        SteadyThroughput::compute(&facts, &samples.iter().cloned().collect(), Some((samples[0].due, last_end.unwrap())))
    }

    #[test]
    fn one_hanging_request_does_not_change_the_steady_throughput() {
        let mut samples = two_slots(60, 100);
        let even = steady(&samples, Mode::Closed).unwrap();
        assert_eq!((even.requests, even.span_s, even.tail_s, even.waiting), (60, 3.0, 0.0, 0));
        assert!((even.throughput.requests_per_s.unwrap() - 20.0).abs() < 1e-9);
        assert!((even.throughput.output_tokens_per_s.unwrap() - 200.0).abs() < 1e-9);
        // The last request of the second slot hangs for 20 s.
        samples[59].end += 20_000_000_000;
        let hung = steady(&samples, Mode::Closed).unwrap();
        assert_eq!((hung.requests, hung.waiting), (59, 1));
        // Of its 20.1 s, 0.1 s are in the steady part.
        let requests = hung.throughput.requests_per_s.unwrap() * 3.0;
        assert!((requests - 59.0 - 0.1 / 20.1).abs() < 1e-9 && hung.tail_s == 20.0, "{hung:?}");
        assert!(steady(&two_slots(60, 30), Mode::Closed).is_none(), "shorter than a second");
        assert!(steady(&two_slots(28, 100), Mode::Closed).is_none(), "fewer than 30 requests");
        // The second slot is 1 ms later: its last request is in flight when the first slot becomes idle.
        let mut apart = two_slots(60, 100);
        apart.iter_mut().filter(|sample| sample.index % 2 == 1).for_each(|sample| {
            sample.write_start = sample.write_start.map(|start| start + 1_000_000);
            sample.end += 1_000_000;
        });
        let apart = steady(&apart, Mode::Closed).unwrap();
        assert!((apart.throughput.requests_per_s.unwrap() - 20.0).abs() < 1e-3, "{apart:?}");
        // The schedule offers from 0 s to 2.9 s.
        let offered = steady(&samples, Mode::Open).unwrap();
        assert_eq!((offered.span_s, offered.requests), (2.9, 58));
    }
}
