//! Runs `ringmark perf`: from the spec to the exit status.

#![expect(clippy::disallowed_methods, reason = "folder names and log lines have the time of day")]

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::call_output::{
    FILE_WIDTH, LOG_FILE, Measured, PAGE, SUMMARY, Screen, append, append_to, databases, prepend_to, write_html,
};
use super::documents::CallResult;
use super::exit::{EarlyExit, status};
use super::progress::Bars;
use super::terminal::{Output, print_error};
use super::{interrupt, search, visualizer};
use crate::files;
use crate::finding::Finding;
use crate::host::children;
use crate::log::Log;
use crate::options::LogLevel;
use crate::plan::Plan;
use crate::plan::export::Export;
use crate::prepare::{Prepared, prepare, results};
use crate::report::export::write_all;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::repeats::{self, Repeat};
use crate::report::table::wrap;
use crate::report::{overview, screen as tables};
use crate::run::{FinishedRun, RunContext, RunError, check_limits};
use crate::secrets::mask_foreign;
use crate::server::local::{self, Local};
use crate::spec::Spec;
use crate::spec::output::OutputSpec;
use crate::stats::Summary;
use crate::sweep::{self, SweepResult};
use crate::visible::visible_line;
use crate::visualizer::Visualizer;
use crate::workload::rng::Randomness;

/// The signals of a process, which may run several calls one after the other.
#[derive(Default)]
pub(crate) struct Interrupts {
    stop: Arc<AtomicU8>,
    /// The log of the call that has been started. While there is none, the first signal ends the process.
    started: Arc<Mutex<Option<Arc<Log>>>>,
    /// A run sends requests.
    sending: Arc<AtomicBool>,
    /// What the call that runs now shows.
    bars: Arc<Mutex<Option<Bars>>>,
}

impl Interrupts {
    /// Handles signals from now on.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub(crate) fn watch() -> Result<Interrupts, EarlyExit> {
        let interrupts = Interrupts::default();
        watch_signals(&interrupts).map_err(|text| EarlyExit::error(&text))?;
        Ok(interrupts)
    }

    fn set_log(&self, log: Option<Arc<Log>>) {
        *lock(&self.started) = log;
    }

    /// A call begins: until it has a log, the first signal ends the process.
    fn begin_call(&self, bars: &Bars) {
        self.set_log(None);
        *lock(&self.bars) = Some(bars.clone());
    }
}

