//! The state that the tasks of one worker share. Only the worker's thread uses it, so a `RefCell` is enough; nothing
//! here awaits.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use rustls::ClientConfig;

use super::connections::{ConnectionState, Connections, DeliveryEffect, END_EVENT_GRACE_NS};
use super::executor::Executor;
pub use super::job::Job;
use super::preflight_progress::{PreflightProgress, PreflightStep};
use super::receive::ReceivePath;
use super::receive::delivery::ReceiveEvent;
use super::record_sender::RecordSender;
use super::schedule::{Deadlines, OpenSchedule, ScheduleCursor};
use super::server_watch::{SILENT_NS, ServerWatch};
use super::telemetry::Telemetry;
use super::wake_ups::WakeUps;
use crate::plan::{Load, Plan};
use crate::record::memory::MemoryBudget;
use crate::record::share::Share;
use crate::record::trace::{Trace, TraceKind};
use crate::record::{Failure, Phase};
use crate::time::clock::Clock;
use crate::time::{MS, S, Tick};
use crate::workload::Workload;

/// The values that all workers of a run share. The atomics are accessed once per request, never per event.
pub struct Setup {
    pub plan: Arc<Plan>,
    pub workload: Arc<Workload>,
    pub tls: Option<Arc<ClientConfig>>,
    pub stop: Arc<AtomicU8>,
    /// Set when too many requests failed: no more are offered.
    pub abort: Arc<AtomicBool>,
    /// Number of connections opened so far, which determines the source address of the next one.
    pub connections_opened: AtomicU64,
    /// The place of the address that the next connection uses, of those of the target; modulo their number.
    pub next_address: AtomicUsize,
    /// The step that the connection test has reached.
    pub preflight: Arc<PreflightProgress>,
    /// Whether the server still answers.
    pub server: Arc<ServerWatch>,
    /// The memory of the answers in flight and of those that are not yet stored.
    pub memory: Arc<MemoryBudget>,
    /// Receives the events of each request, with `--debug`.
    pub trace: Option<Trace>,
    /// The largest error that the clock of a worker has shown, nanoseconds.
    pub clock_error_ns: AtomicU64,
    /// A worker has failed, or the engine is dropped: every worker ends its phase at once.
    pub failed: AtomicBool,
    /// Whether each worker may spin before a send: no server on this machine uses its core.
    pub may_spin: Vec<bool>,
}

/// Values of [`Setup::stop`].
pub const STOP_OFFERING: u8 = 1;
pub(crate) const STOP_AT_ONCE: u8 = 2;

/// The plan of one phase and its warm-up, the same for every worker. A unit is a request or a conversation; the units of
/// the warm-up come first, and those of the phase follow without a gap.
#[derive(Clone)]
pub struct PhasePlan {
    pub phase: Phase,
    /// The load of all shards.
    pub load: Load,
    /// The share of this process.
    pub share: Share,
    /// Units of the warm-up of all shards.
    pub warmup: u64,
    /// Units of the phase itself, of all shards; `None` if only the duration ends it.
    pub requests: Option<u64>,
    /// Counts from the first unit of the phase itself.
    pub duration_ns: Option<u64>,
    /// Counts from the first unit of all.
    pub ramp_ns: u64,
    /// How many units of the share the slots of a closed loop have taken.
    pub next: Arc<AtomicU64>,
    /// When the first unit of the phase itself was taken, tick nanoseconds; 0 before. Only for a closed loop with a
    /// warm-up, where nothing else determines it.
    pub first_counted_ns: Arc<AtomicU64>,
    /// Receives the records.
    pub messages: crossbeam_channel::Sender<crate::record::CollectorMessage>,
}

/// One worker: the state that its tasks share, and its number among `count` workers.
pub struct Worker {
    pub state: RefCell<WorkerState>,
    pub executor: Executor,
    pub setup: Arc<Setup>,
    pub number: u16,
    pub count: u16,
}

impl Worker {
    /// Reports an event of the request of `job` to the trace, if there is one.
    pub fn trace(&self, job: Job, at: Tick, what: impl FnOnce() -> TraceKind) {
        if let Some(trace) = &self.setup.trace {
            trace.send(at, (job.phase, job.index), what());
        }
    }

