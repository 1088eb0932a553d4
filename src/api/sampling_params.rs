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

/// A generation parameter.
pub(crate) struct Field {
    pub flag: &'static str,
    /// The name of its field in the OpenAI API.
    pub name: &'static str,
    /// Its value in a body; `None` if it is not sent.
    value: fn(&Sampling) -> Option<Value>,
}

/// All generation parameters, in the order they are sent in.
pub(crate) static FIELDS: [Field; 12] = [
    Field { flag: "--max-tokens", name: "max_tokens", value: |sampling| sampling.max_tokens.map(MaxTokens::value) },
    Field { flag: "--min-tokens", name: "min_tokens", value: |sampling| sampling.min_tokens.map(Value::from) },
    Field { flag: "--temperature", name: "temperature", value: |sampling| sampling.temperature.map(Value::from) },
    Field { flag: "--top-p", name: "top_p", value: |sampling| sampling.top_p.map(Value::from) },
    Field { flag: "--top-k", name: "top_k", value: |sampling| sampling.top_k.map(Value::from) },
    Field {
        flag: "--frequency-penalty",
        name: "frequency_penalty",
        value: |sampling| sampling.frequency_penalty.map(Value::from),
    },
    Field {
        flag: "--repetition-penalty",
        name: "repetition_penalty",
        value: |sampling| sampling.repetition_penalty.map(Value::from),
    },
    Field { flag: "--logprobs", name: "logprobs", value: |sampling| sampling.logprobs.then_some(Value::Bool(true)) },
    Field { flag: "--n-choices", name: "n", value: |sampling| sampling.n_choices.map(Value::from) },
    Field { flag: "--seed", name: "seed", value: Sampling::seed_value },
    Field { flag: "--stop", name: "stop", value: |sampling| (!sampling.stop.is_empty()).then(|| json!(sampling.stop)) },
    Field {
        flag: "--stop-token-ids",
        name: "stop_token_ids",
        value: |sampling| (!sampling.stop_token_ids.is_empty()).then(|| json!(sampling.stop_token_ids)),
    },
];

impl MaxTokens {
    fn value(self) -> Value {
        match self {
            MaxTokens::Fixed(limit) => json!(limit),
            MaxTokens::Drawn { .. } => json!(MAX_TOKENS_PLACEHOLDER),
        }
    }
}

impl Sampling {
    fn seed_value(&self) -> Option<Value> {
        if self.seed_per_request { Some(json!(SEED_PLACEHOLDER)) } else { self.seed.map(Value::from) }
    }

    /// The parameters that are set, with their values, in the order of [`FIELDS`].
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static Field, Value)> + '_ {
        FIELDS.iter().filter_map(|field| Some((field, (field.value)(self)?)))
    }
}
