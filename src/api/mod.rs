//! The APIs of servers: how requests are written and what the events of a response mean.
//!
//! # How to add a built-in API
//!
//! 1. `src/api/NAME.rs`: a static `DEFINITION` of type [`definition::Definition`]: how bodies are written and responses
//!    read. Add `pub mod NAME;` below.
//! 2. `dialect.rs`: a variant of [`Dialect`] and its arm in `Dialect::implementation`.
//! 3. `endpoint.rs`: a variant of [`endpoint::Api`] and its row in `APIS`: the names for `--api` and the paths.
//!
//! Nothing else matches on dialects exhaustively. Tests: unit tests in the new file, a body in the tests of
//! `request_body.rs`, paths in the tests of `endpoint.rs`, a recorded stream in `tests/captures/`.

pub mod answer;
pub mod anthropic;
pub mod chat;
pub mod choices;
pub mod completions;
pub mod custom;
pub mod dashscope;
pub mod definition;
pub mod dialect;
pub mod embeddings;
pub mod endpoint;
pub mod error_text;
pub mod event_fast_path;
pub mod history;
pub mod meaning;
pub mod openai;
pub mod placeholder;
pub mod program;
pub mod prompt;
pub mod query_template;
pub mod request_body;
pub mod rerank;
pub mod responses;
pub mod sampling_params;
pub mod server_timings;
pub mod tool_calls;

pub use dialect::Dialect;
