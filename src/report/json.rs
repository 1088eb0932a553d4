//! The figures as JSON: names as in the tables, full precision, null if a figure is unknown.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::i18n::Label;
use super::json_value::finite;
use super::summary_rows::{self, DATABASE_PATH, Value, percentile_columns};
use super::{measurement_error, server, server_timings, turns, witness};
use crate::finding::Finding;
use crate::stats::Summary;
use crate::stats::client::Lag;
use crate::stats::counts::FailureCount;
use crate::stats::quantile::{LEVELS, Quantile, Series};
use crate::stats::slo::Judged;
use crate::stats::speed::SpeedRow;

/// The figures of `benchmark_summary.json`.
pub fn summary(s: &Summary) -> Json {
    let mut out = Map::new();
    for row in summary_rows::summary(s) {
        out.insert(row.key.en().to_string(), value(&row.value));
    }
    out.insert(Label::UnfinishedRequests.en().to_string(), json!(s.counts.unfinished));
    // If the run was killed, it is unknown which of the requests that are not stored were sent.
    let known = |count: u64, is_known: bool| if is_known { json!(count) } else { Json::Null };
    out.insert(Label::UnsentRequests.en().to_string(), known(s.counts.unsent, s.end.is_some()));
    let planned = s.end.is_some() || s.facts.requests.is_some();
    out.insert(Label::UnknownRequests.en().to_string(), known(s.counts.unknown, planned));
    out.insert("Server addresses".to_string(), json!(s.facts.addresses));
    out.insert("Failures".to_string(), failures(s));
    out.insert("Confidence intervals (95%)".to_string(), intervals(s));
    out.insert("Steady part".to_string(), steady(s));
    out.insert("Steady throughput".to_string(), steady_throughput(s));
    out.insert("Time to first answer token (s)".to_string(), figures(&s.series.first_answer_s));
    out.insert("Time per output token range (s)".to_string(), tpot_range(s));
    out.insert("Client".to_string(), client(s));
    out.insert("Own error".to_string(), measurement_error::json(s));
    out.insert("Witness".to_string(), witness::json(s));
    out.insert("SLO".to_string(), slo(s));
    if !s.speed.is_empty() {
        out.insert("Speed benchmark".to_string(), speed_rows(s));
    }
    if s.turns.is_some() {
        out.insert("Multi-turn".to_string(), turns::json(s));
    }
    out.insert("server".to_string(), server::json(s));
    out.insert("server_requests".to_string(), server_timings::json(s));
    out.insert("server_use".to_string(), server::use_json(s));
    out.insert("Findings".to_string(), json!(s.findings.iter().map(Finding::export).collect::<Vec<_>>()));
    Json::Object(out)
}

/// The content of `benchmark_summary.json` for a run in this database, with its path as in evalscope 0.7.
pub fn stored_summary(s: &Summary, database: &Path) -> Json {
    let mut out = summary(s);
    out[DATABASE_PATH] = database.to_string_lossy().into();
    out
}

/// The content of `benchmark_percentile.json`: a list with an object for each row of the table.
pub fn percentiles(s: &Summary) -> Json {
    let columns = percentile_columns(s);
    let row = |index: usize| {
        let quantiles = columns.iter().map(|(name, series)| (name.en().to_string(), series.quantiles.get(index)));
        let mut out = Map::new();
        out.insert("Percentiles".to_string(), json!(LEVELS[index].name));
        let mut few = Vec::new();
        for (name, quantile) in quantiles {
            out.insert(name.clone(), finite(quantile.map(|quantile| quantile.value)));
            if quantile.is_some_and(|quantile| quantile.few) {
                few.push(name);
            }
        }
        out.insert("Too few samples beyond".to_string(), json!(few));
        Json::Object(out)
    };
    Json::Array((0..LEVELS.len()).map(row).collect())
}

fn value(value: &Value) -> Json {
    match value {
        Value::Number(number) | Value::Range(number, _) => finite(Some(*number)),
        Value::Count(count) => json!(count),
        Value::Unknown => Json::Null,
    }
}

fn failures(s: &Summary) -> Json {
    let one = |failure: &FailureCount| {
        let texts: Vec<Json> =
            failure.texts.iter().map(|text| json!({"text": text.en(), "count": text.count})).collect();
        json!({"class": failure.failure.name(), "count": failure.count, "texts": texts, "others": failure.others})
    };
    Json::Array(s.failures.iter().map(one).collect())
}

fn slo(s: &Summary) -> Json {
    let Some(verdict) = &s.slo else { return Json::Null };
    let criterion = |Judged { criterion, judged, met }: &Judged| {
        let decided_by_failures = judged.value == Some(f64::INFINITY);
        json!({"criterion": criterion.text, "value": finite(judged.value), "met": met,
               "few samples": judged.few, "decided by failures": decided_by_failures})
    };
    json!({"met": verdict.is_met(), "criteria": verdict.criteria.iter().map(criterion).collect::<Vec<_>>()})
}

