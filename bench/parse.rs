//! The cost of parsing an event, nanoseconds: framing alone, the learned event format, and the full parse.
//!
//! `cargo bench --bench parse` measures. With `-- --smoke`, or in `cargo test --benches`, it only checks that it runs.
//! Figures are medians of several rounds on one stream of 185-byte events, each in a separate HTTP chunk and read, as a
//! streaming server sends them.

use std::hint::black_box;
use std::time::Instant;

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerOptions, Step};
use ringmark::protocol::json;
use ringmark::protocol::response::{Piece, Response};
use ringmark::protocol::sse::Framer;
use ringmark::record::Outcome;
use ringmark::time::Tick;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const END: &[u8] = b"0\r\n\r\n";

fn main() {
    let has_flag = |flag: &str| std::env::args().any(|argument| argument == flag);
    // Cargo passes `--bench` in `cargo bench` and nothing in `cargo test`.
    let smoke = has_flag("--smoke") || !has_flag("--bench");
    let (events, rounds) = if smoke { (100, 3) } else { (20_000, 51) };
    let bodies: Vec<Vec<u8>> = (0..events).map(event).collect();
    let chunks: Vec<Vec<u8>> = bodies.iter().map(|body| chunk(body)).collect();
    let print_figure = |name: &str, ns: f64| println!("{name:<34} {ns:>8.1} ns per event");

    print_figure("sse framing", median(rounds, events, || frame(&bodies)));
    print_figure("http, chunks and framing", median(rounds, events, || respond(&chunks)));
    print_figure("simd-json alone", median(rounds, events, || parse(&bodies)));
    for (name, in_full, keep_text) in [
        ("answer, learned format", false, false),
        ("answer, learned format, text kept", false, true),
        ("answer, full parse", true, false),
        ("answer, full parse, text kept", true, true),
    ] {
        let mut answer = new_answer(in_full, keep_text);
        print_figure(name, median(rounds, events, || read(&mut answer, &chunks)));
    }
}

fn event(number: usize) -> Vec<u8> {
    let words = [" the", " token", ",", " of", " a", " \\\"quoted\\\"", " stream", "语", "\\n", " and"];
    let word = words[number % words.len()];
    let finish = "\"logprobs\":null,\"finish_reason\":null";
    format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1795299812,\
         \"model\":\"tiny\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},{finish}}}]}}\n\n"
    )
    .into_bytes()
}

fn chunk(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

/// The median over rounds of the time per event, nanoseconds.
fn median(rounds: usize, events: usize, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e9 / events as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn frame(bodies: &[Vec<u8>]) {
    let mut framer = Framer::new(1 << 20);
    for body in bodies {
        framer.push(body, &mut |event| _ = black_box(event.data.len())).expect("the events are valid");
    }
}

fn respond(chunks: &[Vec<u8>]) {
    let mut response = Response::new(true, 1 << 20);
    let mut count = |piece: Piece<'_>| {
        if let Piece::Event(event) = piece {
            black_box(event.data.len());
        }
    };
    response.push(HEAD, &mut count).expect("the head is valid");
    for chunk in chunks {
        response.push(chunk, &mut count).expect("the chunks are valid");
    }
}

fn parse(bodies: &[Vec<u8>]) {
    for body in bodies {
        let data = body["data: ".len()..].trim_ascii();
        json::with_value(data, |value| _ = black_box(json::entries(value).count())).expect("the events are JSON");
    }
}

fn new_answer(in_full: bool, keep_text: bool) -> Answer {
    let mut answer = Answer::new(AnswerOptions {
        dialect: Dialect::Chat,
        stream: true,
        keep_text,
        keep_raw: false,
        max_event_bytes: 16 << 20,
        max_response_bytes: 256 << 20,
    });
    if in_full {
        answer.always_parse_in_full();
    }
    answer
}

fn read(answer: &mut Answer, chunks: &[Vec<u8>]) {
    answer.start();
    answer.push(HEAD, Tick(1));
    for chunk in chunks {
        black_box(answer.push(chunk, Tick(2)));
    }
    answer.push(&chunk(b"data: [DONE]\n\n"), Tick(3));
    assert_eq!(answer.push(END, Tick(4)), Step::Done { reuse: true });
    assert_eq!((answer.outcome(), answer.seen.arrivals.len()), (Outcome::Ok, chunks.len()));
}
