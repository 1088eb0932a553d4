//! Parses the JSON body of a request.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::Value;

/// The endpoints that respond with generated content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Rerank,
    /// DashScope's text generation.
    DashScope,
    /// Anthropic's messages.
    Messages,
}

impl Endpoint {
    /// The path of the endpoint.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Responses => "/v1/responses",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Rerank => "/v1/rerank",
            Endpoint::DashScope => "/api/v1/services/aigc/text-generation/generation",
            Endpoint::Messages => "/v1/messages",
        }
    }

    /// Whether the response is text, generated token by token.
    pub(super) fn is_text(self) -> bool {
        !matches!(self, Endpoint::Embeddings | Endpoint::Rerank)
    }
}

/// The parameters of a request that the mock uses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RequestParams {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_tokens: Option<u32>,
    pub(super) min_tokens: u32,
    /// Number of choices in the response: prompts × `n`; embeddings and rerank: inputs.
    pub(super) choices: u32,
    /// Choices per prompt.
    pub(super) n: u32,
    pub(super) prompt_tokens: u32,
    /// Hash of all texts of the prompt; equal prompts have equal hashes.
    pub(super) prompt_hash: u64,
    /// Length of an embedding.
    pub(super) dimensions: u32,
}

/// The fields that the mock uses; all others (`ignore_eos`, sampling, ...) are accepted and ignored.
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    max_output_tokens: Option<i64>,
    min_tokens: Option<i64>,
    n: Option<i64>,
    dimensions: Option<i64>,
    messages: Option<Vec<Value>>,
    prompt: Option<Value>,
    input: Option<Value>,
    query: Option<Value>,
    documents: Option<Vec<Value>>,
    system: Option<Value>,
    parameters: Option<Parameters>,
}

/// DashScope's `parameters` object.
#[derive(Default, Deserialize)]
struct Parameters {
    max_tokens: Option<i64>,
    incremental_output: Option<bool>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Maximum number of choices in one response.
const MAX_CHOICES: usize = 4096;
/// Maximum number of tokens that a request can demand with `min_tokens`, over all choices. One thread serves many
/// connections, and the times of all tokens of a response that is not streamed are drawn at once.
const MAX_DEMANDED_TOKENS: u64 = 1 << 20;
/// Maximum number of numbers in the embeddings of one response.
const MAX_NUMBERS: u64 = 8 << 20;
/// Longest embedding.
const MAX_DIMENSIONS: u32 = 8192;

/// Parses the body of a request. `sse_header`: the request has `X-DashScope-SSE: enable`.
///
/// # Errors
/// The message of the response with status 400.
pub(super) fn parse(endpoint: Endpoint, body: &[u8], sse_header: bool) -> Result<RequestParams, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("JSON decode error: {error}"))?;
    let (inputs, prompt_tokens) = body.inputs(endpoint)?;
    let prompt_hash = body.prompt_hash();
    let n = positive("n", body.n)?.unwrap_or(1) as usize;
    let choices = inputs.saturating_mul(if matches!(endpoint, Endpoint::Chat | Endpoint::Completions) { n } else { 1 });
    if choices > MAX_CHOICES {
        return Err(format!("{choices} choices in one request exceed the maximum of {MAX_CHOICES}"));
    }
    let max_tokens = match endpoint {
        Endpoint::Responses => positive("max_output_tokens", body.max_output_tokens)?,
        Endpoint::DashScope => {
            positive("parameters.max_tokens", body.parameters.as_ref().and_then(|parameters| parameters.max_tokens))?
        }
        Endpoint::Messages if body.max_tokens.is_none() => return Err("max_tokens: Field required".to_string()),
        _ => match positive("max_completion_tokens", body.max_completion_tokens)? {
            None => positive("max_tokens", body.max_tokens)?,
            some => some,
        },
    };
    let min_tokens =
        u32::try_from(body.min_tokens.unwrap_or(0)).map_err(|_| "min_tokens must be 0 or more".to_string())?;
    if max_tokens.is_some_and(|max| min_tokens > max) {
        return Err("min_tokens must be less than or equal to max_tokens".to_string());
    }
    let demanded = u64::from(min_tokens) * choices as u64;
    if demanded > MAX_DEMANDED_TOKENS {
        return Err(format!("min_tokens demands {demanded} tokens, the maximum is {MAX_DEMANDED_TOKENS}"));
    }
    let dimensions = positive("dimensions", body.dimensions)?.unwrap_or(16).min(MAX_DIMENSIONS);
    let numbers = u64::from(dimensions) * choices as u64;
    if endpoint == Endpoint::Embeddings && numbers > MAX_NUMBERS {
        return Err(format!("dimensions demands {numbers} numbers for all inputs, the maximum is {MAX_NUMBERS}"));
    }
    let asks_sse = if endpoint == Endpoint::DashScope { sse_header } else { body.stream.unwrap_or(false) };
    if asks_sse && endpoint == Endpoint::DashScope && !body.is_incremental() {
        return Err("parameters.incremental_output must be true: the mock does not send cumulative output".to_string());
    }
    Ok(RequestParams {
        endpoint,
        stream: endpoint.is_text() && asks_sse,
        include_usage: body.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false),
        max_tokens,
        min_tokens,
        choices: choices as u32,
        n: (choices / inputs.max(1)) as u32,
        prompt_tokens,
        prompt_hash,
        dimensions,
        model: body.model.unwrap_or_default(),
    })
}

