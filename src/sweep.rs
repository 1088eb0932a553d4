//! Several runs, one after the other, against one server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::mock::{Config, Mock};

use crate::plan::sla::SearchPlan;
use crate::plan::{Plan, PlanError, Target, Transport};
use crate::run::{Finished, RunError, Watch, run};
use crate::search::{Probe, Selection, Step, so_far, step};
use crate::stats::Summary;

/// Carries the plans out in order. `ended` is called after each run, so that nothing waits for the last one; an
/// interrupt ends the sweep after the run it met.
pub fn run_all(
    plans: Vec<Plan>,
    watch: &Watch<'_>,
    ended: &mut dyn FnMut(&Plan, &Finished) -> Result<(), RunError>,
) -> Result<Vec<Finished>, RunError> {
    let mut all: Vec<Finished> = Vec::with_capacity(plans.len());
    for plan in plans {
        if !all.is_empty() {
            watch.log.info(&format!("pausing {} s (--sleep-interval)", plan.sleep_interval_ns as f64 / 1e9));
            pause(plan.sleep_interval_ns, watch);
        }
        if watch.stop.load(Ordering::Relaxed) != 0 {
            break;
        }
        let plan = Arc::new(plan);
        let finished = run(&plan, watch)?;
        ended(&plan, &finished)?;
        all.push(finished);
    }
    Ok(all)
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
        if watch.stop.load(Ordering::Relaxed) != 0 {
            return Err(Short::Interrupted);
        }
        let finished = match run(&plan, watch) {
            Ok(finished) => finished,
            Err(error @ RunError::OpenFiles { .. }) => {
                watch.log.warning(&format!("{} {value} is not tried: {error}", search.variable.name()));
                return Ok(Probe::refused(search, value, error.to_string()));
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
