//! The built-in inference server that knows the truth: a real HTTP server on TCP, whose every send instant is stamped
//! just before the system call and kept beside what was asked and what went wrong on purpose.
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

mod asked;
mod clock;
mod config;
mod connection;
mod draw;
mod event_loop;
mod exchange;
mod fault;
mod http;
mod render;
pub mod run;
mod shared;
mod tally;
mod truth;

pub use asked::Endpoint;
pub use config::{
    CloseStyle, Config, FinishStyle, Framing, HeadStyle, KEYS, Key, RoleStyle, TextStyle, TimingsStyle, UsageStyle,
};
pub use draw::{Count, Delay, Law};
pub use fault::{FAULTS, Fault, FaultKind, When};
pub use truth::{End, Stats, Truth};

use event_loop::EventLoop;
use shared::{LoopShare, Shared};

/// Connections that may wait to be accepted; the kernel cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 16_384;

/// A running server. Dropping it stops it.
pub struct Mock {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Mock {
    /// Starts to serve on `bind` with one thread pinned to each of `cores`, or one that is not pinned when there are
    /// none. Raises the limit of open files as far as it may.
    ///
    /// # Errors
    /// The address is in use or not ours, a core does not exist, or the system refuses a thread or a descriptor.
    pub fn start(config: &Config, cores: &[usize], bind: SocketAddr) -> io::Result<Mock> {
        raise_file_limit();
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        // The standard library's queue of 128 is too short for ten thousand connections at once.
        rustix::net::listen(&listener, BACKLOG)?;
        let addr = listener.local_addr()?;
        let loops = cores.len().max(1);
        let shared = Arc::new(Shared::new(config.clone(), loops, clock::unix_seconds())?);
        let mut mock = Mock { addr, shared, threads: Vec::new() };
        let mut listener = Some(listener);
        for me in 0..loops {
            let event_loop = EventLoop::new(Arc::clone(&mock.shared), me, listener.take())?;
            mock.threads.push(spawn(event_loop, me, cores.get(me).copied())?);
        }
        Ok(mock)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The truth about all requests that have ended, in the order of arrival.
    pub fn truth(&self) -> Vec<Truth> {
        self.shared.truths()
    }

    /// Its account of itself.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Forgets truth, lateness and peak, as `POST /truth/reset` does.
    #[cfg(feature = "internals")]
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Closes all connections and ends the threads; truth and stats stay. Requests on their way are recorded as
    /// [`End::Stopped`].
    ///
    /// # Errors
    /// What an event loop failed with.
    pub fn stop(&mut self) -> io::Result<()> {
        self.shared.stopping.store(true, Relaxed);
        self.shared.loops.iter().for_each(LoopShare::ring);
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
        // Nobody is left to hear of a failure.
        let _ = self.stop();
    }
}

/// Starts a loop's thread and waits until it is pinned.
fn spawn(event_loop: EventLoop, me: usize, core: Option<usize>) -> io::Result<JoinHandle<io::Result<()>>> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name(format!("mock-{me}")).spawn(move || {
        let pinned = core.is_none_or(pin);
        // The default slack of 50 us would make every timed wait that much late.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        // The starter waits for this; it cannot be gone.
        let _ = tell.send(pinned);
        if pinned { event_loop.run() } else { Ok(()) }
    })?;
    match told.recv() {
        Ok(true) => Ok(thread),
        _ => {
            let core = core.map_or(String::new(), |core| format!(" to core {core}"));
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the mock cannot be pinned{core}")))
        }
    }
}

/// Pins this thread to a core; whether that worked.
fn pin(id: usize) -> bool {
    // A set of cores has room for this many, and `core_affinity` aborts the process beyond.
    const CORES: usize = 1024;
    id < CORES && core_affinity::set_for_current(core_affinity::CoreId { id })
}

/// Raises the soft limit of open files to the hard one. Where that fails, the limit shows when it is reached.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
