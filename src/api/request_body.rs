//! Request bodies: renders a prompt with the options of the run as JSON.
//!
//! Precedence for a field, highest first: `--extra-args`; a whole body from the data set; a flag given on the command
//! line; `--query-template`; the default of a flag. Beside a template no defaults are sent: only model and prompt are added
//! to it, and the flags that are given.

use std::sync::Arc;

use memchr::memmem;
use serde_json::{Map, Value, json};

use super::dialect::Dialect;
use super::placeholder;
use super::prompt::Prompt;
use super::query_template::QueryTemplate;
use super::sampling_params::{MAX_TOKENS_PLACEHOLDER, SEED_DIGITS, SEED_PLACEHOLDER, Sampling};

/// The options that all request bodies of a run share.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub dialect: Dialect,
    pub model: String,
    /// Ask for SSE, and for usage with it.
    pub stream: bool,
    pub sampling: Sampling,
    pub template: Option<Arc<QueryTemplate>>,
    /// Merged last, over all other fields, key by key.
    pub extra: Map<String, Value>,
}

impl Options {
    /// The number of choices that each answer has.
    pub(crate) fn choices(&self) -> u32 {
        let extra = self.extra.get("n").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        extra.or(self.sampling.n_choices).unwrap_or(1)
    }
}

/// A rendered body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub bytes: Box<[u8]>,
    /// Offset in `bytes` where the digits of a drawn `max_tokens` are inserted; `None` if the body is complete.
    pub max_tokens_at: Option<u32>,
    /// Offset in `bytes` of the digits of a seed that is drawn for each request, which replaces them.
    pub seed_at: Option<u32>,
}

/// Renders a prompt. The error names the API that can carry the prompt, if this one cannot.
pub fn render(options: &Options, prompt: &Prompt) -> Result<Body, String> {
    let fields = match options.dialect {
        Dialect::Custom(api) => api.fields(&options.model, options.stream, &options.sampling, prompt),
        _ => composed(options, prompt)?,
    };
    finish(options, fields)
}

