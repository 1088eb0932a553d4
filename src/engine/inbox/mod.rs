//! Bytes and their arrival instants, below the task layer: one inbox a worker drains every connection of that worker.
//!
//! Two ways of the same surface: [`ring`] (io_uring multishot receives into one shared buffer ring) and [`epoll`] (for
//! kernels and containers that forbid io_uring). Both hand out the kernel's receive stamp with the bytes. The pump sleeps
//! in the ring itself; the epoll set has a descriptor that it awaits through monoio.

pub mod epoll;
pub mod ring;
pub mod socket;
pub mod stamp;

use crate::finding::Finding;
use std::io;
use std::os::fd::RawFd;

/// A connection as the inbox knows it: the slot in the worker's pool, and which of the slot's successive connections.
/// What arrives for an earlier generation is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub slot: u32,
    /// Below [`Source::GENERATIONS`].
    pub generation: u32,
}

impl Source {
    /// Generations wrap here: the ring keeps two bits of its 64 beside slot and generation.
    pub const GENERATIONS: u32 = 1 << 30;
}

/// One thing that happened on a connection.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// Bytes arrived; `stamp_ns` is the kernel's receive stamp in nanoseconds of `CLOCK_REALTIME`.
    Bytes { bytes: &'a [u8], stamp_ns: Option<u64> },
    /// The peer closed its side.
    Eof,
    /// The connection failed with this `errno`.
    Error(i32),
}

/// One thing that was reaped.
#[derive(Debug)]
pub enum Event<'a> {
    Delivery(Source, Delivery<'a>),
    /// The socket that this lane waits to write to is ready, or has failed.
    Writable {
        lane: u32,
    },
}

/// The receiving half of all connections of a worker.
pub enum Inbox {
    Ring(Box<ring::Ring>),
    Epoll(Box<epoll::Epoll>),
}

/// What an inbox has to be ready for.
#[derive(Clone, Copy, Debug)]
pub struct InboxPlan {
    /// Connections at the same time.
    pub connections: usize,
}

impl Inbox {
    /// The ring where the kernel has all it needs, else (or when forced) epoll. With the fallback comes the note about it.
    pub fn open(plan: InboxPlan, force_fallback: bool) -> io::Result<(Inbox, Option<Finding>)> {
        let note = if force_fallback {
            Finding::EpollRequested
        } else {
            match ring::Ring::open(plan) {
                Ok(ring) => return Ok((Inbox::Ring(Box::new(ring)), None)),
                Err(error) => Finding::EpollInstead { reason: error.to_string() },
            }
        };
        Ok((Inbox::Epoll(Box::new(epoll::Epoll::open()?)), Some(note)))
    }

    /// Begins to receive on a connected socket.
    pub fn watch(&mut self, source: Source, fd: RawFd) -> io::Result<()> {
        match self {
            Inbox::Ring(ring) => ring.watch(source, fd),
            Inbox::Epoll(epoll) => epoll.watch(source, fd),
        }
    }

    /// Stops receiving on a socket that is about to be closed.
    pub fn forget(&mut self, source: Source, fd: RawFd) -> io::Result<()> {
        match self {
            Inbox::Ring(ring) => ring.forget(source),
            Inbox::Epoll(epoll) => epoll.forget(fd),
        }
    }

    /// Hands out everything that has arrived, in order, and returns how many reads that were.
    pub fn reap(&mut self, deliver: &mut impl FnMut(Event<'_>)) -> io::Result<usize> {
        match self {
            Inbox::Ring(ring) => ring.reap(deliver),
            Inbox::Epoll(epoll) => epoll.reap(deliver),
        }
    }

    /// How often the shared buffers ran out; each time the stamps were kept and the reads delayed.
    pub fn buffer_shortages(&self) -> u64 {
        match self {
            Inbox::Ring(ring) => ring.shortages,
            Inbox::Epoll(_) => 0,
        }
    }
}
