//! The common inputs of all data sets.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::WorkloadError;
use super::item::Item;
use super::parallel;
use super::progress::StepProgress;
use super::random_text::number;
use super::rng::Randomness;
use super::tokens::Tokens;
use crate::finding::Finding;

/// Prompts generated or read when only the duration ends the run. The run then cycles through them.
pub const ENDLESS: u64 = 1000;

/// What a data set is read or generated with.
#[derive(Debug)]
pub struct Context<'a> {
    pub randomness: Randomness,
    /// Prompts to skip at the start of the data.
    pub offset: u64,
    /// Prompts that measured requests and the warm-up can use at most; `None` when only its duration ends the run.
    pub needed: Option<u64>,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// Further prompts for the witness and the connection test.
    pub aside: u64,
    pub lengths: Lengths,
    /// Model name of the requests.
    pub model: &'a str,
    /// The file of the data set, for error messages.
    pub path: Option<&'a Path>,
    pub tokens: Option<&'a Tokens>,
    pub progress: &'a StepProgress,
    pub residuals: Residuals,
}

/// Prompt lengths to use, both ends included: tokens with a tokenizer, else characters. Whole request bodies are not
/// measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    pub min: u64,
    pub max: Option<u64>,
}

impl Lengths {
    /// Whether a prompt of this length is used.
    pub fn holds(self, length: u64) -> bool {
        length >= self.min && self.max.is_none_or(|max| length <= max)
    }
}

impl<'a> Context<'a> {
    /// Prompts that are enough, counted from the start of the data.
    pub fn wanted(&self) -> u64 {
        let all = |needed: u64| needed.max(1).saturating_add(self.offset).saturating_add(self.aside);
        self.needed.map_or(u64::MAX, all)
    }

    /// Generated prompts for measured requests and for the warm-up.
    pub fn generated(&self) -> (u64, u64) {
        match self.needed {
            Some(needed) => (needed.saturating_sub(self.warmup).max(1), self.warmup.min(needed)),
            None => (ENDLESS, self.warmup.min(ENDLESS)),
        }
    }

    /// The tokenizer, or the error that `what` needs one.
    pub(crate) fn tokens_for(&self, what: &str) -> Result<&'a Tokens, WorkloadError> {
        self.tokens.ok_or_else(|| WorkloadError::Data(format!("{what} needs --tokenizer-path")))
    }

    /// Generates the prompts of the run on all cores. `make` gets the number of the prompt, see
    /// [`super::random_text::number`]. The order is that of [`super::requests::Workload::bodies`], with the prompts of
    /// the witness at the end. `what` is the label of the progress bar.
    pub fn generate(
        &self,
        what: &'static str,
        make: impl Fn(u64) -> Result<Item, WorkloadError> + Sync,
    ) -> Result<Vec<Item>, WorkloadError> {
        let (measured, warmup) = self.generated();
        self.generate_count(what, measured + warmup + self.aside, |place| {
            make(match place {
                _ if place < measured => self.offset.wrapping_add(place),
                _ if place < measured + warmup => number::warmup(measured + warmup - 1 - place),
                _ => number::witness(place - measured - warmup),
            })
        })
    }

    /// The results of `make` for the numbers from 0 to `count`, computed on all cores.
    pub(crate) fn generate_count(
        &self,
        what: &'static str,
        count: u64,
        make: impl Fn(u64) -> Result<Item, WorkloadError> + Sync,
    ) -> Result<Vec<Item>, WorkloadError> {
        self.progress.begin(what, count);
        parallel::map(count as usize, |place| {
            let item = make(place as u64)?;
            self.progress.add(1);
            Ok(item)
        })
    }

    /// Drops the prompts before the offset. If all of the data was read, which is fewer than `wanted` prompts, the run
    /// cycles through it and an offset beyond its end wraps around. `items` must not be empty.
    pub(crate) fn after_offset(&self, mut items: Vec<Item>, wanted: u64) -> Vec<Item> {
        let count = items.len() as u64;
        if count < wanted {
            items.rotate_left((self.offset % count) as usize);
        } else {
            items.drain(..self.offset.min(count - 1) as usize);
        }
        items
    }
}

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
