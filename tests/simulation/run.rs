//! Runs the engine's workers on simulated kernels: the same slots, event loop, ring and parsers, in virtual time.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crossbeam_channel::{Receiver, unbounded};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ringmark::engine::receive::ReceivePath;
use ringmark::engine::receive::epoll::Epoll;
use ringmark::engine::receive::ring::Ring;
use ringmark::engine::receive::simulated::Kernel;
use ringmark::engine::receive::simulated_set::Set;
use ringmark::engine::worker::{Reply, WorkerThread};
use ringmark::engine::worker_state::{PhasePlan, STOP_OFFERING, Setup};
use ringmark::plan::{Timeouts, Transport};
use ringmark::record::memory::MemoryBudget;
use ringmark::record::{Block, CollectorMessage, Phase, WorkerReport};
use ringmark::time::clock::Clock;
use ringmark::time::{MS, S, Tick};
use ringmark::workload::Workload;

use super::executor::Tasks;
use super::kernel::{SharedWorld, SimKernel, SimSet, World};
use super::scenario::Scenario;
use super::server::{REQUEST_BODY, Server, Truth};
use super::talks::{self, Prepared};
use super::time::VirtualTime;

/// What a run left behind.
pub struct Outcome {
    pub blocks: Vec<Block>,
    pub reports: Vec<WorkerReport>,
    pub truths: Vec<Truth>,
    pub unsent: u64,
}

/// One worker with its kernel and its tasks.
struct SimWorker {
    world: SharedWorld,
    tasks: Tasks,
    thread: Rc<RefCell<Option<WorkerThread>>>,
    reply: Rc<RefCell<Option<Reply>>>,
}

/// More steps of a worker than any run needs: the engine hangs.
const MAX_STEPS: u64 = 3_000_000;

static SINGLE: LazyLock<Prepared> = LazyLock::new(|| {
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\n".to_vec();
    let workload = Workload::fixed(head, vec![REQUEST_BODY.into()], "sim");
    Prepared { plan: talks::plan(&talks::spec()), workload: Arc::new(workload) }
});

/// What the requests of a run are made of.
pub fn prepared(scenario: &Scenario) -> &'static Prepared {
    scenario.talks.map_or(&*SINGLE, |talks| talks::prepared(talks.with_pauses))
}

pub fn run(scenario: &Scenario) -> Outcome {
    let Prepared { plan, workload } = prepared(scenario);
    let mut plan = plan.clone();
    plan.target.transport = Transport::Tcp(vec![SocketAddr::from(([127, 0, 0, 1], 9))]);
    plan.load = scenario.load.clone();
    plan.drain_ns = scenario.drain_ns;
    plan.spin = scenario.spin;
    plan.cold = scenario.cold;
    plan.seed = scenario.seed;
    plan.stream = scenario.style.streams;
    plan.timeouts = Timeouts { connect_ns: 50 * MS, read_ns: 900 * MS, total_ns: 5 * S };
    let stop = Arc::new(AtomicU8::new(0));
    let setup = Arc::new(Setup {
        plan: Arc::new(plan),
        workload: workload.clone(),
        tls: None,
        stop: stop.clone(),
        abort: Arc::default(),
        next_address: Default::default(),
        server: Arc::default(),
        memory: MemoryBudget::new(u64::MAX),
        clock_error_ns: AtomicU64::new(0),
        failed: Default::default(),
        connections_opened: AtomicU64::new(0),
        preflight: Arc::default(),
        trace: None,
        may_spin: vec![scenario.may_spin; usize::from(scenario.workers)],
    });
    let (messages, records) = unbounded();
    let (_empty, empties) = unbounded();
    let mut workers: Vec<SimWorker> =
        (0..scenario.workers).map(|number| SimWorker::new(scenario, &setup, number, &empties)).collect();
    let phase = PhasePlan {
        phase: Phase::Measured,
        load: scenario.load.clone(),
        share: Default::default(),
        warmup: scenario.warmup,
        requests: scenario.requests,
        duration_ns: scenario.duration_ns,
        ramp_ns: scenario.ramp_ns,
        next: Arc::default(),
        first_counted_ns: Arc::default(),
        messages,
    };
    let interrupt = |now_ns: u64| {
        let (at_ns, at_once) = scenario.interrupt?;
        (now_ns >= at_ns).then(|| stop.store(STOP_OFFERING + u8::from(at_once), Ordering::Relaxed))
    };
    run_all(&mut workers, interrupt, |mut thread| {
        let phase = phase.clone();
        async move {
            let reply = thread.prepare(phase).await;
            (thread, reply)
        }
    });
    let start = Tick(workers.iter().map(SimWorker::now_ns).max().unwrap_or(0) + 2 * MS);
    let replies = run_all(&mut workers, interrupt, |mut thread| async move {
        let reply = thread.run_phase(start).await;
        (thread, reply)
    });
    let (mut reports, mut begun) = (Vec::<WorkerReport>::new(), 0);
    for reply in replies {
        match reply {
            Reply::Done(done) => {
                begun += done.begun;
                reports.push(done.report);
            }
            Reply::Ready(_) | Reply::Failed(_) => panic!("a worker did not run its phase"),
        }
    }
    let unbegun = scenario.requests.map_or(0, |units| requests_of(scenario, Phase::Measured, units) - begun);
    let unsent = unbegun + reports.iter().map(|report| report.unsent).sum::<u64>();
    drop(phase);
    let worlds: Vec<SharedWorld> = workers.iter().map(|worker| worker.world.clone()).collect();
    // Closes the connections.
    drop(workers);
    let truths = worlds.iter().flat_map(|world| std::mem::take(&mut world.borrow_mut().server.truths)).collect();
    Outcome { blocks: blocks(&records), reports, truths, unsent }
}

