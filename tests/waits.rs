//! Nothing that a file, a program or a user does makes the program wait without end, and no child process outlives it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn ringmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A call of `perf` against the mock whose results go into `folder`.
fn perf(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ringmark(&["perf", "--url", "mock:?ttft=1ms&itl=1ms&tokens=3", "-n", "4", "--no-timestamp"]);
    command.arg("--outputs-dir").arg(folder.join("out")).args(arguments);
    command
}

/// Waits until `found` returns a value, at most 60 s.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "timeout while waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the end of the process, which must come by itself.
fn ended(mut child: Child) -> Output {
    wait_for("the end of ringmark", || child.try_wait().unwrap());
    child.wait_with_output().unwrap()
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Waits until the process has a thread with this name.
fn wait_for_thread(child: &Child, name: &str) {
    let named = |task: PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    wait_for(name, || {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
        tasks.flatten().any(|task| named(task.path())).then_some(())
    });
}

/// Writes a shell script that notes its number in a file for each verb, and starts a process that does not end.
fn endless_script(folder: &Path, before: &str) -> String {
    let file = folder.join("program.sh");
    let pid = folder.join("pid");
    let text =
        format!("#!/bin/sh\n{before}\nsleep 1000 &\necho $$ $! > {0}.new\nmv {0}.new {0}\nwait\n", pid.display());
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

/// The numbers of the processes of [`endless_script`] once it runs.
fn processes(folder: &Path) -> Vec<String> {
    let text = wait_for("the program", || fs::read_to_string(folder.join("pid")).ok());
    text.split_whitespace().map(str::to_string).collect()
}

/// Waits until the processes have ended; a zombie, whose parent may be a container's init, has.
fn assert_gone(processes: &[String]) {
    for process in processes {
        wait_for("the end of the program", || match fs::read_to_string(format!("/proc/{process}/stat")) {
            Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')).then_some(()),
            Err(_) => Some(()),
        });
    }
}

fn fifo(folder: &Path) -> String {
    let path = folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.display().to_string()
}

#[test]
fn an_interrupt_ends_the_wait_for_a_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let child = perf(folder.path(), &["--dataset", "openqa", "--dataset-path", &path]).spawn().unwrap();
    wait_for_thread(&child, "workload");
    interrupt(&child);
    assert_eq!(ended(child).status.code(), Some(130));
}

#[test]
fn pipes_are_read_like_files() {
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_ringmark");
    let out = folder.path().join("out");
    let call = format!(
        "{binary} perf --url 'mock:?ttft=1ms&itl=1ms&tokens=3' -n 2 --quiet --outputs-dir {} --dataset line_by_line",
        out.display()
    );
    for line in [
        format!("{call} --name a --dataset-path <(printf 'one\\ntwo\\n')"),
        format!("printf 'one\\ntwo\\n' | {call} --name b --dataset-path /dev/stdin"),
    ] {
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn an_interrupt_ends_programs_that_print_prompts() {
    for interrupts in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let program = endless_script(folder.path(), "echo '\"a prompt\"'");
        let child = perf(folder.path(), &["--dataset", &program]).spawn().unwrap();
        let processes = processes(folder.path());
        assert_eq!(processes.len(), 2);
        (0..interrupts).for_each(|_| interrupt(&child));
        assert_eq!(ended(child).status.code(), Some(130));
        assert_gone(&processes);
    }
}

#[test]
fn an_interrupt_ends_a_program_that_parses_and_keeps_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let build = "if [ \"$1\" = build ]; then while read -r line; do echo '{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}'; done; exit; fi";
    let program = endless_script(folder.path(), build);
    let url = "mock:/v1/chat/completions?ttft=1ms&itl=1ms&tokens=3";
    let out = folder.path().join("out").display().to_string();
    let call = ["perf", "--url", url, "-n", "4", "--api", &program, "--outputs-dir", &out];
    let child = ringmark(&call).spawn().unwrap();
    let processes = processes(folder.path());
    interrupt(&child);
    let output = ended(child);
    assert_gone(&processes);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Benchmarking summary"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the program failed"), "{text}");
}

/// A folder with a tokenizer of one word and this chat template.
fn tokenizer(folder: &Path, template: &str) -> String {
    let tokenizer = folder.join("tokenizer");
    fs::create_dir(&tokenizer).unwrap();
    let vocabulary = r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#;
    fs::write(tokenizer.join("tokenizer.json"), vocabulary).unwrap();
    fs::write(tokenizer.join("chat_template.jinja"), template).unwrap();
    tokenizer.display().to_string()
}

/// A template that takes minutes, with few instructions and little memory.
const SLOW: &str =
    "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s | replace('a', 'b') %}{% endfor %}";

#[test]
fn an_interrupt_ends_a_chat_template() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(folder.path(), SLOW);
    let child = perf(folder.path(), &["--tokenizer-path", &tokenizer]).spawn().unwrap();
    wait_for_thread(&child, "workload");
    interrupt(&child);
    assert_eq!(ended(child).status.code(), Some(130));
}

