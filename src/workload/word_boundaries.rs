//! Word boundaries in a long text with known tokens, so that parts of it can be cut out without decoding.

use super::error::WorkloadError;
use super::parallel;
use super::tokens::Tokens;

/// Minimum percentage of tokens that begin a word; below, the search for one takes too long.
const LEAST_PERCENT: usize = 5;

/// The word boundaries of a line of tokens.
#[derive(Debug)]
pub struct WordBoundaries {
    text: String,
    /// By token: the offset in the text of the word that begins with it, bytes.
    at: Vec<Option<u32>>,
}

impl WordBoundaries {
    /// Finds the word boundaries of a line: a space and a letter after a character that is not white space. Tokenizers
    /// split there regardless of the context. `None` if tokens do not contain their spaces, or if the text of the line
    /// is not the concatenation of the texts of its words.
    pub fn find(tokens: &Tokens, line: &[u32]) -> Result<Option<WordBoundaries>, WorkloadError> {
        let single = parallel::map(line.len(), |place| tokens.tokenizer.decode(&line[place..=place]))?;
        let behind_a_word = |place: usize| {
            let before = if place == 0 { single.last() } else { single.get(place - 1) };
            before.and_then(|text| text.chars().next_back()).is_some_and(|last| !last.is_whitespace())
        };
        let begins = |text: &str| text.strip_prefix(' ').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
        let found: Vec<usize> =
            (0..line.len()).filter(|place| begins(&single[*place]) && behind_a_word(*place)).collect();
        if found.len() * 100 < line.len() * LEAST_PERCENT {
            return Ok(None);
        }
        let mut at = vec![None; line.len()];
        let mut text = tokens.tokenizer.decode(&line[..found[0]])?;
        let ends = found.iter().skip(1).copied().chain([line.len()]);
        for (start, end) in found.iter().copied().zip(ends) {
            at[start] = u32::try_from(text.len()).ok();
            // Characters may be split between tokens within a word, so the word is decoded as one.
            text.push_str(&tokens.tokenizer.decode(&line[start..end])?);
        }
        let whole = tokens.tokenizer.decode(line)? == text;
        Ok(whole.then_some(WordBoundaries { text, at }))
    }

    /// Whether a word begins with the token at this position; positions after the end wrap around.
    pub fn begins(&self, place: usize) -> bool {
        self.at[place % self.at.len()].is_some()
    }

    /// The text between two word boundaries; `None` for other positions, and for more than a whole line.
    pub fn text(&self, start: usize, end: usize) -> Option<String> {
        let count = self.at.len();
        let (start, end) = (start % count, end - start / count * count);
        if end - start >= count {
            return None;
        }
        let from = self.at[start]? as usize;
        let to = self.at[end % count]? as usize;
        if end < count {
            Some(self.text[from..to].to_string())
        } else {
            Some(format!("{}{}", &self.text[from..], &self.text[..to]))
        }
    }
}
