//! Streams of every API: which events are output, and which streams are complete.

use ringmark::record::delivery::SilentKind;
use ringmark::record::{Failure, Outcome};
use ringmark::time::Tick;

use super::cases::{
    A, B, CALL, DONE, LENGTH, ROLE, ROLE_USAGE, RUNNING, STOP, THOUGHT, USAGE, chunked, failed, good, judged,
    with_length,
};
use super::{ANTHROPIC, CHAT, DASHSCOPE, EMBEDDINGS, ParseOptions, RESPONSES, new_answer, read_every_way};

#[test]
fn complete_and_truncated_streams_are_distinguished() {
    let check = |name: &str, pieces: &[&str], expected| assert_eq!(judged(name, &chunked(pieces)), expected, "{name}");
    check("all in order", &[ROLE, A, B, A, STOP, USAGE, DONE], good(7, 3, "a語\na"));
    check("several events in a chunk", &[&[ROLE, A, A, A].concat(), &[A, STOP, DONE].concat()], good(7, 4, "aaaa"));
    check("an event in several chunks", &[&A[..20], &A[20..40], &A[40..], STOP], good(2, 1, "a"));
    check("no [DONE], finish", &[A, STOP], good(2, 1, "a"));
    check("no [DONE], usage", &[A, USAGE], good(2, 1, "a"));
    check("only [DONE]", &[A, DONE], good(2, 1, "a"));
    check("[DONE] after usage beside the last text", &[A, RUNNING, DONE], good(3, 2, "aa"));
    check("reasoning, then text", &[ROLE, THOUGHT, THOUGHT, A, STOP], good(5, 3, "a"));
    check("calls are output", &[ROLE, CALL, CALL, STOP, DONE], good(5, 2, ""));
    check("null events", &["data: null\n\n", A, STOP], good(3, 1, "a"));
    check("truncated", &[ROLE, A, A], failed(Failure::Truncated, 3, 2, "aa"));
    check("truncated with running usage", &[RUNNING, RUNNING, A], failed(Failure::Truncated, 3, 3, "aaa"));
    check("truncated after running usage", &[A, RUNNING], failed(Failure::Truncated, 2, 2, "aa"));
    check("truncated after usage of the role", &[ROLE_USAGE, A], failed(Failure::Truncated, 2, 1, "a"));
    check("truncated after usage of an empty event", &[A, ROLE_USAGE], failed(Failure::Truncated, 2, 1, "a"));
    check("usage before output", &[USAGE, A], failed(Failure::Truncated, 2, 1, "a"));
    check("truncated within an event", &[A, &B[..40]], failed(Failure::Truncated, 2, 1, "a"));
    check("nothing at all", &[], failed(Failure::Empty, 0, 0, ""));
    check("only comments", &[": ping\n\n", ":\n\n"], failed(Failure::Empty, 0, 0, ""));
    check("only the end marker", &[DONE], failed(Failure::Empty, 1, 0, ""));
    check("role and stop", &[ROLE, STOP, USAGE, DONE], failed(Failure::Empty, 4, 0, ""));
    check("stopped within a character", &[ROLE, LENGTH, USAGE, DONE], failed(Failure::Empty, 4, 0, ""));
    check("events after the end", &[A, DONE, A, STOP], good(4, 1, "a"));
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
fn answers_that_the_server_gave_up_are_failures() {
    let stop = |reason: &str| STOP.replace("\"stop\"", &format!("\"{reason}\""));
    for reason in ["abort", "error", "repetition", "insufficient_system_resource", "sunny"] {
        let seen = read_every_way(reason, &chunked(&[A, &stop(reason), USAGE, DONE]), CHAT);
        assert_eq!((seen.outcome, seen.outputs), (Outcome::Failed(Failure::InStream), 1), "{reason}");
        assert!(seen.error.contains(&format!("'{reason}'")), "{}", seen.error);
        let document =
            format!("{{\"choices\":[{{\"message\":{{\"content\":\"a\"}},\"finish_reason\":\"{reason}\"}}]}}");
        let json = "200 OK\r\nContent-Type: application/json";
        assert_eq!(judged(reason, &with_length(json, &document)).0, Outcome::Failed(Failure::InStream));
    }
    for reason in ["stop", "length", "tool_calls", "content_filter", "eos_token", "MAX_TOKENS", "", "null"] {
        let seen = read_every_way(reason, &chunked(&[A, &stop(reason), USAGE, DONE]), CHAT);
        assert_eq!(seen.outcome, Outcome::Ok, "{reason}");
    }
    let aborted = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"incomplete\"}}\n\n";
    let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
    assert_eq!(parse_stream(RESPONSES, &[delta, aborted]).0, Outcome::Failed(Failure::InStream));
}

#[test]
fn responses_without_text_are_judged_alike() {
    let json = "200 OK\r\nContent-Type: application/json";
    for (reason, tokens) in [("stop", 1), ("length", 32)] {
        let end =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"{reason}\"}}]}}\n\n");
        let usage = USAGE.replace("\"completion_tokens\":2", &format!("\"completion_tokens\":{tokens}"));
        let document = format!(
            "{{\"choices\":[{{\"message\":{{\"content\":\"\"}},\"finish_reason\":\"{reason}\"}}],\"usage\":{{\"completion_tokens\":{tokens}}}}}"
        );
        for bytes in [chunked(&[ROLE, &end, &usage, DONE]), with_length(json, &document)] {
            let seen = read_every_way(reason, &bytes, CHAT);
            assert_eq!((seen.outcome, seen.tokens.1), (Outcome::Failed(Failure::Empty), Some(tokens)));
            assert!(seen.error.contains(&format!("counted {tokens} output tokens")), "{}", seen.error);
        }
    }
}

