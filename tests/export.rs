//! Files for other tools and for programs, from a run of the binary against its built-in server.

mod schemas;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use schemas::assert_fits;
use serde_json::Value;

/// The script with `pickle` in evalscope's documentation, its database given as an argument.
const EVALSCOPE_SCRIPT: &str = r#"
import sqlite3, base64, pickle, json, sys
con = sqlite3.connect(sys.argv[1])
query_sql = "SELECT request, response_messages, prompt_tokens, completion_tokens \
                FROM result WHERE success='1'"
with con:
    rows = con.execute(query_sql).fetchall()
    for row in rows:
        request = pickle.loads(base64.b64decode(row[0]))
        responses = pickle.loads(base64.b64decode(row[1]))
        response_content = ''
        for response in responses:
            response = json.loads(response)
            if not response['choices']:
                continue
            response_content += response['choices'][0]['delta']['content']
        print('prompt: %s, tokens: %s, completion: %s, tokens: %s' %
              (request['messages'][0]['content'], row[2], response_content, row[3]))
"#;

/// Runs `ringmark perf` against the built-in server with one prompt into `folder`.
fn perf(folder: &Path, arguments: &[&str]) {
    perf_of(folder, &[&["--prompt", "你好, \"world\""], arguments].concat());
}

/// The same without the prompt.
fn perf_of(folder: &Path, arguments: &[&str]) {
    let outputs = folder.join("outputs");
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .current_dir(folder)
        .args([
            "perf",
            "--url",
            "mock:?ttft=2ms&itl=1ms&tokens=6",
            "--quiet",
            "--no-timestamp",
            "--sleep-interval",
            "0",
        ])
        .args(["--workers", "1", "--outputs-dir"])
        .arg(outputs)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // 3: on a machine that is busy with other things the run may be void; its files are written all the same.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}");
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_json_files_fit_their_schemas() {
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), &["-n", "20", "--parallel", "2", "--slo", "p99_ttft<=10s"]);
    perf(folder.path(), &["-n", "20", "--open-loop", "--rate", "200", "--no-stream"]);
    let talk = folder.path().join("talk.jsonl");
    std::fs::write(&talk, "[\"a\", \"b\"]\n").unwrap();
    let conversations = ["--multi-turn", "--dataset", "custom_multi_turn", "--dataset-path", talk.to_str().unwrap()];
    perf_of(folder.path(), &[&["-n", "3", "--think-time", "0.001"][..], &conversations].concat());
    for run in ["parallel_2_number_20", "rate_200.0_number_20", "parallel_1_number_3"] {
        for name in ["benchmark_summary", "benchmark_percentile", "benchmark_args"] {
            let value = json(&folder.path().join("outputs/mock").join(run).join(format!("{name}.json")));
            assert_fits(&value, name);
        }
    }
}

#[test]
fn the_summary_of_a_search_fits_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    for (name, params) in [("a", "p99_ttft<=1ms | rps>=0.001"), ("b", r#"{"tps": "max"}"#)] {
        let bounds = ["--sla-upper-bound", "2", "--sla-num-runs", "2", "--name", name];
        perf(folder.path(), &[&["--sla-auto-tune", "--sla-params", params], &bounds[..]].concat());
        let value = json(&folder.path().join("outputs").join(name).join("sla_summary.json"));
        assert_fits(&value, "sla_summary");
    }
}

