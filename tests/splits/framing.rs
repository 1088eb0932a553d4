//! Variants of SSE and HTTP, and invalid responses.

use ringmark::api::answer::{Answer, Step};
use ringmark::record::{Failure, Outcome};
use ringmark::time::Tick;

use super::cases::{A, B, DONE, ROLE, STOP, THOUGHT, USAGE, chunked, good, judged, with_length};
use super::{CHAT, new_answer, read_every_way, read_with};

#[test]
fn all_variants_of_sse_are_parsed() {
    let bare = |text: &str| text.replace("data: ", "data:");
    let check = |name: &str, body: String| assert_eq!(judged(name, &chunked(&[&body])), good(3, 2, "a語\n"), "{name}");
    let body = [A, B, DONE].concat();
    check("CRLF", body.replace('\n', "\r\n"));
    check("CR", body.replace('\n', "\r"));
    check("no space after the colon", bare(&body));
    check("comments, ids, retries, fields without colon", body.replace("data: {", ":c\nid: 1\nretry: 5\nfoo\ndata: {"));
    check("a byte order mark", format!("\u{feff}{body}"));
    check("blank lines first", format!("\n\r\n\n{body}\n\n\n"));
    check("data on several lines", body.replace("{\"choices\"", "{\ndata: \"choices\"\ndata:"));
    check("named message", body.replace("data: {", "event: message\ndata: {"));
}

/// Oddities, outcome, output events and text.
fn oddities(name: &str, bytes: &[u8]) -> (String, Outcome, usize, String) {
    let seen = read_every_way(name, bytes, CHAT);
    (seen.oddities, seen.outcome, seen.outputs, seen.text)
}

fn odd(name: &str, outputs: usize, text: &str) -> (String, Outcome, usize, String) {
    (name.to_string(), Outcome::Ok, outputs, text.to_string())
}

#[test]
fn loose_streams_are_read_and_counted() {
    let one_line = |text: &str| text.replace("\n\n", "\n");
    let single = one_line(&[ROLE, A, B, STOP, USAGE, DONE].concat());
    assert_eq!(oddities("no blank lines", &chunked(&[&single])), odd("missing_blank_lines", 2, "a語\n"));
    let crlf = single.replace('\n', "\r\n");
    assert_eq!(oddities("no blank lines, CRLF", &chunked(&[&crlf])), odd("missing_blank_lines", 2, "a語\n"));
    let numbered = format!("id: 0\n{}", single.replace("data: {", "id: 1\nevent: message\ndata: {"));
    assert_eq!(oddities("no blank lines, ids", &chunked(&[&numbered])), odd("missing_blank_lines", 2, "a語\n"));
    let pings = [A, "data: ping\n\n", B, "data: PING\n\n", STOP, USAGE, DONE];
    assert_eq!(oddities("pings", &chunked(&pings)), odd("heartbeats", 2, "a語\n"));
    let usual = chunked(&[ROLE, A, B, STOP, USAGE, DONE]);
    assert_eq!(oddities("usual", &usual), odd("", 2, "a語\n"));
    let refused = judged("prose", &chunked(&[A, "data: out of memory\n\n", STOP]));
    assert_eq!(refused.0, Outcome::Failed(Failure::Body));
}

#[test]
fn events_are_read_under_any_media_type() {
    for start in ["", "id: 0\nevent: message\n", "retry: 3000\n\n", "event: message\n", ": hi\n\n"] {
        let body = [start, A, B, STOP, USAGE, DONE].concat();
        for media in ["text/plain; charset=utf-8", "application/octet-stream", "application/json"] {
            let bytes = with_length(&format!("200 OK\r\nContent-Type: {media}"), &body);
            assert_eq!(oddities(media, &bytes), odd("media_type", 2, "a語\n"), "{media} {start}");
        }
    }
    let page = read_every_way("page", &with_length("200 OK\r\nContent-Type: text/plain", "internal error"), CHAT);
    assert_eq!(page.outcome, Outcome::Failed(Failure::Body));
    assert!(page.error.contains("internal error"), "{}", page.error);
}

