//! Sweeps and searches: several runs in sequence against one server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::finding::SearchTrouble;
use crate::mock::{Config, Mock};
use crate::plan::sla::SearchPlan;
use crate::plan::{Plan, PlanError, Target, Transport};
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::run::{FinishedRun, RunContext, RunError, run, write_results};
use crate::search::{Probe, Selection, Step, so_far, step};
use crate::stats::Summary;

/// The runs of a sweep that were completed or interrupted, and those that were not started.
#[derive(Debug, Default)]
pub(crate) struct SweepResult {
    /// In the order in which they ran.
    pub runs: Vec<FinishedRun>,
    /// Names of the loads of runs that were not started: because of an interrupt, the end of the server, or an error.
    pub not_started: Vec<String>,
    /// The server ended during the last run.
    pub server_ended: bool,
    /// The error that ended the sweep.
    pub error: Option<RunError>,
}

impl SweepResult {
    /// Whether an interrupt ended the sweep early.
    pub(crate) fn is_interrupted(&self) -> bool {
        let unexplained = !self.not_started.is_empty() && self.error.is_none() && !self.server_ended;
        unexplained || self.runs.iter().any(|run| run.interrupted)
    }

    /// One line that names the partial and missing runs of a sweep that ended early; `None` if the sweep is complete or has
    /// only one run.
    pub(crate) fn interruption(&self) -> Option<String> {
        let cause = match self {
            _ if self.is_interrupted() => "The sweep was interrupted.",
            _ if self.server_ended && !self.not_started.is_empty() => "The server ended during the sweep.",
            _ if self.error.is_some() && !self.not_started.is_empty() => "The sweep ended with an error.",
            _ => return None,
        };
        if self.runs.len() + self.not_started.len() < 2 {
            return None;
        }
        let name = |run: &FinishedRun| load_name(&run.summary.facts, Language::En);
        let interrupted = self.runs.iter().filter(|run| run.interrupted && !is_complete(&run.summary));
        // A run that was interrupted in its warm-up has no measured requests.
        let (partial, empty): (Vec<&FinishedRun>, Vec<&FinishedRun>) =
            interrupted.partition(|run| run.summary.counts.sent() > 0);
        let partial = partial.into_iter().map(name).collect();
        let missing = empty.into_iter().map(name).chain(self.not_started.iter().cloned()).collect();
        let all: Vec<String> = self.runs.iter().map(name).chain(self.not_started.iter().cloned()).collect();
        let mut out = cause.to_string();
        let groups: [(&str, Vec<String>); 2] = [("Partial", partial), ("Not measured", missing)];
        for (title, names) in groups {
            if !names.is_empty() {
                out.push_str(&format!(" {title}: {}.", join_names(&names, &all)));
            }
        }
        Some(out)
    }
}

/// Whether every planned request was sent and completed, successfully or not.
fn is_complete(summary: &Summary) -> bool {
    summary.facts.requests.is_some() && summary.counts.unsent == 0 && summary.counts.unfinished == 0
}

/// Joins the distinct `names` in the order of `all`. Loads with several runs get the count of their runs in `names`.
fn join_names(names: &[String], all: &[String]) -> String {
    let count = |within: &[String], name: &String| within.iter().filter(|other| *other == name).count();
    let first = |&(place, name): &(usize, &String)| !all[..place].contains(name) && names.contains(name);
    let shown = |(_, name): (usize, &String)| match count(all, name) {
        1 => name.clone(),
        runs => format!("{name} ({} of {runs} runs)", count(names, name)),
    };
    all.iter().enumerate().filter(first).map(shown).collect::<Vec<_>>().join("; ")
}

/// Runs the plans in order. After each run `ended` is called, which shows it, and then its files are written. An
/// interrupt, the end of the server and an error end the sweep after the current run.
pub(crate) fn run_all(
    plans: Vec<Plan>,
    context: &RunContext<'_>,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
) -> SweepResult {
    let mut result = SweepResult::default();
    let mut plans = plans.into_iter();
    let name = |plan: &Plan| load_name(&plan.facts(""), Language::En);
    for plan in plans.by_ref() {
        if !result.runs.is_empty() {
            pause(plan.sleep_interval_ns, context);
        }
        let plan = Arc::new(plan);
        match run_unless_stopped(&plan, context) {
            Ok(Some(finished)) => {
                result.error = show_and_store(&plan, &finished, ended).err();
                result.server_ended = finished.summary.server_ended();
                result.runs.push(finished);
            }
            Ok(None) => result.not_started.push(name(&plan)),
            Err(error) => {
                result.not_started.push(name(&plan));
                result.error = Some(error);
            }
        }
        if result.error.is_some() || result.server_ended {
            break;
        }
    }
    result.not_started.extend(plans.map(|plan| name(&plan)));
    result
}

/// Shows a run first, and then writes its files, so that a full disk does not hide the figures.
fn show_and_store(
    plan: &Plan,
    finished: &FinishedRun,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let shown = ended(plan, finished);
    let written = write_results(plan, &finished.summary);
    shown.and(written)
}

/// Runs a plan; `None` if an interrupt came before the measurement.
fn run_unless_stopped(plan: &Arc<Plan>, context: &RunContext<'_>) -> Result<Option<FinishedRun>, RunError> {
    let is_stopped = || context.stop.load(Ordering::Relaxed) != 0;
    if is_stopped() {
        return Ok(None);
    }
    match run(plan, context) {
        Err(error @ (RunError::ConnectionTest(_) | RunError::Interrupted)) if is_stopped() => {
            context.log.warning(error.to_string().lines().next().unwrap_or_default());
            Ok(None)
        }
        outcome => outcome.map(Some),
    }
}

