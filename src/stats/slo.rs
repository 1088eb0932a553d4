//! How a run stands against its service level objectives. A criterion judges the run by one of its figures, and each
//! request by the same bound, which gives goodput.

use super::gather::Sample;
use super::quantile::Series;
use super::summary::Summary;
use crate::plan::slo::{Criterion, Figure, Quantity, Statistic};
use crate::time::S;

impl Figure {
    /// The value of this figure; `None` when the run has none.
    pub fn of(self, s: &Summary) -> Option<f64> {
        match self {
            Figure::RequestsPerS => s.throughput.requests_per_s,
            Figure::OutputTokensPerS => s.throughput.output_tokens_per_s,
            Figure::Of(statistic, quantity) => {
                let series: &Series = match quantity {
                    Quantity::Ttft => &s.series.ttft_s,
                    Quantity::Tpot => &s.series.tpot_s,
                    Quantity::Itl => &s.series.itl_s,
                    Quantity::Latency => &s.series.latency_s,
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
    /// Whether the run keeps it; a run without the figure does not.
    pub fn met(&self, s: &Summary) -> bool {
        self.figure.of(s).is_some_and(|value| self.comparison.holds(value, self.bound))
    }

    /// Whether one request keeps the bound. Conditions on rates and on ITL say nothing about one request, and neither
    /// does TPOT about an answer of one token.
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
            None => quantity != Quantity::Ttft,
        }
    }
}

/// How a run stands against its objectives.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Each criterion with the run's value and whether it is met.
    pub criteria: Vec<(Criterion, Option<f64>, bool)>,
    /// Requests that succeeded and kept every bound themselves.
    pub good_requests: u64,
    /// Those over the time of the run.
    pub goodput_per_s: Option<f64>,
    /// Those over all requests that ended.
    pub good_share: Option<f64>,
}

impl Verdict {
    /// Judges a run.
    pub fn of(criteria: &[Criterion], s: &Summary, samples: &[Sample]) -> Verdict {
        let good = |sample: &&Sample| sample.ok && criteria.iter().all(|criterion| criterion.met_by(sample));
        let good_requests = samples.iter().filter(good).count() as u64;
        let ended = s.counts.ok + s.counts.failed;
        Verdict {
            criteria: criteria.iter().map(|c| (c.clone(), c.figure.of(s), c.met(s))).collect(),
            good_requests,
            goodput_per_s: s.time_s.map(|time| good_requests as f64 / time),
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
    fn every_percentile_that_can_be_named_is_computed() {
        assert!(PERCENTILES.iter().all(|(_, per_mille)| LEVELS.iter().any(|level| level.per_mille == *per_mille)));
    }
}
