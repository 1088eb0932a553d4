//! Bodies that are built while earlier ones are sent, for runs that only their duration ends.
//!
//! The next bodies wait in a ring of cells. Threads that stay off the workers' cores fill the cells; a worker takes the
//! body of its request out of its cell, without a lock, and then the cell gets the body that is one round later. Memory
//! holds one round, however long the run is. A body that is not there in time is waited for, and its request is late.
//! Conversations, with all that is known of their turns, take the place of bodies in a run of conversations.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::WorkloadError;
use super::item::Item;
use super::progress::StepProgress;
use super::residuals::Residuals;
use super::script::BuiltConversation;
use crate::api::request_body::Body;
use crate::host::affinity::{AffinityGuard, exclude_cores};
use crate::record::share::Share;

/// Prompts that a run which only its duration ends counts as, where a number is needed. As many bodies are built ahead of
/// need.
pub const ENDLESS: u64 = 1000;

/// How long a builder waits before it looks again at a cell that is full. Workers notify nobody, because that can be a
/// system call.
const FULL_PAUSE: Duration = Duration::from_millis(2);
/// Builders during the run; more work only until the ring is full for the first time.
const MOST_BUILDERS: usize = 8;

/// How far ahead of need bodies are built, and where.
#[derive(Clone, Debug)]
pub struct BuildAhead {
    /// Bodies that are built ahead of need, at least one.
    pub bodies: u64,
    /// Cores that builders leave when the run starts: those of the workers.
    pub keep_off: Vec<usize>,
    /// Only the bodies of this share are built.
    pub share: Share,
}

impl Default for BuildAhead {
    /// As many as a run of no particular load needs, on any core.
    fn default() -> BuildAhead {
        BuildAhead { bodies: ENDLESS, keep_off: Vec::new(), share: Share::default() }
    }
}

/// What a cell holds.
#[derive(Clone, Debug)]
pub enum Built {
    /// The body of a request.
    Body(Body),
    /// A conversation.
    Conversation(BuiltConversation),
}

/// The bodies of the next measured requests, or the next conversations.
#[derive(Debug)]
pub struct BodyStream {
    cells: Box<[Cell]>,
    share: Share,
    /// Bodies built so far.
    built: AtomicU64,
    closed: AtomicBool,
    failed: AtomicBool,
    /// Why no further body can be built.
    error: Mutex<Option<WorkloadError>>,
    /// Prompts in the data, once they have been used up and start again.
    prompts: OnceLock<u64>,
    pub residuals: Residuals,
}

/// The place of every `cells.len()`-th body of the share.
#[derive(Debug)]
struct Cell {
    /// The place, among the requests of the share, of the one whose body is in the cell, or comes next.
    place: AtomicU64,
    /// A channel of one place is a cell that is written and emptied without a lock.
    full: Sender<Built>,
    taken: Receiver<Built>,
}

impl BodyStream {
    /// A ring without bodies, for the requests of a share.
    pub fn new(bodies: u64, share: Share) -> BodyStream {
        let cell = |place: u64| {
            let (full, taken) = bounded(1);
            Cell { place: AtomicU64::new(place), full, taken }
        };
        BodyStream {
            share,
            cells: (0..bodies.max(1)).map(cell).collect(),
            built: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            prompts: OnceLock::new(),
            residuals: Residuals::default(),
        }
    }

    /// Takes the body of request `index`, or that conversation, out; `None` while it is not built. Each can be taken once.
    pub(crate) fn take(&self, index: u64) -> Option<Built> {
        let place = self.share.place(index);
        let cell = self.cell(place);
        if cell.place.load(Ordering::Acquire) != place {
            return None;
        }
        let body = cell.taken.try_recv().ok()?;
        cell.place.store(place + self.cells.len() as u64, Ordering::Release);
        Some(body)
    }