    /// Sets the step that a request has reached, if it is that of the connection test.
    pub(crate) fn set_preflight_step(&self, step: PreflightStep) {
        if self.state.borrow().phase.plan.phase == Phase::Preflight {
            self.setup.preflight.set(step);
        }
    }
}

/// What a slot is waiting for, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    #[default]
    Nothing,
    /// A point in time.
    Until(Tick),
    /// A connection, until this time.
    Connect(Tick),
    /// A response on this connection, until `total` at the latest.
    Response { connection: u32, total: Tick },
    /// A job of the open loop.
    Job,
}

/// The state of a slot: one of the concurrent request slots of this worker.
#[derive(Default)]
pub struct SlotState {
    pub waker: Option<Waker>,
    pub wait: Wait,
    /// The deadline of the current wait has passed.
    pub expired: bool,
    /// The socket that it waits to write to is ready.
    pub writable: bool,
    pub job: Option<Job>,
    /// The earliest entry of this slot in the heap of deadlines. A later deadline needs no entry of its own.
    entry: Option<Tick>,
}

/// The state of the current phase on this worker.
pub struct PhaseState {
    pub plan: PhasePlan,
    pub start: Tick,
    /// When the first unit of the phase itself is due, if that is known before it is taken.
    first_counted: Option<Tick>,
    /// An interrupt of the user.
    interrupt: Option<Interrupt>,
    /// Time that requests in flight have after the duration, nanoseconds.
    drain_ns: u64,
    pub killed: bool,
    /// Slots that have not ended.
    pub live_slots: u32,
    /// No slot gets another job.
    pub over: bool,
    /// The scheduled times of a closed loop with a rate.
    pub schedule: Option<ScheduleCursor>,
    pub open: Option<OpenSchedule>,
}

/// When an interrupt ends the phase.
#[derive(Clone, Copy, Debug)]
struct Interrupt {
    stop_offering: Tick,
    kill_at: Tick,
}

/// A wait of the event loop, as it was planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopWait {
    pub begin: Tick,
    pub until: Tick,
}

/// Everything that changes while a worker runs.
pub struct WorkerState {
    pub clock: Clock,
    pub receive: ReceivePath,
    pub connections: Connections,
    pub slots: Vec<SlotState>,
    /// Slots of the open loop without a job.
    pub idle_slots: Vec<u32>,
    pub deadlines: Deadlines,
    pub telemetry: Telemetry,
    pub record_sender: RecordSender,
    pub phase: PhaseState,
    pub wake_ups: WakeUps,
    /// Slots that wait for a connection to open or for room in a socket, which must not take longer than it does.
    pub urgent_waits: u32,
    /// Jobs for which no slot was idle; a slot is created for each.
    pub unassigned: Vec<Job>,
    /// Wakes the event loop when the slots have run, or the last one has ended.
    pub loop_waker: Option<Waker>,
    /// Wakes the relay task, which runs after the slots that were woken before it.
    pub relay_waker: Option<Waker>,
    /// An error outside of the event loop, which ends the worker.
    pub error: Option<io::Error>,
    housekeeping_at: Tick,
    /// The reads at the last housekeeping, and the last one at which there were more, or no request was in flight.
    reads_before: u64,
    heard_at: Tick,
    /// The requests in flight that the watch of the server has from this worker.
    in_flight_shown: u64,
    dead: Vec<u32>,
    /// Draining connections that have come to their end.
    pub(super) drained: Vec<u32>,
}

/// How often a worker checks the stop flag, refits its clock and flushes its block.
const HOUSEKEEPING_NS: u64 = 20 * MS;
/// How late housekeeping may be, so that an arrival can bring it about.
const HOUSEKEEPING_SLACK_NS: u64 = 20 * MS;
/// After an interrupt, requests in flight get this long at most.
const INTERRUPT_DRAIN_NS: u64 = 5 * S;

