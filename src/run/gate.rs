//! The start of a run, which the shards of a load agree on.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::{RunContext, RunError, plan_hash};
use crate::plan::Plan;
use crate::record::CollectorMessage;
use crate::record::facts::{ClockOffset, ClockPair};
use crate::rendezvous::{ClockClient, Rendezvous};
use crate::time::Tick;
use crate::time::clock::{Clock, kernel_now};
use crate::workload::Workload;

/// The workers get the start so long before it: they wait more exactly than a thread that sleeps.
const LEAD_NS: u64 = 5_000_000;
/// The longest sleep between two checks of the stop flag.
const STEP: Duration = Duration::from_millis(20);

/// The gate in front of a run. It is open unless this process is a shard.
pub(super) struct Gate<'a> {
    rendezvous: Option<&'a RefCell<Rendezvous>>,
    context: &'a RunContext<'a>,
    run: u32,
    plan_hash: String,
    start: Cell<Option<ClockPair>>,
    offset: Cell<Option<ClockOffset>>,
    late_ns: Cell<u64>,
}

impl<'a> Gate<'a> {
    pub(super) fn new(plan: &Plan, workload: &Workload, context: &'a RunContext<'a>) -> Gate<'a> {
        let rendezvous = context.rendezvous.filter(|_| plan.shard.is_some());
        let plan_hash = rendezvous.map_or(String::new(), |_| plan_hash::compute(plan, workload));
        Gate {
            rendezvous,
            context,
            run: plan.workload.randomness.run,
            plan_hash,
            start: Cell::new(None),
            offset: Cell::new(None),
            late_ns: Cell::new(0),
        }
    }

    /// Whether the run does not wait for anyone.
    pub(super) fn is_open(&self) -> bool {
        self.rendezvous.is_none()
    }

    /// The hash of what all shards must have in common; empty unless this process is a shard.
    pub(super) fn plan_hash(&self) -> &str {
        &self.plan_hash
    }

    /// Waits until all shards are ready to open their connections.
    pub(super) fn ready(&self) -> Result<(), RunError> {
        let Some(rendezvous) = self.rendezvous else { return Ok(()) };
        self.context.log.info("waiting for the other shards");
        Ok(rendezvous.borrow_mut().ready(self.run, &self.plan_hash, &|| self.is_stopped())?)
    }

    /// Waits until all shards have opened their connections; returns the start.
    pub(super) fn agree(&self) -> Result<ClockPair, RunError> {
        let Some(rendezvous) = self.rendezvous else { return Ok(super::clock_pair()) };
        let unix_ns = rendezvous.borrow_mut().start(&|| self.is_stopped())?;
        self.offset.set(rendezvous.borrow().clock_offset());
        let tick_ns = unix_ns.saturating_sub(Clock::new().wall_offset_ns());
        Ok(ClockPair { tick_ns: tick_ns.max(0) as u64, unix_ns })
    }

    /// Stores the start, and begins to compare the clock of this machine with that of shard 0.
    pub(super) fn compare_clocks(&self, start: ClockPair, messages: &Sender<CollectorMessage>) -> Option<ClockClient> {
        // The collector outlives the phases.
        let _ = messages.send(CollectorMessage::ShardStart(start));
        let messages = messages.clone();
        let take = Box::new(move |exchange| drop(messages.send(CollectorMessage::Clock(exchange))));
        let started = self.rendezvous?.borrow().exchange_clocks(Tick(start.tick_ns), take)?;
        let failed = |error| self.context.log.warning(&format!("clocks are not compared during the run: {error}"));
        started.map_err(failed).ok()
    }

    /// Sleeps until shortly before the start, and returns it.
    pub(super) fn wait_for(&self, start: ClockPair) -> Result<Tick, RunError> {
        let tick = Tick(start.tick_ns);
        loop {
            if self.is_stopped() {
                return Err(RunError::Interrupted);
            }
            let left_ns = tick.ns_since(kernel_now()).saturating_sub(LEAD_NS as i64);
            if left_ns <= 0 {
                break;
            }
            std::thread::sleep(Duration::from_nanos(left_ns as u64).min(STEP));
        }
        self.start.set(Some(start));
        let late_ns = kernel_now().ns_since(tick).max(0) as u64;
        self.late_ns.set(late_ns);
        if late_ns > 0 {
            let late_s = late_ns as f64 / 1e9;
            self.context.log.warning(&format!("this shard begins {late_s:.3} s after the start that all agreed on"));
        }
        Ok(tick)
    }

    /// The start; `None` before it, and if this process is no shard.
    pub(super) fn start(&self) -> Option<ClockPair> {
        self.start.get()
    }

    /// How much later than that this shard began, nanoseconds.
    pub(super) fn late_ns(&self) -> u64 {
        self.late_ns.get()
    }

    /// How the clock of shard 0 differs from that of this machine.
    pub(super) fn clock_offset(&self) -> Option<ClockOffset> {
        self.offset.get()
    }

    /// Whether the run has ended before its start.
    pub(super) fn has_failed(&self) -> bool {
        !self.is_open() && self.start.get().is_none()
    }

    fn is_stopped(&self) -> bool {
        self.context.stop.load(Ordering::Relaxed) != 0
    }
}
