//! The requests of a run, byte for byte.

#[path = "../bench/roofline/kolmogorov.rs"]
mod kolmogorov;

use std::fs;
use std::path::{Path, PathBuf};

use ringmark::finding::Finding;
use ringmark::plan::{Arrival, Plan, Schedule};
use ringmark::record::Phase::{self, Measured, Preflight, Warmup};
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::workload::{Workload, arrivals};
use serde_json::{Value, json};

fn spec() -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some("http://127.0.0.1:8000/v1/chat/completions".to_string());
        s.target.model = Some("m".to_string());
    })
}

fn plan(spec: &Spec) -> Plan {
    resolve(spec, &RigFacts { allowed_cores: vec![0, 1, 2, 3], nonce: 1, ..RigFacts::default() }).unwrap().remove(0)
}

fn workload(spec: &Spec) -> Result<Workload, String> {
    let plan = plan(spec);
    Workload::build(&plan.workload, &plan.target.authority, &plan.target.path).map_err(|error| error.to_string())
}

fn request(workload: &Workload, phase: Phase, index: u64) -> String {
    let mut bytes = Vec::new();
    workload.write_request(phase, index, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn body(workload: &Workload, phase: Phase, index: u64) -> Value {
    serde_json::from_slice(&workload.body(phase, index)).unwrap()
}

fn file(folder: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join("prompts.txt");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn each_request_has_a_seed_of_its_own() {
    let seeds = |spec: &Spec, phase: Phase| -> Vec<u64> {
        let workload = workload(spec).unwrap();
        let seed_of = |index| {
            let request = request(&workload, phase, index);
            let (head, sent) = request.split_once("\r\n\r\n").unwrap();
            // The body that is stored is the one that was sent.
            assert_eq!(sent.as_bytes(), &*workload.body(phase, index));
            assert!(head.ends_with(&format!("Content-Length: {}", sent.len())), "{head}");
            body(&workload, phase, index)["seed"].as_u64().unwrap()
        };
        (0..200).map(seed_of).collect()
    };
    for max_tokens in [vec![16], vec![5, 1500]] {
        let drawn = spec().with(|s| {
            s.data.prompt = Some("hi".to_string());
            s.sampling.max_tokens = max_tokens;
            s.sampling.seed = Some(7);
            s.sampling.seed_per_request = true;
        });
        let first = seeds(&drawn, Measured);
        let distinct: std::collections::BTreeSet<u64> = first.iter().copied().collect();
        assert!(distinct.len() == 200 && distinct.iter().all(|seed| (1_000_000_000..1 << 31).contains(seed)));
        assert_eq!(first, seeds(&drawn, Measured));
        assert_ne!(first, seeds(&drawn, Warmup));
        assert_ne!(first, seeds(&drawn.clone().with(|s| s.sampling.seed = Some(8)), Measured));
    }
}

#[test]
fn one_seed_for_all_requests_is_noted_if_it_matters() {
    let noted = |temperature: f64, seed: Option<u64>, per_request: bool| {
        let test_spec = spec().with(|s| {
            s.sampling.temperature = Some(temperature);
            s.sampling.seed = seed;
            s.sampling.seed_per_request = per_request;
        });
        plan(&test_spec).notes.iter().any(|note| matches!(note, Finding::SameSeed))
    };
    assert!(noted(0.7, Some(1), false));
    assert!(!noted(0.0, Some(1), false) && !noted(0.7, None, false) && !noted(0.7, Some(1), true));
    let both = spec().with(|s| {
        s.sampling.seed_per_request = true;
        s.sampling.extra_args = Some("{\"seed\": 3}".to_string());
    });
    let error = resolve(&both, &RigFacts { allowed_cores: vec![0], nonce: 1, ..RigFacts::default() }).unwrap_err();
    assert!(error.to_string().contains("--seed-per-request"), "{error}");
}

/// A spec that reads `text` line by line.
fn lines(folder: &Path, text: impl AsRef<[u8]>) -> Spec {
    spec().with(|s| {
        s.data.dataset = Some("line_by_line".to_string());
        s.data.dataset_path = Some(file(folder, text));
    })
}

#[test]
fn a_request_has_all_its_parts() {
    let test_spec = spec().with(|s| {
        s.data.prompt = Some("hi".to_string());
        s.sampling.max_tokens = vec![16];
        s.target.api_key = Some("sk-1".to_string());
        s.target.headers = vec!["X-Tenant=a b".to_string(), "user-agent=me/1".to_string()];
    });
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":16,"temperature":0.0,"stream":true,"stream_options":{"include_usage":true}}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: text/event-stream\r\n\
         Content-Type: application/json\r\nX-Tenant: a b\r\nuser-agent: me/1\r\nAuthorization: Bearer sk-1\r\n\
         X-Request-Id: rm-00000001-m7\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(request(&workload(&test_spec).unwrap(), Measured, 7), head + body);
}

#[test]
fn whole_responses_are_requested_as_json() {
    let text = request(&workload(&spec().with(|s| s.sampling.no_stream = true)).unwrap(), Warmup, 0);
    assert!(text.contains("Accept: application/json\r\n") && text.contains("-w0\r\n"), "{text}");
    assert!(text.contains(concat!("User-Agent: ringmark/", env!("CARGO_PKG_VERSION"), "\r\n")));
}

#[test]
fn the_users_request_id_replaces_the_default() {
    let text = request(
        &workload(&spec().with(|s| s.target.headers = vec!["x-request-id=mine".to_string()])).unwrap(),
        Measured,
        0,
    );
    assert_eq!(text.to_lowercase().matches("x-request-id").count(), 1);
}

#[test]
fn drawn_limits_depend_on_seed_and_index_only() {
    let test_spec = spec().with(|s| {
        s.sampling.max_tokens = vec![5, 1500];
        s.sampling.seed = Some(3);
    });
    let first = workload(&test_spec).unwrap();
    let again = workload(&test_spec).unwrap();
    let other = workload(&test_spec.clone().with(|s| s.sampling.seed = Some(4))).unwrap();
    let limits = |workload: &Workload, phase| -> Vec<u64> {
        (0..300).map(|index| body(workload, phase, index)["max_tokens"].as_u64().unwrap()).collect()
    };
    let drawn = limits(&first, Measured);
    assert!(drawn.iter().all(|limit| (5..=1500).contains(limit)));
    assert!(drawn.iter().any(|limit| *limit < 100) && drawn.iter().any(|limit| *limit > 1000));
    assert_eq!(drawn, limits(&again, Measured));
    assert_ne!(drawn, limits(&other, Measured));
    assert_ne!(drawn, limits(&first, Warmup));
    for index in 0..300 {
        let text = request(&first, Measured, index);
        let (head, sent) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(sent.as_bytes(), &*first.body(Measured, index));
        assert!(head.ends_with(&format!("Content-Length: {}", sent.len())));
    }
}

#[test]
fn workers_share_one_sequence_of_requests_and_arrivals() {
    let test_spec = spec().with(|s| {
        s.sampling.max_tokens = vec![1, 99];
        s.load.rate = vec![100.0];
        s.load.parallel = vec![8];
        s.load.number = vec![40];
    });
    let (one, four) = (
        plan(&test_spec.clone().with(|s| s.client.workers = Some(1))),
        plan(&test_spec.clone().with(|s| s.client.workers = Some(4))),
    );
    assert_eq!((one.cores.len(), four.cores.len()), (1, 4));
    assert_eq!(one.workload, four.workload);
    let (all, shared) = (workload(&test_spec).unwrap(), workload(&test_spec).unwrap());
    let places = |plan: &Plan, every: usize, from: usize| -> Vec<u64> {
        let schedule = plan.load.schedule().unwrap();
        arrivals::offsets(schedule, plan.seed, plan.ramp_ns).take(40).skip(from).step_by(every).collect()
    };
    let whole = places(&one, 1, 0);
    for worker in 0..4 {
        let mine = places(&four, 4, worker);
        for (turn, place) in mine.iter().enumerate() {
            let index = (turn * 4 + worker) as u64;
            assert_eq!(*place, whole[index as usize]);
            assert_eq!(request(&shared, Measured, index), request(&all, Measured, index));
        }
    }
}

#[test]
fn data_cycles_and_the_warm_up_comes_from_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let test_spec = lines(folder.path(), "a\nb\n\n  \nc\nd\n");
    let content = |workload: &Workload, phase, index| body(workload, phase, index)["messages"][0]["content"].clone();
    let all = workload(&test_spec.clone().with(|s| s.load.duration_s = Some(1.0))).unwrap();
    assert_eq!((0..6).map(|i| content(&all, Measured, i)).collect::<Vec<_>>(), ["a", "b", "c", "d", "a", "b"]);
    assert_eq!((0..5).map(|i| content(&all, Warmup, i)).collect::<Vec<_>>(), ["d", "c", "b", "a", "d"]);

    // With --number, the run says how often prompts repeat.
    let some = workload(&test_spec.clone().with(|s| s.load.number = vec![9])).unwrap();
    assert_eq!(some.notes, [Finding::PromptsRepeat { prompts: 4, requests: 9, most: 3 }]);
    let few = workload(&test_spec.clone().with(|s| {
        s.load.number = vec![2];
        s.load.warmup_num = 1.0;
    }))
    .unwrap();
    assert_eq!(few.bodies.len(), 3, "no more is read than the run can send");
    assert_eq!((content(&few, Measured, 1), content(&few, Warmup, 0)), (json!("b"), json!("c")));

    let later = workload(&test_spec.clone().with(|s| {
        s.load.number = vec![2];
        s.data.dataset_offset = 1;
    }))
    .unwrap();
    assert_eq!((content(&later, Measured, 0), later.bodies.len()), (json!("b"), 2));
    let skipping = |offset, number| {
        test_spec.clone().with(|s| {
            s.load.number = vec![number];
            s.data.dataset_offset = offset;
        })
    };
    let round = workload(&skipping(2, 5)).unwrap();
    assert_eq!((0..5).map(|i| content(&round, Measured, i)).collect::<Vec<_>>(), ["c", "d", "c", "d", "c"]);
    assert_eq!(round.notes, [Finding::PromptsRepeat { prompts: 2, requests: 5, most: 3 }]);
    for offset in [4, 7] {
        let error = workload(&skipping(offset, 2)).unwrap_err();
        assert!(error.contains(&format!("--dataset-offset {offset}")) && error.contains("4 usable prompts"), "{error}");
    }
    // A run after others can begin anywhere in what is not skipped.
    let plans = resolve(&skipping(2, 3).with(|s| s.load.repeat = 2), &RigFacts::default()).unwrap();
    let second = Workload::build(&plans[1].workload, "a", "/").unwrap();
    assert_eq!((content(&second, Measured, 0), content(&second, Measured, 1)), (json!("d"), json!("c")));
}

#[test]
fn without_a_connection_test_no_body_is_kept_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let bodies = lines(folder.path(), "{\"messages\":[]}\n{\"messages\":[],\"n\":1}\n");
    let whole = bodies.with(|s| s.load.number = vec![2]);
    assert_eq!(workload(&whole).unwrap().notes, [Finding::TestRepeatsPrompt]);
    assert_eq!(workload(&whole.with(|s| s.target.no_test_connection = true)).unwrap().notes, []);
}

#[test]
fn lines_are_texts_messages_or_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let text = concat!(
        "\u{feff}first\r\n",
        r#"[{"role":"system","content":"s"},{"role":"user","content":"u"}]"#,
        "\n",
        r#"{"messages":[],"model":"lora-1","max_tokens":3}"#
    );
    let workload = workload(&lines(folder.path(), text)).unwrap();
    assert_eq!(body(&workload, Measured, 0)["messages"], json!([{"role": "user", "content": "first"}]));
    assert_eq!(body(&workload, Measured, 1)["messages"][0]["role"], "system");
    let row = body(&workload, Measured, 2);
    assert_eq!((&row["model"], &row["max_tokens"], &row["temperature"]), (&json!("lora-1"), &json!(3), &json!(0.0)));
}

