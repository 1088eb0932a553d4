//! The receive ring: multishot `RecvMsg` with kernel timestamps from every connection into one buffer ring.
//!
//! It is separate from monoio's ring, because monoio needs one submission and one wake-up per read, which is too slow
//! for 100,000 events per second over 10,000 streams. Here a read needs no submission, no waker and no copy.
//!
//! The worker also waits in this ring. A wait first gathers events for [`GATHER_US`]. The kernel timestamps every
//! arrival, so processing an event later does not change its arrival time, and one wake-up for several events costs
//! less CPU time, both here and at the sender, whose kernel wakes this thread.

#![expect(unsafe_code, reason = "entries and buffers of an io_uring are shared with the kernel")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::Buffers;
use super::delivery::{ConnectionKey, Delivery, ReceiveEvent, ReceivePlan};
use super::submissions::{Backlog, Submissions, is_temporary};
use crate::net::socket::empty_message;
use crate::net::timestamp::{CONTROL_LEN, receive_timestamp_ns};
use crate::time::{S, Tick, US};

const BUFFER_GROUP: u16 = 0;
const SUBMISSIONS: u32 = 1024;

/// Bits of the user data that mark completions other than receives.
const TAG_WRITABLE: u64 = 1 << 63;
const TAG_CANCEL: u64 = 1 << 62;

/// How long a wait gathers events before the first one ends it, microseconds.
const GATHER_US: u32 = 30;
/// This many events end the gathering early.
const GATHER_EVENTS: u32 = 64;

/// How often the first call is tried if the kernel refuses it for the moment.
const ENTER_TRIES: u32 = 16;

/// `IORING_ENTER_GETEVENTS`: run deferred work and wait for completions.
const GETEVENTS: u32 = 1;
/// `IORING_ENTER_EXT_ARG`: the last argument is a [`WaitArguments`].
const EXT_ARG: u32 = 1 << 3;

/// An io_uring that only receives.
pub struct Ring {
    ring: IoUring,
    buffers: Buffers,
    /// Specifies the space for control data in each buffer. It must not move while receives are armed.
    message: Box<libc::msghdr>,
    /// Connections whose receive has ended and must be armed again.
    rearm: Vec<ConnectionKey>,
    /// By connection number: the watched generation and its descriptor, or -1 if none is watched.
    watched: Vec<(u32, RawFd)>,
    /// By slot: the number of its last request of [`Ring::await_writable`].
    write_waits: Vec<u32>,
    /// Entries that found no place in the submission queue.
    backlog: Backlog,
    gathers: bool,
    /// How often the buffers ran out.
    pub shortages: u64,
}

/// `struct io_uring_getevents_arg` of Linux 6.12 and later. In older kernels, `min_wait_us` is padding that must be 0.
#[repr(C)]
struct WaitArguments {
    sigmask: u64,
    sigmask_len: u32,
    min_wait_us: u32,
    /// The address of a [`KernelTimespec`], or 0 for no time limit.
    timespec: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

const _: () = assert!(size_of::<WaitArguments>() == 24 && size_of::<KernelTimespec>() == 16);

impl Ring {
    /// Opens a ring for a number of connections.
    ///
    /// # Errors
    /// The kernel lacks a feature or forbids io_uring.
    pub fn open(plan: ReceivePlan) -> io::Result<Ring> {
        // One burst of all streams must fit, because an overflowing completion queue allocates in the kernel.
        let completions = (plan.connections * 2).next_power_of_two().clamp(4096, 65_536) as u32;
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = builder.build(SUBMISSIONS)?;
        let gathers = can_gather(&ring)?;
        let count = plan.connections.next_power_of_two().clamp(256, 4096) as u16;
        let buffers = Buffers::new(count);
        // SAFETY: the buffer ring lives as long as the `IoUring`: both are fields of this struct, and `ring` is dropped
        // first.
        unsafe { ring.submitter().register_buf_ring(buffers.ring_address(), count, BUFFER_GROUP)? };
        let mut message = Box::new(empty_message());
        message.msg_controllen = CONTROL_LEN as _;
        Ok(Ring {
            ring,
            buffers,
            message,
            rearm: Vec::new(),
            watched: Vec::new(),
            write_waits: Vec::new(),
            backlog: Backlog::default(),
            gathers,
            shortages: 0,
        })
    }

