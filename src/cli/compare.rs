//! `ringmark compare`: compares two or more stored runs.

use std::path::PathBuf;

use clap::Args;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::run_files::databases;
use super::terminal::print;
use crate::files;
use crate::options::Language;
use crate::report::compare::{Comparison, Given, comparison, html, render};
use crate::report::{Measured, measured};
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
    /// Also write the comparison as an HTML page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Language of the HTML page: en, zh
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language())]
    pub language: Language,
}

/// Prints the comparison; returns the exit status.
pub(crate) fn show(args: &CompareArgs) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let places: Vec<Vec<PathBuf>> =
        args.files.iter().map(|path| databases(path)).collect::<Result<_, _>>().map_err(exit)?;
    if places.iter().map(Vec::len).sum::<usize>() < 2 {
        return Err(exit(
            "compare needs two or more runs, but there is only one run: give more databases, or folders with databases"
                .to_string(),
        ));
    }
    let read = |path: &PathBuf| measured(path).map_err(|error| exit(error.to_string()));
    let runs: Vec<Measured> = places.iter().flatten().map(read).collect::<Result<_, _>>()?;
    if let Some((file, _)) = places.iter().flatten().zip(&runs).find(|(_, run)| run.run.facts.shard.is_some()) {
        return Err(exit(format!(
            "{} is one shard of a load, and compare needs whole runs: 'ringmark merge' shows all shards as one run",
            file.display()
        )));
    }
    let comparison = comparison(&given(args, &places, &runs));
    check(&comparison, args.force).map_err(exit)?;
    print(&render(&comparison, screen_width()))?;
    if let Some(path) = &args.html {
        files::write_named(path, html(&comparison, args.language).as_bytes())
            .map_err(|error| exit(format!("cannot write {}: {error}", path.display())))?;
        print(&format!("HTML page: {}\n", path.display()))?;
    }
    Ok(if runs.iter().any(|run| run.summary.is_void()) { status::VOID } else { status::DONE })
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
        Some((a, b, what)) => Err(format!(
            "{} and {} measured different workloads ({}): compare runs of the same workload, or add --force",
            a.name,
            b.name,
            what.join("; ")
        )),
    }
}
