//! Failures: each has its failure class, does not end the run, and is included in the totals.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::harness::{FinishedRun, mock, perf, perf_until, spec, truths};
use ringmark::mock::{End, Mock};
use ringmark::record::Outcome;
use ringmark::run::RunError;
use ringmark::spec::Spec;

/// Runs 24 requests, every third of which encounters `fault`. Without the connection test, which would count as a
/// request.
fn every_third(query: &str, fault: &str, change: impl FnOnce(Spec) -> Spec) -> (FinishedRun, Mock) {
    let mock = mock(&format!("ttft=2ms&itl=1ms&tokens=6&{query}&fault={fault}:1/3"));
    let plain = spec(&mock).with(|s| {
        s.load.number = vec![24];
        s.load.parallel = vec![3];
        s.target.no_test_connection = true;
    });
    let run = perf(&change(plain));
    run.assert_totals();
    (run, mock)
}

fn unchanged(spec: Spec) -> Spec {
    spec
}

#[test]
fn faults_have_their_failure_class() {
    for (fault, class, words) in [
        ("status(404)", "status", "because of an injected fault"),
        ("status(429,1)", "status", "because of an injected fault"),
        ("status(500)", "status", "because of an injected fault"),
        ("reset", "reset", "reset"),
        ("truncate", "truncated", "within the response"),
        ("clean_truncate", "truncated", ""),
        ("garbage", "protocol", ""),
        ("error", "in_stream_error", "the engine died"),
        ("empty", "empty", ""),
        ("malformed", "body", ""),
        ("huge(17000000)", "protocol", ""),
    ] {
        let (run, _) = every_third("", fault, unchanged);
        assert_eq!(run.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
        let failures = &run.summary.failures;
        assert_eq!((failures.len(), failures[0].count, failures[0].failure.name()), (1, 8, class), "{fault}");
        let text = &failures[0].texts[0].example;
        assert!(!text.is_empty() && text.contains(words), "{fault}: {text}");
    }
}

fn sorted(mut counts: [(&'static str, usize); 2]) -> Vec<(&'static str, usize)> {
    counts.sort_unstable();
    counts.to_vec()
}

#[test]
fn all_faults_have_their_class_with_any_number_of_workers() {
    for workers in [1, 2, 4] {
        for (query, fault, class) in [
            ("", "status(404)", "status"),
            ("", "status(429,1)", "status"),
            ("", "status(500)", "status"),
            ("", "reset", "reset"),
            ("", "truncate", "truncated"),
            ("", "clean_truncate", "truncated"),
            ("", "garbage", "protocol"),
            ("", "error", "in_stream_error"),
            ("", "empty", "empty"),
            ("", "malformed", "body"),
            ("", "huge(17000000)", "protocol"),
            ("", "hang", "read_timeout"),
            ("", "slow_head(20ms)", "ok"),
            ("close=announce", "close", "closed_early"),
        ] {
            let (run, _) = every_third(query, fault, |spec| {
                spec.with(|s| {
                    s.client.workers = Some(workers);
                    s.load.parallel = vec![8];
                    s.target.read_timeout_s = if fault == "hang" { 1.0 } else { 60.0 };
                })
            });
            assert_eq!(run.stored.facts.workers as usize, workers);
            let expected = if class == "ok" { vec![("ok", 24)] } else { sorted([(class, 8), ("ok", 16)]) };
            assert_eq!(run.outcomes(), expected, "{fault} with {workers} workers");
        }
    }
}

#[test]
fn faults_without_streaming_have_the_same_classes() {
    for (fault, class) in [
        ("status(503)", "status"),
        ("reset", "reset"),
        ("truncate", "truncated"),
        ("garbage", "protocol"),
        ("error", "in_stream_error"),
        ("empty", "empty"),
        ("malformed", "body"),
    ] {
        let (run, _) = every_third("", fault, |spec| spec.with(|s| s.sampling.no_stream = true));
        assert_eq!(run.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
    }
}

#[test]
fn failed_requests_record_their_status() {
    for code in [301, 401, 404, 422, 429, 500, 503] {
        let (run, _) = every_third("", &format!("status({code})"), unchanged);
        let failed = run.measured.iter().filter(|request| request.record.outcome != Outcome::Ok);
        assert!(failed.clone().count() == 8 && failed.clone().all(|request| request.record.status == code), "{code}");
    }
}

#[test]
fn without_io_uring_faults_have_the_same_classes() {
    for (fault, class) in
        [("reset", "reset"), ("truncate", "truncated"), ("close", "closed_early"), ("error", "in_stream_error")]
    {
        let (run, _) = every_third("close=announce", fault, |spec| spec.with(|s| s.client.force_fallback = true));
        assert_eq!(run.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
    }
}

#[test]
fn closed_connections_are_retried_only_if_reused() {
    // Every request has a new connection: the close is the server's response.
    let (run, _) = every_third("close=announce", "close", unchanged);
    assert_eq!(run.outcomes(), [("closed_early", 8), ("ok", 16)]);
    assert!(run.measured.iter().all(|request| !request.record.retried));

    // Reused connections: the server may have closed one before it received the request, so the request is sent again.
    let mock = mock("ttft=2ms&itl=1ms&tokens=3&fault=close:1/5");
    let run = perf(&spec(&mock).with(|s| {
        s.load.number = vec![40];
        s.load.parallel = vec![1];
        s.target.no_test_connection = true;
    }));
    run.assert_totals();
    let retried = run.measured.iter().filter(|request| request.record.retried).count();
    assert!(retried >= 8, "{retried}");
    assert_eq!(run.outcomes(), [("ok", 40)]);
}

#[test]
fn hanging_responses_end_with_the_read_timeout() {
    let (run, _) = every_third("", "hang", |spec| spec.with(|s| s.target.read_timeout_s = 1.0));
    assert_eq!(run.outcomes(), [("ok", 16), ("read_timeout", 8)]);
    for request in run.measured.iter().filter(|request| request.record.outcome != Outcome::Ok) {
        let record = &request.record;
        assert!(record.end.ns_since(record.last_token.unwrap()) >= 990_000_000, "{record:?}");
        assert!(request.error.contains("--read-timeout"), "{}", request.error);
        assert_eq!(request.arrivals.len(), 3, "events before the timeout are missing");
    }
}

#[test]
fn slow_responses_end_with_the_total_timeout() {
    let mock = mock("ttft=1ms&itl=50ms&tokens=100");
    let slow = spec(&mock).with(|s| {
        s.target.total_timeout_s = 0.3;
        s.load.number = vec![4];
        s.target.no_test_connection = true;
    });
    let run = perf(&slow);
    run.assert_totals();
    assert_eq!(run.outcomes(), [("total_timeout", 4)]);
}

#[test]
fn unusual_but_valid_responses_succeed() {
    for query in
        ["fault=slow_head(20ms)", "close=announce", "framing=close", "framing=chunked", "head=with_first", "done=off"]
    {
        let mock = mock(&format!("ttft=2ms&itl=1ms&tokens=4&{query}"));
        perf(&spec(&mock).with(|s| s.load.number = vec![12])).assert_all_ok();
    }
}

#[test]
fn silent_closes_fail_no_request() {
    for force_fallback in [false, true] {
        let mock = mock("ttft=2ms&itl=1ms&tokens=4&close=silent");
        let run = perf(&spec(&mock).with(|s| {
            s.load.number = vec![200];
            s.load.parallel = vec![8];
            s.client.force_fallback = force_fallback;
        }));
        run.assert_all_ok();
        let complete = truths(&mock).iter().filter(|truth| truth.end == End::Complete).count();
        assert!(complete >= 200, "{complete}");
    }
}

#[test]
fn refused_connections_fail_the_connection_test_or_the_requests() {
    // A port on which nothing listens any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = Some(format!("http://{address}/v1/chat/completions"));
    let refused = Spec::default().with(|s| {
        s.target.url = url;
        s.target.model = Some("m".to_string());
        s.target.ready_timeout_s = 0.0;
        s.load.number = vec![10];
        s.load.parallel = vec![2];
    });
    let error = perf_until(&refused, Default::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RunError::ConnectionTest(_)) && text.contains("refused"), "{text}");
    assert!(text.contains("--no-test-connection"), "{text}");

    let run = perf(&refused.with(|s| s.target.no_test_connection = true));
    run.assert_totals();
    assert_eq!(run.outcomes(), [("connect", 10)]);
    assert!(run.summary.all_failed());
}

#[test]
fn connection_test_shows_the_server_message() {
    let mock = mock("fault=status(404)");
    let text = perf_until(&spec(&mock), Default::default()).unwrap_err().to_string();
    assert!(text.contains("404") && text.contains("because of an injected fault"), "{text}");
    assert!(mock.truth().len() <= 1, "more requests than the connection test");
}

#[test]
fn connection_test_accepts_slow_responses() {
    let mock = mock("ttft=200ms&itl=10ms&tokens=200");
    let run = perf(&spec(&mock).with(|s| {
        s.load.number = vec![2];
        s.load.parallel = vec![2];
        s.sampling.max_tokens = vec![2];
    }));
    run.assert_all_ok();
}

#[test]
fn requests_fail_after_the_server_dies() {
    let mut mock = mock("ttft=20ms&itl=5ms&tokens=10");
    let load = spec(&mock).with(|s| {
        s.load.number = vec![400];
        s.load.parallel = vec![8];
    });
    let stopper = thread::spawn(move || {
        while mock.stats().requests < 60 {
            thread::sleep(Duration::from_millis(1));
        }
        mock.stop().unwrap();
    });
    let run = perf(&load);
    stopper.join().unwrap();
    run.assert_totals();
    let outcomes = run.outcomes();
    let count = |name: &str| outcomes.iter().find(|(found, _)| *found == name).map_or(0, |(_, count)| *count);
    assert!(count("ok") >= 40, "{outcomes:?}");
    assert!(count("connect") >= 100, "{outcomes:?}");
    assert_eq!(run.measured.len(), 400);
}

#[test]
fn open_loop_continues_without_a_server() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let load = Spec::default().with(|s| {
        s.target.url = Some(format!("http://{address}/v1/chat/completions"));
        s.target.model = Some("m".to_string());
        s.load.number = vec![50];
        s.load.rate = vec![500.0];
        s.load.open_loop = true;
        s.target.no_test_connection = true;
    });
    let run = perf(&load);
    run.assert_totals();
    assert_eq!(run.outcomes(), [("connect", 50)]);
}

#[test]
fn tls_to_a_plain_port_is_explained() {
    let mock = mock("ttft=1ms&itl=1ms&tokens=2");
    let url = Some(format!("https://{}/v1/chat/completions", mock.addr()));
    let secure = spec(&mock).with(|s| {
        s.target.url = url;
        s.target.insecure = true;
        s.load.number = vec![4];
    });
    let text = perf_until(&secure, Default::default()).unwrap_err().to_string();
    assert!(text.contains("does not speak TLS") && text.contains("http://"), "{text}");

    let run = perf(&secure.with(|s| s.target.no_test_connection = true));
    run.assert_totals();
    assert_eq!(run.outcomes(), [("tls", 4)]);
}

/// Starts a server that responds to each connection with these bytes after its first read.
fn fixed_response_server(response: &'static [u8], connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        ready.send(()).unwrap();
        for stream in listener.incoming().take(connections) {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 65536];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(response);
            });
        }
    });
    wait.recv().unwrap();
    address
}

