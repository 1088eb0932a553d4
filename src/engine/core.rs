//! What the tasks of one worker share. One thread touches it, so a `RefCell` is its only lock; nothing here awaits.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use rustls::ClientConfig;

use super::awaiting::{Awaited, Awaiting};
use super::clock::Clock;
use super::inbox::{Event, Inbox};
use super::outbox::Outbox;
use super::pacer::{Deadlines, OpenSchedule, Places};
use super::pool::{Delivered, Pool, State};
use super::telemetry::Telemetry;
use crate::plan::{Load, Plan};
use crate::record::trace::{Trace, What};
use crate::record::{Failure, Phase};
use crate::time::{MS, S, Tick};
use crate::workload::Workload;

/// What all workers of a run share. The atomics are touched once per request, never per event.
pub struct Setup {
    pub plan: Arc<Plan>,
    pub workload: Arc<Workload>,
    pub tls: Option<Arc<ClientConfig>>,
    pub stop: Arc<AtomicU8>,
    /// Connections opened so far, which decides the source address of the next.
    pub connections: AtomicU64,
    /// What the connection test is waiting for.
    pub awaited: Arc<Awaiting>,
    /// Takes what happens to requests, with `--debug`.
    pub trace: Option<Trace>,
}

/// Values of [`Setup::stop`].
pub const STOP_OFFERING: u8 = 1;
pub const STOP_AT_ONCE: u8 = 2;

/// One phase as every worker is told it.
#[derive(Clone)]
pub struct PhasePlan {
    pub phase: Phase,
    pub load: Load,
    pub requests: Option<u64>,
    pub duration_ns: Option<u64>,
    pub ramp_ns: u64,
    /// The number of the next request (or conversation) nobody has taken.
    pub next: Arc<AtomicU64>,
    /// Where the records go.
    pub parcels: crossbeam_channel::Sender<crate::record::Parcel>,
}

/// One worker: its shared state and its place among the others.
pub struct Worker {
    pub core: RefCell<Core>,
    pub setup: Arc<Setup>,
    pub number: u16,
    pub count: u16,
}

impl Worker {
    /// Tells what happens to a request of `job`, where anybody listens.
    pub fn tell(&self, job: Job, at: Tick, what: impl FnOnce() -> What) {
        if let Some(trace) = &self.setup.trace {
            trace.tell(at, (job.phase, job.index), what());
        }
    }

    /// Says what a request waits for, as far as that is watched: only the connection test is.
    pub fn awaits(&self, step: Awaited) {
        if self.core.borrow().phase.plan.phase == Phase::Preflight {
            self.setup.awaited.set(step);
        }
    }
}

/// A request, or a conversation, to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub phase: Phase,
    /// Of the request; as a lane is given it, of the conversation where there are such.
    pub index: u64,
    pub conversation: Option<u64>,
    pub turn: u32,
    pub due: Tick,
    pub previous_end: Option<Tick>,
}

/// What a lane is waiting for, as far as deadlines are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    #[default]
    Nothing,
    /// An instant.
    Until(Tick),
    /// A connection, until then.
    Connect(Tick),
    /// A response on this connection, until then at the latest.
    Response { connection: u32, total: Tick },
    /// A job of the open loop.
    Job,
}

/// A lane as the worker sees it.
#[derive(Default)]
pub struct LaneState {
    pub waker: Option<Waker>,
    pub wait: Wait,
    /// The deadline of the present wait has passed.
    pub expired: bool,
    /// The socket it waits to write to is ready.
    pub writable: bool,
    pub job: Option<Job>,
    /// The earliest entry of this lane in the heap of deadlines: later ones need no entry of their own.
    entry: Option<Tick>,
}

/// The state of the present phase on this worker.
pub struct PhaseState {
    pub plan: PhasePlan,
    pub start: Tick,
    pub stop_offering: Option<Tick>,
    kill_at: Option<Tick>,
    pub killed: bool,
    /// Lanes that have not ended.
    pub live_lanes: u32,
    /// No lane will be given another job.
    pub over: bool,
    /// Draws the places of a closed loop with a rate.
    pub places: Option<Places>,
    pub open: Option<OpenSchedule>,
}

