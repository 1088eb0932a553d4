//! The mock seen from a plain blocking socket: shapes, counts, truth, and every kind of trouble.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringmark::mock::{Config, End, Mock, Truth};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";

fn start(query: &str) -> Mock {
    let config = Config::from_query(query).unwrap();
    Mock::start(&config, &[], "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// What came back on one connection for one request.
#[derive(Debug, Default)]
struct Reply {
    status: u16,
    head: String,
    /// Without its framing.
    body: String,
    /// The framing ended as it should.
    complete: bool,
    reset: bool,
    closed: bool,
    raw: Vec<u8>,
}

impl Reply {
    /// The data of the events but `[DONE]`, as JSON.
    fn events(&self) -> Vec<Value> {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect(data)).collect()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    fn is_done(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n")
    }
}

fn connect(mock: &Mock) -> TcpStream {
    let stream = TcpStream::connect(mock.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn send(stream: &mut TcpStream, method: &str, path: &str, body: &str) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: mock\r\nX-Request-Id: t-1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
}

/// Reads one response to its end or to whatever ends it.
fn receive(stream: &mut TcpStream) -> Reply {
    let mut reply = Reply::default();
    let mut buffer = [0; 65536];
    loop {
        reply.parse();
        if reply.complete {
            return reply;
        }
        match stream.read(&mut buffer) {
            Ok(0) => {
                reply.closed = true;
                reply.complete = reply.head.contains("connection: close")
                    && !reply.head.contains("chunked")
                    && !reply.head.contains("content-length");
                return reply;
            }
            Ok(n) => reply.raw.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                reply.reset = true;
                return reply;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return reply,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Reply {
    fn parse(&mut self) {
        let Some(head_end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") else { return };
        self.head = String::from_utf8_lossy(&self.raw[..head_end + 2]).to_string();
        self.status = self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let rest = &self.raw[head_end + 4..];
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if self.head.contains("transfer-encoding: chunked") {
            let (body, complete) = unchunk(rest);
            self.body = String::from_utf8_lossy(&body).to_string();
            self.complete = complete;
        } else {
            self.body = String::from_utf8_lossy(rest).to_string();
            self.complete = length.is_some_and(|length| rest.len() == length.parse::<usize>().unwrap());
        }
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let chunk = &rest[line + 2..];
        if chunk.len() < size + 2 {
            body.extend_from_slice(&chunk[..chunk.len().min(size)]);
            return (body, false);
        }
        if size == 0 {
            return (body, chunk.len() == 2);
        }
        body.extend_from_slice(&chunk[..size]);
        assert_eq!(&chunk[size..size + 2], b"\r\n");
        rest = &chunk[size + 2..];
    }
    (body, false)
}

fn chat(more: &str) -> String {
    format!("{{\"model\":\"tiny\",\"messages\":[{{\"role\":\"user\",\"content\":\"one two three\"}}]{more}}}")
}

const STREAM: &str = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";

fn ask(mock: &Mock, path: &str, body: &str) -> Reply {
    let mut stream = connect(mock);
    send(&mut stream, "POST", path, body);
    receive(&mut stream)
}

fn get(mock: &Mock, path: &str) -> Reply {
    let mut stream = connect(mock);
    send(&mut stream, "GET", path, "");
    receive(&mut stream)
}

/// One streamed chat from a mock so configured.
fn stream_of(query: &str) -> Reply {
    ask(&start(&format!("ttft=1ms&itl=0ms&tokens=4&{query}")), CHAT, &chat(STREAM))
}

fn is_output(event: &Value) -> bool {
    let delta = &event["choices"][0]["delta"];
    ["content", "reasoning_content", "tool_calls"].iter().any(|name| !delta[name].is_null() && delta[name] != "")
}

/// The truth, once `count` requests have ended.
fn truth_of(mock: &Mock, count: usize) -> Vec<Truth> {
    for _ in 0..500 {
        let truth = mock.truth();
        if truth.len() >= count {
            return truth;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{count} requests did not end: {:?}", mock.stats());
}

#[test]
fn a_stream_has_the_shape_of_vllm() {
    let reply = stream_of("");
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-type: text/event-stream"));
    assert!(reply.complete && reply.is_done());
    let events = reply.events();
    assert_eq!(events.len(), 6);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(events[1..5].iter().all(is_output) && !is_output(&events[0]));
    assert_eq!(events[4]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[5]["choices"], serde_json::json!([]));
    assert_eq!(events[5]["usage"], serde_json::json!({"prompt_tokens": 4, "total_tokens": 8, "completion_tokens": 4}));
    assert!(events.iter().all(|event| event["model"] == "tiny" && event["id"] == events[0]["id"]));
}

#[test]
fn role_styles() {
    assert_eq!(stream_of("role=none").events().len(), 5);
    let separate = stream_of("role=separate").events();
    assert_eq!((separate.len(), is_output(&separate[0]), is_output(&separate[1])), (6, false, true));
    // Before the prefill: a client that reads now sees the role, and no output for a second.
    let mock = start("role=separate&ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let reply = receive(&mut stream);
    assert!(!reply.complete && reply.events().len() == 1, "{reply:?}");
}

#[test]
fn usage_and_finish_styles() {
    assert_eq!(stream_of("usage=never").events().len(), 5);
    let with_last = stream_of("usage=with_last").events();
    assert_eq!(with_last.len(), 5);
    assert_eq!(with_last[4]["usage"]["completion_tokens"], 4);
    let own = stream_of("usage=with_last&finish=own").events();
    assert_eq!(own.len(), 6);
    assert_eq!(own[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(own[5]["usage"]["completion_tokens"], 4);
    assert!(own[4]["choices"][0]["finish_reason"].is_null());

    let mock = start("ttft=1ms&itl=0ms&tokens=4");
    assert_eq!(ask(&mock, CHAT, &chat(",\"stream\":true")).events().len(), 5);
    let mock = start("ttft=1ms&itl=0ms&tokens=4&usage=always&done=off");
    let reply = ask(&mock, CHAT, &chat(",\"stream\":true"));
    assert!(reply.complete && !reply.is_done());
    assert_eq!(reply.events()[5]["usage"]["completion_tokens"], 4);
}

#[test]
fn max_tokens_cut_the_answer_and_name_the_reason() {
    let mock = start("ttft=0ms&itl=0ms&tokens=9");
    let events = ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":3,\"ignore_eos\":true"))).events();
    assert_eq!(events.iter().filter(|event| is_output(event)).count(), 3);
    assert_eq!(events[3]["choices"][0]["finish_reason"], "length");
    let events = ask(&mock, CHAT, &chat(&format!("{STREAM},\"min_tokens\":12"))).events();
    assert_eq!(events.iter().filter(|event| is_output(event)).count(), 12);
}

#[test]
fn n_choices_are_interleaved_and_counted() {
    let mock = start("ttft=1ms&itl=1ms&tokens=3");
    let reply = ask(&mock, CHAT, &chat(&format!("{STREAM},\"n\":2")));
    let events = reply.events();
    let output: Vec<u64> = events
        .iter()
        .filter(|event| is_output(event))
        .map(|event| event["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(output, [0, 1, 0, 1, 0, 1]);
    assert_eq!(events.iter().filter(|event| event["choices"][0]["finish_reason"] == "stop").count(), 2);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 6);
    let truth = &truth_of(&mock, 1)[0];
    assert_eq!((truth.sends.len(), truth.output_tokens), (6, 6));

    let prompts = "{\"prompt\":[\"a b\",[1,2]],\"n\":2,\"max_tokens\":2}";
    let json = ask(&mock, "/v1/completions", prompts).json();
    assert_eq!(json["choices"].as_array().unwrap().len(), 4);
    assert_eq!(json["usage"]["completion_tokens"], 8);
    assert_eq!(json["usage"]["prompt_tokens"], 5);
}

#[test]
fn reasoning_tools_and_mixed_text_are_valid_json() {
    let events = stream_of("reasoning=2&text=mixed&tokens=40").events();
    let delta = |i: usize| events[i]["choices"][0]["delta"].clone();
    assert!(delta(1)["reasoning_content"].is_string() && delta(2)["reasoning_content"].is_string());
    assert!(delta(3)["content"].is_string() && delta(3)["reasoning_content"].is_null());
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);

    for tokens in [1, 2, 40] {
        let reply = stream_of(&format!("tool_calls=on&text=mixed&tokens={tokens}"));
        let arguments: String = reply
            .events()
            .iter()
            .filter_map(|event| {
                event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(String::from)
            })
            .collect();
        assert!(serde_json::from_str::<Value>(&arguments).unwrap()["q"].is_string(), "{arguments}");
        assert!(reply.body.contains("\"finish_reason\":\"tool_calls\""));
    }
    let json = ask(&start("ttft=0&itl=0&tokens=30&tool_calls&text=mixed&reasoning=3"), CHAT, &chat("")).json();
    let message = &json["choices"][0]["message"];
    let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).is_ok());
    assert!(message["reasoning_content"].is_string());
}

#[test]
fn events_are_padded_to_their_size() {
    for pad in [255, 260, 261, 262, 263, 300, 4101, 4102, 4103, 4104, 70_000] {
        let mock = start(&format!("ttft=0&itl=1ms&tokens=3&role=none&pad={pad}"));
        let reply = ask(&mock, CHAT, &chat(",\"stream\":true"));
        let body = &reply.raw[reply.raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
        // A size that cannot be met exactly, because the chunk size would gain a digit, is missed by one byte.
        let sizes = chunk_sizes(body);
        assert!(sizes[..2].iter().all(|&bytes| bytes == pad || bytes + 1 == pad), "{pad}: {sizes:?}");
    }
}

/// The bytes of each chunk, framing included.
fn chunk_sizes(mut rest: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        sizes.push(line + size + 4);
        rest = &rest[line + size + 4..];
    }
    sizes
}

#[test]
fn answers_without_streaming() {
    let mock = start("ttft=1ms&itl=0ms&tokens=3");
    let reply = ask(&mock, CHAT, &chat(""));
    let json = reply.json();
    assert!(reply.head.contains("content-length: "));
    assert!(json["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count() == 3);
    assert_eq!(json["usage"]["completion_tokens"], 3);
    let json = ask(&mock, "/v1/completions", "{\"prompt\":[1,2,3]}").json();
    assert_eq!(json["usage"], serde_json::json!({"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}));
    let json = ask(&mock, "/v1/embeddings", "{\"input\":[\"a\",\"b c\"],\"dimensions\":8}").json();
    assert_eq!(json["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(json["usage"]["prompt_tokens"], 5);
    for path in ["/v1/rerank", "/v1/reranks", "/rerank"] {
        let json = ask(&mock, path, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"]}").json();
        assert_eq!(json["results"].as_array().unwrap().len(), 2);
    }
    let truth = truth_of(&mock, 6);
    assert!(
        truth.iter().all(|truth| truth.sends.len() == 1 && truth.end == End::Complete && truth.request_id == "t-1")
    );
}

#[test]
fn completions_and_responses_stream() {
    let mock = start("ttft=1ms&itl=0ms&tokens=3");
    let reply =
        ask(&mock, "/v1/completions", "{\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    let events = reply.events();
    assert!(reply.is_done() && events.len() == 4);
    assert!(events[..3].iter().all(|event| event["choices"][0]["text"].is_string()));

    let reply = ask(&mock, "/v1/responses", "{\"input\":\"a b\",\"stream\":true,\"max_output_tokens\":2}");
    let events = reply.events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.completed"
        ]
    );
    assert_eq!(events[5]["response"]["usage"]["output_tokens"], 2);
    assert!(reply.complete && !reply.body.contains("[DONE]"));
    assert_eq!(ask(&mock, "/v1/responses", "{\"input\":\"a\"}").json()["usage"]["output_tokens"], 3);
}

#[test]
fn connections_end_as_configured() {
    let twice = |query: &str, more: &str| {
        let mock = start(&format!("ttft=0&itl=0&tokens=2&{query}"));
        let mut stream = connect(&mock);
        send(&mut stream, "POST", CHAT, &chat(more));
        let first = receive(&mut stream);
        assert!(first.complete, "{first:?}");
        // Where the mock has closed, this is answered by an end of file or a reset.
        let again = stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").map(|()| receive(&mut stream).status);
        (first.head, again.unwrap_or(0))
    };
    assert_eq!(twice("", STREAM).1, 200);
    let (head, status) = twice("close=silent", STREAM);
    assert!(head.contains("keep-alive: timeout") && !head.contains("connection: close") && status == 0);
    assert_eq!(twice("close=silent", "").1, 200);
    let (head, status) = twice("close=announce", STREAM);
    assert!(head.contains("connection: close") && status == 0);
    let (head, status) = twice("framing=close", STREAM);
    assert!(!head.contains("chunked") && head.contains("connection: close") && status == 0);
    assert!(twice("framing=chunked", "").0.contains("chunked"));
    assert_eq!(twice("head=with_first", STREAM).1, 200);
}

#[test]
fn an_http10_client_gets_neither_chunks_nor_keep_alive() {
    let mock = start("ttft=0&itl=0&tokens=2");
    let mut stream = connect(&mock);
    let body = chat(STREAM);
    write!(stream, "POST {CHAT} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let reply = receive(&mut stream);
    assert!(reply.closed && reply.is_done() && !reply.head.contains("chunked"), "{reply:?}");
}

#[test]
fn large_bodies_and_expect_continue_are_served() {
    let mock = start("ttft=0&itl=0&tokens=2");
    let body = chat(&format!(",\"padding\":\"{}\"", "x".repeat(3 << 20)));
    let mut stream = connect(&mock);
    write!(stream, "POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(receive(&mut stream).status, 200);
}

#[test]
fn wrong_requests_are_refused() {
    let mock = start("");
    assert_eq!(get(&mock, "/nope").status, 404);
    assert_eq!(get(&mock, CHAT).status, 405);
    let bad = ask(&mock, CHAT, "{");
    assert_eq!((bad.status, &bad.json()["error"]["code"]), (400, &Value::from(400)));
    assert!(bad.json()["error"]["message"].as_str().unwrap().contains("JSON"));
    assert_eq!(ask(&mock, CHAT, "{}").status, 400);
    let mut stream = connect(&mock);
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    let reply = receive(&mut stream);
    assert_eq!(reply.status, 400);
    let mut stream = connect(&mock);
    stream.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
    assert_eq!(receive(&mut stream).status, 411);
    assert_eq!(mock.stats().requests, 0);
    assert_eq!(mock.stats().refused, 6);
}

#[test]
fn truth_is_in_order_and_on_time() {
    let mock = start("ttft=20ms&itl=2ms&tokens=10");
    ask(&mock, CHAT, &chat(STREAM));
    let truth = truth_of(&mock, 1).remove(0);
    assert_eq!((truth.sends.len(), truth.end, truth.status, truth.prompt_tokens), (10, End::Complete, 200, 4));
    assert!(truth.usage_sent && truth.request_id == "t-1");
    let (started, head) = (truth.started.unwrap(), truth.head_sent.unwrap());
    assert!(truth.received_first <= truth.received_last && truth.received_last <= started && started <= head);
    assert!(head <= truth.sends[0] && truth.sends.is_sorted() && truth.last_byte >= truth.sends.last().copied());
    // Never early; how late depends on the machine.
    assert!(truth.sends[0].ns_since(truth.received_last) >= 20_000_000);
    assert!(truth.sends[9].ns_since(truth.received_last) >= 38_000_000);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let texts = |seed: u64| {
        let mock = start(&format!("ttft=0&itl=0&tokens=uniform(1,50)&fault=empty:0.3&seed={seed}"));
        (0..8).map(|_| ask(&mock, CHAT, &chat("")).json()["choices"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(texts(1), texts(1));
    assert_ne!(texts(1), texts(2));
}

#[test]
fn events_share_writes_when_told_to() {
    let mock = start("ttft=1ms&itl=1ms&tokens=10&coalesce=4");
    ask(&mock, CHAT, &chat(STREAM));
    let mut sends = truth_of(&mock, 1).remove(0).sends;
    assert_eq!(sends.len(), 10);
    sends.dedup();
    assert_eq!(sends.len(), 3);
}

#[test]
fn bursts_share_their_instants() {
    let mock = start("ttft=1ms&burst=40ms&tokens=3");
    let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&mock)).collect();
    streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
    streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
    for truth in truth_of(&mock, 4) {
        for send in truth.sends {
            assert!(send.0 % 40_000_000 < 30_000_000, "sent {} ns after the beat", send.0 % 40_000_000);
        }
    }
}

#[test]
fn requests_wait_for_a_slot() {
    for cores in [&[][..], &[0, 0]] {
        let config = Config::from_query("ttft=20ms&itl=1ms&tokens=5&max_running=1").unwrap();
        let mock = Mock::start(&config, cores, "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&mock)).collect();
        streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
        while mock.stats().requests < 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // One that waits or runs goes away; the others must not suffer.
        drop(streams.pop());
        streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
        let mut truth = truth_of(&mock, 4);
        assert_eq!(truth.iter().filter(|truth| truth.end == End::ClientGone).count(), 1);
        truth.retain(|truth| truth.end == End::Complete);
        truth.sort_by_key(|truth| truth.started);
        for pair in truth.windows(2) {
            assert!(pair[1].started >= pair[0].last_byte, "two ran at once");
        }
        assert_eq!(mock.stats().in_flight, 0);
        assert!(mock.stats().peak_in_flight >= 2);
    }
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let mock = start("ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    while mock.stats().in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(stream);
    assert_eq!(truth_of(&mock, 1)[0].end, End::ClientGone);
    assert_eq!(mock.stats().in_flight, 0);
}

#[test]
fn stopping_keeps_the_truth() {
    let mut mock = start("ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    while mock.stats().in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    mock.stop().unwrap();
    assert_eq!(mock.truth()[0].end, End::Stopped);
    let reply = receive(&mut stream);
    assert!((reply.closed || reply.reset) && !reply.complete);
}

#[test]
fn faults_before_the_response() {
    let mock = start("fault=status(503,2)");
    let reply = ask(&mock, CHAT, &chat(STREAM));
    assert_eq!(reply.status, 503);
    assert!(reply.head.contains("retry-after: 2") && reply.json()["error"]["code"] == 503);
    let reply = ask(&start("fault=close"), CHAT, &chat(STREAM));
    assert!(reply.closed && reply.raw.is_empty());
    let reply = ask(&start("fault=garbage"), CHAT, &chat(STREAM));
    assert!(reply.closed && !reply.raw.is_empty() && reply.status == 0);
    let mock = start("ttft=0&itl=0&tokens=3&fault=slow_head(30ms)");
    let reply = ask(&mock, CHAT, &chat(STREAM));
    assert!(reply.complete && reply.is_done());
    let truth = truth_of(&mock, 1).remove(0);
    assert!(truth.sends[0].ns_since(truth.head_sent.unwrap()) > 25_000_000);
}

#[test]
fn faults_midway() {
    let broken = |fault: &str| {
        let mock = start(&format!("ttft=1ms&itl=1ms&tokens=6&fault={fault}"));
        let reply = ask(&mock, CHAT, &chat(STREAM));
        let truth = truth_of(&mock, 1).remove(0);
        assert_eq!(truth.fault, Some(fault.split('(').next().unwrap()));
        (reply, truth)
    };
    let outputs = |reply: &Reply| reply.body.matches("\"content\":\"").count() - 1;
    let (reply, truth) = broken("reset");
    assert!(reply.reset && !reply.complete && truth.sends.len() == 3 && truth.end == End::Fault);
    let (reply, _) = broken("truncate");
    assert!(reply.closed && !reply.complete && outputs(&reply) == 3);
    let (reply, _) = broken("clean_truncate");
    assert!(reply.complete && !reply.is_done() && outputs(&reply) == 3 && !reply.body.contains("stop"));
    let (reply, truth) = broken("error");
    assert!(reply.complete && reply.is_done() && reply.body.contains("data: {\"error\":") && truth.end == End::Fault);
    let (reply, truth) = broken("malformed");
    assert!(reply.complete && reply.body.contains("\"content\":\n\n"));
    assert_eq!((outputs(&reply), truth.sends.len(), truth.end), (6, 6, End::Complete));
    let (reply, truth) = broken("empty");
    assert!(reply.complete && reply.is_done() && truth.sends.is_empty());
    assert_eq!(reply.events().iter().filter(|event| is_output(event)).count(), 0);
    let (reply, truth) = broken("huge(5000000)");
    assert!(reply.complete && reply.body.len() > 5_000_000 && truth.sends.len() == 6);
}

#[test]
fn a_hanging_response_ends_with_the_client() {
    let mock = start("ttft=1ms&itl=1ms&tokens=6&fault=hang");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let reply = receive(&mut stream);
    assert!(!reply.complete && !reply.closed && !reply.reset);
    assert!(mock.truth().is_empty());
    drop(stream);
    let truth = truth_of(&mock, 1).remove(0);
    assert_eq!((truth.end, truth.sends.len()), (End::Fault, 3));
}

#[test]
fn faults_of_answers_without_streaming() {
    let answer = |fault: &str| ask(&start(&format!("ttft=0&itl=0&tokens=6&fault={fault}")), CHAT, &chat(""));
    assert!(answer("reset").reset);
    let reply = answer("truncate");
    assert!(reply.closed && !reply.complete && reply.status == 200);
    let reply = answer("malformed");
    assert!(reply.complete && serde_json::from_str::<Value>(&reply.body).is_err());
    assert_eq!(answer("empty").json()["choices"][0]["message"]["content"], "");
    assert!(answer("error").json()["error"].is_object());
}

#[test]
fn the_metrics_page_equals_the_truth() {
    for (lie, lie_s) in [("", 0.0), ("&lie=5ms", 0.005)] {
        let mock = start(&format!("ttft=3ms&itl=2ms&tokens=5&model=m{lie}"));
        for _ in 0..3 {
            ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":5")));
        }
        ask(&mock, CHAT, &chat(STREAM));
        let truth = truth_of(&mock, 4);
        let page = get(&mock, "/metrics").body;
        let value = |name: &str, more: &str| -> f64 {
            let start = format!("{name}{{engine=\"0\",model_name=\"m\"{more}}} ");
            page.lines().find_map(|line| line.strip_prefix(&start)).expect(name).parse().unwrap()
        };
        let ttft: f64 = truth.iter().map(|truth| truth.sends[0].seconds_since(truth.received_last) + lie_s).sum();
        let itl: f64 = truth.iter().map(|truth| truth.sends[4].seconds_since(truth.sends[0]) + 4.0 * lie_s).sum();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        assert_eq!(value("vllm:time_to_first_token_seconds_count", ""), 4.0);
        near(value("vllm:time_to_first_token_seconds_sum", ""), ttft);
        assert_eq!(value("vllm:inter_token_latency_seconds_count", ""), 16.0);
        near(value("vllm:inter_token_latency_seconds_sum", ""), itl);
        near(value("vllm:e2e_request_latency_seconds_sum", ""), ttft + itl - 16.0 * lie_s);
        assert_eq!(value("vllm:prompt_tokens_total", ""), 16.0);
        assert_eq!(value("vllm:generation_tokens_total", ""), 20.0);
        assert_eq!(value("vllm:request_success_total", ",finished_reason=\"length\""), 3.0);
        assert_eq!(value("vllm:request_success_total", ",finished_reason=\"stop\""), 1.0);
        assert_eq!(value("vllm:num_requests_running", ""), 0.0);
    }
}

#[test]
fn truth_is_served_and_reset() {
    let mock = start("ttft=1ms&itl=1ms&tokens=3&model=m");
    ask(&mock, CHAT, &chat(STREAM));
    let truth = truth_of(&mock, 1).remove(0);
    let page = get(&mock, "/truth").json();
    assert_eq!(page["requests"][0]["sends"][2].as_u64(), Some(truth.sends[2].0));
    assert_eq!(page["requests"][0]["end"], "complete");
    assert_eq!(page["stats"]["events"], 3);
    assert_eq!(ask(&mock, "/truth/reset", "").status, 200);
    assert!(mock.truth().is_empty());
    assert_eq!(get(&mock, "/v1/models").json()["data"][0]["id"], "m");
    assert_eq!(get(&mock, "/health").status, 200);
    assert_eq!(mock.stats().requests, 1);
}

#[test]
fn a_slow_reader_blocks_only_itself() {
    let mock = start("ttft=0&itl=0&tokens=3000&pad=4096");
    let mut slow = connect(&mock);
    send(&mut slow, "POST", CHAT, &chat(STREAM));
    while mock.stats().blocked_writes == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":2"))).complete);
    let reply = receive(&mut slow);
    assert!(reply.complete && reply.is_done());
    assert_eq!(reply.events().iter().filter(|event| is_output(event)).count(), 3000);
    let truth = truth_of(&mock, 2);
    assert!(truth[0].blocked_writes > 0 && truth[1].blocked_writes == 0);
}

#[test]
fn several_requests_in_one_write_are_answered_in_order() {
    let mock = start("ttft=2ms&itl=0&tokens=2");
    let mut stream = connect(&mock);
    let body = chat("");
    let one = format!("POST {CHAT} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(format!("{one}GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (chat_at, health_at) = (all.find("chat.completion").unwrap(), all.find("content-length: 0").unwrap());
    assert!(chat_at < health_at);
}

#[test]
fn two_loops_share_connections_and_truth() {
    let config = Config::from_query("ttft=5ms&itl=1ms&tokens=5").unwrap();
    let mock = Mock::start(&config, &[0, 0], "127.0.0.1:0".parse().unwrap()).unwrap();
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(&mock)).collect();
    streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
    streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
    let truth = truth_of(&mock, 40);
    let ordinals: Vec<u64> = truth.iter().map(|truth| truth.ordinal).collect();
    assert_eq!(ordinals, (0..40).collect::<Vec<_>>());
    assert_eq!((mock.stats().events, mock.stats().connections), (200, 40));
}

#[test]
fn a_core_that_is_not_there_is_an_error() {
    let error = Mock::start(&Config::default(), &[9999], "127.0.0.1:0".parse().unwrap()).err().unwrap();
    assert!(error.to_string().contains("9999"));
}
