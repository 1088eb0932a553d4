//! A custom API described by a TOML file: the request body, and the paths of the parts of a response.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::meaning::{Meaning, Usage, member};
use super::openai::{add_piece, add_reasoning, add_text, finish, is_error};
use super::prompt::Prompt;
use super::sampling_params::{FIELDS, Sampling};
use super::{error_text, placeholder};
use crate::protocol::json::{self, Value};
use crate::record::Finish;

/// A description, read once and kept until the process ends, so that it can be copied like a built-in dialect and
/// costs nothing per event.
#[derive(Clone, Copy, Debug)]
pub struct CustomApi(&'static Custom);

impl PartialEq for CustomApi {
    fn eq(&self, other: &CustomApi) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for CustomApi {}

impl Hash for CustomApi {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.0, state);
    }
}

#[derive(Debug)]
struct Custom {
    path: String,
    stream: bool,
    headers: Vec<(String, String)>,
    body: Map<String, Json>,
    text: Vec<Pointer>,
    reasoning: Vec<Pointer>,
    input_tokens: Vec<Pointer>,
    output_tokens: Vec<Pointer>,
    error: Vec<Pointer>,
    finish: Vec<Pointer>,
    end: Option<String>,
}

/// The contents of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    path: String,
    #[serde(default = "yes")]
    stream: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A table, or JSON as text.
    body: Json,
    response: Response,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    text: Pointers,
    #[serde(default)]
    reasoning: Pointers,
    #[serde(default)]
    input_tokens: Pointers,
    #[serde(default)]
    output_tokens: Pointers,
    #[serde(default)]
    error: Pointers,
    #[serde(default)]
    finish: Pointers,
    end: Option<String>,
}

/// One JSON pointer or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pointers {
    One(String),
    Several(Vec<String>),
}

impl Default for Pointers {
    fn default() -> Pointers {
        Pointers::Several(Vec::new())
    }
}

/// The keys of a JSON pointer (RFC 6901); an index selects an element of an array.
type Pointer = Vec<String>;

impl CustomApi {
    /// Parses a description. The error is one line.
    pub(crate) fn scan(text: &str) -> Result<CustomApi, String> {
        let file: File = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        if !file.path.is_empty() && !file.path.starts_with('/') {
            return Err(format!("path '{}' must begin with /", file.path));
        }
        if file.path.contains(['?', '#']) {
            return Err(format!("path '{}' must not contain a query or fragment; put the query into --url", file.path));
        }
        let body = match file.body {
            Json::Object(fields) => fields,
            Json::String(text) => {
                serde_json::from_str(&text).map_err(|error| format!("body is not a JSON object ({error})"))?
            }
            _ => return Err("body must be a table, or a string that holds a JSON object".to_string()),
        };
        check_names(&Json::Object(body.clone()))?;
        let response = file.response;
        let custom = Custom {
            path: file.path.trim_end_matches('/').to_string(),
            stream: file.stream,
            headers: file.headers.into_iter().collect(),
            body,
            text: pointers("text", response.text)?,
            reasoning: pointers("reasoning", response.reasoning)?,
            input_tokens: pointers("input_tokens", response.input_tokens)?,
            output_tokens: pointers("output_tokens", response.output_tokens)?,
            error: pointers("error", response.error)?,
            finish: pointers("finish", response.finish)?,
            end: response.end,
        };
        if custom.text.is_empty() {
            return Err(
                "response.text is empty; give the JSON pointer of the generated text, for example /choices/0/text"
                    .to_string(),
            );
        }
        Ok(CustomApi(Box::leak(Box::new(custom))))
    }

