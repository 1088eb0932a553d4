//! Conversations: their messages, times, limits and outcomes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::harness::{FinishedRun, StoredRequest, mock, perf, perf_until, spec};
use ringmark::finding::Finding;
use ringmark::mock::Mock;
use ringmark::plan::Save;
use ringmark::record::Outcome;
use ringmark::report;
use ringmark::spec::Spec;
use ringmark::time::MS;

/// The number of turns of each conversation in the dataset.
const TURNS: [usize; 5] = [1, 2, 3, 2, 4];

/// The user's message of a turn.
fn user_text(conversation: usize, turn: usize) -> String {
    format!("{conversation} \"{turn}\" 熵\n")
}

/// Writes the dataset, and returns a spec that uses it.
fn dataset_spec(folder: &Path) -> Spec {
    let mut text = String::new();
    for (number, turns) in TURNS.into_iter().enumerate() {
        let mut messages = vec![json!({"role": "system", "content": format!("system {number}")})];
        for turn in 0..turns {
            messages.push(json!({"role": "user", "content": user_text(number, turn)}));
            messages.push(json!({"role": "assistant", "content": "never sent"}));
        }
        text.push_str(&format!("{}\n", Value::from(messages)));
    }
    let path = folder.join("conversations.jsonl");
    std::fs::write(&path, text).unwrap();
    Spec::default().with(|s| {
        s.data.dataset = Some("custom_multi_turn".to_string());
        s.data.dataset_path = Some(path);
    })
}

/// The spec of a run of the five conversations in multi-turn mode.
fn conversations_spec(folder: &Path, mock: &Mock) -> Spec {
    spec(mock).with(|s| {
        s.data = dataset_spec(folder).data;
        s.data.multi_turn = true;
        s.load.number = vec![5];
        s.target.no_test_connection = true;
    })
}

/// The request bodies by request number.
fn bodies(run: &FinishedRun) -> BTreeMap<u64, Value> {
    let database = Connection::open(&run.database).unwrap();
    let sql = "SELECT r.idx, b.json FROM request r JOIN body b ON b.id = r.body_id WHERE r.phase = 'measured'";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| row.map(|(index, json)| (index, serde_json::from_str(&json).unwrap())).unwrap()).collect()
}

/// The requests of every conversation, in the order of their turns. Asserts their numbers and times.
fn conversations(run: &FinishedRun) -> BTreeMap<u64, Vec<&StoredRequest>> {
    let mut all: BTreeMap<u64, Vec<&StoredRequest>> = BTreeMap::new();
    for request in &run.measured {
        all.entry(request.record.conversation.unwrap()).or_default().push(request);
    }
    for requests in all.values_mut() {
        requests.sort_by_key(|request| request.record.turn);
        let turns: Vec<u32> = requests.iter().map(|request| request.record.turn).collect();
        assert!(turns.iter().copied().eq(0..turns.len() as u32), "turns {turns:?}");
        // A turn is due when the previous response has ended or later, and is not sent before it is due.
        for pair in requests.windows(2) {
            let (before, after) = (&pair[0].record, &pair[1].record);
            assert_eq!(before.outcome, Outcome::Ok);
            assert!(after.due >= before.end && after.write_start.is_none_or(|sent| sent >= after.due));
            assert_eq!((after.index, after.previous_end), (before.index + 1, Some(before.end)));
        }
    }
    all
}

/// Asserts that every body contains the conversation so far: the user's messages from the dataset, and the stored
/// responses. `system_apart`: the body has the system message in a separate field.
fn assert_histories(run: &FinishedRun, system_apart: bool) {
    let bodies = bodies(run);
    for (number, requests) in conversations(run) {
        let place = number as usize % TURNS.len();
        let system = json!({"role": "system", "content": format!("system {place}")});
        let mut expected = if system_apart { Vec::new() } else { vec![system] };
        for (turn, request) in requests.iter().enumerate() {
            expected.push(json!({"role": "user", "content": user_text(place, turn)}));
            let body = &bodies[&request.record.index];
            let places = ["/messages", "/input/messages", "/input"];
            let messages = places.into_iter().find_map(|place| body.pointer(place)).unwrap();
            assert_eq!(messages, &Value::from(expected.clone()), "conversation {number}, turn {turn}");
            if system_apart {
                assert_eq!(body["system"], format!("system {place}"));
            }
            expected.push(json!({"role": "assistant", "content": request.text}));
        }
    }
}

