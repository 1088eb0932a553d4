//! The shards of a load, found by their call and merged into one run, with what can be said about each and about their
//! clocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::shards::{self, Alignment, alignment};
use super::table::{Align, Table, digits, optional};
use super::{Measured, json, measured};
use crate::finding::Finding;
use crate::record::facts::ShardFacts;
use crate::stats::Summary;
use crate::store::{Reader, StoreError, StoredRun};
use crate::time::format_ns;

/// The rate at which two clocks can drift apart at most: the kernel slews a clock by up to 500 ppm.
const DRIFT: f64 = 0.001;

/// Why databases cannot be merged. One line that names the files.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{}: it is no shard: 'ringmark report' shows it", .0.display())]
    NoShard(PathBuf),
    #[error("{} and {} are both shard {index} of one run: give each shard once", first.display(), second.display())]
    Twice { index: u32, first: PathBuf, second: PathBuf },
    #[error("{} and {} are shards of one call but sent different loads (plan {first_hash} and {second_hash})", first.display(), second.display())]
    Different { first: PathBuf, second: PathBuf, first_hash: String, second_hash: String },
}

/// The databases of the shards of one run.
#[derive(Debug)]
pub struct Group {
    /// Sorted by the number of the shard.
    pub files: Vec<PathBuf>,
    shards: Vec<ShardFacts>,
    /// Shards whose database has no end.
    killed: Vec<u32>,
}

/// A run of all its shards.
#[derive(Debug)]
pub struct Merged {
    pub measured: Measured,
    pub shards: Vec<ShardRow>,
    pub joint: Joint,
}

/// What a table says about a shard.
#[derive(Debug)]
pub struct ShardRow {
    pub index: u32,
    pub file: PathBuf,
    pub requests: u64,
    pub failed: u64,
    pub requests_per_s: Option<f64>,
    pub ttft_p50_s: Option<f64>,
    /// 99th percentile of its own send lag, nanoseconds; `None` without requests.
    pub send_lag_p99_ns: Option<u64>,
    /// The largest delay of its timestamps, nanoseconds.
    pub own_error_ns: u64,
    pub cpu_max: Option<f64>,
    pub alignment: Alignment,
    pub cpu_model: Option<String>,
}

/// The figures that depend on how the clocks of the shards are aligned: each with both ends. `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Joint {
    pub duration_s: Option<(f64, f64)>,
    pub requests_per_s: Option<(f64, f64)>,
    pub output_tokens_per_s: Option<(f64, f64)>,
    pub offered_per_s: Option<(f64, f64)>,
    pub mean_concurrency: Option<(f64, f64)>,
}

/// The runs in these databases, in the order in which they ran.
///
/// # Errors
/// If a database is no shard, a shard is there twice, or the shards of a run did not send one load.
pub fn groups(files: &[PathBuf]) -> Result<Vec<Group>, MergeError> {
    let mut runs: BTreeMap<(i64, String, u32), Vec<(PathBuf, StoredRun)>> = BTreeMap::new();
    let mut begins: BTreeMap<String, i64> = BTreeMap::new();
    for file in files {
        let run = Reader::open(file)?.run()?;
        let Some(shard) = &run.facts.shard else { return Err(MergeError::NoShard(file.clone())) };
        // Calls are sorted by the clock of the first file of each.
        let begin = *begins.entry(shard.call_id.clone()).or_insert(run.clock.unix_ns);
        let key = (begin, shard.call_id.clone(), run.facts.run);
        runs.entry(key).or_default().push((file.clone(), run));
    }
    runs.into_values().map(group).collect()
}

fn group(mut runs: Vec<(PathBuf, StoredRun)>) -> Result<Group, MergeError> {
    let facts = |run: &StoredRun| run.facts.shard.clone().unwrap_or_default();
    runs.sort_by_key(|(_, run)| facts(run).share.index());
    for pair in runs.windows(2) {
        let [(first, a), (second, b)] = pair else { continue };
        let (a, b) = (facts(a), facts(b));
        let (first, second) = (first.clone(), second.clone());
        if a.share.index() == b.share.index() {
            return Err(MergeError::Twice { index: a.share.index(), first, second });
        }
        if a.plan_hash != b.plan_hash || a.share.count() != b.share.count() {
            let shown = |shard: ShardFacts| shard.plan_hash.chars().take(12).collect();
            return Err(MergeError::Different { first, second, first_hash: shown(a), second_hash: shown(b) });
        }
    }
    let killed = runs.iter().filter(|(_, run)| run.end.is_none()).map(|(_, run)| facts(run).share.index()).collect();
    let shards = runs.iter().map(|(_, run)| facts(run)).collect();
    Ok(Group { files: runs.into_iter().map(|(file, _)| file).collect(), shards, killed })
}

