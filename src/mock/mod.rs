//! The built-in mock inference server: an HTTP server on TCP that records the ground truth of every request. The record
//! has the request's parameters, the injected fault and a timestamp taken just before each send system call.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ringmark::mock::Config::from_query("ttft=1ms&itl=1ms&tokens=5")?;
//! let mock = ringmark::mock::Mock::start(&config, &[], "127.0.0.1:0".parse()?)?;
//! let url = format!("http://{}/v1/chat/completions", mock.addr());
//! assert_eq!(mock.stats().requests, 0);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

mod accounting;
mod clock;
mod config;
mod connection;
mod distribution;
mod event_loop;
mod exchange;
mod fault;
mod http;
mod metrics;
mod render;
mod reply;
mod request_body;
pub mod run;
mod shared;
#[cfg(feature = "internals")]
pub mod simulation;
mod truth;

pub use config::{
    CloseStyle, Config, EmptyStyle, EosStyle, FinishStyle, Framing, HeadStyle, KEYS, Key, RoleStyle, TextStyle,
    TimingsStyle, UsageStyle,
};
pub use distribution::{Count, Delay, Distribution};
pub use fault::{FAULTS, Fault, FaultKind, When};
pub use request_body::Endpoint;
pub use truth::{ChoiceTruth, End, Stats, Truth};

use event_loop::EventLoop;
use shared::{LoopShare, Shared};

/// Length of the accept queue; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 16_384;

/// A running server. Dropping it stops it.
pub struct Mock {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Mock {
    /// Starts serving on `bind` with one thread pinned to each of `cores`, or one unpinned thread if `cores` is empty.
    /// Raises the soft limit of open files to the hard limit.
    ///
    /// # Errors
    /// The address cannot be bound, a core does not exist, or the system refuses a thread or a descriptor.
    pub fn start(config: &Config, cores: &[usize], bind: SocketAddr) -> io::Result<Mock> {
        raise_file_limit();
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        // The standard library uses a queue of 128, which is too short for ten thousand simultaneous connections.
        rustix::net::listen(&listener, BACKLOG)?;
        let addr = listener.local_addr()?;
        let loops = cores.len().max(1);
        let shared = Arc::new(Shared::new(config.clone(), loops, clock::unix_seconds())?);
        let mut mock = Mock { addr, shared, threads: Vec::new() };
        let mut listener = Some(listener);
        for index in 0..loops {
            let event_loop = EventLoop::new(Arc::clone(&mock.shared), index, listener.take())?;
            mock.threads.push(spawn(event_loop, index, cores.get(index).copied())?);
        }
        Ok(mock)
    }

    /// The address the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The records of all requests that have ended, in order of arrival.
    pub fn truth(&self) -> Vec<Truth> {
        self.shared.truths()
    }

    /// The server's counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Clears the request records, the lateness histogram and the peak, as `POST /truth/reset` does.
    #[cfg(feature = "internals")]
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Closes all connections and ends the threads; truth and stats remain available. Requests in flight are recorded
    /// as stopped.
    ///
    /// # Errors
    /// The error that an event loop failed with.
    pub fn stop(&mut self) -> io::Result<()> {
        self.shared.stopping.store(true, Relaxed);
        self.shared.loops.iter().for_each(LoopShare::wake);
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(error) => result = error,
                Err(_) => result = Err(io::Error::other("an event loop of the mock panicked")),
            }
        }
        result
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // An error cannot be returned from `drop`.
        let _ = self.stop();
    }
}

/// Starts the thread of an event loop and waits until it is pinned.
fn spawn(event_loop: EventLoop, index: usize, core: Option<usize>) -> io::Result<JoinHandle<io::Result<()>>> {
    let (pinned_sender, pinned_receiver) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name(format!("mock-{index}")).spawn(move || {
        let pinned = core.is_none_or(pin);
        // The default timer slack delays every timed wait by up to 50 us.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        // The receiver exists until it has received this value.
        let _ = pinned_sender.send(pinned);
        if pinned { event_loop.run() } else { Ok(()) }
    })?;
    match pinned_receiver.recv() {
        Ok(true) => Ok(thread),
        _ => {
            let core = core.map_or(String::new(), |core| format!(" to core {core}"));
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the mock cannot be pinned{core}")))
        }
    }
}

/// Pins this thread to a core. Returns whether it succeeded.
fn pin(id: usize) -> bool {
    // The size of a kernel CPU set; `core_affinity` aborts the process for larger ids.
    const CORES: usize = 1024;
    id < CORES && core_affinity::set_for_current(core_affinity::CoreId { id })
}

/// Raises the soft limit of open files to the hard limit. A failure is ignored: the lower limit then shows up as an
/// accept error.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
