//! A search told again by its stored runs: every run has the plan of the search with it, and the rest follows.

use super::{Probe, Selection, Step, so_far, step};
use crate::finding::SearchTrouble;
use crate::plan::sla::SearchPlan;
use crate::record::facts::Refusal;
use crate::stats::Summary;

/// A stored run, and the loads that were refused beside it.
#[derive(Clone, Copy, Debug)]
pub struct StoredSearchRun<'a> {
    pub summary: &'a Summary,
    pub refusals: &'a [Refusal],
}

/// A search as its runs tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSearch {
    pub plan: SearchPlan,
    /// Loads in the order in which they first appear among the runs, those without a run last.
    pub probes: Vec<Probe>,
    pub selections: Vec<Selection>,
    /// The load that comes next, where these runs do not decide the search.
    pub next: Option<f64>,
}

/// The searches to which these runs belong, in the order in which they appear; none for runs that nobody searched with.
pub fn find_searches(runs: &[StoredSearchRun<'_>]) -> Vec<StoredSearch> {
    let mut searches: Vec<(&SearchPlan, Vec<StoredSearchRun<'_>>)> = Vec::new();
    for run in runs {
        let Some(plan) = &run.summary.facts.search else { continue };
        // The runs of one call have one prefix; a search follows one plan.
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

/// What the runs at a load say; `None` where runs of it are missing, or one did not come to its end.
fn probe(plan: &SearchPlan, load: f64, mut runs: Vec<&Summary>) -> Option<Probe> {
    let end_of = |run: &Summary| run.end.as_ref().filter(|end| !end.interrupted).map(|end| end.clock.unix_ns);
    if runs.iter().any(|run| end_of(run).is_none()) {
        return None;
    }
    runs.sort_by_key(|run| end_of(run));
    let probe = Probe::from_runs(plan, load, &runs);
    (runs.len() >= plan.runs as usize || !probe.trouble.is_empty()).then_some(probe)
}
