//! The engine: pinned worker threads that run phases of requests and produce records.
//!
//! ```text
//!  Engine ── Command ─► worker: one pinned thread with one monoio runtime ── Reply ─► Engine
//!
//!    event loop ── polls ─► ReceivePath (Ring or Epoll)
//!      │    ▲                  │
//!      │    │                  │ ReceiveEvent: bytes and kernel timestamp
//!      │    │                  ▼
//!      │    └─ slot to wake ─ Connections ── bytes and arrival time ─► Answer
//!      │
//!      │ due Jobs, woken slots
//!      ▼
//!    slots ─► request ── connect, write ─► transport
//!                │
//!                └─ RequestRecord ─► RecordSender ── full Blocks ─► collector
//!                                         ▲                             │
//!                                         └─────── empty Blocks ────────┘
//! ```
//!
//! How one event of a stream travels:
//!
//! 1. The kernel timestamps the TCP segment and completes the multishot receive that [`receive::ring`] has armed.
//! 2. The event loop ([`event_loop`]) waits in the ring. It wakes up and calls [`worker_state::WorkerState::poll`].
//! 3. The receive path passes the bytes and the timestamp, as a `Delivery`, to [`connections::Connections::deliver`].
//! 4. `deliver` reads the clock, finds the connection by its key, and converts the timestamp to the arrival time. The
//!    difference of the two is the receive lag.
//! 5. With TLS, the session decrypts the bytes first; the arrival time is still that of the TCP segment.
//! 6. `Answer::push` parses HTTP, chunks, SSE and the event, and stores the arrival time. The buffer returns to the
//!    ring.
//! 7. Nothing else runs for this event. When it is the last one, the event loop wakes the task of the slot.
//! 8. The slot ([`mod@slot`], [`request`]) builds the record from the answer, and [`record_sender`] appends it to a
//!    block.
//! 9. The connection becomes idle, and the slot takes its next request.
//! 10. A full block, or one older than 100 ms, is sent to the collector. An empty one replaces it.

pub mod connections;
pub mod conversation;
pub mod event_loop;
pub mod executor;
pub mod job;
mod memory;
mod network;
pub mod preflight_progress;
pub mod receive;
pub mod record_sender;
mod recording;
pub mod request;
pub mod schedule;
mod segments;
pub mod server_watch;
pub mod slot;
pub mod socket;
pub mod telemetry;
mod tls_response;
pub mod transport;
mod unrecorded;
mod unsolicited;
pub mod waiting;
pub mod wake_ups;
pub mod witness;
pub mod worker;
pub mod worker_state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Select, Sender, unbounded};

use self::preflight_progress::PreflightProgress;
use self::server_watch::ServerWatch;
use self::worker::{Command, Reply, WorkerChannels};
use self::worker_state::{PhasePlan, Setup};
use crate::finding::Finding;
use crate::host;
use crate::host::local_server::ServerCores;
use crate::net::tls;
use crate::plan::{Load, Plan, Transport};
use crate::record::memory::MemoryBudget;
use crate::record::share::Share;
use crate::record::trace::Trace;
use crate::record::{Block, CollectorMessage, Phase, WorkerReport};
use crate::time::clock::kernel_now;
use crate::time::{MS, Tick};
use crate::workload::Workload;

/// Why the engine could not run. Failures of the server are not errors but records.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{0}")]
    Worker(String),
    #[error("a worker thread ended unexpectedly")]
    Lost,
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
    #[error("{0}")]
    Tls(String),
}

/// The phase to run, and the warm-up that flows into it.
#[derive(Clone, Debug)]
pub struct PhaseRequest {
    pub phase: Phase,
    /// Load and numbers are those of all shards.
    pub load: Load,
    /// The share of this process.
    pub share: Share,
    /// Requests, or conversations, of the warm-up. Slots and schedule continue after them without a gap.
    pub warmup: u64,
    /// Requests, or conversations, of the phase itself; `None` if only the duration ends it.
    pub requests: Option<u64>,
    /// Counts from the first request of the phase itself.
    pub duration_ns: Option<u64>,
    /// Counts from the first request of all.
    pub ramp_ns: u64,
    /// Receives the records.
    pub messages: Sender<CollectorMessage>,
}

/// The result of a phase, besides its records.
#[derive(Debug)]
pub struct PhaseEnd {
    /// They cover the warm-up as well, except for the number of unsent requests.
    pub reports: Vec<WorkerReport>,
    /// Requests of the phase itself, without its warm-up, that were begun; of a conversation that was begun, all turns.
    pub begun: u64,
}

