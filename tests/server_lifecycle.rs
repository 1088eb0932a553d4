//! Servers that are not there yet, and servers that end during a run.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn ringmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A call of `perf` whose results go into `folder`/run.
fn perf(folder: &Path, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = ringmark(&["perf", "--no-timestamp", "--name", "run", "--outputs-dir"]);
    let url = format!("http://{address}/v1/chat/completions");
    command.arg(folder).args(["--url", &url]).args(arguments);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// A mock in a process of its own, which can be killed.
fn mock(port: u16, parameters: &str) -> (Child, SocketAddr) {
    let arguments = format!("mock --port {port} {parameters}");
    let mut child = ringmark(&arguments.split(' ').collect::<Vec<_>>()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("//").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    (child, address)
}

/// A port on which nothing listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "timeout while waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The lines that a process has written to standard error so far.
fn lines_of(child: &mut Child) -> Arc<std::sync::Mutex<String>> {
    let text = Arc::new(std::sync::Mutex::new(String::new()));
    let (copy, pipe) = (text.clone(), child.stderr.take().unwrap());
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            copy.lock().unwrap().push_str(&format!("{line}\n"));
        }
    });
    text
}

fn summary(folder: &Path, run: &str) -> serde_json::Value {
    let path = folder.join("run").join(run).join("benchmark_summary.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn finding(summary: &serde_json::Value, code: &str) -> Option<serde_json::Value> {
    let findings = summary["Findings"].as_array().or_else(|| summary["findings"].as_array()).unwrap();
    findings.iter().find(|finding| finding["code"] == code).cloned()
}

#[test]
fn a_server_that_starts_late_is_waited_for() {
    // Once for the list of models, once for the connection test.
    for model in [&[][..], &["--model", "m"]] {
        let folder = tempfile::tempdir().unwrap();
        let address = closed_port();
        let mut child = perf(folder.path(), address, &["--number", "4"]).args(model).spawn().unwrap();
        let text = lines_of(&mut child);
        let waits = || Some(text.lock().unwrap().clone()).filter(|text| text.contains("waiting up to 30 s"));
        let line = wait_for("the line about waiting", waits);
        assert!(line.contains("refused") && line.contains("--ready-timeout") && line.contains("Ctrl-C"), "{line}");
        let (mut server, _) = mock(address.port(), "ttft=1ms itl=1ms tokens=3");
        let status = child.wait().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        // A busy machine can make the figures void.
        assert!(matches!(status.code(), Some(0 | 3)), "{}", text.lock().unwrap());
        assert_eq!(text.lock().unwrap().matches("waiting up to").count(), 1);
    }
}

/// A server whose response to each request is `reply(path, number of the request)`: status line and body.
fn scripted(reply: impl Fn(&str, u32) -> (&'static str, String) + Send + 'static) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let requests = count.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(head) = read_request(&mut stream) else { continue };
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            let (status, body) = reply(&path, requests.fetch_add(1, Ordering::SeqCst));
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}");
            let _ = stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes());
        }
    });
    (address, count)
}