impl Body {
    fn is_incremental(&self) -> bool {
        self.parameters.as_ref().and_then(|parameters| parameters.incremental_output).unwrap_or(false)
    }

    fn prompt_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let lists = self.messages.iter().chain(&self.documents).flatten();
        let values = [&self.prompt, &self.input, &self.query, &self.system].into_iter().flatten();
        lists.chain(values).for_each(|value| hash_texts(value, &mut hasher));
        hasher.finish()
    }

    /// The number of inputs and the number of tokens in all of them.
    fn inputs(&self, endpoint: Endpoint) -> Result<(usize, u32), String> {
        let missing = |field: &str| format!("Field required: {field}");
        match endpoint {
            Endpoint::Chat => Ok((1, 1 + spoken(self.messages.as_ref().ok_or_else(|| missing("messages"))?)?)),
            Endpoint::Messages => {
                let messages = self.messages.as_ref().ok_or_else(|| missing("messages"))?;
                if messages.iter().any(|message| message["role"] == "system") {
                    return Err("messages: roles are user and assistant; put the system prompt into the field system"
                        .to_string());
                }
                Ok((1, 1 + spoken(messages)? + self.system.as_ref().map_or(0, words)))
            }
            Endpoint::DashScope => {
                let input = self.input.as_ref().ok_or_else(|| missing("input"))?;
                match (input["messages"].as_array(), &input["prompt"]) {
                    (Some(messages), _) => Ok((1, 1 + spoken(messages)?)),
                    (None, Value::String(prompt)) => Ok((1, 1 + count_words(prompt))),
                    _ => Err(missing("input.messages or input.prompt")),
                }
            }
            Endpoint::Completions => prompts("prompt", self.prompt.as_ref().ok_or_else(|| missing("prompt"))?),
            Endpoint::Embeddings => prompts("input", self.input.as_ref().ok_or_else(|| missing("input"))?),
            Endpoint::Responses => Ok((1, 1 + words(self.input.as_ref().ok_or_else(|| missing("input"))?))),
            Endpoint::Rerank => {
                let query = self.query.as_ref().ok_or_else(|| missing("query"))?;
                let documents = self.documents.as_ref().ok_or_else(|| missing("documents"))?;
                if documents.is_empty() {
                    return Err("documents must not be empty".to_string());
                }
                let each = 1 + words(query);
                Ok((documents.len(), documents.iter().map(|document| each + words(document)).sum()))
            }
        }
    }
}

