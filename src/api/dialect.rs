//! The dialects, and dispatch to the file of each.

use serde_json::{Map, Value as Json};

use super::custom::CustomApi;
use super::definition::{Definition, Fields, bearer};
use super::meaning::Meaning;
use super::program::{self, ProgramApi};
use super::prompt::Prompt;
use super::sampling_params::Sampling;
use super::{anthropic, chat, completions, dashscope, embeddings, rerank, responses};
use crate::protocol::json::Value;

/// The wire format of an endpoint.
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
    /// DashScope's native text generation API.
    DashScope,
    /// `/v1/messages`
    Anthropic,
    /// Described by a TOML file of the user.
    Custom(CustomApi),
    /// Implemented by a program of the user.
    Program(ProgramApi),
}

/// Which usage ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageEnd {
    /// None: the dialect sends running counts, or the count of the input first.
    Never,
    /// Usage without choices after output. Usage beside a choice is a running count.
    WithoutChoices,
    /// Usage after which no output follows: the description of a custom API names no other end.
    Last,
}

/// Where the implementation of a dialect comes from.
enum Implementation {
    BuiltIn(&'static Definition),
    Custom(CustomApi),
    Program,
}

use Implementation::{BuiltIn, Custom, Program};

impl Dialect {
    fn implementation(self) -> Implementation {
        match self {
            Dialect::Chat => BuiltIn(&chat::DEFINITION),
            Dialect::Completions => BuiltIn(&completions::DEFINITION),
            Dialect::Responses => BuiltIn(&responses::DEFINITION),
            Dialect::Embeddings => BuiltIn(&embeddings::DEFINITION),
            Dialect::Rerank => BuiltIn(&rerank::DEFINITION),
            Dialect::DashScope => BuiltIn(&dashscope::DEFINITION),
            Dialect::Anthropic => BuiltIn(&anthropic::DEFINITION),
            Dialect::Custom(api) => Custom(api),
            Dialect::Program(_) => Program,
        }
    }

    fn definition(self) -> Option<&'static Definition> {
        match self.implementation() {
            BuiltIn(definition) => Some(definition),
            Custom(_) | Program => None,
        }
    }

    /// Reads one event, or one whole body. `name` is the `event:` field, empty if there is none.
    pub fn read<'a>(self, name: &[u8], value: Value<'_, 'a>) -> Meaning<'a> {
        match self.implementation() {
            BuiltIn(definition) => (definition.read)(name, value),
            Custom(api) => api.read(value),
            Program => program::read(value),
        }
    }

    /// Which usage ends a stream.
    pub(crate) fn usage_end(self) -> UsageEnd {
        match self.implementation() {
            BuiltIn(definition) if definition.usage_ends_stream => UsageEnd::WithoutChoices,
            Custom(api) if api.usage_ends_stream() => UsageEnd::Last,
            BuiltIn(_) | Custom(_) | Program => UsageEnd::Never,
        }
    }

    /// Whether responses are generated text, so that usage without output tokens is impossible.
    pub(crate) fn generates_text(self) -> bool {
        self.streams()
    }

    /// Whether an event marks the end of a stream. If none does, the end of the body ends the stream.
    pub(crate) fn marks_end(self) -> bool {
        match self.implementation() {
            BuiltIn(_) => true,
            Custom(api) => api.marks_end(),
            Program => false,
        }
    }

    /// Whether events and bodies need not be JSON: other data counts as text.
    pub(crate) fn accepts_plain_text(self) -> bool {
        matches!(self, Dialect::Program(_))
    }

    /// Whether events have names of their own, so that malformed data is an error under any name.
    pub(crate) fn has_event_names(self) -> bool {
        self.definition().is_some_and(|definition| definition.has_event_names)
    }

    /// Whether `data` is the marker of the stream's end, which is not JSON.
    pub(crate) fn is_end_marker(self, data: &[u8]) -> bool {
        data == b"[DONE]" || matches!(self, Dialect::Custom(api) if api.is_end_marker(data))
    }

    /// Whether answers can be streamed.
    pub fn streams(self) -> bool {
        match self.implementation() {
            BuiltIn(definition) => definition.streams,
            Custom(api) => api.streams(),
            Program => true,
        }
    }

    /// Whether a conversation of several turns can be sent as a list of messages.
    pub(crate) fn takes_conversations(self) -> bool {
        match self.implementation() {
            BuiltIn(definition) => definition.takes_messages,
            Custom(_) => true,
            Program => false,
        }
    }

    /// Whether the server turns messages (or the input of `/v1/responses`) into a prompt with the model's chat template.
    pub(crate) fn applies_chat_template(self) -> bool {
        self.definition().is_some_and(|definition| definition.takes_messages)
    }

    /// Whether a streaming request asks for usage with `stream_options`.
    pub(crate) fn has_stream_options(self) -> bool {
        self.definition().is_some_and(|definition| definition.has_stream_options)
    }

    /// The object of the body that holds the generation parameters; `None` if they are at the top level.
    pub(crate) fn parameters_in(self) -> Option<&'static str> {
        self.definition().and_then(|definition| definition.parameters_in)
    }

    /// The fields of the body that carry a prompt. The error names the API that can carry it.
    pub(crate) fn prompt_fields(self, prompt: &Prompt) -> Result<Map<String, Json>, String> {
        match self.definition() {
            Some(definition) => (definition.prompt_fields)(prompt),
            None => Err("the file or program of --api builds the request bodies itself".to_string()),
        }
    }

    /// Whether a body can carry the generation parameter with this name in the OpenAI API.
    pub(crate) fn has_parameter(self, name: &'static str) -> bool {
        match self.implementation() {
            BuiltIn(definition) => !(definition.parameter)(name, Json::Null).is_empty(),
            Custom(api) => api.has_parameter(name),
            Program => true,
        }
    }

    /// The generation parameters as fields of the body, and the fields that follow them.
    pub(crate) fn parameter_fields(self, sampling: &Sampling, stream: bool) -> Fields {
        let Some(definition) = self.definition() else { return Fields::new() };
        let parameters = sampling.fields().flat_map(|(field, value)| (definition.parameter)(field.name, value));
        parameters.chain((definition.closing_fields)(stream)).collect()
    }

    /// Headers that every request of the dialect carries, beside the usual ones.
    pub fn headers(self, stream: bool) -> Vec<(String, String)> {
        let owned = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
        match self.implementation() {
            BuiltIn(definition) => (definition.headers)(stream).into_iter().map(owned).collect(),
            Custom(api) => api.headers().to_vec(),
            Program => Vec::new(),
        }
    }

    /// The header that carries `--api-key`.
    pub(crate) fn key_header(self, key: &str) -> (&'static str, String) {
        self.definition().map_or(bearer as fn(&str) -> _, |definition| definition.key_header)(key)
    }
}
