//! Arrival schedules: absolute times, seeded, without end, and independent of the number of workers.
//!
//! A schedule is drawn in units of the mean gap ("operational time"): arrival `k` is at `s_k`, the sum of gaps with
//! mean 1. The rate converts it to seconds. Without a ramp that is `t = s / λ`. With a ramp of length `R` the rate
//! rises linearly, `λ(t) = λ·t/R` for `t < R`, so the expected number of arrivals until `t` is `Λ(t) = λt²/(2R)`, then
//! `λ(t − R/2)`. The arrival is at the `t` where `Λ(t) = s`:
//!
//! ```text
//! s ≤ λR/2:  t = sqrt(2Rs/λ)        else:  t = s/λ + R/2
//! ```
//!
//! This is the time change of a point process, exact for Poisson arrivals. A schedule is never rescaled to end at
//! n/λ, which would make the gaps depend on n and reduce the variance of the load.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, Exp1, Gamma};

use super::rng::{self, Purpose};

/// How arrivals are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Requests per second; unused by [`Arrival::Burst`], the mean rate of the trace for [`Arrival::Trace`].
    pub rate_per_s: f64,
    pub arrival: Arrival,
}

/// The distribution of the gaps between arrivals.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// Exponential gaps.
    Poisson,
    /// Equal gaps; the first arrival is at the start.
    Constant,
    /// Gamma-distributed gaps with this coefficient of variation: 1 is Poisson, above is burstier, below more regular.
    Gamma { cv: f64 },
    /// All at the start.
    Burst,
    /// Recorded times: nanoseconds from the start, ascending, at least one. They repeat, one mean gap after the last.
    Trace(Arc<[u64]>),
}

impl Arrival {
    /// Parses `poisson`, `constant`, `gamma:CV` or `burst`. `trace:FILE` is handled where files are read.
    pub(crate) fn scan(text: &str) -> Result<Arrival, String> {
        match text.split_once(':') {
            None if text == "poisson" => Ok(Arrival::Poisson),
            None if text == "constant" => Ok(Arrival::Constant),
            None if text == "burst" => Ok(Arrival::Burst),
            None if text == "gamma" => Err("gamma needs a coefficient of variation, for example gamma:2".to_string()),
            Some(("gamma", cv)) => match cv.parse::<f64>() {
                Ok(cv) if (0.01..=100.0).contains(&cv) => Ok(Arrival::Gamma { cv }),
                _ => Err(format!("'{cv}' is not a coefficient of variation between 0.01 and 100")),
            },
            _ => Err(format!("unknown arrival '{text}' (known: poisson, constant, gamma:CV, burst, trace:FILE)")),
        }
    }
}

/// The arrivals of a schedule as offsets from its start, nanoseconds, non-decreasing and without end. `ramp_ns` is the
/// duration of the linear rise of the rate, 0 for none.
pub fn offsets(schedule: &Schedule, seed: u64, ramp_ns: u64) -> Offsets {
    let gaps = match &schedule.arrival {
        Arrival::Poisson => Gaps::Exponential,
        Arrival::Constant => Gaps::Equal,
        // Shape 1/cv² and scale cv² give mean 1. `Arrival::scan` rejects invalid values.
        Arrival::Gamma { cv } => Gamma::new(1.0 / (cv * cv), cv * cv).map_or(Gaps::Equal, Gaps::Gamma),
        Arrival::Burst => Gaps::None,
        Arrival::Trace(times) => Gaps::Recorded(times.clone()),
    };
    let rate_per_ns = schedule.rate_per_s / 1e9;
    Offsets {
        gaps,
        rng: rng::stream(seed, Purpose::Arrivals),
        rate_per_ns,
        ramp_ns: ramp_ns as f64,
        index: 0,
        sum: 0.0,
    }
}

/// See [`offsets`].
#[derive(Clone, Debug)]
pub struct Offsets {
    gaps: Gaps,
    rng: ChaCha12Rng,
    rate_per_ns: f64,
    ramp_ns: f64,
    index: u64,
    /// Sum of the gaps so far, in mean gaps.
    sum: f64,
}

#[derive(Clone, Debug)]
enum Gaps {
    Exponential,
    Equal,
    Gamma(Gamma<f64>),
    None,
    Recorded(Arc<[u64]>),
}

