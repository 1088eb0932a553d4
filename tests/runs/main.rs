//! Complete runs in this process, against the mock or against servers with unusual behavior.

mod addresses;
mod conversations;
mod faults;
mod harness;
mod odd_servers;
mod truth;
