//! The witness: a quiet thread that asks the server for the same things as the load does, on connections of its own,
//! with plain blocking sockets and none of the workers' machinery but the parser.
//!
//! What a busy load generator does to its own figures it cannot see from within. A thread that has almost nothing to
//! do sees what a single user sees in the same minutes; where its figures and those of the load differ, either the
//! server treats them differently or we do. Its requests are a phase of their own and enter no figure of the run.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConfig;

use super::clock::Clock;
use super::exchange::body;
use super::inbox::socket::receive;
use super::tls;
use super::unasked::is_unasked;
use super::worker::answer_options;
use crate::api::answer::{Answer, Step};
use crate::plan::{Plan, WitnessPlan};
use crate::record::trace::{Excerpt, Reader, Trace, What};
use crate::record::{Block, Failure, Outcome, Parcel, Phase, RequestRecord, Span, TokenSource};
use crate::time::{MS, S, Tick};
use crate::workload::Workload;

mod line;

use line::{Line, Sockets, Stage};

/// A running witness.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The first request leaves so long after the start, and the next connection's so long after that.
const FIRST_NS: u64 = 50 * MS;
/// Between two requests of one connection passes about as long as the last one took, within these limits.
const LEAST_PAUSE_NS: u64 = 20 * MS;
const MOST_PAUSE_NS: u64 = 10 * S;
/// After a failure it is longer.
const FAILED_PAUSE_NS: u64 = 500 * MS;
/// The end of the run is noticed within this time.
const TURN_NS: u64 = 20 * MS;
const BUFFER_LEN: usize = 64 * 1024;

impl Witness {
    /// Starts the thread. Its records go to `parcels`, each as soon as it is complete; `trace` takes what happens to them.
    pub fn start(
        asked: WitnessPlan,
        plan: Arc<Plan>,
        workload: Arc<Workload>,
        parcels: Sender<Parcel>,
        trace: Option<Trace>,
    ) -> Result<Witness, String> {
        let config = plan.target.tls.as_ref().map(tls::config).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        let run = move || {
            if let Some(core) = asked.core {
                // Where that is refused it stays off the workers' cores all the same.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            let clock = Clock::new();
            let shared = Shared { plan, workload, config, clock, parcels, trace, opened: AtomicU64::new(0) };
            watch(&shared, asked.connections, &raised);
        };
        let thread = std::thread::Builder::new().name("witness".to_string()).spawn(run);
        Ok(Witness { stop, thread: thread.map_err(|error| error.to_string())? })
    }

    /// Ends it; requests on their way are recorded as unfinished.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            // A bug of ours, which must not be swallowed.
            std::panic::resume_unwind(panic);
        }
    }
}

/// What the lines of a witness share.
struct Shared {
    plan: Arc<Plan>,
    workload: Arc<Workload>,
    config: Option<Arc<ClientConfig>>,
    clock: Clock,
    parcels: Sender<Parcel>,
    trace: Option<Trace>,
    opened: AtomicU64,
}

impl Shared {
    /// Tells what happens to a request, where anybody listens.
    fn tell(&self, index: u64, at: Tick, what: impl FnOnce() -> What) {
        if let Some(trace) = &self.trace {
            trace.tell(at, (Phase::Witness, index), what());
        }
    }
}

fn watch(shared: &Shared, connections: u32, stop: &AtomicBool) {
    let began = shared.clock.now();
    let mut lines: Vec<Line> = (0..connections)
        .map(|number| {
            let first = began.plus_ns(FIRST_NS * (u64::from(number) + 1));
            Line::new(number, first, Answer::new(answer_options(&shared.plan)))
        })
        .collect();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        shared.clock.maintain(shared.clock.now());
        for line in &mut lines {
            if matches!(line.stage, Stage::Pausing { until } if until <= shared.clock.now()) {
                begin(shared, line, asked);
                asked += 1;
            }
        }
        for place in readable(shared, &lines) {
            take(shared, &mut lines[place], &mut buffer);
        }
        let now = shared.clock.now();
        lines.iter_mut().filter(|line| line.is_overdue(&shared.plan, now)).for_each(|line| {
            line.answer.fail(Failure::ReadTimeout, "no byte came in time (--read-timeout)");
            end(shared, line, now, false);
        });
    }
    let now = shared.clock.now();
    for line in lines.iter_mut().filter(|line| line.stage == Stage::Waiting) {
        keep(shared, line, now);
    }
}

/// Waits until something arrives or is due; gives the places of the lines that have something to read.
fn readable(shared: &Shared, lines: &[Line]) -> Vec<usize> {
    let now = shared.clock.now();
    let next = lines.iter().filter_map(|line| match line.stage {
        Stage::Pausing { until } => Some(until.ns_since(now).max(0) as u64),
        Stage::Waiting => None,
    });
    let wait_ns = next.min().unwrap_or(TURN_NS).min(TURN_NS);
    let waiting = lines.iter().enumerate().filter(|(_, line)| line.stage == Stage::Waiting);
    let (places, sockets): (Vec<usize>, Vec<&OwnedFd>) =
        waiting.filter_map(|(place, line)| Some((place, line.socket.as_ref()?))).unzip();
    let mut polled: Vec<PollFd<'_>> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: (wait_ns / S) as i64, tv_nsec: (wait_ns % S) as _ };
    // A signal ends the wait early, which the next turn makes good.
    let _ = poll(&mut polled, Some(&timeout));
    places.into_iter().zip(polled).filter(|(_, polled)| !polled.revents().is_empty()).map(|(place, _)| place).collect()
}

