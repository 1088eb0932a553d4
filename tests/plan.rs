//! What a call means: plans from specs, and every way in which a call can be impossible.

use ringmark::api::Dialect;
use ringmark::api::render::MaxTokens;
use ringmark::finding::Finding;
use ringmark::plan::{Arrival, Load, Plan, RigFacts, Schedule, Timeouts, resolve};
use ringmark::spec::Spec;
use ringmark::time::S;
use ringmark::workload::Source;

fn facts() -> RigFacts {
    RigFacts {
        allowed_cores: vec![0, 1, 2, 3],
        started: "20260516_113633".to_string(),
        nonce: 0xab,
        ..RigFacts::default()
    }
}

/// A call that works, to be changed by each test.
fn spec() -> Spec {
    Spec {
        url: Some("http://127.0.0.1:8000/v1".to_string()),
        model: Some("Qwen/qwen2.5".to_string()),
        ..Spec::default()
    }
}

fn plans(spec: Spec) -> Vec<Plan> {
    resolve(&spec, &facts()).unwrap()
}

fn poisson(rate_per_s: f64) -> Schedule {
    Schedule { rate_per_s, arrival: Arrival::Poisson }
}

#[test]
fn defaults_are_the_documented_ones() {
    let plans = plans(spec());
    assert_eq!(plans.len(), 1);
    let plan = &plans[0];
    assert_eq!(plan.load, Load::Closed { parallel: 1 });
    assert_eq!((plan.requests, plan.duration_ns, plan.warmup_requests), (Some(1000), None, 0));
    assert_eq!(plan.timeouts, Timeouts { connect_ns: 120 * S, read_ns: 120 * S, total_ns: 21_600 * S });
    assert_eq!((plan.dialect, plan.stream, plan.test_connection), (Dialect::Chat, true, true));
    assert_eq!((plan.seed, plan.cores.as_slice()), (0, &[1][..]));
    assert_eq!(plan.workload.source, Source::Builtin);
    let sampling = &plan.workload.options.sampling;
    assert_eq!((sampling.max_tokens, sampling.temperature), (Some(MaxTokens::Fixed(2048)), Some(0.0)));
    assert_eq!(sampling.seed, None, "a seed is sent only when it is given");
    assert_eq!(plan.workload.id_prefix, "rm-000000ab");
    assert_eq!(plan.report.root.to_str(), Some("outputs/20260516_113633/qwen2.5"));
    assert_eq!(plan.report.folder.to_str(), Some("outputs/20260516_113633/qwen2.5/parallel_1_number_1000"));
    assert!(plan.notes[0].en().contains("/v1/chat/completions"), "{:?}", plan.notes);
}

#[test]
fn a_closed_sweep_has_a_plan_for_each_parallel() {
    let asked = Spec {
        parallel: vec![1, 10, 50],
        number: vec![10, 20, 100],
        warmup_num: 0.1,
        dataset_offset: 5,
        no_timestamp: true,
        ..spec()
    };
    let plans = plans(asked);
    let loads: Vec<_> = plans.iter().map(|plan| (plan.load.parallel(), plan.requests, plan.warmup_requests)).collect();
    assert_eq!(loads, [(Some(1), Some(10), 1), (Some(10), Some(20), 2), (Some(50), Some(100), 10)]);
    assert_eq!(plans.iter().map(|plan| plan.workload.offset).collect::<Vec<_>>(), [5, 15, 35]);
    assert_eq!(plans[2].workload.needed, Some(110));
    assert_eq!(plans[2].report.folder.to_str(), Some("outputs/qwen2.5/parallel_50_number_100"));
    assert_eq!(plans.iter().map(|plan| plan.cores.len()).collect::<Vec<_>>(), [1, 3, 3]);
}

#[test]
fn one_number_serves_a_whole_sweep_and_equal_runs_keep_apart() {
    let plans = plans(Spec { parallel: vec![2, 4, 2], number: vec![7], ..spec() });
    assert!(plans.iter().all(|plan| plan.requests == Some(7)));
    let names: Vec<_> = plans.iter().map(|plan| plan.report.folder.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["parallel_2_number_7", "parallel_4_number_7", "parallel_2_number_7_2"]);
}

#[test]
fn an_open_sweep_has_a_plan_for_each_rate() {
    let plans =
        plans(Spec { open_loop: true, rate: vec![5.0, 10.0], number: vec![50, 100], parallel: vec![3], ..spec() });
    assert_eq!(plans[1].load, Load::Open { schedule: poisson(10.0) });
    assert_eq!(plans[1].report.folder.file_name().unwrap(), "rate_10.0_number_100");
    assert!(plans[0].notes.iter().any(|note| *note == Finding::ParallelNotUsed));
}

