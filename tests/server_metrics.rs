//! The server's own metrics during a run, tested with the mock.

mod chinese;

use std::path::Path;
use std::process::{Command, Output};

use ringmark::record::ServerSample;
use ringmark::record::facts::RunEnd;
use ringmark::server::resource_usage::GPU_BYTES;
use ringmark::store::{Reader, RunStart, Writer};
use ringmark::time::Tick;
use serde_json::Value;

fn perf(folder: &Path, mock: &str, more: &[&str]) -> Output {
    let load = ["-n", "40", "--parallel", "2"];
    call(folder, &format!("mock:?ttft=18ms&itl=8ms&tokens=12{mock}"), &[&load, more].concat())
}

fn call(folder: &Path, url: &str, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--verbose", "--url", url, "--no-timestamp", "--name", "run", "--outputs-dir"])
        .arg(folder)
        .args(flags)
        .output()
        .expect("the binary was built for this test")
}

/// The summary of the only run.
fn summary(folder: &Path) -> Value {
    let runs = std::fs::read_dir(folder.join("run")).unwrap().flatten().map(|entry| entry.path());
    let mut files = runs.map(|run| run.join("benchmark_summary.json")).filter(|file| file.is_file());
    let file = files.next().expect("the run has a summary");
    assert_eq!(files.next(), None);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The summary's part about the server's metrics.
fn server(folder: &Path) -> Value {
    summary(folder)["server"].clone()
}

/// A busy machine can make the figures void, which is another exit status; the files are the same.
fn assert_ended(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
}

fn run(mock: &str, more: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), mock, more);
    assert_ended(&output);
    (server(folder.path()), String::from_utf8(output.stdout).unwrap())
}

fn time<'a>(server: &'a Value, name: &str) -> &'a Value {
    server["times"].as_array().unwrap().iter().find(|time| time["name"] == name).unwrap()
}

#[test]
fn correct_metrics_are_consistent_and_counts_are_equal() {
    // On a busy machine the server may be delayed between its read and its timestamp, so several attempts are allowed.
    let consistent = (0..5).any(|_| {
        let (server, text) = run("", &["--server-metrics", "--warmup-num", "3"]);
        for count in server["counts"].as_array().unwrap() {
            assert_eq!(count["equal"], true, "{count}");
        }
        assert_eq!(server["counts"].as_array().unwrap().len(), 3);
        // Both sides count the warm-up, which flows into the measured requests.
        assert_eq!(time(&server, "TTFT")["server_count"], 43);
        assert_eq!(time(&server, "TTFT")["client_count"], 43);
        assert_eq!(time(&server, "ITL")["server_count"], 43 * 11);
        assert_eq!(server["with_warmup"], true);
        assert!(text.contains("Server metrics (vLLM"), "{text}");
        let times = server["times"].as_array().unwrap();
        assert!(time(&server, "TTFT")["frontend_and_network_s"].as_f64().unwrap() > 0.0, "{server:#}");
        times.len() == 4 && times.iter().all(|time| time["verdict"] == "consistent")
    });
    assert!(consistent);
}

#[test]
fn too_large_metrics_are_apart_by_the_error() {
    let (server, text) = run("&lie=5ms", &["--server-metrics"]);
    let itl = time(&server, "ITL");
    assert_eq!(itl["verdict"], "apart", "{server:#}");
    assert!((-0.0055..-0.004).contains(&itl["apart_s"].as_f64().unwrap()), "{itl}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // One finding, which says that no other requests are in the metrics, and not that they are wrong.
    assert!(text.contains("apart: server +") && words.contains("measured here is shorter than vLLM reports"), "{text}");
    assert_eq!((words.matches("measured here is").count(), words.matches(" (also ").count()), (1, 1), "{text}");
    assert!(words.contains("both sides counted the same requests") && !words.contains("wrong"), "{text}");
    // The server's TTFT is no part of the client's, unless a busy machine delayed the request by as much.
    let ttft_apart = time(&server, "TTFT")["verdict"] == "apart";
    assert!(!ttft_apart || server["ttft_split_s"] == Value::Null, "{server:#}");
}

#[test]
fn parts_of_ttft_add_up() {
    let (server, _) = run("", &["--server-metrics"]);
    let split = server["ttft_split_s"].as_object().unwrap();
    let whole = split["TTFT from due"].as_f64().unwrap();
    let parts: f64 = split.values().map(|part| part.as_f64().unwrap()).sum::<f64>() - whole;
    assert!((whole - parts).abs() < 1e-9, "{split:?}");
}

#[test]
fn missing_page_is_a_note() {
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
fn report_from_the_database_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = String::from_utf8(perf(folder.path(), "", &["--server-metrics"]).stdout).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .arg("report")
        .arg(folder.path().join("run/parallel_2_number_40/benchmark_data.db"))
        .output()
        .unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    let part = |text: &str| {
        let start = text.find("Server metrics").unwrap();
        let end = ["\nFindings:", "\nReport:", "\nResults:"].iter().filter_map(|next| text.find(next)).min();
        text[start..end.unwrap()].trim().to_string()
    };
    assert_eq!(part(&again), part(&first));
}

#[test]
fn samples_and_gpu_peak_are_stored_in_the_database() {
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
    // NaN is not stored.
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
fn html_report_shows_the_servers_metrics_in_chinese() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--server-metrics", "--language", "zh", "--witness", "1", "--slo", "p99_ttft<=1ms", "--workers", "1"];
    perf(folder.path(), "&max_running=1", &more);
    let page = std::fs::read_to_string(folder.path().join("run/perf_report.html")).unwrap();
    for what in ["服务端自身指标", "服务端请求数", "TTFT（服务端指标）", "等待中（服务端）"]
    {
        assert!(page.contains(what), "{what}");
    }
    let cell = |before: &str, after: &str| {
        let text = page.split(before).nth(1).unwrap().split(after).next().unwrap();
        [("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&amp;", "&")]
            .iter()
            .fold(text.to_string(), |text, (from, to)| text.replace(from, to))
    };
    let command = chinese::without_flag_spans(&cell("<code>", "</code>"));
    let url = cell("<th>服务端</th><td>", " ·");
    let machine = cell("<th>测试机</th><td>", "</td>");
    chinese::assert_chinese(&page, &[&command, &url, &machine, "p99_ttft", "mock"]);
    // The server's mean includes the witness's requests, so TTFT has parts only without one.
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), "", &["--server-metrics", "--language", "zh"]);
    let page = std::fs::read_to_string(folder.path().join("run/perf_report.html")).unwrap();
    assert!(page.contains("平均 TTFT 的构成"), "{}", server(folder.path()));
}

