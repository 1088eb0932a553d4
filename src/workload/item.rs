//! A prompt of a data set.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::WorkloadError;
use crate::api::prompt::Prompt;
use crate::api::tool_calls::ToolCall;

/// A prompt and its position in the data set.
#[derive(Clone, Debug)]
pub struct Item {
    pub prompt: Prompt,
    /// Line of the file, from 1; 0 if it did not come from a line.
    pub line: u64,
    /// The exact length of the answer, tokens; overrides the options.
    pub output_tokens: Option<u32>,
    /// Further fields of the body. Those of the options take precedence.
    pub extra: Map<String, Value>,
    /// The messages that each turn of a conversation adds. Empty for single requests.
    pub turns: Vec<Vec<Value>>,
    /// For each turn, the tool calls whose results are among its messages.
    pub answered_calls: Vec<Vec<ToolCall>>,
}

impl Item {
    /// A prompt that does not come from a file.
    pub fn new(prompt: Prompt) -> Item {
        Item::at(prompt, 0)
    }

    /// A prompt from a line of a file.
    pub fn at(prompt: Prompt, line: u64) -> Item {
        Item { prompt, line, output_tokens: None, extra: Map::new(), turns: Vec::new(), answered_calls: Vec::new() }
    }

    /// An error about this prompt, with its line in the file at `path`.
    pub fn error(&self, path: Option<&Path>, what: String) -> WorkloadError {
        match path.filter(|_| self.line > 0) {
            Some(path) => WorkloadError::Line { path: path.to_path_buf(), line: self.line, what },
            None => WorkloadError::Data(what),
        }
    }
}

/// A chat message of the user.
pub(crate) fn user_message(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}
