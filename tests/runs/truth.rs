//! The records against the truth: what the mock sent, and when, must be what was measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::harness::{Kept, Ran, mock, perf, perf_until, spec};
use ringmark::finding::Finding;
use ringmark::mock::{Mock, Truth};
use ringmark::plan::Save;
use ringmark::record::{Finish, Outcome, TokenSource};
use ringmark::spec::Spec;
use ringmark::time::{MS, S, US};

/// The two sides read one clock through different fits: so far apart may they be, nanoseconds.
const CLOCKS_NS: i64 = 20 * US as i64;

/// The mock's truth by request id. It learns of the last bytes after the client does, so some patience is needed.
fn truths(mock: &Mock, expected: usize) -> HashMap<String, Truth> {
    for _ in 0..200 {
        if mock.truth().len() >= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    mock.truth().into_iter().map(|truth| (truth.request_id.clone(), truth)).collect()
}

/// Each measured request with its truth.
fn joined<'a>(ran: &'a Ran, truths: &'a HashMap<String, Truth>) -> Vec<(&'a Kept, &'a Truth)> {
    let id = |kept: &Kept| format!("{}-m{}", ran.id_prefix, kept.record.index);
    ran.measured.iter().map(|kept| (kept, &truths[&id(kept)])).collect()
}

/// Counts and order are exact, no arrival is before its send instant, and the median lag is small. Where several events
/// share a read, only the last one's instant is exact; an answer that ends with its connection has no stamp of the kernel's.
fn instants_agree(ran: &Ran, mock: &Mock) {
    let truths = truths(mock, ran.measured.len());
    let mut lags = Vec::new();
    for (kept, truth) in joined(ran, &truths) {
        let record = &kept.record;
        assert_eq!(kept.arrivals.len(), truth.sends.len(), "{record:?}");
        assert!(kept.arrivals.is_sorted());
        assert_eq!(record.first_token, kept.arrivals.first().copied());
        assert_eq!(record.last_token, kept.arrivals.last().copied());
        assert_eq!(record.output_tokens.unwrap_or(truth.output_tokens), truth.output_tokens);
        assert_eq!(record.input_tokens.unwrap_or(truth.prompt_tokens), truth.prompt_tokens);
        for (place, (arrival, send)) in kept.arrivals.iter().zip(&truth.sends).enumerate() {
            let lag_ns = arrival.ns_since(*send);
            assert!(lag_ns > -CLOCKS_NS, "request {}: arrived {lag_ns} ns after it was sent", record.index);
            if record.streamed && kept.arrivals.get(place + 1) != Some(arrival) {
                lags.push(lag_ns);
            }
        }
        let sent = record.write_start.unwrap();
        assert!(truth.received_first.ns_since(sent) > -CLOCKS_NS, "received before it was written");
        assert!(record.end.ns_since(truth.last_byte.unwrap()) > -CLOCKS_NS);
        assert!(record.due <= sent && record.picked.unwrap() <= sent && record.first_byte.unwrap() <= record.end);
    }
    lags.sort_unstable();
    let median_ns = lags.get(lags.len() / 2).copied().unwrap_or(0);
    assert!(median_ns < MS as i64, "median arrival {median_ns} ns after its send instant");
}

#[test]
fn every_event_is_counted_once_and_stamped_after_it_was_sent() {
    let mock = mock("ttft=uniform(1ms,8ms)&itl=exp(2ms)&tokens=uniform(1,40)&text=mixed");
    let ran = perf(&spec(&mock));
    ran.all_ok();
    instants_agree(&ran, &mock);
    assert_eq!(ran.measured.len(), 40);
    let stamped: u32 = ran.measured.iter().map(|kept| kept.record.stamped_reads).sum();
    assert!(stamped > 0, "no read had the kernel's stamp");
}

/// The median of lengths in nanoseconds, by nearest rank, seconds.
fn median_s(mut lengths_ns: Vec<i64>) -> f64 {
    lengths_ns.sort_unstable();
    lengths_ns[lengths_ns.len().div_ceil(2) - 1] as f64 / 1e9
}

