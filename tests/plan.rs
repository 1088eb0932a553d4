//! Plans from specs, and all kinds of invalid calls.

use ringmark::api::Dialect;
use ringmark::api::sampling_params::MaxTokens;
use ringmark::finding::Finding;
use ringmark::plan::{Arrival, Load, Plan, Schedule, Timeouts};
use ringmark::spec::{Cores, RigFacts, Spec, resolve};
use ringmark::time::S;
use ringmark::workload::Source;
use ringmark::workload::rng::DEFAULT_DATA_SEED;

fn facts() -> RigFacts {
    RigFacts {
        allowed_cores: vec![0, 1, 2, 3],
        started: "20260516_113633".to_string(),
        nonce: 0xab,
        ..RigFacts::default()
    }
}

/// A valid spec, which each test changes.
fn spec() -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some("http://127.0.0.1:8000/v1".to_string());
        s.target.model = Some("Qwen/qwen2.5".to_string());
    })
}

fn plans(spec: Spec) -> Vec<Plan> {
    resolve(&spec, &facts()).unwrap()
}

fn poisson(rate_per_s: f64) -> Schedule {
    Schedule { rate_per_s, arrival: Arrival::Poisson }
}

#[test]
fn defaults_match_the_documentation() {
    let plans = plans(spec());
    assert_eq!(plans.len(), 1);
    let plan = &plans[0];
    assert_eq!(plan.load, Load::Closed { parallel: 1 });
    assert_eq!((plan.requests, plan.duration_ns, plan.warmup_requests), (Some(1000), None, 0));
    assert_eq!(plan.timeouts, Timeouts { connect_ns: 120 * S, read_ns: 120 * S, total_ns: 21_600 * S });
    assert_eq!((plan.dialect, plan.stream, plan.test_connection), (Dialect::Chat, true, true));
    assert_eq!((plan.workload.randomness.run, plan.cores.as_slice()), (1, &[1][..]));
    assert_eq!(plan.workload.randomness.data_seed, DEFAULT_DATA_SEED);
    assert_eq!(plan.workload.source, Source::Builtin);
    let sampling = &plan.workload.options.sampling;
    assert_eq!((sampling.max_tokens, sampling.temperature), (Some(MaxTokens::Fixed(2048)), Some(0.0)));
    assert_eq!(sampling.seed, None, "a seed is sent only if it is given");
    assert_eq!(plan.workload.id_prefix, "rm-000000ab");
    assert_eq!(plan.report.root.to_str(), Some("outputs/20260516_113633/qwen2.5"));
    assert_eq!(plan.report.folder.to_str(), Some("outputs/20260516_113633/qwen2.5/parallel_1_number_1000"));
    assert!(plan.notes[0].en().contains("/v1/chat/completions"), "{:?}", plan.notes);
}

#[test]
fn a_prompt_beats_the_dataset_and_its_flags() {
    let plan = &plans(spec().with(|s| {
        s.data.prompt = Some("a poem".to_string());
        s.data.dataset = Some("random".to_string());
        s.data.tokenizer_path = Some("t".to_string());
        s.data.prefix_length = 500;
        s.data.min_prompt_length = 100;
        s.data.max_prompt_length = Some(512);
        s.load.number = vec![5];
    }))[0];
    assert_eq!(plan.workload.source, Source::Prompt("a poem".to_string()));
    assert!(plan.workload.lengths.holds(6), "its length does not matter");
    assert!(plan.notes.contains(&Finding::DatasetNotRead));
    let flags = ["--prefix-length", "--min-prompt-length", "--max-prompt-length"].map(str::to_string).to_vec();
    assert!(plan.notes.contains(&Finding::FlagsBesidePrompt { flags }), "{:?}", plan.notes);
}

