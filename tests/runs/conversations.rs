//! Conversations against the mock: what was said, when, by whom, and where every turn went.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::harness::{Kept, Ran, mock, perf, perf_until, spec};
use ringmark::mock::Mock;
use ringmark::plan::Save;
use ringmark::record::Outcome;
use ringmark::report;
use ringmark::spec::Spec;
use ringmark::time::MS;

/// Five conversations of 1, 2, 3, 2 and 4 turns.
const TURNS: [usize; 5] = [1, 2, 3, 2, 4];

/// What the user says in a turn.
fn said(conversation: usize, turn: usize) -> String {
    format!("{conversation} \"{turn}\" 熵\n")
}

fn data(folder: &Path) -> Spec {
    let mut text = String::new();
    for (number, turns) in TURNS.into_iter().enumerate() {
        let mut messages = vec![json!({"role": "system", "content": format!("system {number}")})];
        for turn in 0..turns {
            messages.push(json!({"role": "user", "content": said(number, turn)}));
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

/// A call of these conversations, all of which the server must get as they stand in the file.
fn talk(folder: &Path, mock: &Mock) -> Spec {
    spec(mock).with(|s| {
        s.data = data(folder).data;
        s.data.multi_turn = true;
        s.load.number = vec![5];
        s.target.no_test_connection = true;
    })
}

/// The bodies that were sent, by request.
fn bodies(ran: &Ran) -> BTreeMap<u64, Value> {
    let database = Connection::open(&ran.database).unwrap();
    let sql = "SELECT r.idx, b.json FROM request r JOIN body b ON b.id = r.body_id WHERE r.phase = 'measured'";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| row.map(|(index, json)| (index, serde_json::from_str(&json).unwrap())).unwrap()).collect()
}

/// The requests of every conversation, in the order of their turns.
fn conversations(ran: &Ran) -> BTreeMap<u64, Vec<&Kept>> {
    let mut all: BTreeMap<u64, Vec<&Kept>> = BTreeMap::new();
    for kept in &ran.measured {
        all.entry(kept.record.conversation.unwrap()).or_default().push(kept);
    }
    for requests in all.values_mut() {
        requests.sort_by_key(|kept| kept.record.turn);
        let turns: Vec<u32> = requests.iter().map(|kept| kept.record.turn).collect();
        assert!(turns.iter().copied().eq(0..turns.len() as u32), "turns {turns:?}");
        // A later turn is due when the answer before it has ended, never sooner, and is sent then or later.
        for pair in requests.windows(2) {
            let (before, after) = (&pair[0].record, &pair[1].record);
            assert_eq!(before.outcome, Outcome::Ok);
            assert!(after.due >= before.end && after.write_start.is_none_or(|sent| sent >= after.due));
            assert_eq!((after.index, after.previous_end), (before.index + 1, Some(before.end)));
        }
    }
    all
}

/// Every body holds what was said so far: the data's own words for the user, the answers as they were stored.
fn histories_are_true(ran: &Ran, system_apart: bool) {
    let bodies = bodies(ran);
    for (number, requests) in conversations(ran) {
        let place = number as usize % TURNS.len();
        let system = json!({"role": "system", "content": format!("system {place}")});
        let mut expected = if system_apart { Vec::new() } else { vec![system] };
        for (turn, kept) in requests.iter().enumerate() {
            expected.push(json!({"role": "user", "content": said(place, turn)}));
            let body = &bodies[&kept.record.index];
            let places = ["/messages", "/input/messages", "/input"];
            let messages = places.into_iter().find_map(|place| body.pointer(place)).unwrap();
            assert_eq!(messages, &Value::from(expected.clone()), "conversation {number}, turn {turn}");
            if system_apart {
                assert_eq!(body["system"], format!("system {place}"));
            }
            expected.push(json!({"role": "assistant", "content": kept.text}));
        }
    }
}

#[test]
fn the_history_holds_what_the_model_said() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=2ms&itl=1ms&tokens=uniform(1,9)&text=mixed");
    for workers in [1, 2] {
        let asked = talk(folder.path(), &mock).with(|s| {
            s.load.number = vec![12];
            s.client.workers = Some(workers);
        });
        let ran = perf(&asked);
        ran.all_ok();
        // Twice through the data, and its first two conversations again.
        assert_eq!(ran.summary.counts.scheduled, 2 * 12 + 1 + 2);
        assert_eq!(conversations(&ran).len(), 12);
        histories_are_true(&ran, false);
        assert!(ran.summary.concurrency.peak <= 4);
        let turns = ran.summary.turns.as_ref().unwrap();
        let requests: Vec<u64> = turns.rows.iter().map(|row| row.requests).collect();
        assert_eq!((turns.begun, turns.planned, requests), (12, Some(12), vec![12, 9, 4, 2]));
        assert!(report::screen::render(&ran.summary, 200).contains("Turns (12 of 12 conversations begun"));
        assert!(ran.measured.iter().any(|kept| kept.record.turn > 0 && kept.record.reused));
    }
}

#[test]
fn reasoning_is_not_said_again_and_whole_answers_are() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=1ms&tokens=8&text=mixed&reasoning=3");
    for stream in [true, false] {
        let ran = perf(&talk(folder.path(), &mock).with(|s| s.sampling.no_stream = !stream));
        ran.all_ok();
        assert!(ran.measured.iter().all(|kept| kept.record.reasoning.len > 0 && !kept.text.is_empty()));
        histories_are_true(&ran, false);
    }
}

