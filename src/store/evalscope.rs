//! Export of a run as a database of evalscope 0.x: one table `result`, with request and responses as pickles in base64.
//! The responses are the events as the server sent them, so the run must have stored them (`--save full`).

use std::path::Path;

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::error::StoreError;
use super::pickle::{base64, dumps};
use super::reader::Reader;
use crate::protocol::sse::{Event, Framer};
use crate::record::arrivals;
use crate::time::Tick;

const TABLE: &str = "CREATE TABLE result (request TEXT, start_time REAL, chunk_times TEXT, success INTEGER,
    response_messages TEXT, completed_time REAL, latency REAL, first_chunk_latency REAL, n_chunks INTEGER,
    chunk_time REAL, prompt_tokens INTEGER, completion_tokens INTEGER, max_gpu_memory_cost REAL,
    time_per_output_token REAL, inter_token_latencies TEXT)";

const SOURCE: &str = "SELECT b.json, r.raw, r.arrivals, r.due_ns, r.end_ns, r.success, r.streamed, r.events,
    r.input_tokens, r.output_tokens, r.first_token_ns, r.last_token_ns, o.value,
    (SELECT value / 1073741824.0 FROM run WHERE key = 'gpu_memory_peak_bytes')
    FROM request r JOIN run o ON o.key = 'wall_offset_ns' LEFT JOIN body b ON b.id = r.body_id
    WHERE r.phase = 'measured' ORDER BY r.id";

/// Writes the measured requests of `source` to the new database `target`, replacing an existing file.
pub fn export(source: &Path, target: &Path) -> Result<(), StoreError> {
    let reader = Reader::open(source)?;
    let fail = |e: rusqlite::Error| StoreError::write(target, e);
    if let Err(error) = std::fs::remove_file(target)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(StoreError::Create { path: target.to_path_buf(), reason: error.to_string() });
    }
    let kept: i64 = reader
        .connection()
        .query_row("SELECT count(*) FROM request WHERE phase = 'measured' AND raw IS NOT NULL", [], |row| row.get(0))
        .map_err(|e| StoreError::read(source, e))?;
    let successes: i64 = reader
        .connection()
        .query_row("SELECT count(*) FROM request WHERE phase = 'measured' AND success", [], |row| row.get(0))
        .map_err(|e| StoreError::read(source, e))?;
    if kept == 0 && successes > 0 {
        return Err(StoreError::read(source, "it does not contain the server's events: measure with --save full"));
    }
    let out = Connection::open(target).map_err(fail)?;
    copy(reader.connection(), &out).map_err(fail)?;
    out.close().map_err(|(_, e)| fail(e))
}

fn copy(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    to.execute_batch("BEGIN")?;
    to.execute_batch(TABLE)?;
    let mut insert = to.prepare("INSERT INTO result VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?;
    let mut select = from.prepare(SOURCE)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        copy_row(row, &mut insert)?;
    }
    to.execute_batch("COMMIT")
}

fn copy_row(row: &Row<'_>, insert: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
    let (due, end): (i64, i64) = (row.get(3)?, row.get(4)?);
    let (success, streamed): (bool, bool) = (row.get(5)?, row.get(6)?);
    let (events, output): (Option<i64>, Option<i64>) = (row.get(7)?, row.get(9)?);
    let (first, last): (Option<i64>, Option<i64>) = (row.get(10)?, row.get(11)?);
    let offset: i64 = row.get(12)?;
    let unix_s = |tick: i64| tick.wrapping_add(offset) as f64 / 1e9;
    let body: Option<String> = row.get(0)?;
    let request: Value = body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or(Value::Null);
    let raw: Option<Vec<u8>> = row.get(1)?;
    let responses = messages(raw.as_deref().unwrap_or_default(), streamed);
    let mut ticks = Vec::new();
    // Bytes that ringmark did not write may not decode; the row then has no times.
    let coded: Option<Vec<u8>> = row.get(2)?;
    let _ = arrivals::decode(Tick(due as u64), &coded.unwrap_or_default(), &mut ticks);
    let times: Vec<f64> = ticks.iter().map(|tick| unix_s(tick.0 as i64)).collect();
    let gaps: Vec<f64> = ticks.windows(2).map(|pair| pair[1].ns_since(pair[0]).max(0) as f64 / 1e9).collect();
    let latency = (end - due) as f64 / 1e9;
    let first_latency = if streamed { first.map(|first| (first - due) as f64 / 1e9) } else { Some(latency) };
    let tpot = first.zip(last).zip(output.filter(|&tokens| streamed && tokens > 1));
    insert.execute(params![
        base64(&dumps(&request)),
        unix_s(due),
        serde_json::to_string(&times).unwrap_or_default(),
        success,
        base64(&dumps(&responses)),
        unix_s(end),
        success.then_some(latency),
        first_latency.filter(|_| success),
        events,
        events.filter(|&events| events > 0 && success).map(|events| latency / events as f64),
        row.get::<_, Option<i64>>(8)?,
        output,
        row.get::<_, Option<f64>>(13)?,
        tpot.filter(|_| success).map(|((first, last), tokens)| (last - first) as f64 / 1e9 / (tokens - 1) as f64),
        serde_json::to_string(&gaps).unwrap_or_default(),
    ])?;
    Ok(())
}

/// The responses as the list of JSON texts that evalscope stores. The script in its documentation concatenates their
/// `choices[0].delta.content`, so events without it get an empty text, and complete answers get a delta.
fn messages(raw: &[u8], streamed: bool) -> Value {
    let mut texts = Vec::new();
    let mut take = |data: &[u8]| {
        if let Ok(value) = serde_json::from_slice::<Value>(data) {
            texts.push(Value::String(with_delta(value).to_string()));
        }
    };
    if streamed {
        let mut framer = Framer::new(usize::MAX);
        let mut sink = |event: Event<'_>| take(event.data);
        // Without a size limit there is no framing error. The rest at the end of the body is an event as well.
        let _ = framer.push(raw, &mut sink);
        framer.finish(&mut sink);
    } else {
        take(raw);
    }
    Value::Array(texts)
}

fn with_delta(mut value: Value) -> Value {
    if !value.get("choices").is_some_and(Value::is_array)
        && let Some(event) = value.as_object_mut()
    {
        event.insert("choices".to_string(), json!([]));
    }
    if let Some(choices) = value.get_mut("choices").and_then(Value::as_array_mut) {
        for choice in choices {
            let text = choice.pointer("/delta/content").or(choice.pointer("/message/content")).or(choice.get("text"));
            let content = text.filter(|text| text.is_string()).cloned().unwrap_or_else(|| json!(""));
            let Some(choice) = choice.as_object_mut() else { continue };
            let delta = choice.entry("delta").or_insert_with(|| json!({}));
            if let Some(delta) = delta.as_object_mut() {
                delta.insert("content".to_string(), content);
            }
        }
    }
    value
}
