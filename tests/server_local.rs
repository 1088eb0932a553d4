//! Local servers, tested with a program named `vllm` that is a script around the mock, so that nothing has to be
//! installed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An environment with stub programs `python` and `vllm`.
struct Stage {
    folder: tempfile::TempDir,
    port: u16,
}

/// Called as `vllm serve MODEL --host HOST --port PORT`. Starts two children, one of which leaves the process group, and
/// then a server.
const SERVES: &str = "sleep 1000 & echo $! >>pids\nsetsid sleep 1000 & sleep 0.2\nps -o pid= --ppid $$ >>pids\n\
    echo $$ >>pids\necho loading\nexec \"$RINGMARK\" mock --port \"$6\"\n";

impl Stage {
    fn new(script: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("python", ""), ("vllm", script)] {
            let path = folder.path().join(name);
            let home = folder.path().display();
            std::fs::write(&path, format!("#!/bin/sh\ncd {home}\n{text}")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Stage { folder, port }
    }

    fn perf(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
        command.args([
            "perf",
            "--verbose",
            "--api",
            "local_vllm",
            "--model",
            "m",
            "--no-timestamp",
            "--name",
            "run",
            "--python",
        ]);
        command.arg(self.folder.path().join("python")).args(["--port", &self.port.to_string(), "--outputs-dir"]);
        command.arg(self.folder.path().join("out")).args(more).env("RINGMARK", env!("CARGO_BIN_EXE_ringmark"));
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.perf(more).output().unwrap()
    }

    fn spawn(&self, more: &[&str]) -> Child {
        self.perf(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The processes that the script has recorded.
    fn pids(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.file("pids")).unwrap_or_default();
        let mut pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn assert_all_gone(&self, at_least: usize) {
        let pids = self.pids();
        assert!(pids.len() >= at_least, "{pids:?}");
        let left: Vec<u32> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

/// Whether a process runs. A zombie counts as ended.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn contains(path: &Path, what: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(what))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn server_is_started_measured_and_stopped_with_its_children() {
    let stage = Stage::new(SERVES);
    let output = stage.run(&["-n", "5", "--max-tokens", "3"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    // A busy machine can make the figures void.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{out}{err}");
    assert!(err.contains("local_vllm is ready after"), "{err}");
    // Its metrics are scraped without being asked for.
    assert!(out.contains("Server metrics (vLLM"), "{out}");
    assert!(out.contains("Cores busy on average"), "{out}");
    let summary = std::fs::read(stage.file("out/run/parallel_1_number_5/benchmark_summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    assert!(summary["server_use"]["peak_rss_bytes"].as_f64().unwrap() > 1e6, "{summary:#}");
    assert!(contains(&stage.file("out/run/server.log"), "loading"));
    stage.assert_all_gone(3);
    assert!(TcpListener::bind(("127.0.0.1", stage.port)).is_ok(), "the port is still in use");
}

#[test]
fn server_that_dies_while_starting_is_reported_with_its_output() {
    let stage = Stage::new("sleep 1000 & echo $! >pids\necho CUDA out of memory >&2\nexit 3\n");
    let output = stage.run(&["-n", "5"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("local_vllm died while starting") && err.contains("CUDA out of memory"), "{err}");
    stage.assert_all_gone(1);
}

#[test]
fn interrupt_while_starting_leaves_no_processes() {
    let stage = Stage::new("sleep 1000 & echo $! >pids\necho $$ >>pids\nsleep 1000\n");
    let child = stage.spawn(&["-n", "5"]);
    wait_for("the start", || stage.pids().len() == 2);
    signal(child.id(), "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    stage.assert_all_gone(2);
}

#[test]
fn terminated_run_stops_its_server() {
    for name in ["-TERM", "-HUP"] {
        let stage = Stage::new(SERVES);
        let child = stage.spawn(&["-n", "100000", "--max-tokens", "3"]);
        wait_for("the run", || stage.file("out/run/parallel_1_number_100000/benchmark_data.db").exists());
        signal(child.id(), name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("Benchmarking summary"));
        stage.assert_all_gone(3);
    }
}

#[test]
fn two_signals_leave_no_processes() {
    let stage = Stage::new(SERVES);
    let child = stage.spawn(&["-n", "100000", "--max-tokens", "3"]);
    wait_for("the run", || stage.file("out/run/parallel_1_number_100000/benchmark_data.db").exists());
    signal(child.id(), "-INT");
    signal(child.id(), "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    stage.assert_all_gone(3);
}

#[test]
fn server_killed_during_the_run_gives_classified_failures_and_a_report() {
    let stage = Stage::new(SERVES);
    let child = stage.spawn(&["-n", "60", "--max-tokens", "3"]);
    wait_for("the run", || stage.file("out/run/parallel_1_number_60/benchmark_data.db").exists());
    std::thread::sleep(Duration::from_millis(300));
    let leader =
        *stage.pids().iter().find(|pid| contains(&PathBuf::from(format!("/proc/{pid}/comm")), "ringmark")).unwrap();
    signal(leader, "-KILL");
    let output = child.wait_with_output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Failures:") && words.contains("The server process ended"), "{out}{err}");
    assert!(words.contains("s after the start of the measurement"), "{out}");
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    assert!(err.contains("local_vllm died (signal: 9"), "{err}");
    stage.assert_all_gone(3);
}

#[test]
fn port_in_use_is_reported_before_the_start() {
    let stage = Stage::new(SERVES);
    let _taken = TcpListener::bind(("127.0.0.1", stage.port)).unwrap();
    let output = stage.run(&["-n", "5"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("is in use: give another with --port"), "{err}");
    assert!(stage.pids().is_empty());
}
