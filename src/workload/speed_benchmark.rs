//! `--dataset speed_benchmark`: the same character repeated to set lengths, each twice, as Qwen's speed tables were
//! made.

use super::error::WorkloadError;
use super::item::Item;
use super::tokens::Tokens;
use crate::api::prompt::Prompt;

/// A character that is one token in the vocabularies these tables are about.
const SIGN: &str = "熵";
const LENGTHS: [usize; 4] = [1, 6144, 14_336, 30_720];
const LONG_LENGTHS: [usize; 2] = [63_488, 129_024];
const REPEATS: usize = 2;

/// Requests of a whole pass.
pub fn size(long: bool) -> u64 {
    (REPEATS * lengths(long).len()) as u64
}

fn lengths(long: bool) -> &'static [usize] {
    if long { &LONG_LENGTHS } else { &LENGTHS }
}

/// The prompts of one pass. With a tokenizer each counts exactly as many tokens as its length says; without one it has
/// as many characters.
pub fn read(long: bool, tokens: Option<&Tokens>) -> Result<Vec<Item>, WorkloadError> {
    let mut items = Vec::with_capacity(REPEATS * lengths(long).len());
    for length in lengths(long) {
        let prompt = match tokens {
            None => Prompt::Text(SIGN.repeat(*length)),
            Some(tokens) => exact(*length, tokens)?,
        };
        items.extend(std::iter::repeat_n(Item::new(prompt), REPEATS));
    }
    Ok(items)
}

/// As many tokens of the repeated character as `length` says.
fn exact(length: usize, tokens: &Tokens) -> Result<Prompt, WorkloadError> {
    let tokenizer = &tokens.tokenizer;
    // One character may be several tokens, and several may be one: fill up until there are enough, then cut.
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
    // The cut may have gone through a character, or its end may join otherwise alone: only the count can tell.
    let counted = tokenizer.count(&text)?;
    if counted == length as u64 {
        return Ok(Prompt::Text(text));
    }
    Err(WorkloadError::Data(format!(
        "this tokenizer cannot make a prompt of exactly {length} tokens from '{SIGN}' ({counted} come out): leave \
         --tokenizer-path out to send {length} characters, or add --tokenize-prompt to send ids"
    )))
}