#[test]
fn json_that_clients_accept_is_read() {
    let chunk = |data: &[u8]| {
        let mut response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            data.len()
        )
        .into_bytes();
        response.extend_from_slice(data);
        response.extend_from_slice(b"\r\n0\r\n\r\n");
        response
    };
    let check = |name: &str, middle: &[u8], expected: &str, outputs: usize, text: &str| {
        let body = [A.as_bytes(), A.as_bytes(), middle, A.as_bytes(), STOP.as_bytes(), DONE.as_bytes()].concat();
        assert_eq!(oddities(name, &chunk(&body)), odd(expected, outputs, text), "{name}");
    };
    let content = |text: &[u8]| {
        [
            b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"".as_slice(),
            text,
            b"\"},\"finish_reason\":null}]}\n\n",
        ]
        .concat()
    };
    check("a lone surrogate", &content(br"x\ud83e"), "invalid_text", 4, "aax\u{fffd}a");
    let split_pair = [content(br"\ud83e"), content(br"\udd80")].concat();
    check("a surrogate pair in two events", &split_pair, "invalid_text", 5, "aa\u{fffd}\u{fffd}a");
    check("invalid UTF-8", &content(b"x\xffy"), "invalid_text", 4, "aax\u{fffd}ya");
    let split_character = [content(b"\xe8\xaa"), content(b"\x9e")].concat();
    check("a character in two events", &split_character, "invalid_text", 5, "aa\u{fffd}\u{fffd}a");
    for number in ["NaN", "Infinity", "-Infinity", "1e400", "123456789012345678901234567890"] {
        let event = String::from_utf8(content(b"b"))
            .unwrap()
            .replace("\"index\":0", &format!("\"index\":0,\"logprob\":{number}"));
        check(number, event.as_bytes(), "invalid_numbers", 4, "aaba");
        let document = format!(
            "{{\"created\":{number},\"choices\":[{{\"message\":{{\"content\":\"hi\"}},\"finish_reason\":\"stop\"}}]}}"
        );
        let bytes = with_length("200 OK\r\nContent-Type: application/json", &document);
        assert_eq!(oddities(number, &bytes), odd("invalid_numbers", 1, "hi"));
    }
    assert_eq!(judged("a bare control character", &chunk(&content(b"\x01"))).0, Outcome::Failed(Failure::Body));
}

#[test]
fn the_answer_ends_with_its_end_event() {
    let mut answer = new_answer(CHAT);
    let begin = |answer: &mut Answer| {
        answer.start();
        let open = chunked(&[A, STOP, USAGE, DONE]);
        assert_eq!(answer.push(&open[..open.len() - 21], Tick(5)), Step::More);
        assert_eq!(answer.seen.end_event, Some(Tick(5)));
    };
    begin(&mut answer);
    answer.fail(Failure::ReadTimeout, "silent for 5 s");
    assert_eq!((answer.outcome(), answer.seen.error.as_str()), (Outcome::Ok, ""));
    begin(&mut answer);
    assert_eq!(answer.push(b"oops", Tick(9)), Step::Done { reuse: false });
    assert_eq!(answer.outcome(), Outcome::Ok);
    begin(&mut answer);
    assert_eq!(answer.push(b"0\r\n\r\n", Tick(9)), Step::Done { reuse: true });
    assert_eq!((answer.outcome(), answer.seen.end_event), (Outcome::Ok, Some(Tick(5))));
    begin(&mut answer);
    assert!(answer.end_after_end_event() && !answer.end_after_end_event());
    assert_eq!(answer.outcome(), Outcome::Ok);
}

#[test]
fn impossible_usage_is_ignored() {
    let usage = |input: u32, output: u32| {
        let usage = format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}}}\n\n"
        );
        let seen = read_every_way("usage", &chunked(&[A, B, STOP, &usage, DONE]), CHAT);
        assert_eq!(seen.outcome, Outcome::Ok);
        (seen.tokens, seen.oddities)
    };
    assert_eq!(usage(0, 0), ((None, None), "zero_usage".to_string()));
    assert_eq!(usage(9, 0), ((Some(9), None), "zero_usage".to_string()));
    assert_eq!(usage(9, 1), ((Some(9), Some(1)), "fewer_tokens_than_events".to_string()));
    assert_eq!(usage(9, 2), ((Some(9), Some(2)), String::new()));
    let in_choice =
        STOP.replace("\"delta\":{}", "\"delta\":{},\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}");
    let seen = read_every_way("Moonshot", &chunked(&[A, &in_choice, DONE]), CHAT);
    assert_eq!((seen.outcome, seen.tokens), (Outcome::Ok, (Some(9), Some(5))));
}

