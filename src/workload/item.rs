//! A prompt of a data set and the place it came from.

use std::path::Path;

use serde_json::{Value, json};

use super::error::WorkloadError;
use crate::api::prompt::Prompt;

/// A prompt and the place it came from.
#[derive(Clone, Debug)]
pub struct Item {
    pub prompt: Prompt,
    /// Line of the file, from 1; 0 when it did not come from a line.
    pub line: u64,
    /// The answer is to have so many tokens, whatever the options say.
    pub output_tokens: Option<u32>,
    /// Of a conversation: the messages that each turn adds. Empty for single requests.
    pub turns: Vec<Vec<Value>>,
}

impl Item {
    /// A prompt that did not come from a line.
    pub fn new(prompt: Prompt) -> Item {
        Item::at(prompt, 0)
    }

    /// A prompt of a line.
    pub fn at(prompt: Prompt, line: u64) -> Item {
        Item { prompt, line, output_tokens: None, turns: Vec::new() }
    }

    /// An error about this prompt, with its line in the file at `path`.
    pub fn error(&self, path: Option<&Path>, what: String) -> WorkloadError {
        match path.filter(|_| self.line > 0) {
            Some(path) => WorkloadError::Line { path: path.to_path_buf(), line: self.line, what },
            None => WorkloadError::Data(what),
        }
    }
}

/// One user message.
pub fn user_message(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}
