//! Servers with unusual behavior: unsolicited responses, failures in the connection test, interleaved choices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::harness::{mock, perf, perf_until, spec};
use ringmark::finding::Finding;
use ringmark::spec::Spec;

/// A server on a free port; `serve` handles each connection on a separate thread.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads one request. Returns false at the end of the connection or after the read timeout.
fn request(stream: &mut BufReader<TcpStream>) -> bool {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        match stream.read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return false,
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line == "\r\n" {
            return stream.read_exact(&mut vec![0; length]).is_ok();
        }
    }
}

fn answer(stream: &mut BufReader<TcpStream>, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
}

const GOOD: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

fn load(address: SocketAddr) -> Spec {
    let url = Some(format!("http://{address}/v1/chat/completions"));
    Spec::default().with(|s| {
        s.target.url = url;
        s.target.model = Some("m".to_string());
        s.load.number = vec![40];
        s.load.parallel = vec![1];
    })
}

#[test]
fn connection_test_classifies_failures_like_the_run() {
    for (fault, class, words) in
        [("error", "in_stream_error", "the engine died"), ("clean_truncate", "truncated", "finish reason")]
    {
        let mock = mock(&format!("ttft=2ms&itl=1ms&tokens=6&fault={fault}"));
        let text = perf_until(&spec(&mock), Default::default()).unwrap_err().to_string();
        assert!(text.contains(class) && text.contains(words), "{fault}: {text}");
    }
}

#[test]
fn connection_test_shortens_server_messages() {
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        while request(&mut stream) {
            let body = "x ".repeat(10_000);
            let head = format!("HTTP/1.1 400 Bad\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.get_mut().write_all(head.as_bytes());
        }
    });
    let text = perf_until(&load(address), Default::default()).unwrap_err().to_string();
    assert!(text.contains("status 400") && text.contains('…') && text.chars().count() < 600, "{text}");
}

#[test]
fn unsolicited_408_on_an_idle_connection_is_retried() {
    // The server sends a 408 for an idle connection while the second request is being sent.
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        if request(&mut stream) {
            answer(&mut stream, GOOD);
            if request(&mut stream) {
                let _ = stream.get_mut().write_all(TIMEOUT);
            }
        }
    });
    let run = perf(&load(address));
    run.assert_totals();
    let counts = run.summary.counts;
    let retried = run.measured.iter().filter(|request| request.record.retried).count() as u64;
    // On a busy machine a few arrive so late that they count as responses.
    assert!(retried > counts.failed && counts.ok > 20, "{retried} {counts:?}");
    let wrong = run.measured.iter().filter(|request| request.record.outcome != ringmark::record::Outcome::Ok);
    assert!(wrong.into_iter().all(|request| request.record.status == 408));
}

#[test]
fn status_408_on_a_new_connection_is_a_response() {
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        if request(&mut stream) {
            let _ = stream.get_mut().write_all(TIMEOUT);
        }
    });
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![5];
        s.target.no_test_connection = true;
    }));
    run.assert_totals();
    assert_eq!(run.outcomes(), [("status", 5)]);
    assert!(run.measured.iter().all(|request| !request.record.retried));
}

#[test]
fn closing_idle_connections_is_not_reported_as_closing_after_each_response() {
    let address = server(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut stream = BufReader::new(stream);
        while request(&mut stream) {
            answer(&mut stream, GOOD);
        }
        let _ = stream.get_mut().write_all(TIMEOUT);
    });
    let run = perf(&load(address).with(|s| {
        s.load.rate = vec![40.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
    }));
    run.assert_totals();
    let untrue = run.stored.findings.iter().find(|finding| matches!(finding, Finding::ServerClosesConnections));
    assert!(untrue.is_none(), "{untrue:?}");
}

#[test]
fn several_choices_of_one_request_are_separated() {
    let event = |index: u32, text: &str| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let pieces = [event(0, "a"), event(1, "A"), event(0, "b"), event(1, "B"), event(0, "c")];
    let body = pieces.concat() + end;
    let address = server(move |stream| {
        let mut stream = BufReader::new(stream);
        while request(&mut stream) {
            answer(&mut stream, &body);
        }
    });
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![3];
        s.sampling.n_choices = Some(2);
    }));
    run.assert_all_ok();
    assert!(run.measured.iter().all(|request| request.text == "abc\u{1e}AB" && request.arrivals.len() == 5));
    let sql = rusqlite::Connection::open(&run.database).unwrap();
    let messages: String = sql.query_row("SELECT response_messages FROM result LIMIT 1", [], |row| row.get(0)).unwrap();
    assert_eq!(messages, r#"[{"role":"assistant","content":"abc"},{"role":"assistant","content":"AB"}]"#);
}
