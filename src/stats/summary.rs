//! The summary of a run, assembled from the analyses: every row of the tables is a field here. Lengths of time are
//! seconds.

use super::client::{self, Client};
use super::concurrency::Concurrency;
use super::counts::{self, Counts, FailureCount};
use super::gap_set::{GapFigures, GapsWanted};
use super::gap_sets::{GapSets, Members};
use super::measurement_error::{self, MeasurementError};
use super::network::{self, Network};
use super::prompt_repeats;
use super::quantile::{Series, mean};
use super::reconcile::{self, ClientSide, Reconciliation, Totals};
use super::samples::{RunSamples, Samples, Selection, in_due_order};
use super::series::AllSeries;
use super::server_timings::{self, ServerTimings};
use super::slo::{self as judging, JudgedRun, JudgedValue, Verdict};
use super::speed::{self, SpeedRow};
use super::steady_part::SteadyPart;
use super::throughput::{Rates, SteadyThroughput, Throughput};
use super::tolerance::Tolerance;
use super::turns::{self, Turns};
use super::witness::{self, Witness};
use crate::api::endpoint::Api;
use crate::finding::{Finding, Severity};
use crate::plan::slo;
use crate::record::WorkerReport;
use crate::record::facts::{RunEnd, RunFacts};
use crate::server::metric_catalog::Window;
use crate::server::resource_usage::ResourceUsage;
use crate::store::StoredRun;

/// What a summary is computed from.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub run: &'a StoredRun,
    /// The measured requests.
    pub samples: RunSamples,
    /// The requests of a warm-up that flows into the measured ones; empty without one.
    pub warmup: RunSamples,
    /// The witness's requests; `None` without a witness.
    pub witness: Option<RunSamples>,
    /// The server's metrics; `None` if there are none.
    pub server: Option<Window>,
    /// Resources used by a server that this program started.
    pub server_use: Option<ResourceUsage>,
    /// All times are by one clock, or by clocks whose differences are known. Otherwise figures of several requests at one time
    /// are unknown: time, throughput, rates, concurrency.
    pub one_clock: bool,
}

