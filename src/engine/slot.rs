//! Slots: tasks that carry one request at a time each. A closed loop has exactly `--parallel` of them over all workers;
//! an open loop creates one whenever a request is due and none is idle.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::conversation::{Scratch, carry};
use super::worker_state::{Job, Wait, Worker};
use crate::time::{MS, Tick};

/// After a refused connection a slot pauses this long, so that a dead server is not flooded with attempts.
const REFUSED_PAUSE_NS: u64 = 10 * MS;

/// A slot of a closed loop: from its place in the ramp until no request is left.
pub async fn closed(worker: Rc<Worker>, slot: u32, starts_at: Tick) {
    worker.sleep_until(slot, starts_at).await;
    let mut scratch = Scratch::default();
    let mut previous_end = None;
    while let Some(job) = next_job(&worker, slot, previous_end).await {
        let ended = carry(&worker, slot, job, &mut scratch).await;
        previous_end = Some(ended.at);
        if !ended.connected {
            worker.sleep_until(slot, worker.now().plus_ns(REFUSED_PAUSE_NS)).await;
        }
    }
    worker.slot_ended();
}

/// The slot's next request; with a rate, at its scheduled time.
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
        // Conversations differ in turns, and a later one may have been sent: the turns of this one are counted directly.
        Some(conversations) if plan.requests.is_some() => {
            state.telemetry.unsent += u64::from(conversations.turns(plan.phase, index));
        }
        // Without a number of requests, nothing was scheduled that was not sent.
        Some(_) => {}
    }
}

/// A slot of an open loop: carries `first`, then each job that it is given until the phase is over.
pub async fn open(worker: Rc<Worker>, slot: u32, first: Job) {
    let mut scratch = Scratch::default();
    let mut next = Some(first);
    while let Some(job) = next {
        carry(&worker, slot, job, &mut scratch).await;
        next = wait_for_job(&worker, slot).await;
    }
    worker.slot_ended();
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
