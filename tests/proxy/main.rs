//! `--proxy`: tunnels, absolute requests, refusals, and what the environment may and may not do.

#[path = "../api/call.rs"]
#[allow(dead_code, reason = "the tests of the APIs use all of it")]
mod call;
mod load;
mod relay;
#[path = "../hub/server.rs"]
#[allow(dead_code, reason = "the tests of the hubs use all of it")]
mod server;
#[path = "../api/tls_server.rs"]
#[allow(dead_code, reason = "the tests of the APIs use all of it")]
mod tls_server;
