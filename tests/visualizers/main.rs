//! `--visualizer` with stub SDKs: the data they receive, and slow, dying and hanging SDKs.
//! `tools/visualizers/run.sh` tests the real SDKs.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmark::finding::Finding;
use ringmark::log::Log;
use ringmark::plan::{Plan, Service};
use ringmark::spec::{LogLevel, RigFacts, Spec, resolve};
use ringmark::store::live::Snapshot;
use ringmark::visualizer::{Limits, Visualizer};
use serde_json::{Value as Json, json};

const FAST_MOCK: &str = "mock:?ttft=1ms&itl=0ms&tokens=2";

/// A folder with a `python3` that imports the stub SDKs, and with the calls that they have recorded.
struct Stage {
    folder: tempfile::TempDir,
    python: PathBuf,
}

impl Stage {
    fn new(behavior: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let sdks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/visualizers/sdks");
        let notes = folder.path().join("notes.jsonl");
        let script = format!(
            "#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{}' STUB_NOTES='{}' WANDB_STUB={behavior} exec python3 \"$@\"\n",
            sdks.display(),
            notes.display()
        );
        Stage { python: program(folder.path(), &script), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ringmark(&self, line: &str) -> Output {
        let python = self.python.display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
        command.args(["perf", "--url", FAST_MOCK, "--no-timestamp", "--sleep-interval", "0", "--python", &python]);
        command.args(["--name", "my: run", "--outputs-dir"]).arg(self.path("out")).args(line.split_whitespace());
        for name in
            ["WANDB_PROJECT", "WANDB_API_KEY", "WANDB_DIR", "SWANLAB_MODE", "SWANLAB_LOG_DIR", "SWANLAB_API_KEY"]
        {
            command.env_remove(name);
        }
        command.env("SWANLAB_PROJ_NAME", "theirs").output().expect("the binary was built for this test")
    }

    fn notes(&self, what: &str) -> Vec<Json> {
        let text = fs::read_to_string(self.path("notes.jsonl")).unwrap_or_default();
        let notes = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        notes.filter(|note| note["what"] == what).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("out/my_ run/benchmark.log")).unwrap()
    }
}

fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("python3");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn all_files(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, each) } else { each(&path) }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// A busy machine can make the figures void.
fn assert_measured(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", text(output));
}

#[test]
fn each_load_of_a_sweep_is_a_separate_series() {
    let stage = Stage::new("behaves");
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let output = stage.ringmark(&format!(
        "--cores {} --parallel 1 2 --number 20 35 --log-every-n-query 10 --wandb-api-key hidden-one --api-key hidden-two",
        cores[0]
    ));
    assert_measured(&output);
    let init = &stage.notes("init")[0];
    assert_eq!((&init["options"]["project"], &init["options"]["name"]), (&json!("perf_benchmark"), &json!("my: run")));
    assert_eq!(init["key"], "hidden-one");
    assert!(!init["arguments"].as_str().unwrap().contains("hidden"), "a key on a command line");
    assert!(cores.len() == 1 || !init["cores"].as_array().unwrap().contains(&json!(cores[0])), "on a worker's core");
    let config = &init["options"]["config"];
    assert_eq!((&config["parallel"], &config["number"]), (&json!([1, 2]), &json!([20, 35])));
    assert_eq!((&config["api_key"], &config["wandb_api_key"]), (&json!("****"), &json!("****")));
    let steps_of = |series: &str| -> Vec<u64> {
        let name = format!("{series}/requests");
        stage.notes("log").iter().filter_map(|note| note["values"][&name].as_u64()).collect()
    };
    assert_eq!(steps_of("parallel_1_number_20"), [10, 20]);
    assert_eq!(steps_of("parallel_2_number_35"), [10, 20, 30, 35]);
    let defined = json!({"what": "define_metric", "name": "parallel_2_number_35/*", "step_metric": "parallel_2_number_35/requests"});
    assert!(stage.notes("define_metric").contains(&defined));
    let last = stage.notes("log").into_iter().rfind(|note| note["values"]["parallel_2_number_35/ok"] == 35);
    let last = last.expect("the last point of the second load");
    assert!(last["values"]["parallel_2_number_35/ttft_p99_s"].as_f64().unwrap() >= 0.001);
    check_tables(&stage);
    check_no_key_is_stored(&stage);
}

fn check_tables(stage: &Stage) {
    let tables: Vec<Json> = stage.notes("log").into_iter().map(|note| note["values"].clone()).collect();
    let table = |name: &str| tables.iter().find_map(|values| values.get(name)).unwrap_or_else(|| panic!("no {name}"));
    let summary = table("tables/summary");
    assert_eq!(summary["data"][1][0], "parallel_2_number_35");
    assert!(summary["columns"].as_array().unwrap().contains(&json!("Succeed requests")));
    assert_eq!(table("tables/percentiles_parallel_1_number_20")["data"][0][0], "10%");
    let finish = &stage.notes("finish")[0];
    assert_eq!(
        (&finish["exit_code"], &finish["summary"]["parallel_1_number_20/Succeed requests"]),
        (&json!(0), &json!(20))
    );
}

