//! The server's own metrics beside a run, with the built-in server, which knows the truth.

use std::path::Path;
use std::process::{Command, Output};

use ringmark::record::ServerSample;
use ringmark::record::facts::RunEnd;
use ringmark::record::store::{Reader, RunStart, Writer};
use ringmark::server::usage::GPU_BYTES;
use ringmark::time::Tick;
use serde_json::Value;

fn perf(folder: &Path, mock: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--url", &format!("mock:?ttft=18ms&itl=8ms&tokens=12{mock}"), "-n", "40", "--parallel", "2"])
        .args(["--no-timestamp", "--name", "run", "--outputs-dir"])
        .arg(folder)
        .args(more)
        .output()
        .expect("the binary was built for this test")
}

/// What the summary says of the server.
fn server(folder: &Path) -> Value {
    let path = folder.join("run/parallel_2_number_40/benchmark_summary.json");
    let summary: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    summary["server"].clone()
}

fn run(mock: &str, more: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), mock, more);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    (server(folder.path()), String::from_utf8(output.stdout).unwrap())
}

fn time<'a>(server: &'a Value, name: &str) -> &'a Value {
    server["times"].as_array().unwrap().iter().find(|time| time["name"] == name).unwrap()
}

#[test]
fn an_honest_server_is_consistent_and_its_counts_are_ours() {
    // A machine that is busy with other things can hold the server up between its read and its clock; that is true
    // then, but not what is tested here.
    let consistent = (0..5).any(|_| {
        let (server, text) = run("", &["--server-metrics", "--warmup-num", "3"]);
        for count in server["counts"].as_array().unwrap() {
            assert_eq!(count["equal"], true, "{count}");
        }
        assert_eq!(server["counts"].as_array().unwrap().len(), 3);
        assert_eq!(time(&server, "TTFT")["server_count"], 40);
        assert_eq!(time(&server, "ITL")["server_count"], 440);
        assert!(text.contains("The server's own figures (vLLM"), "{text}");
        let times = server["times"].as_array().unwrap();
        times.len() == 3 && times.iter().all(|time| time["verdict"] == "consistent")
    });
    assert!(consistent);
}

#[test]
fn a_server_that_claims_more_than_passed_is_apart_by_that() {
    let (server, text) = run("&lie=5ms", &["--server-metrics"]);
    let itl = time(&server, "ITL");
    assert_eq!(itl["verdict"], "apart", "{server:#}");
    assert!((-0.0055..-0.004).contains(&itl["apart_s"].as_f64().unwrap()), "{itl}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("longer there") && words.contains("ITL measured here is"), "{text}");
    assert!(server["ttft_split_s"]["The server's own TTFT"].as_f64().unwrap() >= 0.023, "{server:#}");
}

#[test]
fn the_parts_of_the_first_token_add_up() {
    let (server, _) = run("", &["--server-metrics"]);
    let split = server["ttft_split_s"].as_object().unwrap();
    let whole = split["TTFT from due"].as_f64().unwrap();
    let parts: f64 = split.values().map(|part| part.as_f64().unwrap()).sum::<f64>() - whole;
    assert!((whole - parts).abs() < 1e-9, "{split:?}");
}

#[test]
fn a_page_that_is_not_there_is_a_note_and_no_more() {
    let (server, text) = run("", &["--server-metrics", "/nowhere"]);
    assert_eq!(server, Value::Null);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("reads of the server's metrics") && words.contains("404") && words.contains("/nowhere)"),
        "{text}"
    );
    let (server, text) = run("", &["--server-metrics", "http://127.0.0.1:1/metrics"]);
    assert_eq!(server, Value::Null);
    assert!(text.contains("http://127.0.0.1:1/metrics"), "{text}");
    assert_eq!(run("", &[]).0, Value::Null);
}

#[test]
fn the_report_of_the_database_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = String::from_utf8(perf(folder.path(), "", &["--server-metrics"]).stdout).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .arg("report")
        .arg(folder.path().join("run/parallel_2_number_40/benchmark_data.db"))
        .output()
        .unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    let part = |text: &str| {
        let start = text.find("The server's own figures").unwrap();
        text[start..].split("\nFindings:").next().unwrap().split("\nResults:").next().unwrap().trim().to_string()
    };
    assert_eq!(part(&again), part(&first));
}

