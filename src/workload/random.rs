//! `--dataset random`: prompts of an exact number of tokens.

use super::context::Context;
use super::error::WorkloadError;
use super::item::Item;
use super::random_text::{RandomLengths, RandomText};

/// Generates all prompts of the run.
pub fn read(lengths: &RandomLengths, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    let text = RandomText::new(context.tokens_for("--dataset random")?, context.randomness)?;
    let frame = text.frame()?;
    let prefixes = text.prefixes(lengths, frame)?;
    context.generate("Generating prompts", |number| {
        let length = u64::from(lengths.draw(context.randomness, number));
        let prefix = &prefixes[(number % prefixes.len() as u64) as usize];
        let inner = length.saturating_sub(frame).max(u64::from(lengths.prefix == 0)) as usize;
        Ok(Item::new(context.residuals.note(text.make(number, prefix, inner, frame)?)))
    })
}
