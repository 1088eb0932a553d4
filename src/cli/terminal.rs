//! Writes to standard output and standard error, where text from elsewhere cannot control a terminal. A full disk, a closed
//! pipe or a closed terminal is an error that is returned; `print!` would panic.

use std::cell::OnceCell;
use std::io::{self, ErrorKind, Write};

use super::exit::{EarlyExit, status};
use crate::visible::{visible, visible_coloured};

/// Writes `text` to standard output.
///
/// # Errors
/// The exit of the command: without a message if the reader has gone away, as in `ringmark report FILE.db | head`.
pub(crate) fn print(text: &str) -> Result<(), EarlyExit> {
    write_stdout(text).map_err(|error| exit_for(&error))
}

/// Writes `text` to standard error. A failure has no place where it could be reported.
pub(crate) fn print_error(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(visible(text).as_bytes()).and_then(|()| stderr.flush());
}

/// Standard output of a call whose files are written even if standard output cannot be: the first error is kept until
/// the end of the call.
#[derive(Debug, Default)]
pub(crate) struct Output {
    error: OnceCell<EarlyExit>,
}

impl Output {
    /// Writes `text`, unless an earlier text could not be written.
    pub(crate) fn print(&self, text: &str) {
        if self.error.get().is_none()
            && let Err(error) = write_stdout(text)
        {
            self.error.get_or_init(|| exit_for(&error));
        }
    }

    /// The exit of the command if a text could not be written.
    pub(crate) fn finish(self) -> Result<(), EarlyExit> {
        self.error.into_inner().map_or(Ok(()), Err)
    }
}

fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(visible_coloured(text).as_bytes())?;
    stdout.flush()
}

fn exit_for(error: &io::Error) -> EarlyExit {
    match error.kind() {
        ErrorKind::BrokenPipe => EarlyExit { text: String::new(), to_stdout: false, status: status::BROKEN_PIPE },
        _ => EarlyExit::error(&format!("cannot write to standard output: {error}")),
    }
}