/// Everything that changes while a worker runs.
pub struct Core {
    pub clock: Clock,
    pub inbox: Inbox,
    pub pool: Pool,
    pub lanes: Vec<LaneState>,
    /// Lanes of the open loop without a job.
    pub idle_lanes: Vec<u32>,
    pub deadlines: Deadlines,
    pub telemetry: Telemetry,
    pub outbox: Outbox,
    pub phase: PhaseState,
    /// Jobs for which a lane has still to be made.
    pub unserved: Vec<Job>,
    /// Wakes the pump when the lanes have run, or the last one has ended.
    pub pump_waker: Option<Waker>,
    /// Wakes the relay, which runs after the lanes that were woken before it.
    pub relay_waker: Option<Waker>,
    /// What went wrong outside of the pump, which ends the worker.
    pub trouble: Option<io::Error>,
    housekeeping_at: Tick,
    dead: Vec<u32>,
}

/// How often a worker looks at the stop flag, its clock and its block.
const HOUSEKEEPING_NS: u64 = 20 * MS;
/// A sleep never lasts longer. Bytes that lie together in a socket have one stamp, the last one's, and only a sleep
/// whose length should have been known shows that they lay there for long: that the process was stopped, or its core
/// taken away.
const MOST_SLEEP_NS: u64 = MS;
/// After an interrupt, requests in flight get this long at most.
const INTERRUPT_DRAIN_NS: u64 = 5 * S;

impl Core {
    pub fn new(clock: Clock, inbox: Inbox, pool: Pool, outbox: Outbox, phase: PhaseState) -> Core {
        let now = clock.now();
        Core {
            clock,
            inbox,
            pool,
            lanes: Vec::new(),
            idle_lanes: Vec::new(),
            deadlines: Deadlines::default(),
            telemetry: Telemetry::new(now),
            outbox,
            phase,
            unserved: Vec::new(),
            pump_waker: None,
            relay_waker: None,
            trouble: None,
            housekeeping_at: now,
            dead: Vec::new(),
        }
    }

    /// One turn of the pump: takes in what arrived, fires deadlines and offers what is due. `waited` says whether the
    /// worker had slept before. Returns whether any lane was woken.
    pub fn turn(&mut self, setup: &Setup, waited: bool) -> io::Result<bool> {
        let now = self.clock.now();
        self.telemetry.look(now, waited);
        let mut woken = self.reap()?;
        let now = self.clock.now();
        woken |= self.fire_deadlines(&setup.plan, now);
        woken |= self.offer(now);
        if now >= self.housekeeping_at {
            self.housekeeping_at = now.plus_ns(HOUSEKEEPING_NS);
            woken |= self.keep_house(setup, now);
        }
        Ok(woken)
    }

    /// When the pump has to look again though nothing arrives, from `now` on.
    pub fn next_look(&self, now: Tick) -> Tick {
        let schedule = self.phase.open.as_ref().and_then(OpenSchedule::next_due);
        let latest = now.plus_ns(MOST_SLEEP_NS).min(self.housekeeping_at);
        [self.deadlines.next(), schedule].into_iter().flatten().fold(latest, Tick::min)
    }

    fn reap(&mut self) -> io::Result<bool> {
        let Core { inbox, pool, clock, telemetry, lanes, dead, .. } = self;
        let mut woken = false;
        inbox.reap(&mut |event| {
            let delivered = match event {
                Event::Delivery(source, delivery) => pool.deliver(source, delivery, clock, telemetry),
                Event::Writable { lane } => {
                    lanes[lane as usize].writable = true;
                    Delivered::Wake(lane)
                }
            };
            match delivered {
                Delivered::Nothing => {}
                Delivered::Wake(lane) => {
                    lanes[lane as usize].wake();
                    woken = true;
                }
                Delivered::Dead(slot) => dead.push(slot),
            }
        })?;
        while let Some(slot) = self.dead.pop() {
            self.pool.close(slot, &mut self.inbox)?;
        }
        Ok(woken)
    }

