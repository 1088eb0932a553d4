//! `ringmark compare`: two or more stored runs side by side.

use std::path::{Path, PathBuf};

use clap::Args;

use super::measure::screen_width;
use super::{Early, status, values};
use crate::report::compare::{Side, html, render};
use crate::report::repeats::are_repeats;
use crate::report::{Measured, measured, workload};
use crate::spec::Language;

/// Flags of `ringmark compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Databases of runs (benchmark_data.db), or folders that hold them; each is compared with the first. Runs of one call
    /// with one load (--repeat) count together
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Compare runs of different workloads all the same
    #[arg(long)]
    pub force: bool,
    /// Write the comparison as an HTML page to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Language of the HTML page: en, zh
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
}

/// Prints the differences.
pub fn show(args: &CompareArgs) -> Result<u8, Early> {
    let mistake = |text: String| Early::mistake(&text);
    let mut files = Vec::new();
    for path in &args.files {
        files.extend(databases(path).map_err(mistake)?);
    }
    if files.len() < 2 {
        return Err(mistake(
            "there is only one run: give two or more databases, or folders that hold them".to_string(),
        ));
    }
    let read = |path: &PathBuf| measured(path).map_err(|error| mistake(error.to_string()));
    let runs: Vec<Measured> = files.iter().map(read).collect::<Result<_, _>>()?;
    let sides = sides(&runs, &files);
    for side in sides.iter().skip(1) {
        let differences = workload::differences(sides[0].runs[0], side.runs[0]);
        if !differences.is_empty() && !args.force {
            let (a, b, what) = (&sides[0].name, &side.name, differences.join("; "));
            return Err(mistake(format!(
                "{a} and {b} measured different workloads ({what}): compare runs of one workload, or add --force"
            )));
        }
    }
    print!("{}", render(&sides, screen_width()));
    if let Some(path) = &args.html {
        std::fs::write(path, html(&sides, args.language))
            .map_err(|error| mistake(format!("cannot write {}: {error}", path.display())))?;
        println!("HTML page: {}", path.display());
    }
    Ok(if runs.iter().any(|run| run.summary.is_void()) { status::VOID } else { status::DONE })
}

/// The repeats of one load together; where that leaves nothing to compare, every run by itself.
fn sides<'a>(runs: &'a [Measured], files: &[PathBuf]) -> Vec<Side<'a>> {
    let mut sides: Vec<Side<'a>> = Vec::new();
    for (run, file) in runs.iter().zip(files) {
        match sides.iter_mut().find(|side| are_repeats(&side.runs[0].summary, &run.summary)) {
            Some(side) => side.runs.push(run),
            None => sides.push(Side { name: file.display().to_string(), runs: vec![run] }),
        }
    }
    if sides.len() > 1 {
        return sides;
    }
    let alone = |(run, file): (&'a Measured, &PathBuf)| Side { name: file.display().to_string(), runs: vec![run] };
    runs.iter().zip(files).map(alone).collect()
}

/// The file itself, or every database of a run below the folder, by name.
fn databases(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if entry.file_name() == "benchmark_data.db" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    let none = || format!("{} holds no run: no benchmark_data.db is below it", path.display());
    if found.is_empty() { Err(none()) } else { Ok(found) }
}