#[test]
fn the_bounds_of_our_own_error_hold_the_truth() {
    for query in ["ttft=uniform(1ms,8ms)&itl=exp(2ms)&tokens=uniform(3,40)", "ttft=2ms&itl=1ms&tokens=9&coalesce=3"] {
        let mock = mock(query);
        let ran = perf(&spec(&mock).with(|s| {
            s.load.parallel = vec![8];
            s.load.number = vec![80];
        }));
        ran.all_ok();
        let truths = truths(&mock, ran.measured.len());
        let (mut gaps, mut per_token, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for (kept, truth) in joined(&ran, &truths) {
            let sends = &truth.sends;
            gaps.extend(sends.windows(2).map(|pair| pair[1].ns_since(pair[0])));
            per_token.push(sends[sends.len() - 1].ns_since(sends[0]) / (sends.len() as i64 - 1));
            first.push(sends[0].ns_since(kept.record.due));
        }
        let own = &ran.summary.measurement_error;
        // The row of the median.
        let figures = [("ITL", gaps, own.itl_s[2]), ("TPOT", per_token, own.tpot_s[2]), ("TTFT", first, own.ttft_s[2])];
        for (name, truth, bound) in figures {
            let (truth, slack) = (median_s(truth), CLOCKS_NS as f64 / 1e9);
            let holds = bound.low - slack <= truth && truth <= bound.high + slack;
            assert!(holds, "{query}: {name} {truth} is not in {bound:?}");
        }
    }
}

#[test]
fn the_first_token_is_never_the_role_chunk() {
    for style in ["role=none", "role=separate", "role=with_first", "role=separate&finish=own&usage=with_last"] {
        let mock = mock(&format!("ttft=20ms&itl=1ms&tokens=5&{style}"));
        let ran = perf(&spec(&mock).with(|s| s.load.number = vec![8]));
        ran.all_ok();
        instants_agree(&ran, &mock);
        for kept in &ran.measured {
            let ttft_ns = kept.record.first_token.unwrap().ns_since(kept.record.write_start.unwrap());
            assert!(ttft_ns >= 19 * MS as i64, "{style}: first token after {ttft_ns} ns");
        }
    }
}

#[test]
fn reasoning_and_tool_calls_are_output() {
    for style in ["reasoning=3&tokens=6", "tool_calls&tokens=6", "done=off&tokens=6", "usage=never&tokens=6"] {
        let mock = mock(&format!("ttft=2ms&itl=1ms&{style}"));
        let ran = perf(&spec(&mock).with(|s| s.load.number = vec![6]));
        ran.all_ok();
        instants_agree(&ran, &mock);
        assert!(ran.measured.iter().all(|kept| kept.arrivals.len() == 6), "{style}");
    }
}

#[test]
fn coalesced_events_are_counted_as_such() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=8&coalesce=4");
    let ran = perf(&spec(&mock).with(|s| s.load.number = vec![6]));
    ran.all_ok();
    instants_agree(&ran, &mock);
    for kept in &ran.measured {
        assert!(kept.record.coalesced >= 6 && kept.record.coalesced_reads >= 1, "{:?}", kept.record);
    }
}

#[test]
fn exactly_parallel_requests_are_in_flight() {
    for (parallel, workers) in [(1, 1), (7, 1), (7, 2), (2, 3), (50, 3)] {
        let mock = mock("ttft=20ms&itl=1ms&tokens=3");
        let number = vec![u64::from(parallel) * 4];
        let asked = spec(&mock).with(|s| {
            s.load.parallel = vec![parallel];
            s.load.number = number;
            s.client.workers = Some(workers);
        });
        // The connection test's request is over for us before the mock has ended it.
        let ran = perf(&asked.with(|s| s.target.no_test_connection = true));
        ran.all_ok();
        assert_eq!(mock.stats().peak_in_flight, u64::from(parallel), "{workers} workers");
        assert_eq!(ran.summary.concurrency.peak, parallel, "{workers} workers");
        assert_eq!(ran.plan.cores.len(), workers.min(parallel as usize));
    }
}

/// What the server was asked, and the places in the schedule, for one worker count.
fn asked_and_due(mock: &Mock, workers: usize, load: &Spec) -> (Vec<(u32, u32)>, Vec<i64>) {
    mock.reset();
    let ran = perf(&load.clone().with(|s| s.client.workers = Some(workers)));
    ran.all_ok();
    let truths = truths(mock, ran.measured.len());
    let asked = joined(&ran, &truths).iter().map(|(_, truth)| (truth.prompt_tokens, truth.output_tokens)).collect();
    let first = ran.measured[0].record.due;
    (asked, ran.measured.iter().map(|kept| kept.record.due.ns_since(first)).collect())
}

