//! Scheduling priority of the workers.

/// Niceness of workers: ahead of ordinary programs, behind kernel threads that matter.
const WORKER_NICENESS: i32 = -10;

/// Raises the priority of the calling thread; returns whether it was granted (it needs `CAP_SYS_NICE`). Without it,
/// another program on the core delays the worker by whole time slices.
pub fn prefer() -> bool {
    rustix::process::setpriority_process(None, WORKER_NICENESS).is_ok()
}
