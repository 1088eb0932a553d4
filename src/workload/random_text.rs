//! Random text of an exact number of tokens.
//!
//! Prompt `i` is the shared prefix and a run of consecutive ids from a drawn position on, as in evalscope. Ids are
//! decoded to text, but encoding the text does not always give the same ids: two neighbours may merge into one token.
//! If text is sent, runs are therefore cut from the text of the whole vocabulary, encoded once: within such a run
//! nothing merges. At its ends tokens may merge. Runs therefore begin and end at word boundaries, where tokenizers
//! split, and for a long prompt the tokens around its ends are encoded again: if they have changed, the next such
//! position is tried. Short prompts, and those without a suitable position, are encoded whole, truncated or extended,
//! and encoded again until their count is exact. A count that is still wrong after [`ROUNDS`] is reported.

use super::error::WorkloadError;
use super::rng::{self, Purpose};
use super::tokens::Tokens;
use super::word_boundaries::WordBoundaries;
use crate::api::prompt::Prompt;

/// Corrections of one prompt before its remaining error is reported. Nearly all prompts need at most two.
const ROUNDS: usize = 10;

/// Minimum number of tokens that are checked on each side of a cut. Tokenizers split text into words first, so a cut
/// has no effect beyond one word.
const WINDOW: usize = 32;

/// Prompts up to this length are encoded whole, tokens.
const SHORT: usize = 4 * WINDOW;

/// Tokens of a block of [`RandomText::blocks`]; the size that the hash ids of Mooncake's traces stand for.
pub const BLOCK: u32 = 512;

/// Positions tried for a run, and word boundaries searched for each.
const PLACES: usize = 12;
const REACH: usize = 4096;

/// Lengths of random prompts, tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomLengths {
    /// Drawn uniformly, both ends included. The length includes the chat template, but not the prefix.
    pub min: u32,
    pub max: u32,
    /// Length of the prefix that all prompts share, in addition to the drawn length.
    pub prefix: u32,
}

impl RandomLengths {
    /// The length drawn for text `index`, tokens.
    pub fn draw(&self, seed: u64, index: u64) -> u32 {
        rng::uniform_at(seed, Purpose::PromptLength, index, self.min, self.max)
    }
}

/// The prefix that all prompts share.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    pub ids: Vec<u32>,
    text: String,
    /// The number of its last tokens that are enough to check where it meets the rest of a prompt; `None`: the whole
    /// prompt has to be encoded.
    tail: Option<usize>,
}

/// Generates random text of exact lengths.
#[derive(Debug)]
pub struct RandomText<'a> {
    tokens: &'a Tokens,
    /// Ids of plain text.
    plain: Vec<u32>,
    /// The ids that runs are cut from: `plain` if ids are sent, else the ids of its text.
    line: Vec<u32>,
    /// Word boundaries in the line; `None` if they are unknown.
    words: Option<WordBoundaries>,
    seed: u64,
}

