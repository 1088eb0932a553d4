//! A plain blocking client.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringmark::mock::{Config, Mock, Truth};
use serde_json::Value;

pub const CHAT: &str = "/v1/chat/completions";

pub fn start(query: &str) -> Mock {
    let config = Config::from_query(query).unwrap();
    Mock::start(&config, &[], "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// The response to one request, as received on its connection.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    /// Without its framing.
    pub body: String,
    /// The framing is complete.
    pub complete: bool,
    pub reset: bool,
    pub closed: bool,
    pub raw: Vec<u8>,
}

impl Reply {
    /// The data of the events without `[DONE]`, as JSON.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect(data)).collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    pub fn is_done(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n")
    }
}

pub fn connect(mock: &Mock) -> TcpStream {
    let stream = TcpStream::connect(mock.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub fn send(stream: &mut TcpStream, method: &str, path: &str, body: &str) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: mock\r\nX-Request-Id: t-1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
}

/// Reads one response until it is complete, or until the connection ends or times out.
pub fn receive(stream: &mut TcpStream) -> Reply {
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

pub fn chat(more: &str) -> String {
    format!("{{\"model\":\"tiny\",\"messages\":[{{\"role\":\"user\",\"content\":\"one two three\"}}]{more}}}")
}

pub const STREAM: &str = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";

pub fn ask(mock: &Mock, path: &str, body: &str) -> Reply {
    let mut stream = connect(mock);
    send(&mut stream, "POST", path, body);
    receive(&mut stream)
}

pub fn get(mock: &Mock, path: &str) -> Reply {
    let mut stream = connect(mock);
    send(&mut stream, "GET", path, "");
    receive(&mut stream)
}

/// The response to a streamed chat request from a mock with this configuration.
pub fn stream_of(query: &str) -> Reply {
    ask(&start(&format!("ttft=1ms&itl=0ms&tokens=4&{query}")), CHAT, &chat(STREAM))
}

pub fn is_output(event: &Value) -> bool {
    let delta = &event["choices"][0]["delta"];
    ["content", "reasoning_content", "tool_calls"].iter().any(|name| !delta[name].is_null() && delta[name] != "")
}

/// The request records, once `count` requests have ended and none is in progress.
pub fn truth_of(mock: &Mock, count: usize) -> Vec<Truth> {
    for _ in 0..500 {
        let truth = mock.truth();
        if truth.len() >= count && mock.stats().in_flight == 0 {
            return truth;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{count} requests did not end: {:?}", mock.stats());
}
