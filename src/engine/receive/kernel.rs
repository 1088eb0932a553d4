//! What the receive ring needs of a kernel. [`super::io_uring::KernelRing`] is the real one; tests simulate another.

use std::io;
use std::os::fd::RawFd;

/// A request to the kernel. `user_data` identifies its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// Receives whatever arrives, with one completion for each read.
    Receive { fd: RawFd, user_data: u64 },
    /// Completes when the socket is connected, has room for more bytes, or has failed.
    Writable { fd: RawFd, user_data: u64 },
    /// Cancels the submission whose user data is `target`.
    Cancel { target: u64, user_data: u64 },
}

/// The result of a submission, or one of its results.
#[derive(Debug)]
pub struct Completion<'a> {
    pub user_data: u64,
    /// The submission is still active.
    pub more: bool,
    pub result: CompletionResult<'a>,
}

#[derive(Debug)]
pub enum CompletionResult<'a> {
    /// A read. `timestamp_ns`: the kernel's receive timestamp of its last segment, nanoseconds of `CLOCK_REALTIME`.
    /// `emptied`: the socket had no further bytes after it.
    Bytes { bytes: &'a [u8], timestamp_ns: Option<u64>, emptied: bool },
    /// The end of a stream, or the completion of something that is not a receive.
    NoBytes,
    /// An `errno`.
    Error(i32),
}

/// Work of the kernel that it does only when it is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingWork {
    /// Something happened on a socket and has not been completed.
    pub sockets: bool,
    /// Completions wait outside of the full completion queue.
    pub overflow: bool,
}

impl PendingWork {
    pub(super) fn any(self) -> bool {
        self.sockets || self.overflow
    }
}

/// A kernel with a submission queue and a completion queue.
pub trait RingKernel {
    /// Appends to the submission queue; false if it is full.
    fn push(&mut self, submission: Submission) -> bool;

    /// Passes the submission queue to the kernel.
    ///
    /// # Errors
    /// That of the system call; the rest stays in the queue.
    fn submit(&mut self) -> io::Result<()>;

    /// Whether the submission queue has entries.
    fn has_unsubmitted(&mut self) -> bool;

    fn pending_work(&mut self) -> PendingWork;

    /// Lets the kernel do pending work, not necessarily all of it.
    ///
    /// # Errors
    /// That of the system call.
    fn run_work(&mut self) -> io::Result<()>;

    /// Waits for `wanted` completions during `min_wait_us`, then for the first one; `limit_ns` in total.
    ///
    /// # Errors
    /// That of the system call; ETIME after `limit_ns`.
    fn wait(&mut self, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<()>;

    /// The number of entries in the completion queue.
    fn completions(&mut self) -> usize;

    /// Takes up to `most` entries of the completion queue, the oldest ones.
    fn take_completions(&mut self, most: usize, take: &mut impl FnMut(Completion<'_>));
}
