//! What a worker measures of itself: receive lag, loop gaps, CPU, context switches.

use hdrhistogram::Histogram;

use crate::record::{Phase, WorkerReport};
use crate::rig::usage::{Usage, thread_usage};
use crate::time::{S, Tick};

/// A worker's own figures over one phase.
pub struct Telemetry {
    receive_lag_ns: Histogram<u64>,
    loop_gap_ns: Histogram<u64>,
    reads: u64,
    started: Tick,
    usage: Usage,
    last_look: Option<Tick>,
    pub in_flight: u64,
    pub peak_in_flight: u64,
    pub extra_blocks: u64,
    /// Turns of conversations that ended early.
    pub unsent: u64,
}

/// Lags are kept with two significant digits, up to this.
const LARGEST_NS: u64 = 100 * S;

impl Telemetry {
    pub fn new(now: Tick) -> Telemetry {
        Telemetry {
            receive_lag_ns: histogram(),
            loop_gap_ns: histogram(),
            reads: 0,
            started: now,
            usage: thread_usage(),
            last_look: None,
            in_flight: 0,
            peak_in_flight: 0,
            extra_blocks: 0,
            unsent: 0,
        }
    }

    #[inline]
    pub fn stamped_read(&mut self, lag_ns: u64) {
        self.reads += 1;
        self.receive_lag_ns.saturating_record(lag_ns);
    }

    #[inline]
    pub fn unstamped_read(&mut self) {
        self.reads += 1;
    }

    /// The loop looks at its completions. `waited` when it had nothing to do before: that gap is no stall.
    #[inline]
    pub fn look(&mut self, now: Tick, waited: bool) {
        if let Some(last) = self.last_look.replace(now)
            && !waited
        {
            self.loop_gap_ns.saturating_record(now.0.saturating_sub(last.0));
        }
    }

    pub fn request_started(&mut self) {
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
    }

    pub fn request_ended(&mut self) {
        self.in_flight -= 1;
    }

    /// The account of a phase that ends now; what the pool and the inbox count is left at 0.
    pub fn report(self, worker: u16, phase: Phase, core: Option<u16>, now: Tick) -> WorkerReport {
        let usage = thread_usage();
        WorkerReport {
            worker,
            phase,
            core,
            receive_lag_ns: self.receive_lag_ns,
            loop_gap_ns: self.loop_gap_ns,
            cpu_user_ns: usage.user_ns - self.usage.user_ns,
            cpu_system_ns: usage.system_ns - self.usage.system_ns,
            wall_ns: now.0.saturating_sub(self.started.0),
            voluntary_switches: usage.voluntary_switches - self.usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches - self.usage.involuntary_switches,
            reads: self.reads,
            buffer_shortages: 0,
            connections_opened: 0,
            peak_in_flight: self.peak_in_flight,
            extra_blocks: self.extra_blocks,
            unsent: self.unsent,
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LARGEST_NS, 2).expect("1 to 100 s with two digits are valid bounds")
}
