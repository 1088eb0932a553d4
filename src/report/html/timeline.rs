//! A run over time and over its percentiles: computed from every record, reduced to few enough values to draw.

use crate::record::{Block, Outcome};
use crate::stats::concurrency::{InFlight, spans};
use crate::stats::metric;
use crate::stats::quantile::nearest_rank;
use crate::stats::samples::Sample;

/// Maximum of time intervals.
const MOST_BINS: usize = 200;

/// A run divided into equal time intervals.
#[derive(Debug)]
pub struct Timeline {
    from: u64,
    to: u64,
    bins: Vec<Bin>,
    /// All gaps, seconds; sorted by [`Timeline::finish`].
    gaps_s: Vec<f32>,
    /// Start and end of the requests of the warm-up, tick nanoseconds.
    warmup: Vec<(u64, u64)>,
}

/// One interval.
#[derive(Clone, Debug, Default)]
struct Bin {
    tokens: f64,
    gaps_s: Vec<f32>,
}

/// A value for every interval: its middle in seconds since the start, and the value if there is one.
pub type Series = Vec<(f64, Option<f64>)>;

impl Timeline {
    /// An empty timeline over the time of these requests.
    pub fn new(samples: &[Sample]) -> Timeline {
        let from = samples.first().map_or(0, |sample| sample.due);
        let to = samples.iter().map(|sample| sample.end).max().unwrap_or(0).max(from + 1);
        let events: u64 = samples.iter().map(|sample| u64::from(sample.events)).sum();
        let bins = (samples.len().max(events as usize / 20)).clamp(10, MOST_BINS);
        Timeline { from, to, bins: vec![Bin::default(); bins], gaps_s: Vec::new(), warmup: Vec::new() }
    }

    /// Adds the tokens and gaps of a block. A token counts at its arrival; each event counts as its share of the
    /// response's tokens.
    pub fn add(&mut self, block: &Block) {
        for record in &block.records {
            let arrivals = record.arrivals.slice(&block.arrivals);
            let weight = record.output_tokens.map_or(1.0, |t| f64::from(t) / arrivals.len().max(1) as f64);
            for arrival in arrivals {
                let bin = self.bin_of(arrival.0);
                self.bins[bin].tokens += weight;
            }
            if record.outcome == Outcome::Ok {
                for (at, ns) in metric::gaps_ns(arrivals, record.choices.slice(&block.bytes)) {
                    let bin = self.bin_of(at.0);
                    self.bins[bin].gaps_s.push(ns as f32 / 1e9);
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

    /// Sorts the gaps; call it once, after the last block.
    pub fn finish(&mut self) {
        for bin in &mut self.bins {
            bin.gaps_s.sort_unstable_by(f32::total_cmp);
        }
        self.gaps_s = self.bins.iter().flat_map(|bin| &bin.gaps_s).copied().collect();
        // A stable sort is fast on concatenated sorted runs.
        self.gaps_s.sort_by(f32::total_cmp);
    }

    /// Length of an interval, seconds.
    pub fn interval_s(&self) -> f64 {
        (self.to - self.from) as f64 / 1e9 / self.bins.len() as f64
    }

    /// Seconds since the start of the run.
    pub fn seconds(&self, tick: u64) -> f64 {
        tick.saturating_sub(self.from) as f64 / 1e9
    }

    /// Output tokens per second by their arrival.
    pub fn tokens_per_s(&self) -> Series {
        let length = self.interval_s();
        self.each(|bin| Some(bin.tokens / length))
    }

    /// A quantile of the gaps that ended in each interval.
    pub fn gap_quantile(&self, per_mille: u32) -> Series {
        self.each(|bin| quantile_f32(&bin.gaps_s, per_mille))
    }

    /// Quantiles of `value` over the requests that were due in each interval, and the length of the intervals, seconds.
    /// The intervals are long enough to contain about ten requests.
    pub fn due_quantiles(
        &self,
        samples: &[Sample],
        value: fn(&Sample) -> Option<u64>,
        per_milles: [u32; 2],
    ) -> ([Series; 2], f64) {
        let count = (samples.len() / 10).clamp(1, MOST_BINS);
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); count];
        for sample in samples.iter().filter(|sample| sample.ok) {
            if let Some(ns) = value(sample) {
                values[self.place(sample.due, count)].push(ns as f32 / 1e9);
            }
        }
        values.iter_mut().for_each(|values| values.sort_unstable_by(f32::total_cmp));
        let length = (self.to - self.from) as f64 / 1e9 / count as f64;
        let at = |per_mille| {
            let point = |(i, values): (usize, &Vec<f32>)| ((i as f64 + 0.5) * length, quantile_f32(values, per_mille));
            values.iter().enumerate().map(point).collect()
        };
        (per_milles.map(at), length)
    }

    /// Mean and maximum of the requests in flight in each interval.
    pub fn in_flight(&self, samples: &[Sample]) -> (Series, Series) {
        let levels = InFlight::from_spans(spans(samples).chain(self.warmup.iter().copied())).bins(
            self.from,
            self.to,
            self.bins.len(),
        );
        let mean = self.middles().zip(&levels).map(|(at, level)| (at, Some(level.0))).collect();
        let most = self.middles().zip(&levels).map(|(at, level)| (at, Some(f64::from(level.1)))).collect();
        (mean, most)
    }

    /// Every gap, sorted, seconds.
    pub fn gaps_s(&self) -> &[f32] {
        &self.gaps_s
    }

    fn each(&self, value: impl Fn(&Bin) -> Option<f64>) -> Series {
        self.middles().zip(&self.bins).map(|(at, bin)| (at, value(bin))).collect()
    }

    fn middles(&self) -> impl Iterator<Item = f64> + use<> {
        let length = self.interval_s();
        (0..self.bins.len()).map(move |i| (i as f64 + 0.5) * length)
    }

    fn bin_of(&self, tick: u64) -> usize {
        self.place(tick, self.bins.len())
    }

    /// The index of the interval, of `count` equal ones, that contains a time.
    fn place(&self, tick: u64, count: usize) -> usize {
        let share = u128::from(tick.saturating_sub(self.from)) * count as u128 / u128::from(self.to - self.from);
        (share as usize).min(count - 1)
    }
}

fn quantile_f32(sorted: &[f32], per_mille: u32) -> Option<f64> {
    (!sorted.is_empty()).then(|| f64::from(sorted[nearest_rank(sorted.len(), per_mille) - 1]))
}

/// Values at percentiles up to the last one that the number of samples resolves: `(percent, value)`.
pub fn percentile_curve(sorted: &[f32]) -> Vec<(f64, Option<f64>)> {
    /// Points for each factor of ten in the tail.
    const STEPS: usize = 24;
    let n = sorted.len();
    if n == 0 {
        return Vec::new();
    }
    let nines = (n as f64).log10();
    let steps = (nines * STEPS as f64).floor() as usize;
    let mut curve: Vec<(f64, Option<f64>)> = (0..=steps)
        .map(|i| {
            let beyond = 10f64.powf(-(i as f64) / STEPS as f64);
            let rank = (((1.0 - beyond) * n as f64 - 1e-6).ceil() as usize).clamp(1, n);
            ((1.0 - beyond) * 100.0, Some(f64::from(sorted[rank - 1])))
        })
        .collect();
    curve.push(((1.0 - 1.0 / (n as f64 + 1.0)) * 100.0, Some(f64::from(sorted[n - 1]))));
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
