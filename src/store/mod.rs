//! The database of a run: one SQLite file that SQL users can read, and from which every table can be made again.
//!
//! The file is made before the run and written in transactions while it goes on, in SQLite's write-ahead mode: after
//! `kill -9` the file and its `-wal` neighbour hold every batch that was committed. A run that ends in order leaves
//! one single file.

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

/// What can go wrong with a database, with the file named and the next step said.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} exists already: give another --outputs-dir or --name, or remove it")]
    Exists(PathBuf),
    #[error("cannot make {path}: {reason}")]
    Create { path: PathBuf, reason: String },
    #[error("cannot open {path}: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error("{0} is not a ringmark database: give the benchmark_data.db of a run")]
    NotOurs(PathBuf),
    #[error("{path} has schema {found}, this ringmark reads {expected}: use the ringmark that wrote it")]
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
