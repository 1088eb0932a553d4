//! Custom APIs: the examples of this repository and their requests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::call::{Call, perf};
use serde_json::{Value, json};

pub fn example(name: &str) -> String {
    format!("{}/tools/examples/api/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn run(url: &str, api: &str, more: &[&str]) -> Call {
    let mut arguments = vec!["--url", url, "--api", api, "--model", "m", "--prompt", "one \"two\"", "-n", "3"];
    arguments.extend(more);
    perf(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), &[])
}

/// A server that sends `answer` for every request and passes the requests to the receiver.
pub fn server(answer: &'static str) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream, answer, |request| drop(sender.send(request))));
        }
    });
    (url, requests)
}

fn serve(mut stream: TcpStream, answer: &str, on_request: impl Fn((String, Value))) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let Ok(body) = serde_json::from_str(body) else { continue };
        on_request((head.to_string(), body));
        bytes.clear();
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn the_tgi_example() {
    let answer = concat!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "40\r\ndata:{\"index\":1,\"token\":{\"id\":5,\"text\":\"Deep\"},\"details\":null}\n\n\r\n",
        "40\r\ndata:{\"index\":2,\"token\":{\"id\":6,\"text\":\" sea\"},\"details\":null}\n\n\r\n",
        "71\r\ndata:{\"index\":3,\"token\":{\"id\":7,\"text\":\".\"},\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":3,\"seed\":1}}\n\n\r\n",
        "0\r\n\r\n",
    );
    let (url, requests) = server(answer);
    let call = run(&url, &example("tgi.toml"), &["--max-tokens", "3", "--seed", "1"]);
    call.check(3.0);
    assert_eq!(call.requests("text"), ["Deep sea."; 3]);
    assert_eq!(
        (call.requests("output_events"), call.requests("finish")),
        (vec!["3".to_string(); 3], vec!["length".to_string(); 3])
    );
    assert_eq!(call.number("Average output tokens per request"), 3.0);
    // The first request is the connection test, which has a prompt of its own.
    requests.recv().unwrap();
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("POST /generate_stream HTTP/1.1\r\n") && head.contains("X-Use-Cache: false"), "{head}");
    assert_eq!(body, json!({"inputs": "one \"two\"", "parameters": {"max_new_tokens": 3, "seed": 1, "details": true}}));
}

#[test]
fn the_plain_example() {
    let call = run(
        "mock:?ttft=1ms&tokens=6",
        &example("plain.toml"),
        &["--max-tokens", "4", "--extra-args", "{\"ignore_eos\":true}"],
    );
    call.check(3.0);
    assert_eq!(call.number("Average output tokens per request"), 4.0);
    assert_eq!(call.requests("streamed"), ["0"; 3]);
    assert_eq!(
        call.bodies()[0],
        json!({"model": "m", "prompt": "Question: one \"two\"\nAnswer:", "max_tokens": 4, "temperature": 0.0, "ignore_eos": true})
    );
}

#[test]
fn the_key_is_sent_in_the_header_of_the_file() {
    let api = "[headers]\nX-Key = 'id %k'\n[body]\nq = '%p'\n[response]\ntext = '/a'\n";
    let (url, requests) =
        server("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\":\"b\"}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, api).unwrap();
    let url = format!("{url}/ask");
    let call = run(&url, file.to_str().unwrap(), &["--api-key", "s3cret", "--top-k", "4"]);
    call.check(3.0);
    // The first request is the connection test, which has a prompt of its own.
    requests.recv().unwrap();
    let (head, body) = requests.recv().unwrap();
    assert!(head.starts_with("POST /ask ") && head.contains("X-Key: id s3cret\r\n"), "{head}");
    assert!(!head.contains("Authorization"), "{head}");
    assert_eq!(body, json!({"q": "one \"two\""}));
    assert!(call.findings().join("\n").contains("--top-k"), "{:?}", call.findings());
    let without = run(&url, file.to_str().unwrap(), &[]);
    assert!(without.status == 2 && without.stderr.contains("needs --api-key"), "{}", without.stderr);
}
