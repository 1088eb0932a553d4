//! The difference of two machines' clocks as an interval that contains it, from exchanges of packets.
//!
//! A shard sends a packet at `sent` of its clock. Shard 0 receives it at `first_received` of its own and answers at
//! `first_sent`; the answer arrives at `received`. With `shift` = clock of shard 0 − clock of the shard:
//!
//! - The packet arrived after it was sent: `sent + shift <= first_received`.
//! - The answer arrived after it was sent: `first_sent <= received + shift`.
//!
//! Nothing is assumed about how long packets take in either direction. All times are `CLOCK_MONOTONIC`, which is never set
//! and whose rate the kernel adjusts by at most 500 ppm: what is known at one time bounds the shift at all others.

use super::facts::ClockOffset;
use crate::time::Tick;

/// The rate at which two clocks can drift apart at most: the kernel adjusts each by up to 500 ppm.
pub const DRIFT: f64 = 0.001;

/// By how much readings of two clocks and their kernel timestamps can be off together, nanoseconds; a run measures tens.
const READING_NS: i64 = 500;

/// One exchange of packets with shard 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockExchange {
    pub sent: Tick,
    /// By the clock of shard 0.
    pub first_received: Tick,
    /// By the clock of shard 0.
    pub first_sent: Tick,
    pub received: Tick,
}

/// What exchanges prove about the clock of shard 0 minus that of another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShiftBounds {
    /// There were no exchanges.
    Unknown,
    /// No shift fits all exchanges: a clock jumped, at the latest at this time of the shard's clock.
    Jumped { at: Tick },
    /// The shift is within this interval at both ends of the span.
    Within(ClockOffset),
}

/// The shift at one time of the shard's clock.
#[derive(Clone, Copy)]
struct Bound {
    at_ns: i64,
    low_ns: i64,
    high_ns: i64,
}

impl Bound {
    fn new(exchange: &ClockExchange) -> Bound {
        let ClockExchange { sent, first_received, first_sent, received } = exchange;
        let [sent, first_received, first_sent, received] =
            [sent, first_received, first_sent, received].map(|tick| tick.0 as i64);
        Bound {
            at_ns: received,
            low_ns: first_sent.saturating_sub(received).saturating_sub(READING_NS),
            // It held when the packet was sent.
            high_ns: first_received
                .saturating_sub(sent)
                .saturating_add(drift_ns(received.saturating_sub(sent)).saturating_add(READING_NS)),
        }
    }

    /// What this bound means for another time.
    fn at(self, at_ns: i64) -> Bound {
        let drift_ns = drift_ns(at_ns.saturating_sub(self.at_ns));
        Bound { at_ns, low_ns: self.low_ns.saturating_sub(drift_ns), high_ns: self.high_ns.saturating_add(drift_ns) }
    }

    /// What both prove for the time of `self`.
    fn and(self, other: Bound) -> Bound {
        let other = other.at(self.at_ns);
        Bound { low_ns: self.low_ns.max(other.low_ns), high_ns: self.high_ns.min(other.high_ns), ..self }
    }

    fn is_empty(self) -> bool {
        self.low_ns > self.high_ns
    }
}

/// By how much two clocks can drift apart in a time, rounded up.
fn drift_ns(ns: i64) -> i64 {
    (ns.unsigned_abs() as f64 * DRIFT).ceil() as i64
}