    /// The endpoint's path; empty if the URL contains it.
    pub fn path(self) -> &'static str {
        &self.0.path
    }

    /// Headers of every request; `%k` in a value is replaced by `--api-key`.
    pub fn headers(self) -> &'static [(String, String)] {
        &self.0.headers
    }

    /// Whether the server can stream (SSE).
    pub fn streams(self) -> bool {
        self.0.stream
    }

    /// Whether usage is the only event that ends a stream.
    pub(crate) fn usage_ends_stream(self) -> bool {
        self.0.finish.is_empty() && self.0.end.is_none() && !self.0.output_tokens.is_empty()
    }

    /// Whether an event marks the end of a stream. If none does, the end of the body ends the stream.
    pub(crate) fn marks_end(self) -> bool {
        !self.0.finish.is_empty() || self.0.end.is_some() || !self.0.output_tokens.is_empty()
    }

    /// Whether this is the data of the event that ends a stream.
    pub(crate) fn is_end_marker(self, data: &[u8]) -> bool {
        self.0.end.as_ref().is_some_and(|end| end.trim().as_bytes() == data)
    }

    /// Whether the body has the placeholder with this name.
    pub(crate) fn has_parameter(self, name: &str) -> bool {
        holds(&Json::Object(self.0.body.clone()), &format!("%{{{name}}}"))
    }

    /// The body of a request, without `--extra-args`.
    ///
    /// `%m` and `%p` are replaced as in a query template. A string `%{max_tokens}` (or the OpenAI name of another
    /// parameter) is replaced by that value, and its field is left out if there is none. `%{messages}` is replaced by
    /// the prompt as a list of messages, `%{stream}` by a boolean.
    pub fn fields(self, model: &str, stream: bool, sampling: &Sampling, prompt: &Prompt) -> Map<String, Json> {
        if let Prompt::Body(row) = prompt {
            return row.clone();
        }
        let values: BTreeMap<&str, Json> = sampling
            .fields()
            .map(|(field, value)| (field.name, value))
            .chain([("stream", json!(stream)), ("messages", messages(prompt))])
            .collect();
        match substitute(&Json::Object(self.0.body.clone()), &values) {
            Some(body) => match placeholder::fill(&body, model, prompt) {
                Json::Object(fields) => fields,
                _ => Map::new(),
            },
            None => Map::new(),
        }
    }

    /// Reads one event, or a whole body. Output is every non-empty text at the described pointers. Another non-empty
    /// value there (a vector, an object) counts as output without text.
    pub fn read<'a>(self, value: Value<'_, 'a>) -> Meaning<'a> {
        let api = self.0;
        let mut meaning = Meaning { choices: 1, ..Meaning::default() };
        for (places, reasoning) in [(&api.reasoning, true), (&api.text, false)] {
            for found in places.iter().filter_map(|place| at(value, place)) {
                match json::text(found) {
                    Some(text) if reasoning => add_reasoning(text, None, &mut meaning),
                    Some(text) => add_text(text, None, &mut meaning),
                    None if is_something(found) => add_piece(None, &mut meaning),
                    None => {}
                }
            }
        }
        let count = |places: &[Pointer]| places.iter().filter_map(|place| at(value, place)).find_map(json::count);
        let usage = Usage {
            input_tokens: count(&api.input_tokens),
            output_tokens: count(&api.output_tokens),
            ..Usage::default()
        };
        meaning.usage = (usage != Usage::default()).then_some(usage);
        meaning.error = first(value, &api.error).filter(|error| is_error(*error)).map(error_text::from_json);
        let finish = first(value, &api.finish);
        meaning.finish = finish.and_then(read_finish);
        meaning.aborted = finish.and_then(json::text).filter(|reason| ABORTED.contains(reason));
        meaning
    }
}

/// Finish reasons of answers that a server gave up. Unknown ones are accepted: a description may call anything a reason.
const ABORTED: [&str; 6] = ["abort", "aborted", "error", "repetition", "cancelled", "timeout"];

/// The headers of a description that may be invalid otherwise.
pub(crate) fn headers_in(text: &str) -> Vec<(String, String)> {
    let headers = toml::from_str::<toml::Table>(text).ok().and_then(|mut file| file.remove("headers"));
    let Some(toml::Value::Table(headers)) = headers else { return Vec::new() };
    headers.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_string()))).collect()
}

/// A finish reason, or a boolean that is true at the end.
fn read_finish(value: Value<'_, '_>) -> Option<Finish> {
    match json::text(value) {
        Some(reason) if !matches!(reason, "" | "null") => Some(finish(reason)),
        Some(_) => None,
        None => (json::encode(value) == "true").then_some(Finish::Stop),
    }
}

fn first<'t, 'i>(value: Value<'t, 'i>, places: &[Pointer]) -> Option<Value<'t, 'i>> {
    places.iter().find_map(|place| at(value, place))
}

/// The value at a pointer.
fn at<'t, 'i>(value: Value<'t, 'i>, pointer: &Pointer) -> Option<Value<'t, 'i>> {
    pointer
        .iter()
        .try_fold(value, |value, key| member(value, key).or_else(|| json::elements(value).nth(key.parse().ok()?)))
}

fn is_something(value: Value<'_, '_>) -> bool {
    json::elements(value).next().is_some() || json::entries(value).next().is_some()
}

fn messages(prompt: &Prompt) -> Json {
    match prompt {
        Prompt::Messages(messages) => json!(messages),
        other => {
            let content = placeholder::fill(&json!(placeholder::PROMPT), "", other);
            json!([{"role": "user", "content": content}])
        }
    }
}

/// Replaces placeholders by values; `None` for a placeholder without a value.
fn substitute(value: &Json, values: &BTreeMap<&str, Json>) -> Option<Json> {
    match value {
        Json::String(text) => match name_in(text) {
            Some(name) => values.get(name).cloned(),
            None => Some(value.clone()),
        },
        Json::Array(items) => Some(items.iter().filter_map(|item| substitute(item, values)).collect()),
        Json::Object(fields) => {
            Some(fields.iter().filter_map(|(name, value)| Some((name.clone(), substitute(value, values)?))).collect())
        }
        other => Some(other.clone()),
    }
}

fn name_in(text: &str) -> Option<&str> {
    text.strip_prefix("%{")?.strip_suffix('}')
}