    /// Whether no further body will come.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why no further body could be built.
    pub(crate) fn take_error(&self) -> Option<WorkloadError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn fail(&self, error: WorkloadError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Ends the builders.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether the ring has been full.
    pub(super) fn was_full(&self) -> bool {
        self.built.load(Ordering::Relaxed) >= self.cells.len() as u64
    }

    /// Prompts in the data, if they have been used up and started again.
    pub(crate) fn repeated_prompts(&self) -> Option<u64> {
        self.prompts.get().copied()
    }

    fn cell(&self, place: u64) -> &Cell {
        &self.cells[(place % self.cells.len() as u64) as usize]
    }

    fn is_over(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || self.has_failed()
    }
}

/// A place in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the prompt or the conversation.
    pub number: u64,
    /// Requests before it: in a run of conversations, those of all turns of earlier ones.
    pub requests: u64,
}

/// Renders prompts or conversations, each with its place.
pub type Render<'a> = dyn Fn(Vec<(Place, Item)>) -> Result<Vec<Built>, WorkloadError> + Sync + 'a;

/// What builds the bodies of a stream: a data set passes its prompts to it instead of returning them.
pub struct Builders<'a> {
    pub stream: &'a BodyStream,
    pub keep_off: &'a [usize],
    /// Prompts that are rendered together.
    pub chunk: u64,
    pub render: &'a Render<'a>,
    /// Receives the prompts that are needed before the run.
    pub ready: Sender<Vec<Item>>,
    pub progress: &'a StepProgress,
}

impl std::fmt::Debug for Builders<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builders").field("chunk", &self.chunk).finish_non_exhaustive()
    }
}

impl Builders<'_> {
    /// Hands over the prompts that are needed before the run: one like the measured ones, those of the warm-up, and those
    /// that are kept apart.
    pub fn begin(&self, what: &'static str, before: Vec<Item>) {
        self.progress.begin(what, self.stream.cells.len() as u64);
        // Fails only if the call was given up.
        let _ = self.ready.send(before);
    }

    /// Builds the bodies of prompts that do not depend on each other, on several threads, until the stream is closed.
    /// `requests_of` is the number of requests of a prompt or conversation.
    pub fn build_any(
        &self,
        make: impl Fn(u64) -> Result<Item, WorkloadError> + Sync,
        requests_of: impl Fn(u64) -> u64 + Sync,
    ) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let next = Mutex::new(Place::default());
        let claim = || {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let mut places = Vec::new();
            while (places.len() as u64) < self.chunk {
                if self.stream.share.contains(next.number) {
                    places.push(*next);
                }
                next.requests += requests_of(next.number);
                next.number += 1;
            }
            places
        };
        let work = |thread: usize| {
            let mut builder = Builder { all: self, off_cores: None };
            while !(self.stream.is_over() || thread >= MOST_BUILDERS && self.stream.was_full()) {
                let items = claim().into_iter().map(|place| Ok((place, make(place.number)?)));
                let items = items.collect::<Result<Vec<_>, _>>();
                if let Err(error) = items.and_then(|items| builder.put(items)) {
                    self.stream.fail(error);
                }
            }
        };
        thread::scope(|scope| {
            (1..threads).for_each(|thread| drop(scope.spawn(move || work(thread))));
            work(0);
        });
    }

    /// Builds the bodies of prompts that come one after the other, until the stream is closed. `pass` hands all of them to
    /// its argument until that returns `false`; it is called again when they are used up. The first `before` prompts are
    /// those that are needed before the run. Few prompts are kept instead of being read again.
    pub fn build_in_order(
        &self,
        what: &'static str,
        before: usize,
        mut pass: impl FnMut(&mut dyn FnMut(Item) -> bool) -> Result<(), WorkloadError>,
    ) -> Result<(), WorkloadError> {
        let mut builder = Builder { all: self, off_cores: None };
        let (mut pending, mut next) = (Vec::new(), 0);
        let mut send = |item: Item| -> bool {
            let index = next;
            next += 1;
            if self.stream.share.contains(index) {
                pending.push((Place { number: index, requests: index }, item));
            }
            if (pending.len() as u64) < self.chunk {
                return !self.stream.is_over();
            }
            let items = std::mem::take(&mut pending);
            if let Err(error) = builder.put(items) {
                self.stream.fail(error);
            }
            !self.stream.is_over()
        };
        let (mut first, mut begun, mut count) = (Vec::new(), false, 0);
        let mut kept = Some(Vec::new());
        let few = self.stream.cells.len();
        pass(&mut |item| {
            count += 1;
            kept = kept.take().filter(|kept| kept.len() < few);
            kept.iter_mut().for_each(|kept| kept.push(item.clone()));
            if begun {
                return send(item);
            }
            first.push(item);
            if first.len() == before {
                begun = true;
                self.begin(what, std::mem::take(&mut first));
            }
            !self.stream.is_over()
        })?;
        if !begun {
            self.begin(what, first);
        }
        while !self.stream.is_over() {
            let _ = self.stream.prompts.set(count);
            match &kept {
                Some(kept) => drop(kept.iter().all(|item| send(item.clone()))),
                None => pass(&mut send)?,
            }
        }
        Ok(())
    }
}

