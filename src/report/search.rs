//! What a search for a load tried and found: as tables, and as JSON.

use serde_json::{Map, Value as Json, json};

use super::table::{Align, Table, cut, number, wrap};
use crate::plan::sla::{Aim, SearchPlan};
use crate::search::{Observed, Probe, Selection};

/// Narrower screens get lines of this length all the same.
const NARROWEST: usize = 60;

/// The tables: a row for each load, in ascending order, and one for each aim.
pub fn render(plan: &SearchPlan, probes: &[Probe], selections: &[Selection], width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut ordered: Vec<&Probe> = probes.iter().collect();
    ordered.sort_by(|a, b| a.value.total_cmp(&b.value));
    let bounds = format!("{} to {}", plan.space.lower, plan.space.upper);
    let runs = if plan.runs == 1 { "1 run".to_string() } else { format!("{} runs", plan.runs) };
    let mut out = format!("\nSearch for {} ({bounds}), {runs} at each load:\n", plan.variable.name());
    if !ordered.is_empty() {
        out.push_str(&probe_tables(plan, &ordered, width));
    }
    for probe in &ordered {
        let name = format!("{} {}: ", plan.variable.name(), probe.value);
        probe.trouble.iter().for_each(|trouble| out.push_str(&wrap(&name, trouble, width)));
    }
    out.push_str("\nSelected:\n");
    out.push_str(&selection_table(plan, selections, width));
    for (index, selection) in selections.iter().enumerate() {
        let name = if selections.len() > 1 { format!("{}. ", index + 1) } else { String::new() };
        out.push_str(&wrap(&name, &selection.reason, width));
    }
    out
}

struct Column {
    head: String,
    /// A cell for each probe.
    cells: Vec<String>,
}

/// One table where it fits; else figures without their spread, and then as many tables as it takes.
fn probe_tables(plan: &SearchPlan, probes: &[&Probe], width: usize) -> String {
    let fixed = fixed_columns(plan, probes);
    let verdicts = verdict_columns(plan, probes);
    let figures = |spread: bool| -> Vec<Column> {
        let names = probes[0].observed.iter().enumerate();
        names.map(|(index, observed)| figure_column(probes, index, &observed.name, spread)).collect()
    };
    let whole = |spread| table(fixed.iter().chain(&figures(spread)).chain(&verdicts).collect::<Vec<_>>().as_slice());
    if let Some(fits) = [true, false].into_iter().map(whole).find(|table| table.width() <= width) {
        return fits.render();
    }
    let narrow = figures(false);
    let mut out = table(&fixed.iter().collect::<Vec<_>>()).render();
    let mut open: Vec<&Column> = vec![&fixed[0]];
    for column in narrow.iter().chain(&verdicts) {
        open.push(column);
        if open.len() > 2 && table(&open).width() > width {
            open.pop();
            out.push_str(&table(&open).render());
            open = vec![&fixed[0], column];
        }
    }
    out + &table(&open).render()
}

fn table(columns: &[&Column]) -> Table {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    Table {
        head: columns.iter().map(|column| column.head.clone()).collect(),
        aligns: vec![Align::Right; columns.len()],
        rows: (0..rows).map(|row| columns.iter().map(|column| column.cells[row].clone()).collect()).collect(),
        grid: false,
    }
}

fn fixed_columns(plan: &SearchPlan, probes: &[&Probe]) -> Vec<Column> {
    let column = |head: &str, cell: &dyn Fn(&Probe) -> String| Column {
        head: head.to_string(),
        cells: probes.iter().map(|probe| cell(probe)).collect(),
    };
    vec![
        column(plan.variable.name(), &|probe| probe.value.to_string()),
        column("Runs", &|probe| probe.runs.to_string()),
        column("Succeeded", &|probe| format!("{}/{}", probe.succeeded, probe.total)),
    ]
}

fn figure_column(probes: &[&Probe], index: usize, name: &str, spread: bool) -> Column {
    let cell = |observed: &Observed| {
        let Some(mean) = observed.mean else { return "-".to_string() };
        let known = || observed.values.iter().flatten().copied();
        match (known().reduce(f64::min), known().reduce(f64::max)) {
            (Some(low), Some(high)) if spread && low < high => {
                format!("{} ({} .. {})", number(mean), number(low), number(high))
            }
            _ => number(mean),
        }
    };
    Column { head: name.to_string(), cells: probes.iter().map(|probe| cell(&probe.observed[index])).collect() }
}

