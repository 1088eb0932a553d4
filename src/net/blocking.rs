//! Sockets for code that may block: readiness with a timeout, and writes that return when everything is written.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::tls::Tls;
use crate::time::S;

/// Converts nanoseconds to the timeout of a `poll`.
pub fn timeout(wait_ns: u64) -> Timespec {
    Timespec { tv_sec: (wait_ns / S) as i64, tv_nsec: (wait_ns % S) as _ }
}

/// Waits until the socket is ready for `flags`, at most `wait_ns` nanoseconds; returns whether it is.
pub(crate) fn wait_ready(socket: &OwnedFd, flags: PollFlags, wait_ns: u64) -> bool {
    poll(&mut [PollFd::new(socket, flags)], Some(&timeout(wait_ns))).is_ok_and(|ready| ready > 0)
}

/// Writes all of `bytes` to a blocking socket.
pub(crate) fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes `bytes` through a TLS session, after everything that the session has queued.
pub(crate) fn send_encrypted(socket: &OwnedFd, tls: &mut Tls, bytes: &[u8]) -> io::Result<()> {
    tls.encrypt(bytes).map_err(io::Error::other)?;
    while !tls.flush(socket)? {
        wait_ready(socket, PollFlags::OUT, S);
    }
    Ok(())
}
