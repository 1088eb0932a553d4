//! Several runs, one after the other, against one server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::mock::{Config, Mock};

use crate::plan::{Plan, Target, Transport};
use crate::run::{Finished, RunError, Watch, run};

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