#[test]
fn every_framing_of_the_body_is_parsed() {
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
    assert_eq!(read("json labeled as a stream", &with_length(&format!("200 OK\r\n{sse}"), json)), whole);
    assert_eq!(
        read(
            "json with a byte order mark",
            &with_length("200 OK\r\nContent-Type: application/json", &format!("\u{feff}{json}"))
        ),
        whole
    );
    assert_eq!(
        read("stream labeled as json", &with_length("200 OK\r\nContent-Type: application/json", &stream)),
        expected
    );
}

#[test]
fn connections_that_end_too_early_are_failures() {
    let whole = chunked(&[ROLE, A, B, STOP, USAGE, DONE]);
    let early = |end: usize| read_every_way("cut short", &whole[..end], CHAT).outcome;
    assert_eq!(early(0), Outcome::Failed(Failure::ClosedEarly));
    for end in [1, 20, 100, 200, whole.len() - 30] {
        assert_eq!(early(end), Outcome::Failed(Failure::Truncated), "closed after {end} bytes");
    }
    // The answer ends with [DONE], the body does not.
    assert_eq!(early(whole.len() - 1), Outcome::Ok);
    let short = &with_length("200 OK\r\nContent-Type: application/json", "{\"choices\":[]}")[..80];
    assert_eq!(judged("half a document", short).0, Outcome::Failed(Failure::Truncated));
}

#[test]
fn invalid_responses_are_failures() {
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
    let silent = read_every_way("no body", &with_length("503 Service Unavailable", ""), CHAT);
    assert_eq!((silent.error.as_str(), silent.reuse), ("Service Unavailable", true));
}

#[test]
fn too_long_events_fail_with_the_limit() {
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
fn arrival_times_are_those_of_the_read_that_completed_the_event() {
    let mut answer = new_answer(CHAT);
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let reads = [&head[..30], &head[30..], ROLE, &A[..30], &A[30..], &[A, A, A].concat(), THOUGHT, DONE];
    for (number, bytes) in reads.iter().enumerate() {
        assert_eq!(answer.push(bytes.as_bytes(), Tick(10 * number as u64)), Step::More);
    }
    assert_eq!(answer.push_eof(Tick(99)), Step::Done { reuse: false });
    let seen = &answer.seen;
    assert_eq!((seen.first_byte, seen.first_token), (Some(Tick(0)), Some(Tick(40))));
    assert_eq!(answer.last_token(None), Some(Tick(60)));
    assert_eq!(seen.arrivals, [40, 50, 50, 50, 60].map(Tick));
    assert_eq!((seen.coalesced, seen.coalesced_reads, seen.reasoning.as_slice()), (2, 1, b"hm".as_slice()));
}

#[test]
fn only_the_first_transport_failure_counts() {
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
    // The server's error status and message take precedence over a later reset.
    answer.start();
    answer.push(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nqueue is full", Tick(3));
    answer.fail(Failure::Reset, "reset");
    assert_eq!((answer.outcome(), answer.seen.error.as_str()), (Outcome::Failed(Failure::Status), "queue is full"));
}

#[test]
fn rest_of_a_failed_response_is_read_up_to_a_limit() {
    let mut answer = new_answer(CHAT);
    let head = b"HTTP/1.1 500 Oh\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    assert_eq!(answer.push(&head, Tick(1)), Step::More);
    let reads = (0..100).position(|_| answer.push(&[b'x'; 65_536], Tick(2)) != Step::More);
    assert!(reads.is_some_and(|reads| (10..=20).contains(&reads)), "{reads:?}");
    assert_eq!(answer.outcome(), Outcome::Failed(Failure::Status));
}
