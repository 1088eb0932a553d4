//! Compares the records of runs with the mock's ground truth: contents, counts and times.

use std::collections::HashMap;

use super::harness::{self, FinishedRun, StoredRequest, mock, perf, spec};
use super::interrupts::interrupted;
use ringmark::finding::Finding;
use ringmark::mock::{Mock, Truth};
use ringmark::plan::Save;
use ringmark::record::{Finish, Outcome, TokenSource};
use ringmark::spec::Spec;
use ringmark::time::{MS, S, Tick};

/// The mock's records by request id.
fn truths(mock: &Mock) -> HashMap<String, Truth> {
    harness::truths(mock).into_iter().map(|truth| (truth.request_id.clone(), truth)).collect()
}

/// Each measured request with the mock's record.
fn join<'a>(run: &'a FinishedRun, truths: &'a HashMap<String, Truth>) -> Vec<(&'a StoredRequest, &'a Truth)> {
    let id = |request: &StoredRequest| format!("{}-m{}", run.id_prefix, request.record.index);
    run.measured.iter().map(|request| (request, &truths[&id(request)])).collect()
}

/// Asserts that counts and order are exact, that no event arrived before it was sent, and that the median lag is small.
/// Lags are taken from streamed responses only (one that ends with its connection has no kernel timestamp), and from
/// the last event of each read, because only its arrival time is exact.
fn assert_times_agree(run: &FinishedRun, mock: &Mock) {
    let truths = truths(mock);
    // The mock reads the kernel's clock; the client's may be off by as much as it says.
    let clock_error_ns = run.summary.measurement_error.clock_ns as i64;
    let mut lags = Vec::new();
    for (request, truth) in join(run, &truths) {
        let record = &request.record;
        assert_eq!(request.arrivals.len(), truth.sends.len(), "{record:?}");
        assert!(request.arrivals.is_sorted());
        assert_eq!(record.first_token, request.arrivals.first().copied());
        assert_eq!(record.last_token, request.arrivals.last().copied());
        assert_eq!(record.output_tokens.unwrap_or(truth.output_tokens), truth.output_tokens);
        assert_eq!(record.input_tokens.unwrap_or(truth.prompt_tokens), truth.prompt_tokens);
        for (place, (arrival, send)) in request.arrivals.iter().zip(&truth.sends).enumerate() {
            let lag_ns = arrival.ns_since(*send);
            assert!(lag_ns > -clock_error_ns, "request {}: arrived {lag_ns} ns after it was sent", record.index);
            if record.streamed && request.arrivals.get(place + 1) != Some(arrival) {
                lags.push(lag_ns);
            }
        }
        let sent = record.write_start.unwrap();
        assert!(truth.received_first.ns_since(sent) > -clock_error_ns, "received before it was written");
        assert!(record.end.ns_since(truth.last_byte.unwrap()) > -clock_error_ns);
        assert!(record.due <= sent && record.picked.unwrap() <= sent && record.first_byte.unwrap() <= record.end);
    }
    lags.sort_unstable();
    let median_ns = lags.get(lags.len() / 2).copied().unwrap_or(0);
    assert!(median_ns < MS as i64, "median arrival {median_ns} ns after its send time");
}

#[test]
fn every_event_is_recorded_once_after_its_send_time() {
    let mock = mock("ttft=uniform(1ms,8ms)&itl=exp(2ms)&tokens=uniform(1,40)&text=mixed");
    let run = perf(&spec(&mock));
    run.assert_all_ok();
    assert_times_agree(&run, &mock);
    assert_eq!(run.measured.len(), 40);
    let stamped: u32 = run.measured.iter().map(|request| request.record.stamped_reads).sum();
    assert!(stamped > 0, "no read had a kernel timestamp");
}

#[test]
fn events_of_several_choices_are_not_coalesced() {
    // Each choice has one event in a write, however many are in a read. The writes are so far apart that a busy machine does
    // not read two of them at once.
    let mock = mock("ttft=5ms&itl=200ms&tokens=4&coalesce=3");
    let run = perf(&spec(&mock).with(|s| {
        s.sampling.n_choices = Some(3);
        s.load.number = vec![8];
    }));
    run.assert_all_ok();
    assert!(run.measured.iter().all(|request| request.record.coalesced == 0), "{:?}", run.measured[0].record);
    assert!(!run.summary.findings.iter().any(|finding| matches!(finding, Finding::CoalescedReads { .. })));
}

/// The median of durations by nearest rank, seconds.
fn median_s(mut durations_ns: Vec<i64>) -> f64 {
    durations_ns.sort_unstable();
    durations_ns[durations_ns.len().div_ceil(2) - 1] as f64 / 1e9
}

