//! Hand-made records for the tests of the store and of the figures.

use std::path::Path;
use std::sync::Arc;

use ringmark::plan::Save;
use ringmark::record::facts::{ClockPair, Mode, RunEnd, RunFacts};
use ringmark::record::{
    Block, CollectorMessage, Failure, Finish, Outcome, Phase, RequestRecord, TokenSource, WorkerReport,
};
use ringmark::store::RunStart;
use ringmark::store::collector::{Collector, CollectorEnd, CollectorSettings};
use ringmark::time::{MS, Tick};
use ringmark::workload::Workload;

/// The run's clock when the run starts.
pub const ORIGIN: u64 = 1_000_000_000_000;
/// Unix time at that time.
pub const UNIX: i64 = 1_760_000_000_000_000_000;

/// Facts of a closed loop of `requests` over `parallel` slots.
pub fn closed(requests: u64, parallel: u32) -> RunFacts {
    RunFacts {
        version: "0.0.0".to_string(),
        model: "通义千问-2.5".to_string(),
        url: "http://127.0.0.1:1/v1/chat/completions".to_string(),
        stream: true,
        mode: Mode::Closed,
        parallel: Some(parallel),
        requests: Some(requests),
        workers: 1,
        request_id_prefix: "id".to_string(),
        ..RunFacts::default()
    }
}

pub fn start(facts: RunFacts, save: Save) -> RunStart {
    RunStart { facts, clock: ClockPair { tick_ns: ORIGIN, unix_ns: UNIX }, save, ..RunStart::default() }
}

pub fn at(ms: u64) -> Tick {
    Tick(ORIGIN + ms * MS)
}

/// Adds a streamed success: due at `due_ms`, sent at once, tokens at `tokens_ms` after due, end 1 ms after the last.
pub fn push_ok(block: &mut Block, index: u64, due_ms: u64, tokens_ms: &[u64]) {
    let arrivals: Vec<Tick> = tokens_ms.iter().map(|ms| at(due_ms + ms)).collect();
    let last = *arrivals.last().expect("a success has tokens");
    let record = RequestRecord {
        index,
        due: at(due_ms),
        picked: Some(at(due_ms)),
        connected: Some(at(due_ms)),
        write_start: Some(at(due_ms)),
        write_end: Some(at(due_ms)),
        first_byte: Some(arrivals[0]),
        first_token: Some(arrivals[0]),
        last_token: Some(last),
        end: last.plus_ns(MS),
        reused: true,
        outcome: Outcome::Ok,
        streamed: true,
        status: 200,
        input_tokens: Some(10),
        output_tokens: Some(tokens_ms.len() as u32),
        token_source: TokenSource::Server,
        finish: Finish::Stop,
        events: tokens_ms.len() as u32 + 2,
        reads: tokens_ms.len() as u32,
        stamped_reads: tokens_ms.len() as u32,
        last_token_early_ns: Some(0),
        end_early_ns: Some(0),
        arrivals: block.keep_arrivals(&arrivals),
        text: block.keep_bytes("你好".as_bytes()),
        ..RequestRecord::default()
    };
    block.records.push(record);
}

/// Adds a failure that ended 5 ms after it was due.
pub fn push_failed(block: &mut Block, index: u64, due_ms: u64, outcome: Outcome, words: &str) {
    let error = block.keep_bytes(words.as_bytes());
    block.records.push(RequestRecord {
        index,
        due: at(due_ms),
        picked: Some(at(due_ms)),
        write_start: Some(at(due_ms)),
        end: at(due_ms + 5),
        outcome,
        status: if outcome == Outcome::Failed(Failure::Status) { 429 } else { 0 },
        error,
        ..RequestRecord::default()
    });
}

/// A worker without stalls or lag.
pub fn report(phase: Phase) -> WorkerReport {
    let histogram = || hdrhistogram::Histogram::new(3).expect("three digits are valid");
    WorkerReport {
        worker: 0,
        phase,
        core: Some(0),
        receive_lag_ns: histogram(),
        loop_gap_ns: histogram(),
        sleep_ns: histogram(),
        gather_ns: histogram(),
        stalls: Some(Vec::new()),
        cpu_user_ns: 10 * MS,
        cpu_system_ns: 5 * MS,
        wall_ns: 100 * MS,
        voluntary_switches: 3,
        involuntary_switches: 0,
        reads: 10,
        buffer_shortages: 0,
        connections_opened: 2,
        peak_in_flight: 2,
        extra_blocks: 0,
        unsent: 0,
    }
}

/// Two bodies in turn.
pub fn workload() -> Arc<Workload> {
    let bodies = vec![b"{\"prompt\":0}".to_vec().into(), b"{\"prompt\":1}".to_vec().into()];
    Arc::new(Workload::fixed(Vec::new(), bodies, "id"))
}

/// Runs messages through a collector into `database`.
pub fn collect(database: &Path, start: RunStart, messages: Vec<CollectorMessage>) -> CollectorEnd {
    collect_to_end(database, start, messages, RunEnd::default())
}

/// The same of a run that ended in this way.
pub fn collect_to_end(database: &Path, start: RunStart, messages: Vec<CollectorMessage>, end: RunEnd) -> CollectorEnd {
    let (to_collector, messages_in) = crossbeam_channel::unbounded();
    let (to_worker, _empties) = crossbeam_channel::unbounded();
    let settings =
        CollectorSettings { database: database.to_path_buf(), start, log_every: 0, notify: Box::new(|_| {}) };
    let collector = Collector::start(settings, messages_in, to_worker, workload()).expect("the folder is writable");
    for message in messages {
        to_collector.send(message).expect("the collector listens");
    }
    drop(to_collector);
    collector.finish(RunEnd { clock: ClockPair { tick_ns: ORIGIN, unix_ns: UNIX }, ..end }, &[])
}
