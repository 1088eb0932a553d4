//! The buffers that the kernel fills with received bytes, and the ring through which they are returned to it.
//!
//! The layout of the ring is the kernel's ABI (`struct io_uring_buf_ring`). It is defined here, with its size checked
//! at compile time, so that it does not depend on the layout of a binding's types.

#![expect(unsafe_code, reason = "buffers are memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// One buffer takes the kernel's message header (16), the timestamp (64) and up to 4,016 bytes of stream.
pub(super) const BUFFER_LEN: usize = 4096;
/// Buffers are returned to the kernel in batches of this many, so that it does not run out of them during a long poll.
const RECYCLE_BATCH: u16 = 64;
const PAGE_LEN: usize = 4096;

/// `struct io_uring_buf`. The kernel reads the entries up to the tail of the ring, which is the last field of the first
/// entry. The fields are atomics because the kernel reads them concurrently; a relaxed store costs the same as a plain
/// one.
#[repr(C)]
struct Entry {
    address: AtomicU64,
    length: AtomicU32,
    id: AtomicU16,
    tail: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == 16 && std::mem::offset_of!(Entry, tail) == 14);

/// Buffers of [`BUFFER_LEN`] bytes and the ring of those that the kernel may fill.
pub struct Buffers {
    entries: Pages,
    memory: Pages,
    count: u16,
    tail: u16,
    unpublished: u16,
}

impl Buffers {
    /// Allocates `count` (a power of two) zeroed buffers and passes all of them to the kernel.
    pub fn new(count: u16) -> Buffers {
        let mut buffers = Buffers {
            entries: Pages::zeroed(usize::from(count) * size_of::<Entry>()),
            memory: Pages::zeroed(usize::from(count) * BUFFER_LEN),
            count,
            tail: 0,
            unpublished: 0,
        };
        for id in 0..count {
            buffers.give_back(id);
        }
        buffers.publish();
        buffers
    }

    /// The address of the ring, for its registration.
    pub fn ring_address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    /// The contents of a buffer that a completion has named and that has not been returned since.
    #[inline]
    pub fn bytes(&self, id: u16) -> &[u8] {
        debug_assert!(id < self.count);
        // SAFETY: buffers are `BUFFER_LEN` apart inside `memory`, zeroed at allocation; the kernel does not write to a
        // buffer between the completion that names it and its return.
        unsafe { std::slice::from_raw_parts(self.address(id), BUFFER_LEN) }
    }

    /// Returns a buffer to the kernel, which sees it after the next [`Buffers::publish`].
    #[inline]
    pub fn give_back(&mut self, id: u16) {
        let address = self.address(id) as u64;
        let entry = &self.ring()[usize::from(self.tail & (self.count - 1))];
        entry.address.store(address, Ordering::Relaxed);
        entry.length.store(BUFFER_LEN as u32, Ordering::Relaxed);
        entry.id.store(id, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        self.unpublished += 1;
        if self.unpublished >= RECYCLE_BATCH {
            self.publish();
        }
    }

    /// Makes all returned buffers visible to the kernel.
    #[inline]
    pub fn publish(&mut self) {
        self.unpublished = 0;
        self.ring()[0].tail.store(self.tail, Ordering::Release);
    }

    fn address(&self, id: u16) -> *const u8 {
        self.memory.start.as_ptr().wrapping_add(usize::from(id) * BUFFER_LEN)
    }

    fn ring(&self) -> &[Entry] {
        // SAFETY: `entries` holds `count` entries, zeroed at allocation and page-aligned; the kernel only reads them,
        // and we write them through atomics.
        unsafe { std::slice::from_raw_parts(self.entries.start.as_ptr().cast(), usize::from(self.count)) }
    }
}

/// Zeroed page-aligned memory that is shared with the kernel. Untouched pages are not resident.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn zeroed(bytes: usize) -> Pages {
        let layout =
            Layout::from_size_align(bytes, PAGE_LEN).expect("at most 65,535 buffers of 4 KiB are a valid layout");
        assert!(bytes > 0, "there is at least one buffer");
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Pages { start, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_tail_have_the_kernels_layout() {
        let buffers = Buffers::new(8);
        let ring = buffers.ring();
        assert_eq!(buffers.ring_address() % PAGE_LEN as u64, 0);
        for (id, entry) in ring.iter().enumerate() {
            let address = buffers.memory.start.as_ptr() as u64 + (id * BUFFER_LEN) as u64;
            assert_eq!(entry.address.load(Ordering::Relaxed), address);
            assert_eq!((entry.length.load(Ordering::Relaxed), entry.id.load(Ordering::Relaxed)), (4096, id as u16));
        }
        assert_eq!(ring[0].tail.load(Ordering::Relaxed), 8);
        assert_eq!(buffers.bytes(7), [0; BUFFER_LEN]);
    }
}