impl WorkerState {
    pub fn new(
        clock: Clock,
        receive: ReceivePath,
        connections: Connections,
        record_sender: RecordSender,
        phase: PhaseState,
        may_spin: bool,
    ) -> WorkerState {
        let now = clock.now();
        WorkerState {
            clock,
            receive,
            connections,
            slots: Vec::new(),
            idle_slots: Vec::new(),
            deadlines: Deadlines::default(),
            telemetry: Telemetry::new(now, false),
            record_sender,
            phase,
            wake_ups: WakeUps::new(may_spin),
            urgent_waits: 0,
            unassigned: Vec::new(),
            loop_waker: None,
            relay_waker: None,
            error: None,
            housekeeping_at: now,
            reads_before: 0,
            heard_at: now,
            in_flight_shown: 0,
            dead: Vec::new(),
            drained: Vec::new(),
        }
    }

    /// One round of the event loop: processes what arrived, fires deadlines and starts the requests that are due.
    /// `waited`: the worker has waited for events since the last round. Returns whether any slot was woken.
    pub(crate) fn poll(&mut self, setup: &Setup, waited: Option<LoopWait>) -> io::Result<bool> {
        let now = self.clock.now();
        self.telemetry.record_poll(now, waited.map(|wait| wait.until.0.saturating_sub(wait.begin.0)));
        if let Some(wait) = waited {
            self.wake_ups.learn(wait.until, now);
        }
        let mut woken = self.poll_connections(now)?;
        let now = self.clock.now();
        woken |= self.fire_deadlines(&setup.plan, now);
        woken |= self.offer(now);
        if now >= self.housekeeping_at {
            self.housekeeping_at = now.plus_ns(HOUSEKEEPING_NS);
            woken |= self.run_housekeeping(setup, now);
        }
        Ok(woken)
    }

    /// When the event loop has to poll again even if nothing arrives; `None` if it does not wait until then.
    pub(crate) fn next_poll(&mut self, now: Tick) -> Option<Tick> {
        let latest = now.plus_ns(self.telemetry.recent.longest_wait_ns);
        let latest = latest.min(self.housekeeping_at.plus_ns(HOUSEKEEPING_SLACK_NS));
        let deadline = self.deadlines.next();
        let send = match (&self.phase.open, &self.phase.schedule) {
            (Some(open), _) => open.next_due(),
            (None, Some(_)) => deadline,
            (None, None) => None,
        };
        let other = deadline.map_or(latest, |at| at.min(latest));
        match send.filter(|send| *send <= other) {
            Some(send) => self.wake_ups.wait_until(now, send),
            None => Some(other),
        }
    }

    /// For how long the events of the next wait gather, nanoseconds.
    pub(crate) fn gather_ns(&self) -> u64 {
        if self.urgent_waits > 0 { 0 } else { self.telemetry.recent.gather_ns }
    }

    fn poll_connections(&mut self, now: Tick) -> io::Result<bool> {
        let WorkerState { receive, connections, clock, telemetry, slots, deadlines, dead, drained, .. } = self;
        let mut woken = false;
        if receive.delivers_batches() {
            clock.begin_batch();
        }
        let polled = receive.poll(now, &mut |event| {
            let delivered = match event {
                ReceiveEvent::Delivery(source, delivery) => connections.deliver(source, delivery, clock, telemetry),
                ReceiveEvent::Writable { slot } => {
                    // The slots of an earlier phase may have been more.
                    let Some(slot_state) = slots.get_mut(slot as usize) else { return };
                    slot_state.writable = true;
                    DeliveryEffect::Wake(slot)
                }
            };
            match delivered {
                DeliveryEffect::Nothing => {}
                DeliveryEffect::Wake(slot) => {
                    slots[slot as usize].wake();
                    woken = true;
                }
                DeliveryEffect::EndEvent(slot) => {
                    let at = clock.now().plus_ns(END_EVENT_GRACE_NS);
                    slots[slot as usize].set_deadline(slot, at, deadlines);
                }
                DeliveryEffect::Dead(connection_id) => dead.push(connection_id),
                DeliveryEffect::Drained(connection_id) => drained.push(connection_id),
            }
        });
        clock.end_batch();
        polled?;
        while let Some(connection_id) = self.dead.pop() {
            self.connections.close(connection_id, &mut self.receive)?;
        }
        Ok(woken)
    }

    fn fire_deadlines(&mut self, plan: &Plan, now: Tick) -> bool {
        let mut woken = false;
        while let Some(slot) = self.deadlines.pop_due(now) {
            self.slots[slot as usize].entry = None;
            woken |= self.fire(plan, slot, now);
        }
        woken
    }

