//! The wire, without I/O: HTTP/1.1 responses, chunked coding, server-sent events and the JSON inside them. Bytes go in
//! as they were read, split anywhere; slices of them come out.

pub mod chunked;
pub mod http1;
pub mod json;
pub mod response;
pub mod sse;
pub mod tunnel;

/// What is wrong with the bytes of a response. After any of these the connection cannot be used again, because nobody
/// knows where the next response would begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first bytes are not those of an HTTP/1.x status line; `start` shows them, made printable.
    #[error("the server did not answer in HTTP/1.1 but with '{start}'{hint}")]
    NotHttp { start: String, hint: &'static str },
    /// The head is HTTP but breaks its rules.
    #[error("the response head is not valid HTTP/1.1: {0}")]
    Head(String),
    /// No end of the head within the limit.
    #[error("the response head is longer than {limit} bytes")]
    HeadTooLong { limit: usize },
    /// The chunked coding is broken.
    #[error("the chunked coding of the response is broken: {0}")]
    Chunk(&'static str),
    /// An event did not end within the limit.
    #[error("an event is longer than {limit} bytes")]
    EventTooLong { limit: usize },
}
