//! The ground truth: timestamps and counts of the server, which tests compare with a client's records.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::request_body::Endpoint;
use crate::time::Tick;

/// The record of one request to a generating endpoint. Send times are taken just before the system call.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Number of the request at this server, from 0, in order of arrival.
    pub ordinal: u64,
    /// `X-Request-Id`; empty if absent.
    pub request_id: String,
    pub endpoint: Endpoint,
    pub streamed: bool,
    /// Number of the connection at this server, from 0.
    pub connection: u64,
    /// When the first and the last bytes of the request were read.
    pub received_first: Tick,
    pub received_last: Tick,
    /// When the request got a slot and the prefill began; `None` if no slot became free or a fault came first.
    pub started: Option<Tick>,
    pub head_sent: Option<Tick>,
    /// Send times of the output events, in order. A JSON response is one event; events of faults are not included.
    pub sends: Vec<Tick>,
    /// When the system calls of these sends returned. The bytes were sent between the two times, which are far apart if
    /// the mock lost its core between them.
    pub returns: Vec<Tick>,
    /// The tokens of each choice, whether they had an event or not.
    pub choices: Vec<ChoiceTruth>,
    /// When the last bytes of the response were sent, complete or not.
    pub last_byte: Option<Tick>,
    /// 0 if no HTTP response was sent.
    pub status: u16,
    pub prompt_tokens: u32,
    /// Equal prompts have equal hashes.
    pub prompt_hash: u64,
    /// The limit of output tokens in the request.
    pub max_tokens: Option<u32>,
    /// Whether the request asked for token counts at the end of the stream.
    pub usage_asked: bool,
    /// Tokens sent, over all choices.
    pub output_tokens: u32,
    /// Whether the response reported its token counts.
    pub usage_sent: bool,
    /// The name of the injected fault.
    pub fault: Option<&'static str>,
    /// Writes of this response that the socket did not accept completely; the recorded send times of these are too
    /// early.
    pub blocked_writes: u32,
    pub end: End,
}

/// The tokens and output events of one choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChoiceTruth {
    /// Counted tokens, and the times of the steps of the first and the last one. The tokens of a JSON response are
    /// generated before it is sent.
    pub tokens: u32,
    pub first_token: Option<Tick>,
    pub last_token: Option<Tick>,
    /// Output events of a stream, and the send times of the first and the last one.
    pub events: u32,
    pub first_output: Option<Tick>,
    pub last_output: Option<Tick>,
}

impl ChoiceTruth {
    /// `(last_token − first_token) / (tokens − 1)`, nanoseconds.
    pub fn tpot_ns(&self) -> Option<f64> {
        let span = self.last_token?.ns_since(self.first_token?);
        (self.tokens > 1).then(|| span as f64 / f64::from(self.tokens - 1))
    }

    fn json(&self) -> serde_json::Value {
        let time = |tick: Option<Tick>| tick.map(|tick| tick.0);
        serde_json::json!({
            "tokens": self.tokens, "first_token": time(self.first_token), "last_token": time(self.last_token),
            "events": self.events, "first_output": time(self.first_output), "last_output": time(self.last_output),
        })
    }
}

/// How a request ended at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response was sent completely.
    Complete,
    /// A fault cut off or replaced the response.
    Fault,
    /// The client closed the connection first.
    ClientGone,
    /// The server was stopped first.
    Stopped,
}

impl End {
    /// The word in `/truth`.
    pub fn name(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::Fault => "fault",
            End::ClientGone => "client_gone",
            End::Stopped => "stopped",
        }
    }
}

/// The counters of a mock since its start (peak and lateness: since the last reset).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Valid requests to generating endpoints.
    pub requests: u64,
    /// Output events sent.
    pub events: u64,
    /// Requests received whose responses have not ended, and the peak of this number.
    pub in_flight: u64,
    pub peak_in_flight: u64,
    /// Connections accepted, and connections open.
    pub connections: u64,
    pub open_connections: u64,
    /// Requests that were rejected: not HTTP, invalid JSON, unknown path.
    pub refused: u64,
    /// Writes that the socket did not accept completely.
    pub blocked_writes: u64,
    /// Delay of writes after their due times, nanoseconds.
    pub lateness_p50_ns: u64,
    pub lateness_p99_ns: u64,
    pub lateness_p999_ns: u64,
    pub lateness_max_ns: u64,
    /// Requests whose record was not stored because the limit was reached.
    pub truth_dropped: u64,
    /// CPU time of the event loops, nanoseconds.
    pub cpu_ns: u64,
}

