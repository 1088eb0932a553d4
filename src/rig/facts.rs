//! What this machine is, as far as it bears on a measurement.

use std::fs;

use serde::Serialize;

/// Facts of the machine and its kernel. What cannot be read is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub kernel: Option<String>,
    pub cpu_model: Option<String>,
    pub cores: usize,
}

impl Facts {
    /// Looks at the machine.
    pub fn look() -> Facts {
        Facts {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu_model: cpu_model(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }

    /// The facts as they are stored with a run.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

fn cpu_model() -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string())
}
