//! Interrupts while several workers share the numbers of requests: each request has exactly one outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::harness::{FinishedRun, mock, perf, perf_until, spec, truths};
use ringmark::engine::worker_state::STOP_OFFERING;
use ringmark::mock::Mock;
use ringmark::spec::Spec;

/// Runs `load` until `mock` has received `requests` requests, and interrupts it then.
pub(super) fn interrupted(load: &Spec, mock: &Mock, requests: u64) -> FinishedRun {
    mock.reset();
    let before = mock.stats().requests;
    let stop = Arc::new(AtomicU8::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while mock.stats().requests < before + requests {
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(STOP_OFFERING, Ordering::Relaxed);
        });
        perf_until(load, stop.clone()).unwrap()
    })
}

/// Asserts that what the mock received is what was recorded, each request once.
fn assert_sent_once(run: &FinishedRun, mock: &Mock) {
    run.assert_totals();
    let mut received: Vec<String> = truths(mock).into_iter().map(|truth| truth.request_id).collect();
    received.retain(|id| id.contains("-m"));
    received.sort_unstable();
    let count = received.len();
    received.dedup();
    assert_eq!(received.len(), count, "a request was sent twice");
    assert_eq!(run.measured.len(), count);
}

#[test]
fn requests_that_two_workers_wait_to_send_are_counted_once() {
    let mock = mock("ttft=5ms&itl=1ms&tokens=3");
    for round in 0..4 {
        let load = spec(&mock).with(|s| {
            s.load.parallel = vec![64];
            s.load.rate = vec![1500.0];
            s.load.number = vec![100_000];
            s.client.workers = Some(2);
        });
        let run = interrupted(&load, &mock, 100 + 37 * round);
        assert_sent_once(&run, &mock);
        assert_eq!(run.summary.counts.scheduled, 100_000);
        assert!(run.summary.counts.unsent > 0);
    }
}

#[test]
fn a_duration_without_a_number_schedules_what_was_sent() {
    let mock = mock("ttft=5ms&itl=1ms&tokens=3");
    let load = spec(&mock).with(|s| {
        s.load.parallel = vec![32];
        s.load.rate = vec![800.0];
        s.load.number = Vec::new();
        s.load.duration_s = Some(0.3);
        s.client.workers = Some(2);
    });
    let run = perf(&load);
    assert_sent_once(&run, &mock);
    assert_eq!(run.summary.counts.unsent, 0);
}

/// Conversations have different numbers of turns, and an open loop starts them on two workers independently: those that
/// were started are not the first ones.
#[test]
fn conversations_that_two_workers_start_are_counted_by_their_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conversations.jsonl");
    let user = r#"{"role":"user","content":"a"},{"role":"assistant","content":"b"}"#;
    let lines = [1, 9].map(|turns| format!("[{}]", vec![user; turns].join(",")));
    std::fs::write(&path, lines.join("\n")).unwrap();
    let mock = mock("ttft=1ms&itl=1ms&tokens=2");
    for round in 0..3 {
        let load = spec(&mock).with(|s| {
            s.data.dataset = Some("custom_multi_turn".to_string());
            s.data.dataset_path = Some(path.clone());
            s.data.multi_turn = true;
            s.load.parallel = Vec::new();
            s.load.open_loop = true;
            s.load.rate = vec![900.0];
            s.load.number = vec![20_000];
            s.client.workers = Some(2);
            s.target.no_test_connection = true;
        });
        let run = interrupted(&load, &mock, 150 + 11 * round);
        assert_sent_once(&run, &mock);
        assert_eq!(run.summary.counts.scheduled, 10_000 * 10);
    }
}