#[test]
fn turns_have_seeds_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0ms&tokens=3");
    for max_tokens in [vec![9], vec![1, 999]] {
        let run = perf(&conversations_spec(folder.path(), &mock).with(|s| {
            s.sampling.seed_per_request = true;
            s.sampling.max_tokens = max_tokens;
        }));
        run.assert_all_ok();
        let seeds: std::collections::BTreeSet<u64> =
            bodies(&run).values().map(|body| body["seed"].as_u64().unwrap()).collect();
        assert!(seeds.len() == run.measured.len() && seeds.iter().all(|seed| *seed >= 1_000_000_000), "{seeds:?}");
    }
}

#[test]
fn slots_without_conversations_are_not_the_clients_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=80ms&itl=1ms&tokens=2");
    let run = perf(&conversations_spec(folder.path(), &mock).with(|s| s.load.number = vec![10]));
    run.assert_all_ok();
    // The last conversation has four turns, and no other one is left.
    assert!(run.summary.concurrency.mean_while_sending.unwrap() < 0.95 * 4.0);
    let findings = &run.summary.findings;
    assert!(findings.iter().any(|finding| matches!(finding, Finding::FewConversations { .. })), "{findings:?}");
    assert!(!findings.iter().any(|finding| matches!(finding, Finding::IdleSlots { .. })), "{findings:?}");
}

#[test]
fn history_contains_the_model_responses() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=2ms&itl=1ms&tokens=uniform(1,9)&text=mixed");
    for workers in [1, 2] {
        let load = conversations_spec(folder.path(), &mock).with(|s| {
            s.load.number = vec![12];
            s.client.workers = Some(workers);
        });
        let run = perf(&load);
        run.assert_all_ok();
        // The whole dataset twice, and its first two conversations again.
        assert_eq!(run.summary.counts.scheduled, 2 * 12 + 1 + 2);
        assert_eq!(conversations(&run).len(), 12);
        assert_histories(&run, false);
        assert!(run.summary.concurrency.peak.unwrap() <= 4);
        let turns = run.summary.turns.as_ref().unwrap();
        let requests: Vec<u64> = turns.rows.iter().map(|row| row.requests).collect();
        assert_eq!((turns.begun, turns.planned, requests), (12, Some(12), vec![12, 9, 4, 2]));
        assert!(report::screen::render(&run.summary, 200).contains("Turns (12 of 12 conversations begun"));
        assert!(run.measured.iter().any(|request| request.record.turn > 0 && request.record.reused));
    }
}

#[test]
fn history_contains_no_reasoning() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=1ms&tokens=8&text=mixed&reasoning=3");
    for stream in [true, false] {
        let run = perf(&conversations_spec(folder.path(), &mock).with(|s| s.sampling.no_stream = !stream));
        run.assert_all_ok();
        assert!(run.measured.iter().all(|request| request.record.reasoning.len > 0 && !request.text.is_empty()));
        assert_histories(&run, false);
    }
}

#[test]
fn all_apis_with_messages_support_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=1ms&tokens=5&text=mixed");
    for (api, path) in [
        ("openai_responses", "/v1/responses"),
        ("anthropic", "/v1/messages"),
        ("dashscope", "/api/v1/services/aigc/text-generation/generation"),
    ] {
        let url = Some(format!("http://{}{path}", mock.addr()));
        let load = conversations_spec(folder.path(), &mock).with(|s| {
            s.target.api = api.to_string();
            s.target.url = url;
            s.sampling.max_tokens = vec![3, 6];
        });
        let run = perf(&load);
        run.assert_all_ok();
        assert_histories(&run, api == "anthropic");
        let places = ["/max_tokens", "/max_output_tokens", "/parameters/max_tokens"];
        let limit = |body: &Value| places.into_iter().find_map(|place| body.pointer(place)?.as_u64()).unwrap();
        let limits: Vec<u64> = bodies(&run).values().map(limit).collect();
        assert!(limits.len() == 12 && limits.iter().all(|limit| (3..=6).contains(limit)), "{limits:?}");
        assert!(limits.iter().any(|limit| *limit != limits[0]), "all turns have the same limit: {limits:?}");
    }
}

