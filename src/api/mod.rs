//! The APIs of servers: how requests are written and what the events of a response mean.
//!
//! How to add one: see "An API" in `CONTRIBUTING.md`.

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
