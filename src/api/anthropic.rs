//! `/v1/messages`: content blocks of a stream and of a whole answer.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, Fields, stream_field};
use super::error_text;
use super::meaning::{Meaning, TextPath, Usage, member, member_text};
use super::openai::{add_piece, add_reasoning, add_text, is_error, read_finish};
use super::prompt::{Prompt, content_text};
use super::tool_calls::{self, CallPiece};
use crate::protocol::json::{self, Step, Value};

/// The version of the API that requests ask for.
const VERSION: &str = "2023-06-01";

/// Paths of the texts that come once per token.
const TEXT: TextPath = TextPath { path: &[Step::Key("delta"), Step::Key("text")], reasoning: false };
const THINKING: TextPath = TextPath { path: &[Step::Key("delta"), Step::Key("thinking")], reasoning: true };

/// How `/v1/messages` is written and read.
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
    headers: |_| vec![("anthropic-version", VERSION)],
    key_header: |key| ("x-api-key", key.to_string()),
};

/// Reads one event, or a whole body. The kind of an event is its `type`, or `name`, the `event:` field, if that is
/// missing.
///
/// Output is text, thinking, and the name and the input of a tool call. Empty starts of blocks, signatures and pings
/// are not output.
pub fn read<'a>(name: &[u8], value: Value<'_, 'a>) -> Meaning<'a> {
    let mut meaning = Meaning::default();
    let kind = member_text(value, "type").map_or(name, str::as_bytes);
    match kind {
        b"content_block_delta" => {
            meaning.choices = 1;
            let index = index_of(value);
            member(value, "delta").into_iter().for_each(|delta| read_delta(delta, index, &mut meaning));
        }
        b"content_block_start" => {
            meaning.choices = 1;
            meaning.announces = true;
            let index = index_of(value);
            member(value, "content_block").into_iter().for_each(|block| read_block(block, index, false, &mut meaning));
        }
        b"message_start" => {
            let usage = member(value, "message").and_then(|message| member(message, "usage"));
            meaning.usage = usage.map(read_usage);
        }
        b"message_delta" => {
            let reason = member(value, "delta").and_then(|delta| member(delta, "stop_reason"));
            reason.into_iter().for_each(|reason| read_finish(reason, &mut meaning));
            meaning.usage = member(value, "usage").map(read_usage);
        }
        b"message_stop" => meaning.ended = true,
        b"error" => meaning.error = Some(error_text::from_json(value)),
        b"message" => read_whole(value, &mut meaning),
        // A proxy in front of the server may insert an error of its own.
        _ if member(value, "error").is_some_and(is_error) => meaning.error = Some(error_text::from_json(value)),
        _ => {}
    }
    meaning
}

/// The number of the block that an event is about.
fn index_of(event: Value<'_, '_>) -> Option<u32> {
    member(event, "index").and_then(json::count)
}

fn read_delta<'a>(delta: Value<'_, 'a>, index: Option<u32>, meaning: &mut Meaning<'a>) {
    for (key, part) in json::entries(delta) {
        match (key, json::text(part)) {
            ("text", Some(text)) => add_text(text, Some(TEXT), meaning),
            ("thinking", Some(text)) => add_reasoning(text, Some(THINKING), meaning),
            ("partial_json", Some(text)) if !text.is_empty() => {
                meaning.calls.push(CallPiece { index, arguments: text.into(), ..CallPiece::default() });
                add_piece(None, meaning);
            }
            _ => {}
        }
    }
}

