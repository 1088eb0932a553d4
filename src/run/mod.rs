//! One run: connection test, warm-up and measured requests in one flow, result files.

use std::any::Any;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::api::Dialect;
use crate::engine::witness::Witness;
use crate::engine::{Engine, PhaseEnd, PhaseRequest, next_start};
use crate::finding::{Finding, OpenFiles};
use crate::log::Log;
use crate::plan::{Place, Plan, Save, Transport};
use crate::record::facts::{ClockPair, ConversationFacts, RunEnd, RunFacts};
use crate::record::share::Share;
use crate::record::trace::Trace;
use crate::record::{Block, CollectorMessage, Phase, WorkerReport};
use crate::rendezvous::{ClockClient, Rendezvous};
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::server::addresses;
use crate::server::local::Local;
use crate::server::metrics::{MetricsPage, Scraper, Sources};
use crate::stats::summary::Summary;
use crate::store::collector::{Collector, CollectorSettings, Notice};
use crate::store::live::{Live, Snapshot};
use crate::store::{RunStart, StoreError};
use crate::time::Tick;
use crate::time::clock::Clock;
use crate::visualizer::{Feed, Series};
use crate::workload::Workload;
use crate::workload::progress::StepProgress;
use crate::workload::stream::{BuildAhead, ENDLESS};
use crate::{files, host, report};

mod abort;
mod debug_log;
mod error;
mod gate;
mod interruptible;
mod plan_hash;
mod plugin_parse;
mod preflight;
mod server_end;
mod server_probe;
mod token_backfill;
mod working_database;

use abort::AbortWatch;
pub use error::RunError;
use gate::Gate;
pub(crate) use interruptible::run_or_abandon;
use interruptible::{complete_or_abandon, with_killable_programs};
use plugin_parse::parse_with_program;
use preflight::test_connection;
use server_end::server_end;
use token_backfill::{Backfill, count_missing};
use working_database::WorkingDatabase;

/// What a run needs from its caller: log, stop flag, local server, progress display, visualizer.
pub struct RunContext<'a> {
    pub log: Arc<Log>,
    /// Set by an interrupt of the user; see [`crate::engine::worker_state::STOP_OFFERING`].
    pub stop: Arc<AtomicU8>,
    /// The local server that is measured, if ringmark started it.
    pub local: Option<&'a Local>,
    /// Displays the progress of a phase until the result is dropped.
    pub show_progress: &'a dyn Fn(Box<dyn Fn() -> PhaseProgress + Send>) -> Box<dyn Any>,
    /// Displays the progress of preparation steps until the result is dropped.
    pub show_steps: &'a dyn Fn(Arc<StepProgress>) -> Box<dyn Any>,
    /// Receives intermediate results for the visualizer.
    pub visualizer: Option<Feed>,
    /// Where this shard meets the others.
    pub rendezvous: Option<&'a RefCell<Rendezvous>>,
}

/// The progress of a phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseProgress {
    pub run: Arc<RunTitle>,
    pub phase: Phase,
    /// Completed requests of this phase, successful or not.
    pub done: u64,
    /// Planned requests of this phase; `None` if only the duration ends it.
    pub total: Option<u64>,
    pub ok: u64,
    pub failed: u64,
    /// Seconds since the start of the phase.
    pub elapsed_s: f64,
    /// Duration of the phase in seconds; `None` if only the number of requests ends it.
    pub duration_s: Option<f64>,
    /// Requests in flight, warm-up included.
    pub in_flight: u64,
    /// Figures of the measured requests that have ended.
    pub figures: Snapshot,
}

/// What a progress display calls a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunTitle {
    pub place: Place,
    /// For example `Concurrency 8`.
    pub load: String,
    pub model: String,
    pub url: String,
}

/// A finished run.
#[derive(Debug)]
pub struct FinishedRun {
    /// All figures of the run.
    pub summary: Summary,
    /// Path of the database with the records.
    pub database: PathBuf,
    /// Whether an interrupt ended the run early.
    pub interrupted: bool,
}