impl<'a> RandomText<'a> {
    /// Prepares the vocabulary.
    pub fn new(tokens: &'a Tokens, seed: u64) -> Result<RandomText<'a>, WorkloadError> {
        let plain = tokens.tokenizer.plain_ids();
        if plain.is_empty() {
            return Err(WorkloadError::Data("the tokenizer has no token that is plain text".to_string()));
        }
        let line = match tokens.ids {
            true => plain.clone(),
            false => tokens.tokenizer.encode(&tokens.tokenizer.decode(&plain)?)?,
        };
        let words = if tokens.ids { None } else { WordBoundaries::find(tokens, &line)? };
        Ok(RandomText { tokens, plain, line, words, seed })
    }

    /// The shared prefix. If text is sent, its ids are those that its text is encoded to.
    pub fn prefix(&self, length: u32, frame: u64) -> Result<Prefix, WorkloadError> {
        let drawn: Vec<u32> = (0..u64::from(length)).map(|place| self.drawn(Purpose::SharedPrefix, place)).collect();
        if self.tokens.ids || length == 0 {
            return Ok(Prefix { ids: drawn, tail: Some(0), ..Prefix::default() });
        }
        let tokenizer = &self.tokens.tokenizer;
        let (text, _) = self.as_text(u64::MAX, drawn, 0)?;
        let ids = tokenizer.encode(&text)?;
        let mut tail = None;
        if self.holds(&ids, &text, frame)? {
            for length in WINDOW.min(ids.len())..=SHORT.min(ids.len()) {
                let last = &ids[ids.len() - length..];
                if self.holds(last, &tokenizer.decode(last)?, 0)? {
                    tail = Some(length);
                    break;
                }
            }
        }
        Ok(Prefix { ids, text, tail })
    }

    /// Tokens that the chat template adds to a text; 0 without one.
    pub fn frame(&self) -> Result<u64, WorkloadError> {
        if self.tokens.template && !self.tokens.ids {
            self.tokens.tokenizer.count(&self.tokens.tokenizer.chat_of("")?)
        } else {
            Ok(0)
        }
    }

    /// `inner` consecutive ids from a position that depends on seed and `index`.
    pub fn consecutive(&self, index: u64, inner: usize) -> impl Iterator<Item = u32> {
        self.run(self.place(index), inner)
    }

    fn place(&self, index: u64) -> usize {
        let last = self.line.len() as u32 - 1;
        let start = rng::uniform_at(self.seed, Purpose::RandomText, index, 0, last) as usize;
        // The index is added, as in evalscope, so that equal draws differ.
        start.wrapping_add(index as usize) % self.line.len()
    }

    fn run(&self, start: usize, length: usize) -> impl Iterator<Item = u32> {
        (0..length).map(move |step| self.line[(start + step) % self.line.len()])
    }

    /// Whether a word begins at a position of the line.
    fn begins_word(&self, place: usize) -> bool {
        self.words.as_ref().is_none_or(|words| words.begins(place))
    }

    /// The first position from `start` on where a run of `length` begins and ends at word boundaries.
    fn word_from(&self, start: usize, length: usize) -> Option<usize> {
        let fits = |place: &usize| self.begins_word(*place) && self.begins_word(place + length);
        (start..start + REACH).find(fits).map(|place| place % self.line.len())
    }

    /// The text of a run.
    fn text_of(&self, start: usize, length: usize) -> Result<String, WorkloadError> {
        match self.words.as_ref().and_then(|words| words.text(start, start + length)) {
            Some(text) => Ok(text),
            None => self.tokens.tokenizer.decode(&self.run(start, length).collect::<Vec<_>>()),
        }
    }

    /// A text of `length` consecutive tokens, and `frame` more in chat, with the error of its length in tokens.
    pub fn text(&self, index: u64, length: usize, frame: u64) -> Result<(String, i64), WorkloadError> {
        self.text_behind(index, &Prefix { tail: Some(0), ..Prefix::default() }, length, frame)
    }

    fn text_behind(
        &self,
        index: u64,
        prefix: &Prefix,
        inner: usize,
        frame: u64,
    ) -> Result<(String, i64), WorkloadError> {
        let drawn = self.place(index);
        let mut start = self.word_from(drawn, inner);
        if let Some(tail) = prefix.tail.filter(|_| inner > SHORT && self.line.len() > SHORT) {
            for _ in 0..PLACES {
                let Some(place) = start else { break };
                if self.cuts_hold(place, prefix, tail, inner, frame)? {
                    return Ok((format!("{}{}", prefix.text, self.text_of(place, inner)?), 0));
                }
                start = self.word_from(place + 1, inner);
            }
        }
        let run = self.run(start.unwrap_or(drawn), inner);
        self.as_text(index, prefix.ids.iter().copied().chain(run).collect(), frame)
    }

    /// A text of `length` tokens that are drawn independently, with the error of its length in tokens.
    pub fn independent(&self, index: u64, length: usize) -> Result<(String, i64), WorkloadError> {
        let ids = (0..length as u64).map(|place| self.drawn(Purpose::RandomText, (index << 24) ^ place)).collect();
        self.as_text(index, ids, 0)
    }

    /// A prompt of `length` tokens (and `frame` more in chat) made of blocks: equal ids are equal blocks at any
    /// position. Without ids the whole prompt is one run. Returned with the error of its length in tokens.
    pub fn blocks(
        &self,
        index: u64,
        blocks: &[u64],
        length: usize,
        frame: u64,
    ) -> Result<(Prompt, i64), WorkloadError> {
        let known = blocks.iter().flat_map(|id| self.consecutive(id.wrapping_mul(0x9E37_79B9), BLOCK as usize));
        let mut ids: Vec<u32> = known.take(length).collect();
        ids.extend(self.consecutive(!index, length - ids.len()));
        if self.tokens.ids {
            return Ok((Prompt::Tokens(ids), 0));
        }
        let (text, off_by) = self.as_text(index, ids, frame)?;
        Ok((Prompt::Text(text), off_by))
    }

    /// A prompt of the prefix and `inner` tokens, with `frame` more around them in chat, with the error of its length
    /// in tokens.
    pub fn make(&self, index: u64, prefix: &Prefix, inner: usize, frame: u64) -> Result<(Prompt, i64), WorkloadError> {
        if self.tokens.ids {
            let ids = prefix.ids.iter().copied().chain(self.consecutive(index, inner)).collect();
            return Ok((Prompt::Tokens(ids), 0));
        }
        let (text, off_by) = self.text_behind(index, prefix, inner, frame)?;
        Ok((Prompt::Text(text), off_by))
    }

    /// Whether a run of `inner` tokens from `start` on is encoded to the same ids at both ends: after the last `tail`
    /// tokens of the prefix and, in chat, within the template. The tokens around both ends are joined at word
    /// boundaries and encoded together. The rest of the run is part of the encoded line.
    fn cuts_hold(
        &self,
        start: usize,
        prefix: &Prefix,
        tail: usize,
        inner: usize,
        frame: u64,
    ) -> Result<bool, WorkloadError> {
        let end = start + inner;
        // A run is longer than twice this, so that the two parts do not overlap.
        let head = (WINDOW..2 * WINDOW).find(|step| self.begins_word(start + step)).unwrap_or(WINDOW);
        let rest = (WINDOW..2 * WINDOW).find(|step| self.begins_word(end - step)).unwrap_or(WINDOW);
        let before = &prefix.ids[prefix.ids.len() - tail..];
        let last: Vec<u32> = self.run(end - rest, rest).collect();
        let last_text = self.text_of(end - rest, rest)?;
        let around: Vec<u32> =
            before.iter().copied().chain(self.run(start, head)).chain(last.iter().copied()).collect();
        let mut text = self.tokens.tokenizer.decode(before)?;
        text.push_str(&self.text_of(start, head)?);
        text.push_str(&last_text);
        // The line wraps around, but its beginning was not encoded after its end.
        if end > self.line.len() && !self.seam_holds()? {
            return Ok(false);
        }
        if prefix.ids.is_empty() || frame == 0 {
            return self.holds(&around, &text, frame);
        }
        // The prefix was checked within the template before.
        Ok(self.holds(&around, &text, 0)? && self.holds(&last, &last_text, frame)?)
    }

    /// Whether no tokens merge where the end of the line meets its beginning.
    fn seam_holds(&self) -> Result<bool, WorkloadError> {
        let seam: Vec<u32> = self.run(self.line.len() - WINDOW, 2 * WINDOW).collect();
        self.holds(&seam, &self.tokens.tokenizer.decode(&seam)?, 0)
    }

    /// Whether a text is encoded to these ids: alone, or within the `frame` tokens of a template.
    fn holds(&self, ids: &[u32], text: &str, frame: u64) -> Result<bool, WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        if frame == 0 {
            return Ok(tokenizer.encode(text)? == ids);
        }
        let framed = tokenizer.encode(&tokenizer.chat_of(text)?)?;
        Ok(framed.len() as u64 == frame + ids.len() as u64 && framed.windows(ids.len()).any(|part| part == ids))
    }

