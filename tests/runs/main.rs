//! Complete runs in this process, against the mock or against servers with unusual behavior.

mod addresses;
mod answers;
mod conversations;
#[path = "../data_support/mod.rs"]
mod data_support;
mod faults;
mod harness;
mod interrupts;
mod network;
mod odd_servers;
mod streams;
mod truth;
mod warm_up;