#[test]
fn every_api_of_messages_carries_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=1ms&tokens=5&text=mixed");
    for (api, path) in [
        ("openai_responses", "/v1/responses"),
        ("anthropic", "/v1/messages"),
        ("dashscope", "/api/v1/services/aigc/text-generation/generation"),
    ] {
        let url = Some(format!("http://{}{path}", mock.addr()));
        let asked = talk(folder.path(), &mock).with(|s| {
            s.target.api = api.to_string();
            s.target.url = url;
            s.sampling.max_tokens = vec![3, 6];
        });
        let ran = perf(&asked);
        ran.all_ok();
        histories_are_true(&ran, api == "anthropic");
        let places = ["/max_tokens", "/max_output_tokens", "/parameters/max_tokens"];
        let limit = |body: &Value| places.into_iter().find_map(|place| body.pointer(place)?.as_u64()).unwrap();
        let limits: Vec<u64> = bodies(&ran).values().map(limit).collect();
        assert!(limits.len() == 12 && limits.iter().all(|limit| (3..=6).contains(limit)), "{limits:?}");
        assert!(limits.iter().any(|limit| *limit != limits[0]), "one limit for all turns: {limits:?}");
    }
}

#[test]
fn the_pause_is_over_before_the_next_turn_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3");
    let ran = perf(&talk(folder.path(), &mock).with(|s| s.data.think_time_s = vec![0.02, 0.05]));
    ran.all_ok();
    let mut pauses = Vec::new();
    for requests in conversations(&ran).values() {
        pauses.extend(requests.windows(2).map(|pair| pair[1].record.due.ns_since(pair[0].record.end)));
    }
    assert_eq!(pauses.len(), 7);
    assert!(pauses.iter().all(|ns| (20 * MS as i64..=50 * MS as i64).contains(ns)), "{pauses:?}");
    assert!(pauses.iter().any(|ns| *ns != pauses[0]), "drawn for each turn");
    assert!(ran.summary.findings.iter().all(|finding| finding.code() != "concurrency"));
}

#[test]
fn a_failed_turn_ends_its_conversation() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3&fault=status(503):1/4");
    let ran = perf(&talk(folder.path(), &mock).with(|s| s.load.number = vec![20]));
    ran.totals_add_up();
    let counts = ran.summary.counts;
    assert_eq!((counts.scheduled, counts.unfinished), (4 * 12, 0));
    assert!(counts.failed >= 5 && counts.unsent > 0, "{counts:?}");
    let all = conversations(&ran);
    assert_eq!(all.len(), 20);
    let missing: usize = all.iter().map(|(number, sent)| TURNS[*number as usize % 5] - sent.len()).sum();
    assert_eq!(counts.unsent, missing as u64);
    let broken = all.values().filter(|sent| sent.last().unwrap().record.outcome != Outcome::Ok).count();
    assert_eq!((broken as u64, ran.summary.turns.as_ref().unwrap().broken), (counts.failed, counts.failed));
    assert!(ran.summary.findings.iter().any(|finding| finding.code() == "conversations"));
    histories_are_true(&ran, false);
}

/// What the user said and the limits, by request, conversation and turn: all that does not depend on the answers.
fn plan_of(ran: &Ran) -> Vec<Value> {
    let bodies = bodies(ran);
    let of = |kept: &Kept| {
        let record = &kept.record;
        let body = &bodies[&record.index];
        let messages = body["messages"].as_array().unwrap().iter();
        let users: Vec<&Value> = messages.filter(|message| message["role"] == "user").collect();
        json!([record.index, record.conversation, record.turn, users, body["max_tokens"]])
    };
    ran.measured.iter().map(of).collect()
}

