//! `ringmark compare`: compares two or more stored runs.

use std::path::PathBuf;

use clap::Args;

use super::call_output::FILE_WIDTH;
use super::documents::{is_stdout, write_json, write_text};
use super::exit::{EarlyExit, status};
use super::run_files::runs;
use super::terminal::Output;
use crate::files;
use crate::options::Language;
use crate::report::Measured;
use crate::report::call_document::document;
use crate::report::compare::{
    Comparison, Gate, Given, Limit, comparison, html, json, judge, markdown, pooled, render, render_gate, scan_limits,
};
use crate::spec::values;

/// Flags of `ringmark compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Run databases (benchmark_data.db) or folders with them; each is compared with the first one. Repetitions of one
    /// load (--repeat) are combined. Folders of sweeps are compared load by load
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Compare runs even if their workloads differ
    #[arg(long)]
    pub force: bool,
    /// Take each FILE as one side: its runs of a load count as repetitions, though several calls made them. For builds that
    /// are measured in turn, each with a folder of its own
    #[arg(long)]
    pub pool: bool,
    /// Also write the comparison as an HTML page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Language of the HTML page: en, zh
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
    /// Exit with status 1 if figures get worse than with the first one: FIGURE:+PERCENT or FIGURE:-PERCENT, for example
    /// 'p99_ttft:+5%,tps:-3%'. Figures as for --slo. A figure fails if it changes by at least so much and the difference is
    /// significant; equal sides fail in at most 1 % of all comparisons. Needs repeated runs (perf --repeat) on both sides.
    /// A success rate that falls significantly fails too
    #[arg(long, value_name = "LIMITS")]
    pub fail_on: Option<String>,
    /// Also write the comparison as JSON (tools/schema/compare.schema.json) to FILE; with -, to standard output, and the
    /// tables to standard error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the comparison as Markdown, for the summary of a CI job, to FILE; with -, to standard output, and the
    /// tables to standard error
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// Prints the comparison; returns the exit status.
pub(crate) fn show(args: &CompareArgs) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let output = output(args).map_err(exit)?;
    let limits = args.fail_on.as_deref().map(scan_limits).transpose();
    let limits = limits.map_err(|what| exit(format!("--fail-on: {what}")))?;
    let read: Vec<Vec<(PathBuf, Measured)>> =
        args.files.iter().map(|path| runs(path)).collect::<Result<_, _>>().map_err(exit)?;
    let mut runs: Vec<Measured> = Vec::new();
    let mut files_of = |read: Vec<(PathBuf, Measured)>| {
        let (files, more): (Vec<PathBuf>, Vec<Measured>) = read.into_iter().unzip();
        runs.extend(more);
        files
    };
    let places: Vec<Vec<PathBuf>> = read.into_iter().map(&mut files_of).collect();
    if places.iter().map(Vec::len).sum::<usize>() < 2 {
        return Err(exit(
            "compare needs two or more runs, but there is only one run: give more databases, or folders with databases"
                .to_string(),
        ));
    }
    if args.pool && places.len() < 2 {
        return Err(exit("--pool compares folders, but there is only one: give two or more".to_string()));
    }
    if let Some((file, _)) = places.iter().flatten().zip(&runs).find(|(_, run)| run.run.facts.shard.is_some()) {
        return Err(exit(format!(
            "{} is one shard of a load, and compare needs whole runs: 'ringmark merge' shows all shards as one run",
            file.display()
        )));
    }
    let given = given(args, &places, &runs);
    let comparison = if args.pool { pooled(&given) } else { comparison(&given) };
    check(&comparison, args.force).map_err(exit)?;
    output.print(&render(&comparison, output.width(FILE_WIDTH)));
    if let Some(path) = &args.html {
        files::write_named(path, html(&comparison, args.language).as_bytes())
            .map_err(|error| exit(format!("cannot write {}: {error}", path.display())))?;
        output.print(&format!("HTML page: {}\n", path.display()));
    }
    let is_void = runs.iter().any(|run| run.summary.is_void());
    let gate = gate(&comparison, limits.as_deref(), is_void).map_err(exit)?;
    if let Some(gate) = &gate {
        output.print(&render_gate(gate, output.width(FILE_WIDTH)));
    }
    let status = match &gate {
        _ if is_void => status::VOID,
        Some(gate) if gate.has_failed() => status::MISSED,
        _ => status::DONE,
    };
    write_documents(args, &comparison, gate.as_ref(), status)?;
    output.finish()?;
    Ok(status)
}

/// Where the tables go.
fn output(args: &CompareArgs) -> Result<Output, String> {
    match (is_stdout(args.json.as_ref()), is_stdout(args.markdown.as_ref())) {
        (true, true) => Err("--json - and --markdown - both need standard output: give one of them a file".to_string()),
        (json, markdown) => Ok(Output::beside_document(json || markdown)),
    }
}

/// The result of `--fail-on`; `None` without limits. The figures of void runs cannot be judged, which is status 3.
fn gate(comparison: &Comparison<'_>, limits: Option<&[Limit]>, is_void: bool) -> Result<Option<Gate>, String> {
    limits.filter(|_| !is_void).map(|limits| judge(comparison, limits)).transpose()
}

fn write_documents(
    args: &CompareArgs,
    comparison: &Comparison<'_>,
    gate: Option<&Gate>,
    status: u8,
) -> Result<(), EarlyExit> {
    if let Some(path) = &args.json {
        write_json("--json", path, &document("compare", status, json(comparison, gate)), true)?;
    }
    if let Some(path) = &args.markdown {
        write_text("--markdown", path, &markdown(comparison, gate), true)?;
    }
    Ok(())
}

/// Each argument with its runs. `runs` has the runs of all arguments in order.
fn given<'a>(args: &CompareArgs, places: &[Vec<PathBuf>], runs: &'a [Measured]) -> Vec<Given<'a>> {
    let mut runs = runs.iter();
    let of = |(path, files): (&PathBuf, &Vec<PathBuf>)| Given {
        runs: files.iter().cloned().zip(runs.by_ref()).collect(),
        is_folder: path.is_dir(),
    };
    args.files.iter().zip(places).map(of).collect()
}

/// Checks that the sides share a load and, unless `force` is set, that their workloads are equal.
fn check(comparison: &Comparison<'_>, force: bool) -> Result<(), String> {
    if comparison.loads.is_empty() {
        let names: Vec<&str> = comparison.sides.iter().map(|side| side.name.as_str()).collect();
        return Err(format!(
            "{} have no load in common: compare runs with the same --parallel or --rate, or give single databases and --force",
            names.join(" and ")
        ));
    }
    match comparison.first_difference().filter(|_| !force) {
        None => Ok(()),
        Some((a, b, what)) if a.name == b.name => Err(format!(
            "the runs in {} measured different workloads ({}): compare runs of the same workload, or add --force",
            a.name,
            what.join("; ")
        )),
        Some((a, b, what)) => Err(format!(
            "{} and {} measured different workloads ({}): compare runs of the same workload, or add --force",
            a.name,
            b.name,
            what.join("; ")
        )),
    }
}
