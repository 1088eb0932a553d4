//! A worker: one pinned thread with its monoio runtime, which runs one phase after the other.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use super::connections::Connections;
use super::event_loop::{open_ahead, run_slots};
use super::executor::Executor;
use super::memory::WorkerMemory;
use super::receive::ReceivePath;
use super::receive::delivery::ReceivePlan;
use super::record_sender::RecordSender;
use super::telemetry::Telemetry;
use super::worker_state::{PhasePlan, PhaseState, Setup, Worker, WorkerState};
use crate::api::answer::AnswerOptions;
use crate::finding::Finding;
use crate::host;
use crate::plan::{Load, Plan, Save};
use crate::record::{Block, Phase, WorkerReport};
use crate::time::Tick;
use crate::time::clock::Clock;

/// A command to a worker.
pub enum Command {
    /// Prepare a phase: open the connections of a closed loop.
    Prepare(PhasePlan),
    /// Run the prepared phase from this time on.
    Start(Tick),
}

/// The reply of a worker.
pub enum Reply {
    /// Ready for [`Command::Start`], with findings about the setup.
    Ready(Vec<Finding>),
    /// The phase is over.
    Done(Box<PhaseDone>),
    Failed(String),
}

/// A worker's share of a phase.
pub struct PhaseDone {
    pub report: WorkerReport,
    /// Requests of the phase itself, without its warm-up, that were begun; of a conversation that was begun, all turns.
    pub begun: u64,
    /// Findings about the server.
    pub notes: Vec<Finding>,
}

/// The channels of a worker, from its side.
pub struct WorkerChannels {
    pub commands: Receiver<Command>,
    pub replies: Sender<Reply>,
    pub empties: Receiver<Block>,
}

/// Maximum size of an event.
const MAX_EVENT_BYTES: usize = 16 << 20;
/// The number of connections that the receive path of an open loop is sized for; the actual number is not known.
const OPEN_LOOP_STREAMS: usize = 4096;

/// The main function of a worker thread: pins it to `core` and executes commands until their channel is closed.
pub fn run(setup: Arc<Setup>, number: u16, count: u16, core: usize, channels: &WorkerChannels) {
    // The size of a CPU set; `core_affinity` aborts the process for a larger number.
    const MAX_CORES: usize = 1024;
    let pinned = core < MAX_CORES && core_affinity::set_for_current(core_affinity::CoreId { id: core });
    // Without the priority the run works as well; its effect shows in the receive lag.
    host::priority::raise_priority();
    let (mut runtime, mut worker) = match WorkerThread::open(setup, number, count, channels) {
        Ok(worker) => worker,
        Err(error) => {
            return drop(channels.replies.send(Reply::Failed(format!("worker {number} cannot start: {error}"))));
        }
    };
    if pinned {
        worker.core_number = Some(core as u16);
    } else {
        worker.notes.push(Finding::WorkerNotPinned { worker: number, core });
    }
    while let Ok(command) = channels.commands.recv() {
        let reply = match command {
            Command::Prepare(plan) => runtime.block_on(worker.prepare(plan)),
            Command::Start(start) => runtime.block_on(worker.run_phase(start)),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed(format!("worker {number}: {error}")));
        if channels.replies.send(reply).is_err() {
            return;
        }
    }
}

/// monoio with the driver that is available.
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

/// A worker between its phases.
pub struct WorkerThread {
    worker: Rc<Worker>,
    core_number: Option<u16>,
    notes: Vec<Finding>,
    opened_before: u64,
    shortages_before: u64,
}

impl WorkerThread {
    fn open(
        setup: Arc<Setup>,
        number: u16,
        count: u16,
        channels: &WorkerChannels,
    ) -> io::Result<(AnyRuntime, WorkerThread)> {
        let plan = &setup.plan;
        let connections = plan.slots().map_or(OPEN_LOOP_STREAMS, |slots| (slots as usize).div_ceil(count.into()));
        let receive_plan = ReceivePlan { connections };
        let (receive, mut fallback) = ReceivePath::open(receive_plan, plan.force_fallback)?;
        let (runtime, receive) = match receive {
            ReceivePath::Ring(_) => match ring_runtime() {
                Ok(runtime) => (AnyRuntime::Ring(Box::new(runtime)), receive),
                Err(error) => {
                    let reason = error.to_string();
                    let receive = ReceivePath::open_epoll(&reason)?;
                    fallback = Some(Finding::EpollInstead { reason });
                    (legacy_runtime()?, receive)
                }
            },
            receive => (legacy_runtime()?, receive),
        };
        let mut worker =
            WorkerThread::new(setup, (number, count), Clock::new(), (receive, Executor::Monoio), &channels.empties);
        worker.notes.extend(fallback);
        Ok((runtime, worker))
    }

