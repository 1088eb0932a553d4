//! Exit statuses, and early exits: help, version and errors before the work starts.

/// Exit statuses.
pub mod status {
    /// Success.
    pub const DONE: u8 = 0;
    /// A run missed an SLO, or all its requests failed.
    pub const MISSED: u8 = 1;
    /// The command could not run, or could not write its results.
    pub(crate) const UNABLE: u8 = 2;
    /// A run is void: its figures cannot be used, or its server ended.
    pub const VOID: u8 = 3;
    /// Ended by SIGINT, SIGTERM, SIGHUP or SIGQUIT.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// The reader of standard output has gone away: the status of a program that SIGPIPE has killed.
    pub(crate) const BROKEN_PIPE: u8 = 141;
}

/// An exit before the work starts: the text, the stream it goes to, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExit {
    pub text: String,
    /// Help and version go to standard output, errors to standard error.
    pub to_stdout: bool,
    pub status: u8,
}

impl EarlyExit {
    /// An error that ends the program with status 2. `text` is one line: what is wrong and what to do.
    pub fn error(text: &str) -> EarlyExit {
        EarlyExit {
            text: format!("error: {}\n", crate::visible::visible(text)),
            to_stdout: false,
            status: status::UNABLE,
        }
    }
}
