//! What it costs to store a request: CPU time of the collector's writer, the kernel's included.
//!
//! `cargo bench --bench store` stores 400,000 requests of each kind; `-- REQUESTS` another number. Compare instructions
//! with `valgrind --tool=callgrind` where other programs disturb the time.

use std::borrow::Cow;

use ringmark::host::usage::thread_usage;
use ringmark::plan::Save;
use ringmark::record::{Block, Finish, Outcome, RequestRecord, TokenSource};
use ringmark::store::{RunStart, Writer};
use ringmark::time::{MS, S, Tick, US};

/// Blocks in a transaction.
const BLOCKS: u64 = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    let requests: u64 =
        given.unwrap_or(if arguments.iter().any(|argument| argument == "--bench") { 400_000 } else { 500 });
    for (name, tokens, save) in [
        ("whole responses, --save metrics", 0, Save::Metrics),
        ("100 tokens, --save metrics", 100, Save::Metrics),
        ("100 tokens, --save text", 100, Save::Text),
    ] {
        let us = cost_us(requests, tokens, save);
        println!("{name}: {us:.2} us per request");
    }
}

/// CPU time per request.
fn cost_us(requests: u64, tokens: u64, save: Save) -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = RunStart { save, ..RunStart::default() };
    let mut writer = Writer::create(&folder.path().join("run.db"), &start).expect("the file is new");
    let mut block = Block::new(0);
    let mut cpu_ns = 0;
    for number in 0..requests.div_ceil(Block::CAPACITY as u64) {
        block.clear();
        (0..Block::CAPACITY as u64)
            .for_each(|nth| add_request(&mut block, number * Block::CAPACITY as u64 + nth, tokens));
        let before = thread_usage();
        if number % BLOCKS == 0 {
            writer.begin().expect("no transaction is open");
        }
        writer.add_block(&block, |_| Cow::Borrowed(b"{}")).expect("the disk has room");
        if number % BLOCKS == BLOCKS - 1 {
            writer.commit().expect("the disk has room");
        }
        let after = thread_usage();
        cpu_ns += after.user_ns + after.system_ns - before.user_ns - before.system_ns;
    }
    cpu_ns as f64 / requests as f64 / 1e3
}

/// A request of a closed loop of 64 slots; without tokens, one that was answered as a whole.
fn add_request(block: &mut Block, index: u64, tokens: u64) {
    let due = Tick(1_000 * S + index * 10 * US);
    let first = due.plus_ns(600 * US + index % 97 * US);
    let arrivals: Vec<Tick> = (0..tokens.max(1)).map(|token| first.plus_ns(token * 10 * MS + token % 7 * US)).collect();
    let last = arrivals[arrivals.len() - 1];
    let streamed = tokens > 0;
    let record = RequestRecord {
        index,
        slot: (index % 64) as u32,
        reused: true,
        due,
        picked: Some(due.plus_ns(300)),
        connected: Some(due.plus_ns(300)),
        write_start: Some(due.plus_ns(500)),
        write_end: Some(due.plus_ns(3_500)),
        first_byte: Some(first),
        first_token: Some(first),
        first_answer_token: Some(first),
        last_token: Some(last),
        end: last.plus_ns(u64::from(streamed) * 9_000),
        previous_end: Some(Tick(due.0 - 5_000)),
        outcome: Outcome::Ok,
        streamed,
        status: 200,
        input_tokens: Some(9),
        output_tokens: Some(arrivals.len() as u32),
        token_source: TokenSource::Server,
        finish: Finish::Stop,
        events: if streamed { tokens as u32 + 2 } else { 0 },
        reads: arrivals.len() as u32,
        stamped_reads: arrivals.len() as u32,
        receive_lag_sum_ns: 20_000 + index % 31 * 1_000,
        receive_lag_max_ns: 20_000 + index % 31 * 1_000,
        received_bytes: 402 + 250 * tokens,
        last_shared: !streamed,
        last_token_early_ns: Some(0),
        end_early_ns: Some(0),
        arrivals: block.keep_arrivals(&arrivals),
        text: block.keep_bytes(&b"word ".repeat(tokens as usize)),
        ..RequestRecord::default()
    };
    block.records.push(record);
}