#[test]
fn rate_and_parallel_together_pace_under_a_cap() {
    let asked = Spec { rate: vec![2.5], parallel: vec![8], arrival: Some("gamma:2".to_string()), ..spec() };
    let schedule = Schedule { rate_per_s: 2.5, arrival: Arrival::Gamma { cv: 2.0 } };
    assert_eq!(plans(asked)[0].load, Load::Paced { parallel: 8, schedule });
    assert_eq!(plans(Spec { rate: vec![-1.0], ..spec() })[0].load, Load::Closed { parallel: 1 });
}

#[test]
fn a_burst_needs_no_rate_and_always_ends() {
    let burst = || Spec { arrival: Some("burst".to_string()), open_loop: true, duration_s: Some(3.0), ..spec() };
    let plan = &plans(burst())[0];
    assert_eq!((plan.requests, plan.duration_ns), (Some(1000), Some(3 * S)));
    assert_eq!(plan.report.folder.file_name().unwrap(), "burst_number_1000");
}

#[test]
fn a_duration_alone_ends_the_run() {
    let plan = &plans(Spec { duration_s: Some(30.0), warmup_num: 5.0, ..spec() })[0];
    assert_eq!((plan.requests, plan.duration_ns, plan.drain_ns, plan.warmup_requests), (None, Some(30 * S), 30 * S, 5));
    assert_eq!(plan.workload.needed, None);
    assert_eq!(plan.report.folder.file_name().unwrap(), "parallel_1_duration_30s");
    let both = &plans(Spec { duration_s: Some(30.0), drain_s: Some(0.0), number: vec![9], ..spec() })[0];
    assert_eq!((both.requests, both.drain_ns), (Some(9), 0));
}

#[test]
fn a_share_of_warm_up_is_at_least_one_request() {
    assert_eq!(plans(Spec { warmup_num: 0.001, number: vec![100], ..spec() })[0].warmup_requests, 1);
    assert_eq!(plans(Spec { warmup_num: 0.29, number: vec![10], ..spec() })[0].warmup_requests, 2);
    assert_eq!(plans(Spec { warmup_num: 1.0, number: vec![10], ..spec() })[0].warmup_requests, 1);
}

#[test]
fn the_mock_needs_no_model_and_a_server_without_one_is_asked() {
    let mock = Spec { url: Some("mock:?itl=1ms".to_string()), ..Spec::default() };
    let plan = &plans(mock)[0];
    assert_eq!((plan.report.model.as_str(), plan.target.mock.as_deref()), ("mock", Some("itl=1ms")));
    assert_eq!(plan.cores, [2, 3][..1]);
    assert_eq!(plans(Spec { model: None, ..spec() })[0].report.model, "");
}

