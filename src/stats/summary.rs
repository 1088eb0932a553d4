//! What a run says, as one value: every row of the tables is a field here. Lengths of time are seconds.

use super::concurrency::InFlight;
use super::findings;
use super::gather::{Gathered, Sample};
use super::join::{self, Join};
use super::own_error::{self, OwnError};
use super::quantile::{LEVELS, Series};
use super::reconcile::{self, Reconciliation, Totals};
use super::slo::Verdict;
use super::speed::{self, SpeedRow};
use super::turns::{self, Turns};
use super::witness::{self, Witness};
use crate::finding::{Finding, Severity};
use crate::plan::slo;
use crate::record::facts::{RunEnd, RunFacts};
use crate::record::store::StoredRun;
use crate::record::{Failure, Phase, WorkerReport};
use crate::server::names::Window;
use crate::server::usage::Use;

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Summary {
    pub facts: RunFacts,
    /// `None` when the run was killed.
    pub end: Option<RunEnd>,
    pub counts: Counts,
    /// Classes that occurred, in the order of [`Failure::ALL`].
    pub failures: Vec<FailureCount>,
    /// Last end − first due.
    pub time_s: Option<f64>,
    pub throughput: Throughput,
    pub series: AllSeries,
    /// Means over succeeded requests that no series holds.
    pub packages_per_request: Option<f64>,
    pub package_latency_s: Option<f64>,
    pub rates: Rates,
    pub concurrency: Concurrency,
    /// A closed loop's requests after its first wave; `None` when there are none.
    pub steady: Option<Steady>,
    pub client: Client,
    /// What our own error can have done to the figures.
    pub own_error: OwnError,
    /// Each request beside the server's own times for it; `None` when it told none.
    pub join: Option<Join>,
    /// The load beside the witness; `None` without one.
    pub witness: Option<Witness>,
    /// Rows of the speed benchmark; empty for other datasets.
    pub speed: Vec<SpeedRow>,
    /// Conversations turn by turn; `None` for single requests.
    pub turns: Option<Turns>,
    /// Most GPU memory the server held, GiB, where it is on this machine and was watched.
    pub gpu_memory_gb: Option<f64>,
    /// How the run stands against its objectives; `None` when none were given.
    pub slo: Option<Verdict>,
    /// The server's own figures beside ours; `None` when it was not asked or said nothing that we know.
    pub server: Option<Reconciliation>,
    /// What a server of our own used; `None` for any other.
    pub server_use: Option<Use>,
    /// The heaviest first.
    pub findings: Vec<Finding>,
}

/// Where every request of the schedule went: `scheduled = ok + failed + unfinished + unsent + unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub scheduled: u64,
    pub ok: u64,
    pub failed: u64,
    /// In flight when the run ended.
    pub unfinished: u64,
    /// Never sent, because the run ended first.
    pub unsent: u64,
    /// Of a run that was killed: not stored, so that nobody knows whether they were sent.
    pub unknown: u64,
    /// Succeeded, but an input or output token count is unknown.
    pub unknown_tokens: u64,
}

impl Counts {
    /// Requests that were taken up, as far as is known.
    pub fn sent(&self) -> u64 {
        self.scheduled.saturating_sub(self.unsent + self.unknown)
    }
}

/// The failures of one class, in the server's words or ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCount {
    pub failure: Failure,
    pub count: u64,
    /// The most frequent texts with their counts; one stands for all that differ from it in ids and numbers.
    pub texts: Vec<(String, u64)>,
    /// Those with a text that is none of these.
    pub others: u64,
}

/// Amounts over the time of the run; `None` when the amount is unknown or no time passed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    pub total_tokens_per_s: Option<f64>,
}

/// Series over the succeeded requests, and over all their gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllSeries {
    pub ttft_s: Series,
    /// Only of streamed answers; LMDeploy's first_token_latency.
    pub first_token_s: Series,
    pub itl_s: Series,
    pub tpot_s: Series,
    pub latency_s: Series,
    pub input_tokens: Series,
    pub output_tokens: Series,
    pub output_rate_per_s: Series,
    pub total_rate_per_s: Series,
    pub service_ttft_s: Series,
    pub service_latency_s: Series,
}

