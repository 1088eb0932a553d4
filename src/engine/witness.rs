//! The witness: a mostly idle thread that sends the same requests as the load on separate connections, with blocking
//! sockets. It shares only the parser with the workers.
//!
//! A load generator cannot measure its own influence on its figures. The witness measures what a single user
//! experiences at the same time. If its figures differ from those of the load, either the server or the client treats
//! the two differently. Its requests are a separate phase and are not part of any figure of the run.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::ClientConfig;

use super::recording::answered_record;
use super::request::body;
use super::unsolicited::is_unsolicited;
use super::worker::answer_options;
use crate::api::answer::{Answer, Step};
use crate::net::socket::receive;
use crate::net::{blocking, tls};
use crate::plan::{Plan, WitnessPlan};
use crate::record::trace::{Excerpt, ResponseTracer, Trace, TraceKind};
use crate::record::{Block, CollectorMessage, Failure, Outcome, Phase, RequestRecord};
use crate::time::clock::Clock;
use crate::time::{MS, S, Tick};
use crate::workload::Workload;

mod connection;

use connection::{ConnectContext, Connection, Stage};

/// A running witness.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The delay of the first request, and between the first requests of the connections.
const FIRST_DELAY_NS: u64 = 50 * MS;
/// The pause between two requests of one connection is about as long as the last request took, within these limits.
const MIN_PAUSE_NS: u64 = 20 * MS;
const MAX_PAUSE_NS: u64 = 10 * S;
/// The pause after a failure.
const FAILED_PAUSE_NS: u64 = 500 * MS;
/// The longest wait. After it, the thread checks whether the run has ended.
const MAX_WAIT_NS: u64 = 20 * MS;
const BUFFER_LEN: usize = 64 * 1024;

impl Witness {
    /// Starts the thread. Each record is sent to `messages` as soon as it is complete; `trace` receives the events of
    /// its requests.
    pub fn start(
        witness_plan: WitnessPlan,
        plan: Arc<Plan>,
        workload: Arc<Workload>,
        messages: Sender<CollectorMessage>,
        trace: Option<Trace>,
    ) -> Result<Witness, String> {
        let config = plan.target.tls.as_ref().map(tls::config).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stop_flag = stop.clone();
        let main = move || {
            if let Some(core) = witness_plan.core {
                // If this fails, the thread still does not run on the workers' cores.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            let clock = Clock::new();
            let connections_opened = AtomicU64::new(0);
            let shared = Shared { plan, workload, config, clock, messages, trace, connections_opened, stop: stop_flag };
            run(&shared, witness_plan.connections);
        };
        let thread = std::thread::Builder::new().name("witness".to_string()).spawn(main);
        Ok(Witness { stop, thread: thread.map_err(|error| error.to_string())? })
    }

    /// Ends the witness; requests in flight are recorded as unfinished.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            // A bug, which must not be ignored.
            std::panic::resume_unwind(panic);
        }
    }
}

/// The values that the connections of a witness share.
struct Shared {
    plan: Arc<Plan>,
    workload: Arc<Workload>,
    config: Option<Arc<ClientConfig>>,
    clock: Clock,
    messages: Sender<CollectorMessage>,
    trace: Option<Trace>,
    connections_opened: AtomicU64,
    /// The run has ended.
    stop: Arc<AtomicBool>,
}

impl Shared {
    /// Reports an event of a request to the trace, if there is one.
    fn trace_event(&self, index: u64, at: Tick, what: impl FnOnce() -> TraceKind) {
        if let Some(trace) = &self.trace {
            trace.send(at, (Phase::Witness, index), what());
        }
    }
}

