//! `ringmark rig --calibrate`, and the use of calibrations in runs.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn ringmark(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .expect("the binary was built for this test")
}

/// The output of a successful call.
fn stdout_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // On a busy machine, the result may be invalid (status 3).
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The error message of an invalid call.
fn usage_error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("error: "), "{text}");
    text
}

const RUN: &str = "perf --url mock:?ttft=5ms&itl=5ms&tokens=10 --parallel 4 --no-timestamp --outputs-dir out --quiet";

/// Runs a load. Returns the measurement error and the findings from its summary.
fn measurement_error(folder: &Path, name: &str, more: &str) -> (Value, String) {
    stdout_of(&ringmark(folder, &format!("{RUN} -n 40 --name {name} {more}")));
    let path = folder.join("out").join(name).join("parallel_4_number_40/benchmark_summary.json");
    let summary: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (summary["Own error"].clone(), summary["Findings"].to_string())
}

#[test]
fn runs_use_fitting_calibrations_and_explain_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(measurement_error(folder, "bare", "").0["Stamp error from"], "default");

    let calibrate = "rig --calibrate --parallel 6 --ttft 5ms --itl 5ms --tokens 10 --event-bytes 300 --duration 0.5";
    let text = stdout_of(&ringmark(folder, calibrate));
    assert!(text.contains("Timestamp after the send") && text.contains("Stored in:"), "{text}");
    let file = folder.join("cache/ringmark/calibrations.json");
    let all: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let stamp = &all[0]["stamp_error"];
    assert!(stamp["count"].as_u64().unwrap() > 50 && all[0]["sustained_events_per_s"].is_number(), "{all:#}");
    assert_eq!((&all[0]["load"]["parallel"], &all[0]["load"]["event_bytes"]), (&6.into(), &300.into()));

    // On a busy machine, the calibrated event rate may be lower than that of the run, so it is replaced.
    let write_calibration = |all: &Value, cores: u64| {
        let mut all = all.clone();
        all[0]["events_per_s"] = 1e6.into();
        all[0]["machine"]["cores"] = cores.into();
        std::fs::write(&file, all.to_string()).unwrap();
    };
    let cores = all[0]["machine"]["cores"].as_u64().unwrap();
    write_calibration(&all, cores);
    let (error, _) = measurement_error(folder, "fits", "");
    assert_eq!((&error["Stamp error from"], &error["Stamp error (ns)"]), (&"calibration".into(), &stamp["p999"]));
    assert_eq!(measurement_error(folder, "without", "--calibration none").0["Stamp error from"], "default");
    let again = stdout_of(&ringmark(folder, "report out/fits/parallel_4_number_40/benchmark_data.db"));
    assert!(again.contains("calibrated on this machine"), "{again}");

    let (error, findings) = measurement_error(folder, "heavier", "--rate 5000 --parallel 4");
    assert_eq!(error["Stamp error from"], "calibration", "a rate is compared only with a calibrated rate: {findings}");
    stdout_of(&ringmark(folder, &format!("{RUN} -n 40 --name more --parallel 20")));
    let more = std::fs::read(folder.join("out/more/parallel_20_number_40/benchmark_summary.json")).unwrap();
    let more: Value = serde_json::from_slice(&more).unwrap();
    assert!(more["Findings"].to_string().contains("--parallel 6, this run had 20"), "{:#}", more["Findings"]);
    assert_eq!(more["Own error"]["Stamp error from"], "default");

    write_calibration(&all, cores + 1);
    let (error, findings) = measurement_error(folder, "stranger", "");
    assert!(error["Stamp error from"] == "default" && findings.contains("another machine"), "{findings}");
}

#[test]
fn load_of_a_stored_run_is_calibrated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    stdout_of(&ringmark(folder, &format!("{RUN} -n 40 --name run")));
    let line =
        "rig --calibrate --for out/run/parallel_4_number_40/benchmark_data.db --duration 0.3 --json --out c.json";
    let found: Value = serde_json::from_str(&stdout_of(&ringmark(folder, line))).unwrap();
    let load = &found["calibration"]["load"];
    assert_eq!((&load["parallel"], &load["tokens"]), (&4.into(), &10.into()));
    assert!((3_000_000..60_000_000).contains(&load["itl_ns"].as_u64().unwrap()), "{load:#}");
    assert!((100..400).contains(&load["event_bytes"].as_u64().unwrap()), "{load:#}");
    assert!(folder.join("c.json").exists() && !folder.join("cache").exists());
}

#[test]
fn invalid_calls_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("bad.json"), "nothing").unwrap();
    for (line, words) in [
        ("rig --parallel 3", "--calibrate"),
        ("rig --calibrate --for nowhere.db", "--for"),
        ("rig --calibrate --out bad.json", "bad.json holds no calibrations"),
        ("rig --calibrate --rate -1", "--rate must be above 0"),
        ("perf --url mock: --calibration nowhere.json", "the file has no calibration"),
        ("perf --url mock: --calibration bad.json", "bad.json holds no calibrations"),
    ] {
        let text = usage_error(&ringmark(folder, line));
        assert!(text.contains(words), "{line}: {text}");
    }
}
