//! Datasets: read from files in their original format, generated, or printed by a program.

mod data_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_support::{bodies, chat, completions, content, data, plans, tokenizer, workload};
use ringmark::spec::Spec;
use ringmark::workload::tokenizer::Tokenizer;
use serde_json::{Value, json};

fn from_file(name: &str, file: &str) -> Spec {
    chat().with(|s| {
        s.data.dataset = Some(name.to_string());
        s.data.dataset_path = Some(data(file));
        s.load.number = vec![50];
    })
}

fn program(folder: &Path, script: &str) -> Spec {
    let path = folder.join("prompts.sh");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    chat().with(|s| s.data.dataset = Some(path.display().to_string()))
}

#[test]
fn openqa_and_longalpaca_use_one_field() {
    let test_spec = from_file("openqa", "open_qa.jsonl");
    let made = bodies(&workload(&test_spec).unwrap(), 6);
    assert_eq!(content(&made[0]), "为什么天空是蓝色的?");
    assert_eq!(content(&made[3]), "光年是时间单位还是长度单位", "stripped");
    assert_eq!(made[5], made[0], "cycled");
    let short = workload(&test_spec.with(|s| s.data.max_prompt_length = Some(12))).unwrap();
    assert_eq!(short.bodies.len(), 3);

    let long = workload(&from_file("longalpaca", "longalpaca.json")).unwrap();
    assert_eq!(long.bodies.len(), 3);
    assert!(content(&bodies(&long, 1)[0]).starts_with("Below is a passage."));
}

#[test]
fn sharegpt_follows_the_rules_of_lmdeploy() {
    let test_spec =
        from_file("sharegpt", "sharegpt.json").with(|s| s.data.tokenizer_path = Some(tokenizer("deepseek")));
    let all = workload(&test_spec).unwrap();
    let mut prompts: Vec<String> =
        bodies(&all, all.bodies.len() as u64).iter().map(|b| content(b).to_string()).collect();
    prompts.sort();
    assert_eq!(
        prompts,
        [
            "Explain recursion to a child in two sentences.",
            "List three uses of a brick that are not building.",
            "Write a short poem about the sea, please.",
            "请用一句话介绍长江。",
        ],
        "short prompts and answers, long ones, and single turns are left out"
    );
    let sample = |seed| {
        bodies(
            &workload(&test_spec.clone().with(|s| {
                s.sampling.seed = Some(seed);
                s.load.number = vec![2];
            }))
            .unwrap(),
            2,
        )
    };
    assert_eq!(sample(1), sample(1));
    assert!((2..9).any(|seed| sample(seed)[0]["messages"] != sample(1)[0]["messages"]), "seeded");

    let tokens = Tokenizer::open(tokenizer("deepseek").as_ref()).unwrap();
    let forced = workload(&test_spec.with(|s| {
        s.data.sharegpt_output_len = true;
        s.sampling.max_tokens = vec![7];
    }))
    .unwrap();
    let poem = bodies(&forced, 4).into_iter().find(|body| content(body).contains("poem")).unwrap();
    let answer = "The sea is wide, the sea is deep,\nIt sings the harbour lights to sleep.";
    assert_eq!(poem["max_tokens"], json!(tokens.count(answer).unwrap()));
    assert_eq!(poem["ignore_eos"], json!(true));
}

#[test]
fn the_speed_benchmark_has_its_own_size_endpoint_and_length() {
    let test_spec = chat().with(|s| s.data.dataset = Some("speed_benchmark".to_string()));
    let plan = plans(&test_spec).unwrap().remove(0);
    assert_eq!((plan.requests, plan.target.path.as_str()), (Some(8), "/v1/completions"));
    assert!(
        plan.notes.iter().any(|note| note.en().contains("speed_benchmark") && note.en().contains("/v1/completions"))
    );
    let made = bodies(&workload(&test_spec).unwrap(), 8);
    let lengths: Vec<usize> = made.iter().map(|body| body["prompt"].as_str().unwrap().chars().count()).collect();
    assert_eq!(lengths, [1, 1, 6144, 6144, 14_336, 14_336, 30_720, 30_720]);
    assert!(made.iter().all(|body| body["max_tokens"] == 2048 && body["min_tokens"] == 2048));

    for name in ["deepseek", "qwen2_5"] {
        let counted = test_spec.clone().with(|s| {
            s.data.tokenizer_path = Some(tokenizer(name));
            s.load.number = vec![4];
        });
        let made = bodies(&workload(&counted).unwrap(), 4);
        let tokens = Tokenizer::open(tokenizer(name).as_ref()).unwrap();
        let counts: Vec<u64> =
            made.iter().map(|body| tokens.count(body["prompt"].as_str().unwrap()).unwrap()).collect();
        assert_eq!(counts, [1, 1, 6144, 6144], "{name}");
    }
    let long = plans(&completions().with(|s| s.data.dataset = Some("speed_benchmark_long".to_string()))).unwrap();
    assert_eq!(long[0].requests, Some(4));
}

