//! The part of a closed loop after its first wave of requests. The wave consists of warm-up requests as far as there are
//! any that flow into the measured ones.

use super::quantile::Series;
use super::samples::{RunSamples, Selection};
use crate::record::facts::RunFacts;

/// The requests of a closed loop after the first `parallel` ones, which all start at once on an idle server.
#[derive(Clone, Debug, PartialEq)]
pub struct SteadyPart {
    pub requests: usize,
    pub ttft_s: Series,
    pub service_ttft_s: Series,
    pub latency_s: Series,
    pub service_latency_s: Series,
    pub itl_s: Series,
}

impl SteadyPart {
    /// The succeeded requests after the first wave. `None` for an open loop without a cap, if the warm-up was the first
    /// wave, so that every figure is of this part, and if no request after the first wave succeeded. `warmup` is the number
    /// of warm-up requests that were sent.
    pub fn samples<'a>(facts: &RunFacts, samples: &'a RunSamples, warmup: usize) -> Option<Selection<'a>> {
        let first_wave = (facts.parallel? as usize).checked_sub(warmup).filter(|&requests| requests > 0)?;
        let sent = samples.requests.select(|sample| sample.write_start.is_some());
        let after = sent.by_sending().after(first_wave).select(|sample| sample.ok);
        (!after.is_empty()).then_some(after)
    }

    /// The figures of these samples; `itl_s` is the series of their gaps.
    pub fn compute(after: &Selection<'_>, itl_s: Series) -> SteadyPart {
        SteadyPart {
            requests: after.len(),
            ttft_s: Series::from_ns(after.iter().filter_map(|s| s.ttft).map(|ns| ns as f64)),
            service_ttft_s: Series::from_ns(after.iter().filter_map(|s| s.service_ttft).map(|ns| ns as f64)),
            latency_s: Series::from_ns(after.iter().map(|s| s.latency as f64)),
            service_latency_s: Series::from_ns(after.iter().filter_map(|s| s.service_latency).map(|ns| ns as f64)),
            itl_s,
        }
    }
}
