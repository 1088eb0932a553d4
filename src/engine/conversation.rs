//! A lane carries a conversation: turn after turn, each with what was said before, the model's own answers among it.
//!
//! A turn is due when the answer before it has ended and the pause is over. A turn that fails ends its conversation; so
//! does the end of the run. The turns that are left are counted as unsent.

use super::core::{Job, Worker};
use super::exchange::{Ended, Turn, exchange};
use crate::record::Phase;
use crate::workload::TurnOf;
use crate::workload::conversation::Conversations;

/// A lane's buffers, used again and again.
#[derive(Default)]
pub struct Scratch {
    /// The bytes of a request.
    wire: Vec<u8>,
    /// The messages of a conversation so far, as JSON between commas.
    history: Vec<u8>,
}

/// Carries out what a lane was given: one request, or a conversation. Returns the end of the last request.
pub async fn carry(worker: &Worker, lane: u32, job: Job, scratch: &mut Scratch) -> Ended {
    match &worker.setup.workload.conversations {
        Some(conversations) if job.phase != Phase::Preflight => {
            converse(worker, lane, job, conversations, scratch).await
        }
        _ => {
            scratch.wire.clear();
            worker.setup.workload.write_request(job.phase, job.index, &mut scratch.wire);
            exchange(worker, lane, job, &scratch.wire, None).await
        }
    }
}

/// All turns of conversation `job.index`, of which the first is due when the job is.
async fn converse(worker: &Worker, lane: u32, job: Job, conversations: &Conversations, scratch: &mut Scratch) -> Ended {
    let Scratch { wire, history } = scratch;
    let Job { phase, index: number, .. } = job;
    let (turns, first) = (conversations.turns(phase, number), conversations.requests_before(phase, number));
    let mut job = Job { index: first, conversation: Some(number), ..job };
    history.clear();
    loop {
        if job.turn > 0 {
            history.push(b',');
        }
        history.extend_from_slice(conversations.messages(phase, number, job.turn));
        wire.clear();
        let turn = TurnOf { conversations, number, index: job.index };
        let body_at = worker.setup.workload.write_turn(phase, turn, history, wire);
        let turn = Turn { body: &wire[body_at..], history };
        let ended = exchange(worker, lane, job, wire, Some(turn)).await;
        job.turn += 1;
        job.index += 1;
        job.previous_end = Some(ended.at);
        job.due = ended.at.plus_ns(conversations.think_ns(phase, job.index));
        if job.turn == turns || !(ended.ok && may_go_on(worker, lane, job).await) {
            worker.core.borrow_mut().telemetry.unsent += u64::from(turns - job.turn);
            return ended;
        }
    }
}

/// Waits until a turn is due; `false` when the run stops offering before.
async fn may_go_on(worker: &Worker, lane: u32, job: Job) -> bool {
    worker.sleep_until(lane, job.due).await;
    let now = worker.now();
    !worker.core.borrow().phase.is_stopping(job.due.max(now))
}
