//! The effect of the client's own error on the figures: for every percentile of TTFT, ITL, TPOT and latency an interval
//! that contains the true value.
//!
//! The true value is what an ideal client at the same place in the network would have recorded: one that sends at the
//! due time and knows when the bytes of each event arrived at this machine. Errors against it:
//!
//! - **Timestamps.** The kernel timestamps a segment in its receive path, after its arrival: by at most
//!   [`StampError::ns`] (p99.9 of a calibration at this load, else [`DEFAULT_STAMP_NS`]). Interrupt coalescing by the
//!   network card happens before that and is not included.
//! - **Clocks.** Mapping a timestamp to the run's clock, and reading that clock, has an error in either direction. Each
//!   worker measures it whenever it renews both, about once a second; the largest value counts, at least [`CLOCK_NS`].
//! - **Shared reads.** A read takes all bytes that its socket holds, up to the size of a buffer, and has the timestamp of
//!   the last segment that it takes bytes of; the kernel merges segments that queue, and the merged one has the timestamp
//!   of the last. So the bytes of a read arrived at its timestamp or earlier, but after the socket was last known to be
//!   empty. That is known from the client's side only: a read that emptied the socket, or a moment at which the kernel
//!   had no work left for any socket of the worker while this one was armed. (A poll is no such moment: the kernel reads
//!   a limited number of sockets in one call.) `engine::receive::ring` keeps these times. They bound each event, except
//!   the one that is exact: its last byte is the last byte of a read that emptied the socket. If all bytes of a read are
//!   of one segment, which the kernel's counts of segments and bytes prove (`engine::segments`), all its events are exact.
//!   After a read that left bytes, when the buffers ran out, or when the completion queue overflowed, the bound reaches back to when the socket
//!   was empty before.
//! - **Reads without a timestamp.** Their arrival is the time of processing, and nothing in them is exact. The same holds
//!   for a timestamp from before the socket was empty: the wall clock was stepped back.
//! - **Sending.** The request was sent later than its due time. The time for connecting is part of the network, and
//!   with a cap the wait for the end of the slot's previous request is part of the plan; the rest, up to the last byte
//!   accepted by the kernel, is the client's. If the request had been sent on time, the response would have come earlier
//!   by at most that much: by all of it from a server with a constant service time, by nothing from a server that was
//!   busy until then.
//!
//! The engine stores with each request how much earlier its events, its last token and its end may have arrived (`early`):
//! from the worker that received it, so that no other worker's stall matters. Files of versions that did not store it
//! have no bounds.
//!
//! Not bounded: a delay of the network card or of the kernel before the timestamp (beyond the error of a timestamp); a
//! read whose last segment arrived before another one of it (out of order, after a loss), which has the earlier time; a
//! wall clock stepped by less than the time since the socket was empty, until the offset is measured again; messages of
//! a TLS session without data, or the line ends of an event in a segment of their own, behind it in the same read; the
//! last tokens of the choices of one response if they have no text, except for the last one of all; a first token without
//! text; with a rate and a cap, how late the first request of each slot was taken up.
//!
//! The true time of an arrival recorded as `a` is therefore in `[a − early − stamp − clock, a + clock]`, which gives
//!
//! | figure | from | to |
//! |---|---|---|
//! | TTFT | TTFT − own send lag − write − early − stamp − clock | TTFT + clock |
//! | latency | latency − own send lag − write − early − stamp − clock | latency + clock |
//! | a gap | gap − early of its end − stamp − 2 clock | gap + early of its begin + stamp + 2 clock |
//! | TPOT | (span − early of the last − stamp − 2 clock) / (tokens − 1) | (span + early of the first + stamp + 2 clock) / (tokens − 1) |
//!
//! and never less than 0. Where TPOT is a range, its lower end gives the lower bound and its upper end the upper one.
//! These bounds hold for each request (each gap) on its own. Order statistics are monotone: if every value is within its
//! own bounds, the p-quantile of the values is between the p-quantiles of the lower and of the upper bounds. Nothing is
//! averaged, and no distribution of the errors is assumed.

