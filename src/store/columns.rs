//! The columns of the table `request`, each listed once, in [`REQUEST_COLUMNS`]. The CREATE TABLE with its comments,
//! the INSERT with its values, and the SELECT with what is read from it are derived from that list.
//!
//! A new column is a field of [`RequestRecord`] and one entry at the end of the list, with the schema version that
//! introduces it. When an older file is read, the field keeps the value of [`RequestRecord::default`].

use std::borrow::Cow;

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::values::{ColumnValue, MAX_TOTAL, NULL, check_time, unexpected_value};
use crate::plan::Save;
use crate::record::{Block, Outcome, RequestRecord, Span, arrivals};
use crate::time::Tick;

/// One column of the table `request`.
pub struct Column {
    pub name: &'static str,
    /// Type and constraints, as in the CREATE TABLE.
    pub sql_type: &'static str,
    /// What the column means, for readers of the schema.
    pub comment: &'static str,
    /// The schema version that introduced it.
    pub since: i64,
    /// Part of a prompt or an answer, which no table of a report needs.
    content: bool,
    /// A time of the run's clock.
    is_time: bool,
    write: Write,
    read: Option<Read>,
}

/// How much of each request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All measurements and the error text; enough for every table.
    Figures,
    /// Answer text, reasoning text and raw body as well.
    Everything,
}

/// Takes the values of a request, one after the other.
pub(super) trait ValueSink {
    fn take(&mut self, value: ToSqlOutput<'_>) -> rusqlite::Result<()>;
}

/// The value of a column for a request.
type Write = for<'a> fn(&'a RequestRow<'_>) -> ToSqlOutput<'a>;

/// Reads the column at this position of a result row into the record, and its variable part into the block's arenas.
type Read = fn(&Row<'_>, usize, &mut RequestRecord, &mut Block) -> rusqlite::Result<()>;

/// A request to be stored.
pub(super) struct RequestRow<'a> {
    pub record: &'a RequestRecord,
    /// The arena of the record's texts, secrets overwritten.
    pub bytes: &'a [u8],
    /// The delta-coded arrivals; see [`crate::record::arrivals`].
    pub arrivals: &'a [u8],
    /// The same of the events without output.
    pub silent: &'a [u8],
    /// The error text, secrets masked.
    pub error: &'a [u8],
    /// The row of its body; `None` when bodies are not stored.
    pub body_id: Option<i64>,
    pub save: Save,
}

impl Column {
    const fn new(
        (name, sql_type): (&'static str, &'static str),
        comment: &'static str,
        write: Write,
        read: Option<Read>,
    ) -> Column {
        Column { name, sql_type, comment, since: 1, content: false, is_time: false, write, read }
    }

    /// A column that is in files of this schema version and later ones.
    const fn since(self, since: i64) -> Column {
        Column { since, ..self }
    }

    /// A column that is read with [`Detail::Everything`] only.
    const fn content(self) -> Column {
        Column { content: true, ..self }
    }

    /// A column of times, if the field is one.
    const fn time<T: ColumnValue>(self, _: fn(&RequestRecord) -> &T) -> Column {
        Column { is_time: T::IS_TIME, ..self }
    }

    fn is_read(&self, version: i64, detail: Detail) -> bool {
        self.read.is_some() && self.since <= version && (detail == Detail::Everything || !self.content)
    }
}

/// A column that holds a field of the record: `field!("column" "SQL type", field, "comment")`.
macro_rules! field {
    ($name:literal $sql_type:literal, $field:ident, $comment:literal) => {
        Column::new(
            ($name, $sql_type),
            $comment,
            |row| row.record.$field.write(),
            Some(|row, column, record, _| {
                record.$field = ColumnValue::read(row, column)?;
                Ok(())
            }),
        )
        .time(|record| &record.$field)
    };
}

/// A column that holds a field of the record's `server_times`, which is `None` when all of its columns are NULL.
macro_rules! server_time {
    ($name:literal $sql_type:literal, $field:ident, $comment:literal) => {
        Column::new(
            ($name, $sql_type),
            $comment,
            |row| row.record.server_times.as_ref().map_or(NULL, |times| times.$field.write()),
            Some(|row, column, record, _| {
                if let Some(value) = ColumnValue::read(row, column)? {
                    record.server_times.get_or_insert_default().$field = Some(value);
                }
                Ok(())
            }),
        )
    };
}

/// A column that holds a field of the record's `network`.
macro_rules! network {
    ($name:literal $sql_type:literal, $field:ident, $comment:literal) => {
        Column::new(
            ($name, $sql_type),
            $comment,
            |row| row.record.network.$field.write(),
            Some(|row, column, record, _| {
                record.network.$field = ColumnValue::read(row, column)?;
                Ok(())
            }),
        )
        .time(|record| &record.network.$field)
    };
}

/// A column whose bytes are in the block's arena: `bytes!("column" "SQL type", field, "comment", value to write)`.
macro_rules! bytes {
    ($name:literal $sql_type:literal, $field:ident, $comment:literal, $write:expr) => {
        Column::new(
            ($name, $sql_type),
            $comment,
            $write,
            Some(|row, column, record, block| {
                record.$field = read_bytes(row, column, block)?;
                Ok(())
            }),
        )
    };
}

/// Defines [`REQUEST_COLUMNS`], and [`RequestRow::write`] without a loop: each value is computed, and compared by the sink, in
/// code of its own, so that it needs no call through a pointer.
macro_rules! request_columns {
    ($($column:expr),+ $(,)?) => {
        /// All columns but the key `id`, in the order of the table.
        pub(crate) const REQUEST_COLUMNS: &[Column] = &[$($column),+];

        impl RequestRow<'_> {
            /// Passes the values of all columns to `sink`, in the order of the table.
            pub(super) fn write<S: ValueSink>(&self, sink: &mut S) -> rusqlite::Result<()> {
                $(sink.take((const { $column }.write)(self))?;)+
                Ok(())
            }
        }
    };
}

