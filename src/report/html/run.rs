//! A run as the page shows it, read from its database.

use std::path::{Path, PathBuf};

use super::timeline::Timeline;
use crate::record::Phase;
use crate::report::{Measured, measured, shards};
use crate::server::metric_catalog::Scrape;
use crate::server::metrics;
use crate::stats::Summary;
use crate::stats::samples::Sample;
use crate::store::reader::Detail;
use crate::store::{Reader, StoreError, StoredRun};

/// A run with everything that the page shows of it.
#[derive(Debug)]
pub struct Run {
    pub run: StoredRun,
    pub summary: Summary,
    pub samples: Vec<Sample>,
    /// Scrapes of the server's metrics.
    pub(super) scrapes: Vec<Scrape>,
    pub(super) timeline: Timeline,
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
        Run::from_measured(path, measured(path)?)
    }

    /// Completes a run that was already read from its database.
    pub(crate) fn from_measured(path: &Path, measured: Measured) -> Result<Run, StoreError> {
        let Measured { run, summary, samples, gaps } = measured;
        let mut timeline = Timeline::new(&samples);
        let reader = Reader::open(path)?;
        reader.each_block(Phase::Measured, Detail::Figures, |block| timeline.add(block))?;
        reader.each_block(Phase::Warmup, Detail::Figures, |block| timeline.add_warmup(block))?;
        timeline.add_gaps(|pass| gaps.read(pass))?;
        Ok(Run { run, summary, samples, scrapes: metrics::scrapes(&reader.server_samples()?), timeline })
    }

    /// Reads shards as one run.
    pub fn read_shards(paths: &[PathBuf], measured: Measured) -> Result<Run, StoreError> {
        let Measured { run, summary, samples, gaps } = measured;
        let mut timeline = Timeline::new(&samples);
        shards::each_block(paths, |block| timeline.add(block))?;
        timeline.add_gaps(|pass| gaps.read(pass))?;
        Ok(Run { run, summary, samples, scrapes: Vec::new(), timeline })
    }
}
