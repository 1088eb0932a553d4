//! The full-screen view of `--live`: it takes the terminal of standard error from the first request to the first result
//! that is printed, and leaves it as it was, also after an interrupt, an error or a panic.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread;
use std::time::Duration;

use ratatui::Terminal;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use self::backend::Stderr;
use self::history::History;
use super::progress::layout::wrapped;
use crate::run::PhaseProgress;

mod backend;
mod history;
mod view;

/// Lines of the log that are kept while the view hides them.
const MOST_LINES: usize = 1000;

/// The view, shared by the threads that draw, log and print.
#[derive(Clone)]
pub struct LiveScreen {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The view has the terminal.
    is_entered: AtomicBool,
    /// Nothing is drawn any more, because of a panic or a terminal that is gone.
    is_closed: AtomicBool,
    /// The modes of the terminal before.
    modes: OnceLock<Termios>,
}

#[derive(Default)]
struct State {
    terminal: Option<Terminal<Stderr>>,
    history: History,
    /// What happens between runs, for example building requests.
    step: Option<String>,
    /// Lines of the log since the view was entered.
    lines: Vec<String>,
    /// Earlier lines that are only in the log file.
    lines_dropped: u64,
}

impl LiveScreen {
    /// A view on standard error. The terminal does not change before the first drawing.
    ///
    /// # Errors
    /// One line if standard error is not a terminal that can show the view.
    pub fn new() -> Result<LiveScreen, String> {
        let why = match std::env::var("TERM") {
            _ if !io::stderr().is_terminal() => Some("standard error is not a terminal".to_string()),
            Ok(term) if term == "dumb" => Some("the terminal cannot place the cursor (TERM=dumb)".to_string()),
            _ if !is_in_foreground() => Some("the program runs in the background".to_string()),
            _ => None,
        };
        if let Some(why) = why {
            return Err(format!("--live: {why}: leave it out; without it, progress is a bar or a line every 10 s"));
        }
        let shared = Shared {
            state: Mutex::default(),
            is_entered: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            modes: OnceLock::new(),
        };
        let screen = LiveScreen { shared: Arc::new(shared) };
        screen.leave_on_panic();
        Ok(screen)
    }

    /// The message of a panic must be readable, and the shell usable after it.
    fn leave_on_panic(&self) {
        let (screen, before) = (self.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            screen.shared.is_closed.store(true, Ordering::SeqCst);
            screen.leave();
            before(info);
        }));
    }

    /// Whether the view has the terminal.
    pub(crate) fn is_entered(&self) -> bool {
        self.shared.is_entered.load(Ordering::SeqCst)
    }

    /// Shows the progress of a run; takes the terminal if it is not taken.
    pub fn show(&self, progress: PhaseProgress) {
        if !view::is_shown(progress.phase) {
            return;
        }
        let mut state = self.lock();
        state.step = None;
        state.history.update(progress);
        if !self.is_entered() && self.enter(&mut state).is_err() {
            self.shared.is_closed.store(true, Ordering::SeqCst);
        }
        self.draw(&mut state);
    }

    /// Shows what happens between runs, if the view has the terminal.
    pub(crate) fn show_step(&self, what: Cow<'_, str>) {
        let mut state = self.lock();
        state.step = Some(what.into_owned());
        self.draw(&mut state);
    }

    /// Keeps lines of the log and shows the last ones, if the view has the terminal.
    pub(crate) fn log(&self, text: &str) -> bool {
        let mut state = self.lock();
        if !self.is_entered() {
            return false;
        }
        state.lines.extend(text.lines().map(str::to_string));
        let more = state.lines.len().saturating_sub(MOST_LINES);
        state.lines.drain(..more);
        state.lines_dropped += more as u64;
        self.draw(&mut state);
        true
    }

    /// Gives the terminal back and prints the lines of the log that the view has hidden.
    pub(crate) fn leave(&self) {
        // After a panic while drawing nobody unlocks the state; the terminal is given back all the same.
        let mut state = self.lock_for_a_moment();
        if !self.shared.is_entered.swap(false, Ordering::SeqCst) {
            return;
        }
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(b"\x1b[0m\x1b[?25h\x1b[?1049l").and_then(|()| stderr.flush());
        if let Some(modes) = self.shared.modes.get() {
            let _ = tcsetattr(io::stderr(), OptionalActions::Now, modes);
        }
        let Some(state) = &mut state else { return };
        state.terminal = None;
        if state.lines_dropped > 0 {
            let _ = writeln!(stderr, "({} earlier lines are in benchmark.log)", state.lines_dropped);
        }
        state.lines_dropped = 0;
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        for line in state.lines.drain(..) {
            let _ = writeln!(stderr, "{}", wrapped(&line, columns));
        }
    }

    fn enter(&self, state: &mut State) -> io::Result<()> {
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let before = tcgetattr(io::stderr())?;
        let mut modes = before.clone();
        // Typed characters would stay on the screen, and a stopped process measures nothing. Ctrl-C works as before.
        modes.local_modes.remove(LocalModes::ECHO);
        modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
        let _ = self.shared.modes.set(before);
        tcsetattr(io::stderr(), OptionalActions::Now, &modes)?;
        self.shared.is_entered.store(true, Ordering::SeqCst);
        io::stderr().write_all(b"\x1b[?1049h\x1b[2J\x1b[?25l")?;
        state.terminal = Some(Terminal::new(Stderr::default())?);
        Ok(())
    }

    fn draw(&self, state: &mut State) {
        let State { terminal, history, step, lines, .. } = state;
        let Some(terminal) = terminal.as_mut().filter(|_| self.is_entered()) else { return };
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let drawn = terminal.draw(|frame| view::draw(frame, history, lines, step.as_deref()));
        if drawn.is_err() {
            // The terminal is gone; the run goes on.
            self.shared.is_closed.store(true, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The state, unless another thread, or this one before a panic, keeps it.
    fn lock_for_a_moment(&self) -> Option<MutexGuard<'_, State>> {
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            match self.shared.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }
}

impl std::fmt::Debug for LiveScreen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveScreen").field("is_entered", &self.is_entered()).finish_non_exhaustive()
    }
}

/// Whether this process may change the modes of its terminal. If it is not its controlling terminal, there is no
/// foreground.
fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stderr()).map_or(true, |foreground| foreground == rustix::process::getpgrp())
}
