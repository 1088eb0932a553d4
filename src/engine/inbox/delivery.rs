//! What the inbox delivers, and for which connection.

/// A connection as the inbox knows it: the slot in the worker's pool, and which of the slot's successive connections.
/// What arrives for an earlier generation is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub slot: u32,
    /// Below [`Source::GENERATIONS`].
    pub generation: u32,
}

impl Source {
    /// Generations wrap here: the ring keeps two bits of its 64 beside slot and generation.
    pub const GENERATIONS: u32 = 1 << 30;

    /// Slot and generation in one number, which completions and events carry back.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`Source::to_bits`].
    pub fn from_bits(bits: u64) -> Source {
        Source { slot: bits as u32, generation: (bits >> 32) as u32 }
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
    /// The socket that this lane waits to write to is ready, or has failed.
    Writable {
        lane: u32,
    },
}

/// What an inbox has to be ready for.
#[derive(Clone, Copy, Debug)]
pub struct InboxPlan {
    /// Connections at the same time.
    pub connections: usize,
}
