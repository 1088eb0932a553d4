//! Tool calls of a response: collected from the fragments of a stream, and as JSON for the database and for later requests.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

/// Calls beyond this number are ignored, so that a wrong number in a response cannot exhaust memory.
const MOST: usize = 128;

/// A part of a tool call in one event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CallPiece<'a> {
    /// The choice that makes the call.
    pub choice: u32,
    /// The number of the call in the response, if the event has one.
    pub index: Option<u32>,
    /// Empty except in the first part of a call.
    pub id: &'a str,
    pub name: &'a str,
    pub arguments: Cow<'a, str>,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
    index: Option<u32>,
}

impl ToolCall {
    /// A call that is not part of a response.
    pub fn new(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.to_string(), name: name.to_string(), arguments: arguments.to_string(), index: None }
    }

    /// In the form of the chat API.
    pub fn json(&self) -> Json {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }

    fn takes(&self, piece: &CallPiece<'_>) -> bool {
        // Some servers number parallel calls alike, or not at all. A new id begins a new call.
        let is_other = !piece.id.is_empty() && !self.id.is_empty() && piece.id != self.id;
        !is_other && (piece.index.is_none() || piece.index == self.index)
    }

    fn add(&mut self, piece: &CallPiece<'_>) {
        if self.id.is_empty() {
            self.id.push_str(piece.id);
        }
        // The name comes once, in fragments, or again in every event.
        if self.arguments.is_empty() && self.name != piece.name {
            self.name.push_str(piece.name);
        }
        self.arguments.push_str(&piece.arguments);
    }
}

/// Adds a part of a call to the calls of its choice.
pub(crate) fn add_piece(calls: &mut Vec<ToolCall>, piece: &CallPiece<'_>) {
    match calls.iter().rposition(|call| call.takes(piece)) {
        Some(place) => calls[place].add(piece),
        None if calls.len() < MOST => {
            let mut call = ToolCall { index: piece.index, ..ToolCall::default() };
            call.add(piece);
            calls.push(call);
        }
        None => {}
    }
}

/// The calls as a JSON list, in the form of the chat API.
pub(crate) fn list(calls: &[ToolCall]) -> Json {
    calls.iter().map(ToolCall::json).collect()
}

/// The calls in such a list.
pub(crate) fn from_list(list: &Json) -> Vec<ToolCall> {
    let call = |call: &Json| {
        let function = call.get("function").unwrap_or(call);
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        ToolCall {
            id: call["id"].as_str().unwrap_or_default().to_string(),
            name: function["name"].as_str().unwrap_or_default().to_string(),
            arguments: function.get("arguments").map(text).unwrap_or_default(),
            index: None,
        }
    };
    list.as_array().into_iter().flatten().map(call).collect()
}

/// A call as an item of the responses API.
pub(crate) fn item(call: &ToolCall) -> Json {
    json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments})
}

/// Text and calls as content blocks of Anthropic's API.
pub(crate) fn blocks(text: &str, calls: &[ToolCall]) -> Json {
    let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    let calls = calls.iter().map(|call| {
        // The input is an object there; a model may write something else.
        let input: Map<String, Json> = serde_json::from_str(&call.arguments).unwrap_or_default();
        json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
    });
    text.into_iter().chain(calls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece<'a>(index: Option<u32>, id: &'a str, name: &'a str, arguments: &'a str) -> CallPiece<'a> {
        CallPiece { choice: 0, index, id, name, arguments: arguments.into() }
    }

    fn collected(pieces: &[CallPiece<'_>]) -> Vec<(String, String, String)> {
        let mut calls = Vec::new();
        pieces.iter().for_each(|piece| add_piece(&mut calls, piece));
        calls.into_iter().map(|call| (call.id, call.name, call.arguments)).collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_string(), name.to_string(), arguments.to_string())
    }

    #[test]
    fn fragments_of_parallel_calls_are_joined() {
        let interleaved = [
            piece(Some(0), "a", "f", ""),
            piece(Some(1), "b", "g", ""),
            piece(Some(0), "", "", "{\"x\""),
            piece(Some(1), "", "", "{}"),
            piece(Some(0), "", "", ":1}"),
        ];
        assert_eq!(collected(&interleaved), [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
        let one_number = [
            piece(Some(0), "a", "f", "{"),
            piece(Some(0), "a", "f", "}"),
            piece(Some(0), "b", "f", "{"),
            piece(Some(0), "", "", "}"),
        ];
        assert_eq!(collected(&one_number), [call("a", "f", "{}"), call("b", "f", "{}")]);
        let unnumbered = [piece(None, "a", "f", "{"), piece(None, "", "", "}"), piece(None, "b", "g", "1")];
        assert_eq!(collected(&unnumbered), [call("a", "f", "{}"), call("b", "g", "1")]);
        let name_in_parts =
            [piece(Some(0), "a", "get_", ""), piece(Some(0), "", "time", ""), piece(Some(0), "", "", "{}")];
        assert_eq!(collected(&name_in_parts), [call("a", "get_time", "{}")]);
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let many: Vec<CallPiece<'_>> = many.iter().map(|id| piece(None, id, "f", "")).collect();
        assert_eq!(collected(&many).len(), MOST);
    }

    #[test]
    fn a_list_is_read_back() {
        let calls = [ToolCall::new("a", "f", "{\"x\":\"\u{1e}\"}"), ToolCall::new("b", "g", "")];
        assert_eq!(from_list(&list(&calls)), calls);
        assert_eq!(from_list(&json!([{"name": "f", "arguments": {"x": 1}}])), [ToolCall::new("", "f", "{\"x\":1}")]);
        assert_eq!(from_list(&Json::Null), []);
    }
}
