//! Statistics while a run is in progress, for progress bars and log lines. The final tables do not use them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use hdrhistogram::Histogram;

use crate::record::arrivals::consecutive;
use crate::record::{Block, Outcome, Phase, RequestRecord};
use crate::time::Tick;

/// Counts and quantiles that any thread can read at any time. Only the collector writes them.
#[derive(Debug, Default)]
pub struct Live {
    /// Warm-up requests that have ended, however they ended, those that succeeded, and those that failed.
    pub warmup_done: AtomicU64,
    pub warmup_ok: AtomicU64,
    pub warmup_failed: AtomicU64,
    /// Measured requests that have ended: the sum of the next three.
    pub done: AtomicU64,
    pub ok: AtomicU64,
    pub failed: AtomicU64,
    pub unfinished: AtomicU64,
    pub input_tokens: AtomicU64,
    pub output_tokens: AtomicU64,
    /// First due time and last end so far, tick nanoseconds; 0 before the first.
    pub first_due_ns: AtomicU64,
    pub last_end_ns: AtomicU64,
    /// Quantiles of the successful requests, nanoseconds; 0 while there are none. Updated a few times per second.
    pub ttft_p50_ns: AtomicU64,
    pub ttft_p99_ns: AtomicU64,
    pub itl_p50_ns: AtomicU64,
    pub itl_p99_ns: AtomicU64,
    pub latency_p50_ns: AtomicU64,
    pub latency_p99_ns: AtomicU64,
    /// Of all measured requests that were sent, from the scheduled time to the first byte sent.
    pub send_lag_p99_ns: AtomicU64,
    /// Keep [`Live::recent`]; set before the first request.
    pub keeps_recent: AtomicBool,
    /// Quantiles of the last second.
    pub recent: RecentCells,
    /// Messages that wait for the collector, and the highest such number so far.
    pub backlog: AtomicU64,
    pub peak_backlog: AtomicU64,
    /// The database can no longer be written; see [`super::collector::Notice::StoreFailed`].
    pub store_failed: AtomicBool,
}

/// Quantiles of the requests that ended in the last full second, nanoseconds; 0 without any.
#[derive(Debug, Default)]
pub struct RecentCells {
    /// Seconds so far. Changes after the other values of a second were written.
    number: AtomicU64,
    ttft_ns: [AtomicU64; 2],
    itl_ns: [AtomicU64; 2],
    latency_ns: [AtomicU64; 2],
    send_lag_p99_ns: AtomicU64,
}

/// The values of [`RecentCells`] at one time: p50 and p99.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    pub number: u64,
    pub ttft_ns: [Option<u64>; 2],
    pub itl_ns: [Option<u64>; 2],
    pub latency_ns: [Option<u64>; 2],
    pub send_lag_p99_ns: Option<u64>,
}

/// Requests of the warm-up and measured requests that succeeded or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ok: u64,
    pub failed: u64,
    pub warmup_ok: u64,
    pub warmup_failed: u64,
}

/// The values of [`Live`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub warmup_done: u64,
    pub warmup_ok: u64,
    pub done: u64,
    pub ok: u64,
    pub failed: u64,
    pub unfinished: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// First due time of the measured requests that have ended.
    pub first_due: Option<Tick>,
    /// First due to last end so far, seconds.
    pub elapsed_s: f64,
    pub ttft_p50_ns: Option<u64>,
    pub ttft_p99_ns: Option<u64>,
    pub itl_p50_ns: Option<u64>,
    pub itl_p99_ns: Option<u64>,
    pub latency_p50_ns: Option<u64>,
    pub latency_p99_ns: Option<u64>,
    pub send_lag_p99_ns: Option<u64>,
    /// Only if [`Live::keeps_recent`] is set.
    pub recent: Recent,
    pub backlog: u64,
}

impl Live {
    /// Succeeded and failed requests so far.
    pub fn counts(&self) -> Counts {
        Counts {
            ok: self.ok.load(Relaxed),
            failed: self.failed.load(Relaxed),
            warmup_ok: self.warmup_ok.load(Relaxed),
            warmup_failed: self.warmup_failed.load(Relaxed),
        }
    }

