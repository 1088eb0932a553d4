//! Why a search selected a load, and why a load does not count, as typed values.

use serde::{Deserialize, Serialize};

/// Why a search selected a load, or none. Loads are requests in flight or requests per second.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchReason {
    /// Every load up to the upper bound holds.
    HoldsToUpperBound,
    FailsAtLowerBound {
        lower: f64,
    },
    HoldsHere {
        fails_at: f64,
    },
    /// A higher load holds again: the runs vary.
    HoldsAgain {
        fails_at: f64,
        holds_at: f64,
    },
    /// Figures that must be at least something are too low at one load, and other conditions fail at the next.
    Between {
        too_little_at: f64,
        fails_at: f64,
    },
    TooLittleEverywhere,
    Best,
    /// Requests failed at every load, or the figure is missing.
    NoneUsable,
    /// The search ended early.
    Undecided {
        has_best: bool,
    },
}

/// Why the figures of a load do not count in a search.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchTrouble {
    /// Number of the run at this load, from 1.
    Void {
        run: usize,
    },
    Failed {
        run: usize,
        succeeded: u64,
        sent: u64,
    },
    /// This machine cannot offer the load.
    OpenFiles(OpenFiles),
    /// The same, as an earlier version stored it.
    Refused(String),
}

/// More open files are needed than this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    pub parallel: u32,
    pub needed: u64,
    pub limit: u64,
    /// The built-in server holds the other end of every connection in the same process.
    pub with_mock: bool,
}
