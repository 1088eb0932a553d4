//! How fast and how exact the engine is on this machine, measured against the built-in server: one half second flat
//! out, one at a steady pace.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crossbeam_channel::unbounded;
use serde::{Serialize, Serializer};

use crate::engine::inbox::{InboxPlan, ring::Ring};
use crate::engine::{Engine, PhaseRequest};
use crate::finding::Finding;
use crate::mock::{Config, Mock};
use crate::plan::{Plan, RigFacts, Save, resolve};
use crate::record::{Block, Parcel, Phase, WorkerReport};
use crate::spec::Spec;
use crate::time::Tick;
use crate::workload::Workload;

pub mod planned;

/// What the engine reached. `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Roofline {
    pub worker_core: usize,
    /// `None` when the server had to share the worker's core.
    pub server_core: Option<usize>,
    pub flat_out: Measured,
    pub paced: Measured,
    /// What the engine had to make do with; texts in JSON.
    #[serde(serialize_with = "texts")]
    pub notes: Vec<Finding>,
}

fn texts<S: Serializer>(notes: &[Finding], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notes.iter().map(Finding::en))
}

/// One load's figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    pub streams: u32,
    pub events: u64,
    pub events_per_s: Option<f64>,
    /// CPU time of the worker for each event, nanoseconds.
    pub cpu_per_event_ns: Option<f64>,
    /// From the kernel's stamp to the worker's look, nanoseconds.
    pub receive_lag_p50_ns: u64,
    pub receive_lag_p99_ns: u64,
    /// From the server's send to the arrival as recorded, nanoseconds: the error of the stamps themselves. Only paced,
    /// where no write has to wait for room, and only of events that came alone in their read.
    pub stamp_lag_p50_ns: Option<u64>,
    pub stamp_lag_p99_ns: Option<u64>,
    /// Share of the events that shared a read with a later one.
    pub coalesced: Option<f64>,
}

/// What of io_uring the engine can use here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RingSupport {
    /// The receive ring: multishot RecvMsg into a buffer ring, with deferred task work. Else why not.
    pub receive: Result<(), String>,
    /// A sleep gathers several arrivals (Linux 6.12): fewer wake-ups.
    pub gathers: bool,
}

const FLAT_OUT: (&str, u32) = ("ttft=1ms&itl=0&tokens=500", 256);
const PACED: (&str, u32) = ("ttft=5ms&itl=10ms&tokens=48", 200);
const SECONDS: f64 = 0.5;

/// Opens the rings that the engine would open.
pub fn probe() -> RingSupport {
    let plan = InboxPlan { connections: 256 };
    let (receive, gathers) = match Ring::open(plan) {
        Ok(ring) => (Ok(()), ring.gathers()),
        Err(error) => (Err(error.to_string()), false),
    };
    RingSupport { receive, gathers }
}

/// Measures, about a second long. `allowed_cores` as the process may use them: the worker gets the last, the server the
/// one before.
///
/// # Errors
/// Why the engine or the server could not run, as one line.
pub fn measure(allowed_cores: &[usize]) -> Result<Roofline, String> {
    let worker_core = allowed_cores.last().copied().unwrap_or(0);
    let server_core = allowed_cores.iter().rev().nth(1).copied();
    let mut roofline = Roofline { worker_core, server_core, ..Roofline::default() };
    for (query, streams, pace) in [(FLAT_OUT.0, FLAT_OUT.1, false), (PACED.0, PACED.1, true)] {
        let measured = one_load(query, streams, worker_core, server_core, &mut roofline.notes)?;
        if pace {
            roofline.paced = measured;
        } else {
            roofline.flat_out = Measured { stamp_lag_p50_ns: None, stamp_lag_p99_ns: None, ..measured };
        }
    }
    roofline.notes.dedup();
    Ok(roofline)
}

fn one_load(
    query: &str,
    streams: u32,
    worker_core: usize,
    server_core: Option<usize>,
    notes: &mut Vec<Finding>,
) -> Result<Measured, String> {
    let config = Config::from_query(query)?;
    let cores: Vec<usize> = server_core.into_iter().collect();
    let mut mock = Mock::start(&config, &cores, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|error| format!("cannot start the built-in server: {error}"))?;
    let plan = Arc::new(decide(streams, worker_core, mock.addr())?);
    let (blocks, mut reports) = carry_out(&plan, notes)?;
    mock.stop().map_err(|error| error.to_string())?;
    let report = reports.pop().ok_or("the worker sent no report")?;
    Ok(figures(streams, &Seen::of(&blocks, &sends(&mock)), &report))
}

