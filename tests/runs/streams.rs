//! Runs that only their duration ends: their requests are built while they last.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use ringmark::finding::Finding;
use ringmark::record::Phase;
use ringmark::spec::Spec;
use ringmark::workload::Workload;
use serde_json::Value;

use super::data_support::tokenizer;
use super::harness::{FinishedRun, mock, perf, perf_until, spec};
use super::interrupts::interrupted;

fn endless(base: Spec, duration_s: f64) -> Spec {
    base.with(|s| {
        s.load.number = Vec::new();
        s.load.duration_s = Some(duration_s);
        s.client.workers = Some(2);
    })
}

/// The prompts of a phase as they were sent, in the order of the requests.
fn prompts(run: &FinishedRun, phase: &str) -> Vec<String> {
    let rows = rusqlite::Connection::open(&run.database).unwrap();
    let sql = "SELECT body.json FROM request JOIN body ON body.id = body_id WHERE phase = ?1 ORDER BY idx";
    let mut rows = rows.prepare(sql).unwrap();
    let bodies = rows.query_map([phase], |row| row.get::<_, String>(0)).unwrap();
    bodies.map(|body| prompt(body.unwrap().as_bytes())).collect()
}

fn prompt(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_string()
}

/// A program that prints prompts.
fn program(folder: &Path, script: &str) -> String {
    let file = folder.join("prompts.sh");
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

fn most_repeats(run: &FinishedRun) -> Option<(u64, u64)> {
    run.summary.findings.iter().find_map(|finding| match finding {
        Finding::PromptsRepeat { prompts, most, .. } => Some((*prompts, *most)),
        _ => None,
    })
}

#[test]
fn random_prompts_never_repeat_and_are_those_of_a_run_with_a_number() {
    let mock = mock("ttft=0&itl=0&tokens=1");
    // The number of requests ends the run, whatever time they take.
    let base = endless(spec(&mock), 120.0).with(|s| {
        s.data.dataset = Some("random".to_string());
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
        s.data.min_prompt_length = 12;
        s.data.max_prompt_length = Some(20);
        s.load.warmup_num = 30.0;
    });
    let open = base.clone().with(|s| {
        s.load.rate = vec![600.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
    });
    let mut whole = None;
    for load in [base, open] {
        let run = interrupted(&load, &mock, 1_200);
        run.assert_all_ok();
        let (measured, warmup) = (prompts(&run, "measured"), prompts(&run, "warmup"));
        assert!(measured.len() > 1_000, "{} requests", measured.len());
        assert_eq!((measured.len(), warmup.len()), (run.measured.len(), 30));
        let distinct: HashSet<&String> = measured.iter().chain(&warmup).collect();
        assert_eq!(distinct.len(), measured.len() + warmup.len());
        assert!(run.measured.iter().all(|kept| kept.record.body_wait_ns.is_some()));
        assert!(run.warmup.iter().all(|kept| kept.record.body_wait_ns.is_none()));
        let whole = whole.get_or_insert_with(|| {
            let mut recipe = run.plan.workload.clone();
            recipe.needed = Some(1_040);
            Workload::build(&recipe, "h", "/v1/chat/completions").unwrap()
        });
        for index in [0, 1, 999, 1_000, 1_001] {
            assert_eq!(measured[index as usize], prompt(&whole.body(Phase::Measured, index)), "{index}");
        }
        assert_eq!(warmup[29], prompt(&whole.body(Phase::Warmup, 29)));
        assert_eq!(most_repeats(&run), None);
    }
}

#[test]
fn random_conversations_never_repeat_and_are_those_of_a_run_with_a_number() {
    let mock = mock("ttft=0&itl=0&tokens=1");
    let load = endless(spec(&mock), 120.0).with(|s| {
        s.data.dataset = Some("random_multi_turn".to_string());
        s.data.multi_turn = true;
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
        s.data.min_prompt_length = 8;
        s.data.max_prompt_length = Some(12);
        s.data.min_turns = Some(1);
        s.data.max_turns = Some(3);
        s.load.warmup_num = 10.0;
        s.load.parallel = vec![8];
    });
    let run = interrupted(&load, &mock, 500);
    run.assert_totals();
    assert_eq!(run.outcomes(), [("ok", run.measured.len())]);
    let number = |kept: &super::harness::StoredRequest| kept.record.conversation.unwrap();
    let last = run.measured.iter().map(number).max().unwrap();
    assert!(last > 100, "{last} conversations");
    let mut recipe = run.plan.workload.clone();
    recipe.needed = Some(last + 1 + 10);
    let whole = Workload::build(&recipe, "h", "/v1/chat/completions").unwrap();
    let whole = whole.conversations.as_ref().unwrap();
    let rows = rusqlite::Connection::open(&run.database).unwrap();
    let mut body = rows
        .prepare("SELECT body.json FROM request JOIN body ON body.id = body_id WHERE phase = 'measured' AND idx = ?1")
        .unwrap();
    let mut texts = HashSet::new();
    for kept in &run.measured {
        let (script, turn) = (whole.script(Phase::Measured, number(kept)), kept.record.turn);
        assert_eq!(kept.record.index, script.first + u64::from(turn));
        let text = str::from_utf8(&script.turns[turn as usize]).unwrap();
        let body: String = body.query_row([kept.record.index as i64], |row| row.get(0)).unwrap();
        assert!(body.contains(text) && texts.insert(text), "{body}");
        assert!(kept.record.body_wait_ns.is_some_and(|waited_ns| turn == 0 || waited_ns == 0));
    }
    assert_eq!(most_repeats(&run), None);
}

#[test]
fn a_program_without_end_is_read_while_the_run_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let endless_program = program(folder.path(), "n=0; while :; do echo '\"p'$n'\"'; n=$((n + 1)); done");
    let mock = mock("ttft=0&itl=0&tokens=1");
    let run = perf(&endless(spec(&mock), 0.8).with(|s| {
        s.data.dataset = Some(endless_program.clone());
        s.data.dataset_offset = 3;
        s.load.warmup_num = 5.0;
    }));
    run.assert_all_ok();
    // One prompt stands for the measured ones, and one is kept for a connection test that needs a whole body.
    let measured = prompts(&run, "measured");
    let first: u64 = measured[0][1..].parse().unwrap();
    assert_eq!(first, 3 + 1 + 5 + 1);
    let expected: Vec<String> = (first..).take(measured.len()).map(|number| format!("p{number}")).collect();
    assert_eq!(measured, expected);
    assert_eq!(prompts(&run, "warmup"), ["p8", "p7", "p6", "p5", "p4"]);
    assert_eq!(most_repeats(&run), None);
}

#[test]
fn few_prompts_of_a_program_or_a_file_repeat_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=2ms&itl=0&tokens=1");
    let file = folder.path().join("lines.txt");
    std::fs::write(&file, "p0\np1\np2\n").unwrap();
    let three = program(folder.path(), "for n in 0 1 2; do echo '\"p'$n'\"'; done");
    let from_program = endless(spec(&mock), 0.2).with(|s| s.data.dataset = Some(three));
    let from_file = endless(spec(&mock), 0.2).with(|s| {
        s.data.dataset = Some("line_by_line".to_string());
        s.data.dataset_path = Some(file);
    });
    for load in [from_program, from_file] {
        let run = perf(&load);
        run.assert_all_ok();
        let sent = prompts(&run, "measured");
        let distinct: HashSet<&String> = sent.iter().collect();
        assert_eq!(distinct.len(), 3);
        assert_eq!(most_repeats(&run), Some((3, (sent.len() as u64).div_ceil(3))));
    }
}

