//! Reading the database of a run, in blocks like those it was written from.

use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use rusqlite::{Connection, OptionalExtension, Row};

pub use super::columns::Detail;
use super::columns::RequestReader;
use super::error::{StoreError, open_to_read};
use super::foreign;
use super::schema::{APPLICATION_ID, VERSION};
use super::values::{ColumnValue, MAX, check_time, in_row, unexpected_value};
use crate::finding::{Finding, Severity};
use crate::host::calibration::Calibration;
use crate::record::arrivals::{self, Gap, Gaps};
use crate::record::clock_exchange::ClockExchange;
use crate::record::facts::{ClockPair, Refusal, RunEnd, RunFacts};
use crate::record::{Block, Phase, ServerSample, Stall, WorkerReport};
use crate::time::Tick;

/// Everything stored of a run except its requests.
#[derive(Clone, Debug)]
pub struct StoredRun {
    pub facts: RunFacts,
    pub clock: ClockPair,
    /// `None` when the run was killed.
    pub end: Option<RunEnd>,
    pub arguments_json: String,
    /// The facts of the machine that sent the requests, as JSON; empty in what early versions stored.
    pub rig_json: String,
    /// The calibration of the machine that the run took along.
    pub calibration: Option<Calibration>,
    /// The peak GPU memory of the server, bytes; `None` when it was not monitored.
    pub gpu_memory_peak_bytes: Option<f64>,
    pub workers: Vec<WorkerReport>,
    pub findings: Vec<Finding>,
    /// Loads of its search that this machine could not offer.
    pub refusals: Vec<Refusal>,
    /// The start that the shards of the load agreed on; `None` for a whole load.
    pub shard_start: Option<ClockPair>,
    /// Exchanges of packets with shard 0, in the order of time.
    pub clock_exchanges: Vec<ClockExchange>,
}

/// Succeeded requests of a phase that are stored one after the other.
#[derive(Clone, Copy, Debug)]
pub struct RequestPart {
    /// The row of the first one.
    first_id: i64,
    /// Its number among the succeeded requests of the phase, from 0.
    first_place: u64,
    count: u64,
    range: Option<TimeRange>,
}

/// Requests that were due, and ended, within these times of the database's clock; `None`: at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    pub due_from: Option<Tick>,
    pub end_until: Option<Tick>,
}

impl TimeRange {
    /// The condition in SQL.
    fn condition(self) -> String {
        let due = self.due_from.map(|tick| format!(" AND due_ns >= {}", tick.0 as i64));
        let end = self.end_until.map(|tick| format!(" AND end_ns <= {}", tick.0 as i64));
        [due, end].into_iter().flatten().collect()
    }
}

/// Succeeded requests of the phase `?1`.
fn succeeded(range: Option<TimeRange>) -> String {
    format!("phase = ?1 AND outcome = 'ok'{}", range.unwrap_or_default().condition())
}

/// An open database.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    version: i64,
}

impl Reader {
    /// Opens the database of a run that has ended, is in progress, or was killed.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.to_path_buf(), reason };
        let bytes = foreign::file_bytes(path).map_err(fail)?;
        let mut connection = open_to_read(path).map_err(fail)?;
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
        foreign::protect(&mut connection, bytes).map_err(fail)?;
        Ok(Reader { connection, path: path.to_path_buf(), version })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives back the memory of the pages that were read, two megabytes, while the database stays open.
    pub(crate) fn release_pages(&self) -> Result<(), StoreError> {
        self.connection.execute_batch("PRAGMA shrink_memory").map_err(|e| self.fail(e))
    }

    /// Everything except the requests.
    pub fn run(&self) -> Result<StoredRun, StoreError> {
        let end: Option<RunEnd> = self.parsed("end")?;
        // Earlier versions stored it at the end only.
        let shard_start = self.parsed("shard_start")?.or(end.as_ref().and_then(|end| end.shard_start));
        Ok(StoredRun {
            facts: self.parsed("facts")?.ok_or_else(|| StoreError::NotOurs(self.path.clone()))?,
            clock: self.parsed("clock")?.unwrap_or_default(),
            end,
            arguments_json: self.value("arguments")?.unwrap_or_default(),
            rig_json: self.value("rig")?.unwrap_or_default(),
            calibration: self.parsed("calibration")?,
            gpu_memory_peak_bytes: self.number("gpu_memory_peak_bytes")?,
            workers: self.workers(self.start()?).map_err(|e| self.fail(e))?,
            findings: self.findings().map_err(|e| self.fail(e))?,
            refusals: self.parsed("refusals")?.unwrap_or_default(),
            shard_start,
            clock_exchanges: self.clock_exchanges().map_err(|e| self.fail(e))?,
        })
    }