/// The running workers, idle between phases. Connections stay open across phases.
pub struct Engine {
    workers: Vec<Handle>,
    workload: Arc<Workload>,
    setup: Arc<Setup>,
    /// The step that the connection test has reached.
    pub preflight: Arc<PreflightProgress>,
    /// Whether the server still answers.
    pub server: Arc<ServerWatch>,
    /// The start of the measured phase.
    pub measured_from: Option<Tick>,
    /// Findings of the workers about their setup and about the server.
    pub notes: Vec<Finding>,
}

struct Handle {
    commands: Sender<Command>,
    replies: Receiver<Reply>,
    thread: JoinHandle<()>,
}

/// Time from the readiness of the last worker to the start of a phase, so that every worker gets the command in time.
const START_DELAY_NS: u64 = 2 * MS;

impl Engine {
    /// Starts one pinned thread per core of the plan. `empties` returns emptied blocks from the collector; `stop` may
    /// be set to [`worker_state::STOP_OFFERING`] or [`worker_state::STOP_AT_ONCE`], and `abort` to end only this run;
    /// `trace` receives the events of requests.
    pub fn start(
        plan: Arc<Plan>,
        workload: Arc<Workload>,
        stop: Arc<AtomicU8>,
        abort: Arc<AtomicBool>,
        trace: Option<Trace>,
        empties: &Receiver<Block>,
    ) -> Result<Engine, EngineError> {
        let tls = plan.target.tls.as_ref().map(tls::config).transpose().map_err(EngineError::Tls)?;
        let cores = plan.cores.clone();
        let may_spin = may_spin(&plan);
        let connections_opened = AtomicU64::new(0);
        let preflight = Arc::new(PreflightProgress::default());
        let server = Arc::new(ServerWatch::default());
        let setup = Arc::new(Setup {
            plan,
            workload: workload.clone(),
            tls,
            stop,
            abort,
            connections_opened,
            next_address: AtomicUsize::new(0),
            preflight: preflight.clone(),
            server: server.clone(),
            memory: MemoryBudget::new(host::limits::memory_bytes() / 4),
            trace,
            clock_error_ns: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            may_spin,
        });
        let count = cores.len() as u16;
        let start =
            |(number, core): (usize, &usize)| start_worker(setup.clone(), number as u16, count, *core, empties.clone());
        let workers = cores.iter().enumerate().map(start).collect::<Result<_, _>>().map_err(EngineError::Thread)?;
        Ok(Engine { workers, workload, setup, preflight, server, measured_from: None, notes: Vec::new() })
    }

    /// Runs one phase, with its warm-up, to its end.
    pub fn run(&mut self, request: PhaseRequest) -> Result<PhaseEnd, EngineError> {
        self.run_from(request, || Ok(next_start()))
    }

    /// Runs one phase, with its warm-up, to its end. `start` is called when all workers are ready, and returns the start;
    /// its error ends the phase before it begins.
    pub(crate) fn run_from<E: From<EngineError>>(
        &mut self,
        request: PhaseRequest,
        start: impl FnOnce() -> Result<Tick, E>,
    ) -> Result<PhaseEnd, E> {
        let plan = PhasePlan {
            phase: request.phase,
            load: request.load,
            share: request.share,
            warmup: request.warmup,
            requests: request.requests,
            duration_ns: request.duration_ns,
            ramp_ns: request.ramp_ns,
            next: Arc::default(),
            first_counted_ns: Arc::default(),
            messages: request.messages,
        };
        self.send_all(|| Command::Prepare(plan.clone()));
        for reply in self.replies()? {
            if let Reply::Ready(notes) = reply {
                self.note(notes);
            }
        }
        let start = start()?;
        if request.phase == Phase::Measured {
            self.measured_from.get_or_insert(start);
        }
        self.send_all(|| Command::Start(start));
        let (mut reports, mut begun) = (Vec::new(), 0);
        for reply in self.replies()? {
            if let Reply::Done(done) = reply {
                reports.push(done.report);
                begun += done.begun;
                self.note(done.notes);
            }
        }
        if let (Some(report), Some(requests)) = (reports.first_mut(), plan.requests) {
            report.unsent += self.workload.requests_of(request.phase, requests, request.share).saturating_sub(begun);
        }
        Ok(PhaseEnd { reports, begun })
    }

    /// The largest error that the clocks of the workers have shown so far, nanoseconds.
    pub(crate) fn clock_error_ns(&self) -> u64 {
        self.setup.clock_error_ns.load(Ordering::Relaxed)
    }

