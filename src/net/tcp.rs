//! What the kernel reports of a TCP connection: when it sent a request, when the peer acknowledged it, round-trip times and
//! retransmissions.
//!
//! `unsafe` is used for three calls that rustix does not offer: `sendmsg` with `SO_TIMESTAMPING` as control data, `recvmsg`
//! from the error queue with its control data, and `TCP_INFO`.

#![expect(unsafe_code, reason = "rustix has no SO_TIMESTAMPING, no raw control data, and no TCP_INFO")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket::empty_message;
use super::timestamp::{CONTROL_LEN, receive_timestamp_ns};
use crate::time::US;

/// Control data of one `u32`: a header (16) and the value, padded.
const FLAGS_CONTROL_LEN: usize = 24;
/// Control data of a transmit timestamp: that of a receive timestamp, and an extended error (16 + 16, with an address of
/// at most 28, padded).
const ERROR_CONTROL_LEN: usize = CONTROL_LEN + 64;
/// `struct tcp_info` up to `tcpi_snd_wnd`.
const INFO_LEN: usize = 232;

/// Kinds of transmit timestamps, `ee_info` of an extended error.
const STAMP_SENT: u32 = 0;
const STAMP_ACKNOWLEDGED: u32 = 2;
/// `SO_EE_ORIGIN_TIMESTAMPING`.
const ORIGIN_TIMESTAMPING: u8 = 4;

/// The transmit timestamps of the last bytes that were sent with [`send_stamped`], nanoseconds of `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransmitStamps {
    /// The kernel handed the last segment to the network device.
    pub sent_ns: Option<u64>,
    /// The acknowledgement of the last byte arrived. The peer may have delayed it.
    pub acknowledged_ns: Option<u64>,
}

/// Figures of a TCP connection since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpFigures {
    /// The smoothed round-trip time of segments and their acknowledgements, which the peer may delay.
    pub rtt_ns: Option<u64>,
    /// The minimum of the last minutes; the handshake counts.
    pub min_rtt_ns: Option<u64>,
    /// Segments sent again, those of the handshake included.
    pub retransmitted: u32,
    /// Segments received out of order, because one before was lost or late.
    pub out_of_order: u32,
}

