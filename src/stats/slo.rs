//! SLO attainment and goodput. A criterion applies to a figure of the run, and its bound to each single request;
//! requests that meet every bound count as goodput.
//!
//! A failed request counts as slower than any bound: percentiles are those of the succeeded and the failed requests
//! together, and an average is infinite if a request failed. For ITL and TPOT, of which a response has many or no
//! values, a failed request counts as often as a succeeded one does on average. The search for a load is judged by the
//! same values.

use super::gap_set::{GapFigures, count_with_failed};
use super::quantile::{LEVELS, SAMPLES_BEYOND, Series, nearest_rank};
use super::samples::{Sample, Samples};
use super::series::AllSeries;
use super::throughput::Throughput;
use crate::plan::slo::{Criterion, Figure, Quantity, Statistic};
use crate::record::search::{Aim, SearchPlan};
use crate::time::S;

/// What a run is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedRun<'a> {
    pub throughput: &'a Throughput,
    pub series: &'a AllSeries,
    /// The duration of the run, seconds.
    pub time_s: Option<f64>,
    /// The measured requests.
    pub samples: &'a Samples,
    /// The figures of the gaps of the succeeded ones, with [`failed_share`].
    pub gaps: &'a GapFigures,
}

/// The value of a figure by which objectives are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JudgedValue {
    /// Infinite if failed requests decide it; `None` if the run does not have the figure.
    pub value: Option<f64>,
    /// A percentile with too few samples beyond it.
    pub few: bool,
}

impl From<Option<f64>> for JudgedValue {
    fn from(value: Option<f64>) -> JudgedValue {
        JudgedValue { value, few: false }
    }
}

impl JudgedRun<'_> {
    /// The value of a figure. Goodput is that of the requests that meet every one of `bounds`.
    fn value(&self, figure: Figure, bounds: &[Criterion]) -> JudgedValue {
        let (ok, failed) = (self.count(|sample| sample.ok), self.count(|sample| sample.failed));
        let percent = |part: u64| (ok + failed > 0).then(|| part as f64 * 100.0 / (ok + failed) as f64);
        match figure {
            Figure::RequestsPerS => self.throughput.requests_per_s.into(),
            Figure::OutputTokensPerS => self.throughput.output_tokens_per_s.into(),
            Figure::FailedPercent => percent(failed).into(),
            Figure::SucceededPercent => percent(ok).into(),
            Figure::Goodput => self.per_s(self.good_requests(bounds)).into(),
            Figure::Of(statistic, quantity) => self.time(statistic, quantity, ok, failed),
        }
    }

    fn count(&self, which: impl Fn(&Sample) -> bool) -> u64 {
        self.samples.iter().filter(which).count() as u64
    }

    fn per_s(&self, requests: u64) -> Option<f64> {
        Some(requests as f64 / self.time_s?)
    }

    fn good_requests(&self, bounds: &[Criterion]) -> u64 {
        self.count(|sample| sample.ok && bounds.iter().all(|criterion| criterion.met_by(sample)))
    }

    fn time(&self, statistic: Statistic, quantity: Quantity, ok: u64, failed: u64) -> JudgedValue {
        let series = match quantity {
            Quantity::Ttft => &self.series.ttft_s,
            Quantity::Tpot => &self.series.tpot_s,
            Quantity::Itl => &self.series.itl_s,
            Quantity::Latency => &self.series.latency_s,
        };
        match statistic {
            _ if failed == 0 => of_succeeded(series, statistic),
            _ if ok == 0 => Some(f64::INFINITY).into(),
            _ if series.count == 0 => JudgedValue::default(),
            Statistic::Mean => Some(f64::INFINITY).into(),
            Statistic::PerMille(per_mille) => {
                let all = count_with_failed(series.count, failed as f64 / ok as f64);
                let rank = nearest_rank(all, per_mille);
                let value = match quantity {
                    Quantity::Ttft => self.value_at(rank, |sample| sample.ttft.map(|ns| ns as f64)),
                    Quantity::Tpot => self.value_at(rank, |sample| sample.tpot),
                    Quantity::Latency => self.value_at(rank, |sample| Some(sample.latency as f64)),
                    Quantity::Itl => {
                        let level = LEVELS.iter().position(|level| level.per_mille == per_mille);
                        level.and_then(|level| self.gaps.among_failed_s.get(level).copied())
                    }
                };
                let value = value.unwrap_or(f64::INFINITY);
                let few = value.is_finite() && per_mille < 1000 && all - rank < SAMPLES_BEYOND;
                JudgedValue { value: Some(value), few }
            }
        }
    }

    /// The value of this rank, from 1, among the succeeded requests, seconds; `None` beyond the last.
    fn value_at(&self, rank: usize, value: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let ok = self.samples.iter().filter(|sample| sample.ok);
        let mut values: Vec<f64> = ok.filter_map(|sample| value(&sample)).map(|ns| ns / S as f64).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(rank - 1).copied()
    }

    /// The values of every figure of a search.
    pub fn searched(&self, plan: &SearchPlan, objectives: &[Criterion]) -> Vec<(Figure, JudgedValue)> {
        let of_aim = |aim: &Aim| {
            let (figures, bounds): (Vec<Figure>, &[Criterion]) = match aim {
                Aim::Hold(criteria) => (criteria.iter().map(|criterion| criterion.figure).collect(), criteria),
                Aim::Best { figure, .. } => (vec![*figure], &[]),
            };
            let bounds = [bounds, objectives].concat();
            figures.into_iter().map(|figure| (figure, self.value(figure, &bounds))).collect::<Vec<_>>()
        };
        plan.aims.iter().flat_map(of_aim).collect()
    }
}

