//! A chunked body is decoded equally in one piece and in two.
#![no_main]

use ringmark::protocol::chunked::{Decoded, Decoder};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(decode(&[bytes]), decode(&[first, second]));
});

/// The body, the bytes after its end, and whether it is valid.
fn decode(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>, bool) {
    let (mut decoder, mut body, mut rest) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = *piece;
        loop {
            match decoder.decode(&mut input) {
                Ok(Decoded::Data(data)) => body.extend_from_slice(data),
                Ok(Decoded::More | Decoded::End) => break,
                Err(_) => return (body, Vec::new(), false),
            }
        }
        rest.extend_from_slice(input);
    }
    (body, rest, true)
}