    /// The current values.
    pub fn snapshot(&self) -> Snapshot {
        let span_ns = self.last_end_ns.load(Relaxed).saturating_sub(self.first_due_ns.load(Relaxed));
        // Before the count of those that ended, so that it never exceeds that.
        let warmup_ok = self.warmup_ok.load(Relaxed);
        Snapshot {
            warmup_done: self.warmup_done.load(Relaxed),
            warmup_ok,
            done: self.done.load(Relaxed),
            ok: self.ok.load(Relaxed),
            failed: self.failed.load(Relaxed),
            unfinished: self.unfinished.load(Relaxed),
            input_tokens: self.input_tokens.load(Relaxed),
            output_tokens: self.output_tokens.load(Relaxed),
            first_due: known(&self.first_due_ns).map(Tick),
            elapsed_s: span_ns as f64 / 1e9,
            ttft_p50_ns: known(&self.ttft_p50_ns),
            ttft_p99_ns: known(&self.ttft_p99_ns),
            itl_p50_ns: known(&self.itl_p50_ns),
            itl_p99_ns: known(&self.itl_p99_ns),
            latency_p50_ns: known(&self.latency_p50_ns),
            latency_p99_ns: known(&self.latency_p99_ns),
            send_lag_p99_ns: known(&self.send_lag_p99_ns),
            recent: self.recent.read(),
            backlog: self.backlog.load(Relaxed),
        }
    }
}

fn known(cell: &AtomicU64) -> Option<u64> {
    Some(cell.load(Relaxed)).filter(|&ns| ns > 0)
}

impl RecentCells {
    fn read(&self) -> Recent {
        let pair = |cells: &[AtomicU64; 2]| cells.each_ref().map(known);
        Recent {
            number: self.number.load(Acquire),
            ttft_ns: pair(&self.ttft_ns),
            itl_ns: pair(&self.itl_ns),
            latency_ns: pair(&self.latency_ns),
            send_lag_p99_ns: known(&self.send_lag_p99_ns),
        }
    }
}

impl Snapshot {
    /// Successful requests per second so far; `None` before the first.
    pub fn requests_per_s(&self) -> Option<f64> {
        (self.elapsed_s > 0.0).then(|| self.ok as f64 / self.elapsed_s)
    }

    /// Output tokens per second so far; `None` before the first.
    pub fn output_tokens_per_s(&self) -> Option<f64> {
        (self.elapsed_s > 0.0).then(|| self.output_tokens as f64 / self.elapsed_s)
    }

    /// Input tokens per second so far; `None` before the first.
    pub fn input_tokens_per_s(&self) -> Option<f64> {
        (self.elapsed_s > 0.0).then(|| self.input_tokens as f64 / self.elapsed_s)
    }
}

/// The histograms from which the collector computes the quantiles of [`Live`].
#[derive(Default)]
pub(crate) struct Meter {
    all: Histograms,
    /// Of the current second, if anyone reads them.
    recent: Option<Histograms>,
}

struct Histograms {
    ttft_ns: Histogram<u64>,
    itl_ns: Histogram<u64>,
    latency_ns: Histogram<u64>,
    send_lag_ns: Histogram<u64>,
}

impl Default for Histograms {
    fn default() -> Self {
        // From 1 us to 1 h with two digits: 20 KiB each, and a quantile takes microseconds.
        let histogram =
            || Histogram::new_with_bounds(1_000, 3_600_000_000_000, 2).expect("the bounds are valid constants");
        Histograms { ttft_ns: histogram(), itl_ns: histogram(), latency_ns: histogram(), send_lag_ns: histogram() }
    }
}

impl Histograms {
    /// TTFT and ITL are those of streamed responses, as in the tables.
    fn count_success(&mut self, record: &RequestRecord, block: &Block) {
        let since_due = |instant: Tick| instant.ns_since(record.due).max(0) as u64;
        self.latency_ns.saturating_record(since_due(record.end));
        if let Some(first) = record.first_token.filter(|_| record.streamed) {
            self.ttft_ns.saturating_record(since_due(first));
        }
        let arrivals = record.arrivals.slice(&block.arrivals);
        for (before, place) in consecutive(arrivals, record.choices.slice(&block.bytes)) {
            self.itl_ns.saturating_record(arrivals[place].ns_since(arrivals[before]).max(0) as u64);
        }
    }