/// The shift at both ends of a span of the shard's clock.
pub fn shift_bounds(exchanges: &[ClockExchange], (from, to): (Tick, Tick)) -> ShiftBounds {
    let mut bounds: Vec<Bound> = exchanges.iter().map(Bound::new).collect();
    bounds.sort_by_key(|bound| bound.at_ns);
    for later in 1..bounds.len() {
        bounds[later] = bounds[later].and(bounds[later - 1]);
    }
    if let Some(jumped) = bounds.iter().find(|bound| bound.is_empty()) {
        return ShiftBounds::Jumped { at: Tick(jumped.at_ns as u64) };
    }
    for earlier in (1..bounds.len()).rev() {
        bounds[earlier - 1] = bounds[earlier - 1].and(bounds[earlier]);
    }
    let at = |tick: Tick| {
        let at_ns = tick.0 as i64;
        let after = bounds.partition_point(|bound| bound.at_ns < at_ns);
        let neighbours = [after.checked_sub(1).and_then(|before| bounds.get(before)), bounds.get(after)];
        let mut known = neighbours.into_iter().flatten().map(|bound| bound.at(at_ns));
        let first = known.next()?;
        Some(known.fold(first, Bound::and))
    };
    let Some((begin, end)) = at(from).zip(at(to)) else { return ShiftBounds::Unknown };
    ShiftBounds::Within(ClockOffset { low_ns: begin.low_ns.min(end.low_ns), high_ns: begin.high_ns.max(end.high_ns) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1_000_000;

    /// An exchange that begins at a time of the shard's clock, with the shift at that time, and how long the packets
    /// take.
    fn exchange(at_ns: i64, shift_ns: i64, there_ns: i64, back_ns: i64) -> ClockExchange {
        let tick = |ns: i64| Tick(ns as u64);
        let received_ns = at_ns + there_ns + 1_000;
        ClockExchange {
            sent: tick(at_ns),
            first_received: tick(at_ns + there_ns + shift_ns),
            first_sent: tick(received_ns + shift_ns),
            received: tick(received_ns + back_ns),
        }
    }

    fn within(exchanges: &[ClockExchange], to_ns: i64) -> ClockOffset {
        match shift_bounds(exchanges, (Tick(1_000_000_000), Tick(to_ns as u64))) {
            ShiftBounds::Within(offset) => offset,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        /// Whatever the packets take in each direction, and however the clocks drift, the shift at both ends is inside.
        #[test]
        fn the_shift_is_always_within(
            shift in -1_000_000_000_000i64..1_000_000_000_000,
            drift_ppm in -400i64..400,
            delays in prop::collection::vec((0i64..20 * MS, 0i64..20 * MS), 1..40),
        ) {
            let (begin, second) = (1_000_000_000i64, 1_000_000_000i64);
            let shift_at = |at: i64| shift + (at - begin) * drift_ppm / 1_000_000;
            let exchanges: Vec<ClockExchange> = (0i64..)
                .zip(&delays)
                .map(|(nth, (there, back))| {
                    let at = begin + nth * second;
                    exchange(at, shift_at(at), *there, *back)
                })
                .collect();
            let end = begin + delays.len() as i64 * second;
            let ClockOffset { low_ns, high_ns } = within(&exchanges, end);
            for at in [begin, end] {
                prop_assert!(low_ns <= shift_at(at) && shift_at(at) <= high_ns, "{} {low_ns} {high_ns}", shift_at(at));
            }
        }
    }

    #[test]
    fn quick_exchanges_are_narrow_and_slow_ones_do_not_widen_them() {
        let quick = |at| exchange(at, 5 * MS, 20_000, 30_000);
        let slow = |at| exchange(at, 5 * MS, 90 * MS, 20_000);
        let begin = 1_000_000_000;
        let ClockOffset { low_ns, high_ns } = within(&[quick(begin), slow(begin + MS), quick(begin + 2 * MS)], begin);
        assert!(low_ns <= 5 * MS && 5 * MS <= high_ns && high_ns - low_ns < 60_000, "{low_ns} {high_ns}");
    }

    #[test]
    fn a_clock_that_jumps_is_found_with_its_time() {
        let at = |second: i64| 1_000_000_000 * (second + 1);
        let exchanges: Vec<ClockExchange> =
            (0..10).map(|s| exchange(at(s), if s < 6 { 0 } else { 50 * MS }, 100_000, 100_000)).collect();
        let found = shift_bounds(&exchanges, (Tick(0), Tick(at(10) as u64)));
        assert!(matches!(found, ShiftBounds::Jumped { at: found } if (found.0 as i64 - at(6)).abs() < MS), "{found:?}");
        assert_eq!(shift_bounds(&[], (Tick(0), Tick(1))), ShiftBounds::Unknown);
    }

    /// Files may have any numbers.
    #[test]
    fn extreme_times_do_not_overflow() {
        let most = Tick(u64::MAX);
        let odd = [
            ClockExchange { sent: most, first_received: Tick(0), first_sent: most, received: Tick(0) },
            ClockExchange { sent: Tick(1 << 63), first_received: most, first_sent: Tick(0), received: most },
            ClockExchange::default(),
        ];
        let _ = shift_bounds(&odd, (Tick(0), most));
        let _ = shift_bounds(&odd[..1], (most, Tick(1 << 63)));
    }
}
