//! The receive path: receives the bytes of all connections of a worker, with their kernel timestamps, without tasks.
//!
//! There are two implementations with the same interface: [`ring`] (io_uring multishot receives into one shared buffer
//! ring) and [`epoll`] (for kernels and containers that forbid io_uring). The event loop waits in the ring itself, and
//! on the descriptor of the epoll set through monoio.

mod buffers;
pub mod delivery;
pub mod epoll;
mod io_uring;
pub mod kernel;
pub mod ring;
#[cfg(feature = "internals")]
pub mod simulated;
#[cfg(feature = "internals")]
pub mod simulated_set;
mod submissions;

use std::io;
use std::rc::Rc;

use super::socket::Socket;
use crate::finding::Finding;
use crate::time::Tick;

use delivery::{ConnectionKey, ReceiveEvent, ReceivePlan};

/// The receive path of a worker.
pub enum ReceivePath {
    Ring(Box<ring::Ring>),
    Epoll(Box<epoll::Epoll>),
    /// A ring on a simulated kernel.
    #[cfg(feature = "internals")]
    Simulated(Box<ring::Ring<simulated::Kernel>>),
    /// Epoll on a simulated set.
    #[cfg(feature = "internals")]
    SimulatedEpoll(Box<epoll::Epoll<simulated_set::Set>>),
}

impl ReceivePath {
    /// Opens the ring if the kernel supports it, else (or if forced) epoll, with the finding about this fallback.
    pub fn open(plan: ReceivePlan, force_fallback: bool) -> io::Result<(ReceivePath, Option<Finding>)> {
        if force_fallback {
            return Ok((ReceivePath::open_epoll("not used")?, Some(Finding::EpollRequested)));
        }
        match ring::Ring::open(plan) {
            Ok(ring) => Ok((ReceivePath::Ring(Box::new(ring)), None)),
            Err(error) => {
                let reason = error.to_string();
                Ok((ReceivePath::open_epoll(&reason)?, Some(Finding::EpollInstead { reason })))
            }
        }
    }

    /// Opens epoll. `without_ring` says why there is no ring.
    ///
    /// # Errors
    /// Neither can be used.
    pub(crate) fn open_epoll(without_ring: &str) -> io::Result<ReceivePath> {
        let epoll = epoll::Epoll::open().map_err(|error| {
            let text = format!(
                "sockets can be read neither with io_uring ({without_ring}) nor with epoll ({error}): allow one of them, \
                 for example in the seccomp profile of the container"
            );
            io::Error::new(error.kind(), text)
        })?;
        Ok(ReceivePath::Epoll(Box::new(epoll)))
    }

    /// Whether all that a poll delivers was read before its first delivery: each read of epoll is a later one.
    pub(crate) fn delivers_batches(&self) -> bool {
        match self {
            ReceivePath::Ring(_) => true,
            ReceivePath::Epoll(_) => false,
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(_) => true,
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(_) => false,
        }
    }

    /// Starts to receive on a connected socket.
    pub(crate) fn watch(&mut self, source: ConnectionKey, socket: &Rc<Socket>) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.watch(source, socket.raw()),
            ReceivePath::Epoll(epoll) => epoll.watch(source, socket),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.watch(source, socket.raw()),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(epoll) => epoll.watch(source, socket),
        }
    }

    /// Stops receiving on a socket that is about to be closed.
    pub(crate) fn forget(&mut self, source: ConnectionKey) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.forget(source),
            ReceivePath::Epoll(epoll) => epoll.forget(source),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.forget(source),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(epoll) => epoll.forget(source),
        }
    }

    /// Delivers what has arrived, in order, and returns the number of reads; after many, the rest is left to the next poll
    /// ([`ReceivePath::has_more`]). `now` is the current time.
    pub(crate) fn poll(&mut self, now: Tick, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> io::Result<usize> {
        match self {
            ReceivePath::Ring(ring) => ring.poll(now, deliver),
            ReceivePath::Epoll(epoll) => epoll.poll(now, deliver),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.poll(now, deliver),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(epoll) => epoll.poll(now, deliver),
        }
    }

    /// Whether the last poll has left events to the next one.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            ReceivePath::Ring(ring) => ring.has_more(),
            ReceivePath::Epoll(epoll) => epoll.has_more,
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.has_more(),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(epoll) => epoll.has_more,
        }
    }

    /// Waits until something has arrived, at most until `until`; for the first `gather_ns` of that, one event is not
    /// enough. The event loop waits for the epoll set itself.
    pub(crate) fn wait(&mut self, now: Tick, until: Tick, gather_ns: u64) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.wait(now, until, gather_ns),
            ReceivePath::Epoll(_) => Ok(()),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.wait(now, until, gather_ns),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(epoll) => {
                epoll.wake_at(until)?;
                epoll.kernel().0.wait();
                Ok(())
            }
        }
    }

    /// Requests a [`ReceiveEvent::Writable`] for `slot` when the socket is connected, has room again, or has failed.
    /// Returns whether this receive path will deliver it: with epoll, the slot waits for the socket itself.
    pub(crate) fn await_writable(&mut self, slot: u32, socket: &Socket) -> io::Result<bool> {
        match self {
            ReceivePath::Ring(ring) => ring.await_writable(slot, socket.raw()).map(|()| true),
            ReceivePath::Epoll(_) => Ok(false),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.await_writable(slot, socket.raw()).map(|()| true),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(_) => Ok(false),
        }
    }

    /// Cancels the request of [`ReceivePath::await_writable`].
    pub(crate) fn forget_writable(&mut self, slot: u32) -> io::Result<()> {
        match self {
            ReceivePath::Ring(ring) => ring.forget_writable(slot),
            ReceivePath::Epoll(_) => Ok(()),
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.forget_writable(slot),
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(_) => Ok(()),
        }
    }

    /// How often the shared buffers ran out. This delays reads but does not change timestamps.
    pub fn buffer_shortages(&self) -> u64 {
        match self {
            ReceivePath::Ring(ring) => ring.shortages,
            ReceivePath::Epoll(_) => 0,
            #[cfg(feature = "internals")]
            ReceivePath::Simulated(ring) => ring.shortages,
            #[cfg(feature = "internals")]
            ReceivePath::SimulatedEpoll(_) => 0,
        }
    }
}
