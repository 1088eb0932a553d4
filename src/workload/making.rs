//! How far the making of requests has come: written by the threads that make them, read by whoever shows a bar.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Progress of what goes on before the clock starts and after it ends. One step at a time.
#[derive(Debug, Default)]
pub struct Making {
    what: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

/// See [`Making::reading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MakingReading {
    /// What is made, as the label of a bar; empty before anything is.
    pub what: &'static str,
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
}

impl Making {
    /// A new step begins: what is made, and how many of it (0: not known).
    pub fn begin(&self, what: &'static str, total: u64) {
        // The label is only shown: one that a panicking thread left behind does no harm.
        *self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = what;
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So many more are made.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Where the step stands.
    pub fn reading(&self) -> MakingReading {
        MakingReading {
            what: *self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }
}
