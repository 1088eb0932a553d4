//! `ringmark report`: the tables again, and the HTML report, from stored runs.

use std::path::PathBuf;

use clap::Args;

use super::measure::{screen_has_colours, screen_width};
use super::{Early, status, values};
use crate::plan::export;
use crate::report::export::write_all;
use crate::report::{from_database, html, overview, screen};
use crate::spec::Language;
use crate::stats::Summary;

/// Flags of `ringmark report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Databases of runs (benchmark_data.db)
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write the HTML report over all of them to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Language of the HTML report: en, zh
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
    /// Write a row for each run in the columns of LMDeploy's throughput profiling
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a file for another tool: vllm, aiperf, llmd, or evalscope-db
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1)]
    pub export: Vec<String>,
}

/// Prints the tables of each file, and of several the combined report.
pub fn show(args: &ReportArgs) -> Result<u8, Early> {
    let mistake = |text: String| Early::mistake(&text);
    let exports = export::scan(args.csv.as_deref(), &args.export, None).map_err(|error| mistake(error.to_string()))?;
    let mut summaries: Vec<Summary> = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let summary = from_database(file).map_err(|error| mistake(error.to_string()))?;
        if args.files.len() > 1 {
            println!("{}", file.display());
        }
        print!("{}", screen::render(&summary, screen_width()));
        summaries.push(summary);
    }
    let runs: Vec<&Summary> = summaries.iter().collect();
    if runs.len() > 1 {
        print!("{}", overview::render(&runs, None, screen_width(), screen_has_colours()));
    }
    if let Some(path) = &args.html {
        let page = html::from_databases(&args.files, args.language).map_err(|error| mistake(error.to_string()))?;
        std::fs::write(path, page).map_err(|error| mistake(format!("cannot write {}: {error}", path.display())))?;
        println!("HTML report: {}", path.display());
    }
    let written = write_all(&exports, &args.files).map_err(|error| mistake(error.to_string()))?;
    written.iter().for_each(|path| println!("Written: {}", path.display()));
    Ok(if runs.iter().any(|run| run.is_void()) { status::VOID } else { status::DONE })
}
