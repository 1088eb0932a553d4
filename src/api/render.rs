//! Request bodies: a prompt and the options of a run in, JSON bytes out.

use serde_json::{Map, Value, json};

use super::Dialect;

/// The constant part of every request's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub dialect: Dialect,
    pub model: String,
    /// Ask for SSE, and for usage with it.
    pub stream: bool,
    pub sampling: Sampling,
    /// Merged last, over everything else, key by key.
    pub extra: Map<String, Value>,
}

/// Generation parameters. What is `None` or empty is not sent.
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
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
}

/// The limit on output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokens {
    Fixed(u32),
    /// Left open in the rendered bytes; a number of this range, both ends included, is drawn for each request.
    Drawn {
        low: u32,
        high: u32,
    },
}

/// What one request asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Text(String),
    /// Chat messages, sent as they are.
    Messages(Vec<Value>),
    /// Token ids instead of text.
    Tokens(Vec<u32>),
    /// A whole body: its fields win, the options only fill what it leaves out.
    Body(Map<String, Value>),
}

/// A rendered body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub bytes: Box<[u8]>,
    /// Where in `bytes` the digits of a drawn `max_tokens` belong; `None` when the body is complete.
    pub max_tokens_at: Option<u32>,
}

/// Renders a prompt. Fails when the dialect has no form for it, with a text that says which one has.
pub fn body(options: &Options, prompt: &Prompt) -> Result<Body, String> {
    let mut fields = prompt_fields(options, prompt)?;
    let mut drawn = false;
    for (name, value) in option_fields(options) {
        if fields.contains_key(name) || (name == "max_tokens" && sets_limit(&fields, &options.extra)) {
            continue;
        }
        drawn |= value.is_null();
        fields.insert(name.to_string(), value);
    }
    for (name, value) in &options.extra {
        drawn &= name != "max_tokens";
        fields.insert(name.clone(), value.clone());
    }
    add_stream_options(&mut fields);
    Ok(write(&fields, drawn))
}

/// The fields that carry the prompt, `model` first: that is the order people read.
fn prompt_fields(options: &Options, prompt: &Prompt) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    fields.insert("model".to_string(), Value::from(options.model.as_str()));
    match (prompt, options.dialect) {
        (Prompt::Text(text), Dialect::Chat) => {
            fields.insert("messages".to_string(), json!([{"role": "user", "content": text}]));
        }
        (Prompt::Text(text), Dialect::Completions) => {
            fields.insert("prompt".to_string(), Value::from(text.as_str()));
        }
        (Prompt::Messages(messages), Dialect::Chat) => {
            fields.insert("messages".to_string(), Value::from(messages.clone()));
        }
        (Prompt::Messages(_), Dialect::Completions) => {
            return Err("a list of messages needs an endpoint that ends in /chat/completions".to_string());
        }
        (Prompt::Tokens(ids), Dialect::Completions) => {
            fields.insert("prompt".to_string(), json!(ids));
        }
        (Prompt::Tokens(_), Dialect::Chat) => {
            return Err("token ids need an endpoint that ends in /v1/completions".to_string());
        }
        (Prompt::Body(row), _) => fields.extend(row.clone()),
    }
    Ok(fields)
}

