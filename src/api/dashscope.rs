//! DashScope's native text generation API: requests with `input` and `parameters`, responses with `output` and a
//! running `usage`.

use serde_json::{Map, Value as Json, json};

use super::chat::read_message;
use super::definition::{Definition, Fields, bearer, openai_parameter};
use super::error_text;
use super::meaning::{Meaning, member, member_text};
use super::openai::{add_text, is_error, read_finish, read_usage};
use super::prompt::Prompt;
use crate::protocol::json::{self, Value};

/// How DashScope's text generation API is written and read.
pub(crate) static DEFINITION: Definition = Definition {
    read: |_, value| read(value),
    prompt_fields,
    parameter: openai_parameter,
    closing_fields,
    parameters_in: Some("parameters"),
    has_stream_options: false,
    streams: true,
    usage_ends_stream: false,
    has_event_names: true,
    takes_messages: true,
    headers,
    key_header: bearer,
};

/// Reads one event, or a whole body: the message form (`output.choices`) and the text form (`output.text`).
///
/// With `incremental_output` every event carries only new text. Usage counts up from event to event; the last one is
/// final.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    let mut meaning = Meaning::default();
    let mut answered = false;
    for (key, part) in json::entries(value) {
        match key {
            "output" if !json::is_null(part) => {
                answered = true;
                read_output(part, &mut meaning);
            }
            "usage" if !json::is_null(part) => meaning.usage = Some(read_usage(part)),
            _ => {}
        }
    }
    let coded = member_text(value, "code").is_some_and(|code| !code.is_empty());
    if !answered && (coded || member(value, "error").is_some_and(is_error)) {
        meaning.error = Some(error_text::from_json(value));
    }
    meaning
}

fn read_output<'a>(output: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for (key, part) in json::entries(output) {
        match (key, json::text(part)) {
            ("text", Some(text)) => {
                meaning.choices += 1;
                add_text(text, None, meaning);
            }
            ("finish_reason", _) => read_finish(part, meaning),
            ("choices", _) => {
                for choice in json::elements(part) {
                    meaning.choices += 1;
                    if let Some(message) = member(choice, "message") {
                        read_message(message, meaning);
                    }
                    if let Some(reason) = member(choice, "finish_reason") {
                        read_finish(reason, meaning);
                    }
                }
            }
            _ => {}
        }
    }
    // The paths of the chat dialect are not valid here.
    meaning.place = None;
}

/// Asks for answers as messages and, in a stream, for only the new text in each event.
fn closing_fields(stream: bool) -> Fields {
    let mut fields = vec![("result_format", json!("message"))];
    if stream {
        fields.push(("incremental_output", json!(true)));
    }
    fields
}

/// The header that turns streaming on.
fn headers(stream: bool) -> Vec<(&'static str, &'static str)> {
    if stream { vec![("X-DashScope-SSE", "enable")] } else { Vec::new() }
}

/// The fields that carry a prompt.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let messages = match prompt {
        Prompt::Text(text) => json!([{"role": "user", "content": text}]),
        Prompt::Messages(messages) => messages.iter().map(input_message).collect(),
        _ => return Err("--api dashscope takes texts and lists of messages".to_string()),
    };
    Ok(Map::from_iter([("input".to_string(), json!({"messages": messages}))]))
}

/// Converts the parts of a chat message to the form of DashScope's multimodal models.
fn input_message(message: &Json) -> Json {
    let mut message = message.clone();
    if let Some(Json::Array(parts)) = message.get_mut("content") {
        for part in parts {
            match part["type"].as_str() {
                Some("text") => *part = json!({"text": part["text"]}),
                Some("image_url") => *part = json!({"image": part["image_url"]["url"]}),
                _ => {}
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Finish;

    #[test]
    fn both_forms_of_an_event_are_read() {
        for event in [
            r#"{"output":{"choices":[{"message":{"content":"a","role":"assistant"},"finish_reason":"null"}]},"usage":{"input_tokens":5,"output_tokens":1}}"#,
            r#"{"output":{"text":"a","finish_reason":"null"},"usage":{"input_tokens":5,"output_tokens":1},"request_id":"r"}"#,
            r#"{"output":{"choices":[{"message":{"content":[{"text":"a"}],"role":"assistant"},"finish_reason":"null"}]},"usage":{"input_tokens":5,"output_tokens":1}}"#,
        ] {
            json::with_value(event.as_bytes(), |value| {
                let meaning = read(value);
                assert_eq!((meaning.text.as_ref(), meaning.output, meaning.finish), ("a", true, None), "{event}");
                assert_eq!(meaning.usage.and_then(|usage| usage.output_tokens), Some(1));
                assert_eq!(meaning.place, None);
            })
            .unwrap();
        }
    }

    #[test]
    fn the_end_reasoning_and_errors() {
        let last =
            r#"{"output":{"choices":[{"message":{"content":"","reasoning_content":"r"},"finish_reason":"length"}]}}"#;
        json::with_value(last.as_bytes(), |value| {
            let meaning = read(value);
            assert_eq!((meaning.reasoning.as_ref(), meaning.finish), ("r", Some(Finish::Length)));
        })
        .unwrap();
        let error = r#"{"code":"Throttling.RateQuota","message":"slow down","request_id":"r"}"#;
        let error = json::with_value(error.as_bytes(), |value| read(value).error).unwrap();
        assert_eq!(error.as_deref(), Some("slow down"));
    }

    #[test]
    fn prompts_are_messages_of_the_input() {
        let fields = prompt_fields(&Prompt::Text("hi".to_string())).unwrap();
        assert_eq!(Json::Object(fields), json!({"input": {"messages": [{"role": "user", "content": "hi"}]}}));
        let parts = json!([{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "u"}}]);
        let fields = prompt_fields(&Prompt::Messages(vec![json!({"role": "user", "content": parts})])).unwrap();
        assert_eq!(fields["input"]["messages"][0]["content"], json!([{"text": "t"}, {"image": "u"}]));
    }
}
