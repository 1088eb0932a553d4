//! The receive ring: multishot `RecvMsg` with kernel stamps from every connection into one buffer ring.
//!
//! It stands beside monoio's own ring because monoio reads with one submission and one wake-up per chunk, which
//! collapses at 100,000 events a second over 10,000 streams. Here a chunk costs no submission, no waker and no copy.
//!
//! The worker sleeps in this ring too. A sleep first gathers for [`GATHER_US`]: since the kernel stamps every arrival,
//! being late to look at it costs no accuracy, and one wake-up for several events costs less, here and at the sender,
//! whose kernel has to wake us.

#![expect(unsafe_code, reason = "a ring of provided buffers is memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::stamp::{CONTROL_LEN, receive_stamp_ns};
use super::{Delivery, Event, InboxPlan, Source};
use crate::time::{S, Tick, US};

/// One buffer takes the kernel's message header (16), the stamp (64) and up to 4,016 bytes of stream.
const BUFFER_LEN: usize = 4096;
const BUFFER_GROUP: u16 = 0;
const SUBMISSIONS: u32 = 1024;
/// Buffers are given back to the kernel in batches of this many, so that a long reap never starves it.
const RECYCLE_EVERY: u16 = 64;

const TAG_WRITABLE: u64 = 1 << 63;
const TAG_CANCEL: u64 = 1 << 62;

/// How long a sleep gathers events before the first one ends it, microseconds.
const GATHER_US: u32 = 30;
/// So many events end the gathering early.
const GATHER_EVENTS: u32 = 64;
/// The kernel can gather (Linux 6.12).
const FEATURE_MIN_TIMEOUT: u32 = 1 << 15;

/// An io_uring that only receives.
pub struct Ring {
    ring: IoUring,
    buffers: BufferRing,
    /// Tells the kernel how much room for control data each buffer reserves; it must not move while receives are armed.
    message: Box<libc::msghdr>,
    /// Receives that ended while their connection lives on, and must be armed again.
    rearm: Vec<Source>,
    /// By slot: the generation that is being received, and its descriptor; -1 when there is none.
    watched: Vec<(u32, RawFd)>,
    gathers: bool,
    pub shortages: u64,
}

/// `struct io_uring_getevents_arg` of Linux 6.12 and later.
#[repr(C)]
struct WaitArguments {
    sigmask: u64,
    sigmask_len: u32,
    min_wait_us: u32,
    timespec: u64,
}

impl Ring {
    /// Sets the ring up for a number of connections, or says what the kernel lacks.
    pub fn open(plan: InboxPlan) -> io::Result<Ring> {
        // One burst of all streams must fit: an overflowing completion queue costs allocations in the kernel.
        let completions = (plan.connections * 2).next_power_of_two().clamp(4096, 65_536) as u32;
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = builder.build(SUBMISSIONS)?;
        let gathers = features(&ring) & FEATURE_MIN_TIMEOUT != 0;
        let count = plan.connections.next_power_of_two().clamp(256, 4096) as u16;
        let buffers = BufferRing::new(count);
        // SAFETY: the buffer ring lives as long as the `IoUring` (both fields of this struct, the ring dropped first).
        unsafe { ring.submitter().register_buf_ring(buffers.address(), count, BUFFER_GROUP)? };
        // SAFETY: all zeros is a valid msghdr.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_controllen = CONTROL_LEN;
        Ok(Ring { ring, buffers, message, rearm: Vec::new(), watched: Vec::new(), gathers, shortages: 0 })
    }

    /// Whether a sleep gathers several arrivals.
    pub fn gathers(&self) -> bool {
        self.gathers
    }

    pub fn watch(&mut self, source: Source, fd: RawFd) -> io::Result<()> {
        let slot = source.slot as usize;
        if self.watched.len() <= slot {
            self.watched.resize(slot + 1, (0, -1));
        }
        self.watched[slot] = (source.generation, fd);
        self.arm(source)?;
        self.submit()
    }

    pub fn forget(&mut self, source: Source) -> io::Result<()> {
        self.watched[source.slot as usize] = (source.generation, -1);
        let cancel = opcode::AsyncCancel::new(user_data(source)).build().user_data(TAG_CANCEL);
        self.push(&cancel)?;
        self.submit()
    }