/// The parameters in the order they are sent. A null stands for a limit that is drawn for each request.
fn option_fields(options: &Options) -> Vec<(&'static str, Value)> {
    let sampling = &options.sampling;
    // vLLM and OpenAI read a count on /v1/completions, a switch on /v1/chat/completions.
    let logprobs = if options.dialect == Dialect::Completions { json!(1) } else { json!(true) };
    let max_tokens = sampling.max_tokens.map(|limit| match limit {
        MaxTokens::Fixed(limit) => json!(limit),
        MaxTokens::Drawn { .. } => Value::Null,
    });
    let fields = [
        ("max_tokens", max_tokens),
        ("min_tokens", sampling.min_tokens.map(Value::from)),
        ("temperature", sampling.temperature.map(Value::from)),
        ("top_p", sampling.top_p.map(Value::from)),
        ("top_k", sampling.top_k.map(Value::from)),
        ("frequency_penalty", sampling.frequency_penalty.map(Value::from)),
        ("repetition_penalty", sampling.repetition_penalty.map(Value::from)),
        ("logprobs", sampling.logprobs.then_some(logprobs)),
        ("n", sampling.n_choices.map(Value::from)),
        ("seed", sampling.seed.map(Value::from)),
        ("stop", (!sampling.stop.is_empty()).then(|| json!(sampling.stop))),
        ("stop_token_ids", (!sampling.stop_token_ids.is_empty()).then(|| json!(sampling.stop_token_ids))),
        ("stream", Some(Value::from(options.stream))),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Whether a row or `--extra-args` limits the output under the newer name; servers refuse both names together.
fn sets_limit(fields: &Map<String, Value>, extra: &Map<String, Value>) -> bool {
    fields.contains_key("max_completion_tokens") || extra.contains_key("max_completion_tokens")
}

/// Asks for usage when the body streams. Servers refuse `stream_options` in a body that does not.
fn add_stream_options(fields: &mut Map<String, Value>) {
    if fields.get("stream") == Some(&Value::Bool(true)) && !fields.contains_key("stream_options") {
        fields.insert("stream_options".to_string(), json!({"include_usage": true}));
    }
}

/// Writes the object, leaving out the digits of a `max_tokens` that is drawn.
fn write(fields: &Map<String, Value>, drawn: bool) -> Body {
    let mut bytes = Vec::with_capacity(256);
    let mut max_tokens_at = None;
    bytes.push(b'{');
    for (place, (name, value)) in fields.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
        bytes.push(b':');
        if drawn && name == "max_tokens" {
            max_tokens_at = u32::try_from(bytes.len()).ok();
        } else {
            bytes.extend_from_slice(value.to_string().as_bytes());
        }
    }
    bytes.push(b'}');
    Body { bytes: bytes.into_boxed_slice(), max_tokens_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dialect: Dialect) -> Options {
        let sampling =
            Sampling { max_tokens: Some(MaxTokens::Fixed(16)), temperature: Some(0.0), ..Sampling::default() };
        Options { dialect, model: "m".to_string(), stream: true, sampling, extra: Map::new() }
    }

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn text(options: &Options, prompt: &Prompt) -> String {
        String::from_utf8(body(options, prompt).unwrap().bytes.into_vec()).unwrap()
    }

    #[test]
    fn a_text_is_a_user_message_in_chat() {
        assert_eq!(
            text(&options(Dialect::Chat), &Prompt::Text("say \"hi\"\n熵".to_string())),
            r#"{"model":"m","messages":[{"role":"user","content":"say \"hi\"\n熵"}],"max_tokens":16,"temperature":0.0,"stream":true,"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn a_text_is_the_prompt_in_completions() {
        let mut options = options(Dialect::Completions);
        options.stream = false;
        options.sampling.logprobs = true;
        assert_eq!(
            text(&options, &Prompt::Text("hi".to_string())),
            r#"{"model":"m","prompt":"hi","max_tokens":16,"temperature":0.0,"logprobs":1,"stream":false}"#
        );
        assert!(body(&options, &Prompt::Messages(vec![])).unwrap_err().contains("/chat/completions"));
    }

    #[test]
    fn every_parameter_is_sent_in_its_type() {
        let mut options = options(Dialect::Chat);
        options.sampling = Sampling {
            max_tokens: Some(MaxTokens::Fixed(20)),
            min_tokens: Some(10),
            temperature: Some(0.7),
            top_p: Some(0.9),
            top_k: Some(-1),
            frequency_penalty: Some(0.1),
            repetition_penalty: Some(1.1),
            logprobs: true,
            n_choices: Some(2),
            seed: Some(42),
            stop: vec!["<|im_end|>".to_string(), "\n\n".to_string()],
            stop_token_ids: vec![151_645, 7],
        };
        assert_eq!(
            text(&options, &Prompt::Messages(vec![json!({"role": "system", "content": "s"})])),
            concat!(
                r#"{"model":"m","messages":[{"role":"system","content":"s"}],"max_tokens":20,"min_tokens":10,"#,
                r#""temperature":0.7,"top_p":0.9,"top_k":-1,"frequency_penalty":0.1,"repetition_penalty":1.1,"#,
                r#""logprobs":true,"n":2,"seed":42,"stop":["<|im_end|>","\n\n"],"stop_token_ids":[151645,7],"#,
                r#""stream":true,"stream_options":{"include_usage":true}}"#
            )
        );
    }

    #[test]
    fn the_fields_of_a_row_win() {
        let row = object(r#"{"messages":[],"model":"lora","temperature":1,"stream":false}"#);
        assert_eq!(
            text(&options(Dialect::Chat), &Prompt::Body(row)),
            r#"{"model":"lora","messages":[],"temperature":1,"stream":false,"max_tokens":16}"#
        );
    }

    #[test]
    fn extra_arguments_win_over_everything() {
        let mut options = options(Dialect::Chat);
        options.extra = object(r#"{"ignore_eos":true,"max_tokens":9,"model":"x"}"#);
        let row = object(r#"{"prompt":"p","model":"lora"}"#);
        assert_eq!(
            text(&options, &Prompt::Body(row)),
            r#"{"model":"x","prompt":"p","max_tokens":9,"temperature":0.0,"stream":true,"ignore_eos":true,"stream_options":{"include_usage":true}}"#
        );
        options.extra = object(r#"{"stream":false,"max_completion_tokens":5}"#);
        let rendered = text(&options, &Prompt::Text("p".to_string()));
        assert!(!rendered.contains("stream_options") && !rendered.contains("max_tokens\""), "{rendered}");
    }

    #[test]
    fn a_drawn_limit_leaves_a_gap() {
        let mut options = options(Dialect::Chat);
        options.sampling.max_tokens = Some(MaxTokens::Drawn { low: 10, high: 20 });
        let open = body(&options, &Prompt::Text("p".to_string())).unwrap();
        let at = open.max_tokens_at.unwrap() as usize;
        assert!(open.bytes[..at].ends_with(br#""max_tokens":"#));
        assert!(open.bytes[at..].starts_with(br#","temperature""#));

        let row = body(&options, &Prompt::Body(object(r#"{"max_tokens":3}"#))).unwrap();
        assert_eq!(row.max_tokens_at, None);
        options.extra = object(r#"{"max_tokens":4}"#);
        let extra = body(&options, &Prompt::Text("p".to_string())).unwrap();
        assert_eq!(extra.max_tokens_at, None);
        assert!(String::from_utf8_lossy(&extra.bytes).contains(r#""max_tokens":4"#));
    }

    #[test]
    fn a_null_of_a_row_is_sent_as_null() {
        let row = object(r#"{"max_tokens":null}"#);
        let rendered = text(&options(Dialect::Chat), &Prompt::Body(row));
        assert!(rendered.contains(r#""max_tokens":null"#), "{rendered}");
    }
}
