//! This machine: its facts, what they mean for a measurement, its limits, and what was measured of it before.

pub mod affinity;
pub mod calibration;
pub mod calibration_file;
pub mod checks;
pub mod facts;
pub mod limits;
pub mod priority;
pub mod usage;
