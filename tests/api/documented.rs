//! The commands of evalscope's documentation, with the first words replaced, against the built-in server.
//!
//! The server's address is replaced with the mock's, and files from hubs with local files of the same format. Rates, pauses
//! and counts are reduced to save time; everything else is unchanged.

use super::call::{Call, perf, perf_aloud, words};
use super::data_support::tokenizer;
use ringmark::workload::tokenizer::Tokenizer;
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

/// The documented warm-up with conversations.
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
const FIRST: &str = r#"evalscope perf \
    --url "http://127.0.0.1:8000/v1/chat/completions" \
    --parallel 1 \
    --model qwen2.5 \
    --number 15 \
    --api openai \
    --dataset openqa \
    --stream"#;

const SWEEP: &str = "evalscope perf \
  --parallel 1 10 50 100 200 \
  --number 2 4 10 20 40 \
  --model Qwen2.5-0.5B-Instruct \
  --url http://127.0.0.1:8801/v1/chat/completions \
  --api openai \
  --dataset random \
  --max-tokens 1024 \
  --min-tokens 1024 \
  --prefix-length 0 \
  --min-prompt-length 1024 \
  --max-prompt-length 1024 \
  --tokenizer-path Qwen/Qwen2.5-0.5B-Instruct \
  --sleep-interval 0 \
  --extra-args '{\"ignore_eos\": true}'";

const RANDOM: &str = "evalscope perf \
  --parallel 20 \
  --model Qwen2.5-0.5B-Instruct \
  --url http://127.0.0.1:8801/v1/chat/completions \
  --api openai \
  --dataset random \
  --min-tokens 128 \
  --max-tokens 128 \
  --prefix-length 64 \
  --min-prompt-length 1024 \
  --max-prompt-length 2048 \
  --number 100 \
  --tokenizer-path Qwen/Qwen2.5-0.5B-Instruct \
  --debug";

const RANDOM_VL: &str = "evalscope perf \
  --parallel 20 \
  --model Qwen2.5-VL-3B-Instruct \
  --url http://127.0.0.1:8801/v1/chat/completions \
  --api openai \
  --dataset random_vl \
  --min-tokens 128 \
  --max-tokens 128 \
  --prefix-length 0 \
  --min-prompt-length 100 \
  --max-prompt-length 100 \
  --image-width 512 \
  --image-height 512 \
  --image-format RGB \
  --image-num 1 \
  --number 10 \
  --tokenizer-path Qwen/Qwen2.5-VL-3B-Instruct \
  --debug";

const EMBEDDING: &str = "evalscope perf \
 --parallel 2 \
 --number 10 \
 --model 'text-embedding-v4' \
 --url 'https://dashscope.aliyuncs.com/compatible-mode/v1/embeddings' \
 --api-key ${DASHSCOPE_API_KEY} \
 --api openai_embedding \
 --dataset random_embedding \
 --min-prompt-length 256 \
 --max-prompt-length 256 \
 --tokenizer-path 'Qwen/Qwen3-Embedding-0.6B'";

const RERANK: &str = r#"evalscope perf \
 --parallel 2 \
 --number 10 \
 --model 'qwen3-rerank' \
 --url 'https://dashscope.aliyuncs.com/compatible-api/v1/reranks' \
 --api-key ${DASHSCOPE_API_KEY} \
 --api openai_rerank \
 --dataset random_rerank \
 --min-prompt-length 256 \
 --max-prompt-length 256 \
 --tokenizer-path 'Qwen/Qwen3-Embedding-0.6B' \
 --extra-args '{"num_documents": 5, "document_length_ratio": 3}'"#;

const SPEED: &str = "evalscope perf \
 --parallel 1 \
 --url http://127.0.0.1:8000/v1/completions \
 --model qwen2.5 \
 --log-every-n-query 5 \
 --connect-timeout 6000 \
 --read-timeout 6000 \
 --max-tokens 2048 \
 --min-tokens 2048 \
 --api openai \
 --dataset speed_benchmark \
 --debug";

/// Questions of at least 128 characters, as `--min-prompt-length` requires.
fn questions() -> Vec<String> {
    (0..5).map(|n| format!("Question {n}:{}", " why is \"this\" so, and 为什么?".repeat(6))).collect()
}

/// The arguments of a documented command, with a mock with these settings as its server.
fn arguments(command: &str, mock: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for word in words(command.strip_prefix("evalscope perf").unwrap()) {
        match word.as_str() {
            url if url.starts_with("http") => {
                let path = &url[url.find("/compatible").or_else(|| url.find("/v1/")).unwrap()..];
                arguments.push(format!("mock:{path}?{mock}"));
            }
            "openqa" => arguments.extend(["openqa", "--dataset-path", "open_qa.jsonl"].map(String::from)),
            "share_gpt_zh_multi_turn" => {
                arguments.extend([word.as_str(), "--dataset-path", "conversations.jsonl"].map(String::from));
            }
            id if id.starts_with("Qwen/") => arguments.push(tokenizer("qwen2_5")),
            "${DASHSCOPE_API_KEY}" => arguments.push("sk-test".to_string()),
            other => arguments.push(other.to_string()),
        }
    }
    arguments
}

