//! `/v1/responses`: named events of a stream and the object of a whole response.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, Fields, bearer, no_headers, openai_parameter, stream_field};
use super::error_text;
use super::meaning::{Meaning, TextPath, member, member_text};
use super::openai::{add_piece, add_reasoning, add_text, is_error, read_usage};
use super::prompt::{Prompt, content_text};
use super::tool_calls::{self, CallPiece};
use crate::protocol::json::{self, Step, Value};
use crate::record::Finish;

/// Paths of the text of a delta.
const DELTA: TextPath = TextPath { path: &[Step::Key("delta")], reasoning: false };
const REASONING_DELTA: TextPath = TextPath { path: &[Step::Key("delta")], reasoning: true };

/// How `/v1/responses` is written and read.
pub(crate) static DEFINITION: Definition = Definition {
    read,
    prompt_fields,
    parameter,
    closing_fields: stream_field,
    parameters_in: None,
    has_stream_options: false,
    streams: true,
    usage_ends_stream: false,
    has_event_names: true,
    takes_messages: true,
    headers: no_headers,
    key_header: bearer,
};

/// Reads one event, or a whole body. The kind of an event is its `type`, or `name`, the `event:` field, if that is
/// missing.
///
/// Output is the deltas of text, of a refusal, of reasoning and of its summary, and of the arguments of calls. The
/// `done` events repeat the text of the deltas.
pub fn read<'a>(name: &[u8], value: Value<'_, 'a>) -> Meaning<'a> {
    let mut meaning = Meaning::default();
    let kind = member_text(value, "type").unwrap_or_else(|| match member_text(value, "object") {
        Some("response") => "response",
        _ => std::str::from_utf8(name).map_or("", |name| known(name)),
    });
    if let Some(delta) = member_text(value, "delta") {
        meaning.choices = 1;
        read_delta(kind, delta, member(value, "output_index").and_then(json::count), &mut meaning);
        return meaning;
    }
    match kind {
        "response" => read_response(value, true, &mut meaning),
        // The name of a call; its arguments follow.
        "response.output_item.added" => {
            let index = member(value, "output_index").and_then(json::count);
            if let Some(call) = member(value, "item").and_then(|item| call_of(item, index)) {
                meaning.calls.push(CallPiece { arguments: "".into(), ..call });
            }
        }
        "response.completed" | "response.incomplete" | "response.done" => {
            meaning.ended = true;
            if let Some(response) = member(value, "response") {
                read_response(response, false, &mut meaning);
            }
        }
        "response.failed" => {
            let error = member(value, "response").and_then(|response| member(response, "error"));
            meaning.error = Some(error.map_or_else(|| error_text::from_json(value), error_text::from_json));
        }
        "error" => meaning.error = Some(error_text::from_json(value)),
        // A proxy in front of the server may insert an error of its own.
        "" if member(value, "error").is_some_and(is_error) => meaning.error = Some(error_text::from_json(value)),
        _ => {}
    }
    meaning
}

/// The known event name that equals `name`; empty for an unknown one.
fn known(name: &str) -> &'static str {
    const NAMES: [&str; 12] = [
        "response.output_item.added",
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.completed",
        "response.incomplete",
        "response.done",
        "response.failed",
        "error",
    ];
    NAMES.into_iter().find(|known| *known == name).unwrap_or("")
}

fn read_delta<'a>(kind: &str, delta: &'a str, index: Option<u32>, meaning: &mut Meaning<'a>) {
    match kind {
        "response.output_text.delta" | "response.refusal.delta" => add_text(delta, Some(DELTA), meaning),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
            add_reasoning(delta, Some(REASONING_DELTA), meaning);
        }
        "response.function_call_arguments.delta"
        | "response.mcp_call_arguments.delta"
        | "response.custom_tool_call_input.delta"
        | "response.code_interpreter_call_code.delta"
            if !delta.is_empty() =>
        {
            meaning.calls.push(CallPiece { index, arguments: delta.into(), ..CallPiece::default() });
            add_piece(None, meaning);
        }
        _ => {}
    }
}

