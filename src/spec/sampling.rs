//! Flags of the generation: streaming, and the sampling parameters in the request body.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::values::{self, json_text_as_value};
use crate::api::request_body::Options;
use crate::api::sampling_params::{MaxTokens, Sampling};
use crate::finding::Finding;
use crate::plan::{DEFAULT_MAX_TOKENS, PlanError};

const HEADING: &str = "Generation";

/// Flags of the generation.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct SamplingSpec {
    /// Stream responses (SSE); this is the default
    #[arg(long, conflicts_with = "no_stream", help_heading = HEADING)]
    #[serde(skip)]
    pub stream: bool,
    /// Request whole responses instead of a stream
    #[arg(long, help_heading = HEADING)]
    #[serde(rename = "stream", serialize_with = "negated")]
    pub no_stream: bool,
    /// Maximum output tokens; two values: drawn uniformly from this range for each request [default: 2048]
    #[arg(long, value_name = "N", num_args = 1..=2, value_parser = values::count::<u32>, help_heading = HEADING)]
    pub max_tokens: Vec<u32>,
    /// Minimum output tokens
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u32>, help_heading = HEADING)]
    pub min_tokens: Option<u32>,
    /// Sampling temperature; always sent [default: 0]
    #[arg(long, value_name = "T", value_parser = values::number, help_heading = HEADING)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1
    #[arg(long, alias = "top_p", value_name = "P", value_parser = values::number, help_heading = HEADING)]
    pub top_p: Option<f64>,
    /// Sample from the K most likely tokens
    #[arg(long, alias = "top_k", value_name = "K", help_heading = HEADING)]
    pub top_k: Option<i64>,
    /// Frequency penalty
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub frequency_penalty: Option<f64>,
    /// Repetition penalty
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub repetition_penalty: Option<f64>,
    /// Request log probabilities
    #[arg(long, help_heading = HEADING)]
    pub logprobs: bool,
    /// Number of choices for each request (n)
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub n_choices: Option<u32>,
    /// Seed, sent with every request; also the data seed if --data-seed is not given [default: not sent]
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub seed: Option<u64>,
    /// Send another seed with every request, drawn from --seed (else from the data seed)
    #[arg(long, help_heading = HEADING)]
    pub seed_per_request: bool,
    /// Stop sequences
    #[arg(long, value_name = "TEXT", num_args = 1.., help_heading = HEADING)]
    pub stop: Vec<String>,
    /// Stop token ids
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = values::count_or_zero::<u32>, help_heading = HEADING)]
    pub stop_token_ids: Vec<u32>,
    /// JSON object merged into every request body after all other fields, for example '{"ignore_eos": true}'; null
    /// removes a field
    #[arg(long, value_name = "JSON", help_heading = HEADING)]
    #[serde(serialize_with = "json_text_as_value")]
    pub extra_args: Option<String>,
}

impl SamplingSpec {
    /// Whether `--stream` or `--no-stream` is given.
    pub fn stream_is_given(&self) -> bool {
        self.stream || self.no_stream
    }

    /// The sampling parameters of the requests. `full_output`: the minimum output length defaults to the maximum.
    pub(super) fn resolve(&self, full_output: bool) -> Result<Sampling, PlanError> {
        let ranges = [
            ("--temperature", self.temperature, 0.0, f64::MAX),
            ("--top-p", self.top_p, 0.0, 1.0),
            ("--frequency-penalty", self.frequency_penalty, f64::MIN, f64::MAX),
            ("--repetition-penalty", self.repetition_penalty, 0.0, f64::MAX),
        ];
        for (flag, value, low, high) in ranges {
            if let Some(value) = value.filter(|value| !value.is_finite() || !(low..=high).contains(value)) {
                let range = if high == 1.0 { "between 0 and 1" } else { "a finite number of 0 or more" };
                return Err(PlanError::value(flag, format!("must be {range}, not {value:?}")));
            }
        }
        if self.n_choices == Some(0) {
            return Err(PlanError::value("--n-choices", "must be at least 1"));
        }
        let max_tokens = max_tokens(&self.max_tokens)?;
        let least = match max_tokens {
            MaxTokens::Fixed(limit) => limit,
            MaxTokens::Drawn { low, .. } => low,
        };
        if let Some(min) = self.min_tokens.filter(|min| *min > least) {
            return Err(PlanError::conflict(format!("--min-tokens {min} is above --max-tokens {least}")));
        }
        Ok(Sampling {
            max_tokens: Some(max_tokens),
            min_tokens: self.min_tokens.or(full_output.then_some(least)),
            temperature: Some(self.temperature.unwrap_or(0.0)),
            top_p: self.top_p,
            top_k: self.top_k,
            frequency_penalty: self.frequency_penalty,
            repetition_penalty: self.repetition_penalty,
            logprobs: self.logprobs,
            n_choices: self.n_choices,
            seed: self.seed,
            seed_per_request: self.seed_per_request,
            stop: self.stop.clone(),
            stop_token_ids: self.stop_token_ids.clone(),
        })
    }

