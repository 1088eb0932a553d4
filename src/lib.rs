//! A load generator for LLM inference servers.

pub mod api;
pub mod cli;
pub mod engine;
pub mod host;
pub mod hub;
pub mod log;
pub mod mock;
pub mod net;
pub mod options;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod report;
pub mod roofline;
pub mod run;
pub mod search;
pub mod secrets;
pub mod server;
pub mod spec;
pub mod stats;
pub mod store;
pub mod sweep;
pub mod time;
pub mod visualizer;
pub mod workload;
