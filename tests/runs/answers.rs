//! What becomes of the parts of answers: whole and streamed ones, embeddings and rankings, tool calls.

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{FinishedRun, mock, perf, spec};
use super::odd_servers::{GOOD, answer, load, request_parts, server, streaming};
use ringmark::finding::Finding;
use ringmark::record::{Outcome, TokenSource};
use ringmark::report::{json as figures, screen};
use ringmark::spec::Spec;

/// Sends a JSON body.
fn whole(stream: &mut BufReader<std::net::TcpStream>, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
}

/// A server that gives every request the body that `reply` makes of the request's body: as a stream if it begins like one.
fn replying(reply: impl Fn(&Value) -> String + Send + Sync + Clone + 'static) -> SocketAddr {
    server(move |stream| {
        let mut stream = BufReader::new(stream);
        while let Some((_, body)) = request_parts(&mut stream) {
            let body = reply(&serde_json::from_str(&body).unwrap());
            if body.starts_with("data:") { answer(&mut stream, &body) } else { whole(&mut stream, &body) }
        }
    })
}

const WHOLE: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],
    "usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

/// Writes a file of the data set, one value per line.
fn lines(folder: &Path, values: &[Value]) -> std::path::PathBuf {
    let path = folder.join("data.jsonl");
    std::fs::write(&path, values.iter().map(|value| format!("{value}\n")).collect::<String>()).unwrap();
    path
}

