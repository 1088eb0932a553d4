//! The connections of a worker: the response that each one receives, which ones are idle, and when one may be reused.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::memory::WorkerMemory;
use super::network::{ConnectionNetwork, NetworkBudget, send_request};
use super::receive::ReceivePath;
use super::receive::delivery::{ConnectionKey, Delivery};
use super::segments::ReadCount;
use super::socket::Socket;
use super::telemetry::Telemetry;
use super::tls_response;
use super::unrecorded::UnrecordedRequest;
use crate::api::answer::{Answer, AnswerOptions, Step};
use crate::net::tls::Tls;
use crate::record::trace::{ResponseTracer, Trace};
use crate::record::{Failure, NetworkTimes, Outcome, Phase};
use crate::time::clock::Clock;
use crate::time::{MS, Tick};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// No connection has this number.
    Free,
    /// The TLS handshake is in progress for this slot.
    Handshake { slot: u32 },
    /// Connected, without a request.
    Idle,
    /// A request of this slot is being sent, or its response received.
    Busy { slot: u32 },
    /// The response has ended and its slot has not run yet.
    Finished { reuse: bool },
    /// The end event of the response has come, but not the end of its body. Its slot goes on.
    Draining,
}

impl ConnectionState {
    /// Whether the slot need not wait for the response any longer.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, ConnectionState::Finished { .. } | ConnectionState::Draining)
    }
}

/// Statistics on the reads of one response. Lags are nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadStats {
    pub reads: u32,
    pub stamped: u32,
    pub lag_sum_ns: u64,
    pub lag_max_ns: u64,
}

/// A connection, or the free entry of one that was closed.
pub struct Connection {
    pub state: ConnectionState,
    pub generation: u32,
    /// `None` if closed. Shared with the epoll set and with tasks that wait until they can write.
    socket: Option<Rc<Socket>>,
    pub tls: Option<Box<Tls>>,
    pub answer: Answer,
    pub read_stats: ReadStats,
    /// When bytes last arrived, or the request was sent: the read timeout counts from here.
    pub last_active: Tick,
    /// When the response was complete or failed.
    pub ended: Tick,
    /// Requests sent on this connection.
    pub requests: u64,
    /// The response counts as complete this long after its first output (connection test only).
    pub enough_after_ns: Option<u64>,
    /// What comes next arrived after this time: the request was sent then, or the socket was empty.
    next_after: Tick,
    /// By how much the bytes of the last read may have arrived earlier than `last_active`, and whether its last byte
    /// arrived exactly then.
    read_bound: (u32, bool),
    pub(super) network: ConnectionNetwork,
    /// All reads of the connection.
    read_count: ReadCount,
    /// The last read of the response had output.
    had_output: bool,
    /// How long the TCP connection took to open, nanoseconds.
    pub connect_ns: u64,
    /// The request whose record is made when the body has ended, while the connection is draining.
    pub(super) unrecorded: Option<Box<UnrecordedRequest>>,
    /// The memory that the response holds, as counted so far, bytes.
    held_bytes: u64,
    /// The peer sent something or closed it while it was idle, so it will be closed.
    closing: bool,
    /// When the previous response ended.
    idle_since: Tick,
    /// Reports the current response to the trace.
    tracer: ResponseTracer,
}

impl Connection {
    /// The socket; `None` when the connection is closed.
    pub fn socket(&self) -> Option<Rc<Socket>> {
        self.socket.clone()
    }

    /// Writes bytes without blocking; see [`Socket::send`].
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.socket {
            Some(socket) if self.network.stamps_request() => send_request(socket, bytes),
            Some(socket) => socket.send(bytes),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Writes the queued bytes of the TLS session without blocking; false when the socket has no room for all of them.
    pub(crate) fn flush_tls(&mut self) -> io::Result<bool> {
        match (&mut self.tls, &self.socket) {
            (Some(tls), Some(socket)) if self.network.stamps_request() => {
                tls.flush_with(|bytes| send_request(socket, bytes))
            }
            (Some(tls), Some(socket)) => tls.flush(socket.fd()?),
            _ => Ok(true),
        }
    }

    /// By how much the last byte received may have arrived earlier than `last_active`.
    pub(crate) fn end_early_ns(&self) -> u32 {
        let (early_ns, exact) = self.read_bound;
        if exact && !self.answer.has_left_over() { 0 } else { early_ns }
    }

    /// Whether the proxy has not yet opened the tunnel to the server.
    pub(crate) fn awaits_tunnel(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.awaits_tunnel())
    }