    /// Asks for a [`Event::Writable`] for `lane` when the socket is connected, has room again, or has failed.
    pub fn await_writable(&mut self, lane: u32, fd: RawFd) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build();
        self.push(&poll.user_data(TAG_WRITABLE | u64::from(lane)))?;
        self.submit()
    }

    /// Gives up waiting for [`Event::Writable`].
    pub fn forget_writable(&mut self, lane: u32) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(TAG_WRITABLE | u64::from(lane)).build().user_data(TAG_CANCEL);
        self.push(&cancel)?;
        self.submit()
    }

    /// Sleeps until something has arrived, but not past `until`.
    pub fn sleep(&mut self, now: Tick, until: Tick) -> io::Result<()> {
        let left_ns = until.0.saturating_sub(now.0);
        if left_ns == 0 {
            return Ok(());
        }
        let timespec = Timespec::new().sec(left_ns / S).nsec((left_ns % S) as u32);
        let gather = self.gathers && left_ns > u64::from(GATHER_US) * US;
        let arguments = WaitArguments {
            sigmask: 0,
            sigmask_len: 0,
            min_wait_us: if gather { GATHER_US } else { 0 },
            timespec: (&raw const timespec) as u64,
        };
        let wanted = if gather { GATHER_EVENTS } else { 1 };
        const GETEVENTS: u32 = 1;
        const EXT_ARG: u32 = 1 << 3;
        // SAFETY: `arguments` has the layout that EXT_ARG announces, and the timespec it names outlives the call.
        let waited = unsafe { self.ring.submitter().enter(0, wanted, GETEVENTS | EXT_ARG, Some(&arguments)) };
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => ignore_interrupt(other),
        }
    }

    pub fn reap(&mut self, deliver: &mut impl FnMut(Event<'_>)) -> io::Result<usize> {
        self.run_kernel_work()?;
        let mut reads = 0;
        // SAFETY: `completion_shared` is used by this thread only, and no other completion queue handle is alive.
        let queue = unsafe { self.ring.completion_shared() };
        for entry in queue {
            let data = entry.user_data();
            if data & TAG_CANCEL != 0 {
                continue;
            }
            if data & TAG_WRITABLE != 0 {
                if entry.result() == -libc::ECANCELED {
                    continue;
                }
                deliver(Event::Writable { lane: data as u32 });
                continue;
            }
            reads += 1;
            let source = Source { slot: data as u32, generation: (data >> 32) as u32 };
            let outcome = take(&entry, source, &mut self.buffers, &self.message, deliver);
            if outcome == Receive::OutOfBuffers {
                self.shortages += 1;
            }
            if outcome != Receive::Over && !cqueue::more(entry.flags()) {
                self.rearm.push(source);
            }
        }
        self.buffers.publish();
        self.arm_again()?;
        Ok(reads)
    }

    /// With deferred task work the kernel finishes receives only when asked to; also drains an overflowed queue.
    fn run_kernel_work(&mut self) -> io::Result<()> {
        // SAFETY: only this thread touches the submission queue.
        let queue = unsafe { self.ring.submission_shared() };
        let wanted = queue.cq_overflow() || queue.taskrun();
        drop(queue);
        if !wanted {
            return Ok(());
        }
        const GETEVENTS: u32 = 1;
        // SAFETY: no signal mask is passed.
        ignore_interrupt(unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) })
    }

    fn arm_again(&mut self) -> io::Result<()> {
        if self.rearm.is_empty() {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.rearm);
        for source in waiting.drain(..) {
            self.arm(source)?;
        }
        self.rearm = waiting;
        self.submit()
    }

    /// Arms the receive of a connection, unless it was given up meanwhile.
    fn arm(&mut self, source: Source) -> io::Result<()> {
        let (generation, fd) = self.watched[source.slot as usize];
        if generation != source.generation || fd < 0 {
            return Ok(());
        }
        let receive = opcode::RecvMsgMulti::new(Fd(fd), &*self.message, BUFFER_GROUP).build();
        self.push(&receive.user_data(user_data(source)))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: only this thread touches the submission queue, and what entries point at (`message`, `deadline`)
            // lives in boxes as long as the ring.
            if unsafe { self.ring.submission_shared().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        ignore_interrupt(self.ring.submit())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still write into the buffers until the group is gone.
        let _ = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    }
}

