//! State shared by the event loops and the handle. It is accessed when requests begin and end, not per event.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, eventfd};

use super::config::Config;
use super::metrics::{self, LoopMetrics};
use super::truth::{Stats, Truth};

/// The shared state of a running mock.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) loops: Vec<LoopShare>,
    pub(super) stopping: AtomicBool,
    pub(super) slots: Slots,
    pub(super) created_s: u64,
    next_ordinal: AtomicU64,
    next_connection: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
}

/// The shared state of one event loop.
pub(super) struct LoopShare {
    pub(super) metrics: LoopMetrics,
    pub(super) truth_store: Mutex<TruthStore>,
    pub(super) lateness_ns: Mutex<Histogram<u64>>,
    /// Connections that the accepting loop has assigned to this loop.
    pub(super) inbox: Mutex<Vec<OwnedFd>>,
    /// Eventfd that wakes this loop.
    pub(super) wake_fd: OwnedFd,
}

/// The stored request records of one loop.
#[derive(Default)]
pub(super) struct TruthStore {
    pub(super) truths: Vec<Truth>,
    /// Requests that were not stored because the limit was reached.
    pub(super) dropped: u64,
}

/// Locks a mutex and ignores poisoning: the data stays readable after another thread has panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoopShare {
    pub(super) fn new() -> std::io::Result<LoopShare> {
        let lateness_ns =
            Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("1 to 60 s with two digits are valid bounds");
        Ok(LoopShare {
            metrics: LoopMetrics::default(),
            truth_store: Mutex::default(),
            lateness_ns: Mutex::new(lateness_ns),
            inbox: Mutex::default(),
            wake_fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// Wakes the loop.
    pub(super) fn wake(&self) {
        // The write fails only if the counter is full, and then the loop is already being woken.
        let _ = rustix::io::write(&self.wake_fd, &1u64.to_ne_bytes());
    }
}

impl Shared {
    pub(super) fn new(config: Config, loops: usize, created_s: u64) -> std::io::Result<Shared> {
        let limit = if config.max_running == 0 { u64::MAX } else { u64::from(config.max_running) };
        Ok(Shared {
            config,
            loops: (0..loops).map(|_| LoopShare::new()).collect::<std::io::Result<_>>()?,
            stopping: AtomicBool::new(false),
            slots: Slots { limit, running: AtomicU64::new(0), waiting: AtomicU64::new(0) },
            created_s,
            next_ordinal: AtomicU64::new(0),
            next_connection: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
        })
    }

    pub(super) fn connection_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Relaxed)
    }

    /// Counts a request that has been read and returns its ordinal.
    pub(super) fn request_begins(&self) -> u64 {
        let in_flight = self.in_flight.fetch_add(1, SeqCst) + 1;
        self.peak_in_flight.fetch_max(in_flight, SeqCst);
        self.next_ordinal.fetch_add(1, Relaxed)
    }

    pub(super) fn request_ends(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }

    /// All stored request records, in order of arrival.
    pub(super) fn truths(&self) -> Vec<Truth> {
        let mut all: Vec<Truth> = Vec::new();
        for share in &self.loops {
            all.extend_from_slice(&lock(&share.truth_store).truths);
        }
        all.sort_by_key(|truth| truth.ordinal);
        all
    }

    /// Clears the request records, the lateness histogram and the peak. Counters are not reset.
    pub(super) fn reset(&self) {
        for share in &self.loops {
            *lock(&share.truth_store) = TruthStore::default();
            lock(&share.lateness_ns).reset();
        }
        self.peak_in_flight.store(self.in_flight.load(SeqCst), SeqCst);
    }

    pub(super) fn stats(&self) -> Stats {
        let loops: Vec<&LoopMetrics> = self.loops.iter().map(|share| &share.metrics).collect();
        let mut lateness_ns = lock(&self.loops[0].lateness_ns).clone();
        for share in &self.loops[1..] {
            lateness_ns.add(&*lock(&share.lateness_ns)).expect("all loops have the same bounds");
        }
        let mut stats = Stats {
            requests: metrics::sum(&loops, |t| &t.requests),
            events: metrics::sum(&loops, |t| &t.events),
            in_flight: self.in_flight.load(SeqCst),
            peak_in_flight: self.peak_in_flight.load(SeqCst),
            connections: self.next_connection.load(Relaxed),
            open_connections: metrics::sum(&loops, |t| &t.open_connections),
            refused: metrics::sum(&loops, |t| &t.refused),
            blocked_writes: metrics::sum(&loops, |t| &t.blocked_writes),
            truth_dropped: self.loops.iter().map(|share| lock(&share.truth_store).dropped).sum(),
            cpu_ns: metrics::sum(&loops, |t| &t.cpu_ns),
            ..Stats::default()
        };
        stats.set_lateness(&lateness_ns);
        stats
    }

    /// The page `/metrics`.
    pub(super) fn metrics_page(&self) -> Vec<u8> {
        let loops: Vec<&LoopMetrics> = self.loops.iter().map(|share| &share.metrics).collect();
        let (running, waiting) = (self.slots.running.load(SeqCst), self.slots.waiting.load(SeqCst));
        metrics::page(&loops, &self.config.model, running, waiting)
    }
}

/// The slots for running requests (`max_running`), shared by all loops.
pub(super) struct Slots {
    limit: u64,
    running: AtomicU64,
    waiting: AtomicU64,
}

impl Slots {
    /// Takes a slot if one is free. Returns whether it did.
    pub(super) fn take(&self) -> bool {
        self.running.fetch_update(SeqCst, SeqCst, |running| (running < self.limit).then_some(running + 1)).is_ok()
    }

    pub(super) fn release(&self) {
        self.running.fetch_sub(1, SeqCst);
    }

    /// Counts a request that waits for a slot. Its loop must try [`Slots::take`] again afterwards, because another loop
    /// may have released a slot in between.
    pub(super) fn queue(&self) {
        self.waiting.fetch_add(1, SeqCst);
    }

    pub(super) fn unqueue(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }
}
