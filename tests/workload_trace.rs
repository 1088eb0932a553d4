//! Traces: arrival times, lengths and shared prefixes of recorded requests.

mod data_support;

use data_support::{bodies, chat, completions, content, data, plans, tokenizer, workload};
use ringmark::finding::Finding;
use ringmark::plan::{Load, Plan};
use ringmark::record::Phase;
use ringmark::spec::Spec;
use ringmark::workload::tokenizer::Tokenizer;
use ringmark::workload::{Workload, arrivals};
use serde_json::json;

fn trace(base: Spec, file: &str) -> Spec {
    base.with(|s| {
        s.data.dataset = Some("trace".to_string());
        s.data.dataset_path = Some(data(file));
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
    })
}

/// The first arrival times of a spec, milliseconds.
fn arrivals_ms(spec: &Spec, count: usize) -> Vec<u64> {
    let plan = plans(spec).unwrap().remove(0);
    arrivals::offsets(plan.load.schedule().unwrap(), 0, 0).take(count).map(|ns| ns / 1_000_000).collect()
}

#[test]
fn a_trace_is_an_open_loop_with_its_arrival_times() {
    let test_spec = trace(completions(), "mooncake.jsonl");
    let plan = plans(&test_spec).unwrap().remove(0);
    assert!(matches!(plan.load, Load::Open { .. }));
    assert_eq!(plan.requests, Some(4));
    assert!(plan.report.folder.ends_with("trace_number_4"), "{:?}", plan.report.folder);
    assert_eq!(arrivals_ms(&test_spec, 4), [0, 120, 400, 1000]);
    assert_eq!(arrivals_ms(&test_spec.with(|s| s.load.trace_speed = Some(4.0)), 4), [0, 30, 100, 250]);
    let times_alone = chat().with(|s| {
        s.load.arrival = Some(format!("trace:{}", data("burstgpt.csv").display()));
        s.load.parallel = vec![2];
    });
    assert_eq!(arrivals_ms(&times_alone, 2), [0, 2500]);
    assert_eq!(plans(&times_alone).unwrap()[0].load.parallel(), Some(2));
}

#[test]
fn the_warm_up_takes_the_first_rows_so_that_bodies_keep_their_times() {
    let test_spec = trace(completions(), "mooncake.jsonl");
    let rows = bodies(&workload(&test_spec).unwrap(), 4);
    for warmup_num in [1.0, 0.3] {
        let warm = test_spec.clone().with(|s| s.load.warmup_num = warmup_num);
        let plan = plans(&warm).unwrap().remove(0);
        assert_eq!((plan.requests, plan.warmup_requests), (Some(4 - plan.warmup_requests), 1));
        let made = workload(&warm).unwrap();
        let body = |phase, index| serde_json::from_slice::<serde_json::Value>(&made.body(phase, index)).unwrap();
        assert_eq!(body(Phase::Warmup, 0), rows[0]);
        assert_eq!((0..3).map(|index| body(Phase::Measured, index)).collect::<Vec<_>>(), rows[1..]);
    }
}

#[test]
fn prompts_have_the_recorded_lengths_and_share_their_blocks() {
    let tokens = Tokenizer::open(tokenizer("deepseek").as_ref()).unwrap();
    let made = bodies(&workload(&trace(completions(), "mooncake.jsonl")).unwrap(), 4);
    let ids: Vec<Vec<u32>> = made.iter().map(|body| tokens.encode(body["prompt"].as_str().unwrap()).unwrap()).collect();
    assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), [1300, 1100, 600, 40]);
    // The boundary of a shared block and the next one may differ by one token.
    assert_eq!(ids[0][..1020], ids[1][..1020]);
    assert_ne!(ids[0][1030..1100], ids[1][1030..1100]);
    assert_eq!(ids[0][..508], ids[2][..508]);
    assert_ne!(ids[0][520..590], ids[2][520..590]);
    assert_eq!((&made[0]["max_tokens"], &made[0]["ignore_eos"]), (&json!(5), &json!(true)));

    let burst = bodies(&workload(&trace(chat(), "burstgpt.csv")).unwrap(), 2);
    assert_eq!(tokens.count(content(&burst[1])).unwrap(), 41);
    assert_eq!(burst[1]["max_tokens"], 27);
}

#[test]
fn offsets_and_windows_move_times_and_prompts() {
    let asked = trace(completions(), "mooncake.jsonl").with(|s| s.data.dataset_offset = 2);
    assert_eq!(arrivals_ms(&asked, 2), [0, 600]);
    let runs = trace(completions(), "mooncake.jsonl").with(|s| {
        s.load.number = vec![1];
        s.load.repeat = 3;
        s.load.trace_speed = Some(2.0);
    });
    let plans = plans(&runs).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.workload.offset).collect::<Vec<_>>(), [0, 1, 2]);
    let second = |plan: &Plan| arrivals::offsets(plan.load.schedule().unwrap(), 0, 0).nth(1).unwrap() / 1_000_000;
    assert_eq!(plans.iter().map(second).collect::<Vec<_>>(), [60, 140, 300]);
    let part = trace(completions(), "mooncake.jsonl").with(|s| s.load.trace_window = Some("0.1..0.5".to_string()));
    assert_eq!(arrivals_ms(&part, 2), [0, 280]);
    let part = trace(completions(), "mooncake.jsonl").with(|s| s.load.trace_unit = Some("s".to_string()));
    assert_eq!(arrivals_ms(&part, 2), [0, 120_000]);
}