#[test]
fn the_summary_of_repeats_fits_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), &["-n", "6", "--parallel", "1", "2", "--repeat", "3"]);
    let root = folder.path().join("outputs/mock");
    let value = json(&root.join("repeats_summary.json"));
    assert_fits(&value, "repeats_summary");
    let loads = value["loads"].as_array().unwrap();
    assert_eq!((&value["complete"], loads.len()), (&Value::Bool(true), 2));
    for load in loads {
        let number = |value: &Value| value.as_f64().unwrap();
        let rps = &load["figures"]["rps"];
        let values: Vec<f64> = rps["values"].as_array().unwrap().iter().map(number).collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        let half = 4.303 * deviation / 3f64.sqrt();
        for (key, expected) in [
            ("mean", mean),
            ("standard_deviation", deviation),
            ("coefficient_of_variation", deviation / mean),
            ("ci95_low", mean - half),
            ("ci95_high", mean + half),
        ] {
            assert!((number(&rps[key]) - expected).abs() <= 1e-9 * mean, "{key}: {rps}");
        }
        // A value equals the one in the run's own file.
        for (run, value) in load["runs"].as_array().unwrap().iter().zip(values) {
            assert!(root.join(run["database"].as_str().unwrap()).is_file(), "{run}");
            let own = json(&root.join(run["folder"].as_str().unwrap()).join("benchmark_summary.json"));
            assert!((number(&own["Request throughput (req/s)"]) - value).abs() < 0.001, "{run}: {own}");
        }
    }
    perf(folder.path(), &["-n", "2", "--parallel", "1", "2", "--name", "single"]);
    assert!(!folder.path().join("outputs/single/repeats_summary.json").exists());
}

#[test]
fn every_format_is_written() {
    let folder = tempfile::tempdir().unwrap();
    perf(
        folder.path(),
        &[
            "-n",
            "10",
            "--parallel",
            "2",
            "--csv",
            "sub/lm.csv",
            "--export",
            "vllm=v.json",
            "aiperf=a.jsonl",
            "llmd=l.json",
        ],
    );
    let csv = std::fs::read_to_string(folder.path().join("sub/lm.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "batch,num_promts,RPS,RPM,FTL(ave)(s),FTL(min)(s),FTL(max)(s),50%(s),75%(s),95%(s),99%(s),\
         throughput(out tok/s),throughput(total tok/s)"
    );
    assert!(lines.len() == 2 && lines[1].starts_with("2,10,") && lines[1].split(',').count() == 13, "{csv}");
    vllm(&json(&folder.path().join("v.json")));
    aiperf(&std::fs::read_to_string(folder.path().join("a.jsonl")).unwrap());
    llmd(&json(&folder.path().join("l.json")));
}

/// The lines of a list of keys, without its comments.
fn facts(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn vllm(file: &Value) {
    let expected = |list: &'static str| facts(list).flat_map(str::split_whitespace).map(String::from);
    let found = |object: &Value, of: &str| -> BTreeSet<String> {
        object.as_object().unwrap().keys().map(|key| format!("{of}{key}")).collect()
    };
    assert_eq!(found(file, ""), expected(include_str!("exports/vllm.txt")).collect());
    let steady = &file["steady_state"];
    let mut of_steady = found(steady, "");
    of_steady.append(&mut found(&steady["window"], "window/"));
    assert_eq!(of_steady, expected(include_str!("exports/vllm_steady.txt")).collect());
    assert_eq!((&steady["window"]["observed_peak"], &steady["window"]["requests_total"]), (&2.into(), &10.into()));
    assert!(steady["output_throughput"].as_f64() > Some(0.0), "{steady}");
    assert_eq!((&file["completed"], &file["total_output_tokens"]), (&Value::from(10), &Value::from(60)));
    assert_eq!(file["request_rate"], "inf");
    for list in [
        "input_lens",
        "output_lens",
        "ttfts",
        "itls",
        "latencies",
        "start_times",
        "queue_times",
        "generated_texts",
        "errors",
    ] {
        assert_eq!(file[list].as_array().unwrap().len(), 10, "{list}");
    }
    assert_eq!(file["itls"][0].as_array().unwrap().len(), 5);
    let mean = file["ttfts"].as_array().unwrap().iter().filter_map(Value::as_f64).sum::<f64>() / 10.0;
    assert!((mean * 1e3 - file["mean_ttft_ms"].as_f64().unwrap()).abs() < 1e-9);
}

fn aiperf(lines: &str) {
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 10);
    let took_time =
        |line: &Value| line["metadata"]["request_ack_ns"].as_i64() < line["metadata"]["request_end_ns"].as_i64();
    assert!(lines.iter().any(took_time), "no answer took time: {lines:?}");
    for line in lines {
        aiperf_fields(&line);
        let meta = &line["metadata"];
        assert!(meta["request_start_ns"].as_i64() < meta["request_ack_ns"].as_i64(), "{line}");
        // On a busy machine a whole response may arrive in one read.
        assert!(meta["request_ack_ns"].as_i64() <= meta["request_end_ns"].as_i64(), "{line}");
        assert_eq!(line["metrics"]["inter_chunk_latency"]["value"].as_array().unwrap().len(), 5);
        assert_eq!((&line["error"], &meta["was_cancelled"]), (&Value::Null, &Value::Bool(false)));
    }
}

/// Every key is one that aiperf has too, with its unit, and those that it must have are there.
fn aiperf_fields(line: &Value) {
    for fact in facts(include_str!("exports/aiperf.txt")) {
        let mut words = fact.split(' ');
        let (object, fields) = match words.next().unwrap() {
            "line" => (line, words.collect::<Vec<_>>()),
            "unit" => {
                let (tag, unit) = (words.next().unwrap(), words.next().unwrap());
                assert!(line["metrics"].get(tag).is_none_or(|metric| metric["unit"] == unit), "{tag}: {line}");
                continue;
            }
            name => (&line[name], words.collect()),
        };
        for field in fields.iter().filter_map(|field| field.strip_suffix('!')).filter(|_| object.is_object()) {
            assert!(object.get(field).is_some(), "{field} is missing: {line}");
        }
        let known = |key: &&String| fields.iter().any(|field| field.trim_end_matches('!') == key.as_str());
        let others = object.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| !known(key));
        assert_eq!(others.count(), 0, "{line}");
    }
    let tags: Vec<&str> =
        facts(include_str!("exports/aiperf.txt")).filter_map(|fact| fact.strip_prefix("unit ")).collect();
    for tag in line["metrics"].as_object().unwrap().keys() {
        assert!(tags.iter().any(|known| known.split(' ').next() == Some(tag)), "{tag}");
    }
}

