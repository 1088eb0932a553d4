//! Writing a run's database.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use rusqlite::{CachedStatement, Connection, OpenFlags, params};

use super::StoreError;
use super::schema::{APPLICATION_ID, REQUEST_COLUMNS, RESULT_VIEW, TABLES, VERSION};
use crate::finding::{Finding, Severity};
use crate::plan::Save;
use crate::record::arrivals;
use crate::record::facts::{ClockPair, Refusal, RunEnd, RunFacts};
use crate::record::{Block, Outcome, Phase, RequestRecord, ServerSample, Span, WorkerReport};
use crate::rig::calibration::Calibration;
use crate::spec::mask;
use crate::spec::secrets::Secrets;
use crate::time::Tick;

/// What is written before the first request.
#[derive(Clone, Debug, Default)]
pub struct RunStart {
    pub facts: RunFacts,
    /// The clock at the start of the run.
    pub clock: ClockPair,
    pub save: Save,
    /// The arguments as JSON, secrets masked.
    pub arguments_json: String,
    /// What is masked in bodies and in errors.
    pub secrets: Secrets,
    /// What is known of this machine, as JSON.
    pub rig_json: String,
    /// The calibration of this machine that fits it.
    pub calibration: Option<Calibration>,
    /// What the set-up had to say.
    pub findings: Vec<Finding>,
}

/// The peak that the view `result` shows; without a GPU there are no such samples and no such row.
const PUT_GPU_PEAK: &str = "
INSERT OR REPLACE INTO run (key, value)
SELECT 'gpu_memory_peak_bytes', peak FROM (
  SELECT max(used) AS peak FROM (
    SELECT sum(value) AS used FROM server_sample WHERE name = 'ringmark:gpu_memory_used_bytes' GROUP BY at_ns
  )
) WHERE peak IS NOT NULL";

/// An open database that takes blocks of records.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    save: Save,
    secrets: Secrets,
    bodies: HashMap<BodyKey, i64>,
    /// Reused for each record's coded arrivals.
    coded: Vec<u8>,
}

/// Two bodies of one length and one 64-bit hash are taken for the same: among a million distinct bodies of equal
/// length that happens once in forty million runs, and it would only show the wrong prompt beside a right figure.
type BodyKey = (u64, usize);

impl Writer {
    /// Makes the file, which must not exist, with all tables and everything known before the run.
    pub fn create(path: &Path, start: &RunStart) -> Result<Writer, StoreError> {
        let fail = |reason: String| StoreError::Create { path: path.to_path_buf(), reason };
        // Made by ourselves first: SQLite would silently open a file that is there.
        match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists(path.to_path_buf()));
            }
            Err(e) => return Err(fail(e.to_string())),
        }
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| fail(e.to_string()))?;
        prepare(&connection, start).map_err(|e| fail(e.to_string()))?;
        Ok(Writer {
            connection,
            path: path.to_path_buf(),
            save: start.save,
            secrets: start.secrets.clone(),
            bodies: HashMap::new(),
            coded: Vec::new(),
        })
    }

    /// Opens a transaction; everything until [`Writer::commit`] appears at once or not at all.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE")
    }

    /// Makes everything since [`Writer::begin`] permanent.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.execute("COMMIT")
    }

    /// Forgets everything since [`Writer::begin`]; used after a failure, when there may be nothing left to forget.
    pub fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // A failure here changes nothing: the transaction ends with the connection.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends the requests of a block. `body` gives the JSON body of a request.
    pub fn add_block<'w>(
        &mut self,
        block: &Block,
        body: impl Fn(&RequestRecord) -> Cow<'w, [u8]>,
    ) -> Result<(), StoreError> {
        let mut insert =
            self.connection.prepare_cached(&insert_request()).map_err(|e| StoreError::write(&self.path, e))?;
        for record in &block.records {
            let body_id = match self.save {
                Save::Metrics => None,
                Save::Text | Save::Full => Some(
                    body_id(&self.connection, &mut self.bodies, &masked(body(record), &self.secrets.bodies))
                        .map_err(|e| StoreError::write(&self.path, e))?,
                ),
            };
            self.coded.clear();
            arrivals::encode(record.due, record.arrivals.of(&block.arrivals), &mut self.coded);
            // Servers quote what they refuse, the key too.
            let error = masked(Cow::Borrowed(record.error.of(&block.bytes)), &self.secrets.all);
            let kept = Kept { arrivals: &self.coded, error: &error, body_id, save: self.save };
            add_request(&mut insert, record, block, &kept).map_err(|e| StoreError::write(&self.path, e))?;
        }
        Ok(())
    }

    /// Appends a worker's account of itself; a second one of the same phase replaces the first.
    pub fn add_worker(&mut self, report: &WorkerReport) -> Result<(), StoreError> {
        add_worker(&self.connection, report).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends what a look at the server showed. Values that are no number say nothing and are left out.
    pub fn add_server_samples(&mut self, samples: &[ServerSample]) -> Result<(), StoreError> {
        let fail = |e: rusqlite::Error| StoreError::write(&self.path, e);
        let mut insert =
            self.connection.prepare_cached("INSERT INTO server_sample VALUES (?1,?2,?3,?4)").map_err(fail)?;
        for sample in samples.iter().filter(|sample| !sample.value.is_nan()) {
            insert
                .execute(params![sample.at.0 as i64, sample.name, sample.labels, sample.value])
                .map_err(|e| StoreError::write(&self.path, e))?;
        }
        Ok(())
    }

    /// Appends findings of the run itself.
    pub fn add_findings(&mut self, findings: &[Finding]) -> Result<(), StoreError> {
        add_findings(&self.connection, findings).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Writes what is known only now and leaves one single file.
    pub fn close(self, end: &RunEnd) -> Result<(), StoreError> {
        let fail = |e: rusqlite::Error| StoreError::write(&self.path, e);
        put(&self.connection, "end", to_json(end)).map_err(fail)?;
        self.connection.execute_batch(PUT_GPU_PEAK).map_err(fail)?;
        // Both fail when somebody reads the file at this moment; it is then as good with its -wal neighbour.
        let _ = self.connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()));
        self.connection.close().map_err(|(_, e)| StoreError::write(&self.path, e))
    }
}

