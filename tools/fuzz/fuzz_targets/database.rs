//! A damaged database gives figures or an error. An input is a list of changed bytes: four for the position, one for the
//! value.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use ringmark::report::{html, measured, screen};
use ringmark::spec::Language;
use ringmark::{Spec, measure};

/// A database of this version, and a place for damaged copies.
struct Base {
    bytes: Vec<u8>,
    damaged: PathBuf,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("ringmark-fuzz-database-{}", std::process::id()));
        let spec = Spec::default().with(|spec| {
            spec.target.url = Some("mock:?ttft=1ms&itl=1ms&tokens=4&fault=status(500):1/4".to_string());
            spec.target.no_test_connection = true;
            spec.load.parallel = vec![2];
            spec.load.number = vec![12];
            spec.output.outputs_dir = folder.clone();
        });
        let runs = measure(&spec).expect("the mock can be measured");
        let bytes = std::fs::read(&runs[0].database).expect("the run has a database");
        Base { bytes, damaged: folder.join("damaged.db") }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Base { bytes, damaged } = base();
    let mut bytes = bytes.clone();
    for change in data.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] = change[4];
    }
    std::fs::write(damaged, bytes).expect("the folder for temporary files is writable");
    let Ok(run) = measured(damaged) else { return };
    screen::render(&run.summary, 100);
    let _ = html::from_databases(std::slice::from_ref(damaged), Language::Zh);
});