#[test]
fn late_bodies_delay_their_requests_and_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    // The prompts that are built ahead come at once, the others slowly.
    let slow = "n=0; while :; do echo '\"p'$n'\"'; n=$((n + 1)); [ $n -gt 1005 ] && sleep 0.03; done";
    let slow = program(folder.path(), slow);
    let mock = mock("ttft=0&itl=0&tokens=1");
    let base = endless(spec(&mock), 3.0).with(|s| {
        s.data.dataset = Some(slow);
        s.load.rate = vec![2000.0];
    });
    for (open_loop, no_stream) in [(false, false), (true, false), (true, true)] {
        let run = perf(&base.clone().with(|s| {
            s.sampling.no_stream = no_stream;
            s.load.open_loop = open_loop;
            s.load.parallel = if open_loop { Vec::new() } else { vec![16] };
        }));
        run.assert_totals();
        let waits = run.measured.iter().filter_map(|kept| kept.record.body_wait_ns);
        let late = waits.clone().filter(|ns| *ns > 0).count();
        assert!(late > 0, "{late} of {}", run.measured.len());
        // The wait is part of our own lateness, beside the wait for a slot.
        assert!(run.summary.client.own_send_lag.max >= waits.max().unwrap());
        let late = |finding: &Finding| matches!(finding, Finding::RequestsBuiltLate { requests, .. } if *requests > 0);
        assert!(run.summary.findings.iter().any(late), "{:?}", run.summary.findings);
        // More workers would not help.
        let has = |code: &str| run.summary.findings.iter().any(|finding| finding.code() == code);
        assert!(!has("rate") && !has("send_lag"), "{:?}", run.summary.findings);
        // What was due and could not be built before the end is not forgotten.
        assert!(run.summary.counts.unsent > 0, "{:?}", run.summary.counts);
    }
}

#[test]
fn a_program_that_fails_ends_the_run_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let broken = "n=0; while [ $n -lt 1200 ]; do echo '\"p'$n'\"'; n=$((n + 1)); done; echo no more >&2; exit 3";
    let broken = program(folder.path(), broken);
    let mock = mock("ttft=0&itl=0&tokens=1");
    let load = endless(spec(&mock), 30.0).with(|s| s.data.dataset = Some(broken));
    let error = perf_until(&load, Arc::default()).unwrap_err().to_string();
    assert!(error.contains("no more"), "{error}");
}
