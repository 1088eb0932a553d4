//! The telemetry of a worker: receive lag, poll gaps, CPU time, context switches.

use hdrhistogram::Histogram;

use super::waiting::Recent;
use crate::host::usage::{Usage, thread_usage};
use crate::record::{Phase, STALL_NS, Stall, WorkerReport};
use crate::time::{MS, S, Tick};

/// The telemetry of one phase.
pub struct Telemetry {
    receive_lag_ns: Histogram<u64>,
    loop_gap_ns: Histogram<u64>,
    sleep_ns: Histogram<u64>,
    gather_ns: Histogram<u64>,
    stalls: Option<Vec<Stall>>,
    reads: u64,
    started: Tick,
    usage: Usage,
    last_poll: Option<Tick>,
    /// The last wait, if it was long but not too long, unless an arrival shows that it was: since when, and until when.
    long_wait: Option<Stall>,
    /// What the next waits depend on.
    pub recent: Recent,
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
/// What a planned wait has beyond this is no part of a poll gap.
const MAX_SLEEP_NS: u64 = MS;
/// The largest lag of the histograms, which have two significant digits.
const MAX_LAG_NS: u64 = 100 * S;

impl Telemetry {
    /// At the start of a phase. `is_streamed`: its responses are streams.
    pub fn new(now: Tick, is_streamed: bool) -> Telemetry {
        Telemetry {
            receive_lag_ns: histogram(),
            loop_gap_ns: histogram(),
            sleep_ns: histogram(),
            gather_ns: histogram(),
            stalls: Some(Vec::new()),
            reads: 0,
            started: now,
            usage: thread_usage(),
            last_poll: None,
            long_wait: None,
            recent: Recent::new(is_streamed, now),
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
        if lag_ns > STALL_NS
            && let Some(wait) = self.long_wait.take()
        {
            self.keep_stall(wait);
        }
    }

    #[inline]
    pub(crate) fn unstamped_read(&mut self) {
        self.reads += 1;
        self.recent.add_unstamped();
    }

    /// The reads of this phase so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Records a poll of the event loop. `planned_ns`: how long the worker wanted to wait for events since the last poll;
    /// `None` if it did not wait, so that the gap is one of a busy loop. A gap that is too long is a stall, and so is a wait
    /// that an arrival should have ended.
    #[inline]
    pub(crate) fn record_poll(&mut self, now: Tick, planned_ns: Option<u64>) {
        self.long_wait = None;
        let Some(last) = self.last_poll.replace(now) else { return };
        let gap_ns = now.0.saturating_sub(last.0);
        let gap = Stall { begin: last, end: now };
        match planned_ns {
            None => self.loop_gap_ns.saturating_record(gap_ns),
            Some(planned_ns) => {
                let more_ns = planned_ns.saturating_sub(MAX_SLEEP_NS);
                let beyond_ns = gap_ns.saturating_sub(more_ns).max(gap_ns.min(MAX_SLEEP_NS));
                self.sleep_ns.saturating_record(beyond_ns);
                self.long_wait = (gap_ns > STALL_NS && beyond_ns <= STALL_NS).then_some(gap);
                if self.long_wait.is_some() {
                    return;
                }
            }
        }
        if gap_ns > STALL_NS {
            self.keep_stall(gap);
        }
    }

    /// Records for how long the events of a wait may gather.
    #[inline]
    pub(crate) fn record_gather(&mut self, gather_ns: u64) {
        self.gather_ns.saturating_record(gather_ns);
    }

    /// Applies the rule for waits to what was recent until now.
    pub(crate) fn renew_recent(&mut self, now: Tick) {
        self.recent.renew(now, self.reads);
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

    /// A request has ended; `latency_ns`, if it succeeded.
    pub(crate) fn request_ended(&mut self, latency_ns: Option<u64>) {
        self.in_flight -= 1;
        if let Some(latency_ns) = latency_ns {
            self.recent.add_latency(latency_ns);
        }
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
            gather_ns: self.gather_ns,
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

    fn stall(begin_ms: u64, end_ms: u64) -> Stall {
        Stall { begin: Tick(begin_ms * MS), end: Tick(end_ms * MS) }
    }

    #[test]
    fn short_waits_are_not_stalls() {
        let mut telemetry = Telemetry::new(Tick(0), true);
        let (short, none) = (Some(MS), None);
        for (at_ms, planned_ns) in [(1, short), (2, short), (3, none), (13, none), (14, short), (264, short)] {
            telemetry.record_poll(Tick(at_ms * MS), planned_ns);
        }
        assert_eq!(telemetry.stalls, Some(vec![stall(3, 13), stall(14, 264)]));
        assert_eq!((telemetry.sleep_ns.len(), telemetry.loop_gap_ns.len()), (3, 2));
        (0..MAX_STALLS as u64).for_each(|nth| telemetry.record_poll(Tick((300 + 10 * nth) * MS), none));
        assert_eq!(telemetry.stalls, None);
    }

    #[test]
    fn a_long_wait_is_a_stall_if_it_was_longer_than_planned_or_an_arrival_was_late() {
        let mut telemetry = Telemetry::new(Tick(0), true);
        let planned = Some(20 * MS);
        telemetry.record_poll(Tick(0), None);
        telemetry.record_poll(Tick(20 * MS), planned);
        telemetry.stamped_read(100_000);
        telemetry.record_poll(Tick(35 * MS), planned);
        assert_eq!((telemetry.stalls.clone(), telemetry.sleep_ns.max() <= MS + MS / 10), (Some(Vec::new()), true));
        telemetry.record_poll(Tick(65 * MS), planned);
        telemetry.record_poll(Tick(80 * MS), planned);
        telemetry.stamped_read(9 * MS);
        telemetry.stamped_read(8 * MS);
        assert_eq!(telemetry.stalls, Some(vec![stall(35, 65), stall(65, 80)]));
    }
}
