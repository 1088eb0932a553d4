//! The progress bars: one for the warm-up, one for the run.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use self::layout::Counts;

use crate::record::Phase;
use crate::run::Reading;
use crate::workload::progress::StepProgress;

mod layout;

/// How often the bars are drawn.
const PERIOD: Duration = Duration::from_millis(100);

/// The screen's bars, shared by all runs of a call. Lines written through [`Bars::stderr`] appear above them.
#[derive(Clone, Debug)]
pub struct Bars {
    multi: MultiProgress,
}

impl Bars {
    /// Bars on standard error; none when it is not a terminal, or with `quiet`.
    pub fn new(quiet: bool) -> Bars {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        Bars { multi: MultiProgress::with_draw_target(target) }
    }

    /// A writer to standard error that does not tear the bars.
    pub fn stderr(&self) -> BesideBars {
        BesideBars { multi: self.multi.clone(), wraps: io::stderr().is_terminal() }
    }

    /// Shows what `read` says, ten times a second, until the result is dropped.
    pub fn follow(&self, read: impl Fn() -> Reading + Send + 'static) -> Following {
        let mut shown = Shown { multi: self.multi.clone(), bar: None, template: String::new() };
        Following::start(move |last| {
            shown.show(read());
            if last {
                shown.end();
            }
        })
    }

    /// Shows the making of requests until the result is dropped, with a bar for each step.
    pub fn follow_making(&self, making: Arc<StepProgress>) -> Following {
        let (multi, mut shown) = (self.multi.clone(), None);
        Following::start(move |last| {
            show_making(&multi, &mut shown, &making);
            if let Some((_, bar)) = shown.take_if(|_| last) {
                bar.abandon();
            }
        })
    }
}

/// Columns of the terminal that standard error is; 80 where it is none.
fn screen_width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(1))
}

/// The step that is shown, and its bar.
type MakingBar = Option<(Cow<'static, str>, ProgressBar)>;

fn show_making(multi: &MultiProgress, shown: &mut MakingBar, making: &StepProgress) {
    let reading = making.reading();
    if reading.what.is_empty() {
        return;
    }
    if let Some((_, bar)) = shown.take_if(|(what, _)| *what != reading.what) {
        bar.abandon();
    }
    let (_, bar) = shown.get_or_insert_with(|| {
        let bar = multi.add(ProgressBar::no_length());
        let width = screen_width();
        let counts = match reading.total {
            _ if reading.bytes => Counts::Bytes,
            0 => Counts::Endless(0),
            total => Counts::Requests(total),
        };
        // A file's name may be long; its beginning says which.
        let label: String = reading.what.chars().take(width / 2).collect();
        bar.set_style(layout::style(&layout::template(&counts, label.chars().count(), 0, width)));
        bar.set_prefix(label);
        (reading.what.clone(), bar)
    });
    if reading.total > 0 {
        bar.set_length(reading.total);
    }
    bar.set_position(reading.done);
}

/// Bars that move; they end with this.
#[derive(Debug)]
pub struct Following {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    /// Calls `show` ten times a second, and with `true` at the end.
    fn start(mut show: impl FnMut(bool) + Send + 'static) -> Following {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("progress".to_string()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                show(false);
                thread::park_timeout(PERIOD);
            }
            show(true);
        });
        // Without a thread there are no bars, and nothing else is lost.
        Following { stop, thread: thread.ok() }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A bar that panicked has nothing to say about the run.
            let _ = thread.join();
        }
    }
}

/// Standard error, with the bars out of the way while a line is written.
#[derive(Clone, Debug)]
pub struct BesideBars {
    multi: MultiProgress,
    /// Lines are broken between words, as a terminal does not by itself.
    wraps: bool,
}

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.wraps => {
                let text = layout::wrapped(text, screen_width());
                self.multi.suspend(|| io::stderr().write_all(text.as_bytes()))?;
            }
            _ => self.multi.suspend(|| io::stderr().write_all(bytes))?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The bar on the screen and the phase it belongs to.
struct Shown {
    multi: MultiProgress,
    bar: Option<(Phase, ProgressBar)>,
    /// How the bar is laid out at present.
    template: String,
}

