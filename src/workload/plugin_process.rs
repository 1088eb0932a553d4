//! Programs of the user as plug-ins: lines in, lines out, before the clock starts or after the run has ended.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

/// Of a program's standard error so much is kept, its end, bytes.
const KEPT_STDERR_BYTES: usize = 64 * 1024;

/// One call of a program.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub path: &'a Path,
    /// Its only argument.
    pub verb: Option<&'static str>,
    pub environment: Vec<(&'static str, String)>,
}

/// Where the lines of a program's standard input go. A program that does not want all of them is no mistake here: what
/// it makes of the rest shows in what it prints.
pub struct Feed(BufWriter<ChildStdin>);

impl Feed {
    /// Hands one line over; false when the program reads no more.
    pub fn line(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).and_then(|()| self.0.write_all(b"\n")).is_ok()
    }
}

/// Runs the program to its end. `feed` writes its standard input, on a thread of its own; `each` takes every line that
/// it prints, empty ones left out, with its number from 1. All lines are read, and a program that fails at its end has
/// failed. The error is one line: the first mistake in a line, or how the program ended and what it said last.
pub fn run(
    call: &Call<'_>,
    feed: Option<impl FnOnce(&mut Feed) -> Result<(), String> + Send>,
    each: impl FnMut(&str, u64) -> Result<(), String>,
) -> Result<(), String> {
    let mut child = start(call, feed.is_some())?;
    let errors = child.stderr.take().map(|stderr| thread::spawn(move || last_line(stderr)));
    let stdin = child.stdin.take();
    let (read, fed) = thread::scope(|scope| {
        let feeder = feed.zip(stdin).map(|(feed, stdin)| {
            scope.spawn(move || {
                let mut input = Feed(BufWriter::new(stdin));
                let fed = feed(&mut input);
                // The rest of the buffer; a program that has ended wants none of it.
                let _ = input.0.flush();
                fed
            })
        });
        let read = read_lines(&mut child, each);
        if read.is_err() {
            // It may still be printing or waiting; nobody listens any more.
            let _ = child.kill();
        }
        let fed =
            feeder.map_or(Ok(()), |feeder| feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (read, fed)
    });
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
    let last = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
    read?;
    fed?;
    judge(status, &last)
}

fn judge(status: ExitStatus, last: &str) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let said = if last.is_empty() { "it wrote nothing to standard error" } else { last };
    Err(format!("the program failed ({status}): {said}"))
}

fn read_lines(child: &mut Child, mut each: impl FnMut(&str, u64) -> Result<(), String>) -> Result<(), String> {
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    for (line, number) in BufReader::new(stdout).lines().zip(1..) {
        let line = line.map_err(|error| format!("its output cannot be read: {error}"))?;
        if !line.trim().is_empty() {
            each(line.trim(), number).map_err(|what| format!("line {number} of its output {what}"))?;
        }
    }
    Ok(())
}

fn start(call: &Call<'_>, with_input: bool) -> Result<Child, String> {
    let path = call.path;
    check(path)?;
    // A bare name would be looked for in PATH.
    let file = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_path_buf() };
    let mut command = Command::new(&file);
    if !is_executable(path) {
        command = Command::new("python3");
        command.arg(&file);
    }
    command
        .args(call.verb)
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .stdin(if with_input { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))
}

/// Whether the file is there and can be run: it is executable, or Python, which is then asked to run it.
pub fn check(path: &Path) -> Result<(), String> {
    if !path.is_file() {
        return Err("there is no such program".to_string());
    }
    if !is_executable(path) && path.extension().is_none_or(|extension| extension != "py") {
        return Err(format!("the file is not executable: run chmod +x {}", path.display()));
    }
    Ok(())
}

/// Whether anybody may execute the file.
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The last line a program wrote to standard error; the rest is read away, so that it never blocks.
fn last_line(mut stderr: ChildStderr) -> String {
    let (mut kept, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stderr.read(&mut part) {
        kept.extend_from_slice(&part[..count]);
        if kept.len() > 2 * KEPT_STDERR_BYTES {
            kept.drain(..kept.len() - KEPT_STDERR_BYTES);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_string()
}