    /// Whether a wait can gather several events.
    pub(crate) fn gathers(&self) -> bool {
        self.gathers
    }

    pub(crate) fn watch(&mut self, source: ConnectionKey, socket: &OwnedFd) -> io::Result<()> {
        let index = source.connection as usize;
        if self.watched.len() <= index {
            self.watched.resize(index + 1, (0, -1));
        }
        self.watched[index] = (source.generation, socket.as_raw_fd());
        self.arm(source)?;
        self.submit()
    }

    pub(crate) fn forget(&mut self, source: ConnectionKey) -> io::Result<()> {
        self.watched[source.connection as usize] = (source.generation, -1);
        let cancel = opcode::AsyncCancel::new(source.to_bits()).build().user_data(TAG_CANCEL);
        self.push(&cancel)?;
        self.submit()
    }

    /// Requests a [`ReceiveEvent::Writable`] for `slot` when the socket is connected, has room again, or has failed. An
    /// earlier request of the slot delivers nothing any more.
    pub(crate) fn await_writable(&mut self, slot: u32, socket: &OwnedFd) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), libc::POLLOUT as u32).build();
        let wait = self.next_write_wait(slot);
        self.push(&poll.user_data(wait))?;
        self.submit()
    }

    /// Cancels the request of [`Ring::await_writable`]. Its completion may have been posted already, or be posted later,
    /// even in the next phase; it is recognized by its number and dropped.
    pub(crate) fn forget_writable(&mut self, slot: u32) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(self.write_wait(slot)).build().user_data(TAG_CANCEL);
        self.next_write_wait(slot);
        self.push(&cancel)?;
        self.submit()
    }

    /// The user data of the slot's last request of [`Ring::await_writable`].
    fn write_wait(&self, slot: u32) -> u64 {
        let number = self.write_waits.get(slot as usize).copied().unwrap_or(0);
        TAG_WRITABLE | u64::from(number) << 32 | u64::from(slot)
    }

    /// The same for the slot's next request.
    fn next_write_wait(&mut self, slot: u32) -> u64 {
        if self.write_waits.len() <= slot as usize {
            self.write_waits.resize(slot as usize + 1, 0);
        }
        let number = &mut self.write_waits[slot as usize];
        *number = (*number + 1) % ConnectionKey::GENERATIONS;
        self.write_wait(slot)
    }

    /// Waits until something has arrived, at most until `until`.
    pub fn wait(&mut self, now: Tick, until: Tick) -> io::Result<()> {
        let left_ns = until.0.saturating_sub(now.0);
        if left_ns == 0 {
            return Ok(());
        }
        let gather = self.gathers && left_ns > u64::from(GATHER_US) * US;
        let (wanted, min_wait_us) = if gather { (GATHER_EVENTS, GATHER_US) } else { (1, 0) };
        match wait_for_events(&self.ring, wanted, min_wait_us, left_ns) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => self.backlog.judge(other.map(drop)).map(drop),
        }
    }

    pub(crate) fn poll(&mut self, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> io::Result<usize> {
        self.run_kernel_work()?;
        let mut reads = 0;
        let is_current = |waits: &[u32], data: u64| {
            let number = (data & !TAG_WRITABLE) >> 32;
            waits.get(data as u32 as usize).is_some_and(|current| u64::from(*current) == number)
        };
        for entry in self.ring.completion() {
            let data = entry.user_data();
            if data & TAG_CANCEL != 0 {
                continue;
            }
            if data & TAG_WRITABLE != 0 {
                if entry.result() != -libc::ECANCELED && is_current(&self.write_waits, data) {
                    deliver(ReceiveEvent::Writable { slot: data as u32 });
                }
                continue;
            }
            reads += 1;
            let source = ConnectionKey::from_bits(data);
            let result = deliver_completion(&entry, source, &mut self.buffers, &self.message, deliver);
            if result == ReceiveResult::OutOfBuffers {
                self.shortages += 1;
            }
            if result != ReceiveResult::Over && !cqueue::more(entry.flags()) {
                self.rearm.push(source);
            }
        }
        self.buffers.publish();
        self.arm_again()?;
        // What the kernel could not take when it was pushed: the completions that were in its way are processed now.
        if !self.backlog.is_empty() || !self.ring.submission().is_empty() {
            self.submit()?;
        }
        Ok(reads)
    }

    /// Lets the kernel finish receives, which it does only on request with deferred task work, and drains an overflowed
    /// completion queue.
    fn run_kernel_work(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let wanted = queue.cq_overflow() || queue.taskrun();
        drop(queue);
        if !wanted {
            return Ok(());
        }
        self.backlog.judge(enter(&self.ring, 0, GETEVENTS, None).map(drop)).map(drop)
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

    /// Arms the receive of a connection, unless it is no longer watched.
    fn arm(&mut self, source: ConnectionKey) -> io::Result<()> {
        let (generation, fd) = self.watched[source.connection as usize];
        if generation != source.generation || fd < 0 {
            return Ok(());
        }
        let receive = opcode::RecvMsgMulti::new(Fd(fd), &*self.message, BUFFER_GROUP).build();
        self.push(&receive.user_data(source.to_bits()))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        self.backlog.push(&mut self.ring, entry)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.backlog.submit(&mut self.ring)
    }
}

impl Submissions for IoUring {
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the only memory that an entry points to is `Ring::message`, in a box that lives as long as the ring.
        unsafe { self.submission().push(entry) }.is_ok()
    }

    fn submit(&mut self) -> io::Result<()> {
        IoUring::submit(self).map(drop)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may write into the buffers until the group is unregistered.
        let _ = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    }
}

