//! Which processes share one monotonic clock.

use std::fs;

/// A text that two processes share only if their `CLOCK_MONOTONIC` is the same: the boot of the kernel, and the time
/// namespace of the process, which may have an offset. Empty if it is unknown.
pub(crate) fn read() -> String {
    let Ok(boot) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return String::new() };
    // Kernels without time namespaces have no such file; then there is one clock only.
    let namespace = fs::read_link("/proc/self/ns/time").map_or(String::new(), |link| format!(" {}", link.display()));
    format!("{}{namespace}", boot.trim())
}
