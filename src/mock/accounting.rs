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
    let metrics = &share.metrics;
    // vLLM counts each choice as a request.
    let choices = truth.choices.len().max(1) as u64;
    match (end, finish) {
        (End::Complete, "length") => metrics.length.add(choices),
        (End::Complete, _) => metrics.stop.add(choices),
        (End::Fault, _) => metrics.error.add(choices),
        (End::ClientGone | End::Stopped, _) => metrics.abort.add(choices),
    }
    for choice in truth.choices.iter().filter(|_| end == End::Complete) {
        if let Some(last) = choice.last_token {
            metrics.e2e.observe(reported_ns(last.ns_since(truth.received_last), lie_ns));
        }
        if let Some(ns) = choice.tpot_ns() {
            metrics.tpot.observe(reported_ns(ns as i64, lie_ns));
        }
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

/// Records one step of loop `share`: its delay after `due_ns`, and its tokens, sent between `stamp` and `returned`.
pub(super) fn record_step(
    exchange: &mut Exchange,
    share: &LoopShare,
    (stamp, returned): (Tick, Tick),
    due_ns: u64,
    lie_ns: i64,
) {
    lock(&share.lateness_ns).saturating_record(stamp.0.saturating_sub(due_ns));
    let mut stepped = std::mem::take(&mut exchange.stepped);
    for step in &stepped {
        let metrics = &share.metrics;
        let truth = &mut exchange.truth;
        if truth.choices.is_empty() {
            metrics.prompt_tokens.add(u64::from(truth.prompt_tokens) * u64::from(exchange.choices_per_prompt));
        }
        if step.output {
            truth.sends.push(stamp);
            truth.returns.push(returned);
            metrics.events.add(1);
        }
        let received = truth.received_last;
        let choice = truth.choice_mut(step.choice);
        let interval = |ns: i64| metrics.itl.observe(reported_ns(ns, lie_ns));
        match (choice.last_token, step.whole_since) {
            (Some(last), _) => interval(stamp.ns_since(last)),
            (None, since) => {
                let first = since.map_or(stamp, Tick);
                metrics.ttft.observe(reported_ns(first.ns_since(received), lie_ns));
                choice.first_token = Some(first);
                let intervals = i64::from(step.tokens.saturating_sub(1));
                if since.is_some() {
                    (0..intervals).for_each(|_| interval(stamp.ns_since(first) / intervals));
                }
            }
        }
        choice.last_token = Some(stamp);
        choice.tokens += step.tokens;
        if step.output && step.whole_since.is_none() {
            choice.first_output.get_or_insert(stamp);
            choice.last_output = Some(stamp);
            choice.events += 1;
        }
        metrics.generation_tokens.add(u64::from(step.tokens));
    }
    stepped.clear();
    exchange.stepped = stepped;
}

/// A latency as reported in `/metrics`, nanoseconds.
fn reported_ns(ns: i64, lie_ns: i64) -> u64 {
    ns.saturating_add(lie_ns).max(0) as u64
}
