//! Progress of long steps before and after a run, written by worker threads and read by the progress bar.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Progress of the current step: building requests, downloading files, counting tokens.
#[derive(Debug, Default)]
pub struct StepProgress {
    what: Mutex<Cow<'static, str>>,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicBool,
}

/// A snapshot of the progress; see [`StepProgress::reading`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSnapshot {
    /// Label of the step; empty before the first.
    pub what: Cow<'static, str>,
    pub done: u64,
    /// 0 if it is unknown.
    pub total: u64,
    /// The unit is bytes.
    pub bytes: bool,
}

impl StepProgress {
    /// Begins a new step with its label and its total (0: unknown).
    pub fn begin(&self, what: &'static str, total: u64) {
        self.label(Cow::Borrowed(what), false);
        self.go_to(0, total);
    }

    /// Begins a new step that counts bytes, with an unknown total.
    pub(crate) fn begin_bytes(&self, what: String) {
        self.label(Cow::Owned(what), true);
        self.go_to(0, 0);
    }

    /// Sets the progress and the total (0: unknown).
    pub(crate) fn go_to(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn label(&self, what: Cow<'static, str>, bytes: bool) {
        // A label left by a panicking thread is harmless: it is only shown.
        *self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = what;
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds to the progress.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// The state of the current step.
    pub fn reading(&self) -> StepSnapshot {
        StepSnapshot {
            what: self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