#[test]
fn the_speed_benchmark_has_the_lengths_of_2024_on_request() {
    let spec = completions().with(|s| {
        s.data.dataset = Some("speed_benchmark".to_string());
        s.data.dataset_args = Some(r#"{"lengths": [96, 2048]}"#.to_string());
    });
    assert_eq!(plans(&spec).unwrap()[0].requests, Some(4));
    let made = bodies(&workload(&spec).unwrap(), 4);
    let lengths: Vec<usize> = made.iter().map(|body| body["prompt"].as_str().unwrap().chars().count()).collect();
    assert_eq!(lengths, [96, 96, 2048, 2048]);
}

#[test]
fn texts_are_cut_to_a_number_of_tokens() {
    for name in ["deepseek", "qwen2_5"] {
        let tokens = Tokenizer::open(tokenizer(name).as_ref()).unwrap();
        let counts_with = |dataset_args: &str| {
            let spec = from_file("openqa", "open_qa.jsonl").with(|s| {
                s.data.tokenizer_path = Some(tokenizer(name));
                s.data.dataset_args = Some(dataset_args.to_string());
            });
            let made = workload(&spec)?;
            let made = bodies(&made, made.bodies.len() as u64);
            Ok::<_, String>(made.iter().map(|body| tokens.count(content(body)).unwrap()).collect::<Vec<u64>>())
        };
        let uncut = counts_with(r#"{"target_input_len": 1000}"#).unwrap();
        let (least, most) = (*uncut.iter().min().unwrap(), *uncut.iter().max().unwrap());
        assert!(least < most);
        let cut = counts_with(&format!("{{\"target_input_len\": {}}}", most - 1)).unwrap();
        assert_eq!(cut.len(), uncut.len());
        assert!(cut.iter().all(|count| *count < most) && cut.contains(&least), "{cut:?}");
        let exact = counts_with(&format!("{{\"target_input_len\": {most}, \"input_len_mode\": \"drop\"}}")).unwrap();
        assert!(!exact.is_empty() && exact.iter().all(|count| *count == most), "{exact:?}");
        let error = counts_with(r#"{"target_input_len": 1000, "input_len_mode": "drop"}"#).unwrap_err();
        assert!(error.contains("no text has 1000 tokens or more"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    fs::write(&path, "a text\n{\"messages\": []}\n").unwrap();
    let spec = from_file("line_by_line", "").with(|s| {
        s.data.dataset_path = Some(path.clone());
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
        s.data.dataset_args = Some(r#"{"target_input_len": 3}"#.to_string());
    });
    let error = workload(&spec).unwrap_err();
    assert!(error.contains("lines, line 2: target_input_len cuts texts"), "{error}");
}

#[test]
fn texts_for_embedding_and_ranking() {
    let embed = from_file("embedding", "embedding.jsonl").with(|s| s.target.api = "openai_embedding".to_string());
    let embed = embed.with(|s| s.target.url = Some("http://h/v1/embeddings".to_string()));
    let inputs: Vec<Value> = bodies(&workload(&embed).unwrap(), 4).iter().map(|body| body["input"].clone()).collect();
    assert_eq!(inputs, ["a river in the north", "bread and salt", "长江", "plain words on a line"]);
    let rank = from_file("rerank", "rerank.jsonl").with(|s| s.target.api = "openai_rerank".to_string());
    let rank = rank.with(|s| s.target.url = Some("http://h/v1/rerank".to_string()));
    let made = bodies(&workload(&rank).unwrap(), 3);
    assert_eq!(
        (&made[0]["query"], made[0]["documents"].as_array().unwrap().len()),
        (&json!("how long is the Nile"), 2)
    );
    assert_eq!(
        (&made[1]["documents"], &made[2]["documents"]),
        (&json!(["a passage"]), &json!(["one", "two", "three"]))
    );
    let error = workload(&from_file("rerank", "rerank.jsonl")).unwrap_err();
    assert!(error.contains("rerank.jsonl, line 1") && error.contains("--api openai_rerank"), "{error}");
}

#[test]
fn random_texts_for_embedding_and_ranking() {
    let tokens = Tokenizer::open(tokenizer("deepseek").as_ref()).unwrap();
    let lengths = chat().with(|s| {
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
        s.data.min_prompt_length = 8;
        s.data.max_prompt_length = Some(12);
        s.load.number = vec![6];
    });
    let embed = lengths.clone().with(|s| {
        s.target.api = "openai_embedding".to_string();
        s.target.url = Some("http://h/v1/embeddings".to_string());
        s.data.dataset = Some("random_embedding".to_string());
    });
    for body in bodies(&workload(&embed).unwrap(), 6) {
        assert!((8..=12).contains(&tokens.count(body["input"].as_str().unwrap()).unwrap()));
    }
    let rank = lengths.with(|s| {
        s.target.api = "openai_rerank".to_string();
        s.target.url = Some("http://h/v1/rerank".to_string());
        s.data.dataset = Some("random_rerank".to_string());
        s.sampling.extra_args = Some(r#"{"num_documents":3,"document_length_ratio":2.5,"top_n":2}"#.to_string());
    });
    for body in bodies(&workload(&rank).unwrap(), 6) {
        let query = tokens.count(body["query"].as_str().unwrap()).unwrap();
        let documents = body["documents"].as_array().unwrap();
        assert_eq!(documents.len(), 3);
        for document in documents {
            assert_eq!(tokens.count(document.as_str().unwrap()).unwrap(), (query as f64 * 2.5) as u64);
        }
        assert_eq!((&body["top_n"], body.get("num_documents")), (&json!(2), None), "{body}");
    }
    let error =
        |extra: &str| workload(&rank.clone().with(|s| s.sampling.extra_args = Some(extra.to_string()))).unwrap_err();
    assert!(error(r#"{"num_documents":0}"#).contains("num_documents must be a whole number"));
    assert!(error(r#"{"document_length_ratio":"x"}"#).contains("document_length_ratio must be a number"));
}

#[test]
fn a_program_prints_the_prompts() {
    let example: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/examples/my_prompts.py");
    let test_spec = chat().with(|s| {
        s.data.dataset = Some(example.display().to_string());
        s.load.number = vec![6];
        s.sampling.seed = Some(3);
    });
    let made = bodies(&workload(&test_spec).unwrap(), 6);
    assert!(content(&made[0]).starts_with("What should one see in"));
    assert_eq!(made[1]["messages"][0]["role"], "system");
    assert_eq!((&made[2]["max_tokens"], &made[2]["model"]), (&json!(32), &json!("m")));

    let folder = tempfile::tempdir().unwrap();
    let wanted = program(folder.path(), r#"echo "\"$RINGMARK_NUMBER $RINGMARK_SEED $RINGMARK_MODEL\"""#);
    let body = bodies(
        &workload(&wanted.with(|s| {
            s.load.number = vec![9];
            s.sampling.seed = Some(4);
        }))
        .unwrap(),
        1,
    )
    .remove(0);
    assert_eq!(content(&body), "9 4 m");
}

#[test]
fn program_failures_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (script, what) in [
        ("echo '\"fine\"'; echo one >&2; echo two >&2; exit 3", "exit status: 3): two"),
        ("exit 1", "nothing to standard error"),
        ("true", "printed no prompt"),
        ("echo not json", "line 1 of its output is not JSON"),
        ("echo '\"a\"'; echo '[{\"content\":1}]'", "line 2 of its output message 1 has no field \"role\""),
        ("echo 5", "neither a string"),
        ("kill -9 $$", "signal: 9"),
        ("yes nonsense", "line 1 of its output is not JSON"),
    ] {
        let error = workload(&program(folder.path(), script)).unwrap_err();
        assert!(error.contains(what) && error.contains("--dataset") && !error.contains('\n'), "{script}: {error}");
    }
    let missing = chat().with(|s| s.data.dataset = Some("./nowhere.py".to_string()));
    let error = workload(&missing).unwrap_err();
    assert!(error.contains("the program does not exist"), "{error}");
    let test_spec = program(folder.path(), "true");
    fs::set_permissions(test_spec.data.dataset.as_ref().unwrap(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(workload(&test_spec).unwrap_err().contains("chmod +x"));
}

#[test]
fn invalid_files_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    for (name, text, what) in [
        ("openqa", "{\"question\":\"a\"}\n{\"answer\":\"b\"}\n", "data, line 2: has no text in a field \"question\""),
        ("openqa", "{\"question\":\n", "data, line 1: is not valid JSON"),
        ("openqa", "", "is empty"),
        ("longalpaca", "[{\"instruction\":\"a\"},{\"x\":1}]", "entry 2 has no text in a field \"instruction\""),
        ("longalpaca", "[{\"instruction\":", "is not valid JSON"),
        ("sharegpt", "[{\"text\":\"a\"}]", "entry 1 has no list \"conversations\""),
        ("sharegpt", "[{\"conversations\":[]}]", "no conversation has two messages"),
        ("rerank", "{\"query\":\"q\"}", "line 1: has no list in any of the fields documents, passages, texts"),
        ("rerank", "{\"query\":\"q\",\"documents\":[1]}", "a document without text"),
    ] {
        fs::write(&path, text).unwrap();
        let tokens = (name == "sharegpt").then(|| tokenizer("deepseek"));
        let spec = from_file(name, "").with(|s| {
            s.data.dataset_path = Some(path.clone());
            s.data.tokenizer_path = tokens;
        });
        let error = workload(&spec).unwrap_err();
        assert!(error.contains(what) && !error.contains('\n'), "{name}: {error}");
    }
    let error = |spec: Spec| workload(&spec).unwrap_err();
    assert!(
        error(from_file("openqa", "").with(|s| s.data.dataset_path = None))
            .contains("--dataset-path FILE (open_qa.jsonl")
    );
    assert!(error(from_file("speed_benchmark", "open_qa.jsonl")).contains("reads no file"));
    assert!(error(from_file("sharegpt", "sharegpt.json")).contains("--tokenizer-path"));
    assert!(error(chat().with(|s| s.data.sharegpt_output_len = true)).contains("--dataset sharegpt"));
}
