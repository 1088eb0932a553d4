//! What people and programs read: tables and JSON, made from a run's database and nothing else.

pub mod json;
pub mod rows;
pub mod screen;
pub mod server;
pub mod table;

use std::path::Path;

use crate::record::Phase;
use crate::record::live::Snapshot;
use crate::record::store::reader::Detail;
use crate::record::store::{Reader, StoreError};
use crate::server::{metrics, names, usage};
use crate::stats::Summary;
use crate::stats::gather::Gathered;
use crate::stats::reconcile::Totals;
use crate::time::format_ns;

/// The summary of a stored run. The end of a run goes through here too, so that `ringmark report` says the same.
pub fn from_database(path: &Path) -> Result<Summary, StoreError> {
    let reader = Reader::open(path)?;
    let run = reader.run()?;
    let mut gathered = Gathered::default();
    reader.each_block(Phase::Measured, Detail::Figures, |block| gathered.add(block))?;
    let samples = reader.server_samples()?;
    let scrapes = metrics::scrapes(&samples);
    let totals = Totals::of(&gathered);
    let mut summary = Summary::of(&run, gathered);
    summary.server_use = usage::of(&samples);
    Ok(match names::window(&scrapes, &run.facts.model) {
        Some(window) => summary.beside(&totals, &window),
        None => summary,
    })
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