#[test]
fn every_worker_count_has_the_same_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=uniform(1,30)");
    let asked = talk(folder.path(), &mock).with(|s| {
        s.load.number = vec![17];
        s.sampling.max_tokens = vec![5, 25];
        s.sampling.seed = Some(3);
    });
    let plans: Vec<_> = [1, 3]
        .map(|workers| plan_of(&perf(&asked.clone().with(|s| s.client.workers = Some(workers)))))
        .into_iter()
        .collect();
    assert_eq!(plans[0].len(), 3 * 12 + 1 + 2);
    assert_eq!(plans[0], plans[1]);
    let other = plan_of(&perf(&asked.with(|s| s.sampling.seed = Some(4))));
    assert_ne!(other, plans[0], "the limits are seeded");
}

#[test]
fn a_rate_is_that_of_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=10ms&itl=1ms&tokens=4");
    for (open_loop, parallel) in [(true, vec![]), (false, vec![50])] {
        let arrival = Some("constant".to_string());
        let asked = talk(folder.path(), &mock).with(|s| {
            s.load.rate = vec![200.0];
            s.load.arrival = arrival;
            s.load.open_loop = open_loop;
            s.load.parallel = parallel;
        });
        let ran = perf(&asked.with(|s| {
            s.load.number = vec![10];
            s.data.think_time_s = vec![0.01];
        }));
        ran.all_ok();
        assert_eq!(ran.measured.len(), 24);
        let starts: Vec<i64> =
            conversations(&ran).values().map(|sent| sent[0].record.due.ns_since(ran.measured[0].record.due)).collect();
        let expected: Vec<i64> = (0..10).map(|n| n * 5 * MS as i64).collect();
        assert_eq!(starts, expected);
        histories_are_true(&ran, false);
        let text = report::screen::render(&ran.summary, 90);
        assert!(text.contains("Planned conversation rate (1/s)") && text.contains("| Turn | Input tokens"), "{text}");
    }
}

#[test]
fn warm_up_counts_conversations_and_leaves_the_measured_ones_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=3");
    let asked = talk(folder.path(), &mock);
    let ran = perf(&asked.with(|s| {
        s.load.number = vec![4];
        s.load.warmup_num = 0.5;
    }));
    ran.all_ok();
    // The two last of the data, and what the run needs of it: the first six, so all five.
    assert_eq!(ran.warmup.len(), 4 + 2);
    let begun: Vec<_> = ran.warmup.iter().filter(|kept| kept.record.turn == 0).collect();
    assert_eq!(begun.iter().filter_map(|kept| kept.record.conversation).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(ran.measured.len(), 1 + 2 + 3 + 2);
    histories_are_true(&ran, false);
    assert_eq!(ran.summary.turns.unwrap().begun, 4);
}

#[test]
fn the_end_comes_in_the_middle_of_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=15ms&itl=1ms&tokens=5");
    let base = talk(folder.path(), &mock).with(|s| {
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
    for ran in [numbered, endless, perf(&open), perf(&paced)] {
        ran.totals_add_up();
        let begun: usize = conversations(&ran).keys().map(|number| TURNS[*number as usize % 5]).sum();
        let counts = ran.summary.counts;
        assert!(ran.measured.len() < begun && counts.ok > 0 && counts.failed == 0, "{counts:?} of {begun}");
        if ran.stored.facts.requests.is_none() {
            assert_eq!(counts.scheduled, begun as u64);
        }
        assert!(ran.summary.findings.iter().all(|finding| finding.code() != "totals"));
    }
}

#[test]
fn an_interrupt_ends_conversations_too() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=5ms&itl=1ms&tokens=5");
    let stop = Arc::new(AtomicU8::new(0));
    let asked = talk(folder.path(), &mock).with(|s| {
        s.load.number = vec![100_000];
        s.data.think_time_s = vec![0.02];
    });
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| {
            while mock.stats().requests < 20 {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(1, Ordering::Relaxed);
        });
        perf_until(&asked, stop.clone()).unwrap()
    });
    ran.totals_add_up();
    assert_eq!(ran.summary.counts.scheduled, 20_000 * 12);
    assert!(ran.summary.counts.unsent > 0 && ran.summary.counts.ok > 0);
}

#[test]
fn answers_are_said_again_though_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mock = mock("ttft=1ms&itl=0&tokens=20");
    let ran = perf(&talk(folder.path(), &mock).with(|s| s.output.save = Save::Metrics));
    ran.all_ok();
    assert!(bodies(&ran).is_empty());
    assert!(ran.measured.iter().all(|kept| kept.text.is_empty()));
    for sent in conversations(&ran).values() {
        for pair in sent.windows(2) {
            let input = |kept: &Kept| kept.record.input_tokens.unwrap();
            assert!(input(pair[1]) >= input(pair[0]) + 20, "the mock counts the words it was sent");
        }
    }
}
