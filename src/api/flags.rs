//! Generation flags and the fields they become in each dialect.

use serde_json::{Value, json};

use super::Dialect;
use super::render::{GAP, MaxTokens, Options, Sampling};

/// The generation flags with their values, in the order they are sent.
pub fn flags(sampling: &Sampling) -> Vec<(&'static str, Value)> {
    let max_tokens = sampling.max_tokens.map(|limit| match limit {
        MaxTokens::Fixed(limit) => json!(limit),
        MaxTokens::Drawn { .. } => json!(GAP),
    });
    let flags = [
        ("--max-tokens", max_tokens),
        ("--min-tokens", sampling.min_tokens.map(Value::from)),
        ("--temperature", sampling.temperature.map(Value::from)),
        ("--top-p", sampling.top_p.map(Value::from)),
        ("--top-k", sampling.top_k.map(Value::from)),
        ("--frequency-penalty", sampling.frequency_penalty.map(Value::from)),
        ("--repetition-penalty", sampling.repetition_penalty.map(Value::from)),
        ("--logprobs", sampling.logprobs.then_some(Value::Bool(true))),
        ("--n-choices", sampling.n_choices.map(Value::from)),
        ("--seed", sampling.seed.map(Value::from)),
        ("--stop", (!sampling.stop.is_empty()).then(|| json!(sampling.stop))),
        ("--stop-token-ids", (!sampling.stop_token_ids.is_empty()).then(|| json!(sampling.stop_token_ids))),
    ];
    flags.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
}

/// The field of the body for a generation flag; `None` where the API has none.
pub fn field_of(dialect: Dialect, flag: &str) -> Option<&'static str> {
    match (dialect, flag) {
        (Dialect::Embeddings | Dialect::Rerank, _) => None,
        (Dialect::Custom(api), _) => api.places(flag),
        (Dialect::Anthropic, "--stop") => Some("stop_sequences"),
        (Dialect::Anthropic, "--max-tokens") => Some("max_tokens"),
        (Dialect::Anthropic, "--temperature") => Some("temperature"),
        (Dialect::Anthropic, "--top-p") => Some("top_p"),
        (Dialect::Anthropic, "--top-k") => Some("top_k"),
        (Dialect::Anthropic, _) => None,
        (Dialect::Responses, "--max-tokens") => Some("max_output_tokens"),
        (Dialect::Responses, "--logprobs") => Some("top_logprobs"),
        (_, "--max-tokens") => Some("max_tokens"),
        (_, "--min-tokens") => Some("min_tokens"),
        (_, "--temperature") => Some("temperature"),
        (_, "--top-p") => Some("top_p"),
        (_, "--top-k") => Some("top_k"),
        (_, "--frequency-penalty") => Some("frequency_penalty"),
        (_, "--repetition-penalty") => Some("repetition_penalty"),
        (_, "--logprobs") => Some("logprobs"),
        (_, "--n-choices") => Some("n"),
        (_, "--seed") => Some("seed"),
        (_, "--stop") => Some("stop"),
        (_, "--stop-token-ids") => Some("stop_token_ids"),
        _ => None,
    }
}

/// The parameters under the names of the dialect.
pub fn option_fields(options: &Options) -> Vec<(&'static str, Value)> {
    let dialect = options.dialect;
    let mut fields = Vec::new();
    for (flag, value) in flags(&options.sampling) {
        let Some(name) = field_of(dialect, flag) else { continue };
        match (dialect, flag) {
            // vLLM and OpenAI read a count on /v1/completions, a switch on /v1/chat/completions.
            (Dialect::Completions, "--logprobs") => fields.push((name, json!(1))),
            (Dialect::Responses, "--logprobs") => {
                fields.push((name, json!(1)));
                fields.push(("include", json!(["message.output_text.logprobs"])));
            }
            _ => fields.push((name, value)),
        }
    }
    match dialect {
        Dialect::Chat | Dialect::Completions | Dialect::Responses | Dialect::Anthropic => {
            fields.push(("stream", Value::from(options.stream)));
        }
        Dialect::DashScope => {
            fields.push(("result_format", json!("message")));
            if options.stream {
                fields.push(("incremental_output", json!(true)));
            }
        }
        Dialect::Embeddings | Dialect::Rerank | Dialect::Custom(_) | Dialect::Program(_) => {}
    }
    fields
}
