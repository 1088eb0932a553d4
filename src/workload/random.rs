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
use super::words::Words;
use super::{Recipe, WorkloadError, draw, parallel};
use crate::api::render::Prompt;
use crate::finding::Finding;
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
    pub fn report(&self, notes: &mut Vec<Finding>) {
        let [made, off, worst] = [&self.made, &self.off, &self.worst].map(|count| count.load(Ordering::Relaxed));
        if off > 0 {
            notes.push(Finding::PromptLengths { off, made, worst_tokens: worst });
        }
    }
}

/// What all prompts begin with.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    pub ids: Vec<u32>,
    text: String,
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
    /// Where words begin in the line; `None` where that cannot be told.
    words: Option<Words>,
    seed: u64,
}

/// All prompts of the run.
pub fn read(
    lengths: &RandomLengths,
    recipe: &Recipe,
    tokens: &Tokens,
    making: &Making,
    notes: &mut Vec<Finding>,
) -> Result<Vec<Item>, WorkloadError> {
    let text = RandomText::new(tokens, recipe.seed)?;
    let frame = text.frame()?;
    let prefix = text.prefix(lengths.prefix, frame)?;
    make_each("Making prompts", recipe, making, notes, |index, residuals| {
        let length = draw::uniform_at(recipe.seed, Purpose::PromptLength, index, lengths.min, lengths.max);
        let inner = u64::from(length).saturating_sub(frame).max(u64::from(lengths.prefix == 0)) as usize;
        Ok(Item::new(residuals.note(text.make(index, &prefix, inner, frame)?)))
    })
}

/// What `make` gives for the number of each prompt of the run, on all cores, with `what` on the progress bar. `notes` is
/// told of the texts whose length is off.
pub fn make_each(
    what: &'static str,
    recipe: &Recipe,
    making: &Making,
    notes: &mut Vec<Finding>,
    make: impl Fn(u64, &Residuals) -> Result<Item, WorkloadError> + Sync,
) -> Result<Vec<Item>, WorkloadError> {
    let residuals = Residuals::default();
    let count = recipe.needed.unwrap_or(ENDLESS).max(1);
    making.begin(what, count);
    let made = parallel::map(count as usize, |place| {
        let item = make(recipe.offset.wrapping_add(place as u64), &residuals)?;
        making.add(1);
        Ok(item)
    });
    residuals.report(notes);
    made
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
        let words = if tokens.ids { None } else { Words::of(tokens, &line)? };
        Ok(RandomText { tokens, plain, line, words, seed })
    }

    /// The ids all prompts begin with; where text is sent, ids that their text becomes again.
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
        self.words.as_ref().is_none_or(|words| words.begins(place))
    }

    /// The first place from `start` on from which a run of `length` begins and ends where words do.
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

    /// A text of `length` consecutive tokens, and `frame` more in chat, and how many tokens it is off.
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
        let last: Vec<u32> = self.run(end - rest, rest).collect();
        let last_text = self.text_of(end - rest, rest)?;
        let around: Vec<u32> =
            before.iter().copied().chain(self.run(start, head)).chain(last.iter().copied()).collect();
        let mut text = self.tokens.tokenizer.decode(before)?;
        text.push_str(&self.text_of(start, head)?);
        text.push_str(&last_text);
        // Beyond the end of the line its beginning follows, which was not encoded behind it.
        if end > self.line.len() && !self.seam_holds()? {
            return Ok(false);
        }
        if prefix.ids.is_empty() || frame == 0 {
            return self.holds(&around, &text, frame);
        }
        // The prefix was looked at within the template before.
        Ok(self.holds(&around, &text, 0)? && self.holds(&last, &last_text, frame)?)
    }

    /// Whether nothing joins where the line's end meets its beginning.
    fn seam_holds(&self) -> Result<bool, WorkloadError> {
        let seam: Vec<u32> = self.run(self.line.len() - WINDOW, 2 * WINDOW).collect();
        self.holds(&seam, &self.tokens.tokenizer.decode(&seam)?, 0)
    }

    /// Whether a text becomes these ids: alone, or among the `frame` tokens of a template.
    fn holds(&self, ids: &[u32], text: &str, frame: u64) -> Result<bool, WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        if frame == 0 {
            return Ok(tokenizer.encode(text)? == ids);
        }
        let framed = tokenizer.encode(&tokenizer.chat_of(text)?)?;
        Ok(framed.len() as u64 == frame + ids.len() as u64 && framed.windows(ids.len()).any(|part| part == ids))
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
