//! The receive ring: multishot `RecvMsg` with kernel timestamps from every connection into one buffer ring.
//!
//! It is separate from monoio's ring, because monoio needs one submission and one wake-up per read, which is too slow
//! for 100,000 events per second over 10,000 streams. Here a read needs no submission, no waker and no copy.
//!
//! The worker also waits in this ring. A wait can first gather events, for as long as `engine::waiting` allows.
//!
//! Many completions are delivered in parts, so that slots send their next requests between two of them: see
//! [`Ring::poll`].
//!
//! # When a connection was last empty
//!
//! The bytes of a read arrived after its socket was last known to be empty. The ring keeps two such times:
//!
//! - For all connections ([`Ring::quiet_at`]): the kernel keeps a list of the sockets on which something happened and
//!   that it has not read. When that list is empty, with nothing left to submit and no completion outside of the queue,
//!   then every armed socket is empty but for what is in the completion queue. The kernel does not necessarily work off
//!   the list in one call (since Linux 6.13 it reads about 20 sockets), so that a poll alone proves nothing.
//! - For one connection ([`Watched`]): a read that emptied its socket. The kernel says after each read whether it did.
//!   A connection whose last read left bytes, or whose receive has ended and was not armed again since, is not covered
//!   by the time for all.

use std::io;
use std::os::fd::RawFd;

use super::delivery::{ConnectionKey, Delivery, ReceiveEvent, ReceivePlan};
use super::io_uring::KernelRing;
use super::kernel::{Completion, CompletionResult, RingKernel, Submission};
use super::submissions::{Backlog, is_temporary};
use crate::time::{S, Tick, US};

/// Bits of the user data that mark completions other than receives.
const TAG_WRITABLE: u64 = 1 << 63;
const TAG_CANCEL: u64 = 1 << 62;

/// This many events end the gathering early.
const GATHER_EVENTS: u32 = 64;
/// So many completions are delivered at a time.
const PART: usize = 256;

/// How long the first call may gather, microseconds.
const TRIAL_US: u32 = 30;
/// How often the first call is tried if the kernel refuses it for the moment.
const ENTER_TRIES: u32 = 16;

/// A ring on which the connections of a worker receive.
pub struct Ring<K = KernelRing> {
    kernel: K,
    /// Connections whose receive has ended and must be armed again.
    rearm: Vec<ConnectionKey>,
    /// By connection number.
    watched: Vec<Watched>,
    /// By slot: the number of its last request of [`Ring::await_writable`].
    write_waits: Vec<u32>,
    /// Entries that found no place in the submission queue.
    backlog: Backlog,
    gathers: bool,
    /// When all armed sockets were last known to be empty.
    quiet_at: Tick,
    /// The latest time at which this ring was used: what is armed now was not armed before.
    used_at: Tick,
    /// The completions taken next are of reads after this time.
    taken_at: Tick,
    /// The completions of the last poll that are not delivered yet.
    rest: Option<Rest>,
    /// How often the buffers ran out.
    pub shortages: u64,
}

/// Completions that a poll has left to the next one.
#[derive(Clone, Copy, Debug)]
struct Rest {
    count: usize,
    /// [`Ring::quiet_at`] before the poll that found them, and the time of that poll.
    quiet_at: Tick,
    polled_at: Tick,
}

/// The state of one connection's receive, by the number of the connection.
#[derive(Clone, Copy, Debug)]
struct Watched {
    generation: u32,
    /// -1 if no connection is watched.
    fd: RawFd,
    /// When a read is known to have emptied the socket.
    empty_at: Tick,
    /// Times of [`Ring::quiet_at`] after this one apply to this connection.
    armed_at: Tick,
}

/// A connection to which [`Ring::quiet_at`] does not apply.
const NOT_ARMED: Tick = Tick(u64::MAX);

impl Watched {
    const NOTHING: Watched = Watched { generation: 0, fd: -1, empty_at: Tick(0), armed_at: NOT_ARMED };

    /// The bytes of a read that is taken now arrived after this time.
    fn empty_since(&self, quiet_at: Tick) -> Tick {
        if quiet_at > self.armed_at { quiet_at.max(self.empty_at) } else { self.empty_at }
    }
}

