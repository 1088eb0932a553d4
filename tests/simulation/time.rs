//! Virtual time: the clocks of one worker. They advance when they are read and when the kernel works, and jump when the
//! process is stopped.

use std::sync::atomic::{AtomicU64, Ordering};

use ringmark::time::clock::SimulatedTime;

/// A worker does nothing between these two points in time.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub begin_ns: u64,
    pub length_ns: u64,
}

/// The wall clock is stepped by this much at this point in time.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub at_ns: u64,
    pub by_ns: i64,
}

/// The clocks of one worker.
#[derive(Debug)]
pub struct VirtualTime {
    now_ns: AtomicU64,
    /// The time that a reading takes.
    reading_ns: u64,
    /// In order of time.
    stops: Vec<Stop>,
    next_stop: AtomicU64,
    steps: Vec<Step>,
}

/// Where monotonic time begins.
pub const BEGIN_NS: u64 = 1_000_000_000_000;
/// The wall clock at that time.
const REAL_BEGIN_NS: u64 = 1_700_000_000_000_000_000;

impl VirtualTime {
    pub fn new(reading_ns: u64, stops: Vec<Stop>, steps: Vec<Step>) -> VirtualTime {
        VirtualTime { now_ns: AtomicU64::new(BEGIN_NS), reading_ns, stops, next_stop: AtomicU64::new(0), steps }
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    /// Lets time pass. A stop that begins in it takes place as well.
    pub fn pass(&self, ns: u64) {
        self.pass_until(self.now_ns() + ns);
    }

    /// Lets time pass until `at_ns`, if that is later.
    pub fn pass_until(&self, at_ns: u64) {
        let mut now_ns = self.now_ns().max(at_ns);
        let mut next = self.next_stop.load(Ordering::Relaxed);
        while let Some(stop) = self.stops.get(next as usize).filter(|stop| stop.begin_ns <= now_ns) {
            now_ns = now_ns.max(stop.begin_ns + stop.length_ns);
            next += 1;
        }
        self.next_stop.store(next, Ordering::Relaxed);
        self.now_ns.store(now_ns, Ordering::Relaxed);
    }

    /// The wall clock at a point in monotonic time.
    pub fn real_at_ns(&self, mono_ns: u64) -> u64 {
        let stepped: i64 = self.steps.iter().filter(|step| step.at_ns <= mono_ns).map(|step| step.by_ns).sum();
        (mono_ns - BEGIN_NS + REAL_BEGIN_NS).wrapping_add_signed(stepped)
    }
}

impl SimulatedTime for VirtualTime {
    fn monotonic_ns(&self) -> u64 {
        self.pass(self.reading_ns);
        self.now_ns()
    }

    fn real_ns(&self) -> u64 {
        self.real_at_ns(self.monotonic_ns())
    }
}
