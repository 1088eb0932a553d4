//! Confidence intervals of quantiles of samples that are correlated in time.
//!
//! The interval uses order statistics: the true quantile is between the ranks j and k of Bin(n_eff, p) with the given
//! confidence, for any distribution (Hahn and Meeker, *Statistical Intervals*, ch. 5). A server that works in batches
//! serves requests of a batch in similar times, so `n` samples contain less information than `n` independent ones:
//! `n_eff = n / deff`, with the design effect estimated from the means of batches in time order.

/// Batches for the design effect: the fewest that give a usable variance, so that each batch is as long as possible
/// compared with the correlation.
pub(super) const BATCHES: usize = 30;

/// Probability outside the interval on each side.
const TAIL: f64 = 0.025;

/// A 95 % confidence interval. A side is `None` if there are too few samples beyond the quantile to bound it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// The interval of the `p`-quantile, whose estimate is `quantile`; `sorted` holds the same samples. `None` for fewer
/// samples than batches.
pub(crate) fn compute(in_time_order: &[f64], sorted: &[f64], quantile: f64, p: f64) -> Option<Interval> {
    let (low, high) = ranks(sorted.len(), design_effect(in_time_order, quantile, p)?, p);
    let at = |rank: usize| sorted[rank - 1];
    Some(Interval { low: low.map(at), high: high.map(at) })
}

/// The ranks, from 1, of the ends of the interval of the `p`-quantile of `n` samples with this design effect.
pub(crate) fn ranks(n: usize, deff: f64, p: f64) -> (Option<usize>, Option<usize>) {
    // An effective number of samples below 1 counts as 1.
    let n_eff = ((n as f64 / deff).floor() as usize).max(1);
    let (below, above) = binomial_ranks(n_eff, p);
    // Scales a rank among the effective samples to the samples, rounding outwards.
    let scale = n as f64 / n_eff as f64;
    let low = (below >= 1).then(|| ((below as f64 * scale).floor() as usize).clamp(1, n));
    let high = (above <= n_eff).then(|| ((above as f64 * scale).ceil() as usize).clamp(1, n));
    (low, high)
}

/// The design effect of samples in time order; `None` for fewer samples than batches.
pub(crate) fn design_effect(in_time_order: &[f64], quantile: f64, p: f64) -> Option<f64> {
    let size = batch_size(in_time_order.len())?;
    let batches = in_time_order[..size * BATCHES].chunks_exact(size);
    Some(design_effect_of_batches(batches.map(|batch| batch.iter().filter(|&&x| x <= quantile).count()), size, p))
}

/// The samples of each of the [`BATCHES`] batches of `n` samples; `None` for fewer samples than batches.
pub(super) fn batch_size(n: usize) -> Option<usize> {
    Some(n / BATCHES).filter(|&size| size > 0)
}

/// `max(1, (s²/B)·n / (p(1−p)))` with s² the sample variance of the B batch means of `1[x ≤ quantile]`, from the number
/// of samples of each batch with `x ≤ quantile`.
pub(super) fn design_effect_of_batches(counts: impl Iterator<Item = usize>, size: usize, p: f64) -> f64 {
    let means: Vec<f64> = counts.map(|count| count as f64 / size as f64).collect();
    let mean = means.iter().sum::<f64>() / BATCHES as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
    (variance / BATCHES as f64 * (size * BATCHES) as f64 / (p * (1.0 - p))).max(1.0)
}

/// The ranks `j ≤ k`, from 1, with `P(Bin < j) ≤ TAIL` as large as can be and `P(Bin ≥ k) ≤ TAIL` likewise. `j` is 0
/// and `k` is `n + 1` where no sample bounds that side.
fn binomial_ranks(n: usize, p: f64) -> (usize, usize) {
    let (first, masses) = binomial_masses(n, p);
    let total: f64 = masses.iter().sum();
    let (mut low_tail, mut j) = (0.0, first);
    for (offset, mass) in masses.iter().enumerate() {
        low_tail += mass / total;
        if low_tail > TAIL {
            j = first + offset;
            break;
        }
    }
    let (mut high_tail, mut k) = (0.0, first + masses.len());
    for (offset, mass) in masses.iter().enumerate().rev() {
        high_tail += mass / total;
        if high_tail > TAIL {
            k = first + offset + 1;
            break;
        }
    }
    (j, k)
}

