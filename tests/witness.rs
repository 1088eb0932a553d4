//! `--witness`: its requests, its comparison with the load, and its findings.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn perf(folder: &Path, mock: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--verbose", "--url", &format!("mock:?ttft=10ms&itl=4ms&tokens=6{mock}"), "--parallel", "4"])
        .args(["--no-timestamp", "--name", "run", "--outputs-dir"])
        .arg(folder)
        .args(more)
        .output()
        .expect("the binary was built for this test")
}

fn has_spare_core() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

fn summary(folder: &Path, run: &str) -> Value {
    let path = folder.join("run").join(run).join("benchmark_summary.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn witness_requests_are_separate_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), "", &["-n", "200", "--witness", "2", "--warmup-num", "4"]);
    if !has_spare_core() {
        assert!(String::from_utf8_lossy(&output.stderr).contains("--witness needs a core"));
        return;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    // A busy machine can make the figures void.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    let summary = summary(folder.path(), "parallel_4_number_200");
    assert_eq!((&summary["Total requests"], &summary["Succeed requests"]), (&200.into(), &200.into()));
    let witness = &summary["Witness"];
    let counted = witness["counted"].as_u64().unwrap();
    assert!(counted > 0 && witness["failed"] == 0, "{witness:#}");
    assert!(witness["times"][1]["samples"].as_u64().unwrap() == counted * 5, "{witness:#}");
    assert!(text.contains("The witness compared with the load:"), "{text}");

    let database = folder.path().join("run/parallel_4_number_200/benchmark_data.db");
    let rows = rusqlite::Connection::open(&database).unwrap();
    let count = |sql: &str| rows.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    assert_eq!(count("SELECT count(*) FROM result"), 200);
    assert_eq!(count("SELECT count(*) FROM witness"), witness["requests"].as_u64().unwrap());
    assert_eq!(count("SELECT count(*) FROM witness WHERE success AND stamped_reads < reads"), 0);
    assert_eq!(count("SELECT count(DISTINCT lane) FROM witness"), 2);
}

#[test]
fn witness_failures_do_not_affect_the_run() {
    if !has_spare_core() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The server closes every connection after a response, so the witness needs a new one for each request.
    let output = perf(folder.path(), "&close=silent", &["-n", "120", "--witness", "1"]);
    assert!(matches!(output.status.code(), Some(0 | 3)));
    assert_eq!(summary(folder.path(), "parallel_4_number_120")["Witness"]["failed"], 0);

    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), "&fault=status(500):1/3", &["-n", "150", "--witness", "1", "--no-test-connection"]);
    let summary = summary(folder.path(), "parallel_4_number_150");
    assert_eq!(summary["Total requests"], 150);
    let notes = summary["Findings"].to_string();
    assert!(summary["Witness"]["failed"] == 0 || notes.contains("of the witness failed"), "{notes}");
}

#[test]
fn server_counts_include_witness_requests() {
    if !has_spare_core() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), "", &["-n", "100", "--witness", "1", "--server-metrics"]);
    let summary = summary(folder.path(), "parallel_4_number_100");
    let counts = summary["server"]["counts"].as_array().unwrap();
    // A request in flight at the end may be counted or not, then the equality is unknown.
    assert!(counts.len() == 3 && counts.iter().all(|count| count["equal"] != false), "{counts:#?}");
    assert!(counts[0]["client"].as_u64().unwrap() > 100, "{counts:#?}");
    // Both sides measure the same requests, so that every time is judged.
    let times = summary["server"]["times"].as_array().unwrap();
    assert!(!times.is_empty() && times.iter().all(|time| time["verdict"] == "consistent"), "{times:#?}");
    assert!(times[0]["client_count"].as_u64().unwrap() > 100, "{times:#?}");
}
