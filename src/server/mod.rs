//! The server under test, beside the load: asking it things.

pub mod exposition;
pub mod get;
pub mod metrics;
pub mod models;
pub mod names;