/// Renders a body that is complete except for `--extra-args`. A field that is `null` there is left out.
pub fn finish(options: &Options, mut fields: Map<String, Value>) -> Result<Body, String> {
    for (name, value) in &options.extra {
        match (fields.get_mut(name), value) {
            // Fields that other APIs have at the top level stand in an object here: merge into it.
            (Some(Value::Object(there)), Value::Object(more)) if options.dialect.parameters_in().is_some() => {
                there.extend(more.clone());
                more.iter().filter(|(_, value)| value.is_null()).for_each(|(name, _)| drop(there.shift_remove(name)));
            }
            (_, Value::Null) => drop(fields.shift_remove(name)),
            _ => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    // A template decides alone.
    let asks_usage = options.template.is_none() && !options.extra.contains_key("stream_options");
    if options.dialect.has_stream_options() && asks_usage {
        add_stream_options(&mut fields);
    }
    write(&fields)
}

fn composed(options: &Options, prompt: &Prompt) -> Result<Map<String, Value>, String> {
    let template = options.template.as_deref();
    let row = match prompt {
        Prompt::Body(row) => Some(row),
        _ => None,
    };
    let mut fields = match (row, template) {
        (Some(row), _) => with_row(options, row),
        (None, None) => with_prompt(options, prompt)?,
        (None, Some(template)) => with_template(options, template, prompt)?,
    };
    if let Some(group) = options.dialect.parameters_in() {
        let parameters = fields.entry(group).or_insert_with(|| json!({}));
        if let Value::Object(parameters) = parameters {
            let row = row.and_then(|row| row.get(group));
            let set = template.and_then(|template| template.get(group));
            add_options(options, parameters, row.and_then(Value::as_object), |name| {
                set.is_some_and(|set| set.get(name).is_some())
            });
            if parameters.is_empty() && template.is_some() && set.is_none() {
                fields.shift_remove(group);
            }
        }
    } else {
        let set = |name: &str| template.is_some_and(|template| template.get(name).is_some());
        add_options(options, &mut fields, row, set);
    }
    Ok(fields)
}

/// The fields that carry the prompt, after `model`.
fn with_prompt(options: &Options, prompt: &Prompt) -> Result<Map<String, Value>, String> {
    let mut fields = Map::from_iter([("model".to_string(), Value::from(options.model.as_str()))]);
    fields.extend(options.dialect.prompt_fields(prompt)?);
    Ok(fields)
}

fn with_row(options: &Options, row: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = Map::from_iter([("model".to_string(), Value::from(options.model.as_str()))]);
    fields.extend(row.clone());
    for (name, value) in options.template.iter().flat_map(|template| template.fill_beside_body(&options.model)) {
        fields.entry(name).or_insert(value);
    }
    fields
}

fn with_template(options: &Options, template: &QueryTemplate, prompt: &Prompt) -> Result<Map<String, Value>, String> {
    let mut fields = template.fill(&options.model, prompt);
    // The template does not name the model, or the flag takes precedence.
    let named = template.get("model").and_then(Value::as_str);
    if named.is_none_or(|name| !name.contains(placeholder::MODEL)) && template.model().is_none() {
        fields.insert("model".to_string(), Value::from(options.model.as_str()));
    }
    let mut rest = Map::new();
    if !template.names_prompt() {
        rest = options.dialect.prompt_fields(prompt)?;
    } else if let (Dialect::Rerank, Prompt::Rerank { .. }) = (options.dialect, prompt) {
        // `%p` is the query alone: the documents follow.
        rest = options.dialect.prompt_fields(prompt)?;
    }
    for (name, value) in rest {
        fields.entry(name).or_insert(value);
    }
    Ok(fields)
}

/// Adds the parameters that are not set by the row or, for flags that were not given, by the template.
fn add_options(
    options: &Options,
    fields: &mut Map<String, Value>,
    row: Option<&Map<String, Value>>,
    template_sets: impl Fn(&str) -> bool,
) {
    let in_row = |name: &str| row.is_some_and(|row| row.contains_key(name));
    for (name, value) in options.dialect.parameter_fields(&options.sampling, options.stream) {
        // Servers reject a limit under both of its names.
        const NEWER: &str = "max_completion_tokens";
        let is_limit = name == "max_tokens";
        if is_limit && (in_row(NEWER) || options.extra.contains_key(NEWER)) {
            continue;
        }
        let name = if is_limit && template_sets(NEWER) { NEWER } else { name };
        let given = options.template.as_ref().is_none_or(|template| template.is_given(name));
        if !in_row(name) && given {
            fields.insert(name.to_string(), value);
        }
    }
}

/// Asks for usage if the body streams. Servers reject `stream_options` without `stream`.
fn add_stream_options(fields: &mut Map<String, Value>) {
    if fields.get("stream") == Some(&Value::Bool(true)) && !fields.contains_key("stream_options") {
        fields.insert("stream_options".to_string(), json!({"include_usage": true}));
    }
}

/// Writes the object, without the digits of a drawn limit.
fn write(fields: &Map<String, Value>) -> Result<Body, String> {
    let mut bytes = serde_json::to_vec(fields).expect("a JSON value can be written");
    let seed_at = replace_once(&mut bytes, SEED_PLACEHOLDER, &[b'1'; SEED_DIGITS]).map_err(|()| {
        "--seed-per-request needs a single field in the body; %{seed} occurs more than once".to_string()
    })?;
    let max_tokens_at = replace_once(&mut bytes, MAX_TOKENS_PLACEHOLDER, b"").map_err(|()| {
        "a range for --max-tokens needs a single field in the body; %{max_tokens} occurs more than once".to_string()
    })?;
    let gap = Value::from(MAX_TOKENS_PLACEHOLDER).to_string().len();
    let seed_at = seed_at.map(|at| if max_tokens_at.is_some_and(|limit| limit < at) { at - gap } else { at });
    let offset = |at: Option<usize>| at.and_then(|at| u32::try_from(at).ok());
    Ok(Body { bytes: bytes.into_boxed_slice(), max_tokens_at: offset(max_tokens_at), seed_at: offset(seed_at) })
}

/// Replaces a placeholder, with its quotes. Returns where it was; an error if it occurs more than once.
fn replace_once(bytes: &mut Vec<u8>, placeholder: &str, with: &[u8]) -> Result<Option<usize>, ()> {
    let gap = Value::from(placeholder).to_string();
    let mut found = memmem::find_iter(bytes, &gap);
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        return Err(());
    }
    if let Some(at) = first {
        bytes.splice(at..at + gap.len(), with.iter().copied());
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::query_template::GivenFlags;
    use crate::api::sampling_params::MaxTokens;

    fn options(dialect: Dialect) -> Options {
        let sampling =
            Sampling { max_tokens: Some(MaxTokens::Fixed(16)), temperature: Some(0.0), ..Sampling::default() };
        Options { dialect, model: "m".to_string(), stream: true, sampling, template: None, extra: Map::new() }
    }

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    fn text(options: &Options, prompt: &Prompt) -> String {
        String::from_utf8(render(options, prompt).unwrap().bytes.into_vec()).unwrap()
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
        assert!(render(&options, &Prompt::Messages(vec![])).unwrap_err().contains("/chat/completions"));
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
            seed_per_request: false,
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
    fn null_in_extra_arguments_leaves_a_field_out() {
        let prompt = Prompt::Text("p".to_string());
        let mut chat = options(Dialect::Chat);
        chat.extra = object(r#"{"stream_options":null,"temperature":null,"seed":null}"#);
        assert_eq!(
            text(&chat, &prompt),
            r#"{"model":"m","messages":[{"role":"user","content":"p"}],"max_tokens":16,"stream":true}"#
        );
        let mut dashscope = options(Dialect::DashScope);
        dashscope.extra = object(r#"{"parameters":{"temperature":null}}"#);
        let body = text(&dashscope, &prompt);
        assert!(body.contains(r#""max_tokens":16"#) && !body.contains("temperature"), "{body}");
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
        let open = render(&options, &Prompt::Text("p".to_string())).unwrap();
        let at = open.max_tokens_at.unwrap() as usize;
        assert!(open.bytes[..at].ends_with(br#""max_tokens":"#));
        assert!(open.bytes[at..].starts_with(br#","temperature""#));

        let row = render(&options, &Prompt::Body(object(r#"{"max_tokens":3}"#))).unwrap();
        assert_eq!(row.max_tokens_at, None);
        options.extra = object(r#"{"max_tokens":4}"#);
        let extra = render(&options, &Prompt::Text("p".to_string())).unwrap();
        assert_eq!(extra.max_tokens_at, None);
        assert!(String::from_utf8_lossy(&extra.bytes).contains(r#""max_tokens":4"#));
    }

    #[test]
    fn a_drawn_seed_has_its_place() {
        for drawn in [false, true] {
            let mut options = options(Dialect::Chat);
            options.sampling.seed_per_request = true;
            if drawn {
                options.sampling.max_tokens = Some(MaxTokens::Drawn { low: 10, high: 20 });
            }
            let body = render(&options, &Prompt::Text("p".to_string())).unwrap();
            let at = body.seed_at.unwrap() as usize;
            assert!(body.bytes[..at].ends_with(br#""seed":"#) && body.bytes[at..].starts_with(b"1111111111,"));
            serde_json::from_slice::<Value>(&body.bytes).map(|_| ()).unwrap_or_else(|_| assert!(drawn));
            // The seed of a row has precedence.
            assert_eq!(render(&options, &Prompt::Body(object(r#"{"seed":3}"#))).unwrap().seed_at, None);
        }
    }

    #[test]
    fn a_null_of_a_row_is_sent_as_null() {
        let row = object(r#"{"max_tokens":null}"#);
        let rendered = text(&options(Dialect::Chat), &Prompt::Body(row));
        assert!(rendered.contains(r#""max_tokens":null"#), "{rendered}");
    }

    fn templated(given: GivenFlags, template: &str) -> Options {
        let template = QueryTemplate::scan(template, given).unwrap();
        Options { template: Some(Arc::new(template)), ..options(Dialect::Chat) }
    }

    const TEMPLATE: &str = r#"{"model":"%m","messages":[{"role":"system","content":"s"},{"role":"user","content":"%p"}],"stream":true,"skip_special_tokens":false,"temperature":0.7,"max_tokens":1024}"#;

    #[test]
    fn a_template_wins_over_defaults_and_loses_to_flags() {
        let prompt = Prompt::Text("a \"b\"".to_string());
        assert_eq!(
            text(&templated(GivenFlags::default(), TEMPLATE), &prompt),
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a \"b\""}],"stream":true,"skip_special_tokens":false,"temperature":0.7,"max_tokens":1024}"#
        );
        let given = GivenFlags { max_tokens: true, ..GivenFlags::default() };
        let rendered = text(&templated(given, TEMPLATE), &prompt);
        assert!(rendered.contains(r#""temperature":0.7,"max_tokens":16}"#), "{rendered}");
        let newer = TEMPLATE.replace("max_tokens", "max_completion_tokens");
        let rendered = text(&templated(given, &newer), &prompt);
        assert!(rendered.contains(r#""max_completion_tokens":16"#) && !rendered.contains("\"max_tokens"), "{rendered}");
    }

    #[test]
    fn a_template_without_a_prompt_gets_one() {
        let rendered = text(&templated(GivenFlags::default(), r#"{"x":1}"#), &Prompt::Text("p".to_string()));
        assert_eq!(rendered, r#"{"x":1,"model":"m","messages":[{"role":"user","content":"p"}]}"#, "and nothing else");
        let template = templated(GivenFlags::default(), r#"{"input":{"prompt":"%p"}}"#);
        let rendered = text(&Options { dialect: Dialect::DashScope, ..template }, &Prompt::Text("p".to_string()));
        assert_eq!(
            rendered,
            r#"{"input":{"prompt":"p"},"model":"m","parameters":{"result_format":"message","incremental_output":true}}"#,
            "what its streams need"
        );
    }

    #[test]
    fn a_row_wins_over_the_template() {
        let row = Prompt::Body(object(r#"{"messages":[1],"temperature":1}"#));
        let given = GivenFlags { max_tokens: true, ..GivenFlags::default() };
        let rendered = text(&templated(given, TEMPLATE), &row);
        assert_eq!(
            rendered,
            r#"{"model":"m","messages":[1],"temperature":1,"stream":true,"skip_special_tokens":false,"max_tokens":16}"#
        );
    }

    #[test]
    fn a_drawn_limit_leaves_its_gap_in_the_template() {
        let mut options = templated(GivenFlags { max_tokens: true, ..GivenFlags::default() }, TEMPLATE);
        options.sampling.max_tokens = Some(MaxTokens::Drawn { low: 1, high: 2 });
        let open = render(&options, &Prompt::Text("p".to_string())).unwrap();
        let at = open.max_tokens_at.unwrap() as usize;
        assert!(open.bytes[..at].ends_with(br#""max_tokens":"#) && open.bytes[at..].starts_with(b"}"));
    }

    #[test]
    fn each_api_has_its_own_body() {
        let prompt = Prompt::Text("p".to_string());
        let rendered = |dialect| {
            let mut options = options(dialect);
            options.sampling.stop = vec!["x".to_string()];
            options.sampling.seed = Some(1);
            text(&options, &prompt)
        };
        assert_eq!(
            rendered(Dialect::Responses),
            r#"{"model":"m","input":"p","max_output_tokens":16,"temperature":0.0,"seed":1,"stop":["x"],"stream":true}"#
        );
        assert_eq!(rendered(Dialect::Embeddings), r#"{"model":"m","input":"p"}"#);
        assert_eq!(
            rendered(Dialect::DashScope),
            r#"{"model":"m","input":{"messages":[{"role":"user","content":"p"}]},"parameters":{"max_tokens":16,"temperature":0.0,"seed":1,"stop":["x"],"result_format":"message","incremental_output":true}}"#
        );
        assert_eq!(
            rendered(Dialect::Anthropic),
            r#"{"model":"m","messages":[{"role":"user","content":"p"}],"max_tokens":16,"temperature":0.0,"stop_sequences":["x"],"stream":true}"#
        );
        let mut options = options(Dialect::DashScope);
        options.extra = object(r#"{"parameters":{"enable_thinking":false,"max_tokens":3}}"#);
        let rendered = text(&options, &prompt);
        assert!(rendered.contains(r#""max_tokens":3"#) && rendered.contains("enable_thinking"), "{rendered}");
    }

    #[test]
    fn prompts_without_a_form_name_the_api_that_has_one() {
        let texts = Prompt::Embedding(vec!["a".to_string()]);
        assert!(render(&options(Dialect::Chat), &texts).unwrap_err().contains("openai_embedding"));
        let rerank = Prompt::Rerank { query: "q".to_string(), documents: vec![] };
        assert!(render(&options(Dialect::Completions), &rerank).unwrap_err().contains("openai_rerank"));
    }
}
