//! A worker: one pinned thread with its monoio runtime, carrying out phases one after the other.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::clock::Clock;
use super::core::{Core, PhasePlan, PhaseState, Setup, Worker};
use super::inbox::{Inbox, InboxPlan};
use super::outbox::Outbox;
use super::pool::Pool;
use super::pump::{open_ahead, run_lanes};
use super::telemetry::Telemetry;
use crate::api::answer::AnswerOptions;
use crate::finding::Finding;
use crate::plan::{Load, Plan, Save};
use crate::record::{Block, Phase, WorkerReport};
use crate::rig;
use crate::time::Tick;

/// What a worker is told.
pub enum Command {
    /// Make ready for a phase: open the connections of a closed loop.
    Prepare(PhasePlan),
    /// Run the prepared phase from this instant on.
    Go(Tick),
}

/// What a worker answers.
pub enum Reply {
    /// Ready for [`Command::Go`], with what its set-up had to make do with.
    Ready(Vec<Finding>),
    /// The phase is over, with what became known of the server.
    Done(Box<WorkerReport>, Vec<Finding>),
    Failed(String),
}

/// A worker's ends of the channels.
pub struct Links {
    pub commands: Receiver<Command>,
    pub replies: Sender<Reply>,
    pub empties: Receiver<Block>,
}

/// The longest event accepted.
const MAX_EVENT_BYTES: usize = 16 << 20;
/// Streams the inbox of an open loop is made ready for: nobody knows how many there will be.
const OPEN_LOOP_STREAMS: usize = 4096;

/// A worker thread's whole life: pinned to `core`, it carries out commands until their channel closes.
pub fn run(setup: Arc<Setup>, number: u16, count: u16, core: usize, links: &Links) {
    // A set of cores has room for this many, and `core_affinity` aborts the process beyond.
    const CORES: usize = 1024;
    let pinned = core < CORES && core_affinity::set_for_current(core_affinity::CoreId { id: core });
    // Granted or not, the run's own figures say what came of it.
    rig::priority::prefer();
    let mut host = match Host::open(setup, number, count, links) {
        Ok(host) => host,
        Err(error) => return drop(links.replies.send(Reply::Failed(format!("worker {number} cannot start: {error}")))),
    };
    if pinned {
        host.core_number = Some(core as u16);
    } else {
        host.notes.push(Finding::WorkerNotPinned { worker: number, core });
    }
    while let Ok(command) = links.commands.recv() {
        let reply = match command {
            Command::Prepare(plan) => host.prepare(plan),
            Command::Go(start) => host.go(start),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed(format!("worker {number}: {error}")));
        if links.replies.send(reply).is_err() {
            return;
        }
    }
}

/// monoio with whichever driver could be had.
enum AnyRuntime {
    Ring(Box<Runtime<IoUringDriver>>),
    Legacy(Box<Runtime<LegacyDriver>>),
}

impl AnyRuntime {
    fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            AnyRuntime::Ring(runtime) => runtime.block_on(future),
            AnyRuntime::Legacy(runtime) => runtime.block_on(future),
        }
    }
}

struct Host {
    runtime: AnyRuntime,
    worker: Rc<Worker>,
    core_number: Option<u16>,
    notes: Vec<Finding>,
    opened_before: u64,
    shortages_before: u64,
}

impl Host {
    fn open(setup: Arc<Setup>, number: u16, count: u16, links: &Links) -> io::Result<Host> {
        let plan = &setup.plan;
        let connections = plan.load.parallel().map_or(OPEN_LOOP_STREAMS, |all| (all as usize).div_ceil(count.into()));
        let inbox_plan = InboxPlan { connections };
        let (inbox, mut fallback) = Inbox::open(inbox_plan, plan.force_fallback)?;
        let (runtime, inbox) = match inbox {
            Inbox::Ring(_) => match ring_runtime() {
                Ok(runtime) => (AnyRuntime::Ring(Box::new(runtime)), inbox),
                Err(error) => {
                    fallback = Some(Finding::EpollInstead { reason: error.to_string() });
                    (legacy_runtime()?, Inbox::open(inbox_plan, true)?.0)
                }
            },
            Inbox::Epoll(_) => (legacy_runtime()?, inbox),
        };
        let notes = fallback.into_iter().collect();
        // A phase that is never run stands in until the first is prepared.
        let (nowhere, _) = crossbeam_channel::unbounded();
        let idle = PhaseState::new(PhasePlan::none(nowhere.clone()), &setup, Tick(0), number, count);
        let outbox = Outbox::new(number, nowhere, links.empties.clone());
        let pool = Pool::new(answer_options(&setup.plan), setup.trace.clone());
        let core = RefCell::new(Core::new(Clock::new(), inbox, pool, outbox, idle));
        let worker = Rc::new(Worker { core, setup, number, count });
        Ok(Host { runtime, worker, core_number: None, notes, opened_before: 0, shortages_before: 0 })
    }

