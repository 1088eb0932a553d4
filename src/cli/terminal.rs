//! Writes to standard output and standard error, where text from elsewhere cannot control a terminal. A full disk, a closed
//! pipe or a closed terminal is an error that is returned; `print!` would panic.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io::{self, ErrorKind, IsTerminal, Write};

use super::exit::{EarlyExit, status};
use super::progress::layout::wrapped;
use crate::visible::{visible, visible_coloured};

/// Writes `text` to standard output.
///
/// # Errors
/// The exit of the command: without a message if the reader has gone away, as in `ringmark report FILE.db | head`.
pub(crate) fn print(text: &str) -> Result<(), EarlyExit> {
    write_stdout(text).map_err(|error| exit_for(&error))
}

/// Writes `text` to standard error; on a terminal, lines are broken between words. A failure has no place where it could
/// be reported.
pub(crate) fn print_error(text: &str) {
    let text = visible(text);
    let text = match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) => Cow::Owned(wrapped(&text, usize::from(size.ws_col))),
        Err(_) => text,
    };
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Standard output of a call whose files are written even if standard output cannot be: the first error is kept until
/// the end of the call.
#[derive(Debug, Default)]
pub(crate) struct Output {
    error: OnceCell<EarlyExit>,
    /// Texts go to standard error, because standard output is for a document.
    to_stderr: bool,
}

impl Output {
    /// Output to standard error if standard output is for a document.
    pub(crate) fn beside_document(to_stderr: bool) -> Output {
        Output { to_stderr, ..Output::default() }
    }

    /// Whether to use colours: the texts go to a terminal, and `NO_COLOR` is unset or empty.
    pub(crate) fn has_colours(&self) -> bool {
        let is_terminal = if self.to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// Width of the terminal that the texts go to, in columns; `otherwise` if they go to none.
    pub(crate) fn width(&self, otherwise: usize) -> usize {
        let size = match self.to_stderr {
            true => rustix::termios::tcgetwinsize(io::stderr()),
            false => rustix::termios::tcgetwinsize(io::stdout()),
        };
        size.map_or(otherwise, |size| usize::from(size.ws_col).max(1))
    }

    /// Writes `text`, unless an earlier text could not be written.
    pub(crate) fn print(&self, text: &str) {
        if self.to_stderr {
            // A failure has no place where it could be reported.
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(visible_coloured(text).as_bytes()).and_then(|()| stderr.flush());
            return;
        }
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

/// Writes a document to standard output, unchanged.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_document(text: &str) -> Result<(), EarlyExit> {
    write_unchanged(text).map_err(|error| exit_for(&error))
}

fn write_stdout(text: &str) -> io::Result<()> {
    write_unchanged(&visible_coloured(text))
}

fn write_unchanged(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn exit_for(error: &io::Error) -> EarlyExit {
    match error.kind() {
        ErrorKind::BrokenPipe => EarlyExit { text: String::new(), to_stdout: false, status: status::BROKEN_PIPE },
        _ => EarlyExit::error(&format!("cannot write to standard output: {error}")),
    }
}
