//! The commands of evalscope's documentation, with the first words replaced, against the built-in server.
//!
//! The server's address gives way to the mock's, and a data set of a hub to a file of the same shape: everything else
//! stands as it is printed there.

use super::call::{Call, perf, words};
use serde_json::json;

const TEMPLATE: &str = r#"{
   "model":"%m",
   "messages":[
      {
         "role":"user",
         "content":"%p"
      }
   ],
   "stream":true,
   "skip_special_tokens":false,
   "stop":["<|im_end|>"],
   "temperature":0.7,
   "max_tokens":1024
}"#;

const PROMPT: &str = "evalscope perf \
 --url 'http://127.0.0.1:8000/v1/chat/completions' \
 --parallel 2 \
 --model 'qwen2.5' \
 --log-every-n-query 10 \
 --number 20 \
 --api openai \
 --temperature 0.9 \
 --max-tokens 1024 \
 --prompt '写一个科幻小说,请开始你的表演'";

const COMPLEX: &str = "evalscope perf \
 --url 'http://127.0.0.1:8000/v1/chat/completions' \
 --parallel 2 \
 --model 'qwen2.5' \
 --log-every-n-query 10 \
 --read-timeout 120 \
 --connect-timeout 120 \
 --number 20 \
 --max-prompt-length 128000 \
 --min-prompt-length 128 \
 --api openai \
 --temperature 0.7 \
 --max-tokens 1024 \
 --stop '<|im_end|>' \
 --dataset openqa \
 --stream";

const INLINE: &str = r#"evalscope perf \
 --url 'http://127.0.0.1:8000/v1/chat/completions' \
 --parallel 2 \
 --model 'qwen2.5' \
 --log-every-n-query 10 \
 --read-timeout 120 \
 --connect-timeout 120 \
 --number 20 \
 --max-prompt-length 128000 \
 --min-prompt-length 128 \
 --api openai \
 --query-template '{"model": "%m", "messages": [{"role": "user","content": "%p"}], "stream": true, "skip_special_tokens": false, "stop": ["<|im_end|>"], "temperature": 0.7, "max_tokens": 1024}' \
 --dataset openqa "#;

const OPEN_LOOP: &str = "evalscope perf \
  --url 'http://127.0.0.1:8000/v1/chat/completions' \
  --model 'qwen2.5' \
  --api openai \
  --dataset openqa \
  --open-loop \
  --rate 500 1000 \
  --number 20 40 \
  --sleep-interval 0 \
  --max-tokens 1024 \
  --stream";

const WARM_UP: &str = "evalscope perf \
  --url 'http://127.0.0.1:8000/v1/chat/completions' \
  --parallel 10 \
  --model 'qwen2.5' \
  --number 100 \
  --warmup-num 0.1 \
  --api openai \
  --dataset openqa \
  --stream";

/// The warm-up of the documentation with conversations, as its note describes it.
const MULTI_TURN: &str = "evalscope perf \
  --url 'http://127.0.0.1:8000/v1/chat/completions' \
  --parallel 5 \
  --model 'qwen2.5' \
  --number 20 \
  --warmup-num 0.1 \
  --api openai \
  --dataset share_gpt_zh_multi_turn \
  --multi-turn \
  --min-turns 2 \
  --max-turns 3 \
  --max-tokens 1024 \
  --stream";

const CONVERSATIONS: &str = r#"{"conversation": [{"human": "一", "assistant": "x"}, {"human": "二", "assistant": "x"}, {"human": "三"}, {"human": "四"}]}
{"conversation": [{"human": "only one", "assistant": "x"}]}
{"conversation": [{"human": "a", "assistant": "x"}, {"human": "b", "assistant": "x"}]}
"#;

const EMBEDDING: &str = "evalscope perf \
 --parallel 2 \
 --number 10 \
 --model 'text-embedding-v4' \
 --url 'https://dashscope.aliyuncs.com/compatible-mode/v1/embeddings' \
 --api-key sk-test \
 --api openai_embedding \
 --dataset random_embedding";

const RERANK: &str = "evalscope perf \
 --parallel 2 \
 --number 10 \
 --model 'qwen3-rerank' \
 --url 'https://dashscope.aliyuncs.com/compatible-api/v1/reranks' \
 --api-key sk-test \
 --api openai_rerank \
 --dataset random_rerank";

/// Lines of at least 128 characters, as `--min-prompt-length` asks.
fn questions() -> String {
    (0..5).map(|n| format!("Question {n}: {}\n", "why is \"this\" so, and 为什么? ".repeat(6))).collect()
}