#[test]
fn turns_are_due_after_the_think_time() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3");
    let run = perf(&conversations_spec(folder.path(), &mock).with(|s| s.data.think_time_s = vec![0.02, 0.05]));
    run.assert_all_ok();
    let mut pauses = Vec::new();
    for requests in conversations(&run).values() {
        pauses.extend(requests.windows(2).map(|pair| pair[1].record.due.ns_since(pair[0].record.end)));
    }
    assert_eq!(pauses.len(), 7);
    assert!(pauses.iter().all(|ns| (20 * MS as i64..=50 * MS as i64).contains(ns)), "{pauses:?}");
    assert!(pauses.iter().any(|ns| *ns != pauses[0]), "the pause is the same for all turns");
    assert!(run.summary.findings.iter().all(|finding| finding.code() != "concurrency"));
}

#[test]
fn failed_turns_end_their_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3&fault=status(503):1/4");
    let run = perf(&conversations_spec(folder.path(), &mock).with(|s| s.load.number = vec![20]));
    run.assert_totals();
    let counts = run.summary.counts;
    assert_eq!((counts.scheduled, counts.unfinished), (4 * 12, 0));
    assert!(counts.failed >= 5 && counts.unsent > 0, "{counts:?}");
    let all = conversations(&run);
    assert_eq!(all.len(), 20);
    let missing: usize = all.iter().map(|(number, sent)| TURNS[*number as usize % 5] - sent.len()).sum();
    assert_eq!(counts.unsent, missing as u64);
    let broken = all.values().filter(|sent| sent.last().unwrap().record.outcome != Outcome::Ok).count();
    assert_eq!((broken as u64, run.summary.turns.as_ref().unwrap().broken), (counts.failed, counts.failed));
    assert!(run.summary.findings.iter().any(|finding| finding.code() == "conversations"));
    assert_histories(&run, false);
}

/// The parts of all requests that do not depend on the responses: numbers, user messages and limits.
fn user_messages_and_limits(run: &FinishedRun) -> Vec<Value> {
    let bodies = bodies(run);
    let fixed_parts = |request: &StoredRequest| {
        let record = &request.record;
        let body = &bodies[&record.index];
        let messages = body["messages"].as_array().unwrap().iter();
        let users: Vec<&Value> = messages.filter(|message| message["role"] == "user").collect();
        json!([record.index, record.conversation, record.turn, users, body["max_tokens"]])
    };
    run.measured.iter().map(fixed_parts).collect()
}

#[test]
fn conversations_do_not_depend_on_the_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=uniform(1,30)");
    let load = conversations_spec(folder.path(), &mock).with(|s| {
        s.load.number = vec![17];
        s.sampling.max_tokens = vec![5, 25];
        s.sampling.seed = Some(3);
    });
    let plans: Vec<_> = [1, 3]
        .map(|workers| user_messages_and_limits(&perf(&load.clone().with(|s| s.client.workers = Some(workers)))))
        .into_iter()
        .collect();
    assert_eq!(plans[0].len(), 3 * 12 + 1 + 2);
    assert_eq!(plans[0], plans[1]);
    let other = user_messages_and_limits(&perf(&load.with(|s| s.sampling.seed = Some(4))));
    assert_ne!(other, plans[0], "the limits do not depend on the seed");
}

