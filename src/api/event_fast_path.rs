//! The fast path for events of a known shape.
//!
//! Within one response, nearly all events differ only in one string, the text of a token. An event that was parsed in
//! full gives the bytes before and after that string. An event with the same bytes around a valid string body has the
//! same meaning with another text, by the grammar of JSON. All other events are parsed in full.

use super::meaning::{Meaning, TextPath};
use crate::protocol::json;

/// Shapes learned in a row without a match, after which learning stops for this response.
const MAX_IDLE_LESSONS: u8 = 8;
/// Longest event to learn from, bytes.
const MAX_BYTES: usize = 2048;

/// The learned shape; empty at first.
#[derive(Debug, Default)]
pub(crate) struct EventTemplate {
    /// The `event:` field, which decides the meaning of data without a `type`.
    name: Vec<u8>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    choice: u32,
    reasoning: bool,
    idle_lessons: u8,
}

/// An event of the known shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TemplateMatch<'a> {
    /// The body of the string, still escaped; valid JSON.
    pub body: &'a [u8],
    pub choice: u32,
    pub reasoning: bool,
}

impl EventTemplate {
    /// Allows learning again for a new response, whose ids differ.
    pub fn start(&mut self) {
        self.idle_lessons = 0;
    }

    /// Reads an event, if it has the known shape.
    pub fn read<'a>(&mut self, name: &[u8], event: &'a [u8]) -> Option<TemplateMatch<'a>> {
        if self.suffix.is_empty() || name != self.name {
            return None;
        }
        let body = event.strip_prefix(self.prefix.as_slice())?.strip_suffix(self.suffix.as_slice())?;
        if !json::is_string_body(body) {
            return None;
        }
        self.idle_lessons = 0;
        Some(TemplateMatch { body, choice: self.choice, reasoning: self.reasoning })
    }

    /// Learns the shape of an event that was parsed in full, if it contains one piece of text and nothing else.
    pub(crate) fn learn(&mut self, name: &[u8], event: &[u8], meaning: &Meaning<'_>) {
        if self.idle_lessons >= MAX_IDLE_LESSONS {
            return;
        }
        let Some((place, body)) = locate(event, meaning) else { return };
        self.idle_lessons += 1;
        self.name.clear();
        self.name.extend_from_slice(name);
        self.prefix.clear();
        self.prefix.extend_from_slice(&event[..body.start]);
        self.suffix.clear();
        self.suffix.extend_from_slice(&event[body.end..]);
        self.choice = meaning.choice;
        self.reasoning = place.reasoning;
    }
}

/// The position of the only piece of text in the event.
fn locate(event: &[u8], meaning: &Meaning<'_>) -> Option<(TextPath, std::ops::Range<usize>)> {
    let only_text = meaning.pieces == 1
        && meaning.choices == 1
        && meaning.usage.is_none()
        && meaning.finish.is_none()
        && meaning.error.is_none()
        && event.len() <= MAX_BYTES;
    let place = meaning.place.filter(|_| only_text)?;
    let body = json::find_string(event, place.path)?;
    let text = if place.reasoning { &meaning.reasoning } else { &meaning.text };
    (json::unescape(&event[body.clone()])?.as_ref() == text.as_ref()).then_some((place, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::chat;
    use proptest::prelude::*;

    fn learned(event: &str) -> EventTemplate {
        let mut template = EventTemplate::default();
        json::with_value(event.as_bytes(), |value| template.learn(b"", event.as_bytes(), &chat::read(value))).unwrap();
        template
    }

    /// Output and text by the template, and by the full parse.
    fn both(template: &mut EventTemplate, event: &[u8]) -> (Option<String>, Option<(String, u32)>) {
        let fast = template.read(b"", event).map(|found| json::unescape(found.body).unwrap().into_owned());
        let full = json::with_value(event, |value| {
            let meaning = chat::read(value);
            (format!("{}{}", meaning.text, meaning.reasoning), meaning.pieces)
        });
        (fast, full.ok())
    }

    #[test]
    fn only_events_that_say_one_text_are_learned() {
        let event = r#"{"id":"1","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
        assert_eq!(learned(event).read(b"", event.as_bytes()).unwrap().body, b"a");
        for event in [
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":""}}]}"#,
            r#"{"choices":[{"delta":{"c\u006fntent":"a"}}]}"#,
            r#"{"choices":[{"message":{"content":"a"}}]}"#,
        ] {
            assert_eq!(learned(event).read(b"", event.as_bytes()), None, "{event}");
        }
    }

    #[test]
    fn reasoning_is_distinguished_from_text() {
        let event = br#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#;
        let found = learned(std::str::from_utf8(event).unwrap()).read(b"", event).map(|found| found.reasoning);
        assert_eq!(found, Some(true));
    }

    #[test]
    fn a_response_that_never_repeats_itself_is_given_up() {
        let mut template = EventTemplate::default();
        let mut lessons = 0;
        for number in 0..50 {
            let event = format!(r#"{{"n":{number},"choices":[{{"delta":{{"content":"a"}}}}]}}"#);
            json::with_value(event.as_bytes(), |value| template.learn(b"", event.as_bytes(), &chat::read(value)))
                .unwrap();
            lessons += u32::from(template.prefix.starts_with(format!("{{\"n\":{number},").as_bytes()));
        }
        assert_eq!(lessons, u32::from(MAX_IDLE_LESSONS));
    }

    proptest! {
        #[test]
        fn whatever_the_template_reads_the_full_parse_reads_alike(
            middle in r#"(\\["\\/bfnrtux]|\\u[0-9a-fd]{4}|[a-z"é語🦀\n{}:,]|"\},"x":\{"content":"){0,10}"#,
        ) {
            let (before, behind) = (r#"{"id":"\"","choices":[{"delta":{"content":""#, r#""},"finish_reason":null}]}"#);
            let mut template = learned(&format!("{before}text{behind}"));
            let event = format!("{before}{middle}{behind}");
            if let (Some(fast), full) = both(&mut template, event.as_bytes()) {
                let pieces = u32::from(!fast.is_empty());
                prop_assert_eq!(Some((fast, pieces)), full);
            }
        }
    }
}
