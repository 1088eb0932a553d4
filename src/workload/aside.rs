//! Prompts outside the measured ones: those of the connection test and of the witness.

use super::context::Context;
use super::error::WorkloadError;
use super::item::{Item, user_message};
use super::recipe::Recipe;
use super::tokens::Tokens;
use crate::api::prompt::Prompt;
use crate::finding::Finding;

/// The text of the connection test. It has nothing in common with measured prompts that a prefix cache could use.
const TEST: &str = "Hi";

/// Prompts that are kept apart at the end of the data: those of the witness, and one for a connection test that needs a
/// whole body.
pub fn count(recipe: &Recipe) -> u64 {
    let is_for_test = recipe.tests_connection && !recipe.source.is_generated();
    recipe.witness + u64::from(is_for_test)
}

/// Takes prompts that are kept apart off the end of the data. Empty if there are none beyond those that the run needs,
/// or, when only its duration ends the run, if they would be more than a quarter of the data.
pub fn take(recipe: &Recipe, context: &Context<'_>, items: &mut Vec<Item>) -> Vec<Item> {
    let (all, wanted) = (items.len() as u64, context.aside);
    let kept = match recipe.needed {
        _ if recipe.source.is_generated() => all - wanted,
        // The first prompts of a stream: as many as are needed.
        _ if recipe.is_streamed() => all.saturating_sub(wanted).max(1),
        _ if recipe.source.repeats_by_design() => all,
        Some(needed) => needed.clamp(1, all),
        None if recipe.witness == 0 && !is_body(items.last()) => all,
        None => all - wanted.min(all / 4),
    };
    let mut apart = items.split_off(kept as usize);
    apart.truncate(wanted as usize);
    apart
}

fn is_body(item: Option<&Item>) -> bool {
    item.is_some_and(|item| matches!(item.prompt, Prompt::Body(_)))
}

/// The prompt of the connection test: a short one of the same kind as the last prompt of the data. A whole body cannot
/// be shortened, so `apart` is sent, or that last prompt.
pub fn test(items: &[Item], apart: Option<&Item>, tokens: Option<&Tokens>) -> Result<Item, WorkloadError> {
    let last = items.last().expect("a data set has at least one prompt");
    let prompt = match &last.prompt {
        _ if !last.turns.is_empty() => Prompt::Messages(vec![user_message(TEST)]),
        Prompt::Body(_) => return Ok(Item { output_tokens: None, ..apart.unwrap_or(last).clone() }),
        Prompt::Text(_) => Prompt::Text(TEST.to_string()),
        Prompt::Messages(_) => Prompt::Messages(vec![user_message(TEST)]),
        Prompt::Tokens(ids) => match tokens {
            Some(tokens) => Prompt::Tokens(tokens.tokenizer.encode_prompt(TEST)?),
            None => Prompt::Tokens(ids.iter().take(1).copied().collect()),
        },
        Prompt::Embedding(_) => Prompt::Embedding(vec![TEST.to_string()]),
        Prompt::Rerank { .. } => Prompt::Rerank { query: TEST.to_string(), documents: vec![TEST.to_string()] },
    };
    Ok(Item::new(prompt))
}

/// Notes about prompts that are sent more than once without a flag that asks for it.
pub fn report(recipe: &Recipe, items: &[Item], apart: &[Item], test: &Item, notes: &mut Vec<Finding>) {
    if recipe.source.is_generated() || recipe.source.repeats_by_design() {
        return;
    }
    let prompts = items.len() as u64;
    if let Some(needed) = recipe.needed.filter(|needed| *needed > prompts) {
        notes.push(Finding::PromptsRepeat { prompts, requests: needed, most: needed.div_ceil(prompts) });
        // The prompts of the witness and the connection test are among those.
        return;
    }
    let test_repeats = recipe.tests_connection && is_body(Some(test)) && apart.is_empty();
    let witness_repeats = recipe.witness > 0 && apart.is_empty();
    if test_repeats {
        notes.push(Finding::TestRepeatsPrompt);
    }
    if witness_repeats {
        notes.push(Finding::WitnessRepeatsPrompts { prompts });
    }
}