impl Ring<KernelRing> {
    /// Opens a ring for a number of connections.
    ///
    /// # Errors
    /// The kernel lacks a feature or forbids io_uring.
    pub fn open(plan: ReceivePlan) -> io::Result<Ring> {
        Ring::on(KernelRing::open(plan)?)
    }
}

impl<K: RingKernel> Ring<K> {
    /// A ring of this kernel.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn on(mut kernel: K) -> io::Result<Ring<K>> {
        let gathers = can_gather(&mut kernel)?;
        Ok(Ring {
            kernel,
            rearm: Vec::new(),
            watched: Vec::new(),
            write_waits: Vec::new(),
            backlog: Backlog::default(),
            gathers,
            quiet_at: Tick(0),
            used_at: Tick(0),
            taken_at: Tick(0),
            rest: None,
            shortages: 0,
        })
    }

    /// The kernel, to open connections in a simulated one.
    #[cfg(feature = "internals")]
    pub(crate) fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Whether a wait can gather several events.
    pub(crate) fn gathers(&self) -> bool {
        self.gathers
    }

    pub(crate) fn watch(&mut self, source: ConnectionKey, fd: RawFd) -> io::Result<()> {
        let index = source.connection as usize;
        if self.watched.len() <= index {
            self.watched.resize(index + 1, Watched::NOTHING);
        }
        self.watched[index] = Watched { generation: source.generation, fd, ..Watched::NOTHING };
        self.arm(source)?;
        self.submit()
    }

    pub(crate) fn forget(&mut self, source: ConnectionKey) -> io::Result<()> {
        self.watched[source.connection as usize].fd = -1;
        self.push(Submission::Cancel { target: source.to_bits(), user_data: TAG_CANCEL })?;
        self.submit()
    }

    /// Requests a [`ReceiveEvent::Writable`] for `slot` when the socket is connected, has room again, or has failed. An
    /// earlier request of the slot delivers nothing any more.
    pub(crate) fn await_writable(&mut self, slot: u32, fd: RawFd) -> io::Result<()> {
        let user_data = self.next_write_wait(slot);
        self.push(Submission::Writable { fd, user_data })?;
        self.submit()
    }

    /// Cancels the request of [`Ring::await_writable`]. Its completion may have been posted already, or be posted later,
    /// even in the next phase; it is recognized by its number and dropped.
    pub(crate) fn forget_writable(&mut self, slot: u32) -> io::Result<()> {
        let target = self.write_wait(slot);
        self.next_write_wait(slot);
        self.push(Submission::Cancel { target, user_data: TAG_CANCEL })?;
        self.submit()
    }

    /// The user data of the slot's last request of [`Ring::await_writable`].
    fn write_wait(&self, slot: u32) -> u64 {
        let number = self.write_waits.get(slot as usize).copied().unwrap_or(0);
        TAG_WRITABLE | u64::from(number) << 32 | u64::from(slot)
    }

    /// The same for the slot's next request.
    fn next_write_wait(&mut self, slot: u32) -> u64 {
        if self.write_waits.len() <= slot as usize {
            self.write_waits.resize(slot as usize + 1, 0);
        }
        let number = &mut self.write_waits[slot as usize];
        *number = (*number + 1) % ConnectionKey::GENERATIONS;
        self.write_wait(slot)
    }

    /// Waits until something has arrived, at most until `until`. For the first `gather_ns` of that, one event is not enough.
    pub fn wait(&mut self, now: Tick, until: Tick, gather_ns: u64) -> io::Result<()> {
        let left_ns = until.0.saturating_sub(now.0);
        if left_ns == 0 || self.has_more() {
            return Ok(());
        }
        self.used_at = now;
        if self.kernel.completions() == 0 {
            self.note_quiet(now);
        }
        let gathers = self.gathers && gather_ns > 0;
        let (wanted, min_wait_ns) = match gathers {
            true if left_ns <= gather_ns => (GATHER_EVENTS, 0),
            true => (GATHER_EVENTS, gather_ns),
            false => (1, 0),
        };
        match self.kernel.wait(wanted, (min_wait_ns / US) as u32, left_ns) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => self.backlog.judge(other).map(drop),
        }
    }

    /// Whether the last poll has left completions to the next one.
    pub(crate) fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    /// Delivers what has arrived, in order, and returns the number of reads; after many of them, the rest is left to the
    /// next poll ([`Ring::has_more`]). `now` is the current time.
    pub(crate) fn poll(&mut self, now: Tick, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> io::Result<usize> {
        self.used_at = now;
        let rest = match self.rest.take() {
            Some(rest) => rest,
            None => self.find_completions(now)?,
        };
        let part = rest.count.min(PART);
        let reads = self.take_completions(part, rest.quiet_at, deliver);
        if rest.count > part {
            self.rest = Some(Rest { count: rest.count - part, ..rest });
        } else if !self.kernel.pending_work().overflow {
            self.taken_at = rest.polled_at;
        }
        self.arm_again()?;
        // What the kernel could not take when it was pushed: the completions that were in its way are processed now.
        if !self.backlog.is_empty() || self.kernel.has_unsubmitted() {
            self.submit()?;
        }
        Ok(reads)
    }

    /// Lets the kernel do what it has deferred. All that is complete then is what this poll, and those that take over the
    /// rest, deliver.
    fn find_completions(&mut self, now: Tick) -> io::Result<Rest> {
        // Deferred work, and what an overflowed completion queue left behind.
        if self.kernel.pending_work().any() {
            let done = self.kernel.run_work();
            self.backlog.judge(done)?;
        }
        let quiet_at = self.quiet_at;
        self.note_quiet(now);
        Ok(Rest { count: self.kernel.completions(), quiet_at, polled_at: now })
    }

    /// Notes that every armed socket is empty at `now` or later, but for what is in the completion queue, if that is so.
    fn note_quiet(&mut self, now: Tick) {
        if !self.kernel.pending_work().any() && !self.kernel.has_unsubmitted() && self.backlog.is_empty() {
            self.quiet_at = now;
        }
    }

    /// Delivers up to `most` entries of the completion queue. `quiet_at`: when all sockets were last known to be empty
    /// before.
    fn take_completions(&mut self, most: usize, quiet_at: Tick, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> usize {
        let Ring { kernel, rearm, watched, write_waits, taken_at, shortages, .. } = self;
        let mut reads = 0;
        kernel.take_completions(most, &mut |completion| {
            let data = completion.user_data;
            if data & TAG_CANCEL != 0 {
                return;
            }
            if data & TAG_WRITABLE != 0 {
                let slot = data as u32;
                let number = (data & !TAG_WRITABLE) >> 32;
                let current = write_waits.get(slot as usize).is_some_and(|wait| u64::from(*wait) == number);
                if current && !matches!(completion.result, CompletionResult::Error(libc::ECANCELED)) {
                    deliver(ReceiveEvent::Writable { slot });
                }
                return;
            }
            reads += 1;
            let source = ConnectionKey::from_bits(data);
            let Some(watched) = watched.get_mut(source.connection as usize) else { return };
            if watched.generation != source.generation || watched.fd < 0 {
                return;
            }
            match deliver_read(completion, source, watched, (quiet_at, *taken_at), deliver) {
                AfterRead::Armed | AfterRead::Over => {}
                AfterRead::Rearm => rearm.push(source),
                AfterRead::OutOfBuffers => {
                    *shortages += 1;
                    rearm.push(source);
                }
            }
        });
        reads
    }

    fn arm_again(&mut self) -> io::Result<()> {
        if self.rearm.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.rearm);
        for source in waiting.drain(..) {
            self.arm(source)?;
        }
        self.rearm = waiting;
        self.submit()
    }

    /// Arms the receive of a connection, unless it is no longer watched.
    fn arm(&mut self, source: ConnectionKey) -> io::Result<()> {
        let watched = &mut self.watched[source.connection as usize];
        if watched.generation != source.generation || watched.fd < 0 {
            return Ok(());
        }
        watched.armed_at = self.used_at;
        let fd = watched.fd;
        self.push(Submission::Receive { fd, user_data: source.to_bits() })
    }

    fn push(&mut self, submission: Submission) -> io::Result<()> {
        self.backlog.push(&mut self.kernel, submission)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.backlog.submit(&mut self.kernel)
    }
}

