//! What the receive path delivers, and for which connection.

/// A connection as the receive path knows it: its number among the worker's connections, and which of the successive
/// connections with this number it is. What arrives for an earlier generation is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub connection: u32,
    /// Below [`Source::GENERATIONS`].
    pub generation: u32,
}

impl Source {
    /// Generations wrap here: the ring keeps two bits of its 64 beside number and generation.
    pub const GENERATIONS: u32 = 1 << 30;

    /// Connection and generation in one number, which completions and events carry back.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.connection)
    }

    /// The inverse of [`Source::to_bits`].
    pub fn from_bits(bits: u64) -> Source {
        Source { connection: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// One thing that happened on a connection.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// Bytes arrived; `stamp_ns` is the kernel's receive timestamp in nanoseconds of `CLOCK_REALTIME`.
    Bytes { bytes: &'a [u8], stamp_ns: Option<u64> },
    /// The peer closed its side.
    Eof,
    /// The connection failed with this `errno`.
    Error(i32),
}

/// One completion, or one ready socket.
#[derive(Debug)]
pub enum Event<'a> {
    Delivery(Source, Delivery<'a>),
    /// The socket that this slot waits to write to is ready, or has failed.
    Writable {
        slot: u32,
    },
}

/// The size that a receive path is set up for.
#[derive(Clone, Copy, Debug)]
pub struct ReceivePlan {
    /// Connections at the same time.
    pub connections: usize,
}
