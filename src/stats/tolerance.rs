//! How far a time measured by the client and the same time measured by the server may differ before they contradict
//! each other.

use super::client::Client;
use super::measurement_error::StampError;
use crate::finding::{ApartFigure, Figure, NotJudged};

/// What the jitter of the server's frontend (writing the tokens to the socket) may add to gaps between tokens, seconds.
pub(super) const JITTER_S: f64 = 100e-6;
/// The same as a share of the server's figure: delays on a busy machine grow with its service times.
pub(super) const SLACK: f64 = 0.1;
/// Means of gaps may also differ by this share: a busy frontend needs longer for the first token, which starts the
/// response, than for the last one, and some servers count one token more or less over the same time.
pub(super) const PER_TOKEN_SLACK: f64 = 0.02;
/// If a larger share of the reads has no kernel timestamp, arrivals are late by the receive lag.
const UNSTAMPED: f64 = 0.001;

/// What the client contributes to the difference of a time, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The error of an arrival.
    pub measurement_error_s: f64,
}

impl Tolerance {
    /// From the client's delays and the error of the kernel's timestamps.
    pub(crate) fn compute(client: &Client, stamp: &StampError) -> Tolerance {
        let unstamped = 1.0 - client.stamped_reads.unwrap_or(0.0);
        let stamp_s = stamp.ns as f64 / 1e9;
        let lag_s = client.receive_lag.p99 as f64 / 1e9;
        Tolerance { measurement_error_s: if unstamped > UNSTAMPED { lag_s.max(stamp_s) } else { stamp_s } }
    }
}

/// The result of comparing a time of the client with the same time of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Consistent,
    /// They differ by this many seconds more than bucket widths and tolerances allow; positive if the client's is
    /// longer.
    Apart {
        by_s: f64,
    },
    /// They are not comparable, for this reason.
    NotJudged(NotJudged),
}

impl Verdict {
    /// The difference of `figure`, if it is one.
    pub(super) fn apart(&self, figure: Figure) -> Option<ApartFigure> {
        let Verdict::Apart { by_s } = self else { return None };
        Some(ApartFigure { figure, by_ns: (by_s.abs() * 1e9) as u64, longer_here: *by_s > 0.0 })
    }
}

/// The distance of `[low, high]` from another interval: positive above it, negative below it, 0 if they overlap.
pub(super) fn beyond(low: f64, high: f64, other_low: f64, other_high: Option<f64>) -> f64 {
    match other_high {
        Some(other_high) if low > other_high => low - other_high,
        _ if high < other_low => high - other_low,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_meet_are_not_apart() {
        assert_eq!(beyond(1.0, 3.0, 2.0, Some(4.0)), 0.0);
        assert_eq!(beyond(5.0, 6.0, 2.0, Some(4.0)), 1.0);
        assert_eq!(beyond(0.5, 1.0, 2.0, None), -1.0);
        assert_eq!(beyond(9.0, 9.0, 2.0, None), 0.0);
    }
}
