//! The log, written to `benchmark.log` and to standard error. Workers do not use it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::files;
use crate::options::LogLevel;
use crate::secrets::mask_foreign;
use crate::visible::visible;

/// A destination of log lines.
pub(crate) struct Sink {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Whether progress lines are written; a screen with a progress bar does not need them.
    pub progress: bool,
    /// Whether it is a screen. The error that ends the call is printed on screens separately.
    pub screen: bool,
    pub to: Destination,
}

/// Where the lines of a sink go.
pub(crate) enum Destination {
    Writer(Box<dyn Write + Send>),
    /// A file that [`Log::open_files`] will open; until then its lines are kept.
    Pending {
        path: PathBuf,
        lines: Vec<u8>,
    },
}

/// The most bytes of lines that are kept for a file that is not open.
const PENDING_BYTES: usize = 1 << 20;

/// Writes lines such as `2026-05-16 11:36:33,122 - ringmark - INFO - 100 of 1000 requests`.
pub struct Log {
    sinks: Mutex<Vec<Sink>>,
    secrets: Vec<String>,
    now: fn() -> Timestamp,
    zone: TimeZone,
}

impl Log {
    /// A log without sinks. `now` is the wall clock and `zone` the time zone of the timestamps. Every text in `secrets` is
    /// masked, and what looks like a secret of someone else.
    pub fn new(now: fn() -> Timestamp, zone: TimeZone, secrets: Vec<String>) -> Log {
        Log { sinks: Mutex::new(Vec::new()), secrets, now, zone }
    }

    /// Adds a sink for lines of `level` and more severe levels. The program has files and a screen instead.
    #[cfg(any(test, feature = "internals"))]
    pub fn add(&self, level: LogLevel, to: Box<dyn Write + Send>) {
        self.lock().push(Sink { level, progress: true, screen: false, to: Destination::Writer(to) });
    }

    /// Adds a file, which is created or appended to when [`Log::open_files`] is called: a call that is rejected before
    /// leaves none.
    pub(crate) fn add_file(&self, level: LogLevel, path: PathBuf) {
        let to = Destination::Pending { path, lines: Vec::new() };
        self.lock().push(Sink { level, progress: true, screen: false, to });
    }

    /// Opens the files that are not open yet, and writes the lines that they have missed. The error names the file.
    pub(crate) fn open_files(&self) -> Result<(), (PathBuf, io::Error)> {
        for sink in self.lock().iter_mut() {
            let Destination::Pending { path, lines } = &sink.to else { continue };
            let opened = files::open_append(path).and_then(|mut file| file.write_all(lines).map(|()| file));
            let file = opened.map_err(|error| (path.clone(), error))?;
            sink.to = Destination::Writer(Box::new(file));
        }
        Ok(())
    }

    /// Adds a screen. `progress`: write progress lines, because there is no progress bar.
    pub(crate) fn add_screen(&self, level: LogLevel, progress: bool, to: Box<dyn Write + Send>) {
        self.lock().push(Sink { level, progress, screen: true, to: Destination::Writer(to) });
    }

    /// Logs the error that ends the call. Written to files only, because it is printed on the screen separately.
    pub(crate) fn final_error(&self, text: &str) {
        self.write_where(LogLevel::Error, text, |sink| !sink.screen);
    }

    /// Logs the output of another program. Written to files only.
    pub(crate) fn program_output(&self, text: &str) {
        self.write_where(LogLevel::Info, text, |sink| !sink.screen);
    }

    /// Logs figures during a run. Written to files only, because screens have a progress bar or progress lines.
    pub(crate) fn figures(&self, text: &str) {
        self.write_where(LogLevel::Info, text, |sink| !sink.screen);
    }

    /// Logs a progress line.
    pub fn progress(&self, text: &str) {
        self.write_where(LogLevel::Info, text, |sink| sink.progress);
    }

    /// Whether any sink writes lines of this level. Checked before an expensive text is formatted.
    pub(crate) fn is_enabled(&self, level: LogLevel) -> bool {
        self.lock().iter().any(|sink| level <= sink.level)
    }

    /// Logs an error that ends the call or a run.
    pub fn error(&self, text: &str) {
        self.write(LogLevel::Error, text);
    }

    /// Logs something that the user should know about the results.
    pub fn warning(&self, text: &str) {
        self.write(LogLevel::Warning, text);
    }

    /// Logs what happens.
    pub(crate) fn info(&self, text: &str) {
        self.write(LogLevel::Info, text);
    }

    /// Logs the result of a run in one line. A terminal has it without time and level, so that it fits.
    pub(crate) fn result(&self, text: &str) {
        let is_terminal = |sink: &Sink| sink.screen && !sink.progress;
        self.write_where(LogLevel::Info, text, |sink| !is_terminal(sink));
        let line = format!("{}\n", visible(&mask_foreign(text, &self.secrets)).trim_end());
        for sink in self.lock().iter_mut().filter(|sink| LogLevel::Info <= sink.level && is_terminal(sink)) {
            if let Destination::Writer(to) = &mut sink.to {
                // As for other lines, errors are ignored.
                let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
            }
        }
    }

