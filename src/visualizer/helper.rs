//! The helper process: `python3` with a script of ours, spoken to over its standard streams.

#![expect(clippy::disallowed_methods, reason = "how long the helper takes to end is waited for, not measured")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value as Json;

use super::feed::{Feed, feed};
use crate::log::Log;
use crate::plan::VisualPlan;
use crate::spec::mask;

const SCRIPT: &str = include_str!("helper.py");

/// Variables whose values must not get into the log with what an SDK prints.
const SECRETS: [&str; 4] = ["WANDB_API_KEY", "SWANLAB_API_KEY", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"];

/// For what an ended helper has written; a process that it has left behind may keep its streams open for ever.
const READ_OUT: Duration = Duration::from_secs(2);

/// A look at whether it has ended.
const STEP: Duration = Duration::from_millis(10);

/// What the helper says to the first message.
#[derive(Debug)]
pub enum Answer {
    /// The service takes figures; where they can be seen.
    Ready(Option<String>),
    /// It does not; `hint`: the text is the SDK's and does not say what to do.
    Failed { text: String, hint: bool },
    /// It has done everything.
    Ended,
    /// The process has ended; the last line that it wrote.
    Gone(String),
}

/// Why the end was not a good one.
#[derive(Debug)]
pub enum NotEnded {
    Late,
    Died(String),
}

/// The running process and the threads around it.
pub struct Helper {
    child: Child,
    answers: Receiver<Answer>,
    last_line: Arc<Mutex<String>>,
    /// Of its two streams.
    readers: Vec<JoinHandle<()>>,
}

impl Helper {
    /// Starts the process and sends it `start`. Threads and process inherit the caller's cores.
    pub fn start(asked: &VisualPlan, single: bool, start: &Json, log: &Arc<Log>) -> Result<(Helper, Feed), String> {
        let mut child = spawn(asked)?;
        let (feed, outlet) = feed(asked.service.name(), single);
        let (told, answers) = unbounded();
        let (done, is_done) = unbounded();
        let last_line = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        let words = Words { log: log.clone(), secrets: secrets(), name: asked.service.name() };
        if let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        {
            let start = start.clone();
            beside(move || outlet.write(&start, stdin, &is_done))?;
            let (last, other) = (last_line.clone(), words.clone());
            readers.push(beside(move || other.keep(stderr, &last))?);
            readers.push(beside(move || words.listen(stdout, &told, &done))?);
        }
        Ok((Helper { child, answers, last_line, readers }, feed))
    }

    /// The next answer to the first message, if one comes soon.
    pub fn next_answer(&self, patience: Duration) -> Option<Answer> {
        match self.answers.recv_timeout(patience) {
            Ok(answer) => Some(answer),
            Err(error) if error.is_timeout() => None,
            Err(_) => {
                self.read_out();
                Some(Answer::Gone(self.last_words()))
            }
        }
    }

    /// Waits for an end that was asked for; ends the process and all it started when that takes too long.
    pub fn finish(mut self, limit: Duration) -> Result<(), NotEnded> {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < limit => thread::sleep(STEP),
                Ok(None) | Err(_) => {
                    self.kill();
                    return Err(NotEnded::Late);
                }
            }
        };
        // What an SDK leaves running must not keep our streams open.
        self.kill();
        self.read_out();
        let said_so = self.answers.try_iter().any(|answer| matches!(answer, Answer::Ended));
        if said_so { Ok(()) } else { Err(NotEnded::Died(format!("{status}: {}", self.last_words()))) }
    }

    /// Waits for what an ended helper has written.
    fn read_out(&self) {
        let patience = Instant::now() + READ_OUT;
        while self.readers.iter().any(|thread| !thread.is_finished()) && Instant::now() < patience {
            thread::sleep(STEP);
        }
    }

    /// Ends the process and all it started, at once.
    pub fn kill(&self) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            // Whoever is gone already needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn last_words(&self) -> String {
        let words = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if words.is_empty() { "it said nothing".to_string() } else { words.clone() }
    }
}

fn beside(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = thread::Builder::new().name("visualizer".to_string()).spawn(work);
    thread.map_err(|error| format!("no thread for --visualizer: {error}"))
}

fn spawn(asked: &VisualPlan) -> Result<Child, String> {
    let python = asked.python.as_deref().unwrap_or(Path::new("python3"));
    let service = asked.service.name();
    let spawned = Command::new(python)
        // The script is no secret; the key goes through standard input.
        .args(["-u", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us: the helper ends when we say so.
        .process_group(0)
        .spawn();
    spawned.map_err(|error| match &asked.python {
        Some(python) => format!("--python {} cannot be started: {error}", python.display()),
        None => format!(
            "--visualizer {service} needs python3 on PATH ({error}): install it and run python3 -m pip install \
             {service}, or give --python DIR/bin/python"
        ),
    })
}

fn secrets() -> Vec<String> {
    let values = SECRETS.into_iter().filter_map(|name| std::env::var(name).ok());
    values.filter(|value| value.len() >= 4 && value != crate::plan::LOCAL).collect()
}

/// Brings what the helper says where it belongs.
#[derive(Clone)]
struct Words {
    log: Arc<Log>,
    secrets: Vec<String>,
    name: &'static str,
}

impl Words {
    /// Standard error goes to the log file, line by line.
    fn keep(&self, stderr: ChildStderr, last: &Mutex<String>) {
        each_line(stderr, |line| {
            let line = mask(line, &self.secrets);
            self.log.aside(&format!("{}: {line}", self.name));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
        });
    }

    /// Answers: to the first message into `told`, a word for each of the others into `done`. Both close at the end.
    fn listen(&self, stdout: ChildStdout, told: &Sender<Answer>, done: &Sender<()>) {
        let mut complained = false;
        each_line(stdout, |line| {
            let Ok(answer) = serde_json::from_str::<Json>(line) else { return };
            let text = |name: &str| answer[name].as_str().map(|text| mask(text, &self.secrets));
            // Nobody waits for them after a call that has ended.
            if answer.get("ready").is_some() {
                let _ = told.send(Answer::Ready(text("ready")));
            } else if let Some(text) = text("failed") {
                let _ = told.send(Answer::Failed { text, hint: answer["hint"] == true });
            } else if answer.get("ended").is_some() {
                let _ = told.send(Answer::Ended);
            } else {
                if let Some(text) = text("refused") {
                    let name = self.name;
                    // Once on the screen is enough.
                    if complained {
                        self.log.aside(&text)
                    } else {
                        self.log.warning(&format!("{name} refused {text}"))
                    }
                    complained = true;
                }
                let _ = done.send(());
            }
        });
    }
}

/// Lines without control characters, however long and in whatever encoding, until the end.
fn each_line(from: impl Read, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text: String = String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).collect();
        if !text.trim().is_empty() {
            take(text.trim_end());
        }
        line.clear();
    }
}
