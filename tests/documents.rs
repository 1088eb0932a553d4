//! What programs read of a call: `--json`, `--junit`, `outputs/latest`, and the files of `--config`.

mod schemas;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use schemas::assert_fits;
use serde_json::{Value as Json, json};

const MOCK: &str = "mock:?ttft=2ms&itl=1ms&tokens=4";

fn ringmark(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.current_dir(folder).args(arguments).env_remove("RINGMARK_FLAG_QUIET").output().unwrap()
}

fn perf(folder: &Path, arguments: &[&str]) -> Output {
    let start = ["perf", "--url", MOCK, "--workers", "1", "--sleep-interval", "0"];
    ringmark(folder, &[&start[..], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The document on standard output, which has nothing else. On a busy machine a run may be void.
fn document(output: &Output) -> Json {
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}", text(&output.stderr));
    let json: Json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)));
    assert_eq!(json["exit_status"], json!(output.status.code().unwrap()));
    json
}

#[test]
fn standard_output_has_only_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let loads = ["-n", "6", "--parallel", "1", "2", "--repeat", "2", "--slo", "p99_ttft<=1us", "--json", "-"];
    let output = perf(folder.path(), &loads);
    let json = document(&output);
    assert_fits(&json, "call");
    let scenario = &json["scenarios"][0];
    assert_eq!(scenario["runs"].as_array().unwrap().len(), 4);
    assert_eq!((&scenario["complete"], &scenario["repeats"]["complete"]), (&json!(true), &json!(true)));
    let run = &scenario["runs"][0];
    assert_eq!((&run["load"]["parallel"], &run["slo_met"]), (&json!(1), &json!(false)));
    assert_eq!(run["summary"]["Total requests"], json!(6));
    let tables = text(&output.stderr);
    assert!(tables.contains("Performance report") && tables.contains("Results: "), "{tables}");
    // The same values as in the run's own file.
    let own = folder.path().join(run["folder"].as_str().unwrap()).join("benchmark_summary.json");
    assert_eq!(serde_json::from_str::<Json>(&fs::read_to_string(own).unwrap()).unwrap(), run["summary"]);
    assert_eq!(run["summary"]["Result DB path"], run["database"]);
    assert_eq!(run["summary"]["Expected number of requests"], json!(6));
    // The link to the folder of the call, which `report` accepts.
    let latest = folder.path().join("outputs/latest");
    assert_eq!(
        Path::new("outputs").join(fs::read_link(&latest).unwrap()),
        Path::new(scenario["folder"].as_str().unwrap())
    );
    let report = ringmark(folder.path(), &["report", "outputs/latest", "--json", "-"]);
    let json = document(&report);
    assert_fits(&json, "report");
    assert_eq!(json["runs"].as_array().unwrap().len(), 4);
    assert!(text(&report.stderr).contains("Benchmarking summary:"), "{}", text(&report.stderr));
}

