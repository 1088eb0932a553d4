//! Calls of the binary that need a hub.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::server::{Reply, Server, hugging_face, modelscope};
use crate::data_support;
use crate::tls_server::TlsServer;

/// Runs `ringmark perf` against the mock in the folder `home`, which also has the caches.
fn perf(home: &Path, endpoint: &str, arguments: &[&str]) -> Output {
    command(home, endpoint, arguments).output().unwrap()
}

fn command(home: &Path, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command
        .args(["perf", "--url", "mock:?ttft=1ms&itl=1ms&tokens=3", "--no-timestamp", "--outputs-dir", "out", "-n", "3"])
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env("MODELSCOPE_ENDPOINT", endpoint)
        // Proxy variables are used only with --proxy; nothing listens at this address.
        .env("http_proxy", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_TOKEN")
        .env_remove("MODELSCOPE_CACHE")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("SSL_CERT_DIR");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A busy machine can make the figures void.
fn assert_measured(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(output));
}

#[test]
fn openqa_is_downloaded_without_a_path() {
    let questions = fs::read(data_support::data("open_qa.jsonl")).unwrap();
    let server = Server::start(modelscope(vec![("/datasets/AI-ModelScope/HC3-Chinese/open_qa.jsonl", questions)]));
    let home = tempfile::tempdir().unwrap();
    let first = perf(home.path(), &server.url(), &["--dataset", "openqa"]);
    assert_measured(&first);
    assert!(stderr(&first).contains("fetching http://127.0.0.1"), "{}", stderr(&first));
    let second = perf(home.path(), &server.url(), &["--dataset", "openqa", "--quiet", "--name", "again"]);
    assert_measured(&second);
    assert_eq!(server.requests().len(), 1);
    let log = fs::read_to_string(home.path().join("out/again/benchmark.log")).unwrap();
    assert!(log.contains("HC3-Chinese/open_qa.jsonl (from the cache)"), "{log}");
    // The database stores the arguments as given, not the path in the cache.
    let stored = fs::read_to_string(home.path().join("out/again/parallel_1_number_3/benchmark_args.json")).unwrap();
    assert!(stored.contains("\"dataset_path\": null"), "{stored}");
}

#[test]
fn tokenizers_are_downloaded_by_id() {
    let folder = data_support::tokenizer("qwen2_5");
    let file = |name: &str| fs::read(Path::new(&folder).join(name)).unwrap();
    let server = Server::start(hugging_face(vec![
        ("/Qwen/Qwen2.5-0.5B-Instruct/tokenizer.json", file("tokenizer.json")),
        ("/Qwen/Qwen2.5-0.5B-Instruct/tokenizer_config.json", file("tokenizer_config.json")),
    ]));
    let home = tempfile::tempdir().unwrap();
    let random = ["--dataset", "random", "--max-prompt-length", "40", "--min-prompt-length", "40"];
    let hub = ["--tokenizer-path", "Qwen/Qwen2.5-0.5B-Instruct", "--data-source", "huggingface"];
    let output = perf(home.path(), &server.url(), &[&random[..], &hub[..]].concat());
    assert_measured(&output);
    let count = server.requests().len();
    // A folder of that name takes precedence, and nothing is requested.
    let local = home.path().join("Qwen/Qwen2.5-0.5B-Instruct");
    fs::create_dir_all(&local).unwrap();
    fs::write(local.join("tokenizer.json"), "broken").unwrap();
    let output = perf(home.path(), &server.url(), &[&random[..], &hub[..], &["--name", "again"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("Qwen/Qwen2.5-0.5B-Instruct/tokenizer.json is not a Hugging Face tokenizer"),
        "{}",
        stderr(&output)
    );
    assert_eq!(server.requests().len(), count);
}

#[test]
fn hub_connections_use_tls_with_the_systems_certificates() {
    let questions = fs::read(data_support::data("open_qa.jsonl")).unwrap();
    let path = "/datasets/Hello-SimpleAI/HC3-Chinese/open_qa.jsonl";
    let hub = Server::start(hugging_face(vec![(path, questions)]));
    let server = TlsServer::start(hub.addr);
    let endpoint = format!("https://localhost:{}", server.addr.port());
    let home = tempfile::tempdir().unwrap();
    let roots = home.path().join("roots.pem");
    fs::write(&roots, &server.authority).unwrap();
    let arguments = ["--dataset", "openqa", "--data-source", "huggingface"];
    let call = |roots: &Path| command(home.path(), &endpoint, &arguments).env("SSL_CERT_FILE", roots).output().unwrap();
    let missing = call(&home.path().join("none.pem"));
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("SSL_CERT_FILE"), "{}", stderr(&missing));
    let other = TlsServer::start(hub.addr);
    fs::write(home.path().join("other.pem"), &other.authority).unwrap();
    let refused = call(&home.path().join("other.pem"));
    assert!(stderr(&refused).contains("SSL_CERT_FILE"), "{}", stderr(&refused));
    let plain = format!("https://{}", hub.addr);
    let output = command(home.path(), &plain, &arguments).env("SSL_CERT_FILE", &roots).output().unwrap();
    assert!(stderr(&output).contains("it does not speak TLS; write http://"), "{}", stderr(&output));
    let output = call(&roots);
    assert_measured(&output);
}

#[test]
fn invalid_arguments_are_reported_before_any_download() {
    let server = Server::start(|_| Reply::status(500));
    let home = tempfile::tempdir().unwrap();
    let output = perf(home.path(), &server.url(), &["--dataset", "openqa", "--top-p", "7"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--top-p"), "{}", stderr(&output));
    let output = perf(home.path(), &server.url(), &["--dataset", "sharegpt"]);
    assert!(stderr(&output).contains("add --tokenizer-path"), "{}", stderr(&output));
    assert!(server.requests().is_empty());
}
