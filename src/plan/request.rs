//! What the requests are made of: prompts, parameters, headers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{PlanError, api, data, turns};
use crate::api::Dialect;
use crate::api::query_template::QueryTemplate;
use crate::api::render::{MaxTokens, Options, Sampling};
use crate::finding::Finding;
use crate::spec::Spec;
use crate::time::S;
use crate::workload::Recipe;
use crate::workload::trace::Trace;

/// The limit of an answer, tokens, where none is given.
pub const DEFAULT_MAX_TOKENS: u32 = 2048;
/// Thirty years: longer is a slip, and nanoseconds would overflow.
const MAX_SECONDS: f64 = 1e9;

/// The recipe of the requests, without what differs between the runs of a sweep.
pub fn recipe(
    spec: &Spec,
    dialect: Dialect,
    template: Option<Arc<QueryTemplate>>,
    trace: Option<&Arc<Trace>>,
    model: &str,
    notes: &mut Vec<Finding>,
) -> Result<Recipe, PlanError> {
    let mut options = Options {
        dialect,
        model: model.to_string(),
        stream: spec.stream,
        sampling: sampling(spec)?,
        template,
        extra: extra(spec.extra_args.as_deref())?,
    };
    let source = data::source(spec, trace, &mut options.extra, notes)?;
    turns::check_dialect(&source, dialect)?;
    options.stream = api::stream(spec, &options);
    notes.extend(api::notes(spec, &options));
    Ok(Recipe {
        source,
        lengths: data::lengths(spec)?,
        tokens: data::tokens(spec)?,
        offset: spec.dataset_offset,
        needed: None,
        headers: api::headers(spec, dialect, options.stream)?,
        options,
        seed: spec.seed.unwrap_or(0),
        id_prefix: String::new(),
    })
}

/// Seconds of a flag as nanoseconds.
pub fn seconds_ns(flag: &'static str, seconds: f64, zero_is_fine: bool) -> Result<u64, PlanError> {
    if zero_is_fine && seconds == 0.0 {
        return Ok(0);
    }
    if !seconds.is_finite() || seconds <= 0.0 || seconds > MAX_SECONDS {
        let least = if zero_is_fine { "0 or more" } else { "above 0" };
        return Err(PlanError::value(
            flag,
            format!("must be {least} seconds and at most {MAX_SECONDS:.0}, not {seconds:?}"),
        ));
    }
    Ok((seconds * S as f64).round() as u64)
}

fn sampling(spec: &Spec) -> Result<Sampling, PlanError> {
    let finite = [
        ("--temperature", spec.temperature, 0.0, f64::MAX),
        ("--top-p", spec.top_p, 0.0, 1.0),
        ("--frequency-penalty", spec.frequency_penalty, f64::MIN, f64::MAX),
        ("--repetition-penalty", spec.repetition_penalty, 0.0, f64::MAX),
    ];
    for (flag, value, low, high) in finite {
        if let Some(value) = value.filter(|value| !value.is_finite() || !(low..=high).contains(value)) {
            let range = if high == 1.0 { "between 0 and 1" } else { "a finite number of 0 or more" };
            return Err(PlanError::value(flag, format!("must be {range}, not {value:?}")));
        }
    }
    if spec.n_choices == Some(0) {
        return Err(PlanError::value("--n-choices", "must be at least 1"));
    }
    let max_tokens = max_tokens(&spec.max_tokens)?;
    let least = match max_tokens {
        MaxTokens::Fixed(limit) => limit,
        MaxTokens::Drawn { low, .. } => low,
    };
    if let Some(min) = spec.min_tokens.filter(|min| *min > least) {
        return Err(PlanError::conflict(format!("--min-tokens {min} is above --max-tokens {least}")));
    }
    Ok(Sampling {
        max_tokens: Some(max_tokens),
        min_tokens: spec.min_tokens.or(data::full_answers(spec).then_some(least)),
        temperature: Some(spec.temperature.unwrap_or(0.0)),
        top_p: spec.top_p,
        top_k: spec.top_k,
        frequency_penalty: spec.frequency_penalty,
        repetition_penalty: spec.repetition_penalty,
        logprobs: spec.logprobs,
        n_choices: spec.n_choices,
        seed: spec.seed,
        stop: spec.stop.clone(),
        stop_token_ids: spec.stop_token_ids.clone(),
    })
}

fn max_tokens(values: &[u32]) -> Result<MaxTokens, PlanError> {
    const FLAG: &str = "--max-tokens";
    match *values {
        [] => Ok(MaxTokens::Fixed(DEFAULT_MAX_TOKENS)),
        _ if values.contains(&0) => Err(PlanError::value(FLAG, "must be at least 1")),
        [limit] => Ok(MaxTokens::Fixed(limit)),
        [low, high] if low > high => {
            Err(PlanError::value(FLAG, format!("is a range from least to most, but {low} is above {high}")))
        }
        [low, high] if low == high => Ok(MaxTokens::Fixed(low)),
        [low, high] => Ok(MaxTokens::Drawn { low, high }),
        _ => Err(PlanError::value(
            FLAG,
            format!("takes one limit, or the two ends of a range, not {} values", values.len()),
        )),
    }
}

fn extra(text: Option<&str>) -> Result<Map<String, Value>, PlanError> {
    const FLAG: &str = "--extra-args";
    match text.map(serde_json::from_str) {
        None => Ok(Map::new()),
        Some(Ok(Value::Object(fields))) => Ok(fields),
        Some(Ok(_)) => Err(PlanError::value(FLAG, "must be a JSON object, for example '{\"ignore_eos\": true}'")),
        Some(Err(error)) => Err(PlanError::value(
            FLAG,
            format!("is not valid JSON ({error}); for example '{{\"ignore_eos\": true}}', in single quotes"),
        )),
    }
}