    /// Prepares for the response to a request of `slot`; `request` identifies it in the trace.
    pub fn begin(&mut self, slot: u32, request: (Phase, u64), now: Tick) {
        self.tracer = ResponseTracer::new(request);
        self.idle_since = self.ended;
        self.state = ConnectionState::Busy { slot };
        self.answer.start();
        self.read_stats = ReadStats::default();
        self.last_active = now;
        self.next_after = now;
        self.read_bound = (0, false);
        self.had_output = false;
        self.requests += 1;
    }

    /// The network's part of the request whose record is made, which was written from `write_start` on.
    pub(super) fn end_network(&mut self, write_start: Option<Tick>, clock: &Clock) -> NetworkTimes {
        self.network.end(self.socket.as_deref(), write_start, clock)
    }

    /// Ends the response on the client's side: after a timeout, a write error, or at the end of the run.
    pub fn abort(&mut self, failure: Failure, text: &str, now: Tick) {
        self.answer.fail(failure, text);
        self.finish(false, now);
    }

    /// Replaces a response that is not one by a failure.
    pub(crate) fn reject(&mut self, text: &str) {
        self.answer.start();
        self.answer.fail(Failure::Protocol, text);
        self.state = ConnectionState::Finished { reuse: false };
    }

    /// The end event came a while ago, the end of the body did not: lets the slot go on at `now`.
    pub(crate) fn drain(&mut self, now: Tick) {
        self.answer.end_after_end_event();
        self.state = ConnectionState::Draining;
        self.ended = now;
    }

    /// Marks the response as over, in whatever state the answer is.
    pub fn finish(&mut self, reuse: bool, now: Tick) {
        self.state = ConnectionState::Finished { reuse };
        self.ended = now;
    }
}

/// All connections of a worker.
pub struct Connections {
    pub entries: Vec<Connection>,
    free: Vec<u32>,
    /// Last in, first out: the most recently used connection is least likely to have been closed.
    idle: Vec<u32>,
    /// Connections in the state of that name, the longest first.
    draining: VecDeque<u32>,
    memory: WorkerMemory,
    options: AnswerOptions,
    trace: Option<Trace>,
    pub(super) network_budget: NetworkBudget,
    /// Connections that the peer closed right after a response without announcing it.
    silent_closes: u64,
    /// Responses on reused connections.
    answered_again: u64,
    /// Responses after which the connection should have stayed open.
    kept_open: u64,
    pub opened: u64,
}

/// From the timestamp of a segment until it is in its socket: far longer than the kernel takes.
const STAMP_TO_SOCKET_NS: u64 = MS;
/// Two conversions of one timestamp differ by less.
const CONVERSION_NS: i64 = 100;
/// A bound that is narrower than this is not made narrower.
const NARROW_NS: u32 = 20_000;
/// A close within this time after a response is not an idle timeout: the server closes every connection.
const SILENT_CLOSE_NS: u64 = 100 * MS;
/// How long a slot waits for the end of the body after the end event. With most servers it comes at once, and the slot can
/// use the same connection again; after this time the slot goes on with another one.
pub(crate) const END_EVENT_GRACE_NS: u64 = MS;
/// How long a connection waits for the end of a body after the end event, so that it can be reused. Then it is closed.
pub(crate) const DRAIN_NS: u64 = 200 * MS;
/// A body that stays open for this long after the end event is reported.
pub(crate) const OPEN_AFTER_END_NS: u64 = 50 * MS;

impl Connections {
    pub(super) fn new(options: AnswerOptions, trace: Option<Trace>, memory: WorkerMemory) -> Connections {
        Connections {
            entries: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            draining: VecDeque::new(),
            memory,
            options,
            trace,
            network_budget: NetworkBudget::default(),
            silent_closes: 0,
            answered_again: 0,
            kept_open: 0,
            opened: 0,
        }
    }

