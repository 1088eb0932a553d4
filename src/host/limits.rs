//! The limit on open descriptors, which limits the number of connections of a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open descriptors to the hard limit. Returns the resulting limit; `u64::MAX` if unlimited.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let resulting = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    resulting.unwrap_or(u64::MAX)
}
