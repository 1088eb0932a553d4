//! Findings about requests without a response, runs that ended early, and errors of the client.

mod records;

use std::path::Path;

use records::{at, closed, collect, push_failed, push_ok, report, start};
use ringmark::finding::{Finding, Severity};
use ringmark::plan::Save;
use ringmark::record::facts::{Mode, RunEnd, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Finish, Outcome, Phase, WorkerReport};
use ringmark::report::{analyze_requests, json, screen};
use ringmark::stats::Summary;
use ringmark::store::{Reader, StoredRun};
use ringmark::time::MS;

/// The summary of records that were written to a database and read back. `change` modifies the run after reading.
fn summary_of(facts: RunFacts, block: Block, worker: WorkerReport, change: fn(&mut StoredRun)) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("benchmark_data.db");
    collect(
        &path,
        start(facts, Save::Text),
        vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(worker))],
    );
    let reader = Reader::open(Path::new(&path)).unwrap();
    let mut run = reader.run().unwrap();
    change(&mut run);
    analyze_requests(&reader, run).unwrap().summary
}

fn unchanged(_: &mut StoredRun) {}

fn interrupted(run: &mut StoredRun) {
    run.end = Some(RunEnd { interrupted: true, ..RunEnd::default() });
}

fn killed(run: &mut StoredRun) {
    run.end = None;
    run.workers.clear();
}

fn find<'a>(s: &'a Summary, code: &str) -> Option<&'a Finding> {
    s.findings.iter().find(|finding| finding.code() == code)
}

/// `ok` responses and `unfinished` requests of one slot.
fn some_unfinished(ok: u64, unfinished: u64) -> Block {
    let mut block = Block::new(0);
    (0..ok).for_each(|index| push_ok(&mut block, index, index * 60, &[20, 30]));
    (ok..ok + unfinished).for_each(|index| push_failed(&mut block, index, index * 60, Outcome::Unfinished, ""));
    block
}

#[test]
fn unfinished_requests_are_reported() {
    let run = |ok, unfinished, change| {
        summary_of(closed(ok + unfinished, 1), some_unfinished(ok, unfinished), report(Phase::Measured), change)
    };
    assert_eq!(find(&run(100, 1, unchanged), "unfinished"), None, "1 % does not reach p99");
    let run_8_2 = run(8, 2, unchanged);
    let some = find(&run_8_2, "unfinished").unwrap();
    assert_eq!(some, &Finding::Unfinished { share: 0.2, unfinished: 2, sent: 10, interrupted: false });
    assert_eq!(some.severity(), Severity::Caution);
    let text = some.en();
    assert!(text.starts_with("20.0 % of the requests sent (2 of 10)"), "{text}");
    assert!(text.contains("longest responses are missing") && text.ends_with("--drain or --duration."), "{text}");
    let none = run(0, 6, unchanged);
    assert!(none.all_failed());
    let none = find(&none, "unfinished").unwrap();
    assert_eq!(none, &Finding::NoneFinished { in_flight: 6, interrupted: false });
    assert!(none.en().ends_with("--drain or --duration."), "{}", none.en());
    let by_hand = run(8, 2, interrupted);
    assert!(!find(&by_hand, "unfinished").unwrap().en().contains("--drain"), "an interrupt needs no advice");
    let note = find(&by_hand, "interrupted").unwrap();
    assert_eq!((note, note.severity()), (&Finding::Interrupted { unsent: 0, unfinished: 2 }, Severity::Note));
    let unsent = WorkerReport { unsent: 1, ..report(Phase::Measured) };
    let both = summary_of(closed(4, 1), some_unfinished(2, 1), unsent, interrupted);
    let text = find(&both, "interrupted").unwrap().en();
    assert_eq!(text, "The run was interrupted: 1 request was not sent, and 1 request was still in flight at its end.");
}

#[test]
fn failures_are_counted_among_requests_that_ended() {
    let mut block = some_unfinished(0, 1);
    push_failed(&mut block, 1, 60, Outcome::Failed(Failure::Reset), "");
    let s = summary_of(closed(2, 1), block, report(Phase::Measured), unchanged);
    assert_eq!(find(&s, "failures"), Some(&Finding::AllFailed { unfinished: 1 }));
}