#[test]
fn every_worker_count_sends_the_same_requests_on_the_same_schedule() {
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
        let first = asked_and_due(&mock, 1, load);
        for workers in [2, 3] {
            let other = asked_and_due(&mock, workers, load);
            assert_eq!(first.0, other.0, "{workers} workers asked for something else");
            if scheduled {
                assert_eq!(first.1, other.1, "{workers} workers kept another schedule");
            }
        }
        let reseeded = asked_and_due(&mock, 1, &load.clone().with(|s| s.sampling.seed = Some(12)));
        assert_ne!(first.0, reseeded.0, "another seed draws the same");
    }
}

#[test]
fn an_open_loop_sends_everything_on_its_schedule() {
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
        let ran = perf(&load);
        ran.all_ok();
        let schedule = ran.plan.load.schedule().unwrap();
        let offsets = ringmark::workload::arrivals::offsets(schedule, ran.plan.seed, 0);
        let start = ran.measured[0].record.due;
        let expected: Vec<u64> = offsets.take(100).collect();
        for (kept, offset) in ran.measured.iter().zip(&expected) {
            assert_eq!(kept.record.due.ns_since(start) as u64, offset - expected[0], "{arrival}");
            assert!(kept.record.write_start.unwrap() >= kept.record.due, "sent before it was due");
        }
    }
}

#[test]
fn a_burst_is_due_at_one_instant() {
    let mock = mock("ttft=5ms&itl=1ms&tokens=2");
    let burst = Some("burst".to_string());
    let ran = perf(&spec(&mock).with(|s| {
        s.load.open_loop = true;
        s.load.parallel = vec![];
        s.load.arrival = burst;
        s.load.number = vec![50];
    }));
    ran.all_ok();
    assert!(ran.measured.iter().all(|kept| kept.record.due == ran.measured[0].record.due));
}

#[test]
fn receiving_without_io_uring_gives_the_same() {
    let mock = mock("ttft=3ms&itl=1ms&tokens=uniform(1,20)");
    let ran = perf(&spec(&mock).with(|s| {
        s.client.force_fallback = true;
        s.client.workers = Some(2);
    }));
    ran.all_ok();
    instants_agree(&ran, &mock);
    let stamped: u32 = ran.measured.iter().map(|kept| kept.record.stamped_reads).sum();
    let reads: u32 = ran.measured.iter().map(|kept| kept.record.reads).sum();
    assert_eq!(stamped, reads, "loopback stamps every read");
    assert!(
        ran.stored.findings.iter().any(|finding| matches!(finding, Finding::EpollRequested)),
        "{:?}",
        ran.stored.findings
    );
}

#[test]
fn busy_polling_gives_the_same() {
    let mock = mock("ttft=3ms&itl=1ms&tokens=10");
    let ran = perf(&spec(&mock).with(|s| {
        s.client.spin = true;
        s.load.number = vec![16];
    }));
    ran.all_ok();
    instants_agree(&ran, &mock);
}

#[test]
fn what_is_in_flight_after_the_drain_is_unfinished() {
    let mock = mock("ttft=5s&itl=1ms&tokens=2");
    let load = spec(&mock).with(|s| {
        s.load.number = vec![];
        s.load.duration_s = Some(0.2);
        s.load.drain_s = Some(0.2);
        s.target.no_test_connection = true;
    });
    let ran = perf(&load);
    ran.totals_add_up();
    assert_eq!(ran.outcomes(), [("unfinished", 4)]);
    assert!(ran.summary.time_s.unwrap() < 5.0);
}

#[test]
fn a_duration_offers_until_its_end_and_drains() {
    let mock = mock("ttft=20ms&itl=5ms&tokens=4");
    let ran = perf(&spec(&mock).with(|s| {
        s.load.number = vec![];
        s.load.duration_s = Some(0.5);
    }));
    ran.all_ok();
    let first = ran.measured.iter().map(|kept| kept.record.due).min().unwrap();
    assert!(ran.measured.len() >= 8, "{}", ran.measured.len());
    assert!(ran.measured.iter().all(|kept| kept.record.due.ns_since(first) <= S as i64 / 2 + 100 * MS as i64));
}

