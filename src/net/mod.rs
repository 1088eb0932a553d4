//! Sockets and TLS for everything that talks to a server: connecting, kernel receive timestamps, sends that do not block,
//! the same with blocking, and TLS sessions that are driven by the bytes that were read.

pub mod blocking;
pub mod local_address;
pub mod socket;
pub mod timestamp;
pub mod tls;
