//! `target_input_len` of `--dataset-args`: texts of a dataset cut to a number of tokens, chat template not counted.

use super::error::WorkloadError;
use super::tokenizer::Tokenizer;
use crate::api::prompt::Prompt;

/// What a tokenizer decodes for a part of a character.
const INCOMPLETE: char = '\u{fffd}';

/// The length that texts are fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Maximum tokens of a text.
    pub tokens: u64,
    /// Whether texts with fewer tokens are skipped.
    pub drops_shorter: bool,
}

/// The prompt with at most the wanted number of tokens; `None` if it is skipped.
///
/// # Errors
/// If it is not a text.
pub fn fitted(prompt: Prompt, fit: Fit, tokenizer: &Tokenizer) -> Result<Option<Prompt>, WorkloadError> {
    let Prompt::Text(mut text) = prompt else {
        let what = "target_input_len cuts texts, and this is a list of messages or a request body: remove it from \
                    --dataset-args";
        return Err(WorkloadError::Data(what.to_string()));
    };
    let ids = tokenizer.encode(&text)?;
    let mut kept = (ids.len() as u64).min(fit.tokens);
    let mut counted = ids.len() as u64;
    // A text that ends within a word can have other tokens than those that it is decoded from.
    while counted > fit.tokens && kept > 0 {
        text = tokenizer.decode(&ids[..kept as usize])?;
        text.truncate(text.trim_end_matches(INCOMPLETE).len());
        counted = tokenizer.count(&text)?;
        kept = kept.saturating_sub(counted.saturating_sub(fit.tokens).max(1));
    }
    let is_skipped = text.is_empty() || (fit.drops_shorter && counted < fit.tokens);
    Ok((!is_skipped).then_some(Prompt::Text(text)))
}
