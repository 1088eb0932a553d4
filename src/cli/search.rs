//! The search for a load, carried out: from the first plan to the exit status.

use std::path::Path;

use super::call_output::{FILE_WIDTH, append, say, write_html};
use super::exit::status;
use super::{calibration, visual};
use crate::finding::SearchTrouble;
use crate::plan::sla::SearchPlan;
use crate::plan::{Plan, PlanError};
use crate::record::facts::Refusal;
use crate::report::{overview, screen, search as report};
use crate::run::{Finished, RunError, Watch};
use crate::search::Probe;
use crate::spec::output::suffix_of_run;
use crate::spec::{RigFacts, Spec, resolve};
use crate::store::writer::add_refusals;
use crate::sweep::{self, Searched, Short};
use crate::visualizer::Visualizer;

/// Searches, shows and stores what was found, whatever ended the search. Gives the runs and the exit status.
pub fn carry_out(
    (spec, search, facts): (&Spec, &SearchPlan, &RigFacts),
    first: &Plan,
    watch: &Watch<'_>,
    mut visualizer: Option<&mut Visualizer>,
) -> Result<(Vec<Finished>, u8), RunError> {
    let root = &first.report.root;
    let (mut number, mut before) = (0, 0);
    let mut plan_at = |value: f64, run: u32| {
        let mut plan = plan_of((spec, search, facts), first, value)?;
        if search.runs > 1 {
            plan.report.folder.as_mut_os_string().push(suffix_of_run(run));
        }
        number += 1;
        plan.place_in_call(number, spec.data.dataset_offset, before);
        before = before.saturating_add(plan.prompts());
        Ok(plan)
    };
    let mut ended = |plan: &Plan, finished: &Finished| {
        visual::run_ended(visualizer.as_deref_mut(), plan, &finished.summary);
        watch.log.info(&overview::one_line(&finished.summary));
        append(&screen::render(&finished.summary, FILE_WIDTH), root)
    };
    let searched = sweep::search(search, &mut plan_at, watch, &mut ended);
    if !searched.runs.is_empty() {
        keep_refusals(&searched)?;
        show(spec, search, &searched, root)?;
        write_html(spec, &searched.runs, root)?;
    }
    let status = exit_status(&searched);
    match searched.cut_short {
        Some(Short::Failed(error)) => Err(error),
        _ => Ok((searched.runs, status)),
    }
}

/// The plan of one load, for the server and the model of the first one.
fn plan_of(
    (spec, search, facts): (&Spec, &SearchPlan, &RigFacts),
    first: &Plan,
    value: f64,
) -> Result<Plan, PlanError> {
    let mut at = spec.at_load(search, value);
    let mut plan = resolve(&at, facts)?.remove(0);
    if plan.report.model.is_empty() {
        at.target.model = Some(first.report.model.clone());
        plan = resolve(&at, facts)?.remove(0);
    }
    plan.target = first.target.clone();
    plan.report.search = Some(search.clone());
    // A calibration fits a load. Trouble with the file was said of the first plan.
    let _ = calibration::attach(&at, std::slice::from_mut(&mut plan));
    plan.notes = if value == search.space.start { first.notes.clone() } else { Vec::new() };
    Ok(plan)
}

/// Stores the loads without a run beside the last run, so that the databases alone tell the whole search.
fn keep_refusals(searched: &Searched) -> Result<(), RunError> {
    let refused = searched.probes.iter().filter(|probe| probe.runs == 0);
    let of_probe = |probe: &Probe| Refusal {
        load: probe.value,
        why: probe.trouble.iter().map(SearchTrouble::en).collect::<Vec<_>>().join("; "),
        open_files: probe.trouble.iter().find_map(|trouble| match trouble {
            SearchTrouble::OpenFiles(files) => Some(*files),
            _ => None,
        }),
    };
    let refusals: Vec<Refusal> = refused.map(of_probe).collect();
    match searched.runs.last() {
        Some(last) if !refusals.is_empty() => Ok(add_refusals(&last.database, &refusals)?),
        _ => Ok(()),
    }
}

fn show(spec: &Spec, search: &SearchPlan, searched: &Searched, root: &Path) -> Result<(), RunError> {
    let cut_off = match searched.cut_short {
        Some(Short::Interrupted) => "\nThe search was interrupted: these are the loads that were measured by then.\n",
        _ => "",
    };
    let text = |width| format!("{cut_off}{}", report::render(search, &searched.probes, &searched.selections, width));
    say(spec, root, &text)?;
    let json = report::json(search, &searched.probes, &searched.selections, searched.cut_short.is_none());
    let path = root.join("sla_summary.json");
    std::fs::write(&path, format!("{json:#}\n")).map_err(|cause| RunError::File { path, cause })
}

/// The exit status of a search that no error ended.
fn exit_status(searched: &Searched) -> u8 {
    let found = searched.selections.iter().any(|selection| selection.value.is_some());
    if matches!(searched.cut_short, Some(Short::Interrupted)) {
        status::INTERRUPTED
    } else if found {
        status::DONE
    } else if searched.runs.iter().any(|run| run.summary.is_void()) {
        status::VOID
    } else {
        status::MISSED
    }
}