/// Requests per second: as the schedule wanted them, as they went onto the wire, as they were answered. Each is the
/// number of intervals between its first and last event over their distance, so that neither the wait for the first
/// answer nor the drain after the last request dilutes it. A closed loop has none: it has no schedule, and over its
/// waves such a rate says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub offered_per_s: Option<f64>,
    pub sent_per_s: Option<f64>,
    pub achieved_per_s: Option<f64>,
}

/// Requests in flight, event-exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Concurrency {
    pub peak: u32,
    /// Over the whole run.
    pub mean: Option<f64>,
    /// How long a request was in flight on average, seconds; those that never reached the wire count as 0. Times the
    /// request rate it must give the mean: Little's law.
    pub mean_stay_s: Option<f64>,
    /// From the first to the last request sent: without the drain at the end.
    pub mean_while_sending: Option<f64>,
    /// From the first to the last request due, seconds.
    pub due_span_s: Option<f64>,
    /// The means over five equal parts of that time.
    pub parts: Option<[f64; 5]>,
}

/// The part of a closed loop after the first `parallel` requests, which all start at once and meet an empty server.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    pub requests: usize,
    pub ttft_s: Series,
    pub service_ttft_s: Series,
    pub itl_s: Series,
}

/// The client's own error. Lengths are nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Reaped − arrived of every read.
    pub receive_lag: Lag,
    /// Time between two looks of a worker at its completions.
    pub loop_gap: Lag,
    pub send_lag: Lag,
    /// Send lag without the time that connecting took and, with a cap, without the wait for a free lane.
    pub own_send_lag: Lag,
    pub turnaround: Lag,
    pub connect: Lag,
    pub tls_handshake: Lag,
    /// Shares from 0 to 1; `None` when nothing was read.
    pub coalesced_reads: Option<f64>,
    pub coalesced_events: Option<f64>,
    pub stamped_reads: Option<f64>,
    pub retried: u64,
    pub workers: usize,
    /// CPU time over wall time of the busiest worker and of all on average, from 0 to 1.
    pub cpu_max: Option<f64>,
    pub cpu_mean: Option<f64>,
    /// CPU time of all workers for each output event.
    pub cpu_per_event_ns: Option<f64>,
    pub unpinned_workers: usize,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub buffer_shortages: u64,
    pub extra_blocks: u64,
    pub connections_opened: u64,
    /// Wall time of the workers together.
    pub wall_ns: u64,
}

