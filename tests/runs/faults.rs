//! Trouble is data: every way in which a server can fail ends in one class, the run goes on, and the totals add up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::harness::{Ran, mock, perf, perf_until, spec};
use ringmark::mock::{End, Mock};
use ringmark::record::Outcome;
use ringmark::run::RunError;
use ringmark::spec::Spec;

/// A run of 24 requests, of which every third meets `fault`; no connection test, which would meet it too or move it.
fn every_third(query: &str, fault: &str, change: impl FnOnce(Spec) -> Spec) -> (Ran, Mock) {
    let mock = mock(&format!("ttft=2ms&itl=1ms&tokens=6&{query}&fault={fault}:1/3"));
    let plain = spec(&mock).with(|s| {
        s.load.number = vec![24];
        s.load.parallel = vec![3];
        s.target.no_test_connection = true;
    });
    let ran = perf(&change(plain));
    ran.totals_add_up();
    (ran, mock)
}

fn same(spec: Spec) -> Spec {
    spec
}

#[test]
fn every_fault_has_its_class() {
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
        let (ran, _) = every_third("", fault, same);
        assert_eq!(ran.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
        let failures = &ran.summary.failures;
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
fn answers_in_one_piece_fail_by_the_same_classes() {
    for (fault, class) in [
        ("status(503)", "status"),
        ("reset", "reset"),
        ("truncate", "truncated"),
        ("garbage", "protocol"),
        ("error", "in_stream_error"),
        ("empty", "empty"),
        ("malformed", "body"),
    ] {
        let (ran, _) = every_third("", fault, |spec| spec.with(|s| s.sampling.no_stream = true));
        assert_eq!(ran.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
    }
}

#[test]
fn every_status_keeps_its_number() {
    for code in [301, 401, 404, 422, 429, 500, 503] {
        let (ran, _) = every_third("", &format!("status({code})"), same);
        let failed = ran.measured.iter().filter(|kept| kept.record.outcome != Outcome::Ok);
        assert!(failed.clone().count() == 8 && failed.clone().all(|kept| kept.record.status == code), "{code}");
    }
}

#[test]
fn without_io_uring_faults_have_the_same_classes() {
    for (fault, class) in
        [("reset", "reset"), ("truncate", "truncated"), ("close", "closed_early"), ("error", "in_stream_error")]
    {
        let (ran, _) = every_third("close=announce", fault, |spec| spec.with(|s| s.client.force_fallback = true));
        assert_eq!(ran.outcomes(), sorted([(class, 8), ("ok", 16)]), "{fault}");
    }
}

#[test]
fn a_connection_that_closes_unanswered_is_retried_only_when_it_was_reused() {
    // Fresh connections each time: the close is the server's answer.
    let (ran, _) = every_third("close=announce", "close", same);
    assert_eq!(ran.outcomes(), [("closed_early", 8), ("ok", 16)]);
    assert!(ran.measured.iter().all(|kept| !kept.record.retried));

    // Reused ones: the server may have closed before it saw the request, so it is sent once more, and recorded as such.
    let mock = mock("ttft=2ms&itl=1ms&tokens=3&fault=close:1/5");
    let ran = perf(&spec(&mock).with(|s| {
        s.load.number = vec![40];
        s.load.parallel = vec![1];
        s.target.no_test_connection = true;
    }));
    ran.totals_add_up();
    let retried = ran.measured.iter().filter(|kept| kept.record.retried).count();
    assert!(retried >= 8, "{retried}");
    assert_eq!(ran.outcomes(), [("ok", 40)]);
}

#[test]
fn silence_ends_with_the_read_timeout() {
    let (ran, _) = every_third("", "hang", |spec| spec.with(|s| s.target.read_timeout_s = 0.3));
    assert_eq!(ran.outcomes(), [("ok", 16), ("read_timeout", 8)]);
    for kept in ran.measured.iter().filter(|kept| kept.record.outcome != Outcome::Ok) {
        let record = &kept.record;
        assert!(record.end.ns_since(record.last_token.unwrap()) >= 290_000_000, "{record:?}");
        assert!(kept.error.contains("--read-timeout"), "{}", kept.error);
        assert_eq!(kept.arrivals.len(), 3, "what came before the silence is kept");
    }
}

#[test]
fn a_slow_answer_ends_with_the_total_timeout() {
    let mock = mock("ttft=1ms&itl=50ms&tokens=100");
    let slow = spec(&mock).with(|s| {
        s.target.total_timeout_s = 0.3;
        s.load.number = vec![4];
        s.target.no_test_connection = true;
    });
    let ran = perf(&slow);
    ran.totals_add_up();
    assert_eq!(ran.outcomes(), [("total_timeout", 4)]);
}

#[test]
fn slow_heads_and_odd_ends_are_no_failures() {
    for query in
        ["fault=slow_head(20ms)", "close=announce", "framing=close", "framing=chunked", "head=with_first", "done=off"]
    {
        let mock = mock(&format!("ttft=2ms&itl=1ms&tokens=4&{query}"));
        perf(&spec(&mock).with(|s| s.load.number = vec![12])).all_ok();
    }
}

#[test]
fn a_server_that_closes_silently_costs_no_request() {
    for force_fallback in [false, true] {
        let mock = mock("ttft=2ms&itl=1ms&tokens=4&close=silent");
        let ran = perf(&spec(&mock).with(|s| {
            s.load.number = vec![200];
            s.load.parallel = vec![8];
            s.client.force_fallback = force_fallback;
        }));
        ran.all_ok();
        let complete = mock.truth().iter().filter(|truth| truth.end == End::Complete).count();
        assert!(complete >= 200, "{complete}");
    }
}

#[test]
fn a_refused_connection_is_one_clear_error_or_one_class() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = Some(format!("http://{address}/v1/chat/completions"));
    let refused = Spec::default().with(|s| {
        s.target.url = url;
        s.target.model = Some("m".to_string());
        s.load.number = vec![10];
        s.load.parallel = vec![2];
    });
    let error = perf_until(&refused, Default::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RunError::ConnectionTest(_)) && text.contains("refused"), "{text}");
    assert!(text.contains("--no-test-connection"), "{text}");

    let ran = perf(&refused.with(|s| s.target.no_test_connection = true));
    ran.totals_add_up();
    assert_eq!(ran.outcomes(), [("connect", 10)]);
    assert!(ran.summary.all_failed());
}

#[test]
fn the_connection_test_shows_the_servers_own_words() {
    let mock = mock("fault=status(404)");
    let text = perf_until(&spec(&mock), Default::default()).unwrap_err().to_string();
    assert!(text.contains("404") && text.contains("because of an injected fault"), "{text}");
    assert!(mock.truth().len() <= 1, "one request, not a whole run");
}

#[test]
fn the_connection_test_may_be_slow_but_not_wrong() {
    let mock = mock("ttft=200ms&itl=10ms&tokens=200");
    let ran = perf(&spec(&mock).with(|s| {
        s.load.number = vec![2];
        s.load.parallel = vec![2];
        s.sampling.max_tokens = vec![2];
    }));
    ran.all_ok();
}

#[test]
fn a_server_that_dies_midway_fails_what_is_left() {
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
    let ran = perf(&load);
    stopper.join().unwrap();
    ran.totals_add_up();
    let outcomes = ran.outcomes();
    let count = |name: &str| outcomes.iter().find(|(found, _)| *found == name).map_or(0, |(_, count)| *count);
    assert!(count("ok") >= 40, "{outcomes:?}");
    assert!(count("connect") >= 100, "{outcomes:?}");
    assert_eq!(ran.measured.len(), 400);
}

#[test]
fn an_open_loop_outlives_its_server() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let load = Spec::default().with(|s| {
        s.target.url = Some(format!("http://{address}/v1/chat/completions"));
        s.target.model = Some("m".to_string());
        s.load.number = vec![50];
        s.load.rate = vec![500.0];
        s.load.open_loop = true;
        s.target.no_test_connection = true;
    });
    let ran = perf(&load);
    ran.totals_add_up();
    assert_eq!(ran.outcomes(), [("connect", 50)]);
}