request_columns![
    field!("idx" "INTEGER NOT NULL", index, "number of the request in its phase, from 0"),
    field!("phase" "TEXT NOT NULL", phase, "preflight, warmup, measured or witness"),
    field!("worker" "INTEGER NOT NULL", worker, "the worker that sent it"),
    field!("lane" "INTEGER NOT NULL", slot, "the worker's concurrent request slot that carried it"),
    field!("turn" "INTEGER NOT NULL", turn, "turn of its conversation, from 0; 0 for single requests"),
    field!("reused" "INTEGER NOT NULL", reused, "1: the connection had carried an earlier request"),
    field!("retried" "INTEGER NOT NULL", retried, "1: sent again because the reused connection was closed"),
    field!("due_ns" "INTEGER NOT NULL", due, "scheduled time of the request"),
    field!("picked_ns" "INTEGER", picked, "a worker started to process it"),
    field!("connected_ns" "INTEGER", connected, "the connection was ready"),
    field!("tls_handshake_ns" "INTEGER", tls_handshake_ns, "duration of the TLS handshake"),
    field!("write_start_ns" "INTEGER", write_start, "first byte handed to the kernel"),
    field!("write_end_ns" "INTEGER", write_end, "last byte accepted by the kernel"),
    field!("first_byte_ns" "INTEGER", first_byte, "first byte of the response head arrived"),
    field!("first_token_ns" "INTEGER", first_token, "first event with output arrived"),
    field!("last_token_ns" "INTEGER", last_token, "last event with output, or with a counted token, arrived"),
    field!("end_ns" "INTEGER NOT NULL", end, "the response (or its end event) was complete, or the request failed"),
    field!("previous_end_ns" "INTEGER", previous_end, "closed loop: end of the previous response in this slot"),
    field!("outcome" "TEXT NOT NULL", outcome, "ok, unfinished, or the class of the failure"),
    field!("streamed" "INTEGER NOT NULL", streamed, "1: the response was a stream of server-sent events"),
    field!("status" "INTEGER NOT NULL", status, "HTTP status; 0 when no response head arrived"),
    field!("input_tokens" "INTEGER", input_tokens, "tokens of the prompt; NULL when they were not counted"),
    field!("output_tokens" "INTEGER", output_tokens, "tokens of the answer; NULL when they were not counted"),
    field!("cached_tokens" "INTEGER", cached_tokens, "input tokens found in the server's prefix cache"),
    field!("reasoning_tokens" "INTEGER", reasoning_tokens, "output tokens spent on reasoning"),
    field!("token_source" "TEXT NOT NULL", token_source, "of output_tokens: unknown, server, tokenizer or program"),
    field!("finish" "TEXT NOT NULL", finish, "finish reason: none, stop, length, tool_calls, content_filter or other"),
    field!("events" "INTEGER NOT NULL", events, "server-sent events with data"),
    field!("coalesced" "INTEGER NOT NULL", coalesced, "output events that shared a read with a later one of their choice"),
    field!("reads" "INTEGER NOT NULL", reads, "reads that brought bytes of the response"),
    field!("coalesced_reads" "INTEGER NOT NULL", coalesced_reads, "reads with two or more output events of one choice"),
    field!("stamped_reads" "INTEGER NOT NULL", stamped_reads, "reads with an arrival timestamp of the kernel"),
    field!("receive_lag_sum_ns" "INTEGER NOT NULL", receive_lag_sum_ns, "sum of the receive lag over all reads"),
    field!("receive_lag_max_ns" "INTEGER NOT NULL", receive_lag_max_ns, "maximum of the receive lag"),
    field!("received_bytes" "INTEGER NOT NULL", received_bytes, "bytes of the response with its head"),
    bytes!("error" "TEXT", error, "error text, secrets masked", |row| text(row.error)),
    // After due_ns, from which the first arrival is counted.
    Column::new(
        ("arrivals", "BLOB"),
        "arrivals of the output events, delta-coded from due_ns",
        |row| blob(row.arrivals),
        Some(|row, column, record, block| {
            record.arrivals = read_arrivals(row, column, record, block)?;
            Ok(())
        }),
    ),
    Column::new(("body_id", "INTEGER REFERENCES body(id)"), "the request body", |row| row.body_id.write(), None),
    bytes!("text" "TEXT", text, "answer (of the first choice)", |row| row.answer(row.record.text)).content(),
    bytes!("reasoning" "TEXT", reasoning, "reasoning of the answer", |row| row.answer(row.record.reasoning)).content(),
    bytes!("raw" "BLOB", raw, "response body as it was received (--save full)", |row| row.raw()).content(),
    Column::new(
        ("output_events", "INTEGER NOT NULL"),
        "number of arrivals",
        |row| row.record.arrivals.len.write(),
        None,
    ),
    Column::new(
        ("success", "INTEGER NOT NULL"),
        "1: outcome is ok",
        |row| (row.record.outcome == Outcome::Ok).into(),
        None,
    ),
    field!("conversation" "INTEGER", conversation, "number of its conversation, from 0; NULL for single requests")
        .since(2),
    server_time!("server_queue_ns" "INTEGER", queue_ns, "queueing time reported by the server in its answer").since(2),
    server_time!("server_prefill_ns" "INTEGER", prefill_ns, "prefill time reported by the server").since(2),
    server_time!("server_decode_ns" "INTEGER", decode_ns, "decode time reported by the server").since(2),
    server_time!("server_tokens" "INTEGER", tokens, "output tokens reported with these times").since(2),
    field!("first_answer_token_ns" "INTEGER", first_answer_token, "first event with text that is not reasoning arrived")
        .since(5),
    field!("open_after_end_ns" "INTEGER", open_after_end_ns, "from the end event of a stream to the end of its body")
        .since(5),
    field!("oddities" "TEXT", oddities, "what was unusual about the response, names separated by commas").since(5),
    bytes!(
        "choices" "BLOB", choices, "choice of each output event, one byte each; NULL if all are of the first",
        |row| blob(row.record.choices.slice(row.bytes))
    )
    .since(5),
    bytes!(
        "early" "BLOB", early,
        "output events that may have arrived earlier than recorded, as ranges; NULL if there are none",
        |row| blob(row.record.early.slice(row.bytes))
    )
    .since(6),
    field!("last_token_early_ns" "INTEGER", last_token_early_ns, "by how much last_token_ns may have been earlier")
        .since(6),
    field!("end_early_ns" "INTEGER", end_early_ns, "by how much end_ns may have been earlier; NULL if not known")
        .since(6),
    bytes!(
        "tool_calls" "TEXT", tool_calls, "tool calls of the answer as JSON, in the form of the chat API",
        |row| row.answer(row.record.tool_calls)
    )
    .content()
    .since(6),
    bytes!(
        "other_choices" "TEXT", other_choices, "choices after the first as a JSON list of messages",
        |row| row.answer(row.record.other_choices)
    )
    .content()
    .since(6),
    field!("last_shared" "INTEGER NOT NULL", last_shared, "1: the read of the last output event brought later bytes")
        .since(6),
    Column::new(
        ("silent_arrivals", "BLOB"),
        "arrivals of events of a choice without output, coded like arrivals",
        |row| blob(row.silent),
        Some(|row, column, record, block| {
            record.silent = read_arrivals(row, column, record, block)?;
            Ok(())
        }),
    )
    .since(6),
    bytes!(
        "silent_kinds" "BLOB", silent_kinds, "of these: choice, and 0; 1: a finish reason, 2: length, 3: a role",
        |row| blob(row.record.silent_kinds.slice(row.bytes))
    )
    .since(6),
    field!("body_wait_ns" "INTEGER", body_wait_ns, "wait for its body; NULL if that was built before the run").since(6),
    network!("sent_ns" "INTEGER", sent, "the kernel handed the last byte of the request to the network device").since(7),
    network!("acknowledged_ns" "INTEGER", acknowledged, "the acknowledgement of that byte arrived; may be delayed")
        .since(7),
    network!("rtt_ns" "INTEGER", rtt_ns, "smoothed TCP round-trip time at the end of the answer").since(7),
    network!("min_rtt_ns" "INTEGER", min_rtt_ns, "minimum TCP round-trip time of the connection").since(7),
    network!("retransmitted" "INTEGER", retransmitted, "segments that this machine sent again").since(7),
    network!("out_of_order" "INTEGER", out_of_order, "segments that arrived out of order").since(7),
];

