//! The offset of two clocks as an interval that contains it, from messages that cannot arrive before they were sent.
//!
//! Shard 0 composes its message of round `r` at `f[r]` of its clock; another shard composes its own at `s[r]`, and has all
//! messages of the round at `e[r]`, of its clock. With `theta` = clock of shard 0 − clock of the other:
//!
//! - The message of shard 0 was composed before it was received: `f[r] <= e[r] + theta`.
//! - Shard 0 goes on to round `r + 1` after it has the other's message of round `r`: `s[r] + theta <= f[r + 1]`.
//!
//! Nothing is assumed about how long messages take in either direction. Rounds that follow each other at once give the
//! narrowest interval.

use crate::record::facts::ClockOffset;

/// The interval so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct OffsetBounds {
    low_ns: i64,
    high_ns: i64,
    /// When the own message of the last round was composed.
    sent_ns: Option<i64>,
}

impl Default for OffsetBounds {
    fn default() -> OffsetBounds {
        OffsetBounds { low_ns: i64::MIN, high_ns: i64::MAX, sent_ns: None }
    }
}

impl OffsetBounds {
    /// Adds a round. `first_ns`: when shard 0 composed its message; `sent_ns` and `received_ns`: when this shard composed
    /// its own, and had all of them.
    pub(super) fn add_round(&mut self, first_ns: i64, sent_ns: i64, received_ns: i64) {
        self.low_ns = self.low_ns.max(first_ns.saturating_sub(received_ns));
        if let Some(before_ns) = self.sent_ns.replace(sent_ns) {
            self.high_ns = self.high_ns.min(first_ns.saturating_sub(before_ns));
        }
    }

    /// The interval; `None` with fewer than two rounds, and if no offset fits all of them because a clock was set.
    pub(super) fn interval(&self) -> Option<ClockOffset> {
        let is_bounded = self.low_ns > i64::MIN && self.high_ns < i64::MAX;
        let offset = ClockOffset { low_ns: self.low_ns, high_ns: self.high_ns };
        (is_bounded && self.low_ns <= self.high_ns).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rounds of two shards, in true time: how long each waits before its message, and how long the messages take.
    fn bounds(theta: i64, rounds: &[(i64, i64, i64, i64)], step: Option<(usize, i64)>) -> OffsetBounds {
        let (mut bounds, mut first_at, mut other_at) = (OffsetBounds::default(), 0, 0);
        for (round, &(first_waits, other_waits, there, back)) in rounds.iter().enumerate() {
            let (first, other) = (first_at + first_waits, other_at + other_waits);
            // Shard 0 has both messages, and then the other does.
            first_at = first.max(other + there);
            other_at = first_at + back;
            let set = step.filter(|(at, _)| round >= *at).map_or(0, |(_, by)| by);
            // The clock of shard 0 is ahead by theta.
            bounds.add_round(first + theta, other + set, other_at + set);
        }
        bounds
    }

    proptest! {
        #[test]
        fn the_offset_is_always_within(
            theta in -1_000_000_000i64..1_000_000_000,
            rounds in prop::collection::vec((0i64..50, 0i64..50, 0i64..90, 0i64..90), 2..12),
        ) {
            let ClockOffset { low_ns, high_ns } = bounds(theta, &rounds, None).interval().unwrap();
            prop_assert!(low_ns <= theta && theta <= high_ns, "{theta} {low_ns} {high_ns}");
        }

        /// A path that is slow in one direction makes the interval wide, not wrong.
        #[test]
        fn quick_rounds_are_as_wide_as_the_messages_take(there in 0i64..9, back in 0i64..9, slow in 0i64..9000) {
            let quick = [(slow, 3, there, back), (0, 0, there, back), (0, 0, there, back)];
            let ClockOffset { low_ns, high_ns } = bounds(5, &quick, None).interval().unwrap();
            prop_assert!(low_ns <= 5 && 5 <= high_ns && high_ns - low_ns <= 3 * (there + back) + 1);
        }
    }

    #[test]
    fn a_clock_that_is_set_leaves_no_offset() {
        let quick = [(0, 0, 1, 1); 6];
        assert!(bounds(7, &quick, None).interval().is_some());
        assert!(bounds(7, &quick, Some((3, 1000))).interval().is_none());
        assert!(bounds(7, &quick, Some((3, -1000))).interval().is_none());
        assert!(bounds(7, &quick[..1], None).interval().is_none());
    }
}
