//! The mock as a stand-alone program.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use super::{Config, Mock, Stats};

/// Starts a mock, calls `ready` with its address, serves until `stop` is not 0, and returns its counters.
///
/// # Errors
/// Those of [`Mock::start`] and [`Mock::stop`].
pub(crate) fn serve_until(
    config: &Config,
    cores: &[usize],
    bind: SocketAddr,
    stop: &AtomicU8,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<Stats> {
    let mut mock = Mock::start(config, cores, bind)?;
    ready(mock.addr());
    while stop.load(Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    mock.stop()?;
    Ok(mock.stats())
}

/// The keys of `mock:?key=value&...` and the kinds of faults as lines of text, for `--help` and documentation.
pub(crate) fn keys_help() -> String {
    let mut text = String::new();
    for key in super::KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!(" [{}]", key.default) };
        text.push_str(&format!("  {}={}{default}\n      {}\n", key.name, key.values, key.meaning));
    }
    text.push_str("\nKinds of faults:\n");
    for (written, meaning) in super::FAULTS {
        text.push_str(&format!("  {written}\n      {meaning}\n"));
    }
    text
}
