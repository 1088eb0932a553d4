//! Token counts that the server did not send, filled in after the run.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::StoreError;
use crate::record::TokenSource;

/// Rows handed out at a time.
const PAGE: i64 = 512;

/// A request with an answer that lacks a count.
#[derive(Clone, Debug, Default)]
pub struct Uncounted {
    /// Its row.
    pub id: i64,
    /// Its body, where input was not counted; `None` also when the database keeps no prompts.
    pub body: Option<String>,
    /// Answer and reasoning, where output was not counted; `None` also when the database keeps no answers.
    pub answer: Option<(String, String)>,
}

/// What was counted for a row; `None` leaves what is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub id: i64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
}

/// A database whose counts are completed.
pub struct Recount {
    connection: Connection,
    path: PathBuf,
    last: i64,
}

impl Recount {
    /// Opens the database of a run that has ended.
    pub fn open(path: &Path) -> Result<Recount, StoreError> {
        let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let connection = opened.map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })?;
        Ok(Recount { connection, path: path.to_path_buf(), last: 0 })
    }

    /// Requests that succeeded and lack a count.
    pub fn missing(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM request
                   WHERE success AND (input_tokens IS NULL OR output_tokens IS NULL)";
        let count = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        count.map(|count| count as u64).map_err(|e| StoreError::read(&self.path, e))
    }

    /// The next of them; empty at the end.
    pub fn next_page(&mut self) -> Result<Vec<Uncounted>, StoreError> {
        let page = self.read_page().map_err(|e| StoreError::read(&self.path, e))?;
        self.last = page.last().map_or(self.last, |row| row.id);
        Ok(page)
    }

    fn read_page(&self) -> rusqlite::Result<Vec<Uncounted>> {
        let sql = "SELECT r.id, CASE WHEN r.input_tokens IS NULL THEN b.json END, r.output_tokens IS NULL, r.text,
                          r.reasoning
                   FROM request r LEFT JOIN body b ON b.id = r.body_id
                   WHERE r.success AND (r.input_tokens IS NULL OR r.output_tokens IS NULL) AND r.id > ?1
                   ORDER BY r.id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.last, PAGE], |row| {
            let (text, reasoning): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let kept = text.is_some() || reasoning.is_some();
            let answer =
                (row.get::<_, bool>(2)? && kept).then(|| (text.unwrap_or_default(), reasoning.unwrap_or_default()));
            Ok(Uncounted { id: row.get(0)?, body: row.get(1)?, answer })
        })?;
        rows.collect()
    }

    /// Stores counts, all or none of them, and marks the rows as counted here.
    pub fn store(&mut self, counts: &[Counted]) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.write(counts).map_err(|e| StoreError::write(&path, e))
    }

    fn write(&mut self, counts: &[Counted]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(
                "UPDATE request SET input_tokens = coalesce(?2, input_tokens),
                                    output_tokens = coalesce(?3, output_tokens),
                                    token_source = CASE WHEN ?3 IS NULL THEN token_source ELSE ?4 END
                 WHERE id = ?1",
            )?;
            for counted in counts {
                let (input, output) = (counted.input_tokens, counted.output_tokens);
                let source = TokenSource::Tokenizer.name();
                statement.execute(params![counted.id, input.map(|n| n as i64), output.map(|n| n as i64), source])?;
            }
        }
        transaction.commit()
    }
}