    /// Adds a connected socket and starts to receive on it. Returns the number of the connection.
    pub fn add(&mut self, socket: Socket, state: ConnectionState, receive: &mut ReceivePath) -> io::Result<u32> {
        let socket = Rc::new(socket);
        let connection_id = self.free.pop().unwrap_or_else(|| self.new_entry());
        let connection = &mut self.entries[connection_id as usize];
        receive
            .watch(ConnectionKey { connection: connection_id, generation: connection.generation }, &socket)
            .inspect_err(|_| {
                self.free.push(connection_id);
            })?;
        // A set of epoll would report the timestamps until they are taken.
        connection.network = ConnectionNetwork::new(&socket, matches!(receive, ReceivePath::Ring(_)));
        connection.socket = Some(socket);
        connection.state = state;
        connection.requests = 0;
        connection.closing = false;
        connection.read_count = ReadCount::default();
        self.opened += 1;
        Ok(connection_id)
    }

    fn new_entry(&mut self) -> u32 {
        self.entries.push(Connection {
            state: ConnectionState::Free,
            generation: 0,
            socket: None,
            tls: None,
            answer: Answer::new(self.options),
            read_stats: ReadStats::default(),
            last_active: Tick(0),
            ended: Tick(0),
            requests: 0,
            enough_after_ns: None,
            next_after: Tick(0),
            read_bound: (0, false),
            network: ConnectionNetwork::default(),
            read_count: ReadCount::default(),
            had_output: false,
            connect_ns: 0,
            unrecorded: None,
            held_bytes: 0,
            closing: false,
            idle_since: Tick(0),
            tracer: ResponseTracer::default(),
        });
        self.entries.len() as u32 - 1
    }

    /// The number of idle connections.
    pub(crate) fn idle_count(&self) -> u32 {
        self.entries.iter().filter(|connection| connection.state == ConnectionState::Idle).count() as u32
    }

    /// Takes the most recently used idle connection. If the server closes each connection after one response, takes
    /// only connections without a request.
    pub(crate) fn take_idle(&mut self) -> Option<u32> {
        while let Some(connection_id) = self.idle.pop() {
            let connection = &self.entries[connection_id as usize];
            let doubtful = connection.requests > 0 && self.server_closes_silently();
            if connection.state == ConnectionState::Idle && !doubtful {
                return Some(connection_id);
            }
        }
        None
    }

    /// Keeps a draining connection until its body has ended. Its record is made of `unrecorded`.
    pub(super) fn add_draining(&mut self, connection_id: u32, unrecorded: UnrecordedRequest) {
        self.entries[connection_id as usize].unrecorded = Some(Box::new(unrecorded));
        self.draining.push_back(connection_id);
    }

    /// Whether any connection is draining.
    pub(super) fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The longest draining connection, if there are more than `most`, or if its end event came [`DRAIN_NS`] before `now`.
    pub(super) fn overdue(&self, most: usize, now: Tick) -> Option<u32> {
        let &first = self.draining.front()?;
        let ended = self.entries[first as usize].answer.seen.end_event?;
        (self.draining.len() > most || now.ns_since(ended) >= DRAIN_NS as i64).then_some(first)
    }

    /// Takes the request of a connection that stops draining.
    pub(super) fn take_drained(&mut self, connection_id: u32) -> Option<UnrecordedRequest> {
        self.draining.retain(|draining| *draining != connection_id);
        self.entries[connection_id as usize].unrecorded.take().map(|request| *request)
    }

    /// Gives back the memory of a response whose record was made.
    fn release(&mut self, connection_id: u32) {
        let connection = &mut self.entries[connection_id as usize];
        self.memory.release(std::mem::take(&mut connection.held_bytes));
        connection.answer.release();
    }

    /// Returns a connection to the idle ones after a response.
    pub(crate) fn put_back(&mut self, connection_id: u32) {
        self.release(connection_id);
        self.kept_open += 1;
        self.answered_again += u64::from(self.entries[connection_id as usize].requests > 1);
        self.add_idle(connection_id);
    }

