//! Shards: one load that several processes or hosts sent together, read as one run. Every figure is computed from all
//! records; nothing is averaged.

use std::path::PathBuf;

use super::gap_passes::GapRequests;
use super::{Measured, workload};
use crate::finding::Finding;
use crate::record::facts::{ClockOffset, ClockPair, ConversationFacts, ShardFacts};
use crate::record::{Block, NetworkTimes, Phase, RequestRecord, Stall};
use crate::server::{metric_catalog, metrics, resource_usage};
use crate::spec::shard::folder_suffix;
use crate::stats::samples::RunSamples;
use crate::stats::{Inputs, analyze};
use crate::store::reader::Detail;
use crate::store::{Reader, StoreError, StoredRun};
use crate::time::Tick;

/// Arguments in which the shards of one load may differ, because shards must not send the same prompts.
const OF_EACH_SHARD: [&str; 1] = ["dataset_offset"];

/// Whether these runs sent one workload at the same time.
pub fn are_shards(runs: &[Measured]) -> bool {
    let Some((first, others)) = runs.split_first().filter(|(_, others)| !others.is_empty()) else { return false };
    let same = |other: &Measured| {
        let differences = workload::differences(first, other);
        // Runs of two servers at the same time are no shards.
        workload::server_differences(first, other).is_empty()
            && differences.iter().all(|line| OF_EACH_SHARD.iter().any(|name| line.split(' ').next() == Some(name)))
    };
    let spans: Vec<(i64, i64)> = runs.iter().filter_map(span_unix_ns).collect();
    let last_start = spans.iter().map(|span| span.0).max().unwrap_or(i64::MAX);
    let first_end = spans.iter().map(|span| span.1).min().unwrap_or(i64::MIN);
    spans.len() == runs.len() && last_start < first_end && others.iter().all(same)
}

fn span_unix_ns(run: &Measured) -> Option<(i64, i64)> {
    let offset = run.run.clock.offset_ns();
    let start = run.samples.first()?.due as i64;
    let end = run.samples.iter().map(|sample| sample.end).max()? as i64;
    Some((start.wrapping_add(offset), end.wrapping_add(offset)))
}

/// The shards in these databases as one run, with these further findings.
pub fn measured(paths: &[PathBuf], findings: &[Finding]) -> Result<Measured, StoreError> {
    let (mut run, shards) = open(paths)?;
    run.findings.extend_from_slice(findings);
    let (mut samples, mut warmup) = (RunSamples::default(), RunSamples::default());
    let mut gaps = GapRequests::default();
    for shard in &shards {
        shard.add_phase(Phase::Measured, &mut samples, &mut gaps)?;
        if run.facts.has_flowing_warmup() {
            shard.add_phase(Phase::Warmup, &mut warmup, &mut gaps)?;
        }
    }
    // Both are those of one shard, and on its clock.
    let observer = shards.iter().find(|shard| shard.observes).filter(|shard| shard.shift_ns == 0);
    let (mut witness, mut server, mut server_use) = (None, None, None);
    if let Some(Shard { reader, .. }) = observer {
        let scrapes = reader.server_samples()?;
        server = metric_catalog::window(&metrics::scrapes(&scrapes), &run.facts.model);
        server_use = resource_usage::compute(&scrapes);
        if run.facts.witness > 0 {
            let mut samples = RunSamples::default();
            reader.each_block(Phase::Witness, Detail::Figures, |block| samples.add(block))?;
            gaps.add(reader, 0, Phase::Witness, &samples, 0)?;
            witness = Some(samples);
        }
    }
    let inputs = Inputs { warmup, witness, server, server_use, ..Inputs::new(&run, samples) };
    let (summary, samples) = analyze(inputs, |sets| gaps.read(sets))?;
    Ok(Measured { run, summary, samples, gaps })
}

/// Passes all measured requests of the shards to `take`, with their times on the clock of the first shard.
pub fn each_block(paths: &[PathBuf], mut take: impl FnMut(&Block)) -> Result<(), StoreError> {
    open(paths)?.1.iter().try_for_each(|shard| shard.each_block(Phase::Measured, &mut take))
}

/// The database of one shard.
struct Shard {
    reader: Reader,
    /// Difference of its clock and that of the first shard, nanoseconds.
    shift_ns: i64,
    /// Number of workers of the shards before it, the number of its first worker.
    first_worker: u32,
    /// It has the witness and the server's metrics.
    observes: bool,
}

impl Shard {
    /// Adds its requests of a phase to those of the shards before it.
    fn add_phase(&self, phase: Phase, samples: &mut RunSamples, gaps: &mut GapRequests) -> Result<(), StoreError> {
        let before = samples.ok;
        self.each_block(phase, |block| samples.add(block))?;
        gaps.add(&self.reader, self.shift_ns, phase, samples, before)
    }

