//! The event loop: the main task of a worker. It polls the connections and the deadlines, lets monoio run the slots
//! that were woken, and waits when there is nothing to do: in the receive ring, or on the epoll set through monoio.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use monoio::net::UnixStream;

use super::receive::ReceivePath;
use super::worker_state::{Job, LoopWait, Wait, Worker, WorkerState};
use super::{slot, transport};
use crate::time::Tick;

/// Connections that are opened concurrently before a closed loop.
const OPENERS: u32 = 32;

/// Opens connections until `wanted` are idle. Stops at the first failure: the slot whose connection is missing tries
/// again and records it.
pub(crate) async fn open_ahead(worker: Rc<Worker>, wanted: u32) -> io::Result<()> {
    let missing = wanted.saturating_sub(worker.state.borrow().connections.idle_count());
    let left = Rc::new(std::cell::Cell::new(missing));
    for _ in 0..missing.min(OPENERS) {
        let slot = worker.state.borrow_mut().new_slot();
        drop(worker.executor.spawn(opener(worker.clone(), slot, left.clone())));
    }
    run_event_loop(&worker, &mut |_| {}).await
}

async fn opener(worker: Rc<Worker>, slot: u32, left: Rc<std::cell::Cell<u32>>) {
    while left.get() > 0 {
        left.set(left.get() - 1);
        match transport::open(&worker, slot).await {
            Ok(opened) => worker.state.borrow_mut().connections.add_idle(opened.connection_id),
            Err(_) => left.set(0),
        }
    }
    worker.slot_ended();
}

/// Runs the slots of the prepared phase from `start` until it is over.
pub(crate) async fn run_slots(worker: Rc<Worker>, start: Tick) -> io::Result<()> {
    let closed = {
        let plan = &worker.state.borrow().phase.plan;
        plan.load.parallel().map(|parallel| (parallel, plan.ramp_ns, plan.share))
    };
    if let Some((parallel, ramp_ns, share)) = closed {
        for number in 0..worker.slot_share() {
            let in_shard = u64::from(number) * u64::from(worker.count) + u64::from(worker.number);
            let overall = share.number(in_shard);
            let delay_ns = u128::from(ramp_ns) * u128::from(overall) / u128::from(parallel);
            let slot = worker.state.borrow_mut().new_slot();
            drop(worker.executor.spawn(slot::run_closed(worker.clone(), slot, start.plus_ns(delay_ns as u64))));
        }
    }
    let spawner = worker.clone();
    let mut assign = move |jobs: &mut Vec<Job>| {
        for job in jobs.drain(..) {
            let slot = spawner.state.borrow_mut().new_slot();
            drop(spawner.executor.spawn(slot::run_open(spawner.clone(), slot, job)));
        }
    };
    run_event_loop(&worker, &mut assign).await
}

/// Runs until the phase is over and every slot has ended. `assign` creates slots for the jobs for which none was idle.
async fn run_event_loop(worker: &Rc<Worker>, assign: &mut impl FnMut(&mut Vec<Job>)) -> io::Result<()> {
    let idle = IdleWait::new(worker)?;
    let relay = worker.executor.spawn(relay(worker.clone()));
    // The existing slots run first, so that the loop has something to wait for.
    run_woken_slots(worker).await;
    let mut unassigned = Vec::new();
    let mut waited = None;
    loop {
        let woken = {
            let state = &mut *worker.state.borrow_mut();
            let woken = state.poll(&worker.setup, waited)?;
            state.record_drained(&worker.setup, worker.number);
            std::mem::swap(&mut state.unassigned, &mut unassigned);
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            woken
        };
        let created = !unassigned.is_empty();
        assign(&mut unassigned);
        let dismissed = worker.state.borrow_mut().dismiss_slots();
        if dismissed && worker.state.borrow().phase.live_slots == 0 {
            {
                let state = &mut *worker.state.borrow_mut();
                state.end_all_drains(&worker.setup, worker.number);
                state.wake_relay();
            }
            relay.await;
            return Ok(());
        }
        waited = idle.wait(worker, woken || created || dismissed).await?;
        worker.executor.let_others_run().await;
    }
}

/// How the event loop waits between two polls.
enum IdleWait {
    /// In the receive ring.
    Ring,
    /// It does not wait: busy polling.
    Spin,
    /// On the epoll set. monoio awaits any descriptor through a stream type; only its readiness is used.
    Epoll(UnixStream),
}

impl IdleWait {
    fn new(worker: &Worker) -> io::Result<IdleWait> {
        match &worker.state.borrow().receive {
            ReceivePath::Epoll(epoll) => {
                let copy = epoll.wait_fd().try_clone_to_owned()?;
                Ok(IdleWait::Epoll(UnixStream::from_std(std::os::unix::net::UnixStream::from(copy))?))
            }
            _ if worker.setup.plan.spin => Ok(IdleWait::Spin),
            _ => Ok(IdleWait::Ring),
        }
    }

