//! `--dataset ./program`: prompts that a program prints, one JSON a line, read to the end before the clock starts.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use serde_json::Value;

use super::line_by_line::check_messages;
use super::{Recipe, WorkloadError};
use crate::api::render::Prompt;

/// Of a program's standard error so much is kept, its end, bytes.
const KEPT_STDERR_BYTES: usize = 64 * 1024;

/// Runs the program and reads prompts with their line numbers. All lines are read and checked, also past what `take`
/// wants: a program that fails at its end has failed. It finds in its environment what the run wants:
/// `RINGMARK_NUMBER` (requests, warm-up included; not set when only time ends the run), `RINGMARK_OFFSET`,
/// `RINGMARK_SEED` and `RINGMARK_MODEL`.
pub fn read(path: &Path, recipe: &Recipe, mut take: impl FnMut(Prompt, u64) -> bool) -> Result<(), WorkloadError> {
    let wrong = |what: String| WorkloadError::Data(format!("--dataset {}: {what}", path.display()));
    let mut child = start(path, recipe).map_err(&wrong)?;
    let errors = child.stderr.take().map(|stderr| thread::spawn(move || last_line(stderr)));
    let (mut more, mut found) = (true, false);
    let read = read_lines(&mut child, |line, number| {
        let prompt = parse(line).map_err(|what| wrong(format!("line {number} of its output {what}")))?;
        found = true;
        if more {
            more = take(prompt, number);
        }
        Ok(())
    });
    if read.is_err() {
        // It may still be printing; nobody reads it any more.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| wrong(format!("cannot be waited for: {error}")))?;
    let last = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
    match read {
        Err(Trouble::Line(error)) => return Err(error),
        Err(Trouble::Read(error)) => return Err(wrong(format!("its output cannot be read: {error}"))),
        Ok(()) => {}
    }
    if !status.success() {
        let said = if last.is_empty() { "it wrote nothing to standard error".to_string() } else { last };
        return Err(wrong(format!("the program failed ({status}): {said}")));
    }
    if found { Ok(()) } else { Err(wrong("the program printed no prompt".to_string())) }
}

enum Trouble {
    Line(WorkloadError),
    Read(std::io::Error),
}

fn read_lines(child: &mut Child, mut each: impl FnMut(&str, u64) -> Result<(), WorkloadError>) -> Result<(), Trouble> {
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    for (line, number) in BufReader::new(stdout).lines().zip(1..) {
        let line = line.map_err(Trouble::Read)?;
        if !line.trim().is_empty() {
            each(line.trim(), number).map_err(Trouble::Line)?;
        }
    }
    Ok(())
}

fn start(path: &Path, recipe: &Recipe) -> Result<Child, String> {
    if !path.is_file() {
        return Err("there is no such program".to_string());
    }
    // A bare name would be looked for in PATH.
    let file = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_path_buf() };
    let mut command = Command::new(&file);
    if !is_executable(path) {
        if path.extension().is_none_or(|extension| extension != "py") {
            return Err(format!("the file is not executable: run chmod +x {}", path.display()));
        }
        command = Command::new("python3");
        command.arg(&file);
    }
    if let Some(needed) = recipe.needed {
        command.env("RINGMARK_NUMBER", needed.to_string());
    }
    command
        .env("RINGMARK_OFFSET", recipe.offset.to_string())
        .env("RINGMARK_SEED", recipe.seed.to_string())
        .env("RINGMARK_MODEL", &recipe.options.model)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))
}

/// Whether anybody may execute the file.
pub fn is_executable(path: &Path) -> bool {
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

/// A string, a list of messages, `{"messages": [...]}`, or a whole body.
fn parse(line: &str) -> Result<Prompt, String> {
    match serde_json::from_str(line) {
        Ok(Value::String(text)) => Ok(Prompt::Text(text)),
        Ok(Value::Array(messages)) => check_messages(messages),
        Ok(Value::Object(body)) => match body.get("messages") {
            Some(Value::Array(messages)) if body.len() == 1 => check_messages(messages.clone()),
            _ => Ok(Prompt::Body(body)),
        },
        Ok(_) => Err("is neither a string, a list of messages nor an object".to_string()),
        Err(error) => {
            Err(format!("is not JSON ({error}); print each prompt as JSON, in Python with print(json.dumps(prompt))"))
        }
    }
}
