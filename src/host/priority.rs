//! Scheduling priority of the workers.

/// Niceness of workers: above ordinary programs, below important kernel threads.
const WORKER_NICENESS: i32 = -10;

/// Raises the priority of the calling thread, which requires `CAP_SYS_NICE`, and returns whether it succeeded. Without
/// it, another program on the core delays the worker by whole time slices.
pub fn raise_priority() -> bool {
    rustix::process::setpriority_process(None, WORKER_NICENESS).is_ok()
}

/// Lowers the priority of the calling thread as far as possible, so that it hardly delays other threads on its core.
pub fn lower_priority() {
    const LOWEST: i32 = 19;
    // A lower priority needs no right.
    let _ = rustix::process::setpriority_process(None, LOWEST);
}
