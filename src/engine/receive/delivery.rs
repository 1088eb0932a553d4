//! The events that the receive path delivers.

use crate::time::Tick;

/// Identifies a connection in the receive path: its number, and its generation among the successive connections with
/// this number. Deliveries for an earlier generation are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub connection: u32,
    /// Below [`ConnectionKey::GENERATIONS`].
    pub generation: u32,
}

impl ConnectionKey {
    /// Generations wrap around here, because the ring needs two of the 64 bits for itself.
    pub(crate) const GENERATIONS: u32 = 1 << 30;

    /// Connection and generation in one number, the user data of completions and epoll events.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.connection)
    }

    /// The inverse of [`ConnectionKey::to_bits`].
    pub(crate) fn from_bits(bits: u64) -> ConnectionKey {
        ConnectionKey { connection: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// Something that happened on a connection.
#[derive(Debug)]
pub(crate) enum Delivery<'a> {
    /// Bytes arrived, after `empty_since`, when the socket was last known to be empty. `timestamp_ns` is the kernel's
    /// receive timestamp of the last segment that the bytes are from, nanoseconds of `CLOCK_REALTIME`. `emptied`: these
    /// were all bytes of the socket, so that segment ends with them.
    Bytes { bytes: &'a [u8], timestamp_ns: Option<u64>, empty_since: Tick, emptied: bool },
    /// The peer closed its side.
    Eof,
    /// The connection failed with this `errno`.
    Error(i32),
}

/// One completion, or one ready socket.
#[derive(Debug)]
pub(crate) enum ReceiveEvent<'a> {
    Delivery(ConnectionKey, Delivery<'a>),
    /// The socket that this slot waits to write to is ready or has failed.
    Writable {
        slot: u32,
    },
}

/// The size of a receive path.
#[derive(Clone, Copy, Debug)]
pub struct ReceivePlan {
    /// Maximum number of concurrent connections.
    pub connections: usize,
}
