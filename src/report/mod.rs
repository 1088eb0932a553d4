//! Reports for people and programs: tables, JSON and HTML, made only from a run's database.

pub mod advice;
pub mod call_document;
pub mod compare;
pub mod definitions;
mod early_end;
pub mod export;
pub mod findings;
mod gap_passes;
pub mod glance;
pub mod html;
pub mod i18n;
pub mod json;
pub mod json_value;
pub mod junit;
pub mod knee;
pub mod language;
pub mod load_name;
pub mod load_shape;
pub mod measurement_error;
pub mod merge;
mod objective;
pub mod overview;
pub mod repeats;
pub mod screen;
pub mod search;
pub mod search_glance;
pub mod server;
pub mod server_timings;
pub mod shards;
mod source;
pub mod summary_rows;
pub mod table;
pub mod turns;
pub mod witness;
pub mod workload;

use std::path::Path;

use gap_passes::GapRequests;
use source::Source;

use crate::record::{Block, Phase, ServerSample};
use crate::server::{metric_catalog, metrics, resource_usage};
use crate::stats::samples::{RunSamples, Samples};
use crate::stats::{Inputs, Summary, analyze};
use crate::store::live::Snapshot;
use crate::store::reader::Detail;
use crate::store::{Reader, StoreError, StoredRun};
use crate::time::format_ns;

/// A stored run with all its figures.
#[derive(Debug)]
pub struct Measured {
    pub run: StoredRun,
    pub summary: Summary,
    /// The measured requests, sorted by due time.
    pub samples: Samples,
    /// The requests again, for what is computed of their gaps.
    gaps: GapRequests,
    /// The databases.
    sources: Vec<Source>,
}

impl Measured {
    /// Passes the requests that count to a phase to `take`, by the clock of the run.
    pub(crate) fn each_block(
        &self,
        phase: Phase,
        detail: Detail,
        mut take: impl FnMut(&Block),
    ) -> Result<(), StoreError> {
        // Requests before the window of shards count to the warm-up.
        let stored = [Phase::Measured, Phase::Warmup].into_iter().filter(|stored| {
            *stored == phase || (phase == Phase::Warmup && self.sources.iter().any(|source| !source.window.is_open()))
        });
        for stored in stored {
            for source in &self.sources {
                let reader = Reader::open(&source.path)?;
                source.each_block(&reader, stored, detail, |counted, block| {
                    if counted == phase {
                        take(block);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// The samples of the server's metrics, by the clock of the run.
    pub(crate) fn server_samples(&self) -> Result<Vec<ServerSample>, StoreError> {
        let observer = self.sources.iter().find(|source| source.observes);
        observer.map_or(Ok(Vec::new()), |source| server_samples(&Reader::open(&source.path)?, source))
    }
}

/// The samples of the server's metrics in a database, by the clock of the run.
pub(crate) fn server_samples(reader: &Reader, source: &Source) -> Result<Vec<ServerSample>, StoreError> {
    let mut samples = reader.server_samples()?;
    samples.iter_mut().for_each(|sample| sample.at = source::shift(sample.at, source.shift_ns));
    Ok(samples)
}

/// Reads a stored run and computes its figures.
pub fn measured(path: &Path) -> Result<Measured, StoreError> {
    let reader = Reader::open(path)?;
    let run = reader.run()?;
    analyze_requests(&reader, run)
}

/// Computes the figures of a run from its requests in the database.
pub fn analyze_requests(reader: &Reader, run: StoredRun) -> Result<Measured, StoreError> {
    let mut gaps = GapRequests::default();
    let source = Source::whole(reader.path());
    let mut samples_of = |phase: Phase| {
        let mut samples = RunSamples::default();
        reader.each_block(phase, Detail::Figures, |block| samples.add(block))?;
        gaps.add(reader, &source, phase, &samples, 0)?;
        Ok::<_, StoreError>(samples)
    };
    let samples = samples_of(Phase::Measured)?;
    let warmup = if run.facts.has_flowing_warmup() { samples_of(Phase::Warmup)? } else { RunSamples::default() };
    let witness = if run.facts.witness > 0 { Some(samples_of(Phase::Witness)?) } else { None };
    let server_samples = reader.server_samples()?;
    let server = metric_catalog::window(&metrics::scrapes(&server_samples), &run.facts.model);
    let server_use = resource_usage::compute(&server_samples);
    let inputs = Inputs { warmup, witness, server, server_use, ..Inputs::new(&run, samples) };
    let (summary, samples) = analyze(inputs, |sets| gaps.read(sets))?;
    Ok(Measured { run, summary, samples, gaps, sources: vec![source] })
}

/// The summary of a stored run. The end of a run uses this function too, so that `ringmark report` gives the same
/// result.
pub fn from_database(path: &Path) -> Result<Summary, StoreError> {
    measured(path).map(|measured| measured.summary)
}

/// Tokens per second so far: output, or for embeddings and rankings, which have none, input.
pub(crate) fn token_rate(so_far: &Snapshot) -> Option<String> {
    let positive = |rate: Option<f64>| rate.filter(|&rate| rate > 0.0);
    let output = positive(so_far.output_tokens_per_s()).map(|rate| format!("{rate:.1} tok/s"));
    output.or_else(|| Some(format!("{:.1} input tok/s", positive(so_far.input_tokens_per_s())?)))
}

/// One line with the figures so far of `total` requests, for the log.
pub(crate) fn progress_line(so_far: &Snapshot, total: Option<u64>) -> String {
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    let mut line = format!("{}{of} done, {} ok, {} failed", so_far.done, so_far.ok, so_far.failed);
    if so_far.unfinished > 0 {
        line.push_str(&format!(", {} unfinished", so_far.unfinished));
    }
    if let Some(rate) = so_far.requests_per_s() {
        line.push_str(&format!(", {rate:.2} req/s"));
    }
    if let Some(rate) = token_rate(so_far) {
        line.push_str(&format!(", {rate}"));
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
