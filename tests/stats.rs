//! Figures from hand-made records, through the database, into tables and JSON.

mod records;

use std::path::Path;

use records::{closed, collect, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::record::facts::{Mode, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase, RequestRecord, WorkerReport};
use ringmark::report::{from_database, json, screen};
use ringmark::stats::counts::Counts;
use ringmark::stats::failure_texts::FailureText;
use ringmark::stats::throughput::Rates;
use ringmark::stats::{Severity, Summary};
use ringmark::time::MS;

/// The summary of records that went through a database, read twice to see that it stays the same.
fn summary_of(facts: RunFacts, block: Block, worker: WorkerReport) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("benchmark_data.db");
    collect(
        &path,
        start(facts, Save::Text),
        vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(worker))],
    );
    let summary = from_database(&path).unwrap();
    let again = from_database(Path::new(&path)).unwrap();
    for width in [80, 200] {
        assert_eq!(screen::render(&summary, width), screen::render(&again, width));
    }
    assert_eq!(json::summary(&summary).to_string(), json::summary(&again).to_string());
    summary
}

/// Two slots, four requests: three succeed, one fails.
///
/// | request | due | tokens after due | end |
/// |---|---|---|---|
/// | 0 | 0 | 50 60 70 | 71 |
/// | 1 | 0 | 40 60 | 61 |
/// | 2 | 61 | fails | 66 |
/// | 3 | 71 | 20 30 40 50 | 122 |
fn four_requests() -> Block {
    let mut block = Block::new(0);
    push_ok(&mut block, 1, 0, &[40, 60]);
    push_failed(&mut block, 2, 61, Outcome::Failed(Failure::Status), "slow down");
    push_ok(&mut block, 0, 0, &[50, 60, 70]);
    push_ok(&mut block, 3, 71, &[20, 30, 40, 50]);
    block.records.push(RequestRecord { index: 9, phase: Phase::Warmup, ..RequestRecord::default() });
    block
}

fn close(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() <= 1e-12 * expected.abs())
}

#[test]
fn figures_equal_those_computed_by_hand() {
    let s = summary_of(closed(4, 2), four_requests(), report(Phase::Measured));
    assert_eq!(s.counts, Counts { scheduled: 4, ok: 3, failed: 1, ..Counts::default() });
    assert!(close(s.time_s, 0.122));
    assert!(close(s.throughput.requests_per_s, 3.0 / 0.122));
    assert!(close(s.throughput.output_tokens_per_s, 9.0 / 0.122));
    assert!(close(s.throughput.total_tokens_per_s, 39.0 / 0.122));
    assert!(close(s.series.latency_s.mean, (0.071 + 0.061 + 0.051) / 3.0));
    assert!(close(s.series.ttft_s.mean, (0.050 + 0.040 + 0.020) / 3.0));
    assert!(close(s.series.tpot_s.mean, (0.010 + 0.020 + 0.010) / 3.0));
    assert!(close(s.series.itl_s.mean, 0.070 / 6.0));
    assert_eq!(s.series.itl_s.count, 6);
    assert!(close(s.series.ttft_s.value(500), 0.040));
    assert!(close(s.series.ttft_s.value(1000), 0.050));
    assert!(close(s.series.itl_s.value(800), 0.010), "five of the six gaps are 10 ms");
    assert!(close(s.series.itl_s.value(900), 0.020));
    assert!(close(s.series.ttft_s.min, 0.020) && close(s.series.ttft_s.max, 0.050));
    assert!(close(s.packages_per_request, (5.0 + 4.0 + 6.0) / 3.0));
    assert!(close(s.package_latency_s, (0.071 / 5.0 + 0.061 / 4.0 + 0.051 / 6.0) / 3.0));
    assert_eq!(s.concurrency.peak, Some(2));
    assert!(close(s.concurrency.mean, (71.0 + 61.0 + 5.0 + 51.0) / 122.0));
    assert_eq!(s.rates, Rates::default(), "a closed loop has no schedule");
    let steady = s.steady.as_ref().unwrap();
    assert_eq!(steady.requests, 1, "request 3 is the only success after the first wave");
    assert!(close(steady.ttft_s.mean, 0.020));
    let text = FailureText { example: "429: slow down".to_string(), count: 1, differ: false };
    assert_eq!(s.failures[0].texts, [text]);
    assert!(close(s.client.cpu_max, 0.15));
    assert!(!s.is_void(), "{:?}", s.findings);
}

#[test]
fn the_tables_look_as_documented() {
    let s = summary_of(closed(4, 2), four_requests(), report(Phase::Measured));
    let text = screen::render(&s, 130);
    let head = "\
Benchmarking summary:
+-----------------------------------+-----------+
| Key                               |     Value |
+===================================+===========+
| Time taken for tests (s)          |    0.122  |
+-----------------------------------+-----------+
| Number of concurrency             |    2      |
+-----------------------------------+-----------+
| Total requests                    |    4      |
";
    assert!(text.starts_with(head), "{text}");
    assert!(text.contains("| Percentiles | TTFT (s) | ITL (s) | TPOT (s) | Latency (s) | Input tokens |"), "{text}");
    assert!(text.contains("429: slow down") && text.contains("Client's own figures:"), "{text}");
    let narrow = screen::render(&s, 80);
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert!(narrow.contains("Total (tok/s)"), "{narrow}");
}