#[test]
fn tokens_without_text_end_the_span_of_the_counted_tokens() {
    let empty = "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n";
    let usage = |tokens: u32| USAGE.replace("\"completion_tokens\":2", &format!("\"completion_tokens\":{tokens}"));
    // Two tokens with text, read at 1 and 2; the others at 3, 4, ...
    let last = |others: &[&str], in_full: bool| {
        let mut answer = new_answer(super::ParseOptions { in_full, ..CHAT });
        answer.push(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", Tick(0));
        for (number, event) in [A, A].iter().chain(others).enumerate() {
            answer.push(event.as_bytes(), Tick(number as u64 + 1));
        }
        answer.push_eof(Tick(99));
        assert_eq!((answer.outcome(), answer.seen.arrivals.len()), (Outcome::Ok, 2));
        answer.last_token(None)
    };
    for in_full in [false, true] {
        // The finish event carries the end-of-sequence token, which usage counts or does not.
        assert_eq!(last(&[STOP, &usage(3), DONE], in_full), Some(Tick(3)));
        assert_eq!(last(&[STOP, &usage(2), DONE], in_full), Some(Tick(2)));
        // In an event of its own before the finish event.
        assert_eq!(last(&[empty, STOP, &usage(3), DONE], in_full), Some(Tick(3)));
        assert_eq!(last(&[empty, STOP, &usage(4), DONE], in_full), Some(Tick(4)));
        assert_eq!(last(&[ROLE, STOP, &usage(3), DONE], in_full), Some(Tick(4)));
        // More tokens than events: where they were is not known.
        assert_eq!(last(&[STOP, &usage(7), DONE], in_full), Some(Tick(2)));
        assert_eq!(last(&[empty, &usage(3), DONE], in_full), Some(Tick(3)));
        assert_eq!(last(&[STOP, DONE], in_full), Some(Tick(2)));
    }
}

#[test]
fn announcements_of_a_role_are_noted_before_the_first_output_of_their_choice() {
    let role = |choice: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":{choice},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n"
        )
    };
    let read = |events: &[String]| {
        let mut answer = new_answer(CHAT);
        answer.push(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", Tick(0));
        for (number, event) in events.iter().enumerate() {
            answer.push(event.as_bytes(), Tick(number as u64 + 1));
        }
        (answer.seen.silent.iter().map(|at| at.0).collect::<Vec<_>>(), answer.seen.silent_kinds.clone())
    };
    let (kind, stop) = (SilentKind::Role as u8, SilentKind::Stop as u8);
    let a = A.to_string();
    assert_eq!(read(&[role(0), a.clone(), role(0), STOP.to_string()]), (vec![1, 4], vec![0, kind, 0, stop]));
    let both = [role(0), role(1), a.clone(), role(0), role(1), choices(1, &["b"]), role(1), a];
    assert_eq!(read(&both), (vec![1, 2, 5], vec![0, kind, 1, kind, 1, kind]));
    assert_eq!(read(&[role(0), role(0)]), (vec![1, 2], vec![0, kind, 0, kind]));
}

/// An event with these texts, one for each choice from `first` on.
fn choices(first: u32, texts: &[&str]) -> String {
    let choice = |(place, text): (usize, &&str)| {
        format!("{{\"index\":{},\"delta\":{{\"content\":\"{text}\"}}}}", first as usize + place)
    };
    let choices: Vec<String> = texts.iter().enumerate().map(choice).collect();
    format!("data: {{\"choices\":[{}]}}\n\n", choices.join(","))
}

#[test]
fn events_of_different_choices_in_one_read_are_not_coalesced() {
    let mut answer = new_answer(CHAT);
    answer.push(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", Tick(0));
    let mut push = |events: &[String], at| {
        answer.push(events.concat().as_bytes(), Tick(at));
        (answer.seen.coalesced, answer.seen.coalesced_reads, answer.seen.last_shared)
    };
    let (a, b) = (choices(0, &["a"]), choices(1, &["b"]));
    assert_eq!(push(&[a.clone(), b.clone()], 1), (0, 0, false));
    assert_eq!(push(&[b.clone(), a.clone()], 2), (0, 0, false));
    assert_eq!(push(&[a.clone(), b.clone(), a.clone(), a.clone()], 3), (2, 1, false));
    // One event with output of both choices, and one with that of the second alone.
    assert_eq!(push(&[choices(0, &["a", "b"])], 4), (2, 1, false));
    assert_eq!(push(&[choices(0, &["", "b"])], 5), (2, 1, false));
    assert_eq!(push(&[a, STOP.to_string()], 6), (2, 1, true));
    assert_eq!(answer.seen.choices, [0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn later_bytes_in_the_read_of_the_last_token_are_noted() {
    let shared = |reads: &[&[&str]]| {
        let mut answer = new_answer(CHAT);
        answer
            .push(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n", Tick(0));
        for (number, read) in reads.iter().enumerate() {
            let chunks: Vec<String> = read.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
            answer.push(chunks.concat().as_bytes(), Tick(number as u64 + 1));
        }
        answer.seen.last_shared
    };
    for later in [STOP, USAGE, DONE, ""] {
        assert!(shared(&[&[A], &[A, later]]), "{later}");
        assert!(!shared(&[&[A], &[A], &[later]]), "{later}");
    }
    assert!(!shared(&[&[A, STOP], &[A], &[DONE]]));
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