    /// Worker `number` of `count`. `empties` returns emptied blocks.
    pub fn new(
        setup: Arc<Setup>,
        (number, count): (u16, u16),
        clock: Clock,
        (receive, executor): (ReceivePath, Executor),
        empties: &Receiver<Block>,
    ) -> WorkerThread {
        // A placeholder until the first phase is prepared; it never runs.
        let (nowhere, _) = crossbeam_channel::unbounded();
        let idle = PhaseState::new(PhasePlan::none(nowhere.clone()), &setup, Tick(0), number, count);
        let record_sender = RecordSender::new(u32::from(number), nowhere, empties.clone(), setup.memory.clone());
        let memory = WorkerMemory::new(&setup.memory, count);
        let may_spin = setup.may_spin.get(usize::from(number)).copied().unwrap_or(false);
        let connections = Connections::new(answer_options(&setup.plan), setup.trace.clone(), memory);
        let state = RefCell::new(WorkerState::new(clock, receive, connections, record_sender, idle, may_spin));
        let worker = Rc::new(Worker { state, executor, setup, number, count });
        WorkerThread { worker, core_number: None, notes: Vec::new(), opened_before: 0, shortages_before: 0 }
    }

    /// Prepares a phase; see [`Command::Prepare`].
    ///
    /// # Errors
    /// The receive path failed.
    pub async fn prepare(&mut self, plan: PhasePlan) -> io::Result<Reply> {
        let worker = &self.worker;
        {
            let state = &mut *worker.state.borrow_mut();
            state.clock.resync();
            state.record_sender.redirect(plan.messages.clone());
            state.start_phase(PhaseState::new(plan, &worker.setup, Tick(u64::MAX), worker.number, worker.count));
        }
        let slots = worker.slot_share();
        let ahead = {
            let phase = &worker.state.borrow().phase.plan;
            // The only slot of the connection test opens its own connection, so that a timeout is waited for only once.
            !worker.setup.plan.cold && phase.phase != Phase::Preflight && !matches!(phase.load, Load::Open { .. })
        };
        if ahead {
            open_ahead(worker.clone(), slots).await?;
        }
        Ok(Reply::Ready(std::mem::take(&mut self.notes)))
    }

    /// Runs the prepared phase; see [`Command::Start`].
    ///
    /// # Errors
    /// The receive path failed.
    pub async fn run_phase(&mut self, start: Tick) -> io::Result<Reply> {
        let worker = &self.worker;
        {
            let state = &mut *worker.state.borrow_mut();
            // Other workers may have prepared for a long time. The errors so far concern no measured time.
            state.clock.resync();
            state.clock.take_worst_error_ns();
            let plan = state.phase.plan.clone();
            state.start_phase(PhaseState::new(plan, &worker.setup, start, worker.number, worker.count));
            state.telemetry = Telemetry::new(start, worker.setup.plan.stream);
        }
        run_slots(worker.clone(), start).await?;
        let state = &mut *worker.state.borrow_mut();
        let now = state.clock.now();
        state.clock.measure_error();
        worker.setup.clock_error_ns.fetch_max(state.clock.take_worst_error_ns(), Ordering::Relaxed);
        state.record_sender.flush(&mut state.telemetry);
        let (opened, shortages) = (state.connections.opened, state.receive.buffer_shortages());
        let telemetry = std::mem::replace(&mut state.telemetry, Telemetry::new(now, worker.setup.plan.stream));
        let begun = telemetry.begun;
        let mut report = telemetry.report(u32::from(worker.number), state.phase.plan.phase, self.core_number, now);
        report.connections_opened = opened - std::mem::replace(&mut self.opened_before, opened);
        report.buffer_shortages = shortages - std::mem::replace(&mut self.shortages_before, shortages);
        if state.connections.server_closes_silently() {
            self.notes.push(Finding::ServerClosesConnections);
        }
        Ok(Reply::Done(Box::new(PhaseDone { report, begun, notes: std::mem::take(&mut self.notes) })))
    }
}

/// The fastest ring that this kernel supports for monoio: with a single issuer and deferred task work, else with
/// cooperative task work, else without flags.
fn ring_runtime() -> io::Result<Runtime<IoUringDriver>> {
    let mut deferred = io_uring::IoUring::builder();
    deferred.setup_single_issuer().setup_defer_taskrun();
    let mut cooperative = io_uring::IoUring::builder();
    cooperative.setup_coop_taskrun();
    [deferred, cooperative, io_uring::IoUring::builder()]
        .into_iter()
        .map(|builder| RuntimeBuilder::<IoUringDriver>::new().uring_builder(builder).build())
        .reduce(|first, next| first.or(next))
        .unwrap_or_else(|| Err(io::Error::other("no ring configuration to try")))
}

fn legacy_runtime() -> io::Result<AnyRuntime> {
    Ok(AnyRuntime::Legacy(Box::new(RuntimeBuilder::<LegacyDriver>::new().build()?)))
}

/// How the responses of a plan are parsed.
pub(super) fn answer_options(plan: &Plan) -> AnswerOptions {
    AnswerOptions {
        dialect: plan.dialect,
        stream: plan.stream,
        // The next turn of a conversation contains the answer, stored or not.
        keep_text: plan.save != Save::Metrics || plan.workload.source.is_conversations(),
        keep_raw: plan.stores_raw_responses() || plan.report.debug,
        max_event_bytes: MAX_EVENT_BYTES,
        max_response_bytes: plan.max_response_bytes,
    }
}
