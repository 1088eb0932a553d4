//! Accounting: updates the counters, histograms and records of the mock.

use super::exchange::Exchange;
use super::shared::{LoopShare, Shared, lock};
use super::truth::End;
use crate::time::Tick;

/// Records a response of loop `share` that has ended, and releases its slot.
pub(super) fn record_end(shared: &Shared, share: &LoopShare, exchange: Exchange, end: End) {
    let Exchange { mut truth, finish, .. } = exchange;
    truth.end = end;
    let lie_ns = shared.config.lie_ns;
    match (end, finish) {
        (End::Complete, "length") => share.metrics.length.add(1),
        (End::Complete, _) => share.metrics.stop.add(1),
        (End::Fault, _) => share.metrics.error.add(1),
        (End::ClientGone | End::Stopped, _) => share.metrics.abort.add(1),
    }
    if let (End::Complete, Some(last)) = (end, truth.sends.last()) {
        share.metrics.e2e.observe(reported_ns(last.ns_since(truth.received_last), lie_ns));
    }
    let held_slot = truth.started.is_some();
    let mut store = lock(&share.truth_store);
    if store.truths.len() < shared.config.keep {
        store.truths.push(truth);
    } else {
        store.dropped += 1;
    }
    drop(store);
    shared.request_ends();
    if held_slot {
        shared.slots.release();
        if shared.slots.has_waiting() {
            // This loop also serves its own queue after a wake-up, so that no step runs inside another one.
            shared.loops.iter().for_each(LoopShare::wake);
        }
    }
}

/// Records one write of loop `share`: its delay after `due_ns` and its output events, sent between `stamp` and
/// `returned`.
pub(super) fn record_write(
    exchange: &mut Exchange,
    share: &LoopShare,
    (stamp, returned): (Tick, Tick),
    due_ns: u64,
    outputs: u32,
    lie_ns: i64,
) {
    lock(&share.lateness_ns).saturating_record(stamp.0.saturating_sub(due_ns));
    let truth = &mut exchange.truth;
    for _ in 0..outputs {
        match truth.sends.last() {
            None => {
                share.metrics.ttft.observe(reported_ns(stamp.ns_since(truth.received_last), lie_ns));
                share.metrics.prompt_tokens.add(u64::from(truth.prompt_tokens));
            }
            Some(last) => share.metrics.itl.observe(reported_ns(stamp.ns_since(*last), lie_ns)),
        }
        truth.sends.push(stamp);
        truth.returns.push(returned);
    }
    share.metrics.events.add(u64::from(outputs));
    let tokens = if truth.streamed {
        outputs
    } else if outputs > 0 {
        truth.output_tokens
    } else {
        0
    };
    share.metrics.generation_tokens.add(u64::from(tokens));
}

/// A latency as reported in `/metrics`, nanoseconds.
fn reported_ns(ns: i64, lie_ns: i64) -> u64 {
    ns.saturating_add(lie_ns).max(0) as u64
}
