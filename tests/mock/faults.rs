//! Invalid requests, lost clients, and injected faults.

use std::io::Write;
use std::time::Duration;

use ringmark::mock::{Config, End, Mock};
use serde_json::Value;

use super::client::{CHAT, Reply, STREAM, ask, chat, connect, get, is_output, receive, send, start, truth_of};

#[test]
fn invalid_requests_are_rejected() {
    let mock = start("");
    assert_eq!(get(&mock, "/nope").status, 404);
    assert_eq!(get(&mock, CHAT).status, 405);
    let bad = ask(&mock, CHAT, "{");
    assert_eq!((bad.status, &bad.json()["error"]["code"]), (400, &Value::from(400)));
    assert!(bad.json()["error"]["message"].as_str().unwrap().contains("JSON"));
    assert_eq!(ask(&mock, CHAT, "{}").status, 400);
    let mut stream = connect(&mock);
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    let reply = receive(&mut stream);
    assert_eq!(reply.status, 400);
    let mut stream = connect(&mock);
    stream.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
    assert_eq!(receive(&mut stream).status, 411);
    assert_eq!(mock.stats().requests, 0);
    assert_eq!(mock.stats().refused, 6);
}

#[test]
fn closed_client_connections_end_the_request() {
    let mock = start("ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    while mock.stats().in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(stream);
    assert_eq!(truth_of(&mock, 1)[0].end, End::ClientGone);
    assert_eq!(mock.stats().in_flight, 0);
}

#[test]
fn records_remain_after_stop() {
    let mut mock = start("ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    while mock.stats().in_flight == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    mock.stop().unwrap();
    assert_eq!(mock.truth()[0].end, End::Stopped);
    let reply = receive(&mut stream);
    assert!((reply.closed || reply.reset) && !reply.complete);
}

#[test]
fn faults_before_the_response_are_injected() {
    let mock = start("fault=status(503,2)");
    let reply = ask(&mock, CHAT, &chat(STREAM));
    assert_eq!(reply.status, 503);
    assert!(reply.head.contains("retry-after: 2") && reply.json()["error"]["code"] == 503);
    let reply = ask(&start("fault=close"), CHAT, &chat(STREAM));
    assert!(reply.closed && reply.raw.is_empty());
    let reply = ask(&start("fault=garbage"), CHAT, &chat(STREAM));
    assert!(reply.closed && !reply.raw.is_empty() && reply.status == 0);
    let mock = start("ttft=0&itl=0&tokens=3&fault=slow_head(30ms)");
    let reply = ask(&mock, CHAT, &chat(STREAM));
    assert!(reply.complete && reply.is_done());
    let truth = truth_of(&mock, 1).remove(0);
    assert!(truth.sends[0].ns_since(truth.head_sent.unwrap()) > 25_000_000);
}

#[test]
fn faults_midway_are_injected() {
    let broken = |fault: &str| {
        let mock = start(&format!("ttft=1ms&itl=1ms&tokens=6&fault={fault}"));
        let reply = ask(&mock, CHAT, &chat(STREAM));
        let truth = truth_of(&mock, 1).remove(0);
        assert_eq!(truth.fault, Some(fault.split('(').next().unwrap()));
        (reply, truth)
    };
    let outputs = |reply: &Reply| reply.body.matches("\"content\":\"").count() - 1;
    let (reply, truth) = broken("reset");
    assert!(reply.reset && !reply.complete && truth.sends.len() == 3 && truth.end == End::Fault);
    let (reply, _) = broken("truncate");
    assert!(reply.closed && !reply.complete && outputs(&reply) == 3);
    let (reply, _) = broken("clean_truncate");
    assert!(reply.complete && !reply.is_done() && outputs(&reply) == 3 && !reply.body.contains("stop"));
    let (reply, truth) = broken("error");
    assert!(reply.complete && reply.is_done() && reply.body.contains("data: {\"error\":") && truth.end == End::Fault);
    let (reply, truth) = broken("malformed");
    assert!(reply.complete && reply.body.contains("\"content\":\n\n"));
    assert_eq!((outputs(&reply), truth.sends.len(), truth.end), (6, 6, End::Complete));
    let (reply, truth) = broken("empty");
    assert!(reply.complete && reply.is_done() && truth.sends.is_empty());
    assert_eq!(reply.events().iter().filter(|event| is_output(event)).count(), 0);
    let (reply, truth) = broken("huge(5000000)");
    assert!(reply.complete && reply.body.len() > 5_000_000 && truth.sends.len() == 6);
}

#[test]
fn hanging_responses_end_when_the_client_closes() {
    let mock = start("ttft=1ms&itl=1ms&tokens=6&fault=hang");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    stream.set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
    let reply = receive(&mut stream);
    assert!(!reply.complete && !reply.closed && !reply.reset);
    assert!(mock.truth().is_empty());
    drop(stream);
    let truth = truth_of(&mock, 1).remove(0);
    assert_eq!((truth.end, truth.sends.len()), (End::Fault, 3));
}

#[test]
fn faults_without_streaming_are_injected() {
    let answer = |fault: &str| ask(&start(&format!("ttft=0&itl=0&tokens=6&fault={fault}")), CHAT, &chat(""));
    assert!(answer("reset").reset);
    let reply = answer("truncate");
    assert!(reply.closed && !reply.complete && reply.status == 200);
    let reply = answer("malformed");
    assert!(reply.complete && serde_json::from_str::<Value>(&reply.body).is_err());
    assert_eq!(answer("empty").json()["choices"][0]["message"]["content"], "");
    assert!(answer("error").json()["error"].is_object());
}

#[test]
fn slow_readers_do_not_block_other_connections() {
    let mock = start("ttft=0&itl=0&tokens=3000&pad=4096");
    let mut slow = connect(&mock);
    send(&mut slow, "POST", CHAT, &chat(STREAM));
    while mock.stats().blocked_writes == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":2"))).complete);
    let reply = receive(&mut slow);
    assert!(reply.complete && reply.is_done());
    assert_eq!(reply.events().iter().filter(|event| is_output(event)).count(), 3000);
    let truth = truth_of(&mock, 2);
    assert!(truth[0].blocked_writes > 0 && truth[1].blocked_writes == 0);
}

#[test]
fn missing_core_is_an_error() {
    let error = Mock::start(&Config::default(), &[9999], "127.0.0.1:0".parse().unwrap()).err().unwrap();
    assert!(error.to_string().contains("9999"));
}