#[test]
fn an_interrupt_ends_the_count_of_tokens_and_keeps_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let slow = format!("{{% if messages[0].content == 'long' %}}{SLOW}{{% endif %}}");
    let (tokenizer, out) = (tokenizer(folder.path(), &slow), folder.path().join("out").display().to_string());
    let url = "mock:?usage=never&ttft=1ms&itl=1ms&tokens=3";
    let call = ["perf", "--url", url, "-n", "4", "--no-timestamp", "--name", "run", "--prompt", "long"];
    let call = [&call[..], &["--tokenizer-path", &tokenizer, "--outputs-dir", &out]].concat();
    let child = ringmark(&call).spawn().unwrap();
    let database = folder.path().join("out/run/parallel_1_number_4/benchmark_data.db");
    wait_for("the database", || database.exists().then_some(()));
    // The thread of the requests has ended when there is a database.
    wait_for_thread(&child, "workload");
    interrupt(&child);
    let output = ended(child);
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Results: ") && log.contains("interrupted while tokens were counted"), "{text}{log}");
}

#[test]
fn a_chat_template_that_doubles_a_text_is_an_error_before_it_takes_the_memory() {
    for template in [
        "{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(folder.path(), template);
        let mut child = perf(folder.path(), &["--tokenizer-path", &tokenizer]).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak_kib = 0;
        wait_for("the end of ringmark", || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            peak_kib = peak_kib.max(peak.map_or(0, |peak| peak.parse::<u64>().unwrap()));
            child.try_wait().unwrap()
        });
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains("chat template that needs more than 1 GiB"), "{text}");
        assert!(text.contains("--tokenizer-path") && text.contains(&tokenizer), "{text}");
        assert!(peak_kib < 4 << 20, "{peak_kib} KiB");
    }
}

#[test]
fn an_interrupt_ends_a_metrics_page_that_drips() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let page = format!("http://{}/metrics", listener.local_addr().unwrap());
    let call = ["--duration", "600", "--name", "run", "--server-metrics", &page];
    let call: Vec<&str> =
        ["perf", "--url", "mock:?ttft=1ms&itl=1ms&tokens=3", "--no-timestamp"].into_iter().chain(call).collect();
    let child = ringmark(&call).arg("--outputs-dir").arg(folder.path().join("out")).spawn().unwrap();
    let (asked, is_asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = asked.send(());
            thread::spawn(move || {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(b"#").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    is_asked.recv().unwrap();
    interrupt(&child);
    let output = ended(child);
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{text}{log}");
    // Not after the 5 s that a scrape may take.
    let run = fs::read_dir(folder.path().join("out/run")).unwrap().flatten().map(|entry| entry.path());
    let summary = run.filter_map(|path| fs::read_to_string(path.join("benchmark_summary.json")).ok());
    let summary: String = summary.collect();
    assert!(summary.contains("interrupted before the response was complete"), "{summary}{text}{log}");
}

#[test]
fn an_endless_array_is_read_as_far_as_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let call = format!(
        "(printf '['; while :; do echo '{{\"question\": \"a\"}},'; done) | {} perf --url \
         'mock:?ttft=1ms&itl=1ms&tokens=3' -n 2 --quiet --dataset openqa --dataset-path /dev/stdin --outputs-dir {}",
        env!("CARGO_BIN_EXE_ringmark"),
        folder.path().display()
    );
    let child = Command::new("bash").args(["-c", &call]).stderr(Stdio::piped()).spawn().unwrap();
    let output = ended(child);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn interrupts_end_the_helper_of_a_visualizer() {
    for interrupts in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let python = endless_script(folder.path(), "trap '' INT TERM");
        let child = perf(folder.path(), &["--visualizer", "wandb", "--python", &python]).spawn().unwrap();
        let processes = processes(folder.path());
        (0..interrupts).for_each(|_| interrupt(&child));
        assert_eq!(ended(child).status.code(), Some(130));
        assert_gone(&processes);
    }
}

#[test]
fn reports_read_regular_files_with_tables_only() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    for command in ["report", "compare"] {
        let output = ended(ringmark(&[command, &fifo, &fifo]).spawn().unwrap());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains("not a regular file"), "{text}");
    }
    ended(perf(folder.path(), &["--name", "run"]).spawn().unwrap());
    let database = folder.path().join("out/run/parallel_1_number_4/benchmark_data.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "DROP TABLE server_sample; CREATE VIEW server_sample AS WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT \
             n + 1 FROM a) SELECT n AS at_ns, 'up' AS name, '' AS labels, 1.0 AS value FROM a",
        )
        .unwrap();
    drop(connection);
    let output = ended(ringmark(&["report", database.to_str().unwrap()]).spawn().unwrap());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("'server_sample' is not a table"), "{text}");
}

#[test]
fn a_calibration_with_too_many_connections_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("calibrations.json").display().to_string();
    let call = ["rig", "--calibrate", "--parallel", "999999999", "--out", &out];
    let output = ended(ringmark(&call).spawn().unwrap());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("--parallel 999999999"), "{text}");
}
