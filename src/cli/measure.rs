//! `ringmark perf`, carried out: from the spec to the exit status.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::progress::Bars;
use super::{Early, calibration, files, interrupt, status};
use crate::engine::tls;
use crate::log::Log;
use crate::mock::Mock;
use crate::plan::{Plan, RigFacts, resolve, trace_file};
use crate::report::export::write_all;
use crate::report::{html, overview, screen};
use crate::run::{Finished, RunError, Watch};
use crate::server::local::{self, Local};
use crate::server::models::first_model;
use crate::spec::{LogLevel, Spec, mask};
use crate::stats::Summary;
use crate::sweep;
use crate::workload::trace;

/// Width of tables in files, and on a standard output that is no terminal, columns.
const FILE_WIDTH: usize = 140;
/// How long a server may take to list its models.
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out one call; gives the exit status.
pub fn perf(spec: &Spec) -> Result<u8, Early> {
    let mistake = |text: String| Early::mistake(&mask(&text, &spec.secrets()));
    let spec = &files::read(spec).map_err(mistake)?;
    let mut facts = facts();
    let trace = trace_file(spec).map(|(path, flag)| trace::read(path, flag)).transpose();
    facts.trace = trace.map_err(|error| mistake(error.to_string()))?.map(Arc::new);
    let (mut plans, mock) = decide(spec, &facts).map_err(mistake)?;
    calibration::attach(spec, &mut plans).map_err(mistake)?;
    plans[0].notes.extend(proxy_note(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())));
    let root = plans[0].report.root.clone();
    let exports = plans[0].report.exports.clone();
    let bars = Bars::new(spec.quiet);
    let log = open_log(spec, &root, &bars).map_err(mistake)?;
    for note in &plans[0].notes {
        log.warning(note);
    }
    let stop = Arc::new(AtomicU8::new(0));
    watch_signals(&stop, &log).map_err(mistake)?;
    let local = match start_local(&plans[0], &root, &log, &stop) {
        Err(text) if stop.load(Ordering::Relaxed) != 0 => {
            log.warning(&text);
            return Ok(status::INTERRUPTED);
        }
        started => started.map_err(mistake)?,
    };
    let follow =
        |read: Box<dyn Fn() -> crate::run::Reading + Send>| -> Box<dyn std::any::Any> { Box::new(bars.follow(read)) };
    let follow_making = |making| -> Box<dyn std::any::Any> { Box::new(bars.follow_making(making)) };
    let watch = Watch { log: log.clone(), stop, local: local.as_ref(), follow: &follow, follow_making: &follow_making };
    let count = plans.len();
    let mut ended = |_: &Plan, finished: &Finished| {
        if count > 1 {
            log.info(&overview::one_line(&finished.summary));
        }
        show(spec, finished, &root)
    };
    let finished = sweep::run_all(plans, &watch, &mut ended);
    drop((mock, local));
    if let Err(error) = &finished {
        log.last_words(&error.to_string());
    }
    let finished = finished.map_err(|error| mistake(error.to_string()))?;
    if finished.len() > 1 {
        show_overview(spec, &finished, &root).map_err(|error| mistake(error.to_string()))?;
    }
    write_html(spec, &finished, &root).map_err(|error| mistake(error.to_string()))?;
    let written = write_all(&exports, &databases(&finished)).map_err(|error| mistake(error.to_string()))?;
    written.iter().for_each(|path| println!("Written: {}", path.display()));
    println!("Results: {}", root.display());
    Ok(exit_status(&finished))
}

/// Everything is decided, the built-in server runs if it is asked for, and the target's addresses are known.
fn decide(spec: &Spec, facts: &RigFacts) -> Result<(Vec<Plan>, Option<Mock>), String> {
    let mut plans = resolve(spec, facts).map_err(|error| error.to_string())?;
    let mut target = plans[0].target.clone();
    let mock = sweep::reach(&mut target, &plans[0].cores, &facts.allowed_cores)?;
    if plans[0].report.model.is_empty() {
        let config = target.tls.as_ref().map(tls::config).transpose()?;
        let headers: String =
            plans[0].workload.headers.iter().map(|header| format!("{}: {}\r\n", header.name, header.value)).collect();
        let model = first_model(&target, &target.models_path(), &headers, config, MODELS_TIMEOUT)
            .map_err(|error| format!("no --model was given, and asking the server for one failed: {error}"))?;
        let named = Spec { model: Some(model), ..spec.clone() };
        plans = resolve(&named, facts).map_err(|error| error.to_string())?;
    }
    for plan in &mut plans {
        plan.target = target.clone();
    }
    Ok((plans, mock))
}

