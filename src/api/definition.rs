//! The parts of a built-in dialect.

use serde_json::{Map, Value as Json};

use super::meaning::Meaning;
use super::prompt::Prompt;
use crate::protocol::json::Value;

/// Fields of a request body with their names, in the order they are sent.
pub(crate) type Fields = Vec<(&'static str, Json)>;

/// How requests of a built-in dialect are written and its responses read. Each dialect's file defines one.
pub(crate) struct Definition {
    /// Reads one event, or one whole body. The bytes are the `event:` field, empty if there is none.
    pub read: for<'i> fn(&[u8], Value<'_, 'i>) -> Meaning<'i>,
    /// The fields that carry a prompt. The error names the API that can carry it.
    pub prompt_fields: fn(&Prompt) -> Result<Map<String, Json>, String>,
    /// The fields for a generation parameter, by its name in the OpenAI API, and its value; empty if the API has none. The
    /// first is the parameter's own.
    pub parameter: fn(&'static str, Json) -> Fields,
    /// Fields that follow the parameters in every body, given whether the request streams.
    pub closing_fields: fn(bool) -> Fields,
    /// The object of the body that holds the parameters; `None` if they are at the top level.
    pub parameters_in: Option<&'static str>,
    /// A streaming request asks for usage with `stream_options`.
    pub has_stream_options: bool,
    /// Answers can be streamed.
    pub streams: bool,
    /// Usage without choices ends the stream once there was output. `false`: usage is a running count, or counts the input
    /// first.
    pub usage_ends_stream: bool,
    /// Events have names of their own, so that malformed data is an error under any name.
    pub has_event_names: bool,
    /// A list of messages can be sent, so that conversations of several turns are possible.
    pub takes_messages: bool,
    /// Additional headers of every request, given whether the request streams.
    pub headers: fn(bool) -> Vec<(&'static str, &'static str)>,
    /// The header that carries an API key.
    pub key_header: fn(&str) -> (&'static str, String),
}

/// [`Definition::parameter`] of APIs with the parameter names of OpenAI.
pub(crate) fn openai_parameter(name: &'static str, value: Json) -> Fields {
    vec![(name, value)]
}

/// [`Definition::closing_fields`] of APIs with a `stream` switch in the body.
pub(crate) fn stream_field(stream: bool) -> Fields {
    vec![("stream", Json::from(stream))]
}

/// [`Definition::headers`] of APIs that need none.
pub(crate) fn no_headers(_stream: bool) -> Vec<(&'static str, &'static str)> {
    Vec::new()
}

/// [`Definition::key_header`] of APIs that take the key as a bearer token.
pub(crate) fn bearer(key: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {key}"))
}
