//! What the guide lists is what the program has. With the environment variable RINGMARK_UPDATE_GUIDE, `cargo test --lib
//! guide` writes the generated parts into the Markdown files; texts that people write are then reported as missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::finding::{Cause, Figure, Finding, samples};
use crate::plan::slo;
use crate::record::Failure;
use crate::report::definitions::DEFINITIONS;
use crate::report::i18n::{Label, Statistic, time_name};
use crate::report::language::Language;
use crate::report::table::in_ms;
use crate::stats::quantile::LEVELS;
use crate::store::columns::REQUEST_COLUMNS;

const UPDATE: &str = "RINGMARK_UPDATE_GUIDE";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide").join(name)
}

/// Compares a file with what it should be, or writes it.
fn check_file(name: &str, expected: &str) {
    let current = std::fs::read_to_string(file(name)).unwrap();
    if current == expected {
        return;
    }
    assert!(std::env::var_os(UPDATE).is_some(), "{name} is not current: run the tests with {UPDATE}=1");
    std::fs::write(file(name), expected).unwrap();
}

/// The text with `content` between the comments `<!-- name -->` and `<!-- end -->`.
fn with_block(text: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, tail) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("no end of {begin}"));
    format!("{head}{begin}\n{content}\n<!-- end -->{tail}")
}

/// The text of all source files below a folder.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path {
        path if path.is_dir() => sources(&path),
        path if path.extension().is_some_and(|end| end == "rs") => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    entries.filter(|path| !path.ends_with("guide")).map(text).collect()
}

/// The lines of the fenced blocks with output, each block on its own.
fn outputs(text: &str) -> Vec<Vec<&str>> {
    let blocks = text.split("\n```text\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default().lines().collect()).collect()
}

/// Whether a head or the name of a row in the guide is one that the program prints.
fn is_printed(name: &str, sources: &str) -> bool {
    let is_number = name.trim_end_matches(['.', '*']).parse::<f64>().is_ok();
    let is_label = Label::ALL.iter().any(|label| label.en() == name || in_ms(label.en()) == name);
    let is_level = LEVELS.iter().any(|level| level.name == name);
    let statistics = [Statistic::Average, Statistic::P50, Statistic::P90, Statistic::P99];
    let times = [Figure::Ttft, Figure::Itl, Figure::Tpot, Figure::Latency];
    let is_time = statistics
        .iter()
        .flat_map(|statistic| times.map(|time| time_name(*statistic, time, "ms", Language::En)))
        .any(|time| time == name);
    let is_objective = match name.split_once(" (") {
        Some((figure, "ms)")) => matches!(slo::Figure::scan(figure), Some(slo::Figure::Of(..))),
        _ => slo::Figure::scan(name).is_some_and(|figure| !matches!(figure, slo::Figure::Of(..))),
    };
    name.is_empty()
        || is_number
        || is_label
        || is_level
        || is_time
        || is_objective
        || sources.contains(&format!("\"{name}\""))
        // The side of a comparison is a variable.
        || sources.contains(&format!("\"{}\"", name.replacen("B ", "{name} ", 1)))
}

/// Samples of output go out of date unseen, unless what is fixed in them is compared with the program's texts: heads and
/// rows of tables, and what stands before a colon at the start of a line.
#[test]
fn samples_of_output_have_the_names_that_the_program_prints() {
    let sources = sources(&file("").join(".."));
    let mut wrong = Vec::new();
    for topic in TOPICS {
        for lines in outputs(topic.text) {
            let rows = lines.iter().filter(|line| line.starts_with('|'));
            let cells = |line: &&&str| line.trim_matches('|').split('|').map(str::trim).map(str::to_string).collect();
            let rows: Vec<Vec<String>> = rows.map(|line| cells(&line)).collect();
            let (head, names) = (rows.first().into_iter().flatten(), rows.iter().filter_map(|row| row.first()));
            wrong.extend(head.chain(names).filter(|name| !is_printed(name, &sources)).cloned());
            let is_name = |name: &&str| {
                name.starts_with(|c: char| c.is_ascii_uppercase())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ')
            };
            let before_colon =
                lines.iter().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).filter(is_name);
            wrong.extend(
                before_colon
                    .filter(|name| !sources.contains(&format!("{name}: ")) && !sources.contains(&format!("\"{name}\"")))
                    .map(str::to_string),
            );
        }
    }
    assert!(wrong.is_empty(), "the guide shows what the program does not print: {wrong:#?}");
    assert!(!is_printed("Service TTFT avg / p50 / p99 (s)", &sources) && !is_printed("p99_ttft (s)", &sources));
}

