//! The rendezvous of the shards of one load: before each run they agree on what they send and on when they start.
//!
//! ```text
//!  once a call:  shard 0 names call id, model and folder           (CallMessage)
//!  each run:     everyone is ready, with the hash of its plan      (ReadyMessage)
//!                everyone has opened its connections               (a fence)
//!                shard 0 names the start, all wait for it          (StartMessage)
//! ```
//!
//! Each step is one all-gather of messages of at most [`MAX_MESSAGE`] bytes. [`messages`] decides what the messages mean;
//! the transports only carry them: a directory, TCP, or the process manager of MPI and Slurm. A shard that fails sends
//! its error instead of its next message, so that all others end with it. After the start nothing more is exchanged.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

mod directory;
mod frame;
mod messages;
mod offset;
mod pmi;
mod random;
mod tcp;

use std::time::{Duration, Instant};

use self::directory::Directory;
pub use self::messages::{CallFacts, MAX_MESSAGE, ReadyMessage};
use self::messages::{CallMessage, Fence, StartMessage, failure, gathered, message};
use self::offset::OffsetBounds;
use self::pmi::Pmi;
use self::tcp::Tcp;
use crate::plan::shard::{RendezvousPlan, ShardPlan};
use crate::record::facts::ClockOffset;
use crate::record::share::Share;

/// Why shards could not agree. One line that names the shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RendezvousError {
    #[error("{0}")]
    Failed(String),
    #[error("interrupted while waiting for the other shards")]
    Interrupted,
}

impl RendezvousError {
    fn new(text: impl Into<String>) -> RendezvousError {
        RendezvousError::Failed(text.into())
    }
}

/// When a wait ends without its result.
struct Wait<'a> {
    deadline: Instant,
    timeout: Duration,
    /// Whether the user has ended the call.
    stopped: &'a dyn Fn() -> bool,
}

/// The longest time between two checks of [`Wait::stopped`].
const STEP: Duration = Duration::from_millis(50);

