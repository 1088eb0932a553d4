//! Runs the search for a load (`--sla-auto-tune`): from the first plan to the exit status.

use std::path::Path;

use super::call_output::{FILE_WIDTH, Measured, MeasuredSearch, Screen, append, write_html};
use super::exit::status;
use super::visualizer;
use crate::files;
use crate::finding::SearchTrouble;
use crate::plan::sla::SearchPlan;
use crate::plan::{Plan, PlanError};
use crate::prepare::calibration;
use crate::record::facts::Refusal;
use crate::report::{overview, screen, search as report, search_glance};
use crate::run::{FinishedRun, RunContext, RunError};
use crate::search::{Probe, StoredSearch};
use crate::spec::output::repeat_suffix;
use crate::spec::{RigFacts, Spec, resolve};
use crate::stats::Summary;
use crate::store::writer::add_refusals;
use crate::sweep::{self, EarlyEnd, SearchResult};
use crate::visualizer::Visualizer;

/// Runs the search, then prints and stores its results, also after an error or an interrupt.
pub fn run_search(
    (spec, search, facts): (&Spec, &SearchPlan, &RigFacts),
    first: &Plan,
    context: &RunContext<'_>,
    screen: &Screen,
    mut visualizer: Option<&mut Visualizer>,
) -> Measured {
    let root = &first.report.root;
    let (mut number, mut before) = (0, 0);
    let mut plan_at = |value: f64, run: u32| {
        let mut plan = plan_for_load((spec, search, facts), first, value)?;
        if search.runs > 1 {
            plan.report.folder.as_mut_os_string().push(repeat_suffix(run));
        }
        // Each run sends new prompts, because the server may have cached those of earlier runs.
        number += 1;
        plan.place_in_call(number, spec.data.dataset_offset, before);
        plan.report.place.of = None;
        plan.report.place.repeated = search.runs > 1;
        before = before.saturating_add(plan.prompts());
        Ok(plan)
    };
    let mut ended = |plan: &Plan, finished: &FinishedRun| {
        visualizer::run_ended(visualizer.as_deref_mut(), plan, &finished.summary);
        context.log.result(&overview::one_line(&finished.summary));
        append(&screen::render_stored(&finished.summary, Some(&finished.database), FILE_WIDTH), root)
    };
    let result = sweep::search(search, &mut plan_at, context, &mut ended);
    let mut written = Ok(());
    if !result.runs.is_empty() {
        // Each of them, even if another one fails.
        let parts =
            [show(screen, search, &result, root), store_refusals(&result), write_html(spec, &result.runs, root)];
        written = parts.into_iter().fold(Ok(()), Result::and);
    }
    let status = exit_status(&result);
    let json = report::json(search, &result.probes, &result.selections, result.early_end.is_none());
    let searched = MeasuredSearch { json, selections: result.selections };
    let error = match result.early_end {
        Some(EarlyEnd::Failed(error)) => Some(error),
        _ => written.err(),
    };
    Measured { runs: result.runs, not_started: Vec::new(), search: Some(searched), status, error }
}

/// The plan for one load, with the server and the model of the first plan.
fn plan_for_load(
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
    // A calibration depends on the load. Errors of the file were reported for the first plan.
    let _ = calibration::attach(&at, std::slice::from_mut(&mut plan));
    plan.notes = if value == search.space.start { first.notes.clone() } else { Vec::new() };
    Ok(plan)
}

/// Stores the refused loads, which have no run, in the database of the last run, so that the databases describe the whole
/// search.
fn store_refusals(result: &SearchResult) -> Result<(), RunError> {
    let refused = result.probes.iter().filter(|probe| probe.runs == 0);
    let to_refusal = |probe: &Probe| Refusal {
        load: probe.value,
        why: probe.trouble.iter().map(SearchTrouble::en).collect::<Vec<_>>().join("; "),
        open_files: probe.trouble.iter().find_map(|trouble| match trouble {
            SearchTrouble::OpenFiles(files) => Some(*files),
            _ => None,
        }),
    };
    let refusals: Vec<Refusal> = refused.map(to_refusal).collect();
    match result.runs.last() {
        Some(last) if !refusals.is_empty() => Ok(add_refusals(&last.database, &refusals)?),
        _ => Ok(()),
    }
}

fn show(screen: &Screen, search: &SearchPlan, result: &SearchResult, root: &Path) -> Result<(), RunError> {
    let notice = match result.early_end {
        Some(EarlyEnd::Interrupted) => "\nThe search was interrupted. These loads were measured before:\n",
        Some(EarlyEnd::ServerEnded) => "\nThe server ended during the search. These loads were measured before:\n",
        _ => "",
    };
    let text = |width| format!("{notice}{}", report::render(search, &result.probes, &result.selections, width));
    match screen.verbose {
        true => screen.print(&text),
        false => {
            let runs: Vec<&Summary> = result.runs.iter().map(|run| &run.summary).collect();
            let (plan, probes, selections) = (search.clone(), result.probes.clone(), result.selections.clone());
            let stored = StoredSearch { plan, probes, selections, next: None };
            let notice = notice.trim_start();
            let colours = screen.output.has_colours();
            match screen.quiet {
                true => {
                    let width = screen.output.width(FILE_WIDTH);
                    screen.print_always(&search_glance::verdicts(&runs, &stored, width, colours));
                }
                false => screen.print(&|width| search_glance::render(&runs, &stored, notice, width, colours)),
            }
        }
    }
    let shown = append(&text(FILE_WIDTH), root);
    let json = report::json(search, &result.probes, &result.selections, result.early_end.is_none());
    let path = root.join("sla_summary.json");
    let written = files::replace(&path, format!("{json:#}\n").as_bytes());
    shown.and(written.map_err(|cause| RunError::File { path, cause }))
}

/// The exit status of a search that ended without an error.
fn exit_status(result: &SearchResult) -> u8 {
    let found = result.selections.iter().any(|selection| selection.value.is_some());
    if matches!(result.early_end, Some(EarlyEnd::Interrupted)) {
        status::INTERRUPTED
    } else if matches!(result.early_end, Some(EarlyEnd::ServerEnded)) {
        status::VOID
    } else if found {
        status::DONE
    } else if result.runs.iter().any(|run| run.summary.is_void()) {
        status::VOID
    } else {
        status::MISSED
    }
}