/// Reads a content block. In a stream (`whole` is false) its input is `{}` at first and follows in deltas.
fn read_block<'a>(block: Value<'_, 'a>, index: Option<u32>, whole: bool, meaning: &mut Meaning<'a>) {
    let is_call = member_text(block, "type").is_some_and(|kind| kind.ends_with("tool_use"));
    if is_call {
        let text = |name| member_text(block, name).unwrap_or_default();
        let input = member(block, "input").filter(|_| whole).map(json::encode).unwrap_or_default();
        meaning.calls.push(CallPiece { choice: 0, index, id: text("id"), name: text("name"), arguments: input.into() });
    }
    for (key, part) in json::entries(block) {
        match (key, json::text(part)) {
            ("text", Some(text)) => add_text(text, None, meaning),
            ("thinking", Some(text)) => add_reasoning(text, None, meaning),
            ("name", Some(name)) if is_call && !name.is_empty() => add_piece(None, meaning),
            ("input", _) if is_call && whole => add_piece(None, meaning),
            _ => {}
        }
    }
}

fn read_whole<'a>(message: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for (key, part) in json::entries(message) {
        match key {
            "content" => {
                for block in json::elements(part) {
                    meaning.choices += 1;
                    let index = Some(meaning.choices);
                    read_block(block, index, true, meaning);
                }
            }
            "stop_reason" => read_finish(part, meaning),
            "usage" if !json::is_null(part) => meaning.usage = Some(read_usage(part)),
            _ => {}
        }
    }
}

/// Token counts. This API counts input read from the cache or written to it apart from `input_tokens`, other APIs count
/// it as input, so it is added.
fn read_usage(value: Value<'_, '_>) -> Usage {
    let count = |name: &str| member(value, name).and_then(json::count);
    let cached = count("cache_read_input_tokens");
    let written = count("cache_creation_input_tokens").unwrap_or(0);
    let input = count("input_tokens").map(|tokens| tokens.saturating_add(cached.unwrap_or(0)).saturating_add(written));
    Usage { input_tokens: input, output_tokens: count("output_tokens"), cached_tokens: cached, reasoning_tokens: None }
}

/// The parameters that the API knows.
fn parameter(name: &'static str, value: Json) -> Fields {
    match name {
        "max_tokens" | "temperature" | "top_p" | "top_k" => vec![(name, value)],
        "stop" => vec![("stop_sequences", value)],
        _ => Fields::new(),
    }
}

/// The fields that carry a prompt: system messages go to a field of their own, apart from the other messages.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let mut fields = Map::new();
    match prompt {
        Prompt::Text(text) => {
            fields.insert("messages".to_string(), json!([{"role": "user", "content": text}]));
        }
        Prompt::Messages(messages) => {
            let is_system = |message: &&Json| matches!(message["role"].as_str(), Some("system" | "developer"));
            let system: Vec<String> = messages.iter().filter(is_system).map(content_text).collect();
            if !system.is_empty() {
                fields.insert("system".to_string(), json!(system.join("\n\n")));
            }
            let others = messages.iter().filter(|message| !is_system(message)).map(input_message);
            fields.insert("messages".to_string(), others.collect());
        }
        _ => return Err("--api anthropic takes texts and lists of messages".to_string()),
    }
    Ok(fields)
}

