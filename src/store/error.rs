//! Errors of a database.

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
    pub(super) fn write(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Write { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn read(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Read { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// Opens an existing database.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })
}