/// One thread that builds bodies.
struct Builder<'a> {
    all: &'a Builders<'a>,
    off_cores: Option<AffinityGuard>,
}

impl Builder<'_> {
    /// Renders prompts and puts the bodies into their cells as soon as these are empty, or until the stream is closed.
    fn put(&mut self, items: Vec<(Place, Item)>) -> Result<(), WorkloadError> {
        let stream = self.all.stream;
        let cells: Vec<u64> = items.iter().map(|(place, _)| stream.share.place(place.number)).collect();
        for (place, built) in cells.into_iter().zip((self.all.render)(items)?) {
            let cell = stream.cell(place);
            while cell.place.load(Ordering::Acquire) != place {
                if stream.is_over() {
                    return Ok(());
                }
                self.leave_cores();
                thread::sleep(FULL_PAUSE);
            }
            // The place is free: the number of the cell changes when its body has been taken.
            let _ = cell.full.try_send(built);
            if stream.built.fetch_add(1, Ordering::Relaxed) < stream.cells.len() as u64 {
                self.all.progress.add(1);
            }
        }
        if stream.was_full() {
            self.leave_cores();
        }
        Ok(())
    }

    fn leave_cores(&mut self) {
        if self.off_cores.is_none() && self.all.stream.was_full() {
            self.off_cores = Some(exclude_cores(self.all.keep_off));
        }
    }
}

/// The part of a stream that its workload owns: the builders end with it.
#[derive(Debug)]
pub struct StreamOwner(pub Arc<BodyStream>);

impl Drop for StreamOwner {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::prompt::Prompt;

    fn item(number: u64) -> Item {
        Item::new(Prompt::Text(number.to_string()))
    }

    fn render(items: Vec<(Place, Item)>) -> Result<Vec<Built>, WorkloadError> {
        let text = |item: &Item| if let Prompt::Text(text) = &item.prompt { text.clone() } else { String::new() };
        let bytes = |(place, item): &(Place, Item)| format!("{}:{}", place.requests, text(item)).into_bytes();
        let body =
            |bytes: Vec<u8>| Built::Body(Body { bytes: bytes.into_boxed_slice(), max_tokens_at: None, seed_at: None });
        Ok(items.iter().map(bytes).map(body).collect())
    }

