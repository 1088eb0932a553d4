//! Chat templates that are being rendered, and which of them takes too much memory or time.
//!
//! While a template is rendered, its instructions and its output are limited, but not the values that it computes: a text
//! that is doubled again and again takes all memory within a few hundred instructions. Such a rendering cannot be ended
//! from within, only with its process: code that waits for it calls [`find_excess`] and returns an error.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::WorkloadError;
use crate::time::{S, Tick};

/// Memory that the process may take in addition for each prompt that is being rendered, bytes. Real prompts take some
/// mebibytes.
const MAX_GROWTH_BYTES: u64 = 1 << 30;
/// Longest rendering of one prompt. Real ones take milliseconds.
const MAX_TIME_NS: i64 = 60 * S as i64;

/// The renderings of this process.
static RENDERINGS: Mutex<Renderings> = Mutex::new(Renderings { next: 0, running: Vec::new() });

#[derive(Debug)]
struct Renderings {
    next: u64,
    running: Vec<Rendering>,
}

#[derive(Debug)]
struct Rendering {
    number: u64,
    /// The folder of the template.
    folder: PathBuf,
    /// When [`find_excess`] first found the rendering, and the memory of the process then, bytes.
    found: Option<(Tick, u64)>,
}

/// What a rendering takes too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    Memory,
    Time,
}

/// A rendering, until it is dropped.
#[derive(Debug)]
pub(super) struct Running(u64);

impl Running {
    /// The start of a rendering of the template in this folder.
    pub(super) fn begin(folder: &Path) -> Running {
        let mut renderings = lock();
        let number = renderings.next;
        renderings.next += 1;
        renderings.running.push(Rendering { number, folder: folder.to_path_buf(), found: None });
        Running(number)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock().running.retain(|rendering| rendering.number != self.0);
    }
}

fn lock() -> MutexGuard<'static, Renderings> {
    RENDERINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a template that takes more than 1 GiB or a minute for one prompt; `None` if there is none. To be called
/// every few milliseconds, with the memory of this process in bytes.
pub(crate) fn find_excess(used: u64, now: Tick) -> Option<WorkloadError> {
    let mut renderings = lock();
    let (folder, excess) = first_excess(&mut renderings.running, used, now)?;
    let what = match excess {
        Excess::Memory => format!("needs more than {} GiB of memory", MAX_GROWTH_BYTES >> 30),
        Excess::Time => format!("takes longer than {} s", MAX_TIME_NS / S as i64),
    };
    Some(WorkloadError::File {
        flag: "--tokenizer-path",
        path: folder.to_path_buf(),
        what: format!(
            "has a chat template that {what} for one prompt: correct it, or use a folder with tokenizer.json alone"
        ),
    })
}

fn first_excess(running: &mut [Rendering], used: u64, now: Tick) -> Option<(&Path, Excess)> {
    let limit = MAX_GROWTH_BYTES.saturating_mul(running.len() as u64);
    running.iter_mut().find_map(|rendering| {
        let (since, before) = *rendering.found.get_or_insert((now, used));
        let excess = match used.saturating_sub(before) > limit {
            true => Excess::Memory,
            false if now.ns_since(since) > MAX_TIME_NS => Excess::Time,
            false => return None,
        };
        Some((rendering.folder.as_path(), excess))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendering(folder: &str) -> Rendering {
        Rendering { number: 0, folder: PathBuf::from(folder), found: None }
    }

    #[test]
    fn memory_and_time_count_from_the_start_of_a_rendering() {
        const GROWN: u64 = MAX_GROWTH_BYTES + 1;
        let minute = Tick(MAX_TIME_NS as u64);
        let mut running = vec![rendering("a")];
        assert_eq!(first_excess(&mut running, 5 * GROWN, Tick(0)), None, "what was there before does not count");
        assert_eq!(first_excess(&mut running, 5 * GROWN + MAX_GROWTH_BYTES, minute), None);
        assert_eq!(first_excess(&mut running, 6 * GROWN, minute), Some((Path::new("a"), Excess::Memory)));
        assert_eq!(first_excess(&mut running, 0, minute.plus_ns(1)), Some((Path::new("a"), Excess::Time)));
        running.push(rendering("b"));
        assert_eq!(first_excess(&mut running, 6 * GROWN, minute), None, "each of two may take as much");
        assert_eq!(first_excess(&mut [], u64::MAX, minute), None);
    }

    #[test]
    fn a_rendering_is_running_until_it_is_dropped() {
        let count = || lock().running.iter().filter(|rendering| rendering.folder == Path::new("this test")).count();
        let (first, second) = (Running::begin(Path::new("this test")), Running::begin(Path::new("this test")));
        drop(first);
        assert_eq!(count(), 1);
        drop(second);
        assert_eq!(count(), 0);
    }
}
