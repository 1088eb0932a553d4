//! Shards: one load that several processes or hosts sent together, read as one run. Every figure is computed from all
//! records; nothing is averaged.

use std::path::PathBuf;

use hdrhistogram::Histogram;

use super::gap_passes::GapRequests;
use super::source::{Source, Window, shift};
use super::{Measured, workload};
use crate::finding::Finding;
use crate::record::clock_exchange::{ShiftBounds, shift_bounds};
use crate::record::facts::{ClockOffset, ClockPair, ConversationFacts, ShardFacts};
use crate::record::{Phase, Stall, WorkerReport};
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
    let spans: Vec<(i64, i64)> = runs.iter().filter_map(|run| span_on(first, run)).collect();
    let last_start = spans.iter().map(|span| span.0).max().unwrap_or(i64::MAX);
    let first_end = spans.iter().map(|span| span.1).min().unwrap_or(i64::MIN);
    spans.len() == runs.len() && last_start < first_end && others.iter().all(same)
}

/// The finding that these shards sent the same prompts, if they did. Random text depends on two numbers, and every dataset on
/// where it begins.
pub fn same_prompts(runs: &[Measured]) -> Option<Finding> {
    let begins = |run: &Measured| {
        let arguments: serde_json::Value = serde_json::from_str(&run.run.arguments_json).unwrap_or_default();
        let facts = &run.run.facts;
        (facts.seed, facts.distinct_prompts.then_some(facts.salt), arguments["dataset_offset"].to_string())
    };
    let mut all: Vec<_> = runs.iter().map(begins).collect();
    all.sort();
    let count = all.len();
    all.dedup();
    (all.len() < count).then_some(Finding::ShardsSamePrompts { shards: count })
}

/// First due time and last end, in ticks of `first`.
fn span_on(first: &Measured, run: &Measured) -> Option<(i64, i64)> {
    let shift_ns = alignment(&first.run, &run.run).shift_ns;
    let start = run.samples.first()?.due as i64;
    let end = run.samples.iter().map(|sample| sample.end).max()? as i64;
    Some((start.wrapping_add(shift_ns), end.wrapping_add(shift_ns)))
}

/// The shards in these databases as one run, with these further findings.
pub fn measured(paths: &[PathBuf], findings: &[Finding]) -> Result<Measured, StoreError> {
    Shards::open(paths)?.measured(Window::default(), findings)
}

/// The shards of one run.
pub(super) struct Shards {
    /// Their facts as one run.
    run: StoredRun,
    shards: Vec<Shard>,
    /// It is known how the clocks of all of them differ.
    one_clock: bool,
}

/// The database of one shard.
struct Shard {
    reader: Reader,
    source: Source,
}

/// The requests of all shards.
#[derive(Default)]
struct Collected {
    measured: RunSamples,
    warmup: RunSamples,
    gaps: GapRequests,
}

impl Shards {
    /// Computes the figures of the requests within a window.
    pub(super) fn measured(mut self, window: Window, findings: &[Finding]) -> Result<Measured, StoreError> {
        self.shards.iter_mut().for_each(|shard| shard.source.window = window);
        let Shards { mut run, shards, one_clock } = self;
        run.findings.extend_from_slice(findings);
        let mut all = Collected::default();
        for shard in &shards {
            shard.add_phase(Phase::Measured, &mut all)?;
        }
        // They count to the warm-up now.
        let early = all.warmup.requests.len() as u64;
        run.facts.requests = run.facts.requests.map(|planned| planned.saturating_sub(early));
        if run.facts.has_flowing_warmup() {
            for shard in &shards {
                shard.add_phase(Phase::Warmup, &mut all)?;
            }
        }
        if window.until.is_some() && run.end.is_some() {
            // What is due later is not part of the run.
            let unsent: u64 = run.workers.iter().filter(|w| w.phase == Phase::Measured).map(|w| w.unsent).sum();
            let recorded = all.measured.ok + all.measured.failed() + all.measured.unfinished;
            run.facts.requests = run.facts.requests.map(|_| recorded + unsent);
        }
        let (mut witness, mut server, mut server_use) = (None, None, None);
        if let Some(Shard { reader, source }) = shards.iter().find(|shard| shard.source.observes) {
            let scrapes = super::server_samples(reader, source)?;
            // The server's metrics are those of its whole time.
            server = metric_catalog::window(&metrics::scrapes(&scrapes), &run.facts.model)
                .filter(|_| window.from.is_none() && one_clock);
            server_use = resource_usage::compute(&scrapes);
            // Its requests are compared with those that were in flight at the same time.
            if run.facts.witness > 0 && one_clock {
                let mut samples = RunSamples::default();
                source.each_block(reader, Phase::Witness, Detail::Figures, |_, block| samples.add(block))?;
                all.gaps.add(reader, source, Phase::Witness, &samples, 0)?;
                witness = Some(samples);
            }
        }
        let Collected { measured, warmup, gaps } = all;
        let inputs = Inputs { warmup, witness, server, server_use, one_clock, ..Inputs::new(&run, measured) };
        let (summary, samples) = analyze(inputs, |sets| gaps.read(sets))?;
        let sources = shards.into_iter().map(|shard| shard.source).collect();
        Ok(Measured { run, summary, samples, gaps, sources })
    }

