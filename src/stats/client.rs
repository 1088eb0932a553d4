//! The client's own delays and resource use.

use super::quantile::{LEVELS, Series, mean};
use super::samples::RunSamples;
use crate::record::WorkerReport;
use crate::record::facts::RunFacts;

/// The client's own delays and resource use. Times are nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Time of processing − time of arrival of every read.
    pub receive_lag: Lag,
    /// Time between two polls of a worker for completions.
    pub loop_gap: Lag,
    /// For how long the events of a wait could gather before one of them ended it.
    pub gathering: Lag,
    pub send_lag: Lag,
    /// See [`super::samples::Sample::own_send_lag`].
    pub own_send_lag: Lag,
    /// The part of it that was spent waiting for bodies that were not built in time.
    pub body_wait: Lag,
    /// Requests that waited for their body.
    pub late_bodies: u64,
    pub turnaround: Lag,
    pub connect: Lag,
    pub tls_handshake: Lag,
    /// Shares from 0 to 1; `None` if nothing was read.
    pub coalesced_reads: Option<f64>,
    pub coalesced_events: Option<f64>,
    pub stamped_reads: Option<f64>,
    pub retried: u64,
    pub workers: usize,
    /// CPU time divided by wall time of the busiest worker and on average, from 0 to 1.
    pub cpu_max: Option<f64>,
    pub cpu_mean: Option<f64>,
    /// CPU time of all workers per output event.
    pub cpu_per_event_ns: Option<f64>,
    pub unpinned_workers: usize,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub buffer_shortages: u64,
    pub extra_blocks: u64,
    pub connections_opened: u64,
    /// Sum of the workers' wall times.
    pub wall_ns: u64,
}

/// Quantiles of a delay of the client, nanoseconds; all 0 if `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// The client's figures. `workers` are the reports of the measured phase.
pub(crate) fn compute(facts: &RunFacts, samples: &RunSamples, workers: &[&WorkerReport]) -> Client {
    let requests = &samples.requests;
    let capped_schedule = facts.parallel.is_some() && facts.rate_per_s.is_some();
    let shares: Vec<f64> =
        workers.iter().filter(|w| w.wall_ns > 0).map(|w| cpu_ns(w) as f64 / w.wall_ns as f64).collect();
    let cpu: u64 = workers.iter().map(|worker| cpu_ns(worker)).sum();
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let total = |of: fn(&WorkerReport) -> u64| workers.iter().map(|worker| of(worker)).sum::<u64>();
    Client {
        receive_lag: merged_lag(workers.iter().map(|worker| &worker.receive_lag_ns)),
        loop_gap: merged_lag(workers.iter().map(|worker| &worker.loop_gap_ns)),
        gathering: merged_lag(workers.iter().map(|worker| &worker.gather_ns)),
        send_lag: lag(requests.iter().filter_map(|sample| sample.send_lag)),
        own_send_lag: lag(requests.iter().filter_map(|sample| sample.own_send_lag(capped_schedule))),
        body_wait: lag(requests.iter().filter_map(|sample| sample.body_wait)),
        late_bodies: requests.iter().filter(|sample| sample.body_wait.is_some_and(|ns| ns > 0)).count() as u64,
        turnaround: lag(requests.iter().filter_map(|sample| sample.turnaround)),
        connect: lag(requests.iter().filter_map(|sample| sample.connect)),
        tls_handshake: lag(samples.tls_handshakes_ns.iter().map(|&ns| ns as u64)),
        coalesced_reads: share(samples.coalesced_reads, samples.reads),
        coalesced_events: share(samples.coalesced_events, samples.output_events),
        stamped_reads: share(samples.stamped_reads, samples.reads),
        retried: samples.retried,
        workers: workers.len(),
        cpu_max: shares.iter().copied().reduce(f64::max),
        cpu_mean: mean(shares.iter().copied()),
        cpu_per_event_ns: share(cpu, samples.output_events).filter(|_| !workers.is_empty()),
        unpinned_workers: workers.iter().filter(|worker| worker.core.is_none()).count(),
        voluntary_switches: total(|worker| worker.voluntary_switches),
        involuntary_switches: total(|worker| worker.involuntary_switches),
        buffer_shortages: total(|worker| worker.buffer_shortages),
        extra_blocks: total(|worker| worker.extra_blocks),
        connections_opened: total(|worker| worker.connections_opened),
        wall_ns: total(|worker| worker.wall_ns),
    }
}

fn cpu_ns(worker: &WorkerReport) -> u64 {
    worker.cpu_user_ns + worker.cpu_system_ns
}

/// Exact quantiles of delays.
pub(super) fn lag(delays_ns: impl Iterator<Item = u64>) -> Lag {
    let series = Series::from_values(delays_ns.map(|ns| ns as f64));
    let value = |per_mille| series.value(per_mille).unwrap_or(0.0) as u64;
    Lag { count: series.count as u64, p50: value(500), p99: value(990), max: value(LEVELS[11].per_mille) }
}

/// Quantiles of the merged histograms, to three digits.
fn merged_lag<'a>(histograms: impl Iterator<Item = &'a hdrhistogram::Histogram<u64>>) -> Lag {
    let mut merged = hdrhistogram::Histogram::<u64>::new(3).expect("three digits are valid");
    for histogram in histograms {
        // Cannot fail: the sum resizes itself.
        merged += histogram;
    }
    if merged.is_empty() {
        return Lag::default();
    }
    Lag {
        count: merged.len(),
        p50: merged.value_at_quantile(0.5),
        p99: merged.value_at_quantile(0.99),
        max: merged.max(),
    }
}