#[test]
fn invalid_responses_have_their_failure_class() {
    for (response, class) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], "body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello", "protocol"),
        (b"HTTP/1.1 200", "truncated"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty"),
        (b"SSH-2.0-OpenSSH_9.0\r\n", "protocol"),
        (b"HTTP/1.1 307 Temporary\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "status"),
    ] {
        let address = fixed_response_server(response, 64);
        let load = Spec::default().with(|s| {
            s.target.url = Some(format!("http://{address}/v1/chat/completions"));
            s.target.model = Some("m".to_string());
            s.load.number = vec![4];
            s.load.parallel = vec![2];
            s.target.no_test_connection = true;
            s.target.read_timeout_s = 5.0;
        });
        let run = perf(&load);
        run.assert_totals();
        assert_eq!(run.outcomes(), [(class, 4)], "{}: {}", String::from_utf8_lossy(response), run.measured[0].error);
    }
}

#[test]
fn a_hopeless_run_ends_in_order() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=4&fault=status(429):1/2");
    let hopeless = spec(&mock).with(|s| {
        s.load.number = vec![20_000];
        s.load.parallel = vec![4];
        s.load.abort_on = Some("failed > 20 %".to_string());
        s.target.no_test_connection = true;
    });
    let run = perf(&hopeless);
    run.assert_totals();
    let counts = run.summary.counts;
    assert!(run.summary.is_aborted() && counts.unsent > 10_000 && counts.unfinished == 0, "{counts:?}");
    assert!(counts.ok + counts.failed >= 20, "{counts:?}");
    let aborted = run.summary.findings.iter().find(|finding| finding.code() == "aborted").unwrap();
    assert!(aborted.en().starts_with("--abort-on 'failed>20%' ended the run: "), "{}", aborted.en());
    assert!(!run.stored.end.as_ref().unwrap().interrupted);
    // Half of the requests fail, which 60 % allows.
    let run = perf(&hopeless.with(|s| {
        s.load.number = vec![100];
        s.load.abort_on = Some("failed>=60%".to_string());
    }));
    assert!(!run.summary.is_aborted());
    assert_eq!((run.summary.counts.failed, run.summary.counts.unsent), (50, 0));
}