/// Converts the images, tool calls and results of a chat message to the form of this API.
fn input_message(message: &Json) -> Json {
    if message["role"] == "tool" {
        let result =
            json!({"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]});
        return json!({"role": "user", "content": [result]});
    }
    let calls = tool_calls::from_list(&message["tool_calls"]);
    if !calls.is_empty() {
        return json!({"role": "assistant", "content": tool_calls::blocks(&content_text(message), &calls)});
    }
    let mut message = message.clone();
    if let Some(Json::Array(parts)) = message.get_mut("content") {
        for part in parts.iter_mut().filter(|part| part["type"] == "image_url") {
            let url = part["image_url"]["url"].as_str().unwrap_or_default();
            let source = match url.strip_prefix("data:").and_then(|data| data.split_once(";base64,")) {
                Some((media_type, data)) => json!({"type": "base64", "media_type": media_type, "data": data}),
                None => json!({"type": "url", "url": url}),
            };
            *part = json!({"type": "image", "source": source});
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Finish;

    fn seen<R>(event: &str, look: impl FnOnce(Meaning<'_>) -> R) -> R {
        json::with_value(event.as_bytes(), |value| look(read(b"", value))).unwrap()
    }

    #[test]
    fn deltas_are_output_and_frames_are_not() {
        let delta = |delta: &str| {
            let event = format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#);
            seen(&event, |meaning| (meaning.pieces, meaning.text.into_owned(), meaning.reasoning.into_owned()))
        };
        assert_eq!(delta(r#"{"type":"text_delta","text":"a"}"#), (1, "a".into(), "".into()));
        assert_eq!(delta(r#"{"type":"thinking_delta","thinking":"t"}"#), (1, "".into(), "t".into()));
        assert_eq!(delta(r#"{"type":"input_json_delta","partial_json":"{"}"#).0, 1);
        assert_eq!(delta(r#"{"type":"input_json_delta","partial_json":""}"#).0, 0);
        assert_eq!(delta(r#"{"type":"signature_delta","signature":"x"}"#).0, 0);
        for frame in [
            r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"ping"}"#,
        ] {
            assert!(seen(frame, |meaning| !meaning.output && !meaning.ended), "{frame}");
        }
        let call = r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"f","input":{}}}"#;
        assert_eq!(seen(call, |meaning| meaning.pieces), 1);
    }

    #[test]
    fn usage_comes_in_two_events_and_the_cache_counts_as_input() {
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":2,"output_tokens":1}}}"#;
        let usage = seen(start, |meaning| meaning.usage.unwrap());
        assert_eq!((usage.input_tokens, usage.cached_tokens), (Some(15), Some(10)));
        let end = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":4}}"#;
        let (usage, finish) = seen(end, |meaning| (meaning.usage.unwrap(), meaning.finish));
        assert_eq!((usage.input_tokens, usage.output_tokens, finish), (None, Some(4), Some(Finish::Length)));
        assert!(seen(r#"{"type":"message_stop"}"#, |meaning| meaning.ended));
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(seen(error, |meaning| meaning.error).as_deref(), Some("Overloaded"));
    }

    #[test]
    fn a_whole_answer_is_read() {
        let body = r#"{"type":"message","content":[{"type":"thinking","thinking":"t"},{"type":"text","text":"a"},
            {"type":"tool_use","name":"f","input":{"q":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
        let read = seen(body, |meaning| (meaning.text.into_owned(), meaning.pieces, meaning.finish));
        assert_eq!(read, ("a".to_string(), 4, Some(Finish::ToolCalls)));
        let calls = seen(body, |meaning| {
            let call = &meaning.calls[0];
            (meaning.calls.len(), call.name.to_string(), call.arguments.to_string())
        });
        assert_eq!(calls, (1, "f".to_string(), r#"{"q":1}"#.to_string()));
    }

    #[test]
    fn the_system_stands_apart_and_images_are_sources() {
        let prompt = Prompt::Messages(vec![
            json!({"role": "system", "content": "be brief"}),
            json!({"role": "user", "content": [{"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]}),
        ]);
        let fields = prompt_fields(&prompt).unwrap();
        assert_eq!(fields["system"], json!("be brief"));
        assert_eq!(fields["messages"].as_array().unwrap().len(), 1);
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"q\":1}"}});
        let assistant = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let block = json!({"type": "tool_use", "id": "c", "name": "f", "input": {"q": 1}});
        assert_eq!(input_message(&assistant), json!({"role": "assistant", "content": [block]}));
        let tool = json!({"role": "tool", "tool_call_id": "c", "content": "4"});
        let block = json!({"type": "tool_result", "tool_use_id": "c", "content": "4"});
        assert_eq!(input_message(&tool), json!({"role": "user", "content": [block]}));
        let source = json!({"type": "base64", "media_type": "image/png", "data": "QUJD"});
        assert_eq!(fields["messages"][0]["content"][1], json!({"type": "image", "source": source}));
    }
}
