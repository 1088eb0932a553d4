//! Files from hubs: a server of our own speaks their URLs, and nothing here reaches further.

mod binary;
#[path = "../data_support/mod.rs"]
mod data_support;
mod fetching;
mod server;
#[path = "../api/tls_server.rs"]
#[allow(dead_code, reason = "the tests of the APIs use all of it")]
mod tls_server;
