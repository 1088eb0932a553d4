//! The run's clock: `CLOCK_MONOTONIC` read through the TSC, and the conversion of the kernel's receive timestamps to
//! it.
//!
//! Every [`Tick`] is nanoseconds of `CLOCK_MONOTONIC`. Reading the TSC takes half the time of the vDSO. It is fitted to
//! the kernel's clock every second and stays within tens of nanoseconds of it. Kernel receive timestamps are
//! `CLOCK_REALTIME`. Both kernel clocks run at the same (NTP-slewed) rate, so the conversion is one offset, which
//! changes only when the wall clock is stepped.

#![expect(unsafe_code, reason = "RDTSC has no safe form")]

use std::cell::Cell;
#[cfg(feature = "internals")]
use std::sync::Arc;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use crate::time::{MS, S, Tick};

/// How a clock reads the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// Invariant TSC, fitted to `CLOCK_MONOTONIC`.
    Tsc,
    /// `clock_gettime(CLOCK_MONOTONIC)`, if the TSC is not invariant.
    Monotonic,
    /// The kernel's clocks as a test simulates them.
    #[cfg(feature = "internals")]
    Simulated,
}

/// The kernel's clocks in a simulation, nanoseconds.
#[cfg(feature = "internals")]
pub trait SimulatedTime: std::fmt::Debug + Send + Sync {
    /// `CLOCK_MONOTONIC`.
    fn monotonic_ns(&self) -> u64;

    /// `CLOCK_REALTIME`.
    fn real_ns(&self) -> u64;
}

/// A simultaneous reading of the TSC and `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tsc: u64,
    mono_ns: u64,
}

/// A straight line from TSC to nanoseconds: `base_ns + (tsc − base_tsc) · slope / 2³²`.
#[derive(Clone, Copy, Debug)]
struct Line {
    base_tsc: u64,
    base_ns: u64,
    slope: u64,
}

impl Line {
    fn at(&self, tsc: u64) -> u64 {
        let passed = tsc.wrapping_sub(self.base_tsc) as i64;
        let ns = (i128::from(passed) * i128::from(self.slope)) >> 32;
        self.base_ns.wrapping_add(ns as u64)
    }
}

/// `CLOCK_REALTIME − CLOCK_MONOTONIC` now and before the last step of the wall clock.
#[derive(Clone, Copy, Debug)]
struct RealOffset {
    now_ns: i64,
    before_ns: i64,
}

/// The clock of one thread. Each worker refits its own.
#[derive(Debug)]
pub struct Clock {
    source: ClockSource,
    line: Cell<Line>,
    anchor: Cell<Sample>,
    real: Cell<RealOffset>,
    refit_at: Cell<Tick>,
    #[cfg(feature = "internals")]
    simulated: Option<Arc<dyn SimulatedTime>>,
}

/// A fit is renewed after an interval as long as its baseline, but after one second at the latest. Readings are
/// accurate to about 40 ns, so the error of a fit stays at that level while it is used. Crystals drift by parts per
/// billion in a second.
const REFIT_NS: u64 = S;
/// The baseline of the first fit.
const FIRST_BASELINE_NS: u64 = 10 * MS;
/// A change of the offset larger than this is a step of the wall clock, not noise of the reading (±21 ns measured).
const STEP_NS: i64 = 2_000;
/// A timestamp older than this when it is processed is not used, because data does not stay that long in a socket.
const OLDEST_TIMESTAMP_NS: i64 = 100 * S as i64;

impl Clock {
    /// A clock fitted to the readings since the first one of the process.
    pub fn new() -> Clock {
        let source = source();
        let first = first_sample();
        let line = match source {
            ClockSource::Tsc => first_line(first),
            _ => Line { base_tsc: 0, base_ns: 0, slope: 1 << 32 },
        };
        let clock = Clock {
            source,
            line: Cell::new(line),
            anchor: Cell::new(first),
            real: Cell::new(RealOffset { now_ns: 0, before_ns: 0 }),
            refit_at: Cell::new(Tick(0)),
            #[cfg(feature = "internals")]
            simulated: None,
        };
        let offset = clock.measure_real_offset();
        clock.real.set(RealOffset { now_ns: offset, before_ns: offset });
        clock.refit_at.set(clock.now().plus_ns(FIRST_BASELINE_NS));
        clock
    }