    fn fire_deadlines(&mut self, plan: &Plan, now: Tick) -> bool {
        let mut woken = false;
        while let Some(lane) = self.deadlines.pop_due(now) {
            self.lanes[lane as usize].entry = None;
            woken |= self.fire(plan, lane, now);
        }
        woken
    }

    /// A lane's entry came up: the wait it was made for may be over long since, or have a later deadline by now.
    fn fire(&mut self, plan: &Plan, lane: u32, now: Tick) -> bool {
        let state = &mut self.lanes[lane as usize];
        let deadline = match state.wait {
            Wait::Nothing | Wait::Job => return false,
            Wait::Until(at) | Wait::Connect(at) => at,
            Wait::Response { connection, total } => {
                let silent_until = self.pool.slots[connection as usize].last_active.plus_ns(plan.timeouts.read_ns);
                silent_until.min(total)
            }
        };
        if deadline > now {
            self.set_deadline(lane, deadline);
            return false;
        }
        if let Wait::Response { connection, total } = state.wait {
            let (failure, text) = timeout_words(plan, total <= now);
            let connection = &mut self.pool.slots[connection as usize];
            if matches!(connection.state, State::Finished { .. }) {
                return false;
            }
            connection.abort(failure, &text, now);
        }
        let state = &mut self.lanes[lane as usize];
        state.expired = true;
        state.wake();
        true
    }

    /// Starts a wait with a deadline.
    pub fn wait(&mut self, lane: u32, wait: Wait, read_ns: u64, now: Tick) {
        let state = &mut self.lanes[lane as usize];
        state.wait = wait;
        state.expired = false;
        match wait {
            Wait::Nothing | Wait::Job => {}
            Wait::Until(at) | Wait::Connect(at) => self.set_deadline(lane, at),
            Wait::Response { total, .. } => self.set_deadline(lane, total.min(now.plus_ns(read_ns))),
        }
    }

    fn set_deadline(&mut self, lane: u32, at: Tick) {
        let state = &mut self.lanes[lane as usize];
        if state.entry.is_none_or(|entry| at < entry) {
            state.entry = Some(at);
            self.deadlines.push(at, lane);
        }
    }

    /// Gives the due requests of the open loop to idle lanes; those for which there is none wait in `unserved` for a
    /// new lane.
    fn offer(&mut self, now: Tick) -> bool {
        let Some(open) = &mut self.phase.open else { return false };
        let mut offered = false;
        while let Some((index, due)) = open.pop_due(now) {
            offered = true;
            self.phase.plan.next.fetch_add(1, Ordering::Relaxed);
            let job = Job::new(self.phase.plan.phase, index, due);
            match self.idle_lanes.pop() {
                Some(lane) => {
                    let state = &mut self.lanes[lane as usize];
                    state.job = Some(job);
                    state.wake();
                }
                None => self.unserved.push(job),
            }
        }
        offered
    }

    fn keep_house(&mut self, setup: &Setup, now: Tick) -> bool {
        self.clock.maintain(now);
        self.outbox.flush_if_old(now, &mut self.telemetry);
        match setup.stop.load(Ordering::Relaxed) {
            0 => {}
            STOP_OFFERING => {
                let stop = self.phase.stop_offering.map_or(now, |at| at.min(now));
                self.phase.stop_offering = Some(stop);
                let drain_ns = setup.plan.drain_ns.min(INTERRUPT_DRAIN_NS);
                let kill_at = stop.plus_ns(drain_ns);
                self.phase.kill_at = Some(self.phase.kill_at.map_or(kill_at, |at| at.min(kill_at)));
            }
            STOP_AT_ONCE.. => {
                self.phase.stop_offering = Some(now);
                self.phase.kill_at = Some(now);
            }
        }
        let mut woken = false;
        if self.phase.is_stopping(now) {
            if let Some(open) = &mut self.phase.open {
                open.stop();
            }
            woken |= self.wake_sleepers();
        }
        if self.phase.kill_at.is_some_and(|at| at <= now) {
            woken |= self.kill(now);
        }
        woken
    }

    /// Lanes that wait for their place in the schedule or the ramp have nothing left to wait for.
    fn wake_sleepers(&mut self) -> bool {
        let mut woken = false;
        for state in &mut self.lanes {
            if matches!(state.wait, Wait::Until(_)) {
                state.wake();
                woken = true;
            }
        }
        woken
    }

