//! `--debug`: requests and responses are logged during the run, without secrets.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn perf(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--no-timestamp", "--debug", "--quiet", "--outputs-dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("mock/benchmark.log")).unwrap_or_default()
}

#[test]
fn events_before_a_hang_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let url = "mock:?ttft=5ms&itl=1ms&tokens=6&fault=hang";
    let mut child = perf(folder.path(), &["--url", url, "--no-test-connection", "-n", "1", "--read-timeout", "100"]);
    let start = Instant::now();
    while log(folder.path()).matches("request 0 received: data: ").count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", log(folder.path()));
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = log(folder.path());
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(place("the plan: mock to http://") < place("request 0 sent: {"));
    assert!(place("request 0 sent: {") < place("request 0 got status 200"));
    assert!(!log.contains("request 0 ended"), "{log}");
}

#[test]
fn lines_have_the_time_of_the_event_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let secret = r#"{"api_key":"hidden-1"}"#;
    let arguments =
        ["--url", "mock:?ttft=1ms&itl=20ms&tokens=3", "-n", "1", "--extra-args", secret, "--api-key", "hidden-2"];
    let status = perf(folder.path(), &arguments).wait().unwrap();
    // A busy machine can make the figures void.
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    let log = log(folder.path());
    assert!(!log.contains("hidden") && log.contains(r#""api_key":"****""#), "{log}");
    let instants: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" request 0 received: data: {"))
        .filter_map(|line| line.split(" - DEBUG - ").nth(1)?.split(' ').next())
        .collect();
    assert!(instants.len() >= 3 && instants.iter().all(|at| at.len() == "12:34:56.123456".len()), "{log}");
    // The tokens arrive 20 ms apart. Equal times would mean that they were logged at the end.
    assert!(instants.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 2, "{instants:?}");
    let end = log.find("request 0 ended: status 200, ok").expect("the end is logged");
    assert!(log.rfind("request 0 received").is_some_and(|last| last < end), "{log}");
    for file in walk(folder.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hidden-"), "{}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
