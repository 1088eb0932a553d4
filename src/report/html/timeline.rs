//! A run over time and over its percentiles: computed from every record, reduced to few enough values to draw.
//!
//! Intervals have a length of 1, 2 or 5 times a power of ten. Where an interval has fewer than [`LEAST_SAMPLES`] samples,
//! quantiles and shares are those of several neighbouring intervals.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::axis::step_125;
use super::chart::Point;
use super::gap_quantiles::{GapQuantiles, WantedRanks};
use crate::record::{Block, Failure, Outcome};
use crate::stats::concurrency::{InFlight, spans};
use crate::stats::metric;
use crate::stats::quantile::nearest_rank;
use crate::stats::samples::{Sample, Samples};

/// Maximum of time intervals.
const MOST_BINS: u64 = 200;
/// A quantile or a share of an interval is that of at least as many samples.
const LEAST_SAMPLES: usize = 10;
/// The quantiles of gaps over time, thousandths.
const GAP_LEVELS: [u32; 2] = [500, 990];

/// A run divided into time intervals.
#[derive(Debug)]
pub struct Timeline {
    from: u64,
    /// Intervals for arrivals.
    arrivals: Intervals,
    /// Intervals for requests by their due time, which are longer.
    requests: Intervals,
    bins: Vec<Bin>,
    /// Quantiles of the gaps that ended in intervals or neighbouring intervals.
    gap_quantiles: [Vec<Point>; 2],
    /// All gaps at percentiles; see [`percentile_curve`].
    gap_curve: Vec<(f64, Option<f64>)>,
    /// Failed requests of each class, by the interval in which they were due.
    failures: BTreeMap<Failure, Vec<u32>>,
    /// Start and end of the requests of the warm-up, tick nanoseconds.
    warmup: Vec<(u64, u64)>,
}

/// One interval.
#[derive(Clone, Debug, Default)]
struct Bin {
    tokens: f64,
    /// Number of gaps that ended in it.
    gaps: u64,
}

/// Equal intervals from the start of a run to its end; the last one can be shorter.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Intervals {
    step_ns: u64,
    count: usize,
    span_ns: u64,
}

impl Intervals {
    /// The shortest intervals that have [`LEAST_SAMPLES`] of these samples on average.
    fn new(span_ns: u64, samples: u64) -> Intervals {
        let per_sample = span_ns as f64 / samples.max(1) as f64;
        let least = (per_sample * LEAST_SAMPLES as f64).max(span_ns as f64 / MOST_BINS as f64);
        // The step is round in seconds, and so it is in nanoseconds.
        let step_ns = (step_125(least.max(1.0)).round() as u64).max(1);
        Intervals { step_ns, count: span_ns.div_ceil(step_ns).max(1) as usize, span_ns }
    }

    /// The interval of a time after the start.
    fn index(self, after_ns: u64) -> usize {
        ((after_ns / self.step_ns) as usize).min(self.count - 1)
    }

    /// Begin and end of neighbouring intervals, seconds since the start.
    fn span_s(self, range: &Range<usize>) -> (f64, f64) {
        let end = (range.end as u64 * self.step_ns).min(self.span_ns);
        (range.start as f64 * self.step_ns as f64 / 1e9, end as f64 / 1e9)
    }

    /// A point in the middle of neighbouring intervals.
    fn point(self, range: &Range<usize>, value: Option<f64>) -> Point {
        let span = self.span_s(range);
        Point { span: Some(span), ..Point::new(f64::midpoint(span.0, span.1), value) }
    }

    /// A point for each interval, from its number and its length in seconds.
    fn each(self, value: impl Fn(usize, f64) -> Option<f64>) -> Vec<Point> {
        let point = |i: usize| {
            let (begin, end) = self.span_s(&(i..i + 1));
            self.point(&(i..i + 1), value(i, end - begin))
        };
        (0..self.count).map(point).collect()
    }