#[test]
fn a_search_and_an_error_are_in_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let search = ["--sla-auto-tune", "--sla-params", "p99_ttft<=1us", "--sla-upper-bound", "2", "--sla-num-runs", "1"];
    let files = ["--json", "call.json", "--junit", "call.xml"];
    perf(folder.path(), &[&search[..], &files].concat());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let json: Json = serde_json::from_str(&read("call.json")).unwrap();
    assert_fits(&json, "call");
    assert_eq!(json["scenarios"][0]["search"]["selections"][0]["status"], json!("none"));
    assert!(
        read("call.xml").contains("<testcase classname=\"search\" name=\"p99_ttft&lt;=1us\""),
        "{}",
        read("call.xml")
    );
    // The connection test fails: the document of a call that measured nothing.
    let refused = ["perf", "--url", "http://127.0.0.1:9/v1/chat/completions", "--model", "m", "--ready-timeout", "0"];
    let output = ringmark(folder.path(), &[&refused[..], &files].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let json: Json = serde_json::from_str(&read("call.json")).unwrap();
    assert_fits(&json, "call");
    let scenario = &json["scenarios"][0];
    assert_eq!(
        (&json["exit_status"], &scenario["complete"], &scenario["runs"]),
        (&json!(2), &json!(false), &json!([]))
    );
    assert!(scenario["error"].as_str().unwrap().contains("127.0.0.1:9"), "{scenario}");
    assert!(read("call.xml").contains("<error message="), "{}", read("call.xml"));
    // A call that is rejected writes nothing.
    fs::remove_file(folder.path().join("call.json")).unwrap();
    let output = perf(folder.path(), &[&["--open-loop"], &files[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("call.json").exists());
}

#[test]
fn objectives_are_junit_test_cases() {
    let folder = tempfile::tempdir().unwrap();
    let objectives = ["-n", "6", "--parallel", "1", "2", "--slo", "p99_ttft<=1us rps>=0.001", "--junit", "slo.xml"];
    let output = perf(folder.path(), &objectives);
    let xml = fs::read_to_string(folder.path().join("slo.xml")).unwrap();
    assert!(xml.contains("<testsuite name=\"mock\" tests=\"6\""), "{xml}");
    if output.status.code() == Some(1) {
        assert_eq!(xml.matches("<failure message=\"measured: ").count(), 2, "{xml}");
        assert!(xml.contains("classname=\"Concurrency 2\" name=\"rps&gt;=0.001\"/>"), "{xml}");
        assert!(xml.contains("name=\"p99_ttft&lt;=1us\""), "{xml}");
    }
}

#[test]
fn a_file_with_scenarios_runs_as_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "url = \"{MOCK}\"\nworkers = 1\nnumber = 3\njson = \"all.json\"\n\
         [[scenario]]\nname = \"short\"\nmax-tokens = 2\n[[scenario]]\nname = \"long\"\nparallel = 2\n"
    );
    fs::write(folder.path().join("bench.toml"), file).unwrap();
    let output = ringmark(folder.path(), &["perf", "--config", "bench.toml", "--number", "4"]);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Scenario long (2 of 2)"), "{}", text(&output.stderr));
    let json: Json = serde_json::from_str(&fs::read_to_string(folder.path().join("all.json")).unwrap()).unwrap();
    assert_fits(&json, "call");
    let of = |number: usize| &json["scenarios"][number];
    assert_eq!([&of(0)["scenario"], &of(1)["scenario"]], [&json!("short"), &json!("long")]);
    assert_eq!((&of(0)["arguments"]["max_tokens"], &of(1)["arguments"]["parallel"]), (&json!([2]), &json!([2])));
    assert_eq!(of(1)["runs"][0]["summary"]["Total requests"], json!(4), "the command line comes first");
    let place = of(1)["folder"].as_str().unwrap();
    assert!(place.ends_with("/long") && folder.path().join(place).join("performance_summary.txt").exists(), "{place}");
    // What is printed can be given again.
    let printed = ringmark(folder.path(), &["perf", "--config", "bench.toml", "--print-config"]).stdout;
    fs::write(folder.path().join("again.toml"), &printed).unwrap();
    let again = ringmark(folder.path(), &["perf", "--config", "again.toml", "--print-config"]).stdout;
    assert_eq!(text(&printed), text(&again));
    assert!(
        text(&printed).contains("[[scenario]]\n") && text(&printed).contains("parallel = [2]"),
        "{}",
        text(&printed)
    );
}

#[test]
fn secrets_come_from_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), "sk-from-a-file\n").unwrap();
    let call = ["-n", "2", "--save", "full", "--debug", "--json", "-"];
    let output =
        perf(folder.path(), &[&["--api-key", "file:key", "--headers", "X-Api-Key=env:MY_HEADER"], &call[..]].concat());
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("no variable MY_HEADER"), "{error}");
    let output = perf(folder.path(), &[&["--api-key", "file:key"], &call[..]].concat());
    let shown = text(&[output.stdout.clone(), output.stderr.clone()].concat());
    assert!(!shown.contains("sk-from-a-file"), "{shown}");
    assert_eq!(document(&output)["scenarios"][0]["arguments"]["api_key"], json!("****"));
}

#[test]
fn a_file_names_the_programs_that_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("url = \"{MOCK}\"\nquiet = true\nnumber = 1\ndataset = \"./none.py\"\n");
    fs::write(folder.path().join("bench.toml"), file).unwrap();
    let output = ringmark(folder.path(), &["perf", "--config", "bench.toml"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("bench.toml starts programs: --dataset ./none.py (line 4)\n"), "{error}");
}
