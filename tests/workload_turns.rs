//! Datasets of conversations: their turns, and invalid data.

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
    chat().with(|s| {
        s.data.dataset = Some(name.to_string());
        s.data.multi_turn = true;
    })
}

fn share_gpt() -> Spec {
    dataset("share_gpt_zh_multi_turn").with(|s| {
        s.data.dataset_path = Some(data("share_gpt_zh.jsonl"));
        s.load.number = vec![3];
    })
}

fn custom(folder: &Path, text: &str) -> Spec {
    let path = folder.join("talk.jsonl");
    fs::write(&path, text).unwrap();
    dataset("custom_multi_turn").with(|s| s.data.dataset_path = Some(path))
}

fn random() -> Spec {
    dataset("random_multi_turn").with(|s| {
        s.data.tokenizer_path = Some(tokenizer("qwen2_5"));
        s.data.min_prompt_length = 20;
        s.data.max_prompt_length = Some(60);
        s.data.min_turns = Some(2);
        s.data.max_turns = Some(5);
        s.load.number = vec![30];
    })
}

/// The text that each turn adds to a conversation.
fn turns(workload: &Workload, phase: Phase, number: u64) -> Vec<String> {
    let text = |turn: &[u8]| {
        let messages: Vec<Value> = serde_json::from_str(&format!("[{}]", str::from_utf8(turn).unwrap())).unwrap();
        messages.iter().map(|message| message["content"].as_str().unwrap()).collect::<Vec<_>>().join("|")
    };
    let script = workload.conversations.as_ref().unwrap().script(phase, number);
    script.turns.iter().map(|turn| text(turn)).collect()
}

fn all(workload: &Workload, count: u64) -> Vec<Vec<String>> {
    (0..count).map(|number| turns(workload, Measured, number)).collect()
}

#[test]
fn random_conversations_have_the_requested_turns_and_lengths() {
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
    let later = workload(&random().with(|s| {
        s.data.dataset_offset = 3;
        s.load.number = vec![4];
    }))
    .unwrap();
    assert_eq!(all(&later, 4), made[3..7]);
    assert_ne!(all(&workload(&random().with(|s| s.sampling.seed = Some(1))).unwrap(), 30), made);
    let warm = workload(&random().with(|s| {
        s.load.warmup_num = 2.0;
        s.load.number = vec![4];
    }))
    .unwrap();
    assert_eq!(all(&warm, 4), made[..4], "neither their number nor the warm-up moves them");
    assert_eq!(turns(&warm, Measured, 8), made[0], "numbers past the data start again, without the warm-up's");
    // The warm-up has conversations of its own, which do not depend on how many are measured.
    let more = workload(&random().with(|s| {
        s.load.warmup_num = 3.0;
        s.load.number = vec![7];
    }))
    .unwrap();
    for number in 0..2 {
        assert_eq!(turns(&warm, Warmup, number), turns(&more, Warmup, number));
        assert!(!made.contains(&turns(&warm, Warmup, number)));
    }
}

#[test]
fn share_gpt_uses_the_messages_of_users() {
    let made = all(&workload(&share_gpt()).unwrap(), 4);
    assert_eq!(made[0], ["你好，请介绍一下长江。", "它有多长？", "谢谢！"]);
    assert_eq!(
        (&made[1][..], &made[2][0]),
        (&["What is a prime number?".to_string()][..], &"Write \"hello\" in Rust.".to_string())
    );
    assert_eq!(made[3], made[0]);

    let cut = all(
        &workload(&share_gpt().with(|s| {
            s.data.min_turns = Some(2);
            s.data.max_turns = Some(2);
        }))
        .unwrap(),
        3,
    );
    assert_eq!((cut[0].len(), cut[1].len(), &cut[2]), (2, 2, &cut[0]));
    let short = share_gpt().with(|s| s.data.max_prompt_length = Some(12));
    assert_eq!(all(&workload(&short).unwrap(), 2)[1], made[0], "the first text decides");
    let counted = share_gpt().with(|s| {
        s.data.tokenizer_path = Some(tokenizer("deepseek"));
        s.data.max_prompt_length = Some(6);
    });
    assert_eq!(all(&workload(&counted).unwrap(), 1)[0], made[0], "eleven characters, six tokens");

    // The other format: one JSON array.
    let v3 = dataset("share_gpt_multi_turn").with(|s| s.data.dataset_path = Some(data("sharegpt.json")));
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
    let long = workload(&share_gpt().with(|s| s.data.min_turns = Some(9))).unwrap_err();
    assert!(long.contains("no conversation of --min-turns 9 or more, among 3"), "{long}");
    let none = workload(&share_gpt().with(|s| s.data.min_prompt_length = 5000)).unwrap_err();
    assert!(none.contains("--min-prompt-length 5000"), "{none}");
    let template = Some(r#"{"prompt": "Answer this: %p"}"#.to_string());
    let unfit = workload(&share_gpt().with(|s| s.data.query_template = template)).unwrap_err();
    assert!(unfit.contains("no place for the messages of a conversation"), "{unfit}");
}

#[test]
fn a_template_may_contain_the_messages() {
    let template = r#"{"messages":[{"role":"user","content":"%p"}],"top_k":4,"model":"%m"}"#.to_string();
    let made = workload(&share_gpt().with(|s| s.data.query_template = Some(template))).unwrap();
    assert_eq!(all(&made, 1)[0].len(), 3);
    let frame = made.conversations.as_ref().unwrap().script(Measured, 0).frame;
    assert_eq!(&*frame.before, br#"{"messages":["#);
    assert!(str::from_utf8(&frame.after).unwrap().starts_with(r#"],"top_k":4,"model":"m""#));
}

#[test]
fn invalid_flags_are_reported_before_reading_data() {
    let refused = |spec: Spec, words: &str| {
        let error = plans(&spec).unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    };
    refused(chat().with(|s| s.data.multi_turn = true), "--multi-turn applies to conversations");
    refused(chat().with(|s| s.data.max_turns = Some(3)), "--max-turns applies to conversations");
    refused(
        share_gpt().with(|s| {
            s.data.think_time_s = vec![1.0];
            s.data.prompt = Some("x".to_string());
        }),
        "applies to conversations",
    );
    refused(share_gpt().with(|s| s.target.url = completions().target.url), "/v1/chat/completions");
    refused(share_gpt().with(|s| s.data.dataset_path = None), "--dataset-path");
    refused(random().with(|s| s.data.dataset_path = Some(data("sharegpt.json"))), "reads no file");
    refused(random().with(|s| s.data.max_turns = None), "add --max-turns");
    refused(random().with(|s| s.data.tokenizer_path = None), "--tokenizer-path");
    refused(random().with(|s| s.data.min_turns = Some(6)), "--min-turns 6 is above --max-turns 5");
    refused(random().with(|s| s.data.max_turns = Some(5000)), "from 1 to 1000");
    refused(random().with(|s| s.data.tokenize_prompt = true), "--tokenize-prompt");
    refused(share_gpt().with(|s| s.sampling.n_choices = Some(2)), "--n-choices");
    refused(share_gpt().with(|s| s.data.think_time_s = vec![2.0, 1.0]), "2 is above 1");
    refused(share_gpt().with(|s| s.data.think_time_s = vec![-1.0]), "--think-time");
    refused(share_gpt().with(|s| s.data.think_time_s = vec![9999.0]), "at most 3600");
    let plan = plans(&share_gpt().with(|s| s.data.multi_turn = false));
    assert!(plan.is_ok(), "the dataset implies --multi-turn");
}
