//! A program that embeds ringmark: it measures a server at two loads and compares the tails. Without an argument it uses
//! the built-in server.
//!
//!     cargo run --release --example embed -- http://127.0.0.1:8000/v1/chat/completions

use std::error::Error;

use ringmark::{Spec, measure, read_summary};

fn main() -> Result<(), Box<dyn Error>> {
    compare_loads(std::env::args().nth(1).unwrap_or_else(|| "mock:?ttft=20ms&itl=5ms&tokens=20".to_string()))
}

fn compare_loads(url: String) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("ringmark-embed-{}", std::process::id()));
    let spec = Spec::default().with(|spec| {
        spec.target.url = Some(url);
        spec.load.parallel = vec![2, 8];
        spec.load.number = vec![40];
        spec.load.sleep_interval_s = 0.0;
        spec.output.outputs_dir = folder.clone();
    });
    for run in measure(&spec)? {
        // The same figures can be computed from the database at any later time.
        let summary = read_summary(&run.database)?;
        let p99 = summary.series.ttft_s.value(990).map_or("-".to_string(), |s| format!("{:.1} ms", s * 1e3));
        let parallel = summary.facts.parallel.map_or("open loop".to_string(), |parallel| format!("{parallel} users"));
        println!("{parallel}: {} of {} requests ok, p99 TTFT {p99}", summary.counts.ok, summary.counts.scheduled);
        for finding in &summary.findings {
            println!("  {:?} {}: {}", finding.severity(), finding.code(), finding.en());
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[test]
fn built_in_server() -> Result<(), Box<dyn Error>> {
    compare_loads("mock:?ttft=5ms&itl=1ms&tokens=5".to_string())
}
