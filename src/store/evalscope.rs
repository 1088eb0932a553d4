//! Export of a run as a database of evalscope: one table `result`. Versions 0.x have request and responses as pickles in
//! base64; the responses are the events as the server sent them, so the run must have stored them (`--save full`).
//! Version 1.14 has other columns and the request as JSON.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::error::StoreError;
use super::pickle::{base64, dumps};
use super::reader::{Reader, TimeRange};
use crate::protocol::sse::{Event, Framer};
use crate::record::arrivals;
use crate::time::Tick;

const TABLE: &str = "CREATE TABLE result (request TEXT, start_time REAL, chunk_times TEXT, success INTEGER,
    response_messages TEXT, completed_time REAL, latency REAL, first_chunk_latency REAL, n_chunks INTEGER,
    chunk_time REAL, prompt_tokens INTEGER, completion_tokens INTEGER, max_gpu_memory_cost REAL,
    time_per_output_token REAL, inter_token_latencies TEXT)";

/// A database with requests of a run.
#[derive(Clone, Debug)]
pub struct Part {
    pub path: PathBuf,
    /// Added to its times, it gives Unix time, nanoseconds.
    pub unix_offset_ns: i64,
    /// Requests that count; all if `None`.
    pub range: Option<TimeRange>,
}

/// The table of evalscope 1.14.
const PLAIN_TABLE: &str = "CREATE TABLE result (request TEXT, start_time REAL, inter_token_latencies TEXT,
    success INTEGER, response_messages TEXT, completed_time REAL, latency REAL, first_chunk_latency REAL,
    prompt_tokens INTEGER, completion_tokens INTEGER, max_gpu_memory_cost REAL, time_per_output_token REAL,
    request_id TEXT, is_stream INTEGER)";

const SOURCE: &str =
    "SELECT b.json, r.raw, r.arrivals, r.due_ns, r.end_ns, r.success AND r.end_ns <= ?3, r.streamed, r.events,
    r.input_tokens, r.output_tokens, r.first_token_ns, r.last_token_ns, ?1,
    (SELECT value / 1073741824.0 FROM run WHERE key = 'gpu_memory_peak_bytes'), r.id
    FROM request r LEFT JOIN body b ON b.id = r.body_id
    WHERE r.phase = 'measured' AND r.due_ns BETWEEN ?2 AND ?3 ORDER BY r.id";

/// Writes the measured requests of these databases to the new database `target`, replacing an existing file.
///
/// # Errors
/// Also if the run has no raw events (`--save full`).
pub fn export(parts: &[Part], target: &Path) -> Result<(), StoreError> {
    for Part { path, .. } in parts {
        let reader = Reader::open(path)?;
        let count = |what: &str| -> Result<i64, StoreError> {
            let sql = format!("SELECT count(*) FROM request WHERE phase = 'measured' AND {what}");
            reader.connection().query_row(&sql, [], |row| row.get(0)).map_err(|e| StoreError::read(path, e))
        };
        if count("raw IS NOT NULL")? == 0 && count("success")? > 0 {
            return Err(StoreError::read(path, "it does not contain the server's events: measure with --save full"));
        }
    }
    write(parts, target, TABLE, "INSERT INTO result VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", insert_pickled).map(drop)
}

/// Writes the measured requests of these databases to the new database `target` in the format of evalscope 1.14: requests as
/// JSON, responses as a pickled list of events, which is empty if the run has no raw events. Returns the gaps of all
/// succeeded requests, seconds.
pub fn export_plain(parts: &[Part], target: &Path) -> Result<Vec<f64>, StoreError> {
    write(parts, target, PLAIN_TABLE, "INSERT INTO result VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", insert_plain)
}

type Insert = fn(&mut rusqlite::Statement<'_>, &ResultRow) -> rusqlite::Result<()>;

/// Writes a table with a row for each request. Returns the gaps of the succeeded ones, seconds.
fn write(parts: &[Part], target: &Path, table: &str, insert_sql: &str, insert: Insert) -> Result<Vec<f64>, StoreError> {
    if let Err(error) = std::fs::remove_file(target)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(StoreError::Create { path: target.to_path_buf(), reason: error.to_string() });
    }
    let fail = |e: rusqlite::Error| StoreError::write(target, e);
    let out = Connection::open(target).map_err(fail)?;
    out.execute_batch("BEGIN").and_then(|()| out.execute_batch(table)).map_err(fail)?;
    let (mut gaps, mut last_id) = (Vec::new(), 0);
    for part in parts {
        let reader = Reader::open(&part.path)?;
        copy(&reader, part, &out, insert_sql, insert, (&mut gaps, &mut last_id)).map_err(fail)?;
    }
    out.execute_batch("COMMIT").map_err(fail)?;
    out.close().map_err(|(_, e)| fail(e))?;
    Ok(gaps)
}

/// Copies the requests of a database. Adds the gaps of the succeeded ones; numbers continue after `last_id`.
fn copy(
    from: &Reader,
    part: &Part,
    to: &Connection,
    sql: &str,
    insert: Insert,
    (gaps, last_id): (&mut Vec<f64>, &mut i64),
) -> rusqlite::Result<()> {
    let mut statement = to.prepare(sql)?;
    let mut select = from.connection().prepare(SOURCE)?;
    let range = part.range.unwrap_or_default();
    let from_ns = range.due_from.map_or(i64::MIN, |tick| tick.0 as i64);
    let until_ns = range.end_until.map_or(i64::MAX, |tick| tick.0 as i64);
    let mut rows = select.query([part.unix_offset_ns, from_ns, until_ns])?;
    let before = *last_id;
    while let Some(row) = rows.next()? {
        let mut row = ResultRow::read(row)?;
        row.id += before;
        *last_id = row.id;
        insert(&mut statement, &row)?;
        if row.success {
            gaps.extend(row.gaps_s);
        }
    }
    Ok(())
}

