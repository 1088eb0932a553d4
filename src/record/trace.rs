//! The events of requests for `--debug`, sent by the threads that carry the requests and logged by a thread of its own.
//!
//! Sending never blocks. When the receiver falls behind, events that do not fit into the channel are dropped and
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Outcome, Phase};
use crate::time::Tick;

/// The longest excerpt of a body or line, bytes.
const EXCERPT_BYTES: usize = 4096;
/// Capacity of the channel, events.
const CAPACITY: usize = 16_384;

/// An event of a request.
#[derive(Clone, Debug)]
pub struct TraceEvent {
    pub at: Tick,
    pub phase: Phase,
    pub index: u64,
    pub kind: TraceKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// No idle connection: a new one is being opened.
    Connecting,
    /// The kernel accepted the request with this body.
    Sent(Excerpt),
    /// The response head with this status arrived.
    Answered(u16),
    /// A line of the response body.
    Received(Excerpt),
    /// The reused connection was closed: the request is sent again on a new one.
    Retried,
    Ended {
        outcome: Outcome,
        status: u16,
        error: String,
    },
}

/// The beginning of a text, and the length of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    beginning: Vec<u8>,
    bytes: usize,
}

impl Excerpt {
    /// The part of `bytes` that is logged.
    pub fn new(bytes: &[u8]) -> Excerpt {
        Excerpt { beginning: bytes[..bytes.len().min(EXCERPT_BYTES)].to_vec(), bytes: bytes.len() }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.beginning);
        if self.bytes == self.beginning.len() { text.into_owned() } else { format!("{text}... ({} bytes)", self.bytes) }
    }
}

/// The sender of events.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: Sender<TraceEvent>,
    dropped: Arc<AtomicU64>,
}

/// The receiver of events.
#[derive(Debug)]
pub struct TraceReceiver {
    pub lines: Receiver<TraceEvent>,
    dropped: Arc<AtomicU64>,
}

/// A channel for events. It closes when the last [`Trace`] is dropped.
pub fn channel() -> (Trace, TraceReceiver) {
    let (sender, lines) = bounded(CAPACITY);
    let dropped = Arc::new(AtomicU64::new(0));
    (Trace { lines: sender, dropped: dropped.clone() }, TraceReceiver { lines, dropped })
}

impl Trace {
    /// Sends an event of a request, or drops and counts it when the channel is full.
    pub fn send(&self, at: Tick, (phase, index): (Phase, u64), kind: TraceKind) {
        if self.lines.try_send(TraceEvent { at, phase, index, kind }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl TraceReceiver {
    /// The number of events that were dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The log line of an event.
pub(crate) fn event_line(event: &TraceEvent) -> String {
    let phase = match event.phase {
        Phase::Preflight => "connection test",
        Phase::Warmup => "warm-up",
        Phase::Measured => "request",
        Phase::Witness => "witness",
    };
    let what = match &event.kind {
        TraceKind::Connecting => "connecting".to_string(),
        TraceKind::Sent(body) => format!("sent: {}", body.text()),
        TraceKind::Answered(status) => format!("got status {status}"),
        TraceKind::Received(line) => format!("received: {}", line.text()),
        TraceKind::Retried => "sent again on a new connection, because the reused one was closed".to_string(),
        TraceKind::Ended { outcome: Outcome::Ok, status, .. } => format!("ended: status {status}, ok"),
        TraceKind::Ended { outcome: Outcome::Failed(failure), status, error } => {
            format!("ended: status {status}, {}: {error}", failure.name())
        }
        TraceKind::Ended { outcome: Outcome::Unfinished, .. } => "ended: unfinished".to_string(),
    };
    format!("{phase} {} {what}", event.index)
}

/// Sends the lines of one response as they become complete.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseTracer {
    pub request: (Phase, u64),
    head: bool,
    bytes: usize,
}

impl ResponseTracer {
    /// For the response to this request, of which nothing has been sent.
    pub fn new(request: (Phase, u64)) -> ResponseTracer {
        ResponseTracer { request, ..ResponseTracer::default() }
    }

    /// Sends what is new in a response with this status (0: no head yet) and this body so far: complete lines, and the
    /// last one when the response is `over`.
    pub fn read(&mut self, status: u16, body: &[u8], over: bool, at: Tick, trace: &Trace) {
        if status != 0 && !self.head {
            self.head = true;
            trace.send(at, self.request, TraceKind::Answered(status));
        }
        let new = body.get(self.bytes..).unwrap_or_default();
        let whole = if over { new.len() } else { new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
        self.bytes += whole;
        let lines = new[..whole].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        for line in lines.filter(|line| !line.is_empty()) {
            trace.send(at, self.request, TraceKind::Received(Excerpt::new(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failure;

    fn texts(listener: &TraceReceiver) -> Vec<String> {
        listener.lines.try_iter().map(|event| event_line(&event)).collect()
    }

    #[test]
    fn lines_are_sent_as_soon_as_they_are_complete() {
        let (trace, listener) = channel();
        let mut reader = ResponseTracer::new((Phase::Measured, 3));
        let body = b"data: {\"a\":1}\r\n\r\ndata: [DONE]\n\nend";
        reader.read(0, b"", false, Tick(1), &trace);
        assert!(texts(&listener).is_empty());
        reader.read(200, &body[..6], false, Tick(2), &trace);
        assert_eq!(texts(&listener), ["request 3 got status 200"]);
        reader.read(200, &body[..20], false, Tick(3), &trace);
        assert_eq!(texts(&listener), ["request 3 received: data: {\"a\":1}"]);
        reader.read(200, body, true, Tick(4), &trace);
        assert_eq!(texts(&listener), ["request 3 received: data: [DONE]", "request 3 received: end"]);
    }

    #[test]
    fn long_bodies_are_cut_and_failures_named() {
        let (trace, listener) = channel();
        trace.send(Tick(1), (Phase::Preflight, 0), TraceKind::Sent(Excerpt::new(&[b'x'; 5000])));
        let outcome = Outcome::Failed(Failure::Connect);
        trace.send(
            Tick(2),
            (Phase::Preflight, 0),
            TraceKind::Ended { outcome, status: 0, error: "refused".to_string() },
        );
        let lines = texts(&listener);
        assert!(lines[0].starts_with("connection test 0 sent: xx") && lines[0].ends_with("x... (5000 bytes)"));
        assert_eq!(lines[1], "connection test 0 ended: status 0, connect: refused");
    }

    #[test]
    fn sending_never_blocks() {
        let (trace, listener) = channel();
        for _ in 0..CAPACITY + 7 {
            trace.send(Tick(1), (Phase::Measured, 0), TraceKind::Retried);
        }
        assert_eq!((listener.take_dropped(), listener.take_dropped()), (7, 0));
        drop(trace);
        assert_eq!(listener.lines.iter().count(), CAPACITY);
    }
}