/// Writes bytes without blocking, as [`super::socket::send`] does, and requests transmit timestamps for the last byte that is
/// accepted.
///
/// # Errors
/// Those of `send`; also if the socket has no transmit timestamps.
pub(crate) fn send_stamped(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let mut control = [0u64; FLAGS_CONTROL_LEN / 8];
    let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_ACK;
    // A `cmsghdr` (length, level, type) and the flags.
    control[0] = 20;
    let header = [libc::SOL_SOCKET.to_ne_bytes(), libc::SO_TIMESTAMPING.to_ne_bytes()];
    let mut word = [0; 8];
    word[..4].copy_from_slice(&header[0]);
    word[4..].copy_from_slice(&header[1]);
    control[1] = u64::from_ne_bytes(word);
    word = [0; 8];
    word[..4].copy_from_slice(&flags.to_ne_bytes());
    control[2] = u64::from_ne_bytes(word);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = empty_message();
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = FLAGS_CONTROL_LEN as _;
    // SAFETY: the message points to `bytes`, which the kernel only reads, and to `control`; both are alive and have the
    // given sizes.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Adds the transmit timestamps in the socket's error queue. The first time of sending counts: segments that are sent again
/// have one each.
pub(crate) fn take_stamps(fd: &OwnedFd, stamps: &mut TransmitStamps) {
    loop {
        let mut control = [0u64; ERROR_CONTROL_LEN / 8];
        let mut message = empty_message();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = ERROR_CONTROL_LEN as _;
        // SAFETY: the message has no buffer for data, and points to `control`, which is alive and has the given size.
        let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        if received < 0 {
            // The queue is empty. Other errors end the connection elsewhere.
            return;
        }
        let mut bytes = [0u8; ERROR_CONTROL_LEN];
        for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        let length: usize = message.msg_controllen as _;
        match transmit_stamp(&bytes[..length.min(ERROR_CONTROL_LEN)]) {
            Some((STAMP_SENT, ns)) => {
                stamps.sent_ns.get_or_insert(ns);
            }
            Some((STAMP_ACKNOWLEDGED, ns)) => {
                stamps.acknowledged_ns = Some(ns);
            }
            _ => {}
        }
    }
}

/// The kind of a transmit timestamp and its time, from the control data of a message of the error queue.
fn transmit_stamp(mut control: &[u8]) -> Option<(u32, u64)> {
    let (mut kind, mut at_ns) = (None, None);
    while control.len() >= 16 {
        let length = u64::from_ne_bytes(control[..8].try_into().ok()?);
        let length = usize::try_from(length).ok().filter(|&length| length >= 16 && length <= control.len())?;
        let level = i32::from_ne_bytes(control[8..12].try_into().ok()?);
        let data = &control[16..length];
        if level == libc::SOL_SOCKET {
            at_ns = at_ns.or(receive_timestamp_ns(&control[..length]));
        } else if data.len() >= 12 && data[4] == ORIGIN_TIMESTAMPING {
            // `struct sock_extended_err`: errno (4), origin, type, code and padding (1 each), info (4).
            kind = Some(u32::from_ne_bytes(data[8..12].try_into().ok()?));
        }
        control = &control[length.next_multiple_of(8).min(control.len())..];
    }
    kind.zip(at_ns)
}

/// The figures of a connection; `None` if it is not one of TCP.
pub(crate) fn tcp_figures(fd: &OwnedFd) -> Option<TcpFigures> {
    let mut info = [0u8; INFO_LEN];
    let mut length = INFO_LEN as libc::socklen_t;
    // SAFETY: `info` is alive and has the given size, which the kernel does not exceed.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    (result == 0).then(|| figures(&info[..(length as usize).min(INFO_LEN)]))
}

/// Reads `struct tcp_info`, of which older kernels return a shorter part.
fn figures(info: &[u8]) -> TcpFigures {
    let field = |offset: usize| {
        let bytes: [u8; 4] = info.get(offset..offset + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let time_ns = |offset: usize| field(offset).filter(|&us| us > 0 && us < u32::MAX).map(|us| u64::from(us) * US);
    TcpFigures {
        rtt_ns: time_ns(68),
        min_rtt_ns: time_ns(148),
        retransmitted: field(100).unwrap_or(0),
        out_of_order: field(224).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// A connection of which receive timestamps are enabled, and its peer.
    fn connection() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connecting = super::super::socket::connect_tcp(listener.local_addr().unwrap(), None).unwrap();
        (connecting.fd, listener.accept().unwrap().0)
    }

    fn unix_ns() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    }

    #[test]
    fn a_request_is_stamped_when_it_is_sent_and_when_it_is_acknowledged() {
        let (fd, mut peer) = connection();
        let before_ns = unix_ns();
        assert_eq!(send_stamped(&fd, b"0123456789").unwrap(), 10);
        let written_ns = unix_ns();
        let mut received = [0; 10];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"0123456789");
        peer.write_all(b"answer").unwrap();
        let mut stamps = TransmitStamps::default();
        while stamps.acknowledged_ns.is_none() {
            std::thread::sleep(Duration::from_millis(1));
            take_stamps(&fd, &mut stamps);
        }
        let (sent_ns, acknowledged_ns) = (stamps.sent_ns.unwrap(), stamps.acknowledged_ns.unwrap());
        assert!(before_ns <= sent_ns && sent_ns <= written_ns, "{before_ns} {sent_ns} {written_ns}");
        assert!(sent_ns <= acknowledged_ns && acknowledged_ns <= unix_ns());
        let mut none = TransmitStamps::default();
        take_stamps(&fd, &mut none);
        assert_eq!(none, TransmitStamps::default(), "stamps are taken once");
        let figures = tcp_figures(&fd).unwrap();
        assert!(figures.min_rtt_ns.unwrap() <= figures.rtt_ns.unwrap());
        assert_eq!((figures.retransmitted, figures.out_of_order), (0, 0));
    }

    #[test]
    fn other_sockets_have_neither_stamps_nor_figures() {
        let (ours, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = OwnedFd::from(ours);
        assert!(send_stamped(&fd, b"x").is_err());
        assert_eq!(tcp_figures(&fd), None);
    }

    #[test]
    fn shorter_answers_of_older_kernels_have_what_they_contain() {
        let mut info = [0u8; INFO_LEN];
        for (offset, value) in [(68, 250u32), (100, 3), (148, u32::MAX), (224, 5)] {
            info[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let whole = TcpFigures { rtt_ns: Some(250_000), min_rtt_ns: None, retransmitted: 3, out_of_order: 5 };
        assert_eq!(figures(&info), whole);
        assert_eq!(figures(&info[..104]), TcpFigures { out_of_order: 0, ..whole });
        assert_eq!(figures(&[]), TcpFigures::default());
    }

    #[test]
    fn control_data_of_other_errors_is_no_stamp() {
        assert_eq!(transmit_stamp(&[]), None);
        assert_eq!(transmit_stamp(&[7; 40]), None);
        let mut refused = vec![0; 32];
        refused[..8].copy_from_slice(&32u64.to_ne_bytes());
        refused[8..12].copy_from_slice(&libc::SOL_IP.to_ne_bytes());
        assert_eq!(transmit_stamp(&refused), None);
    }
}