    fn prepare(&mut self, plan: PhasePlan) -> io::Result<Reply> {
        let worker = &self.worker;
        {
            let core = &mut *worker.core.borrow_mut();
            core.outbox.redirect(plan.parcels.clone());
            core.start_phase(PhaseState::new(plan, &worker.setup, Tick(u64::MAX), worker.number, worker.count));
        }
        let lanes = worker.lane_share();
        let ahead = {
            let phase = &worker.core.borrow().phase.plan;
            // The connection test's one lane opens its own: a connection that does not come is waited for once.
            !worker.setup.plan.cold && phase.phase != Phase::Preflight && !matches!(phase.load, Load::Open { .. })
        };
        if ahead {
            self.runtime.block_on(open_ahead(worker.clone(), lanes))?;
        }
        Ok(Reply::Ready(std::mem::take(&mut self.notes)))
    }

    fn go(&mut self, start: Tick) -> io::Result<Reply> {
        let worker = &self.worker;
        {
            let core = &mut *worker.core.borrow_mut();
            let plan = core.phase.plan.clone();
            core.start_phase(PhaseState::new(plan, &worker.setup, start, worker.number, worker.count));
            core.telemetry = Telemetry::new(start);
        }
        self.runtime.block_on(run_lanes(worker.clone(), start))?;
        let core = &mut *worker.core.borrow_mut();
        let now = core.clock.now();
        core.outbox.flush(&mut core.telemetry);
        let (opened, shortages) = (core.pool.opened, core.inbox.buffer_shortages());
        let telemetry = std::mem::replace(&mut core.telemetry, Telemetry::new(now));
        let mut report = telemetry.report(worker.number, core.phase.plan.phase, self.core_number, now);
        report.connections_opened = opened - std::mem::replace(&mut self.opened_before, opened);
        report.buffer_shortages = shortages - std::mem::replace(&mut self.shortages_before, shortages);
        if core.pool.server_closes_silently() {
            self.notes.push(Finding::ServerClosesConnections);
        }
        Ok(Reply::Done(Box::new(report), std::mem::take(&mut self.notes)))
    }
}

/// One thread submits, and the kernel finishes work only when asked: the fastest way monoio has. Older kernels lack
/// the flags.
fn ring_runtime() -> io::Result<Runtime<IoUringDriver>> {
    let mut deferred = io_uring::IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun();
    let mut cooperative = io_uring::IoUring::builder();
    cooperative.setup_coop_taskrun();
    [deferred, cooperative, io_uring::IoUring::builder()]
        .into_iter()
        .map(|builder| RuntimeBuilder::<IoUringDriver>::new().uring_builder(builder).build())
        .reduce(|first, next| first.or(next))
        .unwrap_or_else(|| Err(io::Error::other("no set-up to try")))
}

fn legacy_runtime() -> io::Result<AnyRuntime> {
    Ok(AnyRuntime::Legacy(Box::new(RuntimeBuilder::<LegacyDriver>::new().build()?)))
}

/// How answers of a plan are read.
pub(super) fn answer_options(plan: &Plan) -> AnswerOptions {
    AnswerOptions {
        dialect: plan.dialect,
        stream: plan.stream,
        // The next turn of a conversation says the answer again, kept or not.
        keep_text: plan.save != Save::Metrics || plan.workload.source.is_conversations(),
        keep_raw: plan.keeps_raw() || plan.report.debug,
        max_event_bytes: MAX_EVENT_BYTES,
    }
}