impl Group {
    /// Shards of the run without a database.
    pub fn missing(&self) -> Vec<u32> {
        let count = self.shards.first().map_or(0, |shard| shard.share.count());
        let is_there = |index: &u32| self.shards.iter().any(|shard| shard.share.index() == *index);
        (0..count).filter(|index| !is_there(index)).collect()
    }

    /// Merges the shards. `allow_missing`: the figures can be used even if a shard is missing or was killed.
    pub fn merge(&self, allow_missing: bool) -> Result<Merged, MergeError> {
        let first = Reader::open(&self.files[0])?.run()?;
        let mut rows = Vec::new();
        for (file, shard) in self.files.iter().zip(&self.shards) {
            rows.push(row(file, shard.share.index(), &first)?);
        }
        let mut findings = Vec::new();
        let missing = self.missing();
        if !missing.is_empty() || !self.killed.is_empty() {
            let count = self.shards.first().map_or(0, |shard| shard.share.count());
            let killed = self.killed.clone();
            findings.push(Finding::ShardsMissing { missing, killed, shards: count, allowed: allow_missing });
        }
        let unknown: Vec<u32> =
            rows.iter().filter(|row| row.alignment.error_ns.is_none()).map(|row| row.index).collect();
        if !unknown.is_empty() {
            findings.push(Finding::ShardClocksUnknown { shards: unknown.clone() });
        }
        let merged = shards::measured(&self.files, &findings)?;
        let one_clock = rows.iter().all(|row| row.alignment == Alignment { shift_ns: 0, error_ns: Some(0) });
        let Some(span_s) = merged.summary.time_s.filter(|_| !one_clock && unknown.is_empty()) else {
            let error_s = one_clock.then_some(0.0);
            let joint = Joint::compute(&merged.summary, error_s);
            return Ok(Merged { measured: merged, shards: rows, joint });
        };
        let widest_ns = rows.iter().filter_map(|row| row.alignment.error_ns).max().unwrap_or(0);
        let error_s = widest_ns as f64 / 1e9 + DRIFT * span_s;
        findings.push(Finding::ShardClocks { error_ns: (error_s * 1e9) as u64, span_ns: (span_s * 1e9) as u64 });
        let merged = shards::measured(&self.files, &findings)?;
        let joint = Joint::compute(&merged.summary, Some(error_s));
        Ok(Merged { measured: merged, shards: rows, joint })
    }
}

fn row(file: &Path, index: u32, first: &StoredRun) -> Result<ShardRow, MergeError> {
    let Measured { run, summary, .. } = measured(file)?;
    let rig: Json = serde_json::from_str(&run.rig_json).unwrap_or_default();
    let lag = summary.client.own_send_lag;
    Ok(ShardRow {
        index,
        file: file.to_path_buf(),
        requests: summary.counts.sent(),
        failed: summary.counts.failed,
        requests_per_s: summary.throughput.requests_per_s,
        ttft_p50_s: summary.series.ttft_s.at(500).map(|quantile| quantile.value),
        send_lag_p99_ns: (lag.count > 0).then_some(lag.p99),
        own_error_ns: summary.measurement_error.stamp.ns,
        cpu_max: summary.client.cpu_max,
        alignment: alignment(first, &run),
        cpu_model: rig["cpu_model"].as_str().map(str::to_string),
    })
}

impl Joint {
    /// The figures if each end of the run may be wrong by `error_s` in all, seconds; `None` if the error is unknown.
    fn compute(summary: &Summary, error_s: Option<f64>) -> Joint {
        let Some((span_s, error_s)) = summary.time_s.zip(error_s) else { return Joint::default() };
        let (short, long) = ((span_s - error_s).max(0.0), span_s + error_s);
        // What was done in the whole run is known exactly.
        let per_time = |rate: Option<f64>| rate.map(|rate| (rate * span_s / long, rate * span_s / short));
        let Summary { throughput, rates, concurrency, .. } = summary;
        Joint {
            duration_s: Some((short, long)),
            requests_per_s: per_time(throughput.requests_per_s),
            output_tokens_per_s: per_time(throughput.output_tokens_per_s),
            offered_per_s: per_time(rates.offered_per_s),
            mean_concurrency: per_time(concurrency.mean),
        }
    }
}