    fn count_send_lag(&mut self, record: &RequestRecord) {
        if let Some(sent) = record.write_start {
            self.send_lag_ns.saturating_record(sent.ns_since(record.due).max(0) as u64);
        }
    }

    fn clear(&mut self) {
        [&mut self.ttft_ns, &mut self.itl_ns, &mut self.latency_ns, &mut self.send_lag_ns]
            .into_iter()
            .for_each(Histogram::reset);
    }
}

/// Adds to a value that only the collector writes, for which no locked instruction is needed.
fn add(cell: &AtomicU64, number: u64) {
    cell.store(cell.load(Relaxed) + number, Relaxed);
}

/// A quantile of a histogram; 0 without samples.
fn quantile_or_0(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile).max(1) }
}

impl Meter {
    /// Counts one request.
    pub fn count(&mut self, record: &RequestRecord, block: &Block, live: &Live) {
        match record.phase {
            Phase::Preflight | Phase::Witness => return,
            Phase::Warmup => {
                add(&live.warmup_done, 1);
                add(&live.warmup_ok, u64::from(record.outcome == Outcome::Ok));
                add(&live.warmup_failed, u64::from(matches!(record.outcome, Outcome::Failed(_))));
                return;
            }
            Phase::Measured => {}
        }
        if self.recent.is_none() && live.keeps_recent.load(Relaxed) {
            self.recent = Some(Histograms::default());
        }
        for histograms in std::iter::once(&mut self.all).chain(&mut self.recent) {
            histograms.count_send_lag(record);
            if record.outcome == Outcome::Ok {
                histograms.count_success(record, block);
            }
        }
        match record.outcome {
            Outcome::Ok => {
                add(&live.ok, 1);
                add(&live.input_tokens, u64::from(record.input_tokens.unwrap_or(0)));
                add(&live.output_tokens, u64::from(record.output_tokens.unwrap_or(0)));
            }
            Outcome::Failed(_) => add(&live.failed, 1),
            Outcome::Unfinished => add(&live.unfinished, 1),
        }
        let first_due = live.first_due_ns.load(Relaxed);
        if first_due == 0 || record.due.0 < first_due {
            live.first_due_ns.store(record.due.0, Relaxed);
        }
        if record.end.0 > live.last_end_ns.load(Relaxed) {
            live.last_end_ns.store(record.end.0, Relaxed);
        }
        // Last, so that the other values already include every request in this count.
        add(&live.done, 1);
    }

    /// Writes the current quantiles into `live`.
    pub(crate) fn refresh(&self, live: &Live) {
        let publish = |histogram: &Histogram<u64>, p50: &AtomicU64, p99: &AtomicU64| {
            p50.store(quantile_or_0(histogram, 0.5), Relaxed);
            p99.store(quantile_or_0(histogram, 0.99), Relaxed);
        };
        publish(&self.all.ttft_ns, &live.ttft_p50_ns, &live.ttft_p99_ns);
        publish(&self.all.itl_ns, &live.itl_p50_ns, &live.itl_p99_ns);
        publish(&self.all.latency_ns, &live.latency_p50_ns, &live.latency_p99_ns);
        live.send_lag_p99_ns.store(quantile_or_0(&self.all.send_lag_ns, 0.99), Relaxed);
    }

    /// Ends a second: writes its quantiles into `live.recent` and begins the next one. Called once per second.
    pub(crate) fn end_second(&mut self, live: &Live) {
        if !live.keeps_recent.load(Relaxed) {
            return;
        }
        let recent = self.recent.get_or_insert_default();
        let publish = |histogram: &Histogram<u64>, cells: &[AtomicU64; 2]| {
            cells[0].store(quantile_or_0(histogram, 0.5), Relaxed);
            cells[1].store(quantile_or_0(histogram, 0.99), Relaxed);
        };
        publish(&recent.ttft_ns, &live.recent.ttft_ns);
        publish(&recent.itl_ns, &live.recent.itl_ns);
        publish(&recent.latency_ns, &live.recent.latency_ns);
        live.recent.send_lag_p99_ns.store(quantile_or_0(&recent.send_lag_ns, 0.99), Relaxed);
        recent.clear();
        live.recent.number.fetch_add(1, Release);
    }
}
