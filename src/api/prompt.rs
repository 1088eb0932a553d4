//! The content of one request, before a dialect turns it into a body.

use serde_json::{Map, Value};

/// The content of one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    Text(String),
    /// Chat messages, sent unchanged.
    Messages(Vec<Value>),
    /// Token ids instead of text.
    Tokens(Vec<u32>),
    /// A whole request body. Its fields take precedence; options only add fields that it does not have.
    Body(Map<String, Value>),
    /// Texts of one embeddings request.
    Embedding(Vec<String>),
    /// A query and the documents to rank for it.
    Rerank {
        query: String,
        documents: Vec<String>,
    },
}

impl Prompt {
    /// Error text for a dialect that cannot carry this prompt: the API or endpoint that can.
    pub(crate) fn unsupported(&self) -> String {
        let needed = match self {
            Prompt::Text(_) => "a text prompt needs an API that takes text, for example --api openai",
            Prompt::Messages(_) => "a list of messages needs an endpoint that ends in /chat/completions",
            Prompt::Tokens(_) => "token ids need an endpoint that ends in /v1/completions",
            Prompt::Body(_) => "a whole request body cannot be converted for another API",
            Prompt::Embedding(_) => "texts for embeddings need --api openai_embedding",
            Prompt::Rerank { .. } => "a query with documents needs --api openai_rerank",
        };
        needed.to_string()
    }
}

/// The text of a chat message: its content, or the texts among the parts of its content, joined by line breaks.
pub(crate) fn content_text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