impl Shown {
    fn show(&mut self, reading: Reading) {
        let Some(label) = label(reading.phase) else { return };
        if self.bar.as_ref().is_none_or(|(phase, _)| *phase != reading.phase) {
            self.end();
            let bar = self.multi.add(ProgressBar::no_length());
            bar.set_prefix(label);
            self.template.clear();
            self.bar = Some((reading.phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            let (length, position) = extent(&reading);
            if let Some(length) = length {
                bar.set_length(length);
            }
            bar.set_position(position);
            let message = message(&reading);
            // Terminals are made wider and narrower while a run goes on.
            let template = layout::template(&counts(&reading), label.len(), message.len(), screen_width());
            if template != self.template {
                bar.set_style(layout::style(&template));
                self.template = template;
            }
            bar.set_message(message);
        }
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.abandon();
        }
    }
}

fn label(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Preflight | Phase::Witness => None,
        Phase::Warmup => Some("Warmup"),
        Phase::Measured => Some("Processing"),
    }
}

/// Length and position of the bar: requests, or milliseconds where only time ends the phase.
fn extent(reading: &Reading) -> (Option<u64>, u64) {
    match (reading.total, reading.duration_s) {
        (Some(total), _) => (Some(total), reading.done),
        (None, Some(duration_s)) => {
            let length = (duration_s * 1e3) as u64;
            (Some(length), ((reading.elapsed_s * 1e3) as u64).min(length))
        }
        (None, None) => (None, reading.done),
    }
}

fn message(reading: &Reading) -> String {
    let mut text = format!("{} ok", reading.ok);
    if reading.failed > 0 {
        text.push_str(&format!(", {} failed", reading.failed));
    }
    if reading.elapsed_s > 0.0 && reading.done > 0 {
        text.push_str(&format!(", {:.1} req/s", reading.done as f64 / reading.elapsed_s));
    }
    text
}

fn counts(reading: &Reading) -> Counts {
    match (reading.total, reading.duration_s) {
        (Some(total), _) => Counts::Requests(total),
        (None, Some(_)) => Counts::Share,
        (None, None) => Counts::Endless(reading.done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(shown: &Shown) -> &ProgressBar {
        &shown.bar.as_ref().unwrap().1
    }

    #[test]
    fn warm_up_and_run_have_bars_of_their_own() {
        let mut shown = Shown {
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            bar: None,
            template: String::new(),
        };
        shown.show(Reading { phase: Phase::Preflight, ..Reading::default() });
        assert!(shown.bar.is_none());

        shown.show(Reading { phase: Phase::Warmup, done: 4, total: Some(5), ok: 4, ..Reading::default() });
        let warmup = bar(&shown).clone();
        assert_eq!((warmup.prefix().as_str(), warmup.position(), warmup.length()), ("Warmup", 4, Some(5)));

        shown.show(Reading { done: 3, total: Some(10), ok: 2, failed: 1, elapsed_s: 1.5, ..Reading::default() });
        assert!(warmup.is_finished());
        let run = bar(&shown);
        assert_eq!((run.prefix().as_str(), run.position(), run.length()), ("Processing", 3, Some(10)));
        assert_eq!(run.message(), "2 ok, 1 failed, 2.0 req/s");
    }

    #[test]
    fn each_step_of_the_making_has_a_bar() {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let (making, mut shown) = (StepProgress::default(), None);
        show_making(&multi, &mut shown, &making);
        assert!(shown.is_none());
        making.begin("StepProgress prompts", 7);
        making.add(3);
        show_making(&multi, &mut shown, &making);
        let (_, first) = shown.clone().unwrap();
        assert_eq!((first.position(), first.length()), (3, Some(7)));
        making.begin("Counting tokens", 0);
        show_making(&multi, &mut shown, &making);
        assert!(first.is_finished());
        assert_eq!(shown.clone().unwrap().1.prefix(), "Counting tokens");
        making.begin_bytes("Fetching a.json".to_string());
        making.go_to(1000, 4000);
        show_making(&multi, &mut shown, &making);
        let (_, bytes) = shown.unwrap();
        assert_eq!((bytes.prefix().as_str(), bytes.position(), bytes.length()), ("Fetching a.json", 1000, Some(4000)));
    }

    #[test]
    fn time_moves_the_bar_where_only_time_ends_the_run() {
        let reading = Reading { done: 9, elapsed_s: 12.0, duration_s: Some(10.0), ..Reading::default() };
        assert_eq!(extent(&reading), (Some(10_000), 10_000));
        assert_eq!(extent(&Reading { done: 9, ..Reading::default() }), (None, 9));
    }
}
