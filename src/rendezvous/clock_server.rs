//! Shard 0's side of the clock exchanges: it answers packets of the shards of its job, on one address, until the call
//! ends.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock_packet::{self, LAST};
use super::clock_socket::ClockSocket;

/// The longest wait between two checks of the stop flag.
const STEP: Duration = Duration::from_millis(50);
/// A shard that has sent nothing for so long is taken for ended.
const SILENT: Duration = Duration::from_secs(3);

/// The exchanges of each shard and run: by its number and what it drew for the run.
type Active = Arc<Mutex<BTreeMap<(u32, [u8; 16]), LastRequest>>>;

/// The last request of a shard in a run, and when it came.
#[derive(Clone, Copy, Debug)]
struct LastRequest {
    number: u32,
    at: Instant,
}

/// A server on a thread of its own. It ends when this is dropped.
pub(super) struct ClockServer {
    address: SocketAddr,
    active: Active,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ClockServer {
    /// Listens on `address` for shards 1 to `count` − 1.
    pub(super) fn start(address: SocketAddr, token: &[u8], count: u32) -> io::Result<ClockServer> {
        let socket = UdpSocket::bind(address)?;
        let (address, key) = (socket.local_addr()?, clock_packet::key(token));
        let (active, stop) = (Active::default(), Arc::new(AtomicBool::new(false)));
        let (others, stopped) = (active.clone(), stop.clone());
        // The thread makes its own clock.
        let serve = move || {
            let Ok(socket) = ClockSocket::new(socket) else { return };
            while !stopped.load(Ordering::Relaxed) {
                let Ok(Some(packet)) = socket.receive(STEP) else { continue };
                let request = clock_packet::read_request(&key, packet.bytes());
                let Some(request) = request.filter(|request| (1..count).contains(&request.shard)) else { continue };
                let mut others = others.lock().unwrap_or_else(PoisonError::into_inner);
                let last = LastRequest { number: request.number, at: Instant::now() };
                // A packet that comes again was sent by a stranger who recorded it.
                let run = (request.shard, request.nonce);
                if others.get(&run).is_some_and(|before| before.number >= request.number) {
                    continue;
                }
                others.insert(run, last);
                if request.number == LAST {
                    continue;
                }
                let answer = clock_packet::write_answer(&key, request, packet.at, socket.now());
                // A shard that cannot be reached has no exchange.
                let _ = socket.socket.send_to(&answer, packet.from);
            }
        };
        let thread = std::thread::Builder::new().name("clock".to_string()).spawn(serve)?;
        Ok(ClockServer { address, active, stop, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until no shard exchanges packets any more: all have ended, or been silent for seconds. At most for `limit`.
    pub(super) fn wait_for_others(&self, limit: Duration, stopped: &dyn Fn() -> bool) {
        let is_active = || {
            let others = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            others.values().any(|last| last.number != LAST && last.at.elapsed() < SILENT)
        };
        let begin = Instant::now();
        while is_active() && begin.elapsed() < limit && !stopped() {
            std::thread::sleep(STEP);
        }
    }
}

impl Drop for ClockServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no result.
            let _ = thread.join();
        }
    }
}
