//! SIGINT, SIGTERM, SIGHUP and SIGQUIT: the first signal ends the run early and in order, the second ends the process
//! immediately. A signal that was ignored when the process started, as SIGHUP is with `nohup`, stays ignored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::status;

/// Value of the stop flag: continue.
pub(crate) const GO_ON: u8 = 0;
/// Value of the stop flag: send no more requests, drain for 5 s, write the results.
pub const STOP: u8 = 1;
/// Value of the stop flag: write the results without draining.
pub(crate) const STOP_NOW: u8 = 2;

/// The signals that end a call.
const SIGNALS: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
/// Time between the second signal and the forced exit.
const GRACE: Duration = Duration::from_millis(500);

/// Handles signals on a separate thread and sets `stop`. `on_first` runs after the first signal and informs the user.
/// `on_second` runs after the second signal, just before the process exits with status 130.
pub(crate) fn watch(
    stop: Arc<AtomicU8>,
    on_first: impl Fn() + Send + 'static,
    on_second: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let ignored = ignored_signals(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    let mut signals = Signals::new(SIGNALS.into_iter().filter(|signal| ignored & mask_of(*signal) == 0))?;
    thread::Builder::new().name("interrupt".to_string()).spawn(move || {
        for _ in signals.forever() {
            if stop.compare_exchange(GO_ON, STOP, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                on_first();
                continue;
            }
            stop.store(STOP_NOW, Ordering::SeqCst);
            thread::sleep(GRACE);
            on_second();
            std::process::exit(i32::from(status::INTERRUPTED));
        }
    })?;
    Ok(())
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) an error of the write; by default the kernel kills the
/// process.
pub(crate) fn report_file_size_limit() {
    // Without the handler only the message at the limit is missing. The flag is not read: the write says the same.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// The mask of ignored signals in `/proc/PID/status`; 0 if there is none.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn mask_of(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_first_signal_sets_the_stop_flag() {
        let stop = Arc::new(AtomicU8::new(GO_ON));
        let (signalled, on_signal) = mpsc::channel();
        watch(stop.clone(), move || signalled.send(()).unwrap(), || ()).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        on_signal.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(stop.load(Ordering::SeqCst), STOP);
    }

    #[test]
    fn ignored_signals_are_read() {
        let ignored = ignored_signals("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert!(ignored & mask_of(SIGHUP) != 0 && ignored & mask_of(SIGINT) == 0);
        assert_eq!(ignored_signals(""), 0);
    }
}