/// Every object has the keys that it must have, and none that is not permitted.
fn llmd_fields(report: &Value) {
    for fact in facts(include_str!("exports/llmd.txt")) {
        let parts: Vec<&str> = fact.split('|').map(str::trim).collect();
        let mut objects = vec![report];
        for step in parts[0].split('/').filter(|step| !step.is_empty()) {
            let maps = objects.into_iter().filter_map(Value::as_object).flatten();
            let steps = maps.filter(|(key, value)| *key == step || (step == "*" && value.is_object()));
            objects = steps.map(|(_, value)| value).collect();
        }
        let keys = |part: usize| parts[part].split_whitespace();
        for object in objects {
            let found: Vec<&String> = object.as_object().unwrap().keys().collect();
            assert!(keys(1).all(|key| found.iter().any(|found| *found == key)), "{}: {object}", parts[0]);
            assert!(
                found.iter().all(|found| keys(1).chain(keys(2)).any(|key| key == *found)),
                "{}: {object}",
                parts[0]
            );
        }
    }
}

fn llmd(report: &Value) {
    llmd_fields(report);
    assert_eq!(report["version"], "0.2");
    assert_eq!(report["scenario"]["load"]["standardized"]["concurrency"], 2);
    let aggregate = &report["results"]["request_performance"]["aggregate"];
    assert_eq!(aggregate["requests"]["total"], 10);
    assert_eq!(aggregate["latency"]["time_to_first_token"]["units"], "s");
    assert_eq!(aggregate["latency"]["time_per_output_token"]["units"], "s/token");
    assert!(aggregate["throughput"]["request_rate"]["mean"].as_f64().unwrap() > 0.0);
    assert!(!aggregate.to_string().contains("null"));
}

