//! Bytes and their arrival times, below the task layer: one receive path per worker for all of its connections.
//!
//! There are two implementations with the same interface: [`ring`] (io_uring multishot receives into one shared buffer
//! ring) and [`epoll`] (for kernels and containers that forbid io_uring). Both deliver the kernel's receive timestamp
//! with the bytes. The event loop waits in the ring itself; the epoll set has a descriptor that it awaits through monoio.

mod buffers;
pub mod delivery;
pub mod epoll;
pub mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::finding::Finding;

use delivery::{Event, ReceivePlan, Source};

/// The receiving half of all connections of a worker.
pub enum ReceivePath {
    Ring(Box<ring::Ring>),
    Epoll(Box<epoll::Epoll>),
}

impl ReceivePath {
    /// The ring where the kernel has all it needs, else (or when forced) epoll. With the fallback comes the finding about it.
    pub fn open(plan: ReceivePlan, force_fallback: bool) -> io::Result<(ReceivePath, Option<Finding>)> {
        let note = if force_fallback {
            Finding::EpollRequested
        } else {
            match ring::Ring::open(plan) {
                Ok(ring) => return Ok((ReceivePath::Ring(Box::new(ring)), None)),
                Err(error) => Finding::EpollInstead { reason: error.to_string() },
            }
        };
        Ok((ReceivePath::Epoll(Box::new(epoll::Epoll::open()?)), Some(note)))
    }

    /// Begins to receive on a connected socket.
    pub fn watch(&mut self, source: Source, socket: &Rc<OwnedFd>) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.watch(source, socket),
            ReceivePath::Epoll(epoll) => epoll.watch(source, socket),
        }
    }

    /// Stops receiving on a socket that is about to be closed.
    pub fn forget(&mut self, source: Source) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.forget(source),
            ReceivePath::Epoll(epoll) => epoll.forget(source),
        }
    }

    /// Delivers everything that has arrived, in order, and returns how many reads that were.
    pub fn poll(&mut self, deliver: &mut impl FnMut(Event<'_>)) -> io::Result<usize> {
        match self {
            ReceivePath::Ring(ring) => ring.poll(deliver),
            ReceivePath::Epoll(epoll) => epoll.poll(deliver),
        }
    }

    /// How often the shared buffers ran out; each time the timestamps were kept and the reads delayed.
    pub fn buffer_shortages(&self) -> u64 {
        match self {
            ReceivePath::Ring(ring) => ring.shortages,
            ReceivePath::Epoll(_) => 0,
        }
    }
}