/// The summary's part about the server's times per request.
fn joined(mock: &str) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), mock, &[]);
    (summary(folder.path())["server_requests"].clone(), String::from_utf8(output.stdout).unwrap())
}

fn verdict<'a>(joined: &'a Value, name: &str) -> &'a Value {
    &joined["times"].as_array().unwrap().iter().find(|time| time["name"] == name).unwrap()["verdict"]
}

#[test]
fn correct_times_in_responses_are_consistent() {
    for (form, with_queue) in [("&timings=vllm", true), ("&timings=llamacpp&finish=own", false)] {
        let consistent = (0..5).any(|_| {
            let (joined, text) = joined(form);
            assert_eq!(joined["requests"], 40, "{joined:#}");
            assert_eq!(joined["with_queue"], with_queue);
            assert!(text.contains("Request by request"), "{text}");
            // The server's time is not longer than the client's.
            assert!(joined["times"][0]["difference_s"]["min"].as_f64().unwrap() > -20e-6, "{joined:#}");
            verdict(&joined, "TTFT") == "consistent" && verdict(&joined, "TPOT") == "consistent"
        });
        assert!(consistent, "{form}");
    }
    assert_eq!(joined("").0, Value::Null);
}

#[test]
fn wrong_times_in_responses_are_detected() {
    // A busy machine can delay requests by as much as the server is wrong in TTFT.
    let both_apart = (0..5).any(|_| {
        let (longer, text) = joined("&timings=vllm&lie=5ms");
        assert_eq!(verdict(&longer, "TPOT"), "apart", "{longer:#}");
        assert!(text.contains("apart: server +"), "{text}");
        verdict(&longer, "TTFT") == "apart"
    });
    assert!(both_apart);
    // A longer TTFT here is the frontend and the network; the time between tokens has no such part.
    let (shorter, text) = joined("&timings=vllm&lie=-6ms");
    assert_eq!(
        (verdict(&shorter, "TTFT"), verdict(&shorter, "TPOT")),
        (&"consistent".into(), &"apart".into()),
        "{shorter:#}"
    );
    assert!(text.contains("apart: client +"), "{text}");
}

/// The codes of the Cautions about what the server says of itself. What other programs on this machine do to the client is
/// not the subject.
fn cautions(mock: &str, more: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), mock, more);
    assert_ended(&output);
    server_cautions(&summary(folder.path()))
}

fn server_cautions(summary: &Value) -> Vec<String> {
    let findings = summary["Findings"].as_array().unwrap().iter();
    let about_server =
        findings.filter(|finding| finding["severity"] == "caution" && finding["cause"] == "server_metrics");
    about_server.map(|finding| finding["code"].as_str().unwrap().to_string()).collect()
}

/// A healthy server gets no Caution and one whose metrics are wrong by 5 ms gets one, `times` times.
fn verdicts_are_right(times: usize) {
    for _ in 0..times {
        for mock in ["&like=vllm", "&like=vllm&timings=vllm", "&like=sglang"] {
            let more = ["--server-metrics", "--max-tokens", "13"];
            assert_eq!(cautions(mock, &more), Vec::<String>::new(), "{mock}");
            for lie in ["5ms", "-5ms"] {
                assert_eq!(cautions(&format!("{mock}&lie={lie}"), &more), ["server_apart"], "{mock} {lie}");
            }
        }
    }
}