/// A closed loop that lasts half a second.
fn decide(streams: u32, worker_core: usize, server: SocketAddr) -> Result<Plan, String> {
    let spec = Spec {
        url: Some("mock:".to_string()),
        parallel: vec![streams],
        duration_s: Some(SECONDS),
        drain_s: Some(0.1),
        cores: vec![worker_core],
        no_test_connection: true,
        save: Save::Metrics,
        ..Spec::default()
    };
    let facts = RigFacts { allowed_cores: vec![worker_core], ..RigFacts::default() };
    let mut plan = resolve(&spec, &facts).map_err(|error| error.to_string())?.remove(0);
    plan.target.mock_listens_at(server);
    Ok(plan)
}

fn carry_out(plan: &Arc<Plan>, notes: &mut Vec<Finding>) -> Result<(Vec<Block>, Vec<WorkerReport>), String> {
    let workload = Workload::build(&plan.workload, &plan.target.authority, &plan.target.path);
    let workload = Arc::new(workload.map_err(|error| error.to_string())?);
    let (_keep, empties) = unbounded();
    let mut engine = Engine::start(plan.clone(), workload, Arc::new(AtomicU8::new(0)), None, &empties)
        .map_err(|error| error.to_string())?;
    let (parcels, received) = unbounded();
    let ended = engine.run(PhaseRequest {
        phase: Phase::Measured,
        load: plan.load.clone(),
        requests: plan.requests,
        duration_ns: plan.duration_ns,
        ramp_ns: 0,
        parcels,
    });
    let reports = ended.map_err(|error| error.to_string())?.reports;
    notes.append(&mut engine.notes);
    let blocks = received.try_iter().filter_map(|parcel| match parcel {
        Parcel::Block(block) => Some(block),
        Parcel::Worker(_) | Parcel::Server(_) => None,
    });
    Ok((blocks.collect(), reports))
}

/// When the server sent each event, by the number of the request.
fn sends(mock: &Mock) -> HashMap<u64, Vec<Tick>> {
    let number = |id: &str| id.rsplit_once("-m").and_then(|(_, number)| number.parse().ok());
    mock.truth().into_iter().filter_map(|truth| Some((number(&truth.request_id)?, truth.sends))).collect()
}

/// What came of a load, beside what the server knows of it.
struct Seen {
    events: u64,
    /// Events that shared a read with a later one.
    coalesced: u64,
    /// From the first to the last event, seconds.
    span_s: f64,
    /// From the server's send to the arrival as recorded, of events that came alone in their read, ascending,
    /// nanoseconds.
    lags_ns: Vec<u64>,
}

impl Seen {
    fn of(blocks: &[Block], sends: &HashMap<u64, Vec<Tick>>) -> Seen {
        let (mut first, mut last) = (Tick(u64::MAX), Tick(0));
        let (mut events, mut coalesced, mut lags_ns) = (0, 0, Vec::new());
        for block in blocks {
            for record in &block.records {
                let arrivals = record.arrivals.of(&block.arrivals);
                events += arrivals.len() as u64;
                coalesced += u64::from(record.coalesced);
                first = arrivals.first().map_or(first, |at| first.min(*at));
                last = arrivals.last().map_or(last, |at| last.max(*at));
                let Some(sent) = sends.get(&record.index) else { continue };
                let alone = |place: usize| arrivals.get(place + 1) != Some(&arrivals[place]);
                let pairs = arrivals.iter().zip(sent).enumerate().filter(|(place, _)| alone(*place));
                lags_ns.extend(pairs.map(|(_, (arrival, send))| arrival.ns_since(*send).max(0) as u64));
            }
        }
        lags_ns.sort_unstable();
        Seen { events, coalesced, span_s: last.seconds_since(first), lags_ns }
    }

    fn events_per_s(&self) -> Option<f64> {
        (self.events > 1 && self.span_s > 0.0).then(|| self.events as f64 / self.span_s)
    }
}

fn figures(streams: u32, seen: &Seen, report: &WorkerReport) -> Measured {
    let at = |share: f64| seen.lags_ns.get((seen.lags_ns.len() as f64 * share) as usize).copied();
    let per_event = |amount: f64| (seen.events > 0).then(|| amount / seen.events as f64);
    Measured {
        streams,
        events: seen.events,
        events_per_s: seen.events_per_s(),
        cpu_per_event_ns: per_event((report.cpu_user_ns + report.cpu_system_ns) as f64),
        receive_lag_p50_ns: report.receive_lag_ns.value_at_quantile(0.5),
        receive_lag_p99_ns: report.receive_lag_ns.value_at_quantile(0.99),
        stamp_lag_p50_ns: at(0.5),
        stamp_lag_p99_ns: at(0.99),
        coalesced: per_event(seen.coalesced as f64),
    }
}
