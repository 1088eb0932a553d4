//! The rows and columns of the tables, under the names that the JSON files use as well.

use super::table::{mark, number, optional};
use crate::record::facts::Mode;
use crate::stats::Summary;
use crate::stats::client::Lag;
use crate::stats::quantile::Series;
use crate::time::format_ns;

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: &'static str,
    pub value: Value,
    /// Shown in the table even if it is unknown.
    pub always: bool,
}

/// A figure without rounding.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Count(u64),
    Unknown,
}

impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Value {
        value.filter(|value| value.is_finite()).map_or(Value::Unknown, Value::Number)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Count(value)
    }
}

/// A row of every table; "-" if it is unknown.
fn row(key: &'static str, value: impl Into<Value>) -> Row {
    Row { key, value: value.into(), always: true }
}

/// A row that is shown only if its value is known.
fn maybe(key: &'static str, value: impl Into<Value>) -> Row {
    Row { key, value: value.into(), always: false }
}

/// The rows of "Benchmarking summary:". The first thirteen are those of evalscope's documentation, in its order.
pub fn summary(s: &Summary) -> Vec<Row> {
    let series = &s.series;
    let nothing_if_0 = |count: u64| if count == 0 { Value::Unknown } else { Value::Count(count) };
    let mut rows = vec![
        row("Time taken for tests (s)", s.time_s),
        row("Number of concurrency", s.facts.parallel.map_or(Value::Unknown, |p| Value::Count(p.into()))),
        row("Total requests", s.counts.scheduled),
        row("Succeed requests", s.counts.ok),
        row("Failed requests", s.counts.failed),
        maybe("Unfinished requests", nothing_if_0(s.counts.unfinished)),
        maybe("Unsent requests", if s.end.is_some() { nothing_if_0(s.counts.unsent) } else { Value::Unknown }),
        maybe("Unknown requests (not stored)", nothing_if_0(s.counts.unknown)),
        row("Output token throughput (tok/s)", s.throughput.output_tokens_per_s),
        row("Total token throughput (tok/s)", s.throughput.total_tokens_per_s),
        row("Request throughput (req/s)", s.throughput.requests_per_s),
        row("Average latency (s)", series.latency_s.mean),
        row("Average time to first token (s)", series.ttft_s.mean),
        row("Average time per output token (s)", series.tpot_s.mean),
        row("Average input tokens per request", series.input_tokens.mean),
        row("Average output tokens per request", series.output_tokens.mean),
        row("Request throughput (req/min)", s.throughput.requests_per_s.map(|rate| rate * 60.0)),
        row("Average inter-token latency (s)", series.itl_s.mean),
        row("Average package per request", s.packages_per_request),
        row("Average package latency (s)", s.package_latency_s),
        row("First token latency min (s)", series.first_token_s.min),
        row("First token latency max (s)", series.first_token_s.max),
        row("First token latency ave (s)", series.first_token_s.mean),
    ];
    if let Some(verdict) = &s.slo {
        rows.push(row("Goodput (req/s)", verdict.goodput_per_s));
        rows.push(row("Requests within SLO (%)", verdict.good_share.map(|share| share * 100.0)));
    }
    if s.facts.mode != Mode::Closed {
        // The schedule of conversations contains their first turns.
        let planned = match s.facts.conversations {
            Some(_) => "Planned conversation rate (1/s)",
            None => "Planned request rate (req/s)",
        };
        // A burst has no rate: all requests are due at once.
        rows.push(row(planned, s.facts.rate_per_s.filter(|&rate| rate > 0.0)));
        rows.push(row("Offered request rate (req/s)", s.rates.offered_per_s));
    }
    // A closed loop has no schedule.
    let always = s.facts.mode != Mode::Closed;
    rows.extend([
        Row { always, ..row("Sent request rate (req/s)", s.rates.sent_per_s) },
        Row { always, ..row("Achieved request rate (req/s)", s.rates.achieved_per_s) },
        row("Peak concurrency", u64::from(s.concurrency.peak)),
        row("Mean concurrency", s.concurrency.mean),
    ]);
    // Without reasoning it is TTFT.
    if series.first_answer_s.mean != series.first_token_s.mean && series.first_answer_s.mean.is_some() {
        rows.push(row("Average time to first answer token (s)", series.first_answer_s.mean));
    }
    rows
}

