//! Reading a run's database back, in blocks like those it was written from.

use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::StoreError;
use super::schema::{APPLICATION_ID, REQUEST_COLUMNS, VERSION};
use crate::finding::{Finding, Severity};
use crate::record::arrivals;
use crate::record::facts::{ClockPair, Refusal, RunEnd, RunFacts};
use crate::record::{
    Block, Finish, Outcome, Phase, RequestRecord, ServerSample, ServerTimes, Span, Stall, TokenSource, WorkerReport,
};
use crate::rig::calibration::Calibration;
use crate::time::Tick;

/// Everything stored of a run but its requests.
#[derive(Clone, Debug)]
pub struct StoredRun {
    pub facts: RunFacts,
    pub clock: ClockPair,
    /// `None` when the run was killed.
    pub end: Option<RunEnd>,
    pub arguments_json: String,
    pub rig_json: String,
    /// The calibration of the machine that the run took along.
    pub calibration: Option<Calibration>,
    /// Most GPU memory the server held, where it was watched.
    pub gpu_memory_peak_bytes: Option<f64>,
    pub workers: Vec<WorkerReport>,
    pub findings: Vec<Finding>,
    /// Loads of its search that could not be offered.
    pub refusals: Vec<Refusal>,
}

/// How much of each request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All figures and the error text; enough for every table.
    Figures,
    /// Answer text, reasoning text and raw body as well.
    Everything,
}

/// An open database.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    version: i64,
}