    /// A clock that reads simulated clocks.
    #[cfg(feature = "internals")]
    pub fn simulated(time: Arc<dyn SimulatedTime>) -> Clock {
        let nothing = Sample { tsc: 0, mono_ns: 0 };
        let clock = Clock {
            source: ClockSource::Simulated,
            line: Cell::new(Line { base_tsc: 0, base_ns: 0, slope: 1 << 32 }),
            anchor: Cell::new(nothing),
            real: Cell::new(RealOffset { now_ns: 0, before_ns: 0 }),
            refit_at: Cell::new(Tick(0)),
            simulated: Some(time),
        };
        let offset = clock.measure_real_offset();
        clock.real.set(RealOffset { now_ns: offset, before_ns: offset });
        clock
    }

    /// The current time.
    #[inline]
    pub fn now(&self) -> Tick {
        match self.source {
            ClockSource::Tsc => Tick(self.line.get().at(read_tsc())),
            _ => Tick(self.kernel_ns(ClockId::Monotonic)),
        }
    }

    /// Converts a kernel timestamp (nanoseconds of `CLOCK_REALTIME`) of data that was processed at `reaped`. `None` if
    /// the timestamp fits neither the current offset nor the one before the last step of the wall clock.
    #[inline]
    pub(crate) fn tick_from_kernel(&self, real_ns: u64, reaped: Tick) -> Option<Tick> {
        let real = self.real.get();
        for offset in [real.now_ns, real.before_ns] {
            let tick = Tick(real_ns.wrapping_sub(offset as u64));
            let lag = reaped.ns_since(tick);
            if (-STEP_NS..OLDEST_TIMESTAMP_NS).contains(&lag) {
                return Some(tick.min(reaped));
            }
        }
        None
    }

    /// `CLOCK_REALTIME − CLOCK_MONOTONIC`, nanoseconds: added to a tick it gives the wall-clock time.
    pub(crate) fn wall_offset_ns(&self) -> i64 {
        self.real.get().now_ns
    }

    /// Renews the fit and the offset if they are due: once a second, more often at first.
    pub fn maintain(&self, now: Tick) {
        if now < self.refit_at.get() {
            return;
        }
        let interval_ns = (now.0 - self.anchor.get().mono_ns).clamp(FIRST_BASELINE_NS, REFIT_NS);
        self.refit_at.set(now.plus_ns(interval_ns));
        if self.source == ClockSource::Tsc {
            self.refit(interval_ns);
        }
        let offset = self.measure_real_offset();
        let old = self.real.get();
        let stepped = (offset - old.now_ns).abs() > STEP_NS;
        self.real.set(RealOffset { now_ns: offset, before_ns: if stepped { old.now_ns } else { old.before_ns } });
    }

    /// Sets a new line that begins at the current reading and meets the kernel's clock one interval later, so that time
    /// neither jumps nor goes backwards.
    fn refit(&self, interval_ns: u64) {
        let sample = take_sample();
        let anchor = self.anchor.get();
        let rate = slope(anchor, sample);
        let shown_ns = self.line.get().at(sample.tsc);
        let error_ns = shown_ns.wrapping_sub(sample.mono_ns) as i64;
        let correction = i128::from(rate) * i128::from(error_ns) / i128::from(interval_ns);
        let slope = (i128::from(rate) - correction).max(1) as u64;
        self.line.set(Line { base_tsc: sample.tsc, base_ns: shown_ns, slope });
        if sample.mono_ns - anchor.mono_ns > 2 * REFIT_NS {
            self.anchor.set(sample);
        }
    }

    /// Reads a clock of the kernel.
    fn kernel_ns(&self, clock: ClockId) -> u64 {
        #[cfg(feature = "internals")]
        if let Some(time) = &self.simulated {
            return if clock == ClockId::Realtime { time.real_ns() } else { time.monotonic_ns() };
        }
        clock_ns(clock)
    }