/// The columns of the percentile table.
pub fn percentile_columns(s: &Summary) -> [(&'static str, &Series); 8] {
    let series = &s.series;
    [
        ("TTFT (s)", &series.ttft_s),
        ("ITL (s)", &series.itl_s),
        ("TPOT (s)", &series.tpot_s),
        ("Latency (s)", &series.latency_s),
        ("Input tokens", &series.input_tokens),
        ("Output tokens", &series.output_tokens),
        ("Output (tok/s)", &series.output_rate_per_s),
        ("Total (tok/s)", &series.total_rate_per_s),
    ]
}

/// The client's own figures, each a name and a value.
pub fn client_rows(s: &Summary) -> Vec<(&'static str, String)> {
    let c = &s.client;
    let mut rows: Vec<(&'static str, String)> = Vec::new();
    let mut row = |key: &'static str, value: String| rows.push((key, value));
    row("Receive lag p50 / p99 / max", lag_text(c.receive_lag));
    row("Send lag p50 / p99 / max", lag_text(c.send_lag));
    row("Turnaround p50 / p99 / max", lag_text(c.turnaround));
    row("Connect time p50 / p99 / max", lag_text(c.connect));
    if c.tls_handshake.count > 0 {
        row("TLS handshake p50 / p99 / max", lag_text(c.tls_handshake));
    }
    row("Loop gap p50 / p99 / max", lag_text(c.loop_gap));
    let service = &s.series.service_ttft_s;
    row(
        "Service TTFT avg / p50 / p99 (s)",
        [service.mean, service.value(500), service.value(990)].map(optional).join(" / "),
    );
    row("Reads with two or more events", share_text(c.coalesced_reads));
    row("Events that share a read", share_text(c.coalesced_events));
    row("Reads with a kernel timestamp", share_text(c.stamped_reads));
    row("Mean concurrency while sending", optional(s.concurrency.mean_while_sending));
    row("Worker CPU avg / max", format!("{} / {}", share_text(c.cpu_mean), share_text(c.cpu_max)));
    row("CPU per output event", c.cpu_per_event_ns.map_or_else(|| "-".to_string(), |ns| format_ns(ns as u64)));
    let workers = c.workers > 0;
    let known = |text: String| if workers { text } else { "-".to_string() };
    row("Context switches voluntary / forced", known(format!("{} / {}", c.voluntary_switches, c.involuntary_switches)));
    row("Connections opened", known(c.connections_opened.to_string()));
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

/// A figure that may be a percentile with too few samples beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub value: Option<f64>,
    pub few: bool,
}

impl Figure {
    fn mean(series: &Series) -> Figure {
        Figure { value: series.mean, few: false }
    }

    fn at(series: &Series, per_mille: u32) -> Figure {
        let quantile = series.at(per_mille);
        Figure { value: quantile.map(|quantile| quantile.value), few: quantile.is_some_and(|quantile| quantile.few) }
    }

    /// The figure with its mark; "-" if it is unknown.
    pub fn text(&self) -> String {
        self.value.map_or_else(|| "-".to_string(), |value| number(value) + mark(self.few))
    }
}

/// The rows of the steady part: name, whole run, steady part.
pub fn steady(s: &Summary) -> Vec<(&'static str, Figure, Figure)> {
    let Some(steady) = &s.steady else { return Vec::new() };
    let pairs = [
        (["Average TTFT (s)", "P50 TTFT (s)", "P99 TTFT (s)"], &s.series.ttft_s, &steady.ttft_s),
        (["Average ITL (s)", "P50 ITL (s)", "P99 ITL (s)"], &s.series.itl_s, &steady.itl_s),
    ];
    let rows = pairs.into_iter().flat_map(|([average, median, p99], whole, part)| {
        [
            (average, Figure::mean(whole), Figure::mean(part)),
            (median, Figure::at(whole, 500), Figure::at(part, 500)),
            (p99, Figure::at(whole, 990), Figure::at(part, 990)),
        ]
    });
    rows.collect()
}
