//! The speed and accuracy of the engine on this machine, measured against the built-in mock server: half a second at
//! full speed, and half a second at a steady pace.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::engine::receive::delivery::ReceivePlan;
use crate::engine::receive::ring::Ring;
use crate::finding::Finding;
use crate::mock::{Config, Mock};
use crate::options::Save;
use crate::plan::Plan;
use crate::record::WorkerReport;
use crate::spec::{Cores, RigFacts, Spec, resolve};

pub mod calibrate;
mod load;

use load::{LoadResult, run_load, send_times};

/// The result of the measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Roofline {
    pub worker_core: usize,
    /// `None` if the server shared the worker's core.
    pub server_core: Option<usize>,
    pub flat_out: LoadFigures,
    pub paced: LoadFigures,
    /// Findings of the engine about its setup.
    #[serde(serialize_with = "texts")]
    pub notes: Vec<Finding>,
}

fn texts<S: Serializer>(notes: &[Finding], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notes.iter().map(Finding::en))
}

/// The figures of one load. `None` if not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadFigures {
    pub streams: u32,
    pub events: u64,
    pub events_per_s: Option<f64>,
    /// CPU time of the worker per event, nanoseconds.
    pub cpu_per_event_ns: Option<f64>,
    /// From the kernel's timestamp to the processing of the event, nanoseconds.
    pub receive_lag_p50_ns: u64,
    pub receive_lag_p99_ns: u64,
    /// From the server's send to the recorded arrival, nanoseconds: the error of the timestamps. Only for the steady
    /// pace, at which no write waits for space in the socket, and only of events that did not share their read with a
    /// later one.
    pub stamp_lag_p50_ns: Option<u64>,
    pub stamp_lag_p99_ns: Option<u64>,
    /// Fraction of the events that shared a read with a later one.
    pub coalesced: Option<f64>,
}

/// The features of io_uring that the engine can use on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RingSupport {
    /// The receive ring (multishot RecvMsg into a buffer ring, with deferred task work), or the reason why it cannot be
    /// used.
    pub receive: Result<(), String>,
    /// A wait can gather several events (Linux 6.12), which reduces the number of wake-ups.
    pub gathers: bool,
}

/// The mock's parameters and the number of streams of each load.
const FLAT_OUT: (&str, u32) = ("ttft=1ms&itl=0&tokens=500", 256);
const PACED: (&str, u32) = ("ttft=5ms&itl=10ms&tokens=48", 200);
const SECONDS: f64 = 0.5;

/// Tries to open the ring that the engine would use.
pub fn probe() -> RingSupport {
    let plan = ReceivePlan { connections: 256 };
    let (receive, gathers) = match Ring::open(plan) {
        Ok(ring) => (Ok(()), ring.gathers()),
        Err(error) => (Err(error.to_string()), false),
    };
    RingSupport { receive, gathers }
}

/// Runs both loads, which takes about one second. Of `allowed_cores`, the worker gets the last and the server the one
/// before.
///
/// # Errors
/// One line with the reason why the engine or the server could not run.
pub fn measure(allowed_cores: &[usize]) -> Result<Roofline, String> {
    let worker_core = allowed_cores.last().copied().unwrap_or(0);
    let server_core = allowed_cores.iter().rev().nth(1).copied();
    let mut roofline = Roofline { worker_core, server_core, ..Roofline::default() };
    for (query, streams, pace) in [(FLAT_OUT.0, FLAT_OUT.1, false), (PACED.0, PACED.1, true)] {
        let measured = measure_load(query, streams, worker_core, server_core, &mut roofline.notes)?;
        if pace {
            roofline.paced = measured;
        } else {
            roofline.flat_out = LoadFigures { stamp_lag_p50_ns: None, stamp_lag_p99_ns: None, ..measured };
        }
    }
    roofline.notes.dedup();
    Ok(roofline)
}

fn measure_load(
    query: &str,
    streams: u32,
    worker_core: usize,
    server_core: Option<usize>,
    notes: &mut Vec<Finding>,
) -> Result<LoadFigures, String> {
    let config = Config::from_query(query)?;
    let cores: Vec<usize> = server_core.into_iter().collect();
    let mut mock = Mock::start(&config, &cores, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|error| format!("cannot start the built-in server: {error}"))?;
    let plan = Arc::new(closed_loop_plan(streams, worker_core, mock.addr())?);
    let (blocks, mut reports) = run_load(&plan, notes)?;
    mock.stop().map_err(|error| error.to_string())?;
    let report = reports.pop().ok_or("the worker sent no report")?;
    Ok(compute_figures(streams, &LoadResult::compute(&blocks, &send_times(&mock)), &report))
}

/// The plan of a closed loop of half a second.
fn closed_loop_plan(streams: u32, worker_core: usize, server: SocketAddr) -> Result<Plan, String> {
    let spec = Spec::default().with(|s| {
        s.target.url = Some("mock:".to_string());
        s.load.parallel = vec![streams];
        s.load.duration_s = Some(SECONDS);
        s.load.drain_s = Some(0.1);
        s.client.cores = vec![Cores(vec![worker_core])];
        s.target.no_test_connection = true;
        s.output.save = Save::Metrics;
    });
    let facts = RigFacts { allowed_cores: vec![worker_core], ..RigFacts::default() };
    let mut plan = resolve(&spec, &facts).map_err(|error| error.to_string())?.remove(0);
    plan.target.set_mock_address(server);
    Ok(plan)
}

fn compute_figures(streams: u32, result: &LoadResult, report: &WorkerReport) -> LoadFigures {
    let at = |share: f64| result.lags_ns.get((result.lags_ns.len() as f64 * share) as usize).copied();
    let per_event = |amount: f64| (result.events > 0).then(|| amount / result.events as f64);
    LoadFigures {
        streams,
        events: result.events,
        events_per_s: result.events_per_s(),
        cpu_per_event_ns: per_event((report.cpu_user_ns + report.cpu_system_ns) as f64),
        receive_lag_p50_ns: report.receive_lag_ns.value_at_quantile(0.5),
        receive_lag_p99_ns: report.receive_lag_ns.value_at_quantile(0.99),
        stamp_lag_p50_ns: at(0.5),
        stamp_lag_p99_ns: at(0.99),
        coalesced: per_event(result.coalesced as f64),
    }
}