/// Runs a documented command against the mock.
fn run(command: &str) -> Call {
    let rows: String = questions().iter().map(|question| format!("{}\n", json!({"question": question}))).collect();
    let files = [
        ("template.json", TEMPLATE),
        ("open_qa.jsonl", &rows),
        ("prompt.txt", "写一个科幻小说"),
        ("conversations.jsonl", CONVERSATIONS),
    ];
    let call = perf(&arguments(command, "ttft=1ms&itl=0ms&tokens=8"), &files);
    if command.contains("/completions") {
        assert_documented_tables(&call.tables());
    }
    call
}

/// The rows of the first table in the documentation.
const SUMMARY: [&str; 13] = [
    "Time taken for tests (s)",
    "Number of concurrency",
    "Total requests",
    "Succeed requests",
    "Failed requests",
    "Output token throughput (tok/s)",
    "Total token throughput (tok/s)",
    "Request throughput (req/s)",
    "Average latency (s)",
    "Average time to first token (s)",
    "Average time per output token (s)",
    "Average input tokens per request",
    "Average output tokens per request",
];

/// The columns of the second one, and the first cells of its rows.
const PERCENTILES: [&str; 9] = [
    "Percentiles",
    "TTFT (s)",
    "ITL (s)",
    "TPOT (s)",
    "Latency (s)",
    "Input tokens",
    "Output tokens",
    "Output (tok/s)",
    "Total (tok/s)",
];
const LEVELS: [&str; 10] = ["10%", "25%", "50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%"];

/// The cells of the table below a title, its header first.
fn table(text: &str, title: &str) -> Vec<Vec<String>> {
    let (_, below) = text.split_once(&format!("{title}\n")).unwrap_or_else(|| panic!("no {title} in {text}"));
    let lines = below.lines().take_while(|line| line.starts_with(['+', '|']));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    lines.filter(|line| line.starts_with('|')).map(cells).collect()
}

/// Asserts that the tables have the documented names in the documented order. Further rows follow those.
#[track_caller]
fn assert_documented_tables(text: &str) {
    let first_cells = |table: &[Vec<String>]| table.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let summary = table(text, "Benchmarking summary:");
    assert_eq!(summary[0], ["Key", "Value"]);
    assert_eq!(first_cells(&summary[1..=SUMMARY.len()]), SUMMARY, "{text}");
    let percentiles = table(text, "Percentile results:");
    assert_eq!(
        (&percentiles[0][..], &first_cells(&percentiles)[1..=LEVELS.len()]),
        (&PERCENTILES.map(String::from)[..], &LEVELS.map(String::from)[..]),
        "{text}"
    );
}

fn qwen() -> Tokenizer {
    Tokenizer::open(tokenizer("qwen2_5").as_ref()).unwrap()
}

#[test]
fn a_prompt() {
    let call = run(PROMPT);
    call.check(20.0);
    let expected = json!([{"role": "user", "content": "写一个科幻小说,请开始你的表演"}]);
    assert_eq!((&call.bodies()[0]["messages"], &call.bodies()[0]["temperature"]), (&expected, &json!(0.9)));
    let from_file = run(&PROMPT.replace("'写一个科幻小说,请开始你的表演'", "@prompt.txt"));
    from_file.check(20.0);
    assert_eq!(from_file.bodies()[0]["messages"][0]["content"], "写一个科幻小说");
    // The older documentation has a rate instead of --parallel.
    run(&PROMPT.replace("--parallel 2", "--rate 200")).check(20.0);
    run(FIRST).check(15.0);
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
        let prompts: Vec<String> =
            call.bodies().iter().filter_map(|body| body["messages"][0]["content"].as_str().map(String::from)).collect();
        assert!(prompts.len() == 5 && questions().iter().all(|question| prompts.contains(question)));
        // The template does not ask for usage, and nothing is added to it.
        assert!(body.get("stream_options").is_none() && call.summary()["Average output tokens per request"].is_null());
        assert!(call.findings().join("\n").contains("stream_options"), "{:?}", call.findings());
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
    // Conversations alternate between three and two turns.
    call.check(50.0);
    let lengths = call.bodies().iter().map(|body| body["messages"].as_array().unwrap().len()).collect::<Vec<_>>();
    assert!(lengths.contains(&5) && lengths.iter().all(|length| matches!(length, 1 | 3 | 5)), "{lengths:?}");
    let turns = &call.summary()["Multi-turn"];
    assert_eq!(
        (&turns["Conversations"], &turns["Begun"], &turns["Turns"][2]["Requests"]),
        (&json!(20), &json!(20), &json!(10))
    );
}

#[test]
fn random_prompts() {
    let qwen = qwen();
    let call = run(RANDOM);
    call.check(100.0);
    let texts: Vec<String> =
        call.bodies().iter().map(|body| body["messages"][0]["content"].as_str().unwrap().to_string()).collect();
    assert_eq!(texts.len(), 100);
    for text in &texts[..20] {
        let count = qwen.count(&qwen.chat_of(text).unwrap()).unwrap();
        assert!((64 + 1024..=64 + 2048).contains(&count), "{count}");
    }
    assert_eq!((&call.bodies()[0]["min_tokens"], &call.bodies()[0]["max_tokens"]), (&json!(128), &json!(128)));
}