    /// Handles an entry of a slot that is due. The wait that it was made for may be over or have a later deadline.
    fn fire(&mut self, plan: &Plan, slot: u32, now: Tick) -> bool {
        let slot_state = &mut self.slots[slot as usize];
        let deadline = match slot_state.wait {
            Wait::Nothing | Wait::Job => return false,
            Wait::Until(at) | Wait::Connect(at) => at,
            Wait::Response { connection, total } => {
                let connection = &self.connections.entries[connection as usize];
                let silent_until = connection.last_active.plus_ns(plan.timeouts.read_ns);
                let end_event = connection.answer.seen.end_event;
                end_event.map_or(silent_until, |at| at.plus_ns(END_EVENT_GRACE_NS)).min(total)
            }
        };
        if deadline > now {
            self.set_deadline(slot, deadline);
            return false;
        }
        if let Wait::Response { connection, total } = slot_state.wait {
            let (failure, text) = timeout_failure(plan, total <= now);
            let connection = &mut self.connections.entries[connection as usize];
            if connection.state.is_over() {
                return false;
            }
            if connection.answer.seen.end_event.is_some() {
                connection.drain(now);
            } else {
                connection.abort(failure, &text, now);
            }
        }
        let slot_state = &mut self.slots[slot as usize];
        slot_state.expired = true;
        slot_state.wake();
        true
    }

    /// Starts a wait with a deadline.
    pub fn wait(&mut self, slot: u32, wait: Wait, read_ns: u64, now: Tick) {
        let slot_state = &mut self.slots[slot as usize];
        slot_state.wait = wait;
        slot_state.expired = false;
        match wait {
            Wait::Nothing | Wait::Job => {}
            Wait::Until(at) | Wait::Connect(at) => self.set_deadline(slot, at),
            Wait::Response { total, .. } => self.set_deadline(slot, total.min(now.plus_ns(read_ns))),
        }
    }

    fn set_deadline(&mut self, slot: u32, at: Tick) {
        self.slots[slot as usize].set_deadline(slot, at, &mut self.deadlines);
    }

    /// Gives the due requests of the open loop to idle slots; where none is idle, they go to `unassigned`.
    fn offer(&mut self, now: Tick) -> bool {
        let Some(open) = &mut self.phase.open else { return false };
        let mut offered = false;
        while let Some((unit, due)) = open.pop_due(now) {
            offered = true;
            let (phase, index) = self.phase.plan.place(unit);
            let job = Job::new(phase, index, due);
            match self.idle_slots.pop() {
                Some(slot) => {
                    let slot_state = &mut self.slots[slot as usize];
                    slot_state.job = Some(job);
                    slot_state.wake();
                }
                None => self.unassigned.push(job),
            }
        }
        offered
    }

    fn run_housekeeping(&mut self, setup: &Setup, now: Tick) -> bool {
        self.clock.maintain(now);
        self.telemetry.renew_recent(now);
        self.record_sender.flush_if_old(now, &mut self.telemetry);
        let stop = if setup.failed.load(Ordering::Relaxed) { STOP_AT_ONCE } else { setup.stop.load(Ordering::Relaxed) };
        match stop {
            0 => {}
            // The response to the connection test is not waited for.
            STOP_OFFERING if self.phase.plan.phase == Phase::Preflight => self.phase.interrupt(now, 0),
            STOP_OFFERING => self.phase.interrupt(now, setup.plan.drain_ns.min(INTERRUPT_DRAIN_NS)),
            STOP_AT_ONCE.. => self.phase.interrupt(now, 0),
        }
        if setup.abort.load(Ordering::Relaxed) {
            self.phase.interrupt(now, setup.plan.drain_ns);
        }
        let mut woken = false;
        if self.phase.is_stopping(now) {
            if let Some(open) = &mut self.phase.open {
                open.stop();
            }
            woken |= self.wake_waiting();
        }
        if self.phase.kill_at().is_some_and(|at| at <= now) {
            woken |= self.kill(now);
        }
        woken | self.give_up_silent(&setup.server, now)
    }

