//! A server of our own: started, waited for, watched, and stopped with all its children.

#![expect(clippy::disallowed_methods, reason = "how long a server takes to start is waited for, not measured")]

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

use super::get::{Waits, get};
use super::launch::{self, HEALTH};
use super::process::{self, Process};
use crate::log::Log;
use crate::plan::{LocalPlan, Target};

/// Between two looks at a server that is loading, or running.
const LOOK: Duration = Duration::from_millis(100);
/// Between two questions whether it is ready.
const ASK: Duration = Duration::from_millis(300);
/// Between two lines that say how the loading goes.
const TELL: Duration = Duration::from_secs(10);
/// Between two looks at its children.
const FAMILY: Duration = Duration::from_secs(1);
/// Loading a large model over a slow network takes long; forever is a server that hangs.
const LONGEST_LOADING: Duration = Duration::from_secs(3600);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of its log that are shown when it dies.
const LAST_LINES: usize = 15;
/// As far back from its end as the log is read for them.
const TAIL_BYTES: u64 = 16 << 10;

/// A running server. Dropping it stops it and everything it started.
pub struct Local {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    log_file: PathBuf,
    /// Where its own words begin in there, behind those of an earlier run.
    log_begin: u64,
    leader: u32,
    /// What its processes carry in their environment.
    mark: String,
    child: Mutex<Child>,
    /// Its processes at the last look.
    family: Mutex<Vec<Process>>,
    stopping: AtomicBool,
    /// How it ended by itself.
    died: Mutex<Option<String>>,
}

impl Local {
    /// Starts the server of a plan and waits until it answers at `target`. What it says goes to `server.log` in
    /// `folder`; `stop` above 0 ends the waiting.
    ///
    /// # Errors
    /// One or more lines: what to install, that the port is taken, or the last words of a server that died.
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
        let out = File::options().create(true).append(true).open(&log_file).map_err(unwritable)?;
        let log_begin = out.metadata().map_err(unwritable)?.len();
        let error_out = out.try_clone().map_err(unwritable)?;
        // A group of its own: Ctrl-C reaches us alone, and the server is stopped in order.
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
        // From here on dropping it stops the server, whatever goes wrong.
        let mut local = Local { shared: shared.clone(), watcher: None };
        log.info(&format!("starting {name}: {program}, its words are in {}", shared.log_file.display()));
        let took = shared.wait_until_ready(target, log, stop)?;
        log.info(&format!("{name} is ready after {:.1} s", took.as_secs_f64()));
        let log = log.clone();
        let watcher = std::thread::Builder::new().name("local-server".to_string());
        let watcher = watcher.spawn(move || shared.watch(&log)).map_err(|error| format!("no thread: {error}"))?;
        local.watcher = Some(watcher);
        Ok(local)
    }

    /// How the server ended and where its last words are, when it did so by itself.
    pub fn died(&self) -> Option<String> {
        lock(&self.shared.died).clone()
    }

    /// A handle that looks at its processes, as long as anybody wants.
    pub fn processes(&self) -> Processes {
        Processes(self.shared.clone())
    }
}

/// The processes of a server, for a thread that looks at them.
#[derive(Clone)]
pub struct Processes(Arc<Shared>);

impl Processes {
    /// Those of this moment, children included.
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
            // It only looks and tells; a panic in there has been shown already.
            let _ = watcher.join();
        }
    }
}

/// Ends every server that was started here, at once: just before the program exits without unwinding.
pub fn kill_all() {
    process::kill_all();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn wait_until_ready(&self, target: &Target, log: &Log, stop: &AtomicU8) -> Result<Duration, String> {
        let began = Instant::now();
        let (mut asked, mut told, mut looked) = (began, began, began);
        loop {
            std::thread::sleep(LOOK);
            if let Some(status) = self.ended() {
                return Err(format!("{} died while it started ({status})\n{}", self.name, self.last_words()));
            }
            if stop.load(Ordering::Relaxed) != 0 {
                return Err(format!("interrupted while {} was starting", self.name));
            }
            if looked.elapsed() >= FAMILY {
                looked = Instant::now();
                self.remember();
            }
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                if is_ready(target) {
                    return Ok(began.elapsed());
                }
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let word = last_lines(&self.log_file, self.log_begin, 1);
                let colon = if word.is_empty() { "" } else { ": " };
                log.info(&format!("{} is starting, {:.0} s{colon}{word}", self.name, began.elapsed().as_secs_f64()));
            }
            if began.elapsed() > LONGEST_LOADING {
                return Err(format!("{} did not become ready in an hour\n{}", self.name, self.last_words()));
            }
        }
    }

    fn watch(&self, log: &Log) {
        let mut looked = Instant::now();
        while !self.stopping.load(Ordering::SeqCst) {
            if let Some(status) = self.ended() {
                let end = format!("{} died ({status})", self.name);
                log.error(&format!("{end}\n{}", self.last_words()));
                *lock(&self.died) = Some(format!("{end}; its last words are in {}.", self.log_file.display()));
                return;
            }
            if looked.elapsed() >= FAMILY {
                looked = Instant::now();
                self.remember();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        let ended = lock(&self.child).try_wait().ok().flatten();
        // When it is being stopped that is no news.
        ended.filter(|_| !self.stopping.load(Ordering::SeqCst))
    }

    fn remember(&self) {
        let mut family = lock(&self.family);
        *family = process::family(self.leader, &family);
    }

    fn last_words(&self) -> String {
        let words = last_lines(&self.log_file, self.log_begin, LAST_LINES);
        if words.is_empty() { "it said nothing".to_string() } else { format!("its last words:\n{words}") }
    }
}

/// Servers without a health page list their models instead.
fn is_ready(target: &Target) -> bool {
    let ask = |path: &str| get(target, path, "", None, Waits::of(ANSWER_TIMEOUT)).map(|reply| reply.status);
    match ask(HEALTH) {
        Ok(200) => true,
        Ok(404) => ask(&target.models_path()) == Ok(200),
        _ => false,
    }
}

/// The last lines of a file from `begin` on that hold anything.
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
    fn the_last_lines_are_those_of_this_server_alone() {
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
