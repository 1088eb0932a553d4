//! The kernel's io_uring, with the buffers that it fills.

#![expect(unsafe_code, reason = "entries and buffers of an io_uring are shared with the kernel")]

use std::io;

use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{BUFFER_LEN, Buffers};
use super::delivery::ReceivePlan;
use super::kernel::{Completion, CompletionResult, PendingWork, RingKernel, Submission};
use crate::net::socket::empty_message;
use crate::net::timestamp::{CONTROL_LEN, receive_timestamp_ns};
use crate::time::S;

const BUFFER_GROUP: u16 = 0;
const SUBMISSIONS: u32 = 1024;
/// The bytes of a stream that fit into a buffer, behind the kernel's message header and the timestamp.
const MAX_READ: usize = BUFFER_LEN - 16 - CONTROL_LEN;

/// `IORING_ENTER_GETEVENTS`: run deferred work and wait for completions.
const GETEVENTS: u32 = 1;
/// `IORING_ENTER_EXT_ARG`: the last argument is a [`WaitArguments`].
const EXT_ARG: u32 = 1 << 3;

/// An io_uring that only receives.
pub struct KernelRing {
    ring: IoUring,
    buffers: Buffers,
    /// Specifies the space for control data in each buffer. It must not move while receives are armed.
    message: Box<libc::msghdr>,
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

impl KernelRing {
    /// Opens a ring for a number of connections.
    ///
    /// # Errors
    /// The kernel lacks a feature or forbids io_uring.
    pub(super) fn open(plan: ReceivePlan) -> io::Result<KernelRing> {
        // One burst of all streams must fit, because an overflowing completion queue allocates in the kernel.
        let completions = (plan.connections * 2).next_power_of_two().clamp(4096, 65_536) as u32;
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).setup_clamp().setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = builder.build(SUBMISSIONS)?;
        let count = plan.connections.next_power_of_two().clamp(256, 4096) as u16;
        let buffers = Buffers::new(count);
        // SAFETY: the buffer ring lives as long as the `IoUring`: both are fields of this struct, and `ring` is dropped
        // first.
        unsafe { ring.submitter().register_buf_ring(buffers.ring_address(), count, BUFFER_GROUP)? };
        let mut message = Box::new(empty_message());
        message.msg_controllen = CONTROL_LEN as _;
        Ok(KernelRing { ring, buffers, message })
    }

    /// `io_uring_enter` without submissions. `arguments` go with [`EXT_ARG`].
    fn enter(&self, wanted: u32, flags: u32, arguments: Option<&WaitArguments>) -> io::Result<()> {
        debug_assert_eq!(flags & EXT_ARG != 0, arguments.is_some());
        // SAFETY: `arguments` and the timespec that they point to have the kernel's layout and outlive the call. Without
        // `arguments`, the kernel gets a null signal mask.
        unsafe { self.ring.submitter().enter(0, wanted, flags, arguments) }.map(drop)
    }
}

impl RingKernel for KernelRing {
    fn push(&mut self, submission: Submission) -> bool {
        let entry = match submission {
            Submission::Receive { fd, user_data } => {
                opcode::RecvMsgMulti::new(Fd(fd), &*self.message, BUFFER_GROUP).build().user_data(user_data)
            }
            Submission::Writable { fd, user_data } => {
                opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build().user_data(user_data)
            }
            Submission::Cancel { target, user_data } => opcode::AsyncCancel::new(target).build().user_data(user_data),
        };
        push_entry(&mut self.ring, &entry)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(drop)
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    #[inline]
    fn pending_work(&mut self) -> PendingWork {
        let queue = self.ring.submission();
        PendingWork { sockets: queue.taskrun(), overflow: queue.cq_overflow() }
    }

    fn run_work(&mut self) -> io::Result<()> {
        self.enter(0, GETEVENTS, None)
    }

    fn wait(&mut self, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<()> {
        let limit = KernelTimespec { seconds: (limit_ns / S) as i64, nanoseconds: (limit_ns % S) as i64 };
        let arguments = WaitArguments { sigmask: 0, sigmask_len: 0, min_wait_us, timespec: (&raw const limit) as u64 };
        self.enter(wanted, GETEVENTS | EXT_ARG, Some(&arguments))
    }

    fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    #[inline]
    fn take_completions(&mut self, most: usize, take: &mut impl FnMut(Completion<'_>)) {
        for entry in self.ring.completion().take(most) {
            take_entry(&entry, &mut self.buffers, &self.message, take);
        }
        self.buffers.publish();
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        // The kernel may write into the buffers until the group is unregistered.
        let _ = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    }
}

fn push_entry(ring: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: the only memory that an entry points to is `KernelRing::message`, in a box that lives as long as the ring.
    unsafe { ring.submission().push(entry) }.is_ok()
}

/// Passes on one entry of the completion queue and returns its buffer.
#[inline]
fn take_entry(
    entry: &cqueue::Entry,
    buffers: &mut Buffers,
    message: &libc::msghdr,
    take: &mut impl FnMut(Completion<'_>),
) {
    let flags = entry.flags();
    let mut take = |result: CompletionResult<'_>| {
        take(Completion { user_data: entry.user_data(), more: cqueue::more(flags), result })
    };
    if entry.result() < 0 {
        return take(CompletionResult::Error(-entry.result()));
    }
    let Some(buffer) = cqueue::buffer_select(flags) else { return take(CompletionResult::NoBytes) };
    let received = &buffers.bytes(buffer)[..entry.result() as usize];
    // Sockets that do not know how many bytes they hold do not set the flag, and leave no bytes after a short read.
    pass_on(received, message, !cqueue::sock_nonempty(flags), &mut take);
    buffers.give_back(buffer);
}

/// Passes on what the kernel wrote into a buffer. One that is not as the kernel's ABI says is an error of the connection:
/// its bytes are lost, so the response cannot be completed.
#[inline]
fn pass_on(buffer: &[u8], message: &libc::msghdr, emptied: bool, take: &mut impl FnMut(CompletionResult<'_>)) {
    let Ok(received) = RecvMsgOut::parse(buffer, message) else { return take(CompletionResult::Error(libc::EBADMSG)) };
    let bytes = received.payload_data();
    if bytes.is_empty() {
        return take(CompletionResult::NoBytes);
    }
    let timestamp_ns = receive_timestamp_ns(received.control_data());
    take(CompletionResult::Bytes { bytes, timestamp_ns, emptied: emptied && bytes.len() < MAX_READ });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_cannot_be_parsed_ends_the_connection() {
        let mut message = empty_message();
        message.msg_controllen = CONTROL_LEN as _;
        let passed_on = |buffer: &[u8]| {
            let mut text = String::new();
            pass_on(buffer, &message, false, &mut |result| text = format!("{result:?}"));
            text
        };
        assert_eq!(passed_on(&[0; 20]), format!("Error({})", libc::EBADMSG));
        let mut whole = vec![0; 16 + CONTROL_LEN];
        assert_eq!(passed_on(&whole), "NoBytes");
        // The length of the payload is the third field of the kernel's header.
        whole[8..12].copy_from_slice(&2_u32.to_ne_bytes());
        whole.extend(b"ab");
        assert_eq!(passed_on(&whole), "Bytes { bytes: [97, 98], timestamp_ns: None, emptied: false }");
    }
}