    fn each_block(&self, phase: Phase, mut take: impl FnMut(&Block)) -> Result<(), StoreError> {
        self.reader.each_block(phase, Detail::Figures, |block| match (self.shift_ns, self.first_worker) {
            (0, 0) => take(block),
            _ => take(&shifted(block, self.shift_ns, self.first_worker)),
        })
    }
}

/// The facts of the shards, as one run without requests.
fn open(paths: &[PathBuf]) -> Result<(StoredRun, Vec<Shard>), StoreError> {
    let mut merged: Option<StoredRun> = None;
    let mut shards = Vec::with_capacity(paths.len());
    for path in paths {
        let reader = Reader::open(path)?;
        let run = reader.run()?;
        let (shift_ns, first_worker) = match &merged {
            Some(first) => (alignment(first, &run).shift_ns, first_worker_after(first)),
            None => (0, 0),
        };
        let observes = run.facts.shard.as_ref().is_some_and(|shard| shard.share.is_first());
        shards.push(Shard { reader, shift_ns, first_worker, observes });
        merged = Some(match merged {
            Some(first) => merge_runs(first, run, shift_ns, first_worker),
            None => run,
        });
    }
    let count = paths.len();
    let mut run =
        merged.ok_or_else(|| StoreError::Open { path: PathBuf::new(), reason: "no file given".to_string() })?;
    match run.facts.shard.take() {
        Some(shard) => {
            if shard.share.count() as usize == count {
                take_totals(&mut run, &shard);
            }
            let suffix = folder_suffix(shard.share);
            run.facts.name = run.facts.name.strip_suffix(&suffix).map_or(run.facts.name.clone(), str::to_string);
            // The same on all of them.
            let mut known: Vec<Finding> = Vec::new();
            run.findings.retain(|finding| {
                let is_new = !known.contains(finding);
                known.extend(is_new.then(|| finding.clone()));
                is_new
            });
        }
        // Whose clocks are compared is not known.
        None => run.findings.push(Finding::Shards { shards: count }),
    }
    Ok((run, shards))
}

/// The load of all shards, exactly as it was planned.
fn take_totals(run: &mut StoredRun, shard: &ShardFacts) {
    let facts = &mut run.facts;
    (facts.parallel, facts.rate_per_s, facts.requests) = (shard.parallel, shard.rate_per_s, shard.requests);
    facts.warmup_requests = shard.warmup_requests;
    if let Some(conversations) = &mut facts.conversations {
        conversations.planned = shard.conversations;
    }
}

/// How the ticks of a shard become ticks of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// Is added to them, nanoseconds.
    pub shift_ns: i64,
    /// How far the true shift may be from it; `None` if that is unknown.
    pub error_ns: Option<u64>,
}

/// How the ticks of `other` become ticks of `first`: one clock, clocks whose offset was measured, or wall clocks.
pub fn alignment(first: &StoredRun, other: &StoredRun) -> Alignment {
    let domain = |run: &StoredRun| run.facts.shard.as_ref().map(|shard| shard.clock_domain.clone()).unwrap_or_default();
    if !domain(first).is_empty() && domain(first) == domain(other) {
        return Alignment { shift_ns: 0, error_ns: Some(0) };
    }
    let start = |run: &StoredRun| run.end.as_ref().and_then(|end| end.shard_start.zip(end.clock_offset));
    match start(first).zip(start(other)) {
        Some(((start, offset), (other_start, other_offset))) => {
            // When the clock of a machine showed its start, that of shard 0 showed it plus the offset.
            let unix_ns = |start: ClockPair, offset: ClockOffset| start.unix_ns.wrapping_add(offset.middle_ns());
            let apart_ns = unix_ns(other_start, other_offset).wrapping_sub(unix_ns(start, offset));
            let ticks = (start.tick_ns as i64).wrapping_sub(other_start.tick_ns as i64);
            let error_ns = offset.half_width_ns().saturating_add(other_offset.half_width_ns());
            Alignment { shift_ns: ticks.wrapping_add(apart_ns), error_ns: Some(error_ns) }
        }
        None => {
            let shift_ns = other.clock.offset_ns().wrapping_sub(first.clock.offset_ns());
            Alignment { shift_ns, error_ns: None }
        }
    }
}

/// The number of the first worker of a shard that is added to `run`.
fn first_worker_after(run: &StoredRun) -> u32 {
    run.workers.iter().map(|worker| worker.worker.saturating_add(1)).max().unwrap_or(0)
}

