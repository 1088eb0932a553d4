//! System calls on sockets that the standard library does not offer: connecting without blocking from a chosen
//! address, receive timestamps, and sends that never block.
//!
//! `unsafe` is used for three calls that rustix does not offer: socket options without a function, `TCP_INFO`, and
//! `recvmsg` with `SCM_TIMESTAMPING`, a control message that rustix drops.

#![expect(unsafe_code, reason = "rustix has no SO_TIMESTAMPING, no TCP_INFO and no raw control data")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::timestamp::{CONTROL_LEN, receive_timestamp_ns};

/// A connection that is established or in progress.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub fd: OwnedFd,
    /// The TCP handshake is in progress: wait until the socket is writable, then call [`take_error`].
    pub pending: bool,
}

/// Starts a TCP connection without blocking, from `source` when one is given. Receive timestamps are enabled before the
/// first segment can arrive.
///
/// # Errors
/// The error of the system call; of `bind`, with the name of the source address.
pub(crate) fn connect_tcp(to: SocketAddr, source: Option<IpAddr>) -> io::Result<Connecting> {
    let fd = new_socket(if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    enable_receive_timestamps(&fd)?;
    if let Some(source) = source {
        // The port is chosen at connect, by destination: otherwise bind would use up the whole port range at once.
        set_option(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        rustix::net::bind(&fd, &SocketAddr::new(source, 0)).map_err(|errno| bind_error(errno, source))?;
    }
    start(fd, &to)
}

/// Describes an error of `bind`. Because `bind` chooses no port here, "address not available" means that this machine
/// does not have the address.
fn bind_error(errno: Errno, source: IpAddr) -> io::Error {
    let error = io::Error::from(errno);
    let reason = match errno {
        Errno::ADDRNOTAVAIL => format!("{source} is not an address of this machine"),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot connect from {source}: {reason} (--source-address)"))
}

/// Starts a connection to a Unix stream socket without blocking.
///
/// # Errors
/// The error of the system call, or `InvalidInput` for a path that does not fit into a socket address.
pub(crate) fn connect_unix(path: &Path) -> io::Result<Connecting> {
    let address = SocketAddrUnix::new(path)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the socket's path is too long"))?;
    start(new_socket(AddressFamily::UNIX)?, &address)
}

fn start(fd: OwnedFd, to: &impl SocketAddrArg) -> io::Result<Connecting> {
    match rustix::net::connect(&fd, to) {
        Ok(()) => Ok(Connecting { fd, pending: false }),
        Err(Errno::INPROGRESS) => Ok(Connecting { fd, pending: true }),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the pending error of a socket, which shows whether connecting succeeded.
pub(crate) fn take_error(fd: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// Writes bytes without blocking and returns how many were accepted. `WouldBlock` if the socket's buffer is full.
#[inline]
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// Reads once without blocking. Returns the number of bytes read into `buffer` and the kernel's receive timestamp
/// (`CLOCK_REALTIME`, nanoseconds), if any. 0 bytes mean that the peer has closed its side.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    let mut control = [0u64; CONTROL_LEN / 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty_message();
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;
    // SAFETY: the message points to `buffer` and `control`, which are alive and have the given sizes.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut bytes = [0u8; CONTROL_LEN];
    for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    // Its type depends on the C library.
    let length: usize = message.msg_controllen as _;
    Ok((received as usize, receive_timestamp_ns(&bytes[..length.min(CONTROL_LEN)])))
}

/// A message header with all fields 0. A struct expression is impossible because some targets have private padding.
pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: `msghdr` holds integers and raw pointers, for which all zeros are valid.
    unsafe { std::mem::zeroed() }
}

/// What the kernel has received on a connection since it was established.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes in order, read or not.
    pub bytes: u64,
    /// Segments with data, retransmitted ones included; those that the network card or the kernel has merged on the way
    /// count as several. Wraps around.
    pub segments: u32,
}

/// Reads what the kernel has received, both numbers at one time; `None` if the socket is not TCP, or before Linux 4.6.
pub(crate) fn received(fd: &OwnedFd) -> Option<Received> {
    // `tcpi_bytes_received` and `tcpi_data_segs_in` of `struct tcp_info`, whose fields the kernel's ABI fixes. The types
    // of the C libraries end before them.
    const BYTES: usize = 128;
    const SEGMENTS: usize = 152;
    const LEN: usize = SEGMENTS + 4;
    let mut info = [0u8; LEN];
    let mut length = LEN as libc::socklen_t;
    // SAFETY: `info` has `length` bytes, of which the kernel writes at most so many.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    if result < 0 || (length as usize) < LEN {
        return None;
    }
    Some(Received {
        bytes: u64::from_ne_bytes(info[BYTES..BYTES + 8].try_into().ok()?),
        segments: u32::from_ne_bytes(info[SEGMENTS..].try_into().ok()?),
    })
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Enables the kernel's receive timestamps of a socket.
pub(crate) fn enable_receive_timestamps(fd: &OwnedFd) -> io::Result<()> {
    // Transmit timestamps are requested with the bytes they are of; they come without a copy of these.
    let flags =
        libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags as libc::c_int)
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a C int and `length` is its size.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
/// Whether nothing accepts connections there: the port is closed, or the Unix socket does not exist.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_counts_what_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_nodelay(true).unwrap();
        let fd = OwnedFd::from(near.try_clone().unwrap());
        assert_eq!(received(&fd), Some(Received { bytes: 0, segments: 0 }));
        for (text, so_far) in [("abc", Received { bytes: 3, segments: 1 }), ("de", Received { bytes: 5, segments: 2 })]
        {
            far.write_all(text.as_bytes()).unwrap();
            near.read_exact(&mut vec![0; text.len()]).unwrap();
            assert_eq!(received(&fd), Some(so_far));
        }
        let (other, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(received(&OwnedFd::from(other)), None);
    }
}
