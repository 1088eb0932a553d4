//! The engine: pinned workers that carry out phases of requests and hand out records.
//!
//! ```text
//! Engine ── Command ─► worker thread: monoio runtime ── pump ─► Inbox ─► Pool ─► Answer
//!        ◄── Reply ──                                    └─► lanes ─► exchange ─► Outbox ─► collector
//! ```

pub mod awaiting;
pub mod clock;
pub mod conversation;
pub mod core;
pub mod exchange;
pub mod inbox;
pub mod lane;
pub mod outbox;
pub mod pacer;
pub mod pool;
pub mod pump;
pub mod telemetry;
pub mod tls;
pub mod transport;
mod unasked;
pub mod witness;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use self::awaiting::Awaiting;
use self::clock::Clock;
use self::core::{PhasePlan, Setup};
use self::worker::{Command, Links, Reply};
use crate::finding::Finding;
use crate::plan::{Load, Plan};
use crate::record::trace::Trace;
use crate::record::{Block, Parcel, Phase, WorkerReport};
use crate::time::{MS, Tick};
use crate::workload::Workload;

/// Why the engine could not run; never a fault of the server, which is data.
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

/// What is to be run as one phase.
#[derive(Clone, Debug)]
pub struct PhaseRequest {
    pub phase: Phase,
    pub load: Load,
    pub requests: Option<u64>,
    pub duration_ns: Option<u64>,
    pub ramp_ns: u64,
    /// Where the records go.
    pub parcels: Sender<Parcel>,
}

/// What a phase came to, besides its records.
#[derive(Debug)]
pub struct PhaseEnd {
    /// The instant that offsets of the schedule count from.
    pub started: Tick,
    pub reports: Vec<WorkerReport>,
}

/// Running workers, idle between phases; connections live across phases.
pub struct Engine {
    workers: Vec<Handle>,
    workload: Arc<Workload>,
    clock: Clock,
    /// What the connection test is waiting for.
    pub awaited: Arc<Awaiting>,
    /// What the workers had to make do with.
    pub notes: Vec<Finding>,
}

struct Handle {
    commands: Sender<Command>,
    replies: Receiver<Reply>,
    thread: JoinHandle<()>,
}

/// Between the last worker's readiness and the start of a phase, so that all hear of it in time.
const START_DELAY_NS: u64 = 2 * MS;

impl Engine {
    /// Starts one pinned thread per core of the plan. `empties` brings emptied blocks back from the collector; `stop`
    /// takes [`core::STOP_OFFERING`] or [`core::STOP_AT_ONCE`]; `trace` takes what happens to requests.
    pub fn start(
        plan: Arc<Plan>,
        workload: Arc<Workload>,
        stop: Arc<AtomicU8>,
        trace: Option<Trace>,
        empties: &Receiver<Block>,
    ) -> Result<Engine, EngineError> {
        let tls = plan.target.tls.as_ref().map(tls::config).transpose().map_err(EngineError::Tls)?;
        let cores = plan.cores.clone();
        let connections = AtomicU64::new(0);
        let awaited = Arc::new(Awaiting::default());
        let setup = Arc::new(Setup {
            plan,
            workload: workload.clone(),
            tls,
            stop,
            connections,
            awaited: awaited.clone(),
            trace,
        });
        let count = cores.len() as u16;
        let start =
            |(number, core): (usize, &usize)| start_worker(setup.clone(), number as u16, count, *core, empties.clone());
        let workers = cores.iter().enumerate().map(start).collect::<Result<_, _>>().map_err(EngineError::Thread)?;
        Ok(Engine { workers, workload, clock: Clock::new(), awaited, notes: Vec::new() })
    }

    /// Runs one phase to its end.
    pub fn run(&mut self, request: PhaseRequest) -> Result<PhaseEnd, EngineError> {
        let next = Arc::new(AtomicU64::new(0));
        let plan = PhasePlan {
            phase: request.phase,
            load: request.load,
            requests: request.requests,
            duration_ns: request.duration_ns,
            ramp_ns: request.ramp_ns,
            next: next.clone(),
            parcels: request.parcels,
        };
        self.tell(|| Command::Prepare(plan.clone()))?;
        for reply in self.replies()? {
            if let Reply::Ready(notes) = reply {
                self.note(notes);
            }
        }
        let started = self.clock.now().plus_ns(START_DELAY_NS);
        self.tell(|| Command::Go(started))?;
        let mut reports = Vec::new();
        for reply in self.replies()? {
            if let Reply::Done(report, notes) = reply {
                reports.push(*report);
                self.note(notes);
            }
        }
        if let (Some(report), Some(requests)) = (reports.first_mut(), plan.requests) {
            let all = self.workload.requests_of(request.phase, requests);
            let begun = self.workload.requests_of(request.phase, next.load(Ordering::Relaxed).min(requests));
            report.unsent += all - begun;
        }
        Ok(PhaseEnd { started, reports })
    }

    /// Every worker notes the same of one server, in every phase: it is kept once.
    fn note(&mut self, notes: Vec<Finding>) {
        for note in notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) -> Result<(), EngineError> {
        for worker in &self.workers {
            worker.commands.send(command()).map_err(|_| EngineError::Lost)?;
        }
        Ok(())
    }

    fn replies(&self) -> Result<Vec<Reply>, EngineError> {
        let mut replies = Vec::new();
        for worker in &self.workers {
            match worker.replies.recv().map_err(|_| EngineError::Lost)? {
                Reply::Failed(text) => return Err(EngineError::Worker(text)),
                reply => replies.push(reply),
            }
        }
        Ok(replies)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for Handle { commands, replies, thread } in self.workers.drain(..) {
            drop((commands, replies));
            // A worker that panicked has already said so on standard error.
            let _ = thread.join();
        }
    }
}

fn start_worker(
    setup: Arc<Setup>,
    number: u16,
    count: u16,
    core: usize,
    empties: Receiver<Block>,
) -> std::io::Result<Handle> {
    let (commands, told) = unbounded();
    let (reply, replies) = unbounded();
    let links = Links { commands: told, replies: reply, empties };
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || worker::run(setup, number, count, core, &links))?;
    Ok(Handle { commands, replies, thread })
}
