//! A kernel that a test simulates, behind the same ring and event loop as the real one. Only this variant of the receive
//! path calls through pointers.

use std::io;
use std::net::SocketAddr;

use super::kernel::{Completion, PendingWork, RingKernel, Submission};
use crate::engine::socket::Opening;

/// A simulated kernel; see [`RingKernel`] for the methods that both have.
pub trait SimulatedKernel {
    /// Starts to connect.
    ///
    /// # Errors
    /// That of the system call.
    fn connect(&mut self, to: SocketAddr) -> io::Result<Opening>;

    fn push(&mut self, submission: Submission) -> bool;

    /// # Errors
    /// Those of [`RingKernel::submit`].
    fn submit(&mut self) -> io::Result<()>;

    fn has_unsubmitted(&mut self) -> bool;

    fn pending_work(&mut self) -> PendingWork;

    /// # Errors
    /// Those of [`RingKernel::run_work`].
    fn run_work(&mut self) -> io::Result<()>;

    /// # Errors
    /// Those of [`RingKernel::wait`].
    fn wait(&mut self, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<()>;

    fn completions(&mut self) -> usize;

    fn take_completions(&mut self, most: usize, take: &mut dyn FnMut(Completion<'_>));
}

/// The kernel of a worker in a simulation.
pub struct Kernel(pub Box<dyn SimulatedKernel>);

impl RingKernel for Kernel {
    fn push(&mut self, submission: Submission) -> bool {
        self.0.push(submission)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.0.submit()
    }

    fn has_unsubmitted(&mut self) -> bool {
        self.0.has_unsubmitted()
    }

    fn pending_work(&mut self) -> PendingWork {
        self.0.pending_work()
    }

    fn run_work(&mut self) -> io::Result<()> {
        self.0.run_work()
    }

    fn wait(&mut self, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<()> {
        self.0.wait(wanted, min_wait_us, limit_ns)
    }

    fn completions(&mut self) -> usize {
        self.0.completions()
    }

    fn take_completions(&mut self, most: usize, take: &mut impl FnMut(Completion<'_>)) {
        self.0.take_completions(most, take);
    }
}
