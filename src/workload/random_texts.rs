//! `--dataset random_embedding` and `random_rerank`: texts of independent random tokens, in exact lengths.

use serde_json::{Map, Value};

use super::making::Making;
use super::random::{RandomLengths, RandomText, make_each};
use super::read::Item;
use super::tokens::Tokens;
use super::{Purpose, Recipe, WorkloadError, draw};
use crate::api::render::Prompt;
use crate::finding::Finding;

/// Most texts in one request: more is a slip.
const MAX_TEXTS: u64 = 10_000;

/// What stands in one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Texts {
    /// So many texts of the drawn length each.
    Embedding { batch: u32 },
    /// A query of the drawn length, and documents that are so many times as long.
    Rerank { documents: u32, length_ratio: f64 },
}

impl Texts {
    /// Takes `batch_size` out of `--extra-args`.
    pub fn embedding(extra: &mut Map<String, Value>) -> Result<Texts, String> {
        Ok(Texts::Embedding { batch: count(extra, "batch_size", 1)? })
    }

    /// Takes `num_documents` and `document_length_ratio` out of `--extra-args`.
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

/// All requests of the run.
pub fn read(
    lengths: &RandomLengths,
    texts: Texts,
    recipe: &Recipe,
    tokens: &Tokens,
    making: &Making,
    notes: &mut Vec<Finding>,
) -> Result<Vec<Item>, WorkloadError> {
    let random = RandomText::new(tokens, recipe.seed)?;
    make_each("Making prompts", recipe, making, notes, |index, residuals| {
        let length = draw::uniform_at(recipe.seed, Purpose::PromptLength, index, lengths.min, lengths.max) as usize;
        // Each text has a number of its own; the first is the query's.
        let text = |nth: u64, length: usize| {
            let made = random.independent(index.wrapping_mul(MAX_TEXTS + 1) + nth, length);
            made.map(|made| residuals.note(made))
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
