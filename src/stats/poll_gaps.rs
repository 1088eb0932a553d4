//! Gaps between a worker's polls of its sockets, which bound the error of arrivals.
//!
//! The kernel's timestamp of a read is that of the last segment in it. Other data of the read can have arrived any time
//! after the previous poll, but not before it, because that poll would have read it. So the time between two polls
//! bounds by how much the recorded arrival of an event can be late. Outside of stalls that is the longest sleep or loop
//! gap of the phase; within a stall it is the time since the stall began.

use super::metric::Early;
use crate::record::{STALL_NS, Stall, WorkerReport};
use crate::time::{MS, Tick, US};

/// Lower bound of the delay of a sleeping worker's wake-up, which cannot be measured without timestamps.
const WAKE_UP_NS: u64 = MS;
/// The kernel completes reads up to this long after the poll that submitted them.
const AFTER_LOOK_NS: u64 = 100 * US;

/// The poll gaps of one worker in a phase.
#[derive(Clone, Debug)]
pub(crate) struct PollGaps {
    stalls: Vec<Stall>,
    /// Bounds outside of stalls, nanoseconds: of an event that shares its read, and of a read without a timestamp.
    shared_ns: u64,
    unstamped_ns: u64,
}

impl Default for PollGaps {
    /// A worker without a report: no bound is known.
    fn default() -> PollGaps {
        PollGaps { stalls: Vec::new(), shared_ns: u64::MAX, unstamped_ns: u64::MAX }
    }
}

impl PollGaps {
    /// From the report that a worker wrote at the end of the phase.
    pub(crate) fn from_report(worker: &WorkerReport) -> PollGaps {
        let most_ns = if worker.stalls.is_some() { STALL_NS } else { u64::MAX };
        let awake_ns = worker.longest_stall_ns();
        PollGaps {
            stalls: worker.stalls.clone().unwrap_or_default(),
            shared_ns: awake_ns.max(worker.sleep_ns.max()).min(most_ns),
            unstamped_ns: awake_ns.max(WAKE_UP_NS).min(most_ns),
        }
    }

    /// By how much an event recorded at `at` may have arrived earlier at most, nanoseconds.
    pub(crate) fn bound_ns(&self, early: Early, at: Tick) -> u32 {
        let (early_ns, outside_ns) = match early {
            Early::Exact => return 0,
            Early::Shared(ns) => (ns, self.shared_ns),
            Early::Unstamped(ns) => (ns, self.unstamped_ns),
        };
        let next = self.stalls.partition_point(|stall| stall.end.plus_ns(AFTER_LOOK_NS) < at);
        let within = self.stalls.get(next).filter(|stall| stall.begin <= at).map(|stall| at.0 - stall.begin.0);
        let bound_ns = within.unwrap_or(0).max(outside_ns);
        early_ns.min(u32::try_from(bound_ns).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Phase;

    fn worker(stalls: Option<Vec<Stall>>) -> PollGaps {
        let histogram = |ns: u64| {
            let mut histogram = hdrhistogram::Histogram::new(3).unwrap();
            histogram.record(ns).unwrap();
            histogram
        };
        PollGaps::from_report(&WorkerReport {
            worker: 0,
            phase: Phase::Measured,
            core: None,
            receive_lag_ns: histogram(50_000),
            loop_gap_ns: histogram(250 * MS),
            sleep_ns: histogram(900_000),
            stalls,
            cpu_user_ns: 0,
            cpu_system_ns: 0,
            wall_ns: 0,
            voluntary_switches: 0,
            involuntary_switches: 0,
            reads: 0,
            buffer_shortages: 0,
            connections_opened: 0,
            peak_in_flight: 0,
            extra_blocks: 0,
            unsent: 0,
        })
    }

    #[test]
    fn a_stall_bounds_the_events_that_arrived_in_it() {
        let stall = |begin: u64, end: u64| Stall { begin: Tick(begin * MS), end: Tick(end * MS) };
        let worker = worker(Some(vec![stall(10, 15), stall(100, 350)]));
        let shared = |ns, at_ms: u64| worker.bound_ns(Early::Shared(ns), Tick(at_ms * MS));
        assert_eq!(worker.bound_ns(Early::Exact, Tick(200 * MS)), 0);
        // In the stall: since it began, but not before the read before.
        assert_eq!((shared(u32::MAX, 300), shared(20_000_000, 300)), (200_000_000, 20_000_000));
        // Outside: no longer than what is no stall.
        assert_eq!((shared(u32::MAX, 50), shared(1000, 50), shared(u32::MAX, 400)), (2_000_000, 1000, 2_000_000));
    }

    #[test]
    fn without_a_list_of_stalls_the_longest_gap_bounds_all_events() {
        let bound_ns = worker(None).bound_ns(Early::Shared(u32::MAX), Tick(50 * MS));
        assert!((250_000_000..251_000_000).contains(&bound_ns), "{bound_ns}");
        assert_eq!(PollGaps::default().bound_ns(Early::Unstamped(u32::MAX), Tick(1)), u32::MAX);
    }
}
