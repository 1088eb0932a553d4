//! One run through the library against a mock in this process, and what its database holds afterwards.

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmark::log::Log;
use ringmark::mock::{Config, Mock};
use ringmark::plan::Plan;
use ringmark::record::{Block, Outcome, Phase, RequestRecord};
use ringmark::run::{PhaseProgress, RunContext, RunError, run};
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::stats::Summary;
use ringmark::store::Reader;
use ringmark::store::reader::{Detail, StoredRun};
use ringmark::sweep;
use ringmark::time::Tick;

/// A mock on a free port.
pub fn mock(query: &str) -> Mock {
    let config = Config::from_query(query).unwrap();
    Mock::start(&config, &[], SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// A request as it was stored.
#[derive(Debug)]
pub struct Kept {
    pub record: RequestRecord,
    pub arrivals: Vec<Tick>,
    pub text: String,
    pub error: String,
    pub raw: String,
}

/// A finished run.
#[derive(Debug)]
pub struct Ran {
    pub plan: Arc<Plan>,
    pub summary: Summary,
    pub stored: StoredRun,
    /// Measured requests by number.
    pub measured: Vec<Kept>,
    pub warmup: Vec<Kept>,
    /// Prefix of all request ids.
    pub id_prefix: String,
    pub database: PathBuf,
    _folder: tempfile::TempDir,
}

impl Ran {
    /// Outcomes by name, sorted, each with its count.
    pub fn outcomes(&self) -> Vec<(&'static str, usize)> {
        let mut names: Vec<&str> = self.measured.iter().map(|kept| kept.record.outcome.name()).collect();
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

    /// Every request of the schedule went somewhere, and the summary says the same as the records.
    pub fn totals_add_up(&self) {
        let counts = self.summary.counts;
        assert_eq!(counts.scheduled, counts.ok + counts.failed + counts.unfinished + counts.unsent, "{counts:?}");
        assert_eq!(counts.ok + counts.failed + counts.unfinished, self.measured.len() as u64, "{counts:?}");
        let classed: u64 = self.summary.failures.iter().map(|failure| failure.count).sum();
        assert_eq!(classed, counts.failed);
        let indices: std::collections::HashSet<u64> = self.measured.iter().map(|kept| kept.record.index).collect();
        assert_eq!(indices.len(), self.measured.len(), "a request was recorded twice");
    }

    pub fn all_ok(&self) {
        self.totals_add_up();
        let wrong = self.measured.iter().find(|kept| kept.record.outcome != Outcome::Ok);
        assert!(wrong.is_none(), "{:?}: {}", self.outcomes(), wrong.map_or("", |kept| &kept.error));
    }
}

/// What a run against `mock` is when nothing else is asked for.
pub fn spec(mock: &Mock) -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some(format!("http://{}/v1/chat/completions", mock.addr()));
        s.target.model = Some("mock".to_string());
        s.load.number = vec![40];
        s.load.parallel = vec![4];
        s.output.quiet = true;
    })
}

/// Carries a spec out, to its end or until `stop` is raised.
pub fn perf_until(spec: &Spec, stop: Arc<AtomicU8>) -> Result<Ran, RunError> {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec.clone().with(|s| s.output.outputs_dir = folder.path().to_path_buf());
    let allowed_cores = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let facts = RigFacts { allowed_cores, started: "20260101_000000".to_string(), nonce: 7, ..RigFacts::default() };
    let mut plan = resolve(&spec, &facts).unwrap().remove(0);
    let mut target = plan.target.clone();
    sweep::resolve_target(&mut target, &plan.cores, &facts.allowed_cores).unwrap();
    plan.target = target;
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
        },
    )?;
    let reader = Reader::open(&finished.database).unwrap();
    let stored = reader.run().unwrap();
    Ok(Ran {
        measured: kept(&reader, Phase::Measured),
        warmup: kept(&reader, Phase::Warmup),
        id_prefix: stored.facts.request_id_prefix.clone(),
        summary: finished.summary,
        database: finished.database,
        stored,
        plan,
        _folder: folder,
    })
}

pub fn perf(spec: &Spec) -> Ran {
    perf_until(spec, Arc::default()).unwrap()
}

fn kept(reader: &Reader, phase: Phase) -> Vec<Kept> {
    let mut all = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let take = |block: &Block| {
        all.extend(block.records.iter().map(|record| Kept {
            arrivals: record.arrivals.slice(&block.arrivals).to_vec(),
            text: text(record.text.slice(&block.bytes)),
            error: text(record.error.slice(&block.bytes)),
            raw: text(record.raw.slice(&block.bytes)),
            record: record.clone(),
        }));
    };
    reader.each_block(phase, Detail::Everything, take).unwrap();
    all.sort_by_key(|kept| kept.record.index);
    all
}