    /// Calls `take` with all requests of a phase, one block at a time, in the order in which they were written. The
    /// block is reused for the next requests.
    pub fn each_block(&self, phase: Phase, detail: Detail, mut take: impl FnMut(&Block)) -> Result<(), StoreError> {
        let mut block = Block::new(0);
        let mut requests = RequestReader::new(self.version, detail, self.start()?);
        let sql =
            format!("SELECT {}, id AS row_number FROM request WHERE phase = ?1 ORDER BY id", requests.select_list());
        let mut statement = self.connection.prepare(&sql).map_err(|e| self.fail(e))?;
        let mut rows = statement.query([phase.name()]).map_err(|e| self.fail(e))?;
        while let Some(row) = rows.next().map_err(|e| self.fail(e))? {
            in_row("request", row, requests.read(row, &mut block)).map_err(|e| self.fail(e))?;
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

    /// Divides the succeeded requests of a phase within a range of time, of which there are `count`, into about equal
    /// parts.
    pub fn parts(
        &self,
        phase: Phase,
        range: Option<TimeRange>,
        count: u64,
        parts: u64,
    ) -> Result<Vec<RequestPart>, StoreError> {
        let size = count.div_ceil(parts.max(1)).max(1);
        let read = || -> rusqlite::Result<Vec<RequestPart>> {
            let sql = format!("SELECT id FROM request WHERE {} ORDER BY id", succeeded(range));
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([phase.name()])?;
            let mut parts = Vec::new();
            for place in 0..count {
                let Some(row) = rows.next()? else { break };
                if place % size == 0 {
                    parts.push(RequestPart {
                        first_id: row.get(0)?,
                        first_place: place,
                        count: size.min(count - place),
                        range,
                    });
                }
            }
            Ok(parts)
        };
        read().map_err(|e| self.fail(e))
    }

    /// Calls `take` with the number of each succeeded request of this part among all of its phase, from 0, and with the
    /// gaps between its output events.
    pub fn each_gaps(
        &self,
        phase: Phase,
        part: RequestPart,
        mut take: impl FnMut(u64, &[Gap]),
    ) -> Result<(), StoreError> {
        let since = |column: &'static str, version| if self.version < version { "NULL" } else { column };
        let sql = format!(
            "SELECT due_ns, arrivals, {}, {} FROM request WHERE {} AND id >= ?2 ORDER BY id",
            since("choices", 5),
            since("early", 6),
            succeeded(part.range)
        );
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query(rusqlite::params![phase.name(), part.first_id])?;
            let (mut arrivals, mut gaps) = (Vec::new(), Gaps::default());
            for place in part.first_place..part.first_place + part.count {
                let Some(row) = rows.next()? else { break };
                let bytes = |column: usize| -> rusqlite::Result<&[u8]> {
                    Ok(row.get_ref(column)?.as_bytes_or_null()?.unwrap_or_default())
                };
                arrivals.clear();
                arrivals::decode(Tick::read(row, 0)?, bytes(1)?, &mut arrivals)
                    .ok_or_else(|| unexpected_value(1, "arrivals"))?;
                gaps.read(&arrivals, bytes(2)?, bytes(3)?);
                take(place, &gaps.gaps);
            }
            Ok(())
        };
        read().map_err(|e| self.fail(e))
    }

    /// The connection, for modules of the store with queries of their own.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// All samples of the server's metrics, in the order of time.
    pub fn server_samples(&self) -> Result<Vec<ServerSample>, StoreError> {
        let start = self.start()?;
        let read = || -> rusqlite::Result<Vec<ServerSample>> {
            let mut statement = self.connection.prepare(
                "SELECT at_ns, name, labels, value, rowid AS row_number FROM server_sample ORDER BY at_ns, rowid",
            )?;
            let rows = statement.query_map([], |row| {
                let at = in_row("server_sample", row, time(start, row, 0))?;
                Ok(ServerSample { at, name: row.get(1)?, labels: row.get(2)?, value: row.get(3)? })
            })?;
            rows.collect()
        };
        read().map_err(|e| self.fail(e))
    }

    fn clock_exchanges(&self) -> rusqlite::Result<Vec<ClockExchange>> {
        if self.version < 8 {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare(
            "SELECT sent_ns, first_received_ns, first_sent_ns, received_ns FROM clock_exchange ORDER BY received_ns",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(ClockExchange {
                sent: Tick::read(row, 0)?,
                first_received: Tick::read(row, 1)?,
                first_sent: Tick::read(row, 2)?,
                received: Tick::read(row, 3)?,
            })
        })?;
        rows.collect()
    }

    /// The start of the run. Files without its clock count from the first request.
    fn start(&self) -> Result<Tick, StoreError> {
        if let Some(clock) = self.parsed::<ClockPair>("clock")? {
            return Ok(Tick(clock.tick_ns));
        }
        let first = "SELECT coalesce(min(due_ns), 0) FROM request";
        self.connection.query_row(first, [], |row| Tick::read(row, 0)).map_err(|e| self.fail(e))
    }

    fn fail(&self, error: rusqlite::Error) -> StoreError {
        match error {
            // A table or a column is missing. The query itself explains nothing to a reader.
            rusqlite::Error::SqlInputError { msg, .. } => {
                StoreError::NotOfOurShape { path: self.path.clone(), reason: msg }
            }
            error => StoreError::read(&self.path, foreign::explained(error.to_string())),
        }
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
        serde_json::from_str(&text).map(Some).map_err(|e| StoreError::read(&self.path, format!("run.{key}: {e}")))
    }

    fn workers(&self, start: Tick) -> rusqlite::Result<Vec<WorkerReport>> {
        let stalls = if self.version < 3 { "NULL" } else { "stalls" };
        let mut statement = self.connection.prepare(&format!(
            "SELECT worker, phase, core, cpu_user_ns, cpu_system_ns, wall_ns, voluntary_switches,
                    involuntary_switches, reads, buffer_shortages, connections_opened, peak_in_flight, extra_blocks,
                    unsent, {stalls}, rowid AS row_number FROM worker ORDER BY phase, worker"
        ))?;
        let mut rows = statement.query([])?;
        let mut workers = Vec::new();
        while let Some(row) = rows.next()? {
            workers.push(in_row("worker", row, self.worker(row, start))?);
        }
        Ok(workers)
    }

    fn worker(&self, row: &Row<'_>, start: Tick) -> rusqlite::Result<WorkerReport> {
        let worker: u32 = row.get(0)?;
        let phase = Phase::read(row, 1)?;
        Ok(WorkerReport {
            worker,
            phase,
            core: row.get(2)?,
            receive_lag_ns: self.lag(worker, phase, "receive_lag")?,
            loop_gap_ns: self.lag(worker, phase, "loop_gap")?,
            sleep_ns: self.lag(worker, phase, "sleep")?,
            gather_ns: self.lag(worker, phase, "gather")?,
            stalls: match row.get::<_, Option<i64>>(14)? {
                Some(_) => Some(self.stalls(worker, phase, start)?),
                None => None,
            },
            cpu_user_ns: u64::read(row, 3)?,
            cpu_system_ns: u64::read(row, 4)?,
            wall_ns: u64::read(row, 5)?,
            voluntary_switches: u64::read(row, 6)?,
            involuntary_switches: u64::read(row, 7)?,
            reads: u64::read(row, 8)?,
            buffer_shortages: u64::read(row, 9)?,
            connections_opened: u64::read(row, 10)?,
            peak_in_flight: u64::read(row, 11)?,
            extra_blocks: u64::read(row, 12)?,
            unsent: u64::read(row, 13)?,
        })
    }

    fn stalls(&self, worker: u32, phase: Phase, start: Tick) -> rusqlite::Result<Vec<Stall>> {
        let sql = "SELECT begin_ns, end_ns, rowid AS row_number FROM stall WHERE worker = ?1 AND phase = ?2 \
                   ORDER BY begin_ns";
        let mut statement = self.connection.prepare_cached(sql)?;
        let read = |row: &Row<'_>| Ok(Stall { begin: time(start, row, 0)?, end: time(start, row, 1)? });
        let stall = |row: &Row<'_>| in_row("stall", row, read(row));
        statement.query_map(rusqlite::params![worker, phase.name()], stall)?.collect()
    }

    fn lag(&self, worker: u32, phase: Phase, kind: &str) -> rusqlite::Result<Histogram<u64>> {
        let mut histogram = Histogram::new(3).expect("three digits are valid");
        let mut statement = self.connection.prepare_cached(
            "SELECT low_ns, count, rowid AS row_number FROM lag WHERE worker = ?1 AND phase = ?2 AND kind = ?3",
        )?;
        let mut rows = statement.query(rusqlite::params![worker, phase.name(), kind])?;
        while let Some(row) = rows.next()? {
            let mut add = || -> rusqlite::Result<()> {
                let (low_ns, count) = (u64::read(row, 0)?, u64::read(row, 1)?);
                let out_of_range = rusqlite::Error::IntegralValueOutOfRange(1, count as i64);
                if histogram.len().saturating_add(count) > MAX || histogram.record_n(low_ns, count).is_err() {
                    return Err(out_of_range);
                }
                Ok(())
            };
            in_row("lag", row, add())?;
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

/// The time in this column, checked to be one of the run.
fn time(start: Tick, row: &Row<'_>, column: usize) -> rusqlite::Result<Tick> {
    let at = Tick::read(row, column)?;
    check_time(start, at, column).map(|()| at)
}
