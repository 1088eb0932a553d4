//! Several runs, one after the other, against one server.

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
use crate::run::{FinishedRun, RunContext, RunError, run};
use crate::search::{Probe, Selection, Step, so_far, step};
use crate::stats::Summary;

/// A sweep, as far as it came.
#[derive(Debug, Default)]
pub struct SweepResult {
    /// In the order in which they ran.
    pub runs: Vec<FinishedRun>,
    /// The loads of the runs that an interrupt kept from beginning.
    pub left: Vec<String>,
}

impl SweepResult {
    /// Somebody ended it early.
    pub fn is_interrupted(&self) -> bool {
        !self.left.is_empty() || self.runs.iter().any(|run| run.interrupted)
    }

    /// What is missing in an interrupted sweep, as one line; `None` of one that came to its end, and of a single run.
    pub fn interruption(&self) -> Option<String> {
        if !self.is_interrupted() || self.runs.len() + self.left.len() < 2 {
            return None;
        }
        let name = |run: &FinishedRun| load_name(&run.summary.facts, Language::En);
        let cut_off = self.runs.iter().filter(|run| run.interrupted && !is_whole(&run.summary));
        // One that was interrupted in its warm-up sent nothing.
        let (partial, empty): (Vec<&FinishedRun>, Vec<&FinishedRun>) =
            cut_off.partition(|run| run.summary.counts.sent() > 0);
        let partial = partial.into_iter().map(name).collect();
        let missing = empty.into_iter().map(name).chain(self.left.iter().cloned()).collect();
        let all: Vec<String> = self.runs.iter().map(name).chain(self.left.iter().cloned()).collect();
        let mut out = "The sweep was interrupted.".to_string();
        let groups: [(&str, Vec<String>); 2] = [("Partial", partial), ("Not measured", missing)];
        for (title, names) in groups {
            if !names.is_empty() {
                out.push_str(&format!(" {title}: {}.", join_names(&names, &all)));
            }
        }
        Some(out)
    }
}

/// Every request that was planned had its answer, or its failure.
fn is_whole(summary: &Summary) -> bool {
    summary.facts.requests.is_some() && summary.counts.unsent == 0 && summary.counts.unfinished == 0
}

/// These names in the order of `all`; those of loads with several runs with the number of runs.
fn join_names(names: &[String], all: &[String]) -> String {
    let count = |within: &[String], name: &String| within.iter().filter(|other| *other == name).count();
    let first = |&(place, name): &(usize, &String)| !all[..place].contains(name) && names.contains(name);
    let shown = |(_, name): (usize, &String)| match count(all, name) {
        1 => name.clone(),
        runs => format!("{name} ({} of {runs} runs)", count(names, name)),
    };
    all.iter().enumerate().filter(first).map(shown).collect::<Vec<_>>().join("; ")
}

/// Carries the plans out in order. `ended` is called after each run, so that nothing waits for the last one; an
/// interrupt ends the sweep after the run it met.
pub fn run_all(
    plans: Vec<Plan>,
    context: &RunContext<'_>,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
) -> Result<SweepResult, RunError> {
    let mut swept = SweepResult::default();
    for plan in plans {
        if !swept.runs.is_empty() {
            pause(plan.sleep_interval_ns, context);
        }
        let plan = Arc::new(plan);
        match run_unless_stopped(&plan, context)? {
            Some(finished) => {
                ended(&plan, &finished)?;
                swept.runs.push(finished);
            }
            None => swept.left.push(load_name(&plan.facts(""), Language::En)),
        }
    }
    Ok(swept)
}

/// A run; `None` when an interrupt came before there was anything to measure.
fn run_unless_stopped(plan: &Arc<Plan>, context: &RunContext<'_>) -> Result<Option<FinishedRun>, RunError> {
    let is_stopped = || context.stop.load(Ordering::Relaxed) != 0;
    if is_stopped() {
        return Ok(None);
    }
    match run(plan, context) {
        Err(error @ RunError::ConnectionTest(_)) if is_stopped() => {
            context.log.warning(error.to_string().lines().next().unwrap_or_default());
            Ok(None)
        }
        outcome => outcome.map(Some),
    }
}

/// A search, as far as it came.
#[derive(Debug)]
pub struct SearchResult {
    /// In the order in which they ran.
    pub runs: Vec<FinishedRun>,
    pub probes: Vec<Probe>,
    pub selections: Vec<Selection>,
    /// Why it ended early, where it did: the last load has fewer runs then, and is no probe.
    pub early_end: Option<EarlyEnd>,
}

/// Why a search ended early.
#[derive(Debug)]
pub enum EarlyEnd {
    Interrupted,
    Failed(RunError),
}

/// Searches for a load. `plan_at` makes the plan of a load's run with this number; what was measured is kept whatever
/// ends the search.
pub fn search(
    search: &SearchPlan,
    plan_at: &mut dyn FnMut(f64, u32) -> Result<Plan, RunError>,
    context: &RunContext<'_>,
    ended: &mut dyn FnMut(&Plan, &FinishedRun) -> Result<(), RunError>,
) -> SearchResult {
    let mut all = SearchResult { runs: Vec::new(), probes: Vec::new(), selections: Vec::new(), early_end: None };
    loop {
        let value = match step(search, &all.probes) {
            Step::Probe(value) => value,
            Step::Done(selections) => return SearchResult { selections, ..all },
        };
        match probe(search, value, plan_at, context, ended, &mut all.runs) {
            Ok(probe) => all.probes.push(probe),
            Err(short) => {
                all.selections = so_far(search, &all.probes);
                all.early_end = Some(short);
                return all;
            }
        }
    }
}

/// Measures one load, as often as asked for; runs behind one with failed requests are left out.
fn probe(
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
                context.log.warning(&format!("{} {value} is not tried: {files}", search.variable.name()));
                return Ok(Probe::refused(search, value, SearchTrouble::OpenFiles(files)));
            }
            Err(error) => return Err(EarlyEnd::Failed(error)),
        };
        let interrupted = finished.interrupted;
        let shown = ended(&plan, &finished);
        runs.push(finished);
        shown.map_err(EarlyEnd::Failed)?;
        if interrupted {
            return Err(EarlyEnd::Interrupted);
        }
        let so_far: Vec<&Summary> = runs[first..].iter().map(|run| &run.summary).collect();
        let probe = Probe::from_runs(search, value, &so_far);
        if number == search.runs || !probe.trouble.is_empty() {
            return Ok(probe);
        }
    }
    Err(EarlyEnd::Failed(RunError::Plan(PlanError::value("--sla-num-runs", "must be at least 1"))))
}

/// Sleeps, but not past an interrupt.
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

/// Finds the addresses of a target, starting the built-in server where the target is that one. The server lives as
/// long as what is returned.
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
        *addresses =
            look_up(&host, port).map_err(|error| format!("{flag}: the name '{host}' cannot be looked up: {error}"))?;
    }
    Ok(None)
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_once() {
        let names = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<String>>();
        assert_eq!(join_names(&names("b c"), &names("a b c")), "b; c");
        assert_eq!(join_names(&names("b c a"), &names("a b c a")), "a (1 of 2 runs); b; c");
        assert_eq!(join_names(&names("a a"), &names("a a")), "a (2 of 2 runs)");
    }
}
