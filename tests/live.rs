//! `--live` on a pseudo terminal: it leaves the terminal as it was, whatever ends the call.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringmark::cli::live::LiveScreen;
use ringmark::run::PhaseProgress;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A pseudo terminal, whose output is collected.
struct Terminal {
    near: Arc<OwnedFd>,
    far: File,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    before: Termios,
}

impl Terminal {
    fn open(columns: u16, rows: u16) -> Terminal {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
        let far = File::options().read(true).write(true).open(name).unwrap();
        let near = Arc::new(near);
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let reader = thread::spawn({
            let (near, written) = (near.clone(), written.clone());
            move || {
                let mut from = File::from(near.try_clone().unwrap());
                let mut buffer = [0; 65536];
                // An error says that no process has the terminal any more.
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    written.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            }
        });
        let before = tcgetattr(&far).unwrap();
        let terminal = Terminal { near, far, written, reader: Some(reader), before };
        terminal.resize(columns, rows);
        terminal
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&*self.near, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Starts a program whose standard error is this terminal.
    fn spawn(&self, mut command: Command) -> Child {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.far.try_clone().unwrap()).env("TERM", "xterm");
        command.spawn().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).to_string()
    }

    /// Waits until the output has `part`, at most 60 s.
    fn wait_for(&self, part: &str) {
        let start = Instant::now();
        while !self.text().contains(part) {
            assert!(start.elapsed() < Duration::from_secs(60), "no {part:?} in {:?}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the terminal and asserts that it is as it was: modes, cursor and screen. Returns the output after the
    /// view.
    fn assert_left_clean(mut self) -> String {
        let after = tcgetattr(&self.far).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(format!("{:?}", after.special_codes), format!("{:?}", self.before.special_codes));
        // Output that is still in the terminal is read before the end.
        let Terminal { far, .. } = &mut self;
        drop(std::mem::replace(far, File::open("/dev/null").unwrap()));
        self.reader.take().unwrap().join().unwrap();
        let text = self.text();
        assert_eq!((text.matches(ENTER).count(), text.matches(LEAVE).count()), (1, 1), "{text:?}");
        let (view, after) = text.split_once(LEAVE).unwrap();
        assert!(view.contains(ENTER) && view.contains(SHOW_CURSOR), "{view:?}");
        assert!(!after.contains("\x1b["), "{after:?}");
        after.to_string()
    }
}

/// A call of `perf` whose results go into `folder`.
fn perf_without_view(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(["perf", "--no-timestamp", "--sleep-interval", "0", "--outputs-dir"]).arg(folder).args(arguments);
    command
}

fn perf(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = perf_without_view(folder, arguments);
    command.arg("--live");
    command
}

/// It ends by itself only if a failed test has left it.
const ENDLESS: [&str; 8] =
    ["--url", "mock:?ttft=5ms&itl=1ms&tokens=5", "--number", "10000000", "--duration", "120", "--parallel", "4"];

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

#[test]
fn a_sweep_is_shown_and_the_terminal_is_left_clean() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let load = ["--url", "mock:?ttft=5ms&itl=1ms&tokens=5", "--duration", "3", "--parallel", "1", "4"];
    let output = terminal.spawn(perf(folder.path(), &load)).wait_with_output().unwrap();
    // A busy machine can make the figures void.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", terminal.text());
    let text = terminal.text();
    // Blanks are not drawn, and of a changed text only what differs.
    for part in ["load 1 of 2: Concurrency 1", "tok/s", "ITL", "█"] {
        assert!(text.contains(part), "{part}: {text:?}");
    }
    let log = terminal.assert_left_clean();
    assert!(log.contains("Concurrency 1: ") && log.contains("Concurrency 4: "), "a line for each load: {log}");
    assert!(stdout(&output).contains("Detailed performance metrics"), "{}", stdout(&output));
}

#[test]
fn a_search_is_shown_too() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(100, 30);
    let search = [
        "--url",
        // Long against the delays of a busy machine, which would make the loads void.
        "mock:?ttft=150ms&itl=1ms&tokens=5",
        "--number",
        "8",
        "--sla-auto-tune",
        "--sla-variable",
        "parallel",
        "--sla-params",
        r#"[{"p99_ttft": "<=60"}]"#,
        "--sla-lower-bound",
        "1",
        "--sla-upper-bound",
        "2",
        "--sla-num-runs",
        "1",
    ];
    let output = terminal.spawn(perf(folder.path(), &search)).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", terminal.text());
    let (printed, view) = (stdout(&output), terminal.text());
    assert!(view.contains("load 1: Concurrency 1"), "{view:?}");
    assert!(printed.contains("✓ parallel 2: 2 users at p99 TTFT at most"), "{printed}");
    assert!(printed.contains("In order: parallel "), "{printed}");
    terminal.assert_left_clean();
}

