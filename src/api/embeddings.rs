//! `/v1/embeddings`: vectors for texts, in one JSON response.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, Fields, bearer, no_headers};
use super::meaning::Meaning;
use super::openai::read_whole;
use super::prompt::Prompt;
use crate::protocol::json::Value;

/// How `/v1/embeddings` is written and read.
pub(crate) static DEFINITION: Definition = Definition {
    read: |_, value| read(value),
    prompt_fields,
    parameter: |_, _| Fields::new(),
    closing_fields: |_| Fields::new(),
    parameters_in: None,
    has_stream_options: false,
    streams: false,
    usage_ends_stream: false,
    has_event_names: false,
    takes_messages: false,
    headers: no_headers,
    key_header: bearer,
};

/// Reads a whole body. Each embedding counts as a piece of output without text.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    read_whole(value, &["data", "embeddings"])
}

/// The fields that carry a prompt: one text as a string, several as a list.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let input = match prompt {
        Prompt::Text(text) => json!(text),
        Prompt::Embedding(texts) if texts.len() == 1 => json!(texts[0]),
        Prompt::Embedding(texts) => json!(texts),
        _ => return Err("--api openai_embedding takes texts: use --dataset random_embedding or embedding".to_string()),
    };
    Ok(Map::from_iter([("input".to_string(), input)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json;

    #[test]
    fn vectors_are_output_without_text() {
        let body = br#"{"object":"list","data":[{"embedding":[0.1]},{"embedding":[0.2]}],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;
        json::with_value(body, |value| {
            let meaning = read(value);
            assert_eq!((meaning.output, meaning.pieces, meaning.text.as_ref()), (true, 2, ""));
            let usage = meaning.usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens), (Some(7), Some(0)));
        })
        .unwrap();
        json::with_value(b"[[0.1,0.2],[0.3,0.4]]", |value| {
            let meaning = read(value);
            assert_eq!((meaning.pieces, meaning.choices), (2, 2), "a list of vectors");
            let usage = meaning.usage.unwrap();
            assert_eq!((usage.input_tokens, usage.output_tokens), (None, Some(0)), "output is known to be 0");
        })
        .unwrap();
        json::with_value(br#"{"data":[]}"#, |value| assert!(!read(value).output)).unwrap();
        json::with_value(b"[]", |value| assert!(!read(value).output)).unwrap();
        json::with_value(br#"{"error":{"message":"m"}}"#, |value| assert_eq!(read(value).error.as_deref(), Some("m")))
            .unwrap();
    }

    #[test]
    fn one_text_stands_alone() {
        let texts = |texts: &[&str]| Prompt::Embedding(texts.iter().map(ToString::to_string).collect());
        assert_eq!(prompt_fields(&texts(&["a"])).unwrap()["input"], json!("a"));
        assert_eq!(prompt_fields(&texts(&["a", "b"])).unwrap()["input"], json!(["a", "b"]));
        assert!(prompt_fields(&Prompt::Messages(vec![])).unwrap_err().contains("openai_embedding"));
    }
}
