//! The answers of a run that has ended: read page by page, and completed with what a tokenizer or a program of the user
//! finds in them.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row, params};
use serde_json::Value;

use super::error::{StoreError, open, open_to_read};
use super::writer::add_findings;
use crate::api::{choices, tool_calls};
use crate::finding::Finding;
use crate::plan::Save;
use crate::record::TokenSource;

/// A kind of rows that [`Pages`] reads. Of the successful requests it takes those that meet a condition.
pub trait Answer: Sized {
    /// Rows in a page.
    const PAGE_ROWS: i64;
    /// SQL: which successful requests `r` are read.
    const CONDITION: &'static str;
    /// SQL: what is read of a request `r` and its body `b`, after `r.id`.
    const COLUMNS: &'static str;

    /// Reads a row: the id, then [`Answer::COLUMNS`].
    fn read(row: &Row<'_>) -> rusqlite::Result<Self>;

    /// The row's key in the table `request`.
    fn id(&self) -> i64;
}

/// An answer as the server sent it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawAnswer {
    pub id: i64,
    pub status: u16,
    pub streamed: bool,
    /// The body of its request.
    pub request: Option<String>,
    pub raw: Vec<u8>,
}

impl Answer for RawAnswer {
    // A raw answer may be long.
    const PAGE_ROWS: i64 = 64;
    const CONDITION: &'static str = "r.raw IS NOT NULL";
    const COLUMNS: &'static str = "r.status, r.streamed, b.json, r.raw";

    fn read(row: &Row<'_>) -> rusqlite::Result<RawAnswer> {
        Ok(RawAnswer {
            id: row.get(0)?,
            status: row.get(1)?,
            streamed: row.get(2)?,
            request: row.get(3)?,
            raw: row.get(4)?,
        })
    }

    fn id(&self) -> i64 {
        self.id
    }
}

/// A request that lacks a token count.
#[derive(Clone, Debug, Default)]
pub(crate) struct UncountedAnswer {
    pub id: i64,
    /// The request body, where input was not counted; `None` also when the database holds no prompts.
    pub body: Option<String>,
    /// The texts of the answer, where output was not counted: text, reasoning and tool calls of every choice. `None` also
    /// when the database holds no answers.
    pub answer: Option<Vec<String>>,
}

impl Answer for UncountedAnswer {
    const PAGE_ROWS: i64 = 512;
    const CONDITION: &'static str = "(r.input_tokens IS NULL OR r.output_tokens IS NULL)";
    const COLUMNS: &'static str = "CASE WHEN r.input_tokens IS NULL THEN b.json END, r.output_tokens IS NULL, r.text, r.reasoning, r.tool_calls, r.other_choices";

    fn read(row: &Row<'_>) -> rusqlite::Result<UncountedAnswer> {
        let lacks_output: bool = row.get(2)?;
        let (text, reasoning): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
        let json = |column| -> rusqlite::Result<Value> {
            let text: Option<String> = row.get(column)?;
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
        };
        let calls = tool_calls::from_list(&json(5)?).into_iter().flat_map(|call| [call.name, call.arguments]);
        let texts = text.into_iter().chain(reasoning).chain(calls).chain(choices::texts_of(&json(6)?));
        let texts: Vec<String> = texts.collect();
        let answer = (lacks_output && !texts.is_empty()).then_some(texts);
        Ok(UncountedAnswer { id: row.get(0)?, body: row.get(1)?, answer })
    }

    fn id(&self) -> i64 {
        self.id
    }
}

/// The answers of one kind, page by page, in the order of their ids.
pub(crate) struct Pages<A> {
    connection: Connection,
    path: PathBuf,
    /// The id of the last row that was read.
    last: i64,
    rows: PhantomData<fn() -> A>,
}

impl<A: Answer> Pages<A> {
    /// Opens the database of a run that has ended.
    pub fn open(path: &Path) -> Result<Pages<A>, StoreError> {
        let connection = open_to_read(path).map_err(|reason| StoreError::Open { path: path.to_path_buf(), reason })?;
        Ok(Pages { connection, path: path.to_path_buf(), last: 0, rows: PhantomData })
    }