impl RequestRow<'_> {
    /// A part of the answer; NULL when it is empty or answers are not stored.
    fn answer(&self, span: Span) -> ToSqlOutput<'_> {
        if self.save == Save::Metrics { NULL } else { text(span.slice(self.bytes)) }
    }

    fn raw(&self) -> ToSqlOutput<'_> {
        if self.save == Save::Full { blob(self.record.raw.slice(self.bytes)) } else { NULL }
    }
}

/// UTF-8 text; NULL when it is empty.
fn text(bytes: &[u8]) -> ToSqlOutput<'_> {
    match String::from_utf8_lossy(bytes) {
        _ if bytes.is_empty() => NULL,
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    }
}

/// Bytes; NULL when there are none.
fn blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    if bytes.is_empty() { NULL } else { bytes.into() }
}

fn read_bytes(row: &Row<'_>, column: usize, block: &mut Block) -> rusqlite::Result<Span> {
    let value = row.get_ref(column)?;
    Ok(value.as_bytes_or_null()?.map(|bytes| block.keep_bytes(bytes)).unwrap_or_default())
}

fn read_arrivals(row: &Row<'_>, column: usize, record: &RequestRecord, block: &mut Block) -> rusqlite::Result<Span> {
    let start = block.arrivals.len();
    if let Some(coded) = row.get_ref(column)?.as_blob_or_null()? {
        arrivals::decode(record.due, coded, &mut block.arrivals).ok_or_else(|| unexpected_value(column, "arrivals"))?;
    }
    Ok(Span { start: start as u32, len: (block.arrivals.len() - start) as u32 })
}