/// A distribution of one of our own delays, nanoseconds; all 0 when `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Summary {
    /// The summary of a run and its measured requests.
    pub fn of(run: &StoredRun, gathered: Gathered) -> Summary {
        Summary::with_samples(run, gathered).0
    }

    /// The summary, and the requests it was made of in the order in which they were due.
    pub fn with_samples(run: &StoredRun, mut gathered: Gathered) -> (Summary, Vec<Sample>) {
        gathered.sort();
        // In this order, because the gaps of the whole run are taken out of what was gathered.
        let steady = steady(&run.facts, &gathered);
        let gaps = gathered.take_gaps();
        let ok: Vec<&Sample> = gathered.samples.iter().filter(|sample| sample.ok).collect();
        let workers: Vec<&WorkerReport> = run.workers.iter().filter(|w| w.phase == Phase::Measured).collect();
        let span = span(&gathered.samples);
        let time_s = span.map(|(from, to)| (to - from) as f64 / 1e9).filter(|&s| s > 0.0);
        let streamed = || ok.iter().filter(|sample| sample.streamed);
        let events_per_s = time_s.map_or(0.0, |s| gathered.output_events as f64 / s);
        let stamp = own_error::stamp_error(run.calibration.as_ref(), &run.facts, events_per_s);
        let mut summary = Summary {
            facts: run.facts.clone(),
            end: run.end.clone(),
            counts: counts(run, &gathered, &workers),
            failures: failures(&gathered),
            time_s,
            throughput: throughput(&ok, time_s),
            series: all_series(gaps.iter().map(|gap| gap.ns as f64), &ok),
            packages_per_request: mean(streamed().map(|sample| f64::from(sample.events))),
            package_latency_s: mean(ok.iter().filter_map(|sample| sample.package_latency)).map(|ns| ns / 1e9),
            rates: rates(&gathered.samples, run.facts.rate_per_s.is_some()),
            concurrency: concurrency(&gathered.samples, span),
            steady,
            client: client(&run.facts, &gathered, &workers),
            own_error: own_error::of(&run.facts, stamp, &workers, &ok, &gaps),
            join: None,
            witness: None,
            speed: if speed::is_speed_benchmark(&run.facts.dataset) {
                speed::rows(&gathered.samples)
            } else {
                Vec::new()
            },
            turns: turns::of(&run.facts, &gathered.samples),
            gpu_memory_gb: run.gpu_memory_peak_bytes.map(|bytes| bytes / f64::from(1 << 30)),
            slo: None,
            server: None,
            server_use: None,
            findings: Vec::new(),
        };
        // Criteria that this version cannot read were checked by the one that ran.
        if let Ok(criteria) = slo::scan_all(&run.facts.slo) {
            summary.slo = Some(Verdict::of(&criteria, &summary, &gathered.samples));
        }
        summary.findings = run.findings.clone();
        summary.findings.extend(findings::of(&summary, &workers));
        summary.findings.extend(super::steady::findings(&run.facts, &gathered.samples));
        summary.findings.extend(own_error::findings(&summary));
        summary.join = join::of(&summary, &gathered.joined);
        summary.findings.extend(summary.join.iter().flat_map(join::findings));
        summary.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        (summary, gathered.samples)
    }

    /// The same summary beside what the server said of itself in the meantime.
    pub fn beside(mut self, totals: &Totals, window: &Window) -> Summary {
        let compared = reconcile::of(&self, totals, window);
        self.findings.extend(reconcile::findings(&compared));
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        self.server = Some(compared);
        self
    }

    /// The same summary beside what a witness saw; `load` are the measured requests.
    pub fn witnessed(mut self, load: &[Sample], seen: Gathered) -> Summary {
        let witness = witness::of(&self, load, seen);
        self.findings.extend(witness::findings(&witness));
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        self.witness = Some(witness);
        self
    }

    /// The figures must not be used: exit status 3.
    pub fn is_void(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity() == Severity::Void)
    }

    /// A given objective was missed: exit status 1.
    pub fn missed_slo(&self) -> bool {
        self.slo.as_ref().is_some_and(|verdict| !verdict.is_met())
    }

    /// Requests were sent and none succeeded: exit status 1.
    pub fn all_failed(&self) -> bool {
        self.counts.ok == 0 && self.counts.failed + self.counts.unfinished > 0
    }
}

/// First due and last end of the requests.
fn span(samples: &[Sample]) -> Option<(u64, u64)> {
    Some((samples.first()?.due, samples.iter().map(|sample| sample.end).max()?))
}

fn counts(run: &StoredRun, gathered: &Gathered, workers: &[&WorkerReport]) -> Counts {
    let (ok, failed, unfinished) = (gathered.ok, gathered.failed(), gathered.unfinished);
    let recorded = ok + failed + unfinished;
    let missing = run.facts.requests.map_or(0, |planned| planned.saturating_sub(recorded));
    let (unsent, unknown) = match run.end {
        // Killed: what is not stored may have been in flight, on its way to the database, or not sent.
        None => (0, missing),
        // Ended before a worker began.
        Some(_) if workers.is_empty() => (missing, 0),
        Some(_) => (workers.iter().map(|worker| worker.unsent).sum(), 0),
    };
    let scheduled = run.facts.requests.unwrap_or(recorded + unsent);
    Counts { scheduled, ok, failed, unfinished, unsent, unknown, unknown_tokens: gathered.unknown_tokens }
}

fn failures(gathered: &Gathered) -> Vec<FailureCount> {
    let of_class = |failure| {
        let texts = gathered.failures.get(&failure)?;
        let shown = texts.most_frequent(3);
        let others = texts.count - shown.iter().map(|(_, count)| count).sum::<u64>();
        Some(FailureCount { failure, count: texts.count, texts: shown, others })
    };
    Failure::ALL.into_iter().filter_map(of_class).collect()
}

