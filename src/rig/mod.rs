//! Facts of this machine.

pub mod affinity;
pub mod facts;
pub mod limits;
pub mod priority;
pub mod usage;
