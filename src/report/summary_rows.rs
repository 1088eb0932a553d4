//! The rows and columns of the tables, under the names that the JSON files use as well.

use super::i18n::{Label, Statistic};
use super::table::{digits, number, optional};
use crate::finding::Figure;
use crate::record::facts::Mode;
use crate::stats::Summary;
use crate::stats::client::Lag;
use crate::stats::quantile::Series;
use crate::stats::series::AllSeries;
use crate::time::format_ns;

/// The name of a run's database in the summary, as in evalscope 0.7.
pub(crate) const DATABASE_PATH: &str = "Result DB path";

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: Label,
    pub value: Value,
    pub shown: Shown,
    /// Also in the table that a run prints, which has evalscope's rows and what this run adds to them.
    pub brief: bool,
}

/// When a row is part of the table. In JSON files every row has its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// "-" if the value is unknown.
    Always,
    IfKnown,
    Never,
}

impl Row {
    /// Whether the table has this row.
    pub(crate) fn is_shown(&self) -> bool {
        match self.shown {
            Shown::Always => true,
            Shown::IfKnown => self.value != Value::Unknown,
            Shown::Never => false,
        }
    }

    /// Whether it is a time of requests in seconds. The HTML report shows these in milliseconds.
    pub(crate) fn is_response_time(&self) -> bool {
        matches!(
            self.key,
            Label::AverageLatency
                | Label::AverageTtft
                | Label::AverageTpot
                | Label::AverageItl
                | Label::PackageLatency
                | Label::FirstTokenMin
                | Label::FirstTokenMax
                | Label::FirstTokenAverage
                | Label::AverageFirstAnswerToken
        )
    }
}

/// A figure without rounding.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Count(u64),
    /// A figure that is only known to be in a range: its most plausible value, which JSON files have, and the ends.
    Range(f64, [f64; 2]),
    Unknown,
}

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Value {
        value.filter(|value| value.is_finite()).map_or(Value::Unknown, Value::Number)
    }
}

impl Value {
    /// The cell of a table.
    pub fn text(&self) -> String {
        match self {
            Value::Number(value) => number(*value),
            Value::Count(count) => count.to_string(),
            Value::Range(value, [low, high]) => format!("{} ({} .. {})", number(*value), number(*low), number(*high)),
            Value::Unknown => "-".to_string(),
        }
    }

    /// A time in seconds as milliseconds, with the decimals of the percentiles of the HTML report.
    pub(crate) fn ms_text(&self) -> String {
        let ms = |seconds: f64| digits(seconds * 1e3, 2);
        match self {
            Value::Number(seconds) => ms(*seconds),
            Value::Range(value, [low, high]) => format!("{} ({} .. {})", ms(*value), ms(*low), ms(*high)),
            Value::Count(_) | Value::Unknown => self.text(),
        }
    }
}

/// The mean TPOT, with its range if some requests have more tokens than events.
fn tpot(series: &AllSeries) -> Value {
    let ends = series.tpot_range.as_ref().and_then(|range| Some([range.low_s.mean?, range.high_s.mean?]));
    let in_range = series.tpot_s.mean.zip(ends).map(|(value, ends)| Value::Range(value, ends));
    in_range.unwrap_or_else(|| series.tpot_s.mean.into())
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Count(value)
    }
}

/// A row of every table; "-" if it is unknown.
fn row<V: Into<Value>>(key: Label, value: V) -> Row {
    Row { key, value: value.into(), shown: Shown::Always, brief: true }
}

/// A row that is shown only if its value is known.
fn maybe<V: Into<Value>>(key: Label, value: V) -> Row {
    Row { key, value: value.into(), shown: Shown::IfKnown, brief: true }
}

/// A row of the full table only.
fn detail(row: Row) -> Row {
    Row { brief: false, ..row }
}

/// The measured requests that were requested. Of conversations only their number is known before.
fn expected_requests(s: &Summary) -> Value {
    let requests = s.facts.requests.filter(|_| s.facts.conversations.is_none());
    requests.map_or(Value::Unknown, Value::Count)
}

