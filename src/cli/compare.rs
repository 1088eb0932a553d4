//! `ringmark compare`: two or more stored runs side by side.

use std::path::PathBuf;

use clap::Args;

use super::measure::screen_width;
use super::{Early, status, values};
use crate::report::compare::{Named, html, render};
use crate::report::{Measured, measured, workload};
use crate::spec::Language;

/// Flags of `ringmark compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Databases of runs (benchmark_data.db); each is compared with the first
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
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
    let read = |path: &PathBuf| measured(path).map_err(|error| mistake(error.to_string()));
    let runs: Vec<Measured> = args.files.iter().map(read).collect::<Result<_, _>>()?;
    for (run, file) in runs.iter().zip(&args.files).skip(1) {
        let differences = workload::differences(&runs[0], run);
        if !differences.is_empty() && !args.force {
            let (a, b) = (args.files[0].display(), file.display());
            let what = differences.join("; ");
            return Err(mistake(format!(
                "{a} and {b} measured different workloads ({what}): compare runs of one workload, or add --force"
            )));
        }
    }
    let named: Vec<Named<'_>> =
        runs.iter().zip(&args.files).map(|(run, file)| Named { name: file.display().to_string(), run }).collect();
    print!("{}", render(&named, screen_width()));
    if let Some(path) = &args.html {
        std::fs::write(path, html(&named, args.language))
            .map_err(|error| mistake(format!("cannot write {}: {error}", path.display())))?;
        println!("HTML page: {}", path.display());
    }
    Ok(if runs.iter().any(|run| run.summary.is_void()) { status::VOID } else { status::DONE })
}