/// The rows of the speed benchmark, with evalscope's keys: the content of `speed_benchmark.json`.
pub fn speed_rows(s: &Summary) -> Json {
    let row = |row: &SpeedRow| {
        json!({"Prompt Tokens": row.prompt_tokens, "Speed(tokens/s)": finite(Some(row.tokens_per_s)),
               "Requests": row.requests, "GPU Memory(GB)": finite(s.gpu_memory_gb)})
    };
    Json::Array(s.speed.iter().map(row).collect())
}

fn intervals(s: &Summary) -> Json {
    let mut out = Map::new();
    for (name, series) in &percentile_columns(s)[..4] {
        let mut of_levels = Map::new();
        for (level, quantile) in LEVELS.iter().zip(&series.quantiles) {
            if let Quantile { interval: Some(interval), .. } = quantile {
                of_levels.insert(level.name.to_string(), json!([finite(interval.low), finite(interval.high)]));
            }
        }
        out.insert(name.en().to_string(), Json::Object(of_levels));
    }
    Json::Object(out)
}

fn steady(s: &Summary) -> Json {
    let Some(steady) = &s.steady else { return Json::Null };
    json!({
        "Requests": steady.requests,
        "TTFT (s)": figures(&steady.ttft_s),
        "Service TTFT (s)": figures(&steady.service_ttft_s),
        "ITL (s)": figures(&steady.itl_s),
        "Latency (s)": figures(&steady.latency_s),
    })
}

/// Both ends are the figure itself if it is exact.
fn tpot_range(s: &Summary) -> Json {
    let exact = &s.series.tpot_s;
    let range = s.series.tpot_range.as_ref();
    json!({
        "low": figures(range.map_or(exact, |range| &range.low_s)),
        "high": figures(range.map_or(exact, |range| &range.high_s)),
        "requests": range.map_or(0, |range| range.requests),
    })
}

fn steady_throughput(s: &Summary) -> Json {
    let Some(steady) = &s.steady_throughput else { return Json::Null };
    json!({
        "From (s)": steady.from_s,
        "Time (s)": steady.span_s,
        "Requests": steady.requests,
        "Request throughput (req/s)": finite(steady.throughput.requests_per_s),
        "Output token throughput (tok/s)": finite(steady.throughput.output_tokens_per_s),
        "Total token throughput (tok/s)": finite(steady.throughput.total_tokens_per_s),
        "Tail (s)": steady.tail_s,
        "Requests in the tail": steady.waiting,
    })
}

fn figures(series: &Series) -> Json {
    let at = |per_mille| finite(series.value(per_mille));
    json!({"mean": finite(series.mean), "50%": at(500), "90%": at(900), "99%": at(990), "max": finite(series.max)})
}

fn client(s: &Summary) -> Json {
    let c = &s.client;
    let network = s.network.clone().unwrap_or_default();
    let count = |number: u64| if network.recorded > 0 { json!(number) } else { Json::Null };
    json!({
        "Receive lag (ns)": lag(c.receive_lag),
        "Send lag (ns)": lag(c.send_lag),
        "Own send lag (ns)": lag(c.own_send_lag),
        "Body wait (ns)": lag(c.body_wait),
        "Turnaround (ns)": lag(c.turnaround),
        "Connect time (ns)": lag(c.connect),
        "TLS handshake (ns)": lag(c.tls_handshake),
        "Loop gap (ns)": lag(c.loop_gap),
        "Gathering (ns)": lag(c.gathering),
        "Service TTFT (s)": figures(&s.series.service_ttft_s),
        "Service latency (s)": figures(&s.series.service_latency_s),
        "Coalesced reads (share)": finite(c.coalesced_reads),
        "Coalesced events (share)": finite(c.coalesced_events),
        "Stamped reads (share)": finite(c.stamped_reads),
        "Mean concurrency while sending": finite(s.concurrency.mean_while_sending),
        "Retried requests": c.retried,
        "Workers": c.workers,
        "Worker CPU mean (share)": finite(c.cpu_mean),
        "Worker CPU max (share)": finite(c.cpu_max),
        "CPU per output event (ns)": finite(c.cpu_per_event_ns),
        "Voluntary context switches": c.voluntary_switches,
        "Involuntary context switches": c.involuntary_switches,
        "Receive buffer shortages": c.buffer_shortages,
        "Extra blocks": c.extra_blocks,
        "Connections opened": c.connections_opened,
        "Request to network device (ns)": lag(network.to_wire),
        "TCP round trip minimum (ns)": lag(network.min_rtt),
        "TCP round trip smoothed (ns)": lag(network.rtt),
        "Request acknowledged after (ns)": lag(network.acknowledged),
        "Server part of TTFT (ns)": lag(network.server_ttft),
        "Requests with segments resent": count(network.retransmitted),
        "Requests with segments out of order": count(network.out_of_order),
        "Requests with TCP figures": network.recorded,
    })
}

fn lag(lag: Lag) -> Json {
    if lag.count == 0 {
        return Json::Null;
    }
    json!({"count": lag.count, "50%": lag.p50, "99%": lag.p99, "max": lag.max})
}