fn sql_text(run: &FinishedRun, sql: &str) -> String {
    let database = rusqlite::Connection::open(&run.database).unwrap();
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn times_of_tokens_are_those_of_streamed_responses() {
    let folder = tempfile::tempdir().unwrap();
    let row = |stream: bool| json!({"messages": [{"role": "user", "content": "x"}], "stream": stream});
    let path = lines(folder.path(), &[row(true), row(false)]);
    let address = replying(|body| if body["stream"] == true { GOOD.to_string() } else { WHOLE.to_string() });
    let run = perf(&load(address).with(|s| {
        s.data.dataset = Some("line_by_line".to_string());
        s.data.dataset_path = Some(path);
        s.load.number = vec![20];
    }));
    run.assert_all_ok();
    let series = &run.summary.series;
    assert_eq!((series.ttft_s.count, series.service_ttft_s.count, series.latency_s.count), (10, 10, 20));
    assert_eq!((series.itl_s.count, series.tpot_s.count), (0, 0));
    let in_view = "SELECT count(first_chunk_latency) || ' of ' || count(*) FROM result";
    assert_eq!(sql_text(&run, in_view), "10 of 20");
    let summary = figures::summary(&run.summary);
    assert_eq!(summary["Average time to first token (s)"], summary["First token latency ave (s)"]);
}

#[test]
fn without_streams_there_is_a_latency() {
    let address = replying(|_| WHOLE.to_string());
    let run = perf(&load(address).with(|s| s.sampling.no_stream = true));
    run.assert_all_ok();
    let percentiles = figures::percentiles(&run.summary);
    assert_eq!(percentiles[2]["TTFT (s)"], Value::Null);
    assert!(percentiles[2]["Latency (s)"].is_number());
    let text = screen::render(&run.summary, 120);
    assert!(text.contains("Service latency avg"), "{text}");
}

/// A run against an API without text.
fn vectors(api: &str, path: &str, dataset: &str, data: &[Value], reply: &'static str) -> FinishedRun {
    let folder = tempfile::tempdir().unwrap();
    let file = lines(folder.path(), data);
    let address = replying(move |_| reply.to_string());
    perf(&load(address).with(|s: &mut Spec| {
        s.target.url = Some(format!("http://{address}{path}"));
        s.target.api = api.to_string();
        s.data.dataset = Some(dataset.to_string());
        s.data.dataset_path = Some(file);
        s.data.tokenizer_path = Some(super::data_support::tokenizer("qwen2_5"));
        s.load.number = vec![6];
    }))
}

fn assert_counted_without_text(run: &FinishedRun) {
    run.assert_all_ok();
    for request in &run.measured {
        let record = &request.record;
        assert!(record.input_tokens.is_some_and(|tokens| tokens > 3), "{:?}", record.input_tokens);
        assert_eq!((record.output_tokens, record.token_source), (Some(0), TokenSource::Tokenizer));
    }
    let summary = figures::summary(&run.summary);
    assert!(summary["Input token throughput (tok/s)"].as_f64().unwrap() > 0.0);
    assert!(summary["Total token throughput (tok/s)"].as_f64().unwrap() > 0.0);
    assert_eq!(summary["Average time to first token (s)"], Value::Null);
    assert!(!summary["Findings"].to_string().contains("token counts"), "{}", summary["Findings"]);
    let text = screen::render(&run.summary, 160);
    assert!(text.contains("Input token throughput") && text.contains("Latency (s)"), "{text}");
    for absent in ["TTFT", "ITL", "TPOT", "first token", "First token", "utput tok", "Output (tok/s)", "package"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
}

#[test]
fn rankings_are_counted_and_have_tables_of_their_own() {
    let row = json!({"query": "what is a panda?", "documents": ["a bear of China", "hi"]});
    let run =
        vectors("openai_rerank", "/v1/rerank", "rerank", std::slice::from_ref(&row), r#"{"results":[{"index":0}]}"#);
    assert_counted_without_text(&run);
    // The list alone, as Text Embeddings Inference sends it.
    let run = vectors("openai_rerank", "/rerank", "rerank", &[row], r#"[{"index":0,"score":0.9}]"#);
    assert_counted_without_text(&run);
}

#[test]
fn embeddings_are_counted_and_have_tables_of_their_own() {
    let row = json!({"text": "a text of some more tokens than three"});
    let run = vectors("openai_embedding", "/v1/embeddings", "embedding", &[row], r#"{"data":[{"embedding":[0.1]}]}"#);
    assert_counted_without_text(&run);
}

/// Events of a stream whose two parallel tool calls come in interleaved fragments.
fn calls_in_fragments() -> String {
    let event =
        |calls: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":{calls}}}}}]}}\n\n");
    [
        event(r#"[{"index":0,"id":"m0","type":"function","function":{"name":"weather","arguments":""}}]"#),
        event(r#"[{"index":1,"id":"m1","type":"function","function":{"name":"time","arguments":"{}"}}]"#),
        event(r#"[{"index":0,"function":{"arguments":"{\"city\":"}}]"#),
        event(r#"[{"index":0,"function":{"arguments":"\"Bern\"}"}}]"#),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n"
            .to_string(),
    ]
    .concat()
}

#[test]
fn tool_calls_are_kept_counted_and_returned_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let recorded =
        |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let tool = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "7"});
    let row = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [recorded("d0", "weather"), recorded("d1", "time")]},
        tool("d0"),
        tool("d1"),
        {"role": "assistant", "content": "never sent"},
        {"role": "user", "content": "thanks"},
    ]);
    let path = lines(folder.path(), &[row]);
    let address = replying(|_| calls_in_fragments());
    let run = perf(&load(address).with(|s| {
        s.data.dataset = Some("custom_multi_turn".to_string());
        s.data.dataset_path = Some(path);
        s.data.multi_turn = true;
        s.data.tokenizer_path = Some(super::data_support::tokenizer("qwen2_5"));
        s.load.number = vec![1];
        s.target.no_test_connection = true;
    }));
    run.assert_all_ok();
    assert_eq!(run.measured.len(), 3);
    let stored: Value = serde_json::from_str(&sql_text(&run, "SELECT tool_calls FROM request LIMIT 1")).unwrap();
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(stored, json!([call("m0", "weather", "{\"city\":\"Bern\"}"), call("m1", "time", "{}")]));
    let messages: Value =
        serde_json::from_str(&sql_text(&run, "SELECT response_messages FROM result LIMIT 1")).unwrap();
    assert_eq!(messages, json!([{"role": "assistant", "content": null, "tool_calls": stored}]));
    for request in &run.measured {
        assert!(request.record.output_tokens.is_some_and(|tokens| tokens > 5), "{:?}", request.record.output_tokens);
    }
    let last = "SELECT b.json FROM request r JOIN body b ON b.id = r.body_id WHERE r.idx = 2";
    let body: Value = serde_json::from_str(&sql_text(&run, last)).unwrap();
    let calls = json!([call("d0", "weather", "{\"city\":\"Bern\"}"), call("d1", "time", "{}")]);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": calls},
            tool("d0"),
            tool("d1"),
            // The results of these calls are not in the data.
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "thanks"},
        ])
    );
}

