//! The simulated server, which knows when every part of its answers reached the client's kernel.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use ringmark::time::US;

/// How a server answers. Shares are probabilities.
#[derive(Clone, Debug)]
pub struct Style {
    pub ttft_ns: Range<u64>,
    pub gap_ns: Range<u64>,
    pub tokens: Range<usize>,
    /// Events that are sent together, and with them a common pause before.
    pub burst: usize,
    /// Bytes of text in an event.
    pub text_bytes: Range<usize>,
    /// An event arrives in two segments, this far apart.
    pub split: f64,
    pub split_ns: Range<u64>,
    /// A comment follows an event.
    pub comment: f64,
    pub role: bool,
    /// The server counts the end-of-sequence token, whose event is the finish event.
    pub counts_finish: bool,
    pub done: bool,
    /// The pause between the parts of the end: finish event, usage, `[DONE]`, last chunk.
    pub end_gap_ns: Range<u64>,
    pub streams: bool,
    /// The connection ends with the answer.
    pub closes: f64,
    pub resets: f64,
    pub error_status: f64,
    /// The answer never ends.
    pub hangs: f64,
    /// The only token is the end of the sequence.
    pub empty: f64,
}

/// A part of an answer.
#[derive(Debug)]
pub enum Sent {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// What happened with one request, in monotonic nanoseconds of its worker.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The phase and the number of the request.
    pub id: RequestId,
    /// The JSON body of the request, and the text of the answer.
    pub body: Vec<u8>,
    pub text: String,
    /// The last byte of the request left the client.
    pub received_ns: u64,
    /// When each output event was complete at the client.
    pub events_ns: Vec<u64>,
    pub last_token_ns: u64,
    pub end_ns: u64,
    /// When the last byte arrived.
    pub over_ns: u64,
    pub closed_ns: Option<u64>,
    /// Reads: the arrival that gave the timestamp, and when the socket could last be seen to be empty before.
    pub reads: Vec<(u64, u64)>,
}

/// The letter of the phase of a request, and its number in that phase.
pub type RequestId = (char, u64);

/// The server as one worker sees it.
pub struct Server {
    style: Style,
    pub truths: Vec<Truth>,
}

/// The body of every request.
pub const REQUEST_BODY: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Writes an answer into segments.
struct Script<'a> {
    style: &'a Style,
    rng: &'a mut ChaCha8Rng,
    now_ns: u64,
    segment: Vec<u8>,
    sent: Vec<(u64, Sent)>,
}

impl Server {
    pub fn new(style: Style) -> Server {
        Server { style, truths: Vec::new() }
    }

