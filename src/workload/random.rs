//! `--dataset random`: prompts of an exact number of tokens.
//!
//! Prompt `i` is the shared prefix and a run of consecutive ids from a drawn place on, as evalscope makes them. Ids
//! become text, and text does not always become the same ids again: two neighbours may join into one token. Where text
//! is sent, the runs are therefore cut from the vocabulary's own text, encoded once: inside such a run nothing joins.
//! At its ends something may. Runs therefore begin and end at the beginnings of words, where tokenizers cut by
//! themselves, and of a long prompt the tokens around its cuts are encoded again: where these have changed, the next
//! such place is tried. Short prompts, and what is left, are encoded whole: cut or filled up, and looked at once more,
//! until their count is exact. What is still off after [`ROUNDS`] is reported, never hidden.

use std::sync::atomic::{AtomicU64, Ordering};

use super::making::Making;
use super::read::{ENDLESS, Item};
use super::tokens::Tokens;
use super::trace::BLOCK;
use super::{Recipe, WorkloadError, draw, parallel};
use crate::api::render::Prompt;
use draw::Purpose;

/// Corrections of one prompt before its remaining error is reported. Two are enough for nearly all.
const ROUNDS: usize = 10;

/// Tokens looked at on each side of a cut, at least. Tokenizers cut text into words first, so what a cut does to them
/// ends within one word.
const WINDOW: usize = 32;

/// Prompts up to this length are encoded whole, tokens.
const SHORT: usize = 4 * WINDOW;

/// Places tried for a run, and beginnings of words looked at for each.
const PLACES: usize = 12;
const REACH: usize = 4096;

/// Lengths of random prompts, tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomLengths {
    /// Drawn uniformly, both ends included; the chat template counts, the prefix does not.
    pub min: u32,
    pub max: u32,
    /// Tokens that all prompts begin with.
    pub prefix: u32,
}

/// Texts made so far, and those whose count is not the asked one.
#[derive(Debug, Default)]
pub struct Residuals {
    made: AtomicU64,
    off: AtomicU64,
    worst: AtomicU64,
}

impl Residuals {
    /// Notes how far a text's count is from the asked one, tokens, and gives the text back.
    pub fn note<T>(&self, (text, off_by): (T, i64)) -> T {
        self.made.fetch_add(1, Ordering::Relaxed);
        if off_by != 0 {
            self.off.fetch_add(1, Ordering::Relaxed);
            self.worst.fetch_max(off_by.unsigned_abs(), Ordering::Relaxed);
        }
        text
    }

    /// One line about the texts that are off, where there are any.
    pub fn report(&self, notes: &mut Vec<String>) {
        let [made, off, worst] = [&self.made, &self.off, &self.worst].map(|count| count.load(Ordering::Relaxed));
        if off > 0 {
            notes.push(format!(
                "{off} of {made} random texts could not be brought to their exact length; the farthest is {worst} \
                 tokens off (--tokenize-prompt sends exact ids)"
            ));
        }
    }
}

/// What all prompts begin with.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    pub ids: Vec<u32>,
    /// So many of its last tokens stand for it where it meets what follows; `None`: the whole prompt has to be looked at.
    tail: Option<usize>,
}

/// Makes random text of exact lengths.
#[derive(Debug)]
pub struct RandomText<'a> {
    tokens: &'a Tokens,
    /// Ids that text is made of.
    plain: Vec<u32>,
    /// What runs are cut from: `plain` where ids are sent, else the ids of its text.
    line: Vec<u32>,
    /// Places of the line at which a word begins, by place; empty where they are too few to be of use.
    words: Vec<bool>,
    seed: u64,
}

/// All prompts of the run.
pub fn read(
    lengths: &RandomLengths,
    recipe: &Recipe,
    tokens: &Tokens,
    making: &Making,
    notes: &mut Vec<String>,
) -> Result<Vec<Item>, WorkloadError> {
    let text = RandomText::new(tokens, recipe.seed)?;
    let frame = text.frame()?;
    let prefix = text.prefix(lengths.prefix, frame)?;
    let residuals = Residuals::default();
    let count = recipe.needed.unwrap_or(ENDLESS).max(1);
    making.begin("Making prompts", count);
    let made = parallel::map(count as usize, |place| {
        let index = recipe.offset.wrapping_add(place as u64);
        let length = draw::uniform_at(recipe.seed, Purpose::PromptLength, index, lengths.min, lengths.max);
        let inner = u64::from(length).saturating_sub(frame).max(u64::from(lengths.prefix == 0)) as usize;
        let prompt = residuals.note(text.make(index, &prefix, inner, frame)?);
        making.add(1);
        Ok::<_, WorkloadError>(Item::new(prompt))
    })?;
    residuals.report(notes);
    Ok(made)
}

