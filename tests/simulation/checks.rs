//! What must hold after every simulated run.

use std::collections::HashMap;
use std::convert::Infallible;

use ringmark::plan::{Arrival, Load};
use ringmark::record::arrivals::{Gaps, decode_early};
use ringmark::record::facts::RunFacts;
use ringmark::record::{Block, Outcome as RequestOutcome, Phase, RequestRecord, WorkerReport};
use ringmark::stats::gap_set::GapsWanted;
use ringmark::stats::gap_sets::{GapPass, GapSets};
use ringmark::stats::measurement_error::{self, Bound, MeasurementError, StampError};
use ringmark::stats::quantile::{LEVELS, nearest_rank};
use ringmark::stats::samples::RunSamples;

use ringmark::time::{MS, Tick};

use super::kernel::STAMP_NS;
use super::run::{Outcome, prepared, requests_of};
use super::scenario::{Scenario, Talks};
use super::server::{RequestId, Truth};
use super::talks::{THINK_MS, has_history};

/// How much wider a bound may be than its cause: the poll that proves a socket empty, a wait, and a wake-up.
const SLACK_NS: u64 = 3_000_000;
/// A bound wider than this, of an event of a calm run, is one too wide; so many of them, or a hundredth, are tolerated.
const WIDE_NS: u32 = 1_300_000;
const MAX_WIDE: usize = 3;
/// The error of the simulated clocks.
const CLOCK_NS: u64 = 100;
/// Bounds are floating-point seconds.
const ROUNDING_S: f64 = 2e-9;

/// A request that succeeded, with what really happened.
struct Joined<'a> {
    record: &'a RequestRecord,
    arrivals: &'a [Tick],
    /// By how much its arrivals may have been earlier.
    early_ns: Vec<u32>,
    truth: &'a Truth,
    /// When it should have been sent, nanoseconds: once it was due, had its slot, and was connected.
    due_ns: u64,
    /// How late the client sent it by its own fault.
    late_ns: u64,
}

pub fn check(scenario: &Scenario, outcome: &Outcome) {
    check_totals(scenario, outcome);
    check_cap(scenario, outcome);
    check_in_flight(scenario, outcome);
    check_duration(scenario, outcome);
    let truths: Truths<'_> = outcome.truths.iter().map(|truth| (truth.id, truth)).collect();
    if let Some(talks) = scenario.talks {
        check_talks(scenario, talks, outcome, &truths);
    }
    let mut joined: Vec<Joined<'_>> = records(outcome)
        .filter(|(_, record)| record.outcome == RequestOutcome::Ok)
        .map(|(block, record)| join(scenario, block, record, truths[&id(record)]))
        .collect();
    for request in &joined {
        check_request(request);
        check_causes(scenario, request);
    }
    check_narrow(scenario, &joined);
    joined.retain(|request| request.record.phase == Phase::Measured);
    let error = own_error(scenario, outcome);
    for is_service_constant in [|_: u64| false, |_: u64| true, |index: u64| index.is_multiple_of(2)] {
        check_bounds(&joined, &error, is_service_constant);
    }
}

fn records(outcome: &Outcome) -> impl Iterator<Item = (&Block, &RequestRecord)> {
    outcome.blocks.iter().flat_map(|block| block.records.iter().map(move |record| (block, record)))
}

type Truths<'a> = HashMap<RequestId, &'a Truth>;

fn id(record: &RequestRecord) -> RequestId {
    (if record.phase == Phase::Warmup { 'w' } else { 'm' }, record.index)
}

fn join<'a>(scenario: &Scenario, block: &'a Block, record: &'a RequestRecord, truth: &'a Truth) -> Joined<'a> {
    let count = record.arrivals.len as usize;
    assert_eq!(count, truth.events_ns.len(), "request {} has other events", record.index);
    let mut early_ns = Vec::new();
    decode_early(record.early.slice(&block.bytes), count, &mut early_ns).unwrap();
    let picked = record.picked.unwrap();
    // The wait for a slot ends with the slot's previous request; that of the slot's first request is part of the plan.
    let free = if record.turn > 0 { record.due } else { record.previous_end.unwrap_or(picked).min(picked) };
    let waited_ns = match scenario.load {
        Load::Paced { .. } => free.ns_since(record.due).max(0) as u64,
        Load::Closed { .. } | Load::Open { .. } => 0,
    };
    let connect_ns = if record.reused { 0 } else { record.connected.unwrap().ns_since(picked).max(0) as u64 };
    let due_ns = record.due.0 + waited_ns + connect_ns;
    let late_ns = truth.received_ns.saturating_sub(due_ns);
    let arrivals = record.arrivals.slice(&block.arrivals);
    Joined { record, arrivals, early_ns, truth, due_ns, late_ns }
}

