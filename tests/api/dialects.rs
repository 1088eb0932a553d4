//! Each API against its endpoint of the mock: requests, responses and errors.

use super::call::line;
use serde_json::{Value, json};

const MOCK: &str = "ttft=1ms&itl=0ms&tokens=8&reasoning=2";

#[test]
fn every_api_counts_the_tokens_of_the_mock() {
    for (api, path) in [
        ("openai", "/v1/chat/completions"),
        ("openai", "/v1/completions"),
        ("openai_responses", "/v1/responses"),
        ("responses", ""),
        ("dashscope", ""),
        ("anthropic", ""),
    ] {
        for mode in ["--stream", "--no-stream"] {
            let call = line(
                &format!(
                    "--url mock:{path}?{MOCK} --api {api} {mode} -n 6 --parallel 2 --prompt 'one two' --max-tokens 20"
                ),
                &[],
            );
            call.check(6.0);
            let label = format!("{api}{path} {mode}");
            assert_eq!(call.number("Average output tokens per request"), 8.0, "{label}");
            assert_eq!(call.number("Average input tokens per request"), 3.0, "{label}");
            assert_eq!(call.requests("token_source"), ["server"; 6], "{label}");
            assert_eq!(call.requests("finish"), ["stop"; 6], "{label}");
            if mode == "--stream" {
                assert_eq!(call.requests("output_events"), ["8"; 6], "{label}");
            }
            if path != "/v1/completions" && !(api.contains("responses") && mode == "--no-stream") {
                assert!(call.requests("reasoning").iter().all(|text| !text.is_empty()), "{label}");
            }
            assert!(call.requests("text").iter().all(|text| !text.is_empty()), "{label}");
        }
    }
}

#[test]
fn the_token_limit_has_the_apis_field_name_and_finish_reason() {
    for (api, pointer) in
        [("responses", "/max_output_tokens"), ("dashscope", "/parameters/max_tokens"), ("anthropic", "/max_tokens")]
    {
        let call = line(&format!("--url mock:?{MOCK} --api {api} -n 3 --prompt p --max-tokens 3 5"), &[]);
        call.check(3.0);
        assert!(call.bodies().iter().all(|body| (3..=5).contains(&body.pointer(pointer).unwrap().as_u64().unwrap())));
        let finish = call.requests("finish");
        // The mock always ends /v1/responses with the status completed.
        let expected = if api == "responses" { "stop" } else { "length" };
        assert!(finish.iter().all(|finish| finish == expected), "{api}: {finish:?}");
    }
}

#[test]
fn conversations_have_the_format_of_the_api() {
    let messages = r#"[{"role":"system","content":"be brief"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#;
    let bodies = |api: &str| -> Value {
        let files = [("chats.jsonl", messages)];
        let call = line(
            &format!("--url mock:?{MOCK} --api {api} -n 2 --dataset line_by_line --dataset-path chats.jsonl"),
            &files,
        );
        call.check(2.0);
        call.bodies().remove(0)
    };
    let anthropic = bodies("anthropic");
    assert_eq!((&anthropic["system"], anthropic["messages"].as_array().unwrap().len()), (&json!("be brief"), 3));
    assert_eq!(bodies("dashscope")["input"]["messages"].as_array().unwrap().len(), 4);
    assert_eq!(bodies("responses")["input"].as_array().unwrap().len(), 4);
}

#[test]
fn errors_within_a_stream_are_failures() {
    for api in ["responses", "dashscope", "anthropic"] {
        let url = format!("mock:?{MOCK}&fault=error");
        let call = line(&format!("--url {url} --api {api} -n 3 --no-test-connection"), &[]);
        assert_eq!(call.status, 1, "{api}: {}", call.stderr);
        let errors = call.requests("error");
        assert!(errors.iter().all(|error| error.contains("the engine died")), "{api}: {errors:?}");
        let call = line(&format!("--url mock:?{MOCK}&fault=clean_truncate --api {api} -n 2 --no-test-connection"), &[]);
        assert!(
            call.requests("outcome").iter().all(|outcome| outcome.contains("truncated")),
            "{:?}",
            call.requests("outcome")
        );
    }
}

#[test]
fn unsupported_flags_give_a_finding() {
    let call = line(&format!("--url mock:?{MOCK} --api anthropic -n 1 --n-choices 2 --seed 3 --min-tokens 2"), &[]);
    call.check(1.0);
    let text = call.findings().join("\n");
    assert!(text.contains("--min-tokens, --n-choices") && !text.contains("--seed"), "{text}");
    let call = line("--url mock: --api embedding -n 1 --max-tokens 5 --stream", &[]);
    call.check(1.0);
    assert!(call.findings().join("\n").contains("--max-tokens"), "{:?}", call.findings());
}

#[test]
fn template_fields_override_flag_defaults() {
    let template = |flags: &str, text: &str| {
        let call = line(&format!("--url mock:{flags} -n 2 --query-template @t.json"), &[("t.json", text)]);
        call.check(2.0);
        call.bodies().remove(0)
    };
    // On /v1/completions, with the prompt within a longer text, and without streaming.
    let body = template(
        "/v1/completions?ttft=1ms&tokens=5 --prompt 'say \"hi\"'",
        r#"{"model":"%m","prompt":"Q: %p\nA:","stream":false,"max_tokens":4}"#,
    );
    assert_eq!(body, json!({"model": "mock", "prompt": "Q: say \"hi\"\nA:", "stream": false, "max_tokens": 4}));
    let body = template(
        "?ttft=1ms&tokens=5 --prompt p --max-tokens 7",
        r#"{"messages":[{"role":"system","content":"You are %m."},{"role":"user","content":"%p"}],"max_tokens":4}"#,
    );
    assert_eq!(body["max_tokens"], json!(7));
    assert_eq!(body["messages"][0]["content"], json!("You are mock."));
    let body = template(
        "?ttft=1ms&tokens=5 --api dashscope --prompt p",
        r#"{"model":"%m","input":{"prompt":"%p"},"parameters":{"incremental_output":true,"top_p":0.5,"max_tokens":3}}"#,
    );
    assert_eq!((&body["input"], &body["parameters"]["max_tokens"]), (&json!({"prompt": "p"}), &json!(3)));
}

#[test]
fn errors_are_one_line() {
    for (arguments, what) in [
        ("--query-template {", "--query-template is not valid JSON"),
        ("--query-template []", "must be a JSON object"),
        ("--query-template @none.json", "none.json: cannot read"),
        ("--query-template @bad.json", "bad.json is not valid JSON"),
        ("--api none.toml", "none.toml: cannot read"),
        ("--api bad.toml", "bad.toml: line 1"),
        ("--api dash_scope", "did you mean 'dashscope'"),
        ("--api openai_rerank --prompt p", "--dataset random_rerank"),
    ] {
        let files = [("bad.json", "{\"x\": %p}"), ("bad.toml", "path = \n")];
        let call = line(&format!("--url mock: {arguments}"), &files);
        assert_eq!(call.status, 2, "{arguments}");
        let first = call.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(first.contains(what), "{arguments}: {}", call.stderr);
    }
}
