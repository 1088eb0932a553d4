//! The result of parsing a response does not depend on how its bytes are split into reads. Tested with captures of real
//! servers (`tests/captures`) and with hand-written cases of HTTP, SSE and JSON.

mod captures;
mod cases;
mod framing;
mod streams;

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerData, AnswerOptions, Step};
use ringmark::record::delivery::SILENT_BYTES;
use ringmark::record::{Failure, Finish, Outcome};
use ringmark::time::Tick;

/// How a response is parsed: with the fast path for events or always in full, with or without keeping its text.
#[derive(Clone, Copy)]
struct ParseOptions {
    dialect: Dialect,
    stream: bool,
    keep_text: bool,
    in_full: bool,
}

const CHAT: ParseOptions = ParseOptions { dialect: Dialect::Chat, stream: true, keep_text: true, in_full: false };
const COMPLETIONS: ParseOptions = ParseOptions { dialect: Dialect::Completions, ..CHAT };
const RESPONSES: ParseOptions = ParseOptions { dialect: Dialect::Responses, ..CHAT };
const ANTHROPIC: ParseOptions = ParseOptions { dialect: Dialect::Anthropic, ..CHAT };
const DASHSCOPE: ParseOptions = ParseOptions { dialect: Dialect::DashScope, ..CHAT };
const EMBEDDINGS: ParseOptions = ParseOptions { dialect: Dialect::Embeddings, stream: false, ..CHAT };

/// The results that must not depend on the splits.
#[derive(Clone, Debug, PartialEq)]
struct ParseResult {
    outcome: Outcome,
    reuse: bool,
    status: u16,
    streamed: bool,
    events: u32,
    outputs: usize,
    received: u64,
    tokens: (Option<u32>, Option<u32>),
    finish: Finish,
    oddities: String,
    has_answer: bool,
    has_end_event: bool,
    text: String,
    /// The choices after the first, as JSON.
    others: String,
    reasoning: String,
    raw: Vec<u8>,
    error: String,
}

fn new_answer(way: ParseOptions) -> Answer {
    let mut answer = Answer::new(AnswerOptions {
        dialect: way.dialect,
        stream: way.stream,
        keep_text: way.keep_text,
        keep_raw: way.keep_text,
        max_event_bytes: 16 << 20,
        max_response_bytes: 256 << 20,
    });
    if way.in_full {
        answer.always_parse_in_full();
    }
    answer
}

/// Parses `bytes`, split at `cuts`, and then the end of the connection if the response is not complete.
fn read_with(answer: &mut Answer, bytes: &[u8], cuts: &[usize]) -> ParseResult {
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
    check_instants(answer, now);
    reading(answer.outcome(), reuse, &answer.seen)
}

/// Checks that arrival times are in order and consistent with the counts.
fn check_instants(answer: &Answer, now: u64) {
    let (seen, last_token) = (&answer.seen, answer.last_token(None));
    assert!(seen.arrivals.is_sorted());
    assert_eq!(seen.arrivals.first().copied(), seen.first_token);
    assert!(seen.arrivals.last().copied() <= last_token);
    assert!(seen.first_answer_token.is_none_or(|at| seen.arrivals.contains(&at)));
    assert!(seen.end_event.is_none_or(|at| at.0 <= now && last_token.is_none_or(|last| last <= at)));
    assert!(last_token.is_none_or(|at| at.0 <= now));
    let choice = |place: usize| seen.choices.get(place).copied().unwrap_or(0);
    let events = seen.arrivals.iter().enumerate().map(|(place, at)| (*at, choice(place)));
    let distinct = events.collect::<std::collections::BTreeSet<_>>().len();
    assert!(seen.silent.is_sorted() && seen.silent.len() * SILENT_BYTES == seen.silent_kinds.len());
    assert_eq!(seen.coalesced as usize, seen.arrivals.len() - distinct);
    assert!(seen.coalesced_reads <= seen.coalesced);
}

fn reading(outcome: Outcome, reuse: bool, seen: &AnswerData) -> ParseResult {
    // The position of a protocol error, and the bytes shown in its message, depend on the split.
    let broken = outcome == Outcome::Failed(Failure::Protocol);
    ParseResult {
        outcome,
        reuse,
        status: seen.status,
        streamed: seen.streamed,
        events: seen.events,
        outputs: seen.arrivals.len(),
        received: if broken { 0 } else { seen.received_bytes },
        tokens: (seen.usage.input_tokens, seen.usage.output_tokens),
        finish: seen.finish,
        oddities: seen.oddities.names(),
        has_answer: seen.first_answer_token.is_some(),
        has_end_event: seen.end_event.is_some(),
        text: String::from_utf8(seen.text.clone()).unwrap(),
        others: String::from_utf8(seen.other_choices.clone()).unwrap(),
        reasoning: String::from_utf8(seen.reasoning.clone()).unwrap(),
        raw: seen.raw.clone(),
        error: if broken { String::new() } else { seen.error.clone() },
    }
}

/// Positions to split at: all of them, or for the three captures of 70 KB and more every 997th. With `SPLITS=all` in the
/// environment all positions are used for these as well, which takes minutes in a release build.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    let all = length <= 20_000 || std::env::var_os("SPLITS").is_some_and(|value| value == "all");
    let stride = if all { 1 } else { 997 };
    (0..=length).step_by(stride)
}

/// Parses in every way and at every split, checks that all results are equal, and returns the result.
fn read_every_way(name: &str, bytes: &[u8], way: ParseOptions) -> ParseResult {
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

/// Checks that the full parser gives the same result, and that not keeping text changes nothing else.
fn check_other_ways(name: &str, bytes: &[u8], way: ParseOptions, expected: &ParseResult) {
    let coarse: Vec<usize> = (0..bytes.len()).step_by(100).collect();
    let mut in_full = new_answer(ParseOptions { in_full: true, ..way });
    assert_eq!(&read_with(&mut in_full, bytes, &[]), expected, "{name}, in full");
    assert_eq!(&read_with(&mut in_full, bytes, &coarse), expected, "{name}, in full and in pieces");
    let mut without_text = new_answer(ParseOptions { keep_text: false, ..way });
    let seen = read_with(&mut without_text, bytes, &coarse);
    let expected_without_text = ParseResult {
        text: String::new(),
        others: String::new(),
        reasoning: String::new(),
        raw: Vec::new(),
        ..expected.clone()
    };
    assert_eq!(seen, expected_without_text, "{name}, without text");
}

/// A deterministic random number generator, so that failures are reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % (limit + 1)
    }
}