impl Merged {
    /// The figures and percentiles of the run, those of each shard, and the joint ones with both ends.
    pub fn json(&self) -> Json {
        let mut out = json::summary(&self.measured.summary);
        out["Percentiles"] = json::percentiles(&self.measured.summary);
        let ends =
            |ends: Option<(f64, f64)>| ends.map(|(low, high)| [low, high].map(|end| end.is_finite().then_some(end)));
        let joint = &self.joint;
        out["Joint figures"] = json!({
            "duration_s": ends(joint.duration_s),
            "requests_per_s": ends(joint.requests_per_s),
            "output_tokens_per_s": ends(joint.output_tokens_per_s),
            "offered_per_s": ends(joint.offered_per_s),
            "mean_concurrency": ends(joint.mean_concurrency),
        });
        out["Shards"] = self.shards.iter().map(ShardRow::json).collect();
        out
    }

    /// The table of the shards and the joint figures.
    pub fn render(&self, width: usize) -> String {
        let columns = [
            ("Shard", Align::Right),
            ("Requests", Align::Right),
            ("Failed", Align::Right),
            ("Req/s", Align::Decimal),
            ("TTFT p50 (s)", Align::Decimal),
            ("Send lag p99", Align::Right),
            ("Own error", Align::Right),
            ("Clock", Align::Right),
            ("CPU (%)", Align::Decimal),
            ("CPU model", Align::Left),
        ];
        let table = Table {
            head: columns.iter().map(|(name, _)| name.to_string()).collect(),
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: self.shards.iter().map(ShardRow::cells).collect(),
            grid: false,
        };
        let slowest = self.shards.iter().filter(|_| self.shards.len() > 1).max_by_key(|row| row.send_lag_p99_ns);
        let slowest = slowest.and_then(|row| Some((row.index, row.send_lag_p99_ns?)));
        let slowest = slowest.map_or(String::new(), |(index, ns)| {
            format!("Shard {index} was the slowest: p99 send lag {}.\n", format_ns(ns))
        });
        format!("{}{slowest}{}", table.fitted(width).render(), self.joint.render())
    }
}

impl Joint {
    /// A line for each figure whose ends differ.
    fn render(&self) -> String {
        let figures = [
            ("Duration (s)", self.duration_s),
            ("Requests per second", self.requests_per_s),
            ("Output tokens per second", self.output_tokens_per_s),
            ("Offered requests per second", self.offered_per_s),
            ("Mean concurrency", self.mean_concurrency),
        ];
        let apart = figures.into_iter().filter_map(|(name, ends)| Some((name, ends.filter(|(low, high)| low < high)?)));
        apart.map(|(name, (low, high))| format!("{name}: {} .. {}\n", digits(low, 4), digits(high, 4))).collect()
    }
}

impl ShardRow {
    fn cells(&self) -> Vec<String> {
        let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_string(), format_ns);
        vec![
            self.index.to_string(),
            self.requests.to_string(),
            self.failed.to_string(),
            optional(self.requests_per_s),
            optional(self.ttft_p50_s),
            time(self.send_lag_p99_ns),
            format_ns(self.own_error_ns),
            self.alignment.error_ns.map_or_else(|| "unknown".to_string(), |ns| format!("±{}", format_ns(ns))),
            optional(self.cpu_max.map(|share| share * 100.0)),
            self.cpu_model.clone().unwrap_or_else(|| "-".to_string()),
        ]
    }

    fn json(&self) -> Json {
        json!({
            "shard": self.index,
            "database": self.file,
            "requests": self.requests,
            "failed": self.failed,
            "requests_per_s": self.requests_per_s,
            "ttft_p50_s": self.ttft_p50_s,
            "send_lag_p99_ns": self.send_lag_p99_ns,
            "own_error_ns": self.own_error_ns,
            "cpu_max": self.cpu_max,
            "clock_error_ns": self.alignment.error_ns,
            "cpu_model": self.cpu_model,
        })
    }
}