impl<'a> Wait<'a> {
    fn new(timeout: Duration, stopped: &'a dyn Fn() -> bool) -> Wait<'a> {
        Wait { deadline: Instant::now() + timeout, timeout, stopped }
    }

    /// The time to wait until the next check; an error after an interrupt, `None` after the deadline.
    fn step(&self) -> Result<Option<Duration>, RendezvousError> {
        if (self.stopped)() {
            return Err(RendezvousError::Interrupted);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        Ok((!left.is_zero()).then(|| left.min(STEP)))
    }
}

enum Transport {
    Directory(Directory),
    Tcp(Tcp),
    Pmi(Pmi),
    /// No communication: all start at this time, nanoseconds since the Unix epoch.
    At(i64),
}

/// The meeting place of the shards of a call.
pub struct Rendezvous {
    transport: Transport,
    share: Share,
    timeout: Duration,
    /// Reads the clock of this machine, nanoseconds since the Unix epoch.
    now_ns: fn() -> i64,
    /// The offset of the clocks, from the rounds before the last start.
    offset: OffsetBounds,
    /// This shard has sent its error, or the transport has failed: nothing more can be exchanged.
    over: bool,
}

/// How long a shard that fails waits for a fence, after which the others see its error.
const LAST_FENCE: Duration = Duration::from_secs(10);

/// Rounds that follow each other at once before a start: they bound the offset of the clocks.
const OFFSET_ROUNDS: u32 = 6;

impl Rendezvous {
    /// Meets the other shards. `token` is the one that all shards of the job have; `now_ns` reads the clock of this machine,
    /// nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// If not all shards come in time, or two have one number.
    pub fn open(
        plan: &ShardPlan,
        token: Option<&str>,
        now_ns: fn() -> i64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Rendezvous, RendezvousError> {
        let ShardPlan { share, timeout, .. } = *plan;
        let wait = Wait::new(timeout, stopped);
        let transport = match &plan.rendezvous {
            RendezvousPlan::Pmi => Transport::Pmi(Pmi::open(share, &wait)?),
            RendezvousPlan::Directory(path) => Transport::Directory(Directory::open(path, share, &wait)?),
            RendezvousPlan::Tcp { host, port } => {
                let token = token.unwrap_or_default().as_bytes();
                Transport::Tcp(Tcp::open((host, *port), token, share, &wait)?)
            }
            RendezvousPlan::At { unix_ns } => Transport::At(*unix_ns),
        };
        Ok(Rendezvous { transport, share, timeout, now_ns, offset: OffsetBounds::default(), over: false })
    }

    /// Shares the facts of the call: shard 0 passes them, and all shards get them. `None` without communication.
    pub fn share_call(
        &mut self,
        call: Option<CallFacts>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<CallFacts>, RendezvousError> {
        let own = CallMessage { version: version(), count: self.share.count(), call };
        let Some(all) = self.all_gather(&own, stopped)? else { return Ok(None) };
        messages::common_call(&all).map(Some).map_err(RendezvousError::new)
    }

    /// Waits until all shards are ready for a run. `plan_hash` must be the same for all.
    pub fn ready(&mut self, run: u32, plan_hash: &str, stopped: &dyn Fn() -> bool) -> Result<(), RendezvousError> {
        let ready = ReadyMessage { version: version(), run, plan_hash: plan_hash.to_string() };
        let Some(all) = self.all_gather(&ready, stopped)? else { return Ok(()) };
        messages::check_ready(&all).map_err(RendezvousError::new)
    }

    /// Waits until all shards have come here. Returns the start of the run, nanoseconds since the Unix epoch.
    pub fn start(&mut self, stopped: &dyn Fn() -> bool) -> Result<i64, RendezvousError> {
        let start = match self.transport {
            Transport::At(unix_ns) => unix_ns,
            _ => {
                // Earlier rounds are as wide as shards waited for each other, and clocks drift.
                self.offset = OffsetBounds::default();
                // Fences: only after the first one is it certain that nobody needs more time.
                for _ in 0..if self.share.count() > 1 { OFFSET_ROUNDS } else { 1 } {
                    self.all_gather(&Fence {}, stopped)?;
                }
                let named = self.share.is_first().then(|| (self.now_ns)() + self.margin().as_nanos() as i64);
                let all = self.all_gather(&StartMessage { start_unix_ns: named }, stopped)?;
                messages::named_start(&all.unwrap_or_default()).map_err(RendezvousError::new)?
            }
        };
        let late_ns = (self.now_ns)() - start;
        if late_ns > 0 {
            return Err(RendezvousError::new(format!(
                "shard {} was not ready at the start that the shards agreed on: it is {:.3} s late by the clock of this machine; \
                 check that the clocks are synchronized",
                self.share,
                late_ns as f64 / 1e9
            )));
        }
        Ok(start)
    }

    /// The clock of shard 0 minus that of this shard, as of the last start; `None` if it is unknown.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        match self.transport {
            Transport::At(_) => None,
            _ if self.share.is_first() => Some(ClockOffset::default()),
            _ => self.offset.interval(),
        }
    }

    /// Sends an error in place of the next message, so that the other shards end as well.
    pub fn fail(&mut self, text: &str) {
        if !std::mem::replace(&mut self.over, true) {
            let own = failure(text);
            match &mut self.transport {
                Transport::Directory(directory) => directory.send(&own),
                Transport::Tcp(tcp) => tcp.send(&own),
                Transport::Pmi(pmi) => pmi.send(&own, &Wait::new(self.timeout.min(LAST_FENCE), &|| false)),
                Transport::At(_) => {}
            }
        }
    }

    /// The time between the last message and the start: as long as a message may take.
    fn margin(&self) -> Duration {
        match self.transport {
            // Directories of other machines are read again only after some time.
            Transport::Directory(_) => Duration::from_secs(3),
            _ => Duration::from_secs(1),
        }
    }

    /// The messages of all shards, in their order; `None` without communication.
    fn all_gather<T: serde::Serialize + serde::de::DeserializeOwned>(
        &mut self,
        own: &T,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<T>>, RendezvousError> {
        if self.over {
            return Err(RendezvousError::new("the rendezvous of the shards has ended"));
        }
        let sent_ns = (self.now_ns)();
        let (own, wait) = (message(own, sent_ns), Wait::new(self.timeout, stopped));
        let all = match &mut self.transport {
            Transport::Directory(directory) => directory.all_gather(&own, &wait),
            Transport::Tcp(tcp) => tcp.all_gather(&own, &wait),
            Transport::Pmi(pmi) => pmi.all_gather(&own, &wait),
            Transport::At(_) => return Ok(None),
        };
        let all: Result<Vec<(T, i64)>, _> = all.and_then(|all| gathered(&all).map_err(RendezvousError::new));
        // The others have the same messages, or notice that this shard is gone.
        self.over |= all.is_err();
        let all = all?;
        if let Some((_, first_ns)) = all.first() {
            self.offset.add_round(*first_ns, sent_ns, (self.now_ns)());
        }
        Ok(Some(all.into_iter().map(|(message, _)| message).collect()))
    }
}

impl std::fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendezvous").field("share", &self.share).field("over", &self.over).finish_non_exhaustive()
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_string()
}

/// A list of shards for an error: `1`, `1 and 3`, `1, 3 and 4`.
fn list(shards: &[u32]) -> String {
    let names: Vec<String> = shards.iter().map(u32::to_string).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