#[test]
fn a_hopeless_warm_up_ends_in_order() {
    let mock = mock("ttft=2ms&itl=1ms&tokens=4&fault=status(429)");
    let run = perf(&spec(&mock).with(|s| {
        s.load.warmup_num = 10_000.0;
        s.load.abort_on = Some("failed>20%".to_string());
        s.target.no_test_connection = true;
    }));
    run.assert_totals();
    assert!(run.summary.is_aborted() && run.warmup.len() < 10_000, "{}", run.warmup.len());
    assert_eq!((run.measured.len(), run.summary.counts.unsent), (0, 40));
    let aborted: Vec<String> =
        run.summary.findings.iter().filter(|finding| finding.code() == "aborted").map(|finding| finding.en()).collect();
    assert_eq!(aborted.len(), 1, "{aborted:?}");
    assert!(aborted[0].starts_with("--abort-on 'failed>20%' ended the run in its warm-up: "), "{aborted:?}");
}

#[test]
fn one_hanging_request_leaves_the_steady_throughput() {
    // Every 50th request hangs until the read timeout.
    let mock = mock("ttft=20ms&itl=1ms&tokens=20&fault=hang:1/50");
    let run = perf(&spec(&mock).with(|s| {
        s.load.number = vec![90];
        s.load.parallel = vec![2];
        s.target.no_test_connection = true;
        s.target.read_timeout_s = 5.0;
    }));
    run.assert_totals();
    assert_eq!(run.summary.counts.failed, 1);
    let Some(steady) = run.summary.steady_throughput else { panic!("the run is long enough") };
    let total = run.summary.throughput.requests_per_s.unwrap();
    assert!(steady.throughput.requests_per_s.unwrap() > 1.3 * total && steady.waiting == 1, "{total} {steady:?}");
    assert!(run.summary.findings.iter().any(|finding| finding.code() == "tail"), "{:?}", run.summary.findings);
}
