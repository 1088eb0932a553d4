//! `--dataset random_embedding` and `random_rerank`: texts of independent random tokens with exact lengths.

use serde_json::{Map, Value};

use super::context::Context;
use super::error::WorkloadError;
use super::item::Item;
use super::random_text::{RandomLengths, RandomText};
use crate::api::prompt::Prompt;

/// Maximum number of texts in one request.
const MAX_TEXTS: u64 = 10_000;

/// The texts of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Texts {
    /// `batch` texts of the drawn length.
    Embedding { batch: u32 },
    /// A query of the drawn length, and documents that are `length_ratio` times as long.
    Rerank { documents: u32, length_ratio: f64 },
}

impl Texts {
    /// Removes `batch_size` from `--extra-args`.
    pub fn embedding(extra: &mut Map<String, Value>) -> Result<Texts, String> {
        Ok(Texts::Embedding { batch: count(extra, "batch_size", 1)? })
    }

    /// Removes `num_documents` and `document_length_ratio` from `--extra-args`.
    pub fn rerank(extra: &mut Map<String, Value>) -> Result<Texts, String> {
        let documents = count(extra, "num_documents", 10)?;
        let length_ratio = match extra.shift_remove("document_length_ratio") {
            None => 5.0,
            Some(value) => value.as_f64().filter(|ratio| *ratio > 0.0 && *ratio <= 1000.0).ok_or_else(|| {
                format!("document_length_ratio must be a number above 0 and at most 1000, not {value}")
            })?,
        };
        Ok(Texts::Rerank { documents, length_ratio })
    }
}

fn count(extra: &mut Map<String, Value>, name: &str, default: u32) -> Result<u32, String> {
    match extra.shift_remove(name) {
        None => Ok(default),
        Some(value) => match value.as_u64() {
            Some(count @ 1..=MAX_TEXTS) => Ok(count as u32),
            _ => Err(format!("{name} must be a whole number from 1 to {MAX_TEXTS}, not {value}")),
        },
    }
}

/// Generates all requests of the run.
pub fn read(lengths: &RandomLengths, texts: Texts, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    let random = RandomText::new(context.tokens_for("this dataset")?, context.randomness)?;
    context.generate("Generating prompts", |number| {
        let length = lengths.draw(context.randomness, number) as usize;
        // Each text has a number of its own; the query has the first.
        let text = |nth: u64, length: usize| {
            let text = random.independent(number.wrapping_mul(MAX_TEXTS + 1) + nth, length);
            text.map(|text| context.residuals.note(text))
        };
        let prompt = match texts {
            Texts::Embedding { batch } => {
                let all: Result<_, _> = (0..u64::from(batch)).map(|nth| text(nth, length)).collect();
                Prompt::Embedding(all?)
            }
            Texts::Rerank { documents, length_ratio } => {
                let longer = ((length as f64 * length_ratio) as usize).max(1);
                let documents: Result<_, _> = (1..=u64::from(documents)).map(|nth| text(nth, longer)).collect();
                Prompt::Rerank { query: text(0, length)?, documents: documents? }
            }
        };
        Ok(Item::new(prompt))
    })
}
