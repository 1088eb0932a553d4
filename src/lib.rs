//! A load generator for LLM inference servers.

pub mod api;
pub mod cli;
pub mod engine;
pub mod finding;
pub mod hub;
pub mod log;
pub mod mock;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod recount;
pub mod reparse;
pub mod report;
pub mod rig;
pub mod run;
pub mod search;
pub mod server;
pub mod spec;
pub mod stats;
pub mod sweep;
pub mod time;
pub mod visualizer;
pub mod workload;
