//! Whether the bytes of a read came in one segment: then all of them arrived at its timestamp, however many events they
//! are.
//!
//! The kernel counts the bytes and the segments of a connection, and the worker its bytes and its reads. A read that
//! begins with an empty socket takes at least one new segment. So the surplus of segments over such reads never becomes
//! smaller, and while it stays the same, each read has exactly one. The comparison is valid only while no byte is
//! unread. Retransmitted segments and segments that were merged on the way make the surplus larger, which only means
//! that a read is not recognized.

use crate::net::socket::Received;

/// The reads of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadCount {
    bytes: u64,
    /// Reads that began with an empty socket. Wraps around.
    reads: u32,
    /// The last read left bytes.
    is_partial: bool,
    /// Segments beyond the first of their read, at the last comparison.
    surplus: u32,
}

impl ReadCount {
    /// Counts a read. `emptied`: these were all bytes of the socket.
    #[inline]
    pub fn add(&mut self, bytes: usize, emptied: bool) {
        self.bytes += bytes as u64;
        self.reads = self.reads.wrapping_add(u32::from(!self.is_partial));
        self.is_partial = !emptied;
    }

    /// Whether the last read, with those before it that left bytes, is known to be of one segment. `received`: what the
    /// kernel has received since.
    pub fn is_one_segment(&mut self, received: Received) -> bool {
        if self.is_partial || received.bytes != self.bytes {
            return false;
        }
        let surplus = received.segments.wrapping_sub(self.reads);
        std::mem::replace(&mut self.surplus, surplus) == surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(bytes: u64, segments: u32) -> Received {
        Received { bytes, segments }
    }

    #[test]
    fn a_read_of_one_segment_is_recognized() {
        let mut reads = ReadCount::default();
        reads.add(10, true);
        reads.add(10, true);
        assert!(reads.is_one_segment(kernel(20, 2)));
        // Two segments in one read, then again one in each.
        reads.add(20, true);
        assert!(!reads.is_one_segment(kernel(40, 4)));
        reads.add(10, true);
        assert!(reads.is_one_segment(kernel(50, 5)));
        // An earlier read may have had the second segment: not known.
        reads.add(20, true);
        reads.add(10, true);
        assert!(!reads.is_one_segment(kernel(80, 8)));
    }

    #[test]
    fn unread_bytes_prove_nothing() {
        let mut reads = ReadCount::default();
        reads.add(20, true);
        assert!(!reads.is_one_segment(kernel(30, 3)), "a segment is not read yet");
        reads.add(10, true);
        assert!(!reads.is_one_segment(kernel(30, 3)));
    }

    #[test]
    fn one_segment_may_take_several_reads() {
        let mut reads = ReadCount::default();
        reads.add(4016, false);
        assert!(!reads.is_one_segment(kernel(5000, 1)));
        reads.add(984, true);
        assert!(reads.is_one_segment(kernel(5000, 1)));
        reads.add(4016, false);
        reads.add(984, true);
        assert!(!reads.is_one_segment(kernel(10_000, 3)));
    }
}