/// Sends the next request of a line.
fn begin(shared: &Shared, line: &mut Line, index: u64) {
    line.start(index, shared.clock.now());
    shared.workload.write_request(Phase::Witness, index, &mut line.wire);
    loop {
        let sent = line.connect(&sockets(shared)).and_then(|()| {
            line.record.write_start = Some(shared.clock.now());
            line.send().map_err(|error| (Failure::Write, error.to_string()))
        });
        match sent {
            Ok(()) => {
                let now = shared.clock.now();
                (line.record.write_end, line.last_active, line.stage) = (Some(now), now, Stage::Waiting);
                line.reader = Reader::new((Phase::Witness, index));
                shared.tell(index, now, || What::Sent(Excerpt::of(body(&line.wire))));
                return;
            }
            Err(_) if line.may_try_again() => {}
            Err((failure, text)) => {
                line.answer.fail(failure, &text);
                return end(shared, line, shared.clock.now(), false);
            }
        }
    }
}

fn sockets(shared: &Shared) -> Sockets<'_> {
    Sockets { plan: &shared.plan, config: shared.config.as_ref(), clock: &shared.clock, opened: &shared.opened }
}

/// Takes one read of a line.
fn take(shared: &Shared, line: &mut Line, buffer: &mut [u8]) {
    let Some(socket) = &line.socket else { return };
    let read = receive(socket.as_raw_fd(), buffer);
    let reaped = shared.clock.now();
    let step = match read {
        Ok((0, _)) if line.record.reads == 0 && line.may_try_again() => {
            return again(shared, line);
        }
        Ok((0, _)) => line.answer.push_eof(reaped),
        Ok((length, stamp)) => {
            let at = line.arrival(stamp.and_then(|ns| shared.clock.tick_from_kernel(ns, reaped)), reaped);
            line.push(&buffer[..length], at)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
        Err(_) if line.record.reads == 0 && line.may_try_again() => return again(shared, line),
        Err(error) => {
            let reset = error.raw_os_error() == Some(libc::ECONNRESET);
            line.answer.fail(if reset { Failure::Reset } else { Failure::Truncated }, &error.to_string());
            Step::Done { reuse: false }
        }
    };
    if let Some(trace) = &shared.trace {
        let seen = &line.answer.seen;
        line.reader.read(seen.status, &seen.raw, step != Step::More, line.last_active, trace);
    }
    if let Step::Done { reuse } = step {
        let written = line.record.write_start.unwrap_or(reaped);
        if is_unasked(&line.answer, written, !reuse, 0) && line.may_try_again() {
            return again(shared, line);
        }
        let ended = if line.answer.outcome() == Outcome::Ok { line.last_active } else { reaped };
        end(shared, line, ended, reuse);
    }
}

/// The server had closed the connection while it was idle: the same request goes out on a fresh one.
fn again(shared: &Shared, line: &mut Line) {
    let (index, due) = (line.record.index, line.record.due);
    shared.tell(index, shared.clock.now(), || What::Again);
    begin(shared, line, index);
    line.record.due = due;
    line.record.retried = true;
}

/// Keeps the record of a line whose response is over, and lets it pause.
fn end(shared: &Shared, line: &mut Line, at: Tick, reuse: bool) {
    keep(shared, line, at);
    if !reuse {
        line.close();
    }
    let failed = line.answer.outcome() != Outcome::Ok;
    let took_ns = at.ns_since(line.record.due).max(0) as u64;
    let pause_ns = if failed { FAILED_PAUSE_NS } else { took_ns.clamp(LEAST_PAUSE_NS, MOST_PAUSE_NS) };
    line.stage = Stage::Pausing { until: shared.clock.now().plus_ns(spread(pause_ns, line.record.index)) };
}

/// Half to one and a half of a pause, spread evenly over the requests: nothing in the server's beat is met twice.
fn spread(ns: u64, index: u64) -> u64 {
    // The golden ratio's multiples fill the interval as evenly as any do.
    let place = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    ns / 2 + ((u128::from(ns) * u128::from(place)) >> 32) as u64
}

fn keep(shared: &Shared, line: &Line, end: Tick) {
    let worker = shared.plan.cores.len() as u16;
    let mut block = Block::new(worker);
    let seen = &line.answer.seen;
    let record = RequestRecord {
        worker,
        end,
        first_byte: seen.first_byte,
        first_token: seen.first_token,
        last_token: seen.last_token,
        outcome: line.answer.outcome(),
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
        text: block.keep_bytes(&seen.text),
        reasoning: block.keep_bytes(&seen.reasoning),
        error: block.keep_bytes(seen.error.as_bytes()),
        raw: if shared.plan.keeps_raw() { block.keep_bytes(&seen.raw) } else { Span::default() },
        ..line.record.clone()
    };
    shared.tell(record.index, end, || What::Ended {
        outcome: record.outcome,
        status: record.status,
        error: seen.error.clone(),
    });
    block.records.push(record);
    // Without a collector there is nobody to tell: the run is over.
    let _ = shared.parcels.send(Parcel::Block(block));
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