/// Every request is recorded once, and the counts add up.
fn check_totals(scenario: &Scenario, outcome: &Outcome) {
    for (phase, units) in [(Phase::Warmup, Some(scenario.warmup)), (Phase::Measured, scenario.requests)] {
        let of_phase = records(outcome).filter(|(_, record)| record.phase == phase);
        let mut indices: Vec<u64> = of_phase.map(|(_, record)| record.index).collect();
        let count = indices.len() as u64;
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len() as u64, count, "a request of {phase:?} was recorded twice");
        let Some(units) = units else { continue };
        let requests = requests_of(scenario, phase, units);
        assert!(indices.last().is_none_or(|last| *last < requests), "{phase:?}");
        if phase == Phase::Measured {
            assert_eq!(count + outcome.unsent, requests, "recorded and unsent requests");
        }
        // A turn that fails ends its conversation.
        let is_complete = scenario.interrupt.is_none() && scenario.duration_ns.is_none() && scenario.talks.is_none();
        assert!(!is_complete || count == requests, "{count} of {requests} requests of {phase:?} were sent");
    }
    for (_, record) in records(outcome) {
        assert!(record.due <= record.picked.unwrap(), "{record:?}");
        assert!(record.write_start.is_none_or(|at| at >= record.due) && record.end >= record.due, "{record:?}");
    }
}

/// No measured request, or conversation, is offered after the duration, which begins with the first of them.
fn check_duration(scenario: &Scenario, outcome: &Outcome) {
    let Some(duration_ns) = scenario.duration_ns else { return };
    let dues = || records(outcome).map(|(_, record)| record).filter(|r| r.phase == Phase::Measured && r.turn == 0);
    let Some(first) = dues().find(|record| record.index == 0).map(|record| record.due) else { return };
    for record in dues() {
        let after_ns = record.due.ns_since(first);
        assert!(after_ns <= duration_ns as i64, "request {} is due {after_ns} ns after the first", record.index);
    }
}

/// Conversations are sent turn by turn, each with the answers before it and after its pause.
fn check_talks(scenario: &Scenario, talks: Talks, outcome: &Outcome, truths: &Truths<'_>) {
    let mut by_conversation: HashMap<(Phase, u64), Vec<&RequestRecord>> = HashMap::new();
    for (_, record) in records(outcome) {
        by_conversation.entry((record.phase, record.conversation.unwrap())).or_default().push(record);
    }
    let pause_ns = if talks.with_pauses { THINK_MS.0 * MS..=THINK_MS.1 * MS } else { 0..=0 };
    let conversations = prepared(scenario).conversations();
    let firsts = |phase: Phase| {
        let numbers = by_conversation.keys().filter(|(of, _)| *of == phase).map(|(_, number)| *number);
        let turns = |number: u64| conversations.script(phase, number).turns.len() as u64;
        let ends = (0..numbers.max().unwrap_or(0)).scan(0, |end, number| {
            *end += turns(number);
            Some(*end)
        });
        [0].into_iter().chain(ends).collect::<Vec<u64>>()
    };
    let (warmup, measured) = (firsts(Phase::Warmup), firsts(Phase::Measured));
    for ((phase, number), mut turns) in by_conversation {
        turns.sort_by_key(|record| record.turn);
        let first = if phase == Phase::Warmup { &warmup } else { &measured }[number as usize];
        for (turn, record) in turns.iter().enumerate() {
            assert_eq!((record.turn, record.index), (turn as u32, first + turn as u64), "conversation {number}");
        }
        for pair in turns.windows(2) {
            let (before, record) = (pair[0], pair[1]);
            let ended = record.previous_end.unwrap();
            assert!(before.outcome == RequestOutcome::Ok && ended >= before.end, "a turn after {before:?}");
            assert!(pause_ns.contains(&(record.due.0 - ended.0)), "the pause before {record:?}");
        }
        let last = turns[turns.len() - 1];
        let is_cut = scenario.interrupt.is_some() || scenario.duration_ns.is_some();
        let is_over =
            turns.len() == conversations.script(phase, number).turns.len() || last.outcome != RequestOutcome::Ok;
        assert!(is_over || is_cut, "conversation {number} ends with turn {}", last.turn);
        let answered = turns.iter().map_while(|record| truths.get(&id(record)));
        let mut answers: Vec<&str> = Vec::new();
        for truth in answered {
            assert!(has_history(&truth.body, &answers), "conversation {number}: {}", answers.len());
            answers.push(&truth.text);
        }
    }
}

