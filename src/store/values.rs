//! How the types of a record are stored in SQLite, whose only integer is a signed one of 64 bits.

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Type, ValueRef};

use crate::record::{Finish, Oddities, Outcome, Phase, TokenSource};
use crate::time::Tick;

/// A NULL to write.
pub(super) const NULL: ToSqlOutput<'static> = ToSqlOutput::Borrowed(ValueRef::Null);

/// A type of which a value is stored in one column.
pub(super) trait ColumnValue: Sized {
    /// The value to bind.
    fn write(&self) -> ToSqlOutput<'_>;

    /// The value in this column of a result row.
    ///
    /// # Errors
    /// When the column holds a value of another type or range, or a name that is not one of the type's.
    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self>;
}

impl<T: ColumnValue> ColumnValue for Option<T> {
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

/// Values above `i64::MAX` are stored as negative numbers.
impl ColumnValue for u64 {
    fn write(&self) -> ToSqlOutput<'_> {
        ToSqlOutput::from(*self as i64)
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        row.get::<_, i64>(column).map(|value| value as u64)
    }
}

impl ColumnValue for Tick {
    fn write(&self) -> ToSqlOutput<'_> {
        self.0.write()
    }

    fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Self> {
        u64::read(row, column).map(Tick)
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

/// The error for a value that ringmark never writes into this column.
pub(super) fn unexpected_value(column: usize, value: &str) -> rusqlite::Error {
    let reason = format!("unexpected value '{value}'");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}
