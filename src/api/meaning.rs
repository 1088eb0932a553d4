//! What one event of a stream, or one whole body, contains.

use std::borrow::Cow;

use super::choices::ChoicePiece;
use super::tool_calls::CallPiece;
use crate::protocol::json::{self, Step, Value};
use crate::record::{Finish, ServerTimes};

/// The content of one event (or of one whole JSON body). One event can contain several things at once: usage beside
/// output, or a finish reason beside the last text.
#[derive(Debug, Default)]
pub struct Meaning<'a> {
    /// The event carries output: text, reasoning text or tool-call arguments of any choice, embeddings or a ranking.
    pub output: bool,
    /// The choice that `text` and `reasoning` belong to, counted from 0: the first choice in the event.
    pub choice: u32,
    /// Output of the other choices in the event.
    pub others: Vec<ChoicePiece>,
    /// Parts of tool calls, of any choice.
    pub calls: Vec<CallPiece<'a>>,
    /// Answer text, unescaped.
    pub text: Cow<'a, str>,
    /// Reasoning text, unescaped.
    pub reasoning: Cow<'a, str>,
    pub usage: Option<Usage>,
    /// Queue, prefill and decode times as reported by the server.
    pub times: Option<ServerTimes>,
    /// The finish reason, if the event has one.
    pub finish: Option<Finish>,
    /// The finish reason as the server wrote it, if it means that the server gave the answer up, or if it is unknown.
    pub aborted: Option<&'a str>,
    /// The event announces a role or a block of content, which is not a step of the model.
    pub announces: bool,
    /// The event marks the end of the stream.
    pub ended: bool,
    /// The message of an error that the server reported inside the response.
    pub error: Option<String>,
    /// Number of choices in the event, with or without output.
    pub choices: u32,
    /// Number of non-empty output strings in the event: texts, reasoning, refusals, names and arguments of tool calls.
    pub pieces: u32,
    /// Path of the last such string if it is text or reasoning of the first choice; used by [`super::event_fast_path`].
    pub place: Option<TextPath>,
}

/// The path of a piece of text in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPath {
    pub path: &'static [Step<'static>],
    /// The text is reasoning, not answer text.
    pub reasoning: bool,
}

/// Token counts as reported by a server. A count that the server left out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub reasoning_tokens: Option<u32>,
}

/// The member `name` of an object.
pub(crate) fn member<'t, 'i>(value: Value<'t, 'i>, name: &str) -> Option<Value<'t, 'i>> {
    json::entries(value).find(|(key, _)| *key == name).map(|(_, member)| member)
}

/// The text of the member `name` of an object.
pub(crate) fn member_text<'i>(value: Value<'_, 'i>, name: &str) -> Option<&'i str> {
    member(value, name).and_then(json::text)
}