/// Name of the database in the folder of a run.
pub(crate) const DATABASE: &str = "benchmark_data.db";
/// Name of the file with the arguments in the folder of a run.
const ARGUMENTS: &str = "benchmark_args.json";
/// File descriptors that the process needs in addition to its connections.
const OTHER_FILES: u64 = 64;
/// Record blocks that are allocated for each worker in advance.
const BLOCKS_PER_WORKER: usize = 4;
/// Empty blocks that are kept for each worker at most.
const MAX_EMPTY_BLOCKS: usize = 16;
/// Messages that wait for the collector at most. A worker that finds so many waits for it, which is a poll gap.
const MAX_MESSAGES: usize = 1024;

/// The plan with the addresses that answer, if none of several had answered when it was made: the server was still
/// starting.
fn with_answering_addresses(plan: &Plan) -> Option<Plan> {
    let is_open = matches!(&plan.target.transport, Transport::Tcp(addresses) if addresses.len() > 1);
    if !is_open || plan.address_rotation {
        return None;
    }
    let mut settled = plan.clone();
    let connect_timeout = Duration::from_nanos(plan.timeouts.connect_ns);
    let notes = addresses::choose(&mut settled.target, false, &plan.source_addresses, connect_timeout);
    settled.notes.extend(notes);
    Some(settled)
}