/// Reads the object of a whole response. At the end of a stream its text was received before (`with_output` is false).
fn read_response<'a>(response: Value<'_, 'a>, with_output: bool, meaning: &mut Meaning<'a>) {
    for (key, value) in json::entries(response) {
        match key {
            "output" if with_output => json::elements(value).for_each(|item| read_item(item, meaning)),
            "usage" if !json::is_null(value) => meaning.usage = Some(read_usage(value)),
            "metrics" => meaning.times = super::server_timings::read_metrics(value),
            "error" if is_error(value) => meaning.error = Some(error_text::from_json(value)),
            _ => {}
        }
    }
    let reason = member(response, "incomplete_details").and_then(|details| member_text(details, "reason"));
    meaning.finish = match (member_text(response, "status"), reason) {
        // vLLM ends a truncated answer with `response.completed` too, so the status decides.
        (_, Some("max_output_tokens")) => Some(Finish::Length),
        (_, Some("content_filter")) => Some(Finish::ContentFilter),
        (Some("completed"), _) => Some(Finish::Stop),
        (Some(status @ ("incomplete" | "cancelled")), reason) => {
            meaning.aborted = Some(reason.unwrap_or(status));
            Some(Finish::Other)
        }
        _ => None,
    };
}

/// The tool call that an item of the output is.
fn call_of<'a>(item: Value<'_, 'a>, index: Option<u32>) -> Option<CallPiece<'a>> {
    let text = |name| member_text(item, name);
    text("type").filter(|kind| kind.ends_with("_call"))?;
    let arguments = text("arguments").or_else(|| text("input")).unwrap_or_default().into();
    let id = text("call_id").or_else(|| text("id")).unwrap_or_default();
    Some(CallPiece { choice: 0, index, id, name: text("name").unwrap_or_default(), arguments })
}

fn read_item<'a>(item: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    meaning.choices += 1;
    meaning.calls.extend(call_of(item, Some(meaning.choices)));
    let kind = member_text(item, "type").unwrap_or_default();
    for (key, value) in json::entries(item) {
        match (kind, key) {
            ("reasoning", "content" | "summary") => {
                for part in json::elements(value) {
                    add_reasoning(member_text(part, "text").unwrap_or_default(), None, meaning);
                }
            }
            ("message", "content") => {
                for part in json::elements(value) {
                    let text = member_text(part, "text").or_else(|| member_text(part, "refusal"));
                    add_text(text.unwrap_or_default(), None, meaning);
                }
            }
            (_, "arguments" | "input") if json::text(value).is_some_and(|text| !text.is_empty()) => {
                add_piece(None, meaning);
            }
            _ => {}
        }
    }
}

/// The parameters of OpenAI with two names of their own; `logprobs` is a number and has to be included explicitly.
fn parameter(name: &'static str, value: Json) -> Fields {
    match name {
        "max_tokens" => vec![("max_output_tokens", value)],
        "logprobs" => vec![("top_logprobs", json!(1)), ("include", json!(["message.output_text.logprobs"]))],
        _ => openai_parameter(name, value),
    }
}

/// The fields that carry a prompt.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let input = match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Messages(messages) => messages.iter().flat_map(input_items).collect(),
        _ => return Err("--api openai_responses takes texts and lists of messages".to_string()),
    };
    Ok(Map::from_iter([("input".to_string(), input)]))
}

/// The items of a chat message: tool calls and their results are items of their own.
fn input_items(message: &Json) -> Vec<Json> {
    if message["role"] == "tool" {
        let output = json!({
            "type": "function_call_output",
            "call_id": message["tool_call_id"],
            "output": content_text(message),
        });
        return vec![output];
    }
    let mut message = input_message(message);
    let calls = message.as_object_mut().and_then(|fields| fields.shift_remove("tool_calls")).unwrap_or_default();
    let calls = tool_calls::from_list(&calls);
    let has_text = !content_text(&message).is_empty();
    let text = (has_text || calls.is_empty()).then_some(message);
    text.into_iter().chain(calls.iter().map(tool_calls::item)).collect()
}