fn run(shared: &Shared, connections: u32) {
    let began = shared.clock.now();
    let mut connections: Vec<Connection> = (0..connections)
        .map(|number| {
            let first = began.plus_ns(FIRST_DELAY_NS * (u64::from(number) + 1));
            Connection::new(number, first, Answer::new(answer_options(&shared.plan)))
        })
        .collect();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut sent = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        shared.clock.maintain(shared.clock.now());
        for connection in &mut connections {
            if matches!(connection.stage, Stage::Pausing { until } if until <= shared.clock.now()) {
                send_request(shared, connection, sent);
                sent += 1;
            }
        }
        for place in readable(shared, &connections) {
            read_once(shared, &mut connections[place], &mut buffer);
        }
        let now = shared.clock.now();
        connections.iter_mut().filter(|connection| connection.is_overdue(&shared.plan, now)).for_each(|connection| {
            connection.answer.fail(Failure::ReadTimeout, "no byte came in time (--read-timeout)");
            finish_request(shared, connection, now, false);
        });
    }
    let now = shared.clock.now();
    for connection in connections.iter_mut().filter(|connection| connection.stage == Stage::Waiting) {
        store_record(shared, connection, now);
    }
}

/// Waits until something arrives or is due; returns the indices of the connections that have something to read.
fn readable(shared: &Shared, connections: &[Connection]) -> Vec<usize> {
    let now = shared.clock.now();
    let next = connections.iter().filter_map(|connection| match connection.stage {
        Stage::Pausing { until } => Some(until.ns_since(now).max(0) as u64),
        Stage::Waiting => None,
    });
    let wait_ns = next.min().unwrap_or(MAX_WAIT_NS).min(MAX_WAIT_NS);
    let waiting = connections.iter().enumerate().filter(|(_, connection)| connection.stage == Stage::Waiting);
    let (places, sockets): (Vec<usize>, Vec<&OwnedFd>) =
        waiting.filter_map(|(place, connection)| Some((place, connection.socket.as_ref()?))).unzip();
    let mut polled: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    // A signal ends the wait early; the next round continues it.
    let _ = poll(&mut polled, Some(&blocking::timeout(wait_ns)));
    places.into_iter().zip(polled).filter(|(_, polled)| !polled.revents().is_empty()).map(|(place, _)| place).collect()
}

/// Sends the next request of a connection.
fn send_request(shared: &Shared, connection: &mut Connection, index: u64) {
    connection.start(index, shared.clock.now());
    shared.workload.write_request(Phase::Witness, index, &mut connection.wire);
    loop {
        let sent = connection.connect(&connect_context(shared)).and_then(|()| {
            connection.record.write_start = Some(shared.clock.now());
            connection.send(&connect_context(shared)).map_err(|error| (Failure::Write, error.to_string()))
        });
        match sent {
            Ok(()) => {
                let now = shared.clock.now();
                (connection.record.write_end, connection.last_active, connection.stage) =
                    (Some(now), now, Stage::Waiting);
                connection.tracer = ResponseTracer::new((Phase::Witness, index));
                shared.trace_event(index, now, || TraceKind::Sent(Excerpt::new(body(&connection.wire))));
                return;
            }
            // Unfinished: it was given up because the run has ended.
            Err(_) if shared.stop.load(Ordering::Relaxed) => {
                return store_record(shared, connection, shared.clock.now());
            }
            Err(_) if connection.may_retry() => {}
            Err((failure, text)) => {
                connection.answer.fail(failure, &text);
                return finish_request(shared, connection, shared.clock.now(), false);
            }
        }
    }
}

fn connect_context(shared: &Shared) -> ConnectContext<'_> {
    ConnectContext {
        plan: &shared.plan,
        config: shared.config.as_ref(),
        clock: &shared.clock,
        connections_opened: &shared.connections_opened,
        stop: &shared.stop,
    }
}

