//! The common inputs of all data sets.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::WorkloadError;
use super::fit::Fit;
use super::item::Item;
use super::parallel;
use super::progress::StepProgress;
use super::random_text::number;
use super::residuals::Residuals;
use super::rng::Randomness;
use super::stream::{Builders, ENDLESS};
use super::tokens::Tokens;

/// What a data set is read or generated with.
#[derive(Debug)]
pub struct Context<'a> {
    pub randomness: Randomness,
    /// Prompts to skip at the start of the data.
    pub offset: u64,
    /// How many of these are not used when the data starts again either; see [`super::recipe::Recipe::skipped`].
    pub skipped: u64,
    /// Prompts that measured requests and the warm-up can use at most; `None` when only its duration ends the run.
    pub needed: Option<u64>,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// Further prompts for the witness and the connection test.
    pub aside: u64,
    pub lengths: Lengths,
    /// See [`super::recipe::Recipe::fit`].
    pub fit: Option<Fit>,
    /// Model name of the requests.
    pub model: &'a str,
    /// See [`super::recipe::Recipe::plugin_arguments`].
    pub plugin_arguments: &'a Map<String, Json>,
    /// The file of the data set, for error messages.
    pub path: Option<&'a Path>,
    pub tokens: Option<&'a Tokens>,
    pub progress: &'a StepProgress,
    pub residuals: &'a Residuals,
    /// Set if bodies are built while earlier ones are sent: a data set passes its prompts to it and returns none.
    pub builders: Option<&'a Builders<'a>>,
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
            // One that stands for those that are built later.
            None if self.builders.is_some() => (1, self.warmup),
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
        self.generate_counted(what, make, |_| 1)
    }

    /// The same of conversations. `turns` is the number of turns of the conversation with a number.
    pub(crate) fn generate_counted(
        &self,
        what: &'static str,
        make: impl Fn(u64) -> Result<Item, WorkloadError> + Sync,
        turns: impl Fn(u64) -> u64 + Sync,
    ) -> Result<Vec<Item>, WorkloadError> {
        let (measured, warmup) = self.generated();
        let items = self.generate_count(what, measured + warmup + self.aside, |place| {
            make(match place {
                _ if place < measured => self.offset.wrapping_add(place),
                _ if place < measured + warmup => number::warmup(measured + warmup - 1 - place),
                _ => number::witness(place - measured - warmup),
            })
        })?;
        let Some(builders) = self.builders else { return Ok(items) };
        builders.begin(what, items);
        let number = |index: u64| self.offset.wrapping_add(index);
        builders.build_any(|index| make(number(index)), |index| turns(number(index)));
        Ok(Vec::new())
    }

    /// Passes prompts to the builders that come one after the other; see [`Builders::build_in_order`]. Those before the
    /// offset are passed over.
    pub(crate) fn pass_in_order(
        &self,
        builders: &Builders<'_>,
        mut pass: impl FnMut(&mut dyn FnMut(Item) -> bool) -> Result<(), WorkloadError>,
    ) -> Result<(), WorkloadError> {
        let mut used_before = self.offset.saturating_sub(self.skipped);
        // One like the measured ones, those of the warm-up, and those kept apart.
        let before = 1 + self.warmup.saturating_add(self.aside);
        builders.build_in_order("Building requests", before as usize, |take| {
            let mut taken = false;
            while !taken {
                let mut read = 0;
                pass(&mut |item| {
                    read += 1;
                    if read <= self.skipped {
                        return true;
                    }
                    if used_before > 0 {
                        used_before -= 1;
                        return true;
                    }
                    taken = true;
                    take(item)
                })?;
                if read == 0 {
                    return Err(WorkloadError::Data("no prompt has the requested length".to_string()));
                }
                self.check_offset(read)?;
            }
            Ok(())
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
    /// cycles through those that are not skipped, so that only earlier runs of the call can move the start beyond its end.
    pub(crate) fn after_offset(&self, mut items: Vec<Item>, wanted: u64) -> Result<Vec<Item>, WorkloadError> {
        let count = items.len() as u64;
        self.check_offset(count)?;
        if count < wanted {
            items.drain(..self.skipped as usize);
            let used_before = self.offset.saturating_sub(self.skipped);
            let start = used_before % items.len() as u64;
            items.rotate_left(start as usize);
        } else {
            items.drain(..self.offset.min(count - 1) as usize);
        }
        Ok(items)
    }

    /// Rejects an offset that skips all of the data, which has `count` prompts.
    fn check_offset(&self, count: u64) -> Result<(), WorkloadError> {
        if self.skipped < count { Ok(()) } else { Err(WorkloadError::AllSkipped { offset: self.skipped, count }) }
    }
}