impl<'a> Inputs<'a> {
    /// A run without a warm-up, a witness and metrics of the server.
    pub fn new(run: &'a StoredRun, samples: RunSamples) -> Inputs<'a> {
        Inputs {
            run,
            samples,
            warmup: RunSamples::default(),
            witness: None,
            server: None,
            server_use: None,
            one_clock: true,
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What was run.
    pub facts: RunFacts,
    /// `None` if the run was killed.
    pub end: Option<RunEnd>,
    /// Requests by outcome.
    pub counts: Counts,
    /// Classes that occurred, in the order of the failure table.
    pub failures: Vec<FailureCount>,
    /// All times are by one clock; otherwise the figures over all processes are unknown.
    pub one_clock: bool,
    /// Last end − first due time.
    pub time_s: Option<f64>,
    /// Requests and tokens per second.
    pub throughput: Throughput,
    /// The same without start-up and drain; `None` if the run is too short.
    pub steady_throughput: Option<SteadyThroughput>,
    /// Cached input tokens divided by all input tokens of the succeeded requests; `None` if the server reports none.
    pub cached_share: Option<f64>,
    /// The distributions of all figures per request.
    pub series: AllSeries,
    /// Output tokens per output event; `None` unless events carry clearly more than one.
    pub tokens_per_event: Option<f64>,
    /// Means over the succeeded, streamed requests: events per request, and latency per event.
    pub packages_per_request: Option<f64>,
    /// Mean time per SSE event, seconds.
    pub package_latency_s: Option<f64>,
    /// Offered, sent and achieved rates.
    pub rates: Rates,
    /// Requests in flight.
    pub concurrency: Concurrency,
    /// A closed loop's requests after its first wave; `None` if there are none.
    pub steady: Option<SteadyPart>,
    /// Lags and CPU time of the client itself.
    pub client: Client,
    /// The network's part of the requests; `None` if it was not recorded.
    pub network: Option<Network>,
    /// Bounds of the effect of the client's error on the figures.
    pub measurement_error: MeasurementError,
    /// Each request compared with the server's own times for it; `None` if the server sent none.
    pub server_timings: Option<ServerTimings>,
    /// The load compared with the witness; `None` without one.
    pub witness: Option<Witness>,
    /// Rows of the speed benchmark; empty for other datasets.
    pub speed: Vec<SpeedRow>,
    /// Conversations by turn; `None` for single requests.
    pub turns: Option<Turns>,
    /// Peak GPU memory of a server on this machine, GiB; `None` if it was not sampled.
    pub gpu_memory_gb: Option<f64>,
    /// SLO attainment; `None` if no objectives were given.
    pub slo: Option<Verdict>,
    /// The figures of the search that the run belongs to, as they are judged; empty without a search.
    pub searched: Vec<(slo::Figure, JudgedValue)>,
    /// The figures compared with the server's metrics; `None` if there are none.
    pub server: Option<Reconciliation>,
    /// Resources used by a server that this program started; `None` for any other.
    pub server_use: Option<ResourceUsage>,
    /// The most severe first.
    pub findings: Vec<Finding>,
}

impl Summary {
    /// Runs every analysis. `workers` are the reports of the measured phase. Also returns the requests sorted by due
    /// time. The only findings in the result are those that were stored with the run.
    pub(super) fn assemble<E>(
        inputs: Inputs<'_>,
        workers: &[&WorkerReport],
        read_gaps: impl FnMut(&mut GapSets) -> Result<(), E>,
    ) -> Result<(Summary, Samples), E> {
        let Inputs { run, mut samples, mut warmup, mut witness, server, server_use, one_clock } = inputs;
        let facts = &run.facts;
        samples.sort();
        warmup.sort();
        witness.iter_mut().for_each(RunSamples::sort);
        let sent_before = warmup.requests.iter().filter(|sample| sample.write_start.is_some()).count();
        let after_first_wave = SteadyPart::samples(facts, &samples, sent_before).filter(|_| one_clock);
        let requests = &samples.requests;
        let ok = requests.select(|sample| sample.ok);
        let by_any_clock = span(requests);
        let seconds = |(from, to): (u64, u64)| Some((to - from) as f64 / 1e9).filter(|&s| s > 0.0);
        let events_per_s = by_any_clock.and_then(seconds).map_or(0.0, |s| samples.output_events as f64 / s);
        let span = by_any_clock.filter(|_| one_clock);
        let time_s = span.and_then(seconds);

        let stamp = measurement_error::stamp_error(run.calibration.as_ref(), facts, events_per_s);
        let counted = witness.as_ref().map(|witness| witness::counted(requests, witness));
        let members = |samples: &Selection<'_>| Members::from_samples(samples.iter());
        let wanted = GapsWanted {
            span: by_any_clock.unwrap_or_default(),
            margin_ns: measurement_error::gap_margin_ns(&stamp, run.end.as_ref(), &ok),
            failed_share: judging::failed_share(requests),
        };
        let others: Vec<&RunSamples> = [Some(&warmup), witness.as_ref()]
            .into_iter()
            .flatten()
            .filter(|part| server.is_some() && !part.requests.is_empty())
            .collect();
        let gaps = GapSets::new(wanted)
            .with_steady(after_first_wave.as_ref().map(members), wanted.span)
            .with_others((!others.is_empty()).then_some(wanted.span))
            .with_witness(counted.as_ref().map(members), wanted.span)
            .compute(read_gaps)?;
        let itl_s = |figures: Option<GapFigures>| figures.unwrap_or_default().series_s;

        let steady = after_first_wave.map(|samples| SteadyPart::compute(&samples, itl_s(gaps.steady)));
        let throughput = Throughput::compute(&ok, time_s);
        let series = AllSeries::compute(ok.iter(), gaps.measured.series_s.clone());
        let client = client::compute(facts, &samples, workers);
        let measurement_error =
            measurement_error::compute(facts, stamp, run.end.as_ref(), workers, &ok, &gaps.measured);
        let tolerance = Tolerance::compute(&client, &measurement_error.stamp);
        // Criteria that this version cannot parse were checked by the version that ran.
        let slo = slo::scan_all(&facts.slo).ok();
        let judged =
            JudgedRun { throughput: &throughput, series: &series, time_s, samples: requests, gaps: &gaps.measured };
        let objectives = slo.clone().unwrap_or_default();
        let searched = facts.search.iter().flat_map(|plan| judged.searched(plan, &objectives)).collect();
        let slo = slo.map(|criteria| Verdict::compute(&criteria, &judged));
        let server = server.map(|window| {
            // The server's metrics cover the warm-up and the witness as well.
            let with_others = gaps.with_others.map(|gaps| series_with_others(&ok, &others, gaps.series_s));
            let parts: Vec<&RunSamples> = [&samples].into_iter().chain(others.iter().copied()).collect();
            let totals = Totals::compute(&parts);
            let side = ClientSide {
                series: with_others.as_ref().unwrap_or(&series),
                client: &client,
                tolerance,
                totals: &totals,
                killed: run.end.is_none(),
                with_witness: facts.witness > 0,
                streamed: ok.iter().all(|sample| sample.streamed),
                choices: u64::from(facts.choices.max(1)),
            };
            reconcile::compare(side, &window)
        });
        let witness = witness.as_ref().zip(counted.as_ref()).map(|(witness, counted)| {
            witness::compare(steady.as_ref(), &series, witness, counted, itl_s(gaps.witness))
        });
        let counts = counts::compute(run, &samples, workers);
        let turns = turns::compute(facts, requests);
        let missing = prompt_repeats::not_started(facts, &counts, turns.as_ref(), sent_before as u64);
        let streamed = || ok.iter().filter(|sample| sample.streamed);
        let is_speed_benchmark = speed::is_speed_benchmark(&facts.dataset);
        let summary = Summary {
            facts: facts.clone(),
            end: run.end.clone(),
            counts,
            failures: counts::failures(&samples),
            one_clock,
            time_s,
            throughput,
            steady_throughput: SteadyThroughput::compute(facts, requests, span),
            cached_share: counts::cached_share(&ok),
            packages_per_request: mean(streamed().map(|sample| f64::from(sample.events))),
            tokens_per_event: tokens_per_event(&samples),
            package_latency_s: mean(ok.iter().filter_map(|sample| sample.package_latency)).map(|ns| ns / 1e9),
            rates: Rates::compute(requests, facts.rate_per_s.is_some() && one_clock),
            concurrency: match one_clock {
                true => Concurrency::compute(requests, &warmup.requests, span),
                false => Concurrency::default(),
            },
            steady,
            server_timings: server_timings::compare(tolerance, &samples.timings),
            witness,
            speed: if is_speed_benchmark { speed::rows(requests) } else { Vec::new() },
            turns,
            gpu_memory_gb: run.gpu_memory_peak_bytes.map(|bytes| bytes / f64::from(1 << 30)),
            slo,
            searched,
            server,
            server_use,
            findings: prompt_repeats::of_started(&run.findings, missing),
            network: network::compute(&samples, &series),
            series,
            client,
            measurement_error,
        };
        Ok((summary, samples.requests))
    }

    /// Whether responses are generated text: embeddings and rankings have neither TTFT nor output tokens.
    pub fn generates_text(&self) -> bool {
        !matches!(Api::named(&self.facts.api), Some(Api::Embeddings | Api::Rerank))
    }

    /// The figures must not be used: exit status 3.
    pub fn is_void(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity() == Severity::Void)
    }

    /// The server ended for good during the run.
    pub(crate) fn server_ended(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding, Finding::ServerDied { .. } | Finding::ServerEnded { .. }))
    }