/// Whether each group of conditions holds; a figure that is to be at its best needs no column.
fn verdict_columns(plan: &SearchPlan, probes: &[&Probe]) -> Vec<Column> {
    let conditions = plan.aims.iter().enumerate().filter(|(_, aim)| matches!(aim, Aim::Hold(_)));
    let head = |index: usize| if plan.aims.len() > 1 { format!("{}. holds", index + 1) } else { "Holds".to_string() };
    let cell = |probe: &Probe, index: usize| if probe.judged[index].holds { "yes" } else { "NO" }.to_string();
    let column = |index| Column { head: head(index), cells: probes.iter().map(|probe| cell(probe, index)).collect() };
    conditions.map(|(index, _)| column(index)).collect()
}

fn selection_table(plan: &SearchPlan, selections: &[Selection], width: usize) -> String {
    let value = |selection: &Selection| selection.value.map_or_else(|| "none".to_string(), |value| value.to_string());
    // Frame, number and value take less than this.
    let aim_width = width.saturating_sub(26);
    let row = |(index, selection): (usize, &Selection)| {
        vec![format!("{}.", index + 1), cut(&selection.aim, aim_width), value(selection)]
    };
    Table {
        head: vec!["#".to_string(), "Criteria".to_string(), plan.variable.name().to_string()],
        aligns: vec![Align::Right, Align::Left, Align::Right],
        rows: selections.iter().enumerate().map(row).collect(),
        grid: false,
    }
    .render()
}

/// The same for programs: `sla_summary.json`, with evalscope's names for what it has too.
pub fn json(plan: &SearchPlan, probes: &[Probe], selections: &[Selection], complete: bool) -> Json {
    let space = &plan.space;
    let load = |value: f64| load_json(plan, value);
    json!({
        "variable": plan.variable.name(),
        "lower_bound": load(space.lower),
        "upper_bound": load(space.upper),
        "start": load(space.start),
        "precision": space.precision,
        "runs_per_value": plan.runs,
        "complete": complete,
        "probes": probes.iter().map(|probe| probe_json(plan, probe)).collect::<Vec<_>>(),
        "selections": plan.aims.iter().zip(selections).map(|(aim, found)| selection_json(plan, aim, found, probes)).collect::<Vec<_>>(),
    })
}

/// A number of requests in flight is whole.
fn load_json(plan: &SearchPlan, value: f64) -> Json {
    if plan.space.whole { json!(value as u64) } else { json!(value) }
}

fn probe_json(plan: &SearchPlan, probe: &Probe) -> Json {
    let by_name = |of: fn(&Observed) -> Json| -> Json {
        Json::Object(probe.observed.iter().map(|observed| (observed.name.clone(), of(observed))).collect())
    };
    let groups = probe.judged.iter().enumerate();
    let groups: Map<String, Json> = groups.map(|(index, j)| ((index + 1).to_string(), json!(j.holds))).collect();
    json!({
        "value": load_json(plan, probe.value),
        "runs": probe.runs,
        "total_requests": probe.total,
        "succeeded_requests": probe.succeeded,
        "valid": probe.trouble.is_empty(),
        "reasons": probe.trouble,
        "metric_values": by_name(|observed| json!(observed.mean)),
        "metric_values_of_runs": by_name(|observed| json!(observed.values)),
        "group_passes": groups,
    })
}

fn selection_json(plan: &SearchPlan, aim: &Aim, found: &Selection, probes: &[Probe]) -> Json {
    let (mode, figure) = match aim {
        Aim::Hold(_) => ("constraint", None),
        Aim::Best { name, most, .. } => (if *most { "max" } else { "min" }, Some(name)),
    };
    let selected = probes.iter().find(|probe| Some(probe.value) == found.value);
    let metric = |name: &String| selected?.observed.iter().find(|observed| observed.name == *name)?.mean;
    json!({
        "criteria": found.aim,
        "mode": mode,
        "selected_value": found.value.map(|value| load_json(plan, value)),
        "observed_metric": figure.and_then(metric),
        "status": if found.value.is_some() { "best_observed" } else { "none" },
        "reason": found.reason,
    })
}