/// Renames the parts of a chat message for this API.
fn input_message(message: &Json) -> Json {
    let mut message = message.clone();
    let text_type = if message["role"] == "assistant" { "output_text" } else { "input_text" };
    if let Some(Json::Array(parts)) = message.get_mut("content") {
        for part in parts {
            match part["type"].as_str() {
                Some("text") => part["type"] = json!(text_type),
                Some("image_url") => *part = json!({"type": "input_image", "image_url": part["image_url"]["url"]}),
                _ => {}
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output, text, reasoning, finish, error of one event.
    fn seen(name: &str, event: &str) -> (bool, String, String, Option<Finish>, Option<String>) {
        json::with_value(event.as_bytes(), |value| {
            let meaning = read(name.as_bytes(), value);
            (meaning.output, meaning.text.into(), meaning.reasoning.into(), meaning.finish, meaning.error)
        })
        .unwrap()
    }

    fn said(text: &str) -> (bool, String, String, Option<Finish>, Option<String>) {
        (true, text.to_string(), String::new(), None, None)
    }

    #[test]
    fn deltas_of_every_kind_are_output() {
        assert_eq!(seen("", r#"{"type":"response.output_text.delta","delta":"a"}"#), said("a"));
        assert_eq!(seen("", r#"{"type":"response.refusal.delta","delta":"no"}"#), said("no"));
        assert_eq!(seen("", r#"{"type":"response.reasoning_text.delta","delta":"r"}"#).2, "r");
        assert_eq!(seen("", r#"{"type":"response.reasoning_summary_text.delta","delta":"s"}"#).2, "s");
        assert!(seen("", r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#).0);
        let named = r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","id":"i","call_id":"c","name":"f","arguments":""}}"#;
        json::with_value(named.as_bytes(), |value| {
            let meaning = read(b"", value);
            let call = &meaning.calls[0];
            assert_eq!((call.index, call.id, call.name, meaning.output), (Some(1), "c", "f", false));
        })
        .unwrap();
        assert_eq!(seen("response.output_text.delta", r#"{"delta":"by name"}"#), said("by name"));
    }

    #[test]
    fn empty_deltas_and_repetitions_are_not() {
        for event in [
            r#"{"type":"response.output_text.delta","delta":""}"#,
            r#"{"type":"response.output_text.done","text":"all"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"text":"all"}]}}"#,
            r#"{"type":"response.created","response":{"output":[],"usage":null,"status":"in_progress"}}"#,
        ] {
            assert_eq!(seen("", event), (false, String::new(), String::new(), None, None), "{event}");
        }
    }

    #[test]
    fn the_last_event_has_usage_and_reason() {
        let event = r#"{"type":"response.incomplete","response":{"status":"incomplete","error":null,
            "incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message","content":[{"text":"all"}]}],
            "usage":{"input_tokens":3,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":1}}}}"#;
        json::with_value(event.as_bytes(), |value| {
            let meaning = read(b"", value);
            let usage = meaning.usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens, usage.reasoning_tokens), (Some(3), Some(4), Some(1)));
            assert_eq!((meaning.finish, meaning.ended, meaning.output), (Some(Finish::Length), true, false));
        })
        .unwrap();
    }

    #[test]
    fn errors_are_told() {
        let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"x","message":"m"}}}"#;
        assert_eq!(seen("", failed).4.as_deref(), Some("m"));
        assert_eq!(seen("", r#"{"type":"error","code":"c","message":"overloaded"}"#).4.as_deref(), Some("overloaded"));
        assert_eq!(seen("", r#"{"error":{"message":"bare"}}"#).4.as_deref(), Some("bare"));
    }

    #[test]
    fn a_whole_answer_is_read() {
        let body = r#"{"object":"response","status":"completed","error":null,"output":[
            {"type":"reasoning","summary":[{"text":"s"}],"content":[{"text":"r"}]},
            {"type":"message","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"b"}]},
            {"type":"function_call","arguments":"{}"}]}"#;
        let (output, text, reasoning, finish, error) = seen("", body);
        assert_eq!((output, text.as_str(), reasoning.as_str()), (true, "ab", "sr"));
        assert_eq!((finish, error), (Some(Finish::Stop), None));
    }

    #[test]
    fn messages_get_the_names_of_this_api() {
        let parts = json!([{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "data:x"}}]);
        let fields = prompt_fields(&Prompt::Messages(vec![json!({"role": "user", "content": parts})])).unwrap();
        let expected = json!([{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "data:x"}]);
        assert_eq!(fields["input"][0]["content"], expected);
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let calling = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let result = json!({"role": "tool", "tool_call_id": "c", "content": "4"});
        assert_eq!(
            prompt_fields(&Prompt::Messages(vec![calling, result])).unwrap()["input"],
            json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "c", "output": "4"}])
        );
    }
}
