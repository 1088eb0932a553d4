//! Sockets and TLS for all connections to servers: connecting, kernel receive timestamps, sending with and without
//! blocking, and TLS sessions that process bytes already read.

pub mod blocking;
pub mod client_certificate;
pub mod local_address;
pub mod socket;
pub mod tcp;
pub mod timestamp;
pub mod tls;
