//! Random text of an exact number of tokens.
//!
//! The ids of plain text are shuffled for each run and form a line, which prompts are cut from. Ids are decoded to
//! text, but encoding the text does not always give the same ids: two neighbours may merge into one token. If text is
//! sent, the text of the whole line is therefore encoded once: within the ids of that encoding nothing merges. At cuts
//! tokens may merge. Cuts are therefore made at word boundaries, where tokenizers split, and for a long prompt the
//! tokens around its ends are encoded again: if they have changed, another position is drawn. Short prompts, and those
//! without a suitable position, are encoded whole, truncated or extended, and encoded again until their count is exact.
//! A count that is still wrong after [`ROUNDS`] is reported.
//!
//! A prompt is a shared prefix, one word, and a run of consecutive ids. The words of the prompts of a run begin with
//! different tokens until every token that can start a text was used, because a prefix cache that works per token
//! would answer an equal beginning. The position of the run is drawn uniformly among those where a word begins and,
//! after the length of the run, another one.

use rand::seq::SliceRandom;

use super::error::WorkloadError;
use super::parallel;
use super::rng::{self, Purpose, Randomness};
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

/// Positions drawn for a run until one has word boundaries at both ends, and the number of those whose cuts are checked.
const DRAWS: u64 = 256;
const CHECKS: usize = 12;

/// The fraction of the golden ratio: multiples of it divide the circle evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// Lengths of random prompts, tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomLengths {
    /// Drawn uniformly, both ends included. The length includes the chat template, but not the prefix.
    pub min: u32,
    pub max: u32,
    /// Length of the prefix that prompts share, in addition to the drawn length.
    pub prefix: u32,
    /// Number of different prefixes: the prompt with number `i` begins with that of number `i` modulo this.
    pub prefixes: u32,
}

impl RandomLengths {
    /// The length drawn for the text with this number, tokens.
    pub(crate) fn draw(&self, randomness: Randomness, number: u64) -> u32 {
        rng::uniform_at(randomness.run_seed(), Purpose::PromptLength, number, self.min, self.max)
    }
}

/// The number of a prompt in its run. Measured requests, warm-up and witness have numbers of their own, so that none
/// depends on how many requests of another kind there are.
pub mod number {
    /// Numbers from here on belong to the warm-up.
    const WARMUP: u64 = 1 << 40;
    /// Numbers from here on belong to the witness.
    const WITNESS: u64 = 2 << 40;

    /// The number of a warm-up prompt.
    pub fn warmup(index: u64) -> u64 {
        WARMUP + index
    }

    /// The number of a prompt of the witness.
    pub fn witness(index: u64) -> u64 {
        WITNESS + index
    }

    /// The place of a prompt in a circle of `count` places, where the run begins at `begin`. Measured prompts go
    /// forwards; those of the warm-up and the witness alternate backwards.
    pub(super) fn place(number: u64, begin: u64, count: u64) -> u64 {
        let back = |index: u64| (begin + count - 1 - index % count) % count;
        if number >= WITNESS {
            back((number - WITNESS).wrapping_mul(2) + 1)
        } else if number >= WARMUP {
            back((number - WARMUP).wrapping_mul(2))
        } else {
            (begin + number % count) % count
        }
    }
}

/// A prefix that prompts share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefix {
    pub ids: Vec<u32>,
    text: String,
    /// The number of its last tokens that are enough to check where it meets the rest of a prompt; `None`: the whole
    /// prompt has to be encoded.
    tail: Option<usize>,
}

/// A part of the line: the position of its first token and its number of tokens.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: usize,
    length: usize,
}

/// Generates random text of exact lengths.
#[derive(Debug)]
pub(crate) struct RandomText<'a> {
    tokens: &'a Tokens,
    /// Ids of plain text.
    plain: Vec<u32>,
    /// The ids that prompts are cut from: the shuffled `plain` if ids are sent, else the ids of its text.
    line: Vec<u32>,
    /// Word boundaries in the line; `None` if they are unknown or irrelevant.
    words: Option<WordBoundaries>,
    /// The positions where a run can begin.
    positions: Vec<u32>,
    /// A first word for each token that can start a text, in a random order that is nearly the same in all runs of a
    /// call.
    starts: Vec<Part>,
    /// The place in `starts` of the first prompt of this run.
    begin: u64,
    seed: u64,
}

