//! Whole runs in this process, against a mock that knows the truth or a server that fails.

mod conversations;
mod faults;
mod harness;
mod odd_servers;
mod truth;
