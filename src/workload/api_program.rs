//! `--api ./program`: request bodies built by the program before the run starts.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::error::WorkloadError;
use super::item::Item;
use super::options::{item_options, preflight_options};
use super::plugin_process::{self, Call, Feed};
use super::progress::StepProgress;
use super::recipe::Recipe;
use super::rng::{self, Purpose};
use super::stream::Place;
use crate::api::program::{ProgramApi, body_of, question};
use crate::api::request_body::{self, Body, Options};
use crate::api::sampling_params::MaxTokens;

/// The bodies of all items, followed by that of the connection test, whose prompt is `test`. A range for the output limit
/// is drawn here for each body, so that the program gets a number.
pub fn bodies(
    program: ProgramApi,
    recipe: &Recipe,
    items: &[Item],
    test: &Item,
    progress: &StepProgress,
) -> Result<Vec<Body>, WorkloadError> {
    let count = items.len() + 1;
    progress.begin("Building bodies", count as u64);
    let prompt = |place: usize| match items.get(place) {
        Some(item) => asked(recipe, item, place as u64),
        None => (test, Cow::Owned(preflight_options(&recipe.options))),
    };
    build(program, recipe, count, prompt, &|| progress.add(1))
}

/// The bodies of requests with these places; see [`bodies`].
pub fn some_bodies(program: ProgramApi, recipe: &Recipe, items: &[(Place, Item)]) -> Result<Vec<Body>, WorkloadError> {
    let prompt = |place: usize| {
        let (place, item) = &items[place];
        asked(recipe, item, place.number)
    };
    build(program, recipe, items.len(), prompt, &|| ())
}

/// Runs the program on `count` prompts with the options of their requests. `built` is called for each body.
fn build<'a>(
    program: ProgramApi,
    recipe: &Recipe,
    count: usize,
    prompt: impl Fn(usize) -> (&'a Item, Cow<'a, Options>) + Sync,
    built: &dyn Fn(),
) -> Result<Vec<Body>, WorkloadError> {
    let wrong = |what: String| WorkloadError::Data(format!("--api {} build: {what}", program.path().display()));
    let mut bodies = Vec::with_capacity(count);
    let feed = |input: &mut Feed| {
        for place in 0..count {
            let (item, options) = prompt(place);
            if !input.line(&question(&options.model, options.stream, &options.sampling, &item.prompt).to_string()) {
                break;
            }
        }
        Ok(())
    };
    let ran = plugin_process::run(&call(program, "build", recipe), Some(feed), |line, _| {
        if bodies.len() == count {
            return Err("is one body too many: print one body for each line that was read".to_string());
        }
        let fields: Map<String, Value> = body_of(line)?;
        let (_, options) = prompt(bodies.len());
        bodies.push(request_body::finish(&options, fields)?);
        built();
        Ok(())
    });
    ran.map_err(wrong)?;
    if bodies.len() < count {
        let made = bodies.len();
        return Err(wrong(format!(
            "it printed {made} bodies for {count} prompts (all requests and the connection test): print one for each line read"
        )));
    }
    Ok(bodies)
}

/// A call of the program with `build` or `parse`.
pub fn call<'a>(program: ProgramApi, verb: &'static str, recipe: &'a Recipe) -> Call<'a> {
    Call { path: program.path(), verb: Some(verb), environment: Vec::new(), arguments: &recipe.plugin_arguments }
}

/// The prompt of request `index` and the options of the request.
fn asked<'a>(recipe: &'a Recipe, item: &'a Item, index: u64) -> (&'a Item, Cow<'a, Options>) {
    let mut options = item_options(&recipe.options, item);
    if let Some(MaxTokens::Drawn { low, high }) = options.sampling.max_tokens {
        let limit = rng::uniform_at(recipe.randomness.run_seed(), Purpose::MaxTokens, index, low, high);
        options.to_mut().sampling.max_tokens = Some(MaxTokens::Fixed(limit));
    }
    (item, options)
}
