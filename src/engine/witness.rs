//! The witness: a mostly idle thread that sends the same requests as the load, on connections of its own, with plain
//! blocking sockets. It shares only the parser with the workers.
//!
//! A busy load generator cannot tell from within how much it distorts its own figures. A thread that is mostly idle sees
//! what a single user sees at the same time. Where its figures and those of the load differ, either the server treats
//! them differently or the client does. Its requests are a phase of their own and enter no figure of the run.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::ClientConfig;

use super::request::body;
use super::unsolicited::is_unsolicited;
use super::worker::answer_options;
use crate::api::answer::{Answer, Step};
use crate::net::socket::receive;
use crate::net::{blocking, tls};
use crate::plan::{Plan, WitnessPlan};
use crate::record::trace::{Excerpt, ResponseTracer, Trace, TraceKind};
use crate::record::{Block, CollectorMessage, Failure, Outcome, Phase, RequestRecord, Span, TokenSource};
use crate::time::clock::Clock;
use crate::time::{MS, S, Tick};
use crate::workload::Workload;

mod connection;

use connection::{Connection, Sockets, Stage};

/// A running witness.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The first request is sent this long after the start, the first one of the next connection this long after that.
const FIRST_NS: u64 = 50 * MS;
/// The pause between two requests of one connection is about as long as the last one took, within these limits.
const LEAST_PAUSE_NS: u64 = 20 * MS;
const MOST_PAUSE_NS: u64 = 10 * S;
/// The pause after a failure.
const FAILED_PAUSE_NS: u64 = 500 * MS;
/// The longest wait, after which the end of the run is checked.
const MAX_WAIT_NS: u64 = 20 * MS;
const BUFFER_LEN: usize = 64 * 1024;

impl Witness {
    /// Starts the thread. Its records go to `messages`, each as soon as it is complete; `trace` takes their events.
    pub fn start(
        asked: WitnessPlan,
        plan: Arc<Plan>,
        workload: Arc<Workload>,
        messages: Sender<CollectorMessage>,
        trace: Option<Trace>,
    ) -> Result<Witness, String> {
        let config = plan.target.tls.as_ref().map(tls::config).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        let run = move || {
            if let Some(core) = asked.core {
                // Where that is refused, the thread stays off the workers' cores anyway.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            let clock = Clock::new();
            let shared = Shared { plan, workload, config, clock, messages, trace, opened: AtomicU64::new(0) };
            watch(&shared, asked.connections, &raised);
        };
        let thread = std::thread::Builder::new().name("witness".to_string()).spawn(run);
        Ok(Witness { stop, thread: thread.map_err(|error| error.to_string())? })
    }

    /// Ends the witness; requests in flight are recorded as unfinished.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            // A bug, which must not be hidden.
            std::panic::resume_unwind(panic);
        }
    }
}

/// What the connections of a witness share.
struct Shared {
    plan: Arc<Plan>,
    workload: Arc<Workload>,
    config: Option<Arc<ClientConfig>>,
    clock: Clock,
    messages: Sender<CollectorMessage>,
    trace: Option<Trace>,
    opened: AtomicU64,
}

impl Shared {
    /// Reports an event of a request to the trace, where there is one.
    fn trace_event(&self, index: u64, at: Tick, what: impl FnOnce() -> TraceKind) {
        if let Some(trace) = &self.trace {
            trace.send(at, (Phase::Witness, index), what());
        }
    }
}

fn watch(shared: &Shared, connections: u32, stop: &AtomicBool) {
    let began = shared.clock.now();
    let mut connections: Vec<Connection> = (0..connections)
        .map(|number| {
            let first = began.plus_ns(FIRST_NS * (u64::from(number) + 1));
            Connection::new(number, first, Answer::new(answer_options(&shared.plan)))
        })
        .collect();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        shared.clock.maintain(shared.clock.now());
        for connection in &mut connections {
            if matches!(connection.stage, Stage::Pausing { until } if until <= shared.clock.now()) {
                begin(shared, connection, asked);
                asked += 1;
            }
        }
        for place in readable(shared, &connections) {
            take(shared, &mut connections[place], &mut buffer);
        }
        let now = shared.clock.now();
        connections.iter_mut().filter(|connection| connection.is_overdue(&shared.plan, now)).for_each(|connection| {
            connection.answer.fail(Failure::ReadTimeout, "no byte came in time (--read-timeout)");
            end(shared, connection, now, false);
        });
    }
    let now = shared.clock.now();
    for connection in connections.iter_mut().filter(|connection| connection.stage == Stage::Waiting) {
        keep(shared, connection, now);
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
fn begin(shared: &Shared, connection: &mut Connection, index: u64) {
    connection.start(index, shared.clock.now());
    shared.workload.write_request(Phase::Witness, index, &mut connection.wire);
    loop {
        let sent = connection.connect(&sockets(shared)).and_then(|()| {
            connection.record.write_start = Some(shared.clock.now());
            connection.send().map_err(|error| (Failure::Write, error.to_string()))
        });
        match sent {
            Ok(()) => {
                let now = shared.clock.now();
                (connection.record.write_end, connection.last_active, connection.stage) =
                    (Some(now), now, Stage::Waiting);
                connection.reader = ResponseTracer::new((Phase::Witness, index));
                shared.trace_event(index, now, || TraceKind::Sent(Excerpt::new(body(&connection.wire))));
                return;
            }
            Err(_) if connection.may_try_again() => {}
            Err((failure, text)) => {
                connection.answer.fail(failure, &text);
                return end(shared, connection, shared.clock.now(), false);
            }
        }
    }
}

fn sockets(shared: &Shared) -> Sockets<'_> {
    Sockets { plan: &shared.plan, config: shared.config.as_ref(), clock: &shared.clock, opened: &shared.opened }
}