    /// Ends everything in flight as unfinished.
    fn kill(&mut self, now: Tick) -> bool {
        self.phase.killed = true;
        for connection in &mut self.pool.slots {
            if matches!(connection.state, State::Busy { .. } | State::Handshake { .. }) {
                connection.finish(false, now);
            }
        }
        for state in &mut self.lanes {
            state.expired = true;
            state.wake();
        }
        true
    }

    /// Forgets the lanes of the last phase, all of which have ended.
    pub fn start_phase(&mut self, phase: PhaseState) {
        self.lanes.clear();
        self.idle_lanes.clear();
        self.deadlines = Deadlines::default();
        self.phase = phase;
    }

    /// Makes a lane.
    pub fn new_lane(&mut self) -> u32 {
        self.lanes.push(LaneState::default());
        self.phase.live_lanes += 1;
        self.lanes.len() as u32 - 1
    }

    /// Whether the phase has nothing left to do on this worker.
    pub fn is_over(&self) -> bool {
        let idle = self.idle_lanes.len() as u32 == self.phase.live_lanes;
        let offering = self.phase.open.as_ref().is_some_and(|open| open.next_due().is_some());
        idle && !offering && self.unserved.is_empty()
    }
}

impl Job {
    /// A job that follows no other one.
    pub fn new(phase: Phase, index: u64, due: Tick) -> Job {
        Job { phase, index, conversation: None, turn: 0, due, previous_end: None }
    }
}

impl LaneState {
    /// Lets the lane's task run again.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl PhasePlan {
    /// A phase without requests.
    pub fn none(parcels: crossbeam_channel::Sender<crate::record::Parcel>) -> PhasePlan {
        PhasePlan {
            phase: Phase::Preflight,
            load: Load::Closed { parallel: 0 },
            requests: Some(0),
            duration_ns: None,
            ramp_ns: 0,
            next: Arc::default(),
            parcels,
        }
    }
}

impl PhaseState {
    /// The state before anything has happened, on worker `number` of `count`.
    pub fn new(plan: PhasePlan, setup: &Setup, start: Tick, number: u16, count: u16) -> PhaseState {
        let places = plan.load.schedule().map(|schedule| {
            Places::new(Box::new(crate::workload::arrivals::offsets(schedule, setup.plan.seed, plan.ramp_ns)))
        });
        let stop_offering = plan.duration_ns.map(|ns| start.plus_ns(ns));
        let kill_at = stop_offering.map(|at| at.plus_ns(setup.plan.drain_ns));
        let mut state = PhaseState {
            plan,
            start,
            stop_offering,
            kill_at,
            killed: false,
            live_lanes: 0,
            over: false,
            places: None,
            open: None,
        };
        match (&state.plan.load, places) {
            (Load::Open { .. }, Some(places)) => {
                let (number, count) = (u64::from(number), u64::from(count));
                let open = OpenSchedule::new(places, start, number, count, state.plan.requests, stop_offering);
                state.open = Some(open);
            }
            (_, places) => state.places = places,
        }
        state
    }

    /// Whether no further request is to be offered.
    pub fn is_stopping(&self, now: Tick) -> bool {
        self.stop_offering.is_some_and(|stop| now >= stop)
    }

    /// Takes the next request of a closed loop, if there is one: its number.
    pub fn take(&self, now: Tick) -> Option<u64> {
        if self.is_stopping(now) {
            return None;
        }
        let index = self.plan.next.fetch_add(1, Ordering::Relaxed);
        if self.plan.requests.is_some_and(|end| index >= end) {
            self.plan.next.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(index)
    }
}

fn timeout_words(plan: &Plan, total: bool) -> (Failure, String) {
    let seconds = |ns: u64| ns as f64 / S as f64;
    if total {
        let text = format!("not complete after {} s (--total-timeout)", seconds(plan.timeouts.total_ns));
        (Failure::TotalTimeout, text)
    } else {
        let text = format!("no byte for {} s (--read-timeout)", seconds(plan.timeouts.read_ns));
        (Failure::ReadTimeout, text)
    }
}
