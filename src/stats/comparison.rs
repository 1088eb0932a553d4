//! Differences between two runs, with 95 % confidence intervals.
//!
//! Means are compared by batch means in time order, because responses that a server computed together are correlated.
//! Quantiles are compared by combining the confidence intervals of both runs (MOVER: Zou and Donner 2008), which
//! assumes no distribution. Both intervals are for these two runs; they do not include the variation from run to run (a
//! warm cache, another tenant).
//!
//! Success rates are compared by Newcombe's interval (1998, method 10): the same combination of Wilson's intervals,
//! with the effective number of requests, because failures come in clusters.
//!
//! If runs were repeated, the figures of whole runs are compared, with each run as one sample (Welch 1947): the
//! interval is `mean(b) − mean(a) ± t·√(s²a/ka + s²b/kb)` with the degrees of freedom of Welch and Satterthwaite, as
//! Georges, Buytaert and Eeckhout (2007) recommend for benchmarks. If one side is a single run, it is assumed to vary
//! like the other side: `t` with `k − 1` degrees of freedom, and `s·√(1 + 1/k)`.

use super::confidence::design_effect;
use super::quantile::Quantile;
use super::samples::{Sample, Samples};

/// Batches, as for the design effect of [`super::confidence`].
const BATCHES: usize = 30;
/// Student's t for 97.5 % and the fewest degrees of freedom that two times [`BATCHES`] batches can have.
const T: f64 = 2.045;
/// The normal distribution's 97.5 %.
const Z: f64 = 1.959_964;

