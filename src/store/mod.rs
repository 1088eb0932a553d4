//! The database of a run: one SQLite file for SQL users, from which every table of a report can be computed again.
//!
//! The file is created before the run and written in transactions during the run, in SQLite's write-ahead mode: after
//! `kill -9`, the file and its `-wal` file hold every committed batch. A run that ends normally leaves a single file.
//!
//! [`schema`] has the tables, [`columns`] the columns of the table `request`.

pub mod answers;
pub mod collector;
pub mod columns;
pub mod evalscope;
pub mod live;
mod pickle;
pub mod reader;
pub mod schema;
mod values;
pub mod writer;

pub use reader::{Reader, StoredRun};
pub use writer::{RunStart, Writer};

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

/// An error of a database. Its text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} already exists: choose another --outputs-dir or --name, or remove it")]
    Exists(PathBuf),
    #[error("cannot create {path}: {reason}")]
    Create { path: PathBuf, reason: String },
    #[error("cannot open {path}: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error("{0} is not a ringmark database: pass the benchmark_data.db of a run")]
    NotOurs(PathBuf),
    #[error("{path} has schema {found}, this ringmark reads {expected}: use the version of ringmark that wrote it")]
    Schema { path: PathBuf, found: i64, expected: i64 },
    #[error("cannot write {path}: {reason}")]
    Write { path: PathBuf, reason: String },
    #[error("cannot read {path}: {reason}")]
    Read { path: PathBuf, reason: String },
}

impl StoreError {
    fn write(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Write { path: path.to_path_buf(), reason: reason.to_string() }
    }

    fn read(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Read { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })
}