#[test]
fn rate_is_the_rate_of_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=10ms&itl=1ms&tokens=4");
    for (open_loop, parallel) in [(true, vec![]), (false, vec![50])] {
        let arrival = Some("constant".to_string());
        let load = conversations_spec(folder.path(), &mock).with(|s| {
            s.load.rate = vec![200.0];
            s.load.arrival = arrival;
            s.load.open_loop = open_loop;
            s.load.parallel = parallel;
        });
        let run = perf(&load.with(|s| {
            s.load.number = vec![10];
            s.data.think_time_s = vec![0.01];
        }));
        run.assert_all_ok();
        assert_eq!(run.measured.len(), 24);
        let starts: Vec<i64> =
            conversations(&run).values().map(|sent| sent[0].record.due.ns_since(run.measured[0].record.due)).collect();
        let expected: Vec<i64> = (0..10).map(|n| n * 5 * MS as i64).collect();
        assert_eq!(starts, expected);
        assert_histories(&run, false);
        let text = report::screen::render(&run.summary, 90);
        assert!(text.contains("Planned conversation rate (1/s)") && text.contains("| Turn | Input tokens"), "{text}");
    }
}

#[test]
fn warm_up_runs_separate_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3");
    let load = conversations_spec(folder.path(), &mock);
    let run = perf(&load.with(|s| {
        s.load.number = vec![4];
        s.load.warmup_num = 0.5;
    }));
    run.assert_all_ok();
    // The warm-up has the last two conversations of the dataset.
    assert_eq!(run.warmup.len(), 4 + 2);
    let begun: Vec<_> = run.warmup.iter().filter(|request| request.record.turn == 0).collect();
    assert_eq!(begun.iter().filter_map(|request| request.record.conversation).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(run.measured.len(), 1 + 2 + 3 + 2);
    assert_histories(&run, false);
    assert_eq!(run.summary.turns.unwrap().begun, 4);
}

#[test]
fn the_duration_ends_conversations_midway() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=15ms&itl=1ms&tokens=5");
    let base = conversations_spec(folder.path(), &mock).with(|s| {
        s.load.duration_s = Some(0.5);
        s.load.drain_s = Some(0.0);
        s.data.think_time_s = vec![0.1];
        s.client.workers = Some(2);
    });
    let numbered = perf(&base.clone().with(|s| s.load.number = vec![1000]));
    assert_eq!(numbered.summary.counts.scheduled, 200 * 12);
    let endless = perf(&base.clone().with(|s| s.load.number = Vec::new()));
    let open = base.clone().with(|s| {
        s.load.rate = vec![100.0];
        s.load.open_loop = true;
        s.load.parallel = Vec::new();
        s.load.number = vec![1000];
    });
    let paced = base.clone().with(|s| {
        s.load.rate = vec![30.0];
        s.load.number = vec![1000];
    });
    for run in [numbered, endless, perf(&open), perf(&paced)] {
        run.assert_totals();
        let begun: usize = conversations(&run).keys().map(|number| TURNS[*number as usize % 5]).sum();
        let counts = run.summary.counts;
        assert!(run.measured.len() < begun && counts.ok > 0 && counts.failed == 0, "{counts:?} of {begun}");
        if run.stored.facts.requests.is_none() {
            assert_eq!(counts.scheduled, begun as u64);
        }
        assert!(run.summary.findings.iter().all(|finding| finding.code() != "totals"));
    }
}

#[test]
fn interrupts_end_conversations_midway() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=5ms&itl=1ms&tokens=5");
    let stop = Arc::new(AtomicU8::new(0));
    let load = conversations_spec(folder.path(), &mock).with(|s| {
        s.load.number = vec![100_000];
        s.data.think_time_s = vec![0.02];
    });
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            while mock.stats().requests < 20 {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(1, Ordering::Relaxed);
        });
        perf_until(&load, stop.clone()).unwrap()
    });
    run.assert_totals();
    assert_eq!(run.summary.counts.scheduled, 20_000 * 12);
    assert!(run.summary.counts.unsent > 0 && run.summary.counts.ok > 0);
}

#[test]
fn history_contains_responses_that_are_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=20");
    let run = perf(&conversations_spec(folder.path(), &mock).with(|s| s.output.save = Save::Metrics));
    run.assert_all_ok();
    assert!(bodies(&run).is_empty());
    assert!(run.measured.iter().all(|request| request.text.is_empty()));
    for sent in conversations(&run).values() {
        for pair in sent.windows(2) {
            let input = |request: &StoredRequest| request.record.input_tokens.unwrap();
            assert!(input(pair[1]) >= input(pair[0]) + 20, "the input does not contain the previous response");
        }
    }
}