#[test]
fn requests_not_stored_by_a_killed_run_are_unknown() {
    let s = summary_of(closed(50, 1), some_unfinished(10, 0), report(Phase::Measured), killed);
    assert_eq!((s.counts.unsent, s.counts.unknown, s.counts.scheduled), (0, 40, 50));
    assert!(!s.is_void(), "{:?}", s.findings);
    let text = screen::render(&s, 120);
    assert!(text.contains("| Unknown requests (not stored)     |   40 ") && !text.contains("Unsent"), "{text}");
    let summary = json::summary(&s);
    assert!(summary["Unsent requests"].is_null() && summary["Unknown requests (not stored)"] == 40, "{summary}");
    let endless = RunFacts { requests: None, ..closed(0, 1) };
    let s = summary_of(endless, some_unfinished(10, 0), report(Phase::Measured), killed);
    assert!(json::summary(&s)["Unknown requests (not stored)"].is_null());
    let whole = summary_of(closed(10, 1), some_unfinished(10, 0), report(Phase::Measured), unchanged);
    assert_eq!(json::summary(&whole)["Unknown requests (not stored)"], 0);
}

#[test]
fn few_forced_switches_are_not_reported() {
    let run = |involuntary_switches, wall_ns| {
        let worker = WorkerReport { involuntary_switches, wall_ns, ..report(Phase::Measured) };
        summary_of(closed(4, 1), some_unfinished(4, 0), worker, unchanged)
    };
    assert_eq!(find(&run(1, MS / 2), "switches"), None);
    assert_eq!(find(&run(19, 100 * MS), "switches"), None);
    assert_eq!(find(&run(50, 50 * MS), "switches"), None);
    assert!(find(&run(20, 200 * MS), "switches").is_some());
}

fn open_loop(requests: u64) -> RunFacts {
    RunFacts {
        mode: Mode::Open,
        parallel: None,
        rate_per_s: Some(100.0),
        arrival: Some("constant".to_string()),
        ..closed(requests, 1)
    }
}

#[test]
fn failed_connections_do_not_suggest_more_cores() {
    let mut block = Block::new(0);
    for index in 0..200 {
        if index % 2 == 0 {
            push_ok(&mut block, index, index * 10, &[20, 30]);
        } else {
            let failed = Outcome::Failed(Failure::Connect);
            push_failed(&mut block, index, index * 10, failed, "Too many open files (os error 24)");
            block.records[index as usize].write_start = None;
        }
    }
    let s = summary_of(open_loop(200), block, report(Phase::Measured), unchanged);
    let rate = find(&s, "rate").unwrap();
    assert!(matches!(rate, Finding::RateWithoutConnections { requests: 100, .. }), "{rate:?}");
    assert!(!rate.en().contains("workers"), "{}", rate.en());
}

#[test]
fn growth_is_reported_only_for_runs_longer_than_their_responses() {
    let run = |latency_ms: fn(u64) -> u64, change| {
        let mut block = Block::new(0);
        (0..200).for_each(|index| push_ok(&mut block, index, index * 10, &[latency_ms(index)]));
        summary_of(open_loop(200), block, report(Phase::Measured), change)
    };
    let overloaded = |index: u64| 100 + index * 10;
    assert!(find(&run(overloaded, unchanged), "growth").is_some());
    assert_eq!(find(&run(overloaded, interrupted), "growth"), None, "the run was interrupted");
    assert_eq!(find(&run(|_| 15_000, unchanged), "growth"), None, "no response ended while requests were sent");
}

