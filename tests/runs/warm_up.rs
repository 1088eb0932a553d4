//! The warm-up flows into the measured requests: slots and schedule continue, and a request counts by its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ringmark::engine::worker_state::STOP_OFFERING;
use ringmark::finding::Finding;
use ringmark::record::Phase;
use ringmark::spec::Spec;
use ringmark::time::{S, Tick};
use ringmark::workload::arrivals;

use super::harness::{FinishedRun, mock, perf, perf_until, spec};

fn first_due(run: &FinishedRun) -> Tick {
    run.measured.iter().map(|kept| kept.record.due).min().unwrap()
}

fn warm(base: Spec, number: f64, workers: usize) -> Spec {
    base.with(|s| {
        s.load.warmup_num = number;
        s.client.workers = Some(workers);
    })
}

#[test]
fn slots_continue_without_a_gap() {
    let mock = mock("ttft=20ms&itl=2ms&tokens=20");
    for workers in [1, 2] {
        let run = perf(&warm(spec(&mock), 10.0, workers));
        run.assert_all_ok();
        assert_eq!((run.warmup.len(), run.measured.len(), run.summary.counts.scheduled), (10, 40, 40));
        assert_eq!(run.summary.series.ttft_s.count, 40);
        // Every slot has a warm-up request before its first measured one.
        assert!(run.measured.iter().all(|kept| kept.record.previous_end.is_some() && kept.record.reused));
        // No slot waits for the others at the seam: their last warm-up requests are in flight.
        let before = first_due(&run);
        assert!(run.warmup.iter().filter(|kept| kept.record.end > before).count() >= 1, "the warm-up drained first");
        let concurrency = run.summary.concurrency;
        assert!(concurrency.warmup_stay_s > 0.0 && concurrency.peak == Some(4), "{concurrency:?}");
        assert!(!run.summary.findings.iter().any(|finding| matches!(
            finding,
            Finding::LittlesLaw { .. } | Finding::CapExceeded { .. } | Finding::WarmUpSmall { .. }
        )));
        assert!(run.summary.steady.is_none(), "every measured request is after the first wave");
        let reports: Vec<_> = run.stored.workers.iter().map(|report| report.phase).collect();
        assert!(reports.iter().all(|phase| *phase == Phase::Measured) && reports.len() == workers);
    }
}

#[test]
fn one_schedule_and_ramp_run_through_both_phases() {
    let mock = mock("ttft=5ms&itl=1ms&tokens=3");
    for (open, ramp_s) in [(true, 0.0), (true, 0.2), (false, 0.2)] {
        let run = perf(&warm(spec(&mock), 15.0, 2).with(|s| {
            s.load.rate = vec![200.0];
            s.load.open_loop = open;
            s.load.parallel = if open { Vec::new() } else { vec![64] };
            s.load.ramp_s = ramp_s;
        }));
        run.assert_all_ok();
        let schedule = run.plan.load.schedule().unwrap();
        let planned: Vec<u64> = arrivals::offsets(schedule, run.plan.seed, run.plan.ramp_ns).take(55).collect();
        let due: Vec<Tick> = run.warmup.iter().chain(&run.measured).map(|kept| kept.record.due).collect();
        let start = due[0].0 - planned[0];
        assert_eq!(due.iter().map(|due| due.0 - start).collect::<Vec<_>>(), planned, "open {open}, ramp {ramp_s} s");
    }
}

#[test]
fn the_duration_begins_with_the_first_measured_request() {
    let mock = mock("ttft=10ms&itl=1ms&tokens=5");
    let base = warm(spec(&mock), 40.0, 2).with(|s| {
        s.load.number = Vec::new();
        s.load.duration_s = Some(0.3);
    });
    let open = base.clone().with(|s| {
        s.load.rate = vec![100.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
    });
    for load in [base, open] {
        let run = perf(&load);
        run.assert_all_ok();
        assert_eq!(run.warmup.len(), 40);
        let start = first_due(&run);
        let last = run.measured.iter().map(|kept| kept.record.due).max().unwrap();
        // The warm-up alone takes about as long as the duration, which must not count it.
        assert!(last.ns_since(start) < 3 * S as i64 / 10 && last.ns_since(start) > S as i64 / 10, "{last:?} {start:?}");
    }
}

#[test]
fn interrupted_warm_ups_keep_exact_totals() {
    let mock = mock("ttft=30ms&itl=5ms&tokens=10");
    let closed = warm(spec(&mock), 3_000.0, 2);
    let open = closed.clone().with(|s| {
        s.load.rate = vec![200.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
    });
    for load in [closed.clone(), open, closed.with(|s| s.load.warmup_num = 4.0)] {
        let stop = Arc::new(AtomicU8::new(0));
        let before = mock.truth().len();
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                while mock.truth().len() < before + 10 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                stop.store(STOP_OFFERING, Ordering::SeqCst);
            });
            perf_until(&load.with(|s| s.load.number = vec![3_000]), stop.clone()).unwrap()
        });
        run.assert_totals();
        assert_eq!(run.summary.counts.scheduled, 3_000);
        let unsent: u64 = run.stored.workers.iter().map(|report| report.unsent).sum();
        assert_eq!(unsent + run.measured.len() as u64, 3_000);
        assert!(!run.warmup.is_empty());
    }
}

#[test]
fn failures_in_the_warm_up_count_nowhere_else() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=3&fault=status(500):1/5");
    let run = perf(&warm(spec(&mock).with(|s| s.target.no_test_connection = true), 10.0, 2));
    run.assert_totals();
    assert_eq!((run.warmup.len(), run.measured.len()), (10, 40));
}

#[test]
fn a_small_warm_up_is_noted() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=3");
    let run = perf(&warm(spec(&mock), 3.0, 1));
    assert!(run.summary.findings.contains(&Finding::WarmUpSmall { warmup: 3, parallel: 4 }));
    // One slot starts with a measured request.
    assert_eq!(run.summary.steady.as_ref().map(|steady| steady.requests), Some(39));
}