#[test]
fn prompts_of_the_wrong_length_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "一\n四个汉字\nlonger than that\n[{\"role\":\"user\",\"content\":\"four\"}]\n{\"prompt\":\"never measured\"}\n";
    let test_spec = lines(folder.path(), text).with(|s| {
        s.data.min_prompt_length = 4;
        s.data.max_prompt_length = Some(4);
    });
    assert_eq!(workload(&test_spec).unwrap().bodies.len(), 3);
    let none = spec().with(|s| {
        s.data.min_prompt_length = 99;
        s.data.prompt = Some("short".to_string());
    });
    assert_eq!(workload(&none).unwrap().bodies.len(), 1, "a prompt is sent whatever its length");
}

#[test]
fn a_prompt_file_is_one_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "two\nlines\n");
    let test_spec = spec().with(|s| s.data.prompt = Some(format!("@{}", path.display())));
    let workload = workload(&test_spec).unwrap();
    assert_eq!(body(&workload, Measured, 99)["messages"][0]["content"], "two\nlines");
    assert_eq!(workload.bodies.len(), 1);
}

#[test]
fn the_connection_test_requests_a_short_response() {
    let workload = workload(&spec().with(|s| {
        s.sampling.min_tokens = Some(100);
        s.sampling.max_tokens = vec![100, 200];
    }))
    .unwrap();
    let body = body(&workload, Preflight, 0);
    assert_eq!((&body["max_tokens"], &body["min_tokens"]), (&json!(16), &json!(16)));
}

