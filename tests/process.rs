//! The binary as a process: signals, SIGKILL during a run, exit statuses, and output files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringmark::record::{Outcome, Phase};
use ringmark::store::Reader;
use ringmark::store::reader::Detail;
use rustix::process::{Pid, Signal, kill_process};

fn ringmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A call of `perf` whose results go into `folder`, without the time in their path.
fn perf(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ringmark(&["perf", "--no-timestamp", "--outputs-dir"]);
    command.arg(folder).args(arguments);
    command
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// Waits until `found` returns a value, at most 30 s.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "timeout while waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn database(folder: &Path) -> Option<PathBuf> {
    let run = fs::read_dir(folder.join("mock")).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_dir())?;
    Some(run.join("benchmark_data.db")).filter(|path| path.is_file())
}

fn rows(database: &Path) -> Option<u64> {
    let mut rows = 0;
    let count = |block: &ringmark::record::Block| {
        rows += block.records.iter().filter(|record| record.outcome == Outcome::Ok).count() as u64;
    };
    Reader::open(database).ok()?.each_block(Phase::Measured, Detail::Figures, count).ok()?;
    Some(rows)
}

const ENDLESS: [&str; 6] = ["--url", "mock:?ttft=5ms&itl=1ms&tokens=5", "--number", "10000000", "--parallel", "4"];

#[test]
fn a_killed_run_keeps_its_committed_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = perf(folder.path(), &ENDLESS).spawn().unwrap();
    let path = wait_for("the database", || database(folder.path()));
    wait_for("rows", || rows(&path).filter(|&rows| rows >= 50));
    child.kill().unwrap();
    child.wait().unwrap();

    let left = rows(&path).expect("the database opens");
    assert!(left >= 50, "{left}");
    let reader = Reader::open(&path).unwrap();
    assert!(reader.run().unwrap().end.is_none(), "a killed run has no end record");
    drop(reader);
    let report = ringmark(&["report"]).arg(&path).output().unwrap();
    let text = stdout(&report);
    assert!(
        text.contains("Benchmarking summary:") && text.contains("Percentile results:"),
        "{text}{}",
        stderr(&report)
    );
    assert!(text.contains("killed") && text.contains("Unknown requests (not stored)"), "{text}");
    assert!(!text.contains("Unsent requests"), "{text}");
}

/// Kills a run of many streams at random times: the database has every request that ended more than a second before, as
/// far as the server knows. `RINGMARK_KILLS=50 RINGMARK_KILL_STREAMS=2000` is the long form.
#[test]
fn a_killed_run_has_everything_older_than_a_second() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (kills, streams) = (number("RINGMARK_KILLS", 5), number("RINGMARK_KILL_STREAMS", 50));
    let mut checked = 0;
    for kill in 0..kills {
        let folder = tempfile::tempdir().unwrap();
        let mut server = ringmark(&["mock", "--port", "0", "ttft=20ms", "itl=10ms", "tokens=20"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().last().unwrap();
        let streams = streams.to_string();
        let call =
            ["--url", url, "--duration", "600", "--parallel", &streams, "--name", "mock", "--no-test-connection"];
        let mut child = perf(folder.path(), &call).spawn().unwrap();
        let path = wait_for("the database", || database(folder.path()));
        // Spread over the intervals at which blocks are sent and transactions end; not random, so that it can be repeated.
        let lives_ms = 1200 + kill * 977 % 2000;
        let (began, mut finished) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_millis(lives_ms) {
            finished.extend(finished_requests(url).map(|count| (Instant::now(), count)));
            thread::sleep(Duration::from_millis(20));
        }
        let killed = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        let older = finished.iter().filter(|(at, _)| killed.duration_since(*at) > Duration::from_secs(1));
        let expected = older.map(|(_, count)| *count).max().unwrap_or(0);
        checked += expected;
        let left = rows(&path).expect("the database opens");
        assert!(left >= expected, "killed after {lives_ms} ms: {left} rows, {expected} were finished a second before");
    }
    assert!(checked > 0, "no request was finished a second before a kill");
}

/// The requests that a mock has finished, from its metrics.
fn finished_requests(url: &str) -> Option<u64> {
    let host = url.split("//").nth(1)?.split('/').next()?;
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let counts = page.lines().filter(|line| line.starts_with("vllm:request_success_total"));
    Some(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
}

#[test]
fn one_interrupt_drains_and_writes_all_results() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let folder = tempfile::tempdir().unwrap();
        let child = perf(folder.path(), &ENDLESS).arg("--verbose").spawn().unwrap();
        let path = wait_for("the database", || database(folder.path()));
        wait_for("rows", || rows(&path).filter(|&rows| rows >= 20));
        kill_process(pid(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("Benchmarking summary:") && text.contains("Results: "), "{text}");
        let sending = "interrupted: no more requests are sent; requests in flight have 5 s to finish";
        assert!(stderr(&output).contains(sending), "{}", stderr(&output));
        let run = Reader::open(&path).unwrap().run().unwrap();
        assert!(run.end.unwrap().interrupted);
        for name in ["benchmark_args.json", "benchmark_summary.json", "benchmark_percentile.json"] {
            let json = fs::read_to_string(path.with_file_name(name)).unwrap();
            serde_json::from_str::<serde_json::Value>(&json).expect(name);
        }
        let again = ringmark(&["report"]).arg(&path).output().unwrap();
        assert!(
            text.contains(stdout(&again).trim_end()),
            "the report differs from the output of the run:\n{text}\n---\n{}",
            stdout(&again)
        );
    }
}

/// As with `nohup`: a shell that ignores a signal starts its commands with the signal ignored.
#[test]
fn a_signal_that_was_ignored_at_start_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let call = format!(
        "trap '' HUP; exec {} perf --no-timestamp --outputs-dir {} --url 'mock:?ttft=5ms&itl=1ms&tokens=5' --number 400",
        env!("CARGO_BIN_EXE_ringmark"),
        folder.path().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &call]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = shell.spawn().unwrap();
    let path = wait_for("the database", || database(folder.path()));
    wait_for("rows", || rows(&path).filter(|&rows| rows >= 20));
    kill_process(pid(&child), Signal::HUP).unwrap();
    let output = child.wait_with_output().unwrap();
    // A busy machine can make the figures void.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
    assert_eq!(rows(&path), Some(400));
}

