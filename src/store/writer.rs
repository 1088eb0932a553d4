//! Writing the database of a run.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::columns::RequestRow;
use super::error::{StoreError, UNLOCKED, open};
use super::insert::{ROWS, RequestInsert};
use super::schema::{APPLICATION_ID, RESULT_VIEW, VERSION, tables_sql};
use crate::finding::{Finding, Severity};
use crate::host::calibration::Calibration;
use crate::plan::Save;
use crate::record::arrivals;
use crate::record::clock_exchange::ClockExchange;
use crate::record::facts::{ClockPair, Refusal, RunEnd, RunFacts};
use crate::record::{Block, Phase, RequestRecord, ServerSample, WorkerReport};
use crate::secrets::{Secrets, mask, mask_foreign, overwritten};

/// What is written before the first request.
#[derive(Clone, Debug, Default)]
pub struct RunStart {
    pub facts: RunFacts,
    /// The clock at the start of the run.
    pub clock: ClockPair,
    pub save: Save,
    /// The arguments as JSON, secrets masked.
    pub arguments_json: String,
    /// The secrets to mask in bodies and error texts.
    pub secrets: Secrets,
    /// The facts of this machine, as JSON.
    pub rig_json: String,
    /// The calibration of this machine that applies to the run.
    pub calibration: Option<Calibration>,
    /// The findings of the set-up.
    pub findings: Vec<Finding>,
}

/// Stores the peak GPU memory for the view `result`; without samples of it there is no such row.
const PUT_GPU_PEAK: &str = "
INSERT OR REPLACE INTO run (key, value)
SELECT 'gpu_memory_peak_bytes', peak FROM (
  SELECT max(used) AS peak FROM (
    SELECT sum(value) AS used FROM server_sample WHERE name = 'ringmark:gpu_memory_used_bytes' GROUP BY at_ns
  )
) WHERE peak IS NOT NULL";

/// A database that is being written.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    save: Save,
    secrets: Secrets,
    /// The secrets that answers are searched for.
    generated_secrets: Vec<String>,
    bodies: HashMap<BodyKey, i64>,
    /// Reused for the encoded arrivals of each record, of events with and without output.
    coded: [Vec<u8>; 2],
}

/// Hash and length of a body. Two bodies with the same key count as equal: among a million distinct bodies of equal
/// length that happens once in forty million runs, and its only effect is a wrong stored prompt.
type BodyKey = (u64, usize);

/// Bodies that are remembered, so that equal ones are stored once. After so many different ones, equal ones are rare.
const MAX_KNOWN_BODIES: usize = 1 << 20;

