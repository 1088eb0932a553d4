//! The pump: a worker's main task. It turns the inbox and the deadlines, lets monoio run the lanes it woke, and sleeps
//! when there is nothing to do: in the receive ring, or on the epoll set through monoio.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use monoio::net::UnixStream;

use super::core::{Core, Job, Wait, Worker};
use super::inbox::Inbox;
use super::{lane, transport};
use crate::plan::Load;
use crate::time::Tick;

/// Connections that are being opened at the same time, ahead of a closed loop.
const OPENERS: u32 = 32;

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
    let rest = Rest::new(worker)?;
    let relay = monoio::spawn(relay(worker.clone()));
    // The lanes made before the pump run first: they are what there will be something to wait for.
    lanes_have_run(worker).await;
    let mut unserved = Vec::new();
    let mut waited = true;
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
        let made = !unserved.is_empty();
        serve(&mut unserved);
        let dismissed = worker.core.borrow_mut().dismiss_lanes();
        if dismissed && worker.core.borrow().phase.live_lanes == 0 {
            worker.core.borrow_mut().wake_relay();
            relay.await;
            return Ok(());
        }
        waited = rest.rest(worker, woken || made || dismissed).await?;
    }
}

/// How the pump spends the time between two turns.
enum Rest {
    /// In the ring.
    Ring,
    /// Not at all: busy polling.
    Spin,
    /// Awaiting the epoll set. monoio awaits any descriptor through a stream type; only its readiness is used.
    Epoll(UnixStream),
}

impl Rest {
    fn new(worker: &Worker) -> io::Result<Rest> {
        match &worker.core.borrow().inbox {
            Inbox::Ring(_) if worker.setup.plan.spin => Ok(Rest::Spin),
            Inbox::Ring(_) => Ok(Rest::Ring),
            Inbox::Epoll(epoll) => {
                let copy = epoll.wait_fd().try_clone_to_owned()?;
                Ok(Rest::Epoll(UnixStream::from_std(std::os::unix::net::UnixStream::from(copy))?))
            }
        }
    }

    /// Lets woken lanes run; without any, sleeps until there is something to do. Says whether it slept.
    async fn rest(&self, worker: &Worker, woken: bool) -> io::Result<bool> {
        match self {
            Rest::Epoll(stream) => {
                let next = worker.core.borrow().next_look(worker.now());
                if let Inbox::Epoll(epoll) = &mut worker.core.borrow_mut().inbox {
                    epoll.wake_at(next)?;
                }
                readable(worker, stream).await?;
                Ok(true)
            }
            Rest::Ring | Rest::Spin if woken => {
                lanes_have_run(worker).await;
                Ok(false)
            }
            Rest::Spin => Ok(false),
            Rest::Ring => {
                let core = &mut *worker.core.borrow_mut();
                let now = core.clock.now();
                let next = core.next_look(now);
                if let Inbox::Ring(ring) = &mut core.inbox {
                    ring.sleep(now, next)?;
                }
                Ok(true)
            }
        }
    }
}

/// Until the epoll set is readable, or the last lane has ended.
async fn readable(worker: &Worker, stream: &UnixStream) -> io::Result<()> {
    let mut readable = pin!(stream.readable(false));
    poll_fn(|context| {
        let core = &mut *worker.core.borrow_mut();
        if core.phase.live_lanes == 0 {
            return Poll::Ready(Ok(()));
        }
        core.pump_waker = Some(context.waker().clone());
        readable.as_mut().poll(context)
    })
    .await
}

/// Lets every task that has been woken run once. monoio polls a main task that wakes itself before all others, so the
/// relay, queued behind the woken lanes, wakes it instead.
async fn lanes_have_run(worker: &Worker) {
    let mut asked = false;
    poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        let core = &mut *worker.core.borrow_mut();
        core.pump_waker = Some(context.waker().clone());
        core.wake_relay();
        Poll::Pending
    })
    .await;
}

/// Wakes the pump whenever it is woken itself, until the phase is over.
async fn relay(worker: Rc<Worker>) {
    poll_fn(|context| {
        let core = &mut *worker.core.borrow_mut();
        if let Some(waker) = core.pump_waker.take() {
            waker.wake();
        }
        if core.phase.over && core.phase.live_lanes == 0 {
            return Poll::Ready(());
        }
        core.relay_waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
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

    /// Starts a wait of `lane`, and makes sure that the pump wakes for its deadline.
    pub fn wait(&self, lane: u32, wait: Wait) {
        let core = &mut *self.core.borrow_mut();
        let now = core.clock.now();
        core.wait(lane, wait, self.setup.plan.timeouts.read_ns, now);
        // The pump may be asleep on the set already; the ring's sleep begins only after every lane has run.
        if let (Inbox::Epoll(epoll), Some(next)) = (&mut core.inbox, core.deadlines.next())
            && let Err(error) = epoll.wake_at(next)
        {
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
    fn wake_relay(&mut self) {
        if let Some(waker) = self.relay_waker.take() {
            waker.wake();
        }
    }

    /// Lets the idle lanes of an open loop end when nothing is left to do; says whether that is so.
    fn dismiss_lanes(&mut self) -> bool {
        self.phase.over |= self.is_over();
        if self.phase.over {
            for lane in std::mem::take(&mut self.idle_lanes) {
                self.lanes[lane as usize].wake();
            }
        }
        self.phase.over
    }
}