/// The rows of "Benchmarking summary:". The first thirteen are those of evalscope's documentation, in its order.
pub fn summary(s: &Summary) -> Vec<Row> {
    let series = &s.series;
    let nothing_if_0 = |count: u64| if count == 0 { Value::Unknown } else { Value::Count(count) };
    let mut rows = vec![
        row(Label::TimeTaken, s.time_s),
        row(Label::Concurrency, s.facts.parallel.map_or(Value::Unknown, |p| Value::Count(p.into()))),
        row(Label::TotalRequests, s.counts.scheduled),
        row(Label::SucceedRequests, s.counts.ok),
        row(Label::FailedRequests, s.counts.failed),
        row(Label::OutputThroughput, s.throughput.output_tokens_per_s),
        row(Label::TotalThroughput, s.throughput.total_tokens_per_s),
        row(Label::RequestThroughput, s.throughput.requests_per_s),
        row(Label::AverageLatency, series.latency_s.mean),
        row(Label::AverageTtft, series.ttft_s.mean),
        row(Label::AverageTpot, tpot(series)),
        row(Label::AverageInputTokens, series.input_tokens.mean),
        row(Label::AverageOutputTokens, series.output_tokens.mean),
        maybe(Label::UnfinishedRequests, nothing_if_0(s.counts.unfinished)),
        maybe(Label::UnsentRequests, if s.end.is_some() { nothing_if_0(s.counts.unsent) } else { Value::Unknown }),
        maybe(Label::UnknownRequests, nothing_if_0(s.counts.unknown)),
        detail(row(Label::RequestsPerMinute, s.throughput.requests_per_s.map(|rate| rate * 60.0))),
        detail(row(Label::AverageItl, series.itl_s.mean)),
        detail(row(Label::PackagesPerRequest, s.packages_per_request)),
        detail(row(Label::PackageLatency, s.package_latency_s)),
        maybe(Label::TokensPerEvent, s.tokens_per_event),
        detail(maybe(Label::ExpectedRequests, expected_requests(s))),
        detail(row(Label::FirstTokenMin, series.ttft_s.min)),
        detail(row(Label::FirstTokenMax, series.ttft_s.max)),
        detail(row(Label::FirstTokenAverage, series.ttft_s.mean)),
    ];
    if let Some(verdict) = &s.slo {
        rows.push(row(Label::Goodput, verdict.goodput_per_s));
        rows.push(row(Label::WithinSlo, verdict.good_share.map(|share| share * 100.0)));
    }
    if s.facts.mode != Mode::Closed {
        // The schedule of conversations contains their first turns.
        let planned = match s.facts.conversations {
            Some(_) => Label::PlannedConversationRate,
            None => Label::PlannedRequestRate,
        };
        // A burst has no rate: all requests are due at once.
        rows.push(row(planned, s.facts.rate_per_s.filter(|&rate| rate > 0.0)));
        rows.push(row(Label::OfferedRate, s.rates.offered_per_s));
    }
    // A closed loop has no schedule, and its concurrency is given.
    let scheduled = s.facts.mode != Mode::Closed;
    let rate: fn(Label, Value) -> Row = if scheduled { row } else { maybe };
    let peak = s.concurrency.peak.map_or(Value::Unknown, |peak| Value::Count(peak.into()));
    rows.extend([
        rate(Label::SentRate, s.rates.sent_per_s.into()),
        rate(Label::AchievedRate, s.rates.achieved_per_s.into()),
        Row { brief: scheduled, ..row(Label::PeakConcurrency, peak) },
        Row { brief: scheduled, ..row(Label::MeanConcurrency, s.concurrency.mean) },
    ]);
    // For generated text the totals contain it.
    let shown = if s.generates_text() { Shown::Never } else { Shown::Always };
    rows.push(Row { shown, ..row(Label::InputThroughput, s.throughput.input_tokens_per_s) });
    // Without reasoning it is TTFT.
    if series.first_answer_s.mean != series.ttft_s.mean && series.first_answer_s.mean.is_some() {
        rows.push(row(Label::AverageFirstAnswerToken, series.first_answer_s.mean));
    }
    // Where the steady state changes nothing, the screen of a run does not have it.
    let steady = |key, part: Option<f64>, whole: Option<f64>| {
        let differs = part.zip(whole).is_none_or(|(part, whole)| (part - whole).abs() > STEADY_DIFFERENCE * whole);
        Row { brief: differs, ..maybe(key, part) }
    };
    let (of_steady, of_run) = (s.steady_throughput.map(|steady| steady.throughput).unwrap_or_default(), &s.throughput);
    rows.push(steady(Label::SteadyRequestThroughput, of_steady.requests_per_s, of_run.requests_per_s));
    rows.push(steady(Label::SteadyOutputThroughput, of_steady.output_tokens_per_s, of_run.output_tokens_per_s));
    rows.push(maybe(Label::CachedInputShare, s.cached_share.map(|share| share * 100.0)));
    rows.push(maybe(Label::Gpus, s.facts.gpus.map_or(Value::Unknown, |gpus| Value::Count(gpus.into()))));
    let (output, input) = if s.generates_text() { (s.per_gpu(), None) } else { (None, s.per_gpu()) };
    rows.push(maybe(Label::OutputPerGpu, output));
    rows.push(maybe(Label::InputPerGpu, input));
    if !s.generates_text() {
        rows.iter_mut().filter(|row| OF_TEXT.contains(&row.key)).for_each(|row| row.shown = Shown::Never);
    }
    rows
}

