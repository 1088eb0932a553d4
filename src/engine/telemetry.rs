//! The telemetry of a worker: receive lag, poll gaps, CPU time, context switches.

use hdrhistogram::Histogram;

use crate::host::usage::{Usage, thread_usage};
use crate::record::{Phase, STALL_NS, Stall, WorkerReport};
use crate::time::{S, Tick};

/// The telemetry of one phase.
pub struct Telemetry {
    receive_lag_ns: Histogram<u64>,
    loop_gap_ns: Histogram<u64>,
    sleep_ns: Histogram<u64>,
    stalls: Option<Vec<Stall>>,
    reads: u64,
    started: Tick,
    usage: Usage,
    last_poll: Option<Tick>,
    pub in_flight: u64,
    pub peak_in_flight: u64,
    pub extra_blocks: u64,
    /// Requests of the phase itself, without its warm-up, that were begun; of a conversation that was begun, all turns.
    pub begun: u64,
    /// Those among `begun` that were never sent: turns of conversations that ended early.
    pub unsent: u64,
}

/// If a phase has more stalls than this, they are not stored individually.
const MAX_STALLS: usize = 16_384;
/// The largest lag of the histograms, which have two significant digits.
const MAX_LAG_NS: u64 = 100 * S;

impl Telemetry {
    pub fn new(now: Tick) -> Telemetry {
        Telemetry {
            receive_lag_ns: histogram(),
            loop_gap_ns: histogram(),
            sleep_ns: histogram(),
            stalls: Some(Vec::new()),
            reads: 0,
            started: now,
            usage: thread_usage(),
            last_poll: None,
            in_flight: 0,
            peak_in_flight: 0,
            extra_blocks: 0,
            begun: 0,
            unsent: 0,
        }
    }

    #[inline]
    pub(crate) fn stamped_read(&mut self, lag_ns: u64) {
        self.reads += 1;
        self.receive_lag_ns.saturating_record(lag_ns);
    }

    #[inline]
    pub(crate) fn unstamped_read(&mut self) {
        self.reads += 1;
    }

    /// The reads of this phase so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Records a poll of the event loop. `waited`: the worker has waited for events since the last poll, so the gap is
    /// not counted as a gap of a busy loop. In both cases a gap that is too long is a stall.
    #[inline]
    pub(crate) fn record_poll(&mut self, now: Tick, waited: bool) {
        let Some(last) = self.last_poll.replace(now) else { return };
        let gap_ns = now.0.saturating_sub(last.0);
        let histogram = if waited { &mut self.sleep_ns } else { &mut self.loop_gap_ns };
        histogram.saturating_record(gap_ns);
        if gap_ns > STALL_NS {
            self.keep_stall(Stall { begin: last, end: now });
        }
    }

    #[cold]
    fn keep_stall(&mut self, stall: Stall) {
        self.stalls = self.stalls.take().filter(|stalls| stalls.len() < MAX_STALLS);
        self.stalls.iter_mut().for_each(|stalls| stalls.push(stall));
    }

    pub(crate) fn request_started(&mut self) {
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
    }

    pub(crate) fn request_ended(&mut self) {
        self.in_flight -= 1;
    }

    /// The report on a phase that ends now. The counters of the connections and of the receive path are 0.
    pub fn report(self, worker: u32, phase: Phase, core: Option<u16>, now: Tick) -> WorkerReport {
        let usage = thread_usage();
        WorkerReport {
            worker,
            phase,
            core,
            receive_lag_ns: self.receive_lag_ns,
            loop_gap_ns: self.loop_gap_ns,
            sleep_ns: self.sleep_ns,
            stalls: self.stalls,
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
    Histogram::new_with_bounds(1, MAX_LAG_NS, 2).expect("1 to 100 s with two digits are valid bounds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    #[test]
    fn short_waits_are_not_stalls() {
        let mut telemetry = Telemetry::new(Tick(0));
        for (at_ms, waited) in [(1, true), (2, true), (3, false), (13, false), (14, true), (264, true)] {
            telemetry.record_poll(Tick(at_ms * MS), waited);
        }
        let stall = |begin: u64, end: u64| Stall { begin: Tick(begin * MS), end: Tick(end * MS) };
        assert_eq!(telemetry.stalls, Some(vec![stall(3, 13), stall(14, 264)]));
        assert_eq!((telemetry.sleep_ns.len(), telemetry.loop_gap_ns.len()), (3, 2));
        (0..MAX_STALLS as u64).for_each(|nth| telemetry.record_poll(Tick((300 + 10 * nth) * MS), false));
        assert_eq!(telemetry.stalls, None);
    }
}
