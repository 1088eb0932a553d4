//! The report of a very long run: time and memory to read it.
//!
//! `cargo bench --bench long_runs -- FILE REQUESTS TOKENS` writes the database FILE with so many requests of so many tokens
//! each, from 64 streams with gaps of about 20 ms and a few stalls, unless the file exists. Then it computes the tables
//! and the HTML page, and prints the time of each and the process's peak memory until then. Writing needs memory too:
//! run it again with the file in place to measure the reports alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmark::options::Language;
use ringmark::plan::Save;
use ringmark::record::arrivals::EarlyRange;
use ringmark::record::facts::{ClockPair, Mode, RunEnd, RunFacts};
use ringmark::record::{Block, CollectorMessage, Finish, Outcome, RequestRecord, TokenSource};
use ringmark::report::{self, html};
use ringmark::store::RunStart;
use ringmark::store::collector::{Collector, CollectorSettings};
use ringmark::time::{MS, S, Tick, US};
use ringmark::workload::Workload;

const STREAMS: u64 = 64;
const START: Tick = Tick(1_000 * S);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    // `cargo test` runs this with a small size.
    let path = arguments.first().map_or_else(|| folder.path().join("small.db"), PathBuf::from);
    let number = |place: usize, default: u64| {
        arguments.get(place).map_or(default, |text| text.parse().expect("a number of requests or tokens"))
    };
    if !path.exists() {
        let began = Instant::now();
        write(&path, number(1, 200), number(2, 30) as usize);
        println!("written in {:.1} s", began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    let summary = report::from_database(&path).expect("the database is complete");
    println!(
        "tables of {} gaps: {:.2} s, peak {} MB",
        summary.series.itl_s.count,
        began.elapsed().as_secs_f64(),
        peak_mb()
    );
    let began = Instant::now();
    let page = html::from_databases(&[path], Language::En).expect("the database is complete");
    println!("page of {} KB: {:.2} s, peak {} MB", page.len() / 1000, began.elapsed().as_secs_f64(), peak_mb());
}

/// The largest resident set of this process so far, megabytes.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024 / 1_000_000)
}

/// Writes a run of a closed loop.
fn write(path: &Path, requests: u64, tokens: usize) {
    let (messages, receiver) = crossbeam_channel::bounded(4);
    let (empties, empty) = crossbeam_channel::bounded(8);
    let facts = RunFacts {
        version: "0.0.0".to_string(),
        model: "long".to_string(),
        url: "http://127.0.0.1:1/v1/chat/completions".to_string(),
        stream: true,
        mode: Mode::Closed,
        parallel: Some(STREAMS as u32),
        requests: Some(requests),
        workers: 1,
        ..RunFacts::default()
    };
    let clock = ClockPair { tick_ns: START.0, unix_ns: 1_760_000_000 * S as i64 };
    let settings = CollectorSettings {
        database: path.to_path_buf(),
        start: RunStart { facts, clock, save: Save::Metrics, ..RunStart::default() },
        log_every: 0,
        notify: Box::new(|_| {}),
    };
    let collector = Collector::start(
        settings,
        receiver,
        empties,
        Arc::new(Workload::fixed(Vec::new(), vec![Box::from(&b"{}"[..])], "id")),
    )
    .expect("the file is new");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut free_at = vec![START; STREAMS as usize];
    let mut block = Block::new(0);
    for index in 0..requests {
        let stream = (index % STREAMS) as usize;
        free_at[stream] = add_request(&mut block, index, free_at[stream], tokens, &mut rng);
        if block.is_full() {
            let next = empty.try_recv().unwrap_or_else(|_| Block::new(0));
            let full = std::mem::replace(&mut block, next);
            messages.send(CollectorMessage::Block(full)).expect("the collector runs");
        }
    }
    messages.send(CollectorMessage::Block(block)).expect("the collector runs");
    drop(messages);
    let end = collector.finish(RunEnd::default(), &[]);
    assert!(end.error.is_none() && end.rows_lost == 0, "{end:?}");
}

/// Adds a request that is due at `due`, and returns its end.
fn add_request(block: &mut Block, index: u64, due: Tick, tokens: usize, rng: &mut ChaCha8Rng) -> Tick {
    let mut at = due.plus_ns(rng.random_range(50 * MS..400 * MS));
    let mut arrivals = Vec::with_capacity(tokens);
    let mut early = Vec::new();
    for place in 0..tokens {
        arrivals.push(at);
        // One event of a hundred shared a read, one of ten thousand came after a stall.
        let kind = rng.random_range(0..10_000);
        if kind < 100 {
            let place = place as u32;
            early.push(EarlyRange { from: place, to: place + 1, ns: rng.random_range(US as u32..200 * US as u32) });
        }
        at = at.plus_ns(rng.random_range(15 * MS..25 * MS) + if kind == 9_999 { 2 * S } else { 0 });
    }
    let (first, last) = (arrivals[0], arrivals[arrivals.len() - 1]);
    let end = last.plus_ns(50 * US);
    let record = RequestRecord {
        index,
        slot: (index % STREAMS) as u32,
        due,
        picked: Some(due),
        connected: Some(due),
        write_start: Some(due.plus_ns(5 * US)),
        write_end: Some(due.plus_ns(9 * US)),
        first_byte: Some(first),
        first_token: Some(first),
        first_answer_token: Some(first),
        last_token: Some(last),
        end,
        reused: true,
        outcome: Outcome::Ok,
        streamed: true,
        status: 200,
        input_tokens: Some(rng.random_range(10..2_000)),
        output_tokens: Some(tokens as u32),
        token_source: TokenSource::Server,
        finish: Finish::Length,
        events: tokens as u32 + 2,
        reads: tokens as u32,
        stamped_reads: tokens as u32,
        last_token_early_ns: Some(0),
        end_early_ns: Some(0),
        arrivals: block.keep_arrivals(&arrivals),
        early: block.keep_early(&early),
        ..RequestRecord::default()
    };
    block.records.push(record);
    end.plus_ns(20 * US)
}