    /// Fails the requests whose streams are silent while the server refuses connections: it has ended without closing
    /// them, or something between holds them open.
    fn give_up_silent(&mut self, server: &ServerWatch, now: Tick) -> bool {
        let reads = self.telemetry.reads();
        let in_flight = self.telemetry.in_flight;
        server.in_flight_changed(in_flight as i64 - self.in_flight_shown as i64);
        self.in_flight_shown = in_flight;
        let waits = in_flight > 0;
        if reads != self.reads_before || !waits {
            (self.reads_before, self.heard_at) = (reads, now);
        }
        if waits {
            server.waits(now, self.heard_at);
        }
        if server.silent_since(now).is_none() {
            return false;
        }
        let mut woken = false;
        for connection in &mut self.connections.entries {
            let silent_ns = now.ns_since(connection.last_active);
            let ConnectionState::Busy { slot } = connection.state else { continue };
            if silent_ns < SILENT_NS as i64 {
                continue;
            }
            let seconds = silent_ns as f64 / S as f64;
            let text = format!("no byte for {seconds:.1} s, while the server refused new connections");
            connection.abort(Failure::ServerGone, &text, now);
            let slot_state = &mut self.slots[slot as usize];
            slot_state.expired = true;
            slot_state.wake();
            woken = true;
        }
        woken
    }

    /// Wakes the slots that wait for their scheduled time or their place in the ramp, so that they end.
    fn wake_waiting(&mut self) -> bool {
        let mut woken = false;
        for slot_state in &mut self.slots {
            if matches!(slot_state.wait, Wait::Until(_)) {
                slot_state.wake();
                woken = true;
            }
        }
        woken
    }

    /// Ends every request in flight as unfinished.
    fn kill(&mut self, now: Tick) -> bool {
        self.phase.killed = true;
        for connection in &mut self.connections.entries {
            if matches!(connection.state, ConnectionState::Busy { .. } | ConnectionState::Handshake { .. }) {
                connection.answer.end_after_end_event();
                connection.finish(false, now);
            }
        }
        for slot_state in &mut self.slots {
            slot_state.expired = true;
            slot_state.wake();
        }
        true
    }

    /// Starts a phase. All slots of the previous one have ended.
    pub(crate) fn start_phase(&mut self, phase: PhaseState) {
        self.slots.clear();
        self.idle_slots.clear();
        self.deadlines = Deadlines::default();
        self.phase = phase;
    }

    /// Creates a slot and returns its number.
    pub(crate) fn new_slot(&mut self) -> u32 {
        self.slots.push(SlotState::default());
        self.phase.live_slots += 1;
        self.slots.len() as u32 - 1
    }

    /// Whether this worker has nothing left to do in this phase.
    pub(crate) fn is_over(&self) -> bool {
        let idle = self.idle_slots.len() as u32 == self.phase.live_slots;
        let offering = self.phase.open.as_ref().is_some_and(|open| open.next_due().is_some());
        idle && !offering && self.unassigned.is_empty()
    }
}

impl SlotState {
    /// Makes sure that the slot with this number is looked at by `at`.
    fn set_deadline(&mut self, slot: u32, at: Tick, deadlines: &mut Deadlines) {
        if self.entry.is_none_or(|entry| at < entry) {
            self.entry = Some(at);
            deadlines.push(at, slot);
        }
    }

    /// Ends its wait. What is left of it among the deadlines is recognized when it fires.
    pub(super) fn end_wait(&mut self) {
        (self.wait, self.expired) = (Wait::Nothing, false);
    }

    /// Lets the slot's task run again.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl PhasePlan {
    /// A phase without requests.
    pub fn none(messages: crossbeam_channel::Sender<crate::record::CollectorMessage>) -> PhasePlan {
        PhasePlan {
            phase: Phase::Preflight,
            load: Load::Closed { parallel: 0 },
            share: Share::default(),
            warmup: 0,
            requests: Some(0),
            duration_ns: None,
            ramp_ns: 0,
            next: Arc::default(),
            first_counted_ns: Arc::default(),
            messages,
        }
    }

    /// The phase of a unit, and its number in it.
    pub(crate) fn place(&self, unit: u64) -> (Phase, u64) {
        match unit.checked_sub(self.warmup) {
            None => (Phase::Warmup, unit),
            Some(number) => (self.phase, number),
        }
    }

    /// Units end before this number.
    fn end(&self) -> Option<u64> {
        self.requests.map(|requests| requests.saturating_add(self.warmup))
    }
}

