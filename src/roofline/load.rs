//! Runs one load against the built-in mock server and collects the results.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crossbeam_channel::unbounded;

use crate::engine::{Engine, PhaseRequest};
use crate::finding::Finding;
use crate::mock::Mock;
use crate::plan::Plan;
use crate::record::{Block, CollectorMessage, Phase, WorkerReport};
use crate::time::Tick;
use crate::workload::Workload;

/// Runs a plan on the engine alone, without a database; returns all records and the reports of the workers.
pub(super) fn run_load(plan: &Arc<Plan>, notes: &mut Vec<Finding>) -> Result<(Vec<Block>, Vec<WorkerReport>), String> {
    let workload = Workload::build(&plan.workload, &plan.target.authority, &plan.target.path);
    let workload = Arc::new(workload.map_err(|error| error.to_string())?);
    let (_keep, empties) = unbounded();
    let mut engine = Engine::start(plan.clone(), workload, Arc::new(AtomicU8::new(0)), Arc::default(), None, &empties)
        .map_err(|error| error.to_string())?;
    let (messages, received) = unbounded();
    let ended = engine.run(PhaseRequest {
        phase: Phase::Measured,
        load: plan.load.clone(),
        share: plan.share(),
        warmup: 0,
        requests: plan.requests,
        duration_ns: plan.duration_ns,
        ramp_ns: 0,
        messages,
    });
    let reports = ended.map_err(|error| error.to_string())?.reports;
    notes.append(&mut engine.notes);
    let blocks = received.try_iter().filter_map(|message| match message {
        CollectorMessage::Block(block) => Some(block),
        _ => None,
    });
    Ok((blocks.collect(), reports))
}

/// The server's send times of all events, by the number of the request.
pub(super) fn send_times(mock: &Mock) -> HashMap<u64, Vec<Tick>> {
    let number = |id: &str| id.rsplit_once("-m").and_then(|(_, number)| number.parse().ok());
    mock.truth().into_iter().filter_map(|truth| Some((number(&truth.request_id)?, truth.sends))).collect()
}

/// The results of a load, compared with the send times of the server.
pub(super) struct LoadResult {
    pub(super) events: u64,
    /// Events that shared a read with a later one.
    pub(super) coalesced: u64,
    /// From the first to the last event, seconds.
    span_s: f64,
    /// From the server's send to the recorded arrival, of events that did not share their read with a later event,
    /// ascending, nanoseconds.
    pub(super) lags_ns: Vec<u64>,
}

impl LoadResult {
    pub(super) fn compute(blocks: &[Block], send_times: &HashMap<u64, Vec<Tick>>) -> LoadResult {
        let (mut first, mut last) = (Tick(u64::MAX), Tick(0));
        let (mut events, mut coalesced, mut lags_ns) = (0, 0, Vec::new());
        for block in blocks {
            for record in &block.records {
                let arrivals = record.arrivals.slice(&block.arrivals);
                events += arrivals.len() as u64;
                coalesced += u64::from(record.coalesced);
                first = arrivals.first().map_or(first, |at| first.min(*at));
                last = arrivals.last().map_or(last, |at| last.max(*at));
                let Some(sent) = send_times.get(&record.index) else { continue };
                let alone = |place: usize| arrivals.get(place + 1) != Some(&arrivals[place]);
                let pairs = arrivals.iter().zip(sent).enumerate().filter(|(place, _)| alone(*place));
                lags_ns.extend(pairs.map(|(_, (arrival, send))| arrival.ns_since(*send).max(0) as u64));
            }
        }
        lags_ns.sort_unstable();
        LoadResult { events, coalesced, span_s: last.seconds_since(first), lags_ns }
    }

    pub(super) fn events_per_s(&self) -> Option<f64> {
        (self.events > 1 && self.span_s > 0.0).then(|| self.events as f64 / self.span_s)
    }
}
