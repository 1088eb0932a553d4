//! `ringmark perf`, carried out: from the spec to the exit status.

#![expect(clippy::disallowed_methods, reason = "the time of day goes into names of folders and lines of the log")]
#![expect(clippy::print_stdout, reason = "the command line writes the tables")]

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::call_output::{
    FILE_WIDTH, LOG_FILE, SUMMARY, append_to, databases, prepend_to, say, screen_has_colours, screen_width, write_html,
};
use super::exit::{Early, status};
use super::made::Made;
use super::progress::Bars;
use super::{calibration, fetch, files, interrupt, search, visual};
use crate::log::Log;
use crate::mock::Mock;
use crate::net::tls;
use crate::options::LogLevel;
use crate::plan::Plan;
use crate::plan::export::Export;
use crate::report::export::write_all;
use crate::report::repeats::{self, Repeat};
use crate::report::table::wrap;
use crate::report::{overview, screen};
use crate::run::{Finished, RunError, Watch};
use crate::secrets::mask;
use crate::server::local::{self, Local};
use crate::server::models::{first_model, list_timeouts};
use crate::spec::proxy::ProxyVariables;
use crate::spec::{HubFiles, RigFacts, Spec, resolve, trace_file};
use crate::stats::Summary;
use crate::sweep::{self, Swept};
use crate::visualizer::Visualizer;
use crate::workload::rng::Randomness;
use crate::workload::trace;

/// Carries out one call; gives the exit status.
pub fn perf(spec: &Spec) -> Result<u8, Early> {
    let mistake = |text: String| Early::mistake(&mask(&text, &spec.secrets()));
    let spec = &files::read(spec).map_err(mistake)?;
    let mut facts = facts(&spec.output.outputs_dir);
    let trace = trace_file(spec).map(|(path, flag)| trace::read(path, flag)).transpose();
    facts.trace = trace.map_err(|error| mistake(error.to_string()))?.map(Arc::new);
    let search = spec.search().map_err(|error| mistake(error.to_string()))?;
    let first = search.as_ref().map_or_else(|| spec.clone(), |search| spec.at_load(search, search.space.start));
    let bars = Bars::new(spec.output.quiet);
    let found = fetch::hub_files(&first, &mut facts, &bars).map_err(mistake)?;
    let (mut plans, mock) = decide(&first, &facts).map_err(mistake)?;
    calibration::attach(spec, &mut plans).map_err(mistake)?;
    let root = plans[0].report.root.clone();
    let exports = plans[0].report.exports.clone();
    let made = Made::before(&root);
    let log = open_log(spec, &root, &bars).map_err(mistake)?;
    for note in &plans[0].notes {
        log.warning(&note.en());
    }
    if plans[0].workload.source.is_random_text() {
        let Randomness { data_seed, salt, .. } = plans[0].workload.randomness;
        log.info(&format!("random text: --data-seed {data_seed} --salt {salt} gives the same bytes again"));
    }
    found.iter().for_each(|line| log.info(line));
    let stop = Arc::new(AtomicU8::new(0));
    watch_signals(&stop, &log).map_err(mistake)?;
    let not_started = |text: String| match stop.load(Ordering::Relaxed) {
        interrupt::GO_ON => mistake(text),
        _ => interrupted(&text, &log),
    };
    let mut visualizer = visual::start(spec, &plans, &log, &stop).map_err(|text| {
        made.remove();
        not_started(text)
    })?;
    let local = start_local(&plans[0], &root, &log, &stop).map_err(not_started)?;
    let follow =
        |read: Box<dyn Fn() -> crate::run::Reading + Send>| -> Box<dyn std::any::Any> { Box::new(bars.follow(read)) };
    let follow_making = |making| -> Box<dyn std::any::Any> { Box::new(bars.follow_making(making)) };
    let watch = Watch {
        log: log.clone(),
        stop: stop.clone(),
        local: local.as_ref(),
        follow: &follow,
        follow_making: &follow_making,
        visualizer: visualizer.as_ref().map(Visualizer::feed),
    };
    let measured = match &search {
        Some(search) => search::carry_out((spec, search, &facts), &plans[0], &watch, visualizer.as_mut()),
        None => carry_out(spec, plans, &watch, visualizer.as_mut()),
    };
    drop((mock, local));
    if let Some(visualizer) = visualizer {
        visualizer.finish(measured.is_ok());
    }
    if let Err(error) = &measured {
        log.final_error(&error.to_string());
    }
    let (runs, status) = measured.map_err(|error| mistake(error.to_string()))?;
    if !runs.is_empty() {
        write_exports(&exports, &runs).map_err(mistake)?;
    }
    println!("Results: {}", root.display());
    Ok(status)
}