/// A stopped client gets no arrival timestamps from user space; it must report the bounds of its error.
#[test]
fn a_run_ends_with_its_result_at_a_glance() {
    let load =
        ["--url", "mock:?ttft=4ms&itl=2ms&tokens=5", "-n", "12", "--parallel", "2", "--slo", "p99_ttft<=9 rps>=1e9"];
    let run = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let output = perf(folder.path(), &load).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let summary = fs::read_to_string(folder.path().join("mock/performance_summary.txt")).unwrap();
        (stdout(&output), summary)
    };
    let (text, summary) = run(&[]);
    let end: Vec<&str> = text.lines().rev().take(24).collect();
    for what in [
        "12 requests in",
        "Throughput: ",
        "| TTFT (ms) ",
        "| Latency (ms) ",
        "✓ p99_ttft<=9 s",
        "✗ rps>=1e9",
        "Report: ",
    ] {
        assert!(end.iter().any(|line| line.starts_with(what)), "no '{what}' at the end of\n{text}");
    }
    assert!(end[1].starts_with("All tables: ") && end[0].starts_with("Results: "), "{text}");
    assert!(text.find("Benchmarking summary:") < text.find("Percentile results:"), "{text}");
    let rest = "Client's own figures:";
    assert!(summary.contains(rest) && !text.contains(rest), "{text}");
    assert!(run(&["--verbose"]).0.contains(rest));
    let quiet = run(&["--quiet"]).0;
    let starts: Vec<char> = quiet.lines().filter_map(|line| line.chars().next()).collect();
    assert_eq!(starts, ['✓', '✗', 'R'], "{quiet}");
}

