//! A load generator for LLM inference servers.

pub mod api;
pub mod mock;
pub mod plan;
pub mod record;
pub mod time;
pub mod workload;
