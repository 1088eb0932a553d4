//! aiperf's `profile_export.jsonl`: one JSON object a line for each request.

use serde_json::{Map, Value as Json, json};

use super::unix_time::unix_ns;
use crate::record::{Block, Outcome, Phase, RequestRecord};
use crate::report::Measured;
use crate::stats::metric;
use crate::store::StoreError;
use crate::store::reader::Detail;

/// The file's content, in the order in which requests ended.
pub fn lines(measured: &Measured) -> Result<String, StoreError> {
    let mut out = String::new();
    measured.each_block(Phase::Measured, Detail::Figures, |block| {
        for record in &block.records {
            out.push_str(&line(record, block, measured).to_string());
            out.push('\n');
        }
    })?;
    Ok(out)
}

fn line(record: &RequestRecord, block: &Block, measured: &Measured) -> Json {
    let prefix = &measured.summary.facts.request_id_prefix;
    let id = format!("{prefix}-m{}", record.index);
    let conversation = record.conversation.map_or_else(|| id.clone(), |number| format!("{prefix}-c{number}"));
    let at = |tick: crate::time::Tick| unix_ns(measured, tick.0);
    let unfinished = record.outcome == Outcome::Unfinished;
    json!({
        "metadata": {
            "session_num": record.conversation.unwrap_or(record.index),
            "x_request_id": id,
            "x_correlation_id": conversation,
            "conversation_id": conversation,
            "turn_index": record.turn,
            "request_start_ns": at(record.due),
            "request_ack_ns": record.first_byte.map(at),
            "request_end_ns": at(record.end),
            "worker_id": format!("worker_{}", record.worker),
            "record_processor_id": "ringmark",
            "benchmark_phase": "profiling",
            "was_cancelled": unfinished,
            "cancellation_time_ns": unfinished.then(|| at(record.end)),
        },
        "metrics": metrics(record, block),
        "error": error(record, block),
    })
}

fn metrics(record: &RequestRecord, block: &Block) -> Json {
    let mut out = Map::new();
    let mut put = |name: &str, value: Json, unit: &str| {
        out.insert(name.to_string(), json!({"value": value, "unit": unit}));
    };
    if record.outcome != Outcome::Ok {
        if let Some(tokens) = record.input_tokens {
            put("error_isl", json!(tokens), "tokens");
        }
        return Json::Object(out);
    }
    let ms = |ns: f64| json!(ns / 1e6);
    if let Some(tokens) = record.input_tokens {
        put("input_sequence_length", json!(tokens), "tokens");
    }
    put("request_latency", ms(metric::latency_ns(record) as f64), "ms");
    if let Some(tokens) = record.output_tokens {
        put("output_sequence_length", json!(tokens), "tokens");
        put("output_token_count", json!(tokens.saturating_sub(record.reasoning_tokens.unwrap_or(0))), "tokens");
    }
    if let Some(tokens) = record.reasoning_tokens {
        put("reasoning_token_count", json!(tokens), "tokens");
    }
    if !record.streamed {
        return Json::Object(out);
    }
    if let Some(ns) = metric::ttft_ns(record) {
        put("time_to_first_token", ms(ns as f64), "ms");
    }
    let gaps: Vec<Json> = metric::gaps_ns(record.arrivals.slice(&block.arrivals), record.choices.slice(&block.bytes))
        .map(|(_, ns)| ms(ns as f64))
        .collect();
    put("inter_chunk_latency", json!(gaps), "ms");
    if let Some(ns) = record.tpot(block).map(|tpot| tpot.ns) {
        put("inter_token_latency", ms(ns), "ms");
        if ns > 0.0 {
            put("output_token_throughput_per_user", json!(1e9 / ns), "tokens/sec/user");
        }
    }
    Json::Object(out)
}

fn error(record: &RequestRecord, block: &Block) -> Json {
    let message = String::from_utf8_lossy(record.error.slice(&block.bytes));
    match record.outcome {
        Outcome::Ok => Json::Null,
        Outcome::Unfinished => json!({"code": 499, "type": "RequestCancellationError", "message": "unfinished"}),
        Outcome::Failed(failure) => {
            let code = if record.status > 0 { json!(record.status) } else { Json::Null };
            json!({"code": code, "type": failure.name(), "message": message})
        }
    }
}
