//! A search for a load on the page: what was found and why, every load that was measured, and each figure over the load
//! with its bound.

use std::fmt::Write;

use super::axis::Scale;
use super::chart::{AxisText, Chart, ChartLine, Kind, Level, Point, Y};
use super::elements::{at_most_note, charts, few_note, list, table};
use super::escape::{escape, prose};
use super::over_time::unit;
use super::run::Run;
use super::words::{Contents, Words, both};
use crate::finding::SearchTrouble;
use crate::plan::sla::{Aim, SearchPlan};
use crate::plan::slo::Figure;
use crate::report::language::Language;
use crate::report::search::{columns, figure_of, has_bounds, has_infinite, ordered, path, title, undecided};
use crate::report::table::infinite_note;
use crate::search::{Observed, Probe, Selection, StoredSearch, StoredSearchRun, figure_name, figures, find_searches};

/// A larger ratio of values and bounds is shown on a logarithmic axis.
const WIDE: f64 = 30.0;
/// The same for loads, as in the load curves.
const WIDE_LOADS: f64 = 8.0;

/// The searches that asked for these runs; none without one.
pub fn stored(runs: &[Run]) -> Vec<StoredSearch> {
    // The path of a search is the order in which its runs started.
    let mut in_order: Vec<&Run> = runs.iter().collect();
    in_order.sort_by_key(|run| run.run.clock.unix_ns);
    let stored: Vec<StoredSearchRun<'_>> = in_order
        .into_iter()
        .map(|run| StoredSearchRun { summary: &run.summary, refusals: &run.run.refusals })
        .collect();
    find_searches(&stored)
}

/// The sections of these searches.
pub fn sections(searches: &[StoredSearch], contents: &mut Contents) -> String {
    let each = |(index, stored): (usize, &StoredSearch)| {
        let heading = Words::each(|language| title(&stored.plan, language));
        contents.heading("h2", &format!("search-{}", index + 1), heading) + &section(stored)
    };
    searches.iter().enumerate().map(each).collect()
}

fn section(stored: &StoredSearch) -> String {
    let probes = ordered(&stored.probes);
    let tables = both(|language| {
        let mut out = selections(stored, language);
        if let Some(line) = undecided(stored, language) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&line));
        }
        if probes.is_empty() {
            return out;
        }
        let _ = write!(
            out,
            "<h3>{}</h3>{}",
            language.pick("Loads that were tried", "已测负载"),
            path_line(stored, language)
        );
        out.push_str(&probe_table(stored, &probes, language));
        if probes.iter().any(|probe| probe.observed.iter().any(|observed| observed.few)) {
            out.push_str(&few_note(language));
        }
        if has_bounds(&probes) {
            out.push_str(&at_most_note(language));
        }
        if has_infinite(&probes) {
            let _ = write!(out, "<p class=\"note\">{}</p>", infinite_note(language));
        }
        let troubles: Vec<String> = probes.iter().flat_map(|probe| troubles(&stored.plan, probe, language)).collect();
        if !troubles.is_empty() {
            out.push_str(&list(&troubles));
        }
        out
    });
    if probes.is_empty() { tables } else { tables + &charts(&curves(stored, &probes)) }
}

/// The loads in the order in which they were tried.
fn path_line(stored: &StoredSearch, language: Language) -> String {
    let name = language.pick("In order: ", "依次：");
    format!("<p class=\"path\">{name}{}</p>", path(&stored.plan, &stored.probes, language))
}

/// What was found for each aim.
fn selections(stored: &StoredSearch, language: Language) -> String {
    let row = |(aim, selection): (&Aim, &Selection)| {
        let value = selection.value.map_or_else(|| language.pick("none", "无").to_string(), |value| value.to_string());
        let reason = match language {
            Language::En => selection.reason.en(),
            Language::Zh => selection.reason.zh(),
        };
        let cells = [aim_text(aim, language), value, reason].map(|cell| format!("<td>{}</td>", prose(&cell)));
        format!("<tr>{}</tr>", cells.concat())
    };
    let rows: String = stored.plan.aims.iter().zip(&stored.selections).map(row).collect();
    format!(
        "<div class=\"scroll\"><table class=\"words\"><tr><th>{}</th><th>{}</th><th>{}</th></tr>{rows}</table></div>",
        language.pick("Criteria", "条件"),
        stored.plan.variable.name(),
        language.pick("Reason", "原因"),
    )
}

fn aim_text(aim: &Aim, language: Language) -> String {
    match (aim, language) {
        (Aim::Best { name, most, .. }, Language::Zh) => format!("{name} {}", if *most { "最大" } else { "最小" }),
        (aim, _) => aim.to_string(),
    }
}

