//! Whether a run was in a steady state: where its warm-up ends (MSER-5, White 1997), and whether the rest has a trend.
//! Both give findings only; no sample is excluded from the figures.

use super::samples::Samples;
use crate::finding::{Figure, Finding};
use crate::record::facts::{Mode, RunFacts};

/// MSER-5 uses means of five samples.
const BATCH: usize = 5;
/// With fewer samples, neither warm-up nor drift is tested.
const FEWEST: usize = 150;
/// A warm-up that changes the mean by a smaller share is not reported.
const WORTH_TELLING: f64 = 0.05;
/// Batches for the drift, and the rank correlation with time that is exceeded by chance in 1 % of runs: 2.576 / √29.
const TREND_BATCHES: usize = 30;
const TREND_CORRELATION: f64 = 0.478;
/// A smaller relative drift is not reported.
const DRIFT_WORTH_TELLING: f64 = 0.10;

/// Findings about warm-up and drift of the succeeded requests, which are sorted by due time. The drift is that of the
/// latency; of latency and TTFT, the one that the warm-up changes more is reported.
pub fn findings(facts: &RunFacts, samples: &Samples) -> Vec<Finding> {
    let ok = || samples.iter().filter(|s| s.ok);
    let latencies: Vec<f64> = ok().map(|s| s.latency as f64 / 1e9).collect();
    let ttfts: Vec<f64> = ok().filter_map(|s| s.ttft).map(|ns| ns as f64 / 1e9).collect();
    // A ramp changes the load intentionally, and a speed benchmark changes the prompt length.
    if facts.ramp_ns > 0 || super::speed::is_speed_benchmark(&facts.dataset) || latencies.len() < FEWEST {
        return Vec::new();
    }
    let cut = warm_up_end(&latencies).unwrap_or(0);
    let hints = [warm_up(Figure::Latency, &latencies), warm_up(Figure::Ttft, &ttfts)].into_iter().flatten();
    let hint = hints.max_by(|a, b| a.effect().total_cmp(&b.effect())).map(|warm_up| warm_up.finding(facts));
    hint.into_iter().chain(drift(facts, &latencies[cut..])).collect()
}

/// The first requests, which look like a warm-up, and the mean of a figure with and without them, seconds.
#[derive(Clone, Copy, Debug)]
struct WarmUp {
    figure: Figure,
    requests: usize,
    with_s: f64,
    without_s: f64,
}

impl WarmUp {
    fn effect(&self) -> f64 {
        (self.with_s - self.without_s).abs() / self.without_s
    }

    fn finding(self, facts: &RunFacts) -> Finding {
        let WarmUp { figure, requests, with_s, without_s } = self;
        let single = facts.conversations.is_none();
        let warmup_num = single.then(|| facts.warmup_requests.saturating_add(requests as u64));
        Finding::WarmUp { figure, requests, with_s, without_s, warmup_num }
    }
}

/// The warm-up in the values of a figure; `None` if there is none that matters.
fn warm_up(figure: Figure, values_s: &[f64]) -> Option<WarmUp> {
    if values_s.len() < FEWEST {
        return None;
    }
    let requests = warm_up_end(values_s).filter(|&cut| cut > 0)?;
    let (with_s, without_s) = (mean(values_s), mean(&values_s[requests..]));
    let warm_up = WarmUp { figure, requests, with_s, without_s };
    (without_s > 0.0 && warm_up.effect() > WORTH_TELLING).then_some(warm_up)
}

fn drift(facts: &RunFacts, latencies: &[f64]) -> Option<Finding> {
    let (correlation, from, to) = trend(latencies)?;
    let part = (to - from) / from;
    if correlation.abs() < TREND_CORRELATION || part.abs() < DRIFT_WORTH_TELLING {
        return None;
    }
    Some(Finding::Drift { from_s: from, to_s: to, open_loop: facts.mode == Mode::Open })
}

