//! The log: `benchmark.log` and standard error. Used beside the measurement only, never by a worker.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::options::LogLevel;
use crate::secrets::mask;

/// A sink with the least important level it takes.
pub struct Sink {
    pub level: LogLevel,
    /// Takes the figures so far; a screen with a progress bar does not need them.
    pub progress: bool,
    /// People look at it, and see the error that ends the call anyway.
    pub screen: bool,
    pub to: Box<dyn Write + Send>,
}

/// Writes lines such as `2026-05-16 11:36:33,122 - ringmark - INFO - 100 of 1000 requests`.
pub struct Log {
    sinks: Mutex<Vec<Sink>>,
    secrets: Vec<String>,
    now: fn() -> Timestamp,
    zone: TimeZone,
}

impl Log {
    /// A log without sinks. `now` is the wall clock, `zone` the zone of the stamps, and every text of `secrets` is
    /// masked wherever it would appear.
    pub fn new(now: fn() -> Timestamp, zone: TimeZone, secrets: Vec<String>) -> Log {
        Log { sinks: Mutex::new(Vec::new()), secrets, now, zone }
    }

    /// Sends lines of `level` and above also to `to`.
    pub fn add(&self, level: LogLevel, to: Box<dyn Write + Send>) {
        self.lock().push(Sink { level, progress: true, screen: false, to });
    }

    /// The same for a screen, with the figures so far when no bar shows them.
    pub fn add_screen(&self, level: LogLevel, progress: bool, to: Box<dyn Write + Send>) {
        self.lock().push(Sink { level, progress, screen: true, to });
    }

    /// The error that ends the call: for the file, since the screen is told it last of all.
    pub fn last_words(&self, text: &str) {
        self.write_where(LogLevel::Error, text, |sink| !sink.screen);
    }

    /// Words of another program: for the file only.
    pub fn aside(&self, text: &str) {
        self.write_where(LogLevel::Info, text, |sink| !sink.screen);
    }

    /// The figures so far.
    pub fn progress(&self, text: &str) {
        self.write_where(LogLevel::Info, text, |sink| sink.progress);
    }

    /// Whether a line of this level would be written anywhere: asked before a costly text is made.
    pub fn takes(&self, level: LogLevel) -> bool {
        self.lock().iter().any(|sink| level <= sink.level)
    }

    /// Trouble that ends the call or a run.
    pub fn error(&self, text: &str) {
        self.write(LogLevel::Error, text);
    }

    /// What the user should know about the results.
    pub fn warning(&self, text: &str) {
        self.write(LogLevel::Warning, text);
    }

    /// What happens.
    pub fn info(&self, text: &str) {
        self.write(LogLevel::Info, text);
    }

    /// Requests and responses as they pass.
    pub fn debug(&self, text: &str) {
        self.write(LogLevel::Debug, text);
    }

    /// The same of something that happened at this instant, nanoseconds since 1970, which is said to the microsecond:
    /// the stamp of the line is that of its writing.
    pub fn debug_at(&self, unix_ns: i64, text: &str) {
        if !self.takes(LogLevel::Debug) {
            return;
        }
        let at = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default().to_zoned(self.zone.clone());
        self.debug(&format!("{} {text}", at.strftime("%H:%M:%S.%6f")));
    }

    fn write(&self, level: LogLevel, text: &str) {
        self.write_where(level, text, |_| true);
    }

    fn write_where(&self, level: LogLevel, text: &str, wanted: impl Fn(&Sink) -> bool) {
        let mut sinks = self.lock();
        let takes = |sink: &Sink| level <= sink.level && wanted(sink);
        if !sinks.iter().any(takes) {
            return;
        }
        let stamp = (self.now)().to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
        let mut line = format!("{stamp} - ringmark - {} - {}", name(level), mask(text, &self.secrets));
        line.push('\n');
        for sink in sinks.iter_mut().filter(|sink| takes(sink)) {
            // A full disk or a closed terminal must not end a measurement.
            let _ = sink.to.write_all(line.as_bytes()).and_then(|()| sink.to.flush());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sink>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "ERROR",
        LogLevel::Warning => "WARNING",
        LogLevel::Info => "INFO",
        LogLevel::Debug => "DEBUG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_have_time_level_and_no_secrets() {
        let now = || Timestamp::from_millisecond(1_778_931_393_122).unwrap();
        let log = Log::new(now, TimeZone::UTC, vec!["sk-1".to_string()]);
        let (all, few) = (Page::default(), Page::default());
        log.add(LogLevel::Debug, Box::new(all.clone()));
        log.add(LogLevel::Warning, Box::new(few.clone()));
        log.info("key sk-1 sent");
        log.warning("late");
        let text = |page: &Page| String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text(&all),
            "2026-05-16 11:36:33,122 - ringmark - INFO - key **** sent\n2026-05-16 11:36:33,122 - ringmark - WARNING - late\n"
        );
        assert_eq!(text(&few), "2026-05-16 11:36:33,122 - ringmark - WARNING - late\n");
        assert!(log.takes(LogLevel::Debug));
        log.debug_at(1_778_931_393_121_456_789, "request 0 sent");
        assert!(text(&all).ends_with(",122 - ringmark - DEBUG - 11:36:33.121456 request 0 sent\n"), "{}", text(&all));
    }
}