impl Iterator for Offsets {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let place = match &self.gaps {
            Gaps::None => return Some(0),
            Gaps::Recorded(times) => {
                self.index += 1;
                return recorded(times, self.index - 1);
            }
            // From the index instead of a sum, so that rounding errors do not accumulate.
            Gaps::Equal => self.index as f64,
            Gaps::Exponential => {
                let gap: f64 = Exp1.sample(&mut self.rng);
                self.sum + gap
            }
            Gaps::Gamma(law) => self.sum + law.sample(&mut self.rng),
        };
        self.sum = place;
        self.index += 1;
        Some(self.time_of(place).round() as u64)
    }
}

/// The arrival with this index, repeating the recorded times.
fn recorded(times: &[u64], index: u64) -> Option<u64> {
    let count = times.len() as u64;
    let last = *times.last()?;
    let mean_gap = last / count.saturating_sub(1).max(1);
    Some((index / count).saturating_mul(last + mean_gap).saturating_add(times[(index % count) as usize]))
}

/// Recorded times from the arrival with index `offset` on, which is at the start; the earlier ones follow.
pub(crate) fn from_offset(times: &[u64], offset: u64) -> Arc<[u64]> {
    let (count, first) = (times.len() as u64, offset % times.len().max(1) as u64);
    let at = |index: u64| recorded(times, index).unwrap_or_default();
    (first..first + count).map(|index| at(index) - at(first)).collect()
}