/// The end of the warm-up by MSER-5: the cut with the smallest standard error of the mean of the remaining samples.
/// `None` if it is in the second half, which means that there are too few samples.
pub(crate) fn warm_up_end(samples: &[f64]) -> Option<usize> {
    let means: Vec<f64> = samples.chunks_exact(BATCH).map(mean).collect();
    let n = means.len();
    let (mut sum, mut squares) = (0.0, 0.0);
    let mut best: Option<(f64, usize)> = None;
    // From the end, so that each cut adds one mean to the sums. Fewer than five remaining means have no useful
    // variance.
    for cut in (0..n).rev() {
        sum += means[cut];
        squares += means[cut] * means[cut];
        let left = (n - cut) as f64;
        if left < 5.0 {
            continue;
        }
        let error = (squares - sum * sum / left).max(0.0) / (left * left);
        if best.is_none_or(|(least, _)| error <= least) {
            best = Some((error, cut));
        }
    }
    best.map(|(_, cut)| cut).filter(|cut| cut * 2 <= n).map(|cut| cut * BATCH)
}

/// Spearman's correlation of batch means with time, and the means of the first and the last fifth.
fn trend(samples: &[f64]) -> Option<(f64, f64, f64)> {
    let size = samples.len() / TREND_BATCHES;
    if size < BATCH {
        return None;
    }
    let means: Vec<f64> = samples[..size * TREND_BATCHES].chunks_exact(size).map(mean).collect();
    let mut order: Vec<usize> = (0..TREND_BATCHES).collect();
    order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
    let apart: f64 = order.iter().enumerate().map(|(rank, &place)| (rank as f64 - place as f64).powi(2)).sum();
    let n = TREND_BATCHES as f64;
    let fifth = TREND_BATCHES / 5;
    let (from, to) = (mean(&means[..fifth]), mean(&means[TREND_BATCHES - fifth..]));
    (from > 0.0).then(|| (1.0 - 6.0 * apart / (n * (n * n - 1.0)), from, to))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::samples::Sample;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn noise(count: usize, seed: u64, mean_at: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng);
        (0..count).map(|i| mean_at(i) + 0.1 * draw()).collect()
    }

    #[test]
    fn slow_start_is_reported_as_warm_up() {
        let samples = noise(1000, 1, |i| if i < 100 { 3.0 } else { 1.0 });
        let found = warm_up(Figure::Latency, &samples).unwrap();
        assert!((100..=130).contains(&found.requests), "{found:?}");
        let hint = found.finding(&RunFacts { warmup_requests: 20, ..RunFacts::default() });
        assert!(hint.en().contains(&format!("--warmup-num {}", found.requests + 20)), "{}", hint.en());
    }

    #[test]
    fn start_up_burst_shows_in_ttft_alone() {
        // 40 requests start at once and are served one after the other; each lasts for 4 s more.
        let ttfts = noise(600, 4, |i| if i < 40 { i as f64 } else { 1.0 });
        let sample = |(i, ttft): (usize, &f64)| {
            let ns = (ttft.max(0.01) * 1e9) as u64;
            let latency = ns / 100 + 4_000_000_000;
            Sample { ok: true, due: i as u64, ttft: Some(ns), latency, ..Sample::default() }
        };
        let samples: Samples = ttfts.iter().enumerate().map(sample).collect();
        let found = findings(&RunFacts::default(), &samples);
        let [Finding::WarmUp { figure: Figure::Ttft, requests, .. }] = found[..] else { panic!("{found:?}") };
        assert!((35..=60).contains(&requests), "{requests}");
    }

    #[test]
    fn steady_run_has_no_finding() {
        let found = (0..200).filter(|&seed| {
            let samples = noise(600, seed, |_| 1.0);
            let cut = warm_up_end(&samples).unwrap_or(0);
            warm_up(Figure::Ttft, &samples).is_some() || drift(&RunFacts::default(), &samples[cut..]).is_some()
        });
        assert_eq!(found.count(), 0);
    }

    #[test]
    fn drift_is_reported() {
        let rising = noise(600, 3, |i| 1.0 + i as f64 / 600.0);
        let finding = drift(&RunFacts::default(), &rising).unwrap();
        assert!(matches!(finding, Finding::Drift { from_s, to_s, .. } if to_s > from_s), "{finding:?}");
        assert!(drift(&RunFacts::default(), &rising[..100]).is_none(), "too few to tell");
    }
}
