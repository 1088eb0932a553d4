//! The options of single requests: those of the run with another limit on the output.

use std::borrow::Cow;

use super::item::Item;
use crate::api::request_body::Options;
use crate::api::sampling_params::MaxTokens;

/// The longest output that the connection test asks for, tokens: enough for a first token from any model.
const PREFLIGHT_MAX_TOKENS: u32 = 16;

/// The options of the connection test: those of the run, with a short answer.
pub fn preflight_options(options: &Options) -> Options {
    let mut short = options.clone();
    let limit = match options.sampling.max_tokens {
        Some(MaxTokens::Fixed(limit)) | Some(MaxTokens::Drawn { high: limit, .. }) => limit,
        None => PREFLIGHT_MAX_TOKENS,
    };
    let limit = limit.min(PREFLIGHT_MAX_TOKENS);
    short.sampling.max_tokens = Some(MaxTokens::Fixed(limit));
    short.sampling.min_tokens = options.sampling.min_tokens.map(|least| least.min(limit));
    short
}

/// The options of one prompt, which may have further fields and set the length of its answer itself.
pub fn item_options<'a>(options: &'a Options, item: &Item) -> Cow<'a, Options> {
    let mut own = item.output_tokens.map_or(Cow::Borrowed(options), |count| Cow::Owned(exact_output(options, count)));
    for (name, value) in &item.extra {
        own.to_mut().extra.entry(name.clone()).or_insert_with(|| value.clone());
    }
    own
}

/// Options for an answer of exactly `count` tokens.
fn exact_output(options: &Options, count: u32) -> Options {
    let mut exact = options.clone();
    exact.sampling.max_tokens = Some(MaxTokens::Fixed(count));
    exact.sampling.min_tokens = None;
    exact.extra.entry("ignore_eos").or_insert(true.into());
    exact
}