use super::gap_set::{Doubtful, GapFigures};
pub use super::quantile::Bound;
use super::quantile::{LEVELS, Quantile, Series, nearest_rank};
use super::samples::{Sample, Selection};
use super::series::AllSeries;
use crate::finding::{Figure, Finding, Misfit, Severity};
use crate::host::calibration::Calibration;
use crate::record::WorkerReport;
use crate::record::facts::{RunEnd, RunFacts};
use crate::time::US;

/// The largest delay from a send to the kernel's receive timestamp if there is no calibration, nanoseconds (the
/// measured p99.9 is 16 us; see the notes on the receive path).
pub(crate) const DEFAULT_STAMP_NS: u64 = 20 * US;
/// The least error of a reading of the run's clock and of the mapping of kernel timestamps to it that is assumed,
/// nanoseconds. Both are renewed every second from brackets of about 20 to 40 ns.
pub(crate) const CLOCK_NS: u64 = 100;

/// A bound that differs from its figure by more than this, and by more than [`WIDE_SHARE`] of it, is reported.
const WIDE_S: f64 = 100e-6;
const WIDE_SHARE: f64 = 0.10;
/// A larger share of doubtful gaps is reported.
const DOUBTFUL_SHARE: f64 = 0.01;
/// If the client's error may have changed a median TTFT or latency by this much, and by [`VOID_SHARE`], the run is
/// void.
const VOID_S: f64 = 10e-3;
const VOID_SHARE: f64 = 0.5;

/// The client's own error in a run, and the bounds that follow from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasurementError {
    pub stamp: StampError,
    /// The error of the workers' clocks, nanoseconds.
    pub clock_ns: u64,
    /// The longest time between two polls of a worker, nanoseconds; `None` if no worker reported it.
    pub stall_ns: Option<u64>,
    pub doubtful: Option<Doubtful>,
    pub ttft_s: Vec<Bound>,
    pub itl_s: Vec<Bound>,
    pub tpot_s: Vec<Bound>,
    pub latency_s: Vec<Bound>,
}

/// The largest delay from an arrival to its kernel timestamp.
#[derive(Clone, Debug, PartialEq)]
pub struct StampError {
    pub ns: u64,
    pub source: StampSource,
}

impl Default for StampError {
    fn default() -> StampError {
        StampError { ns: DEFAULT_STAMP_NS, source: StampSource::Default }
    }
}

/// The source of a [`StampError`].
#[derive(Clone, Debug, PartialEq)]
pub enum StampSource {
    /// No calibration.
    Default,
    Calibrated,
    /// A calibration that does not fit this run, and the reason.
    Unfit(Misfit),
}

/// Limits of single errors, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    stamp: f64,
    clock: f64,
    /// An open loop with a cap: the wait for a free slot is part of the plan.
    capped_schedule: bool,
}

/// The error of the kernel's timestamps in this run: that of the calibration if it fits.
pub fn stamp_error(calibration: Option<&Calibration>, facts: &RunFacts, events_per_s: f64) -> StampError {
    let Some(calibration) = calibration else { return StampError::default() };
    let fits = calibration.fits_load(facts.parallel, facts.rate_per_s, events_per_s);
    match fits {
        Ok(()) if calibration.stamp_error.count > 0 => {
            StampError { ns: calibration.stamp_error.p999, source: StampSource::Calibrated }
        }
        Ok(()) => StampError { source: StampSource::Unfit(Misfit::NoTimestamps), ..StampError::default() },
        Err(why) => StampError { source: StampSource::Unfit(why), ..StampError::default() },
    }
}

/// The error of the workers' clocks, nanoseconds.
fn clock_ns(end: Option<&RunEnd>) -> u64 {
    end.and_then(|end| end.clock_error_ns).map_or(CLOCK_NS, |measured| measured.max(CLOCK_NS))
}

