//! Reads the gaps between output events of stored runs, as often as they are needed, on several threads.

use std::path::PathBuf;
use std::thread;

use super::source::Source;
use crate::record::Phase;
use crate::record::arrivals::Gap;
use crate::stats::gap_sets::GapPass;
use crate::stats::samples::RunSamples;
use crate::store::reader::RequestPart;
use crate::store::{Reader, StoreError};

/// Threads that read at the same time; each has counters of its own.
const MOST_THREADS: usize = 4;
/// A thread is worth its start for this many output events.
const EVENTS_PER_THREAD: u64 = 1 << 20;

/// The requests of runs that are read as one, divided into parts.
#[derive(Debug, Default)]
pub(super) struct GapRequests {
    parts: Vec<Part>,
}

/// Requests of one phase of a database.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Added to its times, nanoseconds.
    shift_ns: i64,
    phase: Phase,
    requests: RequestPart,
    /// Succeeded requests of the phase in the databases before it.
    places_before: u64,
}

impl GapRequests {
    /// Adds the succeeded requests of a phase of a database. `samples` are those of all databases until this one, and
    /// `before` is the number of succeeded requests in those before.
    pub fn add(
        &mut self,
        reader: &Reader,
        source: &Source,
        phase: Phase,
        samples: &RunSamples,
        before: u64,
    ) -> Result<(), StoreError> {
        let count = samples.ok.saturating_sub(before);
        let parts = (samples.output_events / EVENTS_PER_THREAD).clamp(1, thread_count() as u64);
        let requests = reader.parts(phase, source.range(phase), count, parts)?;
        let (path, shift_ns) = (reader.path().to_path_buf(), source.shift_ns);
        let part = |requests| Part { path: path.clone(), shift_ns, phase, requests, places_before: before };
        self.parts.extend(requests.into_iter().map(part));
        Ok(())
    }

    /// Adds all gaps of one pass.
    pub fn read<P: GapPass>(&self, pass: &mut P) -> Result<(), StoreError> {
        let parts: Vec<&Part> = self.parts.iter().filter(|part| pass.reads(part.phase)).collect();
        let threads = thread_count().min(parts.len()).max(1);
        let mut forks: Vec<P> = (1..threads).map(|_| pass.fork()).collect();
        thread::scope(|scope| {
            let parts = &parts;
            let others = forks.iter_mut().enumerate();
            let handles: Vec<_> = others
                .map(|(nth, fork)| {
                    scope
                        .spawn(move || parts.iter().skip(nth + 1).step_by(threads).try_for_each(|part| part.read(fork)))
                })
                .collect();
            let own = parts.iter().step_by(threads).try_for_each(|part| part.read(pass));
            let joined = handles.into_iter().map(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.fold(own, Result::and)
        })?;
        forks.iter().for_each(|fork| pass.join(fork));
        Ok(())
    }
}

impl Part {
    fn read(&self, pass: &mut impl GapPass) -> Result<(), StoreError> {
        let mut shifted = Vec::new();
        Reader::open(&self.path)?.each_gaps(self.phase, self.requests, |place, gaps| {
            let place = self.places_before + place;
            if self.shift_ns == 0 {
                return pass.add(self.phase, place, gaps);
            }
            shifted.clear();
            shifted.extend(gaps.iter().map(|gap| Gap { at: gap.at.wrapping_add_signed(self.shift_ns), ..*gap }));
            pass.add(self.phase, place, &shifted);
        })
    }
}

fn thread_count() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS))
}
