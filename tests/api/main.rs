//! Every API and every way to write a body, through the binary, against servers that refuse what is wrong.

mod call;
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