#[test]
fn the_columns_of_requests_are_listed() {
    let mut table = "| column | type | since | meaning |\n|---|---|---|---|\n".to_string();
    table.push_str("| `id` | INTEGER PRIMARY KEY | 1 | key |\n");
    for column in REQUEST_COLUMNS {
        let row = format!("| `{}` | {} | {} | {} |\n", column.name, column.sql_type, column.since, column.comment);
        table.push_str(&row);
    }
    check_file("database.md", &with_block(topic("database").unwrap().text, "columns", &table));
}

#[test]
fn the_definitions_of_figures_are_listed() {
    let mut table = "| figure | formula | meaning |\n|---|---|---|\n".to_string();
    for definition in &DEFINITIONS {
        let formula = match definition.formula[0] {
            "" => String::new(),
            formula => format!("`{formula}`"),
        };
        table.push_str(&format!("| {} | {formula} | {} |\n", definition.name[0], definition.meaning[0]));
    }
    check_file("metrics.md", &with_block(topic("metrics").unwrap().text, "definitions", &table));
}

/// The heading of the findings of one cause.
fn cause_title(cause: Cause) -> &'static str {
    match cause {
        Cause::ClientBusy => "The client did not keep up",
        Cause::RequestBuilding => "Requests were built too late",
        Cause::ServerCapacity => "The server did not keep up",
        Cause::ServerAnswers => "The responses of the server",
        Cause::ServerMetrics => "What the server reports about itself",
        Cause::Network => "Network and connections",
        Cause::Clock => "Clocks and timestamps",
        Cause::Workload => "The content of the requests",
        Cause::Configuration => "Flags and this machine",
        Cause::RunLength => "Length and end of the run",
        Cause::Witness => "The witness",
        Cause::Output => "Files and services for results",
        Cause::Bug => "Defects of ringmark",
        Cause::Unknown => "Of another version",
    }
}

/// The samples of each kind, the kinds in the order of the samples.
fn samples_by_kind() -> Vec<(String, Vec<Finding>)> {
    let mut kinds: Vec<(String, Vec<Finding>)> = Vec::new();
    for finding in samples::findings() {
        let kind = serde_json::to_value(&finding).unwrap()["kind"].as_str().unwrap().to_string();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, findings)) => findings.push(finding),
            None => kinds.push((kind, vec![finding])),
        }
    }
    kinds
}

/// The section about a kind: what the program has, then `written`, its cause and remedy.
fn finding_section(kind: &str, findings: &[Finding], written: &str) -> String {
    let mut severities: Vec<_> = findings.iter().map(Finding::severity).collect();
    severities.sort_unstable();
    severities.dedup();
    let severities: Vec<String> = severities.iter().map(|severity| format!("{severity:?}")).collect();
    format!(
        "### `{kind}`\n\n{}, code `{}`.\n\n> {}\n\n{}\n\n",
        severities.join(" or "),
        findings[0].code(),
        findings[0].en(),
        written.trim()
    )
}

#[test]
fn every_class_of_failure_is_listed() {
    let text = topic("metrics").unwrap().text;
    let section = headings(text).into_iter().find(|section| section.is_titled("Success and failure")).unwrap().text;
    let rows = section.lines().filter_map(table::cells);
    let listed: Vec<String> = rows.flat_map(|row| row[0].split(", ").map(str::to_string).collect::<Vec<_>>()).collect();
    for class in Failure::ALL {
        assert!(listed.iter().any(|name| name == class.name()), "metrics.md has no class {}", class.name());
    }
}

