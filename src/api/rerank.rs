//! `/v1/rerank`: documents ranked by relevance to a query, in one JSON response.

use serde_json::{Map, Value as Json, json};

use super::definition::{Definition, Fields, bearer, no_headers};
use super::meaning::Meaning;
use super::openai::read_whole;
use super::prompt::Prompt;
use crate::protocol::json::Value;

/// How `/v1/rerank` is written and read.
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

/// Reads a whole body. Each result counts as a piece of output without text.
pub fn read<'a>(value: Value<'_, 'a>) -> Meaning<'a> {
    read_whole(value, &["results", "data"])
}

/// The fields that carry a prompt.
fn prompt_fields(prompt: &Prompt) -> Result<Map<String, Json>, String> {
    let Prompt::Rerank { query, documents } = prompt else {
        return Err("--api openai_rerank takes a query with documents: use --dataset random_rerank or rerank, or \
                    line_by_line with whole request bodies"
            .to_string());
    };
    Ok(Map::from_iter([("query".to_string(), json!(query)), ("documents".to_string(), json!(documents))]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json;

    #[test]
    fn results_are_output_and_total_tokens_will_do() {
        let body = br#"{"results":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":9}}"#;
        json::with_value(body, |value| {
            let meaning = read(value);
            assert_eq!((meaning.output, meaning.pieces), (true, 1));
            assert_eq!(meaning.usage.and_then(|usage| usage.input_tokens), Some(9));
        })
        .unwrap();
    }

    #[test]
    fn a_bare_list_and_the_tokens_of_meta_are_read() {
        let read_body = |body: &str| {
            json::with_value(body.as_bytes(), |value| (read(value).pieces, read(value).usage.unwrap())).unwrap()
        };
        let (pieces, usage) = read_body(r#"[{"index":1,"score":0.9},{"index":0,"score":0.1}]"#);
        assert_eq!((pieces, usage.input_tokens, usage.output_tokens), (2, None, Some(0)));
        let cohere = r#"{"results":[{"index":0}],"meta":{"tokens":{"input_tokens":12}}}"#;
        assert_eq!(read_body(cohere).1.input_tokens, Some(12));
    }

    #[test]
    fn a_query_comes_with_documents() {
        let prompt = Prompt::Rerank { query: "q".to_string(), documents: vec!["a".to_string(), "b".to_string()] };
        let fields = prompt_fields(&prompt).unwrap();
        assert_eq!(Json::Object(fields), json!({"query": "q", "documents": ["a", "b"]}));
        assert!(prompt_fields(&Prompt::Text("q".to_string())).unwrap_err().contains("random_rerank"));
    }
}