impl<'a> RandomText<'a> {
    /// Looks through the vocabulary.
    pub fn new(tokens: &'a Tokens, seed: u64) -> Result<RandomText<'a>, WorkloadError> {
        let plain = tokens.tokenizer.plain_ids();
        if plain.is_empty() {
            return Err(WorkloadError::Data("the tokenizer has no token that is plain text".to_string()));
        }
        let line = match tokens.ids {
            true => plain.clone(),
            false => tokens.tokenizer.encode(&tokens.tokenizer.decode(&plain)?)?,
        };
        let words = if tokens.ids { Vec::new() } else { beginnings_of_words(tokens, &line)? };
        Ok(RandomText { tokens, plain, line, words, seed })
    }

    /// The ids all prompts begin with; where text is sent, ids that their text becomes again.
    pub fn prefix(&self, length: u32, frame: u64) -> Result<Prefix, WorkloadError> {
        let drawn: Vec<u32> = (0..u64::from(length)).map(|place| self.drawn(Purpose::SharedPrefix, place)).collect();
        if self.tokens.ids || length == 0 {
            return Ok(Prefix { ids: drawn, tail: Some(0) });
        }
        let tokenizer = &self.tokens.tokenizer;
        let (text, _) = self.as_text(u64::MAX, drawn, 0)?;
        let ids = tokenizer.encode(&text)?;
        let mut tail = None;
        if self.holds(&ids, frame)? {
            for length in WINDOW.min(ids.len())..=SHORT.min(ids.len()) {
                if self.holds(&ids[ids.len() - length..], 0)? {
                    tail = Some(length);
                    break;
                }
            }
        }
        Ok(Prefix { ids, tail })
    }

    /// Tokens that the chat template puts around a text; 0 without one.
    pub fn frame(&self) -> Result<u64, WorkloadError> {
        if self.tokens.template && !self.tokens.ids {
            self.tokens.tokenizer.count(&self.tokens.tokenizer.chat_of("")?)
        } else {
            Ok(0)
        }
    }

    /// `inner` consecutive ids from a place that depends on seed and `index`.
    pub fn consecutive(&self, index: u64, inner: usize) -> impl Iterator<Item = u32> {
        self.run(self.place(index), inner)
    }

    fn place(&self, index: u64) -> usize {
        let last = self.line.len() as u32 - 1;
        let start = draw::uniform_at(self.seed, Purpose::RandomText, index, 0, last) as usize;
        // With the index, as in evalscope, so that equal draws still differ.
        start.wrapping_add(index as usize) % self.line.len()
    }

    fn run(&self, start: usize, length: usize) -> impl Iterator<Item = u32> {
        (0..length).map(move |step| self.line[(start + step) % self.line.len()])
    }

    /// Whether a word begins at a place of the line.
    fn begins_word(&self, place: usize) -> bool {
        self.words.is_empty() || self.words[place % self.words.len()]
    }

    /// The first place from `start` on from which a run of `length` begins and ends where words do.
    fn word_from(&self, start: usize, length: usize) -> Option<usize> {
        let fits = |place: &usize| self.begins_word(*place) && self.begins_word(place + length);
        (start..start + REACH).find(fits).map(|place| place % self.line.len())
    }

    /// A text of `length` consecutive tokens, and `frame` more in chat, and how many tokens it is off.
    pub fn text(&self, index: u64, length: usize, frame: u64) -> Result<(String, i64), WorkloadError> {
        self.text_behind(index, &Prefix { ids: Vec::new(), tail: Some(0) }, length, frame)
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
        let all = |start: usize| prefix.ids.iter().copied().chain(self.run(start, inner)).collect::<Vec<u32>>();
        if let Some(tail) = prefix.tail.filter(|_| inner > SHORT) {
            for _ in 0..PLACES {
                let Some(place) = start else { break };
                if self.cuts_hold(place, prefix, tail, inner, frame)? {
                    return Ok((self.tokens.tokenizer.decode(&all(place))?, 0));
                }
                start = self.word_from(place + 1, inner);
            }
        }
        self.as_text(index, all(start.unwrap_or(drawn)), frame)
    }

    /// A text of `length` tokens drawn each by itself, and how many tokens it is off.
    pub fn independent(&self, index: u64, length: usize) -> Result<(String, i64), WorkloadError> {
        let ids = (0..length as u64).map(|place| self.drawn(Purpose::RandomText, (index << 24) ^ place)).collect();
        self.as_text(index, ids, 0)
    }

    /// A prompt of `length` tokens (and `frame` more in chat) made of blocks: equal ids are equal blocks, wherever they
    /// stand. Without ids all of it is one run. With it, how many tokens it is off.
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

    /// A prompt of prefix and `inner` tokens, with `frame` more around them in chat, and how many tokens it is off.
    pub fn make(&self, index: u64, prefix: &Prefix, inner: usize, frame: u64) -> Result<(Prompt, i64), WorkloadError> {
        if self.tokens.ids {
            let ids = prefix.ids.iter().copied().chain(self.consecutive(index, inner)).collect();
            return Ok((Prompt::Tokens(ids), 0));
        }
        let (text, off_by) = self.text_behind(index, prefix, inner, frame)?;
        Ok((Prompt::Text(text), off_by))
    }

    /// Whether a run of `inner` tokens from `start` on becomes the same ids again at its two cuts: behind the last `tail`
    /// tokens of the prefix and, in chat, within the template. The tokens around both are put together at beginnings of
    /// words and encoded at once. Everywhere else the run was encoded as it stands.
    fn cuts_hold(
        &self,
        start: usize,
        prefix: &Prefix,
        tail: usize,
        inner: usize,
        frame: u64,
    ) -> Result<bool, WorkloadError> {
        let end = start + inner;
        // A run is longer than twice this, so that the two do not meet.
        let head = (WINDOW..2 * WINDOW).find(|step| self.begins_word(start + step)).unwrap_or(WINDOW);
        let rest = (WINDOW..2 * WINDOW).find(|step| self.begins_word(end - step)).unwrap_or(WINDOW);
        let before = &prefix.ids[prefix.ids.len() - tail..];
        let around: Vec<u32> =
            before.iter().copied().chain(self.run(start, head)).chain(self.run(end - rest, rest)).collect();
        // Beyond the end of the line its beginning follows, which was not encoded behind it.
        let wraps = end > self.line.len();
        if wraps && self.line.len() < WINDOW {
            return Ok(false);
        }
        if wraps && !self.holds(&self.run(self.line.len() - WINDOW, 2 * WINDOW).collect::<Vec<_>>(), 0)? {
            return Ok(false);
        }
        if prefix.ids.is_empty() || frame == 0 {
            return self.holds(&around, frame);
        }
        // The prefix was looked at within the template before.
        Ok(self.holds(&around, 0)? && self.holds(&around[around.len() - rest..], frame)?)
    }

    /// Whether the text of `ids` becomes the same ids again, and within a template of `frame` tokens as many.
    fn holds(&self, ids: &[u32], frame: u64) -> Result<bool, WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        let text = tokenizer.decode(ids)?;
        if tokenizer.encode(&text)? != ids {
            return Ok(false);
        }
        Ok(frame == 0 || tokenizer.count(&tokenizer.chat_of(&text)?)? == frame + ids.len() as u64)
    }