    /// Measures the offset as the narrowest of several brackets monotonic–real–monotonic.
    fn measure_real_offset(&self) -> i64 {
        let mut best = (u64::MAX, 0);
        for _ in 0..8 {
            let before = self.kernel_ns(ClockId::Monotonic);
            let real = self.kernel_ns(ClockId::Realtime);
            let after = self.kernel_ns(ClockId::Monotonic);
            let width = after - before;
            if width < best.0 {
                best = (width, real as i64 - (before + width / 2) as i64);
            }
        }
        best.1
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// The TSC if it is invariant, else the kernel's clock.
pub fn source() -> ClockSource {
    static SOURCE: OnceLock<ClockSource> = OnceLock::new();
    *SOURCE.get_or_init(|| {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let invariant = cfg!(target_arch = "x86_64")
            && flags.contains(" constant_tsc")
            && flags.contains(" nonstop_tsc")
            && std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .is_ok_and(|name| matches!(name.trim(), "tsc" | "kvm-clock"));
        if invariant { ClockSource::Tsc } else { ClockSource::Monotonic }
    })
}

/// The first reading of the process, from which every clock starts its fit.
fn first_sample() -> Sample {
    static FIRST: OnceLock<Sample> = OnceLock::new();
    *FIRST.get_or_init(take_sample)
}

/// The line through the first reading and one taken at least 10 ms later.
fn first_line(first: Sample) -> Line {
    let mut sample = take_sample();
    while sample.mono_ns - first.mono_ns < FIRST_BASELINE_NS {
        std::thread::sleep(std::time::Duration::from_nanos(FIRST_BASELINE_NS));
        sample = take_sample();
    }
    Line { base_tsc: sample.tsc, base_ns: sample.mono_ns, slope: slope(first, sample) }
}

/// Nanoseconds per TSC tick between two readings, scaled by 2³².
fn slope(from: Sample, to: Sample) -> u64 {
    let ns = u128::from(to.mono_ns - from.mono_ns);
    let ticks = u128::from(to.tsc.wrapping_sub(from.tsc)).max(1);
    ((ns << 32) / ticks) as u64
}

/// The narrowest of several brackets TSC–monotonic–TSC.
fn take_sample() -> Sample {
    let mut best = (u64::MAX, Sample { tsc: 0, mono_ns: 0 });
    for _ in 0..8 {
        let before = read_tsc();
        let mono_ns = monotonic_ns();
        let width = read_tsc().wrapping_sub(before);
        if width < best.0 {
            best = (width, Sample { tsc: before.wrapping_add(width / 2), mono_ns });
        }
    }
    best.1
}

#[inline]
fn read_tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 processor and has no side effects.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    monotonic_ns()
}

/// The current time of the kernel's `CLOCK_MONOTONIC`, read through the vDSO.
pub(crate) fn kernel_now() -> Tick {
    Tick(monotonic_ns())
}

fn monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * S + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_kernel_and_never_goes_back() {
        let clock = Clock::new();
        let mut last = clock.now();
        for round in 0..20_000 {
            let now = clock.now();
            assert!(now >= last, "time went back from {last:?} to {now:?}");
            last = now;
            if round % 1000 == 0 {
                clock.refit(FIRST_BASELINE_NS);
            }
        }
        let before = monotonic_ns();
        let tick = clock.now().0;
        let after = monotonic_ns();
        assert!(tick + 50_000 > before && tick < after + 50_000, "{before} {tick} {after}");
    }

    #[test]
    fn kernel_timestamps_are_converted_even_after_a_step() {
        let clock = Clock::new();
        let now = clock.now();
        let real = now.0.wrapping_add(clock.wall_offset_ns() as u64);
        assert_eq!(clock.tick_from_kernel(real - 5_000, now), Some(Tick(now.0 - 5_000)));
        assert_eq!(clock.tick_from_kernel(real + 500_000_000_000, now), None);

        let old = clock.real.get();
        clock.real.set(RealOffset { now_ns: old.now_ns + 3_600_000_000_000, before_ns: old.now_ns });
        assert_eq!(clock.tick_from_kernel(real - 5_000, now), Some(Tick(now.0 - 5_000)));
    }

    #[test]
    fn a_line_is_exact_over_seconds() {
        let line = Line { base_tsc: 1_000, base_ns: 500, slope: 1 << 31 };
        assert_eq!(line.at(3_000), 1_500);
        assert_eq!(line.at(0), 0);
    }
}
