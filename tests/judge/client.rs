//! A small client with a thread for each slot. Its behaviours are the mistakes that real clients make.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

/// Environment variables with the behaviour, the server's address, and a file for what the client can see.
pub const ROLE: &str = "JUDGED_CLIENT";
pub const ADDRESS: &str = "JUDGED_SERVER";
pub const SURROUNDINGS: &str = "JUDGED_SURROUNDINGS";

const PARALLEL: u64 = 4;
const NUMBER: u64 = 12;
const RATE: f64 = 20.0;

/// Held while an event is handled by a client that handles one at a time, and for how long.
static HANDLING: Mutex<()> = Mutex::new(());
const HANDLING_TIME: Duration = Duration::from_millis(4);

/// Times of one answer, from the start of its request.
struct Answer {
    ok: bool,
    /// When the role or the head came.
    first_event: Duration,
    tokens: Vec<Duration>,
    output_tokens: u64,
    end: Duration,
}

/// Runs the client with one behaviour and writes `result.json`.
pub fn run(behaviour: &str, address: &str) {
    let is = |name: &str| behaviour.split(' ').any(|word| word == name);
    if is("shows_its_surroundings") {
        show_surroundings();
    }
    if is("is_busy") {
        be_busy();
    }
    if is("starts_processes") {
        start_processes();
    }
    let parallel = if is("exceeds_limit") { PARALLEL * 2 } else { PARALLEL };
    let number = if is("sends_fewer") { NUMBER / 2 } else { NUMBER };
    let (next, answers, began) = (AtomicU64::new(0), Mutex::new(Vec::new()), Instant::now());
    let open_loop = is("open_loop") && !is("waits_for_answers");
    let one_at_a_time = is("handles_one_event_at_a_time");
    let slots = if open_loop { number } else { parallel };
    std::thread::scope(|scope| {
        for _ in 0..slots {
            scope.spawn(|| {
                let work = || loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= number {
                        return;
                    }
                    if is("open_loop") {
                        let due = Duration::from_secs_f64(index as f64 / RATE);
                        std::thread::sleep(due.saturating_sub(began.elapsed()));
                    }
                    let timeout = is("gives_up").then_some(Duration::from_secs(1));
                    let prompt = if is("repeats_one_and_skips_one") && index == 5 { 4 } else { index };
                    let path = if is("wrong_path") { "/v2/chat" } else { "/v1/chat/completions" };
                    let request = || request(address, path, prompt, timeout, one_at_a_time);
                    let mut answer = request();
                    let again = is("retries") && !answer.ok || is("sends_one_twice") && index == 5;
                    if again {
                        answer = request();
                    }
                    answers.lock().unwrap().push(answer);
                    if is("half_empty_slots") {
                        std::thread::sleep(Duration::from_millis(400));
                    }
                };
                work();
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    std::fs::write("result.json", result(&answers, &is, began.elapsed()).to_string()).unwrap();
}

/// Writes what the client can see of the machine.
fn show_surroundings() {
    let variables: serde_json::Map<String, serde_json::Value> =
        std::env::vars().map(|(name, value)| (name, value.into())).collect();
    let text = json!({"variables": variables, "folder": std::env::current_dir().unwrap()}).to_string();
    std::fs::write(std::env::var(SURROUNDINGS).unwrap(), text).unwrap();
}

/// Many threads that use one core together until the client ends, as this one does from now on.
fn be_busy() {
    let core = core_affinity::get_core_ids().unwrap()[0];
    assert!(core_affinity::set_for_current(core));
    for _ in 0..8 {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

/// Starts processes that end soon, and writes how much CPU time they used, in clock ticks.
fn start_processes() {
    for _ in 0..20 {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("/bin/sh").args(["-c", script]).status().unwrap().success());
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    std::fs::write(std::env::var(SURROUNDINGS).unwrap(), ticks.to_string()).unwrap();
}

/// Sends one request on a connection of its own and reads the answer, at most for this long.
fn request(address: &str, path: &str, index: u64, timeout: Option<Duration>, one_at_a_time: bool) -> Answer {
    let body = json!({
        "model": "mock", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 100,
        "messages": [{"role": "user", "content": format!("question {index}")}],
    })
    .to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(timeout).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let began = Instant::now();
    stream.write_all((head + &body).as_bytes()).unwrap();
    read(stream, began, one_at_a_time)
}

fn read(stream: TcpStream, began: Instant, one_at_a_time: bool) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut answer =
        Answer { ok: false, first_event: Duration::ZERO, tokens: Vec::new(), output_tokens: 0, end: Duration::ZERO };
    let mut line = String::new();
    let mut status_ok = false;
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => break,
            Ok(_) => {}
            // It has waited long enough.
            Err(_) => return answer,
        }
        let handling = one_at_a_time.then(|| HANDLING.lock().unwrap());
        let at = began.elapsed();
        if handling.is_some() && line.starts_with("data: ") {
            std::thread::sleep(HANDLING_TIME);
        }
        drop(handling);
        if line.starts_with("HTTP/1.1 ") {
            status_ok = line.starts_with("HTTP/1.1 200");
            answer.first_event = at;
        }
        let Some(event) = line.strip_prefix("data: ") else { continue };
        if event.trim() == "[DONE]" {
            answer.ok = status_ok;
            continue;
        }
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
            answer.tokens.push(at);
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            answer.output_tokens = tokens;
        }
    }
    let _ = reader.read_to_end(&mut Vec::new());
    answer.end = began.elapsed();
    answer
}

fn result(answers: &[Answer], is: &dyn Fn(&str) -> bool, wall: Duration) -> serde_json::Value {
    let counted =
        |answer: &&Answer| answer.ok || is("errors_are_ok") || is("cut_answers_are_ok") && !answer.tokens.is_empty();
    let ok: Vec<&Answer> = answers.iter().filter(counted).collect();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let shift = if is("late_clock") { 50.0 } else { 0.0 };
    let first = |answer: &&&Answer| {
        let no_token = is("role_as_first_token") || answer.tokens.is_empty();
        let at = if no_token { answer.first_event } else { answer.tokens[0] };
        ms(at) + shift
    };
    let gaps = |answer: &&Answer| -> Vec<f64> {
        let gaps = answer.tokens.windows(2).map(|pair| ms(pair[1] - pair[0]));
        gaps.filter(|gap| !is("drops_long_gaps") || *gap < 500.0).collect()
    };
    let events_as_tokens = is("events_as_tokens");
    let counted_tokens =
        |answer: &&Answer| if events_as_tokens { answer.tokens.len() as u64 } else { answer.output_tokens };
    let tpot = |answer: &&&Answer| {
        let (Some(first), Some(last)) = (answer.tokens.first(), answer.tokens.last()) else { return 0.0 };
        ms(*last - *first) / (counted_tokens(answer).max(2) - 1) as f64
    };
    let tokens: u64 = ok.iter().map(counted_tokens).sum();
    let mut result = json!({
        "ok": ok.len(), "failed": answers.len() - ok.len(),
        "output_tokens_per_s": tokens as f64 / wall.as_secs_f64(),
        "ttft_ms": figures(ok.iter().map(|answer| first(&answer)).collect()),
        "itl_ms": figures(ok.iter().flat_map(gaps).collect()),
        "tpot_ms": figures(ok.iter().map(|answer| tpot(&answer)).collect()),
        "latency_ms": figures(ok.iter().map(|answer| ms(answer.end)).collect()),
    });
    if is("warns") {
        result["warning"] = "the client was stopped for a second".into();
    }
    result
}

fn figures(mut values: Vec<f64>) -> serde_json::Value {
    if values.is_empty() {
        return serde_json::Value::Null;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((share * values.len() as f64).ceil() as usize).max(1) - 1];
    json!({
        "mean": values.iter().sum::<f64>() / values.len() as f64,
        "p50": at(0.5), "p99": at(0.99), "max": at(1.0),
    })
}