fn check_no_key_is_stored(stage: &Stage) {
    all_files(&stage.path("out"), &mut |path| {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).to_string();
        assert!(!text.contains("hidden-"), "a key in {}", path.display());
    });
    assert!(stage.log().contains("wandb: the key is ****"), "the output of the SDK is not in the log");
}

#[test]
fn figures_of_a_single_run_have_no_load_prefix() {
    let stage = Stage::new("behaves");
    let output = stage.ringmark("--number 25 --log-every-n-query 0 --swanlab-api-key local");
    assert_measured(&output);
    let wanted = &stage.notes("init")[0]["options"];
    assert_eq!(
        (&wanted["mode"], &wanted["project"], &wanted["name"]),
        (&json!("local"), &json!("theirs"), &json!("my: run"))
    );
    assert!(wanted["log_dir"].as_str().unwrap().ends_with("my_ run/swanlog"));
    let points: Vec<Json> = stage.notes("log").into_iter().filter(|note| note["values"].get("ok").is_some()).collect();
    assert_eq!(points.len(), 1);
    assert_eq!((&points[0]["step"], &points[0]["values"]["ok"]), (&json!(25), &json!(25)));
    assert_eq!(stage.notes("results")[0]["values"]["results/Succeed requests"], 25);
    assert_eq!(stage.notes("finish").len(), 1);
}

#[test]
fn slow_sdks_get_fewer_points_and_all_results() {
    let stage = Stage::new("is_slow");
    let output = stage.ringmark("--number 600 --parallel 4 --log-every-n-query 1 --visualizer wandb --quiet");
    assert_measured(&output);
    let points = stage.notes("log").iter().filter(|note| note["values"].get("ok").is_some()).count();
    assert!((2..600).contains(&points), "{points}");
    assert!(stage.log().contains("points of the curves did not reach wandb"), "{}", stage.log());
    let finish = &stage.notes("finish")[0];
    assert_eq!((&finish["exit_code"], &finish["summary"]["Succeed requests"]), (&json!(0), &json!(600)));
    let last = stage.notes("log").pop().unwrap();
    assert_eq!(last["values"]["tables/summary"]["data"][0][0], "parallel_4_number_600");
}

#[test]
fn dying_sdks_do_not_affect_requests() {
    let stage = Stage::new("dies");
    let output = stage.ringmark("--number 300 --parallel 4 --log-every-n-query 1 --visualizer wandb");
    assert_measured(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Succeed requests"));
    let log = stage.log();
    assert!(log.contains("Caution: wandb may lack figures") && log.contains("exit status: 7"), "{log}");
    assert_eq!(stage.notes("log").len(), 2);
}

#[test]
fn missing_sdks_are_reported_in_one_line_with_what_to_install() {
    let stage = Stage::new("behaves");
    program(stage.folder.path(), "#!/bin/sh\nexec python3 -I -S \"$@\"\n");
    for service in ["wandb", "swanlab", "clearml"] {
        let output = stage.ringmark(&format!("--number 2 --visualizer {service} --quiet"));
        let error = text(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.lines().count() == 1 && error.contains(&format!("-m pip install {service}")), "{error}");
    }
    program(stage.folder.path(), "#!/bin/sh\necho 'no such luck' >&2\nexit 3\n");
    let error = text(&stage.ringmark("--number 2 --visualizer wandb --quiet"));
    assert!(error.contains("exited before it was ready: no such luck"), "{error}");
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn hanging_sdks_do_not_block() {
    let stage = Stage::new("sleeps");
    let spec = Spec::default().with(|s| {
        s.target.url = Some(FAST_MOCK.to_string());
        s.output.visualizer = Some(Service::Wandb);
        s.target.local.python = Some(stage.python.clone());
        s.output.outputs_dir = stage.path("out");
    });
    let facts = RigFacts { allowed_cores: vec![0, 1], started: "20260101_000000".to_string(), ..RigFacts::default() };
    let plans: Vec<Plan> = resolve(&spec, &facts).unwrap();
    let buffer = Buffer::default();
    let log = Log::new(Timestamp::now, TimeZone::UTC, Vec::new());
    log.add(LogLevel::Info, Box::new(buffer.clone()));
    let limits = Limits { start: Duration::from_secs(120), finish: Duration::from_millis(300) };
    let visual = plans[0].report.visualizer.as_ref().unwrap();
    let visualizer = Visualizer::start(visual, &plans, true, "{}", limits, &Arc::new(log), &AtomicU8::new(0)).unwrap();
    let series = visualizer.feed().series(&plans[0]);
    // If adding a data point blocked, each would take an hour.
    for done in 1..=1000 {
        series.figures(&Snapshot { done, ..Snapshot::default() });
    }
    let note = visualizer.feed().note().unwrap();
    assert!(matches!(note, Finding::VisualizerLost { points: 900..1000, .. }), "{note:?}");
    visualizer.finish(true);
    let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("Caution: wandb may lack figures of this call: its helper did not exit within 0.3 s"),
        "{log}"
    );
}