    /// Adds the findings of a worker. All workers report the same findings about one server in every phase, so each is
    /// kept once.
    fn note(&mut self, notes: Vec<Finding>) {
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Sends a command to every worker. A worker that has ended does not take it; its replies say why it has.
    fn send_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            let _ = worker.commands.send(command());
        }
    }

    fn replies(&self) -> Result<Vec<Reply>, EngineError> {
        gather_replies(self.workers.iter().map(|worker| &worker.replies), &self.setup.failed)
    }
}

/// The earliest start that every worker gets in time.
pub(crate) fn next_start() -> Tick {
    kernel_now().plus_ns(START_DELAY_NS)
}

/// The replies of all workers to a command. If a worker fails, `failed` is set, so that the others end their phase at
/// once; the error is that of the first one.
fn gather_replies<'a>(
    workers: impl Iterator<Item = &'a Receiver<Reply>>,
    failed: &AtomicBool,
) -> Result<Vec<Reply>, EngineError> {
    let workers: Vec<&Receiver<Reply>> = workers.collect();
    let mut select = Select::new();
    for worker in &workers {
        select.recv(worker);
    }
    let mut replies: Vec<Option<Reply>> = workers.iter().map(|_| None).collect();
    let mut failure = None;
    for _ in &workers {
        let ready = select.select();
        let number = ready.index();
        match ready.recv(workers[number]) {
            Ok(Reply::Failed(text)) => {
                failure.get_or_insert(EngineError::Worker(text));
            }
            Ok(reply) => replies[number] = Some(reply),
            Err(_) => {
                failure.get_or_insert(EngineError::Lost);
            }
        }
        if failure.is_some() {
            failed.store(true, Ordering::Relaxed);
        }
        select.remove(number);
    }
    failure.map_or_else(|| Ok(replies.into_iter().flatten().collect()), Err)
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A worker that still runs a phase ends it at once.
        self.setup.failed.store(true, Ordering::Relaxed);
        for Handle { commands, replies, thread } in self.workers.drain(..) {
            drop((commands, replies));
            // The message of a panic is already on standard error.
            let _ = thread.join();
        }
    }
}

/// Whether each worker may spin before a send: not on a core that a server on this machine may use.
fn may_spin(plan: &Plan) -> Vec<bool> {
    let used = match &plan.target.transport {
        // The built-in server of a call has a core of its own, unless all are those of workers.
        _ if plan.target.mock.is_some() => match host::affinity::has_other_cores(&plan.cores) {
            true => ServerCores::None,
            false => ServerCores::All,
        },
        Transport::Tcp(addresses) => host::local_server::cores(addresses),
        Transport::Unix(_) => ServerCores::All,
    };
    plan.cores.iter().map(|core| !used.contains(*core)).collect()
}

fn start_worker(
    setup: Arc<Setup>,
    number: u16,
    count: u16,
    core: usize,
    empties: Receiver<Block>,
) -> std::io::Result<Handle> {
    let (commands, received) = unbounded();
    let (reply, replies) = unbounded();
    let channels = WorkerChannels { commands: received, replies: reply, empties };
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || worker::run(setup, number, count, core, &channels))?;
    Ok(Handle { commands, replies, thread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_one_worker_ends_the_others() {
        let failed = AtomicBool::new(false);
        let (running, first) = unbounded();
        let (failing, second) = unbounded();
        let gathered = std::thread::scope(|scope| {
            // The first worker runs until another one has failed.
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                running.send(Reply::Ready(Vec::new())).unwrap();
            });
            failing.send(Reply::Failed("worker 1: no".to_string())).unwrap();
            gather_replies([&first, &second].into_iter(), &failed)
        });
        assert_eq!(gathered.map(|replies| replies.len()).unwrap_err().to_string(), "worker 1: no");
    }

    #[test]
    fn replies_are_in_the_order_of_the_workers() {
        let channels = [unbounded(), unbounded()];
        for (number, (reply, _)) in channels.iter().enumerate().rev() {
            reply.send(Reply::Ready(vec![Finding::WorkersShareCores { workers: number, cores: 1 }])).unwrap();
        }
        let failed = AtomicBool::new(false);
        let replies = gather_replies(channels.iter().map(|(_, replies)| replies), &failed).unwrap();
        let first = |reply: &Reply| match reply {
            Reply::Ready(notes) => notes.clone(),
            _ => Vec::new(),
        };
        assert_eq!(first(&replies[1]), [Finding::WorkersShareCores { workers: 1, cores: 1 }]);
        assert!(!failed.load(Ordering::Relaxed));
    }
}