impl<'a> RandomText<'a> {
    /// Prepares the vocabulary.
    pub fn new(tokens: &'a Tokens, randomness: Randomness) -> Result<RandomText<'a>, WorkloadError> {
        let seed = randomness.text_seed();
        let plain = tokens.tokenizer.plain_ids();
        if plain.is_empty() {
            return Err(WorkloadError::Data("the tokenizer has no token that is plain text".to_string()));
        }
        let mut line = plain.clone();
        line.shuffle(&mut rng::stream(seed, Purpose::VocabularyOrder));
        if !tokens.ids {
            line = tokens.tokenizer.encode(&tokens.tokenizer.decode(&line)?)?;
        }
        let words = if tokens.ids { None } else { WordBoundaries::find(tokens, &line)? };
        let begins = |place: &u32| words.as_ref().is_none_or(|words| words.begins(*place as usize));
        let positions: Vec<u32> = (0..line.len() as u32).filter(begins).collect();
        let starts = starts(&line, &positions, randomness.call_seed());
        let fraction = (f64::from(randomness.run) * GOLDEN).fract();
        let begin = (fraction * starts.len() as f64) as u64;
        Ok(RandomText { tokens, plain, line, words, positions, starts, begin, seed })
    }

    /// The prefixes that prompts share. Their first tokens differ while the vocabulary has enough that can start a text. If
    /// text is sent, the ids of a prefix are those that its text is encoded to.
    pub fn prefixes(&self, lengths: &RandomLengths, frame: u64) -> Result<Vec<Prefix>, WorkloadError> {
        parallel::map(lengths.prefixes.max(1) as usize, |nth| self.prefix(nth as u64, lengths.prefix as usize, frame))
    }

    fn prefix(&self, nth: u64, length: usize, frame: u64) -> Result<Prefix, WorkloadError> {
        if length == 0 {
            return Ok(Prefix { tail: Some(0), ..Prefix::default() });
        }
        let word = self.starts[((self.begin + nth) % self.starts.len() as u64) as usize];
        let word = Part { length: word.length.min(length), ..word };
        let (key, rest) = (rng::mix(nth), length - word.length);
        for start in self.draws(Purpose::SharedPrefix, key, rest).take(CHECKS) {
            let run = Part { start, length: rest };
            let ids: Vec<u32> = self.ids_of(word).chain(self.ids_of(run)).collect();
            if self.tokens.ids {
                return Ok(Prefix { ids, tail: Some(0), ..Prefix::default() });
            }
            let text = self.text_of(word)? + &self.text_of(run)?;
            if self.holds(&ids, &text, 0)? && self.holds(&ids, &text, frame)? {
                let tail = self.tail(&ids)?;
                return Ok(Prefix { ids, text, tail });
            }
        }
        let run = self.any_run(key, rest);
        let ids: Vec<u32> = self.ids_of(word).chain(self.ids_of(run)).collect();
        if self.tokens.ids {
            return Ok(Prefix { ids, tail: Some(0), ..Prefix::default() });
        }
        let (text, _) = self.as_text(u64::MAX - nth, ids, 0)?;
        let ids = self.tokens.tokenizer.encode(&text)?;
        let tail = if self.holds(&ids, &text, frame)? { self.tail(&ids)? } else { None };
        Ok(Prefix { ids, text, tail })
    }

    /// See [`Prefix::tail`].
    fn tail(&self, ids: &[u32]) -> Result<Option<usize>, WorkloadError> {
        for length in WINDOW.min(ids.len())..=SHORT.min(ids.len()) {
            let last = &ids[ids.len() - length..];
            if self.holds(last, &self.tokens.tokenizer.decode(last)?, 0)? {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Tokens that the chat template adds to a text; 0 without one.
    pub fn frame(&self) -> Result<u64, WorkloadError> {
        if self.tokens.template && !self.tokens.ids {
            self.tokens.tokenizer.count(&self.tokens.tokenizer.chat_of("")?)
        } else {
            Ok(0)
        }
    }

    /// The first word of the text with this number, at most `longest` tokens of it.
    fn first_word(&self, number: u64, longest: usize) -> Part {
        let place = number::place(number, self.begin, self.starts.len() as u64);
        let word = self.starts[place as usize];
        Part { length: word.length.min(longest), ..word }
    }

    /// Positions for a run of `length` that begins and ends at word boundaries, drawn uniformly. `key` determines the
    /// draws.
    fn draws(&self, purpose: Purpose, key: u64, length: usize) -> impl Iterator<Item = usize> {
        let last = self.positions.len() as u32 - 1;
        let draw =
            move |nth: u64| self.positions[rng::uniform_at(self.seed, purpose, key ^ (nth << 48), 0, last) as usize];
        (0..DRAWS).map(move |nth| draw(nth) as usize).filter(move |place| self.begins_word(place + length))
    }

    /// A run of `length` that begins at a word boundary and, if possible, ends at one.
    fn any_run(&self, key: u64, length: usize) -> Part {
        let start = self
            .draws(Purpose::RandomText, key, length)
            .next()
            .unwrap_or_else(|| self.positions[key as usize % self.positions.len()] as usize);
        Part { start, length }
    }

    fn ids_of(&self, part: Part) -> impl Iterator<Item = u32> {
        (0..part.length).map(move |step| self.line[(part.start + step) % self.line.len()])
    }

    /// Whether a word begins at a position of the line.
    fn begins_word(&self, place: usize) -> bool {
        self.words.as_ref().is_none_or(|words| words.begins(place))
    }

    /// The text of a part of the line.
    fn text_of(&self, part: Part) -> Result<String, WorkloadError> {
        match self.words.as_ref().and_then(|words| words.text(part.start, part.start + part.length)) {
            Some(text) => Ok(text),
            None => self.tokens.tokenizer.decode(&self.ids_of(part).collect::<Vec<_>>()),
        }
    }

    /// A text of `length` tokens, and `frame` more in chat, with the error of its length in tokens.
    pub fn text(&self, number: u64, length: usize, frame: u64) -> Result<(String, i64), WorkloadError> {
        self.text_behind(number, &Prefix { tail: Some(0), ..Prefix::default() }, length, frame)
    }

    fn text_behind(
        &self,
        number: u64,
        prefix: &Prefix,
        inner: usize,
        frame: u64,
    ) -> Result<(String, i64), WorkloadError> {
        let word = self.first_word(number, inner);
        let length = inner - word.length;
        if let Some(tail) = prefix.tail.filter(|_| length > SHORT && self.line.len() > SHORT) {
            for start in self.draws(Purpose::RandomText, number, length).take(CHECKS) {
                let rest = Part { start, length };
                if self.cuts_hold(word, rest, (prefix, tail), frame)? {
                    return Ok((format!("{}{}{}", prefix.text, self.text_of(word)?, self.text_of(rest)?), 0));
                }
            }
        } else if !prefix.ids.is_empty() {
            // A correction of the length could change the end of the prefix, which is to be shared token by token.
            for start in self.draws(Purpose::RandomText, number, length).take(CHECKS) {
                let rest = Part { start, length };
                let text = format!("{}{}{}", prefix.text, self.text_of(word)?, self.text_of(rest)?);
                let ids: Vec<u32> =
                    prefix.ids.iter().copied().chain(self.ids_of(word)).chain(self.ids_of(rest)).collect();
                if self.holds(&ids, &text, frame)? {
                    return Ok((text, 0));
                }
            }
        }
        let own = self.ids_of(word).chain(self.ids_of(self.any_run(number, length)));
        self.as_text(number, prefix.ids.iter().copied().chain(own).collect(), frame)
    }

    /// A text of `length` tokens that are drawn independently, with the error of its length in tokens.
    pub(crate) fn independent(&self, number: u64, length: usize) -> Result<(String, i64), WorkloadError> {
        let ids = (0..length as u64)
            .map(|place| self.drawn(Purpose::RandomText, rng::mix(number).wrapping_add(place)))
            .collect();
        self.as_text(number, ids, 0)
    }

    /// A prompt of `length` tokens (and `frame` more in chat) made of blocks of `size` tokens: equal ids are equal
    /// blocks at any position. Without ids the whole prompt is one run. Returned with the error of its length in
    /// tokens.
    pub fn blocks(
        &self,
        number: u64,
        (blocks, size): (&[u64], u32),
        length: usize,
        frame: u64,
    ) -> Result<(Prompt, i64), WorkloadError> {
        let known = blocks.iter().flat_map(|id| self.ids_of(self.any_run(rng::mix(*id), size as usize)));
        let mut ids: Vec<u32> = known.take(length).collect();
        let rest = length - ids.len();
        let word = self.first_word(number, rest);
        ids.extend(self.ids_of(word));
        ids.extend(self.ids_of(self.any_run(rng::mix(!number), rest - word.length)));
        if self.tokens.ids {
            return Ok((Prompt::Tokens(ids), 0));
        }
        let (text, off_by) = self.as_text(number, ids, frame)?;
        Ok((Prompt::Text(text), off_by))
    }

    /// A prompt of the prefix and `inner` tokens, with `frame` more around them in chat, with the error of its length
    /// in tokens.
    pub fn make(&self, number: u64, prefix: &Prefix, inner: usize, frame: u64) -> Result<(Prompt, i64), WorkloadError> {
        if self.tokens.ids {
            let word = self.first_word(number, inner);
            let own = self.ids_of(word).chain(self.ids_of(self.any_run(number, inner - word.length)));
            return Ok((Prompt::Tokens(prefix.ids.iter().copied().chain(own).collect()), 0));
        }
        let (text, off_by) = self.text_behind(number, prefix, inner, frame)?;
        Ok((Prompt::Text(text), off_by))
    }

    /// Whether a word and a run behind it are encoded to the same ids at both ends: after the last `tail` tokens of the
    /// prefix and, in chat, within the template. The tokens around both ends are joined at word boundaries and encoded
    /// together. The rest of the run is part of the encoded line.
    fn cuts_hold(
        &self,
        word: Part,
        run: Part,
        (prefix, tail): (&Prefix, usize),
        frame: u64,
    ) -> Result<bool, WorkloadError> {
        let Part { start, length } = run;
        let end = start + length;
        // A run is longer than twice this, so that the two parts do not overlap.
        let head = (WINDOW..2 * WINDOW).find(|step| self.begins_word(start + step)).unwrap_or(WINDOW);
        let rest = (WINDOW..2 * WINDOW).find(|step| self.begins_word(end - step)).unwrap_or(WINDOW);
        let (first, last) = (Part { start, length: head }, Part { start: end - rest, length: rest });
        let before = &prefix.ids[prefix.ids.len() - tail..];
        let last_text = self.text_of(last)?;
        let last: Vec<u32> = self.ids_of(last).collect();
        let own = self.ids_of(word).chain(self.ids_of(first)).chain(last.iter().copied());
        let around: Vec<u32> = before.iter().copied().chain(own).collect();
        let mut text = self.tokens.tokenizer.decode(before)?;
        text.push_str(&self.text_of(word)?);
        text.push_str(&self.text_of(first)?);
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
        let seam = Part { start: self.line.len() - WINDOW, length: 2 * WINDOW };
        let seam: Vec<u32> = self.ids_of(seam).collect();
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
    fn as_text(&self, number: u64, mut ids: Vec<u32>, frame: u64) -> Result<(String, i64), WorkloadError> {
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
            ids.extend(missing.map(|place| self.drawn(Purpose::Filling, number ^ (round << 56) ^ (place << 24))));
        }
        Ok(best.unwrap_or_default())
    }

    fn drawn(&self, purpose: Purpose, place: u64) -> u32 {
        let last = self.plain.len() as u32 - 1;
        self.plain[rng::uniform_at(self.seed, purpose, place, 0, last) as usize]
    }
}

/// The first word for each token that begins one, in an order that `seed` and the token determine. `positions` are those
/// of the line where a word can begin. A word that the end of the line cuts off is left out.
fn starts(line: &[u32], positions: &[u32], seed: u64) -> Vec<Part> {
    let ends = positions.iter().skip(1).map(|end| *end as usize);
    let word = |(start, end): (&u32, usize)| Part { start: *start as usize, length: end - *start as usize };
    let mut words: Vec<Part> = positions.iter().zip(ends).map(word).collect();
    if words.is_empty() {
        words.push(Part { start: positions.first().map_or(0, |start| *start as usize), length: 1 });
    }
    words.sort_by_key(|word| {
        let token = line[word.start];
        (rng::mix(seed ^ rng::mix(u64::from(token))), token, word.start)
    });
    words.dedup_by_key(|word| line[word.start]);
    words
}
