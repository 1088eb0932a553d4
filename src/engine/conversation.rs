//! Runs a conversation: its turns one after the other, each with all messages before it, including the model's own
//! answers.
//!
//! A turn is due when the answer before it has ended and the pause is over. A turn that fails, or the end of the run,
//! ends its conversation. The remaining turns are counted as unsent.

use std::sync::atomic::Ordering;

use super::request::{RequestEnd, Turn, perform};
use super::worker_state::{Job, STOP_OFFERING, Worker};
use crate::record::Phase;
use crate::time::{MS, US};
use crate::workload::conversation::Conversations;
use crate::workload::script::Script;
use crate::workload::stream::{BodyStream, Built};

/// How long a slot waits before it looks again whether its body has been built: a share of the time that it has waited, so
/// that many waiting slots do not take the CPU from the builders.
const BODY_WAIT_SHARE: u64 = 8;
const SHORTEST_BODY_WAIT_NS: u64 = 200 * US;
const LONGEST_BODY_WAIT_NS: u64 = 10 * MS;

/// The buffers of a slot, reused for each request.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The bytes of a request.
    wire: Vec<u8>,
    /// The messages of a conversation so far: JSON objects separated by commas.
    history: Vec<u8>,
}

/// Runs a job: one request, or a conversation. Returns the end of the last request.
pub(crate) async fn run_job(worker: &Worker, slot: u32, job: Job, scratch: &mut Scratch) -> RequestEnd {
    match &worker.setup.workload.conversations {
        Some(conversations) if job.phase != Phase::Preflight => {
            run_conversation(worker, slot, job, conversations, scratch).await
        }
        _ => {
            let Some(job) = write_job(worker, slot, job, &mut scratch.wire).await else {
                return RequestEnd { at: worker.now(), connected: true, ok: false };
            };
            count_begun(worker, job.phase, 1);
            perform(worker, slot, job, &scratch.wire, None).await
        }
    }
}

/// Writes the request of a job to `wire`. If its body is still being built, waits for it; the job then contains the time.
/// `None` if the run ends before.
async fn write_job(worker: &Worker, slot: u32, job: Job, wire: &mut Vec<u8>) -> Option<Job> {
    wire.clear();
    let workload = &worker.setup.workload;
    let Some(stream) = workload.stream().filter(|_| job.phase == Phase::Measured) else {
        workload.write_request(job.phase, job.index, wire);
        return Some(job);
    };
    let (built, waited_ns) = take_built(worker, slot, job, stream).await?;
    if let Built::Body(body) = built {
        workload.write_body(job.phase, job.index, &body, wire);
    }
    Some(Job { body_wait_ns: Some(waited_ns), ..job })
}

/// Takes what was built for a job, with the time that it was waited for, nanoseconds; `None` if the run ends before.
async fn take_built(worker: &Worker, slot: u32, job: Job, stream: &BodyStream) -> Option<(Built, u64)> {
    if let Some(built) = stream.take(job.index) {
        return Some((built, 0));
    }
    let began = worker.now();
    loop {
        if stream.has_failed() {
            worker.setup.stop.fetch_max(STOP_OFFERING, Ordering::Relaxed);
        }
        let waited_ns = worker.now().ns_since(began).max(0) as u64;
        let pause_ns = (waited_ns / BODY_WAIT_SHARE).clamp(SHORTEST_BODY_WAIT_NS, LONGEST_BODY_WAIT_NS);
        worker.sleep_until(slot, worker.now().plus_ns(pause_ns)).await;
        let now = worker.now();
        if let Some(built) = stream.take(job.index) {
            return Some((built, now.ns_since(began).max(0) as u64));
        }
        if worker.state.borrow().phase.is_stopping(now) {
            count_unsent(worker, job.phase, 1);
            return None;
        }
    }
}

/// Counts requests that are about to be sent, except those of the warm-up: its planned number and its records say how
/// many of it were not sent.
fn count_begun(worker: &Worker, phase: Phase, requests: u32) {
    let state = &mut *worker.state.borrow_mut();
    if phase == state.phase.plan.phase {
        state.telemetry.begun += u64::from(requests);
    }
}

/// Counts turns that will not be sent; see [`count_begun`].
fn count_unsent(worker: &Worker, phase: Phase, turns: u32) {
    let state = &mut *worker.state.borrow_mut();
    if phase == state.phase.plan.phase {
        state.telemetry.unsent += u64::from(turns);
    }
}

/// Sends all turns of conversation `job.index`. The first one is due when the job is. If the conversation is still being
/// built, waits for it.
async fn run_conversation(
    worker: &Worker,
    slot: u32,
    job: Job,
    conversations: &Conversations,
    scratch: &mut Scratch,
) -> RequestEnd {
    let Some(stream) = worker.setup.workload.stream().filter(|_| job.phase == Phase::Measured) else {
        let script = conversations.script(job.phase, job.index);
        return run_turns(worker, slot, job, (conversations, script), scratch).await;
    };
    match take_built(worker, slot, job, stream).await {
        Some((Built::Conversation(built), waited_ns)) => {
            let job = Job { body_wait_ns: Some(waited_ns), ..job };
            run_turns(worker, slot, job, (conversations, built.script()), scratch).await
        }
        _ => RequestEnd { at: worker.now(), connected: true, ok: false },
    }
}

/// Sends the turns of a conversation.
async fn run_turns(
    worker: &Worker,
    slot: u32,
    job: Job,
    (conversations, script): (&Conversations, Script<'_>),
    scratch: &mut Scratch,
) -> RequestEnd {
    let Scratch { wire, history } = scratch;
    let Job { phase, index: number, .. } = job;
    let turns = script.turns.len() as u32;
    let mut job = Job { index: script.first, conversation: Some(number), ..job };
    count_begun(worker, phase, turns);
    history.clear();
    loop {
        if job.turn > 0 {
            history.push(b',');
        }
        history.extend_from_slice(&script.turns[job.turn as usize]);
        wire.clear();
        let body_at = worker.setup.workload.write_turn((phase, job.index), script.frame, history, wire);
        let answered_calls = script.answered_calls(job.turn + 1);
        let turn = Turn { body: &wire[body_at..], history, answered_calls };
        let end = perform(worker, slot, job, wire, Some(turn)).await;
        job.turn += 1;
        job.index += 1;
        job.previous_end = Some(end.at);
        job.due = end.at.plus_ns(conversations.think_ns(phase, job.index));
        // Only the first turn can have waited.
        job.body_wait_ns = job.body_wait_ns.map(|_| 0);
        if job.turn == turns || !(end.ok && wait_for_turn(worker, slot, job).await) {
            count_unsent(worker, phase, turns - job.turn);
            return end;
        }
    }
}

/// Waits until a turn is due; `false` if the run stops before.
async fn wait_for_turn(worker: &Worker, slot: u32, job: Job) -> bool {
    worker.sleep_until(slot, job.due).await;
    let now = worker.now();
    !worker.state.borrow().phase.is_stopping(job.due.max(now))
}