#[test]
fn skipped_rows_are_never_sent() {
    let asked = trace(completions(), "mooncake.jsonl").with(|s| s.data.dataset_offset = 3);
    let all = bodies(&workload(&trace(completions(), "mooncake.jsonl")).unwrap(), 4);
    let plan = plans(&asked).unwrap().remove(0);
    assert_eq!((plan.requests, arrivals_ms(&asked, 1)), (Some(1), vec![0]));
    assert_eq!(bodies(&workload(&asked).unwrap(), 1), all[3..]);
    let window = |offset| {
        trace(completions(), "mooncake.jsonl").with(|s| {
            s.load.trace_window = Some("0.1..0.5".to_string());
            s.data.dataset_offset = offset;
        })
    };
    assert_eq!(plans(&window(1)).unwrap()[0].requests, Some(1));
    let error = plans(&window(2)).unwrap_err();
    assert!(error.contains("--dataset-offset 2") && error.contains("has 2"), "{error}");
    let error = plans(&asked.clone().with(|s| s.data.dataset_offset = u64::MAX)).unwrap_err();
    assert!(error.contains("--dataset-offset") && error.contains("has 4"), "{error}");
    // More requests than rows, and more runs, start again after the skipped rows.
    let more = asked.with(|s| {
        s.data.dataset_offset = 2;
        s.load.number = vec![5];
        s.load.repeat = 2;
    });
    let made = workload(&more).unwrap();
    assert_eq!(bodies(&made, 4), [&all[2..], &all[2..]].concat());
    assert_eq!(made.notes, [Finding::PromptsRepeat { prompts: 2, requests: 5, most: 3 }]);
    assert_eq!(arrivals_ms(&more, 4), [0, 600, 1200, 1800]);
    let second = plans(&more).unwrap().remove(1);
    let second = Workload::build(&second.workload, "a", "/").unwrap();
    let lengths = |all: &[serde_json::Value]| all.iter().map(|body| body["max_tokens"].clone()).collect::<Vec<_>>();
    assert_eq!(lengths(&bodies(&second, 2)), lengths(&[all[3].clone(), all[2].clone()]));
}

#[test]
fn missing_flags_for_traces_are_reported() {
    let test_spec = trace(chat(), "burstgpt.csv");
    let error = |spec: Spec| workload(&spec).unwrap_err();
    assert!(error(test_spec.clone().with(|s| s.data.tokenizer_path = None)).contains("--tokenizer-path"));
    assert!(error(test_spec.clone().with(|s| s.data.dataset_path = None)).contains("--dataset-path"));
    assert!(error(test_spec.clone().with(|s| s.load.rate = vec![3.0])).contains("--rate"));
    assert!(error(test_spec.clone().with(|s| s.load.ramp_s = 3.0)).contains("--ramp"));
    assert!(error(test_spec.clone().with(|s| s.load.trace_speed = Some(0.0))).contains("--trace-speed"));
    assert!(error(test_spec.with(|s| s.load.arrival = Some("poisson".to_string()))).contains("--arrival"));
    assert!(error(chat().with(|s| s.load.trace_speed = Some(2.0))).contains("--trace-speed"));
    assert!(error(chat().with(|s| s.load.trace_window = Some("1..2".to_string()))).contains("--trace-window"));
    assert!(error(trace(chat(), "nowhere.jsonl")).contains("cannot read"));
    assert!(error(chat().with(|s| s.load.arrival = Some("trace:".to_string()))).contains("--arrival"));
}

#[test]
fn tools_and_extra_fields_of_rows_are_in_the_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let row = json!({
        "timestamp": 0, "input_length": 30, "output_length": 4, "hash_ids": [1],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "extra": {"priority": 7}
    });
    let plain = json!({"timestamp": 5, "input_length": 30, "output_length": 4, "hash_ids": [1]});
    std::fs::write(&file, format!("{row}\n{plain}\n")).unwrap();
    let spec = trace(chat(), "mooncake.jsonl").with(|s| s.data.dataset_path = Some(file));
    let made = workload(&spec).unwrap();
    let mut sent = Vec::new();
    made.write_request(Phase::Measured, 0, &mut sent);
    let at = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let body: serde_json::Value = serde_json::from_slice(&sent[at..]).unwrap();
    assert_eq!((&body["tools"], &body["priority"], &body["max_tokens"]), (&row["tools"], &json!(7), &json!(4)));
    let other = &bodies(&made, 2)[1];
    assert!(other.get("tools").is_none() && other.get("priority").is_none(), "{other}");
}

#[test]
fn only_traces_without_block_ids_have_prompts_that_share_nothing() {
    let facts = |file| plans(&trace(completions(), file)).unwrap()[0].facts("");
    assert!(facts("burstgpt.csv").distinct_prompts && !facts("mooncake.jsonl").distinct_prompts);
    let recorded = facts("mooncake.jsonl");
    assert!(recorded.ignore_eos && recorded.full_answer_tokens.is_none(), "each row has its own length");
}
