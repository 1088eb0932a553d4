//! The receive path: receives the bytes of all connections of a worker, with their kernel timestamps, without tasks.
//!
//! There are two implementations with the same interface: [`ring`] (io_uring multishot receives into one shared buffer
//! ring) and [`epoll`] (for kernels and containers that forbid io_uring). The event loop waits in the ring itself, and
//! on the descriptor of the epoll set through monoio.

mod buffers;
pub mod delivery;
pub mod epoll;
pub mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::finding::Finding;

use delivery::{ConnectionKey, ReceiveEvent, ReceivePlan};

/// The receive path of a worker.
pub enum ReceivePath {
    Ring(Box<ring::Ring>),
    Epoll(Box<epoll::Epoll>),
}

impl ReceivePath {
    /// Opens the ring if the kernel supports it, else (or if forced) epoll, with the finding about this fallback.
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

    /// Starts to receive on a connected socket.
    pub(crate) fn watch(&mut self, source: ConnectionKey, socket: &Rc<OwnedFd>) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.watch(source, socket),
            ReceivePath::Epoll(epoll) => epoll.watch(source, socket),
        }
    }

    /// Stops receiving on a socket that is about to be closed.
    pub(crate) fn forget(&mut self, source: ConnectionKey) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.forget(source),
            ReceivePath::Epoll(epoll) => epoll.forget(source),
        }
    }

    /// Delivers everything that has arrived, in order, and returns the number of reads.
    pub(crate) fn poll(&mut self, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> io::Result<usize> {
        match self {
            ReceivePath::Ring(ring) => ring.poll(deliver),
            ReceivePath::Epoll(epoll) => epoll.poll(deliver),
        }
    }

    /// How often the shared buffers ran out. This delays reads but does not change timestamps.
    pub fn buffer_shortages(&self) -> u64 {
        match self {
            ReceivePath::Ring(ring) => ring.shortages,
            ReceivePath::Epoll(_) => 0,
        }
    }
}