    /// Opens the databases; the facts of the shards become those of one run without requests.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Shards, StoreError> {
        let mut first_shard: Option<StoredRun> = None;
        let mut merged: Option<StoredRun> = None;
        let mut shards = Vec::with_capacity(paths.len());
        let mut one_clock = true;
        for path in paths {
            let reader = Reader::open(path)?;
            let run = reader.run()?;
            let alignment = first_shard.as_ref().map(|first| alignment(first, &run));
            let shift_ns = alignment.map_or(0, |alignment| alignment.shift_ns);
            one_clock &= alignment.is_none_or(|alignment| alignment.error_ns.is_some());
            let first_worker = merged.as_ref().map_or(0, first_worker_after);
            let observes = run.facts.shard.as_ref().is_some_and(|shard| shard.share.is_first());
            let window = Window::default();
            let source = Source { path: path.clone(), shift_ns, first_worker, observes, window };
            shards.push(Shard { reader, source });
            first_shard.get_or_insert_with(|| run.clone());
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
            None if one_clock => run.findings.push(Finding::Shards { shards: count }),
            None => run.findings.push(Finding::ProcessClocksUnknown { processes: count }),
        }
        Ok(Shards { run, shards, one_clock })
    }
}

impl Shard {
    /// Adds its requests of a phase to those of the shards before it.
    fn add_phase(&self, phase: Phase, all: &mut Collected) -> Result<(), StoreError> {
        let Collected { measured, warmup, gaps } = all;
        let before = if phase == Phase::Measured { measured.ok } else { warmup.ok };
        self.source.each_block(&self.reader, phase, Detail::Figures, |counted, block| match counted {
            Phase::Measured => measured.add(block),
            _ => warmup.add(block),
        })?;
        let samples = if phase == Phase::Measured { measured } else { warmup };
        gaps.add(&self.reader, &self.source, phase, samples, before)?;
        self.reader.release_pages()
    }
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
    /// The wall clock of the first shard minus that of this one at the start, if it is known.
    pub offset: Option<ClockOffset>,
    /// A clock jumped while the shards compared them, at the latest at this time of the shard's clock.
    pub jumped: Option<Tick>,
    /// The clocks were compared before the start only, and may have drifted apart since.
    pub drifts: bool,
}

impl Alignment {
    /// Both shards have one clock.
    pub fn is_exact(&self) -> bool {
        self.shift_ns == 0 && self.error_ns == Some(0)
    }
}

