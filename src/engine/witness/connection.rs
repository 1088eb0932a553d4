//! One connection of the witness and its current request.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::PollFlags;
use rustls::ClientConfig;

use crate::api::answer::{Answer, Step};
use crate::engine::connections::END_EVENT_GRACE_NS;
use crate::engine::tls_response;
use crate::net::blocking::{send_all, send_encrypted, wait_ready, wait_unless};
use crate::net::local_address::start_tcp;
use crate::net::socket::{Connecting, connect_unix, receive, take_error};
use crate::net::tls::Tls;
use crate::plan::{Plan, Transport};
use crate::record::trace::ResponseTracer;
use crate::record::{Failure, Phase, RequestRecord};
use crate::time::Tick;
use crate::time::clock::Clock;

/// The values needed to open a connection.
pub(super) struct ConnectContext<'a> {
    pub(super) plan: &'a Plan,
    pub(super) config: Option<&'a Arc<ClientConfig>>,
    pub(super) clock: &'a Clock,
    pub(super) connections_opened: &'a AtomicU64,
    /// The run has ended.
    pub(super) stop: &'a AtomicBool,
}

impl ConnectContext<'_> {
    /// Whether a wait that begins now is over: after `timeout_ns`, or when the run has ended.
    fn over_after(&self, timeout_ns: u64) -> impl Fn() -> bool {
        let deadline = self.clock.now().plus_ns(timeout_ns);
        move || self.stop.load(Ordering::Relaxed) || self.clock.now() > deadline
    }
}

/// A connection and its request.
pub(super) struct Connection {
    pub(super) stage: Stage,
    pub(super) socket: Option<OwnedFd>,
    tls: Option<Tls>,
    pub(super) answer: Answer,
    /// The record of the current request. The fields from the answer are added at the end.
    pub(super) record: RequestRecord,
    pub(super) wire: Vec<u8>,
    /// Reports the response to the trace.
    pub(super) tracer: ResponseTracer,
    /// When bytes last arrived or the request was sent.
    pub(super) last_active: Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Pausing { until: Tick },
    Waiting,
}

/// Why a request could not be sent.
type SendError = (Failure, String);

impl Connection {
    pub(super) fn new(number: u32, first: Tick, answer: Answer) -> Connection {
        Connection {
            stage: Stage::Pausing { until: first },
            socket: None,
            tls: None,
            answer,
            record: RequestRecord { slot: number, ..RequestRecord::default() },
            wire: Vec::new(),
            tracer: ResponseTracer::default(),
            last_active: Tick(0),
        }
    }

    /// Starts request `index`, which is due now.
    pub(super) fn start(&mut self, index: u64, now: Tick) {
        let slot = self.record.slot;
        self.record = RequestRecord {
            index,
            phase: Phase::Witness,
            slot,
            due: now,
            picked: Some(now),
            ..RequestRecord::default()
        };
        self.answer.start();
        self.wire.clear();
    }

    /// Whether the request may be sent again on a new connection: once, if a reused one broke before any response.
    /// Closes the broken connection then.
    pub(super) fn may_retry(&mut self) -> bool {
        let may = self.record.reused && !self.record.retried;
        if may {
            self.record.retried = true;
            self.close();
        }
        may
    }

    pub(super) fn close(&mut self) {
        (self.socket, self.tls) = (None, None);
    }

    pub(super) fn is_overdue(&self, plan: &Plan, now: Tick) -> bool {
        let silence = now.ns_since(self.last_active) > plan.timeouts.read_ns as i64;
        let end_event = self.answer.seen.end_event;
        let ended = end_event.is_some_and(|at| now.ns_since(at) > END_EVENT_GRACE_NS as i64);
        self.stage == Stage::Waiting
            && (silence || ended || now.ns_since(self.record.due) > plan.timeouts.total_ns as i64)
    }

    /// Opens the connection if it is not open.
    pub(super) fn connect(&mut self, context: &ConnectContext<'_>) -> Result<(), SendError> {
        if self.socket.as_ref().is_some_and(|socket| wait_ready(socket, PollFlags::IN, 0)) {
            // Anything that arrives on an idle connection means that the server closes it.
            self.close();
        }
        self.record.reused = self.socket.is_some();
        if self.socket.is_none() {
            let socket = open(context)?;
            let connected = context.clock.now();
            if let Some(config) = context.config {
                self.tls = Some(handshake(&socket, config, &mut self.answer, context)?);
                self.record.tls_handshake_ns = Some(context.clock.now().0 - connected.0);
            }
            self.socket = Some(socket);
        }
        self.record.connected = if self.record.reused { self.record.picked } else { Some(context.clock.now()) };
        Ok(())
    }