#[test]
fn the_script_of_evalscopes_documentation_reads_the_database() {
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), &["-n", "4", "--save", "full", "--export", "evalscope-db=e.db"]);
    let python = Command::new("python3").current_dir(folder.path()).args(["-c", EVALSCOPE_SCRIPT, "e.db"]).output();
    let Ok(output) = python else {
        eprintln!("skipped: no python3 on this machine");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        let completion = line.split("completion: ").nth(1).and_then(|rest| rest.split(", tokens: 6").next());
        assert!(line.starts_with("prompt: 你好, \"world\", tokens: "), "{line}");
        assert_eq!(completion.unwrap().split_whitespace().count(), 6, "{line}");
    }
}

#[test]
fn a_sweep_writes_a_file_for_each_run_and_report_writes_them_again() {
    let folder = tempfile::tempdir().unwrap();
    perf(folder.path(), &["-n", "4", "--parallel", "1", "2", "--csv", "x.csv", "--export", "vllm=v.json"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("x.csv")).unwrap().lines().count(), 3);
    let first = std::fs::read(folder.path().join("v.parallel_1_number_4.json")).unwrap();
    assert!(folder.path().join("v.parallel_2_number_4.json").exists());
    let database = "outputs/mock/parallel_1_number_4/benchmark_data.db";
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .current_dir(folder.path())
        .args(["report", database, "--export", "vllm=again.json"])
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(folder.path().join("again.json")).unwrap(), first);
}

#[test]
fn errors_in_exports_are_reported_before_the_run() {
    for (arguments, what) in [
        (&["--export", "vlm=x.json"][..], "did you mean 'vllm'"),
        (&["--export", "vllm"][..], "FORMAT=FILE"),
        (&["--export", "evalscope-db=x.db"][..], "--save full"),
        (&["--slo", "p99_ttft"][..], "--slo"),
    ] {
        let call =
            Command::new(env!("CARGO_BIN_EXE_ringmark")).args(["perf", "--url", "mock:"]).args(arguments).output();
        let output = call.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(what), "{text}");
    }
}

#[test]
fn evalscopes_folder_has_its_files_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("es");
    let loads = ["-n", "6", "--parallel", "1", "2", "--repeat", "2"];
    let exports = ["--export", "evalscope=es", "lmdeploy-api=api.csv"];
    perf(folder.path(), &[&loads[..], &exports[..]].concat());
    for run in ["parallel_1_number_6", "parallel_2_number_6", "run_2/parallel_1_number_6", "run_2/parallel_2_number_6"]
    {
        let place = out.join(run);
        let summary = json(&place.join("benchmark_summary.json"));
        assert_eq!((&summary["Success Requests"], &summary["Total Requests"]), (&6.into(), &6.into()), "{run}");
        for key in facts(include_str!("exports/evalscope.txt")) {
            assert!(summary[key].is_number(), "{key}: {summary}");
        }
        let rows = json(&place.join("benchmark_percentile.json"));
        let names: Vec<&str> = rows.as_array().unwrap().iter().filter_map(|row| row["Percentiles"].as_str()).collect();
        assert_eq!(names, ["min", "1%", "5%", "10%", "25%", "50%", "75%", "90%", "95%", "99%", "max"]);
        let (median, mean) = (rows[5]["TTFT (ms)"].as_f64().unwrap(), summary["Avg TTFT (ms)"].as_f64().unwrap());
        assert!(median >= 2.0 && mean >= 2.0, "{rows}");
        let arguments = json(&place.join("benchmark_args.json"));
        assert_eq!((&arguments["model"], &arguments["number"]), (&"mock".into(), &6.into()));
    }
    let database = rusqlite::Connection::open(out.join("parallel_1_number_6/benchmark_data.db")).unwrap();
    let (rows, body): (i64, String) = database
        .query_row("SELECT count(*), max(request) FROM result WHERE success = 1 AND is_stream = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(rows, 6);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["messages"][0]["content"], "你好, \"world\"");
    let csv = std::fs::read_to_string(folder.path().join("api.csv")).unwrap();
    assert!(csv.lines().count() == 5 && csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
}
