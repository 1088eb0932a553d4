//! `--json` and `--junit` of `perf`: what each call adds to the document and to the test cases, and writing them.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::call_output::Measured;
use super::exit::EarlyExit;
use super::terminal::print_document;
use crate::files;
use crate::report::call_document::{self, RunEntry, document, repeated};
use crate::report::junit::{self, Case, CaseResult, Suite};
use crate::run::FinishedRun;
use crate::spec::Spec;

/// The value of a flag that stands for standard output.
const STDOUT: &str = "-";

/// What a call measured, for the documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallResult {
    /// Its entry in the document of `--json`.
    pub entry: Json,
    pub cases: Vec<Case>,
    model: String,
}

/// A call with the files that it writes to.
#[derive(Debug)]
pub(crate) struct Documented {
    pub scenario: Option<String>,
    pub json: Option<PathBuf>,
    pub junit: Option<PathBuf>,
    pub result: CallResult,
}

impl CallResult {
    /// `error` ended the call, or the writing of its files; `reason` says why its exit status is 1.
    pub(crate) fn new(
        spec: &Spec,
        root: &Path,
        measured: &Measured,
        status: u8,
        error: Option<&str>,
        reason: Option<&str>,
    ) -> CallResult {
        let complete = error.is_none()
            && measured.not_started.is_empty()
            && measured.runs.iter().all(|run| !run.interrupted)
            && measured.search.as_ref().is_none_or(|search| search.json["complete"] != json!(false));
        let runs: Vec<RunEntry<'_>> = measured.runs.iter().map(entry_of).collect();
        let entry = json!({
            "exit_status": status,
            "exit_reason": reason,
            "error": error,
            "complete": complete,
            "folder": root.to_string_lossy(),
            "arguments": spec.masked(),
            "runs": runs.iter().map(call_document::run).collect::<Vec<_>>(),
            "not_started": measured.not_started,
            "repeats": repeated(&runs, root, complete),
            "search": measured.search.as_ref().map(|search| &search.json),
        });
        let mut cases: Vec<Case> = match &measured.search {
            // Loads of a search that miss an objective are part of the search.
            Some(search) => junit::search_cases(&search.selections),
            None => measured.runs.iter().flat_map(|run| junit::cases(&run.summary)).collect(),
        };
        cases.extend(error.map(error_case));
        let model = measured.runs.first().map(|run| run.summary.facts.model.clone()).unwrap_or_default();
        CallResult { entry, cases, model }
    }

    /// A call that ended before it measured.
    pub(crate) fn failed(spec: &Spec, status: u8, error: &str) -> CallResult {
        let entry = json!({
            "exit_status": status,
            "exit_reason": null,
            "error": error,
            "complete": false,
            "folder": null,
            "arguments": spec.masked(),
            "runs": [],
            "not_started": [],
            "repeats": null,
            "search": null,
        });
        CallResult { entry, cases: vec![error_case(error)], model: String::new() }
    }
}

fn entry_of(run: &FinishedRun) -> RunEntry<'_> {
    RunEntry { summary: &run.summary, database: &run.database, interrupted: run.interrupted }
}

fn error_case(error: &str) -> Case {
    Case {
        class: "call".to_string(),
        name: "the call ends without an error".to_string(),
        time_s: None,
        result: CaseResult::Error(error.to_string()),
    }
}

/// Whether the document goes to standard output, so that nothing else may.
pub(crate) fn is_stdout(path: Option<&PathBuf>) -> bool {
    path.is_some_and(|path| path.as_os_str() == STDOUT)
}

/// Writes the document of `--json` and the file of `--junit` of these calls. `status` is the exit status of all. Calls
/// that name the same file share it. Standard output is written only at the end (`is_last`).
pub(crate) fn write(calls: &[Documented], status: u8, is_last: bool) -> Result<(), EarlyExit> {
    for path in distinct(calls, |call| call.json.as_ref()) {
        let entries = calls.iter().filter(|call| call.json.as_ref() == Some(path)).map(entry);
        let document = document("perf", status, json!({"scenarios": entries.collect::<Vec<_>>()}));
        write_json("--json", path, &document, is_last)?;
    }
    for path in distinct(calls, |call| call.junit.as_ref()) {
        let suites: Vec<Suite> = calls.iter().filter(|call| call.junit.as_ref() == Some(path)).map(suite).collect();
        write_file("--junit", path, &junit::xml(&suites))?;
    }
    Ok(())
}

fn distinct<'a>(calls: &'a [Documented], path: fn(&'a Documented) -> Option<&'a PathBuf>) -> Vec<&'a PathBuf> {
    let mut paths: Vec<&PathBuf> = Vec::new();
    for path in calls.iter().filter_map(path) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn entry(call: &Documented) -> Json {
    let mut entry = json!({"scenario": call.scenario});
    if let (Json::Object(entry), Json::Object(members)) = (&mut entry, call.result.entry.clone()) {
        entry.extend(members);
    }
    entry
}

fn suite(call: &Documented) -> Suite {
    let name = call.scenario.clone().unwrap_or_else(|| call.result.model.clone());
    Suite { name, cases: call.result.cases.clone() }
}

/// Writes a document to `path`, or to standard output if that is `-` and `is_last` is set.
pub(crate) fn write_json(flag: &str, path: &Path, document: &Json, is_last: bool) -> Result<(), EarlyExit> {
    write_text(flag, path, &call_document::text(document), is_last)
}

/// Writes a text to `path`, or to standard output if that is `-` and `is_last` is set.
pub(crate) fn write_text(flag: &str, path: &Path, text: &str, is_last: bool) -> Result<(), EarlyExit> {
    match (path.as_os_str() == STDOUT, is_last) {
        (true, true) => print_document(text),
        (true, false) => Ok(()),
        (false, _) => write_file(flag, path, text),
    }
}

fn write_file(flag: &str, path: &Path, text: &str) -> Result<(), EarlyExit> {
    files::write_named(path, text.as_bytes())
        .map_err(|error| EarlyExit::error(&format!("{flag}: cannot write {}: {error}", path.display())))
}