    /// The value of a figure of the run's search.
    pub fn searched(&self, figure: slo::Figure) -> JudgedValue {
        self.searched.iter().find(|(other, _)| *other == figure).map_or_else(JudgedValue::default, |found| found.1)
    }

    /// A given objective was missed: exit status 1.
    pub fn missed_slo(&self) -> bool {
        self.slo.as_ref().is_some_and(|verdict| !verdict.is_met())
    }

    /// Output tokens per second of one user while text is generated: 1 / mean TPOT.
    pub fn per_user(&self) -> Option<f64> {
        self.series.tpot_s.mean.filter(|&tpot| tpot > 0.0).map(|tpot| 1.0 / tpot)
    }

    /// Output tokens per second and GPU of the server, input tokens for embeddings and rankings; `None` without `--gpus`.
    pub fn per_gpu(&self) -> Option<f64> {
        let throughput = &self.throughput;
        let rate = if self.generates_text() { throughput.output_tokens_per_s } else { throughput.input_tokens_per_s };
        self.facts.gpus.zip(rate).map(|(gpus, rate)| rate / f64::from(gpus))
    }

    /// `--abort-on` ended the run: exit status 1.
    pub fn is_aborted(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.aborted)
    }

    /// Requests were sent and none succeeded: exit status 1.
    pub fn all_failed(&self) -> bool {
        self.counts.ok == 0 && self.counts.failed + self.counts.unfinished > 0
    }
}

/// More tokens per event than this are reported.
const TOKENS_PER_EVENT: f64 = 1.05;

/// Output tokens per output event. One token of a response may have no event of its own (end of sequence).
fn tokens_per_event(samples: &RunSamples) -> Option<f64> {
    let events = samples.token_events as f64;
    let with_events = samples.event_tokens.saturating_sub(samples.token_streams) as f64;
    (with_events > TOKENS_PER_EVENT * events).then(|| samples.event_tokens as f64 / events)
}

/// The first due time and the last end of requests sorted by due time, tick nanoseconds.
fn span(samples: &Samples) -> Option<(u64, u64)> {
    let span = (samples.first()?.due, samples.iter().map(|sample| sample.end).max()?);
    // A damaged database may have an end before the due time.
    (span.0 <= span.1).then_some(span)
}

/// The series of the succeeded requests of the run and of the warm-up and the witness; `itl_s` is that of all their gaps.
fn series_with_others(ok: &Selection<'_>, others: &[&RunSamples], itl_s: Series) -> AllSeries {
    let others = others.iter().map(|part| part.requests.select(|sample| sample.ok));
    let parts: Vec<Selection<'_>> = [ok.clone()].into_iter().chain(others).collect();
    // Confidence intervals need time order.
    AllSeries::compute(in_due_order(&parts), itl_s)
}
