//! Facts of this machine.

pub mod facts;
pub mod limits;
pub mod usage;