/// The error of a gap in either direction besides that its arrivals may have been earlier, nanoseconds; `None` if one
/// of the succeeded requests does not have the bounds of its arrivals.
pub fn gap_margin_ns(stamp: &StampError, end: Option<&RunEnd>, ok: &Selection<'_>) -> Option<u64> {
    ok.iter().all(|sample| sample.bounded).then(|| stamp.ns.saturating_add(clock_ns(end).saturating_mul(2)))
}

/// The bounds over the succeeded requests and their gaps; none if a request does not have the bounds of its arrivals.
/// `gaps` are the figures with [`gap_margin_ns`].
pub fn compute(
    facts: &RunFacts,
    stamp: StampError,
    end: Option<&RunEnd>,
    workers: &[&WorkerReport],
    ok: &Selection<'_>,
    gaps: &GapFigures,
) -> MeasurementError {
    let stall_ns = workers.iter().map(|worker| worker.longest_stall_ns()).max();
    let clock_ns = clock_ns(end);
    if gap_margin_ns(&stamp, end, ok).is_none() {
        return MeasurementError { stamp, clock_ns, stall_ns, ..MeasurementError::default() };
    }
    let limits = Limits {
        stamp: stamp.ns as f64,
        clock: clock_ns as f64,
        capped_schedule: facts.parallel.is_some() && facts.rate_per_s.is_some(),
    };
    MeasurementError {
        ttft_s: bounds(ok.iter().filter_map(|sample| ttft(&sample, limits))),
        itl_s: gaps.bounds_s.clone(),
        tpot_s: bounds(ok.iter().filter_map(|sample| tpot(&sample, limits))),
        latency_s: bounds(ok.iter().map(|sample| latency(&sample, limits))),
        stamp,
        clock_ns,
        stall_ns,
        doubtful: gaps.doubtful,
    }
}

fn ttft(sample: &Sample, limits: Limits) -> Option<(f64, f64)> {
    Some(from_due(sample, sample.ttft?, sample.early_first_ns, limits))
}

fn latency(sample: &Sample, limits: Limits) -> (f64, f64) {
    from_due(sample, sample.latency, sample.early_end_ns, limits)
}

/// Bounds of a length of time from the due time to an arrival that may have been earlier.
fn from_due(sample: &Sample, length_ns: u64, early_ns: u32, limits: Limits) -> (f64, f64) {
    let late = sample.own_send_lag(limits.capped_schedule).unwrap_or(0).saturating_add(sample.write_ns);
    let length = length_ns as f64;
    ((length - late as f64 - f64::from(early_ns) - limits.stamp - limits.clock).max(0.0), length + limits.clock)
}

/// Bounds of a length of time between two arrivals.
fn between(length_ns: f64, early_begin_ns: u32, early_end_ns: u32, limits: Limits) -> (f64, f64) {
    let either = limits.stamp + 2.0 * limits.clock;
    ((length_ns - f64::from(early_end_ns) - either).max(0.0), length_ns + f64::from(early_begin_ns) + either)
}

fn tpot(sample: &Sample, limits: Limits) -> Option<(f64, f64)> {
    let (low_ns, high_ns) = sample.tpot_range?;
    let (low_intervals, high_intervals) = sample.tpot_intervals;
    let (early_first_ns, early_last_ns) = sample.early_span_ns;
    let of_span = |ns: f64, intervals: f64| between(ns * intervals, early_first_ns, early_last_ns, limits);
    Some((of_span(low_ns, low_intervals).0 / low_intervals, of_span(high_ns, high_intervals).1 / high_intervals))
}

/// The quantiles of the lower and of the upper bounds: nanoseconds in, seconds out.
fn bounds(ends: impl Iterator<Item = (f64, f64)>) -> Vec<Bound> {
    let (mut lows, mut highs): (Vec<f64>, Vec<f64>) = ends.unzip();
    let (lows, highs) = (quantiles(&mut lows), quantiles(&mut highs));
    lows.into_iter().zip(highs).map(|(low, high)| Bound { low: low / 1e9, high: high / 1e9 }).collect()
}

