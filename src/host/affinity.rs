//! Which cores a thread may run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the calling thread, and the threads it starts from now on, off `cores`, as long as that leaves it any. The
/// old set comes back when the result is dropped.
pub fn keep_off(cores: &[usize]) -> Kept {
    let Ok(before) = sched_getaffinity(None) else { return Kept { before: None } };
    let mut others = before;
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        others.unset(core);
    }
    let kept = others.count() > 0 && sched_setaffinity(None, &others).is_ok();
    Kept { before: kept.then_some(before) }
}

/// The calling thread is kept off some cores until this is dropped.
pub struct Kept {
    before: Option<CpuSet>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was allowed before, so it is allowed now; if not, the thread only stays where it is.
            let _ = sched_setaffinity(None, before);
        }
    }
}
