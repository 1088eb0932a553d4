//! A UDP socket that receives packets with the kernel's timestamps, as times of this machine's monotonic clock.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::clock_packet::LENGTH;
use crate::net::socket::{enable_receive_timestamps, receive};
use crate::time::Tick;
use crate::time::clock::Clock;

/// The socket, and the clock of the thread that uses it.
pub(super) struct ClockSocket {
    pub socket: UdpSocket,
    /// The same socket.
    fd: OwnedFd,
    clock: Clock,
}

/// A received packet.
pub(super) struct Received {
    pub from: SocketAddr,
    pub at: Tick,
    /// One more than a packet has, so that longer ones are noticed.
    bytes: [u8; LENGTH + 1],
    length: usize,
}

impl Received {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl ClockSocket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<ClockSocket> {
        let fd: OwnedFd = socket.try_clone()?.into();
        enable_receive_timestamps(&fd)?;
        Ok(ClockSocket { socket, fd, clock: Clock::new() })
    }

    pub(super) fn now(&self) -> Tick {
        let now = self.clock.now();
        self.clock.maintain(now);
        now
    }

    /// The next packet; `None` if none comes in time.
    ///
    /// # Errors
    /// Those of the socket: after a packet to a port that nobody listens on, one is pending.
    pub(super) fn receive(&self, timeout: Duration) -> io::Result<Option<Received>> {
        let is_nothing = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
        };
        self.socket.set_read_timeout(Some(timeout))?;
        let mut bytes = [0; LENGTH + 1];
        // Only this thread reads: the packet that is looked at is the one that is read.
        let from = match self.socket.peek_from(&mut bytes) {
            Ok((_, from)) => from,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (length, stamp_ns) = match receive(&self.fd, &mut bytes) {
            Ok(received) => received,
            // Its checksum is wrong.
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now = self.now();
        // Without a timestamp, the packet came no later than now, which makes the interval wider but not wrong.
        let at = stamp_ns.and_then(|ns| self.clock.tick_from_kernel(ns, now, Tick(0))).unwrap_or(now);
        Ok(Some(Received { from, at, bytes, length }))
    }
}
