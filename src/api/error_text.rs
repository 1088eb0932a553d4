//! Error texts: the message in a server's error response, as one line of limited length.

use crate::protocol::json::{self, Value};

/// Longest text kept, bytes.
const MAX_BYTES: usize = 2048;

/// The text of an error object: its message, its detail, the string itself, or else the whole object as JSON.
pub(crate) fn from_json(value: Value<'_, '_>) -> String {
    single_line(&message(value).unwrap_or_else(|| json::encode(value)))
}

/// The text of the body of an error status, which may be JSON, HTML or text. Empty if there is none.
pub(crate) fn from_body(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim().trim_start_matches('\u{feff}');
    let event_data = text.lines().find_map(|line| line.strip_prefix("data:")).map(str::trim);
    let document =
        if text.starts_with("data:") || text.starts_with("event:") { event_data.unwrap_or(text) } else { text };
    match json::with_value(document.as_bytes(), message) {
        Ok(Some(message)) => single_line(&message),
        _ if text.starts_with('<') => single_line(&without_tags(text)),
        _ => single_line(document),
    }
}

fn message(value: Value<'_, '_>) -> Option<String> {
    if let Some(text) = json::text(value) {
        return Some(text.to_string()).filter(|text| !text.trim().is_empty());
    }
    let member = |name: &str| json::entries(value).find(|(key, _)| *key == name).map(|(_, member)| member);
    let present = |name: &str| member(name).filter(|member| !json::is_null(*member));
    present("error")
        .and_then(message)
        .or_else(|| present("message").and_then(message))
        .or_else(|| present("detail").and_then(|detail| message(detail).or_else(|| validation(detail))))
        .or_else(|| present("msg").and_then(message))
}

/// The validation errors that FastAPI servers send with status 422.
fn validation(detail: Value<'_, '_>) -> Option<String> {
    let mut lines = Vec::new();
    for problem in json::elements(detail) {
        let text = json::entries(problem).find(|(key, _)| *key == "msg").and_then(|(_, text)| json::text(text))?;
        let place = json::entries(problem).find(|(key, _)| *key == "loc").map(|(_, place)| place);
        let steps: Vec<String> = place.into_iter().flat_map(json::elements).map(plain).collect();
        lines.push(if steps.is_empty() { text.to_string() } else { format!("{}: {text}", steps.join(".")) });
    }
    (!lines.is_empty()).then(|| lines.join("; "))
}

fn plain(value: Value<'_, '_>) -> String {
    json::text(value).map_or_else(|| json::encode(value), str::to_string)
}

/// The text of an HTML page, without `<head>`.
fn without_tags(page: &str) -> String {
    let body = page.find("</head>").map_or(page, |end| &page[end..]);
    let mut text = String::new();
    let mut within = false;
    for character in body.chars() {
        match character {
            '<' => within = true,
            '>' => {
                within = false;
                text.push(' ');
            }
            _ if !within => text.push(character),
            _ => {}
        }
    }
    text
}

/// The text as one line of at most [`MAX_BYTES`]: runs of white space become one space. Control characters stay: they are
/// made visible where the text is shown.
pub(crate) fn single_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_BYTES {
            let end = (0..=MAX_BYTES).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
            line.truncate(end);
            line.push_str("...");
            break;
        }
    }
    line
}

/// The first 300 characters of a text, for a screen.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 300;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// The beginning of malformed data, for an error text.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN_CHARACTERS: usize = 120;
    let text = single_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_CHARACTERS)]));
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_every_common_shape() {
        let cases = [
            (r#"{"error":{"message":"a\n  b","type":"t","code":400}}"#, "a b"),
            (r#"{"error":"busy","error_type":"overloaded"}"#, "busy"),
            (r#"{"object":"error","message":"no such model"}"#, "no such model"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"loc":["body",0,"x"],"msg":"extra field"},{"msg":"b"}]}"#, "body.0.x: extra field; b"),
            (r#"{"error":null,"code":3}"#, r#"{"error":null,"code":3}"#),
            ("event: error\ndata: {\"error\":{\"message\":\"m\"}}\n\n", "m"),
            ("plain  words\r\n", "plain words"),
            ("a \u{1b}[31m\u{7} b", "a \u{1b}[31m\u{7} b"),
            (
                "<html><head><title>T</title></head><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>",
                "502 Bad Gateway nginx",
            ),
            ("", ""),
        ];
        for (body, words) in cases {
            assert_eq!(from_body(body.as_bytes()), words, "{body}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let words = from_body("語".repeat(5000).as_bytes());
        assert!(words.len() <= MAX_BYTES + 3 && words.ends_with("語..."));
        assert_eq!(shorten(&"語".repeat(5000)).chars().count(), 301);
        assert_eq!(shorten("short"), "short");
        assert!(excerpt("語 ".repeat(5000).as_bytes()).chars().count() <= 123);
    }
}