#[test]
fn arguments_are_stored_for_the_run_without_secrets() {
    let asked = Spec {
        url: Some("https://h/v1?api-key=urlsecret".to_string()),
        api_key: Some("sk-1".to_string()),
        headers: vec!["X-Api-Token=tok-2".to_string(), "X-Tenant=a".to_string()],
        parallel: vec![1, 2],
        ..spec()
    };
    let plan = &plans(asked)[1];
    let stored: serde_json::Value = serde_json::from_str(&plan.report.arguments_json).unwrap();
    assert_eq!((&stored["parallel"], &stored["number"]), (&serde_json::json!([2]), &serde_json::json!([1000])));
    assert_eq!((&stored["headers"]["X-Tenant"], &stored["connect_timeout"]), (&"a".into(), &120.0.into()));
    let shown = format!("{plan:?}{}", plan.report.arguments_json);
    for secret in ["sk-1", "tok-2"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(!plan.report.arguments_json.contains("urlsecret") && !plan.target.url.contains("urlsecret"));
    assert!(plan.target.path.contains("urlsecret"), "the server gets it");
}

#[test]
fn impossible_calls_are_refused_in_one_line_that_names_the_flag() {
    let some = |text: &str| Some(text.to_string());
    let cases: Vec<(Spec, &str)> = vec![
        (Spec { url: None, ..spec() }, "mock:"),
        (Spec { url: None, ..spec() }, "--url"),
        (Spec { url: some("localhost:80"), ..spec() }, "--url"),
        (Spec { api: "opneai".into(), ..spec() }, "did you mean 'openai'?"),
        (Spec { dataset: some("line_by_lin"), ..spec() }, "did you mean 'line_by_line'?"),
        (Spec { dataset: some("nonsense"), ..spec() }, "(known: builtin, "),
        (Spec { dataset: some("line_by_line"), ..spec() }, "--dataset-path"),
        (Spec { dataset_path: Some("p.txt".into()), ..spec() }, "--dataset line_by_line"),
        (Spec { prompt: some(""), ..spec() }, "--prompt"),
        (Spec { prompt: some("@"), ..spec() }, "--prompt"),
        (Spec { model: some(" "), ..spec() }, "--model"),
        (Spec { name: some(" "), ..spec() }, "--name"),
        (Spec { parallel: vec![0], ..spec() }, "--parallel"),
        (Spec { number: vec![0], ..spec() }, "--number"),
        (Spec { parallel: vec![1, 2, 3], number: vec![1, 2], ..spec() }, "--parallel has 3"),
        (Spec { open_loop: true, rate: vec![1.0], number: vec![1, 2], ..spec() }, "--rate has 1"),
        (Spec { open_loop: true, ..spec() }, "--rate"),
        (Spec { open_loop: true, rate: vec![-1.0], ..spec() }, "--rate"),
        (Spec { rate: vec![0.0], ..spec() }, "--rate"),
        (Spec { rate: vec![-2.0], ..spec() }, "--rate"),
        (Spec { rate: vec![f64::NAN], ..spec() }, "--rate"),
        (Spec { rate: vec![1e12], ..spec() }, "--rate"),
        (Spec { rate: vec![1.0, 2.0], ..spec() }, "--open-loop"),
        (Spec { arrival: some("constant"), ..spec() }, "--rate"),
        (Spec { arrival: some("gamma"), rate: vec![1.0], ..spec() }, "gamma:2"),
        (Spec { arrival: some("burst"), rate: vec![1.0], ..spec() }, "leave --rate out"),
        (Spec { arrival: some("burst"), ramp_s: 1.0, ..spec() }, "--ramp"),
        (Spec { duration_s: Some(0.0), ..spec() }, "--duration"),
        (Spec { duration_s: Some(f64::INFINITY), ..spec() }, "--duration"),
        (Spec { drain_s: Some(5.0), ..spec() }, "--duration"),
        (Spec { ramp_s: -1.0, ..spec() }, "--ramp"),
        (Spec { connect_timeout_s: 0.0, ..spec() }, "--connect-timeout"),
        (Spec { read_timeout_s: 1e300, ..spec() }, "--read-timeout"),
        (Spec { total_timeout_s: f64::NAN, ..spec() }, "--total-timeout"),
        (Spec { sleep_interval_s: -1.0, ..spec() }, "--sleep-interval"),
        (Spec { warmup_num: -1.0, ..spec() }, "--warmup-num"),
        (Spec { warmup_num: 2.5, ..spec() }, "--warmup-num"),
        (Spec { warmup_num: 0.5, duration_s: Some(1.0), ..spec() }, "--number"),
        (Spec { min_prompt_length: 9, max_prompt_length: Some(8), ..spec() }, "--max-prompt-length"),
        (Spec { max_tokens: vec![0], ..spec() }, "--max-tokens"),
        (Spec { max_tokens: vec![20, 10], ..spec() }, "20 is above 10"),
        (Spec { max_tokens: vec![1, 2, 3], ..spec() }, "--max-tokens"),
        (Spec { max_tokens: vec![10, 20], min_tokens: Some(11), ..spec() }, "--min-tokens"),
        (Spec { temperature: Some(-0.1), ..spec() }, "--temperature"),
        (Spec { top_p: Some(1.5), ..spec() }, "--top-p"),
        (Spec { repetition_penalty: Some(-1.0), ..spec() }, "--repetition-penalty"),
        (Spec { n_choices: Some(0), ..spec() }, "--n-choices"),
        (Spec { extra_args: some("{ignore_eos: true}"), ..spec() }, "--extra-args"),
        (Spec { extra_args: some("[1]"), ..spec() }, "--extra-args"),
        (Spec { headers: vec!["nonsense".into()], ..spec() }, "--headers"),
        (Spec { headers: vec!["A=b\r\nC: d".into()], ..spec() }, "--headers"),
        (Spec { headers: vec!["A=1".into(), "a=2".into()], ..spec() }, "twice"),
        (Spec { api_key: some("k"), headers: vec!["authorization=x".into()], ..spec() }, "keep one"),
        (Spec { api_key: some("k\n"), ..spec() }, "--api-key"),
        (Spec { insecure: true, ..spec() }, "--insecure"),
        (Spec { cacert: Some("c.pem".into()), ..spec() }, "--cacert"),
        (
            Spec { source_address: vec!["127.0.0.2".parse().unwrap()], url: some("unix:/s:/v1"), ..spec() },
            "--source-address",
        ),
        (Spec { workers: Some(0), ..spec() }, "--workers"),
        (Spec { cores: vec![64], ..spec() }, "--cores"),
        (Spec { cold: true, open_loop: true, rate: vec![1.0], ..spec() }, "--cold"),
    ];
    for (spec, what) in cases {
        let text = resolve(&spec, &facts()).expect_err(what).to_string();
        assert!(text.contains(what), "wanted '{what}' in: {text}");
        assert!(!text.contains('\n') && text.len() < 400, "{text}");
    }
}