    /// The bodies of the first `count` requests of the share, taken by two threads out of order.
    fn take(stream: &BodyStream, count: u64) -> Vec<String> {
        let taken = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for worker in 0..2 {
                let taken = &taken;
                scope.spawn(move || {
                    let own = |nth: u64| stream.share.number(nth);
                    for pair in (worker..count).step_by(2).map(own).collect::<Vec<_>>().chunks(2) {
                        for index in pair.iter().rev() {
                            let body = loop {
                                match stream.take(*index) {
                                    Some(Built::Body(body)) => break body,
                                    Some(other) => panic!("{other:?}"),
                                    None => thread::sleep(Duration::from_micros(200)),
                                }
                            };
                            taken.lock().unwrap().push((*index, String::from_utf8(body.bytes.into_vec()).unwrap()));
                        }
                    }
                });
            }
        });
        let mut taken = taken.into_inner().unwrap();
        taken.sort_unstable();
        taken.into_iter().map(|(_, body)| body).collect()
    }

    fn run(chunk: u64, build: impl Fn(&Builders<'_>) + Sync, count: u64) -> (Vec<String>, usize, Option<u64>) {
        run_share(Share::default(), chunk, build, count)
    }

    fn run_share(
        share: Share,
        chunk: u64,
        build: impl Fn(&Builders<'_>) + Sync,
        count: u64,
    ) -> (Vec<String>, usize, Option<u64>) {
        let stream = BodyStream::new(16, share);
        let (ready, before) = bounded(1);
        let progress = StepProgress::default();
        let builders = Builders { stream: &stream, keep_off: &[], chunk, render: &render, ready, progress: &progress };
        let bodies = thread::scope(|scope| {
            let (build, builders) = (&build, &builders);
            scope.spawn(move || build(builders));
            let bodies = take(&stream, count);
            stream.close();
            bodies
        });
        (bodies, before.recv().unwrap().len(), stream.repeated_prompts())
    }

    #[test]
    fn every_request_gets_its_body_in_every_round_of_the_ring() {
        for chunk in [1, 3, 40] {
            let (bodies, ..) = run(
                chunk,
                |builders| {
                    builders.begin("", vec![item(0)]);
                    builders.build_any(|number| Ok(item(number)), |_| 1);
                },
                500,
            );
            assert_eq!(bodies, (0..500).map(|number| format!("{number}:{number}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shard_builds_its_share() {
        let share = Share::new(1, 3).unwrap();
        let any = |builders: &Builders<'_>| {
            builders.begin("", vec![item(0)]);
            builders.build_any(|number| Ok(item(number)), |_| 1);
        };
        let in_order = |builders: &Builders<'_>| {
            let pass = |take: &mut dyn FnMut(Item) -> bool| {
                let _ = (0..).all(|number: u64| take(item(number.saturating_sub(1))));
                Ok(())
            };
            builders.build_in_order("", 1, pass).unwrap();
        };
        let expected: Vec<String> = (0..200).map(|nth| share.number(nth)).map(|n| format!("{n}:{n}")).collect();
        for chunk in [1, 4] {
            assert_eq!(run_share(share, chunk, any, 200).0, expected);
            assert_eq!(run_share(share, chunk, in_order, 200).0, expected);
        }
    }

    #[test]
    fn requests_are_counted_over_conversations_of_different_lengths() {
        for share in [Share::default(), Share::new(1, 2).unwrap()] {
            let build = |builders: &Builders<'_>| {
                builders.begin("", vec![item(0)]);
                builders.build_any(|number| Ok(item(number)), |number| number % 3);
            };
            let (bodies, ..) = run_share(share, 3, build, 90);
            let before = |number: u64| (0..number).map(|number| number % 3).sum::<u64>();
            let expected = (0..90).map(|nth| share.number(nth)).map(|number| format!("{}:{number}", before(number)));
            assert_eq!(bodies, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn data_that_is_used_up_starts_again() {
        for size in [5, 12, 40] {
            let build = |builders: &Builders<'_>| {
                let pass = |take: &mut dyn FnMut(Item) -> bool| {
                    let _ = (0..size).all(|number| take(item(number)));
                    Ok(())
                };
                builders.build_in_order("", 4, pass).unwrap();
            };
            let (bodies, before, prompts) = run(2, build, 100);
            let source = (4..size).chain((0..).flat_map(|_| 0..size));
            assert_eq!(bodies, (0..100).zip(source).map(|(i, number)| format!("{i}:{number}")).collect::<Vec<_>>());
            assert_eq!((before, prompts), (4, Some(size)));
        }
    }

    #[test]
    fn errors_end_the_builders() {
        let stream = BodyStream::new(4, Share::default());
        let (ready, _before) = bounded(1);
        let progress = StepProgress::default();
        let builders =
            Builders { stream: &stream, keep_off: &[], chunk: 1, render: &render, ready, progress: &progress };
        let make = |number| if number == 2 { Err(WorkloadError::Data("no".into())) } else { Ok(item(number)) };
        builders.build_any(make, |_| 1);
        assert!(stream.has_failed() && stream.take_error().unwrap().to_string() == "no");
    }
}