/// Reads a request; returns its head.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).to_string();
        if let Some(end) = text.find("\r\n\r\n") {
            let lower = text.to_lowercase();
            let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if bytes.len() >= end + 4 + length.map_or(0, |length| length.trim().parse().unwrap()) {
                return Some(text[..end].to_string());
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

const ANSWER: &str = r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[test]
fn a_server_that_loads_its_model_is_waited_for_and_other_statuses_are_not() {
    let loading = ("503 Service Unavailable", r#"{"error":"loading model"}"#.to_string());
    let busy = loading.clone();
    let (address, _) = scripted(move |path, number| match (path, number) {
        // First for the list of models, then for the connection test.
        (_, 0 | 2) => busy.clone(),
        ("/v1/models", _) => ("200 OK", r#"{"data":[{"id":"m"}]}"#.to_string()),
        _ => ("200 OK", ANSWER.to_string()),
    });
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), address, &["--number", "3", "--no-stream"]).output().unwrap();
    let text = stderr(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    assert_eq!(text.matches("waiting up to 30 s").count(), 2, "{text}");
    assert!(text.contains("503"), "{text}");

    for (flags, status, requests) in [
        (&["--model", "m"][..], "404 Not Found", 1),
        (&[], "401 Unauthorized", 1),
        (&["--model", "m"], "429 Too Many Requests", 1),
        (&["--model", "m", "--ready-timeout", "0"], "503 Service Unavailable", 1),
        (&["--no-test-connection"], "503 Service Unavailable", 1),
    ] {
        let (address, count) = scripted(move |_, _| (status, r#"{"error":"no"}"#.to_string()));
        let folder = tempfile::tempdir().unwrap();
        let output = perf(folder.path(), address, &["--number", "1", "--no-stream"]).args(flags).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{status}: {text}");
        assert!(!text.contains("waiting up to"), "{status}: {text}");
        assert_eq!(count.load(Ordering::SeqCst), requests, "{status}");
    }
    // A wait that ends says how long it was.
    let (address, count) = scripted(move |_, _| loading.clone());
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--number", "1", "--no-stream", "--model", "m", "--ready-timeout", "1.2"];
    let output = perf(folder.path(), address, &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stderr(&output);
    let waited_s = text.split("after waiting ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(waited_s.parse::<f64>().unwrap() >= 1.2, "{text}");
    assert!(count.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_refused_call_is_explained_with_its_remedy() {
    let model = &["--model", "m"][..];
    let key = &["--api-key", "k"][..];
    let typo = "/v1/chat/completion";
    let right = "/v1/chat/completions";
    for (path, flags, status, advice) in [
        (right, vec![], "401 Unauthorized", "give --api-key"),
        (right, vec![], "403 Forbidden", "give --api-key"),
        (right, vec![key], "401 Unauthorized", "the server refused the given key"),
        (right, vec![model], "401 Unauthorized", "give --api-key"),
        (right, vec![model, key], "403 Forbidden", "the server refused the given key"),
        (typo, vec![], "404 Not Found", "did you mean /v1/chat/completions?"),
        (typo, vec![model], "404 Not Found", "did you mean /v1/chat/completions?"),
        (right, vec![], "404 Not Found", "give --model NAME"),
    ] {
        let (address, _) = scripted(move |_, _| (status, r#"{"error":"no"}"#.to_string()));
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://{address}{path}");
        let mut call = ringmark(&["perf", "--number", "1", "--url", &url]);
        let output = call.arg("--outputs-dir").arg(folder.path()).args(flags.concat()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(advice), "{path} {flags:?} {status}: {text}");
        assert_eq!(text.contains("give --model"), advice.contains("give --model"), "{text}");
    }
    for flags in [&[][..], model] {
        let (folder, address) = (tempfile::tempdir().unwrap(), closed_port());
        let output = perf(folder.path(), address, &["--ready-timeout", "0"]).args(flags).output().unwrap();
        let text = stderr(&output);
        assert!(text.contains(&format!("is the server running at {address}?")), "{text}");
        assert!(!text.contains("give --model"), "{text}");
    }
}

#[test]
fn missing_files_are_reported_before_the_server_is_waited_for() {
    for (flags, what) in [
        (&["--dataset", "line_by_line", "--dataset-path", "no/prompts"][..], "--dataset-path: cannot read no/prompts"),
        (&["--dataset", "custom_multi_turn", "--dataset-path", "no/turns"], "--dataset-path: cannot read no/turns"),
        (&["--prompt", "@no/prompt"], "--prompt: cannot read no/prompt"),
        (&["--tokenizer-path", "./no/tokenizer"], "--tokenizer-path: ./no/tokenizer does not exist"),
        (&["--query-template", "@no/template"], "--query-template @no/template: cannot read"),
    ] {
        for model in [&[][..], &["--model", "m"]] {
            let folder = tempfile::tempdir().unwrap();
            let output = perf(folder.path(), closed_port(), flags).args(model).output().unwrap();
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.contains(what) && !text.contains("waiting up to"), "{flags:?}: {text}");
        }
    }
    // The URL has TLS.
    let url = format!("https://{}/v1/chat/completions", closed_port());
    for flag in ["--cacert", "--cert"] {
        let output = ringmark(&["perf", "--url", &url, flag, "no/file.pem"]).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(flag) && !text.contains("waiting up to"), "{text}");
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_a_server() {
    for model in [&[][..], &["--model", "m"]] {
        for signal in [Signal::INT, Signal::HUP] {
            let folder = tempfile::tempdir().unwrap();
            let mut child = perf(folder.path(), closed_port(), &["--number", "4"]).args(model).spawn().unwrap();
            let text = lines_of(&mut child);
            wait_for("the wait", || text.lock().unwrap().contains("waiting up to").then_some(()));
            kill_process(Pid::from_child(&child), signal).unwrap();
            let began = Instant::now();
            assert_eq!(child.wait().unwrap().code(), Some(130), "{}", text.lock().unwrap());
            assert!(began.elapsed() < Duration::from_secs(20), "the wait went on");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{}", text.lock().unwrap());
        }
    }
}

/// Starts a call against a mock, and kills the mock when the database of the first run has rows.
fn killed_during(arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = mock(0, "ttft=5ms itl=2ms tokens=5");
    let child = perf(folder.path(), address, arguments).spawn().unwrap();
    let root = folder.path().join("run");
    let database = || -> Option<PathBuf> {
        let runs = fs::read_dir(&root).ok()?.flatten().map(|entry| entry.path().join("benchmark_data.db"));
        runs.into_iter().find(|path| path.is_file())
    };
    wait_for("the database", database);
    thread::sleep(Duration::from_millis(700));
    server.kill().unwrap();
    server.wait().unwrap();
    (folder, child.wait_with_output().unwrap())
}

#[test]
fn a_run_whose_server_ended_is_void_and_keeps_its_figures() {
    for load in [&["--parallel", "4"][..], &["--open-loop", "--rate", "100"], &["--parallel", "4", "--force-fallback"]]
    {
        let (folder, output) = killed_during(&[load, &["--duration", "3", "--drain", "1"]].concat());
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(3), "{text}{}", stderr(&output));
        assert!(text.contains("The server ended") && text.contains("after the start of the measurement"), "{text}");
        assert!(text.contains("Percentile results:"), "{text}");
        let run = fs::read_dir(folder.path().join("run")).unwrap().flatten().find(|e| e.path().is_dir()).unwrap();
        let summary = summary(folder.path(), &run.file_name().to_string_lossy());
        let ended = finding(&summary, "server_ended").unwrap();
        assert_eq!(ended["severity"], "void");
        let after_s = ended["after_s"].as_f64().unwrap();
        assert!((0.1..3.5).contains(&after_s), "{ended}");
        assert!(finding(&summary, "totals").is_none(), "{summary:#}");
        let report = ringmark(&["report"]).arg(run.path().join("benchmark_data.db")).output().unwrap();
        assert_eq!(report.status.code(), Some(3), "{}", stdout(&report));
    }
}

#[test]
fn sweeps_repeats_and_searches_stop_when_the_server_ends() {
    let sweep: &[&str] = &["--parallel", "2", "4", "--duration", "2"];
    let repeat: &[&str] = &["--parallel", "2", "--repeat", "3", "--duration", "2"];
    let search: &[&str] = &["--sla-auto-tune", "--sla-params", "p99_ttft<=10", "--duration", "2"];
    for (arguments, words) in [
        (sweep, "The server ended during the sweep."),
        (repeat, "Not measured: Concurrency 2 (2 of 3 runs)."),
        (search, "The server ended during the search."),
    ] {
        let (folder, output) = killed_during(&[arguments, &["--sleep-interval", "0"]].concat());
        let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(3), "{text}{}", stderr(&output));
        assert!(text.contains(words), "{text}");
        let runs = fs::read_dir(folder.path().join("run")).unwrap().flatten().filter(|e| e.path().is_dir()).count();
        assert_eq!(runs, 1);
    }
}

/// Failures alone are for objectives to judge: this server still answers at the end.
#[test]
fn many_failures_of_a_server_that_answers_are_not_void() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = mock(0, "ttft=1ms itl=1ms tokens=3 fault=reset:1/2");
    let flags = ["--number", "60", "--parallel", "4", "--no-test-connection"];
    let output = perf(folder.path(), address, &flags).output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}{}", stdout(&output), stderr(&output));
    let summary = summary(folder.path(), "parallel_4_number_60");
    assert_eq!(finding(&summary, "failures").unwrap()["severity"], "caution");
    assert!(finding(&summary, "server_ended").is_none());
}

/// Something holds the connections open, but nothing listens: the streams that are silent are given up after seconds,
/// whether new requests are refused or there are none.
#[test]
fn silent_streams_of_a_server_that_refuses_connections_are_given_up() {
    let open: &[&str] = &["--open-loop", "--rate", "4", "--number", "12"];
    let closed: &[&str] = &["--parallel", "2", "--number", "2"];
    for load in [open, closed] {
        let (server, address) = falls_silent();
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let flags = ["--model", "m", "--stream", "--read-timeout", "120"];
        let output = perf(folder.path(), address, &flags).args(load).output().unwrap();
        drop(server.join().unwrap());
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(3), "{text}{}", stderr(&output));
        // The read timeout would have taken two minutes.
        assert!(began.elapsed() < Duration::from_secs(60), "{text}");
        assert!(text.contains("server_gone") && text.contains("while the server refused new connections"), "{text}");
    }
}

/// A server that answers the connection test, begins two more streams, and closes its port. The streams stay open until
/// the result of the thread is dropped.
fn falls_silent() -> (thread::JoinHandle<Vec<TcpStream>>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let event =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let server = thread::spawn(move || {
        let mut held = Vec::new();
        for number in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream).unwrap();
            stream.write_all(format!("{head}{}", event("a")).as_bytes()).unwrap();
            match number {
                0 => stream.write_all(format!("{}data: [DONE]\n\n", event("b")).as_bytes()).unwrap(),
                _ => held.push(stream),
            }
        }
        held
    });
    (server, address)
}
