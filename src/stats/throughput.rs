//! Throughput over the run, and request rates from the schedule to the responses.

use super::samples::Sample;

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
    pub fn compute(ok: &[&Sample], time_s: Option<f64>) -> Throughput {
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

impl Rates {
    /// Rates of requests sorted by due time; all `None` unless they were `scheduled`.
    pub fn compute(samples: &[Sample], scheduled: bool) -> Rates {
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
