//! Runs `ringmark perf`: from the spec to the exit status.

#![expect(clippy::disallowed_methods, reason = "folder names and log lines have the time of day")]
#![expect(clippy::print_stdout, reason = "the command line writes the tables")]

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::call_output::{
    FILE_WIDTH, LOG_FILE, SUMMARY, append_to, databases, prepend_to, print_and_append, screen_has_colours,
    screen_width, write_html,
};
use super::created_dirs::CreatedDirs;
use super::exit::{EarlyExit, status};
use super::progress::Bars;
use super::{interrupt, search, visualizer};
use crate::log::Log;
use crate::options::LogLevel;
use crate::plan::Plan;
use crate::plan::export::Export;
use crate::prepare::{Prepared, prepare};
use crate::report::export::write_all;
use crate::report::repeats::{self, Repeat};
use crate::report::table::wrap;
use crate::report::{overview, screen};
use crate::run::{FinishedRun, RunContext, RunError};
use crate::secrets::mask;
use crate::server::local::{self, Local};
use crate::spec::Spec;
use crate::stats::Summary;
use crate::sweep::{self, SweepResult};
use crate::visualizer::Visualizer;
use crate::workload::rng::Randomness;

/// Plans and runs one call; returns the exit status.
pub fn run(spec: &Spec) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&mask(&text, &spec.secrets()));
    let bars = Bars::new(spec.output.quiet);
    let show_steps = |steps| -> Box<dyn std::any::Any> { Box::new(bars.show_steps(steps)) };
    let mut notify = |line: String| {
        if !spec.output.quiet {
            // A closed standard error is ignored.
            let _ = writeln!(bars.stderr(), "{line}");
        }
    };
    let Prepared { spec, facts, search, plans, fetched, mock } =
        prepare(spec, &show_steps, &mut notify).map_err(exit)?;
    let spec = &spec;
    let root = plans[0].report.root.clone();
    let exports = plans[0].report.exports.clone();
    let created = CreatedDirs::to_create(&root);
    let log = open_log(spec, &root, &bars).map_err(exit)?;
    for note in &plans[0].notes {
        log.warning(&note.en());
    }
    fetched.iter().for_each(|line| log.info(line));
    if plans[0].workload.source.is_random_text() {
        let Randomness { data_seed, salt, .. } = plans[0].workload.randomness;
        log.info(&format!("random text: --data-seed {data_seed} --salt {salt} gives the same bytes again"));
    }
    let stop = Arc::new(AtomicU8::new(0));
    watch_signals(&stop, &log).map_err(exit)?;
    let not_started = |text: String| match stop.load(Ordering::Relaxed) {
        interrupt::GO_ON => exit(text),
        _ => interrupted(&text, &log),
    };
    let mut visualizer = visualizer::start(spec, &plans, &log, &stop).map_err(|text| {
        created.remove_if_unused();
        not_started(text)
    })?;
    let local = start_local(&plans[0], &root, &log, &stop).map_err(not_started)?;
    let show_progress = |read: Box<dyn Fn() -> crate::run::PhaseProgress + Send>| -> Box<dyn std::any::Any> {
        Box::new(bars.show_phase(read))
    };
    let context = RunContext {
        log: log.clone(),
        stop: stop.clone(),
        local: local.as_ref(),
        show_progress: &show_progress,
        show_steps: &show_steps,
        visualizer: visualizer.as_ref().map(Visualizer::feed),
    };
    let measured = match &search {
        Some(search) => search::run_search((spec, search, &facts), &plans[0], &context, visualizer.as_mut()),
        None => run_sweep(spec, plans, &context, visualizer.as_mut()),
    };
    drop((mock, local));
    if let Some(visualizer) = visualizer {
        visualizer.finish(measured.is_ok());
    }
    if let Err(error) = &measured {
        log.final_error(&error.to_string());
    }
    let (runs, status) = measured.map_err(|error| exit(error.to_string()))?;
    if !runs.is_empty() {
        write_exports(&exports, &runs).map_err(exit)?;
    }
    println!("Results: {}", root.display());
    Ok(status)
}