#[test]
fn bursts_have_no_planned_rate_and_closed_loops_no_rates() {
    let burst = RunFacts { rate_per_s: Some(0.0), arrival: Some("burst".to_string()), ..open_loop(4) };
    let s = summary_of(burst, some_unfinished(4, 0), report(Phase::Measured), unchanged);
    assert!(json::summary(&s)["Planned request rate (req/s)"].is_null());
    let text = screen::render(&s, 120);
    let planned = text.lines().find(|line| line.contains("Planned request rate (req/s)")).unwrap();
    assert_eq!(planned.split('|').nth(2).map(str::trim), Some("-"));
    let s = summary_of(closed(4, 1), some_unfinished(4, 0), report(Phase::Measured), unchanged);
    let summary = json::summary(&s);
    assert!(summary["Sent request rate (req/s)"].is_null() && summary["Achieved request rate (req/s)"].is_null());
    assert!(!screen::render(&s, 120).contains("request rate"));
}

#[test]
fn failure_table_counts_the_omitted_texts() {
    let mut block = Block::new(0);
    for (index, word) in ["alpha", "beta", "gamma", "delta", "epsilon", "delta"].iter().enumerate() {
        push_failed(&mut block, index as u64, index as u64 * 10, Outcome::Failed(Failure::Status), word);
    }
    for index in 6..300 {
        let words = format!("request req-{index:08x} is too much");
        push_failed(&mut block, index, index * 10, Outcome::Failed(Failure::Status), &words);
    }
    block.records[7].retried = true;
    let s = summary_of(closed(300, 1), block, report(Phase::Measured), unchanged);
    let text = screen::render(&s, 120);
    assert!(text.contains("294 x 429: request req-00000006 is too much (ids or numbers differ)"), "{text}");
    assert!(
        text.contains("2 x 429: delta") && text.contains("1 x 429: alpha") && text.contains("and 3 others"),
        "{text}"
    );
    assert!(text.contains("| Detail"), "not all details are texts of the server: {text}");
    let failures = &json::summary(&s)["Failures"][0];
    assert_eq!((&failures["count"], &failures["others"]), (&300.into(), &3.into()));
    assert_eq!(find(&s, "retried"), Some(&Finding::Retried { requests: 1 }));
}

/// A schedule of `rate_per_s` with a request every `every_ms`, each of which waits `wait_ms` for a slot.
fn paced(rate_per_s: f64, every_ms: u64, wait_ms: u64) -> Summary {
    let mut block = Block::new(0);
    for index in 0..60 {
        let due_ms = index * every_ms;
        let waited_ms = wait_ms * index;
        push_ok(&mut block, index, due_ms, &[waited_ms + 200, waited_ms + 210]);
        let record = block.records.last_mut().unwrap();
        (record.picked, record.write_start) = (Some(at(due_ms + waited_ms)), Some(at(due_ms + waited_ms)));
    }
    let facts = RunFacts {
        mode: Mode::Paced,
        rate_per_s: Some(rate_per_s),
        arrival: Some("poisson".to_string()),
        ..closed(60, 2)
    };
    summary_of(facts, block, report(Phase::Measured), unchanged)
}

#[test]
fn a_request_that_hangs_in_the_only_slot_is_reported() {
    let run = |long_ms: u64| {
        let mut block = some_unfinished(40, 0);
        push_ok(&mut block, 40, 2400, &[20, long_ms]);
        summary_of(closed(41, 1), block, report(Phase::Measured), unchanged)
    };
    let hung = run(20_000);
    let finding = find(&hung, "stragglers").unwrap();
    assert!(matches!(finding, Finding::Stragglers { requests: 1, median_ns: 31_000_000, .. }), "{finding:?}");
    assert!(finding.en().starts_with("1 request was in flight for up to 20.0 s"), "{}", finding.en());
    assert_eq!(find(&run(40), "stragglers"), None);
}

#[test]
fn a_rate_that_parallel_cannot_carry_is_reported() {
    // 50 requests/s are scheduled and 10 sent.
    let held = paced(50.0, 20, 80);
    let finding = find(&held, "rate_held_back").unwrap();
    let Finding::RateHeldBack { offered_per_s, sent_per_s, parallel: 2, held_share, needed, .. } = *finding else {
        panic!("{finding:?}")
    };
    assert!((offered_per_s - 50.0).abs() < 1e-6 && (sent_per_s - 10.0).abs() < 1e-6, "{finding:?}");
    assert!(held_share > 0.98 && needed == 11, "{finding:?}");
    assert_eq!(finding.severity(), Severity::Caution);
    let text = finding.en();
    assert!(
        text.starts_with("--parallel 2 held requests back: 50.00 requests/s were scheduled and 10.00 sent."),
        "{text}"
    );
    assert!(text.contains("their times contain that wait") && text.contains("--parallel 11 or more"), "{text}");
    assert_eq!(find(&paced(50.0, 20, 0), "rate_held_back"), None);
}

