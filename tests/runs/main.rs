//! Complete runs in this process, against a mock or against a server that misbehaves.

mod conversations;
mod faults;
mod harness;
mod odd_servers;
mod truth;
