//! One connection: input that is not parsed yet, and output that the socket has not accepted yet.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::clock::now;
use super::exchange::{Ending, Exchange};
use super::http::{self, Head, Refusal};
use crate::time::Tick;

/// Buffers larger than this are freed after a request, bytes.
const KEPT_BYTES: usize = 16 << 10;

/// The state of a connection.
pub(super) struct Connection {
    fd: OwnedFd,
    pub(super) number: u64,
    /// Distinguishes this connection's timers and events from those of earlier connections with the same index.
    pub(super) generation: u32,
    pub(super) exchange: Option<Box<Exchange>>,
    /// What to do with the connection after the last bytes of the response are sent.
    pub(super) ending: Option<Ending>,
    input: Vec<u8>,
    head: Option<Head>,
    /// When the first byte of the next request was read, and the time of the last read.
    first_read: Tick,
    last_read: Tick,
    unsent: Vec<u8>,
    unsent_from: usize,
}

/// The result of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Open,
    /// The peer closed its side, or the connection failed.
    Gone,
}

/// The result of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The socket is full; the rest is queued until it is writable.
    Blocked,
    Gone,
}

/// A complete request.
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) first: Tick,
    pub(super) last: Tick,
}

impl Connection {
    pub(super) fn new(fd: OwnedFd, number: u64, generation: u32) -> Connection {
        Connection {
            fd,
            number,
            generation,
            exchange: None,
            ending: None,
            input: Vec::new(),
            head: None,
            first_read: Tick(0),
            last_read: Tick(0),
            unsent: Vec::new(),
            unsent_from: 0,
        }
    }

    /// Whether a response is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.exchange.is_some() || self.ending.is_some()
    }

    /// Reads until the socket is empty. `scratch` is the loop's read buffer.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Read {
        loop {
            match recv(&self.fd, &mut *scratch, RecvFlags::empty()) {
                Ok((_, 0)) => return Read::Gone,
                Ok((_, bytes)) => {
                    self.last_read = now();
                    if self.input.is_empty() {
                        self.first_read = self.last_read;
                    }
                    self.input.extend_from_slice(&scratch[..bytes]);
                    // Limits the memory of pipelined requests.
                    if self.input.len() > 2 * http::MAX_BODY_BYTES {
                        return Read::Gone;
                    }
                }
                Err(Errno::AGAIN) => return Read::Open,
                Err(Errno::INTR) => {}
                Err(_) => return Read::Gone,
            }
        }
    }

    /// The next complete request, if there is one.
    pub(super) fn next_request(&mut self) -> Option<Result<Request, Refusal>> {
        if self.head.is_none() && !self.input.is_empty() {
            match http::read_head(&self.input) {
                Ok(head) => self.head = head,
                Err(refusal) => return Some(Err(refusal)),
            }
            if self.head.as_ref().is_some_and(|head| head.expects_continue) {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        let (head_bytes, body_bytes) = self.head.as_ref().map(|head| (head.head_bytes, head.body_bytes))?;
        let end = head_bytes + body_bytes;
        if self.input.len() < end {
            return None;
        }
        let head = self.head.take()?;
        let body = self.input[head_bytes..end].to_vec();
        let request = Request { head, body, first: self.first_read, last: self.last_read };
        self.input.drain(..end);
        self.first_read = self.last_read;
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES {
            self.input = Vec::new();
        }
        Some(Ok(request))
    }

    /// Sends bytes, or queues them behind bytes that are already queued.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Sent {
        if self.has_unsent() {
            self.unsent.extend_from_slice(bytes);
            return Sent::Blocked;
        }
        match push(&self.fd, bytes) {
            Ok(sent) if sent == bytes.len() => Sent::All,
            Ok(sent) => {
                self.unsent.extend_from_slice(&bytes[sent..]);
                Sent::Blocked
            }
            Err(_) => Sent::Gone,
        }
    }

    /// Sends the queued bytes.
    pub(super) fn flush(&mut self) -> Sent {
        if !self.has_unsent() {
            return Sent::All;
        }
        match push(&self.fd, &self.unsent[self.unsent_from..]) {
            Ok(sent) => {
                self.unsent_from += sent;
                if self.unsent_from < self.unsent.len() {
                    return Sent::Blocked;
                }
                self.unsent.clear();
                self.unsent.shrink_to(KEPT_BYTES);
                self.unsent_from = 0;
                Sent::All
            }
            Err(_) => Sent::Gone,
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent_from < self.unsent.len()
    }

    /// Closes with RST instead of FIN.
    pub(super) fn reset(self) {
        // Fails only if the connection is already closed.
        let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
    }
}

/// Writes until all bytes are sent or the socket is full. With edge-triggered polling, a writable event follows only
/// after a write has returned EAGAIN.
fn push(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send(fd, &bytes[sent..], SendFlags::NOSIGNAL) {
            Ok(more) => sent += more,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