    /// The ids of all rows, in the order of the pages.
    pub fn ids(&self) -> Result<Vec<i64>, StoreError> {
        let sql = format!("SELECT r.id FROM request r WHERE r.success AND {} ORDER BY r.id", A::CONDITION);
        let read = || self.connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>();
        read().map_err(|e| StoreError::read(&self.path, e))
    }

    /// The next rows; empty at the end.
    pub(crate) fn next_page(&mut self) -> Result<Vec<A>, StoreError> {
        let page = self.read_page().map_err(|e| StoreError::read(&self.path, e))?;
        self.last = page.last().map_or(self.last, A::id);
        Ok(page)
    }

    fn read_page(&self) -> rusqlite::Result<Vec<A>> {
        let sql = format!(
            "SELECT r.id, {} FROM request r LEFT JOIN body b ON b.id = r.body_id
             WHERE r.success AND {} AND r.id > ?1 ORDER BY r.id LIMIT ?2",
            A::COLUMNS,
            A::CONDITION
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map(params![self.last, A::PAGE_ROWS], A::read)?.collect()
    }
}

/// What was found for a row; `None` leaves the stored value as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerUpdate {
    pub id: i64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub text: Option<String>,
    pub reasoning: Option<String>,
}

/// Collects updates of a run that has ended, and applies them together.
pub(crate) struct AnswerUpdates {
    connection: Connection,
    path: PathBuf,
}

impl AnswerUpdates {
    /// Opens the database of a run that has ended.
    pub fn open(path: &Path) -> Result<AnswerUpdates, StoreError> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let updates = AnswerUpdates { connection, path: path.to_path_buf() };
        // A temporary table of this connection: while updates are collected, other connections can read the run.
        updates.execute(
            "CREATE TEMP TABLE found (id INTEGER PRIMARY KEY, input INTEGER, output INTEGER, text TEXT, reasoning TEXT);
             BEGIN",
        )?;
        Ok(updates)
    }

    /// Adds an update of a row that has none yet.
    pub fn add(&self, update: &AnswerUpdate) -> Result<(), StoreError> {
        let count = |count: Option<u64>| count.map(|count| count as i64);
        let (input, output) = (count(update.input_tokens), count(update.output_tokens));
        let values = params![update.id, input, output, update.text, update.reasoning];
        let sql = "INSERT INTO temp.found VALUES (?1,?2,?3,?4,?5)";
        let added = self.connection.prepare_cached(sql).and_then(|mut insert| insert.execute(values));
        added.map(drop).map_err(|e| StoreError::write(&self.path, e))
    }

    /// Stores all updates that were added since the last call, or none when one fails. `source` is stored as the origin
    /// of the output tokens, where they were updated, and of a response that needs none.
    pub fn apply(&self, source: TokenSource) -> Result<(), StoreError> {
        self.execute(&format!(
            "UPDATE request SET
               input_tokens = coalesce(f.input, input_tokens), output_tokens = coalesce(f.output, output_tokens),
               token_source = CASE WHEN f.output IS NULL AND (f.input IS NULL OR output_tokens IS NULL OR token_source <> 'unknown')
                 THEN token_source ELSE '{}' END,
               text = coalesce(f.text, request.text), reasoning = coalesce(f.reasoning, request.reasoning)
             FROM temp.found f WHERE f.id = request.id;
             DELETE FROM temp.found;
             COMMIT;
             BEGIN",
            source.name()
        ))
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|e| StoreError::write(&self.path, e))
    }
}

/// Removes what was stored only for the program that reads answers, and that `save` does not ask for.
pub fn trim(path: &Path, save: Save) -> Result<(), StoreError> {
    let sql = match save {
        Save::Full => return Ok(()),
        Save::Text => "UPDATE request SET raw = NULL; VACUUM",
        Save::Metrics => {
            "UPDATE request SET raw = NULL, text = NULL, reasoning = NULL, tool_calls = NULL, other_choices = NULL,
               body_id = NULL; DELETE FROM body; VACUUM"
        }
    };
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(sql).map_err(|e| StoreError::write(path, e))
}

/// Adds a finding to a run that has ended.
pub(crate) fn add_finding(path: &Path, finding: &Finding) -> Result<(), StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    add_findings(&connection, std::slice::from_ref(finding)).map_err(|e| StoreError::write(path, e))
}
