//! A response of any API gives the same result in one piece and in two, with the fast path and with the full parser. The
//! first byte of an input says where to split, its highest bits choose another API than chat.
#![no_main]

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerOptions, Step};
use ringmark::record::{Failure, Outcome};
use ringmark::time::Tick;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (dialect, stream) = api(cut);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let expected = read(&[bytes], dialect, stream, false);
    assert_eq!(read(&[first, second], dialect, stream, false), expected);
    assert_eq!(read(&[bytes], dialect, stream, true), expected);
});

/// The API, and whether the response is streamed. The seeds, which begin with `d`, are streamed chats.
fn api(first: u8) -> (Dialect, bool) {
    const OTHERS: [Dialect; 8] = [
        Dialect::Chat,
        Dialect::Completions,
        Dialect::Responses,
        Dialect::Embeddings,
        Dialect::Rerank,
        Dialect::DashScope,
        Dialect::Anthropic,
        Dialect::Completions,
    ];
    match first {
        0..=127 => (Dialect::Chat, true),
        other => (OTHERS[usize::from(other >> 4 & 7)], other & 1 == 0),
    }
}

/// Outcome, events, outputs, text and error.
fn read(pieces: &[&[u8]], dialect: Dialect, stream: bool, in_full: bool) -> (Outcome, u32, usize, Vec<u8>, String) {
    let mut answer = Answer::new(AnswerOptions {
        dialect,
        stream,
        keep_text: true,
        keep_raw: false,
        max_event_bytes: 1 << 20,
        max_response_bytes: 256 << 20,
    });
    if in_full {
        answer.always_parse_in_full();
    }
    if pieces.iter().all(|piece| answer.push(piece, Tick(1)) == Step::More) {
        assert_ne!(answer.push_eof(Tick(2)), Step::More);
    }
    let seen = &answer.seen;
    let broken = answer.outcome() == Outcome::Failed(Failure::Protocol);
    let error = if broken { String::new() } else { seen.error.clone() };
    (answer.outcome(), seen.events, seen.arrivals.len(), seen.text.clone(), error)
}
