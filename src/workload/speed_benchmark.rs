//! `--dataset speed_benchmark`: one character repeated to fixed lengths, each twice, as in Qwen's speed benchmark.

use super::error::WorkloadError;
use super::item::Item;
use super::tokens::Tokens;
use crate::api::prompt::Prompt;

/// A character that is one token in Qwen's vocabularies.
const SIGN: &str = "熵";
/// The lengths of evalscope's `speed_benchmark`, tokens.
pub const LENGTHS: [usize; 4] = [1, 6144, 14_336, 30_720];
/// Those of `speed_benchmark_long`.
pub const LONG_LENGTHS: [usize; 2] = [63_488, 129_024];
const REPEATS: usize = 2;

/// Number of requests of one pass over so many lengths.
pub fn size(lengths: usize) -> u64 {
    (REPEATS * lengths) as u64
}

/// The prompts of one pass. A length is in tokens with a tokenizer, else in characters.
pub fn read(lengths: &[usize], tokens: Option<&Tokens>) -> Result<Vec<Item>, WorkloadError> {
    let mut items = Vec::with_capacity(REPEATS * lengths.len());
    for length in lengths {
        let prompt = match tokens {
            None => Prompt::Text(SIGN.repeat(*length)),
            Some(tokens) => exact(*length, tokens)?,
        };
        items.extend(std::iter::repeat_n(Item::new(prompt), REPEATS));
    }
    Ok(items)
}

/// The character repeated to exactly `length` tokens.
fn exact(length: usize, tokens: &Tokens) -> Result<Prompt, WorkloadError> {
    let tokenizer = &tokens.tokenizer;
    // One character may be several tokens, and several characters may be one: extend until there are enough, then cut.
    let mut signs = length;
    let mut ids = tokenizer.encode(&SIGN.repeat(signs))?;
    while ids.len() < length {
        signs = signs * length / ids.len().max(1) + 1;
        ids = tokenizer.encode(&SIGN.repeat(signs))?;
    }
    ids.truncate(length);
    if tokens.ids {
        return Ok(Prompt::Tokens(ids));
    }
    let text = tokenizer.decode(&ids)?;
    // The cut may split a character, or the last tokens may merge differently, so the text is counted.
    let counted = tokenizer.count(&text)?;
    if counted == length as u64 {
        return Ok(Prompt::Text(text));
    }
    Err(WorkloadError::Data(format!(
        "this tokenizer cannot make a prompt of exactly {length} tokens from '{SIGN}' ({counted} result): leave \
         --tokenizer-path out to send {length} characters, or add --tokenize-prompt to send ids"
    )))
}
