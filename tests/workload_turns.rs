//! Datasets of conversations: what stands in them before the model has said anything, and what is wrong with them.

mod data_support;

use std::fs;
use std::path::Path;

use data_support::{chat, completions, data, plans, tokenizer, workload};
use ringmark::record::Phase::{self, Measured, Warmup};
use ringmark::spec::Spec;
use ringmark::workload::Workload;
use ringmark::workload::tokenizer::Tokenizer;
use serde_json::Value;

fn dataset(name: &str) -> Spec {
    Spec { dataset: Some(name.to_string()), multi_turn: true, ..chat() }
}

fn share_gpt() -> Spec {
    Spec { dataset_path: Some(data("share_gpt_zh.jsonl")), number: vec![3], ..dataset("share_gpt_zh_multi_turn") }
}

fn custom(folder: &Path, text: &str) -> Spec {
    let path = folder.join("talk.jsonl");
    fs::write(&path, text).unwrap();
    Spec { dataset_path: Some(path), ..dataset("custom_multi_turn") }
}

fn random() -> Spec {
    Spec {
        tokenizer_path: Some(tokenizer("qwen2_5")),
        min_prompt_length: 20,
        max_prompt_length: Some(60),
        min_turns: Some(2),
        max_turns: Some(5),
        number: vec![30],
        ..dataset("random_multi_turn")
    }
}

/// What each turn of a conversation adds, as text.
fn turns(workload: &Workload, phase: Phase, number: u64) -> Vec<String> {
    let conversations = workload.conversations.as_ref().unwrap();
    let text = |turn| {
        let messages = format!("[{}]", str::from_utf8(conversations.messages(phase, number, turn)).unwrap());
        let messages: Vec<Value> = serde_json::from_str(&messages).unwrap();
        messages.iter().map(|message| message["content"].as_str().unwrap()).collect::<Vec<_>>().join("|")
    };
    (0..conversations.turns(phase, number)).map(text).collect()
}

fn all(workload: &Workload, count: u64) -> Vec<Vec<String>> {
    (0..count).map(|number| turns(workload, Measured, number)).collect()
}

#[test]
fn random_conversations_have_their_turns_and_lengths() {
    let tokens = Tokenizer::open(tokenizer("qwen2_5").as_ref()).unwrap();
    let made = all(&workload(&random()).unwrap(), 30);
    let counts: Vec<usize> = made.iter().map(Vec::len).collect();
    assert!(counts.iter().all(|turns| (2..=5).contains(turns)), "{counts:?}");
    assert!((2..=5).all(|turns| counts.contains(&turns)), "{counts:?}");
    let lengths: Vec<u64> = made.iter().flatten().map(|text| tokens.count(text).unwrap()).collect();
    assert!(lengths.iter().all(|length| (20..=60).contains(length)), "{lengths:?}");
    let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
    assert!(*least < 30 && *most > 50, "{least} to {most}");
    let mut distinct = made.concat();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), lengths.len(), "every text is another");
}

#[test]
fn conversation_i_depends_on_the_seed_and_i_alone() {
    let made = all(&workload(&random()).unwrap(), 30);
    let later = workload(&Spec { dataset_offset: 3, number: vec![4], ..random() }).unwrap();
    assert_eq!(all(&later, 4), made[3..7]);
    assert_ne!(all(&workload(&Spec { seed: Some(1), ..random() }).unwrap(), 30), made);
    let warm = workload(&Spec { warmup_num: 2.0, number: vec![4], ..random() }).unwrap();
    assert_eq!(all(&warm, 4), made[..4], "neither their number nor the warm-up moves them");
    assert_eq!(turns(&warm, Measured, 8), made[2], "--number past the data goes round");
    assert_eq!([turns(&warm, Warmup, 0), turns(&warm, Warmup, 1)], [made[5].clone(), made[4].clone()]);
}

#[test]
fn share_gpt_gives_what_its_users_said() {
    let made = all(&workload(&share_gpt()).unwrap(), 4);
    assert_eq!(made[0], ["你好，请介绍一下长江。", "它有多长？", "谢谢！"]);
    assert_eq!(
        (&made[1][..], &made[2][0]),
        (&["What is a prime number?".to_string()][..], &"Write \"hello\" in Rust.".to_string())
    );
    assert_eq!(made[3], made[0]);

    let cut = all(&workload(&Spec { min_turns: Some(2), max_turns: Some(2), ..share_gpt() }).unwrap(), 3);
    assert_eq!((cut[0].len(), cut[1].len(), &cut[2]), (2, 2, &cut[0]));
    let short = Spec { max_prompt_length: Some(12), ..share_gpt() };
    assert_eq!(all(&workload(&short).unwrap(), 2)[1], made[0], "the first text decides");
    let counted = Spec { tokenizer_path: Some(tokenizer("deepseek")), max_prompt_length: Some(6), ..share_gpt() };
    assert_eq!(all(&workload(&counted).unwrap(), 1)[0], made[0], "eleven characters, six tokens");

    // The other shape, of one JSON array.
    let v3 = Spec { dataset_path: Some(data("sharegpt.json")), ..dataset("share_gpt_multi_turn") };
    let conversations = workload(&v3).unwrap();
    assert!(all(&conversations, 3).iter().all(|turns| !turns.is_empty()));
}