fn prepare(connection: &Connection, start: &RunStart) -> rusqlite::Result<()> {
    // Write-ahead: commits append, readers may look during the run, kill -9 loses only the open transaction. On a
    // file system that cannot share memory SQLite stays with its rollback journal, which keeps the same promise.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // Commits wait for the disk only at checkpoints: a crash of the machine may lose the last ones, never tear them.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch(RESULT_VIEW)?;
    put(connection, "facts", to_json(&start.facts))?;
    put(connection, "arguments", start.arguments_json.as_str())?;
    put(connection, "rig", start.rig_json.as_str())?;
    if let Some(calibration) = &start.calibration {
        put(connection, "calibration", to_json(calibration))?;
    }
    put(connection, "clock", to_json(&start.clock))?;
    put(connection, "wall_offset_ns", start.clock.offset_ns())?;
    put(connection, "request_id_prefix", start.facts.request_id_prefix.as_str())?;
    add_findings(connection, &start.findings)?;
    connection.execute_batch("COMMIT")
}

/// Adds to a run that has ended the loads that its search could not offer: without a run, they have no database.
pub fn add_refusals(path: &Path, refusals: &[Refusal]) -> Result<(), StoreError> {
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let connection = opened.map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })?;
    put(&connection, "refusals", to_json(&refusals)).map_err(|e| StoreError::write(path, e))
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain structs with text keys always serialise")
}

fn put(connection: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO run (key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

fn insert_request() -> String {
    let marks = vec!["?"; REQUEST_COLUMNS.len()].join(",");
    format!("INSERT INTO request ({}) VALUES ({marks})", REQUEST_COLUMNS.join(","))
}

/// The number of a body, which is stored when it is new.
fn body_id(connection: &Connection, bodies: &mut HashMap<BodyKey, i64>, body: &[u8]) -> rusqlite::Result<i64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    let key = (hasher.finish(), body.len());
    if let Some(&id) = bodies.get(&key) {
        return Ok(id);
    }
    let mut insert = connection.prepare_cached("INSERT INTO body (json) VALUES (?1)")?;
    let id = insert.insert([String::from_utf8_lossy(body)])?;
    bodies.insert(key, id);
    Ok(id)
}

/// `text` without the secrets, which stand in few texts.
fn masked<'a>(text: Cow<'a, [u8]>, secrets: &[String]) -> Cow<'a, [u8]> {
    let stands = |secret: &String| memchr::memmem::find(&text, secret.as_bytes()).is_some();
    match secrets.iter().any(stands) {
        true => Cow::Owned(mask(&String::from_utf8_lossy(&text), secrets).into_bytes()),
        false => text,
    }
}

/// What is stored of a request beside its record.
struct Kept<'a> {
    /// Coded.
    arrivals: &'a [u8],
    error: &'a [u8],
    body_id: Option<i64>,
    save: Save,
}