/// Hashes all strings and numbers of a value.
fn hash_texts(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::String(text) => text.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::Array(values) => values.iter().for_each(|value| hash_texts(value, hasher)),
        Value::Object(fields) => fields.values().for_each(|value| hash_texts(value, hasher)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Counts the words of all messages.
fn spoken(messages: &[Value]) -> Result<u32, String> {
    if messages.is_empty() {
        return Err("messages must not be empty".to_string());
    }
    Ok(messages.iter().map(|message| words(&message["content"])).sum())
}

/// Counts the prompts and tokens of a string, a list of strings, a list of token ids, or a list of such lists. Token ids
/// are counted exactly; for text, words approximate tokens.
fn prompts(field: &str, value: &Value) -> Result<(usize, u32), String> {
    match value {
        Value::String(text) => Ok((1, 1 + count_words(text))),
        Value::Array(items) if items.is_empty() => Err(format!("{field} must not be empty")),
        Value::Array(items) if items.iter().all(Value::is_u64) => Ok((1, items.len() as u32)),
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_array()) => {
            let mut tokens = 0;
            for item in items {
                tokens += prompts(field, item)?.1;
            }
            Ok((items.len(), tokens))
        }
        _ => Err(format!("{field} must be a string, a list of strings, or lists of token ids")),
    }
}

/// Counts the words of all strings in a value. In objects, only the usual text fields of messages and message parts are
/// searched.
fn words(value: &Value) -> u32 {
    match value {
        Value::String(text) => count_words(text),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => {
            ["content", "text", "input_text"].iter().filter_map(|name| fields.get(*name)).map(words).sum()
        }
        _ => 0,
    }
}

/// Counts one per ASCII word and one per non-ASCII character, because Chinese has no spaces between words.
fn count_words(text: &str) -> u32 {
    let mut count = 0;
    let mut within_word = false;
    for character in text.chars().map(|character| if character.is_whitespace() { ' ' } else { character }) {
        let in_word = character.is_ascii() && character != ' ';
        count += u32::from(!character.is_ascii() || (in_word && !within_word));
        within_word = in_word;
    }
    count
}

fn positive(name: &str, value: Option<i64>) -> Result<Option<u32>, String> {
    match value {
        None => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(format!("{name} must be at least 1, got {number}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_request_is_parsed() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"one two"},{"role":"user","content":[{"type":"text","text":"three"}]}],
            "stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":7,"max_tokens":9,"n":2,"ignore_eos":true}"#;
        let params = parse(Endpoint::Chat, body, false).unwrap();
        assert!(params.stream && params.include_usage);
        assert_eq!((params.max_tokens, params.choices, params.prompt_tokens), (Some(7), 2, 4));
    }

    #[test]
    fn prompt_tokens_are_counted_for_every_prompt_type() {
        let count = |prompt: &str| {
            let params = parse(Endpoint::Completions, format!("{{\"prompt\":{prompt}}}").as_bytes(), false).unwrap();
            (params.choices, params.prompt_tokens)
        };
        assert_eq!(count("\"a b c\""), (1, 4));
        assert_eq!(count("[\"a b\",\"c\"]"), (2, 5));
        assert_eq!(count("\"熵熵熵 two 熵-b　c\""), (1, 8), "a character of another script is a word");
        assert_eq!(count("[5,6,7]"), (1, 3));
        assert_eq!(count("[[5,6,7],[8]]"), (2, 4));
    }

    #[test]
    fn invalid_bodies_are_rejected_with_a_reason() {
        let error = |endpoint, body: &str| parse(endpoint, body.as_bytes(), false).unwrap_err();
        assert!(error(Endpoint::Chat, "{").contains("JSON"));
        assert!(error(Endpoint::Chat, "{}").contains("messages"));
        assert!(error(Endpoint::Completions, "{\"prompt\":3}").contains("prompt"));
        assert!(error(Endpoint::Completions, "{\"prompt\":\"a\",\"max_tokens\":0}").contains("max_tokens"));
        assert!(error(Endpoint::Completions, "{\"prompt\":\"a\",\"n\":5000}").contains("5000"));
        assert!(error(Endpoint::Rerank, "{\"query\":\"a\",\"documents\":[]}").contains("documents"));
        assert!(error(Endpoint::Completions, "{\"prompt\":\"a\",\"min_tokens\":4294967295}").contains("4294967295"));
        assert!(error(Endpoint::Completions, "{\"prompt\":\"a\",\"min_tokens\":1000,\"n\":2000}").contains("2000000"));
        let texts = format!("{{\"input\":[{}\"a\"],\"dimensions\":8192}}", "\"a\",".repeat(2000));
        assert!(error(Endpoint::Embeddings, &texts).contains("dimensions"));
    }

    #[test]
    fn dashscope_and_messages_requests_are_parsed() {
        let body = br#"{"model":"m","input":{"messages":[{"role":"user","content":"one two"}]},"parameters":{"max_tokens":5,"incremental_output":true}}"#;
        let params = parse(Endpoint::DashScope, body, true).unwrap();
        assert_eq!((params.stream, params.max_tokens, params.prompt_tokens), (true, Some(5), 3));
        assert!(!parse(Endpoint::DashScope, body, false).unwrap().stream);
        assert_eq!(parse(Endpoint::DashScope, br#"{"input":{"prompt":"a b"}}"#, false).unwrap().prompt_tokens, 3);
        let error = |endpoint, body: &str, sse| parse(endpoint, body.as_bytes(), sse).unwrap_err();
        assert!(error(Endpoint::DashScope, r#"{"input":{"prompt":"a"}}"#, true).contains("incremental_output"));
        assert!(error(Endpoint::DashScope, r#"{"input":{}}"#, false).contains("input.messages"));

        let body =
            br#"{"max_tokens":7,"stream":true,"system":"be brief","messages":[{"role":"user","content":"one"}]}"#;
        let params = parse(Endpoint::Messages, body, false).unwrap();
        assert_eq!((params.stream, params.max_tokens, params.prompt_tokens), (true, Some(7), 4));
        let user = r#""messages":[{"role":"user","content":"a"}]"#;
        assert!(error(Endpoint::Messages, &format!("{{{user}}}"), false).contains("max_tokens"));
        let system = r#"{"max_tokens":1,"messages":[{"role":"system","content":"a"}]}"#;
        assert!(error(Endpoint::Messages, system, false).contains("system"));
    }
}