/// Whether a wait can gather events (Linux 6.12).
///
/// The binding does not expose this feature flag of the ring. Therefore a wait for 0 events is tried: an older kernel
/// rejects the arguments with EINVAL. A ring whose setup is allowed but not its use is found here as well.
fn can_gather(ring: &IoUring) -> io::Result<bool> {
    let mut tries = 0;
    loop {
        match wait_for_events(ring, 0, GATHER_US, S) {
            Ok(_) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
            Err(error) if is_temporary(&error) && tries < ENTER_TRIES => tries += 1,
            Err(error) => return Err(io::Error::new(error.kind(), format!("io_uring_enter: {error}"))),
        }
    }
}

/// Waits for `wanted` completions during `min_wait_us`, then for the first one; `limit_ns` in total.
fn wait_for_events(ring: &IoUring, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<usize> {
    let limit = KernelTimespec { seconds: (limit_ns / S) as i64, nanoseconds: (limit_ns % S) as i64 };
    let arguments = WaitArguments { sigmask: 0, sigmask_len: 0, min_wait_us, timespec: (&raw const limit) as u64 };
    enter(ring, wanted, GETEVENTS | EXT_ARG, Some(&arguments))
}

/// `io_uring_enter` without submissions. `arguments` go with [`EXT_ARG`].
fn enter(ring: &IoUring, wanted: u32, flags: u32, arguments: Option<&WaitArguments>) -> io::Result<usize> {
    debug_assert_eq!(flags & EXT_ARG != 0, arguments.is_some());
    // SAFETY: `arguments` and the timespec that they point to have the kernel's layout and outlive the call. Without
    // `arguments`, the kernel gets a null signal mask.
    unsafe { ring.submitter().enter(0, wanted, flags, arguments) }
}

/// The result of one completion of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiveResult {
    DeliveryEffect,
    OutOfBuffers,
    /// The connection delivers nothing more.
    Over,
}

