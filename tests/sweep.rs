//! Sweeps and their combined report: on the screen, in the summary, in CSV and HTML.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn sweep(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--outputs-dir", folder.to_str().unwrap(), "--no-timestamp", "--name", "s", "--url", url])
        .args(["--no-test-connection", "--sleep-interval", "0", "--log-every-n-query", "1000"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary was built for this test")
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("s").join(name)).unwrap()
}

/// The first cell of each row of the table of loads.
fn loads(text: &str) -> Vec<&str> {
    let table = text.split("Detailed performance metrics:\n").nth(1).unwrap();
    // The names of the columns can have two lines.
    let rows = table.lines().skip(1).skip_while(|line| !line.starts_with('+')).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_start_matches('|').split('|').next().unwrap().trim()).collect()
}

#[test]
fn the_summary_starts_with_the_combined_report_in_the_order_of_loads() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("rows.csv");
    let loads_given = ["--parallel", "4", "2", "1", "--number", "30", "--csv", csv.to_str().unwrap()];
    let output = sweep(folder.path(), "mock:?ttft=1ms&itl=0&tokens=3&fault=error:0.5", &loads_given);
    let screen = String::from_utf8(output.stdout).unwrap();
    let summary = read(folder.path(), "performance_summary.txt");
    assert!(summary.starts_with("Performance report: "), "{summary:.200}");
    for text in [&screen, &summary] {
        assert_eq!(loads(text), ["1", "2", "4"]);
        assert!(text.contains("At no load did 95 % of the requests succeed"), "{text}");
        assert!(text.contains("Caution: Concurrency 1"), "{text}");
    }
    // The tables of each run are in the file only.
    let tables = [&summary, &screen].map(|text| text.matches("Benchmarking summary:").count());
    assert_eq!(tables, [3, 0]);
    assert!(summary.find("Performance recommendations:") < summary.find("Benchmarking summary:"));
    assert!(read(folder.path(), "benchmark.log").contains("Performance recommendations:"));
    assert!(!folder.path().join("s/performance_summary.txt.new").exists());
    let rows = fs::read_to_string(csv).unwrap();
    let batches: Vec<&str> = rows.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(batches, ["1", "2", "4"]);
    let page = read(folder.path(), "perf_report.html");
    let top = page.split("<details>").next().unwrap();
    // All that this process may use, with those of the workers.
    let cores = std::thread::available_parallelism().unwrap();
    assert!(page.contains(&format!("{cores} usable core")), "{cores}");
    assert!(top.contains("At no load did 95 %") && top.contains("class=\"finding caution\""));
}

#[test]
fn rate_sweeps_show_the_offered_rate() {
    let folder = tempfile::tempdir().unwrap();
    let rates = ["--open-loop", "--rate", "100", "40", "--number", "20", "10"];
    let output = sweep(folder.path(), "mock:?ttft=1ms&itl=0&tokens=3", &rates);
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.contains("| Rate | Offered |"), "{screen}");
    assert_eq!(loads(&screen), ["40", "100"]);
    assert!(read(folder.path(), "perf_report.html").contains("<th>Offered req/s</th>"));
}

#[test]
fn a_sweep_without_successful_requests_has_no_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), "mock:?fault=status(503)", &["--parallel", "1", "2", "--number", "3"]);
    let screen = String::from_utf8(output.stdout).unwrap();
    let report = screen.split("Performance report: ").nth(1).unwrap();
    assert!(report.contains("| 0 tokens ") && report.contains("| 0.00 tok/s "), "{report}");
    assert!(!report.contains("-0") && report.contains("No request succeeded at any load."), "{report}");
}

#[test]
fn a_hopeless_load_ends_early_and_the_next_one_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let loads = ["--parallel", "1", "2", "--number", "2000", "--abort-on", "failed>20%"];
    let output = sweep(folder.path(), "mock:?ttft=1ms&itl=0&tokens=3&fault=status(503):0.5", &loads);
    let screen = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{screen}");
    assert_eq!(screen.matches("--abort-on 'failed>20%' ended the run: ").count(), 1, "once for both runs");
    for load in ["parallel_1_number_2000", "parallel_2_number_2000"] {
        let summary = read(folder.path(), &format!("{load}/benchmark_summary.json"));
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert!(summary["Unsent requests"].as_u64().unwrap() > 1000, "{summary}");
    }
    assert!(read(folder.path(), "perf_report.html").contains("class=\"finding caution\""));
    assert!(read(folder.path(), "benchmark.log").contains("requests failed (--abort-on 'failed>20%')"));
}

#[test]
fn a_coarse_sweep_gets_a_load_to_try() {
    let folder = tempfile::tempdir().unwrap();
    // A server with 8 slots.
    let loads = ["--parallel", "2", "32", "--number", "60", "256"];
    let output = sweep(folder.path(), "mock:?ttft=20ms&itl=5ms&tokens=8&max_running=8", &loads);
    let screen = String::from_utf8(output.stdout).unwrap();
    let advice = screen.split("Performance recommendations:").nth(1).unwrap();
    let advice = advice.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(advice.contains("The server saturates between Concurrency 2 and Concurrency 32"), "{screen}");
    let tried: u32 = advice.split("Try a concurrency of ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((6..=10).contains(&tried), "{screen}");
}
