//! APIs of programs: the example of this repository, its input, and failing programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::call::{Call, perf};
use super::custom::{example, server};

const STREAM: &str = concat!(
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    "2e\r\ndata: {\"content\":\"Deep\",\"stop\":false,\"id\":7}\n\n\r\n",
    "2e\r\ndata: {\"content\":\" sea\",\"stop\":false,\"id\":7}\n\n\r\n",
    "4c\r\ndata: {\"content\":\"\",\"stop\":true,\"tokens_evaluated\":9,\"tokens_predicted\":5}\n\n\r\n",
    "0\r\n\r\n",
);

/// Writes a shell script for `--api`; returns its path.
fn script(folder: &Path, text: &str) -> String {
    let file = folder.join("api.sh");
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

fn run(url: &str, api: &str, more: &[&str]) -> Call {
    let mut arguments = vec!["--url", url, "--api", api, "--model", "m", "--prompt", "one \"two\"", "-n", "3"];
    arguments.extend(more);
    perf(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), &[])
}

#[test]
fn the_example_builds_and_parses() {
    let (url, requests) = server(STREAM);
    let url = format!("{url}/completion");
    let call = run(&url, &example("llamacpp_native.py"), &["--max-tokens", "5", "--extra-args", "{\"cache\":false}"]);
    call.check(3.0);
    // The first request is the connection test, which has a prompt of its own.
    requests.recv().unwrap();
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("POST /completion HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        body,
        json!({"prompt": "one \"two\"", "stream": true, "n_predict": 5, "temperature": 0.0, "cache": false})
    );
    assert_eq!(call.requests("text"), ["Deep sea"; 3]);
    assert_eq!(call.requests("output_events"), ["2"; 3]);
    assert_eq!(call.requests("output_tokens"), ["5"; 3]);
    assert_eq!(call.requests("token_source"), ["program"; 3]);
    assert_eq!(call.number("Average input tokens per request"), 9.0);
    // Raw responses are stored only until the program has parsed them.
    assert_eq!(call.requests("raw"), [""; 3]);
}

#[test]
fn save_determines_what_is_stored() {
    let (url, _requests) = server(STREAM);
    let api = example("llamacpp_native.py");
    let full = run(&url, &api, &["--save", "full"]);
    full.check(3.0);
    assert!(full.requests("raw").iter().all(|raw| raw.contains("tokens_predicted")));
    let metrics = run(&url, &api, &["--save", "metrics"]);
    metrics.check(3.0);
    assert_eq!((metrics.requests("raw"), metrics.requests("text")), (vec![String::new(); 3], vec![String::new(); 3]));
    assert!(metrics.bodies().is_empty() && metrics.requests("output_tokens") == ["5"; 3]);
}

#[test]
fn a_whole_response_may_be_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let echo = script(
        folder.path(),
        r#"case $1 in build) sed 's/.*/{"q":1}/' ;; parse) cat >"${0%/*}/input"; sed 's/.*/{"output_tokens":2}/' "${0%/*}/input" ;; esac"#,
    );
    let (url, _requests) =
        server("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nplain words");
    let call = run(&url, &echo, &["--no-stream"]);
    call.check(3.0);
    assert_eq!(
        (call.requests("text"), call.requests("output_tokens")),
        (vec!["plain words".into(); 3], vec!["2".into(); 3])
    );
    let input = std::fs::read_to_string(folder.path().join("input")).unwrap();
    let line: Value = serde_json::from_str(input.lines().next().unwrap()).unwrap();
    assert_eq!(line, json!({"request": {"q": 1}, "status": 200, "stream": false, "responses": ["plain words"]}));
}

#[test]
fn the_program_gets_the_drawn_limit() {
    let folder = tempfile::tempdir().unwrap();
    let api = script(folder.path(), r#"case $1 in build) tee "${0%/*}/input" ;; parse) sed 's/.*/{}/' ;; esac"#);
    let (url, _requests) = server(STREAM);
    let numbers: Vec<String> = (0..8).map(|n| format!("question {n}")).collect();
    let arguments = ["--url", &url, "--api", &api, "--model", "m", "-n", "8", "--max-tokens", "3", "900"];
    let arguments = arguments.into_iter().chain(["--dataset", "line_by_line", "--dataset-path", "q.txt"]);
    let call = perf(&arguments.map(String::from).collect::<Vec<_>>(), &[("q.txt", &numbers.join("\n"))]);
    call.check(8.0);
    let input = std::fs::read_to_string(folder.path().join("input")).unwrap();
    let lines: Vec<Value> = input.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let limits: Vec<u64> = lines.iter().map(|line| line["parameters"]["max_tokens"].as_u64().unwrap()).collect();
    assert!(lines.len() == 9 && limits[..8].iter().all(|limit| (3..=900).contains(limit)), "{limits:?}");
    assert!(limits[..8].iter().any(|limit| *limit != limits[0]) && limits[8] == 16, "{limits:?}");
}

#[test]
fn failures_before_the_run_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (text, what) in [
        ("cat >/dev/null; echo one >&2; echo two >&2; exit 3", "build: the program failed (exit status: 3): two"),
        ("exit 1", "nothing to standard error"),
        ("sed 's/.*/[]/'", "line 1 of its output is not a JSON object"),
        ("echo nonsense", "line 1 of its output is not JSON"),
        ("cat >/dev/null; echo {}", "printed 1 bodies for 2 prompts"),
        ("cat >/dev/null; echo {}; echo {}; echo {}", "line 3 of its output is one body too many"),
    ] {
        let call = run("mock:/v1/completions", &script(folder.path(), text), &[]);
        let errors: Vec<&str> = call.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(call.status == 2 && errors.len() == 1, "{text}: {}", call.stderr);
        assert!(errors[0].contains(what) && errors[0].contains("--api"), "{text}: {}", errors[0]);
    }
    let missing = run("mock:", "./nowhere.py", &[]);
    assert!(missing.status == 2 && missing.stderr.contains("--api ./nowhere.py: the program does not exist"));
    let template = run("mock:", &script(folder.path(), "true"), &["--query-template", "{}"]);
    assert!(
        template.status == 2 && template.stderr.contains("--query-template conflicts with --api"),
        "{}",
        template.stderr
    );
}

#[test]
fn failures_after_the_run_keep_the_measurements() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _requests) = server(STREAM);
    for (parse, what) in [
        ("cat >/dev/null; echo '{\"output_tokens\":1}'; echo lost my mind >&2; exit 7", "lost my mind"),
        ("sed 's/.*/{\"tokens\":1}/'", "unknown field \"tokens\""),
        ("cat >/dev/null", "printed 0 lines for 3 responses"),
    ] {
        let api =
            script(folder.path(), &format!("case $1 in build) sed 's/.*/{{\"q\":1}}/' ;; parse) {parse} ;; esac"));
        let call = run(&url, &api, &[]);
        call.check(3.0);
        let findings = call.findings().join("\n");
        assert!(findings.contains(what) && findings.contains("parse:"), "{parse}: {findings}");
        assert_eq!(
            (call.requests("text"), call.requests("output_tokens")),
            (vec!["Deep sea".into(); 3], vec![String::new(); 3])
        );
        assert!(call.requests("raw").iter().all(|raw| raw.contains("Deep")), "the raw responses are kept");
    }
}
