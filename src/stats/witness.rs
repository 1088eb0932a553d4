//! The load's figures beside those of the witness, which asked the same server in the same minutes and had nothing
//! else to do.
//!
//! Both count from the wire. Of the witness only requests count that began while the load was offered and ended
//! before it did; of a closed loop only those after its first wave, which meets an empty server all at once. Two
//! samples of one distribution differ by chance: a difference is told only when its 95 % interval leaves out 0 and
//! when it is larger than what nobody would act on.

use super::difference::{Difference, of_quantiles};
use super::gather::{Gathered, Sample};
use super::quantile::Series;
use super::summary::Summary;
use crate::finding::{Figure, Finding, UnequalPercentile};

/// The levels compared.
pub const LEVELS: [u32; 2] = [500, 900];
/// Smaller differences than this, and than this part of the load's figure, are nothing to act on.
const SMALL_S: f64 = 100e-6;
const SMALL_SHARE: f64 = 0.05;

/// The witness of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// All its requests, and how many of them succeeded and count.
    pub requests: usize,
    pub counted: usize,
    pub failed: u64,
    pub times: Vec<WitnessTime>,
}

/// A time as both saw it, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct WitnessTime {
    pub name: Figure,
    pub load: Series,
    pub witness: Series,
    /// Load − witness at each of [`LEVELS`]; `None` where too few samples leave it without an interval.
    pub differences: [Option<Difference>; LEVELS.len()],
    pub verdict: Agreement,
}

/// Whether both saw the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    Agree,
    Differ,
    /// Too few samples to say.
    TooFew,
}

/// Holds what the witness saw against the summary of the load, whose measured requests are `load`.
pub fn of(s: &Summary, load: &[Sample], mut witness: Gathered) -> Witness {
    witness.sort();
    let sent = load.iter().filter_map(|sample| sample.write_start);
    let (from, to) = (sent.clone().min().unwrap_or(u64::MAX), sent.max().unwrap_or(0));
    let ended = load.iter().map(|sample| sample.end).max().unwrap_or(0);
    let counts = |sample: &&Sample| {
        sample.ok && sample.write_start.is_some_and(|at| (from..=to).contains(&at)) && sample.end <= ended
    };
    let counted: Vec<&Sample> = witness.samples.iter().filter(counts).collect();
    let seconds = |ns: f64| ns / 1e9;
    let ttft: Vec<f64> = counted.iter().filter_map(|sample| sample.service_ttft).map(|ns| seconds(ns as f64)).collect();
    let gaps: Vec<f64> = witness.gaps_of(counted.iter().copied()).into_iter().map(seconds).collect();
    let (load_ttft, load_itl) = match &s.steady {
        Some(steady) => (&steady.service_ttft_s, &steady.itl_s),
        None => (&s.series.service_ttft_s, &s.series.itl_s),
    };
    let times = [(Figure::Ttft, load_ttft, Series::of(&ttft)), (Figure::Itl, load_itl, Series::of(&gaps))];
    Witness {
        requests: witness.samples.len(),
        counted: counted.len(),
        failed: witness.failed(),
        times: times.into_iter().map(|(name, load, witness)| time(name, load.clone(), witness)).collect(),
    }
}

fn time(name: Figure, load: Series, witness: Series) -> WitnessTime {
    let difference = |level: u32| {
        let (a, b) = (witness.at(level)?, load.at(level)?);
        (a.interval.is_some() && b.interval.is_some()).then(|| of_quantiles(a, b))
    };
    let differences = LEVELS.map(difference);
    let told = |(level, difference): (&u32, &Option<Difference>)| {
        let Some(difference) = difference else { return false };
        let small = SMALL_S.max(SMALL_SHARE * load.value(*level).unwrap_or(0.0));
        difference.is_sure() && difference.value.abs() > small
    };
    let verdict = if LEVELS.iter().zip(&differences).any(told) {
        Agreement::Differ
    } else if differences[0].is_none() {
        Agreement::TooFew
    } else {
        Agreement::Agree
    };
    WitnessTime { name, load, witness, differences, verdict }
}

/// What a reader should know beside the table.
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
        Series::of(&(0..n).map(|_| at + rng.random_range(0.0..0.004)).collect::<Vec<f64>>())
    }

    #[test]
    fn what_is_the_same_agrees_and_what_is_not_differs() {
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