    /// Adds a newly opened connection to the idle ones.
    pub(crate) fn add_idle(&mut self, connection_id: u32) {
        let connection = &mut self.entries[connection_id as usize];
        connection.state = ConnectionState::Idle;
        if connection.requests == 0 {
            connection.network.opened_early();
        }
        self.idle.push(connection_id);
    }

    /// Whether the peer closed most connections right after a response without announcing it, as llama.cpp does after
    /// announcing keep-alive. A server that has answered several requests on one connection does not count.
    pub(crate) fn server_closes_silently(&self) -> bool {
        self.silent_closes >= 3 && self.silent_closes * 2 > self.kept_open && self.silent_closes > self.answered_again
    }

    /// Counts a reused connection that turned out to be closed when a request was written at `written`.
    pub(crate) fn count_dead_reuse(&mut self, connection_id: u32, written: Tick) {
        let connection = &self.entries[connection_id as usize];
        let silent = connection.answer.seen.received_bytes == 0;
        self.silent_closes += u64::from(silent && connection.is_prompt_close(written, connection.idle_since));
    }

    /// Reports the unreported rest of a response that is over, an incomplete line, to the trace.
    pub(crate) fn trace_rest(&mut self, connection_id: u32) {
        if let Some(trace) = &self.trace {
            self.entries[connection_id as usize].trace(true, trace);
        }
    }

    /// Closes a connection and frees its number. Later deliveries for it are dropped.
    pub fn close(&mut self, connection_id: u32, receive: &mut ReceivePath) -> io::Result<()> {
        let connection = &mut self.entries[connection_id as usize];
        // Dropped, and thereby closed, at the end of this function, after the receive path has released it.
        let Some(_socket) = connection.socket.take() else { return Ok(()) };
        let source = ConnectionKey { connection: connection_id, generation: connection.generation };
        connection.generation = (connection.generation + 1) % ConnectionKey::GENERATIONS;
        let previous = std::mem::replace(&mut connection.state, ConnectionState::Free);
        connection.tls = None;
        if previous == ConnectionState::Idle {
            self.idle.retain(|idle| *idle != connection_id);
        }
        self.free.push(connection_id);
        self.release(connection_id);
        receive.forget(source)
    }

    /// Processes a delivery for one connection.
    ///
    /// The clock is read first, before any parsing. This time is the end of the receive lag, or the arrival time if the
    /// kernel gave no timestamp.
    pub(crate) fn deliver(
        &mut self,
        source: ConnectionKey,
        delivery: Delivery<'_>,
        clock: &Clock,
        telemetry: &mut Telemetry,
    ) -> DeliveryEffect {
        let reaped = clock.now();
        let Some(connection) = self.entries.get_mut(source.connection as usize) else { return DeliveryEffect::Nothing };
        if connection.generation != source.generation || connection.socket.is_none() {
            return DeliveryEffect::Nothing;
        }
        if let Delivery::Bytes { bytes, emptied, .. } = &delivery {
            connection.read_count.add(bytes.len(), *emptied);
        }
        if matches!(connection.state, ConnectionState::Idle | ConnectionState::Finished { .. })
            && let (Delivery::Bytes { bytes, .. }, Some(tls)) = (&delivery, &mut connection.tls)
            && tls_response::is_session_only(tls, bytes, reaped, connection.socket.as_ref().and_then(|s| s.fd().ok()))
        {
            return DeliveryEffect::Nothing;
        }
        let slot = match connection.state {
            ConnectionState::Busy { slot } | ConnectionState::Handshake { slot } => slot,
            ConnectionState::Draining => {
                return match connection.process(delivery, reaped, clock, telemetry) && connection.unrecorded.is_some() {
                    true => DeliveryEffect::Drained(source.connection),
                    false => DeliveryEffect::Nothing,
                };
            }
            ConnectionState::Idle => {
                // Plain bytes announce the close. Under TLS they may be just the close_notify.
                let silent = connection.tls.is_some() || !matches!(delivery, Delivery::Bytes { .. });
                // The close may be processed in the same poll as the bytes before it.
                let first = !std::mem::replace(&mut connection.closing, true);
                if first && silent && connection.requests > 0 && connection.is_prompt_close(reaped, connection.ended) {
                    self.silent_closes += 1;
                }
                return DeliveryEffect::Dead(source.connection);
            }
            // Bytes or a close after the end of the response, before the slot has put the connection back.
            ConnectionState::Finished { .. } => {
                connection.state = ConnectionState::Finished { reuse: false };
                return DeliveryEffect::Nothing;
            }
            ConnectionState::Free => return DeliveryEffect::Nothing,
        };
        let had_ended = connection.answer.seen.end_event.is_some();
        let mut over = connection.process(delivery, reaped, clock, telemetry);
        let held_bytes = connection.answer.held_bytes();
        let has_room = self.memory.update(std::mem::replace(&mut connection.held_bytes, held_bytes), held_bytes);
        if !has_room && !over {
            connection.abort(Failure::Protocol, &self.memory.refusal(), reaped);
            over = true;
        }
        let ending = !had_ended && connection.answer.seen.end_event.is_some();
        if let Some(trace) = &self.trace {
            connection.trace(over, trace);
        }
        match over {
            true => DeliveryEffect::Wake(slot),
            false if ending => DeliveryEffect::EndEvent(slot),
            false => DeliveryEffect::Nothing,
        }
    }
}

