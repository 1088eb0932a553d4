//! `ringmark report`: tables, the HTML report and exports from stored runs.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::call_output::FILE_WIDTH;
use super::documents::{is_stdout, write_json};
use super::exit::{EarlyExit, status};
use super::merge;
use super::run_files;
use super::terminal::Output;
use crate::files;
use crate::finding::Finding;
use crate::options::Language;
use crate::report::call_document::{document, stored_runs};
use crate::report::export::write_all;
use crate::report::workload::report_differences;
use crate::report::{Measured, definitions, html, overview, screen, search, shards};
use crate::search::{StoredSearchRun, find_searches};
use crate::spec::output::exports;
use crate::spec::values;
use crate::stats::Summary;

/// Flags of `ringmark report`.
#[derive(Args, Debug)]
#[command(after_long_help = definitions::text(80))]
pub struct ReportArgs {
    /// Run databases (benchmark_data.db), or folders with them, such as the one that 'perf' prints after 'Results:'
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write an HTML report of all runs to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show runs together even if their servers or workloads differ
    #[arg(long)]
    pub force: bool,
    /// Language in which the HTML report opens: en, zh. It contains both
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
    /// Write a CSV file with one row for each run, in the columns of LMDeploy's profile_throughput.py
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a file in the format of another tool: vllm, aiperf, llmd, evalscope-db, or lmdeploy-api (the CSV of
    /// its profile_restful_api.py); or a folder for evalscope's own reports and dashboards: evalscope=DIR
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1)]
    pub export: Vec<String>,
    /// Write the figures of all runs as one JSON document (tools/schema/report.schema.json) to FILE; with -, to standard
    /// output, and the tables to standard error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Prints the tables of each run and, for several runs, the combined report. Shards of one load are merged into one run.
pub(crate) fn show(args: &ReportArgs) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let exports = exports(args.csv.as_deref(), &args.export, None).map_err(|error| exit(error.to_string()))?;
    let mut read = Vec::new();
    for path in &args.files {
        read.extend(run_files::runs(path).map_err(exit)?);
    }
    let (files, runs): (Vec<PathBuf>, Vec<Measured>) = read.into_iter().unzip();
    if runs.len() > 1 && runs.iter().all(|run| run.run.facts.shard.is_some()) {
        if args.json.is_some() {
            return Err(exit("--json does not write merged shards here: use 'ringmark merge --json'".to_string()));
        }
        drop(runs);
        let output = merge::MergeOutput { html: args.html.clone(), language: args.language, exports, json: None };
        return merge::merge(&files, false, &output);
    }
    let output = Output::beside_document(is_stdout(args.json.as_ref()));
    let width = output.width(FILE_WIDTH);
    if shards::are_shards(&runs) {
        let repeated = shards::same_prompts(&runs);
        if !exports.is_empty() {
            return Err(exit("--csv and --export cannot write merged shards: give one file".to_string()));
        }
        return show_shards(args, &files, repeated, output);
    }
    if !args.force {
        check_alike(&runs, &files).map_err(exit)?;
    }
    for (run, file) in runs.iter().zip(&files) {
        if runs.len() > 1 {
            output.print(&format!("{}\n", file.display()));
        }
        if let Some(shard) = &run.run.facts.shard {
            output.print(&format!("Shard {} of a load: 'ringmark merge' combines all its shards.\n", shard.share));
        }
        output.print(&screen::render_stored(&run.summary, Some(file), width));
    }
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    if summaries.len() > 1 {
        output.print(&overview::render(&summaries, None, width, output.has_colours()));
    }
    let stored = runs.iter().map(|run| StoredSearchRun { summary: &run.summary, refusals: &run.run.refusals });
    let searches = find_searches(&stored.collect::<Vec<_>>());
    output.print(&search::render_stored(&searches, width));
    let void = summaries.iter().any(|run| run.is_void());
    let entries: Vec<(&Summary, &Path)> = summaries.iter().copied().zip(files.iter().map(PathBuf::as_path)).collect();
    let results = json!({"runs": stored_runs(&entries), "searches": searches.iter().map(search::stored_json).collect::<Vec<_>>()});
    if let Some(path) = &args.html {
        let pages = runs.into_iter().map(html::Run::from_measured);
        let pages: Vec<html::Run> = pages.collect::<Result<_, _>>().map_err(|error| exit(error.to_string()))?;
        write_page(path, &html::page(&pages, args.language), &output)?;
    }
    let written = write_all(&exports, &files).map_err(|error| exit(error.to_string()))?;
    for path in written {
        output.print(&format!("Written: {}\n", path.display()));
    }
    write_document(args, void, results)?;
    output.finish()?;
    Ok(exit_status(void))
}

fn write_document(args: &ReportArgs, void: bool, results: Json) -> Result<(), EarlyExit> {
    match &args.json {
        Some(path) => write_json("--json", path, &document("report", exit_status(void), results), true),
        None => Ok(()),
    }
}

/// Checks that all runs are of one server and workload: loads of different ones make no sweep.
fn check_alike(runs: &[Measured], files: &[PathBuf]) -> Result<(), String> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    for (other, file) in others.iter().zip(&files[1..]) {
        let differences = report_differences(first, other);
        if !differences.is_empty() {
            return Err(format!(
                "{} and {} are runs of different servers or workloads ({}): use 'ringmark compare', or add --force to \
                 show them together",
                files[0].display(),
                file.display(),
                differences.join("; ")
            ));
        }
    }
    Ok(())
}

fn show_shards(
    args: &ReportArgs,
    files: &[PathBuf],
    repeated: Option<Finding>,
    output: Output,
) -> Result<u8, EarlyExit> {
    let merged = shards::measured(files, repeated.as_slice()).and_then(html::Run::from_measured);
    let shards = merged.map_err(|error| EarlyExit::error(&error.to_string()))?;
    output.print(&format!("{} shards of one load, merged into one run:\n", files.len()));
    output.print(&screen::render(&shards.summary, output.width(FILE_WIDTH)));
    let void = shards.summary.is_void();
    let results = json!({"runs": stored_runs(&[(&shards.summary, &files[0])]), "searches": []});
    if let Some(path) = &args.html {
        write_page(path, &html::page(&[shards], args.language), &output)?;
    }
    write_document(args, void, results)?;
    output.finish()?;
    Ok(exit_status(void))
}

fn write_page(path: &Path, page: &str, output: &Output) -> Result<(), EarlyExit> {
    files::write_named(path, page.as_bytes())
        .map_err(|error| EarlyExit::error(&format!("cannot write {}: {error}", path.display())))?;
    output.print(&format!("HTML report: {}\n", path.display()));
    Ok(())
}

fn exit_status(void: bool) -> u8 {
    if void { status::VOID } else { status::DONE }
}
