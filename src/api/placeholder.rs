//! The placeholders `%m` (model name) and `%p` (prompt) in the strings of a template.
//!
//! Templates are JSON values, and placeholders are replaced within their strings, so that a prompt is escaped when the
//! body is written.

use serde_json::{Value, json};

use super::prompt::{Prompt, content_text};

/// The placeholder of the model's name.
pub const MODEL: &str = "%m";
/// The placeholder of the prompt.
pub const PROMPT: &str = "%p";

/// Whether any string of the value contains the placeholder of the prompt.
pub(crate) fn names_prompt(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(PROMPT),
        Value::Array(items) => items.iter().any(names_prompt),
        Value::Object(fields) => fields.values().any(names_prompt),
        _ => false,
    }
}

/// Replaces the placeholders in a value.
///
/// A string that is only `%p` becomes the prompt in its natural form: a text, token ids, or several texts as a list.
/// Within a longer string it becomes a text; for a list of messages that is the last message of the user. A message
/// whose content is only `%p` is replaced by the whole list of messages.
pub(crate) fn fill(value: &Value, model: &str, prompt: &Prompt) -> Value {
    match value {
        Value::String(text) if text == PROMPT => whole(prompt),
        Value::String(text) => Value::from(fill_text(text, model, &text_of(prompt))),
        Value::Array(items) => items.iter().flat_map(|item| fill_item(item, model, prompt)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), fill(value, model, prompt))).collect()
        }
        other => other.clone(),
    }
}

fn fill_item(item: &Value, model: &str, prompt: &Prompt) -> Vec<Value> {
    let stands_for_all = item.get("role").is_some() && item["content"] == PROMPT;
    match prompt {
        Prompt::Messages(messages) if stands_for_all => messages.clone(),
        _ => vec![fill(item, model, prompt)],
    }
}

/// Replaces in one pass, so that placeholders within a prompt are kept.
fn fill_text(text: &str, model: &str, prompt: &str) -> String {
    let mut filled = String::with_capacity(text.len() + prompt.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, sign) = rest.split_at(at);
        filled.push_str(before);
        let (value, length) = match () {
            () if sign.starts_with(MODEL) => (model, MODEL.len()),
            () if sign.starts_with(PROMPT) => (prompt, PROMPT.len()),
            () => ("%", 1),
        };
        filled.push_str(value);
        rest = &sign[length..];
    }
    filled.push_str(rest);
    filled
}

/// The prompt in its natural form.
fn whole(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Tokens(ids) => json!(ids),
        Prompt::Embedding(texts) if texts.len() > 1 => json!(texts),
        other => Value::from(text_of(other)),
    }
}

/// The prompt as one text; empty for whole bodies.
fn text_of(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Messages(messages) => {
            let last = messages.iter().rev().find(|message| message["role"] == "user").or(messages.last());
            last.map(content_text).unwrap_or_default()
        }
        Prompt::Embedding(texts) => texts.join("\n"),
        Prompt::Rerank { query, .. } => query.clone(),
        // Token ids cannot be part of a longer text.
        Prompt::Tokens(_) | Prompt::Body(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prompt: &str) -> Prompt {
        Prompt::Text(prompt.to_string())
    }

    #[test]
    fn signs_are_replaced_wherever_they_stand() {
        let template = json!({"model": "%m", "a": [{"b": "<%p> by %m, 100 %"}], "n": 5, "t": true});
        let filled = fill(&template, "qwen", &text("say \"%m\"\n熵"));
        assert_eq!(
            filled,
            json!({"model": "qwen", "a": [{"b": "<say \"%m\"\n熵> by qwen, 100 %"}], "n": 5, "t": true})
        );
        assert!(names_prompt(&template) && !names_prompt(&json!({"model": "%m"})));
    }

    #[test]
    fn a_list_of_messages_takes_the_place_of_one() {
        let messages = vec![
            json!({"role": "user", "content": "one"}),
            json!({"role": "assistant", "content": "two"}),
            json!({"role": "user", "content": [{"type": "text", "text": "three"}]}),
        ];
        let template =
            json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "%p"}], "last": "%p!"});
        let filled = fill(&template, "m", &Prompt::Messages(messages.clone()));
        assert_eq!(filled["messages"].as_array().unwrap().len(), 4);
        assert_eq!(filled["messages"][3], messages[2]);
        assert_eq!(filled["last"], json!("three!"));
    }

    #[test]
    fn several_texts_stay_a_list() {
        let texts = Prompt::Embedding(vec!["a".to_string(), "b".to_string()]);
        assert_eq!(fill(&json!({"in": "%p"}), "m", &texts), json!({"in": ["a", "b"]}));
        let rerank = Prompt::Rerank { query: "q".to_string(), documents: vec!["d".to_string()] };
        assert_eq!(fill(&json!({"query": "%p"}), "m", &rerank), json!({"query": "q"}));
    }
}