    /// Logs requests and responses.
    pub fn debug(&self, text: &str) {
        self.write(LogLevel::Debug, text);
    }

    /// Logs an event that happened at `unix_ns`, nanoseconds since 1970. The time of the event is added with microseconds,
    /// because the timestamp of the line is the time of writing.
    pub(crate) fn debug_at(&self, unix_ns: i64, text: &str) {
        if !self.is_enabled(LogLevel::Debug) {
            return;
        }
        let at = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default().to_zoned(self.zone.clone());
        self.debug(&format!("{} {text}", at.strftime("%H:%M:%S.%6f")));
    }

    fn write(&self, level: LogLevel, text: &str) {
        self.write_where(level, text, |_| true);
    }

    fn write_where(&self, level: LogLevel, text: &str, filter: impl Fn(&Sink) -> bool) {
        let mut sinks = self.lock();
        let is_selected = |sink: &Sink| level <= sink.level && filter(sink);
        if !sinks.iter().any(is_selected) {
            return;
        }
        let timestamp = (self.now)().to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
        // Further lines are indented, so that no text can look like a line of its own.
        let text = visible(&mask_foreign(text, &self.secrets)).trim_end().replace('\n', "\n    ");
        let mut line = format!("{timestamp} - ringmark - {} - {text}", name(level));
        line.push('\n');
        for sink in sinks.iter_mut().filter(|sink| is_selected(sink)) {
            match &mut sink.to {
                // A full disk or a closed terminal must not end a measurement, so errors are ignored.
                Destination::Writer(to) => drop(to.write_all(line.as_bytes()).and_then(|()| to.flush())),
                Destination::Pending { lines, .. } if lines.len() + line.len() <= PENDING_BYTES => {
                    lines.extend_from_slice(line.as_bytes());
                }
                Destination::Pending { .. } => {}
            }
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
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_has_no_time_on_a_terminal() {
        let log = Log::new(|| Timestamp::UNIX_EPOCH, TimeZone::UTC, Vec::new());
        let (terminal, other, file) = (Buffer::default(), Buffer::default(), Buffer::default());
        log.add_screen(LogLevel::Info, false, Box::new(terminal.clone()));
        log.add_screen(LogLevel::Info, true, Box::new(other.clone()));
        log.add_screen(LogLevel::Error, false, Box::new(file.clone()));
        log.result("Concurrency 8: 5 req/s");
        let text = |buffer: &Buffer| String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text(&terminal), "Concurrency 8: 5 req/s\n");
        assert_eq!(text(&other), "1970-01-01 00:00:00,000 - ringmark - INFO - Concurrency 8: 5 req/s\n");
        assert_eq!(text(&file), "", "--quiet");
    }

    #[test]
    fn a_file_is_created_when_it_is_opened_and_has_the_earlier_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let log = Log::new(Timestamp::now, TimeZone::UTC, Vec::new());
        log.add_file(LogLevel::Info, path.clone());
        log.info("before");
        assert!(!path.exists());
        log.open_files().unwrap();
        log.open_files().unwrap();
        log.info("after");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("INFO - before\n") && text.ends_with("INFO - after\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn lines_have_time_and_level_and_secrets_are_masked() {
        let now = || Timestamp::from_millisecond(1_778_931_393_122).unwrap();
        let log = Log::new(now, TimeZone::UTC, vec!["sk-1".to_string()]);
        let (all, few) = (Buffer::default(), Buffer::default());
        log.add(LogLevel::Debug, Box::new(all.clone()));
        log.add(LogLevel::Warning, Box::new(few.clone()));
        log.info("key sk-1 sent");
        log.warning("late");
        let text = |buffer: &Buffer| String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text(&all),
            "2026-05-16 11:36:33,122 - ringmark - INFO - key **** sent\n2026-05-16 11:36:33,122 - ringmark - WARNING - late\n"
        );
        assert_eq!(text(&few), "2026-05-16 11:36:33,122 - ringmark - WARNING - late\n");
        log.error("no\u{1b}[2J\r\n2026-05-16 - ringmark - INFO - forged");
        assert!(text(&few).ends_with(" - ERROR - no\\u{1b}[2J\\r\n    2026-05-16 - ringmark - INFO - forged\n"));
        assert!(log.is_enabled(LogLevel::Debug));
        log.debug_at(1_778_931_393_121_456_789, "request 0 sent");
        assert!(text(&all).ends_with(",122 - ringmark - DEBUG - 11:36:33.121456 request 0 sent\n"), "{}", text(&all));
    }
}
