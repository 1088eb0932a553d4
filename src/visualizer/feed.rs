//! The queue of messages for the helper process. Adding a message never blocks.

use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value as Json, json};

use super::message;
use crate::finding::Finding;
use crate::plan::Plan;
use crate::store::live::Snapshot;

/// Maximum number of queued data points. With a slow service, points are dropped instead of delayed.
const MAX_QUEUED: usize = 64;
/// Maximum number of messages that the helper has received but not acknowledged.
const MAX_UNACKNOWLEDGED: u32 = 4;

/// Accepts messages for the helper, from any thread.
#[derive(Clone, Debug)]
pub struct Feed {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    /// The call has one run, whose data points need no load name.
    single: bool,
    /// The name of the service.
    name: &'static str,
}

/// A queued message.
#[derive(Debug)]
enum Message {
    /// A data point of a series. May be dropped.
    Figures(Arc<str>, Box<Snapshot>),
    /// A message that is never dropped.
    Reliable(Json),
    /// The last message.
    End(Json),
}

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// The number of dropped data points that has been reported.
    reported: AtomicU64,
    /// Data points are not accepted any more: the helper has exited, or the call is over.
    closed: AtomicBool,
}

/// The receiving end of a [`Feed`].
pub struct FeedReceiver {
    queue: Receiver<Message>,
    shared: Arc<Shared>,
}

/// Creates a feed and its receiving end.
pub fn feed(name: &'static str, single: bool) -> (Feed, FeedReceiver) {
    let (queue, receiver) = unbounded();
    let shared = Arc::new(Shared::default());
    (Feed { queue, shared: shared.clone(), single, name }, FeedReceiver { queue: receiver, shared })
}

impl Feed {
    /// The feed of one run, whose data points are a separate series.
    pub fn series(&self, plan: &Plan) -> Series {
        let name = if self.single { String::new() } else { message::load_name(plan) };
        Series { feed: self.clone(), name: name.into(), last_step: Arc::default() }
    }

    /// Queues a message that is never dropped.
    pub(super) fn send(&self, message: Json) {
        self.put(Message::Reliable(message));
    }

    /// Queues the last message. Queued data points are dropped, so that it is sent soon.
    pub(super) fn end(&self, ok: bool) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.put(Message::End(json!({"do": "end", "ok": ok})));
    }

    /// A finding about the data points dropped since the last call, if any.
    pub fn note(&self) -> Option<Finding> {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let new = dropped - self.shared.reported.swap(dropped, Ordering::Relaxed);
        (new > 0).then(|| Finding::VisualizerLost { points: new, service: self.name.to_string() })
    }

    fn put(&self, message: Message) {
        // Fails only if the helper has exited, which is reported at the end of the call.
        let _ = self.queue.send(message);
    }
}

/// Accepts the messages of one run.
#[derive(Clone, Debug)]
pub struct Series {
    feed: Feed,
    name: Arc<str>,
    /// Number of requests of the last data point that was queued.
    last_step: Arc<AtomicU64>,
}

impl Series {
    /// The name of the series; empty if the call has one run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Queues a data point, or drops and counts it if too many are queued.
    pub fn figures(&self, so_far: &Snapshot) {
        let shared = &self.feed.shared;
        if shared.closed.load(Ordering::Relaxed) || shared.waiting.load(Ordering::Relaxed) >= MAX_QUEUED {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.last_step.store(so_far.done, Ordering::Relaxed);
        self.feed.put(Message::Figures(self.name.clone(), Box::new(*so_far)));
    }

    /// Queues the last data point of the run, which is never dropped, unless it is already queued.
    pub(crate) fn last_figures(&self, so_far: &Snapshot) {
        if self.last_step.swap(so_far.done, Ordering::Relaxed) != so_far.done {
            self.send(message::figures(&self.name, so_far));
        }
    }

    pub(super) fn send(&self, message: Json) {
        self.feed.send(message);
    }
}

impl FeedReceiver {
    /// Writes the queued messages to the helper until the last message, or until the helper has exited. `acknowledged`
    /// receives one value for each message that the helper has processed, and is closed when the helper exits.
    pub fn write(self, start: &Json, mut to: ChildStdin, acknowledged: &Receiver<()>) {
        let mut alive = write_line(&mut to, start);
        let mut pending = 0;
        while let Ok(message) = self.queue.recv() {
            pending -= acknowledged.try_iter().count().min(pending as usize) as u32;
            while alive && pending >= MAX_UNACKNOWLEDGED {
                alive = acknowledged.recv().is_ok();
                pending -= 1;
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
                Message::Reliable(message) => (message, false),
                Message::End(message) => (message, true),
            };
            alive = alive && write_line(&mut to, &line);
            pending += 1;
            if is_last {
                return;
            }
        }
    }
}

/// Writes one line. Returns false if the reader has closed the stream.
fn write_line(to: &mut ChildStdin, message: &Json) -> bool {
    to.write_all(format!("{message}\n").as_bytes()).and_then(|()| to.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_points_beyond_the_limit_are_dropped_and_counted() {
        let (feed, receiver) = feed("wandb", true);
        let series = Series { feed: feed.clone(), name: "".into(), last_step: Arc::default() };
        let at = |done: usize| Snapshot { done: done as u64, ..Snapshot::default() };
        for done in 1..=MAX_QUEUED + 7 {
            series.figures(&at(done));
        }
        series.last_figures(&at(MAX_QUEUED));
        assert_eq!(receiver.queue.len(), MAX_QUEUED, "it is queued already");
        series.last_figures(&at(MAX_QUEUED + 7));
        assert_eq!(receiver.queue.len(), MAX_QUEUED + 1);
        assert!(feed.note().is_some_and(|note| matches!(note, Finding::VisualizerLost { points: 7, .. })));
        assert_eq!(feed.note(), None);
    }
}