/// A difference with its confidence interval; a side is `None` if the samples do not bound it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub value: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Difference {
    /// Both ends are bounded.
    pub fn is_bounded(&self) -> bool {
        self.low.is_some() && self.high.is_some()
    }

    /// The interval excludes 0.
    pub fn is_sure(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

/// `mean(b) − mean(a)`, both in time order. `None` for fewer samples than batches on either side.
pub(crate) fn compare_means(a: &[f64], b: &[f64]) -> Option<Difference> {
    let (mean_a, error_a) = batched(a)?;
    let (mean_b, error_b) = batched(b)?;
    let (value, half) = (mean_b - mean_a, T * (error_a + error_b).sqrt());
    Some(Difference { value, low: Some(value - half), high: Some(value + half) })
}

/// `mean(b) − mean(a)` of figures that are a sum over a number in each request, such as gaps between tokens: each
/// sample is that pair. The error is that of a ratio, from batches in time order. `None` for fewer samples than batches
/// on either side, or without anything to divide by.
pub(crate) fn compare_ratios(a: &[(f64, f64)], b: &[(f64, f64)]) -> Option<Difference> {
    let (ratio_a, error_a) = batched_ratio(a)?;
    let (ratio_b, error_b) = batched_ratio(b)?;
    let (value, half) = (ratio_b - ratio_a, T * (error_a + error_b).sqrt());
    Some(Difference { value, low: Some(value - half), high: Some(value + half) })
}

/// Ratio of the sums, and its squared standard error: the variance of `y − ratio·x` over the batches, by the square of
/// the mean `x`.
fn batched_ratio(samples: &[(f64, f64)]) -> Option<(f64, f64)> {
    let size = samples.len() / BATCHES;
    let sums = |part: &[(f64, f64)]| part.iter().fold((0.0, 0.0), |(y, x), sample| (y + sample.0, x + sample.1));
    let (y, x) = sums(samples);
    if size == 0 || x == 0.0 {
        return None;
    }
    let ratio = y / x;
    let batches: Vec<(f64, f64)> = samples[..size * BATCHES].chunks_exact(size).map(sums).collect();
    let mean_x = batches.iter().map(|batch| batch.1).sum::<f64>() / BATCHES as f64;
    let variance = batches.iter().map(|(y, x)| (y - ratio * x).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
    (mean_x > 0.0).then(|| (ratio, variance / BATCHES as f64 / mean_x.powi(2)))
}

/// `mean(b) − mean(a)` of a figure of whole runs, one value for each repeated run. `None` if neither side has repeats,
/// or a side has no run.
pub(crate) fn compare_runs(a: &[f64], b: &[f64]) -> Option<Difference> {
    let (mean_a, variance_a) = mean_and_variance(a)?;
    let (mean_b, variance_b) = mean_and_variance(b)?;
    let (ka, kb) = (a.len() as f64, b.len() as f64);
    let (error, freedom) = match (variance_a, variance_b) {
        (Some(va), Some(vb)) => {
            let (ea, eb) = (va / ka, vb / kb);
            let freedom = (ea + eb).powi(2) / (ea.powi(2) / (ka - 1.0) + eb.powi(2) / (kb - 1.0));
            (ea + eb, if freedom.is_finite() { freedom } else { ka + kb - 2.0 })
        }
        (Some(v), None) => (v * (1.0 / ka + 1.0), ka - 1.0),
        (None, Some(v)) => (v * (1.0 / kb + 1.0), kb - 1.0),
        (None, None) => return None,
    };
    let (value, half) = (mean_b - mean_a, student_t(freedom) * error.sqrt());
    Some(Difference { value, low: Some(value - half), high: Some(value + half) })
}

/// The mean of a figure over repeated runs, its sample standard deviation, and half the width of the mean's 95 %
/// interval by Student's t; the last two are `None` for a single run, and all for none.
pub(crate) fn mean_of_repeats(values: &[f64]) -> Option<(f64, Option<f64>, Option<f64>)> {
    let (mean, variance) = mean_and_variance(values)?;
    let k = values.len() as f64;
    Some((mean, variance.map(f64::sqrt), variance.map(|variance| student_t(k - 1.0) * (variance / k).sqrt())))
}

/// Mean, and the sample variance of at least two values.
fn mean_and_variance(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let k = values.len() as f64;
    let mean = values.iter().sum::<f64>() / k;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (k - 1.0);
    (!values.is_empty()).then(|| (mean, (values.len() > 1).then_some(variance)))
}

/// Student's t for 97.5 %. Degrees of freedom are rounded down, so that an interval is never too narrow.
fn student_t(freedom: f64) -> f64 {
    const OF: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    OF[(freedom.floor().max(1.0) as usize).min(OF.len()) - 1]
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

/// `b − a` of two quantiles, by combining their intervals.
pub(crate) fn compare_quantiles(a: &Quantile, b: &Quantile) -> Difference {
    let value = b.value - a.value;
    let sides = a.interval.zip(b.interval);
    let half = |x: Option<f64>, y: Option<f64>| Some(((x?).powi(2) + (y?).powi(2)).sqrt());
    let below = sides.and_then(|(ia, ib)| half(ib.low.map(|low| b.value - low), ia.high.map(|high| high - a.value)));
    let above = sides.and_then(|(ia, ib)| half(ib.high.map(|high| high - b.value), ia.low.map(|low| a.value - low)));
    Difference { value, low: below.map(|half| value - half), high: above.map(|half| value + half) }
}

/// Difference of the shares of true values, `share(b) − share(a)`; both sides in time order. `None` if a side is empty.
pub(crate) fn compare_shares(a: &[bool], b: &[bool]) -> Option<Difference> {
    let ((share_a, low_a, high_a), (share_b, low_b, high_b)) = (wilson(a)?, wilson(b)?);
    let value = share_b - share_a;
    let below = (share_b - low_b).hypot(high_a - share_a);
    let above = (high_b - share_b).hypot(share_a - low_a);
    Some(Difference { value, low: Some(value - below), high: Some(value + above) })
}

/// The share of true values with Wilson's interval. Fewer samples than batches count as independent.
fn wilson(in_time_order: &[bool]) -> Option<(f64, f64, f64)> {
    let values: Vec<f64> = in_time_order.iter().map(|&is| f64::from(u8::from(is))).collect();
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let share = values.iter().sum::<f64>() / n;
    let varies = share > 0.0 && share < 1.0;
    let deff = if varies { design_effect(&values, 0.5, 1.0 - share).unwrap_or(1.0) } else { 1.0 };
    let weight = Z * Z / (n / deff);
    let middle = (share + weight / 2.0) / (1.0 + weight);
    let half = (weight * share * (1.0 - share) + weight * weight / 4.0).sqrt() / (1.0 + weight);
    Some((share, (middle - half).max(0.0), (middle + half).min(1.0)))
}

/// Samples of the throughput of a run: the amounts of the requests that succeeded in each of [`BATCHES`] equal
/// intervals, per second. Empty for fewer requests than intervals.
pub(crate) fn throughput_samples(samples: &Samples, amount: fn(&Sample) -> f64) -> Vec<f64> {
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
        amounts[(place as usize).min(BATCHES - 1)] += amount(&sample);
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

    #[test]
    fn repeats_have_a_mean_with_its_interval() {
        assert_eq!(mean_of_repeats(&[]), None);
        assert_eq!(mean_of_repeats(&[2.0]), Some((2.0, None, None)));
        let (mean, deviation, half) = mean_of_repeats(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((mean, deviation), (2.0, Some(1.0)));
        assert!((half.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-12, "{half:?}");
    }

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
            means += u32::from(covers(compare_means(&a, &b).unwrap()));
            let (a, b) = (Series::compute(&a), Series::compute(&b));
            medians += u32::from(covers(compare_quantiles(a.at(500).unwrap(), b.at(500).unwrap())));
        }
        assert!(means >= 180 && medians >= 180, "{means} and {medians} of 200");
    }

    #[test]
    fn intervals_between_repeated_runs_cover_the_true_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for (ka, kb) in [(2, 2), (3, 3), (5, 3), (1, 4)] {
            let mut covered = 0;
            for _ in 0..400 {
                let (a, b) = (normal(&mut rng, ka, 0.0), normal(&mut rng, kb, 0.5));
                let d = compare_runs(&a, &b).unwrap();
                covered += u32::from(d.low.unwrap() <= 0.5 && 0.5 <= d.high.unwrap());
            }
            assert!(covered >= 372, "{ka} and {kb} runs: {covered} of 400");
        }
        assert_eq!((compare_runs(&[1.0], &[2.0]), compare_runs(&[], &[2.0, 3.0])), (None, None));
        assert_eq!(compare_runs(&[1.0, 1.0], &[2.0, 2.0]).unwrap().low, Some(1.0));
        // Student's own numbers: 2 and 3 runs with variances 2 and 1, 1.5 apart.
        let d = compare_runs(&[0.0, 2.0], &[1.5, 2.5, 3.5]).unwrap();
        let half = 4.303 * (1.0 + 1.0 / 3.0f64).sqrt();
        assert!((d.value - 1.5).abs() < 1e-9 && d.low.unwrap() <= 1.5 - half + 1e-9, "{d:?}");
    }

    #[test]
    fn intervals_of_ratios_cover_the_true_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut requests = |mean: f64| -> Vec<(f64, f64)> {
            let noise = normal(&mut rng, 900, 0.0);
            let gaps = |(i, noise): (usize, f64)| {
                let gaps = (5 + i * 7 % 90) as f64;
                (gaps * mean + noise * gaps.sqrt(), gaps)
            };
            noise.into_iter().enumerate().map(gaps).collect()
        };
        let mut covered = 0;
        for _ in 0..200 {
            let d = compare_ratios(&requests(10.0), &requests(10.2)).unwrap();
            covered += u32::from((d.low.unwrap()..=d.high.unwrap()).contains(&0.2));
        }
        assert!(covered >= 180, "{covered} of 200");
        assert_eq!(compare_ratios(&[(0.0, 0.0); 90], &[(1.0, 1.0); 90]), None);
    }

    #[test]
    fn intervals_of_shares_cover_the_true_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        // Successes and failures in clusters of `cluster`.
        let mut run = |share: f64, n: usize, cluster: usize| -> Vec<bool> {
            let mut is = false;
            let mut next = |i: usize| {
                if i.is_multiple_of(cluster) {
                    is = rand::RngExt::random_bool(&mut rng, share);
                }
                is
            };
            (0..n).map(&mut next).collect()
        };
        for (a, b, n, cluster) in [(0.99, 0.9, 200, 1), (1.0, 0.5, 25, 1), (0.95, 0.95, 60, 1), (0.9, 0.7, 3000, 10)] {
            let covers = |d: Difference| d.low.unwrap() <= b - a && b - a <= d.high.unwrap();
            let covered =
                (0..400).filter(|_| covers(compare_shares(&run(a, n, cluster), &run(b, n, cluster)).unwrap()));
            let covered = covered.count();
            assert!(covered >= 366, "{a} and {b} of {n} in clusters of {cluster}: {covered} of 400");
        }
        // Newcombe's own example: 56 of 70 against 48 of 80.
        let of = |successes: usize, n: usize| (0..n).map(|i| i * successes % n < successes).collect::<Vec<bool>>();
        let d = compare_shares(&of(48, 80), &of(56, 70)).unwrap();
        let near = |x: Option<f64>, y: f64| (x.unwrap() - y).abs() < 5e-5;
        assert!((d.value - 0.2).abs() < 1e-9 && near(d.low, 0.0524) && near(d.high, 0.3339), "{d:?}");
        assert_eq!(compare_shares(&[], &[true]), None);
    }

    #[test]
    fn a_large_difference_is_sure_and_none_is_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let (a, b, c) = (normal(&mut rng, 900, 0.0), normal(&mut rng, 900, 1.0), normal(&mut rng, 900, 0.0));
        assert!(compare_means(&a, &b).unwrap().is_sure());
        assert!(!compare_means(&a, &c).unwrap().is_sure());
        assert_eq!(compare_means(&a[..29], &b), None);
    }
}
