//! What a program that embeds ringmark calls: measure a spec, read the summary of a stored run.

#![expect(clippy::disallowed_methods, reason = "log lines have the time of day")]

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::log::Log;
use crate::plan::Plan;
use crate::prepare::{Prepared, prepare, results, secret_values};
use crate::report;
use crate::report::export::write_all;
use crate::run::{FinishedRun, PhaseProgress, RunContext, check_limits};
use crate::secrets::mask_foreign;
use crate::server::local::Local;
use crate::spec::Spec;
use crate::stats::Summary;
use crate::sweep;
use crate::workload::progress::StepProgress;

/// Why a measurement could not be made, or a database not be read. One line that says what to do; secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Measures every load of `spec`, one after the other, and returns the runs in that order.
///
/// Nothing is printed. Each run writes its database and JSON files below `spec.output.outputs_dir`, as the command line
/// does, the log goes to `benchmark.log`, and `--export` and `--csv` write their files; there is no HTML report. The
/// calling thread waits until the last run has ended. Failed requests are no error: they are counted in
/// [`Summary::counts`].
///
/// If the server ends during a run, that run is void ([`Summary::is_void`]) and the last one in the result.
///
/// # Errors
/// If a flag is invalid, a file or the server cannot be used, or the connection test fails. A search
/// (`spec.sla.sla_auto_tune`) and a visualizer are errors: only the command line has them.
pub fn measure(spec: &Spec) -> Result<Vec<FinishedRun>, Error> {
    let spec = &secret_values::resolve(spec, &|name| std::env::var(name).ok()).map_err(Error)?;
    let secrets = spec.secrets();
    let error = |text: String| Error(mask_foreign(&text, &secrets));
    if spec.sla.sla_auto_tune {
        return Err(Error("a search for a load needs the command line: ringmark perf --sla-auto-tune".to_string()));
    }
    if spec.output.visualizer.is_some() {
        return Err(Error("a visualizer needs the command line: ringmark perf --visualizer".to_string()));
    }
    let Prepared { mut plans, mut facts, fetched, mock, rendezvous, .. } =
        prepare(spec, &|_| Box::new(()), &mut drop).map_err(error)?;
    let rendezvous = rendezvous.map(RefCell::new);
    // Other shards end with this one.
    let error = |text: String| {
        let error = error(text);
        rendezvous.iter().for_each(|rendezvous| rendezvous.borrow_mut().fail(&error.0));
        error
    };
    results::check(&plans, &spec.output).map_err(error)?;
    plans.iter().try_for_each(check_limits).map_err(|cause| error(cause.to_string()))?;
    let created = results::claim(&spec.output, &mut facts, &mut plans).map_err(error)?;
    let root = plans[0].report.root.clone();
    let exports = plans[0].report.exports.clone();
    let log = Arc::new(Log::new(Timestamp::now, TimeZone::system(), secrets.clone()));
    log.add_file(spec.output.level(), root.join("benchmark.log"));
    plans[0].notes.iter().for_each(|note| log.warning(&note.en()));
    fetched.iter().for_each(|line| log.info(line));
    let stop = Arc::new(AtomicU8::new(0));
    let start = |local| {
        std::fs::create_dir_all(&root).map_err(|cause| format!("cannot create {}: {cause}", root.display()))?;
        log.open_files().map_err(|(path, cause)| format!("cannot write {}: {cause}", path.display()))?;
        Local::start(local, &plans[0].report.api, &plans[0].target, &root, &log, &stop)
    };
    let local = plans[0].local.as_ref().map(start).transpose().map_err(error)?;
    let context = RunContext {
        log: log.clone(),
        stop: stop.clone(),
        local: local.as_ref(),
        show_progress: &|_: Box<dyn Fn() -> PhaseProgress + Send>| -> Box<dyn Any> { Box::new(()) },
        show_steps: &|_: Arc<StepProgress>| -> Box<dyn Any> { Box::new(()) },
        visualizer: None,
        rendezvous: rendezvous.as_ref(),
    };
    let result = sweep::run_all(plans, &context, &mut |_: &Plan, _: &FinishedRun| Ok(()));
    drop((mock, local));
    if let Some(rendezvous) = &rendezvous {
        rendezvous.borrow().wait_for_exchanges(&|| stop.load(std::sync::atomic::Ordering::Relaxed) != 0);
    }
    if result.runs.is_empty() {
        created.remove_if_unused();
    }
    if let Some(cause) = result.error {
        return Err(error(cause.to_string()));
    }
    let runs = result.runs;
    let databases: Vec<_> = runs.iter().map(|run| run.database.clone()).collect();
    write_all(&exports, &databases).map_err(|cause| error(cause.to_string()))?;
    Ok(runs)
}

/// The summary of a run from its database (`benchmark_data.db`), computed from the records as at the end of the run.
///
/// # Errors
/// If the file is not such a database, or was written by a later version.
pub fn read_summary(database: impl AsRef<Path>) -> Result<Summary, Error> {
    report::from_database(database.as_ref()).map_err(|cause| Error(cause.to_string()))
}
