//! A custom API implemented by a program: it builds the bodies before the run and parses the stored responses after it.
//! During the run, responses are read by rules that suit most servers; see [`read`].
//!
//! One line of JSON for each prompt or answer; `tools/examples/api/README.md` is the description for users.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::meaning::{Meaning, member, member_text};
use super::openai::{add_piece, add_reasoning, add_text, finish, is_error, read_finish, read_usage};
use super::prompt::Prompt;
use super::sampling_params::Sampling;
use super::{chat, completions, error_text};
use crate::protocol::json::{self, Value};
use crate::protocol::sse::{Event, Framer};

/// The program's file, kept until the process ends, so that it can be copied like a built-in dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramApi(&'static Path);

impl ProgramApi {
    /// The API of a program.
    pub fn new(path: &Path) -> ProgramApi {
        ProgramApi(Box::leak(path.to_path_buf().into_boxed_path()))
    }

    /// Its file.
    pub fn path(self) -> &'static Path {
        self.0
    }
}

/// Keys of metadata, which are not output.
const BOOKKEEPING: [&str; 22] = [
    "choices",
    "code",
    "created",
    "created_at",
    "done",
    "error",
    "event",
    "finish_reason",
    "id",
    "index",
    "model",
    "object",
    "request_id",
    "role",
    "service_tier",
    "status",
    "stop_reason",
    "system_fingerprint",
    "timestamp",
    "timings",
    "type",
    "usage",
];
/// Top-level keys of an event that hold text.
const TEXTS: [&str; 8] = ["text", "content", "response", "answer", "delta", "token", "output", "generated_text"];
/// Top-level keys of an event that hold reasoning.
const REASONINGS: [&str; 2] = ["reasoning", "reasoning_content"];

/// Reads one event, or a whole body, in a format of the program.
///
/// An event with `choices` is read like one of chat or completions. Another event counts as output if it holds anything
/// but metadata. If it has one of the usual keys of a text, that text decides: an empty one is not output. `usage`,
/// `finish_reason`, `done` and `error` have their usual meaning.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    if member(value, "choices").is_some_and(|choices| json::elements(choices).next().is_some()) {
        let meaning = chat::read(value);
        let spoken = meaning.output || meaning.error.is_some();
        return if spoken { meaning } else { completions::read(value) };
    }
    let mut meaning = Meaning { choices: 1, ..Meaning::default() };
    let (mut named, mut more) = (false, false);
    for (key, member) in json::entries(value) {
        match key {
            "usage" if !json::is_null(member) => meaning.usage = Some(read_usage(member)),
            "error" if is_error(member) => meaning.error = Some(error_text::from_json(member)),
            "finish_reason" | "stop_reason" => read_finish(member, &mut meaning),
            "done" if json::encode(member) == "true" => meaning.finish = meaning.finish.or(Some(finish("stop"))),
            _ => {}
        }
        match text_in(member) {
            Some(text) if REASONINGS.contains(&key) => add_reasoning(text, None, &mut meaning),
            Some(text) if TEXTS.contains(&key) => {
                named = true;
                add_text(text, None, &mut meaning);
            }
            _ => more |= !BOOKKEEPING.contains(&key) && is_something(member),
        }
    }
    let alone = json::text(value).is_some_and(|text| !text.is_empty()) || json::elements(value).next().is_some();
    if !named && !meaning.output && (more || alone) {
        if let Some(text) = json::text(value) {
            add_text(text, None, &mut meaning);
        } else {
            add_piece(None, &mut meaning);
        }
    }
    meaning
}

/// The text of a string, or within an object such as `{"token": {"text": "a"}}`.
fn text_in<'i>(value: Value<'_, 'i>) -> Option<&'i str> {
    json::text(value).or_else(|| member_text(value, "text")).or_else(|| member_text(value, "content"))
}

/// Whether the value counts as output: not `null`, not empty, and neither a number nor a boolean.
fn is_something(value: Value<'_, '_>) -> bool {
    match json::text(value) {
        Some(text) => !text.is_empty(),
        None => json::elements(value).next().is_some() || json::entries(value).next().is_some(),
    }
}