/// The masses of Bin(n, p), up to a common factor, around the mode, as far as they matter; and where they begin.
fn binomial_masses(n: usize, p: f64) -> (usize, Vec<f64>) {
    const NEGLIGIBLE: f64 = 1e-18;
    let odds = p / (1.0 - p);
    let mode = (((n + 1) as f64 * p).floor() as usize).min(n);
    let mut below = Vec::new();
    let (mut mass, mut i) = (1.0, mode);
    while i > 0 {
        mass *= i as f64 / ((n - i + 1) as f64 * odds);
        if mass < NEGLIGIBLE {
            break;
        }
        i -= 1;
        below.push(mass);
    }
    let first = mode - below.len();
    below.reverse();
    let mut masses = below;
    masses.push(1.0);
    let (mut mass, mut i) = (1.0, mode);
    while i < n {
        mass *= (n - i) as f64 * odds / (i + 1) as f64;
        if mass < NEGLIGIBLE {
            break;
        }
        i += 1;
        masses.push(mass);
    }
    (first, masses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::quantile::nearest_rank;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn ranks_are_those_of_the_printed_tables() {
        // Two-sided 95 % intervals of the median: n = 10 between ranks 2 and 9, n = 20: 6 and 15, n = 100: 40 and 61.
        assert_eq!(binomial_ranks(10, 0.5), (2, 9));
        assert_eq!(binomial_ranks(20, 0.5), (6, 15));
        assert_eq!(binomial_ranks(100, 0.5), (40, 61));
        assert_eq!(binomial_ranks(5, 0.5), (0, 6), "five samples cannot bound a median at 95 %");
        assert_eq!(binomial_ranks(100, 0.99).1, 101, "a hundred samples cannot bound a p99 from above");
    }

    #[test]
    fn independent_samples_have_a_design_effect_near_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let samples: Vec<f64> = (0..30_000).map(|_| StandardNormal.sample(&mut rng)).collect();
        assert!(design_effect(&samples, 0.0, 0.5).unwrap() < 2.0);
        assert_eq!(design_effect(&samples[..29], 0.0, 0.5), None);
    }

    /// Batches of 32 samples share an effect that carries 70 % of the variance, as a batching server makes them.
    fn batched(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
        let (rho, mut shared) = (0.7f64, 0.0f64);
        (0..n)
            .map(|i| {
                if i % 32 == 0 {
                    shared = StandardNormal.sample(rng);
                }
                let own: f64 = StandardNormal.sample(rng);
                rho.sqrt() * shared + (1.0 - rho).sqrt() * own
            })
            .collect()
    }

    /// Each sample keeps 70 % of the one before.
    fn autoregressive(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
        let (rho, mut x) = (0.7f64, 0.0f64);
        (0..n)
            .map(|_| {
                let fresh: f64 = StandardNormal.sample(rng);
                x = rho * x + (1.0 - rho * rho).sqrt() * fresh;
                x
            })
            .collect()
    }

    /// The share of `runs` whose interval holds the true quantile of the standard normal distribution.
    fn coverage(make: fn(&mut ChaCha8Rng, usize) -> Vec<f64>, n: usize, per_mille: u32, truth: f64) -> f64 {
        let runs = 300;
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(per_mille));
        let covers = |samples: Vec<f64>| {
            let mut sorted = samples.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let quantile = sorted[nearest_rank(n, per_mille) - 1];
            let interval = compute(&samples, &sorted, quantile, f64::from(per_mille) / 1000.0).unwrap();
            interval.low.is_none_or(|low| low <= truth) && interval.high.is_none_or(|high| truth <= high)
        };
        (0..runs).filter(|_| covers(make(&mut rng, n))).count() as f64 / f64::from(runs)
    }

    #[test]
    fn nominal_95_percent_covers_at_least_90() {
        for (name, make) in [("batched", batched as fn(&mut _, _) -> _), ("autoregressive", autoregressive)] {
            for (per_mille, truth) in [(500, 0.0), (990, 2.326_347_874)] {
                let share = coverage(make, 32 * 100, per_mille, truth);
                assert!(share >= 0.90, "{name}, {per_mille} per mille: covered in {share}");
            }
        }
    }
}
