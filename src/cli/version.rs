//! `ringmark version`: what this program was built from.

use super::exit::{EarlyExit, status};
use super::terminal::print;

/// The version, and what it was built from, each on a line of its own. `build.rs` sets the variables.
pub(super) const TEXT: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("RINGMARK_COMMIT"),
    "\ntarget:   ",
    env!("RINGMARK_TARGET"),
    "\nbuild:    ",
    env!("RINGMARK_BUILD"),
    "\nfeatures: ",
    env!("RINGMARK_FEATURES"),
);

/// Prints the version, as `--version` does.
pub(super) fn show() -> Result<u8, EarlyExit> {
    print(&format!("ringmark {TEXT}\n"))?;
    Ok(status::DONE)
}
