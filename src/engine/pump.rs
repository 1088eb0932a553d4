//! The pump: a worker's main task. It turns the inbox and the deadlines, and sleeps on the inbox's descriptor through
//! monoio, which runs the woken lanes meanwhile.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use monoio::net::UnixStream;

use super::core::{Core, Job, Wait, Worker};
use super::{lane, transport};
use crate::plan::Load;
use crate::time::Tick;

/// Connections that are being opened at the same time, ahead of a closed loop.
const OPENERS: u32 = 32;
/// Turns of a busy-polling pump between two turns of monoio.
const SPINS: u32 = 64;

/// Opens connections until `wanted` stand idle. One that cannot be opened is left to its lane, which will record why.
pub async fn open_ahead(worker: Rc<Worker>, wanted: u32) -> io::Result<()> {
    let missing = wanted.saturating_sub(worker.core.borrow().pool.idle_count());
    let left = Rc::new(std::cell::Cell::new(missing));
    for _ in 0..missing.min(OPENERS) {
        let lane = worker.core.borrow_mut().new_lane();
        monoio::spawn(opener(worker.clone(), lane, left.clone()));
    }
    pump(&worker, &mut |_| {}).await
}

async fn opener(worker: Rc<Worker>, lane: u32, left: Rc<std::cell::Cell<u32>>) {
    while left.get() > 0 {
        left.set(left.get() - 1);
        match transport::open(&worker, lane).await {
            Ok(opened) => worker.core.borrow_mut().pool.add_idle(opened.slot),
            Err(_) => left.set(0),
        }
    }
    worker.lane_ended();
}

/// Runs the lanes of the prepared phase from `start` until it is over.
pub async fn run_lanes(worker: Rc<Worker>, start: Tick) -> io::Result<()> {
    let closed = {
        let core = worker.core.borrow();
        match core.phase.plan.load {
            Load::Open { .. } => None,
            Load::Closed { parallel } | Load::Paced { parallel, .. } => Some((parallel, core.phase.plan.ramp_ns)),
        }
    };
    if let Some((parallel, ramp_ns)) = closed {
        for number in 0..worker.lane_share() {
            let overall = u64::from(number) * u64::from(worker.count) + u64::from(worker.number);
            let delay_ns = u128::from(ramp_ns) * u128::from(overall) / u128::from(parallel);
            let lane = worker.core.borrow_mut().new_lane();
            monoio::spawn(lane::closed(worker.clone(), lane, start.plus_ns(delay_ns as u64)));
        }
    }
    let spawner = worker.clone();
    let mut serve = move |jobs: &mut Vec<Job>| {
        for job in jobs.drain(..) {
            let lane = spawner.core.borrow_mut().new_lane();
            monoio::spawn(lane::open(spawner.clone(), lane, job));
        }
    };
    pump(&worker, &mut serve).await
}

/// Pumps until the phase is over and every lane has ended. `serve` makes lanes for jobs that found none idle.
async fn pump(worker: &Rc<Worker>, serve: &mut impl FnMut(&mut Vec<Job>)) -> io::Result<()> {
    let spin = worker.setup.plan.spin;
    let readiness = Readiness::new(worker, spin)?;
    let mut unserved = Vec::new();
    let mut waited = true;
    let mut spins = 0;
    loop {
        let woken = {
            let core = &mut *worker.core.borrow_mut();
            let woken = core.turn(&worker.setup, waited)?;
            std::mem::swap(&mut core.unserved, &mut unserved);
            if let Some(error) = core.trouble.take() {
                return Err(error);
            }
            woken
        };
        serve(&mut unserved);
        {
            let core = &mut *worker.core.borrow_mut();
            if core.is_over() {
                core.dismiss_lanes();
            }
            if core.phase.live_lanes == 0 && core.is_over() {
                return Ok(());
            }
        }
        spins += 1;
        if spin && !woken && spins % SPINS != 0 {
            waited = false;
            continue;
        }
        readiness.wait(worker).await?;
        waited = !spin;
    }
}

/// What the pump sleeps on.
struct Readiness {
    stream: UnixStream,
}

impl Readiness {
    /// The inbox's descriptor; when busy polling, one that is always ready, so that a sleep is one turn of monoio.
    fn new(worker: &Worker, spin: bool) -> io::Result<Readiness> {
        let copy = if spin { always_ready()? } else { worker.core.borrow().inbox.wait_fd().try_clone_to_owned()? };
        // monoio awaits any descriptor through a stream type; nothing but its readiness is used.
        Ok(Readiness { stream: UnixStream::from_std(std::os::unix::net::UnixStream::from(copy))? })
    }

    /// Until the descriptor is readable, or the last lane has ended.
    async fn wait(&self, worker: &Worker) -> io::Result<()> {
        let mut readable = pin!(self.stream.readable(false));
        poll_fn(|context| {
            let core = &mut *worker.core.borrow_mut();
            if core.phase.live_lanes == 0 && core.is_over() {
                return Poll::Ready(Ok(()));
            }
            core.pump_waker = Some(context.waker().clone());
            readable.as_mut().poll(context)
        })
        .await
    }
}

/// A descriptor that is always readable: the read end of a pipe whose other end is closed.
fn always_ready() -> io::Result<OwnedFd> {
    let (reader, writer) = io::pipe()?;
    drop(writer);
    Ok(reader.into())
}

impl Worker {
    /// The present instant.
    pub fn now(&self) -> Tick {
        self.core.borrow().clock.now()
    }

    /// How many lanes of the closed loop are this worker's.
    pub fn lane_share(&self) -> u32 {
        let all = self.core.borrow().phase.plan.load.parallel().unwrap_or(0);
        let (number, count) = (u32::from(self.number), u32::from(self.count));
        all / count + u32::from(number < all % count)
    }

    /// Starts a wait of `lane`, and makes sure that the inbox wakes the pump for its deadline.
    pub fn wait(&self, lane: u32, wait: Wait) {
        let core = &mut *self.core.borrow_mut();
        let now = core.clock.now();
        core.wait(lane, wait, self.setup.plan.timeouts.read_ns, now);
        if let Err(error) = core.announce_deadline() {
            core.trouble = Some(error);
        }
    }

    /// Until `at`, or until no further request is to be offered.
    pub async fn sleep_until(&self, lane: u32, at: Tick) {
        if self.now() >= at {
            return;
        }
        self.wait(lane, Wait::Until(at));
        poll_fn(|context| {
            let core = &mut *self.core.borrow_mut();
            let now = core.clock.now();
            let state = &mut core.lanes[lane as usize];
            if state.expired || now >= at || core.phase.is_stopping(now) {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.wait(lane, Wait::Nothing);
    }

    /// Closes a connection.
    pub fn close(&self, slot: u32) {
        let core = &mut *self.core.borrow_mut();
        if let Err(error) = core.pool.close(slot, &mut core.inbox) {
            core.trouble = Some(error);
        }
    }

    /// A lane's task is at its end.
    pub fn lane_ended(&self) {
        let core = &mut *self.core.borrow_mut();
        core.phase.live_lanes -= 1;
        if core.phase.live_lanes == 0
            && let Some(waker) = core.pump_waker.take()
        {
            waker.wake();
        }
    }
}

impl Core {
    /// Lets the idle lanes of an open loop end.
    fn dismiss_lanes(&mut self) {
        self.phase.over = true;
        for lane in std::mem::take(&mut self.idle_lanes) {
            self.lanes[lane as usize].wake();
        }
    }
}
