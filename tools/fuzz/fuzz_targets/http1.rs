//! A response head is parsed equally in one piece and in two.
#![no_main]

use ringmark::protocol::http1::HeadReader;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (mut first, mut second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut whole = bytes;
    let expected = HeadReader::default().read(&mut whole);
    let mut reader = HeadReader::default();
    let mut seen = reader.read(&mut first);
    if matches!(seen, Ok(None)) {
        seen = reader.read(&mut second);
    }
    match (expected, seen) {
        (Ok(expected), Ok(seen)) => assert_eq!((expected, whole), (seen, [first, second].concat().as_slice())),
        (expected, seen) => assert_eq!(expected.is_err(), seen.is_err()),
    }
});
