//! The parser of metrics pages does not panic, and labels round-trip.
#![no_main]

use ringmark::server::exposition::{parse_page, read_labels, write_labels};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for sample in parse_page(data).samples {
        if sample.labels.iter().all(|(name, _)| is_plain(name)) {
            assert_eq!(read_labels(&write_labels(&sample.labels)), Some(sample.labels));
        }
    }
});

/// Whether a label name is written without quotes.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
