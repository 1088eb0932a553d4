//! The search for a load and repeated loads: calls of the binary against the built-in server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The server handles 16 requests at a time; further ones wait.
const URL: &str = "mock:?ttft=10ms&itl=2ms&tokens=6&max_running=16";

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.current_dir(folder).args(["perf", "--url", URL, "--no-timestamp", "--sleep-interval", "0"]);
    command.args(["--workers", "1", "--no-test-connection"]).args(arguments);
    command
}

fn perf(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_string()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("outputs/mock/sla_summary.json")).unwrap()).unwrap()
}

/// The folders of runs, by name.
fn runs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("outputs/mock")).unwrap().flatten();
    let mut names: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `ringmark report` over all databases of a search.
fn report(folder: &Path, arguments: &[&str]) -> Output {
    let files = runs(folder).into_iter().map(|run| format!("outputs/mock/{run}/benchmark_data.db"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.current_dir(folder).arg("report").args(files).args(arguments).output().unwrap()
}

/// The part of the summary that describes the search.
fn search_summary(folder: &Path) -> String {
    let stored = fs::read_to_string(folder.join("outputs/mock/performance_summary.txt")).unwrap();
    stored[stored.rfind("\nSearch for").unwrap()..].to_string()
}

#[test]
fn a_search_for_parallel_selects_a_load_and_stores_every_run() {
    let folder = tempfile::tempdir().unwrap();
    // The bounds are wide, because the machine may be busy; unit tests check the exact selection.
    let output = perf(
        folder.path(),
        &[
            "--sla-auto-tune",
            "--sla-params",
            r#"[{"p99_ttft": "<=30s"}, {"max_latency": "<=1us"}]"#,
            "--sla-upper-bound",
            "4",
            "--sla-num-runs",
            "2",
            "--sla-number-multiplier",
            "3",
        ],
    );
    let screen = text(&output.stdout);
    let json = summary(folder.path());
    let valid = json["probes"].as_array().unwrap().iter().all(|probe| probe["valid"] == true);
    if valid {
        assert_eq!(output.status.code(), Some(0), "one of two aims is enough: {screen}");
        assert_eq!(json["selections"][0]["selected_value"], 4);
        assert!(screen.contains("holds up to the upper bound"), "{screen}");
        assert_eq!(
            runs(folder.path()),
            [
                "parallel_1_number_3_run_1",
                "parallel_1_number_3_run_2",
                "parallel_2_number_6_run_1",
                "parallel_2_number_6_run_2",
                "parallel_4_number_12_run_1",
                "parallel_4_number_12_run_2",
            ]
        );
    }
    assert_eq!(json["selections"][1]["selected_value"], Value::Null);
    assert_eq!(json["selections"][1]["criteria"], "max_latency<=1us", "as it was given");
    assert!(screen.contains("Search for parallel (1 to 4), 2 runs at each load"), "{screen}");
    assert!(screen.contains("* fewer than 10 samples lie beyond"), "p99 of a few requests: {screen}");
    assert_eq!(json["probes"][0]["few_samples"], serde_json::json!(["p99_ttft"]));
    let stored = fs::read_to_string(folder.path().join("outputs/mock/performance_summary.txt")).unwrap();
    assert!(stored.contains("Selected:") && stored.contains("Benchmarking summary:"), "{stored}");
    let page = fs::read_to_string(folder.path().join("outputs/mock/perf_report.html")).unwrap();
    assert!(page.contains("Search for parallel (1 to 4), 2 runs at each load"));
    assert!(page.contains("fails even at the lower bound, 1") && page.contains("p99_ttft (ms)"));
    let output = report(folder.path(), &["--html", "again.html", "--language", "zh"]);
    assert!(text(&output.stdout).contains(&search_summary(folder.path())), "{}", text(&output.stdout));
    let again = fs::read_to_string(folder.path().join("again.html")).unwrap();
    assert!(again.contains("搜索 parallel（1 至 4），每档测试 2 次") && again.contains("下限 1 处即不满足条件"));
}

#[test]
fn a_rate_is_searched_in_an_open_loop() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "--sla-auto-tune --sla-variable rate --rate 12.5 --sla-params avg_ttft<=30 --sla-upper-bound 20 \
                     --sla-num-runs 1 -n 8 --arrival constant";
    let output = perf(folder.path(), &arguments.split_whitespace().collect::<Vec<_>>());
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", text(&output.stderr));
    let found = runs(folder.path());
    assert!(found.contains(&"rate_12.5_number_8".to_string()), "{found:?}");
    let arguments = fs::read_to_string(folder.path().join("outputs/mock/rate_12.5_number_8/benchmark_args.json"));
    let arguments: Value = serde_json::from_str(&arguments.unwrap()).unwrap();
    assert_eq!((&arguments["open_loop"], &arguments["sla_variable"]), (&Value::Bool(true), &Value::from("rate")));
}

#[test]
fn a_search_without_a_selection_gives_exit_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), &["--sla-auto-tune", "--sla-params", "p99_ttft<=1ns", "--sla-num-runs", "1"]);
    assert!(matches!(output.status.code(), Some(1 | 3)), "{}", text(&output.stderr));
    let screen = text(&output.stdout);
    assert!(screen.contains("✗ No load that was tried has p99 TTFT at most"), "{screen}");
    assert!(
        screen.contains("fails even at the lower bound, 1") && screen.contains("In order: parallel 1 ✗"),
        "{screen}"
    );
    assert_eq!(summary(folder.path())["selections"][0]["status"], "none");
}