#[test]
fn warm_up_is_kept_apart() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=3");
    let ran = perf(&spec(&mock).with(|s| s.load.warmup_num = 0.25));
    ran.all_ok();
    assert_eq!((ran.warmup.len(), ran.measured.len()), (10, 40));
    assert_eq!(ran.summary.counts.scheduled, 40);
    assert_eq!(ran.summary.series.ttft_s.count, 40);
    let last = ran.warmup.iter().map(|kept| kept.record.end).max().unwrap();
    assert!(ran.measured.iter().all(|kept| kept.record.due >= last), "the run began during the warm-up");
}

#[test]
fn all_choices_are_counted() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=5");
    let ran = perf(&spec(&mock).with(|s| {
        s.sampling.n_choices = Some(3);
        s.load.number = vec![6];
    }));
    ran.all_ok();
    instants_agree(&ran, &mock);
    assert!(ran.measured.iter().all(|kept| kept.arrivals.len() == 15 && kept.record.output_tokens == Some(15)));
}

#[test]
fn answers_in_one_piece_have_latency_and_no_gaps() {
    for framing in ["length", "chunked", "close"] {
        let mock = mock(&format!("ttft=5ms&itl=1ms&tokens=5&framing={framing}"));
        let ran = perf(&spec(&mock).with(|s| {
            s.sampling.no_stream = true;
            s.load.number = vec![8];
        }));
        ran.all_ok();
        instants_agree(&ran, &mock);
        for kept in &ran.measured {
            assert!(!kept.record.streamed && kept.record.output_tokens == Some(5), "{framing}: {:?}", kept.record);
        }
        assert_eq!(ran.summary.series.ttft_s, ran.summary.series.latency_s);
        assert_eq!(ran.summary.series.itl_s.count, 0);
    }
}

#[test]
fn completions_are_read_as_well() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=6");
    for stream in [true, false] {
        mock.reset();
        let url = Some(format!("http://{}/v1/completions", mock.addr()));
        let ran = perf(&spec(&mock).with(|s| {
            s.target.url = url;
            s.sampling.no_stream = !stream;
            s.load.number = vec![6];
        }));
        ran.all_ok();
        instants_agree(&ran, &mock);
        assert!(ran.measured.iter().all(|kept| !kept.text.is_empty() && kept.record.output_tokens == Some(6)));
    }
}

#[test]
fn save_decides_what_is_kept() {
    let mock = mock("ttft=1ms&itl=1ms&tokens=4");
    let kept = |save: Save| {
        perf(&spec(&mock).with(|s| {
            s.output.save = save;
            s.load.number = vec![4];
        }))
        .measured
    };
    for request in kept(Save::Text) {
        assert!(!request.text.is_empty() && request.raw.is_empty());
    }
    for request in kept(Save::Full) {
        assert!(!request.text.is_empty() && request.raw.ends_with("data: [DONE]\n\n"));
    }
    for request in kept(Save::Metrics) {
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
fn an_interrupt_keeps_what_was_measured() {
    let mock = mock("ttft=10ms&itl=1ms&tokens=5");
    let stop = Arc::new(AtomicU8::new(0));
    let raised = stop.clone();
    let interrupter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        raised.store(ringmark::engine::worker_state::STOP_OFFERING, Ordering::SeqCst);
    });
    let ran = perf_until(
        &spec(&mock).with(|s| {
            s.load.number = vec![100_000];
            s.client.workers = Some(2);
        }),
        stop,
    )
    .unwrap();
    interrupter.join().unwrap();
    ran.totals_add_up();
    assert!(ran.summary.counts.ok > 0 && ran.summary.counts.unsent > 0);
    assert!(ran.measured.iter().all(|kept| kept.record.outcome == Outcome::Ok), "what was in flight was drained");
    assert!(ran.stored.end.unwrap().interrupted);
}

#[test]
fn tpot_spans_the_counted_tokens() {
    for (eos, tokens) in [("counted", 5), ("uncounted", 4)] {
        let mock = mock(&format!("ttft=5ms&itl=20ms&tokens=4&eos={eos}&spin=on"));
        let ran = perf(&spec(&mock).with(|s| {
            s.load.number = vec![8];
            s.load.parallel = vec![1];
        }));
        ran.all_ok();
        assert!(ran.measured.iter().all(|kept| kept.arrivals.len() == 4 && kept.record.output_tokens == Some(tokens)));
        let tpot_s = ran.summary.series.tpot_s.value(500).unwrap();
        assert!((tpot_s - 0.020).abs() < 0.0005, "{eos}: {tpot_s}");
    }
}
