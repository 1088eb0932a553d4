//! `--dataset line_by_line`: one prompt per line. A line is a text, a JSON list of chat messages, or a JSON object that
//! is a whole request body.

use std::path::Path;

use serde_json::Value;

use super::error::WorkloadError;
use super::files::open_text;
use crate::api::prompt::Prompt;
use crate::files::read_line;

const FLAG: &str = "--dataset-path";

/// Reads prompts with their line numbers until `take` returns `false`. Empty lines are skipped.
pub fn read(path: &Path, mut take: impl FnMut(Prompt, u64) -> bool) -> Result<(), WorkloadError> {
    let unreadable = |cause| WorkloadError::Unreadable { flag: FLAG, path: path.to_path_buf(), cause };
    let mut lines = open_text(path, FLAG)?;
    let mut bytes = Vec::new();
    let mut number = 0;
    let mut found = false;
    loop {
        bytes.clear();
        if read_line(&mut lines, &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        number += 1;
        let wrong = |what: String| WorkloadError::Line { path: path.to_path_buf(), line: number, what };
        let text = str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text".to_string()))?;
        let text = if number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            continue;
        }
        if !found && matches!(text.trim(), "[" | "{") {
            return Err(wrong(
                "begins JSON over several lines; each prompt (a text, a list of messages, or a request body) must be on \
                 one line"
                    .to_string(),
            ));
        }
        found = true;
        if !take(parse(text).map_err(wrong)?, number) {
            break;
        }
    }
    if found { Ok(()) } else { Err(WorkloadError::Empty { flag: FLAG, path: path.to_path_buf() }) }
}

/// Parses one line.
fn parse(line: &str) -> Result<Prompt, String> {
    let trimmed = line.trim();
    if !trimmed.starts_with(['{', '[']) {
        return Ok(Prompt::Text(line.to_string()));
    }
    match serde_json::from_str(trimmed) {
        Ok(Value::Object(body)) => Ok(Prompt::Body(body)),
        Ok(Value::Array(messages)) if messages.iter().any(Value::is_object) => check_messages(messages),
        // Text such as "[1] first of all" or "[3, 4]": only lists of objects can be messages.
        Ok(_) => Ok(Prompt::Text(line.to_string())),
        // A line that begins like an object or a list of objects must be valid JSON; other text may begin with a
        // bracket.
        Err(error) if begins_as_json(trimmed) => Err(format!("is not valid JSON: {}", cause_of(&error))),
        Err(_) => Ok(Prompt::Text(line.to_string())),
    }
}

/// Checks that every element of a list is a chat message. The error names the first that is not.
pub fn check_messages(messages: Vec<Value>) -> Result<Prompt, String> {
    for (place, message) in messages.iter().enumerate() {
        if !message.get("role").is_some_and(Value::is_string) {
            return Err(format!(
                "message {} has no field \"role\"; a chat is [{{\"role\", \"content\"}}, ...]",
                place + 1
            ));
        }
        if message.get("content").is_none() && message.get("tool_calls").is_none() {
            return Err(format!("message {} has no field \"content\"", place + 1));
        }
    }
    Ok(Prompt::Messages(messages))
}

fn begins_as_json(text: &str) -> bool {
    let mut signs = text.chars().filter(|c| !c.is_whitespace());
    matches!((signs.next(), signs.next()), (Some('{'), Some('"')) | (Some('['), Some('{')))
}

/// The error of serde_json without its line number, which is always 1.
fn cause_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at column {}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_messages_or_a_body() {
        assert_eq!(parse("  你好"), Ok(Prompt::Text("  你好".to_string())));
        assert!(matches!(parse(r#"[{"role":"user","content":"x"}]"#), Ok(Prompt::Messages(m)) if m.len() == 1));
        assert!(matches!(parse(r#" {"prompt":"x"} "#), Ok(Prompt::Body(b)) if b.len() == 1));
    }

    #[test]
    fn text_may_begin_with_a_bracket() {
        for text in ["[1] first", "[3, 4]", "{braces} are text", "[]", "\"quoted\"", "42"] {
            assert_eq!(parse(text), Ok(Prompt::Text(text.to_string())));
        }
    }

    #[test]
    fn json_over_several_lines_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pretty.json");
        for text in ["[\n  {\n    \"role\": \"user\"\n  }\n]", "\n{\n  \"prompt\": \"x\"\n}\n"] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, |_, _| true).unwrap_err().to_string();
            assert!(error.contains("JSON over several lines"), "{error}");
        }
        std::fs::write(&path, "a text\n[\n").unwrap();
        assert!(read(&path, |_, _| true).is_ok());
    }

    #[test]
    fn broken_json_and_messages_without_fields_are_named() {
        assert_eq!(
            parse(r#"{"prompt": "x"#),
            Err("is not valid JSON: EOF while parsing a string at column 13".to_string())
        );
        assert!(parse(r#"[{"content":"x"}]"#).unwrap_err().contains("\"role\""));
        assert!(parse(r#"[{"role":"user","content":"x"},{"role":"user"}]"#).unwrap_err().contains("message 2"));
        assert!(parse(r#"[{"role":"user","content":"x"}, 3]"#).unwrap_err().contains("message 2"));
    }
}