fn of_succeeded(series: &Series, statistic: Statistic) -> JudgedValue {
    match statistic {
        Statistic::Mean => series.mean.into(),
        Statistic::PerMille(per_mille) => {
            let quantile = series.at(per_mille);
            JudgedValue { value: quantile.map(|q| q.value), few: quantile.is_some_and(|q| q.few) }
        }
    }
}

/// Failed requests for each succeeded one; `None` unless there are both.
pub(super) fn failed_share(samples: &Samples) -> Option<f64> {
    let count = |which: fn(&Sample) -> bool| samples.iter().filter(which).count();
    let (ok, failed) = (count(|sample| sample.ok), count(|sample| sample.failed));
    (ok > 0 && failed > 0).then(|| failed as f64 / ok as f64)
}

impl Criterion {
    /// Whether one request meets the bound. Criteria on rates, shares and ITL do not apply to a single request, TPOT does not
    /// apply to a response of one token, and neither TTFT nor TPOT to one that was not streamed.
    fn met_by(&self, sample: &Sample) -> bool {
        let Figure::Of(_, quantity) = self.figure else { return true };
        let ns = match quantity {
            Quantity::Ttft => sample.ttft.map(|ns| ns as f64),
            Quantity::Latency => Some(sample.latency as f64),
            Quantity::Tpot => sample.tpot,
            Quantity::Itl => None,
        };
        match ns {
            Some(ns) => self.comparison.holds(ns / S as f64, self.bound),
            None => quantity != Quantity::Ttft || !sample.streamed,
        }
    }
}

/// A criterion with the run's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub criterion: Criterion,
    pub judged: JudgedValue,
    pub met: bool,
}

/// The SLO attainment of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub criteria: Vec<Judged>,
    /// Requests that succeeded and met every bound themselves.
    pub good_requests: u64,
    /// `good_requests` divided by the duration of the run.
    pub goodput_per_s: Option<f64>,
    /// `good_requests` divided by all requests that succeeded or failed.
    pub good_share: Option<f64>,
}

impl Verdict {
    /// Judges a run. A criterion on a figure that the run does not have is missed.
    pub(crate) fn compute(criteria: &[Criterion], run: &JudgedRun<'_>) -> Verdict {
        let judge = |criterion: &Criterion| {
            let judged = run.value(criterion.figure, criteria);
            let met = judged.value.is_some_and(|value| criterion.is_met_by(value));
            Judged { criterion: criterion.clone(), judged, met }
        };
        let ended = run.count(|sample| sample.ok || sample.failed);
        let good_requests = run.good_requests(criteria);
        Verdict {
            criteria: criteria.iter().map(judge).collect(),
            good_requests,
            goodput_per_s: run.per_s(good_requests),
            good_share: (ended > 0).then(|| good_requests as f64 / ended as f64),
        }
    }

