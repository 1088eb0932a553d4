//! The mock's clock: the kernel's, on the same time scale as the client's.

#![expect(clippy::disallowed_methods, reason = "the mock writes the time of day into its answers")]

/// The present instant.
pub(super) use crate::time::clock::kernel_now as now;

/// Seconds since 1970, for the `created` field of responses.
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
