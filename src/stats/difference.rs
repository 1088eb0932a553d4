//! Whether two runs differ by more than chance: differences with 95 % confidence intervals.
//!
//! Means are compared by the means of batches in time order, because answers that a server worked on together are
//! alike. Quantiles are compared by the intervals that each run has of itself (MOVER: Zou and Donner 2008), which
//! need nothing of their distribution. Both say how sure the difference of these two runs is; what changes from run
//! to run by itself (a warm cache, another tenant) no single pair of runs can say.

use super::gather::Sample;
use super::quantile::Quantile;

/// Batches, as for the design effect of [`super::interval`].
const BATCHES: usize = 30;
/// Student's t for 97.5 % and the fewest degrees of freedom that two times [`BATCHES`] batches can have.
const T: f64 = 2.045;

/// A difference with its interval; a side is `None` where the samples do not bound it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub value: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Difference {
    /// The interval leaves out 0.
    pub fn is_sure(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

/// `mean(b) − mean(a)`, both in time order. `None` for fewer samples than batches on either side.
pub fn of_means(a: &[f64], b: &[f64]) -> Option<Difference> {
    let (mean_a, error_a) = batched(a)?;
    let (mean_b, error_b) = batched(b)?;
    let (value, half) = (mean_b - mean_a, T * (error_a + error_b).sqrt());
    Some(Difference { value, low: Some(value - half), high: Some(value + half) })
}

/// Mean of all, and the squared standard error by batch means.
fn batched(samples: &[f64]) -> Option<(f64, f64)> {
    let size = samples.len() / BATCHES;
    if size == 0 {
        return None;
    }
    let means: Vec<f64> =
        samples[..size * BATCHES].chunks_exact(size).map(|batch| batch.iter().sum::<f64>() / size as f64).collect();
    let mean = means.iter().sum::<f64>() / BATCHES as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
    Some((samples.iter().sum::<f64>() / samples.len() as f64, variance / BATCHES as f64))
}

/// `b − a` of two quantiles with intervals of their own.
pub fn of_quantiles(a: &Quantile, b: &Quantile) -> Difference {
    let value = b.value - a.value;
    let sides = a.interval.zip(b.interval);
    let half = |x: Option<f64>, y: Option<f64>| Some(((x?).powi(2) + (y?).powi(2)).sqrt());
    let below = sides.and_then(|(ia, ib)| half(ib.low.map(|low| b.value - low), ia.high.map(|high| high - a.value)));
    let above = sides.and_then(|(ia, ib)| half(ib.high.map(|high| high - b.value), ia.low.map(|low| a.value - low)));
    Difference { value, low: below.map(|half| value - half), high: above.map(|half| value + half) }
}

/// The amounts per second that succeeded requests brought at their end, in each of [`BATCHES`] equal intervals of the
/// run: samples of its throughput. Empty for fewer requests than intervals.
pub fn rates(samples: &[Sample], amount: fn(&Sample) -> f64) -> Vec<f64> {
    let (Some(first), Some(to)) = (samples.first(), samples.iter().map(|sample| sample.end).max()) else {
        return Vec::new();
    };
    let (from, length) = (first.due, to.saturating_sub(first.due));
    if length == 0 || samples.len() < BATCHES {
        return Vec::new();
    }
    let mut amounts = vec![0.0; BATCHES];
    for sample in samples.iter().filter(|sample| sample.ok) {
        let place = u128::from(sample.end - from) * BATCHES as u128 / u128::from(length);
        amounts[(place as usize).min(BATCHES - 1)] += amount(sample);
    }
    let seconds = length as f64 / 1e9 / BATCHES as f64;
    amounts.into_iter().map(|amount| amount / seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::quantile::Series;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn normal(rng: &mut ChaCha8Rng, n: usize, mean: f64) -> Vec<f64> {
        (0..n).map(|_| mean + <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng)).collect()
    }

    #[test]
    fn intervals_cover_the_true_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (mut means, mut medians) = (0, 0);
        for _ in 0..200 {
            let (a, b) = (normal(&mut rng, 600, 0.0), normal(&mut rng, 600, 0.5));
            let covers = |d: Difference| d.low.unwrap() <= 0.5 && 0.5 <= d.high.unwrap();
            means += u32::from(covers(of_means(&a, &b).unwrap()));
            let (a, b) = (Series::of(&a), Series::of(&b));
            medians += u32::from(covers(of_quantiles(a.at(500).unwrap(), b.at(500).unwrap())));
        }
        assert!(means >= 180 && medians >= 180, "{means} and {medians} of 200");
    }

    #[test]
    fn a_large_difference_is_sure_and_none_is_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let (a, b, c) = (normal(&mut rng, 900, 0.0), normal(&mut rng, 900, 1.0), normal(&mut rng, 900, 0.0));
        assert!(of_means(&a, &b).unwrap().is_sure());
        assert!(!of_means(&a, &c).unwrap().is_sure());
        assert_eq!(of_means(&a[..29], &b), None);
    }
}
