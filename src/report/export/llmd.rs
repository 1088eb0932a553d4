//! llm-d's Benchmark Report v0.2, as JSON, which is valid YAML.

use serde_json::{Map, Value as Json, json};

use super::unix_time::unix_ns;
use crate::report::Measured;
use crate::report::json_value::finite;
use crate::stats::Summary;
use crate::stats::quantile::Series;

/// The content of the file.
pub fn json(measured: &Measured) -> String {
    let s = &measured.summary;
    let report = json!({
        "version": "0.2",
        "run": {
            "uid": s.facts.request_id_prefix,
            "time": time(measured),
        },
        "scenario": { "load": load(measured) },
        "results": {
            "request_performance": { "aggregate": without_nulls(json!({
                "requests": requests(s),
                "latency": latency(s),
                "throughput": throughput(s),
            })) },
        },
    });
    format!("{report:#}\n")
}

fn time(measured: &Measured) -> Json {
    let from = measured.samples.first().map(|sample| sample.due);
    let to = measured.samples.iter().map(|sample| sample.end).max();
    let stamp = |tick: Option<u64>| {
        let at = jiff::Timestamp::from_nanosecond(i128::from(unix_ns(measured, tick?))).ok()?;
        Some(at.to_string())
    };
    without_nulls(json!({
        "start": stamp(from),
        "end": stamp(to),
        "duration": measured.summary.time_s.map(|s| format!("PT{s:.6}S")),
    }))
}

fn load(measured: &Measured) -> Json {
    let facts = &measured.summary.facts;
    let mean_length = |series: &Series| {
        let mean = series.mean.unwrap_or(1.0).max(1.0);
        without_nulls(json!({
            "distribution": "other",
            "value": mean,
            "min": series.min.map(|min| min as u64),
            "max": series.max.map(|max| (max as u64).max(1)),
        }))
    };
    let source = if facts.dataset.starts_with("random") { "random" } else { "sampled" };
    let arguments: Json = serde_json::from_str(&measured.run.arguments_json).unwrap_or_else(|_| json!({}));
    json!({
        "metadata": { "schema_version": "0.0.1", "description": format!("{}, dataset {}", facts.name, facts.dataset) },
        "standardized": without_nulls(json!({
            "tool": "ringmark",
            "tool_version": facts.version,
            "source": source,
            "input_seq_len": mean_length(&measured.summary.series.input_tokens),
            "rate_qps": facts.rate_per_s.filter(|&rate| rate > 0.0),
            "concurrency": facts.parallel,
        })),
        "native": { "args": arguments },
    })
}

fn requests(s: &Summary) -> Json {
    without_nulls(json!({
        "total": s.counts.sent(),
        "failures": s.counts.failed,
        "incomplete": s.counts.unfinished,
        "input_length": statistics(&s.series.input_tokens, "count"),
        "output_length": statistics(&s.series.output_tokens, "count"),
    }))
}

fn latency(s: &Summary) -> Json {
    without_nulls(json!({
        "time_to_first_token": statistics(&s.series.ttft_s, "s"),
        "time_per_output_token": statistics(&s.series.tpot_s, "s/token"),
        "inter_token_latency": statistics(&s.series.itl_s, "s/token"),
        "request_latency": statistics(&s.series.latency_s, "s"),
    }))
}

fn throughput(s: &Summary) -> Json {
    let mean = |value: Option<f64>, units: &str| value.map(|mean| json!({"units": units, "mean": finite(Some(mean))}));
    let tokens = &s.throughput;
    let input = tokens.total_tokens_per_s.zip(tokens.output_tokens_per_s).map(|(total, output)| total - output);
    without_nulls(json!({
        "input_token_rate": mean(input, "tokens/s"),
        "output_token_rate": mean(tokens.output_tokens_per_s, "tokens/s"),
        "total_token_rate": mean(tokens.total_tokens_per_s, "tokens/s"),
        "request_rate": mean(tokens.requests_per_s, "queries/s"),
    }))
}

fn statistics(series: &Series, units: &str) -> Option<Json> {
    let mean = series.mean?;
    let at = |per_mille| finite(series.value(per_mille));
    Some(without_nulls(json!({
        "units": units,
        "mean": finite(Some(mean)),
        "stddev": finite(series.deviation),
        "min": finite(series.min),
        "p10": at(100),
        "p25": at(250),
        "p50": at(500),
        "p75": at(750),
        "p90": at(900),
        "p95": at(950),
        "p99": at(990),
        "p99p9": at(999),
        "max": finite(series.max),
    })))
}

/// Removes null fields: the schema allows absent fields only.
fn without_nulls(value: Json) -> Json {
    match value {
        Json::Object(map) => Json::Object(map.into_iter().filter(|(_, v)| !v.is_null()).collect::<Map<_, _>>()),
        other => other,
    }
}