/// Runs the plans and prints the results. Returns the runs and the exit status.
fn run_sweep(
    spec: &Spec,
    plans: Vec<Plan>,
    context: &RunContext<'_>,
    mut visualizer: Option<&mut Visualizer>,
) -> Result<(Vec<FinishedRun>, u8), RunError> {
    let root = plans[0].report.root.clone();
    let count = plans.len();
    let mut ended = |plan: &Plan, finished: &FinishedRun| {
        visualizer::run_ended(visualizer.as_deref_mut(), plan, &finished.summary);
        if count > 1 {
            context.log.info(&overview::one_line(&finished.summary));
        }
        show(spec, finished, &root)
    };
    let sweep_result = sweep::run_all(plans, context, &mut ended)?;
    let line = sweep_result.interruption();
    let interruption =
        |width: usize| line.as_ref().map_or_else(String::new, |line| format!("\n{}", wrap("", line, width)));
    let finished = &sweep_result.runs;
    if finished.len() > 1 {
        show_overview(spec, finished, &root, &interruption)?;
        write_repeats(finished, &root, !sweep_result.is_interrupted())?;
    } else {
        print_and_append(spec, &root, &interruption)?;
    }
    write_html(spec, finished, &root)?;
    let status = exit_status(&sweep_result);
    Ok((sweep_result.runs, status))
}

fn open_log(spec: &Spec, root: &Path, bars: &Bars) -> Result<Arc<Log>, String> {
    let log = Log::new(Timestamp::now, TimeZone::system(), spec.secrets());
    let path = root.join(LOG_FILE);
    let file = std::fs::create_dir_all(root).and_then(|()| File::options().create(true).append(true).open(&path));
    log.add(spec.output.level(), Box::new(file.map_err(|error| format!("cannot write {}: {error}", path.display()))?));
    let level = if spec.output.quiet { LogLevel::Error } else { spec.output.level() };
    log.add_screen(level, !std::io::stderr().is_terminal(), Box::new(bars.stderr()));
    Ok(Arc::new(log))
}

/// Starts the local server that `--api local...` measures.
fn start_local(plan: &Plan, root: &Path, log: &Arc<Log>, stop: &AtomicU8) -> Result<Option<Local>, String> {
    let Some(local) = &plan.local else { return Ok(None) };
    Local::start(local, &plan.report.api, &plan.target, root, log, stop).map(Some)
}

/// The exit after an interrupt before the first run.
fn interrupted(text: &str, log: &Log) -> EarlyExit {
    log.warning(text);
    EarlyExit { text: String::new(), to_stdout: false, status: status::INTERRUPTED }
}

fn watch_signals(stop: &Arc<AtomicU8>, log: &Arc<Log>) -> Result<(), String> {
    let log = log.clone();
    let on_first = move || {
        log.warning("interrupted: no more requests are sent; requests in flight have 5 s to finish; press Ctrl-C again to end immediately")
    };
    interrupt::watch(stop.clone(), on_first, local::kill_all)
        .map_err(|error| format!("cannot install the handler of Ctrl-C: {error}"))
}

/// Prints the tables of a run and appends them to the summary and the log.
fn show(spec: &Spec, finished: &FinishedRun, root: &Path) -> Result<(), RunError> {
    print_and_append(spec, root, &|width| screen::render(&finished.summary, width))
}

/// Prints `before` and the combined report of a sweep, appends both to the log, and inserts them at the start of the
/// summary, before the tables of the runs.
fn show_overview(
    spec: &Spec,
    finished: &[FinishedRun],
    root: &Path,
    before: &dyn Fn(usize) -> String,
) -> Result<(), RunError> {
    let runs: Vec<&Summary> = finished.iter().map(|run| &run.summary).collect();
    let place = root.display().to_string();
    let report = |width, colours| before(width) + &overview::render(&runs, Some(&place), width, colours);
    let text = report(FILE_WIDTH, false);
    append_to(&text, root, LOG_FILE)?;
    prepend_to(&format!("{text}\nResults of each run:\n"), root, SUMMARY)?;
    if !spec.output.quiet {
        print!("{}", report(screen_width(), screen_has_colours()));
    }
    Ok(())
}

/// Writes `repeats_summary.json` if a load has several runs.
fn write_repeats(finished: &[FinishedRun], root: &Path, complete: bool) -> Result<(), RunError> {
    let runs: Vec<&Summary> = finished.iter().map(|run| &run.summary).collect();
    if repeats::groups(&runs).len() == runs.len() {
        return Ok(());
    }
    let repeats: Vec<Repeat<'_>> =
        finished.iter().map(|run| Repeat { summary: &run.summary, database: &run.database }).collect();
    let path = root.join("repeats_summary.json");
    let json = repeats::json(&repeats, root, complete);
    std::fs::write(&path, format!("{json:#}\n")).map_err(|cause| RunError::File { path, cause })
}

fn write_exports(exports: &[Export], finished: &[FinishedRun]) -> Result<(), String> {
    let written = write_all(exports, &databases(finished)).map_err(|error| error.to_string())?;
    written.iter().for_each(|path| println!("Written: {}", path.display()));
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