    /// The parsed fields of `--extra-args`.
    pub(super) fn extra(&self) -> Result<Map<String, Value>, PlanError> {
        const FLAG: &str = "--extra-args";
        match self.extra_args.as_deref().map(serde_json::from_str) {
            None => Ok(Map::new()),
            Some(Ok(Value::Object(fields))) if self.seed_per_request && fields.contains_key("seed") => {
                Err(PlanError::conflict(
                    "--seed-per-request and the seed in --extra-args exclude each other: give one of them",
                ))
            }
            Some(Ok(Value::Object(fields))) => Ok(fields),
            Some(Ok(_)) => Err(PlanError::value(FLAG, "must be a JSON object, for example '{\"ignore_eos\": true}'")),
            Some(Err(error)) => Err(PlanError::value(
                FLAG,
                format!("is not valid JSON ({error}); write for example '{{\"ignore_eos\": true}}' in single quotes"),
            )),
        }
    }

    /// Whether responses are streamed. `--extra-args` overrides the template, which overrides the flag.
    pub(super) fn streams(&self, options: &Options) -> bool {
        let extra = options.extra.get("stream").and_then(serde_json::Value::as_bool);
        let template = options.template.as_ref().and_then(|template| template.stream());
        // A template without the field asks for no stream, unless the flag is given.
        let default = if options.template.is_some() { self.stream } else { !self.no_stream };
        options.dialect.streams() && extra.or(template).unwrap_or(default)
    }

    /// Findings about flags that the API does not support and about templates without a prompt.
    pub(super) fn notes(&self, api: &str, options: &Options, has_tokenizer: bool) -> Vec<Finding> {
        let mut notes = Vec::new();
        let given = |flag: &str| match flag {
            "--max-tokens" => !self.max_tokens.is_empty(),
            "--temperature" => self.temperature.is_some(),
            // The seed is also used for schedules and prompts.
            "--seed" => self.seed_per_request,
            _ => true,
        };
        let unsent: Vec<&str> = options
            .sampling
            .fields()
            .filter(|(field, _)| given(field.flag) && !options.dialect.has_parameter(field.name))
            .map(|(field, _)| field.flag)
            .collect();
        if !unsent.is_empty() {
            let flags = unsent.into_iter().map(str::to_string).collect();
            notes.push(Finding::FieldsNotSent { api: api.to_string(), flags });
        }
        let extra = options.extra.get("temperature").and_then(Value::as_f64);
        let is_random = extra.or(options.sampling.temperature).is_some_and(|temperature| temperature > 0.0);
        let sends_seed = self.seed.is_some() && !self.seed_per_request && options.dialect.has_parameter("seed");
        if is_random && sends_seed {
            notes.push(Finding::SameSeed);
        }
        if self.stream && !options.dialect.streams() {
            notes.push(Finding::NotStreamed { api: api.to_string() });
        }
        if let Some(template) = &options.template {
            let lacks = |field: &str| template.get(field).is_none() && !options.extra.contains_key(field);
            if options.dialect.streams() && lacks("stream") && !self.stream_is_given() {
                notes.push(Finding::TemplateLacks { stream: true });
            } else if options.stream
                && options.dialect.has_stream_options()
                && lacks("stream_options")
                && !has_tokenizer
            {
                notes.push(Finding::TemplateLacks { stream: false });
            }
        }
        if let Some(template) = &options.template
            && !template.names_prompt()
            && ["messages", "prompt", "input", "query"].iter().any(|field| template.get(field).is_some())
        {
            notes.push(Finding::SamePrompt);
        }
        notes
    }
}

fn max_tokens(values: &[u32]) -> Result<MaxTokens, PlanError> {
    const FLAG: &str = "--max-tokens";
    match *values {
        [] => Ok(MaxTokens::Fixed(DEFAULT_MAX_TOKENS)),
        _ if values.contains(&0) => Err(PlanError::value(FLAG, "must be at least 1")),
        [limit] => Ok(MaxTokens::Fixed(limit)),
        [low, high] if low > high => {
            Err(PlanError::value(FLAG, format!("must be a range MIN MAX, but {low} is above {high}")))
        }
        [low, high] if low == high => Ok(MaxTokens::Fixed(low)),
        [low, high] => Ok(MaxTokens::Drawn { low, high }),
        _ => Err(PlanError::value(FLAG, format!("takes one value or a range MIN MAX, not {} values", values.len()))),
    }
}

/// Serializes `--no-stream` as the value of `stream`.
fn negated<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(!flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_tokens_is_one_value_or_a_range() {
        let limit = |max_tokens: &[u32]| {
            let spec = SamplingSpec { max_tokens: max_tokens.to_vec(), ..SamplingSpec::default() };
            spec.resolve(false).map(|sampling| sampling.max_tokens)
        };
        assert_eq!(limit(&[]), Ok(Some(MaxTokens::Fixed(DEFAULT_MAX_TOKENS))));
        assert_eq!(limit(&[5, 5]), Ok(Some(MaxTokens::Fixed(5))));
        assert_eq!(limit(&[5, 9]), Ok(Some(MaxTokens::Drawn { low: 5, high: 9 })));
        assert!(limit(&[9, 5]).is_err() && limit(&[0]).is_err() && limit(&[1, 2, 3]).is_err());
        assert_eq!(SamplingSpec::default().resolve(true).unwrap().min_tokens, Some(DEFAULT_MAX_TOKENS));
    }
}
