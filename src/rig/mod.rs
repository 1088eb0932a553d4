//! This machine: its facts, what they mean for a measurement, its limits, and how fast the engine is on it.

pub mod checks;
pub mod facts;
pub mod limits;
pub mod roofline;
pub mod usage;
