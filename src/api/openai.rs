//! Common parts of the OpenAI dialects: the envelope around choices, usage, finish reasons and errors.

use std::borrow::Cow;

use super::choices::ChoicePiece;
use super::error_text;
use super::meaning::{Meaning, TextPath, Usage, member};
use super::server_timings::{read_metrics, read_timings};
use crate::protocol::json::{self, Value};
use crate::record::Finish;

/// Reads the envelope of an event or a whole body; `read_choice` reads one of its choices.
pub fn read<'a>(value: Value<'_, 'a>, read_choice: impl Fn(Value<'_, 'a>, &mut Meaning<'a>)) -> Meaning<'a> {
    let mut meaning = Meaning::default();
    let mut cached_of_timings = None;
    for (key, member) in json::entries(value) {
        match key {
            "choices" => {
                for choice in json::elements(member) {
                    meaning.choices += 1;
                    // Moonshot sends usage within the choice.
                    if let Some(usage) = self::member(choice, "usage").filter(|usage| !json::is_null(*usage)) {
                        meaning.usage.get_or_insert_with(|| read_usage(usage));
                    }
                    if meaning.choices == 1 {
                        meaning.choice = index_of(choice).unwrap_or(0);
                        read_choice(choice, &mut meaning);
                        let number = meaning.choice;
                        meaning.calls.iter_mut().for_each(|call| call.choice = number);
                    } else {
                        read_other(choice, &mut meaning, &read_choice);
                    }
                }
            }
            "usage" if !json::is_null(member) => meaning.usage = Some(read_usage(member)),
            "metrics" => meaning.times = read_metrics(member),
            "timings" => {
                meaning.times = read_timings(member);
                cached_of_timings = self::member(member, "cache_n").and_then(json::count);
            }
            "error" if is_error(member) => meaning.error = Some(error_text::from_json(member)),
            "object" if json::text(member) == Some("error") => {
                meaning.error.get_or_insert_with(|| error_text::from_json(value));
            }
            _ => {}
        }
    }
    // llama.cpp counts them beside its usage.
    if let Some(usage) = &mut meaning.usage {
        usage.cached_tokens = usage.cached_tokens.or(cached_of_timings);
    }
    meaning
}

/// Reads a choice after the first. Its text is kept apart from that of the first.
fn read_other<'a>(
    choice: Value<'_, 'a>,
    meaning: &mut Meaning<'a>,
    read_choice: &impl Fn(Value<'_, 'a>, &mut Meaning<'a>),
) {
    let first = (std::mem::take(&mut meaning.text), std::mem::take(&mut meaning.reasoning));
    let calls_before = meaning.calls.len();
    read_choice(choice, meaning);
    let text = std::mem::replace(&mut meaning.text, first.0).into_owned();
    let reasoning = std::mem::replace(&mut meaning.reasoning, first.1).into_owned();
    let number = index_of(choice).unwrap_or(meaning.choices - 1);
    meaning.calls[calls_before..].iter_mut().for_each(|call| call.choice = number);
    meaning.others.push(ChoicePiece { choice: number, text, reasoning });
}

fn index_of(choice: Value<'_, '_>) -> Option<u32> {
    member(choice, "index").and_then(json::count)
}

/// Whether the value of `error` is an error: some servers send `null`, `""` or `false` in successful responses.
pub(crate) fn is_error(value: Value<'_, '_>) -> bool {
    !json::is_null(value) && json::text(value) != Some("") && json::encode(value) != "false"
}

/// Token counts, under the names of chat and completions or of the responses API.
pub(crate) fn read_usage(value: Value<'_, '_>) -> Usage {
    let mut usage = Usage::default();
    for (key, member) in json::entries(value) {
        match key {
            "prompt_tokens" | "input_tokens" => usage.input_tokens = json::count(member),
            "completion_tokens" | "output_tokens" => usage.output_tokens = json::count(member),
            "prompt_tokens_details" | "input_tokens_details" => {
                usage.cached_tokens = detail(member, "cached_tokens").or(usage.cached_tokens);
            }
            // Moonshot, DeepSeek.
            "cached_tokens" | "prompt_cache_hit_tokens" => {
                usage.cached_tokens = json::count(member).or(usage.cached_tokens);
            }
            "completion_tokens_details" | "output_tokens_details" => {
                usage.reasoning_tokens = detail(member, "reasoning_tokens");
            }
            _ => {}
        }
    }
    usage
}

