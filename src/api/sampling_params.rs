//! Generation parameters: the flags that set them and their field names in the OpenAI API.

use serde_json::{Value, json};

/// Generation parameters. A parameter that is `None` or empty is not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    pub max_tokens: Option<MaxTokens>,
    pub min_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub logprobs: bool,
    /// Choices per request, `n`.
    pub n_choices: Option<u32>,
    pub seed: Option<u64>,
    /// Each request gets a seed of its own instead, which is drawn when it is written.
    pub seed_per_request: bool,
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
}

/// The limit on output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokens {
    Fixed(u32),
    /// Left open in the rendered bytes. Each request gets a number drawn from this range, both ends included.
    Drawn {
        low: u32,
        high: u32,
    },
}

/// Placeholder in a body for a limit that is drawn for each request. Prompts do not contain this text with NUL
/// characters around it.
pub(crate) const MAX_TOKENS_PLACEHOLDER: &str = "\0max_tokens\0";

/// The same for a seed that is drawn for each request.
pub(crate) const SEED_PLACEHOLDER: &str = "\0seed\0";
/// Drawn seeds are in this range: all have the same number of digits, and fit any integer type.
pub(crate) const REQUEST_SEEDS: (u32, u32) = (1_000_000_000, 2_147_483_647);
/// Digits of a drawn seed.
pub(crate) const SEED_DIGITS: usize = 10;

/// Generation flags and their fields in the OpenAI API.
pub(crate) const FIELDS: [(&str, &str); 12] = [
    ("--max-tokens", "max_tokens"),
    ("--min-tokens", "min_tokens"),
    ("--temperature", "temperature"),
    ("--top-p", "top_p"),
    ("--top-k", "top_k"),
    ("--frequency-penalty", "frequency_penalty"),
    ("--repetition-penalty", "repetition_penalty"),
    ("--logprobs", "logprobs"),
    ("--n-choices", "n"),
    ("--seed", "seed"),
    ("--stop", "stop"),
    ("--stop-token-ids", "stop_token_ids"),
];

/// The field of a generation flag in the OpenAI API.
pub(crate) fn openai_field(flag: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(known, _)| *known == flag).map(|(_, field)| *field)
}

impl Sampling {
    /// The flags that are set, with their values, in the order of [`FIELDS`], which is the order they are sent in.
    pub fn flags(&self) -> Vec<(&'static str, Value)> {
        let max_tokens = self.max_tokens.map(|limit| match limit {
            MaxTokens::Fixed(limit) => json!(limit),
            MaxTokens::Drawn { .. } => json!(MAX_TOKENS_PLACEHOLDER),
        });
        let values = [
            max_tokens,
            self.min_tokens.map(Value::from),
            self.temperature.map(Value::from),
            self.top_p.map(Value::from),
            self.top_k.map(Value::from),
            self.frequency_penalty.map(Value::from),
            self.repetition_penalty.map(Value::from),
            self.logprobs.then_some(Value::Bool(true)),
            self.n_choices.map(Value::from),
            if self.seed_per_request { Some(json!(SEED_PLACEHOLDER)) } else { self.seed.map(Value::from) },
            (!self.stop.is_empty()).then(|| json!(self.stop)),
            (!self.stop_token_ids.is_empty()).then(|| json!(self.stop_token_ids)),
        ];
        FIELDS.iter().zip(values).filter_map(|((flag, _), value)| Some((*flag, value?))).collect()
    }
}