/// Runs a documented command against the mock.
fn run(command: &str) -> Call {
    let rerank = r#"{"query": "q one", "documents": ["d one", "d two", "d three"]}"#;
    let mut arguments = Vec::new();
    for word in words(command.strip_prefix("evalscope perf").unwrap()) {
        let replaced: &[&str] = match word.as_str() {
            "http://127.0.0.1:8000/v1/chat/completions" => &["mock:/v1/chat/completions?ttft=1ms&itl=0ms&tokens=8"],
            url if url.ends_with("/embeddings") => &["mock:/v1/embeddings"],
            url if url.ends_with("/reranks") => &["mock:/v1/reranks"],
            "openqa" | "random_embedding" => &["line_by_line", "--dataset-path", "questions.txt"],
            "share_gpt_zh_multi_turn" => &["share_gpt_zh_multi_turn", "--dataset-path", "conversations.jsonl"],
            "random_rerank" => &["line_by_line", "--dataset-path", "rerank.jsonl"],
            other => &[other],
        };
        arguments.extend(replaced.iter().map(ToString::to_string));
    }
    let files = [
        ("template.json", TEMPLATE),
        ("questions.txt", &questions()),
        ("rerank.jsonl", rerank),
        ("conversations.jsonl", CONVERSATIONS),
    ];
    perf(&arguments, &files)
}

#[test]
fn a_prompt() {
    let call = run(PROMPT);
    call.check(20.0);
    let expected = json!([{"role": "user", "content": "写一个科幻小说,请开始你的表演"}]);
    assert_eq!((&call.bodies()[0]["messages"], &call.bodies()[0]["temperature"]), (&expected, &json!(0.9)));
}

#[test]
fn a_complex_request() {
    let call = run(COMPLEX);
    call.check(20.0);
    assert_eq!(call.bodies().len(), 5);
    assert!(call.bodies().iter().all(|body| body["stop"] == json!(["<|im_end|>"]) && body["stream"] == true));
}

#[test]
fn templates_inline_and_from_a_file() {
    let inline = INLINE.replace("\\\n", "");
    let from = inline.find("'{").unwrap();
    let to = inline.find("}'").unwrap() + 2;
    for command in [inline.clone(), inline.replace(&inline[from..to], "@template.json")] {
        let call = run(&command);
        call.check(20.0);
        let body = &call.bodies()[0];
        assert_eq!(
            (&body["model"], &body["max_tokens"], &body["temperature"]),
            (&json!("qwen2.5"), &json!(1024), &json!(0.7))
        );
        assert_eq!(body["skip_special_tokens"], json!(false));
        let asked: Vec<String> =
            call.bodies().iter().filter_map(|body| body["messages"][0]["content"].as_str().map(String::from)).collect();
        assert!(asked.len() == 5 && questions().lines().all(|question| asked.iter().any(|asked| asked == question)));
        assert_eq!(call.number("Average output tokens per request"), 8.0);
    }
}

#[test]
fn open_loop_and_warm_up() {
    let call = run(OPEN_LOOP);
    assert!(matches!(call.status, 0 | 3), "{}", call.stderr);
    assert!(call.requests("outcome").iter().all(|outcome| outcome == "ok"));
    run(WARM_UP).check(100.0);
}

#[test]
fn conversations() {
    let call = run(MULTI_TURN);
    // Three turns and two, in turn.
    call.check(50.0);
    let lengths = call.bodies().iter().map(|body| body["messages"].as_array().unwrap().len()).collect::<Vec<_>>();
    assert!(lengths.contains(&5) && lengths.iter().all(|length| matches!(length, 1 | 3 | 5)), "{lengths:?}");
    let told = &call.summary()["Multi-turn"];
    assert_eq!(
        (&told["Conversations"], &told["Begun"], &told["Turns"][2]["Requests"]),
        (&json!(20), &json!(20), &json!(10))
    );
}

#[test]
fn embeddings() {
    let call = run(EMBEDDING);
    call.check(10.0);
    let body = &call.bodies()[0];
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["model", "input"]);
    assert!(call.number("Average input tokens per request") > 10.0);
    assert_eq!(call.number("Average output tokens per request"), 0.0);
    assert_eq!(call.number("Average time to first token (s)"), call.number("Average latency (s)"));
}

#[test]
fn rerank() {
    let call = run(RERANK);
    call.check(10.0);
    assert_eq!(call.bodies()[0]["documents"].as_array().unwrap().len(), 3);
    assert!(call.number("Average input tokens per request") > 5.0);
}