/// Reads a response without text: a list, or one under one of `names`, whose elements count as output, and usage, where
/// `total_tokens` counts as input if nothing else does. Cohere and Jina state tokens in `meta`.
pub(crate) fn read_whole<'a>(value: Value<'_, 'a>, names: &[&str]) -> Meaning<'a> {
    let mut meaning = read(value, |_, _| {});
    let is_filled = |list: &Value<'_, 'a>| json::elements(*list).next().is_some();
    let named = || names.iter().find_map(|name| member(value, name).filter(is_filled));
    // Text Embeddings Inference sends the list itself.
    let list = Some(value).filter(is_filled).or_else(named);
    for _ in list.into_iter().flat_map(json::elements) {
        meaning.choices += 1;
        add_piece(None, &mut meaning);
    }
    let total = member(value, "usage").and_then(|usage| member(usage, "total_tokens")).and_then(json::count);
    let of_meta = || {
        let tokens = member(value, "meta").and_then(|meta| member(meta, "tokens"))?;
        member(tokens, "input_tokens").and_then(json::count)
    };
    if meaning.output {
        // These endpoints generate no tokens, whether they count or not.
        let usage = meaning.usage.get_or_insert_default();
        usage.input_tokens = usage.input_tokens.or(total).or_else(of_meta);
        usage.output_tokens = Some(0);
    }
    meaning
}

fn detail(details: Value<'_, '_>, name: &str) -> Option<u32> {
    json::entries(details).find(|(key, _)| *key == name).and_then(|(_, member)| json::count(member))
}

/// Reads a finish reason; `null`, its name as text, and the empty string are none.
pub(crate) fn read_finish<'a>(value: Value<'_, 'a>, meaning: &mut Meaning<'a>) {
    if let Some(reason) = json::text(value).filter(|reason| !matches!(*reason, "" | "null")) {
        let finish = finish(reason);
        meaning.finish = Some(finish);
        if finish == Finish::Other {
            meaning.aborted = Some(reason);
        }
    }
}

/// Finish reasons of complete answers under their names in any dialect, in lower case.
const REASONS: [(Finish, &[&str]); 4] = [
    (
        Finish::Stop,
        &[
            "stop",
            "eos",
            "eos_token",
            "stop_token",
            "stop_sequence",
            "stop_str",
            "end_turn",
            "complete",
            "completed",
            "pause_turn",
        ],
    ),
    (
        Finish::Length,
        &[
            "length",
            "max_tokens",
            "max_new_tokens",
            "max_output_tokens",
            "max_completion_tokens",
            "max_length",
            "model_length",
            "model_context_window_exceeded",
        ],
    ),
    (Finish::ToolCalls, &["tool_calls", "tool_call", "function_call", "tool_use"]),
    (Finish::ContentFilter, &["content_filter", "refusal", "safety", "sensitive", "recitation"]),
];

/// The finish reason with this name in any dialect. [`Finish::Other`] are those of answers that the server gave up
/// (`abort`, `error`, `repetition`), and unknown ones.
pub fn finish(reason: &str) -> Finish {
    let named = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(reason));
    REASONS.iter().find(|(_, names)| named(names)).map_or(Finish::Other, |(finish, _)| *finish)
}

/// Adds a piece of answer text. Empty text is not output.
pub(crate) fn add_text<'a>(text: &'a str, place: Option<TextPath>, meaning: &mut Meaning<'a>) {
    if !text.is_empty() {
        append(&mut meaning.text, text);
        add_piece(place, meaning);
    }
}

/// Adds a piece of reasoning.
pub(crate) fn add_reasoning<'a>(text: &'a str, place: Option<TextPath>, meaning: &mut Meaning<'a>) {
    if !text.is_empty() {
        append(&mut meaning.reasoning, text);
        add_piece(place, meaning);
    }
}

/// Counts a piece of output whose text is not stored, or is stored already.
pub(crate) fn add_piece(place: Option<TextPath>, meaning: &mut Meaning<'_>) {
    meaning.output = true;
    meaning.pieces += 1;
    meaning.place = place;
}

fn append<'a>(all: &mut Cow<'a, str>, text: &'a str) {
    if all.is_empty() {
        *all = Cow::Borrowed(text);
    } else {
        all.to_mut().push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_read_wherever_servers_report_them() {
        let cached = |text: &str| {
            json::with_value(text.as_bytes(), |value| read(value, |_, _| {}).usage.and_then(|u| u.cached_tokens))
                .unwrap()
        };
        for text in [
            r#"{"usage":{"prompt_tokens":40,"prompt_tokens_details":{"cached_tokens":32}}}"#,
            r#"{"usage":{"input_tokens":40,"input_tokens_details":{"cached_tokens":32}}}"#,
            r#"{"usage":{"prompt_tokens":40,"cached_tokens":32}}"#,
            r#"{"usage":{"prompt_tokens":40,"prompt_cache_hit_tokens":32,"prompt_cache_miss_tokens":8}}"#,
            r#"{"timings":{"cache_n":32,"prompt_n":8,"prompt_ms":1.5},"choices":[],"usage":{"prompt_tokens":40}}"#,
            r#"{"usage":{"prompt_tokens":40,"cached_tokens":32,"prompt_tokens_details":null}}"#,
        ] {
            assert_eq!(cached(text), Some(32), "{text}");
        }
        assert_eq!(cached(r#"{"usage":{"prompt_tokens":40,"prompt_tokens_details":{}}}"#), None);
        assert_eq!(cached(r#"{"timings":{"cache_n":32}}"#), None, "usage is not made up");
    }
}