    /// Writes the request; blocks until all is written, at most for the read timeout.
    pub(super) fn send(&mut self, context: &ConnectContext<'_>) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        let is_over = context.over_after(context.plan.timeouts.read_ns);
        match &mut self.tls {
            None => send_all(socket, &self.wire, &is_over),
            Some(tls) => send_encrypted(socket, tls, &self.wire, &is_over),
        }
    }

    /// The arrival time of a read: that of the kernel's timestamp, else the time of processing. Counts the read.
    pub(super) fn arrival(&mut self, stamped: Option<Tick>, reaped: Tick) -> Tick {
        let record = &mut self.record;
        record.reads += 1;
        if let Some(at) = stamped {
            let lag_ns = reaped.0 - at.0;
            record.stamped_reads += 1;
            record.receive_lag_sum_ns += lag_ns;
            record.receive_lag_max_ns = record.receive_lag_max_ns.max(lag_ns);
        }
        self.last_active = stamped.unwrap_or(reaped).max(self.last_active);
        self.last_active
    }

    /// Passes the bytes of a read to the answer.
    pub(super) fn push(&mut self, bytes: &[u8], at: Tick) -> Step {
        match &mut self.tls {
            None => self.answer.push(bytes, at),
            Some(tls) => {
                tls_response::receive(tls, bytes, &mut self.answer, at, self.socket.as_ref()).unwrap_or_else(|text| {
                    self.answer.fail(Failure::Tls, &text);
                    Step::Done { reuse: false }
                })
            }
        }
    }
}

fn open(context: &ConnectContext<'_>) -> Result<OwnedFd, SendError> {
    let failed = |error: io::Error| (Failure::Connect, error.to_string());
    let mut last_error = (Failure::Connect, "the target has no address".to_string());
    let addresses = match &context.plan.target.transport {
        Transport::Unix(path) => return finish_connecting(connect_unix(path).map_err(failed)?, context),
        Transport::Tcp(addresses) => addresses,
    };
    // With rotation, its connections are spread over all of them as well.
    let first = match context.plan.address_rotation {
        true => context.connections_opened.load(Ordering::Relaxed) as usize,
        false => 0,
    };
    let tries = if context.plan.address_rotation { 1 } else { addresses.len() };
    for &address in addresses.iter().cycle().skip(first % addresses.len().max(1)).take(tries) {
        let started = start_tcp(&context.plan.source_addresses, context.connections_opened, address);
        match started.map_err(failed).and_then(|socket| finish_connecting(socket, context)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Waits until the socket is connected, and sets it to blocking.
fn finish_connecting(connecting: Connecting, context: &ConnectContext<'_>) -> Result<OwnedFd, SendError> {
    let fd = connecting.fd;
    let is_over = context.over_after(context.plan.timeouts.connect_ns);
    if connecting.pending && !wait_unless(&fd, PollFlags::OUT, &is_over) {
        return Err((Failure::ConnectTimeout, "no connection in time (--connect-timeout)".to_string()));
    }
    take_error(&fd)
        .and_then(|()| Ok(rustix::io::ioctl_fionbio(&fd, false)?))
        .map_err(|error| (Failure::Connect, error.to_string()))?;
    Ok(fd)
}

/// Performs the TLS handshake.
fn handshake(
    socket: &OwnedFd,
    config: &Arc<ClientConfig>,
    answer: &mut Answer,
    context: &ConnectContext<'_>,
) -> Result<Tls, SendError> {
    let failed = |text: String| (Failure::Tls, text);
    let mut tls = Tls::new(config.clone(), &context.plan.target.host).map_err(failed)?;
    let is_over = context.over_after(context.plan.timeouts.connect_ns);
    send_encrypted(socket, &mut tls, &[], &is_over).map_err(|error| failed(error.to_string()))?;
    let mut buffer = [0; 16 * 1024];
    while tls.is_handshaking() {
        if !wait_unless(socket, PollFlags::IN, &is_over) || is_over() {
            return Err((Failure::ConnectTimeout, "the TLS handshake did not end in time (--connect-timeout)".into()));
        }
        match receive(socket, &mut buffer) {
            Ok((0, _)) => return Err(failed("the server closed the connection during the TLS handshake".to_string())),
            Ok((length, _)) => {
                tls_response::receive(&mut tls, &buffer[..length], answer, context.clock.now(), Some(socket))
                    .map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(tls)
}
