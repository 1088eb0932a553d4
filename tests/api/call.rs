//! Runs the binary and reads its results.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// A finished call.
pub struct Call {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    folder: TempDir,
}

/// Splits a command line as a shell does: quotes, and backslashes at line ends.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.replace("\\\n", " ").chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Runs `ringmark perf` with these arguments in a new folder with `files`.
pub fn perf(arguments: &[String], files: &[(&str, &str)]) -> Call {
    let quiet = [arguments, &["--quiet".to_string()]].concat();
    perf_aloud(&quiet, files)
}

/// The same, with what it prints.
pub fn perf_aloud(arguments: &[String], files: &[(&str, &str)]) -> Call {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .arg("perf")
        .args(arguments)
        .args(["--outputs-dir", "out", "--no-timestamp"])
        .current_dir(folder.path())
        .env_remove("HTTP_PROXY")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Call { status: output.status.code().unwrap_or(-1), stdout, stderr, folder }
}

/// Like [`perf`], for a command line.
pub fn line(text: &str, files: &[(&str, &str)]) -> Call {
    perf(&words(text), files)
}

impl Call {
    /// The folder of the first run.
    fn run(&self) -> PathBuf {
        let named = only_folder(&self.folder.path().join("out"));
        only_folder(&named)
    }

    /// The tables of the call.
    pub fn tables(&self) -> String {
        let named = only_folder(&self.folder.path().join("out"));
        std::fs::read_to_string(named.join("performance_summary.txt")).unwrap()
    }

    pub fn summary(&self) -> Value {
        let text = std::fs::read_to_string(self.run().join("benchmark_summary.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// `benchmark_args.json` and the arguments in the database.
    pub fn arguments(&self) -> String {
        let file = std::fs::read_to_string(self.run().join("benchmark_args.json")).unwrap();
        file + &self.column("SELECT value FROM run WHERE key = 'arguments'").join("")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(only_folder(&self.folder.path().join("out")).join("benchmark.log")).unwrap()
    }

    pub fn number(&self, key: &str) -> f64 {
        self.summary()[key].as_f64().unwrap_or_else(|| panic!("{key}: {:#}", self.summary()))
    }

    fn column(&self, sql: &str) -> Vec<String> {
        let database = Connection::open(self.run().join("benchmark_data.db")).unwrap();
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.map(|row| row.unwrap().unwrap_or_default()).collect()
    }

    /// The distinct request bodies.
    pub fn bodies(&self) -> Vec<Value> {
        self.column("SELECT json FROM body").iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// A column of the measured requests as text.
    pub fn requests(&self, column: &str) -> Vec<String> {
        self.column(&format!("SELECT CAST({column} AS TEXT) FROM request WHERE phase = 'measured' ORDER BY idx"))
    }

    /// The texts of the findings.
    pub fn findings(&self) -> Vec<String> {
        self.column("SELECT text FROM finding")
    }

    /// Asserts that all requests succeeded. Status 3 is accepted, because a busy machine can make the figures void.
    #[track_caller]
    pub fn check(&self, number: f64) {
        assert!(matches!(self.status, 0 | 3), "{}: {}", self.status, self.stderr);
        let succeeded = self.number("Succeed requests");
        assert_eq!((succeeded, self.number("Failed requests")), (number, 0.0), "{:?}", self.requests("error"));
    }

    /// Asserts that the witness had responses and no failures.
    #[track_caller]
    pub fn witnessed(&self) {
        assert!(matches!(self.status, 0 | 3), "{}: {}", self.status, self.stderr);
        let witness = &self.summary()["Witness"];
        assert!(witness["counted"].as_u64().unwrap() > 2 && witness["failed"] == 0, "{witness:#}");
    }
}

fn only_folder(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).find(|path| path.is_dir() && !path.is_symlink()).unwrap()
}