#[test]
fn error_bounds_contain_the_true_medians() {
    for query in ["ttft=uniform(1ms,8ms)&itl=exp(2ms)&tokens=uniform(3,40)", "ttft=2ms&itl=1ms&tokens=9&coalesce=3"] {
        let mock = mock(query);
        let run = perf(&spec(&mock).with(|s| {
            s.load.parallel = vec![8];
            s.load.number = vec![80];
        }));
        run.assert_all_ok();
        let truths = truths(&mock);
        // An event was sent at some time of the mock's system call, which is long if the mock lost its core in it.
        let (mut gaps, mut per_token, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for (request, truth) in join(&run, &truths) {
            let calls: Vec<(Tick, Tick)> = truth.sends.iter().copied().zip(truth.returns.iter().copied()).collect();
            let between = |from: (Tick, Tick), to: (Tick, Tick)| (to.0.ns_since(from.1), to.1.ns_since(from.0));
            gaps.extend(calls.windows(2).map(|pair| between(pair[0], pair[1])));
            let (least, most) = between(calls[0], calls[calls.len() - 1]);
            let tokens = calls.len() as i64 - 1;
            per_token.push((least / tokens, most / tokens));
            first.push((calls[0].0.ns_since(request.record.due), calls[0].1.ns_since(request.record.due)));
        }
        let bounds = &run.summary.measurement_error;
        // Row 2 is the median.
        let figures =
            [("ITL", gaps, bounds.itl_s[2]), ("TPOT", per_token, bounds.tpot_s[2]), ("TTFT", first, bounds.ttft_s[2])];
        for (name, truth, bound) in figures {
            let (least, most): (Vec<i64>, Vec<i64>) = truth.into_iter().unzip();
            let (least, most) = (median_s(least), median_s(most));
            let contained = bound.low <= most && least <= bound.high;
            assert!(contained, "{query}: {name} of {least} to {most} is not in {bound:?}");
        }
    }
}

#[test]
fn role_chunks_are_not_the_first_token() {
    for style in ["role=none", "role=separate", "role=with_first", "role=separate&finish=own&usage=with_last"] {
        let mock = mock(&format!("ttft=20ms&itl=1ms&tokens=5&{style}"));
        let run = perf(&spec(&mock).with(|s| s.load.number = vec![8]));
        run.assert_all_ok();
        assert_times_agree(&run, &mock);
        for request in &run.measured {
            let ttft_ns = request.record.first_token.unwrap().ns_since(request.record.write_start.unwrap());
            assert!(ttft_ns >= 19 * MS as i64, "{style}: first token after {ttft_ns} ns");
        }
    }
}

#[test]
fn reasoning_and_tool_calls_are_output() {
    for style in ["reasoning=3&tokens=6", "tool_calls&tokens=6", "done=off&tokens=6", "usage=never&tokens=6"] {
        let mock = mock(&format!("ttft=2ms&itl=1ms&{style}"));
        let run = perf(&spec(&mock).with(|s| s.load.number = vec![6]));
        run.assert_all_ok();
        assert_times_agree(&run, &mock);
        assert!(run.measured.iter().all(|request| request.arrivals.len() == 6), "{style}");
    }
}

#[test]
fn coalesced_events_are_counted() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=8&coalesce=4");
    let run = perf(&spec(&mock).with(|s| s.load.number = vec![6]));
    run.assert_all_ok();
    assert_times_agree(&run, &mock);
    for request in &run.measured {
        assert!(request.record.coalesced >= 6 && request.record.coalesced_reads >= 1, "{:?}", request.record);
    }
}

#[test]
fn exactly_parallel_requests_are_in_flight() {
    for (parallel, workers) in [(1, 1), (7, 1), (7, 2), (2, 3), (50, 3)] {
        // So long that all slots are in use at once, however late a worker of a busy machine begins.
        let mock = mock("ttft=150ms&itl=1ms&tokens=3");
        let number = vec![u64::from(parallel) * 2];
        let load = spec(&mock).with(|s| {
            s.load.parallel = vec![parallel];
            s.load.number = number;
            s.client.workers = Some(workers);
        });
        // Without the connection test, whose request may end at the mock after the next request has started.
        let run = perf(&load.with(|s| s.target.no_test_connection = true));
        run.assert_all_ok();
        assert_eq!(mock.stats().peak_in_flight, u64::from(parallel), "{workers} workers");
        assert_eq!(run.summary.concurrency.peak, Some(parallel), "{workers} workers");
        assert_eq!(run.plan.cores.len(), workers.min(parallel as usize));
    }
}

