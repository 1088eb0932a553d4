//! What people and programs read: tables and JSON, made from a run's database and nothing else.

pub mod advice;
pub mod compare;
pub mod definitions;
pub mod export;
pub mod findings;
pub mod html;
pub mod join;
pub mod json;
pub mod knee;
pub mod language;
pub mod load_shape;
pub mod merge;
pub mod overview;
pub mod own_error;
pub mod repeats;
pub mod rows;
pub mod screen;
pub mod search;
pub mod server;
pub mod table;
pub mod turns;
pub mod witness;
pub mod workload;

use std::path::Path;

use crate::record::Phase;
use crate::record::live::Snapshot;
use crate::record::store::reader::Detail;
use crate::record::store::{Reader, StoreError, StoredRun};
use crate::server::{metrics, names, usage};
use crate::stats::Summary;
use crate::stats::gather::{Gathered, Sample};
use crate::stats::reconcile::Totals;
use crate::time::format_ns;

/// A stored run with all its figures.
#[derive(Debug)]
pub struct Measured {
    pub run: StoredRun,
    pub summary: Summary,
    /// The measured requests, in the order in which they were due.
    pub samples: Vec<Sample>,
}

/// Everything about a stored run.
pub fn measured(path: &Path) -> Result<Measured, StoreError> {
    let reader = Reader::open(path)?;
    let run = reader.run()?;
    let mut gathered = Gathered::of(&run.workers);
    reader.each_block(Phase::Measured, Detail::Figures, |block| gathered.add(block))?;
    let looks = reader.server_samples()?;
    let scrapes = metrics::scrapes(&looks);
    let mut totals = Totals::of(&gathered);
    let (mut summary, samples) = Summary::with_samples(&run, gathered);
    summary.server_use = usage::of(&looks);
    if run.facts.witness > 0 {
        let mut seen = Gathered::default();
        reader.each_block(Phase::Witness, Detail::Figures, |block| seen.add(block))?;
        totals = totals.with_witness(&seen);
        summary = summary.witnessed(&samples, seen);
    }
    if let Some(window) = names::window(&scrapes, &run.facts.model) {
        summary = summary.beside(&totals, &window);
    }
    Ok(Measured { run, summary, samples })
}

/// The summary of a stored run. The end of a run goes through here too, so that `ringmark report` says the same.
pub fn from_database(path: &Path) -> Result<Summary, StoreError> {
    measured(path).map(|measured| measured.summary)
}

/// One line with the figures so far, for the log and the progress bar.
pub fn progress_line(so_far: &Snapshot) -> String {
    let mut line = format!("{} done, {} ok, {} failed", so_far.done, so_far.ok, so_far.failed);
    if so_far.unfinished > 0 {
        line.push_str(&format!(", {} unfinished", so_far.unfinished));
    }
    if let Some(rate) = so_far.requests_per_s() {
        line.push_str(&format!(", {rate:.2} req/s"));
    }
    if let Some(rate) = so_far.output_tokens_per_s().filter(|&rate| rate > 0.0) {
        line.push_str(&format!(", {rate:.1} tok/s"));
    }
    let mut pair = |name: &str, p50: Option<u64>, p99: Option<u64>| {
        if let (Some(p50), Some(p99)) = (p50, p99) {
            line.push_str(&format!(", {name} p50 {} p99 {}", format_ns(p50), format_ns(p99)));
        }
    };
    pair("TTFT", so_far.ttft_p50_ns, so_far.ttft_p99_ns);
    pair("ITL", so_far.itl_p50_ns, so_far.itl_p99_ns);
    pair("latency", so_far.latency_p50_ns, so_far.latency_p99_ns);
    line
}