#[test]
fn a_template_decides_alone() {
    let with = |template: &str| {
        let template = Some(template.to_string());
        plans(spec().with(|s| s.data.query_template = template)).remove(0)
    };
    let whole = with(r#"{"messages":[{"role":"user","content":"%p"}]}"#);
    assert!(!whole.stream && whole.notes.contains(&Finding::TemplateLacks { stream: true }), "{:?}", whole.notes);
    let streamed = with(r#"{"messages":[{"role":"user","content":"%p"}],"stream":true}"#);
    assert!(streamed.stream && streamed.notes.contains(&Finding::TemplateLacks { stream: false }));
    let complete = with(r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#);
    assert!(!complete.notes.iter().any(|note| matches!(note, Finding::TemplateLacks { .. })));
}

#[test]
fn times_of_tokens_need_a_stream() {
    for objective in ["p99_ttft<=2", "avg_tpot<=1", "p50_itl<=1"] {
        let whole = spec().with(|s| {
            s.sampling.no_stream = true;
            s.output.slo = vec![objective.to_string()];
        });
        let error = resolve(&whole, &facts()).unwrap_err().to_string();
        assert!(error.contains("--slo") && error.contains("use latency"), "{error}");
        assert!(resolve(&whole.with(|s| s.sampling.no_stream = false), &facts()).is_ok());
    }
}

#[test]
fn a_salt_needs_random_text() {
    let salted = |dataset: Option<&str>| {
        spec().with(|s| {
            s.data.salt = Some(3);
            s.data.dataset = dataset.map(str::to_string);
            s.data.dataset_path =
                dataset.filter(|name| ["line_by_line", "openqa"].contains(name)).map(|_| "f".to_string().into());
            s.data.tokenizer_path = dataset.filter(|name| name.starts_with("random")).map(|_| "t".to_string());
            s.data.max_prompt_length = s.data.tokenizer_path.as_ref().map(|_| 9);
            s.data.max_turns = dataset.filter(|name| name.ends_with("turn")).map(|_| 2);
        })
    };
    for without in [None, Some("line_by_line"), Some("openqa"), Some("speed_benchmark"), Some("./program")] {
        let error = resolve(&salted(without), &facts()).unwrap_err().to_string();
        assert!(error.starts_with("--salt applies only to datasets of random text"), "{error}");
    }
    for with in ["random", "random_vl", "random_multi_turn"] {
        assert_eq!(plans(salted(Some(with)))[0].workload.randomness.salt, 3, "{with}");
    }
    let prompt = plans(salted(None).with(|s| s.data.prompt = Some("a".to_string()))).remove(0);
    assert!(prompt.notes.contains(&Finding::FlagsBesidePrompt { flags: vec!["--salt".to_string()] }));
}

#[test]
fn a_closed_sweep_has_a_plan_for_each_parallel() {
    let changed = spec().with(|s| {
        s.load.parallel = vec![1, 10, 50];
        s.load.number = vec![10, 20, 100];
        s.load.warmup_num = 0.1;
        s.data.dataset_offset = 5;
        s.output.no_timestamp = true;
    });
    let plans = plans(changed);
    let loads: Vec<_> = plans.iter().map(|plan| (plan.load.parallel(), plan.requests, plan.warmup_requests)).collect();
    assert_eq!(loads, [(Some(1), Some(10), 1), (Some(10), Some(20), 2), (Some(50), Some(100), 10)]);
    // Each run continues after the measured prompts and the warm-up of those before it.
    assert_eq!(plans.iter().map(|plan| plan.workload.offset).collect::<Vec<_>>(), [5, 16, 38]);
    assert_eq!(plans[2].workload.needed, Some(110));
    assert_eq!(plans[2].report.folder.to_str(), Some("outputs/qwen2.5/parallel_50_number_100"));
    assert_eq!(plans.iter().map(|plan| plan.cores.len()).collect::<Vec<_>>(), [1, 3, 3]);
}

#[test]
fn one_number_applies_to_all_loads_and_equal_loads_get_separate_folders() {
    let plans = plans(spec().with(|s| {
        s.load.parallel = vec![2, 4, 2];
        s.load.number = vec![7];
    }));
    assert!(plans.iter().all(|plan| plan.requests == Some(7)));
    let names: Vec<_> = plans.iter().map(|plan| plan.report.folder.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["parallel_2_number_7", "parallel_4_number_7", "parallel_2_number_7_2"]);
}

#[test]
fn an_open_sweep_has_a_plan_for_each_rate() {
    let plans = plans(spec().with(|s| {
        s.load.open_loop = true;
        s.load.rate = vec![5.0, 10.0];
        s.load.number = vec![50, 100];
        s.load.parallel = vec![3];
    }));
    assert_eq!(plans[1].load, Load::Open { schedule: poisson(10.0) });
    assert_eq!(plans[1].report.folder.file_name().unwrap(), "rate_10.0_number_100");
    assert!(plans[0].notes.contains(&Finding::ParallelNotUsed));
}

#[test]
fn rate_with_parallel_is_a_paced_load() {
    let changed = spec().with(|s| {
        s.load.rate = vec![2.5];
        s.load.parallel = vec![8];
        s.load.arrival = Some("gamma:2".to_string());
    });
    let schedule = Schedule { rate_per_s: 2.5, arrival: Arrival::Gamma { cv: 2.0 } };
    assert_eq!(plans(changed)[0].load, Load::Paced { parallel: 8, schedule });
    assert_eq!(plans(spec().with(|s| s.load.rate = vec![-1.0]))[0].load, Load::Closed { parallel: 1 });
}

#[test]
fn a_burst_needs_no_rate_and_always_ends() {
    let burst = || {
        spec().with(|s| {
            s.load.arrival = Some("burst".to_string());
            s.load.open_loop = true;
            s.load.duration_s = Some(3.0);
        })
    };
    let plan = &plans(burst())[0];
    assert_eq!((plan.requests, plan.duration_ns), (Some(1000), Some(3 * S)));
    assert_eq!(plan.report.folder.file_name().unwrap(), "burst_number_1000");
}

#[test]
fn a_duration_alone_ends_the_run() {
    let plan = &plans(spec().with(|s| {
        s.load.duration_s = Some(30.0);
        s.load.warmup_num = 5.0;
    }))[0];
    assert_eq!((plan.requests, plan.duration_ns, plan.drain_ns, plan.warmup_requests), (None, Some(30 * S), 30 * S, 5));
    assert_eq!(plan.workload.needed, None);
    assert_eq!(plan.report.folder.file_name().unwrap(), "parallel_1_duration_30s");
    let both = &plans(spec().with(|s| {
        s.load.duration_s = Some(30.0);
        s.load.drain_s = Some(0.0);
        s.load.number = vec![9];
    }))[0];
    assert_eq!((both.requests, both.drain_ns), (Some(9), 0));
}

#[test]
fn a_fraction_as_warm_up_is_at_least_one_request() {
    assert_eq!(
        plans(spec().with(|s| {
            s.load.warmup_num = 0.001;
            s.load.number = vec![100];
        }))[0]
            .warmup_requests,
        1
    );
    assert_eq!(
        plans(spec().with(|s| {
            s.load.warmup_num = 0.29;
            s.load.number = vec![10];
        }))[0]
            .warmup_requests,
        2
    );
    assert_eq!(
        plans(spec().with(|s| {
            s.load.warmup_num = 1.0;
            s.load.number = vec![10];
        }))[0]
            .warmup_requests,
        1
    );
}

#[test]
fn the_model_may_be_omitted() {
    let mock = Spec::default().with(|s| s.target.url = Some("mock:?itl=1ms".to_string()));
    let plan = &plans(mock)[0];
    assert_eq!((plan.report.model.as_str(), plan.target.mock.as_deref()), ("mock", Some("itl=1ms")));
    assert_eq!(plan.cores, [2, 3][..1]);
    assert_eq!(plans(spec().with(|s| s.target.model = None))[0].report.model, "");
}

#[test]
fn arguments_are_stored_for_the_run_without_secrets() {
    let changed = spec().with(|s| {
        s.target.url = Some("https://h/v1?api-key=urlsecret".to_string());
        s.target.api_key = Some("sk-1".to_string());
        s.target.headers = vec!["X-Api-Token=tok-2".to_string(), "X-Tenant=a".to_string()];
        s.load.parallel = vec![1, 2];
    });
    let plan = &plans(changed)[1];
    let stored: serde_json::Value = serde_json::from_str(&plan.report.arguments_json).unwrap();
    assert_eq!((&stored["parallel"], &stored["number"]), (&serde_json::json!([2]), &serde_json::json!([1000])));
    assert_eq!((&stored["headers"]["X-Tenant"], &stored["connect_timeout"]), (&"a".into(), &120.0.into()));
    let shown = format!("{plan:?}{}", plan.report.arguments_json);
    for secret in ["sk-1", "tok-2"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(!plan.report.arguments_json.contains("urlsecret") && !plan.target.url.contains("urlsecret"));
    assert!(plan.target.path.contains("urlsecret"), "the path for the server keeps it");
}

#[test]
fn invalid_calls_are_rejected_in_one_line_that_names_the_flag() {
    let some = |text: &str| Some(text.to_string());
    let cases: Vec<(Spec, &str)> = vec![
        (spec().with(|s| s.target.url = None), "mock:"),
        (spec().with(|s| s.target.url = None), "--url"),
        (spec().with(|s| s.target.url = some("localhost:80")), "--url"),
        (spec().with(|s| s.target.api = "opneai".into()), "did you mean 'openai'?"),
        (spec().with(|s| s.data.dataset = some("line_by_lin")), "did you mean 'line_by_line'?"),
        (spec().with(|s| s.data.dataset = some("nonsense")), "(known: builtin, "),
        (spec().with(|s| s.data.dataset = some("line_by_line")), "--dataset-path"),
        (spec().with(|s| s.data.dataset_path = Some("p.txt".into())), "--dataset line_by_line"),
        (spec().with(|s| s.data.prompt = some("")), "--prompt"),
        (spec().with(|s| s.data.prompt = some("@")), "--prompt"),
        (spec().with(|s| s.target.model = some(" ")), "--model"),
        (spec().with(|s| s.output.name = some(" ")), "--name"),
        (spec().with(|s| s.load.parallel = vec![0]), "--parallel"),
        (spec().with(|s| s.load.number = vec![0]), "--number"),
        (
            spec().with(|s| {
                s.load.parallel = vec![1, 2, 3];
                s.load.number = vec![1, 2];
            }),
            "--parallel has 3",
        ),
        (
            spec().with(|s| {
                s.load.open_loop = true;
                s.load.rate = vec![1.0];
                s.load.number = vec![1, 2];
            }),
            "--rate has 1",
        ),
        (spec().with(|s| s.load.open_loop = true), "--rate"),
        (
            spec().with(|s| {
                s.load.open_loop = true;
                s.load.rate = vec![-1.0];
            }),
            "--rate",
        ),
        (spec().with(|s| s.load.rate = vec![0.0]), "--rate"),
        (spec().with(|s| s.load.rate = vec![-2.0]), "--rate"),
        (spec().with(|s| s.load.rate = vec![f64::NAN]), "--rate"),
        (spec().with(|s| s.load.rate = vec![1e12]), "--rate"),
        (spec().with(|s| s.load.rate = vec![1.0, 2.0]), "--open-loop"),
        (spec().with(|s| s.load.arrival = some("constant")), "--rate"),
        (
            spec().with(|s| {
                s.load.arrival = some("gamma");
                s.load.rate = vec![1.0];
            }),
            "gamma:2",
        ),
        (
            spec().with(|s| {
                s.load.arrival = some("burst");
                s.load.rate = vec![1.0];
            }),
            "leave --rate out",
        ),
        (
            spec().with(|s| {
                s.load.arrival = some("burst");
                s.load.ramp_s = 1.0;
            }),
            "--ramp",
        ),
        (spec().with(|s| s.load.duration_s = Some(0.0)), "--duration"),
        (spec().with(|s| s.load.duration_s = Some(f64::INFINITY)), "--duration"),
        (spec().with(|s| s.load.drain_s = Some(5.0)), "--duration"),
        (spec().with(|s| s.load.ramp_s = -1.0), "--ramp"),
        (spec().with(|s| s.target.connect_timeout_s = 0.0), "--connect-timeout"),
        (spec().with(|s| s.target.read_timeout_s = 1e300), "--read-timeout"),
        (spec().with(|s| s.target.total_timeout_s = f64::NAN), "--total-timeout"),
        (spec().with(|s| s.load.sleep_interval_s = -1.0), "--sleep-interval"),
        (spec().with(|s| s.load.warmup_num = -1.0), "--warmup-num"),
        (spec().with(|s| s.load.warmup_num = 2.5), "--warmup-num"),
        (
            spec().with(|s| {
                s.load.warmup_num = 0.5;
                s.load.duration_s = Some(1.0);
            }),
            "--number",
        ),
        (
            spec().with(|s| {
                s.data.min_prompt_length = 9;
                s.data.max_prompt_length = Some(8);
            }),
            "--max-prompt-length",
        ),
        (spec().with(|s| s.sampling.max_tokens = vec![0]), "--max-tokens"),
        (spec().with(|s| s.sampling.max_tokens = vec![20, 10]), "20 is above 10"),
        (spec().with(|s| s.sampling.max_tokens = vec![1, 2, 3]), "--max-tokens"),
        (
            spec().with(|s| {
                s.sampling.max_tokens = vec![10, 20];
                s.sampling.min_tokens = Some(11);
            }),
            "--min-tokens",
        ),
        (spec().with(|s| s.sampling.temperature = Some(-0.1)), "--temperature"),
        (spec().with(|s| s.sampling.top_p = Some(1.5)), "--top-p"),
        (spec().with(|s| s.sampling.repetition_penalty = Some(-1.0)), "--repetition-penalty"),
        (spec().with(|s| s.sampling.n_choices = Some(0)), "--n-choices"),
        (spec().with(|s| s.sampling.extra_args = some("{ignore_eos: true}")), "--extra-args"),
        (spec().with(|s| s.sampling.extra_args = some("[1]")), "--extra-args"),
        (spec().with(|s| s.target.headers = vec!["nonsense".into()]), "--headers"),
        (spec().with(|s| s.target.headers = vec!["A=b\r\nC: d".into()]), "--headers"),
        (spec().with(|s| s.target.headers = vec!["A=1".into(), "a=2".into()]), "twice"),
        (
            spec().with(|s| {
                s.target.api_key = some("k");
                s.target.headers = vec!["authorization=x".into()];
            }),
            "keep one",
        ),
        (spec().with(|s| s.target.api_key = some("k\n")), "--api-key"),
        (spec().with(|s| s.target.insecure = true), "--insecure"),
        (spec().with(|s| s.target.cacert = Some("c.pem".into())), "--cacert"),
        (
            spec().with(|s| {
                s.client.source_address = vec!["127.0.0.2".parse().unwrap()];
                s.target.url = some("unix:/s:/v1");
            }),
            "--source-address",
        ),
        (spec().with(|s| s.client.workers = Some(0)), "--workers"),
        (spec().with(|s| s.client.cores = vec![Cores(vec![64])]), "--cores"),
        (
            spec().with(|s| {
                s.client.cold = true;
                s.load.open_loop = true;
                s.load.rate = vec![1.0];
            }),
            "--cold",
        ),
    ];
    for (spec, what) in cases {
        let text = resolve(&spec, &facts()).expect_err(what).to_string();
        assert!(text.contains(what), "wanted '{what}' in: {text}");
        assert!(!text.contains('\n') && text.len() < 400, "{text}");
    }
}

#[test]
fn bounds_that_cannot_be_meant_get_a_note() {
    let noted = |spec: Spec| {
        let notes = plans(spec).remove(0).notes.into_iter();
        let bounds = notes.filter(|note| matches!(note, Finding::BoundInSeconds { .. }));
        bounds.map(|note| note.en()).collect::<Vec<_>>()
    };
    let notes = noted(spec().with(|s| s.output.slo = vec!["p99_ttft <= 500".to_string()]));
    assert!(notes[0].starts_with("p99_ttft<=500 is a bound of 500 s"), "{notes:?}");
    assert!(noted(spec().with(|s| s.output.slo = vec!["p99_ttft<=500ms".to_string()])).is_empty());
    let notes = noted(spec().with(|s| {
        s.sla.sla_auto_tune = true;
        s.sla.sla_params = vec!["p99_tpot<=50 | rps>=3".to_string()];
    }));
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn facts_say_what_the_workload_shares_and_asks_for() {
    let facts = |change: fn(&mut Spec)| plans(spec().with(change))[0].facts("");
    let plain = facts(|_| ());
    assert!(!plain.distinct_prompts && !plain.ignore_eos && plain.full_answer_tokens.is_none());
    let spec_of = |prefix: u64| {
        spec().with(|s| {
            s.data.dataset = Some("random".to_string());
            s.data.tokenizer_path = Some("/nowhere".to_string());
            (s.data.min_prompt_length, s.data.max_prompt_length) = (10, Some(20));
            s.data.prefix_length = prefix;
            s.sampling.max_tokens = vec![5, 9];
            s.sampling.extra_args = Some(r#"{"ignore_eos": true}"#.to_string());
        })
    };
    let full = plans(spec_of(0))[0].facts("");
    assert!(full.distinct_prompts && full.ignore_eos);
    assert_eq!(full.full_answer_tokens, Some(5));
    assert!(!plans(spec_of(4))[0].facts("").distinct_prompts);
}