fn add_request(
    insert: &mut CachedStatement<'_>,
    record: &RequestRecord,
    block: &Block,
    kept: &Kept<'_>,
) -> rusqlite::Result<()> {
    let keeps_text = kept.save != Save::Metrics;
    let times = record.server_times.unwrap_or_default();
    let text_of = |span: Span| (span.len > 0).then(|| String::from_utf8_lossy(span.of(&block.bytes)));
    insert.execute(params![
        record.index as i64,
        record.phase.name(),
        record.worker,
        record.lane,
        record.turn,
        record.reused,
        record.retried,
        record.due.0 as i64,
        instant(record.picked),
        instant(record.connected),
        record.tls_handshake_ns.map(|ns| ns as i64),
        instant(record.write_start),
        instant(record.write_end),
        instant(record.first_byte),
        instant(record.first_token),
        instant(record.last_token),
        record.end.0 as i64,
        instant(record.previous_end),
        record.outcome.name(),
        record.streamed,
        record.status,
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.reasoning_tokens,
        record.token_source.name(),
        record.finish.name(),
        record.events,
        record.coalesced,
        record.reads,
        record.coalesced_reads,
        record.stamped_reads,
        record.receive_lag_sum_ns as i64,
        record.receive_lag_max_ns as i64,
        record.received_bytes as i64,
        (!kept.error.is_empty()).then(|| String::from_utf8_lossy(kept.error)),
        (!kept.arrivals.is_empty()).then_some(kept.arrivals),
        kept.body_id,
        if keeps_text { text_of(record.text) } else { None },
        if keeps_text { text_of(record.reasoning) } else { None },
        (kept.save == Save::Full && record.raw.len > 0).then(|| record.raw.of(&block.bytes)),
        record.arrivals.len,
        record.outcome == Outcome::Ok,
        record.conversation.map(|number| number as i64),
        times.queue_ns.map(|ns| ns as i64),
        times.prefill_ns.map(|ns| ns as i64),
        times.decode_ns.map(|ns| ns as i64),
        times.tokens,
    ])?;
    Ok(())
}

fn instant(tick: Option<Tick>) -> Option<i64> {
    tick.map(|tick| tick.0 as i64)
}

fn add_worker(connection: &Connection, report: &WorkerReport) -> rusqlite::Result<()> {
    let phase = report.phase.name();
    connection
        .prepare_cached("INSERT OR REPLACE INTO worker VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)")?
        .execute(params![
            report.worker,
            phase,
            report.core,
            report.cpu_user_ns as i64,
            report.cpu_system_ns as i64,
            report.wall_ns as i64,
            report.voluntary_switches as i64,
            report.involuntary_switches as i64,
            report.reads as i64,
            report.buffer_shortages as i64,
            report.connections_opened as i64,
            report.peak_in_flight as i64,
            report.extra_blocks as i64,
            report.unsent as i64,
            report.stalls.as_ref().map(|stalls| stalls.len() as i64),
        ])?;
    for table in ["lag", "stall"] {
        let sql = format!("DELETE FROM {table} WHERE worker = ?1 AND phase = ?2");
        connection.execute(&sql, params![report.worker, phase])?;
    }
    let mut insert = connection.prepare_cached("INSERT INTO stall VALUES (?1,?2,?3,?4)")?;
    for stall in report.stalls.iter().flatten() {
        insert.execute(params![report.worker, phase, stall.begin.0 as i64, stall.end.0 as i64])?;
    }
    add_lag(connection, report.worker, report.phase, "receive_lag", &report.receive_lag_ns)?;
    add_lag(connection, report.worker, report.phase, "loop_gap", &report.loop_gap_ns)?;
    add_lag(connection, report.worker, report.phase, "sleep", &report.sleep_ns)
}

fn add_lag(
    connection: &Connection,
    worker: u16,
    phase: Phase,
    kind: &str,
    histogram: &hdrhistogram::Histogram<u64>,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO lag VALUES (?1,?2,?3,?4,?5)")?;
    for bucket in histogram.iter_recorded() {
        let low_ns = histogram.lowest_equivalent(bucket.value_iterated_to());
        insert.execute(params![worker, phase.name(), kind, low_ns as i64, bucket.count_at_value() as i64])?;
    }
    Ok(())
}

pub(super) fn add_findings(connection: &Connection, findings: &[Finding]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO finding VALUES (?1,?2,?3,?4)")?;
    for finding in findings {
        // By way of a value: text would repeat the keys that a finding has itself.
        let json = serde_json::to_value(finding.record()).expect("plain structs with text keys always serialise");
        insert.execute(params![severity_name(finding.severity()), finding.code(), finding.en(), json.to_string()])?;
    }
    Ok(())
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Caution => "caution",
        Severity::Void => "void",
    }
}
