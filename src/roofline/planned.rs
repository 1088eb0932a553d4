//! `ringmark rig --calibrate`: the engine at a load that somebody plans to run, against the built-in server, which
//! stamps every send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::load::{LoadResult, carry_out, sends};
use crate::finding::Finding;
use crate::host::calibration::{Calibration, LoadShape, Machine, Spread};
use crate::mock::{Config, Mock};
use crate::options::Save;
use crate::plan::Plan;
use crate::record::{Block, WorkerReport};
use crate::spec::{Cores, RigFacts, Spec, resolve};
use crate::time::{MS, S};

/// What is to be calibrated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// `workers` is filled in here.
    pub load: LoadShape,
    /// Seconds; `None`: three, and the first token.
    pub duration_s: Option<f64>,
    pub workers: Option<usize>,
    /// Cores for the workers; empty: as a run against the built-in server has them.
    pub cores: Vec<usize>,
    pub spin: bool,
}

const SECONDS: f64 = 3.0;
const FLAT_OUT_S: f64 = 0.5;
/// Streams that an open loop's flat-out measurement has.
const FLAT_OUT_STREAMS: u32 = 256;
/// A server later than this did not send what was planned.
const LATE_NS: u64 = MS;

/// Measures: the planned load for `duration_s`, then half a second with a server that does not pause between tokens.
///
/// # Errors
/// Why the engine or the server could not run, or what of the load is impossible, as one line.
pub fn calibrate(asked: &Planned, allowed_cores: &[usize], now_unix_s: i64) -> Result<Calibration, String> {
    let load = &asked.load;
    let query = |itl_ns: u64, tokens: u32| {
        let pad = load.event_bytes;
        format!("ttft={}ns&itl={itl_ns}ns&tokens={tokens}&pad={pad}", load.ttft_ns)
    };
    let seconds = asked.duration_s.unwrap_or(SECONDS + load.ttft_ns as f64 / S as f64);
    let shape = |parallel: Option<u32>, rate: Option<f64>, seconds: f64| {
        Spec::default().with(|s| {
            s.target.url = Some("mock:".to_string());
            s.load.parallel = parallel.into_iter().collect();
            s.load.rate = rate.into_iter().collect();
            s.load.open_loop = parallel.is_none();
            s.load.duration_s = Some(seconds);
            s.load.drain_s = Some(0.1);
            s.client.workers = asked.workers;
            s.client.cores = vec![Cores(asked.cores.clone())];
            s.client.spin = asked.spin;
            s.target.no_test_connection = true;
            s.output.save = Save::Metrics;
        })
    };
    let paced = one(&query(load.itl_ns, load.tokens), &shape(load.parallel, load.rate_per_s, seconds), allowed_cores)?;
    let streams = load.parallel.unwrap_or(FLAT_OUT_STREAMS);
    let flat_out = one(&query(0, 500), &shape(Some(streams), None, FLAT_OUT_S), allowed_cores)?;
    let mut calibration = paced.calibration(load);
    calibration.measured_unix_s = now_unix_s;
    calibration.sustained_events_per_s = flat_out.seen.events_per_s();
    Ok(calibration)
}

/// One load carried out.
struct Measured {
    plan: Arc<Plan>,
    blocks: Vec<Block>,
    reports: Vec<WorkerReport>,
    seen: LoadResult,
    notes: Vec<Finding>,
}

fn one(query: &str, spec: &Spec, allowed_cores: &[usize]) -> Result<Measured, String> {
    let facts = RigFacts { allowed_cores: allowed_cores.to_vec(), ..RigFacts::default() };
    let mut plan = resolve(spec, &facts).map_err(|error| error.to_string())?.remove(0);
    let spare: Vec<usize> = allowed_cores.iter().copied().filter(|core| !plan.cores.contains(core)).collect();
    let mut mock = Mock::start(&Config::from_query(query)?, &spare, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|error| format!("cannot start the built-in server: {error}"))?;
    plan.target.set_mock_address(mock.addr());
    let mut notes = std::mem::take(&mut plan.notes);
    if spare.is_empty() {
        notes.push(Finding::ServerSharesCores);
    }
    let plan = Arc::new(plan);
    let (blocks, reports) = carry_out(&plan, &mut notes)?;
    mock.stop().map_err(|error| error.to_string())?;
    let stats = mock.stats();
    if stats.lateness_p99_ns > LATE_NS {
        notes.push(Finding::MockLate { p99_ns: stats.lateness_p99_ns });
    }
    let seen = LoadResult::of(&blocks, &sends(&mock));
    Ok(Measured { plan, blocks, reports, seen, notes })
}

impl Measured {
    fn calibration(self, load: &LoadShape) -> Calibration {
        let records = || self.blocks.iter().flat_map(|block| &block.records);
        let sum = |of: fn(&crate::record::RequestRecord) -> u32| records().map(|record| u64::from(of(record))).sum();
        let (reads, stamped): (u64, u64) = (sum(|record| record.reads), sum(|record| record.stamped_reads));
        let share = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
        let cpu_ns: u64 = self.reports.iter().map(|report| report.cpu_user_ns + report.cpu_system_ns).sum();
        let send_lags = records().filter_map(|record| {
            let lag_ns = record.write_start?.ns_since(record.due);
            let connecting_ns = record.connected?.ns_since(record.picked?);
            Some((lag_ns - connecting_ns).max(0) as u64)
        });
        Calibration {
            version: env!("CARGO_PKG_VERSION").to_string(),
            machine: Machine::here(),
            load: LoadShape { workers: self.plan.cores.len() as u32, ..load.clone() },
            requests: records().count() as u64,
            events: self.seen.events,
            events_per_s: self.seen.events_per_s(),
            cpu_per_event_ns: share(cpu_ns as f64, self.seen.events),
            coalesced: share(self.seen.coalesced as f64, self.seen.events),
            stamped: share(stamped as f64, reads),
            receive_lag: receive_lag(&self.reports),
            send_lag: Spread::of(send_lags.collect()),
            stamp_error: Spread::of(self.seen.lags_ns),
            notes: self.notes.iter().map(Finding::en).collect(),
            ..Calibration::default()
        }
    }
}

fn receive_lag(reports: &[WorkerReport]) -> Spread {
    let mut merged = hdrhistogram::Histogram::<u64>::new(3).expect("three digits are valid");
    for report in reports {
        // Cannot be refused: the sum grows by itself.
        merged += &report.receive_lag_ns;
    }
    let at = |share: f64| merged.value_at_quantile(share);
    match merged.len() {
        0 => Spread::default(),
        count => Spread { count, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: merged.max() },
    }
}
