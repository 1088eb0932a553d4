//! Servers with unusual behavior: unsolicited responses, failures in the connection test, interleaved choices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::harness::{mock, perf, perf_until, spec};
use ringmark::finding::{Finding, Oddity, OddityCount};
use ringmark::record::Outcome;
use ringmark::spec::Spec;

/// A server on a free port; `serve` handles each connection on a separate thread.
pub(super) fn server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
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
    request_parts(stream).is_some()
}

/// The request line and the body of one request.
pub(super) fn request_parts(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        match stream.read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).ok()?;
            return Some((first, String::from_utf8(body).unwrap()));
        }
    }
}

pub(super) fn answer(stream: &mut BufReader<TcpStream>, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
}

pub(super) const GOOD: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(super) fn load(address: SocketAddr) -> Spec {
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
    let wrong = run.measured.iter().filter(|request| request.record.outcome != Outcome::Ok);
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
    let pieces = [event(0, "a"), event(1, "A\\u001e"), event(0, "b"), event(1, "B"), event(0, "c")];
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
    assert!(run.measured.iter().all(|request| request.text == "abc" && request.arrivals.len() == 5));
    let sql = rusqlite::Connection::open(&run.database).unwrap();
    let messages: String = sql.query_row("SELECT response_messages FROM result LIMIT 1", [], |row| row.get(0)).unwrap();
    assert_eq!(messages, r#"[{"role":"assistant","content":"abc"},{"role":"assistant","content":"A\u001eB"}]"#);
}

/// A chat event with this delta and, if not empty, this finish reason.
fn event(delta: &str, finish: &str) -> String {
    let finish = if finish.is_empty() { "null".to_string() } else { format!("\"{finish}\"") };
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":{finish}}}]}}\n\n")
}

const HELLO: &str = "\"content\":\"hello \"";
const DONE: &str = "data: [DONE]\n\n";

/// Sends every answer as these pieces, each after a pause in milliseconds, as a chunked stream of this media type. `ends`:
/// with the last chunk; else the connection stays open.
pub(super) fn streaming(media: &'static str, pieces: Vec<(u64, String)>, ends: bool) -> SocketAddr {
    server(move |stream| {
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        while request(&mut stream) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let _ = stream.get_mut().write_all(head.as_bytes());
            for (pause_ms, piece) in &pieces {
                thread::sleep(Duration::from_millis(*pause_ms));
                let _ = stream.get_mut().write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
            }
            if !ends {
                // Until the client gives up.
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            let _ = stream.get_mut().write_all(b"0\r\n\r\n");
        }
    })
}

fn a_few(address: SocketAddr) -> Spec {
    load(address).with(|s| {
        s.load.number = vec![4];
        s.load.parallel = vec![2];
        s.target.no_test_connection = true;
    })
}

