//! A worker's connections: the answer each one is receiving, which are idle, and when one may be used again.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::clock::Clock;
use super::inbox::{Delivery, Inbox, Source};
use super::telemetry::Telemetry;
use super::tls::Tls;
use crate::api::answer::{Answer, AnswerOptions, Step};
use crate::record::trace::{Reader, Trace};
use crate::record::{Failure, Outcome, Phase};
use crate::time::{MS, Tick};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The slot holds no connection.
    Free,
    /// The TLS handshake is under way for this lane.
    Handshake { lane: u32 },
    /// Connected, carrying nothing.
    Idle,
    /// A request of this lane is being written or answered.
    Busy { lane: u32 },
    /// The lane has not yet looked at the end of its response.
    Finished { reuse: bool },
}

/// How the reads of one response went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipts {
    pub reads: u32,
    pub stamped: u32,
    pub lag_sum_ns: u64,
    pub lag_max_ns: u64,
}

/// One slot of the pool.
pub struct Connection {
    pub state: State,
    pub generation: u32,
    fd: Option<OwnedFd>,
    pub tls: Option<Box<Tls>>,
    pub answer: Answer,
    pub receipts: Receipts,
    /// When bytes last arrived, or the request was sent: silence is counted from here.
    pub last_active: Tick,
    /// When the response was complete or broken.
    pub ended: Tick,
    /// Requests carried.
    pub requests: u64,
    /// The response counts as over so long after its first output: enough to know that the server answers.
    pub suffices_after_ns: Option<u64>,
    /// How long the TCP connection took to open.
    pub connect_ns: u64,
    /// Something came while it was idle: it is about to be closed.
    leaving: bool,
    /// When the response before the present one ended.
    idle_since: Tick,
    /// What of the present response has been told.
    reader: Reader,
}

impl Connection {
    /// The descriptor, -1 when the slot is free.
    pub fn fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// A second descriptor of the same socket; `None` when the slot is free.
    pub fn copy_fd(&self) -> Option<std::io::Result<OwnedFd>> {
        self.fd.as_ref().map(OwnedFd::try_clone)
    }

    /// Whether a proxy has still to open the way to the server.
    pub fn awaits_tunnel(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.awaits_tunnel())
    }

    /// Makes ready for the response of a request of `lane`; `request` names it where it is told of.
    pub fn begin(&mut self, lane: u32, request: (Phase, u64), now: Tick) {
        self.reader = Reader::new(request);
        self.idle_since = self.ended;
        self.state = State::Busy { lane };
        self.answer.start();
        self.receipts = Receipts::default();
        self.last_active = now;
        self.requests += 1;
    }

    /// Ends the response from our side: a timeout, a write error, the end of the run.
    pub fn abort(&mut self, failure: Failure, text: &str, now: Tick) {
        self.answer.fail(failure, text);
        self.finish(false, now);
    }

    /// The response is over, whatever the answer says.
    pub fn finish(&mut self, reuse: bool, now: Tick) {
        self.state = State::Finished { reuse };
        self.ended = now;
    }
}

/// All connections of a worker.
pub struct Pool {
    pub slots: Vec<Connection>,
    free: Vec<u32>,
    /// Last in, first out: the most recently used connection is the one least likely to have been closed.
    idle: Vec<u32>,
    options: AnswerOptions,
    trace: Option<Trace>,
    /// Connections whose peer closed them right after a response without having said so.
    silent_closes: u64,
    /// Responses on connections that had carried one before.
    answered_again: u64,
    /// Responses that ended with the connection left open, as far as the response said.
    kept_open: u64,
    pub opened: u64,
}

/// A close this soon after a response is the server's habit, not an idle timeout.
const SILENT_CLOSE_NS: u64 = 100 * MS;