    /// Neighbouring intervals joined until each group has enough samples; what is left at the end joins the last group.
    /// `samples` has the number of samples of each interval.
    fn joined(self, samples: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let (mut begin, mut have) = (0, 0);
        for i in 0..self.count {
            have += samples(i);
            if have >= LEAST_SAMPLES {
                groups.push(begin..i + 1);
                (begin, have) = (i + 1, 0);
            }
        }
        match groups.last_mut() {
            Some(last) if begin < self.count => last.end = if have > 0 { self.count } else { last.end },
            Some(_) => {}
            None => groups.push(0..self.count),
        }
        groups
    }

    /// Quantiles of the samples of each interval, which are sorted.
    fn quantiles<'a>(self, sorted: impl Fn(usize) -> &'a [f32], per_milles: [u32; 2]) -> [Vec<Point>; 2] {
        let groups = self.joined(|i| sorted(i).len());
        let mut out = [Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len())];
        for group in &groups {
            let values = match group.len() {
                1 => Cow::Borrowed(sorted(group.start)),
                _ => {
                    let mut all: Vec<f32> = group.clone().flat_map(&sorted).copied().collect();
                    all.sort_unstable_by(f32::total_cmp);
                    Cow::Owned(all)
                }
            };
            for (points, per_mille) in out.iter_mut().zip(per_milles) {
                points.push(self.point(group, quantile_f32(&values, per_mille)));
            }
        }
        out
    }
}

impl Timeline {
    /// An empty timeline over the time of these requests.
    pub fn new(samples: &Samples) -> Timeline {
        let from = samples.first().map_or(0, |sample| sample.due);
        let to = samples.iter().map(|sample| sample.end).max().unwrap_or(0).max(from + 1);
        let events: u64 = samples.iter().map(|sample| u64::from(sample.events)).sum();
        let arrivals = Intervals::new(to - from, events.max(samples.len() as u64));
        Timeline {
            from,
            arrivals,
            requests: Intervals::new(to - from, samples.len() as u64),
            bins: vec![Bin::default(); arrivals.count],
            gap_quantiles: Default::default(),
            gap_curve: Vec::new(),
            failures: BTreeMap::new(),
            warmup: Vec::new(),
        }
    }

    /// Adds the tokens and failures of a block, and counts its gaps. A token counts at its arrival; each event counts as its share of
    /// the response's tokens.
    pub fn add(&mut self, block: &Block) {
        for record in &block.records {
            let arrivals = record.arrivals.slice(&block.arrivals);
            let weight = record.output_tokens.map_or(1.0, |t| f64::from(t) / arrivals.len().max(1) as f64);
            for arrival in arrivals {
                let bin = self.bin_of(arrival.0);
                self.bins[bin].tokens += weight;
            }
            if let Outcome::Failed(class) = record.outcome {
                let bin = self.requests.index(record.due.0.saturating_sub(self.from));
                let count = self.requests.count;
                self.failures.entry(class).or_insert_with(|| vec![0; count])[bin] += 1;
            }
            if record.outcome == Outcome::Ok {
                for (at, _) in metric::gaps_ns(arrivals, record.choices.slice(&block.bytes)) {
                    let bin = self.bin_of(at.0);
                    self.bins[bin].gaps += 1;
                }
                if arrivals.is_empty() && !record.streamed {
                    let bin = self.bin_of(record.end.0);
                    self.bins[bin].tokens += f64::from(record.output_tokens.unwrap_or(0));
                }
            }
        }
    }

    /// Adds the requests of a warm-up, which can be in flight at the start.
    pub fn add_warmup(&mut self, block: &Block) {
        self.warmup.extend(block.records.iter().filter_map(|record| Some((record.write_start?.0, record.end.0))));
    }

