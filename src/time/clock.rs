//! The run's clock: `CLOCK_MONOTONIC` read through the TSC, and the conversion of the kernel's receive timestamps to
//! it.
//!
//! Every [`Tick`] is nanoseconds of `CLOCK_MONOTONIC`. Reading the TSC takes half the time of the vDSO. It is fitted to
//! the kernel's clock every second and stays within tens of nanoseconds of it; each fit measures by how much the one
//! before was off ([`Clock::worst_error_ns`]). Kernel receive timestamps are `CLOCK_REALTIME`. Both kernel clocks run at
//! the same (NTP-slewed) rate, so the conversion is one offset, which changes only when the wall clock is stepped. A
//! step is looked for before timestamps are converted, because nothing in a timestamp shows to which side of a step it
//! belongs.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "RDTSC has no safe form"))]

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

/// A simultaneous reading of the TSC and `CLOCK_MONOTONIC`, and by how many TSC ticks it can be off.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tsc: u64,
    mono_ns: u64,
    doubt: u64,
}

/// A straight line from TSC to nanoseconds: `base_ns + (tsc − base_tsc) · slope / 2³²`.
#[derive(Clone, Copy, Debug)]
struct LinearFit {
    base_tsc: u64,
    base_ns: u64,
    slope: u64,
}

impl LinearFit {
    fn at(&self, tsc: u64) -> u64 {
        let passed = tsc.wrapping_sub(self.base_tsc) as i64;
        let ns = (i128::from(passed) * i128::from(self.slope)) >> 32;
        self.base_ns.wrapping_add(ns as u64)
    }
}

/// `CLOCK_REALTIME − CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
struct RealOffset {
    now_ns: i64,
    /// The last time at which it was found to be that.
    checked: Tick,
    step: Option<WallStep>,
}

/// A step of the wall clock: the offset before it, and the times between which it happened.
#[derive(Clone, Copy, Debug)]
struct WallStep {
    before_ns: i64,
    after: Tick,
    by: Tick,
}

/// When the next timestamp is to be converted, whether the wall clock must be checked for a step first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepCheck {
    Always,
    /// For the first one of a batch, all of whose timestamps were taken before it is converted.
    OfBatch,
    Done,
}

