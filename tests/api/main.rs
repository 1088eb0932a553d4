//! Every API and every way to write a body, through the binary, against servers that refuse what is wrong.

mod call;
mod custom;
mod dialects;
mod documented;
mod program;
mod tls;
mod tls_server;
