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
use crate::run::{Finished, RunError, Watch, run};
use crate::search::{Probe, Selection, Step, so_far, step};
use crate::stats::Summary;

/// A sweep, as far as it came.
#[derive(Debug, Default)]
pub struct Swept {
    /// In the order in which they ran.
    pub runs: Vec<Finished>,
    /// The loads of the runs that an interrupt kept from beginning.
    pub left: Vec<String>,
}

impl Swept {
    /// Somebody ended it early.
    pub fn is_interrupted(&self) -> bool {
        !self.left.is_empty() || self.runs.iter().any(|run| run.interrupted)
    }

    /// What is missing in an interrupted sweep, as one line; `None` of one that came to its end, and of a single run.
    pub fn interruption(&self) -> Option<String> {
        if !self.is_interrupted() || self.runs.len() + self.left.len() < 2 {
            return None;
        }
        let name = |run: &Finished| load_name(&run.summary.facts, Language::En);
        let cut_off = self.runs.iter().filter(|run| run.interrupted && !is_whole(&run.summary));
        // One that was interrupted in its warm-up sent nothing.
        let (partial, empty): (Vec<&Finished>, Vec<&Finished>) = cut_off.partition(|run| run.summary.counts.sent() > 0);
        let partial = partial.into_iter().map(name).collect();
        let missing = empty.into_iter().map(name).chain(self.left.iter().cloned()).collect();
        let all: Vec<String> = self.runs.iter().map(name).chain(self.left.iter().cloned()).collect();
        let mut out = "The sweep was interrupted.".to_string();
        let groups: [(&str, Vec<String>); 2] = [("Partial", partial), ("Not measured", missing)];
        for (title, names) in groups {
            if !names.is_empty() {
                out.push_str(&format!(" {title}: {}.", listed(&names, &all)));
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
fn listed(names: &[String], all: &[String]) -> String {
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
    watch: &Watch<'_>,
    ended: &mut dyn FnMut(&Plan, &Finished) -> Result<(), RunError>,
) -> Result<Swept, RunError> {
    let mut swept = Swept::default();
    for plan in plans {
        if !swept.runs.is_empty() {
            pause(plan.sleep_interval_ns, watch);
        }
        let plan = Arc::new(plan);
        match run_unless_stopped(&plan, watch)? {
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
fn run_unless_stopped(plan: &Arc<Plan>, watch: &Watch<'_>) -> Result<Option<Finished>, RunError> {
    let is_stopped = || watch.stop.load(Ordering::Relaxed) != 0;
    if is_stopped() {
        return Ok(None);
    }
    match run(plan, watch) {
        Err(error @ RunError::ConnectionTest(_)) if is_stopped() => {
            watch.log.warning(error.to_string().lines().next().unwrap_or_default());
            Ok(None)
        }
        outcome => outcome.map(Some),
    }
}

/// A search, as far as it came.
#[derive(Debug)]
pub struct Searched {
    /// In the order in which they ran.
    pub runs: Vec<Finished>,
    pub probes: Vec<Probe>,
    pub selections: Vec<Selection>,
    /// Why it ended early, where it did: the last load has fewer runs then, and is no probe.
    pub cut_short: Option<Short>,
}

/// Why a search ended early.
#[derive(Debug)]
pub enum Short {
    Interrupted,
    Failed(RunError),
}

/// Searches for a load. `plan_at` makes the plan of a load's run with this number; what was measured is kept whatever
/// ends the search.
pub fn search(
    search: &SearchPlan,
    plan_at: &mut dyn FnMut(f64, u32) -> Result<Plan, RunError>,
    watch: &Watch<'_>,
    ended: &mut dyn FnMut(&Plan, &Finished) -> Result<(), RunError>,
) -> Searched {
    let mut all = Searched { runs: Vec::new(), probes: Vec::new(), selections: Vec::new(), cut_short: None };
    loop {
        let value = match step(search, &all.probes) {
            Step::Probe(value) => value,
            Step::Done(selections) => return Searched { selections, ..all },
        };
        match probe(search, value, plan_at, watch, ended, &mut all.runs) {
            Ok(probe) => all.probes.push(probe),
            Err(short) => {
                all.selections = so_far(search, &all.probes);
                all.cut_short = Some(short);
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
    watch: &Watch<'_>,
    ended: &mut dyn FnMut(&Plan, &Finished) -> Result<(), RunError>,
    runs: &mut Vec<Finished>,
) -> Result<Probe, Short> {
    let first = runs.len();
    for number in 1..=search.runs {
        let plan = Arc::new(plan_at(value, number).map_err(Short::Failed)?);
        if !runs.is_empty() {
            pause(plan.sleep_interval_ns, watch);
        }
        let finished = match run_unless_stopped(&plan, watch) {
            Ok(Some(finished)) => finished,
            Ok(None) => return Err(Short::Interrupted),
            Err(RunError::OpenFiles(files)) => {
                watch.log.warning(&format!("{} {value} is not tried: {files}", search.variable.name()));
                return Ok(Probe::refused(search, value, SearchTrouble::OpenFiles(files)));
            }
            Err(error) => return Err(Short::Failed(error)),
        };
        let interrupted = finished.interrupted;
        let shown = ended(&plan, &finished);
        runs.push(finished);
        shown.map_err(Short::Failed)?;
        if interrupted {
            return Err(Short::Interrupted);
        }
        let so_far: Vec<&Summary> = runs[first..].iter().map(|run| &run.summary).collect();
        let probe = Probe::of(search, value, &so_far);
        if number == search.runs || !probe.trouble.is_empty() {
            return Ok(probe);
        }
    }
    Err(Short::Failed(RunError::Plan(PlanError::value("--sla-num-runs", "must be at least 1"))))
}

/// Sleeps, but not past an interrupt.
fn pause(ns: u64, watch: &Watch<'_>) {
    const STEP: Duration = Duration::from_millis(50);
    if ns == 0 || watch.stop.load(Ordering::Relaxed) != 0 {
        return;
    }
    watch.log.info(&format!("pausing {} s (--sleep-interval)", ns as f64 / 1e9));
    let mut left = Duration::from_nanos(ns);
    while !left.is_zero() && watch.stop.load(Ordering::Relaxed) == 0 {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}

/// Finds the addresses of a target, starting the built-in server where the target is that one. The server lives as
/// long as what is returned.
pub fn reach(target: &mut Target, worker_cores: &[usize], all_cores: &[usize]) -> Result<Option<Mock>, String> {
    if let Some(query) = &target.mock {
        let config = Config::from_query(query).map_err(|error| format!("--url {}: {error}", target.url))?;
        let spare: Vec<usize> = all_cores.iter().copied().filter(|core| !worker_cores.contains(core)).take(1).collect();
        let mock = Mock::start(&config, &spare, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .map_err(|error| format!("cannot start the built-in server: {error}"))?;
        target.mock_listens_at(mock.addr());
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
        assert_eq!(listed(&names("b c"), &names("a b c")), "b; c");
        assert_eq!(listed(&names("b c a"), &names("a b c a")), "a (1 of 2 runs); b; c");
        assert_eq!(listed(&names("a a"), &names("a a")), "a (2 of 2 runs)");
    }
}