#[test]
fn a_quiet_search_prints_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let neither = "avg_ttft<=30,rps>=1000000";
    for (criteria, sign) in
        [("avg_ttft<=30", "✓ parallel 2: 2 users at mean TTFT"), (neither, "✗ No load that was tried has")]
    {
        let call =
            ["--sla-auto-tune", "--sla-num-runs", "1", "--sla-upper-bound", "2", "-n", "8", "--quiet", "--sla-params"];
        let output = perf(folder.path(), &[&call[..], &[criteria]].concat());
        let screen = text(&output.stdout);
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines[0].starts_with(sign), "{screen} {}", text(&output.stderr));
        // A long sentence is wrapped.
        assert!(lines.len() <= 3 && lines[lines.len() - 1].starts_with("Results: "), "{screen}");
        fs::remove_dir_all(folder.path().join("outputs")).unwrap();
    }
}

#[test]
fn an_interrupted_search_stores_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--sla-auto-tune", "--sla-params", "p99_ttft<=30", "--sla-num-runs", "1", "--duration", "1"];
    let child = command(folder.path(), &arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let second: PathBuf = folder.path().join("outputs/mock/parallel_2_duration_1s/benchmark_data.db");
    let start = Instant::now();
    while !second.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the second load never ran");
        thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let json = summary(folder.path());
    assert_eq!((&json["complete"], &json["probes"][0]["value"]), (&Value::Bool(false), &Value::from(1)));
    assert!(text(&output.stdout).contains("not decided: the best load so far"), "{}", text(&output.stdout));
    assert!(second.is_file() && folder.path().join("outputs/mock/perf_report.html").is_file());
    let screen = text(&report(folder.path(), &[]).stdout);
    assert!(
        screen.contains(&search_summary(folder.path())) && screen.contains("the next load is parallel"),
        "{screen}"
    );
}

#[test]
fn errors_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, what) in [
        ("--sla-auto-tune", "--sla-params is required with --sla-auto-tune"),
        ("--sla-params p99_ttft<=1", "--sla-params applies only to a search: add --sla-auto-tune"),
        ("--sla-auto-tune --sla-params p99<=1", "--sla-params 'p99' is not a known figure"),
        ("--sla-auto-tune --sla-params tps=max --sla-lower-bound 9 --sla-upper-bound 3", "there is no load to try"),
        ("--sla-auto-tune --sla-params tps=max --repeat 3", "--sla-num-runs"),
        ("--sla-auto-tune --sla-params tps=max --sla-variable sideways", "parallel, rate"),
    ] {
        let output = perf(folder.path(), &arguments.split_whitespace().collect::<Vec<_>>());
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(what), "{arguments}: {error}");
    }
    assert!(!folder.path().join("outputs").exists());
}

#[test]
fn repetitions_have_separate_folders_and_compare_combines_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["old", "new"] {
        let output = perf(folder.path(), &["--parallel", "1", "2", "-n", "4", "--repeat", "2", "--name", name]);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("Mean of the runs ±"), "{}", text(&output.stdout));
    }
    let side = |name: &str, parallel: u32| {
        let run = |run: u32| format!("outputs/{name}/parallel_{parallel}_number_4_run_{run}/benchmark_data.db");
        [run(1), run(2)]
    };
    let compare = |files: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
        command.current_dir(folder.path()).arg("compare").args(files).output().unwrap()
    };
    let output = compare(&[side("old", 2), side("new", 2)].concat());
    let screen = text(&output.stdout);
    assert!(screen.matches("Concurrency 2, 2 runs").count() == 2 && screen.contains("Welch"), "{screen}");
    assert!(!screen.contains("not known"), "{screen}");
    let output = compare(&["outputs/old".to_string()]);
    assert!(text(&output.stderr).contains("parallel 1 / 2"), "{}", text(&output.stderr));
    let output = compare(&side("old", 1));
    assert!(
        text(&output.stdout).contains("B against A"),
        "two runs of one load are compared: {}",
        text(&output.stdout)
    );
    let output = compare(&["outputs/old/parallel_1_number_4_run_1".to_string()]);
    assert!(text(&output.stderr).contains("only one run"), "{}", text(&output.stderr));
}

#[test]
fn a_search_accepts_failures_where_its_criteria_limit_them() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "--url mock:?ttft=2ms&itl=1ms&tokens=3&fault=status(429):1/30 --sla-auto-tune --sla-num-runs 1 \
                     --sla-upper-bound 2 --sla-number-multiplier 30 --sla-params";
    let criteria = "p90_ttft<=30s failed <= 10 % | max_itl<=30s";
    let arguments: Vec<&str> = arguments.split_whitespace().chain([criteria]).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .current_dir(folder.path())
        .args(["perf", "--no-timestamp", "--sleep-interval", "0", "--workers", "1", "--no-test-connection"])
        .args(arguments)
        .output()
        .unwrap();
    let screen = text(&output.stdout);
    let json = summary(folder.path());
    let failed = &json["probes"][0]["metric_values"]["failed"];
    assert!(failed.as_f64().is_some_and(|percent| percent > 3.0), "{json}");
    // A busy machine can make a run void.
    if json["probes"].as_array().unwrap().iter().all(|probe| probe["valid"] == true) {
        assert_eq!(json["selections"][0]["selected_value"], 2, "{screen}");
    }
    assert_eq!(json["selections"][1]["selected_value"], Value::Null, "all requests must succeed: {screen}");
    assert!(json["probes"][0]["metric_values"]["max_itl"].is_null() && screen.contains("∞: a failed"), "{screen}");
}