#[test]
fn every_finding_has_a_cause_and_a_remedy() {
    let text = topic("findings").unwrap().text;
    let (introduction, _) = text.split_once("\n##").unwrap();
    let written: BTreeMap<&str, &str> = headings(text)
        .into_iter()
        .filter_map(|section| Some((section.title, &section.text[section.text.find("**Cause.**")?..])))
        .collect();
    let mut groups: Vec<(&str, String)> = Vec::new();
    let mut lacking = Vec::new();
    for (kind, findings) in samples_by_kind() {
        let texts = written.get(kind.as_str()).copied().unwrap_or_default();
        if !texts.contains("**Remedy.** ") {
            lacking.push(kind.clone());
        }
        let section = finding_section(&kind, &findings, texts);
        let title = cause_title(findings[0].cause());
        match groups.iter_mut().find(|(known, _)| *known == title) {
            Some((_, sections)) => sections.push_str(&section),
            None => groups.push((title, section)),
        }
    }
    let groups: String = groups.iter().map(|(title, sections)| format!("## {title}\n\n{sections}")).collect();
    check_file("findings.md", &format!("{}\n\n{}\n", introduction.trim_end(), groups.trim_end()));
    assert!(lacking.is_empty(), "findings.md has no '**Cause.** ...' and '**Remedy.** ...' for {lacking:?}");
}

/// The flags that the help of another tool lists, each with its aliases.
fn pinned_flags(tool: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tools/foreign_flags/{tool}.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(", ").map(str::to_string).collect()).collect()
}

#[test]
fn the_flags_of_other_tools_are_listed() {
    for tool in FOREIGN_TOOLS {
        let rows: Vec<(Vec<String>, String)> = topic(tool).unwrap().text.lines().filter_map(foreign_row).collect();
        let pinned = pinned_flags(tool);
        for flags in &pinned {
            assert!(rows.iter().any(|(listed, _)| listed == flags), "{tool}.md has no row for {flags:?}");
        }
        for (flags, ours) in &rows {
            assert!(pinned.contains(flags), "{tool} has no {flags:?}");
            // A flag without a counterpart has the reason.
            assert!(!["", "no counterpart", "not needed"].contains(&ours.as_str()), "{tool} {flags:?}");
        }
    }
}

#[test]
fn the_scenarios_of_the_judge_are_listed() {
    let text = topic("judge").unwrap().text;
    for scenario in &crate::judge::scenario::ALL {
        assert!(text.contains(&format!("| `{}` |", scenario.name)), "judge.md has no scenario {}", scenario.name);
    }
}

#[test]
fn forty_questions_have_answers() {
    let rows = topic("questions").unwrap().text.lines().filter_map(table::cells);
    let rows: Vec<Vec<String>> = rows.filter(|row| row[0].ends_with('?')).collect();
    assert_eq!(rows.len(), 40);
    for row in rows {
        let [_, name, section] = &row[..] else { panic!("{row:?}") };
        let topic = topic(name.trim_matches('`')).unwrap();
        let found = headings(topic.text).into_iter().find(|found| found.is_titled(section));
        let found = found.unwrap_or_else(|| panic!("{name} has no section '{section}'"));
        assert!(found.text.len() > section.len() + 100, "{name} {section} is empty");
    }
}

#[test]
fn every_file_of_the_guide_is_a_topic() {
    let files = std::fs::read_dir(file("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut topics: Vec<String> = files.filter_map(|name| Some(name.strip_suffix(".md")?.to_string())).collect();
    let mut listed: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    topics.sort_unstable();
    listed.sort_unstable();
    assert_eq!(topics, listed);
    for topic in TOPICS {
        assert!(topic.text.starts_with("# "), "{}", topic.name);
        assert!(topic.summary.len() < 70 && !topic.summary.ends_with('.'), "{}", topic.name);
    }
}

#[test]
fn topics_and_sections_are_found_by_name() {
    assert!(lookup("start", &[]).unwrap().starts_with("# "));
    let error = lookup("databse", &[]).unwrap_err();
    assert!(error.contains("did you mean 'database'?"), "{error}");
    let error = lookup("xylophone", &[]).unwrap_err();
    assert!(error.contains("--search xylophone"), "{error}");
    let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    let section = lookup("findings", &words("send_lag")).unwrap();
    assert!(section.starts_with("### `send_lag`") && section.lines().filter(|line| line.starts_with('#')).count() == 1);
    assert_eq!(lookup("send_lag", &[]), Ok(section));
    assert!(lookup("findings", &words("sendlag")).unwrap_err().contains("send_lag"));
}

#[test]
fn search_prefers_headings() {
    let hits = search("send_lag").unwrap();
    assert!(hits.lines().nth(2).unwrap().contains("| `findings` |"), "{hits}");
    assert_eq!(search("xylophone"), None);
}

#[test]
fn flags_of_other_programs_are_found() {
    assert!(replacement("--random-input-len").unwrap().1.contains("--dataset random"));
    assert_eq!(replacement("--nonsense"), None);
}
