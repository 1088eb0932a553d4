//! A trace file gives rows or an error, and its schedule is in order.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use ringmark::workload::trace::read;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::temp_dir().join(format!("ringmark-fuzz-trace-{}", std::process::id())));
    std::fs::write(file, data).expect("the folder for temporary files is writable");
    let Ok(trace) = read(file, "--trace") else { return };
    for speed in [1.0, 0.001, 1e9] {
        let arrivals = trace.arrivals(speed);
        assert!(arrivals.is_sorted() && !arrivals.is_empty());
    }
    if let Some(part) = trace.window(1, u64::MAX / 2) {
        assert!(part.arrivals(1.0).is_sorted());
    }
});
