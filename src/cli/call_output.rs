//! Output of a call: standard output, and the text and HTML files in the results folder.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::progress::Bars;
use super::terminal::Output;
use crate::files;
use crate::report::html;
use crate::run::{FinishedRun, RunError};
use crate::search::Selection;
use crate::spec::Spec;

/// Width of tables in files, and on standard output if it is not a terminal, in columns.
pub const FILE_WIDTH: usize = 140;
/// File with the tables of a call.
pub const SUMMARY: &str = "performance_summary.txt";
/// File with the HTML report of a call.
pub const PAGE: &str = "perf_report.html";
/// File with the log of a call.
pub const LOG_FILE: &str = "benchmark.log";

/// What was measured: the runs, the exit status, and the error that ended the call or the writing of its files.
pub struct Measured {
    pub runs: Vec<FinishedRun>,
    /// Names of the loads of runs that were not started.
    pub not_started: Vec<String>,
    /// The search for a load, if the call was one.
    pub search: Option<MeasuredSearch>,
    pub status: u8,
    pub error: Option<RunError>,
}

/// The result of a search for a load.
pub struct MeasuredSearch {
    /// The content of `sla_summary.json`.
    pub json: Json,
    pub selections: Vec<Selection>,
}

/// Where a call of `perf` prints its tables.
#[derive(Debug)]
pub struct Screen {
    pub bars: Bars,
    pub quiet: bool,
    /// Print all tables of each run.
    pub verbose: bool,
    pub output: Output,
}

impl Screen {
    /// Prints `text` with the width of the terminal, unless `--quiet` is given.
    pub fn print(&self, text: &dyn Fn(usize) -> String) {
        if !self.quiet {
            self.bars.leave_full_screen();
            self.output.print(&text(self.output.width(FILE_WIDTH)));
        }
    }

    /// Prints a text even with `--quiet`.
    pub fn print_always(&self, text: &str) {
        self.bars.leave_full_screen();
        self.output.print(text);
    }

    /// Prints `text`, then appends it to the summary and the log. `text` gets the width in columns.
    pub fn print_and_append(&self, root: &Path, text: &dyn Fn(usize) -> String) -> Result<(), RunError> {
        self.print(text);
        append(&text(FILE_WIDTH), root)
    }
}

/// Writes the HTML report over all runs of the call.
pub fn write_html(spec: &Spec, finished: &[FinishedRun], root: &Path) -> Result<(), RunError> {
    let databases = databases(finished);
    if databases.is_empty() {
        return Ok(());
    }
    let path = root.join(PAGE);
    let page = html::from_databases(&databases, spec.output.language)?;
    files::replace(&path, page.as_bytes()).map_err(|cause| RunError::File { path, cause })
}

/// The database paths of `finished`.
pub fn databases(finished: &[FinishedRun]) -> Vec<PathBuf> {
    finished.iter().map(|run| run.database.clone()).collect()
}

/// Appends `text` to the summary and the log in `root`.
pub fn append(text: &str, root: &Path) -> Result<(), RunError> {
    // Each file, even if the other one cannot be written.
    let (summary, log) = (append_to(text, root, SUMMARY), append_to(text, root, LOG_FILE));
    summary.and(log)
}

/// Appends `text` to the file `name` in `root`.
pub fn append_to(text: &str, root: &Path, name: &str) -> Result<(), RunError> {
    let path = root.join(name);
    let written = files::append(&path, text.as_bytes());
    written.map_err(|cause| RunError::File { path, cause })
}

/// Inserts `text` at the start of the file `name` in `root`. A new file replaces the old one atomically.
pub fn prepend_to(text: &str, root: &Path, name: &str) -> Result<(), RunError> {
    let path = root.join(name);
    let written = std::fs::read_to_string(&path)
        .and_then(|before| files::replace(&path, format!("{}{before}", text.trim_start()).as_bytes()));
    written.map_err(|cause| RunError::File { path, cause })
}

/// Width of the terminal on standard output, in columns; [`FILE_WIDTH`] if it is not a terminal.
pub fn screen_width() -> usize {
    Output::default().width(FILE_WIDTH)
}
