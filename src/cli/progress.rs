//! Progress bars on standard error: one for each phase of a run and each preparation step.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use self::layout::Counts;

use crate::record::Phase;
use crate::run::PhaseProgress;
use crate::workload::progress::StepProgress;

mod layout;

/// Interval between updates of the bars.
const PERIOD: Duration = Duration::from_millis(100);

/// The bars of a call, shared by all its runs. Lines written through [`Bars::stderr`] appear above the bars.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    multi: MultiProgress,
}

impl Bars {
    /// Bars on standard error; hidden if it is not a terminal or `quiet` is set.
    pub fn new(quiet: bool) -> Bars {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        Bars { multi: MultiProgress::with_draw_target(target) }
    }

    /// A writer to standard error that keeps the bars intact.
    pub fn stderr(&self) -> StderrAboveBars {
        StderrAboveBars { multi: self.multi.clone(), wraps: io::stderr().is_terminal() }
    }

    /// Shows the progress that `read` returns, ten times a second, until the result is dropped.
    pub(crate) fn show_phase(&self, read: impl Fn() -> PhaseProgress + Send + 'static) -> BarUpdater {
        let mut shown = PhaseBar { multi: self.multi.clone(), bar: None, template: String::new() };
        BarUpdater::start(move |last| {
            shown.show(read());
            if last {
                shown.end();
            }
        })
    }

    /// Shows a bar for each preparation step, such as building requests, until the result is dropped.
    pub fn show_steps(&self, steps: Arc<StepProgress>) -> BarUpdater {
        let (multi, mut shown) = (self.multi.clone(), None);
        BarUpdater::start(move |last| {
            update_step_bar(&multi, &mut shown, &steps);
            if let Some((_, bar)) = shown.take_if(|_| last) {
                bar.abandon();
            }
        })
    }
}

/// Width of the terminal on standard error, in columns; 80 if it is not a terminal.
fn screen_width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(1))
}

/// The name of the current step, and its bar.
type StepBar = Option<(Cow<'static, str>, ProgressBar)>;

fn update_step_bar(multi: &MultiProgress, shown: &mut StepBar, steps: &StepProgress) {
    let progress = steps.reading();
    if progress.what.is_empty() {
        return;
    }
    if let Some((_, bar)) = shown.take_if(|(what, _)| *what != progress.what) {
        bar.abandon();
    }
    let (_, bar) = shown.get_or_insert_with(|| {
        let bar = multi.add(ProgressBar::no_length());
        let width = screen_width();
        let counts = match progress.total {
            _ if progress.bytes => Counts::Bytes,
            0 => Counts::Endless(0),
            total => Counts::Requests(total),
        };
        // File names may be long; half the width is enough to identify one.
        let label: String = progress.what.chars().take(width / 2).collect();
        bar.set_style(layout::style(&layout::template(&counts, label.chars().count(), 0, width)));
        bar.set_prefix(label);
        (progress.what.clone(), bar)
    });
    if progress.total > 0 {
        bar.set_length(progress.total);
    }
    bar.set_position(progress.done);
}

/// A thread that updates bars; dropping this ends it.
#[derive(Debug)]
pub(crate) struct BarUpdater {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BarUpdater {
    /// Calls `show` ten times a second, and with `true` at the end.
    fn start(mut show: impl FnMut(bool) + Send + 'static) -> BarUpdater {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("progress".to_string()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                show(false);
                thread::park_timeout(PERIOD);
            }
            show(true);
        });
        // Without the thread no bars are shown; the run is not affected.
        BarUpdater { stop, thread: thread.ok() }
    }
}

impl Drop for BarUpdater {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of this thread does not affect the run.
            let _ = thread.join();
        }
    }
}

/// Writes to standard error and hides the bars while it writes.
#[derive(Clone, Debug)]
pub(crate) struct StderrAboveBars {
    multi: MultiProgress,
    /// Break lines between words; terminals break within words.
    wraps: bool,
}