/// Plans and runs one call; returns the exit status. With `stdout_is_document` nothing is printed on standard output.
/// `result` is set once the call has started to measure.
pub(crate) fn run(
    spec: &Spec,
    interrupts: &Interrupts,
    stdout_is_document: bool,
    result: &mut Option<CallResult>,
) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&mask_foreign(&text, &spec.secrets()));
    let Interrupts { stop, sending, .. } = interrupts;
    let bars = Bars::new(spec.output.quiet, spec.output.live).map_err(exit)?;
    let _full_screen = FullScreen(bars.clone());
    interrupts.begin_call(&bars);
    let show_steps = |steps| -> Box<dyn std::any::Any> { Box::new(bars.show_steps(steps)) };
    let mut notify = |line: String| {
        if !spec.output.quiet {
            // A closed standard error is ignored.
            let _ = writeln!(bars.stderr(), "{}", visible_line(&line));
        }
    };
    let Prepared { spec, mut facts, search, mut plans, fetched, mock, rendezvous } =
        prepare(spec, &show_steps, &mut notify).map_err(exit)?;
    let spec = &spec;
    let rendezvous = rendezvous.map(RefCell::new);
    // Other shards end with this one.
    let exit = |text: String| {
        let text = mask_foreign(&text, &spec.secrets());
        rendezvous.iter().for_each(|rendezvous| rendezvous.borrow_mut().fail(&text));
        EarlyExit::error(&text)
    };
    check(spec, &plans).map_err(exit)?;
    let log = Arc::new(Log::new(Timestamp::now, TimeZone::system(), spec.secrets()));
    let level = if spec.output.quiet { LogLevel::Error } else { spec.output.level() };
    log.add_screen(level, !std::io::stderr().is_terminal(), Box::new(bars.stderr()));
    // From here on, an interrupt ends the call in order.
    interrupts.set_log(Some(log.clone()));
    let log = &log;
    let created = results::claim(&spec.output, &mut facts, &mut plans).map_err(exit)?;
    let root = plans[0].report.root.clone();
    log.add_file(spec.output.level(), root.join(LOG_FILE));
    log_start(&plans[0], &fetched, log);
    let not_started = |text: String| {
        created.remove_if_unused();
        match stop.load(Ordering::Relaxed) {
            interrupt::GO_ON => exit(text),
            _ => interrupted(&text, log),
        }
    };
    let mut visualizer = visualizer::start(spec, &plans, log, stop).map_err(not_started)?;
    let local = start_local(&plans[0], &root, log, stop).map_err(not_started)?;
    let show_progress = |read: Box<dyn Fn() -> crate::run::PhaseProgress + Send>| -> Box<dyn std::any::Any> {
        Box::new((bars.show_phase(log.clone(), read), Sending::begin(sending)))
    };
    let context = RunContext {
        log: log.clone(),
        stop: stop.clone(),
        local: local.as_ref(),
        show_progress: &show_progress,
        show_steps: &show_steps,
        visualizer: visualizer.as_ref().map(Visualizer::feed),
        rendezvous: rendezvous.as_ref(),
    };
    let planned = plans.len();
    let exports = plans[0].report.exports.clone();
    let shard = plans[0].shard.clone();
    let output = Output::beside_document(stdout_is_document);
    let OutputSpec { quiet, verbose, .. } = spec.output;
    let screen = Screen { bars: bars.clone(), quiet, verbose, output };
    let measured = match &search {
        Some(search) => search::run_search((spec, search, &facts), &plans[0], &context, &screen, visualizer.as_mut()),
        None => run_sweep(spec, plans, &context, &screen, visualizer.as_mut()),
    };
    drop((mock, local));
    if let Some(visualizer) = visualizer {
        visualizer.finish(measured.error.is_none());
    }
    if measured.runs.is_empty() {
        if rendezvous.is_some() {
            // The shards have measured nothing together.
            let _ = std::fs::remove_file(root.join(LOG_FILE));
        }
        created.remove_if_unused();
    }
    if let Some(rendezvous) = rendezvous.as_ref().filter(|_| measured.runs.len() < planned) {
        let why =
            measured.error.as_ref().map_or_else(|| "it ended before its last run".to_string(), ToString::to_string);
        rendezvous.borrow_mut().fail(&mask_foreign(&why, &spec.secrets()));
    }
    // Even if another file cannot be written.
    let exported = match measured.runs.is_empty() {
        true => Ok(()),
        false => write_exports(&exports, &measured.runs, &screen),
    };
    if !measured.runs.is_empty()
        && let Err(error) = results::link_latest(&spec.output, &root, shard.as_ref().map(|shard| shard.share))
    {
        log.warning(&error);
    }
    let error = measured.error.as_ref().map(|error| error_text(error, &measured.runs)).or(exported.err());
    let error = error.map(|text| mask_foreign(&text, &spec.secrets()));
    let status = if error.is_some() { status::UNABLE } else { measured.status };
    let reason = (status == status::MISSED)
        .then(|| mask_foreign(&exit_reason(&measured.runs, search.is_some()), &spec.secrets()));
    *result = Some(CallResult::new(spec, &root, &measured, status, error.as_deref(), reason.as_deref()));
    if let Some(error) = &measured.error {
        log.final_error(&error.to_string());
    }
    if let Some(error) = error {
        return Err(EarlyExit::error(&error));
    }
    if !measured.runs.is_empty() {
        let file = |name: &str, file: &str| format!("{name}: {}\n", root.join(file).display());
        screen.print(&|_| file("Report", PAGE) + &file("All tables", SUMMARY));
        screen.print_always(&format!("Results: {}\n", root.display()));
        if let Some(shard) = &shard {
            let all = if spec.output.no_timestamp { &spec.output.outputs_dir } else { root.parent().unwrap_or(&root) };
            let line = format!("Shard {} of the load: 'ringmark merge {}' combines all.\n", shard.share, all.display());
            screen.print_always(&line);
        }
        if let Some(reason) = reason.filter(|_| spec.output.quiet) {
            print_error(&format!("{reason}\n"));
        }
    }
    if let Some(rendezvous) = &rendezvous {
        // The others compare their clocks with this machine's until their runs end.
        rendezvous.borrow().wait_for_exchanges(&|| stop.load(Ordering::Relaxed) != interrupt::GO_ON);
    }
    screen.output.finish()?;
    Ok(status)
}

/// Everything that can be checked before anything is written.
fn check(spec: &Spec, plans: &[Plan]) -> Result<(), String> {
    results::check(plans, &spec.output)?;
    // A search skips loads that need too many files.
    let checked = if spec.sla.sla_auto_tune { &[] } else { plans };
    checked.iter().try_for_each(check_limits).map_err(|error| error.to_string())
}

fn log_start(first: &Plan, fetched: &[String], log: &Log) {
    for note in &first.notes {
        log.warning(&note.en());
    }
    fetched.iter().for_each(|line| log.info(line));
    if first.workload.source.is_random_text() {
        let Randomness { data_seed, salt, .. } = first.workload.randomness;
        log.info(&format!("random text: --data-seed {data_seed} --salt {salt} gives the same bytes again"));
    }
}

