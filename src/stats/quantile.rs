//! Exact quantiles by nearest rank. Samples are given in time order, which confidence intervals need.

use super::confidence::{self, Interval};

/// A row of the percentile table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The share of samples at or below, in thousandths; 1000 is the largest sample.
    pub per_mille: u32,
    pub name: &'static str,
}

impl Level {
    /// The share of samples at or below.
    pub fn share(self) -> f64 {
        f64::from(self.per_mille) / 1000.0
    }
}

const fn level(per_mille: u32, name: &'static str) -> Level {
    Level { per_mille, name }
}

/// The rows of the percentile table.
pub const LEVELS: [Level; 12] = [
    level(100, "10%"),
    level(250, "25%"),
    level(500, "50%"),
    level(660, "66%"),
    level(750, "75%"),
    level(800, "80%"),
    level(900, "90%"),
    level(950, "95%"),
    level(980, "98%"),
    level(990, "99%"),
    level(999, "99.9%"),
    level(1000, "max"),
];

/// A percentile with fewer samples beyond it is marked when printed, because it varies strongly from run to run.
pub(crate) const SAMPLES_BEYOND: usize = 10;

/// One quantile of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    pub value: f64,
    /// Fewer than [`SAMPLES_BEYOND`] samples lie beyond it. Never set for the maximum.
    pub few: bool,
    /// 95 % confidence interval; `None` for the maximum and for too few samples.
    pub interval: Option<Interval>,
}

/// Bounds of a percentile, seconds. One for each of [`LEVELS`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bound {
    pub low: f64,
    pub high: f64,
}

/// The distribution of a quantity over a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub count: usize,
    pub mean: Option<f64>,
    /// Standard deviation of the samples (divided by n).
    pub deviation: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// One for each of [`LEVELS`]; empty without samples.
    pub quantiles: Vec<Quantile>,
}

impl Series {
    /// The series of samples in time order.
    pub fn compute(in_time_order: &[f64]) -> Series {
        let mut sorted = in_time_order.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return Series::default() };
        let quantile = |level: Level| {
            let rank = nearest_rank(sorted.len(), level.per_mille);
            let value = sorted[rank - 1];
            let is_max = level.per_mille == 1000;
            Quantile {
                value,
                few: !is_max && sorted.len() - rank < SAMPLES_BEYOND,
                interval: if is_max { None } else { confidence::compute(in_time_order, &sorted, value, level.share()) },
            }
        };
        let n = sorted.len() as f64;
        let mean = in_time_order.iter().sum::<f64>() / n;
        let variance = in_time_order.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        Series {
            count: sorted.len(),
            mean: Some(mean),
            deviation: Some(variance.sqrt()),
            min: Some(min),
            max: Some(max),
            quantiles: LEVELS.into_iter().map(quantile).collect(),
        }
    }

    /// The series of values in time order.
    pub fn from_values(in_time_order: impl Iterator<Item = f64>) -> Series {
        Series::compute(&in_time_order.collect::<Vec<f64>>())
    }

    /// The series, in seconds, of nanoseconds in time order.
    pub fn from_ns(in_time_order: impl Iterator<Item = f64>) -> Series {
        Series::from_values(in_time_order.map(|ns| ns / 1e9))
    }

    /// The quantile of one of [`LEVELS`].
    pub fn at(&self, per_mille: u32) -> Option<&Quantile> {
        let row = LEVELS.iter().position(|level| level.per_mille == per_mille)?;
        self.quantiles.get(row)
    }

    /// The value of one of [`LEVELS`].
    pub fn value(&self, per_mille: u32) -> Option<f64> {
        self.at(per_mille).map(|quantile| quantile.value)
    }
}

/// The arithmetic mean; `None` without values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The rank, from 1, of the smallest of `count` sorted values with at least `per_mille` thousandths of all values at
/// or below it. Integer arithmetic, because 0.95 · 20 must be 19.
pub fn nearest_rank(count: usize, per_mille: u32) -> usize {
    let exact = count as u128 * u128::from(per_mille);
    (exact.div_ceil(1000) as usize).clamp(1, count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn naive(values: &[f64], per_mille: u32) -> f64 {
        let enough = |v: &f64| {
            let at_or_below = values.iter().filter(|other| *other <= v).count() as u64;
            at_or_below * 1000 >= u64::from(per_mille) * values.len() as u64
        };
        values.iter().copied().filter(|v| enough(v)).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_definition(values in proptest::collection::vec(0u32..50, 1..200)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let series = Series::compute(&values);
            for level in LEVELS {
                prop_assert_eq!(series.value(level.per_mille), Some(naive(&values, level.per_mille)));
            }
        }
    }

    #[test]
    fn ranks_are_exact_despite_rounding() {
        assert_eq!(nearest_rank(20, 950), 19);
        assert_eq!(nearest_rank(100, 990), 99);
        assert_eq!(nearest_rank(1000, 999), 999);
        assert_eq!(nearest_rank(10, 999), 10);
        assert_eq!(nearest_rank(1, 100), 1);
    }

    #[test]
    fn percentiles_with_few_samples_beyond_are_marked() {
        let series = Series::compute(&(0..100).map(f64::from).collect::<Vec<_>>());
        assert!(!series.at(900).unwrap().few);
        assert!(series.at(950).unwrap().few);
        assert!(!series.at(1000).unwrap().few);
    }

    #[test]
    fn no_samples_have_no_figures() {
        assert_eq!(Series::compute(&[]), Series::default());
        assert_eq!(Series::compute(&[]).value(500), None);
    }
}