#[test]
fn tls_to_a_plain_port_is_said_in_one_line() {
    let mock = mock("ttft=1ms&itl=1ms&tokens=2");
    let url = Some(format!("https://{}/v1/chat/completions", mock.addr()));
    let secure = spec(&mock).with(|s| {
        s.target.url = url;
        s.target.insecure = true;
        s.load.number = vec![4];
    });
    let text = perf_until(&secure, Default::default()).unwrap_err().to_string();
    assert!(text.contains("does not speak TLS") && text.contains("http://"), "{text}");

    let ran = perf(&secure.with(|s| s.target.no_test_connection = true));
    ran.totals_add_up();
    assert_eq!(ran.outcomes(), [("tls", 4)]);
}

/// A server that answers each connection with these bytes, after it has read something.
fn canned(answer: &'static [u8], connections: usize) -> SocketAddr {
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
                let _ = stream.write_all(answer);
            });
        }
    });
    wait.recv().unwrap();
    address
}

#[test]
fn odd_answers_have_their_classes() {
    for (answer, class) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], "body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello", "protocol"),
        (b"HTTP/1.1 200", "truncated"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty"),
        (b"SSH-2.0-OpenSSH_9.0\r\n", "protocol"),
        (b"HTTP/1.1 307 Temporary\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "status"),
    ] {
        let address = canned(answer, 64);
        let load = Spec::default().with(|s| {
            s.target.url = Some(format!("http://{address}/v1/chat/completions"));
            s.target.model = Some("m".to_string());
            s.load.number = vec![4];
            s.load.parallel = vec![2];
            s.target.no_test_connection = true;
            s.target.read_timeout_s = 5.0;
        });
        let ran = perf(&load);
        ran.totals_add_up();
        assert_eq!(ran.outcomes(), [(class, 4)], "{}: {}", String::from_utf8_lossy(answer), ran.measured[0].error);
    }
}
