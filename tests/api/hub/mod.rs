//! Files from hubs: a server of our own speaks their URLs, and nothing here reaches further.

mod binary;
mod fetching;
pub mod server;
