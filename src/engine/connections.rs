//! A worker's connections: the response that each one is receiving, which are idle, and when one may be reused.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::receive::ReceivePath;
use super::receive::delivery::{Delivery, Source};
use super::telemetry::Telemetry;
use super::tls_response;
use crate::api::answer::{Answer, AnswerOptions, Step};
use crate::net::socket::send;
use crate::net::tls::Tls;
use crate::record::trace::{ResponseTracer, Trace};
use crate::record::{Failure, Outcome, Phase};
use crate::time::clock::Clock;
use crate::time::{MS, Tick};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no connection with this number.
    Free,
    /// The TLS handshake is in progress for this slot.
    Handshake { slot: u32 },
    /// Connected, without a request.
    Idle,
    /// A request of this slot is being sent or answered.
    Busy { slot: u32 },
    /// The response has ended and its slot has not run yet.
    Finished { reuse: bool },
}

/// Statistics on the reads of one response. Lags are nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadStats {
    pub reads: u32,
    pub stamped: u32,
    pub lag_sum_ns: u64,
    pub lag_max_ns: u64,
}

/// A connection, or the place of one that was closed.
pub struct Connection {
    pub state: State,
    pub generation: u32,
    /// `None` when it is closed. Shared with the epoll set and with tasks that wait until they can write.
    socket: Option<Rc<OwnedFd>>,
    pub tls: Option<Box<Tls>>,
    pub answer: Answer,
    pub read_stats: ReadStats,
    /// When bytes last arrived, or the request was sent: the read timeout counts from here.
    pub last_active: Tick,
    /// When the response was complete or failed.
    pub ended: Tick,
    /// Requests sent on this connection.
    pub requests: u64,
    /// The response counts as complete this long after its first output: enough to know that the server answers.
    pub suffices_after_ns: Option<u64>,
    /// How long the TCP connection took to open, nanoseconds.
    pub connect_ns: u64,
    /// Something arrived while it was idle: it is about to be closed.
    closing: bool,
    /// When the previous response ended.
    idle_since: Tick,
    /// How much of the current response was reported to the trace.
    reader: ResponseTracer,
}

impl Connection {
    /// The socket; `None` when the connection is closed.
    pub fn socket(&self) -> Option<Rc<OwnedFd>> {
        self.socket.clone()
    }

    /// Hands bytes to the kernel without blocking; see [`send`].
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.socket {
            Some(socket) => send(socket, bytes),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Hands what the TLS session has queued to the kernel; false when the socket has no room for all of it.
    pub fn flush_tls(&mut self) -> io::Result<bool> {
        match (&mut self.tls, &self.socket) {
            (Some(tls), Some(socket)) => tls.flush(socket),
            _ => Ok(true),
        }
    }

    /// Whether a proxy has yet to open the tunnel to the server.
    pub fn awaits_tunnel(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.awaits_tunnel())
    }

    /// Prepares for the response to a request of `slot`; `request` identifies it in the trace.
    pub fn begin(&mut self, slot: u32, request: (Phase, u64), now: Tick) {
        self.reader = ResponseTracer::new(request);
        self.idle_since = self.ended;
        self.state = State::Busy { slot };
        self.answer.start();
        self.read_stats = ReadStats::default();
        self.last_active = now;
        self.requests += 1;
    }

    /// Ends the response from our side: a timeout, a write error, the end of the run.
    pub fn abort(&mut self, failure: Failure, text: &str, now: Tick) {
        self.answer.fail(failure, text);
        self.finish(false, now);
    }

    /// The response is over, in whatever state the answer is.
    pub fn finish(&mut self, reuse: bool, now: Tick) {
        self.state = State::Finished { reuse };
        self.ended = now;
    }
}

/// All connections of a worker.
pub struct Connections {
    pub entries: Vec<Connection>,
    free: Vec<u32>,
    /// Last in, first out: the most recently used connection is the one least likely to have been closed.
    idle: Vec<u32>,
    options: AnswerOptions,
    trace: Option<Trace>,
    /// Connections that the peer closed right after a response without having announced it.
    silent_closes: u64,
    /// Responses on reused connections.
    answered_again: u64,
    /// Responses after which the connection was to stay open.
    kept_open: u64,
    pub opened: u64,
}

/// A server that closes a connection this soon after a response always does so: it is no idle timeout.
const SILENT_CLOSE_NS: u64 = 100 * MS;
/// How long the end of a body is awaited after the end event of its stream, so that the connection can be reused.
pub const END_EVENT_GRACE_NS: u64 = 200 * MS;
/// A body that stays open for this long after the end event is reported.
pub const OPEN_AFTER_END_NS: u64 = 50 * MS;

impl Connections {
    pub fn new(options: AnswerOptions, trace: Option<Trace>) -> Connections {
        Connections {
            entries: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            options,
            trace,
            silent_closes: 0,
            answered_again: 0,
            kept_open: 0,
            opened: 0,
        }
    }