#[test]
fn a_response_that_arrived_before_its_request_is_none() {
    // The answer is sent as soon as the connection is open, and again for each request.
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        std::thread::sleep(Duration::from_millis(50));
        answer(&mut stream, GOOD);
        while request_parts(&mut stream).is_some() {
            answer(&mut stream, GOOD);
        }
    });
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![6];
        s.load.rate = vec![1000.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
        s.target.no_test_connection = true;
    }));
    run.assert_totals();
    for request in &run.measured {
        let record = &request.record;
        let is_answer = record.outcome == Outcome::Ok;
        assert!(!is_answer || record.first_byte.unwrap() > record.write_start.unwrap(), "{record:?}");
        assert!(is_answer || request.error.contains("before"), "{}", request.error);
    }
}

/// Streams whose body ends `after_ms` after the end event, or never. Returns the address and the most connections that were
/// open at once.
fn lingering(after_ms: Option<u64>) -> (SocketAddr, Arc<AtomicUsize>) {
    lingering_streams(after_ms, |_| GOOD)
}

/// The same; `stream` gives the events of each request by its number, from 0.
fn lingering_streams(
    after_ms: Option<u64>,
    stream_of: impl Fn(usize) -> &'static str + Send + Sync + Clone + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let address = server(move |stream| {
        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        while request_parts(&mut stream).is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let events = stream_of(requests.fetch_add(1, Ordering::SeqCst));
            let chunk = format!("{head}{:x}\r\n{events}\r\n", events.len());
            let _ = stream.get_mut().write_all(chunk.as_bytes());
            match after_ms {
                Some(ms) => std::thread::sleep(Duration::from_millis(ms)),
                // Until the client gives up.
                None => continue,
            }
            let _ = stream.get_mut().write_all(b"0\r\n\r\n");
        }
        open.fetch_sub(1, Ordering::SeqCst);
    });
    (address, seen)
}

#[test]
fn a_slot_goes_on_while_a_body_stays_open() {
    let (address, most_open) = lingering(None);
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![12];
        s.load.parallel = vec![2];
        s.target.no_test_connection = true;
    }));
    run.assert_all_ok();
    assert!(run.summary.concurrency.peak.unwrap() <= 2, "{:?}", run.summary.concurrency.peak);
    // A slot's next request was sent while its last body was open.
    assert!(most_open.load(Ordering::SeqCst) > 2, "{most_open:?}");
    assert!(run.measured.iter().all(|request| request.record.open_after_end_ns.is_some()));
    assert!(run.measured.iter().all(|request| !request.record.reused), "the bodies never end");
}

#[test]
fn a_slot_goes_on_after_the_end_event_of_a_failed_stream() {
    const EMPTY: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    const ABORTED: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"abort\"}]}\n\ndata: [DONE]\n\n";
    const ERROR: &str = "data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n";
    // The bodies end late, and never.
    for after_ms in [Some(20), None] {
        let streams = [EMPTY, GOOD, ABORTED, GOOD, ERROR, GOOD];
        let (address, _) = lingering_streams(after_ms, move |number| streams[number % streams.len()]);
        let run = perf(&load(address).with(|s| {
            s.load.number = vec![60];
            s.load.parallel = vec![3];
            s.target.no_test_connection = true;
        }));
        run.assert_totals();
        assert_eq!(run.outcomes(), [("empty", 10), ("in_stream_error", 20), ("ok", 30)]);
        assert!(run.summary.concurrency.peak.is_some_and(|peak| peak <= 3), "{:?}", run.summary.concurrency.peak);
        assert!(!run.summary.findings.iter().any(|finding| matches!(finding, Finding::CapExceeded { .. })));
        assert!(run.measured.iter().all(|request| request.record.open_after_end_ns.is_some()));
    }
}

#[test]
fn a_stream_that_arrived_before_its_request_has_an_end_after_it() {
    // The whole stream is there when the connection is open, and its body never ends.
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.get_mut().write_all(format!("{head}{:x}\r\n{GOOD}\r\n", GOOD.len()).as_bytes());
        while request_parts(&mut stream).is_some() {}
    });
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![6];
        s.target.no_test_connection = true;
    }));
    run.assert_totals();
    assert!(run.summary.concurrency.peak.is_some_and(|peak| peak <= 1), "{:?}", run.summary.concurrency.peak);
    for request in &run.measured {
        let record = &request.record;
        assert!(record.write_start.is_none_or(|sent| sent <= record.end), "{record:?}");
    }
}

