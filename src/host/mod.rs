//! The machine that ringmark runs on: facts and checks, limits, CPU usage and affinity, and stored calibrations.

pub mod affinity;
pub mod calibration;
pub mod calibration_file;
pub(crate) mod cgroup;
pub mod checks;
pub mod children;
pub(crate) mod clock_domain;
pub(crate) mod clock_state;
pub mod facts;
pub(crate) mod file_system;
pub mod limits;
pub(crate) mod local_server;
pub mod memory;
pub mod priority;
pub mod topology;
pub mod usage;
