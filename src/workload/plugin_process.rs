//! Programs of the user as plug-ins. They read and write lines, before or after the run.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

use serde_json::{Map, Value as Json};

use super::class_file;
use crate::files::Dataset;
use crate::host::children;

/// Bytes kept of the end of a program's standard error.
const KEPT_STDERR_BYTES: usize = 64 * 1024;

/// Longest line of output, bytes.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// One call of a program, or of a class in a Python file.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub path: &'a Path,
    /// The only argument; `None` for a dataset.
    pub verb: Option<&'static str>,
    pub environment: Vec<(&'static str, String)>,
    /// The arguments that a class gets; see [`super::recipe::Recipe::plugin_arguments`].
    pub arguments: &'a Map<String, Json>,
}

/// The standard input of a program, line by line. A program that stops reading early is no error here: its output is
/// checked.
pub struct Feed(BufWriter<ChildStdin>);

impl Feed {
    /// Writes one line; `false` if the program has stopped reading.
    pub fn line(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).and_then(|()| self.0.write_all(b"\n")).is_ok()
    }
}

/// Runs a program until it ends. `feed` writes its standard input on a thread of its own; `each` takes every non-empty
/// line of its output with the line number from 1. All lines are read, and a non-zero exit status is an error. The
/// error is one line: the first invalid line of output, or the exit status with the last line of standard error, for a
/// Python exception with its place in the file.
pub fn run(
    call: &Call<'_>,
    feed: Option<impl FnOnce(&mut Feed) -> Result<(), String> + Send>,
    each: impl FnMut(&str, u64) -> Result<(), String>,
) -> Result<(), String> {
    let (mut child, first_line) = start(call, feed.is_some())?;
    let file = class_file::split(call.path).0.to_path_buf();
    let errors = child.stderr.take().map(|stderr| thread::spawn(move || failure_text(&kept_end(stderr), &file)));
    let stdin = child.stdin.take();
    let (read, fed) = thread::scope(|scope| {
        let feeder = stdin.map(|stdin| {
            scope.spawn(move || {
                let mut input = Feed(BufWriter::new(stdin));
                let is_read = first_line.is_none_or(|line| input.line(&line));
                let fed = feed.filter(|_| is_read).map_or(Ok(()), |feed| feed(&mut input));
                // Writes the rest of the buffer; fails if the program has ended, which is no error.
                let _ = input.0.flush();
                fed
            })
        });
        let read = read_lines(&mut child, each);
        if read.is_err() {
            // The program may still be writing or waiting for input.
            children::kill(child.id());
        }
        let fed =
            feeder.map_or(Ok(()), |feeder| feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (read, fed)
    });
    let status = children::wait(&mut child).map_err(|error| format!("cannot be waited for: {error}"))?;
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
    let mut stdout = BufReader::new(Dataset::new(stdout));
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        let read = (&mut stdout).take(MAX_LINE_BYTES).read_line(&mut line);
        match read.map_err(|error| format!("its output cannot be read: {error}"))? as u64 {
            0 => break,
            MAX_LINE_BYTES if !line.ends_with('\n') => {
                return Err(format!("line {number} of its output is longer than {} MiB", MAX_LINE_BYTES >> 20));
            }
            _ => {}
        }
        if !line.trim().is_empty() {
            each(line.trim(), number).map_err(|what| format!("line {number} of its output {what}"))?;
        }
    }
    Ok(())
}

/// Starts the program. The text is the first line of its input, if it is a class.
fn start(call: &Call<'_>, with_input: bool) -> Result<(Child, Option<String>), String> {
    check(call.path)?;
    let (path, name) = class_file::split(call.path);
    let executable = is_executable(path);
    // A bare name would be searched in PATH.
    let file = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_path_buf() };
    let (mut command, first_line) = match class_file::command(call.path, executable) {
        Some(mut command) => {
            let kind = if call.verb.is_some() { "api" } else { "dataset" };
            command.arg(&file).args([kind, call.verb.unwrap_or_default(), name.unwrap_or_default()]);
            (command, Some(class_file::first_line(call.arguments)))
        }
        None if executable => (Command::new(&file), None),
        None => {
            let mut command = Command::new("python3");
            command.arg(&file);
            (command, None)
        }
    };
    if first_line.is_none() {
        command.args(call.verb);
    }
    // A process group of its own, so that its child processes can be ended with it.
    command
        .process_group(0)
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .stdin(if with_input || first_line.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = children::start(|| command.spawn())
        .map_err(|error| format!("cannot be started with {}: {error}", command.get_program().to_string_lossy()))?;
    Ok((child, first_line))
}

/// Checks that the file exists and can be run: it is executable, or a Python file, which is run with `python3`.
pub fn check(path: &Path) -> Result<(), String> {
    let (path, _) = class_file::split(path);
    if !path.is_file() {
        return Err("the program does not exist".to_string());
    }
    if !is_executable(path) && path.extension().is_none_or(|extension| extension != "py") {
        return Err(format!("the program is not executable: run chmod +x {}", path.display()));
    }
    Ok(())
}

/// Whether the file registers classes, which is then called instead of the file.
pub fn has_classes(path: &Path) -> bool {
    class_file::is_class_file(path, is_executable(class_file::split(path).0))
}

/// Whether the file is executable by anyone.
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The end of what a program wrote to standard error. All of it is read, so that the program never blocks.
fn kept_end(mut stderr: ChildStderr) -> String {
    let (mut kept, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stderr.read(&mut part) {
        kept.extend_from_slice(&part[..count]);
        if kept.len() > 2 * KEPT_STDERR_BYTES {
            kept.drain(..kept.len() - KEPT_STDERR_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last line of what a program wrote to standard error. If it ends a traceback of Python, followed by the place in
/// `file` where it arose.
fn failure_text(written: &str, file: &Path) -> String {
    let mut lines = written.lines().rev().filter(|line| !line.trim().is_empty()).peekable();
    let last = lines.next().unwrap_or_default().trim().to_string();
    // The lines of a traceback before the exception are indented.
    if !lines.peek().is_some_and(|line| line.starts_with("  ")) {
        return last;
    }
    let name = file.file_name().unwrap_or_default();
    let place = lines.find_map(|line| {
        let (path, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (Path::new(path).file_name() == Some(name)).then(|| format!("{}, line {number}", name.to_string_lossy()))
    });
    match place {
        Some(place) => format!("{last} ({place})"),
        None => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_has_its_place_in_the_file() {
        let text = |written: &str| failure_text(written, Path::new("./mine.py"));
        let traceback = "Traceback (most recent call last):\n  File \"/x/mine.py\", line 7, in f\n    json.loads(3)\n  \
                         File \"/lib/json/__init__.py\", line 339, in loads\n    raise TypeError\nTypeError: no text\n";
        assert_eq!(text(traceback), "TypeError: no text (mine.py, line 7)");
        assert_eq!(
            text("  File \"mine.py\", line 2\n    x = =\n        ^\nSyntaxError: no\n"),
            "SyntaxError: no (mine.py, line 2)"
        );
        assert_eq!(text(&format!("{traceback}stopped\n")), "stopped");
        assert_eq!(text("  File \"other.py\", line 2\n    x\nError\n"), "Error");
        assert_eq!(text(""), "");
    }
}
