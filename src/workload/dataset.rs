//! The prompts that a run uses: read from its data set or generated, selected by length, from the offset on, in the
//! form in which they are sent.

use std::path::Path;

use super::context::{Context, Lengths};
use super::error::WorkloadError;
use super::fit::fitted;
use super::item::Item;
use super::progress::StepProgress;
use super::recipe::{Recipe, Source};
use super::residuals::Residuals;
use super::sieve::{self, Sieve};
use super::stream::Builders;
use super::tokens::Tokens;
use super::{
    aside, builtin, files, line_by_line, multi_turn, parallel, plugin_process, program, prompt, random, random_texts,
    random_vl, share_gpt, speed_benchmark,
};
use crate::api::prompt::Prompt;
use crate::finding::Finding;

/// The prompts of a run.
#[derive(Debug)]
pub struct Dataset {
    /// For measured requests and the warm-up, at least one; in the order of [`super::requests::Workload::bodies`].
    pub items: Vec<Item>,
    /// How many of the items measured requests use before they start again.
    pub cycle: usize,
    /// For the witness; empty if the data has no further prompts.
    pub witness: Vec<Item>,
    pub test: Item,
    /// Facts about the generated prompts that affect how results are interpreted.
    pub notes: Vec<Finding>,
}

/// Reads or generates the prompts that the run uses.
pub fn read(recipe: &Recipe, tokens: Option<&Tokens>, progress: &StepProgress) -> Result<Dataset, WorkloadError> {
    let residuals = Residuals::default();
    let items = prompts(&recipe.source, &context(recipe, tokens, progress, &residuals, None))?;
    let mut dataset = arrange(recipe, tokens, items, progress)?;
    residuals.report(&mut dataset.notes);
    Ok(dataset)
}

/// Passes prompts to the builders until their stream is closed.
pub fn build(recipe: &Recipe, tokens: Option<&Tokens>, builders: &Builders<'_>) -> Result<(), WorkloadError> {
    let context = context(recipe, tokens, builders.progress, &builders.stream.residuals, Some(builders));
    prompts(&recipe.source, &context).map(drop)
}

fn context<'a>(
    recipe: &'a Recipe,
    tokens: Option<&'a Tokens>,
    progress: &'a StepProgress,
    residuals: &'a Residuals,
    builders: Option<&'a Builders<'a>>,
) -> Context<'a> {
    Context {
        randomness: recipe.randomness,
        offset: recipe.offset,
        skipped: recipe.skipped,
        needed: recipe.needed,
        warmup: recipe.warmup,
        aside: aside::count(recipe),
        lengths: match &recipe.source {
            // The class selects its prompts itself.
            Source::Program(path) if plugin_process::has_classes(path) => Lengths::default(),
            _ => recipe.lengths,
        },
        fit: recipe.fit,
        model: &recipe.options.model,
        plugin_arguments: &recipe.plugin_arguments,
        path: recipe.source.path(),
        tokens,
        progress,
        residuals,
        builders,
    }
}

/// Prepares the prompts that were read, or those that are needed before a stream of them.
pub fn arrange(
    recipe: &Recipe,
    tokens: Option<&Tokens>,
    mut items: Vec<Item>,
    progress: &StepProgress,
) -> Result<Dataset, WorkloadError> {
    let residuals = Residuals::default();
    let context = context(recipe, tokens, progress, &residuals, None);
    if let Some(tokens) = tokens.filter(|tokens| tokens.changes_prompts()) {
        send_as(tokens, &context, &mut items)?;
    }
    let mut notes = Vec::new();
    let apart = aside::take(recipe, &context, &mut items);
    let test = aside::test(&items, apart.last(), tokens)?;
    aside::report(recipe, &items, &apart, &test, &mut notes);
    let cycle = if recipe.source.is_generated() && !recipe.is_streamed() {
        context.generated().0 as usize
    } else {
        items.len()
    };
    Ok(Dataset { cycle: cycle.min(items.len()), items, witness: apart, test, notes })
}