/// The clock of one thread. Each worker refits its own.
#[derive(Debug)]
pub struct Clock {
    source: ClockSource,
    line: Cell<LinearFit>,
    /// The reading from which the rate is computed, and the one that replaces it.
    anchor: Cell<Sample>,
    next_anchor: Cell<Sample>,
    real: Cell<RealOffset>,
    refit_at: Cell<Tick>,
    #[cfg(feature = "internals")]
    simulated: Option<Arc<dyn SimulatedTime>>,
    step_check: Cell<StepCheck>,
    worst_error_ns: Cell<u64>,
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
            _ => LinearFit { base_tsc: 0, base_ns: 0, slope: 1 << 32 },
        };
        let clock = Clock {
            source,
            line: Cell::new(line),
            anchor: Cell::new(first),
            next_anchor: Cell::new(first),
            real: Cell::new(RealOffset { now_ns: 0, checked: Tick(0), step: None }),
            refit_at: Cell::new(Tick(0)),
            #[cfg(feature = "internals")]
            simulated: None,
            step_check: Cell::new(StepCheck::Always),
            worst_error_ns: Cell::new(0),
        };
        let checked = clock.now();
        let now_ns = clock.measure_real_offset();
        clock.real.set(RealOffset { now_ns, checked, step: None });
        clock.refit_at.set(clock.now().plus_ns(FIRST_BASELINE_NS));
        clock
    }

    /// A clock that reads simulated clocks.
    #[cfg(feature = "internals")]
    pub fn simulated(time: Arc<dyn SimulatedTime>) -> Clock {
        let nothing = Sample { tsc: 0, mono_ns: 0, doubt: 0 };
        let clock = Clock {
            source: ClockSource::Simulated,
            line: Cell::new(LinearFit { base_tsc: 0, base_ns: 0, slope: 1 << 32 }),
            anchor: Cell::new(nothing),
            next_anchor: Cell::new(nothing),
            real: Cell::new(RealOffset { now_ns: 0, checked: Tick(0), step: None }),
            refit_at: Cell::new(Tick(0)),
            simulated: Some(time),
            step_check: Cell::new(StepCheck::Always),
            worst_error_ns: Cell::new(0),
        };
        let checked = clock.now();
        let now_ns = clock.measure_real_offset();
        clock.real.set(RealOffset { now_ns, checked, step: None });
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

    /// Converts a kernel timestamp (nanoseconds of `CLOCK_REALTIME`) of data that was processed at `reaped` and cannot
    /// have arrived before `not_before`. `None` if it is not known to which side of a step of the wall clock the
    /// timestamp belongs, or if it fits neither.
    #[inline]
    pub(crate) fn tick_from_kernel(&self, real_ns: u64, reaped: Tick, not_before: Tick) -> Option<Tick> {
        match self.step_check.get() {
            StepCheck::Done => {}
            StepCheck::Always => self.check_for_step(),
            StepCheck::OfBatch => {
                self.check_for_step();
                self.step_check.set(StepCheck::Done);
            }
        }
        let real = self.real.get();
        let at = |offset_ns: i64| {
            let tick = Tick(real_ns.wrapping_sub(offset_ns as u64));
            (-STEP_NS..OLDEST_TIMESTAMP_NS).contains(&reaped.ns_since(tick)).then_some(tick.min(reaped))
        };
        match real.step {
            None => at(real.now_ns),
            Some(step) => choose_side(step, at(step.before_ns), at(real.now_ns), not_before),
        }
    }

    /// From now on, until [`Clock::end_batch`], the wall clock is checked for a step only once: all timestamps were taken
    /// before the first one is converted.
    pub(crate) fn begin_batch(&self) {
        self.step_check.set(StepCheck::OfBatch);
    }

    /// Ends the batch: the wall clock is checked for every timestamp.
    pub(crate) fn end_batch(&self) {
        self.step_check.set(StepCheck::Always);
    }

    /// One reading of the wall clock; if it disagrees, the offset is measured.
    fn check_for_step(&self) {
        let now = self.now();
        let mut real = self.real.get();
        let offset_ns = (self.kernel_ns(ClockId::Realtime) as i64).wrapping_sub(now.0 as i64);
        if (offset_ns - real.now_ns).abs() > STEP_NS {
            self.renew_real_offset(now);
        } else {
            real.checked = now;
            self.real.set(real);
        }
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
        let interval_ns = (now.0.saturating_sub(self.anchor.get().mono_ns)).clamp(FIRST_BASELINE_NS, REFIT_NS);
        self.refit_at.set(now.plus_ns(interval_ns));
        if self.source == ClockSource::Tsc {
            self.refit(interval_ns);
        }
        self.renew_real_offset(now);
    }

    /// Sets the clock to the kernel's after a pause in which nothing has called [`Clock::maintain`]. The time may jump, by
    /// what the fit was off, so nothing that is measured may span this.
    pub(crate) fn resync(&self) {
        if self.source == ClockSource::Tsc {
            let sample = take_sample();
            let slope = slope(self.anchor.get(), sample);
            self.line.set(LinearFit { base_tsc: sample.tsc, base_ns: sample.mono_ns, slope });
            self.keep_anchor(sample);
        }
        let now = self.now();
        self.refit_at.set(now.plus_ns(FIRST_BASELINE_NS));
        self.renew_real_offset(now);
    }

    /// Measures the error now, for what was measured since the last fit.
    pub(crate) fn measure_error(&self) {
        if self.source == ClockSource::Tsc {
            let sample = take_sample();
            let error_ns = self.line.get().at(sample.tsc).wrapping_sub(sample.mono_ns) as i64;
            self.note_error(error_ns.unsigned_abs() + self.ticks_to_ns(sample.doubt));
        }
        self.renew_real_offset(self.now());
    }

    /// The largest error that a fit or a measurement of the offset has shown since the last call, nanoseconds. Between two
    /// fits the error changes linearly, so it is never larger than at both.
    pub(crate) fn take_worst_error_ns(&self) -> u64 {
        self.worst_error_ns.take()
    }

    /// Sets a new line that begins at the current reading and meets the kernel's clock one interval later, so that time
    /// neither jumps nor goes backwards.
    fn refit(&self, interval_ns: u64) {
        let sample = take_sample();
        let rate = slope(self.anchor.get(), sample);
        let shown_ns = self.line.get().at(sample.tsc);
        let error_ns = shown_ns.wrapping_sub(sample.mono_ns) as i64;
        let correction = i128::from(rate) * i128::from(error_ns) / i128::from(interval_ns);
        let slope = (i128::from(rate) - correction).max(1) as u64;
        self.line.set(LinearFit { base_tsc: sample.tsc, base_ns: shown_ns, slope });
        self.note_error(error_ns.unsigned_abs() + self.ticks_to_ns(sample.doubt));
        self.keep_anchor(sample);
    }

    /// Makes `sample` an anchor if the present one is old enough. The rate is computed over one to two intervals, so that
    /// it stays accurate while the clock cannot be maintained.
    fn keep_anchor(&self, sample: Sample) {
        if sample.mono_ns - self.next_anchor.get().mono_ns > REFIT_NS {
            self.anchor.set(self.next_anchor.replace(sample));
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

    fn ticks_to_ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.line.get().slope)) >> 32) as u64
    }

    fn note_error(&self, ns: u64) {
        self.worst_error_ns.set(self.worst_error_ns.get().max(ns));
    }

    /// Measures the offset; `now` is a time before that.
    fn renew_real_offset(&self, now: Tick) {
        let now_ns = self.measure_real_offset();
        let old = self.real.get();
        let change_ns = (now_ns - old.now_ns).abs();
        let step = if change_ns > STEP_NS {
            Some(WallStep { before_ns: old.now_ns, after: old.checked, by: self.now() })
        } else {
            // Timestamps since the last measurement were converted with the old offset.
            self.note_error(change_ns as u64);
            old.step
        };
        self.real.set(RealOffset { now_ns, checked: now, step });
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

/// The side of a step of the wall clock to which a timestamp belongs. `before` and `now` are its times with the offsets
/// before and after the step. The first can be true only until the step, the second only from the step on. If both can,
/// the data cannot have arrived before `not_before`.
fn choose_side(step: WallStep, before: Option<Tick>, now: Option<Tick>, not_before: Tick) -> Option<Tick> {
    let slack = STEP_NS as u64;
    let before = before.filter(|tick| *tick <= step.by.plus_ns(slack));
    let now = now.filter(|tick| tick.plus_ns(slack) >= step.after);
    let is_possible = |tick: &Tick| tick.plus_ns(slack) >= not_before;
    match (before, now) {
        (Some(before), Some(now)) => match (is_possible(&before), is_possible(&now)) {
            (true, false) => Some(before),
            (false, true) => Some(now),
            _ => None,
        },
        (before, now) => before.or(now),
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
fn first_line(first: Sample) -> LinearFit {
    let mut sample = take_sample();
    while sample.mono_ns - first.mono_ns < FIRST_BASELINE_NS {
        std::thread::sleep(std::time::Duration::from_nanos(FIRST_BASELINE_NS));
        sample = take_sample();
    }
    LinearFit { base_tsc: sample.tsc, base_ns: sample.mono_ns, slope: slope(first, sample) }
}

/// Nanoseconds per TSC tick between two readings, scaled by 2³².
fn slope(from: Sample, to: Sample) -> u64 {
    let ns = u128::from(to.mono_ns - from.mono_ns);
    let ticks = u128::from(to.tsc.wrapping_sub(from.tsc)).max(1);
    ((ns << 32) / ticks) as u64
}

/// The narrowest of several brackets TSC–monotonic–TSC.
fn take_sample() -> Sample {
    let mut best = (u64::MAX, Sample { tsc: 0, mono_ns: 0, doubt: u64::MAX });
    for _ in 0..8 {
        let before = read_tsc();
        let mono_ns = monotonic_ns();
        let width = read_tsc().wrapping_sub(before);
        if width < best.0 {
            best = (width, Sample { tsc: before.wrapping_add(width / 2), mono_ns, doubt: width / 2 });
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

/// The current time of the kernel's `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
pub fn wall_now_ns() -> i64 {
    clock_ns(ClockId::Realtime) as i64
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

    /// The smallest claim of a run; see the bounds of the figures.
    const CLAIM_FLOOR_NS: u64 = 100;

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

    /// The wall-clock time of a tick, as the kernel would stamp it.
    fn stamp(tick: Tick, offset_ns: i64) -> u64 {
        tick.0.wrapping_add(offset_ns as u64)
    }

    #[test]
    fn kernel_timestamps_are_converted() {
        let clock = Clock::new();
        let now = clock.now();
        let real = stamp(now, clock.wall_offset_ns());
        assert_eq!(clock.tick_from_kernel(real - 5_000, now, Tick(0)), Some(Tick(now.0 - 5_000)));
        assert_eq!(clock.tick_from_kernel(real + 500_000_000_000, now, Tick(0)), None);
    }

    /// Steps of the wall clock that were found at `by`, after a last check at `after`: a timestamp from before the step and
    /// one from after it are each converted to the true time, or not at all if it could be either.
    #[test]
    fn a_step_of_the_wall_clock_moves_no_arrival() {
        let (after, by) = (Tick(1000 * S), Tick(1000 * S + 20 * MS));
        for step_ns in [3_600 * S as i64, 99 * S as i64, S as i64, 5 * MS as i64, 3_000] {
            for sign in [1, -1] {
                let before_ns = 7_000 * S as i64;
                let now_ns = before_ns + sign * step_ns;
                let step = WallStep { before_ns, after, by };
                let convert = |at: Tick, offset_ns: i64, reaped: Tick, not_before: Tick| {
                    let real_ns = stamp(at, offset_ns);
                    let with = |offset_ns: i64| {
                        let tick = Tick(real_ns.wrapping_sub(offset_ns as u64));
                        let fits = (-STEP_NS..OLDEST_TIMESTAMP_NS).contains(&reaped.ns_since(tick));
                        fits.then_some(tick)
                    };
                    choose_side(step, with(before_ns), with(now_ns), not_before)
                };
                for lag_ns in [50_000, 15 * MS, 3 * S] {
                    for happened in [after, Tick(after.0 + 10 * MS)] {
                        // Stamped before the step and after it, on a connection that was used a millisecond earlier.
                        for (at, offset_ns) in [
                            (Tick(happened.0 - 1), before_ns),
                            (Tick(after.0 - 500 * MS), before_ns),
                            (Tick(happened.0 + 1), now_ns),
                            (Tick(by.0 + 300 * S), now_ns),
                        ] {
                            let reaped = at.plus_ns(lag_ns);
                            let found = convert(at, offset_ns, reaped, Tick(at.0 - MS));
                            assert!(
                                found.is_none_or(|tick| tick == at),
                                "{step_ns} {sign} {lag_ns}: {found:?} for {at:?}"
                            );
                            let is_ambiguous = lag_ns + MS >= step_ns as u64;
                            assert!(found.is_some() || is_ambiguous, "{step_ns} {sign} {lag_ns}: {at:?} is lost");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_step_is_found_before_a_timestamp_is_converted() {
        let clock = Clock::new();
        // The wall clock is 50 s behind what the clock knows, as after a step back.
        let mut real = clock.real.get();
        let (now, true_offset_ns) = (clock.now(), real.now_ns);
        real.now_ns += 50 * S as i64;
        real.checked = Tick(now.0 - MS);
        clock.real.set(real);
        let at = clock.now();
        let reaped = clock.now();
        let found = clock.tick_from_kernel(stamp(at, true_offset_ns), reaped, Tick(now.0 - MS));
        let found = found.expect("the connection was used after the other side of the step");
        assert!(found.ns_since(at).abs() < 2 * STEP_NS, "{found:?} {at:?}");
        assert!((clock.wall_offset_ns() - true_offset_ns).abs() < STEP_NS);
        // One check suffices for a batch.
        clock.begin_batch();
        assert!(clock.tick_from_kernel(stamp(at, true_offset_ns), reaped, now).is_some());
        assert_eq!(clock.step_check.get(), StepCheck::Done);
        clock.end_batch();
        assert_eq!(clock.step_check.get(), StepCheck::Always);
    }

    #[test]
    fn a_clock_that_was_not_maintained_is_set_to_the_kernels() {
        let clock = Clock::new();
        let mut line = clock.line.get();
        line.base_ns += 5_000_000;
        clock.line.set(line);
        clock.resync();
        let (before, tick, after) = (monotonic_ns(), clock.now().0, monotonic_ns());
        assert!(tick + 1_000 > before && tick < after + 1_000, "{before} {tick} {after}");
    }

    /// The error of readings, bracketed by the kernel's clock, is not larger than what the clock says about itself.
    #[test]
    fn the_clock_knows_its_error() {
        let clock = Clock::new();
        let (mut claimed_ns, mut seen_ns) = (0, 0);
        let end = clock.now().plus_ns(400 * MS);
        let mut unclaimed: Vec<u64> = Vec::new();
        while clock.now() < end {
            let before = monotonic_ns();
            let tick = clock.now().0;
            let after = monotonic_ns();
            unclaimed.push(before.saturating_sub(tick).max(tick.saturating_sub(after)));
            let refit_at = clock.refit_at.get();
            clock.maintain(clock.now());
            if clock.refit_at.get() != refit_at {
                // The readings since the last fit are within what both fits have shown.
                claimed_ns = clock.worst_error_ns.get();
                seen_ns = unclaimed.drain(..).fold(seen_ns, u64::max);
            }
        }
        println!("claimed {claimed_ns} ns, seen {seen_ns} ns outside of brackets");
        assert!(seen_ns <= claimed_ns.max(CLAIM_FLOOR_NS), "{seen_ns} ns, but {claimed_ns} ns are claimed");
    }

    #[test]
    fn a_line_is_exact_over_seconds() {
        let line = LinearFit { base_tsc: 1_000, base_ns: 500, slope: 1 << 31 };
        assert_eq!(line.at(3_000), 1_500);
        assert_eq!(line.at(0), 0);
    }
}
