//! The shards of a load, found by their call and merged into one run, with what can be said about each and about their
//! clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::shards::{Alignment, Shards, alignment};
use super::source::{Window, shift};
use super::table::{Align, Table, digits, optional};
use super::{Measured, json, measured};
use crate::finding::Finding;
use crate::record::clock_exchange::DRIFT;
use crate::record::facts::{Mode, RunEnd, ShardFacts};
use crate::record::share::Share;
use crate::record::{Block, Phase};
use crate::stats::Summary;
use crate::stats::samples::Sample;
use crate::store::reader::Detail;
use crate::store::{Reader, StoreError, StoredRun};
use crate::time::{MS, S, Tick, format_ns};

/// A shard that begins later than this after the start is late.
const LATE_NS: u64 = 100 * MS;
/// A record may be stored so long after its request has ended.
const STORED_LATE_NS: u64 = 250 * MS;
/// A shard that leaves the others alone for a larger share of the run is reported.
const ALONE: f64 = 0.1;
/// The others went on for a larger share of the run, and at least a second, after a shard was stopped.
const STOPPED_EARLY: f64 = 0.02;
/// Shards with fewer requests are too short to be compared.
const FEW_REQUESTS: u64 = 50;
/// A shard is slower than the others if its send lag is so many times theirs, and at least this.
const SLOW_TIMES: u64 = 4;
const SLOW_NS: u64 = MS;

/// Why databases cannot be merged. One line that names the files.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{}: it is no shard: 'ringmark report' shows it", .0.display())]
    NoShard(PathBuf),
    #[error("{} and {} are both shard {index} of one run: give each shard once", first.display(), second.display())]
    Twice { index: u32, first: PathBuf, second: PathBuf },
    #[error("{}: it is shard {share} but has request {index}, which another shard sends: the file was changed", file.display())]
    Foreign { file: PathBuf, share: Share, index: u64 },
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
    /// The kernel whose clock it used, if it is known.
    clock_domain: Option<String>,
    /// The cores of its workers.
    cores: Vec<u32>,
    /// When its first measured request was due and its last one ended, by the clock of the first shard.
    span: Option<(Tick, Tick)>,
    /// How much later than the first one it began for certain, nanoseconds.
    late_ns: u64,
    /// When it began, by the clock of the first shard.
    began: Tick,
    /// Requests that it could not store, the last ones.
    rows_lost: u64,
    /// Of a shard that was killed or could not store requests, by the clock of the first shard: all requests that ended
    /// until then are stored.
    complete_until: Option<Tick>,
    /// When its last measured request was due, by the clock of the first shard.
    last_due: Option<Tick>,
    /// The user or --abort-on ended it before its plan did.
    stopped: bool,
}

impl ShardRow {
    /// Until when it took part in the load; `None` if until the end of its plan. `last_due` is that of all shards.
    fn took_part_until(&self, last_due: Option<Tick>, span_ns: u64) -> Option<Tick> {
        let went_on_ns = last_due.zip(self.last_due).map_or(0, |(all, own)| all.ns_since(own).max(0) as u64);
        let is_alone = went_on_ns > S.max((STOPPED_EARLY * span_ns as f64) as u64);
        self.complete_until.or(self.last_due.filter(|_| self.stopped && is_alone))
    }
}

/// The figures that depend on how the clocks of the shards are aligned: each with both ends. `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Joint {
    pub duration_s: Option<(f64, f64)>,
    pub requests_per_s: Option<(f64, f64)>,
    pub output_tokens_per_s: Option<(f64, f64)>,
    pub offered_per_s: Option<(f64, f64)>,
    pub mean_concurrency: Option<(f64, f64)>,
    /// From when to when all shards measured, seconds after the first measured request was due. In a closed loop it ends
    /// with the last request that a shard began: after that, its slots become idle one by one.
    pub together_s: Option<(f64, f64)>,
}

