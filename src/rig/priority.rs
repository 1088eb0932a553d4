//! The scheduler's favour, where the user may give it.

/// Niceness asked for workers: ahead of ordinary programs, behind nothing the kernel needs.
const WORKER_NICENESS: i32 = -10;

/// Asks that the calling thread be preferred over ordinary ones; says whether it was granted (it needs
/// `CAP_SYS_NICE`). Without it, another program on the core holds the worker up for whole time slices.
pub fn prefer() -> bool {
    rustix::process::setpriority_process(None, WORKER_NICENESS).is_ok()
}
