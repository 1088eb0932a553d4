//! The load of a stored run, for a calibration at the same load.

use std::path::Path;

use super::measured;
use crate::host::calibration::LoadShape;
use crate::record::Phase;
use crate::store::reader::Detail;
use crate::store::{Reader, StoreError};

/// The load of a stored run: cap and rate, median service TTFT, mean gap, mean size of an event, events per response.
/// `None` for a run without streamed responses.
pub(crate) fn from_run(path: &Path) -> Result<Option<LoadShape>, StoreError> {
    let run = measured(path)?;
    let (mut bytes, mut events) = (0, 0);
    Reader::open(path)?.each_block(Phase::Measured, Detail::Figures, |block| {
        bytes += block.records.iter().map(|record| record.received_bytes).sum::<u64>();
        events += block.records.iter().map(|record| u64::from(record.events)).sum::<u64>();
    })?;
    let (series, facts) = (&run.summary.series, &run.summary.facts);
    let ns = |seconds: Option<f64>| seconds.map(|seconds| (seconds * 1e9) as u64);
    let (Some(ttft_ns), true) = (ns(series.service_ttft_s.value(500)), events > 0) else { return Ok(None) };
    let gaps = series.itl_s.count as u64;
    Ok(Some(LoadShape {
        parallel: facts.parallel,
        rate_per_s: facts.rate_per_s,
        event_bytes: u32::try_from(bytes / events).unwrap_or(u32::MAX),
        ttft_ns,
        itl_ns: ns(series.itl_s.mean).unwrap_or(0),
        tokens: u32::try_from(gaps / run.summary.counts.ok.max(1) + 1).unwrap_or(u32::MAX),
        workers: facts.workers,
    }))
}
