//! How the types of a record are stored in SQLite, whose only integer is a signed one of 64 bits.

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Type, ValueRef};

use crate::record::{Finish, Oddities, Outcome, Phase, TokenSource};
use crate::time::Tick;

/// A NULL to write.
pub(super) const NULL: ToSqlOutput<'static> = ToSqlOutput::Borrowed(ValueRef::Null);

/// Maximum of a count or a duration: 104 days in nanoseconds.
pub(super) const MAX: u64 = 1 << 53;
/// Maximum of the sum of a column of counts or durations, so that no figure overflows.
pub(super) const MAX_TOTAL: u64 = 1 << 62;
/// How long before the start of its run a time may be, nanoseconds: one day.
const BEFORE_START_NS: u64 = 24 * 3600 * 1_000_000_000;

/// A type of which a value is stored in one column.
pub(super) trait ColumnValue: Sized {
    /// Whether it is a time of the run's clock; such values are checked with [`check_time`].
    const IS_TIME: bool = false;

    /// The value to bind.
    fn write(&self) -> ToSqlOutput<'_>;

    /// The value in this column of a result row.
    ///
    /// # Errors
    /// When the column holds a value of another type or range, or a name that is not one of the type's.
    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self>;
}

impl<T: ColumnValue> ColumnValue for Option<T> {
    const IS_TIME: bool = T::IS_TIME;

    fn write(&self) -> ToSqlOutput<'_> {
        self.as_ref().map_or(NULL, T::write)
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        match row.get_ref(column)? {
            ValueRef::Null => Ok(None),
            _ => T::read(row, column).map(Some),
        }
    }
}

/// Only values up to [`MAX`] are read.
impl ColumnValue for u64 {
    fn write(&self) -> ToSqlOutput<'_> {
        ToSqlOutput::from(*self as i64)
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        let value = row.get::<_, i64>(column)?;
        match u64::try_from(value) {
            Ok(count) if count <= MAX => Ok(count),
            _ => Err(rusqlite::Error::IntegralValueOutOfRange(column, value)),
        }
    }
}

/// Values above `i64::MAX` are stored as negative numbers.
impl ColumnValue for Tick {
    const IS_TIME: bool = true;

    fn write(&self) -> ToSqlOutput<'_> {
        self.0.write()
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        row.get::<_, i64>(column).map(|value| Tick(value as u64))
    }
}

/// Types that rusqlite stores as they are.
macro_rules! plain_values {
    ($($type:ty),*) => {$(
        impl ColumnValue for $type {
            fn write(&self) -> ToSqlOutput<'_> {
                ToSqlOutput::from(*self)
            }

            fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
                row.get(column)
            }
        }
    )*};
}

plain_values!(bool, u16, u32, i64);

/// Enums that are stored by their names.
macro_rules! named_values {
    ($($type:ty),*) => {$(
        impl ColumnValue for $type {
            fn write(&self) -> ToSqlOutput<'_> {
                ToSqlOutput::from(self.name())
            }

            fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
                let name = row.get_ref(column)?.as_str()?;
                <$type>::from_name(name).ok_or_else(|| unexpected_value(column, name))
            }
        }
    )*};
}

named_values!(Phase, Outcome, TokenSource, Finish);

/// Stored as names, separated by commas.
impl ColumnValue for Oddities {
    fn write(&self) -> ToSqlOutput<'_> {
        if self.is_empty() { NULL } else { ToSqlOutput::from(self.names()) }
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        let names = row.get_ref(column)?.as_str_or_null()?.unwrap_or_default();
        Oddities::from_names(names).ok_or_else(|| unexpected_value(column, names))
    }
}

/// Checks that a time lies between a day before the start of the run and 104 days after it.
pub(super) fn check_time(start: Tick, at: Tick, column: usize) -> rusqlite::Result<()> {
    let from = start.0.saturating_sub(BEFORE_START_NS);
    match (from..=start.0.saturating_add(MAX)).contains(&at.0) {
        true => Ok(()),
        false => Err(rusqlite::Error::IntegralValueOutOfRange(column, at.0 as i64)),
    }
}

/// Names the row of a table in the error for a value out of range.
pub(super) fn in_row<T>(table: &str, row: &Row<'_>, read: rusqlite::Result<T>) -> rusqlite::Result<T> {
    read.map_err(|error| match error {
        rusqlite::Error::IntegralValueOutOfRange(..) => {
            let number = row.get::<_, i64>("row_number").unwrap_or_default();
            let reason = format!("row {number} of {table} has a value out of range");
            rusqlite::Error::ToSqlConversionFailure(reason.into())
        }
        error => error,
    })
}

/// The error for a value that ringmark never writes into this column.
pub(super) fn unexpected_value(column: usize, value: &str) -> rusqlite::Error {
    let reason = format!("unexpected value '{value}'");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}
