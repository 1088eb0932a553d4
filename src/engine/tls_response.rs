//! Responses over TLS: the decrypted bytes go to the answer.

use std::os::fd::OwnedFd;

use crate::api::answer::{Answer, Step};
use crate::net::tls::{Plain, Tls};
use crate::time::Tick;

/// Decrypts the bytes of one read, which arrived at `at`, and pushes the result into the answer. Replies of the session
/// are sent through `fd`; see [`Tls::receive`].
///
/// # Errors
/// One line with what is wrong with the session or with the proxy's response.
#[inline]
pub fn receive(
    tls: &mut Tls,
    bytes: &[u8],
    answer: &mut Answer,
    at: Tick,
    fd: Option<&OwnedFd>,
) -> Result<Step, String> {
    let mut step = Step::More;
    tls.receive(bytes, at, fd, &mut |plain| {
        step = match plain {
            Plain::Bytes(bytes) => answer.push(bytes, at),
            Plain::Eof => answer.push_eof(at),
        };
    })?;
    Ok(step)
}

/// Whether bytes that arrived between two responses belong to the session alone, such as session tickets, which servers
/// may send late, and updates of its keys. Other bytes mean that the connection cannot be used any more.
pub fn is_session_only(tls: &mut Tls, bytes: &[u8], at: Tick, fd: Option<&OwnedFd>) -> bool {
    let mut is_session_only = true;
    let received = tls.receive(bytes, at, fd, &mut |_| is_session_only = false);
    received.is_ok() && is_session_only
}
