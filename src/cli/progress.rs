//! Progress on standard error: a bar for each phase of a run and each preparation step, a line every 10 s if it is not a
//! terminal, or the full-screen view.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use self::layout::Counts;
use self::text::{figures_line, phase_name};
use super::live::LiveScreen;
use crate::log::Log;
use crate::record::Phase;
use crate::report;
use crate::run::PhaseProgress;
use crate::workload::progress::StepProgress;

pub(super) mod layout;
pub(super) mod text;

/// Interval between updates of the bars.
const PERIOD: Duration = Duration::from_millis(100);
/// Interval between drawings of the full-screen view.
const LIVE_PERIOD: Duration = Duration::from_millis(250);
/// Seconds between progress lines.
const LINE_EVERY_S: f64 = 10.0;

/// The progress of a call, shared by all its runs. Lines written through [`Bars::stderr`] appear above the bars.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    multi: MultiProgress,
    live: Option<LiveScreen>,
}

impl Bars {
    /// Bars on standard error, or the full-screen view; hidden if it is not a terminal or `quiet` is set.
    ///
    /// # Errors
    /// One line if standard error cannot show the full-screen view.
    pub fn new(quiet: bool, live: bool) -> Result<Bars, String> {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let live = live.then(LiveScreen::new).transpose()?;
        Ok(Bars { multi: MultiProgress::with_draw_target(target), live })
    }

    /// A writer to standard error that keeps the bars intact.
    pub fn stderr(&self) -> StderrAboveBars {
        StderrAboveBars { bars: self.clone(), wraps: io::stderr().is_terminal() }
    }

    /// Leaves the full-screen view, so that what is printed can be seen.
    pub(crate) fn leave_full_screen(&self) {
        if let Some(live) = &self.live {
            live.leave();
        }
    }

    /// Shows the progress that `read` returns until the result is dropped, and logs a line every 10 s.
    pub(crate) fn show_phase(&self, log: Arc<Log>, read: impl Fn() -> PhaseProgress + Send + 'static) -> BarUpdater {
        let mut lines = ProgressLines::default();
        let mut log_line = move |progress: &PhaseProgress| {
            lines.next(progress).iter().for_each(|line| log.progress(line));
        };
        if let Some(live) = self.live.clone() {
            return BarUpdater::start(LIVE_PERIOD, move |_| {
                let progress = read();
                log_line(&progress);
                live.show(progress);
            });
        }
        let mut shown = PhaseBar { multi: self.multi.clone(), bar: None, template: String::new() };
        BarUpdater::start(PERIOD, move |last| {
            let progress = read();
            log_line(&progress);
            shown.show(&progress);
            if last {
                shown.end();
            }
        })
    }

