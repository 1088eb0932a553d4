//! A socket of a connection: the kernel's, or one that a test simulates.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(feature = "internals")]
use std::task::{Poll, Waker};

use crate::net::socket::{Connecting, Received, received, send, take_error};

/// A connected or connecting socket. It is closed when it is dropped.
pub enum Socket {
    Kernel(OwnedFd),
    #[cfg(feature = "internals")]
    Simulated(Box<dyn SimulatedSocket>),
}

/// A socket whose connection is established or in progress.
pub struct Opening {
    pub socket: Socket,
    /// The connection is in progress: wait until the socket is writable, then call [`Socket::take_error`].
    pub pending: bool,
}

/// A socket of a simulated kernel.
#[cfg(feature = "internals")]
pub trait SimulatedSocket {
    /// The number by which submissions name it.
    fn number(&self) -> RawFd;

    /// # Errors
    /// Those of [`Socket::send`].
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// # Errors
    /// Those of [`Socket::take_error`].
    fn take_error(&self) -> io::Result<()>;

    /// Whether the socket is writable; if not, `waker` is woken when it may be.
    fn is_writable(&self, waker: &Waker) -> bool;

    /// What its kernel has received.
    fn received(&self) -> Received;
}

impl Socket {
    /// The number by which the receive ring names it.
    pub(crate) fn raw(&self) -> RawFd {
        match self {
            Socket::Kernel(fd) => fd.as_raw_fd(),
            #[cfg(feature = "internals")]
            Socket::Simulated(socket) => socket.number(),
        }
    }

    /// The descriptor.
    ///
    /// # Errors
    /// A simulated socket has none.
    pub(crate) fn fd(&self) -> io::Result<&OwnedFd> {
        match self {
            Socket::Kernel(fd) => Ok(fd),
            #[cfg(feature = "internals")]
            Socket::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes bytes without blocking and returns how many were accepted. `WouldBlock` if the socket's buffer is full.
    #[inline]
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Kernel(fd) => send(fd, bytes),
            #[cfg(feature = "internals")]
            Socket::Simulated(socket) => socket.send(bytes),
        }
    }

    /// Waits until the socket is connected, has room, or has failed. For receive paths that do not deliver this.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Socket::Kernel(fd) => {
                // monoio awaits any descriptor through a stream type; only its readiness is used.
                let copy = std::os::unix::net::UnixStream::from(fd.try_clone()?);
                monoio::net::UnixStream::from_std(copy)?.writable(false).await
            }
            #[cfg(feature = "internals")]
            Socket::Simulated(socket) => {
                std::future::poll_fn(|context| match socket.is_writable(context.waker()) {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                })
                .await
            }
        }
    }

    /// What the kernel has received; `None` if it does not count that.
    pub(crate) fn received(&self) -> Option<Received> {
        match self {
            Socket::Kernel(fd) => received(fd),
            #[cfg(feature = "internals")]
            Socket::Simulated(socket) => Some(socket.received()),
        }
    }

    /// Returns the pending error, which shows whether connecting succeeded.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        match self {
            Socket::Kernel(fd) => take_error(fd),
            #[cfg(feature = "internals")]
            Socket::Simulated(socket) => socket.take_error(),
        }
    }
}

impl From<Connecting> for Opening {
    fn from(connecting: Connecting) -> Opening {
        Opening { socket: Socket::Kernel(connecting.fd), pending: connecting.pending }
    }
}
