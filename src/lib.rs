//! A load generator for LLM inference servers.

pub mod api;
pub mod plan;
pub mod record;
pub mod report;
pub mod stats;
pub mod time;
pub mod workload;
