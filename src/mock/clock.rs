//! The mock's clock. One function, so that it stands on the same time scale as the client's.

#![expect(clippy::disallowed_methods, reason = "the mock writes the time of day into its answers")]

use rustix::time::{ClockId, clock_gettime};

use crate::time::{S, Tick};

/// This instant. Reads `CLOCK_MONOTONIC` through the vDSO, without a system call.
pub(super) fn now() -> Tick {
    let time = clock_gettime(ClockId::Monotonic);
    Tick(time.tv_sec as u64 * S + time.tv_nsec as u64)
}

/// Seconds since 1970, for the `created` field of answers.
pub(super) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let mut last = now();
        for _ in 0..1_000 {
            let this = now();
            assert!(this >= last);
            last = this;
        }
        assert!(last.0 > 0);
    }
}