fn throughput(ok: &[&Sample], time_s: Option<f64>) -> Throughput {
    let output = sum(ok.iter().map(|sample| sample.output_tokens));
    let input = sum(ok.iter().map(|sample| sample.input_tokens));
    let per_s = |amount: Option<u64>| Some(amount? as f64 / time_s?);
    Throughput {
        requests_per_s: per_s(Some(ok.len() as u64)),
        output_tokens_per_s: per_s(output),
        total_tokens_per_s: per_s(input.zip(output).map(|(input, output)| input + output)),
    }
}

/// The sum of what is known; `None` when nothing is, though there is something to know.
fn sum(values: impl Iterator<Item = Option<u32>> + Clone) -> Option<u64> {
    let known = values.clone().any(|value| value.is_some()) || values.clone().next().is_none();
    known.then(|| values.map(|value| u64::from(value.unwrap_or(0))).sum())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn all_series(gaps_ns: impl Iterator<Item = f64>, ok: &[&Sample]) -> AllSeries {
    AllSeries {
        ttft_s: seconds(ok.iter().filter_map(|s| s.ttft).map(|ns| ns as f64)),
        first_token_s: seconds(ok.iter().filter(|s| s.streamed).filter_map(|s| s.ttft).map(|ns| ns as f64)),
        itl_s: seconds(gaps_ns),
        tpot_s: seconds(ok.iter().filter_map(|s| s.tpot)),
        latency_s: seconds(ok.iter().map(|s| s.latency as f64)),
        input_tokens: series(ok.iter().filter_map(|s| s.input_tokens).map(f64::from)),
        output_tokens: series(ok.iter().filter_map(|s| s.output_tokens).map(f64::from)),
        output_rate_per_s: series(ok.iter().filter_map(|s| s.output_rate)),
        total_rate_per_s: series(ok.iter().filter_map(|s| s.total_rate)),
        service_ttft_s: seconds(ok.iter().filter_map(|s| s.service_ttft).map(|ns| ns as f64)),
        service_latency_s: seconds(ok.iter().filter_map(|s| s.service_latency).map(|ns| ns as f64)),
    }
}

fn series(values: impl Iterator<Item = f64>) -> Series {
    Series::of(&values.collect::<Vec<f64>>())
}

fn seconds(ns: impl Iterator<Item = f64>) -> Series {
    series(ns.map(|ns| ns / 1e9))
}

fn rates(samples: &[Sample], scheduled: bool) -> Rates {
    if !scheduled {
        return Rates::default();
    }
    Rates {
        offered_per_s: event_rate(samples.iter().map(|sample| sample.due)),
        sent_per_s: event_rate(samples.iter().filter_map(|sample| sample.write_start)),
        achieved_per_s: event_rate(samples.iter().filter(|sample| sample.ok).map(|sample| sample.end)),
    }
}

/// Intervals between events over the time they span.
fn event_rate(events: impl Iterator<Item = u64>) -> Option<f64> {
    let (first, last, count) =
        events.fold((u64::MAX, 0, 0u64), |(first, last, count), at| (first.min(at), last.max(at), count + 1));
    (count > 1 && last > first).then(|| (count - 1) as f64 * 1e9 / (last - first) as f64)
}

fn concurrency(samples: &[Sample], span: Option<(u64, u64)>) -> Concurrency {
    let sent = samples.iter().filter_map(|sample| Some((sample.write_start?, sample.end)));
    let in_flight = InFlight::of(sent.clone());
    let Some((from, to)) = span else { return Concurrency::default() };
    let first_sent = sent.clone().map(|(start, _)| start).min().unwrap_or(from);
    let last_sent = sent.map(|(start, _)| start).max().unwrap_or(from);
    let last_due = samples.last().map_or(from, |sample| sample.due);
    Concurrency {
        peak: in_flight.peak(),
        mean: in_flight.mean(from, to),
        mean_stay_s: mean(samples.iter().map(stay_s)),
        mean_while_sending: in_flight.mean(first_sent, last_sent),
        due_span_s: Some((last_due - from) as f64 / 1e9),
        parts: parts(&in_flight, from, last_due),
    }
}

fn stay_s(sample: &Sample) -> f64 {
    sample.write_start.map_or(0.0, |start| sample.end.saturating_sub(start) as f64 / 1e9)
}

fn parts(in_flight: &InFlight, from: u64, to: u64) -> Option<[f64; 5]> {
    let edge = |i: usize| from + ((to - from) as u128 * i as u128 / 5) as u64;
    let mut means = [0.0; 5];
    for (i, mean) in means.iter_mut().enumerate() {
        *mean = in_flight.mean(edge(i), edge(i + 1))?;
    }
    Some(means)
}

fn steady(facts: &RunFacts, gathered: &Gathered) -> Option<Steady> {
    let first_wave = facts.parallel? as usize;
    let mut by_sending: Vec<&Sample> = gathered.samples.iter().filter(|sample| sample.write_start.is_some()).collect();
    by_sending.sort_by_key(|sample| (sample.write_start, sample.index));
    let after: Vec<&Sample> = by_sending.into_iter().skip(first_wave).filter(|sample| sample.ok).collect();
    (!after.is_empty()).then(|| Steady {
        requests: after.len(),
        ttft_s: seconds(after.iter().filter_map(|s| s.ttft).map(|ns| ns as f64)),
        service_ttft_s: seconds(after.iter().filter_map(|s| s.service_ttft).map(|ns| ns as f64)),
        itl_s: seconds(gathered.gaps_of(after.iter().copied()).into_iter()),
    })
}

fn client(facts: &RunFacts, gathered: &Gathered, workers: &[&WorkerReport]) -> Client {
    let samples = &gathered.samples;
    let capped_schedule = facts.parallel.is_some() && facts.rate_per_s.is_some();
    let shares: Vec<f64> =
        workers.iter().filter(|w| w.wall_ns > 0).map(|w| cpu_ns(w) as f64 / w.wall_ns as f64).collect();
    let cpu: u64 = workers.iter().map(|worker| cpu_ns(worker)).sum();
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let total = |of: fn(&WorkerReport) -> u64| workers.iter().map(|worker| of(worker)).sum::<u64>();
    Client {
        receive_lag: merged_lag(workers.iter().map(|worker| &worker.receive_lag_ns)),
        loop_gap: merged_lag(workers.iter().map(|worker| &worker.loop_gap_ns)),
        send_lag: lag(samples.iter().filter_map(|sample| sample.send_lag)),
        own_send_lag: lag(samples.iter().filter_map(|sample| sample.own_send_lag(capped_schedule))),
        turnaround: lag(samples.iter().filter_map(|sample| sample.turnaround)),
        connect: lag(samples.iter().filter_map(|sample| sample.connect)),
        tls_handshake: lag(gathered.tls_handshakes_ns.iter().map(|&ns| ns as u64)),
        coalesced_reads: share(gathered.coalesced_reads, gathered.reads),
        coalesced_events: share(gathered.coalesced_events, gathered.output_events),
        stamped_reads: share(gathered.stamped_reads, gathered.reads),
        retried: gathered.retried,
        workers: workers.len(),
        cpu_max: shares.iter().copied().reduce(f64::max),
        cpu_mean: mean(shares.iter().copied()),
        cpu_per_event_ns: share(cpu, gathered.output_events).filter(|_| !workers.is_empty()),
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
fn lag(delays_ns: impl Iterator<Item = u64>) -> Lag {
    let series = series(delays_ns.map(|ns| ns as f64));
    let value = |per_mille| series.value(per_mille).unwrap_or(0.0) as u64;
    Lag { count: series.count as u64, p50: value(500), p99: value(990), max: value(LEVELS[11].per_mille) }
}

/// Quantiles of histograms taken together, to three digits.
fn merged_lag<'a>(histograms: impl Iterator<Item = &'a hdrhistogram::Histogram<u64>>) -> Lag {
    let mut merged = hdrhistogram::Histogram::<u64>::new(3).expect("three digits are valid");
    for histogram in histograms {
        // Cannot be refused: the sum grows by itself.
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
