//! The INSERT of requests: several rows per statement, and only the values that differ from those bound before.
//!
//! Most columns of a request hold what they held in the one before: NULL, 0 or the same name. SQLite keeps the values
//! that are bound when a statement has run, so that a value is bound again only if it differs from the one of the same
//! row of the statement's last run. What a statement costs beside its rows, such as finding the end of the table, is
//! paid once for [`ROWS`] requests.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection};

use super::columns::{REQUEST_COLUMNS, RequestRow, ValueSink, insert_sql};

/// The requests of a statement, if there are so many.
pub(super) const ROWS: usize = 8;

/// A statement that inserts a number of requests at a time.
pub(super) struct RequestInsert<'c> {
    statement: CachedStatement<'c>,
    /// What is bound to each parameter.
    bound: Vec<Bound>,
    /// Parameters that have the values of the next run.
    filled: usize,
}

impl RequestInsert<'_> {
    /// A statement for this number of requests.
    pub fn prepare(connection: &Connection, rows: usize) -> rusqlite::Result<RequestInsert<'_>> {
        // A cached statement has no values bound.
        let statement = connection.prepare_cached(&insert_sql(rows))?;
        Ok(RequestInsert { statement, bound: vec![Bound::Null; rows * REQUEST_COLUMNS.len()], filled: 0 })
    }

    /// Adds a request. The statement runs when it has all of its requests.
    pub fn add(&mut self, row: &RequestRow<'_>) -> rusqlite::Result<()> {
        row.write(self)?;
        if self.filled == self.bound.len() {
            self.filled = 0;
            self.statement.raw_execute()?;
        }
        Ok(())
    }

    #[inline(never)]
    fn bind(&mut self, parameter: usize, value: ToSqlOutput<'_>) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(parameter, value)
    }
}

impl ValueSink for RequestInsert<'_> {
    #[inline(always)]
    fn take(&mut self, value: ToSqlOutput<'_>) -> rusqlite::Result<()> {
        let bound = &mut self.bound[self.filled];
        self.filled += 1;
        let now = Bound::from_value(&value);
        if now == *bound && now != Bound::Other {
            return Ok(());
        }
        *bound = now;
        self.bind(self.filled, value)
    }
}

/// The longest text that is compared: all names of phases, outcomes and the like.
const MAX_COMPARED_BYTES: usize = 15;

/// The value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Null,
    Integer(i64),
    Text {
        length: u8,
        /// Zeros behind the text.
        bytes: [u8; MAX_COMPARED_BYTES],
    },
    /// A value that is not compared.
    Other,
}

impl Bound {
    #[inline(always)]
    fn from_value(value: &ToSqlOutput<'_>) -> Bound {
        match value {
            ToSqlOutput::Borrowed(ValueRef::Null) | ToSqlOutput::Owned(Value::Null) => Bound::Null,
            ToSqlOutput::Borrowed(ValueRef::Integer(number)) | ToSqlOutput::Owned(Value::Integer(number)) => {
                Bound::Integer(*number)
            }
            ToSqlOutput::Borrowed(ValueRef::Text(text)) if text.len() <= MAX_COMPARED_BYTES => {
                let mut bytes = [0; MAX_COMPARED_BYTES];
                bytes[..text.len()].copy_from_slice(text);
                Bound::Text { length: text.len() as u8, bytes }
            }
            _ => Bound::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_of_one_type_count_as_bound() {
        let of = |value: ToSqlOutput<'_>| Bound::from_value(&value);
        assert_eq!(of(0_i64.into()), of(false.into()));
        assert_eq!(of("ok".into()), of("ok".into()));
        let null = ToSqlOutput::Borrowed(ValueRef::Null);
        let values = [of(null), of(0_i64.into()), of("".into()), of("\0".into()), of("0".into())];
        for (place, value) in values.iter().enumerate() {
            assert!(values[..place].iter().all(|other| other != value), "{value:?}");
        }
        // The longest name, and a text or bytes that may be of any length.
        assert_ne!(of("in_stream_error".into()), Bound::Other);
        assert_eq!(of("0123456789abcdef".into()), Bound::Other);
        assert_eq!(of((&b"x"[..]).into()), Bound::Other);
    }
}
