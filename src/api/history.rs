//! The history of a conversation: the model's answers as messages of later requests.

use serde_json::json;

use super::dialect::Dialect;
use super::tool_calls::{ToolCall, blocks, item, list};
use crate::protocol::json::escape_into;

/// Adds the model's answer to a history of messages, without its reasoning.
///
/// `answered` are the calls whose results follow in the next turn, as the data records them. APIs require exactly these
/// calls before the results, under their ids: the model's calls take their places in order, a call that the model did
/// not make is the recorded one, and a call without a result is left out.
pub(crate) fn append_answer(
    dialect: Dialect,
    text: &[u8],
    calls: &[ToolCall],
    answered: &[ToolCall],
    history: &mut Vec<u8>,
) {
    let made = |(place, recorded): (usize, &ToolCall)| match calls.get(place) {
        Some(call) => ToolCall::new(&recorded.id, &call.name, &call.arguments),
        None => recorded.clone(),
    };
    let calls: Vec<ToolCall> = answered.iter().enumerate().map(made).collect();
    let text = String::from_utf8_lossy(text);
    match dialect {
        Dialect::Anthropic if !calls.is_empty() => {
            let blocks = json!({"role": "assistant", "content": blocks(&text, &calls)});
            history.push(b',');
            history.extend_from_slice(blocks.to_string().as_bytes());
        }
        Dialect::Responses => {
            if !text.is_empty() || calls.is_empty() {
                open_message(&text, history);
                history.push(b'}');
            }
            for call in &calls {
                history.push(b',');
                history.extend_from_slice(item(call).to_string().as_bytes());
            }
        }
        _ => {
            open_message(&text, history);
            if !calls.is_empty() {
                history.extend_from_slice(br#","tool_calls":"#);
                history.extend_from_slice(list(&calls).to_string().as_bytes());
            }
            history.push(b'}');
        }
    }
}

fn open_message(text: &str, history: &mut Vec<u8>) {
    history.extend_from_slice(br#",{"role":"assistant","content":""#);
    escape_into(text, history);
    history.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn the_history_has_the_calls_whose_results_follow() {
        let history = |dialect, text: &str, calls: &[ToolCall], answered: &[ToolCall]| {
            let mut out = Vec::new();
            append_answer(dialect, text.as_bytes(), calls, answered, &mut out);
            serde_json::from_slice::<Json>(&[b"[0", out.as_slice(), b"]"].concat()).unwrap()
        };
        let (made, recorded) = ([ToolCall::new("x", "f", "{\"q\":1}")], [ToolCall::new("c1", "g", "{}")]);
        let chat = history(Dialect::Chat, "a \"b\"", &made, &recorded);
        let expected = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"q\":1}"}});
        assert_eq!(chat[1], json!({"role": "assistant", "content": "a \"b\"", "tool_calls": [expected]}));
        // Without a call of the model the recorded one is there, without a result none is.
        assert_eq!(history(Dialect::Chat, "a", &[], &recorded)[1]["tool_calls"][0]["function"]["name"], "g");
        assert_eq!(history(Dialect::Chat, "a", &made, &[])[1], json!({"role": "assistant", "content": "a"}));
        let anthropic = history(Dialect::Anthropic, "", &made, &recorded);
        let block = json!({"type": "tool_use", "id": "c1", "name": "f", "input": {"q": 1}});
        assert_eq!(anthropic[1], json!({"role": "assistant", "content": [block]}));
        let responses = history(Dialect::Responses, "", &made, &recorded);
        let item = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"q\":1}"});
        assert_eq!(responses, json!([0, item]));
    }
}
