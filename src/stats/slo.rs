//! SLO attainment and goodput. A criterion applies to a figure of the run, and its bound to each single request;
//! requests that meet every bound count as goodput.

use super::samples::Sample;
use super::series::AllSeries;
use super::throughput::Throughput;
use crate::plan::slo::{Criterion, Figure, Quantity, Statistic};
use crate::time::S;

impl Figure {
    /// The value of this figure; `None` if the run has none.
    pub fn value(self, throughput: &Throughput, series: &AllSeries) -> Option<f64> {
        match self {
            Figure::RequestsPerS => throughput.requests_per_s,
            Figure::OutputTokensPerS => throughput.output_tokens_per_s,
            Figure::Of(statistic, quantity) => {
                let series = match quantity {
                    Quantity::Ttft => &series.ttft_s,
                    Quantity::Tpot => &series.tpot_s,
                    Quantity::Itl => &series.itl_s,
                    Quantity::Latency => &series.latency_s,
                };
                match statistic {
                    Statistic::Mean => series.mean,
                    Statistic::PerMille(per_mille) => series.value(per_mille),
                }
            }
        }
    }
}

impl Criterion {
    /// Whether one request meets the bound. Criteria on rates and on ITL do not apply to a single request, TPOT does not
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

/// The SLO attainment of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Each criterion with the run's value and whether it is met.
    pub criteria: Vec<(Criterion, Option<f64>, bool)>,
    /// Requests that succeeded and met every bound themselves.
    pub good_requests: u64,
    /// `good_requests` divided by the duration of the run.
    pub goodput_per_s: Option<f64>,
    /// `good_requests` divided by all requests that succeeded or failed.
    pub good_share: Option<f64>,
}

impl Verdict {
    /// Judges a run by its figures and goodput by its `samples`, over `time_s` seconds. A criterion on a figure that
    /// the run does not have is missed.
    pub fn compute(
        criteria: &[Criterion],
        throughput: &Throughput,
        series: &AllSeries,
        time_s: Option<f64>,
        samples: &[Sample],
    ) -> Verdict {
        let good = |sample: &&Sample| sample.ok && criteria.iter().all(|criterion| criterion.met_by(sample));
        let judge = |criterion: &Criterion| {
            let value = criterion.figure.value(throughput, series);
            let met = value.is_some_and(|value| criterion.comparison.holds(value, criterion.bound));
            (criterion.clone(), value, met)
        };
        let ended = samples.iter().filter(|sample| sample.ok || sample.failed).count();
        let good_requests = samples.iter().filter(good).count() as u64;
        Verdict {
            criteria: criteria.iter().map(judge).collect(),
            good_requests,
            goodput_per_s: time_s.map(|time| good_requests as f64 / time),
            good_share: (ended > 0).then(|| good_requests as f64 / ended as f64),
        }
    }

    /// Every criterion is met.
    pub fn is_met(&self) -> bool {
        self.criteria.iter().all(|(_, _, met)| *met)
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::slo::PERCENTILES;
    use crate::stats::quantile::LEVELS;

    #[test]
    fn every_supported_percentile_is_computed() {
        assert!(PERCENTILES.iter().all(|(_, per_mille)| LEVELS.iter().any(|level| level.per_mille == *per_mille)));
    }
}