impl Stats {
    pub(super) fn set_lateness(&mut self, lateness_ns: &Histogram<u64>) {
        self.lateness_p50_ns = lateness_ns.value_at_quantile(0.5);
        self.lateness_p99_ns = lateness_ns.value_at_quantile(0.99);
        self.lateness_p999_ns = lateness_ns.value_at_quantile(0.999);
        self.lateness_max_ns = lateness_ns.max();
    }

    fn json(&self) -> String {
        serde_json::json!({
            "requests": self.requests, "events": self.events,
            "in_flight": self.in_flight, "peak_in_flight": self.peak_in_flight,
            "connections": self.connections, "open_connections": self.open_connections,
            "refused": self.refused, "blocked_writes": self.blocked_writes,
            "lateness_ns": {
                "p50": self.lateness_p50_ns, "p99": self.lateness_p99_ns,
                "p999": self.lateness_p999_ns, "max": self.lateness_max_ns,
            },
            "truth_dropped": self.truth_dropped, "cpu_ns": self.cpu_ns,
        })
        .to_string()
    }
}

/// Renders the page `/truth`: `{"clock":..., "stats":{...}, "requests":[{...}]}`. Times are nanoseconds of
/// `CLOCK_MONOTONIC`, or `null` if the event did not happen.
pub(super) fn page(stats: &Stats, truths: &[Truth]) -> Vec<u8> {
    let mut out = format!("{{\"clock\":\"CLOCK_MONOTONIC ns\",\"stats\":{},\"requests\":[", stats.json());
    for (index, truth) in truths.iter().enumerate() {
        out.push_str(if index > 0 { ",\n" } else { "\n" });
        truth.write_json(&mut out);
    }
    out.push_str("\n]}\n");
    out.into_bytes()
}

impl Truth {
    fn write_json(&self, out: &mut String) {
        let optional = |tick: Option<Tick>| tick.map_or("null".to_string(), |tick| tick.0.to_string());
        write!(
            out,
            "{{\"ordinal\":{},\"request_id\":{},\"path\":\"{}\",\"streamed\":{},\"connection\":{},\"received_first\":{},\"received_last\":{},\"started\":{},\"head_sent\":{},\"last_byte\":{},\"status\":{},\"prompt_tokens\":{},\"prompt_hash\":\"{:016x}\",\"max_tokens\":{},\"usage_asked\":{},\"output_tokens\":{},\"usage_sent\":{},\"fault\":{},\"blocked_writes\":{},\"end\":\"{}\",\"sends\":[",
            self.ordinal,
            serde_json::Value::from(self.request_id.as_str()),
            self.endpoint.path(),
            self.streamed,
            self.connection,
            self.received_first.0,
            self.received_last.0,
            optional(self.started),
            optional(self.head_sent),
            optional(self.last_byte),
            self.status,
            self.prompt_tokens,
            self.prompt_hash,
            self.max_tokens.map_or("null".to_string(), |max| max.to_string()),
            self.usage_asked,
            self.output_tokens,
            self.usage_sent,
            self.fault.map_or("null".to_string(), |name| format!("\"{name}\"")),
            self.blocked_writes,
            self.end.name(),
        )
        .expect("writing to a String cannot fail");
        write_ticks(out, &self.sends);
        out.push_str("],\"returns\":[");
        write_ticks(out, &self.returns);
        let choices: Vec<serde_json::Value> = self.choices.iter().map(ChoiceTruth::json).collect();
        write!(out, "],\"choices\":{}}}", serde_json::Value::from(choices)).expect("writing to a String cannot fail");
    }
}

fn write_ticks(out: &mut String, ticks: &[Tick]) {
    for (index, tick) in ticks.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}{}", tick.0).expect("writing to a String cannot fail");
    }
}
