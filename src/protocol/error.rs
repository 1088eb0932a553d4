//! The errors of the parsers.

/// What is wrong with the bytes of a response. The connection cannot be reused after any of these errors, because the
/// start of the next response is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first bytes are not those of an HTTP/1.x status line; `start` shows them, escaped.
    #[error("the response is not HTTP/1.1, it begins with '{start}'{hint}")]
    NotHttp { start: String, hint: &'static str },
    /// The head violates HTTP/1.1.
    #[error("the response head is not valid HTTP/1.1: {0}")]
    Head(String),
    /// No end of the head within the limit.
    #[error("the response head is longer than {limit} bytes")]
    HeadTooLong { limit: usize },
    /// The chunked coding is invalid.
    #[error("the chunked coding of the response is invalid: {0}")]
    Chunk(&'static str),
    /// An event did not end within the limit.
    #[error("an event is longer than {limit} bytes")]
    EventTooLong { limit: usize },
}