impl Offsets {
    /// Nanoseconds at which the expected number of arrivals reaches `place`.
    fn time_of(&self, place: f64) -> f64 {
        if place <= self.rate_per_ns * self.ramp_ns / 2.0 {
            (2.0 * self.ramp_ns * place / self.rate_per_ns).sqrt()
        } else {
            place / self.rate_per_ns + self.ramp_ns / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::S;

    fn gaps(arrival: Arrival, n: usize) -> Vec<f64> {
        let schedule = Schedule { rate_per_s: 1000.0, arrival };
        let times: Vec<u64> = offsets(&schedule, 42, 0).take(n + 1).collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect()
    }

    fn mean_and_cv(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let gaps = gaps(Arrival::Poisson, 100_000);
        let (mean, cv) = mean_and_cv(&gaps);
        assert!((mean - 1.0).abs() < 0.015, "mean {mean} of 1 ms expected");
        assert!((cv - 1.0).abs() < 0.02, "cv {cv}");
        // Exceeded by one of a thousand.
        let distribution = exponential_deviation(&gaps);
        assert!(distribution < 1.95, "deviation {distribution}");
    }

    #[test]
    fn neighbouring_poisson_gaps_are_independent() {
        let gaps = gaps(Arrival::Poisson, 100_000);
        let (mean, cv) = mean_and_cv(&gaps);
        let variance = (mean * cv).powi(2);
        let covariance = gaps.windows(2).map(|p| (p[0] - mean) * (p[1] - mean)).sum::<f64>() / gaps.len() as f64;
        assert!((covariance / variance).abs() < 0.015);
    }

    #[test]
    fn gamma_gaps_have_the_asked_variation() {
        for asked in [0.25, 0.5, 1.0, 2.0, 4.0] {
            let (mean, cv) = mean_and_cv(&gaps(Arrival::Gamma { cv: asked }, 100_000));
            assert!((mean - 1.0).abs() < 0.05, "cv {asked}: mean {mean}");
            assert!((cv / asked - 1.0).abs() < 0.05, "cv {asked}: {cv}");
        }
    }

    #[test]
    fn constant_gaps_do_not_drift() {
        let schedule = Schedule { rate_per_s: 3.0, arrival: Arrival::Constant };
        let times: Vec<u64> = offsets(&schedule, 1, 0).take(300_001).collect();
        assert_eq!(&times[..4], &[0, 333_333_333, 666_666_667, 1_000_000_000]);
        assert_eq!(times[300_000], 100_000 * S);
    }

    #[test]
    fn a_burst_is_all_at_the_start() {
        let schedule = Schedule { rate_per_s: 0.0, arrival: Arrival::Burst };
        assert!(offsets(&schedule, 1, 0).take(1000).all(|offset| offset == 0));
    }

    #[test]
    fn a_ramp_halves_the_arrivals_of_its_span_and_shifts_the_rest() {
        let schedule = Schedule { rate_per_s: 100.0, arrival: Arrival::Constant };
        let times: Vec<u64> = offsets(&schedule, 1, 10 * S).take(1000).collect();
        assert_eq!(times.iter().filter(|t| **t < 10 * S).count(), 500, "λR/2");
        assert_eq!(times.iter().filter(|t| **t < 5 * S).count(), 125, "λ(R/2)²/2R");
        assert_eq!(times[600] - times[500], S, "the full rate after the ramp");
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_seed_gives_one_schedule_and_a_longer_run_only_goes_on() {
        let schedule = Schedule { rate_per_s: 10.0, arrival: Arrival::Poisson };
        let short: Vec<u64> = offsets(&schedule, 5, 0).take(10).collect();
        let long: Vec<u64> = offsets(&schedule, 5, 0).take(1000).collect();
        assert_eq!(short, long[..10]);
        assert_ne!(short, offsets(&schedule, 6, 0).take(10).collect::<Vec<_>>());
    }

    /// The largest distance of the gaps' distribution from the exponential one with mean 1 ms: the statistic of the
    /// Kolmogorov-Smirnov test, times the root of the number of gaps.
    fn exponential_deviation(gaps_ms: &[f64]) -> f64 {
        let mut sorted = gaps_ms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let distances = sorted.iter().enumerate().map(|(place, gap)| {
            let expected = 1.0 - (-gap).exp();
            (expected - place as f64 / count).max((place + 1) as f64 / count - expected)
        });
        distances.fold(0.0, f64::max) * count.sqrt()
    }

    /// How far the first arrivals of a run are from what a Poisson process has on average: the rate, in its standard
    /// deviations, and the distribution of the gaps.
    fn deviations(data_seed: u64, run: u32) -> (f64, f64) {
        let schedule = Schedule { rate_per_s: 1000.0, arrival: Arrival::Poisson };
        let seed = rng::Randomness { data_seed, salt: 0, run }.run_seed();
        let times: Vec<u64> = std::iter::once(0).chain(offsets(&schedule, seed, 0).take(5000)).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let rate = |count: usize| {
            let rate = count as f64 / (times[count] as f64 / 1e9);
            (rate / 1000.0 - 1.0).abs() * (count as f64).sqrt()
        };
        let counts = [30, 100, 300, 1000, 5000];
        let largest = |deviation: &dyn Fn(usize) -> f64| counts.into_iter().map(deviation).fold(0.0, f64::max);
        (largest(&rate), largest(&|count| exponential_deviation(&gaps[..count])))
    }

    #[test]
    fn the_default_schedules_are_unremarkable() {
        for run in 1..=3 {
            let (rate, distribution) = deviations(rng::DEFAULT_DATA_SEED, run);
            assert!(rate < 0.5, "run {run}: {rate} standard deviations");
            // At each count, a fourth of all Poisson processes are above 1.02, and one of a hundred above 1.63.
            assert!(distribution < 1.0, "run {run}: {distribution}");
        }
        // Other seeds are not chosen.
        assert!((0..50).any(|seed| deviations(seed, 1).0 > 1.0));
    }

    #[test]
    fn recorded_times_stand_as_they_are_and_go_round() {
        let schedule = Schedule { rate_per_s: 1.0, arrival: Arrival::Trace(Arc::from([0, 5, 20])) };
        assert_eq!(offsets(&schedule, 9, 0).take(7).collect::<Vec<_>>(), [0, 5, 20, 30, 35, 50, 60]);
    }

    #[test]
    fn recorded_times_can_begin_anywhere() {
        assert_eq!(from_offset(&[0, 5, 20], 4)[..], [0, 15, 25]);
        assert_eq!(from_offset(&[0, 5, 20], 3)[..], [0, 5, 20]);
    }

    #[test]
    fn arrivals_are_read_from_text() {
        assert_eq!(Arrival::scan("gamma:0.5"), Ok(Arrival::Gamma { cv: 0.5 }));
        assert_eq!(Arrival::scan("burst"), Ok(Arrival::Burst));
        for bad in ["gamma", "gamma:", "gamma:0", "gamma:-1", "gamma:nan", "uniform", "", "poisson:2"] {
            assert!(Arrival::scan(bad).is_err(), "{bad}");
        }
    }
}