    /// Computes the quantiles of the gaps, after the last block. `read` is called several times and adds all gaps.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn add_gaps<E>(&mut self, read: impl FnMut(&mut GapQuantiles) -> Result<(), E>) -> Result<(), E> {
        let groups = self.arrivals.joined(|i| usize::try_from(self.bins[i].gaps).unwrap_or(usize::MAX));
        let mut group_of = vec![None; self.arrivals.count];
        let mut counts = vec![0; groups.len()];
        for (group, range) in groups.iter().enumerate() {
            group_of[range.clone()].fill(Some(group));
            counts[group] = self.bins[range.clone()].iter().map(|bin| bin.gaps).sum::<u64>();
        }
        let all: u64 = counts.iter().sum();
        let curve = curve_ranks(all as usize);
        let in_groups = counts.iter().map(|&count| match count {
            0 => Vec::new(),
            _ => GAP_LEVELS.iter().map(|&level| nearest_rank(count as usize, level) as u64 - 1).collect(),
        });
        let wanted = WantedRanks {
            all: curve.iter().map(|(_, rank)| *rank as u64 - 1).collect(),
            in_groups: in_groups.collect(),
        };
        let found = GapQuantiles::new(self.from, self.arrivals.step_ns, group_of, &wanted).compute(&wanted, read)?;
        self.gap_quantiles = std::array::from_fn(|level| {
            let point = |(group, range): (usize, &Range<usize>)| {
                let position = wanted.in_groups[group].get(level);
                self.arrivals.point(range, position.and_then(|&position| found.in_group_s(group, position)))
            };
            groups.iter().enumerate().map(point).collect()
        });
        let value = |(percent, rank): (f64, usize)| (percent, found.value_s(rank as u64 - 1));
        self.gap_curve = curve.into_iter().map(value).collect();
        Ok(())
    }

    /// Length of an interval of arrivals, seconds.
    pub fn interval_s(&self) -> f64 {
        self.arrivals.step_ns as f64 / 1e9
    }

    /// Length of an interval of requests, seconds.
    pub fn request_interval_s(&self) -> f64 {
        self.requests.step_ns as f64 / 1e9
    }

    /// Seconds since the start of the run.
    pub fn seconds(&self, tick: u64) -> f64 {
        tick.saturating_sub(self.from) as f64 / 1e9
    }

    /// Output tokens per second by their arrival.
    pub fn tokens_per_s(&self) -> Vec<Point> {
        self.arrivals.each(|i, length_s| (length_s > 0.0).then(|| self.bins[i].tokens / length_s))
    }

    /// Quantiles of the gaps that ended in each interval, p50 and p99.
    pub fn gap_quantiles(&self) -> [Vec<Point>; 2] {
        self.gap_quantiles.clone()
    }

    /// Quantiles of `value` over the requests that were due in each interval.
    pub fn due_quantiles(
        &self,
        samples: &Samples,
        value: fn(&Sample) -> Option<u64>,
        per_milles: [u32; 2],
    ) -> [Vec<Point>; 2] {
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.requests.count];
        for sample in samples.iter().filter(|sample| sample.ok) {
            if let Some(ns) = value(&sample) {
                values[self.requests.index(sample.due.saturating_sub(self.from))].push(ns as f32 / 1e9);
            }
        }
        values.iter_mut().for_each(|values| values.sort_unstable_by(f32::total_cmp));
        self.requests.quantiles(|i| &values[i], per_milles)
    }

    /// Succeeded requests in percent of those that succeeded or failed, by the interval in which they were due.
    pub fn success_percent(&self, samples: &Samples) -> Vec<Point> {
        let mut counts = vec![(0usize, 0usize); self.requests.count];
        for sample in samples.iter().filter(|sample| sample.ok || sample.failed) {
            let (ok, ended) = &mut counts[self.requests.index(sample.due.saturating_sub(self.from))];
            *ok += usize::from(sample.ok);
            *ended += 1;
        }
        let point = |group: Range<usize>| {
            let (ok, ended) = counts[group.clone()].iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            self.requests.point(&group, (ended > 0).then(|| ok as f64 * 100.0 / ended as f64))
        };
        self.requests.joined(|i| counts[i].1).into_iter().map(point).collect()
    }

    /// Failed requests of each class, by the interval in which they were due; the most frequent class first. Where no
    /// request was due, the number is unknown.
    pub fn failures(&self, samples: &Samples) -> Vec<(Failure, Vec<Point>)> {
        let mut due = vec![0u32; self.requests.count];
        samples.iter().for_each(|sample| due[self.requests.index(sample.due.saturating_sub(self.from))] += 1);
        let mut classes: Vec<_> = self.failures.iter().collect();
        classes.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<u32>()));
        let points = |counts: &[u32]| self.requests.each(|i, _| (due[i] > 0).then(|| f64::from(counts[i])));
        classes.into_iter().map(|(class, counts)| (*class, points(counts))).collect()
    }

    /// Mean and maximum of the requests in flight in each interval.
    pub fn in_flight(&self, samples: &Samples) -> (Vec<Point>, Vec<Point>) {
        let sent = spans(samples).chain(self.warmup.iter().copied());
        let whole = self.arrivals.step_ns.saturating_mul(self.arrivals.count as u64);
        let levels = InFlight::from_spans(sent).bins(self.from, self.from.saturating_add(whole), self.arrivals.count);
        let step_s = self.interval_s();
        // The last interval can be shorter, with nothing in flight after its end.
        let mean = self.arrivals.each(|i, length_s| (length_s > 0.0).then(|| levels[i].0 * step_s / length_s));
        let most = self.arrivals.each(|i, _| Some(f64::from(levels[i].1)));
        (mean, most)
    }

    /// All gaps, seconds, at percentiles; see [`percentile_curve`].
    pub fn gap_curve(&self) -> Vec<(f64, Option<f64>)> {
        self.gap_curve.clone()
    }

    fn bin_of(&self, tick: u64) -> usize {
        self.arrivals.index(tick.saturating_sub(self.from))
    }
}