/// Adds the facts of a shard to those of the shards before it.
fn merge_runs(mut first: StoredRun, mut shard: StoredRun, shift_ns: i64, first_worker: u32) -> StoredRun {
    for worker in &mut shard.workers {
        worker.worker = worker.worker.saturating_add(first_worker);
        for stall in worker.stalls.iter_mut().flatten() {
            *stall = Stall { begin: shift(stall.begin, shift_ns), end: shift(stall.end, shift_ns) };
        }
    }
    first.workers.append(&mut shard.workers);
    first.findings.append(&mut shard.findings);
    // Shards on different machines have different calibrations.
    first.calibration = first.calibration.take().filter(|calibration| shard.calibration.as_ref() == Some(calibration));
    let (facts, other) = (&mut first.facts, &shard.facts);
    facts.parallel = facts.parallel.zip(other.parallel).map(|(a, b)| a.saturating_add(b));
    facts.rate_per_s = facts.rate_per_s.zip(other.rate_per_s).map(|(a, b)| a + b);
    facts.requests = facts.requests.zip(other.requests).map(|(a, b)| a.saturating_add(b));
    facts.conversations = facts.conversations.zip(other.conversations).map(|(a, b)| ConversationFacts {
        planned: a.planned.zip(b.planned).map(|(a, b)| a.saturating_add(b)),
        thinks: a.thinks || b.thinks,
    });
    facts.warmup_requests = facts.warmup_requests.saturating_add(other.warmup_requests);
    facts.workers = facts.workers.saturating_add(other.workers);
    facts.witness = facts.witness.max(other.witness);
    first.end = first.end.zip(shard.end).map(|(mut a, b)| {
        a.interrupted |= b.interrupted;
        a.aborted |= b.aborted;
        a.rows_lost += b.rows_lost;
        a.clock_error_ns = a.clock_error_ns.zip(b.clock_error_ns).map(|(a, b)| a.max(b));
        a.peak_backlog = a.peak_backlog.max(b.peak_backlog);
        a
    });
    first
}

fn shift(tick: Tick, ns: i64) -> Tick {
    Tick(tick.0.wrapping_add_signed(ns))
}

fn shifted(block: &Block, ns: i64, first_worker: u32) -> Block {
    let shift = |tick: Tick| shift(tick, ns);
    let record = |record: &RequestRecord| RequestRecord {
        worker: record.worker.saturating_add(first_worker),
        due: shift(record.due),
        picked: record.picked.map(shift),
        connected: record.connected.map(shift),
        write_start: record.write_start.map(shift),
        write_end: record.write_end.map(shift),
        first_byte: record.first_byte.map(shift),
        first_token: record.first_token.map(shift),
        first_answer_token: record.first_answer_token.map(shift),
        last_token: record.last_token.map(shift),
        end: shift(record.end),
        previous_end: record.previous_end.map(shift),
        network: NetworkTimes {
            sent: record.network.sent.map(shift),
            acknowledged: record.network.acknowledged.map(shift),
            ..record.network
        },
        ..record.clone()
    };
    Block {
        worker: block.worker.saturating_add(first_worker),
        records: block.records.iter().map(record).collect(),
        arrivals: block.arrivals.iter().map(|&tick| shift(tick)).collect(),
        bytes: block.bytes.clone(),
        memory: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::telemetry::Telemetry;
    use crate::record::facts::{ClockPair, RunFacts};

    /// The last of so many workers.
    fn shard(workers: u32) -> StoredRun {
        StoredRun {
            facts: RunFacts { workers, ..RunFacts::default() },
            clock: ClockPair::default(),
            end: None,
            arguments_json: String::new(),
            rig_json: String::new(),
            calibration: None,
            gpu_memory_peak_bytes: None,
            workers: vec![Telemetry::new(Tick(0), true).report(workers - 1, Phase::Measured, None, Tick(0))],
            findings: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// 80 shards with as many workers as a run can have are more than 65,535 workers.
    #[test]
    fn workers_of_many_shards_are_kept_apart() {
        let mut run = shard(1024);
        let mut next = 1024;
        for _ in 1..80 {
            assert_eq!(first_worker_after(&run), next);
            run = merge_runs(run, shard(1024), 0, next);
            next += 1024;
        }
        assert!(next > u32::from(u16::MAX));
        let numbers: Vec<u32> = run.workers.iter().map(|worker| worker.worker).collect();
        assert_eq!(numbers, (0..80).map(|shard| shard * 1024 + 1023).collect::<Vec<_>>());
        let mut block = Block::new(5);
        block.records.push(RequestRecord { worker: 5, ..RequestRecord::default() });
        let moved = shifted(&block, 0, next);
        assert_eq!((moved.worker, moved.records[0].worker), (next + 5, next + 5));
    }
}