/// What became of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Delivered,
    OutOfBuffers,
    /// The connection will deliver nothing more.
    Over,
}

/// Hands one completion on and gives its buffer back.
#[inline]
fn take(
    entry: &cqueue::Entry,
    source: Source,
    buffers: &mut BufferRing,
    message: &libc::msghdr,
    deliver: &mut impl FnMut(Event<'_>),
) -> Receive {
    let mut deliver = |source, delivery| deliver(Event::Delivery(source, delivery));
    if entry.result() < 0 {
        return match -entry.result() {
            libc::ENOBUFS => Receive::OutOfBuffers,
            libc::ECANCELED => Receive::Over,
            errno => {
                deliver(source, Delivery::Error(errno));
                Receive::Over
            }
        };
    }
    let Some(buffer) = cqueue::buffer_select(entry.flags()) else {
        deliver(source, Delivery::Eof);
        return Receive::Over;
    };
    let mut over = true;
    if let Ok(received) = RecvMsgOut::parse(&buffers.bytes(buffer)[..entry.result() as usize], message) {
        let bytes = received.payload_data();
        if bytes.is_empty() {
            deliver(source, Delivery::Eof);
        } else {
            over = false;
            deliver(source, Delivery::Bytes { bytes, stamp_ns: receive_stamp_ns(received.control_data()) });
        }
    }
    buffers.give_back(buffer);
    if over { Receive::Over } else { Receive::Delivered }
}

/// The features the kernel stated for a ring. The binding names only older ones.
fn features(ring: &IoUring) -> u32 {
    // SAFETY: `Parameters` is a transparent wrapper of `struct io_uring_params`, whose sixth word holds the features.
    unsafe { *(ring.params() as *const io_uring::Parameters).cast::<u32>().add(5) }
}

fn user_data(source: Source) -> u64 {
    u64::from(source.generation) << 32 | u64::from(source.slot)
}

fn ignore_interrupt(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        // EINTR: nothing was lost, the next call submits the rest. EBUSY: the completion queue must be drained first.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The buffers the kernel fills and the ring by which it gets them back.
struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    tail: u16,
    unpublished: u16,
}

impl BufferRing {
    /// `count` (a power of two) zeroed buffers, all in the kernel's hands.
    fn new(count: u16) -> BufferRing {
        let mut ring = BufferRing {
            entries: allocate(Self::entries_layout(count)).cast(),
            memory: allocate(Self::memory_layout(count)),
            count,
            tail: 0,
            unpublished: 0,
        };
        for buffer in 0..count {
            ring.give_back(buffer);
        }
        ring.publish();
        ring
    }

    fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    fn bytes(&self, buffer: u16) -> &[u8] {
        debug_assert!(buffer < self.count);
        // SAFETY: buffers are `BUFFER_LEN` apart inside `memory`, zeroed at allocation; the kernel does not write to a
        // buffer between the completion that names it and its return.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(buffer as usize * BUFFER_LEN), BUFFER_LEN) }
    }

    fn give_back(&mut self, buffer: u16) {
        let at = (self.tail & (self.count - 1)) as usize;
        // SAFETY: `at` is below `count`, and the entry is ours until the tail is published. The entry's fields are set
        // one by one because the tail shares memory with a field of the first entry.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(self.memory.as_ptr().add(buffer as usize * BUFFER_LEN) as u64);
            entry.set_len(BUFFER_LEN as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        self.unpublished += 1;
        if self.unpublished >= RECYCLE_EVERY {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.unpublished = 0;
        // SAFETY: the tail stands in the reserved field of the first entry, two-byte aligned, and the kernel only reads it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn entries_layout(count: u16) -> Layout {
        page_aligned(count as usize * size_of::<BufRingEntry>())
    }

    fn memory_layout(count: u16) -> Layout {
        page_aligned(count as usize * BUFFER_LEN)
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count));
        }
    }
}

fn page_aligned(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 4096).expect("at most 32,768 buffers of 4 KiB are a valid layout")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout asked for here has size zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
