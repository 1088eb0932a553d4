//! Protection from databases that ringmark did not write: a file that is no file, a view without end in place of a table,
//! pages that are linked to a circle.

use std::fs;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

/// Steps of SQLite between two checks.
const CHECK_STEPS: i32 = 100_000;
/// Steps that reading a database may take for each of its bytes, over all queries. Tables, exports and the HTML report
/// take fewer than 20.
const STEPS_PER_BYTE: u64 = 200;
/// Steps for a database of any size.
const FREE_STEPS: u64 = 50_000_000;
/// The message of SQLite when the limit is reached.
const INTERRUPTED: &str = "interrupted";

/// The size of a database with its log, bytes.
///
/// # Errors
/// One line: it cannot be read, or is no regular file. A FIFO would block without end.
pub(super) fn file_bytes(path: &Path) -> Result<u64, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_string());
    }
    let mut log = path.as_os_str().to_os_string();
    log.push("-wal");
    Ok(metadata.len() + fs::metadata(log).map_or(0, |metadata| metadata.len()))
}

/// Checks that everything that is read is a table of plain values, and limits the work of all queries by the size of the
/// file.
pub(super) fn protect(connection: &mut Connection, bytes: u64) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    // Functions with side effects must not be called by the schema of the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(text)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(text)?;
    let limit = bytes.saturating_mul(STEPS_PER_BYTE).saturating_add(FREE_STEPS);
    let mut steps = 0u64;
    let reached = move || {
        steps += CHECK_STEPS as u64;
        steps > limit
    };
    connection.progress_handler(CHECK_STEPS, Some(reached)).map_err(text)?;
    let odd = "SELECT name FROM sqlite_schema WHERE name IN ('run', 'body', 'request', 'worker', 'stall', 'lag', 'finding', \
               'server_sample', 'clock_exchange') AND (type <> 'table' OR rootpage = 0 OR rootpage IS NULL OR EXISTS (SELECT 1 FROM \
               pragma_table_xinfo(sqlite_schema.name) WHERE hidden <> 0))";
    let odd: Option<String> = connection.query_row(odd, [], |row| row.get(0)).optional().map_err(text)?;
    match odd {
        Some(name) => Err(format!("'{name}' is not a table as ringmark writes it")),
        None => Ok(()),
    }
}

/// The reason of a failed query, with an explanation if the limit of [`protect`] was reached.
pub(super) fn explained(reason: String) -> String {
    if reason == INTERRUPTED {
        return "it has more rows than fit into a file of its size: it is damaged, or ringmark did not write it"
            .to_string();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected(schema: &str) -> Result<Connection, String> {
        let mut connection = Connection::open_in_memory().map_err(|error| error.to_string())?;
        connection.execute_batch(schema).map_err(|error| error.to_string())?;
        protect(&mut connection, 0).map(|()| connection)
    }

    #[test]
    fn only_tables_of_plain_values_are_read() {
        assert!(protected("CREATE TABLE request (id INTEGER PRIMARY KEY); CREATE VIEW other AS SELECT 1").is_ok());
        for schema in [
            "CREATE VIEW request AS WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT n FROM a",
            "CREATE TABLE run (key TEXT, value AS (zeroblob(1000000000)))",
            "CREATE TABLE run (key TEXT, value AS (zeroblob(1000000000)) STORED)",
        ] {
            let error = protected(schema).unwrap_err();
            assert!(error.contains("is not a table as ringmark writes it"), "{error}");
        }
    }

    #[test]
    fn queries_end_with_the_limit_for_the_size_of_the_file() {
        let connection = protected("CREATE TABLE run (key, value)").unwrap();
        let endless = "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT count(*) FROM a";
        let error = connection.query_row(endless, [], |row| row.get::<_, i64>(0)).unwrap_err();
        assert!(explained(error.to_string()).contains("more rows than fit"), "{error}");
        assert_eq!(explained("no such table: run".to_string()), "no such table: run");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(file_bytes(folder.path()).unwrap_err().contains("not a regular file"));
        assert!(file_bytes(Path::new("/dev/zero")).unwrap_err().contains("not a regular file"));
        assert!(file_bytes(&folder.path().join("x")).is_err());
    }
}