/// Delivers one completion and returns its buffer.
#[inline]
fn deliver_completion(
    entry: &cqueue::Entry,
    source: ConnectionKey,
    buffers: &mut Buffers,
    message: &libc::msghdr,
    deliver: &mut impl FnMut(ReceiveEvent<'_>),
) -> ReceiveResult {
    let mut deliver = |delivery: Delivery<'_>| deliver(ReceiveEvent::Delivery(source, delivery));
    if entry.result() < 0 {
        return match -entry.result() {
            libc::ENOBUFS => ReceiveResult::OutOfBuffers,
            libc::ECANCELED => ReceiveResult::Over,
            errno => {
                deliver(Delivery::Error(errno));
                ReceiveResult::Over
            }
        };
    }
    let Some(buffer) = cqueue::buffer_select(entry.flags()) else {
        deliver(Delivery::Eof);
        return ReceiveResult::Over;
    };
    let received = &buffers.bytes(buffer)[..entry.result() as usize];
    let over = deliver_received(received, message, &mut deliver);
    buffers.give_back(buffer);
    if over { ReceiveResult::Over } else { ReceiveResult::DeliveryEffect }
}

/// Delivers what the kernel wrote into a buffer; returns whether that was the end. A buffer that is not as the kernel's
/// ABI says ends the connection with an error: its bytes are lost, so the response cannot be completed.
#[inline]
fn deliver_received(buffer: &[u8], message: &libc::msghdr, deliver: &mut impl FnMut(Delivery<'_>)) -> bool {
    let Ok(received) = RecvMsgOut::parse(buffer, message) else {
        deliver(Delivery::Error(libc::EBADMSG));
        return true;
    };
    let bytes = received.payload_data();
    if bytes.is_empty() {
        deliver(Delivery::Eof);
        return true;
    }
    deliver(Delivery::Bytes { bytes, timestamp_ns: receive_timestamp_ns(received.control_data()) });
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A ring; `None` where io_uring is not available.
    fn ring() -> Option<Ring> {
        Ring::open(ReceivePlan { connections: 8 }).ok()
    }

    fn writable_slots(ring: &mut Ring) -> Vec<u32> {
        let mut slots = Vec::new();
        let deliver = &mut |event: ReceiveEvent<'_>| match event {
            ReceiveEvent::Writable { slot } => slots.push(slot),
            ReceiveEvent::Delivery(..) => panic!("no connection is watched"),
        };
        ring.poll(deliver).unwrap();
        slots
    }

    #[test]
    fn a_forgotten_wait_to_write_delivers_nothing() {
        let Some(mut ring) = ring() else { return };
        let (ready, _peer) = UnixStream::pair().unwrap();
        let (full, _other_peer) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 65_536]).is_ok() {}
        let (ready, full) = (OwnedFd::from(ready), OwnedFd::from(full));
        ring.await_writable(7, &ready).unwrap();
        assert_eq!(writable_slots(&mut ring), [7]);
        // The socket is ready, so the completion is posted before the slot gives up; then the slot waits for another one.
        ring.await_writable(7, &ready).unwrap();
        ring.forget_writable(7).unwrap();
        ring.await_writable(7, &full).unwrap();
        assert!(writable_slots(&mut ring).is_empty(), "the completion belongs to the wait before");
        ring.await_writable(7, &ready).unwrap();
        assert_eq!(writable_slots(&mut ring), [7]);
    }

    #[test]
    fn a_buffer_that_cannot_be_parsed_ends_the_connection() {
        let mut message = empty_message();
        message.msg_controllen = CONTROL_LEN as _;
        let delivered = |buffer: &[u8]| {
            let mut text = String::new();
            let over = deliver_received(buffer, &message, &mut |delivery| text = format!("{delivery:?}"));
            (text, over)
        };
        assert_eq!(delivered(&[0; 20]), (format!("Error({})", libc::EBADMSG), true));
        let mut whole = vec![0; 16 + CONTROL_LEN];
        assert_eq!(delivered(&whole), ("Eof".to_string(), true));
        // The length of the payload is the third field of the kernel's header.
        whole[8..12].copy_from_slice(&2_u32.to_ne_bytes());
        whole.extend(b"ab");
        assert_eq!(delivered(&whole), ("Bytes { bytes: [97, 98], timestamp_ns: None }".to_string(), false));
    }
}
