//! `--dataset sharegpt`: conversations with ChatGPT, sampled by the rules of the benchmark scripts of LMDeploy and
//! vLLM, so that results are comparable to theirs.

use std::path::Path;

use rand::RngExt;
use serde_json::Value;

use super::context::Context;
use super::error::WorkloadError;
use super::item::Item;
use super::rng::{self, Purpose};
use super::{files, parallel};
use crate::api::prompt::Prompt;

/// Shortest prompt and answer kept, tokens.
const LEAST: u64 = 4;
/// Longest prompt kept, tokens.
const LONGEST_PROMPT: u64 = 1024;
/// Longest prompt and answer together, tokens.
const LONGEST: u64 = 2048;
/// Conversations counted at a time.
const BATCH: usize = 256;

/// The first two messages of every conversation, in a random order. All runs of a call sample the same order: each
/// continues after the prompts that earlier runs planned.
pub fn shuffled(path: &Path, context: &Context<'_>) -> Result<Vec<(String, String)>, WorkloadError> {
    let mut all = conversations(path)?;
    shuffle(&mut all, context.randomness.data_seed);
    Ok(all)
}

/// The prompts of the first `wanted` of the conversations that fit; all if there are fewer. See [`select`].
pub fn read(
    path: &Path,
    all: &[(String, String)],
    output_len: bool,
    wanted: u64,
    context: &Context<'_>,
) -> Result<Vec<Item>, WorkloadError> {
    let mut kept: Vec<Item> = Vec::new();
    context.progress.begin("Counting tokens", wanted.min(all.len() as u64));
    select(all, output_len, context, &mut |item| {
        kept.push(item);
        (kept.len() as u64) < wanted
    })?;
    if kept.is_empty() {
        return Err(WorkloadError::Data(format!(
            "{}: none of its {} conversations has a prompt of {LEAST} to {LONGEST_PROMPT} tokens and an answer that \
             fits beside it",
            path.display(),
            all.len()
        )));
    }
    Ok(kept)
}

/// Hands the prompts of the conversations that fit to `take` until it returns `false`. With `output_len` each answer gets
/// the length of the answer in the data.
pub fn select(
    all: &[(String, String)],
    output_len: bool,
    context: &Context<'_>,
    take: &mut dyn FnMut(Item) -> bool,
) -> Result<(), WorkloadError> {
    let tokens = context.tokens_for("--dataset sharegpt")?;
    for batch in all.chunks(BATCH) {
        let items = parallel::map(batch.len(), |place| {
            let (prompt, answer) = &batch[place];
            let (asked, answered) = (tokens.tokenizer.count_prompt(prompt)?, tokens.tokenizer.count_prompt(answer)?);
            if context.builders.is_none() {
                context.progress.add(1);
            }
            let fits = asked >= LEAST && answered >= LEAST && asked <= LONGEST_PROMPT && asked + answered <= LONGEST;
            let output_tokens = output_len.then_some(answered as u32);
            let item = Item { output_tokens, ..Item::new(Prompt::Text(prompt.clone())) };
            let fits = fits && context.lengths.holds(asked);
            Ok::<_, WorkloadError>(fits.then_some(item))
        })?;
        if !items.into_iter().flatten().all(&mut *take) {
            break;
        }
    }
    Ok(())
}

/// The first two messages of every conversation that has two.
fn conversations(path: &Path) -> Result<Vec<(String, String)>, WorkloadError> {
    let mut all = Vec::new();
    files::entries(path, false, |entry, _| {
        let turns = entry.get("conversations").or_else(|| entry.get("conversation")).and_then(Value::as_array);
        let turns = turns.ok_or(
            "has no list \"conversations\"; ShareGPT is [{\"conversations\": [{\"from\", \"value\"}, ...]}, ...]",
        )?;
        let value = |place: usize| turns.get(place).and_then(|turn| turn.get("value")?.as_str());
        if let (Some(prompt), Some(answer)) = (value(0), value(1)) {
            all.push((prompt.to_string(), answer.to_string()));
        }
        Ok(true)
    })?;
    if all.is_empty() {
        return Err(WorkloadError::Data(format!("{}: no conversation has two messages", path.display())));
    }
    Ok(all)
}

/// The shuffle of Fisher and Yates.
fn shuffle<T>(all: &mut [T], seed: u64) {
    let mut rng = rng::stream(seed, Purpose::Sample);
    for last in (1..all.len()).rev() {
        all.swap(last, rng.random_range(0..=last));
    }
}
