//! `/v1/completions`: text completion.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, Fields, bearer, no_headers, openai_parameter, stream_field};
use super::meaning::{Meaning, TextPath};
use super::openai::{add_text, read_finish};
use super::prompt::Prompt;
use crate::protocol::json::{self, Step, Value};

/// Path of the text of a token.
const TEXT: TextPath = TextPath { path: &[Step::Key("choices"), Step::First, Step::Key("text")], reasoning: false };

/// How `/v1/completions` is written and read.
pub(crate) static DEFINITION: Definition = Definition {
    read: |_, value| read(value),
    prompt_fields,
    parameter,
    closing_fields: stream_field,
    parameters_in: None,
    has_stream_options: true,
    streams: true,
    usage_ends_stream: true,
    has_event_names: false,
    takes_messages: false,
    headers: no_headers,
    key_header: bearer,
};

/// Reads one event, or a whole body. Output is non-empty `text` of any choice.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    super::openai::read(value, read_choice)
}

fn read_choice<'a>(choice: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    for (key, member) in json::entries(choice) {
        match (key, json::text(member)) {
            ("text", Some(text)) => add_text(text, Some(TEXT), meaning),
            ("finish_reason", _) => read_finish(member, meaning),
            _ => {}
        }
    }
}

/// The fields that carry a prompt: a text, or token ids.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let value = match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Tokens(ids) => json!(ids),
        other => return Err(other.unsupported()),
    };
    Ok(Map::from_iter([("prompt".to_string(), value)]))
}

/// The parameters of OpenAI, except that vLLM and OpenAI take a number for `logprobs` here and a switch in chat.
fn parameter(name: &'static str, value: Json) -> Fields {
    openai_parameter(name, if name == "logprobs" { json!(1) } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Finish;

    #[test]
    fn text_usage_and_finish_of_every_choice() {
        let body =
            br#"{"choices":[{"index":0,"text":"a","finish_reason":null},{"index":1,"text":"b","finish_reason":"stop"},
            {"index":2,"text":"","finish_reason":""}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        json::with_value(body, |value| {
            let meaning = read(value);
            assert_eq!((meaning.text.as_ref(), meaning.pieces, meaning.choices), ("a", 2, 3));
            let others: Vec<&str> = meaning.others.iter().map(|other| other.text.as_str()).collect();
            assert_eq!(others, ["b", ""]);
            assert_eq!(meaning.finish, Some(Finish::Stop));
            assert_eq!(meaning.usage.and_then(|usage| usage.output_tokens), Some(2));
        })
        .unwrap();
    }
}