impl Pool {
    pub fn new(options: AnswerOptions, trace: Option<Trace>) -> Pool {
        Pool {
            slots: Vec::new(),
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

    /// Takes in a connected socket and begins to receive on it.
    pub fn add(&mut self, fd: OwnedFd, state: State, inbox: &mut Inbox) -> std::io::Result<u32> {
        let slot = self.free.pop().unwrap_or_else(|| self.new_slot());
        let connection = &mut self.slots[slot as usize];
        inbox.watch(Source { slot, generation: connection.generation }, fd.as_raw_fd()).inspect_err(|_| {
            self.free.push(slot);
        })?;
        connection.fd = Some(fd);
        connection.state = state;
        connection.requests = 0;
        connection.leaving = false;
        self.opened += 1;
        Ok(slot)
    }

    fn new_slot(&mut self) -> u32 {
        self.slots.push(Connection {
            state: State::Free,
            generation: 0,
            fd: None,
            tls: None,
            answer: Answer::new(self.options),
            receipts: Receipts::default(),
            last_active: Tick(0),
            ended: Tick(0),
            requests: 0,
            suffices_after_ns: None,
            connect_ns: 0,
            leaving: false,
            idle_since: Tick(0),
            reader: Reader::default(),
        });
        self.slots.len() as u32 - 1
    }

    /// Connections that stand ready.
    pub fn idle_count(&self) -> u32 {
        self.slots.iter().filter(|connection| connection.state == State::Idle).count() as u32
    }

    /// The most recently used idle connection, unless the server has shown that it closes each after one response.
    pub fn take_idle(&mut self) -> Option<u32> {
        while let Some(slot) = self.idle.pop() {
            let connection = &self.slots[slot as usize];
            // A connection that has carried nothing was opened ahead and is good even with a server that closes.
            let doubtful = connection.requests > 0 && self.server_closes_silently();
            if connection.state == State::Idle && !doubtful {
                return Some(slot);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn put_back(&mut self, slot: u32) {
        self.kept_open += 1;
        self.answered_again += u64::from(self.slots[slot as usize].requests > 1);
        self.add_idle(slot);
    }

    /// Makes a freshly opened connection available.
    pub fn add_idle(&mut self, slot: u32) {
        self.slots[slot as usize].state = State::Idle;
        self.idle.push(slot);
    }

    /// Whether most kept connections were closed by the peer at once (llama.cpp does, while announcing keep-alive). One
    /// that answers again and again on a connection closes it for another reason.
    pub fn server_closes_silently(&self) -> bool {
        self.silent_closes >= 3 && self.silent_closes * 2 > self.kept_open && self.silent_closes > self.answered_again
    }

    /// Notes that a reused connection turned out to be dead when a request was written at this instant.
    pub fn note_dead_reuse(&mut self, slot: u32, written: Tick) {
        let connection = &self.slots[slot as usize];
        let silent = connection.answer.seen.received_bytes == 0;
        self.silent_closes += u64::from(silent && connection.is_habit(written, connection.idle_since));
    }

    /// Tells what has come of a response that is over and has not been told: half a line.
    pub fn tell_rest(&mut self, slot: u32) {
        if let Some(trace) = &self.trace {
            self.slots[slot as usize].tell(true, trace);
        }
    }

    /// Closes a connection and frees its slot; what still arrives for it is dropped.
    pub fn close(&mut self, slot: u32, inbox: &mut Inbox) -> std::io::Result<()> {
        let connection = &mut self.slots[slot as usize];
        let Some(fd) = connection.fd.take() else { return Ok(()) };
        let source = Source { slot, generation: connection.generation };
        connection.generation = (connection.generation + 1) % Source::GENERATIONS;
        let was = std::mem::replace(&mut connection.state, State::Free);
        connection.tls = None;
        if was == State::Idle {
            self.idle.retain(|idle| *idle != slot);
        }
        self.free.push(slot);
        inbox.forget(source, fd.as_raw_fd())
    }

    /// Takes in what the inbox reaped for one connection. Returns the lane whose wait is over, if any.
    ///
    /// The reaping instant is read first, before any parsing: it is the arrival where the kernel gave no stamp, and
    /// the receive lag's end where it did.
    pub fn deliver(
        &mut self,
        source: Source,
        delivery: Delivery<'_>,
        clock: &Clock,
        telemetry: &mut Telemetry,
    ) -> Delivered {
        let reaped = clock.now();
        let Some(connection) = self.slots.get_mut(source.slot as usize) else { return Delivered::Nothing };
        if connection.generation != source.generation || connection.fd.is_none() {
            return Delivered::Nothing;
        }
        let lane = match connection.state {
            State::Busy { lane } | State::Handshake { lane } => lane,
            State::Idle => {
                // Bytes say something; under TLS they may be no more than its goodbye.
                let silent = connection.tls.is_some() || !matches!(delivery, Delivery::Bytes { .. });
                // Its close may be reaped in the same turn as what it said.
                let first = !std::mem::replace(&mut connection.leaving, true);
                if first && silent && connection.requests > 0 && connection.is_habit(reaped, connection.ended) {
                    self.silent_closes += 1;
                }
                return Delivered::Dead(source.slot);
            }
            // Bytes after the end of a response, or its close, before the lane has put the connection back.
            State::Finished { .. } => {
                connection.state = State::Finished { reuse: false };
                return Delivered::Nothing;
            }
            State::Free => return Delivered::Nothing,
        };
        let over = connection.take(delivery, reaped, clock, telemetry);
        if let Some(trace) = &self.trace {
            connection.tell(over, trace);
        }
        if over { Delivered::Wake(lane) } else { Delivered::Nothing }
    }
}

/// What a delivery changed for the rest of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Nothing,
    /// This lane's response (or handshake) is over.
    Wake(u32),
    /// This idle connection was closed by the peer: close it.
    Dead(u32),
}

impl Connection {
    /// Takes one delivery of a busy connection; true when the lane must look.
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
                    Some(tls) => match tls.receive(bytes, &mut self.answer, at, self.fd.as_ref()) {
                        Ok(step) if handshaking && step == Step::More => {
                            return !tls.is_handshaking() || tls.has_outgoing();
                        }
                        Ok(step) => step,
                        Err(text) => {
                            let failure = if tls.awaits_tunnel() { Failure::Connect } else { Failure::Tls };
                            self.answer.fail(failure, &text);
                            Step::Done { reuse: false }
                        }
                    },
                }
            }
            Delivery::Eof if handshaking && self.awaits_tunnel() => {
                self.answer.fail(Failure::Connect, "the proxy closed the connection without an answer to CONNECT");
                Step::Done { reuse: false }
            }
            Delivery::Eof if handshaking => {
                self.answer.fail(Failure::Tls, "the server closed the connection during the TLS handshake");
                Step::Done { reuse: false }
            }
            Delivery::Eof => self.answer.push_eof(reaped),
            Delivery::Error(errno) => {
                let failure = if errno == libc::ECONNRESET { Failure::Reset } else { Failure::Truncated };
                self.answer.fail(failure, &std::io::Error::from_raw_os_error(errno).to_string());
                Step::Done { reuse: false }
            }
        };
        match step {
            Step::More if self.has_shown_enough() => {
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

    fn has_shown_enough(&self) -> bool {
        let Some((after_ns, first)) = self.suffices_after_ns.zip(self.answer.seen.first_token) else { return false };
        self.last_active.ns_since(first) >= after_ns as i64
    }

    /// Tells what a delivery has brought.
    fn tell(&mut self, over: bool, trace: &Trace) {
        if matches!(self.state, State::Busy { .. } | State::Finished { .. }) {
            let seen = &self.answer.seen;
            self.reader.read(seen.status, &seen.raw, over, self.last_active, trace);
        }
    }

    /// Whether a close at `at` comes so soon after the end of a response that it is the server's habit.
    fn is_habit(&self, at: Tick, ended: Tick) -> bool {
        (at.ns_since(ended).max(0) as u64) < SILENT_CLOSE_NS
    }

    /// The arrival of one read: the kernel's stamp, else the reaping instant; the receive lag is noted.
    #[inline]
    fn arrival(&mut self, stamp_ns: Option<u64>, reaped: Tick, clock: &Clock, telemetry: &mut Telemetry) -> Tick {
        let stamped = stamp_ns.and_then(|ns| clock.tick_from_kernel(ns, reaped));
        let receipts = &mut self.receipts;
        receipts.reads += 1;
        let Some(at) = stamped else {
            telemetry.unstamped_read();
            return reaped.max(self.last_active);
        };
        let lag_ns = reaped.0 - at.0;
        receipts.stamped += 1;
        receipts.lag_sum_ns += lag_ns;
        receipts.lag_max_ns = receipts.lag_max_ns.max(lag_ns);
        telemetry.stamped_read(lag_ns);
        // Two mappings of the wall clock may differ by nanoseconds; on one connection time does not go back.
        at.max(self.last_active)
    }
}