/// The difference between the throughput of the steady state and of the whole run, as a share, from which on it is on the
/// screen of a run.
const STEADY_DIFFERENCE: f64 = 0.01;

/// Rows about generated text, which the tables of embeddings and rankings do not have.
const OF_TEXT: [Label; 12] = [
    Label::SteadyOutputThroughput,
    Label::OutputThroughput,
    Label::TotalThroughput,
    Label::AverageTtft,
    Label::AverageTpot,
    Label::AverageOutputTokens,
    Label::AverageItl,
    Label::PackagesPerRequest,
    Label::PackageLatency,
    Label::FirstTokenMin,
    Label::FirstTokenMax,
    Label::FirstTokenAverage,
];

/// The columns of the percentile table as evalscope documents it: embeddings and rankings have a latency and input tokens.
/// A TPOT that is a range has its most plausible value.
pub(crate) fn documented_columns(s: &Summary) -> Vec<(Label, &Series)> {
    let of_text = |label: Label| !matches!(label, Label::Latency | Label::InputTokens);
    percentile_columns(s).into_iter().filter(|(label, _)| s.generates_text() || !of_text(*label)).collect()
}

/// The same, but a TPOT that is a range has a column for each end, and one for the value shown if that is not the lower
/// end.
pub(crate) fn shown_columns(s: &Summary) -> Vec<(Label, &Series)> {
    let columns = documented_columns(s).into_iter();
    let ends = |(label, series)| match (label, &s.series.tpot_range) {
        (Label::Tpot, Some(range)) => {
            let value = s.series.tpot_is_within().then_some((label, series));
            value.into_iter().chain([(Label::TpotFrom, &range.low_s), (Label::TpotTo, &range.high_s)]).collect()
        }
        _ => vec![(label, series)],
    };
    columns.flat_map(ends).collect()
}

/// The columns of the percentile table in JSON files.
pub(crate) fn percentile_columns(s: &Summary) -> [(Label, &Series); 8] {
    let series = &s.series;
    [
        (Label::Ttft, &series.ttft_s),
        (Label::Itl, &series.itl_s),
        (Label::Tpot, &series.tpot_s),
        (Label::Latency, &series.latency_s),
        (Label::InputTokens, &series.input_tokens),
        (Label::OutputTokens, &series.output_tokens),
        (Label::OutputRate, &series.output_rate_per_s),
        (Label::TotalRate, &series.total_rate_per_s),
    ]
}

