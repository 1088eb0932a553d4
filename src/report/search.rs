//! The loads that a search measured and its result, as tables and as JSON.

use serde_json::{Map, Value as Json, json};

use super::glance::AT_MOST;
use super::i18n::Label;
use super::json_value::finite;
use super::language::Language;
use super::table::{Align, Decimals, Table, cut, few_note, infinite_note, mark, number, wrap};
use crate::finding::SearchTrouble;
use crate::plan::sla::{Aim, SearchPlan};
use crate::plan::slo::Figure;
use crate::search::{Observed, Probe, Selection, StoredSearch, figures};

/// Lines are at least this long, even on narrower screens.
pub(crate) const NARROWEST: usize = 60;

/// The tables: a row for each load, in ascending order, and one for each aim.
pub fn render(plan: &SearchPlan, probes: &[Probe], selections: &[Selection], width: usize) -> String {
    let width = width.max(NARROWEST);
    let ordered = ordered(probes);
    let mut out = format!("\n{}:\n", title(plan, Language::En));
    match ordered.is_empty() {
        true => out.push_str("No load was measured to its end.\n"),
        false => out.push_str(&probe_tables(plan, &ordered, width)),
    }
    out.push_str(&probe_notes(plan, &ordered, width));
    out.push_str("\nSelected:\n");
    out.push_str(&selection_table(plan, selections, width));
    for (index, selection) in selections.iter().enumerate() {
        let name = if selections.len() > 1 { format!("{}. ", index + 1) } else { String::new() };
        let whole = cut(&selection.aim, aim_width(width)) == selection.aim;
        let criteria = if whole { String::new() } else { format!("{}: ", selection.aim) };
        out.push_str(&wrap(&name, &(criteria + &selection.reason.en()), width));
    }
    out
}

/// What the marks in the table of probes mean, and why loads could not be used.
pub(crate) fn probe_notes(plan: &SearchPlan, probes: &[&Probe], width: usize) -> String {
    let mut out = String::new();
    if probes.iter().any(|probe| probe.observed.iter().any(|observed| observed.few)) {
        out.push_str(&wrap("", &format!("* {}", few_note(Language::En)), width));
    }
    if has_bounds(probes) {
        out.push_str(&wrap("≤ ", AT_MOST, width));
    }
    if has_infinite(probes) {
        out.push_str(&wrap("", infinite_note(Language::En), width));
    }
    for probe in probes {
        let name = format!("{} {}: ", plan.variable.name(), probe.value);
        probe.trouble.iter().for_each(|trouble| out.push_str(&wrap(&name, &trouble.en(), width)));
    }
    out
}

/// The tables of searches that were reconstructed from stored runs, with a note if the runs do not decide a search.
pub(crate) fn render_stored(stored: &[StoredSearch], width: usize) -> String {
    let of_one = |stored: &StoredSearch| {
        let tables = render(&stored.plan, &stored.probes, &stored.selections, width);
        tables + &undecided(stored, Language::En).map_or_else(String::new, |line| wrap("", &line, width.max(NARROWEST)))
    };
    stored.iter().map(of_one).collect()
}

/// The note on a search that its runs do not decide.
pub(crate) fn undecided(stored: &StoredSearch, language: Language) -> Option<String> {
    let next = stored.next?;
    let variable = stored.plan.variable.name();
    Some(match language {
        Language::En => format!(
            "The search is not complete, the next load is {variable} {next}: it ended early, or some of its runs are \
             missing here."
        ),
        Language::Zh => format!("搜索尚未完成，下一档负载为 {variable} {next}：搜索提前结束，或缺少部分测试的数据。"),
    })
}

/// The title of a search: the variable with its bounds, and the runs at each load.
pub(crate) fn title(plan: &SearchPlan, language: Language) -> String {
    let (name, space) = (plan.variable.name(), &plan.space);
    match (language, plan.runs) {
        (Language::En, 1) => format!("Search for {name} ({} to {}), 1 run at each load", space.lower, space.upper),
        (Language::En, runs) => {
            format!("Search for {name} ({} to {}), {runs} runs at each load", space.lower, space.upper)
        }
        (Language::Zh, runs) => format!("搜索 {name}（{} 至 {}），每档测试 {runs} 次", space.lower, space.upper),
    }
}

/// The probes in the order of their loads.
pub(crate) fn ordered(probes: &[Probe]) -> Vec<&Probe> {
    let mut ordered: Vec<&Probe> = probes.iter().collect();
    ordered.sort_by(|a, b| a.value.total_cmp(&b.value));
    ordered
}

