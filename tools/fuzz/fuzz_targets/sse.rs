//! A stream of events is parsed equally in one piece, in two pieces, and byte by byte.
#![no_main]

use ringmark::protocol::sse::Framer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let expected = frame(&[bytes]);
    assert_eq!(frame(&[first, second]), expected);
    assert_eq!(frame(&bytes.chunks(1).collect::<Vec<_>>()), expected);
});

fn frame(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let (mut framer, mut events) = (Framer::new(1 << 20), Vec::new());
    let mut sink = |event: ringmark::protocol::sse::Event<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec(), event.complete));
    };
    for piece in pieces {
        framer.push(piece, &mut sink).expect("inputs are shorter than the limit");
    }
    framer.finish(&mut sink);
    events
}