    /// Shows each preparation step, such as building requests, until the result is dropped.
    pub fn show_steps(&self, steps: Arc<StepProgress>) -> BarUpdater {
        // Before the first run the terminal is not taken.
        if let Some(live) = self.live.clone().filter(LiveScreen::is_entered) {
            return BarUpdater::start(LIVE_PERIOD, move |_| {
                let progress = steps.reading();
                let share = match progress.total {
                    0 => String::new(),
                    total => format!(" {:.0} %", progress.done as f64 / total as f64 * 100.0),
                };
                live.show_step(format!("{}{share}", progress.what).into());
            });
        }
        let (multi, mut shown) = (self.multi.clone(), None);
        BarUpdater::start(PERIOD, move |last| {
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
    /// Calls `show` once in each period, and with `true` at the end.
    fn start(period: Duration, mut show: impl FnMut(bool) + Send + 'static) -> BarUpdater {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("progress".to_string()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                show(false);
                thread::park_timeout(period);
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
    bars: Bars,
    /// Break lines between words; terminals break within words.
    wraps: bool,
}

impl Write for StderrAboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Bars { multi, live } = &self.bars;
        match std::str::from_utf8(bytes) {
            Ok(text) if live.as_ref().is_some_and(|live| live.log(text)) => {}
            Ok(text) if self.wraps => {
                let text = layout::wrapped(text, screen_width());
                multi.suspend(|| io::stderr().write_all(text.as_bytes()))?;
            }
            _ => multi.suspend(|| io::stderr().write_all(bytes))?,
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
    fn show(&mut self, progress: &PhaseProgress) {
        let Some(label) = label(progress) else { return };
        if self.bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            self.end();
            let bar = self.multi.add(ProgressBar::no_length());
            bar.set_prefix(label.clone());
            self.template.clear();
            self.bar = Some((progress.phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            let (length, position) = extent(progress);
            if let Some(length) = length {
                bar.set_length(length);
            }
            bar.set_position(position);
            // The width of the terminal can change during the run.
            let width = screen_width();
            let message = figures_line(progress, width.saturating_sub(INDENT.len() + 1));
            let template = layout::template(&counts(progress), label.len(), 0, width) + "\n" + INDENT + "{msg}";
            if template != self.template {
                bar.set_style(layout::style(&template));
                self.template = template;
            }
            bar.set_message(message);
        }
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            // The figures follow as results.
            if let Some((first, _)) = self.template.split_once('\n') {
                bar.set_style(layout::style(first));
            }
            bar.abandon();
        }
    }
}

/// Before the figures below a bar.
const INDENT: &str = "    ";

/// What stands before a bar: `Processing`, or with several runs `Load 2 of 5, Concurrency 8`.
fn label(progress: &PhaseProgress) -> Option<String> {
    let phase = phase_name(progress.phase)?;
    let Some(place) = progress.run.place.name() else { return Some(phase.to_string()) };
    let warmup = if progress.phase == Phase::Warmup { ", warm-up" } else { "" };
    let mut label = format!("{place}, {}{warmup}", progress.run.load);
    label[..1].make_ascii_uppercase();
    Some(label)
}

/// The progress lines of a run: one every 10 s.
#[derive(Debug, Default)]
struct ProgressLines {
    phase: Phase,
    /// Periods of this phase that have passed.
    passed: u64,
}

impl ProgressLines {
    fn next(&mut self, progress: &PhaseProgress) -> Option<String> {
        let passed = (progress.elapsed_s / LINE_EVERY_S) as u64;
        if self.phase != progress.phase {
            *self = ProgressLines { phase: progress.phase, passed };
        }
        if passed <= self.passed {
            return None;
        }
        self.passed = passed;
        let place = progress.run.place.name().map_or_else(String::new, |place| format!("{place}: "));
        Some(match progress.phase {
            Phase::Measured => format!("{place}{}", report::progress_line(&progress.figures, progress.total)),
            phase => {
                format!("{place}{}: {} of {} done", phase_name(phase)?, progress.done, progress.total.unwrap_or(0))
            }
        })
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
    use crate::plan::Place;
    use crate::run::RunTitle;
    use crate::store::live::Snapshot;

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
        shown.show(&PhaseProgress { phase: Phase::Preflight, ..PhaseProgress::default() });
        assert!(shown.bar.is_none());

        shown.show(&PhaseProgress {
            phase: Phase::Warmup,
            done: 4,
            total: Some(5),
            ok: 4,
            ..measured(Place { number: 0, of: None, repeated: false })
        });
        let warmup = bar(&shown).clone();
        assert_eq!(
            (warmup.prefix().as_str(), warmup.position(), warmup.length()),
            ("Load 0, Concurrency 8, warm-up", 4, Some(5))
        );

        shown.show(&measured(Place { number: 1, of: Some(1), repeated: false }));
        assert!(warmup.is_finished());
        let run = bar(&shown);
        assert_eq!((run.prefix().as_str(), run.position(), run.length()), ("Processing", 3, Some(10)));
        assert!(run.message().starts_with("1 failed, 2 ok, 2.0 req/s, 20.0 tok/s"), "{}", run.message());
    }

    fn measured(place: Place) -> PhaseProgress {
        let figures = Snapshot {
            done: 3,
            ok: 2,
            failed: 1,
            output_tokens: 20,
            elapsed_s: 1.0,
            ttft_p50_ns: Some(41_200_000),
            ttft_p99_ns: Some(120_000_000),
            ..Snapshot::default()
        };
        PhaseProgress {
            run: Arc::new(RunTitle { place, load: "Concurrency 8".to_string(), ..RunTitle::default() }),
            done: 3,
            total: Some(10),
            ok: 2,
            failed: 1,
            elapsed_s: 31.5,
            figures,
            ..PhaseProgress::default()
        }
    }

    #[test]
    fn labels_have_the_place_in_the_call() {
        let label = |number, of, repeated| label(&measured(Place { number, of, repeated })).unwrap();
        assert_eq!(label(2, Some(5), false), "Load 2 of 5, Concurrency 8");
        assert_eq!(label(2, Some(6), true), "Run 2 of 6, Concurrency 8");
        assert_eq!(label(3, None, false), "Load 3, Concurrency 8");
        assert_eq!(label(1, Some(1), false), "Processing");
    }

    #[test]
    fn figures_are_left_out_where_they_do_not_fit() {
        let line = |width| figures_line(&measured(Place::default()), width);
        assert_eq!(line(75), "1 failed, 2 ok, 2.0 req/s, 20.0 tok/s, TTFT p50 41.2 ms p99 120 ms");
        assert_eq!((line(40), line(10)), ("1 failed, 2 ok, 2.0 req/s, 20.0 tok/s".to_string(), "1 failed".to_string()));
    }

    #[test]
    fn a_line_is_logged_every_ten_seconds() {
        let mut lines = ProgressLines::default();
        let mut at = |phase, elapsed_s| {
            let place = Place { number: 2, of: Some(5), repeated: false };
            lines.next(&PhaseProgress { phase, elapsed_s, ..measured(place) })
        };
        assert_eq!(at(Phase::Warmup, 9.9), None);
        assert_eq!(at(Phase::Warmup, 10.1).as_deref(), Some("load 2 of 5: Warm-up: 3 of 10 done"));
        assert_eq!(at(Phase::Measured, 0.1), None);
        assert_eq!(at(Phase::Measured, 9.9), None);
        let line = at(Phase::Measured, 10.0).unwrap();
        assert!(
            line.starts_with("load 2 of 5: 3 of 10 done, 2 ok, 1 failed, 2.00 req/s, 20.0 tok/s, TTFT p50"),
            "{line}"
        );
        assert_eq!((at(Phase::Measured, 19.9), at(Phase::Measured, 20.0).is_some()), (None, true));
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