fn oddities(run: &super::harness::FinishedRun) -> Vec<OddityCount> {
    let found = run.summary.findings.iter().find_map(|finding| match finding {
        Finding::OddResponses { oddities, .. } => Some(oddities.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

#[test]
fn running_usage_does_not_end_a_stream() {
    let with_usage = |event: String, tokens: u32| {
        event.replace("]}\n\n", &format!("],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{tokens}}}}}\n\n"))
    };
    let mut pieces = vec![(0, with_usage(event("\"role\":\"assistant\",\"content\":\"\"", ""), 0))];
    pieces.extend((1..6).map(|token| (1, with_usage(event(HELLO, ""), token))));
    let run = perf(&a_few(streaming("text/event-stream", pieces, true)));
    run.assert_totals();
    assert_eq!(run.outcomes(), [("truncated", 4)]);
}

#[test]
fn the_answer_ends_at_done_though_the_connection_stays_open() {
    let pieces = vec![(0, event(HELLO, "")), (20, event(HELLO, "stop") + DONE)];
    let run = perf(&a_few(streaming("text/event-stream", pieces, false)));
    run.assert_all_ok();
    for request in &run.measured {
        let open_ns = request.record.open_after_end_ns.unwrap();
        assert!(open_ns > 150_000_000, "{open_ns}");
        assert_eq!(Some(request.record.end), request.record.last_token);
    }
    assert_eq!(oddities(&run), [OddityCount { oddity: Oddity::OpenAfterEnd, responses: 4 }]);
}

#[test]
fn odd_streams_are_read_and_reported_once() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n".to_string();
    let pieces = vec![
        (0, event(HELLO, "")),
        (2, "data: ping\n\n".to_string()),
        (2, event("\"content\":\"\\ud83e\",\"p\":NaN", "")),
        (2, event(HELLO, "").replace("\n\n", "\n")),
        (2, event(HELLO, "stop")),
        (0, usage + DONE),
    ];
    let run = perf(&a_few(streaming("text/plain", pieces, true)));
    run.assert_all_ok();
    let names: Vec<&str> = oddities(&run).into_iter().map(|count| count.oddity.name()).collect();
    let expected = ["invalid_text", "invalid_numbers", "missing_blank_lines", "heartbeats", "media_type", "zero_usage"];
    assert_eq!(names, expected);
    assert!(oddities(&run).iter().all(|count| count.responses == 4));
    assert!(
        run.measured.iter().all(|request| request.text == "hello \u{fffd}hello hello " && request.arrivals.len() == 4)
    );
    assert!(run.measured.iter().all(|request| request.record.output_tokens.is_none()));
}

#[test]
fn answers_that_the_server_gave_up_fail() {
    let pieces = vec![(0, event(HELLO, "")), (1, event("", "abort") + DONE)];
    let run = perf(&a_few(streaming("text/event-stream", pieces, true)));
    run.assert_totals();
    assert_eq!(run.outcomes(), [("in_stream_error", 4)]);
    assert!(run.measured.iter().all(|request| request.error.contains("'abort'") && request.arrivals.len() == 1));
}

#[test]
fn reasoning_in_parts_is_output_but_not_answer() {
    let details = "\"content\":\"\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"think \"}]";
    let pieces = vec![(10, event(details, "")), (30, event(HELLO, "")), (10, event("", "stop") + DONE)];
    let run = perf(&a_few(streaming("text/event-stream", pieces, true)));
    run.assert_all_ok();
    for request in &run.measured {
        let (first, answer) = (request.record.first_token.unwrap(), request.record.first_answer_token.unwrap());
        assert!(answer.ns_since(first) > 25_000_000, "{first:?} {answer:?}");
        assert!(request.arrivals.len() == 2 && request.text == "hello ");
    }
    let series = &run.summary.series;
    assert!(series.first_answer_s.mean.unwrap() > series.ttft_s.mean.unwrap() + 0.025);
}

#[test]
fn choices_are_measured_apart() {
    let of = |choice: u32| event(HELLO, "").replace("\"index\":0", &format!("\"index\":{choice}"));
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":8}}\n\n".to_string();
    let mut pieces: Vec<(u64, String)> = (0..4).map(|_| (20, of(0) + &of(1))).collect();
    pieces.push((0, event("", "stop") + &usage + DONE));
    let run = perf(&a_few(streaming("text/event-stream", pieces, true)).with(|s| s.sampling.n_choices = Some(2)));
    run.assert_all_ok();
    let series = &run.summary.series;
    // Every choice has four tokens, at least 20 ms apart; both choices together have them half as far apart.
    let (tpot_s, itl_s) = (series.tpot_s.mean.unwrap(), series.itl_s.mean.unwrap());
    assert!(tpot_s > 0.019 && (tpot_s - itl_s).abs() < 1e-6 * tpot_s, "{tpot_s} {itl_s}");
    assert!(run.measured.iter().all(|request| request.record.outcome == Outcome::Ok && request.arrivals.len() == 8));
}

#[test]
fn a_server_that_refuses_stream_options_can_be_measured() {
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        while let Some((_, body)) = request_parts(&mut stream) {
            if body.contains("stream_options") {
                let text = "{\"detail\":\"body.stream_options: extra fields not permitted\"}";
                let head = format!("HTTP/1.1 422 No\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                let _ = stream.get_mut().write_all(head.as_bytes());
            } else {
                answer(&mut stream, GOOD);
            }
        }
    });
    let error = perf_until(&load(address), Default::default()).unwrap_err().to_string();
    assert!(error.contains("--extra-args '{\"stream_options\": null}'"), "{error}");
    // Without the test, the failures have the same advice.
    let run = perf(&load(address).with(|s| s.target.no_test_connection = true));
    assert_eq!(run.outcomes(), [("status", 40)]);
    let refused = |finding: &Finding| matches!(finding, Finding::StreamOptionsRefused { requests: 40 });
    assert!(run.summary.findings.iter().any(refused), "{:?}", run.summary.findings);
    let without = |s: &mut Spec| s.sampling.extra_args = Some("{\"stream_options\": null}".to_string());
    perf(&load(address).with(without)).assert_all_ok();
}

#[test]
fn a_trailing_slash_is_sent_as_it_is_given() {
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        while let Some((line, _)) = request_parts(&mut stream) {
            if line.starts_with("POST /v1/chat/completions/ ") {
                answer(&mut stream, GOOD);
            } else {
                let _ = stream.get_mut().write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let spec = load(address).with(|s| s.target.url = Some(format!("http://{address}/v1/chat/completions/")));
    perf(&spec).assert_all_ok();
}