    /// A text with as many tokens as `ids` (and `frame` more in chat), with the error of its length in tokens.
    fn as_text(&self, index: u64, mut ids: Vec<u32>, frame: u64) -> Result<(String, i64), WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        let wanted = ids.len();
        // The required count of the text itself; differs from `wanted` if tokens merge with the template.
        let mut goal = wanted as i64;
        let mut best: Option<(String, i64)> = None;
        for round in 0..ROUNDS as u64 {
            let text = tokenizer.decode(&ids)?;
            let again = tokenizer.encode(&text)?;
            let mut off_by = again.len() as i64 - goal;
            if frame > 0 && off_by == 0 {
                off_by = tokenizer.count(&tokenizer.chat_of(&text)?)? as i64 - frame as i64 - wanted as i64;
                goal = (goal - off_by).max(1);
            }
            if best.as_ref().is_none_or(|(_, least)| off_by.abs() < least.abs()) {
                best = Some((text, off_by));
            }
            if off_by == 0 {
                break;
            }
            ids = again;
            let have = ids.len();
            ids.truncate(goal as usize);
            let missing = have as u64..(goal as u64).max(have as u64);
            ids.extend(missing.map(|place| self.drawn(Purpose::Filling, index ^ (round << 56) ^ (place << 24))));
        }
        Ok(best.unwrap_or_default())
    }

    fn drawn(&self, purpose: Purpose, place: u64) -> u32 {
        let last = self.plain.len() as u32 - 1;
        self.plain[rng::uniform_at(self.seed, purpose, place, 0, last) as usize]
    }
}