#[test]
fn a_schedule_that_offers_another_rate_is_reported() {
    // 59 intervals of 20 ms are 59 requests in 1.18 s; 100 requests/s would be 118.
    let off = paced(100.0, 20, 0);
    let finding = find(&off, "schedule").unwrap();
    assert!(matches!(finding, Finding::ScheduleCount { requests: 59, .. }), "{finding:?}");
    assert!(finding.en().contains("59 requests in 1.18 s"), "{}", finding.en());
    assert_eq!(find(&paced(52.0, 20, 0), "schedule"), None);
}

#[test]
fn cached_input_is_reported() {
    let run = |distinct_prompts, cached: Option<u32>| {
        let mut block = some_unfinished(40, 0);
        block.records.iter_mut().for_each(|record| record.cached_tokens = cached);
        let facts = RunFacts { distinct_prompts, ..closed(40, 1) };
        summary_of(facts, block, report(Phase::Measured), unchanged)
    };
    // Four of ten tokens.
    let warm = run(true, Some(4));
    let finding = find(&warm, "cached_tokens").unwrap();
    assert_eq!((finding.severity(), warm.cached_share), (Severity::Caution, Some(0.4)));
    assert!(
        finding.en().starts_with("The server had 40.0 % of the input tokens in its prefix cache"),
        "{}",
        finding.en()
    );
    assert!(screen::render(&warm, 120).contains("| Cached input tokens (%)"));
    assert_eq!(json::summary(&warm)["Cached input tokens (%)"], 40.0);
    assert_eq!(find(&run(false, Some(4)), "cached_tokens").unwrap().severity(), Severity::Note);
    let cold = run(true, Some(0));
    assert_eq!((find(&cold, "cached_tokens"), cold.cached_share), (None, Some(0.0)));
    let unknown = run(true, None);
    assert_eq!((find(&unknown, "cached_tokens"), unknown.cached_share), (None, None));
    assert!(!screen::render(&unknown, 120).contains("Cached input"));
}

#[test]
fn answers_that_are_short_despite_ignore_eos_are_reported() {
    let run = |facts: RunFacts, finish: Finish| {
        let mut block = some_unfinished(40, 0);
        block.records.iter_mut().for_each(|record| record.finish = finish);
        summary_of(facts, block, report(Phase::Measured), unchanged)
    };
    let facts = |ignore_eos, full_answer_tokens| RunFacts { ignore_eos, full_answer_tokens, ..closed(40, 1) };
    let short = run(facts(true, None), Finish::Stop);
    let expected = Finding::ShortAnswers { short: 40, answers: 40, asked_tokens: None, mean_tokens: Some(2.0) };
    assert_eq!(find(&short, "short_answers"), Some(&expected));
    assert!(find(&run(facts(true, Some(3)), Finish::Length), "short_answers").is_some(), "two tokens instead of three");
    assert_eq!(find(&run(facts(true, Some(2)), Finish::Length), "short_answers"), None);
    assert_eq!(find(&run(facts(false, None), Finish::Stop), "short_answers"), None);
}

#[test]
fn objectives_have_units() {
    let facts = RunFacts { slo: r#"[{"p99_ttft":"<=60ms","rps":">=1"}]"#.to_string(), ..closed(4, 1) };
    let s = summary_of(facts, some_unfinished(4, 0), report(Phase::Measured), unchanged);
    let text = screen::render(&s, 120);
    assert!(text.contains("| p99_ttft<=60ms |") && text.contains(" 20.00* ms | met "), "{text}");
    assert!(text.contains("| rps>=1         |") && text.contains(" req/s | met "), "{text}");
}
