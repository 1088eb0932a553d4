//! Dialects: how a request is written and what an event of the response means, one dialect a file.

use crate::protocol::json::{Step, Value};
use crate::record::Finish;

pub mod answer;
pub mod chat;
pub mod completions;
pub mod openai;
pub mod render;
pub mod template;
pub mod words;

/// The wire language of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

impl Dialect {
    /// Reads one event, or one whole body.
    pub fn read<'a>(self, value: Value<'_, 'a>) -> Meaning<'a> {
        match self {
            Dialect::Chat => chat::read(value),
            Dialect::Completions => completions::read(value),
        }
    }
}

/// What one event (or one whole JSON body) says. An event can say several things at once: usage may stand beside
/// output, a finish reason beside the last text.
#[derive(Debug, Default)]
pub struct Meaning<'a> {
    /// It carries output: text, reasoning text or tool-call arguments, of any choice.
    pub output: bool,
    /// Answer text, unescaped; the pieces of all choices in order.
    pub text: std::borrow::Cow<'a, str>,
    /// Reasoning text, unescaped.
    pub reasoning: std::borrow::Cow<'a, str>,
    pub usage: Option<Usage>,
    /// The finish reason, when one stands in it.
    pub finish: Option<Finish>,
    /// An error the server reported inside the response, in its own words.
    pub error: Option<String>,
    /// Choices in it, with or without output.
    pub choices: u32,
    /// Non-empty strings of output in it: texts, reasoning, refusals, names and arguments of tool calls.
    pub pieces: u32,
    /// Where the last of those stands when it is text or reasoning of the first choice; see [`template`].
    pub place: Option<Place>,
}

/// Where a piece of text stands in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: &'static [Step<'static>],
    /// It is reasoning, not answer text.
    pub reasoning: bool,
}

/// Token counts as a server reports them; what it left out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub reasoning_tokens: Option<u32>,
}