    /// Every criterion is met.
    pub fn is_met(&self) -> bool {
        self.criteria.iter().all(|judged| judged.met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::slo::{PERCENTILES, scan_all};
    use crate::record::arrivals::Gap;
    use crate::stats::gap_set::GapsWanted;

    #[test]
    fn every_supported_percentile_is_computed() {
        assert!(PERCENTILES.iter().all(|(_, per_mille)| LEVELS.iter().any(|level| level.per_mille == *per_mille)));
    }

    /// Judges `ok` requests with a TTFT of 1, 2, ... ms, a latency of 100 ms and two gaps of 5 ms, and `failed` ones.
    fn judge(ok: u64, failed: u64, criteria: &str) -> Vec<(Option<f64>, bool)> {
        let success = |number: u64| Sample {
            ok: true,
            streamed: true,
            ttft: Some((number + 1) * 1_000_000),
            latency: 100_000_000,
            ..Sample::default()
        };
        let failure = |_| Sample { failed: true, latency: 1_000_000, ..Sample::default() };
        let samples: Samples = (0..ok).map(success).chain((0..failed).map(failure)).collect();
        let gap = Gap { at: 0, ns: 5_000_000, early_begin_ns: 0, early_end_ns: 0 };
        let wanted = GapsWanted { failed_share: failed_share(&samples), ..GapsWanted::default() };
        let gaps = crate::stats::gap_set::figures_of(wanted, &vec![gap; 2 * ok as usize]);
        let succeeded = samples.select(|sample| sample.ok);
        let series = AllSeries::compute(succeeded.iter(), gaps.series_s.clone());
        let throughput = Throughput::compute(&succeeded, Some(10.0));
        let run =
            JudgedRun { throughput: &throughput, series: &series, time_s: Some(10.0), samples: &samples, gaps: &gaps };
        let verdict = Verdict::compute(&scan_all(criteria).unwrap(), &run);
        verdict.criteria.into_iter().map(|judged| (judged.judged.value, judged.met)).collect()
    }

    #[test]
    fn failed_requests_miss_latency_objectives() {
        let infinite = (Some(f64::INFINITY), false);
        // 396 of 400 requests are refused within a millisecond.
        let refused = "p99_ttft<=2 p50_latency<=2 avg_ttft<=2 p99_itl<=1 max_latency<=9 p50_latency>=0";
        assert_eq!(judge(4, 396, refused), [infinite; 6]);
        assert_eq!(judge(0, 9, "p10_ttft<=2"), [infinite]);
        // One of 100 failed: p99 is the slowest success, and only the maximum is the failure.
        assert_eq!(judge(99, 1, "p99_ttft<=99ms"), [(Some(0.099), true)]);
        assert_eq!(
            judge(99, 1, "p50_ttft<=50ms max_ttft<=9 p99_itl<=5ms"),
            [(Some(0.05), true), infinite, (Some(0.005), true)]
        );
        assert_eq!(judge(98, 2, "p99_ttft<=9 p98_itl<=5ms p99_itl<=1"), [infinite, (Some(0.005), true), infinite]);
        assert_eq!(
            judge(100, 0, "p99_ttft<=99ms p50_latency<=100ms max_ttft<=100ms"),
            [(Some(0.099), true), (Some(0.1), true), (Some(0.1), true)]
        );
    }

    #[test]
    fn averages_need_all_requests_to_succeed() {
        assert!(judge(100, 0, "avg_latency<=101ms")[0].1);
        assert_eq!(judge(99, 1, "avg_latency<=101ms")[0], (Some(f64::INFINITY), false));
    }

    #[test]
    fn shares_and_rates_are_judged() {
        assert_eq!(
            judge(99, 1, "failed<=1% success>=99% rps>=9.9 failed<1%"),
            [(Some(1.0), true), (Some(99.0), true), (Some(9.9), true), (Some(1.0), false)]
        );
        // Goodput counts the requests within the other bounds; TTFT of half of them is at most 50 ms.
        assert_eq!(judge(100, 10, "goodput>=5 p99_ttft<=50ms")[0], (Some(5.0), true));
        assert_eq!(judge(0, 0, "failed<=1% p99_ttft<=1"), [(None, false), (None, false)]);
    }
}
