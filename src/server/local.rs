//! A local server: starts it, waits until it is ready, watches it, and stops it with all its child processes.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http_get::{GetTimeouts, get};
use super::launch::{self, HEALTH};
use super::process::{self, Process};
use crate::files;
use crate::log::Log;
use crate::plan::{LocalPlan, Target};
use crate::time::Tick;
use crate::time::clock::Clock;

/// Period of the checks whether the server still runs.
const POLL_PERIOD: Duration = Duration::from_millis(100);
/// Period of the checks whether the server is ready.
const READY_CHECK_PERIOD: Duration = Duration::from_millis(300);
/// Period of the log lines about loading.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Period of the scans for child processes.
const FAMILY_PERIOD: Duration = Duration::from_secs(1);
/// Longest loading time; long enough to download a large model over a slow network.
const LOADING_TIMEOUT: Duration = Duration::from_secs(3600);
const READY_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of lines of the server's log that are shown when it dies.
const LAST_LINES: usize = 15;
/// Maximum number of bytes at the end of the log that are searched for these lines.
const TAIL_BYTES: u64 = 16 << 10;

/// A running local server. Dropping it stops the server and its child processes.
pub struct Local {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    log_file: PathBuf,
    /// Offset in the log file at which this server's output begins; an earlier run may have written before it.
    log_begin: u64,
    leader: u32,
    /// Value of an environment variable that identifies the server's processes.
    mark: String,
    child: Mutex<Child>,
    /// The server's processes at the last scan.
    family: Mutex<Vec<Process>>,
    stopping: AtomicBool,
    /// A message about the exit of the server, if it exited by itself, and when that was noticed.
    died: Mutex<Option<(String, Tick)>>,
}

impl Local {
    /// Starts the server of a plan and waits until it responds at `target`. Its output goes to `server.log` in
    /// `folder`. `stop` above 0 cancels the wait.
    ///
    /// # Errors
    /// One or more lines: what to install, that the port is in use, or the last output of a server that died.
    pub fn start(
        plan: &LocalPlan,
        name: &str,
        target: &Target,
        folder: &Path,
        log: &Arc<Log>,
        stop: &AtomicU8,
    ) -> Result<Local, String> {
        let mut command = launch::command(plan, std::env::var_os("PATH"))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, plan.port)).is_err() {
            return Err(format!("port {} is in use: give another with --port", plan.port));
        }
        let log_file = folder.join("server.log");
        let unwritable = |error: std::io::Error| format!("cannot write {}: {error}", log_file.display());
        let out = files::open_append(&log_file).map_err(unwritable)?;
        let log_begin = out.metadata().map_err(unwritable)?.len();
        let error_out = out.try_clone().map_err(unwritable)?;
        // A separate process group, so that Ctrl-C reaches ringmark only, which then stops the server.
        command.stdin(Stdio::null()).stdout(out).stderr(error_out).process_group(0).env("PYTHONUNBUFFERED", "1");
        let mark = format!("{}-{}", std::process::id(), plan.port);
        command.env(process::MARK, &mark);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        let shared = Arc::new(Shared {
            name: name.to_string(),
            log_file,
            log_begin,
            leader: child.id(),
            mark,
            child: Mutex::new(child),
            family: Mutex::new(Vec::new()),
            stopping: AtomicBool::new(false),
            died: Mutex::new(None),
        });
        process::register(shared.leader, &shared.mark);
        // From here on, an early return drops `local`, which stops the server.
        let mut local = Local { shared: shared.clone(), watcher: None };
        log.info(&format!("starting {name}: {program}, its output goes to {}", shared.log_file.display()));
        let took = shared.wait_until_ready(target, log, stop)?;
        log.info(&format!("{name} is ready after {:.1} s", took.as_secs_f64()));
        let log = log.clone();
        let watcher = std::thread::Builder::new().name("local-server".to_string());
        let watcher = watcher.spawn(move || shared.watch(&log)).map_err(|error| format!("no thread: {error}"))?;
        local.watcher = Some(watcher);
        Ok(local)
    }

    /// A message with the exit status and the log file, if the server exited by itself, and when that was noticed.
    pub fn died(&self) -> Option<(String, Tick)> {
        lock(&self.shared.died).clone()
    }

    /// A handle to the server's processes, which may outlive the server.
    pub fn processes(&self) -> Processes {
        Processes(self.shared.clone())
    }
}

/// A handle to the processes of a server.
#[derive(Clone)]
pub struct Processes(Arc<Shared>);

