//! Unix times of a run's ticks.

use crate::report::Measured;

/// Unix time of a tick, nanoseconds.
pub fn unix_ns(run: &Measured, tick_ns: u64) -> i64 {
    (tick_ns as i64).wrapping_add(run.run.clock.offset_ns())
}