/// One line of input of the program's `build`: the contents of a body.
pub fn question(model: &str, stream: bool, sampling: &Sampling, prompt: &Prompt) -> Json {
    let parameters: Map<String, Json> =
        sampling.fields().map(|(field, value)| (field.name.to_string(), value)).collect();
    let mut line = json!({"model": model, "stream": stream, "parameters": parameters});
    match prompt {
        Prompt::Text(text) => line["prompt"] = json!(text),
        Prompt::Messages(messages) => line["messages"] = json!(messages),
        Prompt::Tokens(ids) => line["tokens"] = json!(ids),
        Prompt::Body(body) => line["body"] = json!(body),
        Prompt::Embedding(texts) => line["texts"] = json!(texts),
        Prompt::Rerank { query, documents } => {
            line["query"] = json!(query);
            line["documents"] = json!(documents);
        }
    }
    line
}

/// Parses a body that the program printed. The error continues "line N of its output".
pub(crate) fn body_of(line: &str) -> Result<Map<String, Json>, String> {
    match serde_json::from_str(line) {
        Ok(Json::Object(body)) => Ok(body),
        Ok(_) => Err("is not a JSON object: build must print one body for each line it reads".to_string()),
        Err(error) => Err(format!("is not JSON ({error}); in Python print(json.dumps(body))")),
    }
}

/// One line of input of the program's `parse`: a response. `raw` is the body as the server wrote it; `request` is
/// `None` if the database does not store prompts.
pub(crate) fn answer_line(request: Option<&str>, status: u16, streamed: bool, raw: &[u8]) -> Json {
    let request: Json = request.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut responses, mut names) = (Vec::new(), Vec::new());
    if streamed {
        let mut framer = Framer::new(raw.len() + 1);
        let mut take = |event: Event<'_>| {
            let data = event.data.trim_ascii();
            if !data.is_empty() && data != b"[DONE]" {
                responses.push(text(data));
                names.push(text(event.name));
            }
        };
        // The only error is an event above the limit, and no event is longer than the body.
        let _ = framer.push(raw, &mut take);
        framer.finish(&mut take);
    } else {
        responses.push(text(raw));
    }
    let mut line = json!({"request": request, "status": status, "stream": streamed, "responses": responses});
    if names.iter().any(|name| !name.is_empty()) {
        line["events"] = json!(names);
    }
    line
}

/// What the program parsed from a response. `None` keeps the value read during the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub text: Option<String>,
    pub reasoning: Option<String>,
}

