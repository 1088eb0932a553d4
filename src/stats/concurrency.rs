//! Requests in flight, from the first byte written to the end of the request.

use super::quantile::mean;
use super::samples::{Sample, Samples};

/// The number of requests in flight as a step function. Times are tick nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    /// Sorted.
    starts: Vec<u64>,
    ends: Vec<u64>,
}

/// A time at which the number of requests in flight changes.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: u64,
    /// Requests in flight from then on.
    level: u32,
    /// The time of the next change; `None` for the last.
    next: Option<u64>,
}

impl InFlight {
    /// From the `(start, end)` of every request that was sent. If one request ends when another starts, the end counts
    /// first, so that a slot of a closed loop never counts twice.
    pub(crate) fn from_spans(requests: impl Iterator<Item = (u64, u64)>) -> InFlight {
        let (mut starts, mut ends): (Vec<u64>, Vec<u64>) = requests.map(|(start, end)| (start, end.max(start))).unzip();
        starts.sort_unstable();
        ends.sort_unstable();
        InFlight { starts, ends }
    }

    /// All changes, in order.
    fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let InFlight { starts, ends } = self;
        let (mut started, mut ended) = (0, 0);
        let mut changes = std::iter::from_fn(move || {
            let end = *ends.get(ended)?;
            // `started > ended` keeps the end of a zero-length request behind its start.
            let at = match starts.get(started) {
                Some(&start) if start < end || started == ended => {
                    started += 1;
                    start
                }
                _ => {
                    ended += 1;
                    end
                }
            };
            Some((at, (started - ended) as u32))
        })
        .peekable();
        std::iter::from_fn(move || {
            let (at, level) = changes.next()?;
            Some(Step { at, level, next: changes.peek().map(|next| next.0) })
        })
    }

    /// The maximum.
    pub fn peak(&self) -> u32 {
        self.steps().map(|step| step.level).max().unwrap_or(0)
    }

    /// The maximum from one time to another.
    fn peak_between(&self, from: u64, to: u64) -> u32 {
        let is_inside = |step: &Step| step.at <= to && (step.at >= from || step.next.is_none_or(|next| next > from));
        self.steps().filter(is_inside).map(|step| step.level).max().unwrap_or(0)
    }

    /// The first time at which at least `level` were in flight, and the end of the last such time; `None` if there is
    /// none.
    pub fn at_least(&self, level: u32) -> Option<(u64, u64)> {
        let times = self.steps().filter(|step| step.level >= level).map(|step| (step.at, step.next.unwrap_or(step.at)));
        times.reduce(|first, last| (first.0, last.1))
    }

    /// Mean and maximum in each of `count` equal intervals between two times, in one pass.
    pub(crate) fn bins(&self, from: u64, to: u64, count: usize) -> Vec<(f64, u32)> {
        let mut bins = vec![(0.0, 0); count];
        if count == 0 || to <= from {
            return bins;
        }
        let length = (to - from) as f64 / count as f64;
        let bin_of = |at: u64| (((at - from) as f64 / length) as usize).min(count - 1);
        for Step { at, level, next } in self.steps() {
            let (begin, stop) = (at.max(from), next.unwrap_or(at).min(to));
            if stop <= begin {
                continue;
            }
            for (bin, slot) in bins.iter_mut().enumerate().take(bin_of(stop - 1) + 1).skip(bin_of(begin)) {
                let (low, high) = (bin as f64 * length, (bin + 1) as f64 * length);
                let inside = ((stop - from) as f64).min(high) - ((begin - from) as f64).max(low);
                slot.0 += inside.max(0.0) / length * f64::from(level);
                slot.1 = slot.1.max(level);
            }
        }
        bins
    }

    /// The mean between two times; `None` unless `from < to`.
    pub fn mean(&self, from: u64, to: u64) -> Option<f64> {
        if to <= from {
            return None;
        }
        let mut area = 0u128;
        for Step { at, level, next } in self.steps() {
            let (begin, stop) = (at.max(from), next.unwrap_or(at).min(to));
            if stop > begin {
                area += u128::from(stop - begin) * u128::from(level);
            }
        }
        Some(area as f64 / (to - from) as f64)
    }
}

/// Requests in flight from the first due time of a measured request to the last end, computed from every start and end.
/// Requests of a warm-up that flows into this time are included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Concurrency {
    /// The maximum; `None` if it is unknown.
    pub peak: Option<u32>,
    /// Mean over the whole time.
    pub mean: Option<f64>,
    /// Mean time that a measured request was in flight, seconds; requests that were never sent count as 0.
    pub mean_stay_s: Option<f64>,
    /// Time that requests of the warm-up were in flight, summed, seconds. By Little's law, `mean` is the product of the
    /// rate of measured requests and `mean_stay_s`, plus this time divided by the whole time.
    pub warmup_stay_s: f64,
    /// Mean from the first to the last send, so without the drain at the end.
    pub mean_while_sending: Option<f64>,
    /// From the first to the last due time, seconds.
    pub due_span_s: Option<f64>,
    /// The means over five equal parts of that time.
    pub parts: Option<[f64; 5]>,
}

