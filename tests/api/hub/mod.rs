//! Files from hubs, tested with a local server; no network access.

mod binary;
mod fetching;
pub mod server;