#[test]
fn only_wrong_metrics_get_a_caution() {
    verdicts_are_right(1);
}

#[test]
#[ignore = "takes minutes: cargo test --test server_metrics -- --ignored"]
fn only_wrong_metrics_get_a_caution_in_20_of_20_runs() {
    verdicts_are_right(20);
}

#[test]
fn counts_and_times_of_several_choices_are_explained() {
    let (server, text) = run("&like=vllm", &["--server-metrics", "--n-choices", "2"]);
    let counts = server["counts"].as_array().unwrap();
    assert!(counts.iter().all(|count| count["equal"] == true), "{server:#}");
    assert_eq!((counts[0]["client"].as_u64(), counts[0]["server"].as_u64()), (Some(40), Some(80)));
    assert!(counts[0]["note"].as_str().unwrap().contains("each of the 2 choices"), "{server:#}");
    assert_eq!(
        (&time(&server, "TTFT")["verdict"], &time(&server, "TPOT")["verdict"]),
        (&"not judged".into(), &"consistent".into())
    );
    assert_eq!(server["ttft_split_s"], Value::Null);
    assert!(!text.contains("Frontend and network: -"), "{text}");
}

/// The server's steps are so long that the delays of a busy machine are small against the distance of its figure from the
/// ends of the range.
#[test]
fn the_end_of_sequence_is_a_token_of_the_servers_itl() {
    for choices in ["1", "2"] {
        let mut gaps = Value::Null;
        let consistent = (0..5).any(|_| {
            let (server, text) = run("&like=vllm&tokens=5", &["--server-metrics", "--n-choices", choices]);
            let itl = time(&server, "ITL");
            gaps = itl.clone();
            // Five tokens with text and the end of the sequence, whose event has none.
            let expected = 40 * 5 * choices.parse::<u64>().unwrap();
            assert_eq!((&itl["client_count"], &itl["server_count"]), (&expected.into(), &expected.into()), "{itl}");
            assert_eq!(itl["tokens_without_text"], 40 * choices.parse::<u64>().unwrap(), "{itl}");
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("of them without text"), "{text}");
            itl["verdict"] == "consistent"
        });
        assert!(consistent, "{gaps}");
        // The mean is judged.
        let (server, _) = run("&like=vllm&tokens=5&lie=10ms", &["--server-metrics", "--n-choices", choices]);
        assert_eq!(time(&server, "ITL")["verdict"], "apart", "{server:#}");
    }
}

#[test]
fn a_tpot_that_is_a_range_agrees_with_all_values_in_it() {
    let run = |mock: &str, choices: &str| {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("mock:?ttft=50ms&itl=60ms&tokens=12&like=vllm&step_tokens=2{mock}");
        let load = ["-n", "24", "--parallel", "8", "--server-metrics", "--n-choices", choices];
        let output = call(folder.path(), &url, &load);
        assert_ended(&output);
        (summary(folder.path()), String::from_utf8(output.stdout).unwrap())
    };
    for (choices, form) in [("1", ""), ("2", ""), ("1", "&timings=vllm")] {
        let (summary, text) = run(form, choices);
        let tpot = time(&summary["server"], "TPOT");
        assert_eq!(tpot["verdict"], "consistent", "{tpot:#}");
        let [low, shown, server, high] =
            ["client_mean_low_s", "client_mean_s", "server_mean_s", "client_mean_high_s"].map(|key| tpot[key].as_f64());
        assert!(low < server && server < high && low <= shown && shown <= high, "{tpot:#}");
        assert!(text.contains(" .. ") && !text.contains("TPOT measured here"), "{text}");
        // A range is not compared request by request.
        assert!(!text.contains("TPOT (decode)"), "{text}");
        let (summary, _) = run(&format!("{form}&lie=30ms"), choices);
        assert_eq!(server_cautions(&summary), ["server_apart"], "{form}");
    }
}

#[test]
fn ttft_of_answers_that_are_not_streamed_is_not_judged() {
    let (server, _) = run("", &["--server-metrics", "--no-stream"]);
    let ttft = time(&server, "TTFT");
    assert_eq!((&ttft["verdict"], &ttft["why"]), (&"not judged".into(), &"the answers were not streamed".into()));
    assert_eq!((&server["ttft_split_s"], &time(&server, "Latency")["verdict"]), (&Value::Null, &"consistent".into()));
}

#[test]
fn both_times_to_first_token_of_the_server_have_names() {
    let (_, text) = run("&timings=vllm", &["--server-metrics"]);
    assert!(text.contains("TTFT server metrics") && text.contains("TTFT (queue + prefill)"), "{text}");
}

#[test]
fn wait_shorter_than_an_engine_step_is_consistent() {
    // 3 ms are missing in the server's times, which is less than its reported step time of 5 ms.
    let seen = (0..5).any(|_| {
        let (joined, _) = joined("&timings=vllm&lie=-3ms");
        verdict(&joined, "TTFT") == "consistent" && verdict(&joined, "TPOT") == "apart"
    });
    assert!(seen);
}
