//! Slots: the concurrent request slots, tasks that each run one request at a time. A closed loop has exactly
//! `--parallel` of them over all workers; an open loop creates one whenever a request is due and none is idle.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
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
    let (index, scheduled) = {
        let state = &mut *worker.state.borrow_mut();
        let index = state.phase.take(state.clock.now())?;
        let scheduled = match &mut state.phase.schedule {
            Some(schedule) => Some(state.phase.start.plus_ns(schedule.offset_ns(index)?)),
            None => None,
        };
        (index, scheduled)
    };
    let due = match scheduled {
        Some(due) => {
            worker.sleep_until(slot, due).await;
            if worker.state.borrow().phase.is_stopping(due.max(worker.now())) {
                count_unsent(worker, index);
                return None;
            }
            due
        }
        None => worker.now(),
    };
    let phase = worker.state.borrow().phase.plan.phase;
    Some(Job { previous_end, ..Job::new(phase, index, due) })
}

/// Counts a request (or conversation) that was taken but never sent as unsent.
fn count_unsent(worker: &Worker, index: u64) {
    let state = &mut *worker.state.borrow_mut();
    let plan = &state.phase.plan;
    match &worker.setup.workload.conversations {
        None => drop(plan.next.fetch_sub(1, Ordering::Relaxed)),
        // A later conversation may have been sent, and conversations differ in length, so the turns are counted
        // directly.
        Some(conversations) if plan.requests.is_some() => {
            state.telemetry.unsent += u64::from(conversations.turns(plan.phase, index));
        }
        // Without a number of requests, a request is scheduled only when it is sent.
        Some(_) => {}
    }
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