    /// Adds a connected socket and begins to receive on it; returns the number of the connection.
    pub fn add(&mut self, socket: OwnedFd, state: State, receive: &mut ReceivePath) -> io::Result<u32> {
        let socket = Rc::new(socket);
        let connection_id = self.free.pop().unwrap_or_else(|| self.new_entry());
        let connection = &mut self.entries[connection_id as usize];
        receive.watch(Source { connection: connection_id, generation: connection.generation }, &socket).inspect_err(
            |_| {
                self.free.push(connection_id);
            },
        )?;
        connection.socket = Some(socket);
        connection.state = state;
        connection.requests = 0;
        connection.closing = false;
        self.opened += 1;
        Ok(connection_id)
    }

    fn new_entry(&mut self) -> u32 {
        self.entries.push(Connection {
            state: State::Free,
            generation: 0,
            socket: None,
            tls: None,
            answer: Answer::new(self.options),
            read_stats: ReadStats::default(),
            last_active: Tick(0),
            ended: Tick(0),
            requests: 0,
            suffices_after_ns: None,
            connect_ns: 0,
            closing: false,
            idle_since: Tick(0),
            reader: ResponseTracer::default(),
        });
        self.entries.len() as u32 - 1
    }

    /// The number of idle connections.
    pub fn idle_count(&self) -> u32 {
        self.entries.iter().filter(|connection| connection.state == State::Idle).count() as u32
    }