/// The result of a search, possibly partial.
#[derive(Debug)]
pub struct SearchResult {
    /// In the order in which they ran.
    pub runs: Vec<FinishedRun>,
    pub probes: Vec<Probe>,
    pub selections: Vec<Selection>,
    /// Why the search ended early; then the last load may have fewer runs and has no probe.
    pub early_end: Option<EarlyEnd>,
}

/// Why a search ended early.
#[derive(Debug)]
pub enum EarlyEnd {
    Interrupted,
    /// The server ended during the last run.
    ServerEnded,
    Failed(RunError),
}

/// Searches for a load. `plan_at` returns the plan for a load and a run number, which starts at 1. The result contains all
/// completed runs, also if the search ends early.
pub fn search(
    search: &SearchPlan,
    plan_at: &mut dyn FnMut(f64, u32) -> Result<Plan, RunError>,
    context: &RunContext<'_>,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
) -> SearchResult {
    let mut result = SearchResult { runs: Vec::new(), probes: Vec::new(), selections: Vec::new(), early_end: None };
    loop {
        let value = match step(search, &result.probes) {
            Step::Probe(value) => value,
            Step::Done(selections) => return SearchResult { selections, ..result },
        };
        match measure_load(search, value, plan_at, context, ended, &mut result.runs) {
            Ok(probe) => result.probes.push(probe),
            Err(early_end) => {
                result.selections = so_far(search, &result.probes);
                result.early_end = Some(early_end);
                return result;
            }
        }
    }
}

/// Measures one load with the planned number of runs. Stops early if a run has failed requests or is void.
fn measure_load(
    search: &SearchPlan,
    value: f64,
    plan_at: &mut dyn FnMut(f64, u32) -> Result<Plan, RunError>,
    context: &RunContext<'_>,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
    runs: &mut Vec<FinishedRun>,
) -> Result<Probe, EarlyEnd> {
    let first = runs.len();
    for number in 1..=search.runs {
        let plan = Arc::new(plan_at(value, number).map_err(EarlyEnd::Failed)?);
        if !runs.is_empty() {
            pause(plan.sleep_interval_ns, context);
        }
        let finished = match run_unless_stopped(&plan, context) {
            Ok(Some(finished)) => finished,
            Ok(None) => return Err(EarlyEnd::Interrupted),
            Err(RunError::OpenFiles(files)) => {
                context.log.warning(&format!("{} {value} is skipped: {files}", search.variable.name()));
                return Ok(Probe::refused(search, value, SearchTrouble::OpenFiles(files)));
            }
            Err(error) => return Err(EarlyEnd::Failed(error)),
        };
        let (interrupted, server_ended) = (finished.interrupted, finished.summary.server_ended());
        let reported = show_and_store(&plan, &finished, ended);
        runs.push(finished);
        reported.map_err(EarlyEnd::Failed)?;
        if interrupted {
            return Err(EarlyEnd::Interrupted);
        }
        if server_ended {
            return Err(EarlyEnd::ServerEnded);
        }
        let so_far: Vec<&Summary> = runs[first..].iter().map(|run| &run.summary).collect();
        let probe = Probe::from_runs(search, value, &so_far);
        if number == search.runs || !probe.trouble.is_empty() {
            return Ok(probe);
        }
    }
    Err(EarlyEnd::Failed(RunError::Plan(PlanError::value("--sla-num-runs", "must be at least 1"))))
}

/// Sleeps for `ns` nanoseconds; an interrupt ends the sleep.
fn pause(ns: u64, context: &RunContext<'_>) {
    const STEP: Duration = Duration::from_millis(50);
    if ns == 0 || context.stop.load(Ordering::Relaxed) != 0 {
        return;
    }
    context.log.info(&format!("pausing {} s (--sleep-interval)", ns as f64 / 1e9));
    let mut left = Duration::from_nanos(ns);
    while !left.is_zero() && context.stop.load(Ordering::Relaxed) == 0 {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}

/// Resolves the addresses of a target. For a `mock:` target, starts the built-in server, which runs until the returned
/// [`Mock`] is dropped.
pub fn resolve_target(
    target: &mut Target,
    worker_cores: &[usize],
    all_cores: &[usize],
) -> Result<Option<Mock>, String> {
    if let Some(query) = &target.mock {
        let config = Config::from_query(query).map_err(|error| format!("--url {}: {error}", target.url))?;
        let spare: Vec<usize> = all_cores.iter().copied().filter(|core| !worker_cores.contains(core)).take(1).collect();
        let mock = Mock::start(&config, &spare, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .map_err(|error| format!("cannot start the built-in server: {error}"))?;
        target.set_mock_address(mock.addr());
        return Ok(Some(mock));
    }
    let peer = (target.peer().0.to_string(), target.peer().1);
    if let Transport::Tcp(addresses) = &mut target.transport {
        let flag = if target.proxy.is_some() { "--proxy" } else { "--url" };
        let (host, port) = peer;
        *addresses = resolve_host(&host, port)
            .map_err(|error| format!("{flag}: cannot resolve the host name '{host}': {error}"))?;
    }
    Ok(None)
}

fn resolve_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_loads_are_listed_once() {
        let names = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<String>>();
        assert_eq!(join_names(&names("b c"), &names("a b c")), "b; c");
        assert_eq!(join_names(&names("b c a"), &names("a b c a")), "a (1 of 2 runs); b; c");
        assert_eq!(join_names(&names("a a"), &names("a a")), "a (2 of 2 runs)");
    }
}
