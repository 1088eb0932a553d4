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
        step == Step::More
    })?;
    Ok(step)
}