/// The server never has more requests in work than the cap.
fn check_cap(scenario: &Scenario, outcome: &Outcome) {
    let Some(parallel) = scenario.load.parallel() else { return };
    let mut changes: Vec<(u64, i64)> = Vec::new();
    for truth in &outcome.truths {
        // An answer ends with its end event; the rest of the body is read beside the next request.
        let end_event = Some(truth.end_ns).filter(|end_ns| *end_ns > 0);
        let end_ns = [end_event, truth.closed_ns].into_iter().flatten().fold(truth.over_ns, u64::min);
        changes.extend([(truth.received_ns, 1), (end_ns.max(truth.received_ns), -1)]);
    }
    changes.sort_unstable();
    let mut in_work = 0;
    for (_, change) in changes {
        in_work += change;
        assert!(in_work <= i64::from(parallel), "{in_work} requests at once with --parallel {parallel}");
    }
}

/// By the records, there were never more requests in flight than the cap.
fn check_in_flight(scenario: &Scenario, outcome: &Outcome) {
    let Some(parallel) = scenario.load.parallel() else { return };
    let spans = records(outcome).filter_map(|(_, record)| Some((record.write_start?, record.end)));
    let mut changes: Vec<(Tick, i64)> = spans.flat_map(|(sent, end)| [(sent, 1), (end, -1)]).collect();
    // A slot may send its next request at the end of the previous one.
    changes.sort_unstable();
    let mut in_flight = 0;
    for (at, change) in changes {
        in_flight += change;
        assert!(in_flight <= i64::from(parallel), "{in_flight} requests at {at:?} with --parallel {parallel}");
    }
}

/// Every point in time is within its own bound.
fn check_request(request: &Joined<'_>) {
    let Joined { record, truth, .. } = request;
    let is_bounded = |name: &str, at: Tick, early_ns: u32, true_ns: u64| {
        let from_ns = at.0.saturating_sub(u64::from(early_ns) + STAMP_NS + CLOCK_NS);
        assert!(
            (from_ns..=at.0 + CLOCK_NS).contains(&true_ns),
            "request {}, {name}: {true_ns} is not in {} to {} ns before {}",
            record.index,
            -(CLOCK_NS as i64),
            at.0 - from_ns,
            at.0
        );
    };
    for (place, (at, early_ns)) in request.arrivals.iter().zip(&request.early_ns).enumerate() {
        is_bounded(&format!("event {place}"), *at, *early_ns, truth.events_ns[place]);
    }
    if record.streamed {
        is_bounded("last token", record.last_token.unwrap(), record.last_token_early_ns.unwrap(), truth.last_token_ns);
    }
    is_bounded("end", record.end, record.end_early_ns.unwrap(), truth.end_ns);
    let own_ns = metric_own_lag_ns(request);
    assert!(
        request.late_ns <= own_ns + CLOCK_NS,
        "sent {} ns late, of which {own_ns} are known: {record:?}",
        request.late_ns
    );
}

/// How late a request was sent by the client's fault, as far as its record tells.
fn metric_own_lag_ns(request: &Joined<'_>) -> u64 {
    request.record.write_end.unwrap().0.saturating_sub(request.due_ns)
}

/// No event has a wider bound than what the client could not know: when its socket was empty last.
fn check_causes(scenario: &Scenario, request: &Joined<'_>) {
    // While a receive is not armed, the client knows less than the kernel records here.
    if scenario.faults.is_scarce() {
        return;
    }
    let unknown_ns = |(at_ns, quiet_ns): &(u64, u64)| at_ns.saturating_sub(*quiet_ns);
    let cause_ns = request.truth.reads.iter().map(unknown_ns).max().unwrap_or(0);
    // Reads without a timestamp are bounded by when they were processed: after any stop, and after the other connections.
    let stops_ns: u64 = scenario.stops.iter().flatten().map(|stop| stop.length_ns).sum();
    let others_ns = scenario.load.parallel().map_or(0, u64::from) * scenario.faults.read_ns;
    let unstamped = request.record.stamped_reads < request.record.reads;
    let allowed_ns = cause_ns + SLACK_NS + if unstamped { stops_ns + others_ns } else { 0 };
    let widest_ns = request.early_ns.iter().copied().max().unwrap_or(0);
    assert!(
        u64::from(widest_ns) <= allowed_ns,
        "request {} has a bound of {widest_ns} ns for a cause of {cause_ns} ns",
        request.record.index
    );
}