/// A row for each load: green if every condition holds, red if none does.
fn probe_table(stored: &StoredSearch, probes: &[&Probe], language: Language) -> String {
    let columns = columns(&stored.plan, probes, language);
    let head: Vec<String> = columns.iter().map(|column| column.head.clone()).collect();
    let row = |(index, probe): (usize, &&Probe)| {
        let class = match probe.verdicts.iter().filter(|judged| judged.holds).count() {
            0 => "bad",
            all if all == probe.verdicts.len() => "good",
            _ => "passable",
        };
        (class, columns.iter().map(|column| column.cells[index].clone()).collect())
    };
    table(&head, &probes.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn troubles(plan: &SearchPlan, probe: &Probe, language: Language) -> Vec<String> {
    let load = format!("{} {}{}", plan.variable.name(), probe.value, language.pick(": ", "："));
    let text = |trouble: &SearchTrouble| match language {
        Language::En => trouble.en(),
        Language::Zh => trouble.zh(),
    };
    probe.trouble.iter().map(|trouble| load.clone() + &text(trouble)).collect()
}

/// A chart for each figure of the search.
fn curves(stored: &StoredSearch, probes: &[&Probe]) -> Vec<Chart> {
    let names = probes.first().into_iter().flat_map(|probe| &probe.observed).map(|observed| &observed.name);
    names.filter_map(|name| Some(curve(stored, probes, name, figure_of(&stored.plan, name)?))).collect()
}

/// A figure over the loads, with the selected loads and the bounds. The loads are numbered in the order of the search.
fn curve(stored: &StoredSearch, probes: &[&Probe], name: &str, figure: Figure) -> Chart {
    let bounds = bounds(&stored.plan, name);
    let measured = probes.iter().filter_map(|probe| value(probe, name).at());
    let values: Vec<f64> = measured.chain(bounds.iter().map(|b| b.1)).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let (unit, factor) = if matches!(figure, Figure::Of(..)) { unit(most) } else { (figure.unit(), 1.0) };
    let mut lines = vec![ChartLine::new(name, probes.iter().map(|probe| point(stored, probe, name, factor)).collect())];
    let at_load = |load| Some(value(probes.iter().find(|probe| probe.value == load)?, name).times(factor));
    let selected = selected_for(stored, name).filter_map(|load| Some(Point::new(load, at_load(load)?)));
    let selected: Vec<Point> = selected.filter(|point| point.y != Y::Unknown).collect();
    if !selected.is_empty() {
        let dots = ChartLine::dots(Words::new("selected", "选定"), selected, false);
        lines.push(ChartLine { kind: Kind::Selected, ..dots });
    }
    let loads: Vec<f64> = probes.iter().map(|probe| probe.value).collect();
    let level = |(name, bound): (String, f64)| Level { name, at: bound * factor, upright: false };
    let title = Words::new(format!("{name} · over load, with its bounds"), format!("{name} · 随负载变化及界限"));
    let note = Words::new("Numbers: the order of the search.", "数字为搜索的顺序。");
    Chart {
        x_scale: scale(&loads, WIDE_LOADS),
        y_scale: scale(&values, WIDE),
        x_ticks: loads,
        lines,
        levels: bounds.into_iter().map(level).collect(),
        shows_all_levels: true,
        note,
        ..Chart::new(title, AxisText::new(stored.plan.variable.name(), ""), AxisText::unit(unit))
    }
}

/// A figure at a load: the mean of its runs, or its upper bound if that is all that is known in one of them.
fn value(probe: &Probe, name: &str) -> Y {
    match probe.figure(name) {
        Some(Observed { at_most: Some(bound), .. }) => Y::AtMost(*bound),
        observed => observed.and_then(|observed| observed.mean).into(),
    }
}

/// A figure at a load, with the range of its runs and the step of the search as label.
fn point(stored: &StoredSearch, probe: &Probe, name: &str, factor: f64) -> Point {
    let observed = probe.figure(name);
    let y = value(probe, name);
    let values = || observed.into_iter().flat_map(|observed| observed.values.iter().flatten().copied());
    let range = values().reduce(f64::min).zip(values().reduce(f64::max));
    let bar = range.filter(|(low, high)| low < high && high.is_finite() && !matches!(y, Y::AtMost(_)));
    let step = stored.probes.iter().position(|other| other.value == probe.value);
    Point {
        bar: bar.map(|(low, high)| (low * factor, high * factor)),
        label: step.map(|step| (step + 1).to_string()),
        ..Point::new(probe.value, y.times(factor))
    }
}

/// The bounds of a figure, as they were written.
fn bounds(plan: &SearchPlan, name: &str) -> Vec<(String, f64)> {
    let criteria = plan.aims.iter().flat_map(|aim| match aim {
        Aim::Hold(criteria) => criteria.as_slice(),
        Aim::Best { .. } => &[],
    });
    criteria.filter(|criterion| figure_name(criterion) == name).map(|c| (c.with_unit(), c.bound)).collect()
}

/// The loads that were selected for aims with this figure.
fn selected_for<'a>(stored: &'a StoredSearch, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    let pairs = stored.plan.aims.iter().zip(&stored.selections);
    let of_figure = pairs.filter(move |(aim, _)| figures(aim).iter().any(|(other, _)| other == name));
    of_figure.filter_map(|(_, selection)| selection.value)
}

fn scale(values: &[f64], wide: f64) -> Scale {
    let (low, high) =
        (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max));
    if low > 0.0 && low.is_finite() && high / low > wide { Scale::Log } else { Scale::Linear }
}
