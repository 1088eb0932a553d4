//! `/v1/chat/completions`: deltas of a stream and the message of a whole answer.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, bearer, no_headers, openai_parameter, stream_field};
use super::meaning::{Meaning, TextPath, member, member_text};
use super::openai::{add_piece, add_reasoning, add_text, read_finish};
use super::prompt::Prompt;
use super::tool_calls::CallPiece;
use crate::protocol::json::{self, Step, Value};

/// Paths of the texts that come once per token.
const CONTENT: TextPath = place(&[Step::Key("choices"), Step::First, Step::Key("delta"), Step::Key("content")], false);
const REASONING: TextPath =
    place(&[Step::Key("choices"), Step::First, Step::Key("delta"), Step::Key("reasoning")], true);
const REASONING_CONTENT: TextPath =
    place(&[Step::Key("choices"), Step::First, Step::Key("delta"), Step::Key("reasoning_content")], true);

const fn place(path: &'static [Step<'static>], reasoning: bool) -> TextPath {
    TextPath { path, reasoning }
}

/// How `/v1/chat/completions` is written and read.
pub(crate) static DEFINITION: Definition = Definition {
    read: |_, value| read(value),
    prompt_fields,
    parameter: openai_parameter,
    closing_fields: stream_field,
    parameters_in: None,
    has_stream_options: true,
    streams: true,
    usage_ends_stream: true,
    has_event_names: false,
    takes_messages: true,
    headers: no_headers,
    key_header: bearer,
};

/// Reads one event, or a whole body.
///
/// Output is text, a refusal, reasoning under any of its names and forms, audio and its transcript, and the name or the
/// arguments of a tool call or of a legacy function call. A role alone, empty strings and `null` are not output.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    super::openai::read(value, read_choice)
}

fn read_choice<'a>(choice: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for (key, member) in json::entries(choice) {
        match key {
            "delta" | "message" => read_message(member, meaning),
            "finish_reason" => read_finish(member, meaning),
            _ => {}
        }
    }
}

/// Reads a message, or the delta of one.
pub(crate) fn read_message<'a>(message: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    let mut reasoned = false;
    for (key, member) in json::entries(message) {
        match (key, json::text(member)) {
            ("content", Some(text)) => add_text(text, Some(CONTENT), meaning),
            ("content", None) => read_parts(member, meaning),
            ("refusal", Some(text)) => add_text(text, None, meaning),
            ("reasoning" | "reasoning_content" | "thinking", Some(text)) if !text.is_empty() => {
                let place = match key {
                    "reasoning" => Some(REASONING),
                    "reasoning_content" => Some(REASONING_CONTENT),
                    _ => None,
                };
                // vLLM sends the same text under both names while it migrates from one to the other.
                if reasoned {
                    add_piece(None, meaning);
                } else {
                    add_reasoning(text, place, meaning);
                }
                reasoned = true;
            }
            ("reasoning" | "reasoning_content" | "reasoning_details" | "thinking" | "thinking_blocks", None) => {
                reasoned |= read_reasoning(member, !reasoned, meaning);
            }
            ("role", Some(role)) if !role.is_empty() => meaning.announces = true,
            ("tool_calls", _) => {
                for call in json::elements(member) {
                    let index = self::member(call, "index").and_then(json::count);
                    let id = member_text(call, "id").unwrap_or_default();
                    if let Some(function) = self::member(call, "function") {
                        read_call(function, CallPiece { index, id, ..CallPiece::default() }, meaning);
                    }
                }
            }
            ("audio", _) => read_audio(member, meaning),
            ("function_call", _) => read_call(member, CallPiece::default(), meaning),
            _ => {}
        }
    }
}

/// Content as a list of parts, as some servers send it: `[{"type":"text","text":"..."}]`. Parts of the type `thinking` or
/// `reasoning` are reasoning.
fn read_parts<'a>(parts: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for part in json::elements(parts) {
        let kind = member_text(part, "type").unwrap_or_default();
        if kind.starts_with("thinking") || kind.starts_with("reasoning") {
            read_reasoning(part, true, meaning);
            continue;
        }
        for (key, member) in json::entries(part) {
            if let ("text", Some(text)) = (key, json::text(member)) {
                add_text(text, None, meaning);
            }
        }
    }
}

/// Reads spoken output: a part of its sound, or of its transcript, which is its text.
fn read_audio<'a>(audio: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for (key, member) in json::entries(audio) {
        match (key, json::text(member)) {
            ("transcript", Some(text)) => add_text(text, None, meaning),
            ("data", Some(sound)) if !sound.is_empty() => add_piece(None, meaning),
            _ => {}
        }
    }
}