    /// The most recently used idle connection, unless the server has shown that it closes each after one response.
    pub fn take_idle(&mut self) -> Option<u32> {
        while let Some(connection_id) = self.idle.pop() {
            let connection = &self.entries[connection_id as usize];
            // A connection that was opened ahead of its first request can be used even if the server closes the others.
            let doubtful = connection.requests > 0 && self.server_closes_silently();
            if connection.state == State::Idle && !doubtful {
                return Some(connection_id);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn put_back(&mut self, connection_id: u32) {
        self.kept_open += 1;
        self.answered_again += u64::from(self.entries[connection_id as usize].requests > 1);
        self.add_idle(connection_id);
    }

    /// Makes a freshly opened connection available.
    pub fn add_idle(&mut self, connection_id: u32) {
        self.entries[connection_id as usize].state = State::Idle;
        self.idle.push(connection_id);
    }

    /// Whether the peer closed most connections right after a response although they were to stay open (llama.cpp does,
    /// while announcing keep-alive). A server that answers several requests on one connection closes it for another
    /// reason.
    pub fn server_closes_silently(&self) -> bool {
        self.silent_closes >= 3 && self.silent_closes * 2 > self.kept_open && self.silent_closes > self.answered_again
    }

    /// Notes that a reused connection turned out to be dead when a request was written at this time.
    pub fn note_dead_reuse(&mut self, connection_id: u32, written: Tick) {
        let connection = &self.entries[connection_id as usize];
        let silent = connection.answer.seen.received_bytes == 0;
        self.silent_closes += u64::from(silent && connection.is_prompt_close(written, connection.idle_since));
    }

    /// Reports to the trace what was not reported of a response that is over: an incomplete line.
    pub fn trace_rest(&mut self, connection_id: u32) {
        if let Some(trace) = &self.trace {
            self.entries[connection_id as usize].trace(true, trace);
        }
    }

    /// Closes a connection and frees its number; what still arrives for it is dropped.
    pub fn close(&mut self, connection_id: u32, receive: &mut ReceivePath) -> io::Result<()> {
        let connection = &mut self.entries[connection_id as usize];
        // Closed at the end of this function, when nothing is received on it any more.
        let Some(_socket) = connection.socket.take() else { return Ok(()) };
        let source = Source { connection: connection_id, generation: connection.generation };
        connection.generation = (connection.generation + 1) % Source::GENERATIONS;
        let was = std::mem::replace(&mut connection.state, State::Free);
        connection.tls = None;
        if was == State::Idle {
            self.idle.retain(|idle| *idle != connection_id);
        }
        self.free.push(connection_id);
        receive.forget(source)
    }

    /// Processes what was received for one connection.
    ///
    /// The clock is read first, before any parsing: this is the arrival time where the kernel gave no timestamp, and the
    /// end of the receive lag where it did.
    pub fn deliver(
        &mut self,
        source: Source,
        delivery: Delivery<'_>,
        clock: &Clock,
        telemetry: &mut Telemetry,
    ) -> Delivered {
        let reaped = clock.now();
        let Some(connection) = self.entries.get_mut(source.connection as usize) else { return Delivered::Nothing };
        if connection.generation != source.generation || connection.socket.is_none() {
            return Delivered::Nothing;
        }
        let slot = match connection.state {
            State::Busy { slot } | State::Handshake { slot } => slot,
            State::Idle => {
                // Bytes announce the close; under TLS they may be no more than its close_notify.
                let silent = connection.tls.is_some() || !matches!(delivery, Delivery::Bytes { .. });
                // The close may be processed in the same round as the bytes before it.
                let first = !std::mem::replace(&mut connection.closing, true);
                if first && silent && connection.requests > 0 && connection.is_prompt_close(reaped, connection.ended) {
                    self.silent_closes += 1;
                }
                return Delivered::Dead(source.connection);
            }
            // Bytes or a close after the end of a response, before the slot has put the connection back.
            State::Finished { .. } => {
                connection.state = State::Finished { reuse: false };
                return Delivered::Nothing;
            }
            State::Free => return Delivered::Nothing,
        };
        let had_ended = connection.answer.seen.end_event.is_some();
        let over = connection.take(delivery, reaped, clock, telemetry);
        let ending = !had_ended && connection.answer.seen.end_event.is_some();
        if let Some(trace) = &self.trace {
            connection.trace(over, trace);
        }
        match over {
            true => Delivered::Wake(slot),
            false if ending => Delivered::EndEvent(slot),
            false => Delivered::Nothing,
        }
    }
}

/// The consequence of a delivery for the rest of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Nothing,
    /// This slot's response (or handshake) is over.
    Wake(u32),
    /// The end event of this slot's response has arrived, but not the end of its body.
    EndEvent(u32),
    /// This idle connection was closed by the peer: close it.
    Dead(u32),
}

impl Connection {
    /// Processes one delivery of a busy connection; true when its slot has to run.
    #[inline]
    fn take(&mut self, delivery: Delivery<'_>, reaped: Tick, clock: &Clock, telemetry: &mut Telemetry) -> bool {
        let handshaking = matches!(self.state, State::Handshake { .. });
        let brought_bytes = matches!(delivery, Delivery::Bytes { .. });
        let step = match delivery {
            Delivery::Bytes { bytes, stamp_ns } => {
                let at = self.arrival(stamp_ns, reaped, clock, telemetry);
                self.last_active = at;
                match &mut self.tls {
                    None => self.answer.push(bytes, at),
                    Some(tls) => {
                        match tls_response::receive(tls, bytes, &mut self.answer, at, self.socket.as_deref()) {
                            Ok(step) if handshaking && step == Step::More => {
                                return !tls.is_handshaking() || tls.has_outgoing();
                            }
                            Ok(step) => step,
                            Err(text) => {
                                let failure = if tls.awaits_tunnel() { Failure::Connect } else { Failure::Tls };
                                self.answer.fail(failure, &text);
                                Step::Done { reuse: false }
                            }
                        }
                    }
                }
            }
            Delivery::Eof if handshaking && self.awaits_tunnel() => {
                self.answer.fail(Failure::Connect, "the proxy closed the connection without a response to CONNECT");
                Step::Done { reuse: false }
            }
            Delivery::Eof if handshaking => {
                self.answer.fail(Failure::Tls, "the server closed the connection during the TLS handshake");
                Step::Done { reuse: false }
            }
            Delivery::Eof => self.answer.push_eof(reaped),
            Delivery::Error(errno) => {
                let failure = if errno == libc::ECONNRESET { Failure::Reset } else { Failure::Truncated };
                self.answer.fail(failure, &io::Error::from_raw_os_error(errno).to_string());
                Step::Done { reuse: false }
            }
        };
        match step {
            Step::More if self.has_sufficed() => {
                self.finish(false, self.last_active);
                true
            }
            Step::More => false,
            Step::Done { reuse } => {
                let complete = brought_bytes || self.answer.outcome() == Outcome::Ok;
                self.finish(reuse, if complete { self.last_active } else { reaped });
                true
            }
        }
    }

    fn has_sufficed(&self) -> bool {
        let Some((after_ns, first)) = self.suffices_after_ns.zip(self.answer.seen.first_token) else { return false };
        self.last_active.ns_since(first) >= after_ns as i64
    }

    /// Reports to the trace what a delivery contained.
    fn trace(&mut self, over: bool, trace: &Trace) {
        if matches!(self.state, State::Busy { .. } | State::Finished { .. }) {
            let seen = &self.answer.seen;
            self.reader.read(seen.status, &seen.raw, over, self.last_active, trace);
        }
    }

    /// Whether a close at `at` comes so soon after the end of a response that the server closes every connection.
    fn is_prompt_close(&self, at: Tick, ended: Tick) -> bool {
        (at.ns_since(ended).max(0) as u64) < SILENT_CLOSE_NS
    }

    /// The arrival time of one read: the kernel's timestamp, else the time of processing. Records the receive lag.
    #[inline]
    fn arrival(&mut self, stamp_ns: Option<u64>, reaped: Tick, clock: &Clock, telemetry: &mut Telemetry) -> Tick {
        let stamped = stamp_ns.and_then(|ns| clock.tick_from_kernel(ns, reaped));
        let read_stats = &mut self.read_stats;
        read_stats.reads += 1;
        let Some(at) = stamped else {
            telemetry.unstamped_read();
            return reaped.max(self.last_active);
        };
        let lag_ns = reaped.0 - at.0;
        read_stats.stamped += 1;
        read_stats.lag_sum_ns += lag_ns;
        read_stats.lag_max_ns = read_stats.lag_max_ns.max(lag_ns);
        telemetry.stamped_read(lag_ns);
        // Two conversions of timestamps may differ by nanoseconds; on one connection time does not go back.
        at.max(self.last_active)
    }
}