/// A load generator behind a proxy measures the proxy: what the environment says is not followed, and that is said.
fn proxy_note(is_set: impl Fn(&str) -> bool) -> Option<String> {
    const NAMES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let set: Vec<&str> = NAMES.into_iter().filter(|name| is_set(name)).collect();
    (!set.is_empty()).then(|| format!("{} is set, and not used: requests go straight to the server", set.join(", ")))
}

fn facts() -> RigFacts {
    let now = Zoned::now();
    RigFacts {
        allowed_cores: core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect(),
        started: now.strftime("%Y%m%d_%H%M%S").to_string(),
        nonce: now.timestamp().subsec_nanosecond() as u32 ^ std::process::id().rotate_left(16),
        trace: None,
    }
}

fn open_log(spec: &Spec, root: &Path, bars: &Bars) -> Result<Arc<Log>, String> {
    let log = Log::new(Timestamp::now, TimeZone::system(), spec.secrets());
    let path = root.join("benchmark.log");
    let file = std::fs::create_dir_all(root).and_then(|()| File::options().create(true).append(true).open(&path));
    log.add(spec.level(), Box::new(file.map_err(|error| format!("cannot write {}: {error}", path.display()))?));
    let level = if spec.quiet { LogLevel::Error } else { spec.level() };
    log.add_screen(level, !std::io::stderr().is_terminal(), Box::new(bars.stderr()));
    Ok(Arc::new(log))
}

/// Starts the server of our own, where that is what is measured.
fn start_local(plan: &Plan, root: &Path, log: &Arc<Log>, stop: &AtomicU8) -> Result<Option<Local>, String> {
    let Some(local) = &plan.local else { return Ok(None) };
    Local::start(local, &plan.report.api, &plan.target, root, log, stop).map(Some)
}

fn watch_signals(stop: &Arc<AtomicU8>, log: &Arc<Log>) -> Result<(), String> {
    let log = log.clone();
    let on_first =
        move || log.warning("interrupted: nothing more is sent, and what is in flight has 5 s; once more ends at once");
    interrupt::watch(stop.clone(), on_first, local::kill_all)
        .map_err(|error| format!("cannot watch for Ctrl-C: {error}"))
}

/// Prints a run's tables and appends them to the files of the call.
fn show(spec: &Spec, finished: &Finished, root: &Path) -> Result<(), RunError> {
    append(&screen::render(&finished.summary, FILE_WIDTH), root)?;
    if !spec.quiet {
        print!("{}", screen::render(&finished.summary, screen_width()));
    }
    Ok(())
}

/// Prints the combined report of a sweep and appends it to the files of the call.
fn show_overview(spec: &Spec, finished: &[Finished], root: &Path) -> Result<(), RunError> {
    let runs: Vec<&Summary> = finished.iter().map(|run| &run.summary).collect();
    let place = root.display().to_string();
    append(&overview::render(&runs, Some(&place), FILE_WIDTH, false), root)?;
    if !spec.quiet {
        print!("{}", overview::render(&runs, Some(&place), screen_width(), screen_has_colours()));
    }
    Ok(())
}

/// Writes the HTML report over all runs of the call.
fn write_html(spec: &Spec, finished: &[Finished], root: &Path) -> Result<(), RunError> {
    let databases = databases(finished);
    if databases.is_empty() {
        return Ok(());
    }
    let path = root.join("perf_report.html");
    let page = html::from_databases(&databases, spec.language)?;
    std::fs::write(&path, page).map_err(|cause| RunError::File { path, cause })
}

fn databases(finished: &[Finished]) -> Vec<PathBuf> {
    finished.iter().map(|run| run.database.clone()).collect()
}

fn append(text: &str, root: &Path) -> Result<(), RunError> {
    for name in ["performance_summary.txt", "benchmark.log"] {
        let path = root.join(name);
        let opened = File::options().create(true).append(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|cause| RunError::File { path, cause })?;
    }
    Ok(())
}

/// Standard output is a terminal, and nobody asked for none.
pub fn screen_has_colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal that standard output is; [`FILE_WIDTH`] where it is none.
pub fn screen_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(FILE_WIDTH, |size| usize::from(size.ws_col).max(1))
}

fn exit_status(finished: &[Finished]) -> u8 {
    if finished.iter().any(|run| run.interrupted) {
        status::INTERRUPTED
    } else if finished.iter().any(|run| run.summary.is_void()) {
        status::VOID
    } else if finished.iter().any(|run| run.summary.all_failed() || run.summary.missed_slo()) {
        status::MISSED
    } else {
        status::DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_in_the_environment_is_named() {
        assert_eq!(proxy_note(|_| false), None);
        assert!(proxy_note(|name| name == "HTTPS_PROXY").unwrap().starts_with("HTTPS_PROXY is set, and not used"));
    }
}