fn holds(value: &Json, text: &str) -> bool {
    match value {
        Json::String(held) => held == text,
        Json::Array(items) => items.iter().any(|item| holds(item, text)),
        Json::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

/// Checks that every `%{name}` is known.
fn check_names(value: &Json) -> Result<(), String> {
    match value {
        Json::String(text) => match name_in(text) {
            Some(name) if name != "messages" && name != "stream" && FIELDS.iter().all(|known| known.name != name) => {
                let known: Vec<&str> = FIELDS.iter().map(|known| known.name).collect();
                Err(format!("body: unknown %{{{name}}} (known: messages, stream, {})", known.join(", ")))
            }
            _ => Ok(()),
        },
        Json::Array(items) => items.iter().try_for_each(check_names),
        Json::Object(fields) => fields.values().try_for_each(check_names),
        _ => Ok(()),
    }
}

fn pointers(name: &str, places: Pointers) -> Result<Vec<Pointer>, String> {
    let texts = match places {
        Pointers::One(text) => vec![text],
        Pointers::Several(texts) => texts,
    };
    texts.iter().map(|text| pointer(text).map_err(|what| format!("response.{name}: '{text}' {what}"))).collect()
}

fn pointer(text: &str) -> Result<Pointer, String> {
    let Some(path) = text.strip_prefix('/') else {
        return Err("is not a JSON pointer; it must begin with /, for example /choices/0/text".to_string());
    };
    Ok(path.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect())
}

/// The error in the TOML, with its line.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
    let what = error_text::single_line(error.message());
    line.map_or(what.clone(), |line| format!("line {line}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Dialect;
    use crate::api::request_body::{Options, render};
    use crate::api::sampling_params::MaxTokens;

    const TGI: &str = r#"
path = "/generate_stream"
[headers]
X-Tenant = "a"
[body]
inputs = "%p"
[body.parameters]
max_new_tokens = "%{max_tokens}"
top_p = "%{top_p}"
details = true
[response]
text = ["/token/text", "/generated~1text"]
output_tokens = "/details/generated_tokens"
finish = "/details/finish_reason"
error = "/error"
"#;

    fn options(api: CustomApi) -> Options {
        Options {
            dialect: Dialect::Custom(api),
            model: "m".to_string(),
            stream: true,
            sampling: Sampling { max_tokens: Some(MaxTokens::Fixed(5)), ..Sampling::default() },
            template: None,
            extra: Map::new(),
        }
    }

    #[test]
    fn bodies_are_built_from_values_that_are_there() {
        let api = CustomApi::scan(TGI).unwrap();
        let rendered = render(&options(api), &Prompt::Text("a \"b\"".to_string())).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&rendered.bytes),
            r#"{"inputs":"a \"b\"","parameters":{"details":true,"max_new_tokens":5}}"#
        );
        assert!(api.has_parameter("max_tokens") && !api.has_parameter("stop"));
    }

    #[test]
    fn a_drawn_limit_leaves_its_gap_here_too() {
        let mut options = options(CustomApi::scan(TGI).unwrap());
        options.sampling.max_tokens = Some(MaxTokens::Drawn { low: 1, high: 9 });
        let open = render(&options, &Prompt::Text("p".to_string())).unwrap();
        let at = open.max_tokens_at.unwrap() as usize;
        assert!(open.bytes[..at].ends_with(br#""max_new_tokens":"#));
    }

    #[test]
    fn answers_are_read_at_their_places() {
        let api = CustomApi::scan(TGI).unwrap();
        let read = |event: &str| {
            json::with_value(event.as_bytes(), |value| {
                let meaning = api.read(value);
                let tokens = meaning.usage.and_then(|usage| usage.output_tokens);
                (meaning.text.into_owned(), meaning.output, tokens, meaning.finish, meaning.error)
            })
            .unwrap()
        };
        assert_eq!(read(r#"{"token":{"text":"x"},"details":null}"#), ("x".into(), true, None, None, None));
        assert_eq!(
            read(r#"{"token":{"text":""},"details":{"generated_tokens":4,"finish_reason":"length"}}"#),
            (String::new(), false, Some(4), Some(Finish::Length), None)
        );
        assert_eq!(read(r#"{"generated/text":"y"}"#).0, "y");
        assert_eq!(read(r#"{"error":"overloaded"}"#).4.as_deref(), Some("overloaded"));
    }

    #[test]
    fn mistakes_are_one_line() {
        let minimal = |body: &str, text: &str| format!("body = {body}\n[response]\ntext = {text}\n");
        for (toml, what) in [
            ("path = ".to_string(), "line 1"),
            (format!("colour = 1\n{}", minimal("{}", "'/t'")), "colour"),
            (format!("path = '/a?b=c'\n{}", minimal("{}", "'/t'")), "--url"),
            (format!("path = 'generate'\n{}", minimal("{}", "'/t'")), "must begin with /"),
            (minimal("{ a = '%{max_new}' }", "'/t'"), "%{max_new}"),
            (minimal("'{'", "'/t'"), "JSON"),
            (minimal("3", "'/t'"), "table"),
            (minimal("{}", "'text'"), "response.text"),
            (minimal("{}", "[]"), "response.text"),
            ("body = {}\n".to_string(), "response"),
        ] {
            let text = CustomApi::scan(&toml).unwrap_err();
            assert!(text.contains(what) && !text.contains('\n'), "{toml}: {text}");
        }
    }
}
