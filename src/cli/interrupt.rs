//! Ctrl-C and SIGTERM: the first asks for an early, orderly end, the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::status;

/// Values of the stop flag.
pub const GO_ON: u8 = 0;
/// Offer no more requests, drain briefly, write everything.
pub const STOP: u8 = 1;
/// Write what is there and end.
pub const STOP_NOW: u8 = 2;

/// After the second signal, the time that the main thread has to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Watches for signals on a thread of its own and raises `stop`. `on_first` is called at the first one, to tell the
/// user; `on_second` just before the process is ended with status 130.
pub fn watch(
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
    fn the_first_signal_asks_for_an_orderly_end() {
        let stop = Arc::new(AtomicU8::new(GO_ON));
        let (told, hears) = mpsc::channel();
        watch(stop.clone(), move || told.send(()).unwrap(), || ()).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        hears.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(stop.load(Ordering::SeqCst), STOP);
    }
}