/// What the worker has to do after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryEffect {
    Nothing,
    /// This slot's response (or handshake) is over.
    Wake(u32),
    /// The end event of this slot's response has arrived, but not the end of its body.
    EndEvent(u32),
    /// This idle connection was closed by the peer: close it.
    Dead(u32),
    /// The body of this draining connection has ended, or the connection has.
    Drained(u32),
}

impl Connection {
    /// Processes one delivery of a busy connection. Returns whether its slot has to run.
    #[inline]
    fn process(&mut self, delivery: Delivery<'_>, reaped: Tick, clock: &Clock, telemetry: &mut Telemetry) -> bool {
        let handshaking = matches!(self.state, ConnectionState::Handshake { .. });
        let has_bytes = matches!(delivery, Delivery::Bytes { .. });
        let step = match delivery {
            Delivery::Bytes { bytes, timestamp_ns, empty_since, emptied } => {
                let since = empty_since.max(self.next_after);
                let previous = self.last_active;
                let (at, stamped) = self.arrival(timestamp_ns, since, reaped, clock, telemetry);
                self.last_active = at;
                let last_byte = stamped.filter(|_| emptied);
                self.next_after = last_byte.unwrap_or(since).max(since);
                if self.had_output {
                    telemetry.recent.add_gap(at.ns_since(previous).max(0) as u64);
                }
                let outputs = self.answer.seen.arrivals.len();
                // After a read without a timestamp, which counts as late as it was processed, later ones count as late.
                let exact = last_byte.is_some_and(|stamp| at.ns_since(stamp) <= CONVERSION_NS);
                let early_ns = u32::try_from(at.ns_since(since).max(0)).unwrap_or(u32::MAX);
                let step = match &mut self.tls {
                    None => self.answer.push(bytes, at),
                    Some(tls) => {
                        let fd = self.socket.as_ref().and_then(|socket| socket.fd().ok());
                        match tls_response::receive(tls, bytes, &mut self.answer, at, fd) {
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
                };
                let between_records = self.tls.as_ref().is_none_or(|tls| tls.is_between_records());
                let last_is_exact = exact && between_records;
                let early_ns = self.early_ns(early_ns, exact, last_is_exact, telemetry);
                self.had_output = self.answer.seen.streamed && self.answer.seen.arrivals.len() > outputs;
                self.read_bound = (early_ns, last_is_exact);
                self.answer.bound_read(early_ns, last_is_exact);
                step
            }
            Delivery::Eof if handshaking && self.awaits_tunnel() => {
                self.answer.fail(Failure::Connect, "the proxy closed the connection without a response to CONNECT");
                Step::Done { reuse: false }
            }
            Delivery::Eof if handshaking => {
                self.answer.fail(Failure::Tls, "the server closed the connection during the TLS handshake");
                Step::Done { reuse: false }
            }
            Delivery::Eof => {
                let step = self.answer.push_eof(reaped);
                // What only the end of the connection completes arrived with it, after the last byte.
                let early_ns = u32::try_from(reaped.ns_since(self.last_active).max(0)).unwrap_or(u32::MAX);
                self.answer.bound_read(early_ns, false);
                step
            }
            Delivery::Error(errno) => {
                let failure = if errno == libc::ECONNRESET { Failure::Reset } else { Failure::Truncated };
                self.answer.fail(failure, &io::Error::from_raw_os_error(errno).to_string());
                Step::Done { reuse: false }
            }
        };
        match step {
            Step::More if self.has_enough() => {
                self.finish(false, self.last_active);
                true
            }
            Step::More => false,
            Step::Done { reuse } => {
                // A stream has its end before the end of its body.
                let ended_before = self.answer.outcome() == Outcome::Ok && self.answer.seen.end_event.is_none();
                let complete = has_bytes || ended_before;
                self.finish(reuse, if complete { self.last_active } else { reaped });
                true
            }
        }
    }

    /// By how much what is in the last read may have arrived earlier than its timestamp: nothing if it came in one segment
    /// (`has_stamp`: the timestamp is that of its last segment), else `early_ns`.
    fn early_ns(&mut self, early_ns: u32, has_stamp: bool, last_is_exact: bool, telemetry: &mut Telemetry) -> u32 {
        if early_ns < NARROW_NS || !self.answer.needs_bound(last_is_exact) {
            return early_ns;
        }
        let received = self.socket.as_ref().filter(|_| has_stamp).and_then(|socket| socket.received());
        if received.is_some_and(|received| self.read_count.is_one_segment(received)) {
            return 0;
        }
        telemetry.recent.add_gap(0);
        early_ns
    }

    fn has_enough(&self) -> bool {
        let Some((after_ns, first)) = self.enough_after_ns.zip(self.answer.seen.first_token) else { return false };
        self.last_active.ns_since(first) >= after_ns as i64
    }

    /// Reports the response received so far to the trace.
    fn trace(&mut self, over: bool, trace: &Trace) {
        if matches!(
            self.state,
            ConnectionState::Busy { .. } | ConnectionState::Finished { .. } | ConnectionState::Draining
        ) {
            let seen = &self.answer.seen;
            self.tracer.read(seen.status, &seen.raw, over, self.last_active, trace);
        }
    }

    /// Whether a close at `at` follows the end of a response too soon to be an idle timeout.
    fn is_prompt_close(&self, at: Tick, ended: Tick) -> bool {
        (at.ns_since(ended).max(0) as u64) < SILENT_CLOSE_NS
    }

    /// The arrival time of one read: the kernel's timestamp, else the time of processing; and the former, if there is one.
    /// Its bytes arrived after `since`. Records the receive lag.
    #[inline]
    fn arrival(
        &mut self,
        timestamp_ns: Option<u64>,
        since: Tick,
        reaped: Tick,
        clock: &Clock,
        telemetry: &mut Telemetry,
    ) -> (Tick, Option<Tick>) {
        let stamped = timestamp_ns.and_then(|ns| clock.tick_from_kernel(ns, reaped, since));
        // A timestamp from before the socket was empty is of a wall clock that was stepped back since.
        let stamped = stamped.filter(|at| at.plus_ns(STAMP_TO_SOCKET_NS) >= since);
        let read_stats = &mut self.read_stats;
        read_stats.reads += 1;
        let Some(at) = stamped else {
            telemetry.unstamped_read();
            return (reaped.max(self.last_active), None);
        };
        let lag_ns = reaped.0 - at.0;
        read_stats.stamped += 1;
        read_stats.lag_sum_ns += lag_ns;
        read_stats.lag_max_ns = read_stats.lag_max_ns.max(lag_ns);
        telemetry.stamped_read(lag_ns);
        // Conversions of timestamps may differ by nanoseconds; arrival times on one connection must not decrease.
        (at.max(self.last_active), stamped)
    }
}