impl Reader {
    /// Opens a database that a run has written, is writing, or was killed over.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.to_path_buf(), reason };
        std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
        // Writable first: only so can SQLite fold in what a killed run left in its -wal file.
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .map_err(|e| fail(e.to_string()))?;
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let version = match (pragma("application_id"), pragma("user_version")) {
            (Ok(APPLICATION_ID), Ok(version @ 1..=VERSION)) => version,
            (Ok(APPLICATION_ID), Ok(found)) => {
                return Err(StoreError::Schema { path: path.to_path_buf(), found, expected: VERSION });
            }
            (Err(rusqlite::Error::SqliteFailure(e, _)), _) if e.code != rusqlite::ErrorCode::NotADatabase => {
                return Err(fail(e.to_string()));
            }
            _ => return Err(StoreError::NotOurs(path.to_path_buf())),
        };
        Ok(Reader { connection, path: path.to_path_buf(), version })
    }

    /// Everything but the requests.
    pub fn run(&self) -> Result<StoredRun, StoreError> {
        Ok(StoredRun {
            facts: self.parsed("facts")?.ok_or_else(|| StoreError::NotOurs(self.path.clone()))?,
            clock: self.parsed("clock")?.unwrap_or_default(),
            end: self.parsed("end")?,
            arguments_json: self.value("arguments")?.unwrap_or_default(),
            rig_json: self.value("rig")?.unwrap_or_default(),
            calibration: self.parsed("calibration")?,
            gpu_memory_peak_bytes: self.number("gpu_memory_peak_bytes")?,
            workers: self.workers().map_err(|e| self.fail(e))?,
            findings: self.findings().map_err(|e| self.fail(e))?,
            refusals: self.parsed("refusals")?.unwrap_or_default(),
        })
    }

    /// Hands all requests of a phase to `take`, in the order in which they were written, a block at a time. The same
    /// block is used again for the next ones.
    pub fn each_block(&self, phase: Phase, detail: Detail, mut take: impl FnMut(&Block)) -> Result<(), StoreError> {
        let mut block = Block::new(0);
        let sql = format!("SELECT {} FROM request WHERE phase = ?1 ORDER BY id", select_columns(detail, self.version));
        let mut statement = self.connection.prepare(&sql).map_err(|e| self.fail(e))?;
        let mut rows = statement.query([phase.name()]).map_err(|e| self.fail(e))?;
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            read_request(row, &mut block).map_err(|e| self.fail(e))?;
            if block.is_full() {
                take(&block);
                block.clear();
            }
        }
        if !block.records.is_empty() {
            take(&block);
        }
        Ok(())
    }

    /// For the modules of this folder that read in a way of their own.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What every look at the server showed, in the order of time.
    pub fn server_samples(&self) -> Result<Vec<ServerSample>, StoreError> {
        let read = || -> rusqlite::Result<Vec<ServerSample>> {
            let mut statement = self
                .connection
                .prepare("SELECT at_ns, name, labels, value FROM server_sample ORDER BY at_ns, rowid")?;
            let rows = statement.query_map([], |row| {
                let at = Tick(count(row, 0)?);
                Ok(ServerSample { at, name: row.get(1)?, labels: row.get(2)?, value: row.get(3)? })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.fail(e))
    }

    fn fail(&self, reason: impl ToString) -> StoreError {
        StoreError::read(&self.path, reason)
    }

    fn value(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row("SELECT value FROM run WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(|e| self.fail(e))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, StoreError> {
        self.connection
            .query_row("SELECT CAST(value AS REAL) FROM run WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(|e| self.fail(e))
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some(text) = self.value(key)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| self.fail(format!("run.{key}: {e}")))
    }

    fn workers(&self) -> rusqlite::Result<Vec<WorkerReport>> {
        let stalls = if self.version < 3 { "NULL" } else { "stalls" };
        let mut statement = self.connection.prepare(&format!(
            "SELECT worker, phase, core, cpu_user_ns, cpu_system_ns, wall_ns, voluntary_switches,
                    involuntary_switches, reads, buffer_shortages, connections_opened, peak_in_flight, extra_blocks,
                    unsent, {stalls} FROM worker ORDER BY phase, worker"
        ))?;
        let mut rows = statement.query([])?;
        let mut workers = Vec::new();
        while let Some(row) = rows.next()? {
            let worker: u16 = row.get(0)?;
            let phase = name(row, 1, Phase::from_name)?;
            workers.push(WorkerReport {
                worker,
                phase,
                core: row.get(2)?,
                receive_lag_ns: self.lag(worker, phase, "receive_lag")?,
                loop_gap_ns: self.lag(worker, phase, "loop_gap")?,
                sleep_ns: self.lag(worker, phase, "sleep")?,
                stalls: match row.get::<_, Option<i64>>(14)? {
                    Some(_) => Some(self.stalls(worker, phase)?),
                    None => None,
                },
                cpu_user_ns: count(row, 3)?,
                cpu_system_ns: count(row, 4)?,
                wall_ns: count(row, 5)?,
                voluntary_switches: count(row, 6)?,
                involuntary_switches: count(row, 7)?,
                reads: count(row, 8)?,
                buffer_shortages: count(row, 9)?,
                connections_opened: count(row, 10)?,
                peak_in_flight: count(row, 11)?,
                extra_blocks: count(row, 12)?,
                unsent: count(row, 13)?,
            });
        }
        Ok(workers)
    }

    fn stalls(&self, worker: u16, phase: Phase) -> rusqlite::Result<Vec<Stall>> {
        let sql = "SELECT begin_ns, end_ns FROM stall WHERE worker = ?1 AND phase = ?2 ORDER BY begin_ns";
        let mut statement = self.connection.prepare_cached(sql)?;
        let tick = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|ns| Tick(ns as u64));
        let stall = |row: &rusqlite::Row<'_>| Ok(Stall { begin: tick(row, 0)?, end: tick(row, 1)? });
        statement.query_map(rusqlite::params![worker, phase.name()], stall)?.collect()
    }

    fn lag(&self, worker: u16, phase: Phase, kind: &str) -> rusqlite::Result<Histogram<u64>> {
        let mut histogram = Histogram::new(3).expect("three digits are valid");
        let mut statement = self
            .connection
            .prepare_cached("SELECT low_ns, count FROM lag WHERE worker = ?1 AND phase = ?2 AND kind = ?3")?;
        let mut rows = statement.query(rusqlite::params![worker, phase.name(), kind])?;
        while let Some(row) = rows.next()? {
            histogram.record_n(count(row, 0)?, count(row, 1)?).map_err(|_| strange(0, "low_ns"))?;
        }
        Ok(histogram)
    }

    fn findings(&self) -> rusqlite::Result<Vec<Finding>> {
        let json = if self.version < 4 { "NULL" } else { "json" };
        let sql = format!("SELECT severity, code, text, {json} FROM finding ORDER BY rowid");
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([], |row| {
            let fields = row.get_ref(3)?.as_str_or_null()?;
            if let Some(finding) = fields.and_then(|json| serde_json::from_str(json).ok()) {
                return Ok(finding);
            }
            let severity = match row.get_ref(0)?.as_str()? {
                "void" => Severity::Void,
                "caution" => Severity::Caution,
                _ => Severity::Note,
            };
            Ok(Finding::Stored { severity, code: row.get(1)?, text: row.get(2)? })
        })?;
        rows.collect()
    }
}

fn select_columns(detail: Detail, version: i64) -> String {
    let heavy = |column: &str| detail == Detail::Figures && matches!(column, "text" | "reasoning" | "raw");
    let missing = |column: &str| version < 2 && (column == "conversation" || column.starts_with("server_"));
    let columns = REQUEST_COLUMNS.map(|c| if heavy(c) || missing(c) { "NULL" } else { c });
    columns.join(",")
}

fn read_request(row: &Row<'_>, block: &mut Block) -> rusqlite::Result<()> {
    let due = Tick(count(row, 7)?);
    let arrivals = read_arrivals(row, 36, due, block)?;
    let error = read_bytes(row, 35, block)?;
    let text = read_bytes(row, 38, block)?;
    let reasoning = read_bytes(row, 39, block)?;
    let raw = read_bytes(row, 40, block)?;
    block.records.push(RequestRecord {
        index: count(row, 0)?,
        phase: name(row, 1, Phase::from_name)?,
        worker: row.get(2)?,
        lane: row.get(3)?,
        conversation: row.get::<_, Option<i64>>(43)?.map(|number| number as u64),
        turn: row.get(4)?,
        reused: row.get(5)?,
        retried: row.get(6)?,
        due,
        picked: instant(row, 8)?,
        connected: instant(row, 9)?,
        tls_handshake_ns: instant(row, 10)?.map(|tick| tick.0),
        write_start: instant(row, 11)?,
        write_end: instant(row, 12)?,
        first_byte: instant(row, 13)?,
        first_token: instant(row, 14)?,
        last_token: instant(row, 15)?,
        end: Tick(count(row, 16)?),
        previous_end: instant(row, 17)?,
        outcome: name(row, 18, Outcome::from_name)?,
        streamed: row.get(19)?,
        status: row.get(20)?,
        input_tokens: row.get(21)?,
        output_tokens: row.get(22)?,
        cached_tokens: row.get(23)?,
        reasoning_tokens: row.get(24)?,
        server_times: server_times(row)?,
        token_source: name(row, 25, TokenSource::from_name)?,
        finish: name(row, 26, Finish::from_name)?,
        events: row.get(27)?,
        coalesced: row.get(28)?,
        reads: row.get(29)?,
        coalesced_reads: row.get(30)?,
        stamped_reads: row.get(31)?,
        receive_lag_sum_ns: count(row, 32)?,
        receive_lag_max_ns: count(row, 33)?,
        received_bytes: count(row, 34)?,
        arrivals,
        text,
        reasoning,
        error,
        body: Span::default(),
        raw,
    });
    Ok(())
}

fn server_times(row: &Row<'_>) -> rusqlite::Result<Option<ServerTimes>> {
    let length = |column| Ok::<_, rusqlite::Error>(instant(row, column)?.map(|tick| tick.0));
    let times =
        ServerTimes { queue_ns: length(44)?, prefill_ns: length(45)?, decode_ns: length(46)?, tokens: row.get(47)? };
    Ok((times != ServerTimes::default()).then_some(times))
}

fn read_arrivals(row: &Row<'_>, column: usize, due: Tick, block: &mut Block) -> rusqlite::Result<Span> {
    let start = block.arrivals.len();
    if let Some(coded) = row.get_ref(column)?.as_blob_or_null()? {
        arrivals::decode(due, coded, &mut block.arrivals).ok_or_else(|| strange(column, "arrivals"))?;
    }
    Ok(Span { start: start as u32, len: (block.arrivals.len() - start) as u32 })
}

fn read_bytes(row: &Row<'_>, column: usize, block: &mut Block) -> rusqlite::Result<Span> {
    let value = row.get_ref(column)?;
    Ok(value.as_bytes_or_null()?.map(|bytes| block.keep_bytes(bytes)).unwrap_or_default())
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)? as u64)
}

fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Tick>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|ns| Tick(ns as u64)))
}

fn name<T>(row: &Row<'_>, column: usize, from_name: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    from_name(text).ok_or_else(|| strange(column, text))
}

fn strange(column: usize, what: &str) -> rusqlite::Error {
    let reason = format!("unexpected value '{what}'");
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, reason.into())
}
