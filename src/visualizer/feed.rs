//! The queue between those who have figures and the helper. Putting something in never waits.

use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value as Json, json};

use super::message;
use crate::finding::Finding;
use crate::plan::Plan;
use crate::record::live::Snapshot;

/// Figures that may wait for the helper. A slow service has points further apart, not later ones.
const WAITING: usize = 64;
/// Messages that the helper may have without having said that it is done with them.
const UNDONE: u32 = 4;

/// Takes figures for the helper, from any thread.
#[derive(Clone, Debug)]
pub struct Feed {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    /// The call has one run, whose figures need no name of a load.
    single: bool,
    /// The service.
    name: &'static str,
}

/// What waits.
#[derive(Debug)]
enum Message {
    /// May be dropped.
    Figures(Arc<str>, Box<Snapshot>),
    /// Comes once in a run, and is kept however long it takes.
    Sure(Json),
    /// The last.
    End(Json),
}

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// Of these it has been told.
    told: AtomicU64,
    /// Nobody takes figures any more: the helper has gone, or the call is over.
    closed: AtomicBool,
}

/// The writer's end of a [`Feed`].
pub struct Outlet {
    queue: Receiver<Message>,
    shared: Arc<Shared>,
}

/// A feed and its other end.
pub fn feed(name: &'static str, single: bool) -> (Feed, Outlet) {
    let (queue, other_end) = unbounded();
    let shared = Arc::new(Shared::default());
    (Feed { queue, shared: shared.clone(), single, name }, Outlet { queue: other_end, shared })
}

impl Feed {
    /// The part of a run: its figures are a series of their own.
    pub fn series(&self, plan: &Plan) -> Series {
        let name = if self.single { String::new() } else { message::load_name(plan) };
        Series { feed: self.clone(), name: name.into(), last_step: Arc::default() }
    }

    /// Queues a message that must not be lost.
    pub(super) fn send(&self, message: Json) {
        self.put(Message::Sure(message));
    }

    /// Queues the last message; figures that still wait are dropped, so that the end does not.
    pub(super) fn end(&self, ok: bool) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.put(Message::End(json!({"do": "end", "ok": ok})));
    }

    /// What was dropped since the last call.
    pub fn note(&self) -> Option<Finding> {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let news = dropped - self.shared.told.swap(dropped, Ordering::Relaxed);
        (news > 0).then(|| Finding::VisualizerLost { points: news, service: self.name.to_string() })
    }

    fn put(&self, message: Message) {
        // The writer has ended when the helper has; then it is lost, and the end of the call says so.
        let _ = self.queue.send(message);
    }
}

/// Takes the figures of one run.
#[derive(Clone, Debug)]
pub struct Series {
    feed: Feed,
    name: Arc<str>,
    /// Requests at the last point that was queued.
    last_step: Arc<AtomicU64>,
}

impl Series {
    /// Empty where the call has one run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues the figures so far, or drops and counts them when too many wait.
    pub fn figures(&self, so_far: &Snapshot) {
        let shared = &self.feed.shared;
        if shared.closed.load(Ordering::Relaxed) || shared.waiting.load(Ordering::Relaxed) >= WAITING {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.last_step.store(so_far.done, Ordering::Relaxed);
        self.feed.put(Message::Figures(self.name.clone(), Box::new(*so_far)));
    }

    /// Queues the last figures of the run, which are kept, unless they are there already.
    pub fn last_figures(&self, so_far: &Snapshot) {
        if self.last_step.swap(so_far.done, Ordering::Relaxed) != so_far.done {
            self.send(message::figures(&self.name, so_far));
        }
    }

    pub(super) fn send(&self, message: Json) {
        self.feed.send(message);
    }
}

impl Outlet {
    /// Writes what is queued until the last message, or until the helper has gone. `done` has a word for each message
    /// that the helper has dealt with, and is closed when it has gone.
    pub fn write(self, start: &Json, mut to: ChildStdin, done: &Receiver<()>) {
        let mut alive = write_line(&mut to, start);
        let mut undone = 0;
        while let Ok(message) = self.queue.recv() {
            undone -= done.try_iter().count().min(undone as usize) as u32;
            while alive && undone >= UNDONE {
                alive = done.recv().is_ok();
                undone -= 1;
            }
            if !alive {
                self.shared.closed.store(true, Ordering::Relaxed);
            }
            let (line, is_last) = match message {
                Message::Figures(series, so_far) => {
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                    if self.shared.closed.load(Ordering::Relaxed) {
                        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    (message::figures(&series, &so_far), false)
                }
                Message::Sure(message) => (message, false),
                Message::End(message) => (message, true),
            };
            alive = alive && write_line(&mut to, &line);
            undone += 1;
            if is_last {
                return;
            }
        }
    }
}

/// Whether somebody still reads.
fn write_line(to: &mut ChildStdin, message: &Json) -> bool {
    to.write_all(format!("{message}\n").as_bytes()).and_then(|()| to.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_nobody_takes_are_dropped_and_counted() {
        let (feed, outlet) = feed("wandb", true);
        let series = Series { feed: feed.clone(), name: "".into(), last_step: Arc::default() };
        let at = |done: usize| Snapshot { done: done as u64, ..Snapshot::default() };
        for done in 1..=WAITING + 7 {
            series.figures(&at(done));
        }
        series.last_figures(&at(WAITING));
        assert_eq!(outlet.queue.len(), WAITING, "it is queued already");
        series.last_figures(&at(WAITING + 7));
        assert_eq!(outlet.queue.len(), WAITING + 1);
        assert!(feed.note().is_some_and(|note| matches!(note, Finding::VisualizerLost { points: 7, .. })));
        assert_eq!(feed.note(), None);
    }
}