/// The runs in these databases, in the order in which they ran.
///
/// # Errors
/// If a database is no shard, a shard is there twice, or the shards of a run did not send one load.
pub fn groups(files: &[PathBuf]) -> Result<Vec<Group>, MergeError> {
    let mut runs: BTreeMap<(i64, String, u32), Vec<(PathBuf, StoredRun)>> = BTreeMap::new();
    let mut begins: BTreeMap<String, i64> = BTreeMap::new();
    for file in files {
        let mut run = Reader::open(file)?.run()?;
        // Megabytes that a list of many shards does not need.
        run.workers = Vec::new();
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
    ///
    /// The figures are those of the time in which all of these shards measured: if one was killed, until its records are
    /// complete; if one began late, from then on.
    pub fn merge(&self, allow_missing: bool) -> Result<Merged, MergeError> {
        let first = Reader::open(&self.files[0])?.run()?;
        let mut rows = Vec::new();
        for (file, shard) in self.files.iter().zip(&self.shards) {
            rows.push(row(file, shard.share, &first)?);
        }
        let earliest = rows.iter().map(|row| row.began).min().unwrap_or_default();
        for row in &mut rows {
            let later_ns = row.began.ns_since(earliest).max(0) as u64;
            row.late_ns = later_ns.saturating_sub(row.alignment.error_ns.unwrap_or(u64::MAX));
        }
        let start = first.shard_start.map_or(Tick(first.clock.tick_ns), |start| Tick(start.tick_ns));
        let window = self.window(&rows);
        let mut findings = self.absences(&rows, start, window, allow_missing);
        let unknown: Vec<u32> =
            rows.iter().filter(|row| row.alignment.error_ns.is_none()).map(|row| row.index).collect();
        if !unknown.is_empty() {
            findings.push(Finding::ShardClocksUnknown { shards: unknown.clone() });
        }
        findings.extend(rows.iter().filter_map(|row| {
            let after_ns = shift(row.alignment.jumped?, row.alignment.shift_ns).ns_since(start).max(0) as u64;
            Some(Finding::ShardClockJumped { shard: row.index, after_ns })
        }));
        let together = together(&rows, first.facts.mode, window).filter(|_| unknown.is_empty());
        let span_ns = joint_span(&rows, window).map_or(0, |(from, to)| to.ns_since(from).max(0) as u64);
        findings.extend(slow(&rows));
        findings.extend(shared_cores(&rows));
        findings.extend(uneven(&rows, first.facts.mode).filter(|_| window.is_open()));
        let is_exact = rows.iter().all(|row| row.alignment.is_exact());
        let error_s = match is_exact {
            true => Some(0.0),
            false => self.clock_error_s(&rows, span_ns).filter(|_| unknown.is_empty()),
        };
        if let Some(error_s) = error_s.filter(|_| !is_exact && span_ns > 0) {
            findings.push(Finding::ShardClocks { error_ns: (error_s * 1e9) as u64, span_ns });
        }
        let merged = Shards::open(&self.files)?.measured(window, &findings)?;
        let mut joint = Joint::compute(&merged.summary, error_s);
        joint.together_s = together.map(|(from, to)| {
            let begin = merged.samples.first().map_or(from, |sample| Tick(sample.due));
            (from.seconds_since(begin), to.seconds_since(begin))
        });
        Ok(Merged { measured: merged, shards: rows, joint })
    }

    /// How far the two ends of the run may be apart from what the clocks show, seconds; `None` if it is unknown.
    fn clock_error_s(&self, rows: &[ShardRow], span_ns: u64) -> Option<f64> {
        let widest_ns =
            rows.iter().map(|row| row.alignment.error_ns).collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        let drift_s = if rows.iter().any(|row| row.alignment.drifts) { DRIFT * span_ns as f64 / 1e9 } else { 0.0 };
        // Each end may be that of another shard.
        Some(2.0 * widest_ns as f64 / 1e9 + drift_s)
    }

    /// The time in which all of these shards measured.
    fn window(&self, rows: &[ShardRow]) -> Window {
        Window {
            from: rows.iter().filter(|row| row.late_ns > LATE_NS).map(|row| row.began).max(),
            until: ends(rows).into_iter().map(|(_, until)| until).min(),
        }
    }

    /// Findings about shards that were not there all the time.
    fn absences(&self, rows: &[ShardRow], start: Tick, window: Window, allowed: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let count = self.shards.first().map_or(0, |shard| shard.share.count());
        let is_complete = |shard: &u32| rows.iter().any(|row| row.index == *shard && row.complete_until.is_some());
        let killed: Vec<u32> = self.killed.iter().copied().filter(|shard| !is_complete(shard)).collect();
        let missing = self.missing();
        if !missing.is_empty() || !killed.is_empty() {
            findings.push(Finding::ShardsMissing { missing, killed, shards: count, allowed });
        }
        for (shard, until) in ends(rows) {
            let until_ns = until.ns_since(start).max(0) as u64;
            let requests = rows.iter().find(|row| row.index == shard).map_or(0, |row| row.rows_lost);
            findings.push(match requests {
                0 => Finding::ShardEnded { shard, until_ns, killed: self.killed.contains(&shard) },
                _ => Finding::ShardRowsLost { shard, requests, until_ns },
            });
        }
        for row in rows {
            if row.late_ns > LATE_NS {
                findings.push(Finding::ShardLate { shard: row.index, late_ns: row.late_ns });
            }
        }
        if !window.is_open() && joint_span(rows, window).is_none() {
            findings.push(Finding::ShardsNeverTogether { shards: count });
        }
        findings
    }
}

/// The shards that took part until some time before the end, and until when, by the clock of the first shard.
fn ends(rows: &[ShardRow]) -> Vec<(u32, Tick)> {
    let last_due = rows.iter().filter_map(|row| row.last_due).max();
    let span = joint_span(rows, Window::default());
    let span_ns = span.map_or(0, |(from, to)| to.ns_since(from).max(0) as u64);
    rows.iter().filter_map(|row| Some((row.index, row.took_part_until(last_due, span_ns)?))).collect()
}

/// First due time and last end of the measured requests within the window; `None` if there are none.
fn joint_span(rows: &[ShardRow], window: Window) -> Option<(Tick, Tick)> {
    let spans = || rows.iter().filter_map(|row| row.span);
    let from = spans().map(|span| span.0).min()?.max(window.from.unwrap_or(Tick(0)));
    let to = spans().map(|span| span.1).max()?.min(window.until.unwrap_or(Tick(u64::MAX)));
    (from < to).then_some((from, to))
}

/// From the latest first due time to the earliest last end: all shards measured. In a closed loop to the earliest last due
/// time, until which all slots of all shards are busy. `None` if there is no such time.
fn together(rows: &[ShardRow], mode: Mode, window: Window) -> Option<(Tick, Tick)> {
    let spans = rows.iter().map(|row| row.span).collect::<Option<Vec<_>>>()?;
    let from = spans.iter().map(|span| span.0).max()?.max(window.from.unwrap_or(Tick(0)));
    let full_until = match mode {
        Mode::Closed => rows.iter().filter_map(|row| row.last_due).min()?,
        _ => spans.iter().map(|span| span.1).min()?,
    };
    let to = full_until.min(window.until.unwrap_or(Tick(u64::MAX)));
    (from < to).then_some((from, to))
}

/// The finding that a shard of a closed loop had done its part long before the last one.
fn uneven(rows: &[ShardRow], mode: Mode) -> Option<Finding> {
    if mode != Mode::Closed || rows.len() < 2 || rows.iter().any(|row| row.requests < FEW_REQUESTS) {
        return None;
    }
    let first_done = rows.iter().min_by_key(|row| row.span.map(|span| span.1))?;
    let (begin, end) = joint_span(rows, Window::default())?;
    let alone_ns = end.ns_since(first_done.span?.1).max(0) as u64;
    let span_ns = end.ns_since(begin).max(1) as u64;
    (alone_ns as f64 > ALONE * span_ns as f64).then_some(Finding::ShardsUneven {
        shard: first_done.index,
        alone_ns,
        span_ns,
    })
}

/// The findings that shards ran on the same cores: those of one clock are on one machine.
fn shared_cores(rows: &[ShardRow]) -> Vec<Finding> {
    let mut machines: BTreeMap<&str, BTreeMap<u32, Vec<u32>>> = BTreeMap::new();
    for row in rows {
        let Some(domain) = &row.clock_domain else { continue };
        for &core in &row.cores {
            machines.entry(domain).or_default().entry(core).or_default().push(row.index);
        }
    }
    let finding = |cores: BTreeMap<u32, Vec<u32>>| {
        let shared: BTreeMap<u32, Vec<u32>> = cores.into_iter().filter(|(_, shards)| shards.len() > 1).collect();
        let shards: BTreeSet<u32> = shared.values().flatten().copied().collect();
        (!shared.is_empty()).then(|| Finding::ShardsShareCores {
            shards: shards.into_iter().collect(),
            cores: shared.into_keys().collect(),
        })
    };
    machines.into_values().filter_map(finding).collect()
}

/// The finding that the machine of a shard is much slower than those of the others.
fn slow(rows: &[ShardRow]) -> Option<Finding> {
    let slow = rows.iter().max_by_key(|row| row.send_lag_p99_ns)?;
    let mut others: Vec<u64> =
        rows.iter().filter(|row| row.index != slow.index).filter_map(|row| row.send_lag_p99_ns).collect();
    others.sort_unstable();
    let others_p99_ns = *others.get(others.len().checked_sub(1)? / 2)?;
    let send_lag_p99_ns = slow.send_lag_p99_ns?;
    let is_slow = send_lag_p99_ns >= SLOW_NS && send_lag_p99_ns >= others_p99_ns.saturating_mul(SLOW_TIMES);
    is_slow.then_some(Finding::ShardSlow { shard: slow.index, send_lag_p99_ns, others_p99_ns })
}

fn row(file: &Path, share: Share, first: &StoredRun) -> Result<ShardRow, MergeError> {
    let Measured { run, summary, samples, .. } = measured(file)?;
    // The number of a turn does not determine its shard, that of its conversation does.
    let unit = |sample: &Sample| sample.conversation.unwrap_or(sample.index);
    if let Some(foreign) = samples.iter().find(|sample| !share.contains(unit(sample))) {
        return Err(MergeError::Foreign { file: file.to_path_buf(), share, index: foreign.index });
    }
    let rig: Json = serde_json::from_str(&run.rig_json).unwrap_or_default();
    let lag = summary.client.own_send_lag;
    let alignment = alignment(first, &run);
    let on_first = |tick: u64| shift(Tick(tick), alignment.shift_ns);
    let last_end = samples.iter().map(|sample| sample.end).max();
    let start_ns = run.shard_start.unwrap_or(run.clock).tick_ns;
    let late_ns = run.end.as_ref().map_or(0, |RunEnd { shard_late_ns, .. }| *shard_late_ns);
    let rows_lost = run.end.as_ref().map_or(0, |end| end.rows_lost);
    let complete_until = match run.end {
        Some(_) if rows_lost == 0 => None,
        _ => complete_until(file, run.facts.workers)?.filter(|until| until.0 > start_ns).map(|tick| on_first(tick.0)),
    };
    Ok(ShardRow {
        index: share.index(),
        file: file.to_path_buf(),
        requests: summary.counts.sent(),
        failed: summary.counts.failed,
        requests_per_s: summary.throughput.requests_per_s,
        ttft_p50_s: summary.series.ttft_s.at(500).map(|quantile| quantile.value),
        send_lag_p99_ns: (lag.count > 0).then_some(lag.p99),
        own_error_ns: summary.measurement_error.stamp.ns,
        cpu_max: summary.client.cpu_max,
        alignment,
        cpu_model: rig["cpu_model"].as_str().map(str::to_string),
        clock_domain: run.facts.clock_domain().map(str::to_string),
        cores: worker_cores(&run),
        span: samples.first().map(|sample| sample.due).zip(last_end).map(|(due, end)| (on_first(due), on_first(end))),
        late_ns: 0,
        began: on_first(start_ns.saturating_add(late_ns)),
        rows_lost,
        complete_until,
        last_due: samples.last().map(|sample| on_first(sample.due)),
        stopped: run.end.as_ref().is_some_and(|end| end.interrupted || end.aborted),
    })
}

/// The cores that the workers of a run were pinned to, in order.
fn worker_cores(run: &StoredRun) -> Vec<u32> {
    let measured = run.workers.iter().filter(|worker| worker.phase == Phase::Measured);
    let cores: BTreeSet<u32> = measured.filter_map(|worker| worker.core.map(u32::from)).collect();
    cores.into_iter().collect()
}

/// Until when the records of a shard that was killed or could not store its last ones are complete: each worker's records
/// are stored in the order in which they were made. `None` if nothing is known of a worker.
fn complete_until(file: &Path, workers: u32) -> Result<Option<Tick>, StoreError> {
    let reader = Reader::open(file)?;
    let mut last: BTreeMap<u32, Tick> = BTreeMap::new();
    for phase in [Phase::Warmup, Phase::Measured] {
        reader.each_block(phase, Detail::Figures, |block: &Block| {
            for record in &block.records {
                let end = last.entry(record.worker).or_insert(record.end);
                *end = (*end).max(record.end);
            }
        })?;
    }
    let all = last.len() >= workers as usize && workers > 0;
    let until = last.values().min().filter(|_| all);
    Ok(until.map(|until| Tick(until.0.saturating_sub(STORED_LATE_NS))))
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
            together_s: None,
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
            "all_shards_measured_s": ends(joint.together_s),
        });
        out["Slowest shard"] = self.slowest().map(|(shard, ns)| json!({"shard": shard, "send_lag_p99_ns": ns})).into();
        out["Shards"] = self.shards.iter().map(ShardRow::json).collect();
        out
    }

    /// The shard with the highest 99th percentile of its own send lag, and that, nanoseconds; `None` with one shard.
    fn slowest(&self) -> Option<(u32, u64)> {
        let of_several = self.shards.iter().filter(|_| self.shards.len() > 1);
        of_several.filter_map(|row| Some((row.index, row.send_lag_p99_ns?))).max_by_key(|(_, lag_ns)| *lag_ns)
    }

    /// Which shard was the slowest, and when all measured: English and Chinese.
    fn sentences(&self) -> Vec<(String, String)> {
        let slowest = self.slowest().map(|(index, ns)| {
            let lag = format_ns(ns);
            (
                format!("Shard {index} was the slowest: p99 send lag {lag}."),
                format!("分片 {index} 最慢：发送滞后 p99 为 {lag}。"),
            )
        });
        let together = self.joint.together_s.map(|(from, to)| {
            let (from, to) = (digits(from, 3), digits(to, 3));
            (
                format!("All shards measured from {from} s to {to} s."),
                format!("从 {from} s 到 {to} s，所有分片均在测量。"),
            )
        });
        slowest.into_iter().chain(together).collect()
    }

    /// The table of the shards and the joint figures.
    pub fn render(&self, width: usize) -> String {
        let table = Table {
            head: COLUMNS.iter().map(|(name, ..)| name.to_string()).collect(),
            aligns: COLUMNS.iter().map(|(_, _, align)| *align).collect(),
            rows: self.shards.iter().map(ShardRow::cells).collect(),
            grid: false,
        };
        let sentences: String = self.sentences().into_iter().map(|(english, _)| english + "\n").collect();
        format!("{}{sentences}{}", table.fitted(width).render(), self.joint.render())
    }
}