/// On a machine and from a server without faults, few events have a bound that is wider than a short wait and a wake-up.
fn check_narrow(scenario: &Scenario, joined: &[Joined<'_>]) {
    // A burst keeps the worker from polling while it sends.
    let is_burst = scenario.load.schedule().is_some_and(|schedule| schedule.arrival == Arrival::Burst);
    if !scenario.is_calm || is_burst {
        return;
    }
    // So does the opening of its connections.
    let reused = joined.iter().filter(|request| request.record.reused);
    let early: Vec<u32> = reused.flat_map(|request| request.early_ns.iter().copied()).collect();
    let wide = early.iter().filter(|ns| **ns > WIDE_NS).count();
    assert!(wide <= MAX_WIDE.max(early.len() / 100), "{wide} of {} bounds are wide", early.len());
}

/// The bounds, computed as from a database: blocks do not tell the worker.
fn own_error(scenario: &Scenario, outcome: &Outcome) -> MeasurementError {
    let mut samples = RunSamples::default();
    let from_database = |block: &Block| Block {
        worker: 0,
        records: block.records.iter().filter(|record| record.phase == Phase::Measured).cloned().collect(),
        arrivals: block.arrivals.clone(),
        bytes: block.bytes.clone(),
        ..Block::default()
    };
    let blocks: Vec<Block> = outcome.blocks.iter().map(from_database).collect();
    blocks.iter().for_each(|block| samples.add(block));
    let facts = RunFacts {
        parallel: scenario.load.parallel(),
        rate_per_s: scenario.load.schedule().map(|schedule| schedule.rate_per_s),
        ..RunFacts::default()
    };
    let ok = samples.requests.select(|sample| sample.ok);
    let margin_ns = measurement_error::gap_margin_ns(&StampError::default(), None, &ok);
    let ends = || blocks.iter().flat_map(|block| &block.records).map(|record| record.end.0);
    let span = (ends().min().unwrap_or(0), ends().max().unwrap_or(0));
    let sets = GapSets::new(GapsWanted { span, margin_ns, ..GapsWanted::default() });
    let Ok(gaps) = sets.compute(|sets| {
        add_gaps(sets, &blocks);
        Ok::<(), Infallible>(())
    });
    let workers: Vec<&WorkerReport> = outcome.reports.iter().collect();
    measurement_error::compute(&facts, StampError::default(), None, &workers, &ok, &gaps.measured)
}

fn add_gaps(sets: &mut GapSets, blocks: &[Block]) {
    let mut gaps = Gaps::default();
    for block in blocks {
        for record in block.records.iter().filter(|record| record.outcome == RequestOutcome::Ok) {
            let arrivals = record.arrivals.slice(&block.arrivals);
            gaps.read(arrivals, record.choices.slice(&block.bytes), record.early.slice(&block.bytes));
            sets.add(Phase::Measured, 0, &gaps.gaps);
        }
    }
}

/// The bounds contain what an ideal client would have measured. `would_be_earlier`: the server would have answered a
/// request earlier that had been sent earlier.
fn check_bounds(joined: &[Joined<'_>], error: &MeasurementError, would_be_earlier: impl Fn(u64) -> bool) {
    let from_due = |request: &Joined<'_>, at_ns: u64| {
        let late_ns = if would_be_earlier(request.record.index) { request.late_ns } else { 0 };
        at_ns as f64 - request.record.due.0 as f64 - late_ns as f64
    };
    let streamed = || joined.iter().filter(|request| request.record.streamed);
    let ttft = streamed().map(|request| from_due(request, request.truth.events_ns[0])).collect();
    let latency = joined.iter().map(|request| from_due(request, request.truth.end_ns)).collect();
    let gaps = streamed()
        .flat_map(|request| request.truth.events_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64))
        .collect();
    let tpot = streamed()
        .filter(|request| request.record.output_tokens.is_some_and(|tokens| tokens > 1))
        .map(|request| {
            let tokens = f64::from(request.record.output_tokens.unwrap_or(0) - 1);
            (request.truth.last_token_ns - request.truth.events_ns[0]) as f64 / tokens
        })
        .collect();
    for (name, truth, bounds) in [
        ("TTFT", ttft, &error.ttft_s),
        ("latency", latency, &error.latency_s),
        ("ITL", gaps, &error.itl_s),
        ("TPOT", tpot, &error.tpot_s),
    ] {
        contains(name, truth, bounds);
    }
}

fn contains(name: &str, mut truth_ns: Vec<f64>, bounds: &[Bound]) {
    if truth_ns.is_empty() {
        return;
    }
    truth_ns.sort_unstable_by(f64::total_cmp);
    assert_eq!(bounds.len(), LEVELS.len(), "{name}");
    for (level, bound) in LEVELS.iter().zip(bounds) {
        let true_s = truth_ns[nearest_rank(truth_ns.len(), level.per_mille) - 1] / 1e9;
        assert!(
            bound.low - ROUNDING_S <= true_s && true_s <= bound.high + ROUNDING_S,
            "{name} {}: {true_s} s is not in {bound:?}",
            level.name
        );
    }
}
