//! A load generator for LLM inference servers.

pub mod api;
pub mod plan;
pub mod record;
pub mod spec;
pub mod time;
pub mod workload;
