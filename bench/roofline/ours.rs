//! Runs ringmark through its library, including the collector and the database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ringmark::log::Log;
use ringmark::plan::{Plan, Save};
use ringmark::record::{Block, Phase, WorkerReport};
use ringmark::run::{RunContext, run};
use ringmark::spec::{Cores, RigFacts, Spec, resolve};
use ringmark::stats::Summary;
use ringmark::store::Reader;
use ringmark::store::reader::Detail;
use ringmark::sweep::resolve_target;

/// A finished run of ringmark.
pub struct FinishedRun {
    pub summary: Summary,
    pub worker: WorkerReport,
    pub records: Vec<Block>,
    _folder: tempfile::TempDir,
}

impl FinishedRun {
    /// CPU time of the worker per output event, microseconds.
    pub fn cpu_per_event_us(&self) -> f64 {
        let events: usize = self.records.iter().map(|block| block.arrivals.len()).sum();
        (self.worker.cpu_user_ns + self.worker.cpu_system_ns) as f64 / events.max(1) as f64 / 1e3
    }
}

/// The spec of a run on core 0 against `url`, without a load.
pub fn spec(url: &str) -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some(url.to_string());
        s.target.model = Some("mock".to_string());
        s.client.cores = vec![Cores(vec![0])];
        s.data.prompt = Some("Why is the sky blue?".to_string());
        s.target.no_test_connection = true;
        s.output.save = Save::Metrics;
        s.output.no_timestamp = true;
    })
}

/// Runs a spec.
pub fn measure(mut spec: Spec) -> FinishedRun {
    let folder = tempfile::tempdir().expect("a temporary folder");
    spec.output.outputs_dir = folder.path().to_path_buf();
    let plan = plan(&spec);
    let context = RunContext {
        log: Arc::new(Log::new(Timestamp::now, TimeZone::UTC, Vec::new())),
        stop: Arc::new(AtomicU8::new(0)),
        local: None,
        show_progress: &|_| Box::new(()),
        show_steps: &|_| Box::new(()),
        visualizer: None,
        rendezvous: None,
    };
    let finished = run(&plan, &context).expect("the run can be made");
    let (worker, records) = read(&finished.database);
    FinishedRun { summary: finished.summary, worker, records, _folder: folder }
}

fn plan(spec: &Spec) -> Arc<Plan> {
    let facts = RigFacts { allowed_cores: vec![0, 1], started: "bench".to_string(), nonce: 7, ..RigFacts::default() };
    let mut plan = resolve(spec, &facts).expect("the spec is valid").remove(0);
    let nothing = resolve_target(&mut plan.target, &[0], &[0, 1]).expect("an address needs no look-up");
    assert!(nothing.is_none());
    Arc::new(plan)
}

fn read(database: &Path) -> (WorkerReport, Vec<Block>) {
    let reader = Reader::open(database).expect("the run has a database");
    let stored = reader.run().expect("the database is complete");
    let worker = stored.workers.into_iter().find(|report| report.phase == Phase::Measured).expect("one worker ran");
    let mut blocks = Vec::new();
    let mut keep = |block: &Block| {
        blocks.push(Block {
            worker: block.worker,
            records: block.records.clone(),
            arrivals: block.arrivals.clone(),
            ..Block::default()
        });
    };
    reader.each_block(Phase::Measured, Detail::Figures, &mut keep).expect("the database is complete");
    (worker, blocks)
}
