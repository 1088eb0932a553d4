//! A run as the page shows it, read from its database.

use std::path::Path;

use super::timeline::Timeline;
use crate::record::Phase;
use crate::report::merge::{Merged, ShardTable};
use crate::report::{Measured, measured};
use crate::server::metric_catalog::Scrape;
use crate::server::metrics;
use crate::stats::Summary;
use crate::stats::samples::Samples;
use crate::store::reader::Detail;
use crate::store::{StoreError, StoredRun};

/// A run with everything that the page shows of it.
#[derive(Debug)]
pub struct Run {
    pub run: StoredRun,
    pub summary: Summary,
    pub samples: Samples,
    /// Scrapes of the server's metrics.
    pub(super) scrapes: Vec<Scrape>,
    pub(super) timeline: Timeline,
    /// The shards that sent it.
    pub(super) shards: Option<ShardTable>,
}

/// What is stored of a run, and its figures.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub run: &'a StoredRun,
    pub summary: &'a Summary,
}

impl Run {
    /// Reads a database.
    pub fn read(path: &Path) -> Result<Run, StoreError> {
        Run::from_measured(measured(path)?)
    }

    /// Completes a run that was already read from its database, or from those of its shards.
    pub fn from_measured(measured: Measured) -> Result<Run, StoreError> {
        let mut timeline = Timeline::new(&measured.samples);
        measured.each_block(Phase::Measured, Detail::Figures, |block| timeline.add(block))?;
        measured.each_block(Phase::Warmup, Detail::Figures, |block| timeline.add_warmup(block))?;
        let scrapes = metrics::scrapes(&measured.server_samples()?);
        let Measured { run, summary, samples, gaps, .. } = measured;
        timeline.add_gaps(|pass| gaps.read(pass))?;
        Ok(Run { run, summary, samples, scrapes, timeline, shards: None })
    }

    /// A run of these shards.
    pub fn from_merged(merged: Merged) -> Result<Run, StoreError> {
        let table = ShardTable::new(&merged);
        Ok(Run { shards: Some(table), ..Run::from_measured(merged.measured)? })
    }
}
