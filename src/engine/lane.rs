//! Lanes: what takes requests up, one at a time each. A closed loop has exactly as many as `--parallel`; an open loop
//! makes one whenever a request is due and none is idle.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::conversation::{Scratch, carry};
use super::core::{Job, Wait, Worker};
use crate::time::{MS, Tick};

/// After a connection was refused a lane pauses this long: a dead server is not hammered.
const REFUSED_PAUSE_NS: u64 = 10 * MS;

/// A lane of a closed loop, from its place in the ramp until no request is left.
pub async fn closed(worker: Rc<Worker>, lane: u32, starts_at: Tick) {
    worker.sleep_until(lane, starts_at).await;
    let mut scratch = Scratch::default();
    let mut previous_end = None;
    while let Some(job) = next_job(&worker, lane, previous_end).await {
        let ended = carry(&worker, lane, job, &mut scratch).await;
        previous_end = Some(ended.at);
        if !ended.connected {
            worker.sleep_until(lane, worker.now().plus_ns(REFUSED_PAUSE_NS)).await;
        }
    }
    worker.lane_ended();
}

/// The lane's next request; with a rate, at its place in the schedule.
async fn next_job(worker: &Worker, lane: u32, previous_end: Option<Tick>) -> Option<Job> {
    let (index, place) = {
        let core = &mut *worker.core.borrow_mut();
        let index = core.phase.take(core.clock.now())?;
        let place = match &mut core.phase.places {
            Some(places) => Some(core.phase.start.plus_ns(places.of(index)?)),
            None => None,
        };
        (index, place)
    };
    let due = match place {
        Some(due) => {
            worker.sleep_until(lane, due).await;
            if worker.core.borrow().phase.is_stopping(due.max(worker.now())) {
                give_back(worker, index);
                return None;
            }
            due
        }
        None => worker.now(),
    };
    let phase = worker.core.borrow().phase.plan.phase;
    Some(Job { previous_end, ..Job::new(phase, index, due) })
}

/// What was taken but never sent counts as unsent.
fn give_back(worker: &Worker, index: u64) {
    let core = &mut *worker.core.borrow_mut();
    let plan = &core.phase.plan;
    match &worker.setup.workload.conversations {
        None => drop(plan.next.fetch_sub(1, Ordering::Relaxed)),
        // Conversations differ in turns, and a later one may have been sent: this one's are counted by themselves.
        Some(conversations) if plan.requests.is_some() => {
            core.telemetry.unsent += u64::from(conversations.turns(plan.phase, index));
        }
        // Without a number nothing was scheduled that was not sent.
        Some(_) => {}
    }
}

/// A lane of an open loop: carries `first`, then whatever it is given until the phase is over.
pub async fn open(worker: Rc<Worker>, lane: u32, first: Job) {
    let mut scratch = Scratch::default();
    let mut next = Some(first);
    while let Some(job) = next {
        carry(&worker, lane, job, &mut scratch).await;
        next = given_job(&worker, lane).await;
    }
    worker.lane_ended();
}

async fn given_job(worker: &Worker, lane: u32) -> Option<Job> {
    {
        let core = &mut *worker.core.borrow_mut();
        core.lanes[lane as usize].wait = Wait::Job;
        core.idle_lanes.push(lane);
    }
    poll_fn(|context| {
        let core = &mut *worker.core.borrow_mut();
        let state = &mut core.lanes[lane as usize];
        if state.job.is_some() || core.phase.over {
            state.wait = Wait::Nothing;
            return Poll::Ready(state.job.take());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}
