//! Result files: what a rejected call leaves alone, calls that start at the same time, full disks, closed streams, and
//! databases that were copied or cannot be written to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringmark::store::Reader;

const QUICK: &str = "mock:?ttft=1ms&itl=1ms&tokens=3";

fn ringmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A call of `perf` whose results go into `folder`.
fn perf(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ringmark(&["perf", "--outputs-dir"]);
    command.arg(folder).args(arguments);
    command
}

/// The same in a shell, after `setup`, with `redirections`.
fn perf_in_shell(setup: &str, folder: &Path, arguments: &str, redirections: &str) -> Output {
    let call = format!(
        "{setup} exec {} perf --no-timestamp --outputs-dir {} {arguments} {redirections}",
        env!("CARGO_BIN_EXE_ringmark"),
        folder.display()
    );
    Command::new("bash").args(["-c", &call]).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// Whether a call has measured. Status 3 is accepted, because a busy machine can make the figures void.
fn has_measured(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 3))
}

/// Every file below `folder` with its content; links with where they point to.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.extend(contents(&path));
        } else if kind.is_symlink() {
            all.insert(path.clone(), fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn a_rejected_call_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let call = |more: &[&str]| {
        let arguments = [&["--no-timestamp", "--url", QUICK, "--number", "4", "--name", "run"], more].concat();
        perf(folder.path(), &arguments).output().unwrap()
    };
    assert!(has_measured(&call(&[])));
    let before = contents(folder.path());
    let closed = "http://127.0.0.1:1/v1/chat/completions";
    for rejected in [
        &[][..],
        &["--temperature", "0.5"],
        // Of a sweep, the last run exists.
        &["--parallel", "2", "1", "--number", "4", "4"],
        &["--parallel", "3", "--prompt", "@no/such/file"],
        &["--parallel", "3", "--dataset", "nothing"],
        &["--parallel", "2000000"],
        &["--parallel", "2", "2000000", "--number", "4", "4"],
        &["--parallel", "3", "--url", closed, "--model", "m", "--ready-timeout", "0"],
        &["--parallel", "3", "--url", closed, "--ready-timeout", "0"],
    ] {
        let output = call(rejected);
        assert_eq!(output.status.code(), Some(2), "{rejected:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{}", stdout(&output));
        assert_eq!(contents(folder.path()), before, "{rejected:?}: {}", stderr(&output));
    }
    // With the time in the path as well: nothing is left.
    let outputs = folder.path().join("other").join("outputs");
    let output = perf(&outputs, &["--url", closed, "--model", "m", "--ready-timeout", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(!folder.path().join("other").exists());
}

#[test]
fn nothing_is_written_through_symbolic_links() {
    for planted in [
        "run",
        "run/benchmark.log",
        "run/performance_summary.txt",
        "run/perf_report.html",
        "run/parallel_1_number_4",
        "run/parallel_1_number_4/benchmark_args.json",
        "run/parallel_1_number_4/benchmark_summary.json",
        "run/parallel_1_number_4/benchmark_data.db",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (outputs, victim) = (folder.path().join("outputs"), folder.path().join("victim"));
        fs::create_dir_all(&victim).unwrap();
        fs::write(victim.join("file"), "keep").unwrap();
        let link = outputs.join(planted);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let is_folder = !planted.contains('.');
        symlink(if is_folder { victim.clone() } else { victim.join("file") }, &link).unwrap();
        let before = contents(folder.path());
        for sweep in [&["--number", "4"][..], &["--number", "4", "--repeat", "2"]] {
            let arguments = [&["--no-timestamp", "--url", QUICK, "--name", "run"], sweep].concat();
            let repeats = sweep.len() > 2;
            if repeats && planted.contains("parallel") {
                continue;
            }
            let output = perf(&outputs, &arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{planted}: {}", stderr(&output));
            let text = stderr(&output);
            assert!(text.contains("symbolic link") || text.contains("already exists"), "{planted}: {text}");
            assert_eq!(contents(folder.path()), before, "{planted}");
        }
    }
}

#[test]
fn calls_of_one_second_get_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let call = |number: usize| {
        let number = number.to_string();
        perf(folder.path(), &["--url", QUICK, "--number", "2", "--log-every-n-query", &number, "--name", "x"])
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (1..=16).map(call).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(has_measured(&output), "{}", stderr(&output));
    }
    let mut numbers = Vec::new();
    // Without the link to the latest folder.
    let folders = fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.file_name() != "latest");
    for entry in folders {
        let run = entry.path().join("x").join("parallel_1_number_2");
        let arguments: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join("benchmark_args.json")).unwrap()).unwrap();
        numbers.push(arguments["log_every_n_query"].as_u64().unwrap());
        // The arguments beside a database are those in it.
        let stored = Reader::open(&run.join("benchmark_data.db")).unwrap().run().unwrap().arguments_json;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), arguments);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<u64>>());
}