/// The error that ended a call. If the call has measured something, how to see it.
fn error_text(error: &RunError, runs: &[FinishedRun]) -> String {
    let databases: Vec<String> = runs.iter().map(|run| run.database.display().to_string()).collect();
    match databases.as_slice() {
        [] => error.to_string(),
        databases => format!(
            "{error}\nhint: what was measured is in the database: 'ringmark report {}' prints the tables again, with --html FILE \
             the report",
            databases.join(" ")
        ),
    }
}

/// Runs the plans and prints the results.
fn run_sweep(
    spec: &Spec,
    plans: Vec<Plan>,
    context: &RunContext<'_>,
    screen: &Screen,
    mut visualizer: Option<&mut Visualizer>,
) -> Measured {
    let root = plans[0].report.root.clone();
    let count = plans.len();
    let mut ended = |plan: &Plan, finished: &FinishedRun| {
        visualizer::run_ended(visualizer.as_deref_mut(), plan, &finished.summary);
        if count > 1 {
            context.log.result(&overview::one_line(&finished.summary));
        }
        let summary = &finished.summary;
        if screen.verbose {
            screen.print(&|width| tables::render_stored(summary, Some(&finished.database), width));
        } else if count == 1 {
            screen.print(&|width| tables::brief(summary, width, screen.output.has_colours()));
        }
        append(&tables::render_stored(summary, Some(&finished.database), FILE_WIDTH), &root)
    };
    let mut result = sweep::run_all(plans, context, &mut ended);
    let shown = show_sweep(spec, &result, screen, &root);
    let error = result.error.take().or(shown.err());
    Measured { status: exit_status(&result), runs: result.runs, not_started: result.not_started, search: None, error }
}

/// Prints what the runs have in common, then writes the files of the call.
fn show_sweep(spec: &Spec, result: &SweepResult, screen: &Screen, root: &Path) -> Result<(), RunError> {
    let line = result.interruption();
    let interruption =
        |width: usize| line.as_ref().map_or_else(String::new, |line| format!("\n{}", wrap("", line, width)));
    let finished = &result.runs;
    if screen.quiet {
        screen.print_always(&overview::objectives(&summaries(finished), screen.output.has_colours()));
    }
    let shown = match finished.len() {
        0 => {
            screen.print(&interruption);
            return Ok(());
        }
        1 => {
            // The only run of a call was shown at its end.
            if !result.not_started.is_empty() && !screen.verbose {
                screen.print(&|width| tables::brief(&finished[0].summary, width, screen.output.has_colours()));
            }
            screen.print_and_append(root, &interruption)
        }
        _ => show_overview(screen, finished, root, &interruption).and(write_repeats(
            finished,
            root,
            result.not_started.is_empty() && !result.is_interrupted(),
        )),
    };
    // Each file, even if another one cannot be written.
    let page = write_html(spec, finished, root);
    shown.and(page)
}

/// Starts the local server that `--api local...` measures. Its output goes to the folder of the call.
fn start_local(plan: &Plan, root: &Path, log: &Arc<Log>, stop: &AtomicU8) -> Result<Option<Local>, String> {
    let Some(local) = &plan.local else { return Ok(None) };
    std::fs::create_dir_all(root).map_err(|error| format!("cannot create {}: {error}", root.display()))?;
    log.open_files().map_err(|(path, error)| format!("cannot write {}: {error}", path.display()))?;
    Local::start(local, &plan.report.api, &plan.target, root, log, stop).map(Some)
}

/// The exit after an interrupt before the first run.
fn interrupted(text: &str, log: &Log) -> EarlyExit {
    log.warning(text);
    EarlyExit { text: String::new(), to_stdout: false, status: status::INTERRUPTED }
}

/// Handles signals. Until `started` has the log of the call, nothing has been written and the first signal ends the
/// process.
fn watch_signals(interrupts: &Interrupts) -> Result<(), String> {
    let Interrupts { stop, started, sending, bars } = interrupts;
    let (started, sending, bars) = (started.clone(), sending.clone(), bars.clone());
    let on_first = move || {
        let Some(log) = lock(&started).clone() else {
            print_error("interrupted before the run\n");
            std::process::exit(i32::from(status::INTERRUPTED));
        };
        let what = match sending.load(Ordering::SeqCst) {
            true => "interrupted: no more requests are sent; requests in flight have 5 s to finish",
            false => "interrupted",
        };
        log.warning(&format!("{what}; press Ctrl-C again to end immediately"));
    };
    let on_second = move || {
        if let Some(bars) = &*lock(&bars) {
            bars.leave_full_screen();
        }
        local::kill_all();
        children::kill_all();
    };
    interrupt::watch(stop.clone(), on_first, on_second)
        .map_err(|error| format!("cannot install the handler of Ctrl-C: {error}"))
}

