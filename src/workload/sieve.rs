//! Selection of prompts by their length.

use super::context::{Context, Lengths};
use super::error::WorkloadError;
use super::item::Item;
use super::parallel;
use super::tokens::Tokens;
use crate::api::prompt::Prompt;

/// Prompts measured together, on all cores.
const BATCH: usize = 256;

/// Keeps prompts with the requested length until there are enough.
pub struct Sieve<'a> {
    context: &'a Context<'a>,
    wanted: u64,
    kept: Vec<Item>,
    /// Not measured yet.
    pending: Vec<Item>,
    /// The first error while measuring.
    error: Option<WorkloadError>,
    read: u64,
    shortest: u64,
    longest: u64,
}

impl<'a> Sieve<'a> {
    /// An empty sieve for the prompts that the run needs.
    pub fn new(context: &'a Context<'a>) -> Sieve<'a> {
        Sieve {
            context,
            wanted: context.wanted(),
            kept: Vec::new(),
            pending: Vec::new(),
            error: None,
            read: 0,
            shortest: u64::MAX,
            longest: 0,
        }
    }

    /// Takes one prompt. Returns whether more are needed.
    pub fn take(&mut self, item: Item) -> bool {
        self.read += 1;
        if self.context.lengths == Lengths::default() {
            // Any length is fine, so nothing is measured.
            self.kept.push(item);
            return (self.kept.len() as u64) < self.wanted;
        }
        self.pending.push(item);
        let batch = if self.context.tokens.is_some() { BATCH } else { 1 };
        if self.pending.len() >= batch {
            self.measure();
        }
        self.error.is_none() && (self.kept.len() as u64) < self.wanted
    }

    /// Measures the pending prompts and keeps those that fit.
    fn measure(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let measured = parallel::map(pending.len(), |place| {
            length(&pending[place].prompt, self.context.tokens)
                .map_err(|error| pending[place].error(self.context.path, error.to_string()))
        });
        let lengths = match measured {
            Ok(lengths) => lengths,
            Err(error) => {
                self.error.get_or_insert(error);
                return;
            }
        };
        for (item, length) in pending.into_iter().zip(lengths) {
            if self.fits(length) && (self.kept.len() as u64) < self.wanted {
                self.kept.push(item);
            }
        }
    }

    fn fits(&mut self, length: Option<u64>) -> bool {
        let Some(length) = length else { return true };
        self.shortest = self.shortest.min(length);
        self.longest = self.longest.max(length);
        self.context.lengths.holds(length)
    }

    /// Whether no prompt was taken.
    pub fn has_seen_none(&self) -> bool {
        self.read == 0
    }

    /// The kept prompts, from the offset on.
    pub fn finish(mut self) -> Result<Vec<Item>, WorkloadError> {
        self.measure();
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.kept.is_empty() {
            return Err(WorkloadError::NothingLeft {
                read: self.read,
                min: self.context.lengths.min,
                max: self.context.lengths.max.map_or("none".to_string(), |max| max.to_string()),
                shortest: self.shortest.min(self.longest),
                longest: self.longest,
                unit: if self.context.tokens.is_some() { "tokens" } else { "characters" },
            });
        }
        self.context.after_offset(self.kept, self.wanted)
    }
}

/// Length of a prompt, in tokens with a tokenizer, else in characters; `None` for a whole request body.
pub(super) fn length(prompt: &Prompt, tokens: Option<&Tokens>) -> Result<Option<u64>, WorkloadError> {
    if let Some(tokens) = tokens {
        return tokens.length(prompt);
    }
    let chars = |text: &str| text.chars().count() as u64;
    Ok(match prompt {
        Prompt::Text(text) => Some(chars(text)),
        Prompt::Messages(messages) => {
            Some(messages.iter().filter_map(|message| message.get("content")?.as_str()).map(chars).sum())
        }
        Prompt::Tokens(ids) => Some(ids.len() as u64),
        Prompt::Embedding(texts) => Some(texts.iter().map(|text| chars(text)).sum()),
        Prompt::Rerank { query, documents } => {
            Some(chars(query) + documents.iter().map(|document| chars(document)).sum::<u64>())
        }
        Prompt::Body(_) => None,
    })
}
