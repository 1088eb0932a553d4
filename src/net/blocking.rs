//! Sockets for code that may block: readiness with a timeout, and writes that return when everything is written, or when
//! their caller gives up.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::tls::Tls;
use crate::time::{MS, S};

/// Converts nanoseconds to the timeout of a `poll`.
pub fn timeout(wait_ns: u64) -> Timespec {
    Timespec { tv_sec: (wait_ns / S) as i64, tv_nsec: (wait_ns % S) as _ }
}

/// Waits until the socket is ready for `flags`, at most `wait_ns` nanoseconds; returns whether it is.
pub(crate) fn wait_ready(socket: &OwnedFd, flags: PollFlags, wait_ns: u64) -> bool {
    poll(&mut [PollFd::new(socket, flags)], Some(&timeout(wait_ns))).is_ok_and(|ready| ready > 0)
}

/// How often a wait checks whether it is over.
const CHECK_PERIOD_NS: u64 = 20 * MS;

/// Waits until the socket is ready for `flags` or `is_over` returns true; returns whether it is ready.
pub(crate) fn wait_unless(socket: &OwnedFd, flags: PollFlags, is_over: &dyn Fn() -> bool) -> bool {
    while !wait_ready(socket, flags, CHECK_PERIOD_NS) {
        if is_over() {
            return false;
        }
    }
    true
}

/// Writes all of `bytes`. If the peer takes no more until `is_over` returns true, the error is `TimedOut`.
pub(crate) fn send_all(socket: &OwnedFd, mut bytes: &[u8], is_over: &dyn Fn() -> bool) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if wait_unless(socket, PollFlags::OUT, is_over) => {}
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes `bytes` through a TLS session as [`send_all`] does, after everything that the session has queued.
pub(crate) fn send_encrypted(
    socket: &OwnedFd,
    tls: &mut Tls,
    bytes: &[u8],
    is_over: &dyn Fn() -> bool,
) -> io::Result<()> {
    tls.encrypt(bytes).map_err(io::Error::other)?;
    while !tls.flush(socket)? {
        if !wait_unless(socket, PollFlags::OUT, is_over) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let (here, _there) = UnixStream::pair().unwrap();
        let checks = Cell::new(0);
        let is_over = || {
            checks.set(checks.get() + 1);
            checks.get() == 3
        };
        let sent = send_all(&OwnedFd::from(here), &vec![0; 64 << 20], &is_over);
        assert_eq!((sent.unwrap_err().kind(), checks.get()), (io::ErrorKind::TimedOut, 3));
    }
}
