//! Stored answers that a program of the user reads after the run, and what it finds in them.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::StoreError;
use super::writer::add_findings;
use crate::api::program::Parsed;
use crate::finding::Finding;
use crate::plan::Save;
use crate::record::TokenSource;

/// Rows handed out at a time: a raw answer may be long.
const PAGE: i64 = 64;

/// An answer as it came.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub id: i64,
    pub status: u16,
    pub streamed: bool,
    /// The body of its request.
    pub request: Option<String>,
    pub raw: Vec<u8>,
}

/// The answers of requests that succeeded, page by page.
pub struct Answers {
    connection: Connection,
    path: PathBuf,
    last: i64,
}

impl Answers {
    /// Opens the database of a run that has ended, to read only.
    pub fn open(path: &Path) -> Result<Answers, StoreError> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Answers { connection, path: path.to_path_buf(), last: 0 })
    }

    /// The rows of all answers, in the order in which pages hand them out.
    pub fn ids(&self) -> Result<Vec<i64>, StoreError> {
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement =
                self.connection.prepare("SELECT id FROM request WHERE success AND raw IS NOT NULL ORDER BY id")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|e| StoreError::read(&self.path, e))
    }

    /// The next answers; empty at the end.
    pub fn next_page(&mut self) -> Result<Vec<Stored>, StoreError> {
        let page = self.read_page().map_err(|e| StoreError::read(&self.path, e))?;
        self.last = page.last().map_or(self.last, |row| row.id);
        Ok(page)
    }

    fn read_page(&self) -> rusqlite::Result<Vec<Stored>> {
        let sql = "SELECT r.id, r.status, r.streamed, b.json, r.raw
                   FROM request r LEFT JOIN body b ON b.id = r.body_id
                   WHERE r.success AND r.raw IS NOT NULL AND r.id > ?1 ORDER BY r.id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.last, PAGE], |row| {
            Ok(Stored {
                id: row.get(0)?,
                status: row.get(1)?,
                streamed: row.get(2)?,
                request: row.get(3)?,
                raw: row.get(4)?,
            })
        })?;
        rows.collect()
    }
}

/// What was found, kept apart from the run's tables until all of it is there.
pub struct Found {
    connection: Connection,
    path: PathBuf,
}

impl Found {
    /// Opens the database of a run that has ended.
    pub fn open(path: &Path) -> Result<Found, StoreError> {
        let found = Found { connection: open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, path: path.to_path_buf() };
        // A table of this connection alone: whoever reads the run meanwhile is not in the way.
        found.execute(
            "CREATE TEMP TABLE parsed (id INTEGER PRIMARY KEY, input INTEGER, output INTEGER, text TEXT, reasoning TEXT);
             BEGIN",
        )?;
        Ok(found)
    }

    /// Notes what was found in one answer.
    pub fn add(&self, id: i64, parsed: &Parsed) -> Result<(), StoreError> {
        let count = |count: Option<u64>| count.map(|count| count as i64);
        let added =
            self.connection.prepare_cached("INSERT INTO temp.parsed VALUES (?1,?2,?3,?4,?5)").and_then(|mut s| {
                s.execute(params![
                    id,
                    count(parsed.input_tokens),
                    count(parsed.output_tokens),
                    parsed.text,
                    parsed.reasoning
                ])
            });
        added.map(drop).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Puts everything that was noted into the run, all or nothing. What the program left out stays as it was.
    pub fn apply(self) -> Result<(), StoreError> {
        self.execute(&format!(
            "UPDATE request SET
               input_tokens = coalesce(p.input, input_tokens), output_tokens = coalesce(p.output, output_tokens),
               token_source = CASE WHEN p.output IS NULL THEN token_source ELSE '{}' END,
               text = coalesce(p.text, request.text), reasoning = coalesce(p.reasoning, request.reasoning)
             FROM temp.parsed p WHERE p.id = request.id;
             COMMIT",
            TokenSource::Program.name()
        ))
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|e| StoreError::write(&self.path, e))
    }
}

/// Removes what was stored for the program alone and is not to be kept.
pub fn trim(path: &Path, save: Save) -> Result<(), StoreError> {
    let sql = match save {
        Save::Full => return Ok(()),
        Save::Text => "UPDATE request SET raw = NULL; VACUUM",
        Save::Metrics => {
            "UPDATE request SET raw = NULL, text = NULL, reasoning = NULL, body_id = NULL; DELETE FROM body; VACUUM"
        }
    };
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(sql).map_err(|e| StoreError::write(path, e))
}

/// Adds what is known only now to the findings of a run that has ended.
pub fn add_finding(path: &Path, finding: &Finding) -> Result<(), StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    add_findings(&connection, std::slice::from_ref(finding)).map_err(|e| StoreError::write(path, e))
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })
}