impl Writer {
    /// Creates the file, which must not exist, with all tables and what is known before the run.
    pub fn create(path: &Path, start: &RunStart) -> Result<Writer, StoreError> {
        let fail = |reason: String| StoreError::Create { path: path.to_path_buf(), reason };
        // SQLite itself would open an existing file without an error.
        match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists(path.to_path_buf()));
            }
            Err(e) => return Err(fail(e.to_string())),
        }
        let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | UNLOCKED)
            .and_then(|connection| prepare(&connection, start).map(|()| connection));
        let connection = opened.map_err(|error| {
            // The disk is full, for example: a database without all its tables is of no use.
            remove_with_logs(path);
            fail(error.to_string())
        })?;
        Ok(Writer {
            connection,
            path: path.to_path_buf(),
            save: start.save,
            secrets: start.secrets.clone(),
            generated_secrets: start.secrets.generated(),
            bodies: HashMap::new(),
            coded: Default::default(),
        })
    }

    /// Begins a transaction; what is written until [`Writer::commit`] is stored completely or not at all.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE")
    }

    /// Commits what was written since [`Writer::begin`].
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.execute("COMMIT")
    }

    /// Discards what was written since [`Writer::begin`], unless a failure has already ended the transaction.
    pub(crate) fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // A failure has no consequence: the transaction ends with the connection.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends the requests of a block. `body` returns the JSON body of a request.
    pub fn add_block<'w>(
        &mut self,
        block: &Block,
        body: impl Fn(&RequestRecord) -> Cow<'w, [u8]>,
    ) -> Result<(), StoreError> {
        // Servers can repeat the key in their answers, which become the history of later turns.
        let bytes = overwritten(&block.bytes, &self.generated_secrets);
        let (in_groups, single) = block.records.split_at(block.records.len() / ROWS * ROWS);
        for (rows, records) in [(ROWS, in_groups), (1, single)].into_iter().filter(|(_, records)| !records.is_empty()) {
            self.insert(rows, records, (block, &bytes), &body).map_err(|e| StoreError::write(&self.path, e))?;
        }
        Ok(())
    }

    /// Appends requests of a block with statements of so many rows. `bytes`: the block's, with secrets overwritten.
    fn insert<'w>(
        &mut self,
        rows: usize,
        records: &[RequestRecord],
        (block, bytes): (&Block, &[u8]),
        body: &impl Fn(&RequestRecord) -> Cow<'w, [u8]>,
    ) -> rusqlite::Result<()> {
        let mut insert = RequestInsert::prepare(&self.connection, rows)?;
        for record in records {
            let body_id = match self.save {
                Save::Metrics => None,
                Save::Text | Save::Full => {
                    let body = masked(masked(body(record), &self.secrets.bodies), &self.generated_secrets);
                    Some(body_id(&self.connection, &mut self.bodies, &body)?)
                }
            };
            for (span, coded) in [record.arrivals, record.silent].into_iter().zip(&mut self.coded) {
                coded.clear();
                arrivals::encode(record.due, span.slice(&block.arrivals), coded);
            }
            // Servers quote rejected requests in their errors, including the API key, and redirect to signed addresses.
            let error = match record.error.slice(&block.bytes) {
                [] => String::new(),
                error => mask_foreign(&String::from_utf8_lossy(error), &self.secrets.all),
            };
            let [arrivals, silent] = &self.coded;
            insert.add(&RequestRow {
                record,
                bytes,
                arrivals,
                silent,
                error: error.as_bytes(),
                body_id,
                save: self.save,
            })?;
        }
        Ok(())
    }

    /// Appends the measurements of a worker; a second report of the same phase replaces the first.
    pub(crate) fn add_worker(&mut self, report: &WorkerReport) -> Result<(), StoreError> {
        add_worker(&self.connection, report).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends the values of one scrape of the server's metrics, except NaN.
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

    /// Stores the start that the shards of the load have agreed on.
    pub(crate) fn put_shard_start(&mut self, start: ClockPair) -> Result<(), StoreError> {
        put(&self.connection, "shard_start", to_json(&start)).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends an exchange of packets with shard 0.
    pub(crate) fn add_clock_exchange(&mut self, exchange: &ClockExchange) -> Result<(), StoreError> {
        let ClockExchange { sent, first_received, first_sent, received } = exchange;
        let ticks = [sent, first_received, first_sent, received].map(|tick| tick.0 as i64);
        let insert = self.connection.execute("INSERT INTO clock_exchange VALUES (?1,?2,?3,?4)", ticks);
        insert.map(drop).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Appends findings of the run.
    pub(crate) fn add_findings(&mut self, findings: &[Finding]) -> Result<(), StoreError> {
        add_findings(&self.connection, findings).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Writes the end of the run and leaves a single file.
    pub fn close(self, end: &RunEnd) -> Result<(), StoreError> {
        let fail = |e: rusqlite::Error| StoreError::write(&self.path, e);
        put(&self.connection, "end", to_json(end)).map_err(fail)?;
        self.connection.execute_batch(PUT_GPU_PEAK).map_err(fail)?;
        // Fails while another process reads the file, which then keeps its -wal file and is complete with it.
        let _ = self.connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()));
        self.connection.close().map_err(|(_, e)| StoreError::write(&self.path, e))
    }
}

/// Removes a new database and what SQLite keeps beside it.
pub(crate) fn remove_with_logs(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_os_string();
        name.push(suffix);
        // Errors are ignored: most of the files do not exist.
        let _ = std::fs::remove_file(name);
    }
}

fn prepare(connection: &Connection, start: &RunStart) -> rusqlite::Result<()> {
    // Write-ahead log: commits append, the run can be read while it is in progress, and kill -9 loses only the open
    // transaction. On a file system without shared memory, SQLite stays with its rollback journal, for which the last
    // point also holds.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // Commits wait for the disk only at checkpoints: a crash of the machine can lose the last transactions, but not
    // parts of one.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // The only reference, to a body, is of a row that was just inserted or found.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(&tables_sql())?;
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
    connection.execute_batch("COMMIT")?;
    // The tables go to the file itself, so that a copy without the -wal file opens after a kill.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Adds the loads that its search could not offer to a run that has ended; they have no database of their own.
pub fn add_refusals(path: &Path, refusals: &[Refusal]) -> Result<(), StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    put(&connection, "refusals", to_json(&refusals)).map_err(|e| StoreError::write(path, e))
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain structs with text keys always serialise")
}

fn put(connection: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO run (key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

/// The row of a body, which is stored when it is new.
fn body_id(connection: &Connection, bodies: &mut HashMap<BodyKey, i64>, body: &[u8]) -> rusqlite::Result<i64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    let key = (hasher.finish(), body.len());
    if let Some(&id) = bodies.get(&key) {
        return Ok(id);
    }
    let mut insert = connection.prepare_cached("INSERT INTO body (json) VALUES (?1)")?;
    let id = insert.insert([String::from_utf8_lossy(body)])?;
    if bodies.len() >= MAX_KNOWN_BODIES {
        bodies.clear();
    }
    bodies.insert(key, id);
    Ok(id)
}

/// `text` with the secrets masked. Few texts contain one.
fn masked<'a>(text: Cow<'a, [u8]>, secrets: &[String]) -> Cow<'a, [u8]> {
    let is_in_text = |secret: &String| memchr::memmem::find(&text, secret.as_bytes()).is_some();
    match secrets.iter().any(is_in_text) {
        true => Cow::Owned(mask(&String::from_utf8_lossy(&text), secrets).into_bytes()),
        false => text,
    }
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
    add_lag(connection, report.worker, report.phase, "sleep", &report.sleep_ns)?;
    add_lag(connection, report.worker, report.phase, "gather", &report.gather_ns)
}

fn add_lag(
    connection: &Connection,
    worker: u32,
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
