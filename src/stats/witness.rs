//! The load's figures compared with those of the witness, a second idle client that sent requests to the same server
//! during the run.
//!
//! All times count from the first byte sent. Of the witness, only requests count that started while the load was sent
//! and ended before the load did; of a closed loop, only requests after the first wave, which starts all at once on an
//! idle server. Two samples of one distribution differ by chance: a difference is reported only if its 95 % confidence
//! interval excludes 0 and it is large enough to matter.

use super::comparison::{Difference, compare_quantiles};
use super::quantile::Series;
use super::samples::{RunSamples, Samples, Selection};
use super::series::AllSeries;
use super::steady_part::SteadyPart;
use crate::finding::{Figure, Finding, UnequalPercentile};

/// The levels compared.
pub const LEVELS: [u32; 2] = [500, 900];
/// Differences below this, and below this share of the load's figure, are not reported.
const SMALL_S: f64 = 100e-6;
const SMALL_SHARE: f64 = 0.05;

/// The witness of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// All its requests, and how many of them are compared.
    pub requests: usize,
    pub counted: usize,
    pub failed: u64,
    pub times: Vec<WitnessTime>,
}

/// A time as measured by both, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct WitnessTime {
    pub name: Figure,
    pub load: Series,
    pub witness: Series,
    /// Load − witness at each of [`LEVELS`]; `None` if there are too few samples for an interval.
    pub differences: [Option<Difference>; LEVELS.len()],
    pub verdict: Agreement,
}

/// The result of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    Agree,
    Differ,
    /// There are too few samples to compare.
    TooFew,
}

/// The requests of the witness that are compared with the load, whose measured requests are `load`.
pub fn counted<'a>(load: &Samples, witness: &'a RunSamples) -> Selection<'a> {
    let sent = load.iter().filter_map(|sample| sample.write_start);
    let (from, to) = (sent.clone().min().unwrap_or(u64::MAX), sent.max().unwrap_or(0));
    let ended = load.iter().map(|sample| sample.end).max().unwrap_or(0);
    witness.requests.select(|sample| {
        sample.ok && sample.write_start.is_some_and(|at| (from..=to).contains(&at)) && sample.end <= ended
    })
}

/// Compares requests of the witness, sorted by due time, with the load. Of a closed loop, `steady` is compared, else
/// `series`. `counted` are the witness's requests that are compared, and `itl_s` is the series of their gaps.
pub fn compare(
    steady: Option<&SteadyPart>,
    series: &AllSeries,
    witness: &RunSamples,
    counted: &Selection<'_>,
    itl_s: Series,
) -> Witness {
    let seconds = |ns: f64| ns / 1e9;
    let ttft: Vec<f64> = counted.iter().filter_map(|sample| sample.service_ttft).map(|ns| seconds(ns as f64)).collect();
    let (load_ttft, load_itl, load_latency) = match steady {
        Some(steady) => (&steady.service_ttft_s, &steady.itl_s, &steady.service_latency_s),
        None => (&series.service_ttft_s, &series.itl_s, &series.service_latency_s),
    };
    let times = if load_ttft.count > 0 {
        vec![(Figure::Ttft, load_ttft, Series::compute(&ttft)), (Figure::Itl, load_itl, itl_s)]
    } else {
        // Nothing was streamed.
        let latency = counted.iter().filter_map(|sample| sample.service_latency).map(|ns| seconds(ns as f64));
        vec![(Figure::Latency, load_latency, Series::compute(&latency.collect::<Vec<f64>>()))]
    };
    Witness {
        requests: witness.requests.len(),
        counted: counted.len(),
        failed: witness.failed(),
        times: times.into_iter().map(|(name, load, witness)| time(name, load.clone(), witness)).collect(),
    }
}

fn time(name: Figure, load: Series, witness: Series) -> WitnessTime {
    let difference = |level: u32| {
        let (a, b) = (witness.at(level)?, load.at(level)?);
        (a.interval.is_some() && b.interval.is_some()).then(|| compare_quantiles(a, b))
    };
    let differences = LEVELS.map(difference);
    let is_relevant = |(level, difference): (&u32, &Option<Difference>)| {
        let Some(difference) = difference else { return false };
        let small = SMALL_S.max(SMALL_SHARE * load.value(*level).unwrap_or(0.0));
        difference.is_sure() && difference.value.abs() > small
    };
    let verdict = if LEVELS.iter().zip(&differences).any(is_relevant) {
        Agreement::Differ
    } else if differences[0].is_none() {
        Agreement::TooFew
    } else {
        Agreement::Agree
    };
    WitnessTime { name, load, witness, differences, verdict }
}

/// Findings about the comparison.
pub fn findings(of: &Witness) -> Vec<Finding> {
    let mut found: Vec<Finding> = of.times.iter().filter_map(differs).collect();
    let few: Vec<Figure> =
        of.times.iter().filter(|time| time.verdict == Agreement::TooFew).map(|time| time.name).collect();
    if !few.is_empty() {
        found.push(Finding::WitnessTooFew { figures: few, requests: of.counted });
    }
    if of.failed > 0 {
        found.push(Finding::WitnessFailed { failed: of.failed, requests: of.requests });
    }
    found
}

fn differs(time: &WitnessTime) -> Option<Finding> {
    if time.verdict != Agreement::Differ {
        return None;
    }
    let ns = |seconds: f64| (seconds.abs() * 1e9) as u64;
    let percentiles = LEVELS.iter().zip(&time.differences).filter_map(|(level, difference)| {
        let difference = difference.filter(Difference::is_sure)?;
        Some(UnequalPercentile {
            percentile: level / 10,
            load_ns: ns(time.load.value(*level)?),
            witness_ns: ns(time.witness.value(*level)?),
            difference_ns: (difference.value * 1e9) as i64,
        })
    });
    Some(Finding::WitnessDiffers { figure: time.name, percentiles: percentiles.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn around(rng: &mut ChaCha8Rng, n: usize, at: f64) -> Series {
        Series::compute(&(0..n).map(|_| at + rng.random_range(0.0..0.004)).collect::<Vec<f64>>())
    }

    #[test]
    fn equal_distributions_agree_and_different_ones_differ() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let load = around(&mut rng, 3_000, 0.020);
        let same = time(Figure::Ttft, load.clone(), around(&mut rng, 200, 0.020));
        assert_eq!(same.verdict, Agreement::Agree, "{same:?}");
        let other = time(Figure::Ttft, load.clone(), around(&mut rng, 200, 0.015));
        assert_eq!(other.verdict, Agreement::Differ);
        let Some(Finding::WitnessDiffers { figure: Figure::Ttft, percentiles }) = differs(&other) else { panic!() };
        assert!(percentiles[0].load_ns / 1_000_000 == 22 && percentiles[0].difference_ns > 0, "{percentiles:?}");
        assert_eq!(time(Figure::Ttft, load, around(&mut rng, 20, 0.015)).verdict, Agreement::TooFew);
    }
}
