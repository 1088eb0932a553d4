//! Where a call writes: the screen, and the files in its folder.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::report::html;
use crate::run::{FinishedRun, RunError};
use crate::spec::Spec;

/// Width of tables in files, and on a standard output that is no terminal, columns.
pub const FILE_WIDTH: usize = 140;
/// The tables of a call, as text.
pub const SUMMARY: &str = "performance_summary.txt";
/// The log of a call.
pub const LOG_FILE: &str = "benchmark.log";

/// Prints a text and appends it to the files of the call, each in its width.
pub fn print_and_append(spec: &Spec, root: &Path, text: &dyn Fn(usize) -> String) -> Result<(), RunError> {
    append(&text(FILE_WIDTH), root)?;
    if !spec.output.quiet {
        print!("{}", text(screen_width()));
    }
    Ok(())
}

/// Writes the HTML report over all runs of the call.
pub fn write_html(spec: &Spec, finished: &[FinishedRun], root: &Path) -> Result<(), RunError> {
    let databases = databases(finished);
    if databases.is_empty() {
        return Ok(());
    }
    let path = root.join("perf_report.html");
    let page = html::from_databases(&databases, spec.output.language)?;
    std::fs::write(&path, page).map_err(|cause| RunError::File { path, cause })
}

/// The databases of runs.
pub fn databases(finished: &[FinishedRun]) -> Vec<PathBuf> {
    finished.iter().map(|run| run.database.clone()).collect()
}

/// Appends to the text files of the call.
pub fn append(text: &str, root: &Path) -> Result<(), RunError> {
    append_to(text, root, SUMMARY)?;
    append_to(text, root, LOG_FILE)
}

/// Appends to one of the text files of the call.
pub fn append_to(text: &str, root: &Path, name: &str) -> Result<(), RunError> {
    let path = root.join(name);
    let opened = File::options().create(true).append(true).open(&path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|cause| RunError::File { path, cause })
}

/// Puts a text before what a file holds. The file is never without its content: a new one takes its place.
pub fn prepend_to(text: &str, root: &Path, name: &str) -> Result<(), RunError> {
    let (path, new) = (root.join(name), root.join(format!("{name}.new")));
    let written = std::fs::read_to_string(&path)
        .and_then(|before| std::fs::write(&new, format!("{}{before}", text.trim_start())))
        .and_then(|()| std::fs::rename(&new, &path));
    written.map_err(|cause| RunError::File { path, cause })
}

/// Standard output is a terminal, and nobody asked for none.
pub fn screen_has_colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal that standard output is; [`FILE_WIDTH`] where it is none.
pub fn screen_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(FILE_WIDTH, |size| usize::from(size.ws_col).max(1))
}