/// Of calls that want one folder, one measures, and the others are rejected.
#[test]
fn calls_into_one_folder_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let call = |number: usize| {
        let number = number.to_string();
        let arguments = ["--no-timestamp", "--url", QUICK, "--number", "2", "--log-every-n-query", &number];
        perf(folder.path(), &arguments).spawn().unwrap()
    };
    let children: Vec<_> = (1..=8).map(call).collect();
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let winners: Vec<usize> = (0..outputs.len()).filter(|number| has_measured(&outputs[*number])).collect();
    assert_eq!(winners.len(), 1, "{:?}", outputs.iter().map(stderr).collect::<Vec<_>>());
    assert!(outputs.iter().all(|output| has_measured(output) || stderr(output).contains("already exists")));
    let arguments = fs::read(folder.path().join("mock/parallel_1_number_2/benchmark_args.json")).unwrap();
    let arguments: serde_json::Value = serde_json::from_slice(&arguments).unwrap();
    assert_eq!(arguments["log_every_n_query"].as_u64(), Some(winners[0] as u64 + 1));
}

#[test]
fn a_full_standard_output_is_an_error_and_the_files_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = perf_in_shell("", folder.path(), &format!("--url '{QUICK}' --number 4"), ">/dev/full");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot write to standard output") && !text.contains("panicked"), "{text}");
    let run = folder.path().join("mock/parallel_1_number_4");
    serde_json::from_slice::<serde_json::Value>(&fs::read(run.join("benchmark_summary.json")).unwrap()).unwrap();
    for arguments in ["--help", "rig --no-roofline", "mock --port 0"] {
        let call = format!("exec {} {arguments} >/dev/full", env!("CARGO_BIN_EXE_ringmark"));
        let output = Command::new("bash").args(["-c", &call]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot write to standard output"), "{arguments}: {}", stderr(&output));
    }
}

#[test]
fn a_closed_or_full_standard_error_ends_nothing() {
    for redirection in ["2>&-", "2>/dev/full", ">&- 2>&-"] {
        let folder = tempfile::tempdir().unwrap();
        let output = perf_in_shell("", folder.path(), &format!("--url '{QUICK}' --number 4"), redirection);
        assert!(has_measured(&output), "{redirection}: {}", stdout(&output));
        assert!(folder.path().join("mock/parallel_1_number_4/benchmark_summary.json").is_file());
        let output = perf_in_shell("", folder.path(), "--url nonsense", redirection);
        assert_eq!(output.status.code(), Some(2), "{redirection}");
    }
}

/// The limit on file sizes stands for a disk that is full before, during, or after the run.
#[test]
fn a_full_disk_hides_no_figures_and_leaves_no_empty_file() {
    let mut shown = 0;
    for kilobytes in [8, 200, 400, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = format!("--url '{QUICK}' --number 400 --parallel 8");
        let output = perf_in_shell(&format!("ulimit -f {kilobytes};"), folder.path(), &arguments, "");
        let text = stderr(&output);
        assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{kilobytes}: {:?} {text}", output.status);
        assert!(!text.contains("panicked"), "{kilobytes}: {text}");
        if output.status.code() == Some(2) {
            assert!(text.contains("error: cannot ") || text.contains("database"), "{kilobytes}: {text}");
        }
        if stdout(&output).is_empty() {
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{kilobytes}: {text}");
        }
        if stdout(&output).contains("Percentile results:") {
            shown += 1;
            if output.status.code() == Some(2) {
                assert!(text.contains("ringmark report"), "{text}");
            }
        }
        for (path, content) in contents(folder.path()) {
            let extension = path.extension().unwrap_or_default();
            if extension == "json" {
                serde_json::from_slice::<serde_json::Value>(&content).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            }
            assert!(extension != "new", "{path:?} is left");
            assert!(!content.is_empty() || path.is_dir(), "{path:?} is empty");
        }
    }
    assert!(shown >= 1, "no limit let the run get to its tables");
}

/// Folders in the place of two files stand for a disk that is full only while these are written.
#[test]
fn each_file_is_written_even_if_another_one_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("runs.csv");
    let slow = "mock:?ttft=100ms&itl=1ms&tokens=3";
    let arguments = ["--no-timestamp", "--url", slow, "--number", "20", "--csv", csv.to_str().unwrap()];
    let child = perf(folder.path(), &arguments).spawn().unwrap();
    let call = folder.path().join("mock");
    let run = call.join("parallel_1_number_20");
    let began = Instant::now();
    while !run.join("benchmark_data.db").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "the run does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    for blocked in [call.join("performance_summary.txt"), run.join("benchmark_summary.json")] {
        fs::create_dir(blocked).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("performance_summary.txt") && stdout(&output).contains("Percentile results:"), "{text}");
    for written in [run.join("benchmark_percentile.json"), call.join("perf_report.html"), csv] {
        assert!(written.is_file(), "{written:?}: {text}");
    }
    let log = fs::read_to_string(call.join("benchmark.log")).unwrap();
    assert!(log.contains("Percentile results:"), "{log}");
}