/// The columns of the table of the shards: English and Chinese name, alignment.
const COLUMNS: [(&str, &str, Align); 11] = [
    ("Shard", "分片", Align::Right),
    ("Requests", "请求数", Align::Right),
    ("Failed", "失败", Align::Right),
    ("Req/s", "每秒请求", Align::Decimal),
    ("TTFT p50 (s)", "TTFT p50 (s)", Align::Decimal),
    ("Send lag p99", "发送滞后 p99", Align::Right),
    ("Own error", "自身误差", Align::Right),
    ("Clock", "时钟误差", Align::Right),
    ("CPU (%)", "CPU (%)", Align::Decimal),
    ("Clock offset", "时钟偏差", Align::Right),
    ("CPU model", "CPU 型号", Align::Left),
];

/// What a page has about the shards. Texts are English and Chinese.
#[derive(Clone, Debug)]
pub struct ShardTable {
    pub head: Vec<(&'static str, &'static str)>,
    pub rows: Vec<Vec<String>>,
    /// The joint figures: name, and both ends.
    pub joint: Vec<((&'static str, &'static str), [String; 2])>,
    pub sentences: Vec<(String, String)>,
}

impl ShardTable {
    pub fn new(merged: &Merged) -> ShardTable {
        ShardTable {
            head: COLUMNS.iter().map(|(en, zh, _)| (*en, *zh)).collect(),
            rows: merged.shards.iter().map(ShardRow::cells).collect(),
            joint: merged
                .joint
                .figures()
                .map(|(name, ends)| (name, [end_text(ends.map(|ends| ends.0)), end_text(ends.map(|ends| ends.1))]))
                .to_vec(),
            sentences: merged.sentences(),
        }
    }
}