/// The prompt and output tokens of all requests at the mock, and their scheduled times from the first one, nanoseconds.
fn requests_and_schedule(mock: &Mock, workers: usize, load: &Spec) -> (Vec<(u32, u32)>, Vec<i64>) {
    mock.reset();
    let run = perf(&load.clone().with(|s| s.client.workers = Some(workers)));
    run.assert_all_ok();
    let truths = truths(mock);
    let tokens = join(&run, &truths).iter().map(|(_, truth)| (truth.prompt_tokens, truth.output_tokens)).collect();
    let first = run.measured[0].record.due;
    (tokens, run.measured.iter().map(|request| request.record.due.ns_since(first)).collect())
}

#[test]
fn requests_and_schedule_do_not_depend_on_the_number_of_workers() {
    let mock = mock("ttft=1ms&itl=0&tokens=100");
    let drawn = spec(&mock).with(|s| {
        s.sampling.max_tokens = vec![2, 30];
        s.sampling.seed = Some(11);
        s.load.number = vec![60];
    });
    let paced = drawn.clone().with(|s| s.load.rate = vec![400.0]);
    let open = paced.clone().with(|s| {
        s.load.open_loop = true;
        s.load.parallel = vec![];
    });
    for (load, scheduled) in [(&drawn, false), (&paced, true), (&open, true)] {
        let first = requests_and_schedule(&mock, 1, load);
        for workers in [2, 3] {
            let other = requests_and_schedule(&mock, workers, load);
            assert_eq!(first.0, other.0, "{workers} workers sent other requests");
            if scheduled {
                assert_eq!(first.1, other.1, "{workers} workers had another schedule");
            }
        }
        let reseeded = requests_and_schedule(&mock, 1, &load.clone().with(|s| s.sampling.seed = Some(12)));
        assert_ne!(first.0, reseeded.0, "another seed gave the same requests");
    }
}

#[test]
fn open_loop_follows_its_schedule() {
    let mock = mock("ttft=30ms&itl=1ms&tokens=2");
    for arrival in ["poisson", "constant", "gamma:2"] {
        let load = spec(&mock).with(|s| {
            s.load.open_loop = true;
            s.load.parallel = vec![];
            s.load.rate = vec![500.0];
            s.load.arrival = Some(arrival.to_string());
            s.load.number = vec![100];
            s.client.workers = Some(2);
        });
        let run = perf(&load);
        run.assert_all_ok();
        let schedule = run.plan.load.schedule().unwrap();
        let offsets = ringmark::workload::arrivals::offsets(schedule, run.plan.seed, 0);
        let start = run.measured[0].record.due;
        let expected: Vec<u64> = offsets.take(100).collect();
        for (request, offset) in run.measured.iter().zip(&expected) {
            assert_eq!(request.record.due.ns_since(start) as u64, offset - expected[0], "{arrival}");
            assert!(request.record.write_start.unwrap() >= request.record.due, "sent before it was due");
        }
    }
}

#[test]
fn requests_of_a_burst_are_due_at_the_same_time() {
    let mock = mock("ttft=5ms&itl=1ms&tokens=2");
    let burst = Some("burst".to_string());
    let run = perf(&spec(&mock).with(|s| {
        s.load.open_loop = true;
        s.load.parallel = vec![];
        s.load.arrival = burst;
        s.load.number = vec![50];
    }));
    run.assert_all_ok();
    assert!(run.measured.iter().all(|request| request.record.due == run.measured[0].record.due));
}

#[test]
fn epoll_gives_the_same_records() {
    let mock = mock("ttft=3ms&itl=1ms&tokens=uniform(1,20)");
    let run = perf(&spec(&mock).with(|s| {
        s.client.force_fallback = true;
        s.client.workers = Some(2);
    }));
    run.assert_all_ok();
    assert_times_agree(&run, &mock);
    let stamped: u32 = run.measured.iter().map(|request| request.record.stamped_reads).sum();
    let reads: u32 = run.measured.iter().map(|request| request.record.reads).sum();
    assert_eq!(stamped, reads, "a read without a kernel timestamp");
    assert!(
        run.stored.findings.iter().any(|finding| matches!(finding, Finding::EpollRequested)),
        "{:?}",
        run.stored.findings
    );
}

#[test]
fn busy_polling_gives_the_same_records() {
    let mock = mock("ttft=3ms&itl=1ms&tokens=10");
    let run = perf(&spec(&mock).with(|s| {
        s.client.spin = true;
        s.load.number = vec![16];
    }));
    run.assert_all_ok();
    assert_times_agree(&run, &mock);
}

#[test]
fn requests_in_flight_after_the_drain_are_unfinished() {
    let mock = mock("ttft=5s&itl=1ms&tokens=2");
    let load = spec(&mock).with(|s| {
        s.load.number = vec![];
        s.load.duration_s = Some(0.2);
        s.load.drain_s = Some(0.2);
        s.target.no_test_connection = true;
    });
    let run = perf(&load);
    run.assert_totals();
    assert_eq!(run.outcomes(), [("unfinished", 4)]);
    assert!(run.summary.time_s.unwrap() < 5.0);
}

