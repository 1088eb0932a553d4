//! A load generator for LLM inference servers.

pub mod api;
pub mod engine;
pub mod mock;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod report;
pub mod rig;
pub mod spec;
pub mod stats;
pub mod time;
pub mod workload;
