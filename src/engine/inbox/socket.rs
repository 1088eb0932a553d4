//! System calls on sockets that the standard library does not offer: connecting without blocking from a chosen
//! address, receive stamps, and sends that never wait.

#![expect(unsafe_code, reason = "sockets of all families, and the kernel's receive stamps")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::stamp::{CONTROL_LEN, receive_stamp_ns};

/// A connection that is made or under way.
#[derive(Debug)]
pub struct Connecting {
    pub fd: OwnedFd,
    /// The handshake is not over: wait until the socket is writable, then ask [`take_error`].
    pub pending: bool,
}

/// Starts a TCP connection without blocking, from `source` when one is given. Receive stamps are on before the
/// first segment can arrive.
pub fn connect_tcp(to: SocketAddr, source: Option<IpAddr>) -> io::Result<Connecting> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = new_socket(family)?;
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    enable_receive_stamps(&fd)?;
    if let Some(source) = source {
        // The port is chosen at connect, by destination: otherwise bind would use up the whole port range at once.
        set_option(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let (address, length) = raw_address(SocketAddr::new(source, 0));
        // SAFETY: `address` is an initialised socket address of `length` bytes.
        let bound = check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) });
        bound.map_err(|error| not_bound(error, source))?;
    }
    let (address, length) = raw_address(to);
    // SAFETY: as above.
    start(fd, |raw| unsafe { libc::connect(raw, (&raw const address).cast(), length) })
}

/// No port is looked for here, so an address that is not available is one that this machine does not have.
fn not_bound(error: io::Error, source: IpAddr) -> io::Error {
    let words = match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => format!("{source} is not an address of this machine"),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot connect from {source}: {words} (--source-address)"))
}

/// Starts a connection to a Unix stream socket without blocking.
pub fn connect_unix(path: &Path) -> io::Result<Connecting> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all zeros is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket's path is too long"));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let fd = new_socket(libc::AF_UNIX)?;
    // SAFETY: `address` is initialised and `length` is its size.
    start(fd, |raw| unsafe { libc::connect(raw, (&raw const address).cast(), length) })
}

fn start(fd: OwnedFd, connect: impl FnOnce(RawFd) -> i32) -> io::Result<Connecting> {
    match check(connect(fd.as_raw_fd())) {
        Ok(()) => Ok(Connecting { fd, pending: false }),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(Connecting { fd, pending: true }),
        Err(error) => Err(error),
    }
}

/// The pending error of a socket, which tells whether connecting succeeded.
pub fn take_error(fd: &OwnedFd) -> io::Result<()> {
    let mut error: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are valid for the sizes given.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut length)
    };
    check(result)?;
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Hands bytes to the kernel without waiting. `WouldBlock` when the socket's buffer is full.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is valid for its length.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// One receive without waiting: bytes read into `buffer`, and the kernel's stamp (`CLOCK_REALTIME`, nanoseconds).
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    let mut control = [0u64; CONTROL_LEN / 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN;
    // SAFETY: the message points at `buffer` and `control`, both alive and of the sizes given.
    let received = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut bytes = [0u8; CONTROL_LEN];
    for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    let length = message.msg_controllen.min(CONTROL_LEN);
    Ok((received as usize, receive_stamp_ns(&bytes[..length])))
}

fn new_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn enable_receive_stamps(fd: &OwnedFd) -> io::Result<()> {
    let flags = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags as libc::c_int)
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a C int and `length` is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) })
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage, which is large and aligned enough for either family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: see above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: see above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