/// How the ticks of `other` become ticks of `first`: one clock, or clocks whose difference was measured. Otherwise the wall
/// clocks decide, and the error is unknown.
pub fn alignment(first: &StoredRun, other: &StoredRun) -> Alignment {
    let shifts = (shift_to_shard_0(first), shift_to_shard_0(other));
    let jumped = match shifts.1 {
        ShiftBounds::Jumped { at } => Some(at),
        _ => None,
    };
    let starts = first.shard_start.zip(other.shard_start);
    // By exchanges of packets: the difference of both to shard 0.
    let exchanged = match shifts {
        (ShiftBounds::Within(of_first), ShiftBounds::Within(of_other)) => Some(ClockOffset {
            low_ns: of_other.low_ns.saturating_sub(of_first.high_ns),
            high_ns: of_other.high_ns.saturating_sub(of_first.low_ns),
        }),
        _ => None,
    };
    let wall = |shift: ClockOffset| {
        let (start, other_start) = starts?;
        let ahead_ns = start.offset_ns().wrapping_sub(other_start.offset_ns());
        Some(ClockOffset { low_ns: shift.low_ns.wrapping_add(ahead_ns), high_ns: shift.high_ns.wrapping_add(ahead_ns) })
    };
    let domains = first.facts.clock_domain().zip(other.facts.clock_domain());
    if domains.is_some_and(|(first, other)| first == other) {
        let offset = exchanged.and_then(wall).or(Some(ClockOffset::default()));
        return Alignment { shift_ns: 0, error_ns: Some(0), offset, jumped, drifts: false };
    }
    if let Some(shift) = exchanged {
        let (shift_ns, error_ns) = (shift.middle_ns(), Some(shift.half_width_ns()));
        return Alignment { shift_ns, error_ns, offset: wall(shift), jumped, drifts: false };
    }
    // By the messages before the start.
    let offset = |run: &StoredRun| run.end.as_ref().and_then(|end| end.clock_offset);
    match starts.zip(offset(first).zip(offset(other))).filter(|_| jumped.is_none()) {
        Some(((start, other_start), (offset, other_offset))) => {
            let difference = ClockOffset {
                low_ns: other_offset.low_ns.saturating_sub(offset.high_ns),
                high_ns: other_offset.high_ns.saturating_sub(offset.low_ns),
            };
            // When the clock of a machine showed its start, that of shard 0 showed it plus the offset.
            let unix_ns = |start: ClockPair, offset: ClockOffset| start.unix_ns.wrapping_add(offset.middle_ns());
            let apart_ns = unix_ns(other_start, other_offset).wrapping_sub(unix_ns(start, offset));
            let ticks = (start.tick_ns as i64).wrapping_sub(other_start.tick_ns as i64);
            let error_ns = offset.half_width_ns().saturating_add(other_offset.half_width_ns());
            Alignment {
                shift_ns: ticks.wrapping_add(apart_ns),
                error_ns: Some(error_ns),
                offset: Some(difference),
                jumped,
                drifts: true,
            }
        }
        None => {
            let shift_ns = other.clock.offset_ns().wrapping_sub(first.clock.offset_ns());
            Alignment { shift_ns, error_ns: None, offset: None, jumped, drifts: true }
        }
    }
}

/// The clock of shard 0 minus that of this shard, from their exchanges, at the start and at the end of the run.
fn shift_to_shard_0(run: &StoredRun) -> ShiftBounds {
    if run.facts.shard.as_ref().is_some_and(|shard| shard.share.is_first()) {
        return ShiftBounds::Within(ClockOffset::default());
    }
    let last = run.clock_exchanges.last().map(|exchange| exchange.received);
    let end = run.end.as_ref().map(|end| Tick(end.clock.tick_ns)).or(last);
    match run.shard_start.zip(end) {
        Some((start, end)) => shift_bounds(&run.clock_exchanges, (Tick(start.tick_ns), end)),
        None => ShiftBounds::Unknown,
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
    join_histograms(&mut first.workers);
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

/// Joins the histograms of all workers in the first one of the measured phase. All figures are those of all workers
/// together, and the histograms of one take up to a megabyte.
fn join_histograms(workers: &mut [WorkerReport]) {
    let (mut measured, others): (Vec<_>, Vec<_>) =
        workers.iter_mut().partition(|worker| worker.phase == Phase::Measured);
    let first = measured.len().min(1);
    let (all, rest) = measured.split_at_mut(first);
    for worker in rest.iter_mut().map(|worker| &mut **worker) {
        for (sum, part) in all[0].histograms().into_iter().zip(worker.histograms()) {
            // Cannot fail: the sum resizes itself.
            *sum += &*part;
        }
    }
    for histogram in rest.iter_mut().map(|worker| &mut **worker).chain(others).flat_map(WorkerReport::histograms) {
        *histogram = Histogram::new(0).expect("no digits are valid");
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
            shard_start: None,
            clock_exchanges: Vec::new(),
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
    }
}