/// Runs a plan whose target has been resolved to an address. If this fails during the run, the database contains what was
/// measured before.
pub fn run(plan: &Arc<Plan>, context: &RunContext<'_>) -> Result<FinishedRun, RunError> {
    check_limits(plan)?;
    // Requests are built on all cores. Threads started after that stay off the cores of the workers.
    let workload = Arc::new(build_workload(plan, context)?);
    context.log.progress(&opening_line(plan));
    // Before that: the cores of this machine that the process may use include those of the workers.
    let rig_json = host::facts::Facts::collect().to_json();
    let affinity = host::affinity::exclude_cores(&plan.cores);
    // Blocks beyond these, which a busy collector made necessary, are freed when they come back.
    let (empties, returned) = bounded(plan.cores.len() * MAX_EMPTY_BLOCKS);
    for worker in 0..plan.cores.len() as u32 {
        (0..BLOCKS_PER_WORKER).for_each(|_| drop(empties.send(Block::new(worker))));
    }
    // The thread ends when the last event sender is dropped, so this must be dropped last.
    let (debug_log, trace) = debug_log::start(plan, &context.log);
    let abort: Arc<AtomicBool> = Arc::default();
    let start = |plan: &Arc<Plan>| {
        Engine::start(plan.clone(), workload.clone(), context.stop.clone(), abort.clone(), trace.clone(), &returned)
    };
    let mut engine = start(plan)?;
    let mut settled = None;
    if plan.test_connection {
        test_connection(&mut engine, plan, &context.log, &context.stop)?;
        settled = with_answering_addresses(plan).map(Arc::new);
    }
    let plan = settled.as_ref().unwrap_or(plan);
    if settled.is_some() {
        drop(engine);
        engine = start(plan)?;
    }
    let (messages, collected) = bounded(MAX_MESSAGES);
    let series = context.visualizer.as_ref().map(|feed| feed.series(plan));
    let watch = AbortWatch::new(plan, abort.clone());
    let gate = Gate::new(plan, &workload, context);
    let target = database_path(plan);
    if target.exists() {
        return Err(StoreError::Exists(target).into());
    }
    let storage = WorkingDatabase::choose(target, &working_name(plan, &workload), &context.log);
    let started = start_collector(
        (plan, watch.clone()),
        storage.path(),
        (&workload, rig_json, &gate),
        context,
        series.clone(),
        collected,
        empties,
    );
    let collector = started.inspect_err(|_| storage.abandon())?;
    collector.live().keeps_recent.store(plan.report.live, Ordering::Relaxed);
    let mut notes: Vec<Finding> = Vec::new();
    let probe = server_probe::start(&engine.server, plan);
    let shown = (collector.live(), trace);
    let outcome = run_with_observers(&mut engine, (plan, &workload), (context, &gate), shown, &messages, &mut notes);
    drop(probe);
    let ended = workload.end_stream();
    let outcome = outcome.and_then(|sent| {
        // Of a shard, the last request has a number that is so much higher.
        notes.extend(workload.notes_after(sent.saturating_mul(plan.share().count().into())));
        Ok(ended?)
    });
    notes.append(&mut engine.notes);
    notes.extend(server_end(&engine, plan, context.local));
    notes.extend(context.visualizer.iter().filter_map(Feed::note));
    let clock_error_ns = Some(engine.clock_error_ns());
    let live = collector.live().clone();
    // The collector ends when the last sender is dropped.
    drop((engine, messages, affinity, debug_log));
    let interrupted = context.stop.load(Ordering::Relaxed) != 0;
    let aborted = abort.load(Ordering::Relaxed) && !interrupted;
    notes.extend(watch.warmup_finding().filter(|_| aborted));
    let (shard_start, clock_offset) = (gate.start(), gate.clock_offset());
    let end = RunEnd {
        clock: clock_pair(),
        interrupted,
        aborted,
        clock_error_ns,
        shard_start,
        shard_late_ns: gate.late_ns(),
        clock_offset,
        ..RunEnd::default()
    };
    let stored = collector.finish(end, &notes);
    if let Some(series) = series {
        series.last_figures(&live.snapshot());
    }
    if gate.has_failed() {
        storage.discard();
        remove_files(plan);
        return Err(outcome.err().unwrap_or(RunError::Interrupted));
    }
    if let Err(error) = outcome {
        storage.finish(&context.log);
        return Err(error);
    }
    if let Some(error) = stored.error {
        context.log.error(&format!("{error}; the database lacks {} requests", stored.rows_lost));
    }
    let database = storage.path();
    // On a full disk neither can be stored; the figures of the run are there all the same.
    let added =
        parse_responses(plan, &database, context).and_then(|()| count_tokens_after_run(plan, &database, context));
    if let Err(error) = added {
        context.log.error(&format!("{error}; token counts are those of the server"));
    }
    let summary = report::from_database(&database);
    let database = storage.finish(&context.log);
    Ok(FinishedRun { summary: summary?, database, interrupted })
}

/// One line that says what a run will do.
fn opening_line(plan: &Plan) -> String {
    let report = &plan.report;
    let place = report.place.name().map_or_else(String::new, |place| format!("{place}: "));
    let load = load_name(&plan.facts(""), Language::En);
    let count = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let unit = if plan.workload.source.is_conversations() { "conversation" } else { "request" };
    let mut parts = vec![report.model.clone(), load];
    parts.extend(plan.requests.map(|requests| count(requests, unit)));
    parts.extend(plan.duration_ns.map(|ns| format!("{} s", ns as f64 / 1e9)));
    parts.extend((plan.warmup_requests > 0).then(|| count(plan.warmup_requests, "warm-up request")));
    parts.push(format!("prompts: {}", report.dataset));
    parts.push(count(plan.cores.len() as u64, "worker"));
    format!("{place}{}, {}", plan.target.url, parts.join(", "))
}

fn build_workload(plan: &Arc<Plan>, context: &RunContext<'_>) -> Result<Workload, RunError> {
    let steps = Arc::new(StepProgress::default());
    let display = (context.show_steps)(steps.clone());
    let mut workload = run_or_abandon(&context.stop, {
        let plan = plan.clone();
        move || {
            let line = plan.target.request_target(&plan.target.path);
            // Twice as many as can be in flight at once, so that a start of all slots does not wait.
            let bodies = plan.slots().map_or(0, |parallel| 2 * u64::from(parallel)).max(ENDLESS);
            let ahead = BuildAhead { bodies, keep_off: plan.cores.clone(), share: plan.share() };
            Workload::build_ahead(&plan.workload, &plan.target.authority, &line, &steps, &ahead)
        }
    })??;
    workload.head.extend_from_slice(plan.target.proxy_header().as_bytes());
    drop(display);
    for note in &workload.notes {
        context.log.warning(&note.en());
    }
    Ok(workload)
}