/// Reads a connection once.
fn take(shared: &Shared, connection: &mut Connection, buffer: &mut [u8]) {
    let Some(socket) = &connection.socket else { return };
    let read = receive(socket, buffer);
    let reaped = shared.clock.now();
    let step = match read {
        Ok((0, _)) if connection.record.reads == 0 && connection.may_try_again() => {
            return again(shared, connection);
        }
        Ok((0, _)) => connection.answer.push_eof(reaped),
        Ok((length, stamp)) => {
            let at = connection.arrival(stamp.and_then(|ns| shared.clock.tick_from_kernel(ns, reaped)), reaped);
            connection.push(&buffer[..length], at)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
        Err(_) if connection.record.reads == 0 && connection.may_try_again() => return again(shared, connection),
        Err(error) => {
            let reset = error.raw_os_error() == Some(libc::ECONNRESET);
            connection.answer.fail(if reset { Failure::Reset } else { Failure::Truncated }, &error.to_string());
            Step::Done { reuse: false }
        }
    };
    if let Some(trace) = &shared.trace {
        let seen = &connection.answer.seen;
        connection.reader.read(seen.status, &seen.raw, step != Step::More, connection.last_active, trace);
    }
    if let Step::Done { reuse } = step {
        let written = connection.record.write_start.unwrap_or(reaped);
        if is_unsolicited(&connection.answer, written, !reuse, 0) && connection.may_try_again() {
            return again(shared, connection);
        }
        let ended = if connection.answer.outcome() == Outcome::Ok { connection.last_active } else { reaped };
        end(shared, connection, ended, reuse);
    }
}

/// The server closed the connection while it was idle: sends the same request on a new one.
fn again(shared: &Shared, connection: &mut Connection) {
    let (index, due) = (connection.record.index, connection.record.due);
    shared.trace_event(index, shared.clock.now(), || TraceKind::Retried);
    begin(shared, connection, index);
    connection.record.due = due;
    connection.record.retried = true;
}

/// Keeps the record of a connection whose response is over, and lets it pause.
fn end(shared: &Shared, connection: &mut Connection, at: Tick, reuse: bool) {
    keep(shared, connection, at);
    if !reuse {
        connection.close();
    }
    let failed = connection.answer.outcome() != Outcome::Ok;
    let took_ns = at.ns_since(connection.record.due).max(0) as u64;
    let pause_ns = if failed { FAILED_PAUSE_NS } else { took_ns.clamp(LEAST_PAUSE_NS, MOST_PAUSE_NS) };
    connection.stage = Stage::Pausing { until: shared.clock.now().plus_ns(spread(pause_ns, connection.record.index)) };
}

/// Half to one and a half of a pause, spread evenly over the requests, so that they do not synchronize with anything
/// periodic in the server.
fn spread(ns: u64, index: u64) -> u64 {
    // Multiples of the golden ratio fill the interval evenly.
    let place = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    ns / 2 + ((u128::from(ns) * u128::from(place)) >> 32) as u64
}

fn keep(shared: &Shared, connection: &Connection, end: Tick) {
    let worker = shared.plan.cores.len() as u16;
    let mut block = Block::new(worker);
    let seen = &connection.answer.seen;
    let open_after_end_ns = seen.end_event.map(|at| end.ns_since(at).max(0) as u64);
    let end = seen.end_event.filter(|_| connection.answer.outcome() == Outcome::Ok).unwrap_or(end);
    let record = RequestRecord {
        worker,
        end,
        open_after_end_ns,
        first_byte: seen.first_byte,
        first_token: seen.first_token,
        first_answer_token: seen.first_answer_token,
        oddities: seen.oddities,
        last_token: seen.last_token,
        outcome: connection.answer.outcome(),
        streamed: seen.streamed,
        status: seen.status,
        input_tokens: seen.usage.input_tokens,
        output_tokens: seen.usage.output_tokens,
        cached_tokens: seen.usage.cached_tokens,
        reasoning_tokens: seen.usage.reasoning_tokens,
        token_source: if seen.usage.output_tokens.is_some() { TokenSource::Server } else { TokenSource::Unknown },
        server_times: seen.times,
        finish: seen.finish,
        events: seen.events,
        coalesced: seen.coalesced,
        coalesced_reads: seen.coalesced_reads,
        received_bytes: seen.received_bytes,
        arrivals: block.keep_arrivals(&seen.arrivals),
        choices: block.keep_bytes(&seen.choices),
        text: block.keep_bytes(&seen.text),
        reasoning: block.keep_bytes(&seen.reasoning),
        error: block.keep_bytes(seen.error.as_bytes()),
        raw: if shared.plan.keeps_raw() { block.keep_bytes(&seen.raw) } else { Span::default() },
        ..connection.record.clone()
    };
    shared.trace_event(record.index, end, || TraceKind::Ended {
        outcome: record.outcome,
        status: record.status,
        error: seen.error.clone(),
    });
    block.records.push(record);
    // Without a collector the run is over.
    let _ = shared.messages.send(CollectorMessage::Block(block));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_around_what_was_asked() {
        let pauses: Vec<u64> = (0..100).map(|index| spread(1_000, index)).collect();
        assert!(pauses.iter().all(|pause| (500..1_500).contains(pause)));
        let mean = pauses.iter().sum::<u64>() / 100;
        assert!((950..1_050).contains(&mean), "{mean}");
    }
}
