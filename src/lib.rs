//! A load generator for LLM inference servers.

pub mod api;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod time;
pub mod workload;