/// Whether a wait can gather events (Linux 6.12).
///
/// The binding does not expose this feature flag of the ring. Therefore a wait for 0 events is tried: an older kernel
/// rejects the arguments with EINVAL. A ring whose setup is allowed but not its use is found here as well.
fn can_gather(kernel: &mut impl RingKernel) -> io::Result<bool> {
    let mut tries = 0;
    loop {
        match kernel.wait(0, TRIAL_US, S) {
            Ok(()) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
            Err(error) if is_temporary(&error) && tries < ENTER_TRIES => tries += 1,
            Err(error) => return Err(io::Error::new(error.kind(), format!("io_uring_enter: {error}"))),
        }
    }
}

/// What follows the completion of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterRead {
    /// The receive is still armed.
    Armed,
    /// The receive has ended and must be armed again.
    Rearm,
    /// The same, because no buffer was free.
    OutOfBuffers,
    /// The connection delivers nothing more.
    Over,
}

/// Delivers one completion of a receive. `quiet_at` and `taken_at` are those of the [`Ring`].
#[inline]
fn deliver_read(
    completion: Completion<'_>,
    source: ConnectionKey,
    watched: &mut Watched,
    (quiet_at, taken_at): (Tick, Tick),
    deliver: &mut impl FnMut(ReceiveEvent<'_>),
) -> AfterRead {
    let mut deliver = |delivery| deliver(ReceiveEvent::Delivery(source, delivery));
    let empty_since = watched.empty_since(quiet_at);
    watched.empty_at = empty_since;
    match completion.result {
        CompletionResult::Bytes { bytes, timestamp_ns, emptied } => {
            if emptied {
                watched.empty_at = empty_since.max(taken_at);
            }
            // From then on, a quiet ring means that this socket is empty, too.
            watched.armed_at = if emptied && completion.more { Tick(0) } else { NOT_ARMED };
            deliver(Delivery::Bytes { bytes, timestamp_ns, empty_since, emptied });
            if completion.more { AfterRead::Armed } else { AfterRead::Rearm }
        }
        CompletionResult::NoBytes => {
            deliver(Delivery::Eof);
            AfterRead::Over
        }
        CompletionResult::Error(libc::ENOBUFS) => {
            watched.armed_at = NOT_ARMED;
            if completion.more { AfterRead::Armed } else { AfterRead::OutOfBuffers }
        }
        CompletionResult::Error(libc::ECANCELED) => AfterRead::Over,
        CompletionResult::Error(errno) => {
            deliver(Delivery::Error(errno));
            AfterRead::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A ring; `None` where io_uring is not available.
    fn ring() -> Option<Ring> {
        Ring::open(ReceivePlan { connections: 8 }).ok()
    }

    fn writable_slots(ring: &mut Ring) -> Vec<u32> {
        let mut slots = Vec::new();
        let deliver = &mut |event: ReceiveEvent<'_>| match event {
            ReceiveEvent::Writable { slot } => slots.push(slot),
            ReceiveEvent::Delivery(..) => panic!("no connection is watched"),
        };
        ring.poll(Tick(1), deliver).unwrap();
        slots
    }

    #[test]
    fn a_forgotten_wait_to_write_delivers_nothing() {
        let Some(mut ring) = ring() else { return };
        let (ready, _peer) = UnixStream::pair().unwrap();
        let (full, _other_peer) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 65_536]).is_ok() {}
        ring.await_writable(7, ready.as_raw_fd()).unwrap();
        assert_eq!(writable_slots(&mut ring), [7]);
        // The socket is ready, so the completion is posted before the slot gives up; then the slot waits for another one.
        ring.await_writable(7, ready.as_raw_fd()).unwrap();
        ring.forget_writable(7).unwrap();
        ring.await_writable(7, full.as_raw_fd()).unwrap();
        assert!(writable_slots(&mut ring).is_empty(), "the completion belongs to the wait before");
        ring.await_writable(7, ready.as_raw_fd()).unwrap();
        assert_eq!(writable_slots(&mut ring), [7]);
    }
}
