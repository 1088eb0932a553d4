//! SIGINT and SIGTERM: the first signal ends the run early and in order, the second ends the process immediately.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::status;

/// Value of the stop flag: continue.
pub(crate) const GO_ON: u8 = 0;
/// Value of the stop flag: send no more requests, drain for 5 s, write the results.
pub const STOP: u8 = 1;
/// Value of the stop flag: write the results without draining.
pub(crate) const STOP_NOW: u8 = 2;

/// Time between the second signal and the forced exit.
const GRACE: Duration = Duration::from_millis(500);

/// Handles signals on a separate thread and sets `stop`. `on_first` runs after the first signal and informs the user.
/// `on_second` runs after the second signal, just before the process exits with status 130.
pub(crate) fn watch(
    stop: Arc<AtomicU8>,
    on_first: impl Fn() + Send + 'static,
    on_second: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
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
}