impl Parsed {
    /// Parses a line of output of `parse`. The error continues "line N of its output".
    pub(crate) fn scan(line: &str) -> Result<Parsed, String> {
        let value: Json = serde_json::from_str(line)
            .map_err(|error| format!("is not JSON ({error}); in Python print(json.dumps(found))"))?;
        let Json::Object(fields) = value else {
            return Err(r#"is not a JSON object such as {"input_tokens": 5, "output_tokens": 9}"#.to_string());
        };
        let mut parsed = Parsed::default();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let count = || {
                let fits = value.as_u64().filter(|count| u32::try_from(*count).is_ok());
                fits.ok_or_else(|| format!("has a field \"{name}\" that is not a whole number: {value}"))
            };
            let text = || {
                value.as_str().map(str::to_string).ok_or_else(|| format!("has a field \"{name}\" that is not a text"))
            };
            match name.as_str() {
                "input_tokens" => parsed.input_tokens = Some(count()?),
                "output_tokens" => parsed.output_tokens = Some(count()?),
                "text" => parsed.text = Some(text()?),
                "reasoning" => parsed.reasoning = Some(text()?),
                _ => {
                    return Err(format!(
                        "has an unknown field \"{name}\" (known: input_tokens, output_tokens, text, reasoning)"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sampling_params::MaxTokens;
    use crate::record::Finish;

    /// Text, output, finish, output tokens of an event.
    fn read_event(event: &str) -> (String, bool, Option<Finish>, Option<u32>) {
        json::with_value(event.as_bytes(), |value| {
            let meaning = read(value);
            let tokens = meaning.usage.and_then(|usage| usage.output_tokens);
            (meaning.text.into_owned(), meaning.output, meaning.finish, tokens)
        })
        .unwrap()
    }

    #[test]
    fn events_of_any_server_are_read() {
        for (event, text, output) in [
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, "a", true),
            (r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, "", false),
            (r#"{"choices":[{"text":"b"}]}"#, "b", true),
            (r#"{"choices":[],"usage":{"completion_tokens":3}}"#, "", false),
            (r#"{"model":"m","response":"c","done":false}"#, "c", true),
            (r#"{"token":{"id":5,"text":"d"}}"#, "d", true),
            (r#"{"text":"","id":"x"}"#, "", false),
            (r#"{"type":"ping"}"#, "", false),
            (r#"{"vector":[1,2],"id":"x"}"#, "", true),
            (r#"{"result":{"words":["e"]},"usage":{"output_tokens":1}}"#, "", true),
            (r#"{"progress":0.5}"#, "", false),
            (r#""f""#, "f", true),
            ("[1]", "", true),
            ("{}", "", false),
        ] {
            let (said, counts, ..) = read_event(event);
            assert_eq!((said.as_str(), counts), (text, output), "{event}");
        }
        assert_eq!(read_event(r#"{"response":"","done":true}"#).2, Some(Finish::Stop));
        assert_eq!(
            read_event(r#"{"text":"x","finish_reason":"length","usage":{"completion_tokens":3}}"#).2,
            Some(Finish::Length)
        );
        assert_eq!(read_event(r#"{"usage":{"completion_tokens":3}}"#).3, Some(3));
        let error = json::with_value(br#"{"error":{"message":"busy"}}"#, |value| read(value).error).unwrap();
        assert_eq!(error.as_deref(), Some("busy"));
    }

    #[test]
    fn a_question_says_what_is_wanted() {
        let sampling = Sampling { max_tokens: Some(MaxTokens::Fixed(5)), top_k: Some(2), ..Sampling::default() };
        let question = |prompt| question("m", true, &sampling, &prompt);
        assert_eq!(
            question(Prompt::Text("p".to_string())).to_string(),
            r#"{"model":"m","stream":true,"parameters":{"max_tokens":5,"top_k":2},"prompt":"p"}"#
        );
        assert_eq!(question(Prompt::Tokens(vec![1, 2]))["tokens"], json!([1, 2]));
        assert!(body_of("[1]").unwrap_err().contains("not a JSON object"));
    }

    #[test]
    fn an_answer_is_its_events_in_order() {
        let raw = b": hello\n\ndata: {\"a\":1}\n\nevent: end\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        let line = answer_line(Some(r#"{"q":1}"#), 200, true, raw);
        assert_eq!(line["responses"], json!([r#"{"a":1}"#, r#"{"b":2}"#]));
        assert_eq!((&line["events"], &line["request"]), (&json!(["", "end"]), &json!({"q": 1})));
        let whole = answer_line(None, 200, false, b"{\"x\": 1}");
        assert_eq!(whole.to_string(), r#"{"request":null,"status":200,"stream":false,"responses":["{\"x\": 1}"]}"#);
    }

    #[test]
    fn what_parse_prints_is_checked() {
        let parsed = Parsed::scan(r#"{"input_tokens": 4, "output_tokens": null, "text": "t"}"#).unwrap();
        assert_eq!(parsed, Parsed { input_tokens: Some(4), text: Some("t".to_string()), ..Parsed::default() });
        for (line, what) in [
            ("x", "is not JSON"),
            ("[1, 2]", "not a JSON object such as"),
            (r#"{"output_tokens": -1}"#, "not a whole number"),
            (r#"{"text": 1}"#, "not a text"),
            (r#"{"prompt_tokens": 1}"#, "unknown field \"prompt_tokens\""),
        ] {
            assert!(Parsed::scan(line).unwrap_err().contains(what), "{line}");
        }
    }
}