/// Parses the stored responses with the program of `--api`, if it is a program. A failure of the program is a finding; the
/// figures of the run stay valid.
fn parse_responses(plan: &Plan, database: &Path, context: &RunContext<'_>) -> Result<(), RunError> {
    let Dialect::Program(program) = plan.dialect else { return Ok(()) };
    let steps = Arc::new(StepProgress::default());
    let display = (context.show_steps)(steps.clone());
    let parse = || parse_with_program(database, program, &plan.workload, plan.save, &steps);
    let parsed = with_killable_programs(&context.stop, parse)?;
    drop(display);
    if let Err(caution) = parsed {
        context.log.warning(&caution.en());
    }
    Ok(())
}

/// Counts tokens with the tokenizer, if there is one, for requests without counts from the server.
fn count_tokens_after_run(plan: &Plan, database: &Path, context: &RunContext<'_>) -> Result<(), RunError> {
    let Some(token_use) = plan.workload.tokens.clone() else { return Ok(()) };
    let steps = Arc::new(StepProgress::default());
    let display = (context.show_steps)(steps.clone());
    let backfill = Arc::new(Backfill::default());
    let counted = complete_or_abandon(&context.stop, {
        let (database, dialect, backfill) = (database.to_path_buf(), plan.dialect, backfill.clone());
        move || count_missing(&database, &token_use, dialect, &steps, &backfill)
    });
    // The figures that follow must not change any more.
    backfill.end();
    drop(display);
    if matches!(counted, Err(RunError::Interrupted)) {
        context.log.warning("interrupted while tokens were counted with --tokenizer-path: some counts are missing");
        return Ok(());
    }
    let (missing, uncounted) = counted??;
    if missing > 0 {
        context.log.info(&format!(
            "the server sent no token counts for {missing} requests; their tokens were counted with --tokenizer-path"
        ));
    }
    if uncounted > 0 {
        context.log.warning(&format!(
            "{uncounted} requests could not be counted: the database has neither prompt nor response; use --save text"
        ));
    }
    Ok(())
}

/// Removes what a run has written before its start.
fn remove_files(plan: &Plan) {
    // What cannot be removed is not worth an error beside the one that ends the run.
    let _ = std::fs::remove_file(plan.report.folder.join(ARGUMENTS));
    let _ = std::fs::remove_dir(&plan.report.folder);
}

/// A name that differs between the runs of all shards and calls.
fn working_name(plan: &Plan, workload: &Workload) -> String {
    let share = plan.share();
    format!("{}-{}-{}-{}", workload.id_prefix, plan.workload.randomness.run, share.index(), std::process::id())
}

/// The path of a plan's database.
pub(crate) fn database_path(plan: &Plan) -> PathBuf {
    plan.report.folder.join(DATABASE)
}

/// Checks that this process may open the files that a plan needs.
pub(crate) fn check_limits(plan: &Plan) -> Result<(), RunError> {
    let limit = host::limits::raise_open_files();
    let Some(parallel) = plan.slots() else { return Ok(()) };
    // The built-in server runs in this process and also needs a descriptor for each connection.
    let with_mock = plan.target.mock.is_some();
    let needed = u64::from(parallel) * if with_mock { 2 } else { 1 } + OTHER_FILES;
    let files = OpenFiles { parallel, needed, limit, with_mock };
    if needed > limit { Err(RunError::OpenFiles(files)) } else { Ok(()) }
}