fn quantile_f32(sorted: &[f32], per_mille: u32) -> Option<f64> {
    (!sorted.is_empty()).then(|| f64::from(sorted[nearest_rank(sorted.len(), per_mille) - 1]))
}

/// Values at percentiles up to the last one that the number of samples resolves: `(percent, value)`.
pub fn percentile_curve(sorted: &[f32]) -> Vec<(f64, Option<f64>)> {
    let value = |(percent, rank): (f64, usize)| (percent, Some(f64::from(sorted[rank - 1])));
    curve_ranks(sorted.len()).into_iter().map(value).collect()
}

/// The percentiles of a curve of `n` samples with their ranks, from 1.
fn curve_ranks(n: usize) -> Vec<(f64, usize)> {
    /// Points for each factor of ten in the tail.
    const STEPS: usize = 24;
    if n == 0 {
        return Vec::new();
    }
    let nines = (n as f64).log10();
    let steps = (nines * STEPS as f64).floor() as usize;
    let mut curve: Vec<(f64, usize)> = (0..=steps)
        .map(|i| {
            let beyond = 10f64.powf(-(i as f64) / STEPS as f64);
            let rank = (((1.0 - beyond) * n as f64 - 1e-6).ceil() as usize).clamp(1, n);
            ((1.0 - beyond) * 100.0, rank)
        })
        .collect();
    curve.push(((1.0 - 1.0 / (n as f64 + 1.0)) * 100.0, n));
    curve
}

/// The share of samples at or below, in percent, at about `most` values: `(value, percent)`.
pub fn cumulative(sorted: &[f32], most: usize) -> Vec<(f64, Option<f64>)> {
    let n = sorted.len();
    let step = n.div_ceil(most).max(1);
    let mut ranks: Vec<usize> = (1..=n).step_by(step).collect();
    if ranks.last().is_some_and(|&last| last != n) {
        ranks.push(n);
    }
    ranks.into_iter().map(|rank| (f64::from(sorted[rank - 1]), Some(rank as f64 / n as f64 * 100.0))).collect()
}