#[test]
fn a_stopped_client_reports_its_measurement_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = ringmark(&["mock", "--port", "0", "ttft=20ms", "itl=20ms", "tokens=100"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split_whitespace().last().unwrap();
    let call = ["--verbose", "--url", url, "--number", "8", "--parallel", "8", "--workers", "1", "--name", "mock"];
    let child = perf(folder.path(), &call).spawn().unwrap();
    wait_for("the database", || database(folder.path()));
    thread::sleep(Duration::from_millis(400));
    kill_process(pid(&child), Signal::STOP).unwrap();
    thread::sleep(Duration::from_millis(500));
    kill_process(pid(&child), Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();

    let text = stdout(&output);
    assert!(text.contains("of the gaps between tokens may be off by up to"), "{text}");
    let path = database(folder.path()).unwrap().with_file_name("benchmark_summary.json");
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let own = &json["Own error"];
    assert!(own["Longest stall (ns)"].as_u64() >= Some(400_000_000), "{own}");
    // The longest observed gap is the stop; the server never pauses longer than 20 ms.
    let longest = own["Bounds"]["ITL (s)"]["max"][0].as_f64().unwrap();
    assert!(longest < 0.2, "{own}");
}

#[test]
fn a_second_interrupt_ends_the_process_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let hanging = ["--url", "mock:?ttft=60s&tokens=5", "--number", "8", "--parallel", "4", "--no-test-connection"];
    let child = perf(folder.path(), &hanging).spawn().unwrap();
    wait_for("the database", || database(folder.path()));
    // The requests are in flight now, and do not end by themselves.
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    kill_process(pid(&child), Signal::INT).unwrap();
    thread::sleep(Duration::from_millis(100));
    kill_process(pid(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    // The drain alone would take five seconds.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn the_exit_status_reflects_the_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let status = |arguments: &[&str]| {
        let output = perf(folder.path(), arguments).output().unwrap();
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let quick = "mock:?ttft=1ms&itl=1ms&tokens=3";
    // Long against the delays of a busy machine, which would make the figures void.
    let slow = "mock:?ttft=200ms&itl=1ms&tokens=3";
    let (code, text, _) = status(&["--url", slow, "--number", "4", "--parallel", "2", "--name", "good"]);
    assert!(code == Some(0) && text.contains("Percentile results:"), "{code:?}\n{text}");

    let failing = "mock:?fault=status(500)";
    let (code, text, _) =
        status(&["--url", failing, "--number", "10", "--parallel", "2", "--no-test-connection", "--name", "bad"]);
    assert!(code == Some(1) && text.contains("because of an injected fault"), "{code:?}\n{text}");

    let (code, text, words) = status(&["--url", failing, "--number", "10", "--name", "unable"]);
    assert!(code == Some(2) && text.is_empty(), "{code:?}\n{text}");
    assert!(words.contains("error: the connection test failed"), "{words}");

    let (code, text, _) = status(&[
        "--url",
        "mock:?ttft=60s",
        "--duration",
        "0.2",
        "--drain",
        "0",
        "--parallel",
        "2",
        "--no-test-connection",
        "--name",
        "unfinished",
    ]);
    assert!(code == Some(1) && text.contains("No request ended before the run did (2 were in flight)"), "{text}");

    let (code, _, words) = status(&["--url", quick, "--number", "5", "--prompt", "@no/such/file", "--name", "nofile"]);
    assert!(code == Some(2) && words.contains("no/such/file"), "{code:?} {words}");
}

#[test]
fn a_sweep_leaves_a_folder_for_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let url = "mock:?ttft=1ms&itl=1ms&tokens=3";
    let sweep = ["--url", url, "--parallel", "1", "2", "--number", "6", "8", "--sleep-interval", "0", "--name", "s"];
    let output = perf(folder.path(), &sweep).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
    for run in ["parallel_1_number_6", "parallel_2_number_8"] {
        let run = folder.path().join("s").join(run);
        for name in ["benchmark_args.json", "benchmark_summary.json", "benchmark_percentile.json", "benchmark_data.db"]
        {
            assert!(run.join(name).is_file(), "{name} is missing in {}", run.display());
        }
    }
    for name in ["benchmark.log", "performance_summary.txt"] {
        assert!(folder.path().join("s").join(name).is_file(), "{name}");
    }
}

#[test]
fn an_interrupt_between_two_runs_is_reported() {
    let url = "mock:?ttft=1ms&itl=1ms&tokens=3";
    let sweep: &[&str] = &["--parallel", "1", "2", "4", "--number", "6", "--repeat", "2"];
    let search: &[&str] = &["--sla-auto-tune", "--sla-params", "p99_ttft<=10", "--sla-num-runs", "2", "--number", "6"];
    for (load, missing) in [
        (sweep, "Not measured: Concurrency 1 (1 of 2 runs); Concurrency 2 (2 of 2 runs); Concurrency 4 (2 of 2 runs)."),
        (search, "The search was interrupted. These loads were measured before:"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let child = perf(folder.path(), load).args(["--url", url, "--sleep-interval", "600"]).spawn().unwrap();
        let log = folder.path().join("mock").join("benchmark.log");
        wait_for("the pause", || fs::read_to_string(&log).ok().filter(|text| text.contains("pausing 600 s")));
        kill_process(pid(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(130), "{text}{}", stderr(&output));
        let summary = fs::read_to_string(log.with_file_name("performance_summary.txt")).unwrap();
        for shown in [&text, &summary] {
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(missing), "{words}");
        }
        assert_eq!(fs::read_to_string(&log).unwrap().matches("pausing").count(), 1);
        // Nothing was in flight.
        let words = stderr(&output);
        assert!(words.contains("interrupted; press Ctrl-C again") && !words.contains("5 s to finish"), "{words}");
        // The run that finished has its figures on the screen, as if it had been the only one.
        let is_sweep = load == sweep;
        assert_eq!(text.matches("6 requests in").count(), usize::from(is_sweep), "{text}");
    }
}

#[test]
fn an_interrupted_load_is_not_called_void_or_failing() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the 5 s that requests in flight have.
    let sweep = ["--url", "mock:?ttft=7s&itl=0&tokens=3", "--parallel", "4", "2", "--number", "4"];
    let flags = ["--sleep-interval", "0", "--no-test-connection"];
    let child = perf(folder.path(), &sweep).args(flags).spawn().unwrap();
    let second = folder.path().join("mock/parallel_2_number_4/benchmark_data.db");
    wait_for("the second load", || second.is_file().then_some(()));
    kill_process(pid(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let words = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Only Concurrency 4 can be used: the other loads were interrupted, so"), "{words}");
}

#[test]
fn quiet_calls_that_fail_say_why() {
    let failing = "mock:?fault=status(500)";
    for (flags, why) in [
        (&["--number", "10"][..], "no request succeeded, 10 failed with "),
        (&["--number", "2000", "--abort-on", "failed>20%"], "--abort-on 'failed>20%' ended the run: "),
        (&["--number", "10", "--warmup-num", "400", "--abort-on", "failed>20%"], "ended the run in its warm-up: "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let call = ["--url", failing, "--parallel", "2", "--no-test-connection", "--quiet"];
        let output = perf(folder.path(), &call).args(flags).output().unwrap();
        let words = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.starts_with("exit status 1: Concurrency 2: ") && words.contains(why), "{words}");
        assert_eq!(words.lines().count(), 1, "{words}");
    }
}

#[test]
fn an_interrupted_connection_test_exits_with_130() {
    // A server that sends nothing, and one that sends the beginning of its response.
    for begun in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"] {
        let folder = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/v1/chat/completions", silent.local_addr().unwrap());
        let child = perf(folder.path(), &["--url", &url, "--model", "m", "--number", "6"]).spawn().unwrap();
        let mut tested = silent.accept().unwrap().0;
        tested.write_all(begun).unwrap();
        kill_process(pid(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}{}", stdout(&output), stderr(&output));
        assert!(!stdout(&output).contains("Results: "), "no run was started: {}", stdout(&output));
    }
}

#[test]
fn a_visualizer_that_does_not_start_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("outputs");
    let call = ["--url", "mock:?ttft=1ms", "--number", "2", "--visualizer", "swanlab"];
    let output = perf(&outputs, &call).env("PATH", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--visualizer"), "{}", stderr(&output));
    assert!(!outputs.exists());
}

#[test]
fn the_mock_command_serves_until_sigterm() {
    let parameters = ["mock", "--port", "0", "ttft=1ms", "itl=1ms", "tokens=3"];
    let mut mock = ringmark(&parameters).spawn().unwrap();
    let mut lines = BufReader::new(mock.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let url = first.split_whitespace().last().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), &["--url", &url, "--number", "30", "--parallel", "3"]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}{}", stdout(&output), stderr(&output));
    kill_process(pid(&mock), Signal::TERM).unwrap();
    let account = lines.next().unwrap().unwrap();
    assert!(account.contains("31 requests"), "{account}");
    assert_eq!(mock.wait().unwrap().code(), Some(0));
}

#[test]
fn rig_describes_the_machine() {
    let output = ringmark(&["rig", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(all["facts"]["cores"].as_u64().unwrap() > 0);
    assert!(all["checks"].as_array().unwrap().len() > 10);
    for load in ["flat_out", "paced"] {
        assert!(all["roofline"][load]["events"].as_u64().unwrap() > 0, "{load}: {all}");
    }
    let output = ringmark(&["rig", "--no-roofline"]).output().unwrap();
    let text = stdout(&output);
    assert!(text.contains("This machine") && !text.contains("Events/s"), "{text}");
}

#[test]
fn a_closed_pipe_causes_no_panic() {
    let mut child = ringmark(&["mock", "--help"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
