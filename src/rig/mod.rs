//! Facts of this machine.
pub mod usage;