    /// Lets woken slots run; without any, waits until there is something to do. Returns how it wanted to wait, if it did.
    async fn wait(&self, worker: &Worker, woken: bool) -> io::Result<Option<LoopWait>> {
        match self {
            IdleWait::Epoll(stream) => {
                let begin = worker.now();
                let until = worker.state.borrow_mut().next_poll(begin).unwrap_or(begin);
                if let ReceivePath::Epoll(epoll) = &mut worker.state.borrow_mut().receive {
                    epoll.wake_at(until)?;
                }
                readable(worker, stream).await?;
                Ok(Some(LoopWait { begin, until }))
            }
            IdleWait::Ring | IdleWait::Spin if woken => {
                run_woken_slots(worker).await;
                Ok(None)
            }
            IdleWait::Spin => Ok(None),
            IdleWait::Ring => {
                let state = &mut *worker.state.borrow_mut();
                if state.receive.has_more() {
                    return Ok(None);
                }
                let begin = state.clock.now();
                let Some(until) = state.next_poll(begin) else { return Ok(None) };
                let gather_ns = state.gather_ns();
                state.telemetry.record_gather(gather_ns);
                state.receive.wait(begin, until, gather_ns)?;
                Ok(Some(LoopWait { begin, until }))
            }
        }
    }
}

/// Waits until the epoll set is readable, or the last slot has ended.
async fn readable(worker: &Worker, stream: &UnixStream) -> io::Result<()> {
    let mut readable = pin!(stream.readable(false));
    poll_fn(|context| {
        let state = &mut *worker.state.borrow_mut();
        if state.phase.live_slots == 0 {
            return Poll::Ready(Ok(()));
        }
        state.loop_waker = Some(context.waker().clone());
        readable.as_mut().poll(context)
    })
    .await
}

/// Lets every woken task run once. If the main task woke itself, monoio would poll it before all others. Therefore it
/// wakes the relay task, which is queued behind the woken slots and then wakes the main task.
async fn run_woken_slots(worker: &Worker) {
    let mut requested = false;
    poll_fn(|context| {
        if requested {
            return Poll::Ready(());
        }
        requested = true;
        let state = &mut *worker.state.borrow_mut();
        state.loop_waker = Some(context.waker().clone());
        state.wake_relay();
        Poll::Pending
    })
    .await;
}

/// The relay task: wakes the event loop whenever it is woken itself, until the phase is over.
async fn relay(worker: Rc<Worker>) {
    poll_fn(|context| {
        let state = &mut *worker.state.borrow_mut();
        if let Some(waker) = state.loop_waker.take() {
            waker.wake();
        }
        if state.phase.over && state.phase.live_slots == 0 {
            return Poll::Ready(());
        }
        state.relay_waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}

impl Worker {
    /// The current time.
    pub fn now(&self) -> Tick {
        self.state.borrow().clock.now()
    }

    /// The number of slots of the closed loop that belong to this worker.
    pub(crate) fn slot_share(&self) -> u32 {
        let all = {
            let plan = &self.state.borrow().phase.plan;
            plan.share.slots(plan.load.parallel().unwrap_or(0))
        };
        let (number, count) = (u32::from(self.number), u32::from(self.count));
        all / count + u32::from(number < all % count)
    }

    /// Starts a wait of `slot`, and makes sure that the event loop wakes up for its deadline.
    pub fn wait(&self, slot: u32, wait: Wait) {
        let state = &mut *self.state.borrow_mut();
        if wait == Wait::Nothing {
            return state.slots[slot as usize].end_wait();
        }
        let now = state.clock.now();
        state.wait(slot, wait, self.setup.plan.timeouts.read_ns, now);
        // The event loop may already wait on the epoll set. A wait in the ring begins only after every slot has run.
        if let (ReceivePath::Epoll(epoll), Some(next)) = (&mut state.receive, state.deadlines.next())
            && let Err(error) = epoll.wake_at(next)
        {
            state.error = Some(error);
        }
    }

    /// Waits until `at`, or until no further request is to be started.
    pub(crate) async fn sleep_until(&self, slot: u32, at: Tick) {
        if self.now() >= at {
            return;
        }
        self.wait(slot, Wait::Until(at));
        poll_fn(|context| {
            let state = &mut *self.state.borrow_mut();
            let now = state.clock.now();
            let slot_state = &mut state.slots[slot as usize];
            if slot_state.expired || now >= at || state.phase.is_stopping(now) {
                return Poll::Ready(());
            }
            slot_state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.wait(slot, Wait::Nothing);
    }

    /// Sleeps for this long, even if the run is stopping.
    pub(super) async fn pause(&self, slot: u32, length_ns: u64) {
        let at = self.now().plus_ns(length_ns);
        self.wait(slot, Wait::Until(at));
        poll_fn(|context| {
            let state = &mut *self.state.borrow_mut();
            let slot_state = &mut state.slots[slot as usize];
            if slot_state.expired || state.clock.now() >= at {
                return Poll::Ready(());
            }
            slot_state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.wait(slot, Wait::Nothing);
    }

    /// Closes a connection.
    pub fn close(&self, connection_id: u32) {
        let state = &mut *self.state.borrow_mut();
        if let Err(error) = state.connections.close(connection_id, &mut state.receive) {
            state.error = Some(error);
        }
    }

    /// Counts a slot whose task has ended.
    pub(crate) fn slot_ended(&self) {
        let state = &mut *self.state.borrow_mut();
        state.phase.live_slots -= 1;
        if state.phase.live_slots == 0
            && let Some(waker) = state.loop_waker.take()
        {
            waker.wake();
        }
    }
}

impl WorkerState {
    fn wake_relay(&mut self) {
        if let Some(waker) = self.relay_waker.take() {
            waker.wake();
        }
    }

    /// Ends the idle slots of an open loop when nothing is left to do. Returns whether the phase is over.
    fn dismiss_slots(&mut self) -> bool {
        self.phase.over |= self.is_over();
        if self.phase.over {
            for slot in std::mem::take(&mut self.idle_slots) {
                self.slots[slot as usize].wake();
            }
        }
        self.phase.over
    }
}
