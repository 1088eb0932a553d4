//! From the source of the data to the prompts a run uses: those of the asked length, from the offset on, no more than
//! it can send.

use serde_json::{Value, json};

use super::making::Making;
use super::tokens::Tokens;
use super::{Lengths, Recipe, Source, WorkloadError};
use super::{
    builtin, files, line_by_line, multi_turn, parallel, program, prompt, random, random_texts, random_vl, share_gpt,
    speed,
};
use crate::api::render::Prompt;
use crate::finding::Finding;

/// Prompts made or kept when only the duration ends the run; then they are used again.
pub const ENDLESS: u64 = 1000;
/// Prompts measured together, on all cores.
const BATCH: usize = 256;

/// A prompt and the place it came from.
#[derive(Clone, Debug)]
pub struct Item {
    pub prompt: Prompt,
    /// Line of the file, from 1; 0 when it did not come from a line.
    pub line: u64,
    /// The answer is to have so many tokens, whatever the options say.
    pub output_tokens: Option<u32>,
    /// Of a conversation: the messages that each turn adds. Empty for single requests.
    pub turns: Vec<Vec<Value>>,
}

impl Item {
    /// A prompt that did not come from a line.
    pub fn new(prompt: Prompt) -> Item {
        Item::at(prompt, 0)
    }

    /// A prompt of a line.
    pub fn at(prompt: Prompt, line: u64) -> Item {
        Item { prompt, line, output_tokens: None, turns: Vec::new() }
    }

    /// A mistake in this prompt, with its place.
    pub fn error(&self, recipe: &Recipe, what: String) -> WorkloadError {
        match recipe.source.path().filter(|_| self.line > 0) {
            Some(path) => WorkloadError::Line { path: path.to_path_buf(), line: self.line, what },
            None => WorkloadError::Data(what),
        }
    }
}

/// What reading found, beside the prompts.
#[derive(Debug)]
pub struct Found {
    /// At least one.
    pub items: Vec<Item>,
    pub notes: Vec<Finding>,
}

/// The prompts the run uses, in the form in which they are sent.
pub fn read(recipe: &Recipe, tokens: Option<&Tokens>, making: &Making) -> Result<Found, WorkloadError> {
    let mut notes = Vec::new();
    let wanted = recipe.needed.map_or(u64::MAX, |needed| needed.max(1).saturating_add(recipe.offset));
    let mut items = match &recipe.source {
        Source::Random(lengths) => {
            random::read(lengths, recipe, need(tokens, "--dataset random")?, making, &mut notes)?
        }
        Source::RandomTexts(lengths, texts) => {
            random_texts::read(lengths, *texts, recipe, need(tokens, "this dataset")?, making, &mut notes)?
        }
        Source::RandomVl(lengths, pictures) => {
            random_vl::read(lengths, pictures, recipe, need(tokens, "--dataset random_vl")?, making, &mut notes)?
        }
        Source::ShareGpt { path, output_len } => {
            let enough = if wanted == u64::MAX { ENDLESS.saturating_add(recipe.offset) } else { wanted };
            let tokens = need(tokens, "--dataset sharegpt")?;
            from_offset(share_gpt::read(path, *output_len, recipe, tokens, enough, making)?, enough, recipe.offset)
        }
        Source::MultiTurn(asked) => multi_turn::read(asked, recipe, tokens, wanted, making, &mut notes)?,
        Source::Trace(trace) => trace.items(recipe, tokens, making, &mut notes)?,
        // Its prompts have lengths of their own.
        Source::Speed { long } => from_offset(speed::read(*long, tokens)?, u64::MAX, recipe.offset),
        _ => sieved(recipe, tokens, wanted)?,
    };
    if let Some(tokens) = tokens.filter(|tokens| tokens.changes_prompts()) {
        send_as(tokens, recipe, &mut items)?;
    }
    Ok(Found { items, notes })
}

/// Prompts that are read, and kept by their length.
fn sieved(recipe: &Recipe, tokens: Option<&Tokens>, wanted: u64) -> Result<Vec<Item>, WorkloadError> {
    let mut sieve = Sieve::new(recipe, tokens, wanted);
    let mut take = |prompt, line| sieve.take(Item::at(prompt, line));
    match &recipe.source {
        Source::Prompt(text) => drop(take(prompt::from_text(text)?, 0)),
        Source::PromptFile(path) => drop(take(prompt::from_file(path)?, 0)),
        Source::LineByLine(path) => line_by_line::read(path, take)?,
        Source::File(path, shape) => files::read(path, *shape, take)?,
        Source::Program(path) => program::read(path, recipe, take)?,
        // The others do not come here.
        _ => {
            for text in builtin::prompts() {
                if !take(Prompt::Text(text.to_string()), 0) {
                    break;
                }
            }
        }
    }
    sieve.finish(recipe.offset)
}

/// Drops the offset. One that reaches past the data goes round, as a sweep's later runs do. `wanted` counts from the
/// start of the data. `items` must not be empty.
fn from_offset(mut items: Vec<Item>, wanted: u64, offset: u64) -> Vec<Item> {
    let count = items.len() as u64;
    if count < wanted {
        // Everything was read: the run cycles through it, starting at the offset.
        items.rotate_left((offset % count) as usize);
    } else {
        items.drain(..offset.min(count - 1) as usize);
    }
    items
}

