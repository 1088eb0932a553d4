//! A load generator for LLM inference servers.

pub mod api;
pub mod cli;
pub mod log;
pub mod plan;
pub mod record;
pub mod spec;
pub mod time;
pub mod workload;