/// Reads reasoning that is a list or an object: `[{"type":"reasoning.text","text":"..."}]` (OpenRouter),
/// `{"type":"thinking","thinking":"..."}` (Anthropic, LiteLLM), `{"type":"thinking","thinking":[{"type":"text","text":"..."}]}`
/// (Mistral). If `keep_text` is false, the text is counted but was read under another name. Returns whether there is any.
fn read_reasoning<'a>(value: Value<'_, 'a>, keep_text: bool, meaning: &mut Meaning<'a>) -> bool {
    let mut found = false;
    for element in json::elements(value) {
        found |= read_reasoning(element, keep_text, meaning);
    }
    for (key, member) in json::entries(value) {
        match (key, json::text(member)) {
            ("text" | "summary" | "thinking" | "content" | "reasoning", Some(text)) if !text.is_empty() => {
                if keep_text {
                    add_reasoning(text, None, meaning);
                } else {
                    add_piece(None, meaning);
                }
                found = true;
            }
            // Reasoning that only the server can read.
            ("data", Some(text)) if !text.is_empty() => {
                add_piece(None, meaning);
                found = true;
            }
            ("summary" | "thinking" | "content" | "reasoning", None) => {
                found |= read_reasoning(member, keep_text, meaning);
            }
            _ => {}
        }
    }
    found
}

/// Reads name and arguments of a call, and completes `piece` with them.
fn read_call<'a>(call: Value<'_, 'a>, mut piece: CallPiece<'a>, meaning: &mut Meaning<'a>) {
    for (key, member) in json::entries(call) {
        match (key, json::text(member)) {
            ("name", Some(name)) => piece.name = name,
            ("arguments", Some(arguments)) => piece.arguments = arguments.into(),
            // Ollama's arguments are an object.
            ("arguments", None) if json::entries(member).next().is_some() => {
                piece.arguments = json::encode(member).into();
            }
            _ => continue,
        }
        let text = if key == "name" { piece.name } else { &piece.arguments };
        if !text.is_empty() {
            add_piece(None, meaning);
        }
    }
    if !(piece.id.is_empty() && piece.name.is_empty() && piece.arguments.is_empty()) {
        meaning.calls.push(piece);
    }
}

