//! The helper process: `python3` with the script `helper.py`, which communicates over its standard streams.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::Value as Json;

use super::feed::{Feed, feed};
use crate::host::children;
use crate::log::Log;
use crate::plan::VisualizerPlan;
use crate::secrets::mask_foreign;

const SCRIPT: &str = include_str!("helper.py");

/// Variables whose values are masked in the output of SDKs.
const SECRETS: [&str; 4] = ["WANDB_API_KEY", "SWANLAB_API_KEY", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"];

/// How long to read the output of a helper that has exited. A process that it has left behind may keep the streams
/// open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Period of the checks whether the helper has exited.
const POLL_PERIOD: Duration = Duration::from_millis(10);

/// A response of the helper to the first or last message.
#[derive(Debug)]
pub enum HelperResponse {
    /// The service is ready; the URL or folder of its results.
    Ready(Option<String>),
    /// The service could not be started. `hint`: the text is the SDK's and does not tell the user what to do.
    Failed { text: String, hint: bool },
    /// All messages have been processed.
    Ended,
    /// The process has exited; its last line of output.
    Exited(String),
}

/// Why the helper did not finish regularly.
#[derive(Debug)]
pub enum FinishError {
    Timeout,
    /// The exit status and the last line of output.
    Died(String),
}

/// The running process and its threads.
pub struct Helper {
    child: Child,
    responses: Receiver<HelperResponse>,
    last_line: Arc<Mutex<String>>,
    /// The readers of its two output streams.
    readers: Vec<JoinHandle<()>>,
}

impl Helper {
    /// Starts the process and sends it `start`. The process and its threads inherit the caller's CPU affinity.
    ///
    /// # Errors
    /// One line with the cause and what to do.
    pub fn start(plan: &VisualizerPlan, single: bool, start: &Json, log: &Arc<Log>) -> Result<(Helper, Feed), String> {
        let mut child = spawn_helper(plan)?;
        let (feed, receiver) = feed(plan.service.name(), single);
        let (response_sender, responses) = unbounded();
        let (acknowledge, acknowledged) = unbounded();
        let last_line = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        let output = OutputReader { log: log.clone(), secrets: secrets(), name: plan.service.name() };
        if let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        {
            let start = start.clone();
            spawn_thread(move || receiver.write(&start, stdin, &acknowledged))?;
            let (last, errors) = (last_line.clone(), output.clone());
            readers.push(spawn_thread(move || errors.log_errors(stderr, &last))?);
            readers.push(spawn_thread(move || output.read_responses(stdout, &response_sender, &acknowledge))?);
        }
        Ok((Helper { child, responses, last_line, readers }, feed))
    }

    /// The next response of the helper; `None` after `timeout`.
    pub fn next_response(&self, timeout: Duration) -> Option<HelperResponse> {
        match self.responses.recv_timeout(timeout) {
            Ok(response) => Some(response),
            Err(error) if error.is_timeout() => None,
            Err(_) => {
                self.drain_output();
                Some(HelperResponse::Exited(self.last_output()))
            }
        }
    }

    /// Waits for the exit of the helper after the last message. Kills it and its children after `limit`.
    ///
    /// # Errors
    /// The helper did not exit in time, or exited before it had processed all messages.
    pub fn finish(mut self, limit: Duration) -> Result<(), FinishError> {
        let began = Instant::now();
        let status = loop {
            match children::try_wait(&mut self.child) {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < limit => thread::sleep(POLL_PERIOD),
                Ok(None) | Err(_) => {
                    self.kill();
                    return Err(FinishError::Timeout);
                }
            }
        };
        // Processes that an SDK leaves running would keep the streams open.
        self.kill();
        self.drain_output();
        let ended = self.responses.try_iter().any(|response| matches!(response, HelperResponse::Ended));
        if ended { Ok(()) } else { Err(FinishError::Died(format!("{status}: {}", self.last_output()))) }
    }

    /// Waits until the output of a helper that has exited is read.
    fn drain_output(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.readers.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(POLL_PERIOD);
        }
    }

    /// Kills the process and its children.
    pub fn kill(&self) {
        children::kill(self.child.id());
    }

    fn last_output(&self) -> String {
        let line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_empty() { "it wrote no output".to_string() } else { line.clone() }
    }
}

fn spawn_thread(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = thread::Builder::new().name("visualizer".to_string()).spawn(work);
    thread.map_err(|error| format!("cannot start a thread for --visualizer: {error}"))
}

fn spawn_helper(plan: &VisualizerPlan) -> Result<Child, String> {
    let python = plan.python.as_deref().unwrap_or(Path::new("python3"));
    let service = plan.service.name();
    let mut command = Command::new(python);
    command
        // Arguments are visible to other users, so the key is sent through standard input.
        .args(["-u", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A separate process group, so that Ctrl-C reaches ringmark only, which then ends the helper.
        .process_group(0);
    let spawned = children::start(|| command.spawn());
    spawned.map_err(|error| match &plan.python {
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

/// Reads the output of the helper.
#[derive(Clone)]
struct OutputReader {
    log: Arc<Log>,
    secrets: Vec<String>,
    name: &'static str,
}

impl OutputReader {
    /// Writes the lines of standard error to the log file, and the last one to `last`.
    fn log_errors(&self, stderr: ChildStderr, last: &Mutex<String>) {
        each_line(stderr, |line| {
            let line = mask_foreign(line, &self.secrets);
            self.log.program_output(&format!("{}: {line}", self.name));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
        });
    }

    /// Reads the helper's responses: those to the first and last message are sent to `responses`; for each other
    /// message one value is sent to `acknowledge`. Both channels are closed at the end.
    fn read_responses(&self, stdout: ChildStdout, responses: &Sender<HelperResponse>, acknowledge: &Sender<()>) {
        let mut warned = false;
        each_line(stdout, |line| {
            let Ok(response) = serde_json::from_str::<Json>(line) else { return };
            let text = |name: &str| response[name].as_str().map(|text| mask_foreign(text, &self.secrets));
            // Sending fails only after the end of the call.
            if response.get("ready").is_some() {
                let _ = responses.send(HelperResponse::Ready(text("ready")));
            } else if let Some(text) = text("failed") {
                let _ = responses.send(HelperResponse::Failed { text, hint: response["hint"] == true });
            } else if response.get("ended").is_some() {
                let _ = responses.send(HelperResponse::Ended);
            } else {
                if let Some(text) = text("refused") {
                    let name = self.name;
                    // Only the first refusal is shown on the screen.
                    if warned {
                        self.log.program_output(&text)
                    } else {
                        self.log.warning(&format!("{name} refused {text}"))
                    }
                    warned = true;
                }
                let _ = acknowledge.send(());
            }
        });
    }
}

/// Calls `take` with each non-blank line until the end, without control characters. Invalid UTF-8 is replaced.
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
