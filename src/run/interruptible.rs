//! Steps before and after the load that may take long or wait without end: a program that does not end, a FIFO without a
//! writer, a chat template, a data set that does not fit into memory. An interrupt ends them.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::error::RunError;
use crate::host::{children, memory};
use crate::time::clock::kernel_now;
use crate::workload::template_watch;

/// Period of the checks for an interrupt and of the used memory.
const CHECK_PERIOD: Duration = Duration::from_millis(20);
/// A step may use this share of the memory that was available when it began, per cent.
const MEMORY_SHARE: u64 = 80;

/// The result of `work`, which runs on a thread of its own. If an interrupt comes, the memory runs out, or a chat template
/// takes too much, programs are killed, the thread is left to itself, and the result is an error.
pub fn run_or_abandon<R: Send + 'static>(
    stop: &AtomicU8,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, RunError> {
    run_within(memory_limit(), (stop, 0), work)
}

/// The same for a step after the measurement: if an interrupt has ended that, only the second one ends this.
pub fn complete_or_abandon<R: Send + 'static>(
    stop: &AtomicU8,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, RunError> {
    run_within(memory_limit(), (stop, stop.load(Ordering::Relaxed)), work)
}

/// What this process may use when a step begins, bytes.
fn memory_limit() -> u64 {
    let limit = memory::available().zip(memory::resident()).map(|(free, used)| used + free / 100 * MEMORY_SHARE);
    limit.unwrap_or(u64::MAX)
}

/// The same with a limit on the memory of this process, bytes, and the value of the stop flag that is no interrupt.
fn run_within<R: Send + 'static>(
    memory_limit: u64,
    (stop, before): (&AtomicU8, u8),
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, RunError> {
    let (alive, ended) = channel::<()>();
    let thread = thread::Builder::new().name("workload".to_string()).spawn(move || {
        let _alive = alive;
        work()
    });
    let thread = thread.map_err(RunError::Thread)?;
    while ended.recv_timeout(CHECK_PERIOD) == Err(RecvTimeoutError::Timeout) {
        let used = memory::resident().unwrap_or(0);
        let error = if stop.load(Ordering::Relaxed) != before {
            RunError::Interrupted
        } else if let Some(error) = template_watch::find_excess(used, kernel_now()) {
            error.into()
        } else if used > memory_limit {
            RunError::Memory { used_gib: used as f64 / (1u64 << 30) as f64 }
        } else {
            continue;
        };
        children::kill_all();
        return Err(error);
    }
    thread.join().map_err(|panic| std::panic::resume_unwind(panic))
}

/// Runs `work`, which runs programs. An interrupt during it kills them, so that it ends with their error.
pub fn with_killable_programs<R>(stop: &AtomicU8, work: impl FnOnce() -> R) -> R {
    // After an interrupt of the measurement, its results are still to be completed; then only the second one ends this.
    let before = stop.load(Ordering::Relaxed);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) != before {
                    children::kill_all();
                }
                thread::park_timeout(CHECK_PERIOD);
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that does not end by itself in any test.
    fn long() {
        thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn work_ends_with_its_result_an_interrupt_or_too_much_memory() {
        let go_on = AtomicU8::new(0);
        let interrupted = AtomicU8::new(1);
        assert!(matches!(run_within(u64::MAX, (&go_on, 0), || 5), Ok(5)));
        assert!(matches!(run_within(u64::MAX, (&interrupted, 0), long), Err(RunError::Interrupted)));
        assert!(matches!(run_within(1, (&go_on, 0), long), Err(RunError::Memory { .. })));
        assert!(matches!(complete_or_abandon(&interrupted, || 5), Ok(5)));
        assert!(matches!(run_or_abandon(&go_on, || 5), Ok(5)));
        let panics = || run_or_abandon(&AtomicU8::new(0), || panic!("of the work"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