impl PhaseState {
    /// The state at the start of a phase, on worker `number` of `count`.
    pub fn new(plan: PhasePlan, setup: &Setup, start: Tick, number: u16, count: u16) -> PhaseState {
        let cursor = || {
            let schedule = plan.load.schedule()?;
            let offsets = crate::workload::arrivals::offsets(schedule, setup.plan.seed, plan.ramp_ns);
            Some(ScheduleCursor::new(Box::new(offsets)))
        };
        let first_counted = match cursor() {
            Some(mut schedule) => schedule.offset_ns(plan.warmup).map(|offset| start.plus_ns(offset)),
            None => (plan.share.part(plan.warmup) == 0).then_some(start),
        };
        let schedule = cursor();
        let mut phase = PhaseState {
            plan,
            start,
            first_counted,
            interrupt: None,
            drain_ns: setup.plan.drain_ns,
            killed: false,
            live_slots: 0,
            over: false,
            schedule: None,
            open: None,
        };
        match (&phase.plan.load, schedule) {
            (Load::Open { .. }, Some(schedule)) => {
                let (worker, units) = ((number.into(), count.into()), (phase.plan.share, phase.plan.warmup));
                let open = OpenSchedule::new(schedule, start, units, worker, phase.plan.end(), phase.stop_offering());
                phase.open = Some(open);
            }
            (_, schedule) => phase.schedule = schedule,
        }
        phase
    }

    /// Whether no further request may be started.
    pub(crate) fn is_stopping(&self, now: Tick) -> bool {
        self.stop_offering().is_some_and(|stop| now >= stop)
    }

    /// From when on no further request may be started, as far as is known.
    fn stop_offering(&self) -> Option<Tick> {
        let interrupted = self.interrupt.map(|interrupt| interrupt.stop_offering);
        [self.duration_end(), interrupted].into_iter().flatten().min()
    }

    /// When requests in flight are given up, as far as is known.
    fn kill_at(&self) -> Option<Tick> {
        let drained = self.duration_end().map(|at| at.plus_ns(self.drain_ns));
        let interrupted = self.interrupt.map(|interrupt| interrupt.kill_at);
        [drained, interrupted].into_iter().flatten().min()
    }

    /// The end of the duration, which begins with the first unit of the phase itself.
    fn duration_end(&self) -> Option<Tick> {
        let duration_ns = self.plan.duration_ns?;
        let taken = || Some(self.plan.first_counted_ns.load(Ordering::Relaxed)).filter(|ns| *ns > 0).map(Tick);
        Some(self.first_counted.or_else(taken)?.plus_ns(duration_ns))
    }

    /// Starts no further requests, and gives those in flight `drain_ns` more.
    fn interrupt(&mut self, now: Tick, drain_ns: u64) {
        let stop_offering = self.stop_offering().map_or(now, |at| at.min(now));
        let kill_at = self.interrupt.map_or(Tick(u64::MAX), |earlier| earlier.kill_at);
        self.interrupt = Some(Interrupt { stop_offering, kill_at: kill_at.min(stop_offering.plus_ns(drain_ns)) });
    }

    /// Takes the next unit of a closed loop: its number, which counts the warm-up; `None` when there is none left.
    pub fn take(&self, now: Tick) -> Option<u64> {
        if self.is_stopping(now) {
            return None;
        }
        let nth = self.plan.next.fetch_add(1, Ordering::Relaxed);
        let PhasePlan { share, warmup, .. } = self.plan;
        let unit = share.unit(nth, warmup);
        if self.plan.end().is_some_and(|end| unit >= end) {
            self.plan.next.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if nth == share.part(warmup) && self.first_counted.is_none() {
            self.plan.first_counted_ns.store(now.0, Ordering::Relaxed);
        }
        Some(unit)
    }
}

fn timeout_failure(plan: &Plan, total: bool) -> (Failure, String) {
    let seconds = |ns: u64| ns as f64 / S as f64;
    if total {
        let text = format!("not complete after {} s (--total-timeout)", seconds(plan.timeouts.total_ns));
        (Failure::TotalTimeout, text)
    } else {
        let text = format!("no byte for {} s (--read-timeout)", seconds(plan.timeouts.read_ns));
        (Failure::ReadTimeout, text)
    }
}
