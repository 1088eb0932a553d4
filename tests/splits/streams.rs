//! Streams of every API: which events are output, and which streams are complete.

use ringmark::record::{Failure, Outcome};

use super::cases::{
    A, B, CALL, DONE, LENGTH, ROLE, RUNNING, STOP, THOUGHT, USAGE, chunked, failed, good, judged, with_length,
};
use super::{ANTHROPIC, CHAT, DASHSCOPE, EMBEDDINGS, ParseOptions, RESPONSES, read_every_way};

#[test]
fn complete_and_truncated_streams_are_distinguished() {
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
    check("truncated", &[ROLE, A, A], failed(Failure::Truncated, 3, 2, "aa"));
    check("truncated with running usage", &[RUNNING, RUNNING, A], failed(Failure::Truncated, 3, 3, "aaa"));
    check("truncated within an event", &[A, &B[..40]], failed(Failure::Truncated, 2, 1, "a"));
    check("nothing at all", &[], failed(Failure::Empty, 0, 0, ""));
    check("only comments", &[": ping\n\n", ":\n\n"], failed(Failure::Empty, 0, 0, ""));
    check("only the end marker", &[DONE], failed(Failure::Empty, 1, 0, ""));
    check("role and stop", &[ROLE, STOP, USAGE, DONE], failed(Failure::Empty, 4, 0, ""));
    check("stopped within a character", &[ROLE, LENGTH, USAGE, DONE], good(4, 0, ""));
    check("last event without blank line", &[A, STOP.trim_end()], good(2, 1, "a"));
}

#[test]
fn errors_within_a_stream_are_failures() {
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

/// Outcome, error and text of a stream of these events, parsed in every way.
fn parse_stream(way: ParseOptions, pieces: &[&str]) -> (Outcome, String, String) {
    let seen = read_every_way("stream", &chunked(pieces), way);
    (seen.outcome, seen.error, seen.text)
}

#[test]
fn complete_and_truncated_streams_of_other_apis_are_distinguished() {
    let delta =
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n";
    let failed =
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"m\"}}}\n\n";
    assert_eq!(parse_stream(RESPONSES, &[delta, delta, completed]), (Outcome::Ok, String::new(), "aa".to_string()));
    assert_eq!(parse_stream(RESPONSES, &[delta, failed]).1, "m");
    assert_eq!(parse_stream(RESPONSES, &[delta]).0, Outcome::Failed(Failure::Truncated));
    assert_eq!(
        parse_stream(RESPONSES, &[delta, "event: response.output_text.delta\ndata: {\n\n"]).0,
        Outcome::Failed(Failure::Body)
    );

    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n";
    let text = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"b\"}}\n\n";
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert_eq!(
        parse_stream(ANTHROPIC, &[start, ping, text, text, stop]),
        (Outcome::Ok, String::new(), "bb".to_string())
    );
    // The input token count at the start does not mean that the stream is complete.
    assert_eq!(parse_stream(ANTHROPIC, &[start, text]).0, Outcome::Failed(Failure::Truncated));
    assert_eq!(
        parse_stream(ANTHROPIC, &[start, text, error]),
        (Outcome::Failed(Failure::InStream), "Overloaded".to_string(), "b".to_string())
    );

    let part = |text: &str, reason: &str| {
        format!(
            "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"{reason}\"}}]}},\"usage\":{{\"input_tokens\":2,\"output_tokens\":1}}}}\n\n"
        )
    };
    let (first, last) = (part("c", "null"), part("", "stop"));
    assert_eq!(parse_stream(DASHSCOPE, &[&first, &first, &last]), (Outcome::Ok, String::new(), "cc".to_string()));
    // Running counts do not mean that the stream is complete either.
    assert_eq!(parse_stream(DASHSCOPE, &[&first, &first]).0, Outcome::Failed(Failure::Truncated));
    let error = "id:2\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\",\"message\":\"bad\"}\n\n";
    assert_eq!(
        parse_stream(DASHSCOPE, &[&first, error]),
        (Outcome::Failed(Failure::InStream), "bad".to_string(), "c".to_string())
    );
}

#[test]
fn embeddings_are_a_response_without_text() {
    let json = "200 OK\r\nContent-Type: application/json";
    let body = "{\"data\":[{\"embedding\":[0.5,1]}],\"usage\":{\"total_tokens\":5}}";
    let seen = read_every_way("vectors", &with_length(json, body), EMBEDDINGS);
    assert_eq!((seen.outcome, seen.outputs, seen.tokens, seen.text.as_str()), (Outcome::Ok, 1, (Some(5), Some(0)), ""));
    let seen = read_every_way("no vectors", &with_length(json, "{\"data\":[]}"), EMBEDDINGS);
    assert_eq!(seen.outcome, Outcome::Failed(Failure::Empty));
}