/// The fields that carry a prompt. A text is sent as one user message.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let messages = match prompt {
        Prompt::Text(text) => json!([{"role": "user", "content": text}]),
        Prompt::Messages(messages) => json!(messages),
        other => return Err(other.unsupported()),
    };
    Ok(Map::from_iter([("messages".to_string(), messages)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::choices::ChoicePiece;
    use crate::api::meaning::Usage;
    use crate::record::Finish;

    /// Output, text, reasoning, pieces of one event.
    fn output(choices: &str) -> (bool, String, String, u32) {
        let event = format!(r#"{{"id":"x","choices":[{choices}]}}"#);
        json::with_value(event.as_bytes(), |value| {
            let meaning = read(value);
            (meaning.output, meaning.text.into_owned(), meaning.reasoning.into_owned(), meaning.pieces)
        })
        .unwrap()
    }

    fn nothing() -> (bool, String, String, u32) {
        (false, String::new(), String::new(), 0)
    }

    #[test]
    fn roles_and_empty_strings_are_not_output() {
        assert_eq!(output(r#"{"delta":{"role":"assistant","content":""}}"#), nothing());
        assert_eq!(output(r#"{"delta":{"role":"assistant","content":null,"tool_calls":[]}}"#), nothing());
        assert_eq!(output(r#"{"delta":{"reasoning_content":"","tool_calls":null,"refusal":null}}"#), nothing());
        assert_eq!(output(r#"{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"arguments":""}}]}}"#), nothing());
        assert_eq!(output(r#"{"delta":{},"finish_reason":"stop"}"#), nothing());
        assert_eq!(output(""), nothing());
    }

    #[test]
    fn text_reasoning_refusals_and_calls_are_output() {
        assert_eq!(output(r#"{"delta":{"role":"assistant","content":"a\n"}}"#), (true, "a\n".into(), "".into(), 1));
        assert_eq!(output(r#"{"delta":{"reasoning":"r"}}"#), (true, "".into(), "r".into(), 1));
        assert_eq!(output(r#"{"delta":{"reasoning":"r","reasoning_content":"r"}}"#), (true, "".into(), "r".into(), 2));
        assert_eq!(output(r#"{"delta":{"refusal":"no"}}"#), (true, "no".into(), "".into(), 1));
        assert_eq!(output(r#"{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}}"#).3, 2);
        assert!(output(r#"{"delta":{"function_call":{"arguments":"{"}}}"#).0);
        assert_eq!(output(r#"{"delta":{"audio":{"id":"a","data":"UklG"}}}"#), (true, "".into(), "".into(), 1));
        assert_eq!(output(r#"{"delta":{"audio":{"id":"a","transcript":"hi"}}}"#), (true, "hi".into(), "".into(), 1));
        assert_eq!(output(r#"{"delta":{"audio":{"id":"a","expires_at":1,"data":"","transcript":""}}}"#), nothing());
        assert_eq!(output(r#"{"message":{"content":null,"audio":{"data":"UklG","transcript":"hi"}}}"#).1, "hi");
        assert_eq!(output(r#"{"delta":{"content":[{"type":"text","text":"t"}]}}"#).1, "t");
        let reasoning = |delta: &str| output(&format!(r#"{{"delta":{{{delta}}}}}"#));
        let thought = (true, String::new(), "r".to_string(), 1);
        for delta in [
            r#""content":"","reasoning_details":[{"type":"reasoning.text","text":"r","index":0}]"#,
            r#""reasoning_details":[{"type":"reasoning.summary","summary":"r"}]"#,
            r#""content":[{"type":"thinking","thinking":[{"type":"text","text":"r"}]}]"#,
            r#""content":[{"type":"thinking","thinking":"r"}]"#,
            r#""content":[{"type":"reasoning","text":"r"}]"#,
            r#""thinking":"r""#,
            r#""thinking_blocks":[{"type":"thinking","thinking":"r","signature":"s"}]"#,
            r#""reasoning":{"content":"r"}"#,
        ] {
            assert_eq!(reasoning(delta), thought, "{delta}");
        }
        let twice = r#""reasoning":"r","reasoning_details":[{"type":"reasoning.text","text":"r"}]"#;
        assert_eq!(reasoning(twice), (true, String::new(), "r".to_string(), 2));
        let sealed = r#""reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]"#;
        assert_eq!(reasoning(sealed), (true, String::new(), String::new(), 1));
        let empty = r#""content":[{"type":"thinking","thinking":[]}],"reasoning_details":[]"#;
        assert_eq!(reasoning(empty), nothing());
        assert_eq!(output(r#"{"index":1,"delta":{"content":"a"}},{"index":0,"delta":{"content":"b"}}"#).3, 2);
    }

    #[test]
    fn parts_of_calls_are_read_with_their_choice() {
        let event = br#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":2,"id":"c","function":{"name":"f","arguments":""}}]}},
            {"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#;
        json::with_value(event, |value| {
            let calls = read(value).calls;
            let expected = [
                CallPiece { choice: 1, index: Some(2), id: "c", name: "f", arguments: "".into() },
                CallPiece { choice: 0, index: Some(0), id: "", name: "", arguments: "{}".into() },
            ];
            assert_eq!(calls, expected);
        })
        .unwrap();
    }

    #[test]
    fn choices_stand_apart() {
        let event =
            br#"{"choices":[{"index":1,"delta":{"content":"a"}},{"index":0,"delta":{"content":"b","reasoning":"r"}}]}"#;
        json::with_value(event, |value| {
            let meaning = read(value);
            assert_eq!((meaning.choice, meaning.text.as_ref(), meaning.reasoning.as_ref()), (1, "a", ""));
            let other = ChoicePiece { choice: 0, text: "b".to_string(), reasoning: "r".to_string() };
            assert_eq!(meaning.others, [other]);
        })
        .unwrap();
    }

    #[test]
    fn usage_finish_and_errors_are_read_wherever_they_stand() {
        let event = br#"{"choices":[{"delta":{"content":"x"},"finish_reason":"length"}],"error":null,
            "usage":{"prompt_tokens":3,"completion_tokens":4.0,"prompt_tokens_details":{"cached_tokens":2},
            "completion_tokens_details":{"reasoning_tokens":1}}}"#;
        json::with_value(event, |value| {
            let meaning = read(value);
            let usage = Usage {
                input_tokens: Some(3),
                output_tokens: Some(4),
                cached_tokens: Some(2),
                reasoning_tokens: Some(1),
            };
            assert_eq!(
                (meaning.usage, meaning.finish, meaning.error.is_some()),
                (Some(usage), Some(Finish::Length), false)
            );
        })
        .unwrap();
        let error = |text: &str| json::with_value(text.as_bytes(), |value| read(value).error).unwrap();
        assert_eq!(error(r#"{"error":{"message":"out of memory","code":500}}"#).as_deref(), Some("out of memory"));
        assert_eq!(error(r#"{"error":"overloaded"}"#).as_deref(), Some("overloaded"));
        assert_eq!(error(r#"{"object":"error","message":"dead","code":500}"#).as_deref(), Some("dead"));
        assert_eq!(error(r#"{"error":{"code":7}}"#).as_deref(), Some(r#"{"code":7}"#));
        assert_eq!(error(r#"{"error":false}"#), None);
    }
}
