//! The server under test, beside the load: asking it things.

pub mod get;
pub mod models;
