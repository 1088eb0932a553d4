//! Runs a spec through the library against a mock in this process, and reads the database of the run.

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmark::log::Log;
use ringmark::mock::{Config, Mock, Truth};
use ringmark::plan::{Plan, Transport};
use ringmark::record::{Block, Outcome, Phase, RequestRecord};
use ringmark::run::{PhaseProgress, RunContext, RunError, run};
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::stats::Summary;
use ringmark::store::Reader;
use ringmark::store::reader::{Detail, StoredRun};
use ringmark::sweep;
use ringmark::time::Tick;

/// Starts a mock on a free port.
pub fn mock(query: &str) -> Mock {
    let config = Config::from_query(query).unwrap();
    Mock::start(&config, &[], SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// The mock's records once none of its requests is in progress: it may end one after the client has the whole response.
pub fn truths(mock: &Mock) -> Vec<Truth> {
    for _ in 0..6_000 {
        if mock.stats().in_flight == 0 {
            return mock.truth();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("requests are still in progress: {:?}", mock.stats());
}

/// A request from the database.
#[derive(Debug)]
pub struct StoredRequest {
    pub record: RequestRecord,
    pub arrivals: Vec<Tick>,
    pub text: String,
    pub error: String,
    pub raw: String,
}

/// A finished run.
#[derive(Debug)]
pub struct FinishedRun {
    pub plan: Arc<Plan>,
    pub summary: Summary,
    pub stored: StoredRun,
    /// The measured requests, sorted by number.
    pub measured: Vec<StoredRequest>,
    pub warmup: Vec<StoredRequest>,
    /// The prefix of all request ids.
    pub id_prefix: String,
    pub database: PathBuf,
    _folder: tempfile::TempDir,
}

impl FinishedRun {
    /// The number of requests by name of the outcome, sorted.
    pub fn outcomes(&self) -> Vec<(&'static str, usize)> {
        let mut names: Vec<&str> = self.measured.iter().map(|request| request.record.outcome.name()).collect();
        names.sort_unstable();
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for name in names {
            match counted.last_mut() {
                Some((last, count)) if *last == name => *count += 1,
                _ => counted.push((name, 1)),
            }
        }
        counted
    }

    /// Asserts that every scheduled request has an outcome, and that the summary agrees with the records.
    pub fn assert_totals(&self) {
        let counts = self.summary.counts;
        assert_eq!(counts.scheduled, counts.ok + counts.failed + counts.unfinished + counts.unsent, "{counts:?}");
        assert_eq!(counts.ok + counts.failed + counts.unfinished, self.measured.len() as u64, "{counts:?}");
        let failed: u64 = self.summary.failures.iter().map(|failure| failure.count).sum();
        assert_eq!(failed, counts.failed);
        let indices: std::collections::HashSet<u64> =
            self.measured.iter().map(|request| request.record.index).collect();
        assert_eq!(indices.len(), self.measured.len(), "a request was recorded twice");
    }

    /// Asserts that all requests succeeded.
    pub fn assert_all_ok(&self) {
        self.assert_totals();
        let wrong = self.measured.iter().find(|request| request.record.outcome != Outcome::Ok);
        assert!(wrong.is_none(), "{:?}: {}", self.outcomes(), wrong.map_or("", |request| &request.error));
    }
}

/// The default spec of a run against `mock`.
pub fn spec(mock: &Mock) -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some(format!("http://{}/v1/chat/completions", mock.addr()));
        s.target.model = Some("mock".to_string());
        s.load.number = vec![40];
        s.load.parallel = vec![4];
        s.output.quiet = true;
    })
}

/// The plan of a spec, with the addresses of its server.
pub fn plan(spec: &Spec) -> Plan {
    let allowed_cores = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let facts = RigFacts { allowed_cores, started: "20260101_000000".to_string(), nonce: 7, ..RigFacts::default() };
    let mut plan = resolve(spec, &facts).unwrap().remove(0);
    let mut target = plan.target.clone();
    sweep::resolve_target(&mut target, &plan.cores, &facts.allowed_cores).unwrap();
    plan.target = target;
    plan
}

/// Runs a spec to its end or until `stop` is set.
pub fn perf_until(spec: &Spec, stop: Arc<AtomicU8>) -> Result<FinishedRun, RunError> {
    perf_at(spec, plan(spec).target.transport, stop)
}

/// The same with these addresses of the server.
pub fn perf_at(spec: &Spec, transport: Transport, stop: Arc<AtomicU8>) -> Result<FinishedRun, RunError> {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec.clone().with(|s| s.output.outputs_dir = folder.path().to_path_buf());
    let mut plan = plan(&spec);
    plan.target.transport = transport;
    let plan = Arc::new(plan);
    let show_progress = |_: Box<dyn Fn() -> PhaseProgress + Send>| -> Box<dyn Any> { Box::new(()) };
    let log = Arc::new(Log::new(Timestamp::now, TimeZone::UTC, Vec::new()));
    let finished = run(
        &plan,
        &RunContext {
            log,
            stop,
            local: None,
            show_progress: &show_progress,
            show_steps: &|_| Box::new(()),
            visualizer: None,
            rendezvous: None,
        },
    )?;
    let reader = Reader::open(&finished.database).unwrap();
    let stored = reader.run().unwrap();
    Ok(FinishedRun {
        measured: read_requests(&reader, Phase::Measured),
        warmup: read_requests(&reader, Phase::Warmup),
        id_prefix: stored.facts.request_id_prefix.clone(),
        summary: finished.summary,
        database: finished.database,
        stored,
        plan,
        _folder: folder,
    })
}

/// Runs a spec to its end.
pub fn perf(spec: &Spec) -> FinishedRun {
    perf_until(spec, Arc::default()).unwrap()
}

/// The requests of a phase, sorted by number.
fn read_requests(reader: &Reader, phase: Phase) -> Vec<StoredRequest> {
    let mut all = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let take = |block: &Block| {
        all.extend(block.records.iter().map(|record| StoredRequest {
            arrivals: record.arrivals.slice(&block.arrivals).to_vec(),
            text: text(record.text.slice(&block.bytes)),
            error: text(record.error.slice(&block.bytes)),
            raw: text(record.raw.slice(&block.bytes)),
            record: record.clone(),
        }));
    };
    reader.each_block(phase, Detail::Everything, take).unwrap();
    all.sort_by_key(|request| request.record.index);
    all
}