#[test]
fn an_interrupt_leaves_the_terminal_clean() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let child = terminal.spawn(perf(folder.path(), &ENDLESS));
    terminal.wait_for("Processing");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", terminal.text());
    assert!(stdout(&output).contains("the run was interrupted"), "{}", stdout(&output));
    assert!(terminal.assert_left_clean().contains("press Ctrl-C again"));
}

#[test]
fn a_second_interrupt_leaves_the_terminal_clean() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let slow = ["--url", "mock:?ttft=60s&tokens=5", "--no-test-connection", "--number", "4", "--parallel", "4"];
    let child = terminal.spawn(perf(folder.path(), &slow));
    terminal.wait_for("Processing");
    interrupt(&child);
    terminal.wait_for("press Ctrl-C again");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", terminal.text());
    terminal.assert_left_clean();
}

#[test]
fn an_error_leaves_the_terminal_clean() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let child = terminal.spawn(perf(folder.path(), &ENDLESS));
    terminal.wait_for("Processing");
    // The results cannot be written any more.
    fs::remove_dir_all(folder.path()).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    let after = terminal.assert_left_clean();
    assert!(after.contains("error: "), "{after}");
}

#[test]
fn the_view_follows_the_size_of_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let child = terminal.spawn(perf(folder.path(), &ENDLESS));
    terminal.wait_for("tok/s");
    terminal.resize(20, 5);
    terminal.wait_for("needs");
    terminal.resize(160, 50);
    // The footer is on the last line.
    terminal.wait_for("\x1b[50;");
    interrupt(&child);
    child.wait_with_output().unwrap();
    terminal.assert_left_clean();
}

#[test]
fn the_thread_that_draws_runs_on_no_core_of_a_worker() {
    let cores = core_affinity::get_core_ids().unwrap();
    if cores.len() < 2 {
        return;
    }
    let worker = cores[0].id;
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(80, 24);
    let core = worker.to_string();
    let child = terminal.spawn(perf(folder.path(), &[&ENDLESS[..], &["--cores", &core]].concat()));
    terminal.wait_for("Processing");
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().flatten().map(|entry| entry.path());
    let allowed: Vec<(String, String)> = threads
        .filter_map(|path| {
            let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_string();
            let status = fs::read_to_string(path.join("status")).ok()?;
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_string();
            Some((name, list))
        })
        .collect();
    interrupt(&child);
    child.wait_with_output().unwrap();
    let of = |name: &str| allowed.iter().find(|thread| thread.0 == name).map(|thread| thread.1.clone());
    assert_eq!(of("worker-0"), Some(core.clone()), "{allowed:?}");
    let drawing = of("progress").unwrap_or_else(|| panic!("no thread draws: {allowed:?}"));
    let includes = |part: &str| match part.split_once('-') {
        Some((from, to)) => (from.parse().unwrap()..=to.parse().unwrap()).contains(&worker),
        None => part == core,
    };
    assert!(!drawing.split(',').any(includes), "{drawing}");
}

#[test]
fn off_a_terminal_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = perf(folder.path(), &ENDLESS).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("error: --live: standard error is not a terminal"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
    let quiet = perf(folder.path(), &["--quiet"]).output().unwrap();
    assert!(String::from_utf8_lossy(&quiet.stderr).contains("--quiet"));
}

#[test]
fn off_a_terminal_each_run_begins_with_a_line_about_its_load() {
    let folder = tempfile::tempdir().unwrap();
    let load =
        ["--url", "mock:?ttft=5ms&itl=1ms&tokens=5", "--number", "6", "--parallel", "1", "2", "--warmup-num", "2"];
    let output = perf_without_view(folder.path(), &load).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    for (place, parallel) in [(1, 1), (2, 2)] {
        let line = text.lines().find(|line| line.contains(&format!("INFO - load {place} of 2: http://127.0.0.1:")));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        for part in [
            "/v1/chat/completions, mock, ",
            &format!("Concurrency {parallel}, 6 requests, 2 warm-up requests, prompts: builtin, "),
            "worker",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

/// Set for the process of [`panics_in_the_view`].
const PANICS: &str = "RINGMARK_TEST_PANICS";

#[test]
fn a_panic_leaves_the_terminal_clean() {
    let terminal = Terminal::open(80, 24);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "panics_in_the_view", "--nocapture"]).env(PANICS, "1");
    let output = terminal.spawn(command).wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", stdout(&output));
    let after = terminal.assert_left_clean();
    assert!(after.contains("a panic while the view is shown"), "{after}");
}

/// Panics only as the process that [`a_panic_leaves_the_terminal_clean`] starts.
#[test]
fn panics_in_the_view() {
    if std::env::var_os(PANICS).is_some() {
        let screen = LiveScreen::new().unwrap();
        screen.show(PhaseProgress::default());
        panic!("a panic while the view is shown");
    }
}
