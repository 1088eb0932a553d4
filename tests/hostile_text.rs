//! Text from servers, files and databases cannot control a terminal, forge lines of the log, or reverse what is read.

mod records;

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use records::{closed, collect, push_failed, push_ok, report, start};
use ringmark::finding::{Finding, samples};
use ringmark::plan::Save;
use ringmark::record::facts::RunFacts;
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase, ServerSample};
use ringmark::report::{html, measured, overview, screen};
use ringmark::spec::Language;
use ringmark::store::RunStart;

/// A terminal escape, a carriage return, a C1 control character, bidi marks, separators; and text that must stay.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\r\u{9b}31m\u{202e}gnp\u{2066}\u{200f}\u{2028}\u{feff}";
const KEPT: &str = "通义千问 👩‍🔬 שלום";

/// Whether a terminal or browser obeys the character. Written out again, apart from the code under test.
fn is_obeyed(c: char) -> bool {
    let code = c as u32;
    (code < 0x20 && c != '\n' && c != '\t')
        || (0x7f..0xa0).contains(&code)
        || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0xfeff].contains(&code)
        || (0x202a..=0x202e).contains(&code)
        || (0x2066..=0x2069).contains(&code)
}

fn assert_harmless(what: &str, text: &str) {
    if let Some(at) = text.find(is_obeyed) {
        let context: String = text[..at].chars().rev().take(60).collect::<String>().chars().rev().collect();
        panic!("{what}: {:?} after {context:?}", text[at..].chars().next());
    }
}

/// The finding with `text` in place of every text field that may hold any text.
fn with_text(finding: &Finding, text: &str) -> Finding {
    let mut json = serde_json::to_value(finding).unwrap();
    let mut places = Vec::new();
    collect_texts(&json, String::new(), &mut places);
    for place in places {
        let mut changed = json.clone();
        *changed.pointer_mut(&place).unwrap() = text.into();
        // Names of enums cannot be replaced.
        if serde_json::from_value::<Finding>(changed.clone()).is_ok() {
            json = changed;
        }
    }
    serde_json::from_value(json).unwrap()
}

/// The JSON pointers of all texts.
fn collect_texts(json: &serde_json::Value, place: String, into: &mut Vec<String>) {
    match json {
        serde_json::Value::String(_) => into.push(place),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect_texts(item, format!("{place}/{index}"), into));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| collect_texts(field, format!("{place}/{name}"), into));
        }
        _ => {}
    }
}

/// A database whose texts all contain `text`.
fn database(folder: &Path, text: &str) -> PathBuf {
    let facts = RunFacts {
        model: text.to_string(),
        url: format!("http://h/{text}"),
        api: text.to_string(),
        dataset: text.to_string(),
        version: text.to_string(),
        ..closed(3, 1)
    };
    let mut block = Block::new(0);
    push_ok(&mut block, 0, 0, &[10, 20, 30]);
    push_failed(&mut block, 1, 100, Outcome::Failed(Failure::Status), text);
    push_failed(&mut block, 2, 200, Outcome::Failed(Failure::Protocol), &format!("{text}\nsecond line"));
    let sample = |ms: u64, value: f64| ServerSample {
        at: records::at(ms),
        name: "vllm:num_requests_running".to_string(),
        labels: format!("model_name=\"{}\"", text.replace('\n', "\\n")),
        value,
    };
    let path = folder.join("run.db");
    let messages = vec![
        CollectorMessage::Block(block),
        CollectorMessage::Worker(Box::new(report(Phase::Measured))),
        CollectorMessage::Server(vec![sample(0, 1.0), sample(100, 2.0)]),
    ];
    let findings = samples::findings().iter().map(|finding| with_text(finding, text)).collect();
    collect(&path, RunStart { findings, ..start(facts, Save::Text) }, messages);
    path
}

#[test]
fn reports_of_hostile_databases_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{HOSTILE}{KEPT}");
    let path = database(folder.path(), &text);
    let run = measured(&path).unwrap();
    assert!(run.summary.findings.len() > 60, "{}", run.summary.findings.len());
    for width in [60, 140, 500] {
        let shown = screen::render(&run.summary, width);
        assert_harmless("tables", &shown);
        assert_harmless("overview", &overview::render(&[&run.summary, &run.summary], Some(&text), width, false));
        assert!(shown.contains("通义千问") && shown.contains("שלום"), "{shown}");
    }
    for language in [Language::En, Language::Zh] {
        let page = html::from_databases(std::slice::from_ref(&path), language).unwrap();
        assert_harmless("page", &page);
        assert!(page.contains(KEPT));
    }
    let folder = folder.path().join(format!("{HOSTILE}x"));
    std::fs::create_dir(&folder).unwrap();
    let copy = folder.join("run.db");
    std::fs::copy(&path, &copy).unwrap();
    for arguments in [vec!["report"], vec!["compare", "--force"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringmark")).args(&arguments).args([&path, &copy]).output().unwrap();
        assert_harmless(arguments[0], &String::from_utf8_lossy(&output.stdout));
        assert_harmless(arguments[0], &String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() > 100, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn errors_do_not_repeat_control_characters_of_the_command_line() {
    let path = format!("/nonexistent/{HOSTILE}");
    let calls: [&[&str]; 4] = [
        &["report", &path],
        &["perf", HOSTILE],
        &["perf", "--url", "mock:", "--dataset", "openqa", "--dataset-path", &path],
        &["perf", "--url", "mock:", "--api", &path],
    ];
    for arguments in calls {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("\\u{9b}"), "{arguments:?}: {text}");
        assert_harmless("error", &text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_text_is_harmless(text in "[\\x00-\\x1f\\x7f-\\u{9f}a<>|{}\"&'\\\\\u{200e}-\u{2069}语🦀é ]{1,30}") {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path(), &text);
        let run = measured(&path).unwrap();
        assert_harmless("tables", &screen::render(&run.summary, 100));
        assert_harmless("page", &html::from_databases(&[path], Language::Zh).unwrap());
        for finding in samples::findings() {
            let finding = with_text(&finding, &text);
            for shown in [finding.en(), finding.zh()] {
                assert_harmless("finding", &ringmark::report::table::wrap("Note: ", &shown, 80));
            }
        }
    }
}