/// The client's own figures, each a name and a value.
pub(crate) fn client_rows(s: &Summary) -> Vec<(Label, String)> {
    let c = &s.client;
    let mut rows: Vec<(Label, String)> = Vec::new();
    let mut row = |key: Label, value: String| rows.push((key, value));
    row(Label::ReceiveLag, lag_text(c.receive_lag));
    row(Label::SendLag, lag_text(c.send_lag));
    row(Label::Turnaround, lag_text(c.turnaround));
    row(Label::ConnectTime, lag_text(c.connect));
    if c.tls_handshake.count > 0 {
        row(Label::TlsHandshake, lag_text(c.tls_handshake));
    }
    row(Label::LoopGap, lag_text(c.loop_gap));
    row(Label::Gathering, lag_text(c.gathering));
    let (label, service) = match s.series.service_ttft_s.count {
        0 => (Label::ServiceLatency, &s.series.service_latency_s),
        _ => (Label::ServiceTtft, &s.series.service_ttft_s),
    };
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_string(), |s| format_ns((s * 1e9).round() as u64));
    row(label, [service.mean, service.value(500), service.value(990)].map(time).join(" / "));
    row(Label::CoalescedReads, share_text(c.coalesced_reads));
    row(Label::CoalescedEvents, share_text(c.coalesced_events));
    row(Label::StampedReads, share_text(c.stamped_reads));
    row(Label::ConcurrencyWhileSending, optional(s.concurrency.mean_while_sending));
    row(Label::WorkerCpu, format!("{} / {}", share_text(c.cpu_mean), share_text(c.cpu_max)));
    row(Label::CpuPerEvent, c.cpu_per_event_ns.map_or_else(|| "-".to_string(), |ns| format_ns(ns as u64)));
    let workers = c.workers > 0;
    let known = |text: String| if workers { text } else { "-".to_string() };
    row(Label::ContextSwitches, known(format!("{} / {}", c.voluntary_switches, c.involuntary_switches)));
    row(Label::ConnectionsOpened, known(c.connections_opened.to_string()));
    if let Some(network) = &s.network {
        row(Label::WayToWire, lag_text(network.to_wire));
        row(Label::MinimumRtt, lag_text(network.min_rtt));
        row(Label::SmoothedRtt, lag_text(network.rtt));
        row(Label::Acknowledged, lag_text(network.acknowledged));
        if s.series.ttft_s.count > 0 {
            row(Label::TtftAtServer, lag_text(network.server_ttft));
        }
        let counts = format!("{} / {} / {}", network.retransmitted, network.out_of_order, network.recorded);
        row(Label::Retransmissions, counts);
    }
    rows
}

fn lag_text(lag: Lag) -> String {
    if lag.count == 0 {
        return "-".to_string();
    }
    [lag.p50, lag.p99, lag.max].map(format_ns).join(" / ")
}

fn share_text(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_string(), |share| format!("{:.2} %", share * 100.0))
}

/// A value that may be a percentile with too few samples beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatisticValue {
    pub value: Option<f64>,
    pub few: bool,
}

impl StatisticValue {
    fn read(series: &Series, statistic: Statistic) -> StatisticValue {
        let Some(per_mille) = statistic.per_mille() else { return StatisticValue { value: series.mean, few: false } };
        let quantile = series.at(per_mille);
        StatisticValue {
            value: quantile.map(|quantile| quantile.value),
            few: quantile.is_some_and(|quantile| quantile.few),
        }
    }
}

/// The rows of the steady part: statistic and time, whole run, steady part.
pub fn steady(s: &Summary) -> Vec<((Statistic, Figure), StatisticValue, StatisticValue)> {
    let Some(steady) = &s.steady else { return Vec::new() };
    let pairs = match steady.ttft_s.count {
        // Nothing was streamed.
        0 => vec![(Figure::Latency, &s.series.latency_s, &steady.latency_s)],
        _ => vec![(Figure::Ttft, &s.series.ttft_s, &steady.ttft_s), (Figure::Itl, &s.series.itl_s, &steady.itl_s)],
    };
    let statistics = [Statistic::Average, Statistic::P50, Statistic::P99];
    let rows = pairs.into_iter().flat_map(|(figure, whole, part)| {
        statistics.map(|statistic| {
            ((statistic, figure), StatisticValue::read(whole, statistic), StatisticValue::read(part, statistic))
        })
    });
    rows.collect()
}
