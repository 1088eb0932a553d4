//! Errors of a database.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

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
    #[error("{path} is not a ringmark database ({reason}): pass the benchmark_data.db of a run")]
    NotOfOurShape { path: PathBuf, reason: String },
    #[error("{path} has schema {found}, this ringmark reads {expected}: use the version of ringmark that wrote it")]
    Schema { path: PathBuf, found: i64, expected: i64 },
    #[error("cannot write {path}: {reason}")]
    Write { path: PathBuf, reason: String },
    #[error("cannot read {path}: {reason}")]
    Read { path: PathBuf, reason: String },
}

impl StoreError {
    /// The file is not a database of a run.
    pub fn is_foreign(&self) -> bool {
        matches!(self, StoreError::NotOurs(_) | StoreError::NotOfOurShape { .. })
    }

    pub(super) fn write(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Write { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn read(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Read { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// SQLite takes no lock in each call: only one thread at a time uses a [`Connection`].
pub(super) const UNLOCKED: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// Opens an existing database to read it. The error is one line.
///
/// Writable first, so that SQLite can recover what a killed run left in its -wal file. In a folder that is read-only
/// it cannot create the files that this mode needs; a database without a -wal file is then read as a file that nobody
/// changes.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, String> {
    let readable = |connection: &Connection| connection.query_row("PRAGMA user_version", [], |_| Ok(()));
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | UNLOCKED)
        .or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | UNLOCKED))
        .map_err(|error| error.to_string())?;
    let error = match readable(&opened) {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, ErrorCode::CannotOpen | ErrorCode::ReadOnly) =>
        {
            error
        }
        // Other errors, such as that of a file that is no database, are those of the first query.
        _ => return Ok(opened),
    };
    let mut wal = path.as_os_str().to_os_string();
    wal.push("-wal");
    if std::fs::metadata(&wal).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(format!(
            "{error}; it and its -wal file can be read only in a folder that can be written to: copy both there"
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | UNLOCKED;
    Connection::open_with_flags(immutable_uri(path), flags).map_err(|error| error.to_string())
}

/// The URI that opens a file as one that does not change.
fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_string();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    // Two slashes at the start would name a host.
    uri.replacen("file://", "file:////", 1) + "?immutable=1"
}

/// Opens an existing database.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, flags | UNLOCKED)
        .map_err(|e| StoreError::Open { path: path.to_path_buf(), reason: e.to_string() })
}
