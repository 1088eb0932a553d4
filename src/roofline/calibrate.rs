//! `ringmark rig --calibrate`: measures the engine at a planned load against the built-in mock server, which records
//! the time of every send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::load::{LoadResult, run_load, send_times};
use crate::finding::{Finding, OpenFiles};
use crate::host::calibration::{Calibration, LoadShape, Machine, Spread};
use crate::host::limits::raise_open_files;
use crate::mock::{Config, Mock};
use crate::options::Save;
use crate::plan::Plan;
use crate::record::{Block, WorkerReport};
use crate::spec::{Cores, RigFacts, Spec, resolve};
use crate::time::{MS, S};

/// The load to calibrate for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CalibrationRequest {
    /// Its `workers` are ignored; see [`CalibrationRequest::workers`].
    pub load: LoadShape,
    /// Seconds; `None`: three, plus the time to the first token.
    pub duration_s: Option<f64>,
    pub workers: Option<usize>,
    /// Cores for the workers; empty: those that a run against the mock would use.
    pub cores: Vec<usize>,
    pub spin: bool,
}

const SECONDS: f64 = 3.0;
const FLAT_OUT_S: f64 = 0.5;
/// Number of streams at full speed if the planned load is an open loop.
const FLAT_OUT_STREAMS: u32 = 256;
/// The most connections between two addresses, one for each port of the client.
const MAX_PARALLEL: u32 = 60_000;
/// Open files besides the connections.
const OTHER_FILES: u64 = 64;
/// With a p99 lateness above this, the mock did not keep the planned load.
const LATE_NS: u64 = MS;

/// Runs the planned load for `duration_s`, then half a second against a server that does not pause between tokens.
///
/// # Errors
/// One line with the reason why the engine or the server could not run, or why the load is invalid.
pub fn calibrate(
    request: &CalibrationRequest,
    allowed_cores: &[usize],
    now_unix_s: i64,
) -> Result<Calibration, String> {
    let load = &request.load;
    check_parallel(load.parallel.unwrap_or(FLAT_OUT_STREAMS))?;
    let query = |itl_ns: u64, tokens: u32| {
        let pad = load.event_bytes;
        format!("ttft={}ns&itl={itl_ns}ns&tokens={tokens}&pad={pad}", load.ttft_ns)
    };
    let seconds = request.duration_s.unwrap_or(SECONDS + load.ttft_ns as f64 / S as f64);
    let shape = |parallel: Option<u32>, rate: Option<f64>, seconds: f64| {
        Spec::default().with(|s| {
            s.target.url = Some("mock:".to_string());
            s.load.parallel = parallel.into_iter().collect();
            s.load.rate = rate.into_iter().collect();
            s.load.open_loop = parallel.is_none();
            s.load.duration_s = Some(seconds);
            s.load.drain_s = Some(0.1);
            s.client.workers = request.workers;
            s.client.cores = vec![Cores(request.cores.clone())];
            s.client.spin = request.spin;
            s.target.no_test_connection = true;
            s.output.save = Save::Metrics;
        })
    };
    let paced =
        measure_load(&query(load.itl_ns, load.tokens), &shape(load.parallel, load.rate_per_s, seconds), allowed_cores)?;
    let streams = load.parallel.unwrap_or(FLAT_OUT_STREAMS);
    let flat_out = measure_load(&query(0, 500), &shape(Some(streams), None, FLAT_OUT_S), allowed_cores)?;
    let mut calibration = paced.calibration(load);
    calibration.measured_unix_s = now_unix_s;
    calibration.sustained_events_per_s = flat_out.result.events_per_s();
    Ok(calibration)
}

/// Checks that this process can have so many connections, and the server on the same machine as well.
fn check_parallel(parallel: u32) -> Result<(), String> {
    let limit = raise_open_files();
    let needed = u64::from(parallel) * 2 + OTHER_FILES;
    if parallel > MAX_PARALLEL {
        return Err(format!("--parallel {parallel}: a calibration has at most {MAX_PARALLEL} concurrent requests"));
    }
    let files = OpenFiles { parallel, needed, limit, with_mock: true };
    if needed > limit { Err(files.to_string()) } else { Ok(()) }
}

/// The measurement of one load.
struct LoadRun {
    plan: Arc<Plan>,
    blocks: Vec<Block>,
    reports: Vec<WorkerReport>,
    result: LoadResult,
    notes: Vec<Finding>,
}

fn measure_load(query: &str, spec: &Spec, allowed_cores: &[usize]) -> Result<LoadRun, String> {
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
    let (blocks, reports) = run_load(&plan, &mut notes)?;
    mock.stop().map_err(|error| error.to_string())?;
    let stats = mock.stats();
    if stats.lateness_p99_ns > LATE_NS {
        notes.push(Finding::MockLate { p99_ns: stats.lateness_p99_ns });
    }
    let result = LoadResult::compute(&blocks, &send_times(&mock));
    Ok(LoadRun { plan, blocks, reports, result, notes })
}

impl LoadRun {
    fn calibration(self, load: &LoadShape) -> Calibration {
        let records = || self.blocks.iter().flat_map(|block| &block.records);
        let sum =
            |field: fn(&crate::record::RequestRecord) -> u32| records().map(|record| u64::from(field(record))).sum();
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
            events: self.result.events,
            events_per_s: self.result.events_per_s(),
            cpu_per_event_ns: share(cpu_ns as f64, self.result.events),
            coalesced: share(self.result.coalesced as f64, self.result.events),
            stamped: share(stamped as f64, reads),
            receive_lag: receive_lag(&self.reports),
            send_lag: Spread::from_values(send_lags.collect()),
            stamp_error: Spread::from_values(self.result.lags_ns),
            notes: self.notes.iter().map(Finding::en).collect(),
            ..Calibration::default()
        }
    }
}

fn receive_lag(reports: &[WorkerReport]) -> Spread {
    let mut merged = hdrhistogram::Histogram::<u64>::new(3).expect("three digits are valid");
    for report in reports {
        // Adding never fails, because the histogram resizes itself.
        merged += &report.receive_lag_ns;
    }
    let at = |share: f64| merged.value_at_quantile(share);
    match merged.len() {
        0 => Spread::default(),
        count => Spread { count, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: merged.max() },
    }
}