/// Reads a connection once.
fn read_once(shared: &Shared, connection: &mut Connection, buffer: &mut [u8]) {
    let Some(socket) = &connection.socket else { return };
    let read = receive(socket, buffer);
    let reaped = shared.clock.now();
    let step = match read {
        Ok((0, _)) if connection.record.reads == 0 && connection.may_retry() => {
            return resend(shared, connection);
        }
        Ok((0, _)) => connection.answer.push_eof(reaped),
        Ok((length, timestamp_ns)) => {
            let stamped = |ns: u64| shared.clock.tick_from_kernel(ns, reaped, connection.last_active);
            let at = connection.arrival(timestamp_ns.and_then(stamped), reaped);
            connection.push(&buffer[..length], at)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
        Err(_) if connection.record.reads == 0 && connection.may_retry() => {
            return resend(shared, connection);
        }
        Err(error) => {
            let reset = error.raw_os_error() == Some(libc::ECONNRESET);
            connection.answer.fail(if reset { Failure::Reset } else { Failure::Truncated }, &error.to_string());
            Step::Done { reuse: false }
        }
    };
    if let Some(trace) = &shared.trace {
        let seen = &connection.answer.seen;
        connection.tracer.read(seen.status, &seen.raw, step != Step::More, connection.last_active, trace);
    }
    if let Step::Done { reuse } = step {
        let written = connection.record.write_start.unwrap_or(reaped);
        if is_unsolicited(&connection.answer, written, !reuse, 0) && connection.may_retry() {
            return resend(shared, connection);
        }
        let ended = if connection.answer.outcome() == Outcome::Ok { connection.last_active } else { reaped };
        finish_request(shared, connection, ended, reuse);
    }
}

/// Sends the same request on a new connection, after the server has closed the idle one.
fn resend(shared: &Shared, connection: &mut Connection) {
    let (index, due) = (connection.record.index, connection.record.due);
    shared.trace_event(index, shared.clock.now(), || TraceKind::Retried);
    send_request(shared, connection, index);
    connection.record.due = due;
    connection.record.retried = true;
}

/// Stores the record of a response that is over, and starts the pause of its connection.
fn finish_request(shared: &Shared, connection: &mut Connection, at: Tick, reuse: bool) {
    store_record(shared, connection, at);
    if !reuse {
        connection.close();
    }
    let failed = connection.answer.outcome() != Outcome::Ok;
    let took_ns = at.ns_since(connection.record.due).max(0) as u64;
    let pause_ns = if failed { FAILED_PAUSE_NS } else { took_ns.clamp(MIN_PAUSE_NS, MAX_PAUSE_NS) };
    connection.stage =
        Stage::Pausing { until: shared.clock.now().plus_ns(vary_pause(pause_ns, connection.record.index)) };
}

/// A pause between 0.5 and 1.5 times `ns`, different for each request, so that requests do not synchronize with
/// periodic work in the server.
fn vary_pause(ns: u64, index: u64) -> u64 {
    // Multiples of the golden ratio are distributed evenly over the interval.
    let fraction = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    ns / 2 + ((u128::from(ns) * u128::from(fraction)) >> 32) as u64
}

fn store_record(shared: &Shared, connection: &Connection, closed: Tick) {
    let worker = shared.plan.cores.len() as u32;
    // Not one of the large blocks of the workers, which are reused: this one holds a single record.
    let mut block = Block { worker, ..Block::default() };
    let before = RequestRecord { worker, ..connection.record.clone() };
    let record = answered_record(&connection.answer, closed, &shared.plan, &mut block, before);
    shared.trace_event(record.index, record.end, || TraceKind::Ended {
        outcome: record.outcome,
        status: record.status,
        error: connection.answer.seen.error.clone(),
    });
    block.records.push(record);
    // Sending fails only if the collector has ended, and then the run is over.
    let _ = shared.messages.send(CollectorMessage::Block(block));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_vary_around_their_mean() {
        let pauses: Vec<u64> = (0..100).map(|index| vary_pause(1_000, index)).collect();
        assert!(pauses.iter().all(|pause| (500..1_500).contains(pause)));
        let mean = pauses.iter().sum::<u64>() / 100;
        assert!((950..1_050).contains(&mean), "{mean}");
    }
}