    /// The number of the answer, and its parts with the times at which they arrive.
    pub fn answer(&mut self, request: &[u8], now_ns: u64, rng: &mut ChaCha8Rng) -> (usize, Vec<(u64, Sent)>) {
        let mut script = Script { style: &self.style, rng, now_ns, segment: Vec::new(), sent: Vec::new() };
        let (head, body) = parts(request).expect("the request is complete");
        let mut truth = Truth { id: request_id(head), body: body.to_vec(), received_ns: now_ns, ..Truth::default() };
        script.pause(&script.style.ttft_ns.clone());
        if script.happens(self.style.error_status) {
            script.write(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops");
            script.flush();
        } else if self.style.streams {
            script.stream(&mut truth);
        } else {
            script.document(&mut truth);
        }
        truth.over_ns = script.sent.last().map_or(script.now_ns, |(at_ns, _)| *at_ns);
        if script.happens(self.style.closes) {
            script.pause(&(0..20_000 * US));
            script.sent.push((script.now_ns, Sent::Fin));
        }
        let sent = script.sent;
        self.truths.push(truth);
        (self.truths.len() - 1, sent)
    }

    pub fn note_read(&mut self, answer: usize, at_ns: u64, quiet_ns: u64) {
        self.truths[answer].reads.push((at_ns, quiet_ns));
    }

    pub fn note_close(&mut self, answer: usize, at_ns: u64) {
        self.truths[answer].closed_ns.get_or_insert(at_ns);
    }
}

/// Head and body of a request; `None` if it is not complete.
pub fn parts(request: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memmem::find(request, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&request[..end]).expect("a head is text");
    let length: usize = header(head, "Content-Length: ")?.parse().expect("a length is a number");
    let body = &request[end..];
    assert!(body.len() <= length, "more than one request at once");
    (body.len() == length).then_some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split(name).nth(1)?.split("\r\n").next()
}

fn request_id(head: &str) -> RequestId {
    let id = header(head, "X-Request-Id: ").and_then(|id| id.rsplit('-').next()).expect("a request has an id");
    let letter = id.chars().next().expect("a phase");
    (letter, id[letter.len_utf8()..].parse().expect("a number"))
}

impl Script<'_> {
    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share)
    }

    fn pause(&mut self, range: &Range<u64>) {
        self.now_ns += if range.is_empty() { range.start } else { self.rng.random_range(range.clone()) };
    }

    fn write(&mut self, bytes: &[u8]) {
        self.segment.extend_from_slice(bytes);
    }

    /// Sends what was written.
    fn flush(&mut self) {
        if !self.segment.is_empty() {
            let segment = std::mem::take(&mut self.segment);
            self.sent.push((self.now_ns, Sent::Bytes(segment)));
        }
    }

    /// Writes an event, which may be split; returns when it is complete.
    fn event(&mut self, data: &str) -> u64 {
        let size = format!("{:x}\r\n", data.len() + 8);
        let chunk = format!("{size}data: {data}\n\n\r\n").into_bytes();
        if !self.happens(self.style.split) {
            self.write(&chunk);
            return self.now_ns;
        }
        // Not within the line ends: whether an event is complete before its blank line is a matter of definition.
        let cut = self.rng.random_range(1..chunk.len() - 4);
        self.write(&chunk[..cut]);
        self.flush();
        self.pause(&self.style.split_ns.clone());
        self.write(&chunk[cut..]);
        self.now_ns
    }

    fn stream(&mut self, truth: &mut Truth) {
        self.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        if self.style.role {
            self.event(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#);
        }
        if self.happens(0.5) {
            self.flush();
            self.pause(&(0..2_000 * US));
        }
        let some = self.rng.random_range(self.style.tokens.clone());
        let tokens = if self.happens(self.style.empty) { 0 } else { some };
        let ends_early = self.happens(self.style.resets) || self.happens(self.style.hangs);
        let is_reset = self.happens(self.style.resets);
        for number in 0..tokens {
            if number > 0 && number % self.style.burst == 0 {
                self.flush();
                self.pause(&self.style.gap_ns.clone());
            }
            if ends_early && number == tokens / 2 {
                if is_reset {
                    self.sent.push((self.now_ns, Sent::Reset));
                }
                return;
            }
            let text = "x".repeat(self.rng.random_range(self.style.text_bytes.clone()));
            truth.text.push_str(&text);
            let at_ns = self.event(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#));
            truth.events_ns.push(at_ns);
            if self.happens(self.style.comment) {
                self.write(b"8\r\n: ping\n\n\r\n");
            }
        }
        self.end_gap();
        let finish_ns = self.event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#);
        let last_output_ns = truth.events_ns.last().copied().filter(|_| !self.style.counts_finish);
        truth.last_token_ns = last_output_ns.unwrap_or(finish_ns);
        self.end_gap();
        let counted = tokens + usize::from(self.style.counts_finish);
        self.event(&format!(
            r#"{{"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":{counted},"total_tokens":{}}}}}"#,
            counted + 3
        ));
        if self.style.done {
            self.end_gap();
            truth.end_ns = self.event("[DONE]");
        }
        self.end_gap();
        self.write(b"0\r\n\r\n");
        self.flush();
        if !self.style.done {
            truth.end_ns = self.now_ns;
        }
    }

    fn end_gap(&mut self) {
        if !self.style.end_gap_ns.is_empty() {
            self.flush();
            self.pause(&self.style.end_gap_ns.clone());
        }
    }

    fn document(&mut self, truth: &mut Truth) {
        let tokens = self.rng.random_range(self.style.tokens.clone());
        let text = "x".repeat(self.rng.random_range(self.style.text_bytes.clone()) * tokens);
        truth.text.push_str(&text);
        let body = format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
            tokens + 3
        );
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        for part in bytes.chunks(self.rng.random_range(50..bytes.len().max(51))) {
            self.write(part);
            self.flush();
            truth.end_ns = self.now_ns;
            self.pause(&self.style.split_ns.clone());
        }
        truth.events_ns.push(truth.end_ns);
        truth.last_token_ns = truth.end_ns;
    }
}