/// The CREATE TABLE statement, one column a line, each with its comment.
pub(crate) fn create_table_sql() -> String {
    let mut sql = "CREATE TABLE request (\n  id INTEGER PRIMARY KEY,".to_string();
    for (position, column) in REQUEST_COLUMNS.iter().enumerate() {
        let comma = if position + 1 < REQUEST_COLUMNS.len() { "," } else { "" };
        sql += &format!("\n  {} {}{comma} -- {}", column.name, column.sql_type, column.comment);
    }
    sql + "\n);"
}

/// The INSERT statement that takes the values of so many requests, see [`RequestRow::write`], one after the other.
///
/// The key and all columns in their order: then SQLite does not move the values. A constraint that is violated ends the
/// run's transaction, so nothing has to be undone before (OR FAIL), and SQLite keeps no copy of the pages that a statement
/// changes.
pub(super) fn insert_sql(rows: usize) -> String {
    let row = format!("(NULL{})", ",?".repeat(REQUEST_COLUMNS.len()));
    format!("INSERT OR FAIL INTO request VALUES {}", vec![row; rows].join(","))
}

/// Reads the requests of a database of one schema version.
pub(super) struct RequestReader {
    columns: Vec<&'static Column>,
    /// The start of the run.
    start: Tick,
    /// The sum of each column so far, without times.
    totals: Vec<u64>,
}

impl RequestReader {
    /// Reads the columns that such a file has, as far as `detail` asks for them.
    pub(super) fn new(version: i64, detail: Detail, start: Tick) -> RequestReader {
        let columns: Vec<&Column> = REQUEST_COLUMNS.iter().filter(|column| column.is_read(version, detail)).collect();
        RequestReader { totals: vec![0; columns.len()], columns, start }
    }

    /// The SELECT list.
    pub(super) fn select_list(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",")
    }

    /// Appends the request in `row`, a result of the SELECT, to `block`.
    ///
    /// # Errors
    /// Also if a time is not one of the run, or a sum of counts or durations is too large.
    pub(super) fn read(&mut self, row: &Row<'_>, block: &mut Block) -> rusqlite::Result<()> {
        let mut record = RequestRecord::default();
        for position in 0..self.columns.len() {
            if let Some(read) = self.columns[position].read {
                read(row, position, &mut record, block)?;
            }
            if let ValueRef::Integer(value) = row.get_ref(position)? {
                self.check(position, value)?;
            }
        }
        for span in [record.arrivals, record.silent] {
            span.slice(&block.arrivals).iter().try_for_each(|&at| check_time(self.start, at, 0))?;
        }
        block.records.push(record);
        Ok(())
    }

    fn check(&mut self, position: usize, value: i64) -> rusqlite::Result<()> {
        if self.columns[position].is_time {
            return check_time(self.start, Tick(value as u64), position);
        }
        let total = &mut self.totals[position];
        *total = total.saturating_add(value as u64);
        if *total > MAX_TOTAL {
            return Err(rusqlite::Error::IntegralValueOutOfRange(position, value));
        }
        Ok(())
    }
}