/// The requests of so many units: those of all turns of conversations.
pub fn requests_of(scenario: &Scenario, phase: Phase, units: u64) -> u64 {
    match scenario.talks {
        Some(_) => {
            let conversations = prepared(scenario).conversations();
            (0..units).map(|number| conversations.script(phase, number).turns.len() as u64).sum()
        }
        None => units,
    }
}

fn blocks(records: &Receiver<CollectorMessage>) -> Vec<Block> {
    let blocks = records.try_iter().filter_map(|message| match message {
        CollectorMessage::Block(block) => Some(block),
        _ => None,
    });
    blocks.collect()
}

impl SimWorker {
    fn new(scenario: &Scenario, setup: &Arc<Setup>, number: u16, empties: &Receiver<Block>) -> SimWorker {
        let stops = scenario.stops[usize::from(number)].clone();
        let time = Arc::new(VirtualTime::new(scenario.reading_ns, stops, scenario.steps.clone()));
        let rng = ChaCha8Rng::seed_from_u64(scenario.seed << 8 | u64::from(number));
        let server = Server::new(scenario.style.clone());
        let world = World::new(time.clone(), rng, scenario.faults.clone(), server);
        let world = Rc::new(RefCell::new(world));
        let receive = if scenario.epoll {
            ReceivePath::SimulatedEpoll(Box::new(Epoll::on(Set(Box::new(SimSet(world.clone()))))))
        } else {
            let ring = Ring::on(Kernel(Box::new(SimKernel(world.clone())))).unwrap();
            ReceivePath::Simulated(Box::new(ring))
        };
        let tasks = Tasks::default();
        let thread = WorkerThread::new(
            setup.clone(),
            (number, scenario.workers),
            Clock::simulated(time),
            (receive, tasks.executor()),
            empties,
        );
        SimWorker { world, tasks, thread: Rc::new(RefCell::new(Some(thread))), reply: Rc::default() }
    }

    fn now_ns(&self) -> u64 {
        self.world.borrow().time.now_ns()
    }
}

/// Lets every worker do one thing to its end. The worker whose time is earliest runs next.
fn run_all<F>(
    workers: &mut [SimWorker],
    interrupt: impl Fn(u64) -> Option<()>,
    action: impl Fn(WorkerThread) -> F,
) -> Vec<Reply>
where
    F: Future<Output = (WorkerThread, std::io::Result<Reply>)> + 'static,
{
    for worker in workers.iter_mut() {
        let thread = worker.thread.borrow_mut().take().expect("a worker does one thing at a time");
        let (running, back, reply) = (action(thread), worker.thread.clone(), worker.reply.clone());
        worker.tasks.spawn(Box::pin(async move {
            let (thread, result) = running.await;
            *back.borrow_mut() = Some(thread);
            *reply.borrow_mut() = Some(result.unwrap());
        }));
    }
    let is_running = |worker: &&mut SimWorker| worker.reply.borrow().is_none();
    let mut steps = 0;
    while let Some(worker) = workers.iter_mut().filter(is_running).min_by_key(|worker| worker.now_ns()) {
        interrupt(worker.now_ns());
        assert!(worker.tasks.run_ready(), "a worker waits for something that never happens");
        steps += 1;
        assert!(steps < MAX_STEPS, "the run does not end");
    }
    workers
        .iter_mut()
        .map(|worker| {
            // The tasks of the phase end with it.
            while worker.tasks.run_ready() {}
            worker.reply.borrow_mut().take().expect("every worker has ended")
        })
        .collect()
}