/// The values at the ranks of [`LEVELS`]. Each selection covers only the values above the previous level.
fn quantiles(values: &mut [f64]) -> Vec<f64> {
    let count = values.len();
    if count == 0 {
        return Vec::new();
    }
    let mut from = 0;
    let mut at = |per_mille: u32| {
        let place = nearest_rank(count, per_mille) - 1;
        let value = *values[from..].select_nth_unstable_by(place - from, f64::total_cmp).1;
        from = place;
        value
    };
    LEVELS.iter().map(|level| at(level.per_mille)).collect()
}

/// Findings about the bounds. `late_sends_reported` says that a finding about send lag was already reported; figures
/// that count from the due time then get no finding of their own.
pub fn findings(own: &MeasurementError, series: &AllSeries, late_sends_reported: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if let StampSource::Unfit(why) = &own.stamp.source {
        found.push(Finding::CalibrationMisfit { why: why.clone(), timestamp_error_ns: own.stamp.ns });
    }
    let figures = [
        (Figure::Ttft, (&series.ttft_s, &series.ttft_s), &own.ttft_s, true),
        (Figure::Itl, (&series.itl_s, &series.itl_s), &own.itl_s, false),
        (Figure::Tpot, series.tpot_ends(), &own.tpot_s, false),
        (Figure::Latency, (&series.latency_s, &series.latency_s), &own.latency_s, true),
    ];
    found.extend(own.doubtful.filter(|doubtful| doubtful.share > DOUBTFUL_SHARE).map(|d| held_up(d, own.stall_ns)));
    let kept = figures.into_iter().filter(|(.., counts_from_due)| !(late_sends_reported && *counts_from_due));
    found.extend(kept.filter_map(|(figure, series, bounds, from_due)| wide(figure, series, bounds, from_due)));
    found
}

fn held_up(doubtful: Doubtful, stall_ns: Option<u64>) -> Finding {
    let longest_ns = stall_ns.unwrap_or(doubtful.by_ns);
    Finding::PollGaps { share: doubtful.share, by_ns: doubtful.by_ns, longest_ns }
}

