//! The CPU affinity of threads.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Excludes `cores` from the affinity of the calling thread, which threads that it starts inherit. If no core would be
/// left, the affinity does not change. The previous affinity is restored when the result is dropped.
pub(crate) fn exclude_cores(cores: &[usize]) -> AffinityGuard {
    let Ok(before) = sched_getaffinity(None) else { return AffinityGuard { before: None } };
    let mut others = before;
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        others.unset(core);
    }
    let excluded = others.count() > 0 && sched_setaffinity(None, &others).is_ok();
    AffinityGuard { before: excluded.then_some(before) }
}

/// Whether the calling thread may run on a core other than these.
pub(crate) fn has_other_cores(cores: &[usize]) -> bool {
    let may_run = |affinity: CpuSet| (0..CpuSet::MAX_CPU).any(|core| affinity.is_set(core) && !cores.contains(&core));
    sched_getaffinity(None).is_ok_and(may_run)
}

/// Restores the affinity of the calling thread when dropped.
pub(crate) struct AffinityGuard {
    before: Option<CpuSet>,
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // An error is ignored: the thread then keeps its current affinity.
            let _ = sched_setaffinity(None, before);
        }
    }
}
