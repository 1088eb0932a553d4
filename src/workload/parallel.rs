//! Parallel work on all cores before and after a run, never during it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Items a thread takes at a time: enough to make the counter cheap, few enough that all threads end together.
const STRIDE: usize = 8;

/// Computes `f` for every number below `count` on all cores. Results are in order. Returns the error with the lowest
/// number; after an error, no further work is started.
pub fn map<R: Send, E: Send>(count: usize, f: impl Fn(usize) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(count.div_ceil(STRIDE));
    if threads <= 1 {
        return (0..count).map(f).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut made: Vec<(usize, Vec<Result<R, E>>)> = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let start = next.fetch_add(STRIDE, Ordering::Relaxed);
            if start >= count {
                break;
            }
            let part: Vec<Result<R, E>> = (start..count.min(start + STRIDE)).map(&f).collect();
            if part.iter().any(Result::is_err) {
                failed.store(true, Ordering::Relaxed);
            }
            made.push((start, part));
        }
        made
    };
    let mut parts: Vec<(usize, Vec<Result<R, E>>)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parts = work();
        for other in others {
            // A panic of a thread is a panic of the caller.
            parts.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        parts
    });
    parts.sort_unstable_by_key(|(start, _)| *start);
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_errors_end_the_work() {
        let squares: Result<Vec<usize>, ()> = map(1000, |n| Ok(n * n));
        assert_eq!(squares.unwrap(), (0..1000).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(map(0, |_| Ok::<u8, ()>(1)), Ok(vec![]));
        assert_eq!(map(500, |n| if n == 137 { Err(n) } else { Ok(n) }), Err(137));
    }
}