/// Locks a mutex whose value no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the full-screen view when the call ends, whatever ends it.
struct FullScreen(Bars);

impl Drop for FullScreen {
    fn drop(&mut self) {
        self.0.leave_full_screen();
    }
}

/// Exists while a run sends requests.
struct Sending(Arc<AtomicBool>);

impl Sending {
    fn begin(flag: &Arc<AtomicBool>) -> Sending {
        flag.store(true, Ordering::SeqCst);
        Sending(flag.clone())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Prints the combined report of a sweep, with what interrupted it at its end, where a reader of the screen begins. Appends
/// both, in full, to the log, and inserts them at the start of the summary, before the tables of the runs.
fn show_overview(
    screen: &Screen,
    finished: &[FinishedRun],
    root: &Path,
    interruption: &dyn Fn(usize) -> String,
) -> Result<(), RunError> {
    let runs = summaries(finished);
    let place = root.display().to_string();
    let colours = screen.output.has_colours();
    let on_screen = |width| overview::render_on_screen(&runs, Some(&place), width, colours);
    screen.print(&|width| on_screen(width) + interruption(width).trim_start());
    let text = interruption(FILE_WIDTH) + &overview::render(&runs, Some(&place), FILE_WIDTH, false);
    let logged = append_to(&text, root, LOG_FILE);
    logged.and(prepend_to(&format!("{text}\nResults of each run:\n"), root, SUMMARY))
}

/// Writes `repeats_summary.json` if a load has several runs.
fn write_repeats(finished: &[FinishedRun], root: &Path, complete: bool) -> Result<(), RunError> {
    let runs = summaries(finished);
    if repeats::groups(&runs).len() == runs.len() {
        return Ok(());
    }
    let repeats: Vec<Repeat<'_>> =
        finished.iter().map(|run| Repeat { summary: &run.summary, database: &run.database }).collect();
    let path = root.join("repeats_summary.json");
    let json = repeats::json(&repeats, root, complete);
    files::replace(&path, format!("{json:#}\n").as_bytes()).map_err(|cause| RunError::File { path, cause })
}

fn summaries(finished: &[FinishedRun]) -> Vec<&Summary> {
    finished.iter().map(|run| &run.summary).collect()
}

fn write_exports(exports: &[Export], finished: &[FinishedRun], screen: &Screen) -> Result<(), String> {
    let written = write_all(exports, &databases(finished)).map_err(|error| error.to_string())?;
    written.iter().for_each(|path| screen.output.print(&format!("Written: {}\n", path.display())));
    Ok(())
}

fn exit_status(sweep_result: &SweepResult) -> u8 {
    let finished = &sweep_result.runs;
    if sweep_result.is_interrupted() {
        status::INTERRUPTED
    } else if finished.iter().any(|run| run.summary.is_void()) {
        status::VOID
    } else if finished.iter().any(|run| is_missed(&run.summary)) {
        status::MISSED
    } else {
        status::DONE
    }
}

/// Whether a run missed what it was started for.
fn is_missed(summary: &Summary) -> bool {
    summary.all_failed() || summary.missed_slo() || summary.is_aborted()
}

/// One line that says why a call without an error ends with [`status::MISSED`]: the cause in the first run that has one.
fn exit_reason(finished: &[FinishedRun], is_search: bool) -> String {
    if is_search {
        return "exit status 1: no load keeps the objectives of --sla-params".to_string();
    }
    let reasons: Vec<String> = finished.iter().filter_map(|run| missed_reason(&run.summary)).collect();
    let more = match reasons.len() {
        0 | 1 => String::new(),
        all => format!(" (more such runs: {})", all - 1),
    };
    format!("exit status 1: {}{more}", reasons.first().map_or("", String::as_str))
}

/// What a run missed.
fn missed_reason(summary: &Summary) -> Option<String> {
    let aborted = |finding: &&Finding| matches!(finding, Finding::Aborted { .. } | Finding::AbortedInWarmUp { .. });
    let what = if let Some(finding) = summary.findings.iter().find(aborted) {
        finding.en_symptom()
    } else if summary.all_failed() {
        let most = summary.failures.iter().max_by_key(|failure| failure.count);
        let text = most.and_then(|most| most.texts.first()).map_or(String::new(), |text| format!(": {}", text.example));
        match most {
            Some(most) => format!("no request succeeded, {} failed with {}{text}", most.count, most.failure.name()),
            None => "no request ended before the run did".to_string(),
        }
    } else if summary.missed_slo() {
        "the run missed an objective of --slo".to_string()
    } else {
        return None;
    };
    Some(format!("{}: {what}", load_name(&summary.facts, Language::En)))
}