fn start_collector(
    (plan, watch): (&Plan, AbortWatch),
    database: PathBuf,
    (workload, rig_json, gate): (&Arc<Workload>, String, &Gate<'_>),
    context: &RunContext<'_>,
    series: Option<Series>,
    messages: Receiver<CollectorMessage>,
    empties: Sender<Block>,
) -> Result<Collector, RunError> {
    let folder = &plan.report.folder;
    std::fs::create_dir_all(folder).map_err(|cause| RunError::File { path: folder.clone(), cause })?;
    if files::is_link(folder) {
        return Err(RunError::Link(folder.clone()));
    }
    let log = context.log.clone();
    let start = RunStart {
        facts: facts(plan, workload, gate),
        clock: clock_pair(),
        save: if plan.stores_raw_responses() { Save::Full } else { plan.save },
        arguments_json: plan.report.arguments_json.clone(),
        secrets: plan.report.secrets.clone(),
        rig_json,
        calibration: plan.calibration.clone(),
        findings: plan.notes.iter().chain(&workload.notes).cloned().chain(small_warmup(plan)).collect(),
    };
    let settings = CollectorSettings {
        database,
        start,
        log_every: plan.report.log_every,
        notify: Box::new(move |notice| match notice {
            Notice::Progress(so_far) => {
                log.figures(&report::progress_line(so_far, None));
                series.iter().for_each(|series| series.figures(so_far));
            }
            Notice::Counted(counts) => watch.check(counts).iter().for_each(|line| log.warning(line)),
            Notice::StoreFailed(error) => {
                log.error(&format!("{error}; the run continues, but further requests are not stored"))
            }
        }),
    };
    // It fails if there is a database; before that, nothing of an earlier run is touched.
    let collector = Collector::start(settings, messages, empties, workload.clone())?;
    context.log.open_files().map_err(|(path, cause)| RunError::File { path, cause })?;
    write_file(plan, ARGUMENTS, &plan.report.arguments_json)?;
    Ok(collector)
}

/// The finding that the warm-up does not fill all slots, so that the first measured requests belong to the start-up.
fn small_warmup(plan: &Plan) -> Option<Finding> {
    let (warmup, parallel) = (plan.warmup_requests, plan.load.parallel()?);
    (warmup > 0 && warmup < u64::from(parallel)).then_some(Finding::WarmUpSmall { warmup, parallel })
}

/// The facts of a run. In conversations, each turn counts as a request.
fn facts(plan: &Plan, workload: &Workload, gate: &Gate<'_>) -> RunFacts {
    let mut facts = plan.facts(&workload.id_prefix);
    facts.clock_domain = host::clock_domain::read();
    if let Some(conversations) = &workload.conversations {
        let planned = plan.requests.map(|number| plan.share().part(number));
        facts.conversations = Some(ConversationFacts { planned, thinks: conversations.thinks() });
        let counts = |share: Share| {
            let measured = plan.requests.map(|number| workload.requests_of(Phase::Measured, number, share));
            (measured, workload.requests_of(Phase::Warmup, plan.warmup_requests, share))
        };
        (facts.requests, facts.warmup_requests) = counts(plan.share());
        if let Some(shard) = &mut facts.shard {
            (shard.requests, shard.warmup_requests) = counts(Share::default());
            shard.conversations = plan.requests;
        }
    }
    if let Some(shard) = &mut facts.shard {
        shard.plan_hash = gate.plan_hash().to_string();
        shard.clock_domain.clone_from(&facts.clock_domain);
    }
    facts
}

/// Runs the load while the server's metrics are read and the witness sends. Returns the number of requests that were sent.
fn run_with_observers(
    engine: &mut Engine,
    (plan, workload): (&Arc<Plan>, &Arc<Workload>),
    (context, gate): (&RunContext<'_>, &Gate<'_>),
    (live, trace): (&Arc<Live>, Option<Trace>),
    messages: &Sender<CollectorMessage>,
    notes: &mut Vec<Finding>,
) -> Result<u64, RunError> {
    if context.stop.load(Ordering::Relaxed) != 0 {
        return Ok(0);
    }
    let request = PhaseRequest {
        phase: Phase::Measured,
        load: plan.load.clone(),
        share: plan.share(),
        warmup: plan.warmup_requests,
        requests: plan.requests,
        duration_ns: plan.duration_ns,
        ramp_ns: plan.ramp_ns,
        messages: messages.clone(),
    };
    // Both cover the warm-up as well: the server cannot tell its requests from measured ones, and both are in flight
    // where they meet.
    let mut observe = || {
        let scraper = start_scraper(plan, context, messages, notes);
        (scraper, start_witness((plan, workload), messages, trace.clone(), notes))
    };
    let outcome;
    let (scraper, witness) = if gate.is_open() {
        let observers = observe();
        outcome = run_load(engine, (plan, request), workload, context, live, || Ok(next_start()));
        observers
    } else {
        gate.ready()?;
        let mut observers = (None, None);
        let mut clocks = None;
        outcome = run_load(engine, (plan, request), workload, context, live, || {
            let start = gate.agree()?;
            clocks = gate.compare_clocks(start, messages);
            // Not while other shards are still waited for.
            observers = observe();
            gate.wait_for(start)
        });
        clocks.into_iter().for_each(ClockClient::finish);
        observers
    };
    let outcome = outcome.map(|LoadEnd { reports, sent }| {
        for report in reports {
            // The collector outlives the phases.
            let _ = messages.send(CollectorMessage::Worker(Box::new(report)));
        }
        sent
    });
    witness.into_iter().for_each(Witness::finish);
    notes.extend(scraper.into_iter().flat_map(Scraper::finish));
    outcome
}

/// Starts the witness if the plan has one. A failure is a finding; the run continues without a witness.
fn start_witness(
    (plan, workload): (&Arc<Plan>, &Arc<Workload>),
    messages: &Sender<CollectorMessage>,
    trace: Option<Trace>,
    notes: &mut Vec<Finding>,
) -> Option<Witness> {
    let started = Witness::start(plan.witness?, plan.clone(), workload.clone(), messages.clone(), trace);
    started.map_err(|error| notes.push(Finding::WitnessMissing { reason: error.to_string() })).ok()
}

/// Starts to collect server metrics and process usage, if there is a source. A failure is a finding.
fn start_scraper(
    plan: &Arc<Plan>,
    context: &RunContext<'_>,
    messages: &Sender<CollectorMessage>,
    notes: &mut Vec<Finding>,
) -> Option<Scraper> {
    let mut note_unavailable = |reason: String| notes.push(Finding::MetricsUnavailable { reason });
    // The name of its server is looked up, which may take long.
    let page = run_or_abandon(&context.stop, {
        let plan = plan.clone();
        move || MetricsPage::from_plan(&plan).transpose()
    });
    let page = match page {
        Ok(page) => page.map_err(&mut note_unavailable).ok().flatten(),
        Err(error) => {
            note_unavailable(error.to_string());
            None
        }
    };
    let sources = Sources { page, processes: context.local.map(Local::processes), stop: context.stop.clone() };
    if sources.page.is_none() && sources.processes.is_none() {
        return None;
    }
    let messages = messages.clone();
    // The collector outlives the phases.
    let on_samples = Box::new(move |samples| drop(messages.send(CollectorMessage::Server(samples))));
    Scraper::start(sources, on_samples).map_err(|error| note_unavailable(error.to_string())).ok()
}

/// The end of a load.
struct LoadEnd {
    reports: Vec<WorkerReport>,
    /// Requests that were sent, warm-up included.
    sent: u64,
}

/// Runs the load to its end. `start` is called when everything is ready, and returns the start.
fn run_load(
    engine: &mut Engine,
    (plan, request): (&Plan, PhaseRequest),
    workload: &Workload,
    context: &RunContext<'_>,
    live: &Arc<Live>,
    start: impl FnOnce() -> Result<Tick, RunError>,
) -> Result<LoadEnd, RunError> {
    let planned = PlannedProgress {
        warmup: workload.requests_of(Phase::Warmup, request.warmup, request.share),
        total: request.requests.map(|number| workload.requests_of(Phase::Measured, number, request.share)),
        duration_s: request.duration_ns.map(|ns| ns as f64 / 1e9),
        start: Clock::new().now(),
    };
    let (live, clock, server) = (live.clone(), Clock::new(), engine.server.clone());
    let run = Arc::new(RunTitle {
        place: plan.report.place,
        load: load_name(&plan.facts(""), Language::En),
        model: plan.report.model.clone(),
        url: plan.target.url.clone(),
    });
    let read = move || PhaseProgress {
        run: run.clone(),
        in_flight: server.in_flight(),
        ..planned.progress(&live.snapshot(), clock.now())
    };
    let display = (context.show_progress)(Box::new(read));
    let PhaseEnd { reports, begun } = engine.run_from(request, start)?;
    drop(display);
    Ok(LoadEnd { reports, sent: planned.warmup + begun })
}

/// What the progress of a run is measured by.
#[derive(Clone, Copy)]
struct PlannedProgress {
    /// Requests of the warm-up.
    warmup: u64,
    total: Option<u64>,
    duration_s: Option<f64>,
    start: Tick,
}

impl PlannedProgress {
    /// The progress of the warm-up until all of its requests have ended, then that of the measured requests. If requests
    /// of the warm-up hang, only until as many measured ones have ended.
    fn progress(&self, so_far: &Snapshot, now: Tick) -> PhaseProgress {
        if so_far.warmup_done < self.warmup && so_far.done < self.warmup {
            return PhaseProgress {
                phase: Phase::Warmup,
                done: so_far.warmup_done,
                total: Some(self.warmup),
                ok: so_far.warmup_ok,
                failed: so_far.warmup_done - so_far.warmup_ok,
                elapsed_s: now.seconds_since(self.start),
                figures: *so_far,
                ..PhaseProgress::default()
            };
        }
        // The first measured request is due at the start, or unknown until one has ended.
        let start = so_far.first_due.or((self.warmup == 0).then_some(self.start));
        PhaseProgress {
            phase: Phase::Measured,
            done: so_far.done,
            total: self.total,
            ok: so_far.ok,
            failed: so_far.failed,
            elapsed_s: start.map_or(0.0, |start| now.seconds_since(start)),
            duration_s: self.duration_s,
            figures: *so_far,
            ..PhaseProgress::default()
        }
    }
}

fn clock_pair() -> ClockPair {
    let clock = Clock::new();
    let now = clock.now();
    ClockPair { tick_ns: now.0, unix_ns: now.0 as i64 + clock.wall_offset_ns() }
}

/// Writes the JSON files of a run: each of them, even if another one cannot be written.
pub(crate) fn write_results(plan: &Plan, summary: &Summary) -> Result<(), RunError> {
    let figures = report::json::stored_summary(summary, &plan.report.folder.join(DATABASE));
    let written = write_file(plan, "benchmark_summary.json", &format!("{figures:#}\n"));
    let percentiles =
        write_file(plan, "benchmark_percentile.json", &format!("{:#}\n", report::json::percentiles(summary)));
    let speed = match summary.speed.is_empty() {
        true => Ok(()),
        false => write_file(plan, "speed_benchmark.json", &format!("{:#}\n", report::json::speed_rows(summary))),
    };
    written.and(percentiles).and(speed)
}

fn write_file(plan: &Plan, name: &str, text: &str) -> Result<(), RunError> {
    let path = plan.report.folder.join(name);
    files::replace(&path, text.as_bytes()).map_err(|cause| RunError::File { path, cause })
}
