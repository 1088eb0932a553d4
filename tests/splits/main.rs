//! However the bytes of a response are cut into reads, the same is seen in it. Over exact bytes of real servers
//! (`tests/captures`) and over hand-made cases of HTTP, SSE and JSON.

mod captures;
mod cases;
mod framing;
mod streams;

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerData, AnswerOptions, Step};
use ringmark::record::{Failure, Finish, Outcome};
use ringmark::time::Tick;

/// How a text is read: through the learned shape of events or in full, keeping text or not.
#[derive(Clone, Copy)]
struct Way {
    dialect: Dialect,
    stream: bool,
    keep_text: bool,
    in_full: bool,
}

const CHAT: Way = Way { dialect: Dialect::Chat, stream: true, keep_text: true, in_full: false };
const COMPLETIONS: Way = Way { dialect: Dialect::Completions, ..CHAT };
const RESPONSES: Way = Way { dialect: Dialect::Responses, ..CHAT };
const ANTHROPIC: Way = Way { dialect: Dialect::Anthropic, ..CHAT };
const DASHSCOPE: Way = Way { dialect: Dialect::DashScope, ..CHAT };
const EMBEDDINGS: Way = Way { dialect: Dialect::Embeddings, stream: false, ..CHAT };

/// What must not depend on the splits.
#[derive(Clone, Debug, PartialEq)]
struct Reading {
    outcome: Outcome,
    reuse: bool,
    status: u16,
    streamed: bool,
    events: u32,
    outputs: usize,
    received: u64,
    tokens: (Option<u32>, Option<u32>),
    finish: Finish,
    text: String,
    reasoning: String,
    raw: Vec<u8>,
    error: String,
}

fn new_answer(way: Way) -> Answer {
    let mut answer = Answer::new(AnswerOptions {
        dialect: way.dialect,
        stream: way.stream,
        keep_text: way.keep_text,
        keep_raw: way.keep_text,
        max_event_bytes: 16 << 20,
    });
    if way.in_full {
        answer.always_parse_in_full();
    }
    answer
}

/// Reads `bytes`, cut at `cuts`, then the end of the connection if the response is not over by then.
fn read_with(answer: &mut Answer, bytes: &[u8], cuts: &[usize]) -> Reading {
    answer.start();
    let mut from = 0;
    let mut now = 1;
    let mut step = Step::More;
    for &to in cuts.iter().chain([&bytes.len()]) {
        step = answer.push(&bytes[from..to], Tick(now));
        from = to;
        now += 1;
        if step != Step::More {
            break;
        }
    }
    if step == Step::More {
        step = answer.push_eof(Tick(now));
    }
    let reuse = step == Step::Done { reuse: true } && from == bytes.len();
    check_instants(&answer.seen, now);
    reading(answer.outcome(), reuse, &answer.seen)
}

/// Instants are in order, and as many as was counted.
fn check_instants(seen: &AnswerData, now: u64) {
    assert!(seen.arrivals.is_sorted());
    assert_eq!(seen.arrivals.first().copied(), seen.first_token);
    assert_eq!(seen.arrivals.last().copied(), seen.last_token);
    assert!(seen.last_token.is_none_or(|at| at.0 <= now));
    let distinct = seen.arrivals.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(seen.coalesced as usize, seen.arrivals.len() - distinct);
    assert!(seen.coalesced_reads <= seen.coalesced);
}

fn reading(outcome: Outcome, reuse: bool, seen: &AnswerData) -> Reading {
    // Where broken bytes are noticed depends on how many came at once, and so does how many are shown.
    let broken = outcome == Outcome::Failed(Failure::Protocol);
    Reading {
        outcome,
        reuse,
        status: seen.status,
        streamed: seen.streamed,
        events: seen.events,
        outputs: seen.arrivals.len(),
        received: if broken { 0 } else { seen.received_bytes },
        tokens: (seen.usage.input_tokens, seen.usage.output_tokens),
        finish: seen.finish,
        text: String::from_utf8(seen.text.clone()).unwrap(),
        reasoning: String::from_utf8(seen.reasoning.clone()).unwrap(),
        raw: seen.raw.clone(),
        error: if broken { String::new() } else { seen.error.clone() },
    }
}

/// Positions to cut at: all of them, but in the three captures of 70 KB and more a spread with a prime stride. With
/// `SPLITS=all` in the environment all of them there too: minutes in a release build.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    let all = length <= 20_000 || std::env::var_os("SPLITS").is_some_and(|value| value == "all");
    let stride = if all { 1 } else { 997 };
    (0..=length).step_by(stride)
}

/// Reads in every way and at every split, and gives what all of them agreed on.
fn read_every_way(name: &str, bytes: &[u8], way: Way) -> Reading {
    let mut answer = new_answer(way);
    let expected = read_with(&mut answer, bytes, &[]);
    for cut in positions(bytes.len()) {
        assert_eq!(read_with(&mut answer, bytes, &[cut]), expected, "{name}, cut at {cut}");
    }
    let every_byte: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(read_with(&mut answer, bytes, &every_byte), expected, "{name}, byte by byte");
    let mut random = Random(bytes.len() as u64);
    for _ in 0..50 {
        let mut cuts = [random.below(bytes.len()), random.below(bytes.len())];
        cuts.sort();
        assert_eq!(read_with(&mut answer, bytes, &cuts), expected, "{name}, cut at {cuts:?}");
    }
    check_other_ways(name, bytes, way, &expected);
    expected
}

/// The full parse sees the same, and without keeping text nothing else changes.
fn check_other_ways(name: &str, bytes: &[u8], way: Way, expected: &Reading) {
    let coarse: Vec<usize> = (0..bytes.len()).step_by(100).collect();
    let mut in_full = new_answer(Way { in_full: true, ..way });
    assert_eq!(&read_with(&mut in_full, bytes, &[]), expected, "{name}, in full");
    assert_eq!(&read_with(&mut in_full, bytes, &coarse), expected, "{name}, in full and in pieces");
    let mut blind = new_answer(Way { keep_text: false, ..way });
    let seen = read_with(&mut blind, bytes, &coarse);
    let without_text = Reading { text: String::new(), reasoning: String::new(), raw: Vec::new(), ..expected.clone() };
    assert_eq!(seen, without_text, "{name}, without text");
}

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % (limit + 1)
    }
}
