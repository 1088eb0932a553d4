//! The books: what is counted and kept of every request.

use super::EventLoop;
use crate::mock::connection::Connection;
use crate::mock::exchange::Exchange;
use crate::mock::shared::{LoopShare, lock};
use crate::mock::truth::End;
use crate::time::Tick;

impl EventLoop {
    /// Ends the response of a connection that goes away, if one was on its way.
    pub(super) fn abandon(&mut self, connection: &mut Connection, end: End) {
        let Some(exchange) = connection.exchange.take() else { return };
        if exchange.needs_slot() && exchange.truth.started.is_none() {
            self.shared.slots.unqueue();
        }
        // A fault that waits for the client to give up has ended as it was meant to.
        let end = if exchange.truth.end == End::Fault { End::Fault } else { end };
        self.record(exchange, end);
    }

    /// Books a response that has ended, and frees its slot.
    pub(super) fn record(&mut self, exchange: Box<Exchange>, end: End) {
        let Exchange { mut truth, finish, .. } = *exchange;
        truth.end = end;
        let share = self.share();
        let lie_ns = self.shared.config.lie_ns;
        match (end, finish) {
            (End::Complete, "length") => share.tally.length.add(1),
            (End::Complete, _) => share.tally.stop.add(1),
            (End::Fault, _) => share.tally.error.add(1),
            (End::ClientGone | End::Stopped, _) => share.tally.abort.add(1),
        }
        if let (End::Complete, Some(last)) = (end, truth.sends.last()) {
            share.tally.e2e.observe(shifted(last.ns_since(truth.received_last), lie_ns));
        }
        let held_slot = truth.started.is_some();
        let mut kept = lock(&share.kept);
        if kept.truths.len() < self.shared.config.keep {
            kept.truths.push(truth);
        } else {
            kept.dropped += 1;
        }
        drop(kept);
        self.shared.request_ends();
        if held_slot {
            self.shared.slots.give_back();
            if self.shared.slots.anyone_waits() {
                // This loop's own queue is served through its bell as well: nothing here runs inside itself.
                self.shared.loops.iter().for_each(LoopShare::ring);
            }
        }
    }

    /// Books everything that is on its way when the server stops.
    pub(super) fn record_unfinished(&mut self) {
        for mut connection in std::mem::take(&mut self.connections).into_iter().flatten() {
            self.abandon(&mut connection, End::Stopped);
        }
        self.cpu_time_again = Tick(0);
        self.publish_cpu_time();
    }
}

/// Books the output events of one write.
pub(super) fn account(exchange: &mut Exchange, share: &LoopShare, stamp: Tick, due_ns: u64, outputs: u32, lie_ns: i64) {
    lock(&share.lateness_ns).saturating_record(stamp.0.saturating_sub(due_ns));
    let truth = &mut exchange.truth;
    for _ in 0..outputs {
        match truth.sends.last() {
            None => {
                share.tally.ttft.observe(shifted(stamp.ns_since(truth.received_last), lie_ns));
                share.tally.prompt_tokens.add(u64::from(truth.prompt_tokens));
            }
            Some(last) => share.tally.itl.observe(shifted(stamp.ns_since(*last), lie_ns)),
        }
        truth.sends.push(stamp);
    }
    share.tally.events.add(u64::from(outputs));
    let tokens = if truth.streamed {
        outputs
    } else if outputs > 0 {
        truth.output_tokens
    } else {
        0
    };
    share.tally.generation_tokens.add(u64::from(tokens));
}

/// A latency as `/metrics` states it.
fn shifted(ns: i64, lie_ns: i64) -> u64 {
    ns.saturating_add(lie_ns).max(0) as u64
}
