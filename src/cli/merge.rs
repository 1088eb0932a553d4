//! `ringmark merge`: the shards of a load as one run.

use std::path::{Path, PathBuf};

use clap::Args;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::run_files::databases;
use super::terminal::print;
use crate::files;
use crate::options::Language;
use crate::plan::export::Export;
use crate::report::export::write_runs;
use crate::report::merge::groups;
use crate::report::{html, screen};
use crate::spec::output::exports;
use crate::spec::values;

/// Flags of `ringmark merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Folders with the databases of all shards, such as the one that 'perf' prints after 'Results:', or its parent; or the
    /// databases (benchmark_data.db)
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Accept runs with shards that are missing or were killed: a caution instead of a void result
    #[arg(long)]
    pub allow_missing: bool,
    /// Write an HTML report of all runs to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Language in which the HTML report opens: en, zh. It contains both
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
    /// Write the figures of the run, of each shard, and the joint ones with both ends as JSON to FILE; several runs give a
    /// list
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a CSV file with one row for each run, in the columns of LMDeploy's profile_throughput.py
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a file in the format of another tool: vllm, aiperf, llmd, evalscope-db, or lmdeploy-api (the CSV of its
    /// profile_restful_api.py); or a folder for evalscope's own reports and dashboards: evalscope=DIR
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1)]
    pub export: Vec<String>,
}

/// What is written beside the tables.
#[derive(Clone, Debug, Default)]
pub(super) struct MergeOutput {
    pub html: Option<PathBuf>,
    pub language: Language,
    pub json: Option<PathBuf>,
    pub exports: Vec<Export>,
}

pub(crate) fn show(args: &MergeArgs) -> Result<u8, EarlyExit> {
    let mut files = Vec::new();
    for path in &args.files {
        files.extend(databases(path).map_err(|text| EarlyExit::error(&text))?);
    }
    let MergeArgs { html, language, json, csv, export, .. } = args;
    let exports = exports(csv.as_deref(), export, None).map_err(|error| EarlyExit::error(&error.to_string()))?;
    let output = MergeOutput { html: html.clone(), language: *language, json: json.clone(), exports };
    merge(&files, args.allow_missing, &output)
}

/// Prints the tables of each run of these shards, and writes the files.
pub(super) fn merge(files: &[PathBuf], allow_missing: bool, output: &MergeOutput) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let groups = groups(files).map_err(|error| exit(error.to_string()))?;
    let (mut pages, mut json, mut void) = (Vec::new(), Vec::new(), false);
    for group in &groups {
        let merged = group.merge(allow_missing).map_err(|error| exit(error.to_string()))?;
        let summary = &merged.measured.summary;
        print(&format!("{} shards, merged into one run:\n", group.files.len()))?;
        print(&screen::render(summary, screen_width()))?;
        print(&merged.render(screen_width()))?;
        void |= summary.is_void();
        json.push(merged.json());
        let page = output.html.as_ref().map(|_| html::Run::from_merged(merged));
        pages.extend(page.transpose().map_err(|error| exit(error.to_string()))?);
    }
    if let Some(path) = &output.json {
        let json = if json.len() == 1 { json.remove(0) } else { json.into() };
        write(path, format!("{json:#}\n").as_bytes())?;
    }
    if let Some(path) = &output.html {
        write(path, html::page(&pages, output.language).as_bytes())?;
    }
    let names: Vec<PathBuf> = groups.iter().map(|group| group.files[0].clone()).collect();
    let read = |number: usize| Ok(groups[number].merge(allow_missing)?.measured);
    for path in write_runs(&output.exports, &names, &read).map_err(|error| exit(error.to_string()))? {
        print(&format!("Written: {}\n", path.display()))?;
    }
    Ok(if void { status::VOID } else { status::DONE })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), EarlyExit> {
    files::write_named(path, bytes)
        .map_err(|error| EarlyExit::error(&format!("cannot write {}: {error}", path.display())))?;
    print(&format!("Written: {}\n", path.display()))
}