/// Carries the plans out and shows what they came to. Gives the runs and the exit status.
fn carry_out(
    spec: &Spec,
    plans: Vec<Plan>,
    watch: &Watch<'_>,
    mut visualizer: Option<&mut Visualizer>,
) -> Result<(Vec<Finished>, u8), RunError> {
    let root = plans[0].report.root.clone();
    let count = plans.len();
    let mut ended = |plan: &Plan, finished: &Finished| {
        visual::run_ended(visualizer.as_deref_mut(), plan, &finished.summary);
        if count > 1 {
            watch.log.info(&overview::one_line(&finished.summary));
        }
        show(spec, finished, &root)
    };
    let swept = sweep::run_all(plans, watch, &mut ended)?;
    let line = swept.interruption();
    let interruption =
        |width: usize| line.as_ref().map_or_else(String::new, |line| format!("\n{}", wrap("", line, width)));
    let finished = &swept.runs;
    if finished.len() > 1 {
        show_overview(spec, finished, &root, &interruption)?;
        write_repeats(finished, &root, !swept.is_interrupted())?;
    } else {
        say(spec, &root, &interruption)?;
    }
    write_html(spec, finished, &root)?;
    let status = exit_status(&swept);
    Ok((swept.runs, status))
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
        let model = first_model(&target, &target.models_path(), &headers, config, list_timeouts(plans[0].timeouts))
            .map_err(|error| {
                format!("no --model was given, and asking the server for one failed: {error}; give --model NAME")
            })?;
        let named = spec.clone().with(|spec| spec.target.model = Some(model));
        plans = resolve(&named, facts).map_err(|error| error.to_string())?;
    }
    for plan in &mut plans {
        plan.target = target.clone();
    }
    Ok((plans, mock))
}

fn facts(outputs: &Path) -> RigFacts {
    let now = Zoned::now();
    RigFacts {
        allowed_cores: core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect(),
        started: free_name(outputs, &now.strftime("%Y%m%d_%H%M%S").to_string()),
        nonce: now.timestamp().subsec_nanosecond() as u32 ^ std::process::id().rotate_left(16),
        trace: None,
        hub: HubFiles::default(),
        proxy_variables: ProxyVariables::read(&|name| std::env::var(name).ok()),
    }
}

/// The name for a folder within `outputs`: calls that start in one second get `_2` and so on at its end.
fn free_name(outputs: &Path, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_string()).chain(numbered);
    names.find(|name| !outputs.join(name).exists()).expect("there is always a next number")
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

/// Starts the server of our own, where that is what is measured.
fn start_local(plan: &Plan, root: &Path, log: &Arc<Log>, stop: &AtomicU8) -> Result<Option<Local>, String> {
    let Some(local) = &plan.local else { return Ok(None) };
    Local::start(local, &plan.report.api, &plan.target, root, log, stop).map(Some)
}

/// An end before the first run, which somebody asked for.
fn interrupted(text: &str, log: &Log) -> Early {
    log.warning(text);
    Early { text: String::new(), to_stdout: false, status: status::INTERRUPTED }
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
    say(spec, root, &|width| screen::render(&finished.summary, width))
}

/// Prints the combined report of a sweep behind what is to be said before it, appends it to the log, and puts it at the beginning of the summary: the tables
/// of the runs, which stand there since they ended, are many.
fn show_overview(
    spec: &Spec,
    finished: &[Finished],
    root: &Path,
    before: &dyn Fn(usize) -> String,
) -> Result<(), RunError> {
    let runs: Vec<&Summary> = finished.iter().map(|run| &run.summary).collect();
    let place = root.display().to_string();
    let report = |width, colours| before(width) + &overview::render(&runs, Some(&place), width, colours);
    let text = report(FILE_WIDTH, false);
    append_to(&text, root, LOG_FILE)?;
    prepend_to(&format!("{text}\nThe runs, one after the other:\n"), root, SUMMARY)?;
    if !spec.output.quiet {
        print!("{}", report(screen_width(), screen_has_colours()));
    }
    Ok(())
}

/// Writes what differs from run to run, where a load has several.
fn write_repeats(finished: &[Finished], root: &Path, complete: bool) -> Result<(), RunError> {
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

fn write_exports(exports: &[Export], finished: &[Finished]) -> Result<(), String> {
    let written = write_all(exports, &databases(finished)).map_err(|error| error.to_string())?;
    written.iter().for_each(|path| println!("Written: {}", path.display()));
    Ok(())
}

fn exit_status(swept: &Swept) -> u8 {
    let finished = &swept.runs;
    if swept.is_interrupted() {
        status::INTERRUPTED
    } else if finished.iter().any(|run| run.summary.is_void()) {
        status::VOID
    } else if finished.iter().any(|run| run.summary.all_failed() || run.summary.missed_slo()) {
        status::MISSED
    } else {
        status::DONE
    }
}
