//! The server under test, beside the load: asking it things, and starting and stopping one of our own.

pub mod exposition;
pub mod get;
mod launch;
pub mod local;
pub mod metrics;
pub mod models;
pub mod names;
pub mod process;
pub mod usage;
