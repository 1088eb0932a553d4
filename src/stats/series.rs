//! The series of a run: one distribution for each quantity.

use super::quantile::Series;
use super::samples::Sample;

/// The ends of TPOT of the succeeded requests if it is a range for some of them, because they have more tokens than events; see
/// [`crate::record::delivery`].
#[derive(Clone, Debug, PartialEq)]
pub struct TpotRange {
    /// Requests whose TPOT is a range.
    pub requests: usize,
    pub low_s: Series,
    pub high_s: Series,
}

impl TpotRange {
    fn compute(ok: impl Iterator<Item = Sample> + Clone) -> Option<TpotRange> {
        let ranges = || ok.clone().filter_map(|sample| sample.tpot_range);
        let requests = ranges().filter(|(low, high)| low < high).count();
        (requests > 0).then(|| TpotRange {
            requests,
            low_s: Series::from_ns(ranges().map(|range| range.0)),
            high_s: Series::from_ns(ranges().map(|range| range.1)),
        })
    }
}

/// Distributions over the succeeded requests, and over the gaps between their output events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllSeries {
    /// TTFT, ITL and TPOT describe streamed responses only.
    pub ttft_s: Series,
    /// Time to the first answer token of streamed responses: TTFT without reasoning.
    pub first_answer_s: Series,
    pub itl_s: Series,
    pub tpot_s: Series,
    /// The ends of the ranges of TPOT; `None` if it is exact for every request.
    pub tpot_range: Option<TpotRange>,
    pub latency_s: Series,
    pub input_tokens: Series,
    pub output_tokens: Series,
    pub output_rate_per_s: Series,
    pub total_rate_per_s: Series,
    pub service_ttft_s: Series,
    pub service_latency_s: Series,
}

impl AllSeries {
    /// TPOT is a range, and the value shown is not the lower end for all requests.
    pub(crate) fn tpot_is_within(&self) -> bool {
        self.tpot_range.as_ref().is_some_and(|range| range.low_s != self.tpot_s)
    }

    /// The lower and the upper end of TPOT, which are the same if it is exact.
    pub(crate) fn tpot_ends(&self) -> (&Series, &Series) {
        self.tpot_range.as_ref().map_or((&self.tpot_s, &self.tpot_s), |range| (&range.low_s, &range.high_s))
    }

    /// The series of succeeded requests sorted by due time; `itl_s` is that of their gaps.
    pub fn compute(ok: impl Iterator<Item = Sample> + Clone, itl_s: Series) -> AllSeries {
        let ok = || ok.clone();
        AllSeries {
            ttft_s: Series::from_ns(ok().filter_map(|s| s.ttft).map(|ns| ns as f64)),
            first_answer_s: Series::from_ns(ok().filter_map(|s| s.first_answer).map(|ns| ns as f64)),
            itl_s,
            tpot_s: Series::from_ns(ok().filter_map(|s| s.tpot)),
            tpot_range: TpotRange::compute(ok()),
            latency_s: Series::from_ns(ok().map(|s| s.latency as f64)),
            input_tokens: Series::from_values(ok().filter_map(|s| s.input_tokens).map(f64::from)),
            output_tokens: Series::from_values(ok().filter_map(|s| s.output_tokens).map(f64::from)),
            output_rate_per_s: Series::from_values(ok().filter_map(|s| s.output_rate)),
            total_rate_per_s: Series::from_values(ok().filter_map(|s| s.total_rate)),
            service_ttft_s: Series::from_ns(ok().filter_map(|s| s.service_ttft).map(|ns| ns as f64)),
            service_latency_s: Series::from_ns(ok().filter_map(|s| s.service_latency).map(|ns| ns as f64)),
        }
    }
}