/// The loads in the order in which they were tried: `parallel 1 ✓ → 2 ✓ → 4 ✗ → 3 ✓`.
pub(crate) fn path(plan: &SearchPlan, in_order: &[Probe], language: Language) -> String {
    let has_conditions = plan.aims.iter().any(|aim| matches!(aim, Aim::Hold(_)));
    let holds = |probe: &Probe| {
        probe.verdicts.iter().zip(&plan.aims).all(|(verdict, aim)| match aim {
            Aim::Hold(_) => verdict.holds,
            Aim::Best { .. } => true,
        })
    };
    let step = |probe: &Probe| match (has_conditions, probe.runs) {
        (_, 0) => format!("{} ({})", probe.value, language.pick("refused", "无法施加")),
        (false, _) => probe.value.to_string(),
        (true, _) => format!("{} {}", probe.value, if holds(probe) { "✓" } else { "✗" }),
    };
    let steps: Vec<String> = in_order.iter().map(step).collect();
    format!("{} {}", plan.variable.name(), steps.join(" → "))
}

/// A column of the table of probes.
pub struct Column {
    pub head: String,
    /// A cell for each probe.
    pub cells: Vec<String>,
}

/// All columns for these probes, each figure with its spread over the runs.
pub fn columns(plan: &SearchPlan, probes: &[&Probe], language: Language) -> Vec<Column> {
    let mut columns = fixed_columns(plan, probes, language);
    columns.extend(figure_columns(plan, probes, true));
    columns.extend(verdict_columns(plan, probes, language));
    columns
}

