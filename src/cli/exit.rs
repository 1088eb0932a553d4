//! How a call ends: exit statuses, and the text of one that did not get to work.

/// Exit statuses.
pub mod status {
    pub const DONE: u8 = 0;
    /// A given SLO was missed, or every request failed.
    pub const MISSED: u8 = 1;
    /// It could not run.
    pub const UNABLE: u8 = 2;
    /// The run is void.
    pub const VOID: u8 = 3;
    pub const INTERRUPTED: u8 = 130;
}

/// The end of a program that did not get to work: what to write where, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExit {
    pub text: String,
    /// Help and version go to standard output, mistakes to standard error.
    pub to_stdout: bool,
    pub status: u8,
}

impl EarlyExit {
    /// A mistake that ends the program: one line, which names what is wrong and what to do.
    pub fn error(text: &str) -> EarlyExit {
        EarlyExit { text: format!("error: {text}\n"), to_stdout: false, status: status::UNABLE }
    }

    /// Writes it where it belongs; gives the exit status.
    pub fn show(&self) -> u8 {
        if self.to_stdout {
            print!("{}", self.text);
        } else {
            eprint!("{}", self.text);
        }
        self.status
    }
}