impl Concurrency {
    /// Requests in flight over measured requests sorted by due time and those of a warm-up. `span` is the first due time
    /// and the last end of measured requests, tick nanoseconds.
    pub fn compute(samples: &Samples, warmup: &Samples, span: Option<(u64, u64)>) -> Concurrency {
        let sent = spans(samples);
        let in_flight = InFlight::from_spans(sent.clone().chain(spans(warmup)));
        let Some((from, to)) = span else {
            return Concurrency { peak: Some(0), ..Concurrency::default() };
        };
        let inside = |(start, end): (u64, u64)| end.min(to).saturating_sub(start.max(from));
        let first_sent = sent.clone().map(|(start, _)| start).min().unwrap_or(from);
        let last_sent = sent.map(|(start, _)| start).max().unwrap_or(from);
        let last_due = samples.last().map_or(from, |sample| sample.due);
        Concurrency {
            peak: Some(in_flight.peak_between(from, to)),
            mean: in_flight.mean(from, to),
            mean_stay_s: mean(samples.iter().map(|sample| stay_s(&sample))),
            warmup_stay_s: spans(warmup).map(inside).sum::<u64>() as f64 / 1e9,
            mean_while_sending: in_flight.mean(first_sent, last_sent),
            due_span_s: Some((last_due - from) as f64 / 1e9),
            parts: parts(&in_flight, from, last_due),
        }
    }
}

/// From the first byte sent to the end of every request that was sent, tick nanoseconds.
pub(crate) fn spans(samples: &Samples) -> impl Iterator<Item = (u64, u64)> + Clone {
    samples.iter().filter_map(|sample| Some((sample.write_start?, sample.end)))
}

fn stay_s(sample: &Sample) -> f64 {
    sample.write_start.map_or(0.0, |start| sample.end.saturating_sub(start) as f64 / 1e9)
}

fn parts(in_flight: &InFlight, from: u64, to: u64) -> Option<[f64; 5]> {
    let edge = |i: usize| from + ((to - from) as u128 * i as u128 / 5) as u64;
    let mut means = [0.0; 5];
    for (i, mean) in means.iter_mut().enumerate() {
        *mean = in_flight.mean(edge(i), edge(i + 1))?;
    }
    Some(means)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slot_that_continues_at_once_counts_once() {
        let in_flight = InFlight::from_spans([(0, 10), (10, 20), (20, 30)].into_iter());
        assert_eq!(in_flight.peak(), 1);
        assert_eq!(in_flight.mean(0, 30), Some(1.0));
    }

    #[test]
    fn the_mean_is_the_area_over_the_time() {
        let in_flight = InFlight::from_spans([(0, 10), (5, 15), (6, 7)].into_iter());
        assert_eq!(in_flight.peak(), 3);
        assert_eq!(in_flight.mean(0, 15), Some(21.0 / 15.0));
        assert_eq!(in_flight.mean(5, 10), Some(11.0 / 5.0));
        assert_eq!(in_flight.mean(20, 30), Some(0.0));
        assert_eq!(in_flight.mean(3, 3), None);
        assert_eq!(InFlight::from_spans([(4, 4)].into_iter()).peak(), 1);
        assert_eq!(InFlight::from_spans(std::iter::empty()).peak(), 0);
    }

    #[test]
    fn a_warm_up_that_flows_in_counts_in_the_time_of_the_run() {
        let sample = |due: u64, end: u64| Sample { due, write_start: Some(due), end, ..Sample::default() };
        let s = 1_000_000_000;
        let warmup = [sample(0, 4 * s), sample(0, 12 * s), sample(0, 13 * s)].into_iter().collect();
        let measured = [sample(10 * s, 20 * s), sample(12 * s, 20 * s)].into_iter().collect();
        let concurrency = Concurrency::compute(&measured, &warmup, Some((10 * s, 20 * s)));
        assert_eq!((concurrency.peak, concurrency.mean, concurrency.warmup_stay_s), (Some(3), Some(2.3), 5.0));
        assert_eq!(concurrency.mean, Some((2.0 * concurrency.mean_stay_s.unwrap() + 5.0) / 10.0));
    }

    #[test]
    fn levels_have_a_first_and_a_last_time() {
        let in_flight = InFlight::from_spans([(0, 10), (5, 15), (16, 20), (17, 19)].into_iter());
        assert_eq!(in_flight.at_least(1), Some((0, 20)));
        assert_eq!(in_flight.at_least(2), Some((5, 19)));
        assert_eq!(in_flight.at_least(3), None);
    }

    #[test]
    fn intervals_have_a_mean_and_a_maximum() {
        let in_flight = InFlight::from_spans([(0, 10), (5, 15), (6, 7)].into_iter());
        let bins = in_flight.bins(0, 20, 4);
        let means: Vec<f64> = bins.iter().map(|bin| bin.0).collect();
        assert_eq!(means, [1.0, 11.0 / 5.0, 1.0, 0.0]);
        assert_eq!(bins.iter().map(|bin| bin.1).collect::<Vec<_>>(), [1, 3, 1, 0]);
        assert_eq!(in_flight.bins(3, 3, 2), [(0.0, 0); 2]);
    }

    proptest! {
        #[test]
        fn the_area_is_the_sum_of_the_lengths(spans in proptest::collection::vec((0u64..100, 0u64..50), 1..40)) {
            let spans: Vec<(u64, u64)> = spans.into_iter().map(|(start, length)| (start, start + length)).collect();
            let total: u64 = spans.iter().map(|(start, end)| end - start).sum();
            let mean = InFlight::from_spans(spans.iter().copied()).mean(0, 200).unwrap();
            prop_assert!((mean * 200.0 - total as f64).abs() < 1e-6);
        }
    }
}
