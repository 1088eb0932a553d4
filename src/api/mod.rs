//! Dialects: how a request is written and what an event of the response means, one dialect a file.

use crate::protocol::json::{self, Step, Value};
use crate::record::{Finish, ServerTimes};

pub mod answer;
pub mod anthropic;
pub mod chat;
pub mod choices;
pub mod completions;
pub mod custom;
pub mod dashscope;
pub mod embeddings;
pub mod endpoint;
pub mod flags;
pub mod openai;
pub mod placeholder;
pub mod program;
pub mod query_template;
pub mod render;
pub mod rerank;
pub mod responses;
pub mod template;
pub mod times;
pub mod words;

use custom::CustomApi;
use program::ProgramApi;

/// The wire language of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/rerank`
    Rerank,
    /// DashScope's own text generation.
    DashScope,
    /// `/v1/messages`
    Anthropic,
    /// Described by a file of the user.
    Custom(CustomApi),
    /// Spoken by a program of the user.
    Program(ProgramApi),
}

impl Dialect {
    /// Reads one event, or one whole body. `name` is the `event:` field, empty where there is none.
    pub fn read<'a>(self, name: &[u8], value: Value<'_, 'a>) -> Meaning<'a> {
        match self {
            Dialect::Chat => chat::read(value),
            Dialect::Completions => completions::read(value),
            Dialect::Responses => responses::read(name, value),
            Dialect::Embeddings => embeddings::read(value),
            Dialect::Rerank => rerank::read(value),
            Dialect::DashScope => dashscope::read(value),
            Dialect::Anthropic => anthropic::read(name, value),
            Dialect::Custom(api) => api.read(value),
            Dialect::Program(_) => program::read(value),
        }
    }

    /// Whether usage that stands alone, or that no output follows, says that the stream is over. Other dialects send
    /// running counts, or send the input's count first.
    pub fn usage_ends_stream(self) -> bool {
        match self {
            Dialect::Chat | Dialect::Completions => true,
            Dialect::Custom(api) => api.usage_ends_stream(),
            _ => false,
        }
    }

    /// Whether something in a stream says that it is over. Where nothing does, the end of the body has to do.
    pub fn tells_its_end(self) -> bool {
        match self {
            Dialect::Custom(api) => api.tells_its_end(),
            Dialect::Program(_) => false,
            _ => true,
        }
    }

    /// Whether events and bodies need not be JSON: what is not counts as text.
    pub fn takes_plain_text(self) -> bool {
        matches!(self, Dialect::Program(_))
    }

    /// Whether its events have names of their own, so that a broken event is one under any name.
    pub fn names_its_events(self) -> bool {
        matches!(self, Dialect::Responses | Dialect::Anthropic | Dialect::DashScope)
    }

    /// Whether `data` is the marker of the stream's end, which is not JSON.
    pub fn is_end_marker(self, data: &[u8]) -> bool {
        data == b"[DONE]" || matches!(self, Dialect::Custom(api) if api.is_end_marker(data))
    }

    /// Whether answers can be streamed at all.
    pub fn streams(self) -> bool {
        match self {
            Dialect::Embeddings | Dialect::Rerank => false,
            Dialect::Custom(api) => api.streams(),
            _ => true,
        }
    }
}

/// The member `name` of an object.
pub(crate) fn member<'t, 'i>(value: Value<'t, 'i>, name: &str) -> Option<Value<'t, 'i>> {
    json::entries(value).find(|(key, _)| *key == name).map(|(_, member)| member)
}

/// The text of the member `name` of an object.
pub(crate) fn member_text<'i>(value: Value<'_, 'i>, name: &str) -> Option<&'i str> {
    member(value, name).and_then(json::text)
}

/// What one event (or one whole JSON body) says. An event can say several things at once: usage may stand beside
/// output, a finish reason beside the last text.
#[derive(Debug, Default)]
pub struct Meaning<'a> {
    /// It carries output: text, reasoning text or tool-call arguments of any choice; embeddings or a ranking.
    pub output: bool,
    /// The choice that text and reasoning belong to, counted from 0; the first in the event.
    pub choice: u32,
    /// What the other choices in the event say.
    pub others: Vec<choices::Piece>,
    /// Answer text, unescaped.
    pub text: std::borrow::Cow<'a, str>,
    /// Reasoning text, unescaped.
    pub reasoning: std::borrow::Cow<'a, str>,
    pub usage: Option<Usage>,
    /// What the server states of its own time.
    pub times: Option<ServerTimes>,
    /// The finish reason, when one stands in it.
    pub finish: Option<Finish>,
    /// It says that the stream is over.
    pub ended: bool,
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
