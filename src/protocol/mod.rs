//! The wire protocols, without I/O: HTTP/1.1 responses, chunked coding, server-sent events and JSON. The input is bytes
//! as they were read, split anywhere; the output is slices of them.

pub mod chunked;
mod error;
pub mod http1;
pub mod json;
pub mod response;
pub mod sse;
pub mod tunnel;

pub use error::WireError;