/// The tokenizer, which this data cannot do without.
pub fn need<'a>(tokens: Option<&'a Tokens>, what: &str) -> Result<&'a Tokens, WorkloadError> {
    tokens.ok_or_else(|| WorkloadError::Data(format!("{what} needs --tokenizer-path")))
}

/// Puts every prompt into the form the tokenizer's flags ask for.
fn send_as(tokens: &Tokens, recipe: &Recipe, items: &mut [Item]) -> Result<(), WorkloadError> {
    let forms = parallel::map(items.len(), |place| {
        let item = &items[place];
        tokens.sent(&item.prompt).map_err(|error| item.error(recipe, error.to_string()))
    })?;
    for (item, form) in items.iter_mut().zip(forms) {
        item.prompt = form;
    }
    Ok(())
}

/// Keeps prompts of the asked length until there are enough.
pub struct Sieve<'a> {
    recipe: &'a Recipe,
    tokens: Option<&'a Tokens>,
    lengths: Lengths,
    wanted: u64,
    kept: Vec<Item>,
    /// Not measured yet.
    pending: Vec<Item>,
    /// The first mistake while measuring.
    error: Option<WorkloadError>,
    read: u64,
    shortest: u64,
    longest: u64,
}

impl<'a> Sieve<'a> {
    /// Nothing is kept yet; `wanted` prompts are enough.
    pub fn new(recipe: &'a Recipe, tokens: Option<&'a Tokens>, wanted: u64) -> Sieve<'a> {
        Sieve {
            recipe,
            tokens,
            lengths: recipe.lengths,
            wanted,
            kept: Vec::new(),
            pending: Vec::new(),
            error: None,
            read: 0,
            shortest: u64::MAX,
            longest: 0,
        }
    }

    /// Looks at one prompt; says whether more are wanted.
    pub fn take(&mut self, item: Item) -> bool {
        self.read += 1;
        if self.lengths == Lengths::default() {
            // Nothing is asked of the length, so nothing is measured.
            self.kept.push(item);
            return (self.kept.len() as u64) < self.wanted;
        }
        self.pending.push(item);
        let batch = if self.tokens.is_some() { BATCH } else { 1 };
        if self.pending.len() >= batch {
            self.measure();
        }
        self.error.is_none() && (self.kept.len() as u64) < self.wanted
    }

    /// Measures what is pending and keeps what fits.
    fn measure(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let measured = parallel::map(pending.len(), |place| {
            length(&pending[place].prompt, self.tokens)
                .map_err(|error| pending[place].error(self.recipe, error.to_string()))
        });
        let lengths = match measured {
            Ok(lengths) => lengths,
            Err(error) => {
                self.error.get_or_insert(error);
                return;
            }
        };
        for (item, length) in pending.into_iter().zip(lengths) {
            if self.fits(length) && (self.kept.len() as u64) < self.wanted {
                self.kept.push(item);
            }
        }
    }

    fn fits(&mut self, length: Option<u64>) -> bool {
        let Some(length) = length else { return true };
        self.shortest = self.shortest.min(length);
        self.longest = self.longest.max(length);
        self.lengths.holds(length)
    }

    /// No prompt has come here.
    pub fn has_seen_none(&self) -> bool {
        self.read == 0
    }

    /// What was kept, from the offset on.
    pub fn finish(mut self, offset: u64) -> Result<Vec<Item>, WorkloadError> {
        self.measure();
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.kept.is_empty() {
            return Err(WorkloadError::NothingLeft {
                read: self.read,
                min: self.lengths.min,
                max: self.lengths.max.map_or("none".to_string(), |max| max.to_string()),
                shortest: self.shortest.min(self.longest),
                longest: self.longest,
                unit: if self.tokens.is_some() { "tokens" } else { "characters" },
            });
        }
        Ok(from_offset(self.kept, self.wanted, offset))
    }
}

/// Length of a prompt, in tokens with a tokenizer, else in characters; `None` for a whole body, which is not measured.
fn length(prompt: &Prompt, tokens: Option<&Tokens>) -> Result<Option<u64>, WorkloadError> {
    if let Some(tokens) = tokens {
        return tokens.length(prompt);
    }
    let chars = |text: &str| text.chars().count() as u64;
    Ok(match prompt {
        Prompt::Text(text) => Some(chars(text)),
        Prompt::Messages(messages) => {
            Some(messages.iter().filter_map(|message| message.get("content")?.as_str()).map(chars).sum())
        }
        Prompt::Tokens(ids) => Some(ids.len() as u64),
        Prompt::Embedding(texts) => Some(texts.iter().map(|text| chars(text)).sum()),
        Prompt::Rerank { query, documents } => {
            Some(chars(query) + documents.iter().map(|document| chars(document)).sum::<u64>())
        }
        Prompt::Body(_) => None,
    })
}

/// One user message.
pub fn user_message(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}
