//! Statistics of generated texts whose token count is not exact.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::finding::Finding;

/// Statistics of generated texts whose token count is not exact.
#[derive(Debug, Default)]
pub struct Residuals {
    made: AtomicU64,
    off: AtomicU64,
    worst: AtomicU64,
}

impl Residuals {
    /// Records the error of a text's length, tokens, and returns the text.
    pub fn note<T>(&self, (text, off_by): (T, i64)) -> T {
        self.made.fetch_add(1, Ordering::Relaxed);
        if off_by != 0 {
            self.off.fetch_add(1, Ordering::Relaxed);
            self.worst.fetch_max(off_by.unsigned_abs(), Ordering::Relaxed);
        }
        text
    }

    /// Adds a note about the texts whose length is not exact, if there are any.
    pub fn report(&self, notes: &mut Vec<Finding>) {
        let [made, off, worst] = [&self.made, &self.off, &self.worst].map(|count| count.load(Ordering::Relaxed));
        if off > 0 {
            notes.push(Finding::PromptLengths { off, made, worst_tokens: worst });
        }
    }
}