impl Write for StderrAboveBars {
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

/// The bar of the current phase.
struct PhaseBar {
    multi: MultiProgress,
    bar: Option<(Phase, ProgressBar)>,
    /// The current layout of the bar.
    template: String,
}

impl PhaseBar {
    fn show(&mut self, progress: PhaseProgress) {
        let Some(label) = label(progress.phase) else { return };
        if self.bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            self.end();
            let bar = self.multi.add(ProgressBar::no_length());
            bar.set_prefix(label);
            self.template.clear();
            self.bar = Some((progress.phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            let (length, position) = extent(&progress);
            if let Some(length) = length {
                bar.set_length(length);
            }
            bar.set_position(position);
            let message = message(&progress);
            // The width of the terminal can change during the run.
            let template = layout::template(&counts(&progress), label.len(), message.len(), screen_width());
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

/// Length and position of the bar: in requests, or in milliseconds if only the duration ends the phase.
fn extent(progress: &PhaseProgress) -> (Option<u64>, u64) {
    match (progress.total, progress.duration_s) {
        (Some(total), _) => (Some(total), progress.done),
        (None, Some(duration_s)) => {
            let length = (duration_s * 1e3) as u64;
            (Some(length), ((progress.elapsed_s * 1e3) as u64).min(length))
        }
        (None, None) => (None, progress.done),
    }
}

fn message(progress: &PhaseProgress) -> String {
    let mut text = format!("{} ok", progress.ok);
    if progress.failed > 0 {
        text.push_str(&format!(", {} failed", progress.failed));
    }
    if progress.elapsed_s > 0.0 && progress.done > 0 {
        text.push_str(&format!(", {:.1} req/s", progress.done as f64 / progress.elapsed_s));
    }
    text
}

fn counts(progress: &PhaseProgress) -> Counts {
    match (progress.total, progress.duration_s) {
        (Some(total), _) => Counts::Requests(total),
        (None, Some(_)) => Counts::Share,
        (None, None) => Counts::Endless(progress.done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(shown: &PhaseBar) -> &ProgressBar {
        &shown.bar.as_ref().unwrap().1
    }

    #[test]
    fn warm_up_and_run_have_separate_bars() {
        let mut shown = PhaseBar {
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            bar: None,
            template: String::new(),
        };
        shown.show(PhaseProgress { phase: Phase::Preflight, ..PhaseProgress::default() });
        assert!(shown.bar.is_none());

        shown.show(PhaseProgress { phase: Phase::Warmup, done: 4, total: Some(5), ok: 4, ..PhaseProgress::default() });
        let warmup = bar(&shown).clone();
        assert_eq!((warmup.prefix().as_str(), warmup.position(), warmup.length()), ("Warmup", 4, Some(5)));

        shown.show(PhaseProgress {
            done: 3,
            total: Some(10),
            ok: 2,
            failed: 1,
            elapsed_s: 1.5,
            ..PhaseProgress::default()
        });
        assert!(warmup.is_finished());
        let run = bar(&shown);
        assert_eq!((run.prefix().as_str(), run.position(), run.length()), ("Processing", 3, Some(10)));
        assert_eq!(run.message(), "2 ok, 1 failed, 2.0 req/s");
    }

    #[test]
    fn each_preparation_step_has_a_bar() {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let (steps, mut shown) = (StepProgress::default(), None);
        update_step_bar(&multi, &mut shown, &steps);
        assert!(shown.is_none());
        steps.begin("Making prompts", 7);
        steps.add(3);
        update_step_bar(&multi, &mut shown, &steps);
        let (_, first) = shown.clone().unwrap();
        assert_eq!((first.position(), first.length()), (3, Some(7)));
        steps.begin("Counting tokens", 0);
        update_step_bar(&multi, &mut shown, &steps);
        assert!(first.is_finished());
        assert_eq!(shown.clone().unwrap().1.prefix(), "Counting tokens");
        steps.begin_bytes("Fetching a.json".to_string());
        steps.go_to(1000, 4000);
        update_step_bar(&multi, &mut shown, &steps);
        let (_, bytes) = shown.unwrap();
        assert_eq!((bytes.prefix().as_str(), bytes.position(), bytes.length()), ("Fetching a.json", 1000, Some(4000)));
    }

    #[test]
    fn a_phase_with_only_a_duration_shows_elapsed_time() {
        let progress = PhaseProgress { done: 9, elapsed_s: 12.0, duration_s: Some(10.0), ..PhaseProgress::default() };
        assert_eq!(extent(&progress), (Some(10_000), 10_000));
        assert_eq!(extent(&PhaseProgress { done: 9, ..PhaseProgress::default() }), (None, 9));
    }
}