/// No prefix cache answers the second call of the day, and what was sent can be sent again.
#[test]
fn a_call_logs_the_salt_that_gives_its_bytes_again() {
    let call = |more: &[&str]| {
        let tokenizer = tokenizer("qwen2_5");
        let random =
            ["--url", "mock:?ttft=1ms&tokens=2", "-n", "4", "--dataset", "random", "--tokenizer-path", &tokenizer];
        let lengths = ["--min-prompt-length", "12", "--max-prompt-length", "40"];
        let arguments: Vec<String> = [&random[..], &lengths, more].concat().into_iter().map(str::to_string).collect();
        let call = perf(&arguments, &[]);
        call.check(4.0);
        let mut texts: Vec<String> = call.bodies().iter().map(|body| body["messages"].to_string()).collect();
        texts.sort();
        let log = call.log();
        let line =
            log.lines().find(|line| line.contains(" gives the same bytes again")).unwrap_or_else(|| panic!("{log}"));
        let value = |flag: &str| line.split(&format!("{flag} ")).nth(1).unwrap().split(' ').next().unwrap().to_string();
        (texts, value("--data-seed"), value("--salt"))
    };
    let (first, second) = (call(&[]), call(&[]));
    assert!(first.0.iter().all(|text| !second.0.contains(text)), "{first:?} {second:?}");
    assert_eq!(first.1, second.1, "lengths and schedule are those of every call");
    assert_eq!(call(&["--data-seed", &first.1, "--salt", &first.2]), first);
}

/// A server that sends several tokens in an event leaves the TPOT in a range, of which the table has one value.
#[test]
fn several_tokens_per_event() {
    let call = perf_aloud(&arguments(PROMPT, "ttft=1ms&itl=1ms&tokens=8&step_tokens=3"), &[]);
    assert_documented_tables(&call.stdout);
    let summary = table(&call.stdout, "Benchmarking summary:");
    assert!(summary.iter().any(|row| row[0] == "Average tokens per output event"), "{}", call.stdout);
    assert!(call.stdout.contains("| TPOT to (ms) "), "the range follows: {}", call.stdout);
    assert!(call.tables().contains("TPOT from (s)"), "{}", call.tables());
}

#[test]
fn a_sweep_of_random_prompts() {
    let call = run(SWEEP);
    assert!(matches!(call.status, 0 | 3), "{}", call.stderr);
    assert!(call.requests("outcome").iter().all(|outcome| outcome == "ok"));
    let body = call.bodies().remove(0);
    assert_eq!((&body["ignore_eos"], &body["min_tokens"]), (&json!(true), &json!(1024)));
    let qwen = qwen();
    let text = body["messages"][0]["content"].as_str().unwrap();
    assert_eq!(qwen.count(&qwen.chat_of(text).unwrap()).unwrap(), 1024);
}

#[test]
fn random_prompts_with_pictures() {
    let call = run(RANDOM_VL);
    call.check(10.0);
    let parts = call.bodies()[0]["messages"][0]["content"].clone();
    assert!(parts[1]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"));
}

#[test]
fn the_speed_benchmark() {
    let call = run(SPEED);
    call.check(8.0);
    assert_eq!(call.bodies().len(), 4);
    let rows = table(&call.tables(), "Speed Benchmark Results:");
    assert_eq!(rows[0], ["Prompt Tokens", "Speed(tokens/s)", "GPU Memory(GB)"]);
    let lengths: Vec<&str> = rows[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(lengths.len(), 4, "{lengths:?}");
}

#[test]
fn embeddings() {
    let call = run(EMBEDDING);
    call.check(10.0);
    let body = &call.bodies()[0];
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["model", "input"]);
    let text = body["input"].as_str().or_else(|| body["input"][0].as_str()).unwrap();
    assert_eq!(qwen().count(text).unwrap(), 256);
    assert!(call.number("Average input tokens per request") > 10.0);
    assert_eq!(call.number("Average output tokens per request"), 0.0);
    assert_eq!(call.summary()["Average time to first token (s)"], json!(null));
    assert!(call.number("Input token throughput (tok/s)") > 0.0);
}

#[test]
fn rerank() {
    let call = run(RERANK);
    call.check(10.0);
    let body = call.bodies().remove(0);
    assert!(body.get("num_documents").is_none() && body.get("document_length_ratio").is_none(), "{body}");
    let documents = body["documents"].as_array().unwrap();
    let qwen = qwen();
    let counts: Vec<u64> = documents.iter().map(|text| qwen.count(text.as_str().unwrap()).unwrap()).collect();
    assert_eq!((qwen.count(body["query"].as_str().unwrap()).unwrap(), counts), (256, vec![768; 5]));
    assert!(call.number("Average input tokens per request") > 5.0);
}
