//! `--dataset random`: prompts of an exact number of tokens.
//!
//! Prompt `i` is the shared prefix and a run of consecutive ids from a drawn place on, as evalscope makes them. Ids
//! become text, and text does not always become the same ids again: two neighbours may join into one token. Where text
//! is sent, the runs are therefore cut from the vocabulary's own text, encoded once: inside such a run nothing joins.
//! At its ends something may, so these are encoded again, and where they changed (or the prompt is short) the whole
//! prompt is: cut or filled up, and looked at once more, until its count is exact. What is left after [`ROUNDS`] is reported, never hidden.

use super::making::Making;
use super::read::{ENDLESS, Item};
use super::tokens::Tokens;
use super::trace::BLOCK;
use super::{Recipe, WorkloadError, draw, parallel};
use crate::api::render::Prompt;
use draw::Purpose;

/// Corrections of one prompt before its remaining error is reported. Two are enough for nearly all.
const ROUNDS: usize = 10;

/// Tokens looked at around each cut.
const WINDOW: usize = 64;

/// Lengths of random prompts, tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomLengths {
    /// Drawn uniformly, both ends included; the chat template counts, the prefix does not.
    pub min: u32,
    pub max: u32,
    /// Tokens that all prompts begin with.
    pub prefix: u32,
}

/// A made text and how far its count is from the asked one, tokens.
#[derive(Debug)]
pub struct Made {
    pub prompt: Prompt,
    pub off_by: i64,
}

/// Makes random text of exact lengths.
#[derive(Debug)]
pub struct RandomText<'a> {
    tokens: &'a Tokens,
    /// Ids that text is made of.
    plain: Vec<u32>,
    /// What runs are cut from: `plain` where ids are sent, else the ids of its text.
    line: Vec<u32>,
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
    let prefix = text.prefix(lengths.prefix)?;
    let frame = text.frame()?;
    let count = recipe.needed.unwrap_or(ENDLESS).max(1);
    making.begin("Making prompts", count);
    let made = parallel::map(count as usize, |place| {
        let index = recipe.offset.wrapping_add(place as u64);
        let length = draw::uniform_at(recipe.seed, Purpose::PromptLength, index, lengths.min, lengths.max);
        let inner = u64::from(length).saturating_sub(frame).max(u64::from(lengths.prefix == 0)) as usize;
        let made = text.make(index, &prefix, inner, frame);
        making.add(1);
        made
    })?;
    note_residuals(&made, notes);
    Ok(made.into_iter().map(|made| Item::new(made.prompt)).collect())
}

fn note_residuals(made: &[Made], notes: &mut Vec<String>) {
    let off = made.iter().filter(|made| made.off_by != 0).count();
    if off > 0 {
        let worst = made.iter().map(|made| made.off_by.unsigned_abs()).max().unwrap_or(0);
        notes.push(format!(
            "{off} of {} random prompts could not be brought to their exact length; the farthest is {worst} tokens off \
             (--tokenize-prompt sends exact ids)",
            made.len()
        ));
    }
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
        Ok(RandomText { tokens, plain, line, seed })
    }

    /// The ids all prompts begin with; where text is sent, ids that their text becomes again.
    pub fn prefix(&self, length: u32) -> Result<Vec<u32>, WorkloadError> {
        let drawn: Vec<u32> = (0..u64::from(length)).map(|place| self.drawn(Purpose::SharedPrefix, place)).collect();
        if self.tokens.ids || length == 0 {
            return Ok(drawn);
        }
        self.tokens.tokenizer.encode(&self.as_text(u64::MAX, drawn, 0)?.0)
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
        let last = self.line.len() as u32 - 1;
        let start = draw::uniform_at(self.seed, Purpose::RandomText, index, 0, last) as usize;
        // With the index, as in evalscope, so that equal draws still differ.
        let start = start.wrapping_add(index as usize);
        (0..inner).map(move |step| self.line[start.wrapping_add(step) % self.line.len()])
    }

    /// A text of `length` consecutive tokens, and `frame` more in chat.
    pub fn text(&self, index: u64, length: usize, frame: u64) -> Result<String, WorkloadError> {
        Ok(self.as_text(index, self.consecutive(index, length).collect(), frame)?.0)
    }

    /// A text of `length` tokens drawn each by itself.
    pub fn independent(&self, index: u64, length: usize) -> Result<String, WorkloadError> {
        let ids = (0..length as u64).map(|place| self.drawn(Purpose::RandomText, (index << 24) ^ place)).collect();
        Ok(self.as_text(index, ids, 0)?.0)
    }

    /// A prompt of `length` tokens (and `frame` more in chat) made of blocks: equal ids are equal blocks, wherever they
    /// stand. Without ids all of it is one run.
    pub fn blocks(&self, index: u64, blocks: &[u64], length: usize, frame: u64) -> Result<Made, WorkloadError> {
        let known = blocks.iter().flat_map(|id| self.consecutive(id.wrapping_mul(0x9E37_79B9), BLOCK as usize));
        let mut ids: Vec<u32> = known.take(length).collect();
        ids.extend(self.consecutive(!index, length - ids.len()));
        if self.tokens.ids {
            return Ok(Made { prompt: Prompt::Tokens(ids), off_by: 0 });
        }
        let (text, off_by) = self.as_text(index, ids, frame)?;
        Ok(Made { prompt: Prompt::Text(text), off_by })
    }

    /// A prompt of prefix and `inner` tokens, with `frame` more around them in chat.
    pub fn make(&self, index: u64, prefix: &[u32], inner: usize, frame: u64) -> Result<Made, WorkloadError> {
        let ids: Vec<u32> = prefix.iter().copied().chain(self.consecutive(index, inner)).collect();
        if self.tokens.ids {
            return Ok(Made { prompt: Prompt::Tokens(ids), off_by: 0 });
        }
        if ids.len() > 4 * WINDOW && self.ends_hold(&ids, prefix.len(), frame)? {
            return Ok(Made { prompt: Prompt::Text(self.tokens.tokenizer.decode(&ids)?), off_by: 0 });
        }
        let (text, off_by) = self.as_text(index, ids, frame)?;
        Ok(Made { prompt: Prompt::Text(text), off_by })
    }

    /// Whether the text of `ids` becomes the same ids again where it was cut: at both ends and behind the prefix.
    /// Everywhere else it was encoded as it stands. Tokenizers cut text into words first, so what a cut does to them
    /// ends far within a window.
    fn ends_hold(&self, ids: &[u32], prefix: usize, frame: u64) -> Result<bool, WorkloadError> {
        let tokenizer = &self.tokens.tokenizer;
        let (start, end) = (&ids[..WINDOW], &ids[ids.len() - WINDOW..]);
        let join = &ids[prefix.saturating_sub(WINDOW / 2)..(prefix + WINDOW / 2).min(ids.len())];
        let windows = [start, end, join];
        for window in &windows[..if prefix > 0 { 3 } else { 2 }] {
            if tokenizer.encode(&tokenizer.decode(window)?)? != **window {
                return Ok(false);
            }
        }
        if frame > 0 {
            for window in [start, end] {
                let counted = tokenizer.count(&tokenizer.chat_of(&tokenizer.decode(window)?)?)?;
                if counted != frame + WINDOW as u64 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
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