#[test]
fn a_connection_is_used_again_when_its_body_has_ended() {
    let (address, _) = lingering(Some(30));
    let run = perf(&load(address).with(|s| s.load.number = vec![300]));
    run.assert_all_ok();
    let opened = run.summary.client.connections_opened;
    assert!(opened < 300 && run.measured.iter().any(|request| request.record.reused), "{opened}");
}

#[test]
fn responses_are_limited_by_their_size() {
    let number = "0.123456789,".repeat(2_000_000);
    let body = format!(r#"{{"data":[{{"embedding":[{number}0]}}],"usage":{{"prompt_tokens":3,"total_tokens":3}}}}"#);
    assert!(body.len() > 17 << 20, "more than events may have");
    let address = replying(move |_| body.clone());
    let spec = load(address).with(|s| {
        s.target.url = Some(format!("http://{address}/v1/embeddings"));
        s.target.api = "openai_embedding".to_string();
        s.load.number = vec![2];
        s.target.no_test_connection = true;
    });
    let folder = tempfile::tempdir().unwrap();
    let path = lines(folder.path(), &[json!({"text": "a"})]);
    let spec = spec.with(|s| {
        s.data.dataset = Some("embedding".to_string());
        s.data.dataset_path = Some(path);
    });
    perf(&spec).assert_all_ok();
    let run = perf(&spec.with(|s| s.target.max_response_size = 1 << 20));
    assert_eq!(run.outcomes(), [("protocol", 2)]);
    assert!(run.measured[0].error.contains("longer than 1 MiB (--max-response-size)"), "{}", run.measured[0].error);
}

#[test]
fn an_endless_stream_ends_at_the_limit() {
    let address = server(|stream| {
        let mut stream = BufReader::new(stream);
        if request_parts(&mut stream).is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.get_mut().write_all(head.as_bytes());
            let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".repeat(100);
            while stream.get_mut().write_all(event.as_bytes()).is_ok() {}
        }
    });
    let run = perf(&load(address).with(|s| {
        s.load.number = vec![2];
        s.target.max_response_size = 1 << 20;
        s.target.no_test_connection = true;
    }));
    assert_eq!(run.outcomes(), [("protocol", 2)]);
    let record = &run.measured[0].record;
    assert!(record.received_bytes < 2 << 20, "{}", record.received_bytes);
}

#[test]
fn events_of_several_tokens_are_reported() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a b c d\"}}]}\n\n";
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for (tokens, per_event) in [(20, Some(4.0)), (6, None), (5, None)] {
        let usage =
            format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{tokens}}}}}\n\n");
        let last = format!("{end}{usage}data: [DONE]\n\n");
        let pieces: Vec<(u64, String)> = (0..5).map(|_| (10, event.to_string())).chain([(0, last)]).collect();
        let run = perf(&load(streaming("text/event-stream", pieces, true)).with(|s| s.load.number = vec![4]));
        run.assert_all_ok();
        assert_eq!(run.summary.tokens_per_event, per_event, "one token may be the end of sequence");
        let has = |code: &str| run.summary.findings.iter().any(|finding| finding.code() == code);
        assert_eq!((has("tokens_per_event"), has("tpot_range")), (per_event.is_some(), false));
        let text = screen::render(&run.summary, 120);
        assert_eq!(text.contains("Average tokens per output event"), per_event.is_some(), "{text}");
    }
}

#[test]
fn tokens_that_a_parser_swallows_are_no_events_of_several_tokens() {
    let mock = mock("like=vllm&ttft=20ms&itl=10ms&tokens=5&tool_calls=on&swallow=2");
    let run = perf(&spec(&mock).with(|s| s.load.number = vec![20]));
    run.assert_all_ok();
    let has = |code: &str| run.summary.findings.iter().any(|finding| finding.code() == code);
    // One cause, one finding.
    assert!(has("tpot_range") && !has("tokens_per_event"), "{:?}", run.summary.findings);
}

#[test]
fn answers_that_come_at_once_have_one_finding() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".repeat(5);
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
    let run = perf(&load(replying(move |_| format!("{event}{usage}"))));
    run.assert_all_ok();
    let has = |code: &str| run.summary.findings.iter().any(|finding| finding.code() == code);
    // The finding about reads of several events would contradict it: TPOT is affected.
    assert!(has("at_once") && !has("coalesced"), "{:?}", run.summary.findings);
}
