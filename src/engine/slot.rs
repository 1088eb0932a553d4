//! Slots: the concurrent request slots, tasks that each run one request at a time. A closed loop has exactly
//! `--parallel` of them over all workers; an open loop creates one whenever a request is due and none is idle.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::conversation::{Scratch, run_job};
use super::worker_state::{Job, Wait, Worker};
use crate::time::{MS, Tick};

/// A slot pauses this long after a failed connection, so that it does not flood a server that is down with attempts.
const REFUSED_PAUSE_NS: u64 = 10 * MS;
/// How often the last slot looks for open bodies.
const DRAIN_PAUSE_NS: u64 = 5 * MS;

/// Runs a slot of a closed loop from its place in the ramp until no request is left.
pub(crate) async fn run_closed(worker: Rc<Worker>, slot: u32, starts_at: Tick) {
    worker.sleep_until(slot, starts_at).await;
    let mut scratch = Scratch::default();
    let mut previous_end = None;
    while let Some(job) = next_job(&worker, slot, previous_end).await {
        let end = run_job(&worker, slot, job, &mut scratch).await;
        previous_end = Some(end.at);
        if !end.connected {
            worker.sleep_until(slot, worker.now().plus_ns(REFUSED_PAUSE_NS)).await;
        }
    }
    end_slot(&worker, slot).await;
}

/// Ends a slot. The last one first waits for the ends of the bodies that are open, which takes at most 200 ms.
async fn end_slot(worker: &Worker, slot: u32) {
    loop {
        let is_last = {
            let state = worker.state.borrow();
            state.phase.live_slots == 1 && state.connections.is_draining() && !state.phase.killed
        };
        if !is_last {
            return worker.slot_ended();
        }
        worker.pause(slot, DRAIN_PAUSE_NS).await;
    }
}

/// The slot's next request. With a rate, waits until its scheduled time.
async fn next_job(worker: &Worker, slot: u32, previous_end: Option<Tick>) -> Option<Job> {
    let (unit, due, is_scheduled) = {
        let state = &mut *worker.state.borrow_mut();
        let now = state.clock.now();
        let unit = state.phase.take(now)?;
        match &mut state.phase.schedule {
            Some(schedule) => (unit, state.phase.start.plus_ns(schedule.offset_ns(unit)?), true),
            None => (unit, now, false),
        }
    };
    if is_scheduled {
        worker.sleep_until(slot, due).await;
        if worker.state.borrow().phase.is_stopping(due.max(worker.now())) {
            return None;
        }
    }
    let (phase, index) = worker.state.borrow().phase.plan.place(unit);
    Some(Job { previous_end, ..Job::new(phase, index, due) })
}

/// Runs a slot of an open loop: `first`, then each job that it gets until the phase is over.
pub(crate) async fn run_open(worker: Rc<Worker>, slot: u32, first: Job) {
    let mut scratch = Scratch::default();
    let mut next = Some(first);
    while let Some(job) = next {
        run_job(&worker, slot, job, &mut scratch).await;
        next = wait_for_job(&worker, slot).await;
    }
    end_slot(&worker, slot).await;
}

async fn wait_for_job(worker: &Worker, slot: u32) -> Option<Job> {
    {
        let state = &mut *worker.state.borrow_mut();
        state.slots[slot as usize].wait = Wait::Job;
        state.idle_slots.push(slot);
    }
    poll_fn(|context| {
        let state = &mut *worker.state.borrow_mut();
        let slot_state = &mut state.slots[slot as usize];
        if slot_state.job.is_some() || state.phase.over {
            slot_state.wait = Wait::Nothing;
            return Poll::Ready(slot_state.job.take());
        }
        slot_state.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}
