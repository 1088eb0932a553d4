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
//! its error instead of its next message, so that all others end with it. After the start nothing more is agreed on.
//!
//! Where shard 0 has an address, the others exchange UDP packets with it from then until the end of the run, which bound
//! how the clocks differ ([`clock_client`], [`clock_server`]). What is lost of these makes the bounds wider, not wrong.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

mod clock_client;
mod clock_packet;
mod clock_server;
mod clock_socket;
mod directory;
mod frame;
mod messages;
mod offset;
mod pmi;
mod random;
mod tcp;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

pub use self::clock_client::ClockClient;
use self::clock_client::ClockTarget;
use self::clock_server::ClockServer;
use self::directory::Directory;
pub use self::messages::{CallFacts, MAX_MESSAGE, ReadyMessage};
use self::messages::{CallMessage, ClockService, Fence, StartMessage, failure, gathered, message};
use self::offset::OffsetBounds;
use self::pmi::Pmi;
use self::random::random_hex;
use self::tcp::Tcp;
use crate::plan::shard::{RendezvousPlan, ShardAddress, ShardPlan};
use crate::record::clock_exchange::ClockExchange;
use crate::record::facts::ClockOffset;
use crate::record::share::Share;
use crate::time::Tick;

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

    /// The same with a later end.
    fn longer_by(&self, time: Duration) -> Wait<'a> {
        Wait { deadline: self.deadline + time, ..*self }
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
    /// The address of this shard, if it was given.
    address: Option<ShardAddress>,
    /// The token of the job; empty without one.
    job_token: String,
    /// All shards must have the same.
    version: String,
    /// Shard 0: what answers clock exchanges, and what the others need for them.
    clock_server: Option<(ClockServer, ClockService)>,
    /// Other shards: where these are answered.
    clock_target: Option<ClockTarget>,
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
        let address = plan.address.clone();
        let wait = Wait::new(timeout, stopped);
        let transport = match &plan.rendezvous {
            RendezvousPlan::Pmi => Transport::Pmi(Pmi::open(share, &wait)?),
            RendezvousPlan::Directory(path) => Transport::Directory(Directory::open(path, share, &wait)?),
            RendezvousPlan::Tcp { host, port } => {
                let token = token.unwrap_or_default().as_bytes();
                let listen = address.as_ref().map(|address| (address.host.as_str(), address.port.unwrap_or(*port)));
                Transport::Tcp(Tcp::open((host, *port), listen, token, share, &wait)?)
            }
            RendezvousPlan::At { unix_ns } => Transport::At(*unix_ns),
        };
        let mut rendezvous = Rendezvous {
            transport,
            share,
            timeout,
            now_ns,
            address,
            job_token: token.unwrap_or_default().to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            clock_server: None,
            clock_target: None,
            offset: OffsetBounds::default(),
            over: false,
        };
        if let Err(error) = rendezvous.serve_clock() {
            rendezvous.fail(&error);
            return Err(RendezvousError::new(error));
        }
        Ok(rendezvous)
    }

    /// The same for a program of another version.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn with_version(self, version: &str) -> Rendezvous {
        Rendezvous { version: version.to_string(), ..self }
    }

    /// Shares the facts of the call: shard 0 passes them, and all shards get them. `None` without communication.
    pub fn share_call(
        &mut self,
        call: Option<CallFacts>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<CallFacts>, RendezvousError> {
        let clock = self.clock_server.as_ref().map(|(_, service)| service.clone());
        let own = CallMessage { version: self.version.clone(), count: self.share.count(), call, clock };
        let Some(all) = self.all_gather(&own, stopped)? else { return Ok(None) };
        if let Some(service) = all.first().and_then(|first| first.clock.clone()).filter(|_| !self.share.is_first()) {
            self.clock_target = self.clock_target_at(&service).map_err(RendezvousError::new)?;
        }
        messages::common_call(&all).map(Some).map_err(RendezvousError::new)
    }

    /// Waits until all shards are ready for a run. `plan_hash` must be the same for all.
    pub fn ready(&mut self, run: u32, plan_hash: &str, stopped: &dyn Fn() -> bool) -> Result<(), RendezvousError> {
        let ready = ReadyMessage { version: self.version.clone(), run, plan_hash: plan_hash.to_string() };
        let Some(all) = self.all_gather(&ready, stopped)? else { return Ok(()) };
        messages::check_ready(&all).map_err(RendezvousError::new)
    }

    /// Waits until all shards have come here. Returns the start of the run, nanoseconds since the Unix epoch by the clock of
    /// this machine: clocks that certainly differ do not make shards begin at different times.
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
                let named = messages::named_start(&all.unwrap_or_default()).map_err(RendezvousError::new)?;
                named.saturating_sub(self.clock_difference_ns())
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

    /// The clock of shard 0 minus that of this machine, nanoseconds, as far as it is certain that they differ.
    fn clock_difference_ns(&self) -> i64 {
        let offset = self.clock_offset().unwrap_or_default();
        if (offset.low_ns..=offset.high_ns).contains(&0) { 0 } else { offset.middle_ns() }
    }

    /// Shard 0: answers clock exchanges if it has an address.
    fn serve_clock(&mut self) -> Result<(), String> {
        if !self.share.is_first() || self.share.count() == 1 {
            return Ok(());
        }
        let (listen, token) = match (&self.transport, &self.address) {
            (Transport::At(_), _) => return Ok(()),
            (Transport::Tcp(tcp), _) => (tcp.first_address().map_err(|error| error.to_string())?, None),
            (_, Some(ShardAddress { host, port })) => {
                let listen = resolve(host, port.unwrap_or(0)).map_err(|error| cannot_use(host, &error))?;
                // The rendezvous hands it out.
                (listen, Some(random_hex().map_err(|error| error.to_string())?))
            }
            (_, None) => return Ok(()),
        };
        let secret = token.as_ref().unwrap_or(&self.job_token).as_bytes();
        let server = ClockServer::start(listen, secret, self.share.count()).map_err(|error| {
            format!("cannot receive UDP packets at {listen}, by which shards compare clocks: {error}")
        })?;
        let port = server.address().port();
        let address = self.address.as_ref().map(|address| (address.host.clone(), port));
        self.clock_server = Some((server, ClockService { address, token }));
        Ok(())
    }

    /// Other shards: where shard 0 answers clock exchanges.
    fn clock_target_at(&self, service: &ClockService) -> Result<Option<ClockTarget>, String> {
        let address = match (&service.address, &self.transport) {
            (Some((host, port)), _) => resolve(host, *port)
                .map_err(|error| format!("cannot resolve {host}, the --shard-address of shard 0: {error}"))?,
            (None, Transport::Tcp(tcp)) => tcp.first_address().map_err(|error| error.to_string())?,
            (None, _) => return Ok(None),
        };
        let own = self.address.as_ref().map(|own| resolve(&own.host, 0).map_err(|error| cannot_use(&own.host, &error)));
        let source: Option<IpAddr> = own.transpose()?.map(|own| own.ip());
        let key = clock_packet::key(service.token.as_ref().unwrap_or(&self.job_token).as_bytes());
        Ok(Some(ClockTarget { address, key, shard: self.share.index(), source }))
    }

    /// Begins to exchange packets with shard 0, which bound how the clocks differ; `None` if this is shard 0, or if that has
    /// no address. Each exchange is passed to `take`. The run starts at `start`.
    pub fn exchange_clocks(
        &self,
        start: Tick,
        take: Box<dyn FnMut(ClockExchange) + Send>,
    ) -> Option<io::Result<ClockClient>> {
        self.clock_target.clone().map(|target| ClockClient::start(target, start, take))
    }

    /// Shard 0: waits until the other shards exchange no more packets with it, at most as long as at a meeting.
    pub fn wait_for_exchanges(&self, stopped: &dyn Fn() -> bool) {
        if let Some((server, _)) = &self.clock_server {
            server.wait_for_others(self.timeout, stopped);
        }
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

/// The first address of a host.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))
}

fn cannot_use(host: &str, error: &io::Error) -> String {
    format!("--shard-address: cannot resolve {host}: {error}")
}

/// A list of shards for an error: `1`, `1 and 3`, `1, 3 and 4`.
fn list(shards: &[u32]) -> String {
    let names: Vec<String> = shards.iter().map(u32::to_string).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
