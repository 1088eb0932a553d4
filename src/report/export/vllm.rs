//! The result file of `vllm bench serve --save-result --save-detailed`, as written by the Python tool and by `vllm-rs`.

mod steady;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::unix_time::unix_ns;
use crate::record::{Block, Outcome, Phase};
use crate::report::Measured;
use crate::report::json_value::finite;
use crate::stats::metric;
use crate::stats::quantile::Series;
use crate::store::StoreError;
use crate::store::reader::Detail;
use crate::time::S;

/// The values of each request, in the order of their numbers.
#[derive(Default)]
struct Details {
    input_lens: Vec<u32>,
    output_lens: Vec<u32>,
    ttfts: Vec<Option<f64>>,
    itls: Vec<Vec<f64>>,
    latencies: Vec<f64>,
    start_times: Vec<f64>,
    generated_texts: Vec<String>,
    errors: Vec<String>,
    /// Output events of succeeded requests in each second since the first request.
    events_of_second: BTreeMap<u64, u64>,
    /// Output tokens of succeeded requests that arrived in the steady window.
    steady_tokens: f64,
}

/// The content of the file. Percentiles are by nearest rank; times are milliseconds if the key says so, else seconds.
pub fn json(measured: &Measured) -> Result<String, StoreError> {
    let s = &measured.summary;
    let facts = &s.facts;
    let steady = steady::window(facts, &measured.samples).filter(|_| measured.summary.one_clock);
    let details = details(measured, steady.as_ref())?;
    let total = |series: &Series| series.mean.map_or(0, |mean| (mean * series.count as f64).round() as u64);
    let input_tokens = total(&s.series.input_tokens);
    let date = jiff::Timestamp::from_nanosecond(i128::from(measured.run.clock.unix_ns))
        .map_or_else(|_| String::new(), |at| at.strftime("%Y%m%d-%H%M%S").to_string());
    let mut out = json!({
        "date": date,
        "endpoint_type": facts.api,
        "backend": facts.api,
        "label": facts.name,
        "model_id": facts.model,
        "tokenizer_id": facts.model,
        "num_prompts": s.counts.scheduled,
        // A limit that the tool uses to select prompts.
        "max_model_len": Json::Null,
        "request_rate": facts.rate_per_s.filter(|&rate| rate > 0.0).map_or_else(|| json!("inf"), |rate| json!(rate)),
        "burstiness": burstiness(facts.arrival.as_deref()),
        "max_concurrency": facts.parallel,
        "duration": finite(s.time_s),
        "completed": s.counts.ok,
        "failed": s.counts.failed,
        "total_input_tokens": input_tokens,
        "total_output_tokens": total(&s.series.output_tokens),
        "request_throughput": finite(s.throughput.requests_per_s),
        "request_goodput": finite(s.slo.as_ref().and_then(|verdict| verdict.goodput_per_s)),
        "input_throughput": finite(s.time_s.map(|time_s| input_tokens as f64 / time_s)),
        "output_throughput": finite(s.throughput.output_tokens_per_s),
        "total_token_throughput": finite(s.throughput.total_tokens_per_s),
        "input_lens": details.input_lens,
        "output_lens": details.output_lens,
        "ttfts": details.ttfts,
        "itls": details.itls,
        "latencies": details.latencies,
        // TTFT and latency count from the due time here, so they include the wait for a free slot.
        "queue_times": vec![0.0; details.start_times.len()],
        "start_times": details.start_times,
        "generated_texts": details.generated_texts,
        "errors": details.errors,
        "max_output_tokens_per_s": finite(s.one_clock.then(|| details.events_of_second.values().max().copied().unwrap_or(0) as f64)),
        "max_concurrent_requests": s.concurrency.peak,
        "rtfx": 0.0,
        "steady_state": steady.map(|window| steady::json(&window, &measured.samples, s.time_s, details.steady_tokens)),
    });
    if let Json::Object(map) = &mut out {
        let series = &s.series;
        for (name, of) in
            [("ttft", &series.ttft_s), ("tpot", &series.tpot_s), ("itl", &series.itl_s), ("e2el", &series.latency_s)]
        {
            add_statistics(map, name, of);
        }
    }
    Ok(format!("{out}\n"))
}