#[test]
fn file_errors_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let completions = Some("http://h/v1/completions".to_string());
    for (text, what) in [
        (&b""[..], "is empty"),
        (&b"\n  \n"[..], "is empty"),
        (&b"fine\n{\"prompt\": \n"[..], "prompts.txt, line 2: is not valid JSON"),
        (&b"fine\n\n\xff\xfe\n"[..], "prompts.txt, line 3: is not UTF-8"),
        (&b"[{\"content\":\"x\"}]\n"[..], "line 1: message 1 has no field \"role\""),
    ] {
        let error = workload(&lines(folder.path(), text)).unwrap_err();
        assert!(error.contains(what) && !error.contains('\n'), "{error}");
    }
    let messages = lines(folder.path(), "x\n[{\"role\":\"user\",\"content\":\"x\"}]\n");
    let error = workload(&messages.with(|s| s.target.url = completions)).unwrap_err();
    assert!(error.contains("line 2") && error.contains("/chat/completions"), "{error}");

    let missing = spec().with(|s| s.data.prompt = Some("@/nowhere/p.txt".to_string()));
    assert!(workload(&missing).unwrap_err().starts_with("--prompt: cannot read /nowhere/p.txt: No such file"));
    let path = file(folder.path(), [0xff, 0xfe]);
    let binary = spec().with(|s| s.data.prompt = Some(format!("@{}", path.display())));
    assert!(workload(&binary).unwrap_err().contains("UTF-8"));
}

#[test]
fn scheduled_gaps_are_exponential() {
    let schedule = Schedule { rate_per_s: 500.0, arrival: Arrival::Poisson };
    let gaps = |seed: u64, seen: fn(u64) -> u64| -> Vec<f64> {
        let times: Vec<u64> = arrivals::offsets(&schedule, seed, 0).take(5_001).map(seen).collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect()
    };
    let is_exponential = |mut gaps: Vec<f64>| {
        let (distance, limit) = kolmogorov::distance_from_exponential(&mut gaps, 1.0 / 500.0);
        distance < limit
    };
    // One in a hundred fails by chance.
    let passed = (1..=20).filter(|seed| is_exponential(gaps(*seed, |at_ns| at_ns))).count();
    assert!(passed >= 18, "{passed} of 20");
    // Sent by timers of a millisecond, or a fifth too fast.
    assert!(!is_exponential(gaps(1, |at_ns| at_ns.next_multiple_of(1_000_000))));
    assert!(!is_exponential(gaps(1, |at_ns| at_ns / 5 * 4)));
}