/// One table if it fits; else figures without their spread, divided into as many tables as needed.
pub(crate) fn probe_tables(plan: &SearchPlan, probes: &[&Probe], width: usize) -> String {
    let fixed = fixed_columns(plan, probes, Language::En);
    let verdicts = verdict_columns(plan, probes, Language::En);
    let figures = |spread: bool| figure_columns(plan, probes, spread);
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

fn fixed_columns(plan: &SearchPlan, probes: &[&Probe], language: Language) -> Vec<Column> {
    let column = |head: &str, cell: &dyn Fn(&Probe) -> String| Column {
        head: head.to_string(),
        cells: probes.iter().map(|probe| cell(probe)).collect(),
    };
    let mut columns = vec![
        column(plan.variable.name(), &|probe| probe.value.to_string()),
        column(language.pick("Runs", "测试次数"), &|probe| probe.runs.to_string()),
        column(Label::Succeeded.text(language), &|probe| format!("{}/{}", probe.succeeded, probe.total)),
    ];
    if probes.iter().any(|probe| probe.offered_per_s.is_some()) {
        let offered = |probe: &Probe| Decimals(2).optional(probe.offered_per_s);
        columns.insert(1, column(language.pick("Offered (req/s)", "到达率 (req/s)"), &offered));
    }
    columns
}

/// The figures that every probe has, by their names, with their units.
fn figure_columns(plan: &SearchPlan, probes: &[&Probe], spread: bool) -> Vec<Column> {
    let names = probes.first().into_iter().flat_map(|probe| &probe.observed).enumerate();
    let column = |(index, observed): (usize, &Observed)| {
        let (unit, factor) = figure_of(plan, &observed.name).map_or(("", 1.0), shown_unit);
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        figure_column(probes, (index, factor), format!("{}{unit}", observed.name), spread)
    };
    names.map(column).collect()
}

/// The unit in which a figure is shown, and how many of it are one of [`Figure::unit`]: times are in milliseconds.
fn shown_unit(figure: Figure) -> (&'static str, f64) {
    if matches!(figure, Figure::Of(..)) { ("ms", 1e3) } else { (figure.unit(), 1.0) }
}

/// The figure that the aims call by this name.
pub(crate) fn figure_of(plan: &SearchPlan, name: &str) -> Option<Figure> {
    plan.aims.iter().flat_map(figures).find(|(other, _)| other == name).map(|(_, figure)| figure)
}

/// Whether failed requests decide a figure of one of these probes.
pub(crate) fn has_infinite(probes: &[&Probe]) -> bool {
    probes.iter().any(|probe| probe.observed.iter().any(|observed| observed.mean == Some(f64::INFINITY)))
}

/// Whether of a figure of one of these probes only the upper bound is known in a run.
pub(crate) fn has_bounds(probes: &[&Probe]) -> bool {
    probes.iter().any(|probe| probe.observed.iter().any(|observed| observed.at_most.is_some()))
}

/// A value as objectives are judged by it, which is infinite where failed requests decide it.
pub(crate) fn judged_text(value: f64) -> String {
    if value.is_finite() { number(value) } else { "∞".to_string() }
}

/// A figure of each probe, with the same decimals; times have two, as in the other tables of milliseconds. The search is
/// decided by the value that was measured; where the client's error exceeds it, the upper bound stands beside it.
fn figure_column(probes: &[&Probe], (index, factor): (usize, f64), head: String, spread: bool) -> Column {
    let all = || probes.iter().map(|probe| &probe.observed[index]);
    let values = all().flat_map(|observed| [observed.mean, observed.at_most]).flatten();
    let finite = values.filter(|value| value.is_finite()).map(|value| value * factor);
    let decimals = Decimals::for_digits(finite, if factor > 1.0 { 2 } else { 0 });
    let cell = |observed: &Observed| {
        let Some(mean) = observed.mean else { return "-".to_string() };
        let text = |value: f64| match value.is_finite() {
            true => decimals.text(value * factor) + mark(observed.few),
            false => judged_text(value) + mark(observed.few),
        };
        let known = || observed.values.iter().flatten().copied();
        let range = known().reduce(f64::min).zip(known().reduce(f64::max)).filter(|(low, high)| spread && low < high);
        let range = range.map(|(low, high)| format!("{} .. {}", text(low), text(high)));
        let bound = observed.at_most.map(|bound| format!("≤ {}", decimals.ceil(bound * factor)));
        match [range, bound].into_iter().flatten().collect::<Vec<_>>().as_slice() {
            [] => text(mean),
            parts => format!("{} ({})", text(mean), parts.join(", ")),
        }
    };
    Column { head, cells: all().map(cell).collect() }
}

/// Columns that say whether each group of conditions holds; a figure to be optimised needs no column.
fn verdict_columns(plan: &SearchPlan, probes: &[&Probe], language: Language) -> Vec<Column> {
    let conditions = plan.aims.iter().enumerate().filter(|(_, aim)| matches!(aim, Aim::Hold(_)));
    let head = |index: usize| match plan.aims.len() {
        1 => language.pick("Holds", "满足").to_string(),
        _ => format!("{}. {}", index + 1, language.pick("holds", "满足")),
    };
    let (yes, no) = (language.pick("yes", "是"), language.pick("NO", "否"));
    let cell = |probe: &Probe, index: usize| if probe.verdicts[index].holds { yes } else { no }.to_string();
    let column = |index| Column { head: head(index), cells: probes.iter().map(|probe| cell(probe, index)).collect() };
    conditions.map(|(index, _)| column(index)).collect()
}

/// Width of the criteria column, which leaves room for frame, number and value.
fn aim_width(width: usize) -> usize {
    width.saturating_sub(26)
}

fn selection_table(plan: &SearchPlan, selections: &[Selection], width: usize) -> String {
    let value = |selection: &Selection| selection.value.map_or_else(|| "none".to_string(), |value| value.to_string());
    let row = |(index, selection): (usize, &Selection)| {
        vec![format!("{}.", index + 1), cut(&selection.aim, aim_width(width)), value(selection)]
    };
    Table {
        head: vec!["#".to_string(), "Criteria".to_string(), plan.variable.name().to_string()],
        aligns: vec![Align::Right, Align::Left, Align::Right],
        rows: selections.iter().enumerate().map(row).collect(),
        grid: false,
    }
    .render()
}

/// The result of a search that was reconstructed from stored runs, as `sla_summary.json` has it.
pub(crate) fn stored_json(stored: &StoredSearch) -> Json {
    json(&stored.plan, &stored.probes, &stored.selections, undecided(stored, Language::En).is_none())
}

/// The content of `sla_summary.json`, with evalscope's names for the keys that it has too.
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

/// A concurrency is an integer.
fn load_json(plan: &SearchPlan, value: f64) -> Json {
    if plan.space.whole { json!(value as u64) } else { json!(value) }
}

fn probe_json(plan: &SearchPlan, probe: &Probe) -> Json {
    let by_name = |of: fn(&Observed) -> Json| -> Json {
        Json::Object(probe.observed.iter().map(|observed| (observed.name.clone(), of(observed))).collect())
    };
    let groups = probe.verdicts.iter().enumerate();
    let groups: Map<String, Json> = groups.map(|(index, j)| ((index + 1).to_string(), json!(j.holds))).collect();
    json!({
        "value": load_json(plan, probe.value),
        "runs": probe.runs,
        "total_requests": probe.total,
        "succeeded_requests": probe.succeeded,
        "offered_rate": probe.offered_per_s,
        "valid": probe.trouble.is_empty(),
        "reasons": probe.trouble.iter().map(SearchTrouble::en).collect::<Vec<_>>(),
        "metric_values": by_name(|observed| finite(observed.mean)),
        "metric_values_of_runs": by_name(|observed| observed.values.iter().map(|value| finite(*value)).collect()),
        "metric_upper_bounds": by_name(|observed| finite(observed.at_most)),
        "few_samples": probe.observed.iter().filter(|observed| observed.few).map(|o| &o.name).collect::<Vec<_>>(),
        "group_passes": groups,
    })
}

fn selection_json(plan: &SearchPlan, aim: &Aim, found: &Selection, probes: &[Probe]) -> Json {
    let (mode, figure) = match aim {
        Aim::Hold(_) => ("constraint", None),
        Aim::Best { name, most, .. } => (if *most { "max" } else { "min" }, Some(name)),
    };
    let selected = probes.iter().find(|probe| Some(probe.value) == found.value);
    let metric = |name: &String| selected?.figure(name)?.mean;
    let uncertain = selected.map_or_else(Vec::new, |probe| probe.uncertain(aim));
    json!({
        "criteria": found.criteria,
        "mode": mode,
        "selected_value": found.value.map(|value| load_json(plan, value)),
        "observed_metric": figure.and_then(metric),
        "uncertain_metrics": uncertain.iter().map(|observed| &observed.name).collect::<Vec<_>>(),
        "status": if found.value.is_some() { "best_observed" } else { "none" },
        "reason": found.reason.en(),
    })
}
