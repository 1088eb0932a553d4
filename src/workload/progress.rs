//! How far the progress of requests has come: written by the threads that make them, read by whoever shows a bar.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Progress of what goes on before the clock starts and after it ends. One step at a time.
#[derive(Debug, Default)]
pub struct StepProgress {
    what: Mutex<Cow<'static, str>>,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicBool,
}

/// See [`StepProgress::reading`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSnapshot {
    /// What is made, as the label of a bar; empty before anything is.
    pub what: Cow<'static, str>,
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
    /// Bytes are counted.
    pub bytes: bool,
}

impl StepProgress {
    /// A new step begins: what is made, and how many of it (0: not known).
    pub fn begin(&self, what: &'static str, total: u64) {
        self.label(Cow::Borrowed(what), false);
        self.go_to(0, total);
    }

    /// A new step begins, and its bytes are counted.
    pub fn begin_bytes(&self, what: String) {
        self.label(Cow::Owned(what), true);
        self.go_to(0, 0);
    }

    /// So many are made, of so many (0: not known).
    pub fn go_to(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn label(&self, what: Cow<'static, str>, bytes: bool) {
        // The label is only shown: one that a panicking thread left behind does no harm.
        *self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = what;
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// So many more are made.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Where the step stands.
    pub fn reading(&self) -> StepSnapshot {
        StepSnapshot {
            what: self.what.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