/// About `most` points of those given in time order: the lowest and the highest of each group of neighbours, so that no
/// outlier is lost. The second value says whether points were left out.
pub fn thin(points: Vec<(f64, f64)>, most: usize) -> (Vec<(f64, f64)>, bool) {
    if points.len() <= most {
        return (points, false);
    }
    let group = points.len().div_ceil((most / 2).max(1));
    let extremes = points.chunks(group).flat_map(|group| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        [group.iter().min_by(by_value), group.iter().max_by(by_value)].into_iter().flatten().copied()
    });
    (extremes.collect(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::chart::Y;

    #[test]
    fn intervals_are_round_and_have_ten_samples_on_average() {
        let second = 1_000_000_000;
        assert_eq!(
            Intervals::new(60 * second, 100),
            Intervals { step_ns: 10 * second, count: 6, span_ns: 60 * second }
        );
        assert_eq!(Intervals::new(65 * second, 100).count, 7);
        // As many as can be drawn.
        assert_eq!(Intervals::new(60 * second, 1_000_000).step_ns, 500_000_000);
        assert_eq!(Intervals::new(60 * second, 3).count, 1);
        for samples in [0, 1, 7, 10, 99, 12_345] {
            for span_ns in [1, 999, 123_456_789, 3600 * second] {
                let intervals = Intervals::new(span_ns, samples);
                assert!(intervals.count >= 1 && intervals.count as u64 <= MOST_BINS, "{intervals:?}");
                let digits = intervals.step_ns.to_string();
                assert!(["1", "2", "5"].contains(&digits.trim_end_matches('0')), "{intervals:?}");
                assert_eq!(intervals.index(span_ns), intervals.count - 1);
            }
        }
    }

    #[test]
    fn intervals_with_few_samples_are_joined() {
        let intervals = Intervals { step_ns: 1_000_000_000, count: 6, span_ns: 5_500_000_000 };
        let of = |counts: [usize; 6]| intervals.joined(|i| counts[i]);
        assert_eq!(of([10, 3, 7, 20, 10, 10]), [0..1, 1..3, 3..4, 4..5, 5..6]);
        assert_eq!(of([10, 0, 0, 10, 4, 5]), [0..1, 1..6]);
        assert_eq!(of([10, 10, 0, 0, 0, 0]), [0..1, 1..2], "nothing is left to show");
        assert_eq!(of([1, 0, 2, 0, 0, 0]), std::iter::once(0..6).collect::<Vec<_>>());
        assert_eq!(intervals.point(&(4..6), None).span, Some((4.0, 5.5)));
    }

    #[test]
    fn no_failures_are_counted_where_no_request_was_due() {
        let second = 1_000_000_000;
        // The last request ends two intervals after the last one was due.
        let sample =
            |i: u64| Sample { due: i * second / 10, end: if i == 39 { 6 * second } else { i }, ..Sample::default() };
        let samples: Samples = (0..40).map(sample).collect();
        let mut timeline = Timeline::new(&samples);
        assert_eq!(timeline.requests, Intervals { step_ns: 2 * second, count: 3, span_ns: 6 * second });
        timeline.failures.insert(Failure::Status, vec![4, 0, 0]);
        let (_, points) = timeline.failures(&samples).remove(0);
        let values: Vec<Y> = points.iter().map(|point| point.y).collect();
        assert_eq!(values, [Y::Known(4.0), Y::Known(0.0), Y::Unknown]);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), if i == 577 { 9.0 } else { 1.0 })).collect();
        let (few, thinned) = thin(points.clone(), 100);
        assert!(thinned && few.len() <= 100 && few.contains(&(577.0, 9.0)));
        assert_eq!(thin(points.clone(), 1000), (points, false));
    }

    #[test]
    fn curves_end_at_the_largest_sample() {
        let sorted: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
        let curve = percentile_curve(&sorted);
        assert_eq!(curve.first(), Some(&(0.0, Some(1.0))));
        assert_eq!(curve.last().unwrap().1, Some(1000.0));
        let at_90 = curve.iter().find(|point| (point.0 - 90.0).abs() < 1e-9).unwrap();
        assert_eq!(at_90.1, Some(900.0));
        assert_eq!(cumulative(&sorted, 10).last(), Some(&(1000.0, Some(100.0))));
        assert!(percentile_curve(&[]).is_empty() && cumulative(&[], 10).is_empty());
        assert_eq!(percentile_curve(&[2.0]).len(), 2);
    }
}
