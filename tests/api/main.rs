//! All APIs and request bodies: calls of the binary against servers that reject invalid requests.

mod call;
mod classes;
mod custom;
#[path = "../data_support/mod.rs"]
mod data_support;
mod dialects;
mod documented;
mod hub;
mod program;
mod proxy;
mod tls;
mod tls_server;