#[test]
fn custom_lines_are_messages_or_texts() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[\"a\", \"b\"]\n\n{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \
                \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"d\"}]}\n";
    let made = all(&workload(&custom(folder.path(), text)).unwrap(), 2);
    assert_eq!(made, [["a", "b"], ["s|c", "d"]]);
    let array = workload(&custom(folder.path(), "[[\"a\"],\n [\"b\", \"c\"]]")).unwrap();
    assert_eq!(all(&array, 2), [vec!["a"], vec!["b", "c"]]);
}

#[test]
fn bad_rows_give_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("[\"a\"]\n[\"b\"", "line 2: is not valid JSON"),
        ("[\"a\"]\n3\n", "line 2: is not a list"),
        ("[{\"role\":\"assistant\",\"content\":\"x\"}]\n", "line 1: has no user message"),
        ("[{\"content\":\"x\"}]\n", "line 1: message 1 has no field \"role\""),
        ("{\"text\":\"x\"}\n", "line 1: is an object without a list \"messages\""),
        ("\n\n", "contains no conversation"),
    ] {
        let error = workload(&custom(folder.path(), text)).unwrap_err();
        assert!(error.contains(words) && error.contains("talk.jsonl") && !error.contains('\n'), "{error}");
    }
    let long = workload(&Spec { min_turns: Some(9), ..share_gpt() }).unwrap_err();
    assert!(long.contains("no conversation of --min-turns 9 or more, among 3"), "{long}");
    let none = workload(&Spec { min_prompt_length: 5000, ..share_gpt() }).unwrap_err();
    assert!(none.contains("--min-prompt-length 5000"), "{none}");
    let template = Some(r#"{"prompt": "Answer this: %p"}"#.to_string());
    let unfit = workload(&Spec { query_template: template, ..share_gpt() }).unwrap_err();
    assert!(unfit.contains("the body has no place for the messages of a conversation"), "{unfit}");
}

#[test]
fn a_template_may_have_the_place_of_the_messages() {
    let template = r#"{"messages":[{"role":"user","content":"%p"}],"top_k":4,"model":"%m"}"#.to_string();
    let made = workload(&Spec { query_template: Some(template), ..share_gpt() }).unwrap();
    assert_eq!(all(&made, 1)[0].len(), 3);
    let frame = made.conversations.as_ref().unwrap().frame(Measured, 0);
    assert_eq!(&*frame.before, br#"{"messages":["#);
    assert!(str::from_utf8(&frame.after).unwrap().starts_with(r#"],"top_k":4,"model":"m""#));
}

#[test]
fn what_cannot_be_is_said_before_anything_is_read() {
    let refused = |spec: Spec, words: &str| {
        let error = plans(&spec).unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    };
    refused(Spec { multi_turn: true, ..chat() }, "--multi-turn is about conversations");
    refused(Spec { max_turns: Some(3), ..chat() }, "--max-turns is about conversations");
    refused(Spec { think_time_s: vec![1.0], prompt: Some("x".to_string()), ..share_gpt() }, "about conversations");
    refused(Spec { url: completions().url, ..share_gpt() }, "/v1/chat/completions");
    refused(Spec { dataset_path: None, ..share_gpt() }, "--dataset-path");
    refused(Spec { dataset_path: Some(data("sharegpt.json")), ..random() }, "reads no file");
    refused(Spec { max_turns: None, ..random() }, "add --max-turns");
    refused(Spec { tokenizer_path: None, ..random() }, "--tokenizer-path");
    refused(Spec { min_turns: Some(6), ..random() }, "--min-turns 6 is above --max-turns 5");
    refused(Spec { max_turns: Some(5000), ..random() }, "from 1 to 1000");
    refused(Spec { tokenize_prompt: true, ..random() }, "--tokenize-prompt");
    refused(Spec { n_choices: Some(2), ..share_gpt() }, "--n-choices");
    refused(Spec { think_time_s: vec![2.0, 1.0], ..share_gpt() }, "2 is above 1");
    refused(Spec { think_time_s: vec![-1.0], ..share_gpt() }, "--think-time");
    refused(Spec { think_time_s: vec![9999.0], ..share_gpt() }, "at most 3600");
    let plan = plans(&Spec { multi_turn: false, ..share_gpt() });
    assert!(plan.is_ok(), "the dataset implies --multi-turn");
}
