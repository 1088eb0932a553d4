//! However the bytes of a response are cut into reads, the same is seen in it. Over exact bytes of real servers
//! (`tests/captures`) and over hand-made cases of HTTP, SSE and JSON.

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerOptions, Seen, Step};
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
fn check_instants(seen: &Seen, now: u64) {
    assert!(seen.arrivals.is_sorted());
    assert_eq!(seen.arrivals.first().copied(), seen.first_token);
    assert_eq!(seen.arrivals.last().copied(), seen.last_token);
    assert!(seen.last_token.is_none_or(|at| at.0 <= now));
    let distinct = seen.arrivals.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(seen.coalesced as usize, seen.arrivals.len() - distinct);
    assert!(seen.coalesced_reads <= seen.coalesced);
}

fn reading(outcome: Outcome, reuse: bool, seen: &Seen) -> Reading {
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

/// A capture and what stands in it, counted by hand with another program.
struct Capture {
    name: &'static str,
    way: Way,
    status: u16,
    events: u32,
    outputs: usize,
    tokens: Option<(u32, u32)>,
    text_bytes: usize,
    outcome: Outcome,
}

const fn ok(
    name: &'static str,
    way: Way,
    events: u32,
    outputs: usize,
    tokens: Option<(u32, u32)>,
    text_bytes: usize,
) -> Capture {
    Capture { name, way, status: 200, events, outputs, tokens, text_bytes, outcome: Outcome::Ok }
}

const fn refused(name: &'static str, status: u16) -> Capture {
    let outcome = Outcome::Failed(Failure::Status);
    Capture { name, way: CHAT, status, events: 0, outputs: 0, tokens: None, text_bytes: 0, outcome }
}

const WHOLE_CHAT: Way = Way { stream: false, ..CHAT };
const WHOLE_COMPLETIONS: Way = Way { stream: false, ..COMPLETIONS };

const CAPTURES: [Capture; 36] = [
    ok("haproxy-chat-usage", CHAT, 20, 16, Some((1, 16)), 64),
    ok("haproxy-nodelay", CHAT, 20, 16, Some((1, 16)), 64),
    ok("nginx-buffered", CHAT, 20, 16, Some((1, 16)), 64),
    ok("nginx-chat-usage", CHAT, 20, 16, Some((1, 16)), 64),
    ok("llamacpp-chat-logprobs", CHAT, 7, 4, None, 29),
    ok("llamacpp-chat-long", CHAT, 303, 299, Some((31, 300)), 1904),
    ok("llamacpp-chat-max1", CHAT, 5, 1, Some((31, 1)), 1),
    ok("llamacpp-chat-n2", CHAT, 15, 8, Some((31, 4)), 40),
    ok("llamacpp-chat-nonstream", WHOLE_CHAT, 0, 1, Some((31, 8)), 51),
    ok("llamacpp-chat-nousage", CHAT, 11, 8, None, 39),
    ok("llamacpp-chat-usage", CHAT, 12, 8, Some((31, 8)), 58),
    ok("llamacpp-cmpl-2prompts", COMPLETIONS, 10, 6, Some((2, 3)), 41),
    ok("llamacpp-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((2, 8)), 36),
    ok("llamacpp-cmpl-usage", COMPLETIONS, 10, 8, Some((2, 8)), 53),
    // llama.cpp serves its only model under any name.
    ok("llamacpp-err-badmodel", CHAT, 582, 579, None, 3753),
    ok("vllm-chat-logprobs", CHAT, 6, 4, None, 27),
    // Four events are empty: their tokens end within a character.
    ok("vllm-chat-long", CHAT, 303, 296, Some((31, 300)), 2081),
    ok("vllm-chat-max1", CHAT, 4, 1, Some((31, 1)), 5),
    ok("vllm-chat-n2", CHAT, 12, 8, Some((31, 8)), 55),
    ok("vllm-chat-nonstream", WHOLE_CHAT, 0, 1, Some((31, 8)), 56),
    ok("vllm-chat-nousage", CHAT, 10, 8, None, 43),
    ok("vllm-chat-usage", CHAT, 11, 8, Some((31, 8)), 55),
    ok("vllm-cmpl-2prompts", COMPLETIONS, 8, 6, Some((4, 6)), 25),
    ok("vllm-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((2, 8)), 44),
    ok("vllm-cmpl-usage", COMPLETIONS, 10, 8, Some((2, 8)), 65),
    // Four tokens in three deltas, and four in four: the words of the responses API wait for whole characters.
    ok("vllm-responses", RESPONSES, 11, 3, Some((30, 4)), 32),
    ok("vllm-messages", ANTHROPIC, 9, 4, Some((30, 4)), 44),
    refused("haproxy-deny429", 429),
    refused("nginx-429", 429),
    refused("nginx-502", 502),
    refused("nginx-503-retry-after", 503),
    refused("llamacpp-err-badjson", 400),
    refused("llamacpp-err-toolong", 400),
    refused("vllm-err-badjson", 400),
    refused("vllm-err-badmodel", 404),
    refused("vllm-err-toolong", 400),
];

fn capture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/captures/{name}.raw", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn captures_of_real_servers() {
    for expected in CAPTURES {
        let bytes = capture(expected.name);
        let seen = read_every_way(expected.name, &bytes, expected.way);
        assert_eq!(seen.outcome, expected.outcome, "{}: {}", expected.name, seen.error);
        assert_eq!(
            (seen.status, seen.events, seen.outputs),
            (expected.status, expected.events, expected.outputs),
            "{}",
            expected.name
        );
        assert_eq!(
            seen.tokens,
            (expected.tokens.map(|(input, _)| input), expected.tokens.map(|(_, output)| output)),
            "{}",
            expected.name
        );
        assert_eq!((seen.text.len(), seen.received), (expected.text_bytes, bytes.len() as u64), "{}", expected.name);
        // llama.cpp announces the close after an error, but not after a stream.
        let announced = String::from_utf8_lossy(&bytes).contains("Connection: close");
        assert_eq!(seen.reuse, !announced, "{}", expected.name);
    }
}

#[test]
fn errors_are_told_in_the_words_of_the_server() {
    let words = |name: &str| read_with(&mut new_answer(CHAT), &capture(name), &[]).error;
    assert_eq!(words("vllm-err-badmodel"), "The model `nope` does not exist. Valid aliases: tiny-qwen2.");
    assert!(words("llamacpp-err-toolong").starts_with("request (9001 tokens) exceeds the available context size"));
    assert_eq!(words("nginx-429"), "slow down");
    assert_eq!(words("nginx-502"), "502 Bad Gateway nginx/1.22.1");
    assert_eq!(
        words("haproxy-deny429"),
        "429 Too Many Requests You have sent too many requests in a given amount of time."
    );
}

#[test]
fn a_dialect_that_was_not_asked_for_is_no_success() {
    for name in ["vllm-messages", "vllm-responses"] {
        let seen = read_every_way(name, &capture(name), CHAT);
        assert!(matches!(seen.outcome, Outcome::Failed(Failure::Empty | Failure::Truncated)), "{name}: {seen:?}");
    }
}

/// A response with a chunk for each piece.
fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut response =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        response.extend_from_slice(format!("{:X};ext=1\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    response.extend_from_slice(b"0\r\nX-Trailer: yes\r\n\r\n");
    response
}

fn with_length(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const A: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const B: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u8a9e\\n\"},\"finish_reason\":null}]}\n\n";
const THOUGHT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"},\"finish_reason\":null}]}\n\n";
const CALL: &str =
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\"}}]}}]}\n\n";
const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const LENGTH: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
const RUNNING: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"completion_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Outcome, events, outputs, and text of a response read every way.
fn judged(name: &str, bytes: &[u8]) -> (Outcome, u32, usize, String) {
    let seen = read_every_way(name, bytes, CHAT);
    (seen.outcome, seen.events, seen.outputs, seen.text)
}

fn failed(failure: Failure, events: u32, outputs: usize, text: &str) -> (Outcome, u32, usize, String) {
    (Outcome::Failed(failure), events, outputs, text.to_string())
}

fn good(events: u32, outputs: usize, text: &str) -> (Outcome, u32, usize, String) {
    (Outcome::Ok, events, outputs, text.to_string())
}

#[test]
fn streams_end_well_or_not() {
    let check = |name: &str, pieces: &[&str], expected| assert_eq!(judged(name, &chunked(pieces)), expected, "{name}");
    check("all in order", &[ROLE, A, B, A, STOP, USAGE, DONE], good(7, 3, "a語\na"));
    check("several events in a chunk", &[&[ROLE, A, A, A].concat(), &[A, STOP, DONE].concat()], good(7, 4, "aaaa"));
    check("an event in several chunks", &[&A[..20], &A[20..40], &A[40..], STOP], good(2, 1, "a"));
    check("no [DONE], finish", &[A, STOP], good(2, 1, "a"));
    check("no [DONE], usage", &[A, USAGE], good(2, 1, "a"));
    check("only [DONE]", &[A, DONE], good(2, 1, "a"));
    check("usage beside the last text", &[A, RUNNING], good(2, 2, "aa"));
    check("reasoning, then text", &[ROLE, THOUGHT, THOUGHT, A, STOP], good(5, 3, "a"));
    check("calls are output", &[ROLE, CALL, CALL, STOP, DONE], good(5, 2, ""));
    check("null events", &["data: null\n\n", A, STOP], good(3, 1, "a"));
    check("breaks off", &[ROLE, A, A], failed(Failure::Truncated, 3, 2, "aa"));
    check("breaks off while usage runs", &[RUNNING, RUNNING, A], failed(Failure::Truncated, 3, 3, "aaa"));
    check("breaks off within an event", &[A, &B[..40]], failed(Failure::Truncated, 2, 1, "a"));
    check("nothing at all", &[], failed(Failure::Empty, 0, 0, ""));
    check("only comments", &[": ping\n\n", ":\n\n"], failed(Failure::Empty, 0, 0, ""));
    check("only the end marker", &[DONE], failed(Failure::Empty, 1, 0, ""));
    check("role and stop", &[ROLE, STOP, USAGE, DONE], failed(Failure::Empty, 4, 0, ""));
    check("stopped within a character", &[ROLE, LENGTH, USAGE, DONE], good(4, 0, ""));
    check("the last event lacks its blank line", &[A, STOP.trim_end()], good(2, 1, "a"));
}

#[test]
fn errors_within_a_stream() {
    let check = |pieces: &[&str], failure, words: &str| {
        let seen = read_every_way(words, &chunked(pieces), CHAT);
        assert_eq!((seen.outcome, seen.error.as_str(), seen.reuse), (Outcome::Failed(failure), words, true));
    };
    check(
        &[A, "data: {\"error\":{\"message\":\"engine died\",\"code\":500}}\n\n", DONE],
        Failure::InStream,
        "engine died",
    );
    check(&["data: {\"object\":\"error\",\"message\":\"too long\"}\n\n", DONE], Failure::InStream, "too long");
    check(&["event: error\ndata: {\"message\":\"m\"}\n\n", A, STOP], Failure::InStream, "m");
    check(&["event: error\ndata: not json\n\n"], Failure::InStream, "not json");
    check(&["error: {\"code\":500,\"message\":\"old style\"}\n\n"], Failure::InStream, "old style");
    check(&[A, "event: ping\ndata: now\n\n", "data: {\"error\":\"busy\"}\n\n"], Failure::InStream, "busy");
    let seen = read_every_way("not json", &chunked(&[A, "data: {\"choices\":[{]}\n\n", A, STOP, DONE]), CHAT);
    assert_eq!((seen.outcome, seen.outputs), (Outcome::Failed(Failure::Body), 1));
    assert!(seen.error.contains("{\"choices\":[{]}"), "{}", seen.error);
}

/// Outcome, error and text of a stream of these events, read in every way.
fn told(way: Way, pieces: &[&str]) -> (Outcome, String, String) {
    let seen = read_every_way("told", &chunked(pieces), way);
    (seen.outcome, seen.error, seen.text)
}

#[test]
fn streams_of_other_apis_end_well_or_not() {
    let delta =
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n";
    let failed =
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"m\"}}}\n\n";
    assert_eq!(told(RESPONSES, &[delta, delta, completed]), (Outcome::Ok, String::new(), "aa".to_string()));
    assert_eq!(told(RESPONSES, &[delta, failed]).1, "m");
    assert_eq!(told(RESPONSES, &[delta]).0, Outcome::Failed(Failure::Truncated));
    assert_eq!(
        told(RESPONSES, &[delta, "event: response.output_text.delta\ndata: {\n\n"]).0,
        Outcome::Failed(Failure::Body)
    );

    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n";
    let text = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"b\"}}\n\n";
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert_eq!(told(ANTHROPIC, &[start, ping, text, text, stop]), (Outcome::Ok, String::new(), "bb".to_string()));
    // The input's count at the start does not say that a stream is over.
    assert_eq!(told(ANTHROPIC, &[start, text]).0, Outcome::Failed(Failure::Truncated));
    assert_eq!(
        told(ANTHROPIC, &[start, text, error]),
        (Outcome::Failed(Failure::InStream), "Overloaded".to_string(), "b".to_string())
    );

    let part = |text: &str, reason: &str| {
        format!(
            "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"{reason}\"}}]}},\"usage\":{{\"input_tokens\":2,\"output_tokens\":1}}}}\n\n"
        )
    };
    let (first, last) = (part("c", "null"), part("", "stop"));
    assert_eq!(told(DASHSCOPE, &[&first, &first, &last]), (Outcome::Ok, String::new(), "cc".to_string()));
    // Nor do counts that run along with the text.
    assert_eq!(told(DASHSCOPE, &[&first, &first]).0, Outcome::Failed(Failure::Truncated));
    let error = "id:2\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\",\"message\":\"bad\"}\n\n";
    assert_eq!(
        told(DASHSCOPE, &[&first, error]),
        (Outcome::Failed(Failure::InStream), "bad".to_string(), "c".to_string())
    );
}

#[test]
fn vectors_are_an_answer_without_text() {
    let json = "200 OK\r\nContent-Type: application/json";
    let body = "{\"data\":[{\"embedding\":[0.5,1]}],\"usage\":{\"total_tokens\":5}}";
    let seen = read_every_way("vectors", &with_length(json, body), EMBEDDINGS);
    assert_eq!((seen.outcome, seen.outputs, seen.tokens, seen.text.as_str()), (Outcome::Ok, 1, (Some(5), Some(0)), ""));
    let seen = read_every_way("no vectors", &with_length(json, "{\"data\":[]}"), EMBEDDINGS);
    assert_eq!(seen.outcome, Outcome::Failed(Failure::Empty));
}

#[test]
fn sse_in_all_its_forms() {
    let bare = |text: &str| text.replace("data: ", "data:");
    let check = |name: &str, body: String| assert_eq!(judged(name, &chunked(&[&body])), good(3, 2, "a語\n"), "{name}");
    let body = [A, B, DONE].concat();
    check("CRLF", body.replace('\n', "\r\n"));
    check("CR", body.replace('\n', "\r"));
    check("no blank behind the colon", bare(&body));
    check("comments, ids, retries, fields without colon", body.replace("data: {", ":c\nid: 1\nretry: 5\nfoo\ndata: {"));
    check("a byte order mark", format!("\u{feff}{body}"));
    check("blank lines first", format!("\n\r\n\n{body}\n\n\n"));
    check("data on several lines", body.replace("{\"choices\"", "{\ndata: \"choices\"\ndata:"));
    check("named message", body.replace("data: {", "event: message\ndata: {"));
}

#[test]
fn every_framing_of_the_body() {
    let stream = [A, B, STOP].concat();
    let json = "{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}";
    let read = |name: &str, bytes: &[u8]| {
        let seen = read_every_way(name, bytes, CHAT);
        (seen.outcome, seen.streamed, seen.outputs, seen.reuse)
    };
    let sse = "Content-Type: text/event-stream";
    let expected = (Outcome::Ok, true, 2, true);
    assert_eq!(read("length", &with_length(&format!("200 OK\r\n{sse}"), &stream)), expected);
    let interim =
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n".to_vec(), chunked(&[&stream])]
            .concat();
    assert_eq!(read("interim", &interim), expected);
    let closing = (Outcome::Ok, true, 2, false);
    assert_eq!(read("until close", format!("HTTP/1.1 200 OK\r\n{sse}\r\n\r\n{stream}").as_bytes()), closing);
    assert_eq!(read("HTTP/1.0", format!("HTTP/1.0 200 OK\r\n{sse}\r\n\r\n{stream}").as_bytes()), closing);
    assert_eq!(read("announced", &with_length(&format!("200 OK\r\nconnection: CLOSE\r\n{sse}"), &stream)), closing);
    assert_eq!(read("left over", &[chunked(&[&stream]), b"HTTP/1.1 200 OK\r\n".to_vec()].concat()), closing);
    let whole = (Outcome::Ok, false, 1, true);
    assert_eq!(read("json", &with_length("200 OK\r\nContent-Type: application/json", json)), whole);
    assert_eq!(read("json said to be a stream", &with_length(&format!("200 OK\r\n{sse}"), json)), whole);
    assert_eq!(
        read("json with a mark", &with_length("200 OK\r\nContent-Type: application/json", &format!("\u{feff}{json}"))),
        whole
    );
    assert_eq!(
        read("stream said to be json", &with_length("200 OK\r\nContent-Type: application/json", &stream)),
        expected
    );
}

#[test]
fn connections_that_end_too_early() {
    let whole = chunked(&[ROLE, A, B, STOP, USAGE, DONE]);
    let early = |end: usize| read_every_way("cut short", &whole[..end], CHAT).outcome;
    assert_eq!(early(0), Outcome::Failed(Failure::ClosedEarly));
    for end in [1, 20, 100, 200, whole.len() - 30, whole.len() - 1] {
        assert_eq!(early(end), Outcome::Failed(Failure::Truncated), "closed after {end} bytes");
    }
    let short = &with_length("200 OK\r\nContent-Type: application/json", "{\"choices\":[]}")[..80];
    assert_eq!(judged("half a document", short).0, Outcome::Failed(Failure::Truncated));
}

#[test]
fn answers_that_are_none() {
    let outcome = |name: &str, bytes: &[u8]| judged(name, bytes).0;
    let json = "200 OK\r\nContent-Type: application/json";
    assert_eq!(outcome("foreign", b"220 mail.example ESMTP\r\n"), Outcome::Failed(Failure::Protocol));
    assert_eq!(
        outcome("no chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\noops\r\n"),
        Outcome::Failed(Failure::Protocol)
    );
    assert_eq!(
        outcome("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n{}"),
        Outcome::Failed(Failure::Protocol)
    );
    assert_eq!(
        outcome("page", &with_length("200 OK\r\nContent-Type: text/html", "<html>hi</html>")),
        Outcome::Failed(Failure::Body)
    );
    assert_eq!(outcome("half json", &with_length(json, "{\"choices\":[")), Outcome::Failed(Failure::Body));
    assert_eq!(outcome("no body", &with_length(json, "")), Outcome::Failed(Failure::Empty));
    assert_eq!(outcome("no choices", &with_length(json, "{\"status\":\"ok\"}")), Outcome::Failed(Failure::Empty));
    assert_eq!(outcome("error document", &with_length(json, "{\"error\":\"no\"}")), Outcome::Failed(Failure::InStream));
    assert_eq!(
        outcome("compressed", &with_length(&format!("{json}\r\ncontent-encoding: gzip"), "\u{1f}zip")),
        Outcome::Failed(Failure::Body)
    );
    assert_eq!(outcome("no content", b"HTTP/1.1 204 No Content\r\n\r\n"), Outcome::Failed(Failure::Status));
    let redirect = read_every_way("redirect", &with_length("308 Moved\r\nLocation: https://x/v1", ""), CHAT);
    assert!(redirect.error.contains("https://x/v1"), "{}", redirect.error);
    let silent = read_every_way("no words", &with_length("503 Service Unavailable", ""), CHAT);
    assert_eq!((silent.error.as_str(), silent.reuse), ("Service Unavailable", true));
}

#[test]
fn events_past_the_limit_fail_clearly() {
    let mut answer = new_answer(CHAT);
    answer.options.max_event_bytes = 1000;
    let long = A.replace("\"a\"", &format!("\"{}\"", "x".repeat(2000)));
    for cuts in [vec![], vec![500], (1..1500).collect()] {
        let seen = read_with(&mut answer, &chunked(&[A, &long, STOP]), &cuts);
        assert_eq!((seen.outcome, seen.outputs), (Outcome::Failed(Failure::Protocol), 1));
    }
    assert!(answer.seen.error.contains("1000 bytes"), "{}", answer.seen.error);
    answer.options.max_event_bytes = 1 << 20;
    assert_eq!(read_with(&mut answer, &chunked(&[A, &long, STOP]), &[]).outcome, Outcome::Ok);
}

#[test]
fn instants_belong_to_the_read_that_completed_the_event() {
    let mut answer = new_answer(CHAT);
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let reads = [&head[..30], &head[30..], ROLE, &A[..30], &A[30..], &[A, A, A].concat(), THOUGHT, DONE];
    for (number, bytes) in reads.iter().enumerate() {
        assert_eq!(answer.push(bytes.as_bytes(), Tick(10 * number as u64)), Step::More);
    }
    assert_eq!(answer.push_eof(Tick(99)), Step::Done { reuse: false });
    let seen = &answer.seen;
    assert_eq!((seen.first_byte, seen.first_token, seen.last_token), (Some(Tick(0)), Some(Tick(40)), Some(Tick(60))));
    assert_eq!(seen.arrivals, [40, 50, 50, 50, 60].map(Tick));
    assert_eq!((seen.coalesced, seen.coalesced_reads, seen.reasoning.as_slice()), (2, 1, b"hm".as_slice()));
}

#[test]
fn a_failure_of_the_transport_ends_the_answer_once() {
    let mut answer = new_answer(CHAT);
    answer.push(&chunked(&[A, B])[..200], Tick(1));
    answer.fail(Failure::ReadTimeout, "silent for 5 s");
    assert_eq!(
        (answer.outcome(), answer.seen.error.as_str()),
        (Outcome::Failed(Failure::ReadTimeout), "silent for 5 s")
    );
    answer.fail(Failure::Reset, "reset");
    assert_eq!(answer.outcome(), Outcome::Failed(Failure::ReadTimeout));
    assert_eq!(answer.push(b"x", Tick(2)), Step::Done { reuse: false });
    // What the server said before the line broke says more than the break.
    answer.start();
    answer.push(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nqueue is full", Tick(3));
    answer.fail(Failure::Reset, "reset");
    assert_eq!((answer.outcome(), answer.seen.error.as_str()), (Outcome::Failed(Failure::Status), "queue is full"));
}

#[test]
fn the_rest_of_a_failed_response_is_read_but_not_for_ever() {
    let mut answer = new_answer(CHAT);
    let head = b"HTTP/1.1 500 Oh\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    assert_eq!(answer.push(&head, Tick(1)), Step::More);
    let reads = (0..100).position(|_| answer.push(&[b'x'; 65_536], Tick(2)) != Step::More);
    assert!(reads.is_some_and(|reads| (10..=20).contains(&reads)), "{reads:?}");
    assert_eq!(answer.outcome(), Outcome::Failed(Failure::Status));
}
