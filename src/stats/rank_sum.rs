//! Whether a figure is larger in the runs of one side than in those of another, for decisions that must rarely be wrong.
//!
//! The test is the exact rank-sum test (Wilcoxon 1945, Mann and Whitney 1947), one-sided, with each run as one value. Its
//! distribution is counted over all divisions of the values into the two sides, with mean ranks for equal values
//! (Streitberg and Röhmel 1986). If both sides ran the same system under the same conditions, every division is equally
//! likely, so the rate of false alarms is at most the level, whatever the distribution of the values is. Student's t test
//! exceeds its level for few values of skewed or two-peaked distributions, which latencies have.
//!
//! Several tests share the level by Holm's method (1979): the chance of any false alarm stays at most the level, however
//! the figures depend on each other.

/// The chance, if both sides are alike, that the values of `b` have at least the ranks that they have: small if `b` is
/// larger. At least `1 / (ka + kb choose kb)`; 1 if a side is empty.
pub(crate) fn p_of_increase(a: &[f64], b: &[f64]) -> f64 {
    let ranks = doubled_ranks(&[a, b].concat());
    let observed: usize = ranks[a.len()..].iter().sum();
    let total: usize = ranks.iter().sum();
    // divisions[k][s]: the number of ways to choose k values with the rank sum s.
    let mut divisions = vec![vec![0.0f64; total + 1]; b.len() + 1];
    divisions[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=b.len()).rev() {
            let (fewer, rest) = divisions.split_at_mut(k);
            let (from, to) = (&fewer[k - 1], &mut rest[0]);
            for sum in (rank..=total).rev() {
                to[sum] += from[sum - rank];
            }
        }
    }
    let of_side = &divisions[b.len()];
    of_side[observed..].iter().sum::<f64>() / of_side.iter().sum::<f64>()
}

/// Twice the rank of each value, from 2 on; equal values have the mean of their ranks.
fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        2 * below + equal + 1
    };
    values.iter().map(rank).collect()
}

/// The smallest result of [`p_of_increase`] for sides with so many values, which a complete separation gives.
pub(crate) fn least_p(ka: usize, kb: usize) -> f64 {
    // 1 / (ka + kb choose kb).
    (1..=kb).map(|i| i as f64 / (ka + i) as f64).product()
}

/// The fewest values on each side with which a complete separation is significant in the first of `tests` tests.
pub(crate) fn repeats_needed(tests: usize, level: f64) -> usize {
    (1..).find(|&k| least_p(k, k) * tests as f64 <= level).unwrap_or(usize::MAX)
}

/// Which of several tests are significant, if the chance of any false alarm is to be at most `level`.
pub(crate) fn holm(p: &[f64], level: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut significant = vec![false; p.len()];
    for (place, &test) in order.iter().enumerate() {
        if p[test] * (p.len() - place) as f64 > level {
            break;
        }
        significant[test] = true;
    }
    significant
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn chances_are_those_of_published_tables() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(p_of_increase(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 1.0 / 20.0);
        near(p_of_increase(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), 1.0);
        // U = 1: two of 252 divisions are at least as extreme.
        near(p_of_increase(&[1.0, 2.0, 3.0, 4.0, 6.0], &[5.0, 7.0, 8.0, 9.0, 10.0]), 2.0 / 252.0);
        // All values are equal: every division has the same sum.
        near(p_of_increase(&[1.0; 4], &[1.0; 4]), 1.0);
        // The ranks are 1, 2.5, 2.5, 4: of six divisions only {2.5, 4} in two ways reach 6.5.
        near(p_of_increase(&[1.0, 2.0], &[2.0, 3.0]), 2.0 / 6.0);
        near(p_of_increase(&[1.0, f64::INFINITY], &[f64::INFINITY, f64::INFINITY]), 3.0 / 6.0);
        assert_eq!([least_p(3, 3), least_p(5, 5), least_p(3, 10)], [1.0 / 20.0, 1.0 / 252.0, 1.0 / 286.0].map(|p| p));
        assert_eq!([1, 2, 3, 9, 50].map(|tests| repeats_needed(tests, 0.01)), [5, 5, 6, 6, 8]);
    }

    #[test]
    fn the_level_is_shared_by_holms_method() {
        assert_eq!(holm(&[0.004, 0.02, 0.001, 0.0049], 0.01), [false, false, true, false]);
        assert_eq!(holm(&[0.003, 0.02, 0.001, 0.0033], 0.01), [true, false, true, true]);
        assert_eq!(holm(&[], 0.01), [false; 0]);
    }

    /// Distributions of a figure over runs: symmetric, skewed, with heavy tails, with two modes, with few values.
    const SHAPES: [fn(&mut ChaCha8Rng) -> f64; 6] = [
        normal,
        |rng| (0.5 * normal(rng)).exp(),
        |rng| -(1.0 - rng.random::<f64>()).ln(),
        |rng| normal(rng) / (1.0 - rng.random::<f64>()).sqrt(),
        |rng| 3.0 * f64::from(u8::from(rng.random_bool(0.3))) + 0.3 * normal(rng),
        |rng| f64::from(u8::from(rng.random_bool(0.8))),
    ];

    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        StandardNormal.sample(rng)
    }

    /// The share of comparisons of equal systems in which any of `tests` tests is significant. Half of the tests are of
    /// one figure, as percentiles of one time nearly are.
    fn false_alarms(shape: fn(&mut ChaCha8Rng) -> f64, (ka, kb): (usize, usize), tests: usize, trials: u32) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut alarms = 0;
        for _ in 0..trials {
            let mut last = 1.0;
            let mut chances = Vec::with_capacity(tests);
            for test in 0..tests {
                if test % 2 == 0 {
                    let mut side = |k: usize| (0..k).map(|_| shape(&mut rng)).collect::<Vec<f64>>();
                    last = p_of_increase(&side(ka), &side(kb));
                }
                chances.push(last);
            }
            alarms += u32::from(holm(&chances, 0.01).contains(&true));
        }
        f64::from(alarms) / f64::from(trials)
    }

    #[test]
    fn equal_systems_give_at_most_one_percent_of_false_alarms() {
        const TRIALS: u32 = 600;
        // Four standard deviations of a share of 1 %.
        let most = 0.01 + 4.0 * (0.01f64 * 0.99 / f64::from(TRIALS)).sqrt();
        let mut rates = Vec::new();
        for (number, shape) in SHAPES.into_iter().enumerate() {
            for (repeats, tests) in [((5, 5), 2), ((6, 6), 3), ((9, 5), 2)] {
                let rate = false_alarms(shape, repeats, tests, TRIALS);
                assert!(rate <= most, "shape {number}, {repeats:?} runs, {tests} tests: {rate}");
                rates.push(rate);
            }
        }
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!(mean <= 0.01, "of all trials together: {mean}");
    }

    #[test]
    fn clear_differences_are_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let mut side = |mean: f64| (0..5).map(|_| mean + normal(&mut rng)).collect::<Vec<f64>>();
        let found = (0..200).filter(|_| holm(&[p_of_increase(&side(0.0), &side(4.0)), 1.0], 0.01)[0]).count();
        assert!(found >= 180, "{found} of 200");
    }
}
