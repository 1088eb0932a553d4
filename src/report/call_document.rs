//! The documents of `--json`: all results of a call in one JSON object. `tools/schema/` has their schemas.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::json_value::finite;
use super::language::Language;
use super::load_name::load_name;
use super::{json, repeats};
use crate::stats::Summary;
use crate::visible::controls_display;

/// The version of the documents' shape. Keys are only added; anything else gives a new version.
const FORMAT: u32 = 1;

/// A run in a document.
#[derive(Clone, Copy, Debug)]
pub struct RunEntry<'a> {
    pub summary: &'a Summary,
    pub database: &'a Path,
    /// An interrupt ended the run early.
    pub interrupted: bool,
}

/// The document of a command. `results` has its remaining keys.
pub fn document(command: &str, exit_status: u8, results: Json) -> Json {
    let mut out = json!({
        "format": FORMAT,
        "ringmark": env!("CARGO_PKG_VERSION"),
        "command": command,
        "exit_status": exit_status,
    });
    if let (Json::Object(out), Json::Object(results)) = (&mut out, results) {
        out.extend(results);
    }
    out
}

/// A document as text that ends with a line feed. Characters that control a display, which JSON allows within strings,
/// are escaped.
pub fn text(document: &Json) -> String {
    let plain = format!("{document:#}\n");
    let is_escaped = |c: char| controls_display(c) && c != '\n';
    if !plain.contains(is_escaped) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        match is_escaped(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
    }
    out
}

/// A run: its load, its verdicts, the content of `benchmark_summary.json` and of `benchmark_percentile.json`.
pub fn run(run: &RunEntry<'_>) -> Json {
    let summary = run.summary;
    json!({
        "name": load_name(&summary.facts, Language::En),
        "load": repeats::load(&summary.facts),
        "model": summary.facts.model,
        "folder": run.database.parent().map(|folder| folder.to_string_lossy()),
        "database": run.database.to_string_lossy(),
        "interrupted": run.interrupted,
        "void": summary.is_void(),
        "slo_met": summary.slo.as_ref().map(|verdict| verdict.is_met()),
        "success_rate": finite(super::advice::success_rate(summary)),
        "summary": json::stored_summary(summary, run.database),
        "percentiles": json::percentiles(summary),
    })
}

/// The runs of `report`: those of each database.
pub fn stored_runs(runs: &[(&Summary, &Path)]) -> Json {
    let entry = |&(summary, database): &(&Summary, &Path)| {
        let interrupted = summary.end.as_ref().is_none_or(|end| end.interrupted);
        self::run(&RunEntry { summary, database, interrupted })
    };
    Json::Array(runs.iter().map(entry).collect())
}

/// The variation between the repeated runs of each load, as `repeats_summary.json` has it; null without such runs.
pub fn repeated(runs: &[RunEntry<'_>], root: &Path, complete: bool) -> Json {
    let summaries: Vec<&Summary> = runs.iter().map(|run| run.summary).collect();
    if repeats::groups(&summaries).len() == runs.len() {
        return Json::Null;
    }
    let repeats: Vec<repeats::Repeat<'_>> =
        runs.iter().map(|run| repeats::Repeat { summary: run.summary, database: run.database }).collect();
    repeats::json(&repeats, root, complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_without_loss() {
        let value = json!({"text": "a\u{9b}\u{202e}\u{1b}[2J\n通义 👩‍🔬"});
        let text = text(&value);
        assert!(!text.contains(|c: char| controls_display(c) && c != '\n'), "{text}");
        assert!(text.contains("通义 👩‍🔬") && text.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), value);
    }

    #[test]
    fn a_document_starts_with_its_format() {
        let text = text(&document("perf", 3, json!({"scenarios": []})));
        assert!(text.starts_with("{\n  \"format\": 1,\n  \"ringmark\": "), "{text}");
        assert!(text.contains("\"exit_status\": 3,\n  \"scenarios\": []"), "{text}");
    }
}
