//! Facts of this machine.

pub mod limits;
pub mod usage;