#[test]
fn a_folder_of_results_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--no-timestamp", "--url", QUICK, "--parallel", "1", "2", "--number", "2", "2"];
    assert!(has_measured(&perf(folder.path(), &arguments).output().unwrap()));
    let call = folder.path().join("mock");
    let report = |path: &Path| ringmark(&["report", path.to_str().unwrap()]).output().unwrap();
    let all = report(&call);
    for name in ["parallel_1_number_2", "parallel_2_number_2"] {
        let database = call.join(name).join("benchmark_data.db");
        assert!(stdout(&all).contains(database.to_str().unwrap()), "{}", stdout(&all) + &stderr(&all));
        let (of_run, of_file) = (report(&call.join(name)), report(&database));
        assert!(has_measured(&of_run) && stdout(&of_run) == stdout(&of_file), "{}", stderr(&of_run));
    }
    // Each call starts the built-in server on another port.
    let again = ["--no-timestamp", "--name", "again", "--url", QUICK, "--number", "2"];
    let other = ["--no-timestamp", "--name", "other", "--url", "mock:?ttft=2ms", "--number", "2"];
    for arguments in [&again[..], &other] {
        assert!(has_measured(&perf(folder.path(), arguments).output().unwrap()));
    }
    let both = |one: &str, other: &str| {
        let paths = [one, other].map(|name| folder.path().join(name).to_str().unwrap().to_string());
        ringmark(&["report", &paths[0], &paths[1]]).output().unwrap()
    };
    let calls = both("mock", "again");
    assert!(has_measured(&calls) && stdout(&calls).contains("Performance report: mock"), "{}", stderr(&calls));
    let others = stderr(&both("again", "other"));
    assert!(others.contains(&format!("url {QUICK} / mock:?ttft=2ms")), "{others}");
    let empty = tempfile::tempdir().unwrap();
    let none = report(empty.path());
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("contains no run"), "{}", stderr(&none));
}

/// A run in progress, its database, and the process.
fn killed_run(folder: &Path) -> PathBuf {
    let endless = ["--no-timestamp", "--url", "mock:?ttft=5ms&itl=1ms&tokens=5", "--number", "1000000"];
    let mut child = perf(folder, &endless).spawn().unwrap();
    let path = folder.join("mock/parallel_1_number_1000000/benchmark_data.db");
    let began = Instant::now();
    let rows = || {
        let mut rows = 0;
        let count = |block: &ringmark::record::Block| rows += block.records.len();
        let reader = Reader::open(&path).ok()?;
        reader.each_block(ringmark::record::Phase::Measured, ringmark::store::reader::Detail::Figures, count).ok()?;
        Some(rows)
    };
    while rows().is_none_or(|rows| rows < 20) {
        assert!(began.elapsed() < Duration::from_secs(30), "no rows");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    path
}

#[test]
fn the_database_of_a_killed_run_opens_without_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = killed_run(folder.path());
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    let run = Reader::open(&copy).unwrap().run().unwrap();
    assert_eq!(run.facts.requests, Some(1_000_000));
    let output = ringmark(&["report"]).arg(&copy).output().unwrap();
    assert!(has_measured(&output), "{}", stderr(&output));
    assert!(stdout(&output).contains("killed"), "{}", stdout(&output));
}

/// Permissions do not apply to root, so root becomes another user for the call.
fn report_without_rights(path: &Path) -> Output {
    let mut command = ringmark(&["report"]);
    command.arg(path);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

#[test]
fn a_database_in_a_read_only_folder_opens() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let killed = killed_run(folder.path());
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    // One that is complete without its write-ahead log, but still in that mode.
    let alone = place.join("alone.db");
    fs::copy(&killed, &alone).unwrap();
    // One whose rows are in the log: they must not be left out in silence.
    let split = place.join("split.db");
    fs::copy(&killed, &split).unwrap();
    fs::copy(killed.with_extension("db-wal"), place.join("split.db-wal")).unwrap();
    for file in fs::read_dir(&place).unwrap().flatten() {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(&place, fs::Permissions::from_mode(0o555)).unwrap();
    let (alone, split) = (report_without_rights(&alone), report_without_rights(&split));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(has_measured(&alone), "{}", stderr(&alone));
    assert!(stdout(&alone).contains("Benchmarking summary:"), "{}", stdout(&alone));
    assert_eq!(split.status.code(), Some(2), "{}", stdout(&split));
    assert!(stderr(&split).contains("-wal") && stderr(&split).contains("copy"), "{}", stderr(&split));
}