#[test]
fn requests_are_offered_for_the_duration_and_drained() {
    let mock = mock("ttft=20ms&itl=5ms&tokens=4");
    let run = perf(&spec(&mock).with(|s| {
        s.load.number = vec![];
        s.load.duration_s = Some(0.5);
    }));
    run.assert_all_ok();
    let first = run.measured.iter().map(|request| request.record.due).min().unwrap();
    assert!(run.measured.len() >= 8, "{}", run.measured.len());
    assert!(run.measured.iter().all(|request| request.record.due.ns_since(first) <= S as i64 / 2 + 100 * MS as i64));
}

#[test]
fn all_choices_are_counted() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=5");
    let run = perf(&spec(&mock).with(|s| {
        s.sampling.n_choices = Some(3);
        s.load.number = vec![6];
    }));
    run.assert_all_ok();
    assert_times_agree(&run, &mock);
    assert!(
        run.measured.iter().all(|request| request.arrivals.len() == 15 && request.record.output_tokens == Some(15))
    );
}

#[test]
fn responses_without_streaming_have_latency_and_no_itl() {
    for framing in ["length", "chunked", "close"] {
        let mock = mock(&format!("ttft=5ms&itl=1ms&tokens=5&framing={framing}"));
        let run = perf(&spec(&mock).with(|s| {
            s.sampling.no_stream = true;
            s.load.number = vec![8];
        }));
        run.assert_all_ok();
        assert_times_agree(&run, &mock);
        for request in &run.measured {
            assert!(
                !request.record.streamed && request.record.output_tokens == Some(5),
                "{framing}: {:?}",
                request.record
            );
        }
        assert_eq!((run.summary.series.latency_s.count, run.summary.series.ttft_s.count), (8, 0));
        assert_eq!(run.summary.series.itl_s.count, 0);
    }
}

#[test]
fn completions_are_measured() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=6");
    for stream in [true, false] {
        mock.reset();
        let url = Some(format!("http://{}/v1/completions", mock.addr()));
        let run = perf(&spec(&mock).with(|s| {
            s.target.url = url;
            s.sampling.no_stream = !stream;
            s.load.number = vec![6];
        }));
        run.assert_all_ok();
        assert_times_agree(&run, &mock);
        assert!(run.measured.iter().all(|request| !request.text.is_empty() && request.record.output_tokens == Some(6)));
    }
}

#[test]
fn save_selects_the_stored_contents() {
    let mock = mock("ttft=1ms&itl=1ms&tokens=4");
    let run_with = |save: Save| {
        perf(&spec(&mock).with(|s| {
            s.output.save = save;
            s.load.number = vec![4];
        }))
        .measured
    };
    for request in run_with(Save::Text) {
        assert!(!request.text.is_empty() && request.raw.is_empty());
    }
    for request in run_with(Save::Full) {
        assert!(!request.text.is_empty() && request.raw.ends_with("data: [DONE]\n\n"));
    }
    for request in run_with(Save::Metrics) {
        assert!(request.text.is_empty() && request.raw.is_empty() && request.arrivals.len() == 4);
    }
}

#[test]
fn token_counts_come_from_the_server_or_are_unknown() {
    let counts = |query: &str| {
        let mock = mock(&format!("ttft=1ms&itl=1ms&tokens=4&{query}"));
        let record = perf(&spec(&mock).with(|s| {
            s.load.number = vec![1];
            s.load.parallel = vec![1];
        }))
        .measured
        .remove(0)
        .record;
        (record.output_tokens, record.token_source, record.finish)
    };
    assert_eq!(counts("usage=on_request"), (Some(4), TokenSource::Server, Finish::Stop));
    assert_eq!(counts("usage=with_last"), (Some(4), TokenSource::Server, Finish::Stop));
    assert_eq!(counts("usage=never"), (None, TokenSource::Unknown, Finish::Stop));
}

#[test]
fn interrupts_keep_the_records() {
    let mock = mock("ttft=10ms&itl=1ms&tokens=5");
    let load = spec(&mock).with(|s| {
        s.load.number = vec![100_000];
        s.client.workers = Some(2);
    });
    let run = interrupted(&load, &mock, 40);
    run.assert_totals();
    assert!(run.summary.counts.ok > 0 && run.summary.counts.unsent > 0);
    assert!(
        run.measured.iter().all(|request| request.record.outcome == Outcome::Ok),
        "a request in flight was not drained"
    );
    assert!(run.stored.end.unwrap().interrupted);
}