#[test]
fn json_has_every_documented_name() {
    let s = summary_of(closed(4, 2), four_requests(), report(Phase::Measured));
    let summary: serde_json::Value = serde_json::from_str(&json::summary(&s).to_string()).unwrap();
    for key in [
        "Time taken for tests (s)",
        "Number of concurrency",
        "Total requests",
        "Succeed requests",
        "Failed requests",
        "Output token throughput (tok/s)",
        "Total token throughput (tok/s)",
        "Request throughput (req/s)",
        "Average latency (s)",
        "Average time to first token (s)",
        "Average time per output token (s)",
        "Average input tokens per request",
        "Average output tokens per request",
    ] {
        assert!(summary[key].is_number(), "{key} in {summary}");
    }
    let percentiles: serde_json::Value = serde_json::from_str(&json::percentiles(&s).to_string()).unwrap();
    assert_eq!(percentiles.as_array().unwrap().len(), 12);
    assert_eq!(percentiles[2]["Percentiles"], "50%");
    assert_eq!(percentiles[2]["TTFT (s)"], 0.04);
    assert_eq!(percentiles[0]["Too few samples beyond"].as_array().unwrap().len(), 8);
}

#[test]
fn run_without_responses_has_no_figures_and_no_nan() {
    let mut block = Block::new(0);
    push_failed(&mut block, 0, 0, Outcome::Failed(Failure::Connect), "refused");
    block.records[0].write_start = None;
    let s = summary_of(closed(1, 1), block, report(Phase::Measured));
    assert!(s.all_failed() && !s.is_void(), "{:?}", s.findings);
    let summary = json::summary(&s);
    assert!(summary["Average latency (s)"].is_null() && summary["Mean concurrency"] == 0.0);
    assert!(screen::render(&s, 80).contains("| Average latency (s)               |     - "));
    let nothing = summary_of(RunFacts::default(), Block::new(0), report(Phase::Measured));
    assert_eq!(nothing.time_s, None);
    assert!(!nothing.is_void(), "{:?}", nothing.findings);
}

#[test]
fn lost_records_void_the_run() {
    let s = summary_of(closed(5, 2), four_requests(), report(Phase::Measured));
    assert!(s.is_void());
    let codes: Vec<&str> = s.findings.iter().map(|f| f.code()).collect();
    assert!(codes.contains(&"totals") && codes.contains(&"little"), "{codes:?}");
    assert!(screen::render(&s, 80).starts_with("VOID"));
    let unsent = WorkerReport { unsent: 1, ..report(Phase::Measured) };
    let s = summary_of(closed(5, 2), four_requests(), unsent);
    assert!(!s.is_void(), "a request that was never sent is not lost: {:?}", s.findings);
    assert_eq!(s.counts.unsent, 1);
}

#[test]
fn more_in_flight_than_the_cap_voids_the_run() {
    let s = summary_of(closed(4, 1), four_requests(), report(Phase::Measured));
    assert!(s.findings.iter().any(|f| f.code() == "cap" && f.severity() == Severity::Void));
}

fn codes(s: &Summary) -> Vec<&str> {
    s.findings.iter().map(|f| f.code()).collect()
}

#[test]
fn late_sends_are_reported() {
    let late = |ns: u64| {
        let mut block = Block::new(0);
        for index in 0..200 {
            push_ok(&mut block, index, index * 100, &[50, 60]);
            block.records[index as usize].write_start = Some(records::at(index * 100).plus_ns(ns));
        }
        summary_of(closed(200, 1), block, report(Phase::Measured))
    };
    assert!(!codes(&late(400_000)).contains(&"send_lag"), "below 1 % of the time to first token");
    let s = late(600_000);
    assert!(codes(&s).contains(&"send_lag") && !s.is_void());
    assert!(late(30 * MS).is_void());
}

#[test]
fn overloaded_open_loop_is_reported() {
    let open = RunFacts {
        mode: Mode::Open,
        parallel: None,
        rate_per_s: Some(100.0),
        arrival: Some("constant".to_string()),
        ..closed(200, 1)
    };
    let run = |latency_ms: fn(u64) -> u64| {
        let mut block = Block::new(0);
        for index in 0..200 {
            push_ok(&mut block, index, index * 10, &[latency_ms(index)]);
        }
        summary_of(open.clone(), block, report(Phase::Measured))
    };
    let steady = run(|_| 100);
    assert!(!codes(&steady).contains(&"growth"), "{:?}", steady.findings);
    assert!(close(steady.rates.offered_per_s, 100.0) && close(steady.rates.achieved_per_s, 100.0));
    assert!(steady.steady.is_none());
    assert!(codes(&run(|index| 100 + index * 10)).contains(&"growth"));
}

#[test]
fn errors_of_the_client_are_reported() {
    let mut block = four_requests();
    for record in &mut block.records {
        record.coalesced_reads = record.reads / 2;
        record.coalesced = record.reads / 2;
        record.stamped_reads = 0;
        record.retried = true;
    }
    let mut worker = report(Phase::Measured);
    worker.cpu_user_ns = 90 * MS;
    worker.involuntary_switches = 1000;
    worker.buffer_shortages = 1;
    worker.core = None;
    worker.wall_ns = 100 * MS;
    worker.receive_lag_ns.record(3 * MS).unwrap();
    let s = summary_of(closed(4, 2), block, worker);
    let codes = codes(&s);
    for code in ["coalesced", "stamps", "retried", "worker_cpu", "switches", "buffers", "pinning", "receive_lag"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    assert_eq!(s.client.receive_lag.count, 1);
}

#[test]
fn missing_token_counts_are_shown_as_dashes() {
    let mut block = four_requests();
    for record in &mut block.records {
        record.input_tokens = None;
        record.output_tokens = None;
    }
    let s = summary_of(closed(4, 2), block, report(Phase::Measured));
    assert_eq!((s.throughput.output_tokens_per_s, s.series.tpot_s.mean), (None, None));
    assert!(s.series.ttft_s.mean.is_some());
    assert!(codes(&s).contains(&"tokens"));
}