/// `ends`: the figure's lower and upper end.
fn wide(figure: Figure, ends: (&Series, &Series), bounds: &[Bound], from_due: bool) -> Option<Finding> {
    let reach = |row: usize| {
        let (quantile, bound): (&Quantile, &Bound) = (ends.0.quantiles.get(row)?, bounds.get(row)?);
        let by = (quantile.value - bound.low).max(bound.high - ends.1.quantiles.get(row)?.value);
        Some((LEVELS[row].name, quantile.value, by, quantile.few))
    };
    // One stall widens the bounds of many gaps in the tail that it did not change, so of gaps only the median is
    // checked.
    let judged: &[u32] = if from_due { &[500, 990] } else { &[500] };
    let rows = judged.iter().filter_map(|at| LEVELS.iter().position(|level| level.per_mille == *at));
    let is_wide = |by: f64, value: f64| value > 0.0 && by > WIDE_S.max(WIDE_SHARE * value);
    let widest = rows.filter_map(reach).find(|(_, value, by, few)| !few && is_wide(*by, *value));
    let (level, value, by, _) = widest?;
    let void = from_due && level == "50%" && by > VOID_S.max(VOID_SHARE * value);
    Some(Finding::OwnError {
        severity: if void { Severity::Void } else { Severity::Caution },
        figure,
        percentile: level.to_string(),
        by_ns: (by * 1e9) as u64,
        value_ns: (value * 1e9) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const LIMITS: Limits = Limits { stamp: 20_000.0, clock: 100.0, capped_schedule: false };

    #[test]
    fn bounds_of_a_gap_follow_from_those_of_its_events() {
        assert_eq!(between(1e6, 0, 0, LIMITS), (979_800.0, 1_020_200.0));
        assert_eq!(between(1e6, 0, 500_000, LIMITS), (479_800.0, 1_020_200.0));
        assert_eq!(between(0.0, 300_000, 300_000, LIMITS), (0.0, 320_200.0));
    }

    #[test]
    fn bounds_of_a_tpot_that_is_a_range_contain_both_ends() {
        // 11 tokens in 6 events over 100 ms: 10 ms if they came between the events, 20 ms if five came before the first.
        let sample = Sample {
            ok: true,
            streamed: true,
            tpot: Some(10e6),
            tpot_range: Some((10e6, 20e6)),
            tpot_intervals: (10.0, 5.0),
            early_span_ns: (1_000, 2_000),
            ..Sample::default()
        };
        let ends = tpot(&sample, LIMITS).unwrap();
        assert_eq!(ends, ((100e6 - 2e3 - 20_200.0) / 10.0, (100e6 + 1e3 + 20_200.0) / 5.0));
        // The range is no error of the client.
        let (series, bounds) = (
            AllSeries::compute(std::iter::repeat_n(sample, 40), Series::default()),
            bounds(std::iter::repeat_n(ends, 40)),
        );
        assert_eq!(wide(Figure::Tpot, series.tpot_ends(), &bounds, false), None);
        assert!(wide(Figure::Tpot, (&series.tpot_s, &series.tpot_s), &bounds, false).is_some());
    }

    #[test]
    fn send_lag_extends_the_lower_bound() {
        let sample = Sample {
            ok: true,
            streamed: true,
            ttft: Some(50_000_000),
            latency: 90_000_000,
            send_lag: Some(2_000_000),
            connect: Some(1_500_000),
            write_ns: 10_000,
            ..Sample::default()
        };
        let (low, high) = ttft(&sample, LIMITS).unwrap();
        assert_eq!((low, high), (50e6 - 500e3 - 10e3 - 20e3 - 100.0, 50e6 + 100.0));
        let whole = Sample { streamed: false, ttft: None, ..sample.clone() };
        assert_eq!(ttft(&whole, LIMITS), None);
        let unstamped = Sample { early_end_ns: 500_000, ..sample };
        assert_eq!(latency(&unstamped, LIMITS).0, 90e6 - 500e3 - 10e3 - 500e3 - 20e3 - 100.0);
    }

    #[test]
    fn true_quantile_lies_between_the_quantiles_of_the_bounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..50 {
            let truth: Vec<f64> = (0..997).map(|_| rng.random_range(0.0..1e9)).collect();
            let ends = truth.iter().map(|t| (t - rng.random_range(0.0..1e8), t + rng.random_range(0.0..1e8)));
            let bounds = bounds(ends.collect::<Vec<_>>().into_iter());
            let mut truth = truth.clone();
            for (bound, value) in bounds.iter().zip(quantiles(&mut truth)) {
                assert!(bound.low <= value / 1e9 && value / 1e9 <= bound.high);
            }
        }
    }

    #[test]
    fn ranks_are_those_of_the_table() {
        let mut values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        let found = quantiles(&mut values);
        assert_eq!((found[0], found[2], found[9], found[11]), (100.0, 500.0, 990.0, 1000.0));
        assert_eq!(quantiles(&mut []), Vec::<f64>::new());
        assert_eq!(quantiles(&mut [7.0]), vec![7.0; LEVELS.len()]);
    }

    #[test]
    fn a_calibration_is_used_only_if_it_fits() {
        let facts = RunFacts { parallel: Some(4), ..RunFacts::default() };
        let mut calibration = Calibration { events_per_s: Some(1_000.0), ..Calibration::default() };
        assert_eq!(stamp_error(None, &facts, 5.0), StampError::default());
        assert!(matches!(stamp_error(Some(&calibration), &facts, 5.0).source, StampSource::Unfit(_)));
        calibration.stamp_error.count = 9;
        calibration.stamp_error.p999 = 7_000;
        let fits = StampError { ns: 7_000, source: StampSource::Calibrated };
        assert_eq!(stamp_error(Some(&calibration), &facts, 900.0), fits);
        assert!(matches!(stamp_error(Some(&calibration), &facts, 9_000.0).source, StampSource::Unfit(_)));
    }
}
