//! Submissions to an io_uring that the kernel cannot take at once. They are kept and submitted again after completions
//! have been processed: a submission that is refused for a moment is neither lost nor tried in a loop.

use std::collections::VecDeque;
use std::io;

use super::kernel::{RingKernel, Submission};

/// Entries that found no place in the submission queue, in order.
#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Submission>,
}

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
            match kernel.submit() {
                Ok(()) => {}
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) => return Err(error),
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

        fn has_completions(&mut self) -> bool {
            false
        }

        fn take_completions(&mut self, _take: &mut impl FnMut(Completion<'_>)) {}
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
    fn a_refused_submission_is_an_error() {
        let mut queue = Fake { errors: vec![libc::EPERM], ..Fake::default() };
        let error = Backlog::default().submit(&mut queue).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