#[test]
fn samples_come_back_from_the_database_and_the_gpu_peak_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("benchmark_data.db");
    let sample = |at, name: &str, labels: &str, value| ServerSample {
        at: Tick(at),
        name: name.to_string(),
        labels: labels.to_string(),
        value,
    };
    let samples = vec![
        sample(5, GPU_BYTES, "gpu=\"0\"", 3e9),
        sample(5, GPU_BYTES, "gpu=\"1\"", 1e9),
        sample(6, GPU_BYTES, "gpu=\"0\"", 3.5e9),
        sample(7, "m_bucket", "le=\"+Inf\"", f64::INFINITY),
    ];
    let mut writer = Writer::create(&path, &RunStart::default()).unwrap();
    writer.begin().unwrap();
    writer.add_server_samples(&samples).unwrap();
    // What is no number has nothing to say, and no place in the table.
    writer.add_server_samples(&[sample(8, "m", "", f64::NAN)]).unwrap();
    writer.commit().unwrap();
    writer.close(&RunEnd::default()).unwrap();
    assert_eq!(Reader::open(&path).unwrap().server_samples().unwrap(), samples);
    let peak = rusqlite::Connection::open(&path).unwrap().query_row(
        "SELECT value FROM run WHERE key = 'gpu_memory_peak_bytes'",
        [],
        |row| row.get::<_, f64>(0),
    );
    assert_eq!(peak, Ok(4e9));
}

#[test]
fn the_page_shows_what_the_server_said() {
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), "&max_running=1", &["--server-metrics", "--language", "zh"]);
    let page = std::fs::read_to_string(folder.path().join("run/perf_report.html")).unwrap();
    for what in ["服务端自身指标", "服务端请求数", "TTFT（服务端）", "等待中（服务端）", "平均 TTFT 的构成"]
    {
        assert!(page.contains(what), "{what}");
    }
    assert!(!page.contains("there<") && !page.contains("looks over"), "the server's part is in Chinese");
}

/// What the summary says of the requests beside the server's own times.
fn joined(mock: &str) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), mock, &[]);
    let path = folder.path().join("run/parallel_2_number_40/benchmark_summary.json");
    let summary: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (summary["server_requests"].clone(), String::from_utf8(output.stdout).unwrap())
}

fn verdict<'a>(joined: &'a Value, name: &str) -> &'a Value {
    &joined["times"].as_array().unwrap().iter().find(|time| time["name"] == name).unwrap()["verdict"]
}

#[test]
fn honest_times_in_the_answers_are_consistent_request_by_request() {
    for (form, with_queue) in [("&timings=vllm", true), ("&timings=llamacpp&finish=own", false)] {
        let consistent = (0..5).any(|_| {
            let (joined, text) = joined(form);
            assert_eq!(joined["requests"], 40, "{joined:#}");
            assert_eq!(joined["with_queue"], with_queue);
            assert!(text.contains("Request by request"), "{text}");
            // The server's time lies within ours.
            assert!(joined["times"][0]["difference_s"]["min"].as_f64().unwrap() > -20e-6, "{joined:#}");
            verdict(&joined, "TTFT") == "consistent" && verdict(&joined, "TPOT") == "consistent"
        });
        assert!(consistent, "{form}");
    }
    assert_eq!(joined("").0, Value::Null);
}

#[test]
fn a_lie_in_the_answers_is_found_request_by_request() {
    let (longer, text) = joined("&timings=vllm&lie=5ms");
    assert_eq!((verdict(&longer, "TTFT"), verdict(&longer, "TPOT")), (&"apart".into(), &"apart".into()), "{longer:#}");
    assert!(text.contains("longer there"), "{text}");
    let (shorter, text) = joined("&timings=vllm&lie=-6ms");
    assert_eq!(
        (verdict(&shorter, "TTFT"), verdict(&shorter, "TPOT")),
        (&"apart".into(), &"apart".into()),
        "{shorter:#}"
    );
    assert!(text.contains("longer here"), "{text}");
}

#[test]
fn a_wait_for_the_step_that_the_engine_is_at_is_no_disagreement() {
    // 3 ms that no time of the server's tells, beside steps of 5 ms in its own words.
    let seen = (0..5).any(|_| {
        let (joined, _) = joined("&timings=vllm&lie=-3ms");
        verdict(&joined, "TTFT") == "consistent" && verdict(&joined, "TPOT") == "apart"
    });
    assert!(seen);
}
