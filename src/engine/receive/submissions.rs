//! Submissions to an io_uring that the kernel cannot take at once. They are kept and submitted again after completions
//! have been processed: a submission that is refused for a moment is neither lost nor tried in a loop.

use std::collections::VecDeque;
use std::io;

use super::kernel::{RingKernel, Submission};
use crate::time::clock::kernel_now;
use crate::time::{S, Tick};

/// Entries that found no place in the submission queue, in order.
#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Submission>,
    /// Since when the kernel has refused every call.
    refused_since: Option<Tick>,
}

/// A kernel that refuses every call for this long will not take any: the worker ends with the error.
const REFUSED_NS: u64 = S;

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an entry behind all earlier ones. A full queue is submitted once; if the kernel takes nothing, the entry
    /// is kept until the next [`Backlog::submit`].
    pub(super) fn push(&mut self, kernel: &mut impl RingKernel, entry: Submission) -> io::Result<()> {
        if self.is_empty() && kernel.push(entry) {
            return Ok(());
        }
        self.entries.push_back(entry);
        self.submit(kernel)
    }

    /// Submits the queue and as many kept entries as the kernel takes.
    pub(super) fn submit(&mut self, kernel: &mut impl RingKernel) -> io::Result<()> {
        loop {
            if !self.judge(kernel.submit())? {
                return Ok(());
            }
            let kept = self.entries.len();
            while self.entries.front().is_some_and(|entry| kernel.push(*entry)) {
                self.entries.pop_front();
            }
            if self.entries.len() == kept {
                return Ok(());
            }
        }
    }
}

impl Backlog {
    /// Whether a call of the kernel succeeded; false if it was refused for the moment.
    pub(super) fn judge(&mut self, result: io::Result<()>) -> io::Result<bool> {
        match result {
            Ok(()) => {
                self.refused_since = None;
                Ok(true)
            }
            Err(error) if is_temporary(&error) => self.wait_longer(error, kernel_now()).map(|()| false),
            Err(error) => Err(io::Error::new(error.kind(), format!("io_uring_enter: {error}"))),
        }
    }

    /// A call was refused at `now`; an error if that has gone on for too long.
    fn wait_longer(&mut self, error: io::Error, now: Tick) -> io::Result<()> {
        // An interrupted call was not refused.
        if error.kind() == io::ErrorKind::Interrupted
            || now.ns_since(*self.refused_since.get_or_insert(now)) < REFUSED_NS as i64
        {
            return Ok(());
        }
        Err(io::Error::new(error.kind(), format!("the kernel has refused io_uring_enter for more than 1 s: {error}")))
    }
}

/// Whether a later call can succeed. EINTR and EAGAIN: the kernel was interrupted, or has no memory for a request. EBUSY:
/// completions must be processed first.
pub(super) fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::receive::kernel::{Completion, PendingWork};

    /// A queue of two entries; its kernel answers with `errors`, the last one first, and takes entries after that.
    #[derive(Default)]
    struct Fake {
        queued: Vec<Submission>,
        submitted: Vec<Submission>,
        errors: Vec<i32>,
        calls: u32,
    }

    impl RingKernel for Fake {
        fn push(&mut self, entry: Submission) -> bool {
            let is_free = self.queued.len() < 2;
            if is_free {
                self.queued.push(entry);
            }
            is_free
        }

        fn submit(&mut self) -> io::Result<()> {
            self.calls += 1;
            if let Some(errno) = self.errors.pop() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.submitted.append(&mut self.queued);
            Ok(())
        }

        fn has_unsubmitted(&mut self) -> bool {
            !self.queued.is_empty()
        }

        fn pending_work(&mut self) -> PendingWork {
            PendingWork::default()
        }

        fn run_work(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, _wanted: u32, _min_wait_us: u32, _limit_ns: u64) -> io::Result<()> {
            Ok(())
        }

        fn completions(&mut self) -> usize {
            0
        }

        fn take_completions(&mut self, _most: usize, _take: &mut impl FnMut(Completion<'_>)) {}
    }

    fn entry(number: u64) -> Submission {
        Submission::Cancel { target: number, user_data: number }
    }

    #[test]
    fn a_busy_kernel_is_not_asked_in_a_loop_and_loses_nothing() {
        for errno in [libc::EBUSY, libc::EAGAIN, libc::EINTR] {
            let mut queue = Fake { errors: vec![errno; 6], ..Fake::default() };
            let mut backlog = Backlog::default();
            (0..8).for_each(|number| backlog.push(&mut queue, entry(number)).unwrap());
            assert_eq!(queue.calls, 6, "one call for each entry without a place");
            assert!(queue.submitted.is_empty() && !backlog.is_empty());
            backlog.submit(&mut queue).unwrap();
            assert_eq!(queue.submitted, (0..8).map(entry).collect::<Vec<_>>());
            assert!(backlog.is_empty());
        }
    }

    #[test]
    fn a_kernel_that_stays_busy_is_an_error() {
        let mut backlog = Backlog::default();
        let busy = || io::Error::from_raw_os_error(libc::EAGAIN);
        assert!(backlog.wait_longer(busy(), Tick(5 * S)).is_ok());
        assert!(backlog.wait_longer(busy(), Tick(5 * S + S / 2)).is_ok());
        let error = backlog.wait_longer(busy(), Tick(6 * S)).unwrap_err();
        assert!(error.to_string().contains("refused io_uring_enter"), "{error}");
        assert_eq!(backlog.judge(Ok(())).ok(), Some(true));
        assert!(backlog.wait_longer(busy(), Tick(7 * S)).is_ok(), "a call succeeded in between");
        let interrupted = io::Error::from_raw_os_error(libc::EINTR);
        assert!(backlog.wait_longer(interrupted, Tick(99 * S)).is_ok());
    }

    #[test]
    fn a_refused_submission_is_an_error() {
        let mut queue = Fake { errors: vec![libc::EPERM], ..Fake::default() };
        let error = Backlog::default().submit(&mut queue).unwrap_err();
        assert_eq!(error.to_string(), "io_uring_enter: Operation not permitted (os error 1)");
    }
}