/// A request as evalscope describes it; times are Unix times and durations in seconds.
struct ResultRow {
    id: i64,
    /// The body, as sent.
    body: Option<String>,
    raw: Vec<u8>,
    streamed: bool,
    success: bool,
    start_s: f64,
    end_s: f64,
    latency_s: f64,
    /// The latency if the response was not streamed.
    first_latency_s: Option<f64>,
    times_s: Vec<f64>,
    gaps_s: Vec<f64>,
    events: Option<i64>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    gpu_memory_gb: Option<f64>,
    tpot_s: Option<f64>,
}

impl ResultRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<ResultRow> {
        let (due, end): (i64, i64) = (row.get(3)?, row.get(4)?);
        let (success, streamed): (bool, bool) = (row.get(5)?, row.get(6)?);
        let output: Option<i64> = row.get(9)?;
        let (first, last): (Option<i64>, Option<i64>) = (row.get(10)?, row.get(11)?);
        let offset: i64 = row.get(12)?;
        let unix_s = |tick: i64| tick.wrapping_add(offset) as f64 / 1e9;
        let mut ticks = Vec::new();
        // Bytes that ringmark did not write may not decode; the row then has no times.
        let coded: Option<Vec<u8>> = row.get(2)?;
        let _ = arrivals::decode(Tick(due as u64), &coded.unwrap_or_default(), &mut ticks);
        let latency_s = (end - due) as f64 / 1e9;
        let tpot = first.zip(last).zip(output.filter(|&tokens| streamed && tokens > 1));
        Ok(ResultRow {
            id: row.get(14)?,
            body: row.get(0)?,
            raw: row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default(),
            streamed,
            success,
            start_s: unix_s(due),
            end_s: unix_s(end),
            latency_s,
            first_latency_s: if streamed { first.map(|first| (first - due) as f64 / 1e9) } else { Some(latency_s) },
            times_s: ticks.iter().map(|tick| unix_s(tick.0 as i64)).collect(),
            gaps_s: ticks.windows(2).map(|pair| pair[1].ns_since(pair[0]).max(0) as f64 / 1e9).collect(),
            events: row.get(7)?,
            input_tokens: row.get(8)?,
            output_tokens: output,
            gpu_memory_gb: row.get(13)?,
            tpot_s: tpot.map(|((first, last), tokens)| (last - first) as f64 / 1e9 / (tokens - 1) as f64),
        })
    }

    fn gaps_json(&self) -> String {
        serde_json::to_string(&self.gaps_s).unwrap_or_default()
    }

    /// A figure that failed requests do not have.
    fn of_success<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.success)
    }
}

fn insert_pickled(statement: &mut rusqlite::Statement<'_>, row: &ResultRow) -> rusqlite::Result<()> {
    let request: Value = row.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or(Value::Null);
    let texts = events(&row.raw, row.streamed).into_iter().map(|event| Value::String(with_delta(event).to_string()));
    let per_event = row.events.filter(|&events| events > 0).map(|events| row.latency_s / events as f64);
    statement.execute(params![
        base64(&dumps(&request)),
        row.start_s,
        serde_json::to_string(&row.times_s).unwrap_or_default(),
        row.success,
        base64(&dumps(&Value::Array(texts.collect()))),
        row.end_s,
        row.of_success(Some(row.latency_s)),
        row.of_success(row.first_latency_s),
        row.events,
        row.of_success(per_event),
        row.input_tokens,
        row.output_tokens,
        row.gpu_memory_gb,
        row.of_success(row.tpot_s),
        row.gaps_json(),
    ])?;
    Ok(())
}

fn insert_plain(statement: &mut rusqlite::Statement<'_>, row: &ResultRow) -> rusqlite::Result<()> {
    statement.execute(params![
        row.body,
        row.start_s,
        row.gaps_json(),
        row.success,
        base64(&dumps(&Value::Array(events(&row.raw, row.streamed)))),
        row.end_s,
        row.of_success(Some(row.latency_s)),
        row.of_success(row.first_latency_s),
        row.of_success(row.input_tokens),
        row.of_success(row.output_tokens),
        row.of_success(row.gpu_memory_gb),
        // Its own queries compare the column with 0, which stands for a response of one token.
        row.of_success(Some(row.tpot_s.unwrap_or(0.0))),
        row.id.to_string(),
        row.streamed,
    ])?;
    Ok(())
}

/// The events of a response, or the whole response if it was not streamed. What is not JSON is left out.
fn events(raw: &[u8], streamed: bool) -> Vec<Value> {
    let mut values = Vec::new();
    let mut take = |data: &[u8]| values.extend(serde_json::from_slice::<Value>(data).ok());
    if streamed {
        let mut framer = Framer::new(usize::MAX);
        let mut sink = |event: Event<'_>| take(event.data);
        // Without a size limit there is no framing error. The rest at the end of the body is an event as well.
        let _ = framer.push(raw, &mut sink);
        framer.finish(&mut sink);
    } else {
        take(raw);
    }
    values
}

/// The event for the script in evalscope's documentation, which concatenates `choices[0].delta.content`: events without it
/// get an empty text, and complete answers get a delta.
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