impl Joint {
    /// The figures with both ends; their English and Chinese names.
    fn figures(&self) -> [JointFigure; 5] {
        [
            (("Duration (s)", "时长 (s)"), self.duration_s),
            (("Requests per second", "每秒请求数"), self.requests_per_s),
            (("Output tokens per second", "每秒输出 token 数"), self.output_tokens_per_s),
            (("Offered requests per second", "每秒到达请求数"), self.offered_per_s),
            (("Mean concurrency", "平均并发数"), self.mean_concurrency),
        ]
    }

    /// A line for each figure whose ends differ.
    fn render(&self) -> String {
        let apart = self
            .figures()
            .into_iter()
            .filter_map(|((name, _), ends)| Some((name, ends.filter(|(low, high)| low < high)?)));
        apart.map(|(name, (low, high))| format!("{name}: {} .. {}\n", digits(low, 4), digits(high, 4))).collect()
    }
}

/// The English and Chinese name of a joint figure, and both ends.
type JointFigure = ((&'static str, &'static str), Option<(f64, f64)>);

/// One end of a joint figure; without an upper end, the time of the run may be shorter than the clocks differ.
fn end_text(end: Option<f64>) -> String {
    end.map_or_else(|| "-".to_string(), |end| if end.is_finite() { digits(end, 4) } else { "∞".to_string() })
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
            self.alignment.offset.map_or_else(
                || "unknown".to_string(),
                |offset| format!("{} .. {}", signed_ns(offset.low_ns), signed_ns(offset.high_ns)),
            ),
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
            "clock_offset_ns": self.alignment.offset.map(|offset| [offset.low_ns, offset.high_ns]),
            "late_ns": self.late_ns,
            "cpu_model": self.cpu_model,
        })
    }
}

fn signed_ns(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    format!("{sign}{}", format_ns(ns.unsigned_abs()))
}
