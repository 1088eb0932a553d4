//! Reconstructs searches from stored runs. Every run stores the plan of its search; probes and selections follow from the
//! plan and the runs.

use super::{Probe, Selection, Step, so_far, step};
use crate::finding::SearchTrouble;
use crate::plan::sla::SearchPlan;
use crate::record::facts::Refusal;
use crate::stats::Summary;

/// A stored run, with the refused loads in its database.
#[derive(Clone, Copy, Debug)]
pub struct StoredSearchRun<'a> {
    pub summary: &'a Summary,
    pub refusals: &'a [Refusal],
}

/// A search reconstructed from its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSearch {
    pub plan: SearchPlan,
    /// In the order of the runs; refused loads are last.
    pub probes: Vec<Probe>,
    pub selections: Vec<Selection>,
    /// The next load, if the runs do not complete the search.
    pub next: Option<f64>,
}

/// The searches that the runs belong to, in order of first appearance. Runs without a search are ignored.
pub fn find_searches(runs: &[StoredSearchRun<'_>]) -> Vec<StoredSearch> {
    let mut searches: Vec<(&SearchPlan, Vec<StoredSearchRun<'_>>)> = Vec::new();
    for run in runs {
        let Some(plan) = &run.summary.facts.search else { continue };
        // Runs of one search have the same request id prefix and the same plan.
        let call = |stored: &StoredSearchRun<'_>| stored.summary.facts.request_id_prefix.clone();
        match searches.iter_mut().find(|(other, others)| *other == plan && call(&others[0]) == call(run)) {
            Some((_, others)) => others.push(*run),
            None => searches.push((plan, vec![*run])),
        }
    }
    searches.into_iter().map(|(plan, runs)| rebuild(plan, &runs)).collect()
}

fn rebuild(plan: &SearchPlan, runs: &[StoredSearchRun<'_>]) -> StoredSearch {
    let mut loads: Vec<(f64, Vec<&Summary>)> = Vec::new();
    for run in runs.iter().map(|run| run.summary) {
        let Some(load) = run.facts.searched_load(plan.variable) else { continue };
        match loads.iter_mut().find(|(other, _)| *other == load) {
            Some((_, others)) => others.push(run),
            None => loads.push((load, vec![run])),
        }
    }
    let mut probes: Vec<Probe> = loads.into_iter().filter_map(|(load, runs)| probe(plan, load, runs)).collect();
    for refusal in runs.iter().flat_map(|run| run.refusals) {
        let trouble = match refusal.open_files {
            Some(files) => SearchTrouble::OpenFiles(files),
            None => SearchTrouble::Refused(refusal.why.clone()),
        };
        probes.push(Probe::refused(plan, refusal.load, trouble));
    }
    let (selections, next) = match step(plan, &probes) {
        Step::Done(selections) => (selections, None),
        Step::Probe(next) => (so_far(plan, &probes), Some(next)),
    };
    StoredSearch { plan: plan.clone(), probes, selections, next }
}

/// The probe of a load; `None` if runs are missing or one of them did not finish.
fn probe(plan: &SearchPlan, load: f64, mut runs: Vec<&Summary>) -> Option<Probe> {
    let end_of = |run: &Summary| run.end.as_ref().filter(|end| !end.interrupted).map(|end| end.clock.unix_ns);
    if runs.iter().any(|run| end_of(run).is_none()) {
        return None;
    }
    runs.sort_by_key(|run| end_of(run));
    let probe = Probe::from_runs(plan, load, &runs);
    (runs.len() >= plan.runs as usize || !probe.trouble.is_empty()).then_some(probe)
}