/// The prompts in the form in which they were read.
fn prompts(source: &Source, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    match source {
        Source::Prompt(text) => by_length(context, |take| {
            take(prompt::from_text(text)?, 0);
            Ok(())
        }),
        Source::PromptFile(path) => by_length(context, |take| {
            take(prompt::from_file(path)?, 0);
            Ok(())
        }),
        Source::Builtin => by_length(context, |take| {
            for text in builtin::prompts() {
                if !take(Prompt::Text(text.to_string()), 0) {
                    break;
                }
            }
            Ok(())
        }),
        Source::LineByLine(path) => by_length(context, |take| line_by_line::read(path, take)),
        Source::File(path, shape) => by_length(context, |take| files::read(path, *shape, take)),
        Source::Program(path) => match context.builders {
            None => by_length(context, |take| program::read(path, context, take)),
            Some(builders) => stream_program(path, context, builders).map(|()| Vec::new()),
        },
        Source::Random(lengths) => random::read(lengths, context),
        Source::RandomTexts(lengths, texts) => random_texts::read(lengths, *texts, context),
        Source::RandomVl(lengths, pictures) => random_vl::read(lengths, pictures, context),
        Source::ShareGpt { path, output_len } => {
            let all = share_gpt::shuffled(path, context)?;
            if let Some(builders) = context.builders {
                let pass = |take: &mut dyn FnMut(Item) -> bool| share_gpt::select(&all, *output_len, context, take);
                return context.pass_in_order(builders, pass).map(|()| Vec::new());
            }
            let enough = context.wanted();
            let kept = share_gpt::read(path, &all, *output_len, enough, context)?;
            context.after_offset(kept, enough)
        }
        Source::Speed { lengths } => context.after_offset(speed_benchmark::read(lengths, context.tokens)?, u64::MAX),
        Source::MultiTurn(asked) => multi_turn::read(asked, context),
        Source::Trace(trace) => trace.items(context),
    }
}

/// The prompts that `read` hands to its argument with their line numbers, selected by length. The argument returns
/// `false` when no more are needed.
fn by_length(
    context: &Context<'_>,
    read: impl FnOnce(&mut dyn FnMut(Prompt, u64) -> bool) -> Result<(), WorkloadError>,
) -> Result<Vec<Item>, WorkloadError> {
    let mut sieve = Sieve::new(context);
    let Some((fit, tokens)) = context.fit.zip(context.tokens) else {
        read(&mut |prompt, line| sieve.take(Item::at(prompt, line)))?;
        return sieve.finish();
    };
    let mut failed = None;
    read(&mut |prompt, line| match fitted(prompt, fit, &tokens.tokenizer) {
        Ok(prompt) => prompt.is_none_or(|prompt| sieve.take(Item::at(prompt, line))),
        Err(error) => {
            failed = Some(WorkloadError::Data(match context.path {
                Some(path) => format!("{}, line {line}: {error}", path.display()),
                None => error.to_string(),
            }));
            false
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None if sieve.has_seen_none() => Err(WorkloadError::Data(format!(
            "--dataset-args: no text has {} tokens or more, as input_len_mode \"drop\" requires",
            fit.tokens
        ))),
        None => sieve.finish(),
    }
}

/// Passes the prompts that a program prints to the builders, as it prints them.
fn stream_program(path: &Path, context: &Context<'_>, builders: &Builders<'_>) -> Result<(), WorkloadError> {
    context.pass_in_order(builders, |take| {
        let mut error = None;
        program::read(path, context, |prompt, line| {
            let item = Item::at(prompt, line);
            let any = context.lengths == Lengths::default();
            match if any { Ok(None) } else { sieve::length(&item.prompt, context.tokens) } {
                Ok(length) if length.is_none_or(|length| context.lengths.holds(length)) => take(item),
                Ok(_) => true,
                Err(wrong) => {
                    error = Some(wrong);
                    false
                }
            }
        })?;
        error.map_or(Ok(()), Err)
    })
}

/// Puts every prompt into the form that the tokenizer's flags ask for.
fn send_as(tokens: &Tokens, context: &Context<'_>, items: &mut [Item]) -> Result<(), WorkloadError> {
    let forms = parallel::map(items.len(), |place| sent_form(tokens, context.path, &items[place]))?;
    for (item, form) in items.iter_mut().zip(forms) {
        item.prompt = form;
    }
    Ok(())
}

/// A prompt in the form that the tokenizer's flags ask for. `path` is the file of the data set.
pub fn sent_form(tokens: &Tokens, path: Option<&Path>, item: &Item) -> Result<Prompt, WorkloadError> {
    tokens.sent(&item.prompt).map_err(|error| item.error(path, error.to_string()))
}
