//! Several choices in one response (`n` above 1), whose texts are kept apart.

use serde_json::{Value as Json, json};

use super::tool_calls::{self, ToolCall};

/// Choices with a number above this are ignored, so that a wrong number in a response cannot exhaust memory.
const MOST: usize = 128;

/// Output of one choice in one event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChoicePiece {
    pub choice: u32,
    pub text: String,
    pub reasoning: String,
}

/// The output of one choice; texts are UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChoiceOutput {
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
    pub calls: Vec<ToolCall>,
}

impl ChoiceOutput {
    /// As a message of the chat API.
    fn message(&self) -> Json {
        let text = String::from_utf8_lossy(&self.text);
        let mut message = json!({"role": "assistant", "content": text});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(String::from_utf8_lossy(&self.reasoning));
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = tool_calls::list(&self.calls);
        }
        message
    }
}

/// The output of all choices but the first, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtherChoices(Vec<ChoiceOutput>);

impl OtherChoices {
    /// The output of a choice, counted from 0. `None` for the first, which is stored elsewhere, and for numbers above
    /// the limit.
    pub(crate) fn output_of(&mut self, choice: u32) -> Option<&mut ChoiceOutput> {
        let place = (choice as usize).checked_sub(1).filter(|place| *place < MOST)?;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, ChoiceOutput::default);
        }
        self.0.get_mut(place)
    }

    /// Bytes of their texts.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.iter().map(|choice| choice.text.len() + choice.reasoning.len()).sum()
    }

    /// Removes them and appends them as a JSON list of messages; nothing if there are none.
    pub fn take_messages(&mut self, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            let messages: Json = self.0.drain(..).map(|choice| choice.message()).collect();
            out.extend_from_slice(messages.to_string().as_bytes());
        }
    }
}

/// The texts in such a list: content, reasoning, names and arguments of tool calls.
pub(crate) fn texts_of(messages: &Json) -> Vec<String> {
    let texts = |message: &Json| {
        let calls = tool_calls::from_list(&message["tool_calls"]);
        let named = ["content", "reasoning_content"].into_iter().filter_map(|name| message[name].as_str());
        let named: Vec<String> = named.map(str::to_string).collect();
        named.into_iter().chain(calls.into_iter().flat_map(|call| [call.name, call.arguments]))
    };
    messages.as_array().into_iter().flatten().flat_map(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_kept_apart_whatever_their_texts_contain() {
        let mut others = OtherChoices::default();
        assert!(others.output_of(0).is_none() && others.output_of(4_000_000_000).is_none());
        for (choice, piece) in [(2, "c"), (1, "b\u{1e}\"\n"), (2, "C")] {
            others.output_of(choice).unwrap().text.extend_from_slice(piece.as_bytes());
        }
        others.output_of(2).unwrap().reasoning.push(b'r');
        others.output_of(2).unwrap().calls.push(ToolCall::new("i", "f", "{}"));
        let mut out = Vec::new();
        others.take_messages(&mut out);
        let messages: Json = serde_json::from_slice(&out).unwrap();
        let call = json!({"id": "i", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        assert_eq!(
            messages,
            json!([
                {"role": "assistant", "content": "b\u{1e}\"\n"},
                {"role": "assistant", "content": "cC", "reasoning_content": "r", "tool_calls": [call]},
            ])
        );
        assert_eq!(texts_of(&messages), ["b\u{1e}\"\n", "cC", "r", "f", "{}"]);
        out.clear();
        others.take_messages(&mut out);
        assert!(out.is_empty(), "they were taken");
    }
}