/// The shape of the gamma distribution of the gaps: 1 is Poisson.
fn burstiness(arrival: Option<&str>) -> f64 {
    match arrival.and_then(|arrival| arrival.strip_prefix("gamma:")).and_then(|cv| cv.parse::<f64>().ok()) {
        Some(cv) if cv > 0.0 => 1.0 / (cv * cv),
        _ => 1.0,
    }
}

fn add_statistics(map: &mut Map<String, Json>, name: &str, series: &Series) {
    let ms = |value: Option<f64>| finite(value.map(|s| s * 1e3));
    map.insert(format!("mean_{name}_ms"), ms(series.mean));
    map.insert(format!("median_{name}_ms"), ms(series.value(500)));
    map.insert(format!("std_{name}_ms"), ms(series.deviation));
    map.insert(format!("p90_{name}_ms"), ms(series.value(900)));
    map.insert(format!("p99_{name}_ms"), ms(series.value(990)));
}

fn details(measured: &Measured, steady: Option<&steady::Window>) -> Result<Details, StoreError> {
    let mut rows: Vec<(u64, Row)> = Vec::with_capacity(measured.samples.len());
    let from = measured.samples.first().map_or(0, |sample| sample.due);
    let mut events_of_second = BTreeMap::new();
    let mut steady_tokens = 0.0;
    measured.each_block(Phase::Measured, Detail::Everything, |block| {
        for record in &block.records {
            if record.outcome == Outcome::Ok {
                let arrivals = record.arrivals.slice(&block.arrivals);
                steady_tokens += steady.map_or(0.0, |window| window.tokens(record.output_tokens, arrivals));
                for arrival in arrivals {
                    *events_of_second.entry(arrival.0.saturating_sub(from) / S).or_insert(0) += 1;
                }
            }
            rows.push((record.index, row(record, block, measured)));
        }
    })?;
    rows.sort_by_key(|row| row.0);
    let mut details = Details { events_of_second, steady_tokens, ..Details::default() };
    for (_, row) in rows {
        details.input_lens.push(row.input);
        details.output_lens.push(row.output);
        details.ttfts.push(row.ttft_s);
        details.itls.push(row.gaps_s);
        details.latencies.push(row.latency_s);
        details.start_times.push(row.start_s);
        details.generated_texts.push(row.text);
        details.errors.push(row.error);
    }
    Ok(details)
}

struct Row {
    input: u32,
    output: u32,
    ttft_s: Option<f64>,
    gaps_s: Vec<f64>,
    latency_s: f64,
    start_s: f64,
    text: String,
    error: String,
}

/// A failed request has a TTFT of 0 and no gaps, as in the original tool; a response that is not streamed has no TTFT.
fn row(record: &crate::record::RequestRecord, block: &Block, measured: &Measured) -> Row {
    let ok = record.outcome == Outcome::Ok;
    let text = |span: crate::record::Span| String::from_utf8_lossy(span.slice(&block.bytes)).into_owned();
    let gaps = metric::gaps_ns(record.arrivals.slice(&block.arrivals), record.choices.slice(&block.bytes))
        .map(|(_, ns)| ns as f64 / 1e9);
    let error = match record.outcome {
        Outcome::Ok => String::new(),
        Outcome::Unfinished => "unfinished".to_string(),
        Outcome::Failed(failure) => format!("{}: {}", failure.name(), text(record.error)),
    };
    Row {
        input: record.input_tokens.unwrap_or(0),
        output: if ok { record.output_tokens.unwrap_or(0) } else { 0 },
        ttft_s: if ok { metric::ttft_ns(record).map(|ns| ns as f64 / 1e9) } else { Some(0.0) },
        gaps_s: if ok { gaps.collect() } else { Vec::new() },
        latency_s: if ok { metric::latency_ns(record) as f64 / 1e9 } else { 0.0 },
        start_s: unix_ns(measured, record.due.0) as f64 / 1e9,
        text: text(record.reasoning) + &text(record.text),
        error,
    }
}