    /// Text that counts as many tokens as `ids` (and `frame` more in chat), and how many tokens it is off.
    fn as_text(&self, index: u64, mut ids: Vec<u32>, frame: u64) -> Result<(String, i64), WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        let wanted = ids.len();
        // What the text itself has to count; differs from `wanted` where the template joins with it.
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
        self.plain[draw::uniform_at(self.seed, purpose, place, 0, last) as usize]
    }
}

/// At which places of the line a word begins: a blank and a letter behind something that is no blank. Tokenizers cut
/// there, whatever stands around it. Empty where the vocabulary does not show its blanks.
fn beginnings_of_words(tokens: &Tokens, line: &[u32]) -> Result<Vec<bool>, WorkloadError> {
    let texts = parallel::map(line.len(), |place| tokens.tokenizer.decode(&line[place..=place]))?;
    let after_word = |place: usize| {
        let before = if place == 0 { texts.last() } else { texts.get(place - 1) };
        before.and_then(|text| text.chars().next_back()).is_some_and(|last| !last.is_whitespace())
    };
    let begins = |text: &str| text.strip_prefix(' ').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let words: Vec<bool> = (0..texts.len()).map(|place| begins(&texts[place]) && after_word(place)).collect();
    let count = words.iter().filter(|begins| **begins).count();
    Ok(if count * 20 < words.len() { Vec::new() } else { words })
}