impl Processes {
    /// The current processes, including children.
    pub fn now(&self) -> Vec<Process> {
        process::family(self.0.leader, &lock(&self.0.family))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let remembered = lock(&self.shared.family).clone();
        process::stop(&mut lock(&self.shared.child), &self.shared.mark, &remembered);
        if let Some(watcher) = self.watcher.take() {
            // A panic of the watcher has already been printed.
            let _ = watcher.join();
        }
    }
}

/// Kills every server that this process has started. For use before an exit without unwinding.
pub(crate) fn kill_all() {
    process::kill_all();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn wait_until_ready(&self, target: &Target, log: &Log, stop: &AtomicU8) -> Result<Duration, String> {
        let began = Instant::now();
        let (mut last_check, mut last_log, mut last_scan) = (began, began, began);
        loop {
            std::thread::sleep(POLL_PERIOD);
            if let Some(status) = self.ended() {
                return Err(format!("{} died while starting ({status})\n{}", self.name, self.last_output()));
            }
            if stop.load(Ordering::Relaxed) != 0 {
                return Err(format!("interrupted while {} was starting", self.name));
            }
            if last_scan.elapsed() >= FAMILY_PERIOD {
                last_scan = Instant::now();
                self.update_family();
            }
            if last_check.elapsed() >= READY_CHECK_PERIOD {
                last_check = Instant::now();
                if is_ready(target) {
                    return Ok(began.elapsed());
                }
            }
            if last_log.elapsed() >= LOG_PERIOD {
                last_log = Instant::now();
                let line = last_lines(&self.log_file, self.log_begin, 1);
                let colon = if line.is_empty() { "" } else { ": " };
                log.info(&format!("{} is starting, {:.0} s{colon}{line}", self.name, began.elapsed().as_secs_f64()));
            }
            if began.elapsed() > LOADING_TIMEOUT {
                return Err(format!("{} was not ready after one hour\n{}", self.name, self.last_output()));
            }
        }
    }

    fn watch(&self, log: &Log) {
        let mut last_scan = Instant::now();
        while !self.stopping.load(Ordering::SeqCst) {
            if let Some(status) = self.ended() {
                let end = format!("{} died ({status})", self.name);
                log.error(&format!("{end}\n{}", self.last_output()));
                let message = format!("{end}; its output is in {}.", self.log_file.display());
                *lock(&self.died) = Some((message, Clock::new().now()));
                return;
            }
            if last_scan.elapsed() >= FAMILY_PERIOD {
                last_scan = Instant::now();
                self.update_family();
            }
            std::thread::sleep(POLL_PERIOD);
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        let ended = lock(&self.child).try_wait().ok().flatten();
        // An exit after a request to stop is expected.
        ended.filter(|_| !self.stopping.load(Ordering::SeqCst))
    }

    fn update_family(&self) {
        let mut family = lock(&self.family);
        *family = process::family(self.leader, &family);
    }

    fn last_output(&self) -> String {
        let lines = last_lines(&self.log_file, self.log_begin, LAST_LINES);
        if lines.is_empty() { "it wrote no output".to_string() } else { format!("its last output:\n{lines}") }
    }
}

/// Whether the server is ready. Servers without a health page are ready when they list their models.
fn is_ready(target: &Target) -> bool {
    let timeouts = GetTimeouts::all(READY_CHECK_TIMEOUT);
    let status = |path: &str| get(target, path, "", None, timeouts).map(|reply| reply.status);
    match status(HEALTH) {
        Ok(200) => true,
        Ok(404) => status(&target.models_path()) == Ok(200),
        _ => false,
    }
}

/// The last `count` non-blank lines of a file, at or after offset `begin`.
fn last_lines(path: &Path, begin: u64, count: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES).max(begin)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_do_not_include_those_of_an_earlier_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let earlier = "an earlier server's\n";
        std::fs::write(&path, earlier).unwrap();
        let begin = earlier.len() as u64;
        assert_eq!(
            (last_lines(&path, begin, 2), last_lines(&path, 0, 2)),
            (String::new(), "an earlier server's".into())
        );
        std::fs::write(&path, format!("{earlier}one\n\ntwo\n")).unwrap();
        assert_eq!((last_lines(&path, begin, 1), last_lines(&path, begin, 9)), ("two".into(), "one\ntwo".into()));
        assert_eq!(last_lines(&folder.path().join("gone"), 0, 1), "");
    }
}
