//! The overview of a sweep on the page: a row for each load, the best loads, and recommendations.

use std::fmt::Write;

use super::bounds::at_most_s;
use super::elements::{at_most_note, charts, few_note, has_bounds, has_marks, list, table};
use super::escape::escape;
use super::load_plots::sweep_charts;
use super::parts::finding;
use super::words::{Contents, Words, both};
use crate::finding::Figure;
use crate::record::facts::Mode;
use crate::report::advice::{Grade, best, recommendations, success_rate};
use crate::report::early_end;
use crate::report::findings::of_runs;
use crate::report::i18n::Label;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::repeats;
use crate::report::table::{Decimals, digits, mark, percent_down};
use crate::stats::Summary;
use crate::stats::quantile::Series;

/// A cell of the table of loads.
enum Cell {
    Unknown,
    Value(f64),
    /// A percentile with too few samples beyond it.
    Few(f64),
    /// Only its upper bound is known.
    AtMost(f64),
    /// The lower and the upper end, with too few samples beyond them.
    Range(f64, f64, bool),
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Cell {
        value.map_or(Cell::Unknown, Cell::Value)
    }
}

impl Cell {
    fn values(&self) -> Vec<f64> {
        match *self {
            Cell::Unknown => Vec::new(),
            Cell::Value(value) | Cell::Few(value) | Cell::AtMost(value) => vec![value],
            Cell::Range(low, high, _) => vec![low, high],
        }
    }

    fn text(&self, decimals: Decimals) -> String {
        match *self {
            Cell::Unknown => "-".to_string(),
            Cell::Value(value) => decimals.text(value),
            Cell::Few(value) => decimals.text(value) + mark(true),
            Cell::AtMost(value) => format!("≤ {}", decimals.ceil(value)),
            Cell::Range(low, high, few) => format!("{} … {}{}", decimals.text(low), decimals.text(high), mark(few)),
        }
    }
}

/// A column of the table of loads: its title, the decimals that its values have at least, and the cell of a run.
type Column = (Label, usize, fn(&Summary) -> Cell);

const OF_TEXT: [Column; 9] = [
    (Label::Rps, 2, |s| s.throughput.requests_per_s.into()),
    (Label::OutputTokPerS, 1, |s| s.throughput.output_tokens_per_s.into()),
    (Label::PerUser, 1, |s| s.per_user().into()),
    (Label::AvgLatencyMs, 2, |s| milliseconds(s, Figure::Latency, None)),
    (Label::P99LatencyMs, 2, |s| milliseconds(s, Figure::Latency, Some(990))),
    (Label::AvgTtftMs, 2, |s| milliseconds(s, Figure::Ttft, None)),
    (Label::P99TtftMs, 2, |s| milliseconds(s, Figure::Ttft, Some(990))),
    (Label::AvgTpotMs, 2, |s| milliseconds(s, Figure::Tpot, None)),
    (Label::P99TpotMs, 2, |s| milliseconds(s, Figure::Tpot, Some(990))),
];

/// The columns of embeddings and rankings.
const WITHOUT_TEXT: [Column; 4] =
    [OF_TEXT[0], (Label::InputTokPerS, 1, |s| s.throughput.input_tokens_per_s.into()), OF_TEXT[3], OF_TEXT[4]];

/// Only with `--gpus`.
const PER_GPU: Column = (Label::PerGpu, 1, |s| s.per_gpu().into());

/// The overview of a sweep: a row for each load, the best loads, recommendations, and the load curves.
pub fn overview(runs: &[&Summary], contents: &mut Contents) -> String {
    let mut columns = match runs.iter().any(|run| run.generates_text()) {
        true => OF_TEXT.to_vec(),
        false => WITHOUT_TEXT.to_vec(),
    };
    if runs.iter().any(|run| run.per_gpu().is_some()) {
        columns.insert(2, PER_GPU);
    }
    let mut out = contents.heading("h2", "loads", Words::new("Loads", "各档负载"));
    out.push_str(&both(|language| load_table(runs, &columns, language)));
    out.push_str(&both(|language| conclusions(runs, language)));
    out.push_str(&contents.heading("h2", "load-curves", Words::new("Load curves", "负载曲线")));
    out + &charts(&sweep_charts(runs))
}

fn load_table(runs: &[&Summary], columns: &[Column], language: Language) -> String {
    // With few requests, the rate of a random schedule can differ much from its nominal rate.
    let scheduled = runs.iter().any(|run| run.facts.mode != Mode::Closed);
    let mut shown: Vec<(&str, Vec<String>)> = vec![(language.pick("Load", "负载"), names(runs, language))];
    if scheduled {
        let offered: Vec<Cell> = runs.iter().map(|run| run.rates.offered_per_s.into()).collect();
        shown.push((language.pick("Offered req/s", "到达率 (req/s)"), equal_decimals(&offered, 2)));
    }
    for (label, least, cell) in columns {
        let cells: Vec<Cell> = runs.iter().map(|run| cell(run)).collect();
        shown.push((label.text(language), equal_decimals(&cells, *least)));
    }
    let percent = |share: f64| format!("{} %", percent_down(share));
    let success = |run: &&Summary| success_rate(run).map_or_else(|| "-".to_string(), percent);
    shown.push((language.pick("Success", "成功率"), runs.iter().map(success).collect()));
    let head: Vec<String> = shown.iter().map(|column| column.0.to_string()).collect();
    let row = |(place, run): (usize, &&Summary)| {
        (class(run), shown.iter().map(|column| column.1[place].clone()).collect::<Vec<String>>())
    };
    let rows: Vec<(&str, Vec<String>)> = runs.iter().enumerate().map(row).collect();
    let mut out = table(&head, &rows);
    if rows.iter().any(|row| has_marks(&row.1)) {
        out.push_str(&few_note(language));
    }
    if rows.iter().any(|row| has_bounds(&row.1)) {
        out.push_str(&at_most_note(language));
    }
    out
}

fn conclusions(runs: &[&Summary], language: Language) -> String {
    let mut out = format!(
        "<div class=\"two\"><div><h3>{}</h3>{}</div><div><h3>{}</h3>{}</div></div>{}",
        language.pick("Best configurations", "最佳配置"),
        list(&best_lines(runs, language)),
        language.pick("Recommendations", "建议"),
        list(&recommendations(runs, language)),
        findings_of_runs(runs, language),
    );
    for (name, spread) in repeats::tables(runs, language) {
        let rows: Vec<(&str, Vec<String>)> = spread.rows.into_iter().map(|row| ("", row)).collect();
        let title = language.pick("From run to run: ", "重复测试的波动：");
        let _ = write!(out, "<h3>{title}{}</h3>{}", escape(&name), table(&spread.head, &rows));
    }
    if repeats::has_bounds(runs) {
        out.push_str(&at_most_note(language));
    }
    out
}

/// The cells of a column as text, with the same decimals.
fn equal_decimals(cells: &[Cell], least: usize) -> Vec<String> {
    let decimals = Decimals::for_digits(cells.iter().flat_map(Cell::values), least);
    cells.iter().map(|cell| cell.text(decimals)).collect()
}

/// The mean or a percentile of a time in milliseconds.
fn milliseconds(s: &Summary, time: Figure, per_mille: Option<u32>) -> Cell {
    if let Some(bound) = per_mille.and_then(|per_mille| at_most_s(s, time, per_mille)) {
        return Cell::AtMost(bound * 1e3);
    }
    let value = |series: &Series| match per_mille {
        Some(per_mille) => series.value(per_mille).map(|seconds| seconds * 1e3),
        None => series.mean.map(|seconds| seconds * 1e3),
    };
    let (low, high) = super::bounds::ends(s, time);
    let few = per_mille.and_then(|at| low.at(at)).is_some_and(|quantile| quantile.few);
    match (value(low), value(high)) {
        (Some(low), Some(high)) if low != high => Cell::Range(low, high, few),
        (Some(value), _) if few => Cell::Few(value),
        (value, _) => value.into(),
    }
}

fn best_lines(runs: &[&Summary], language: Language) -> Vec<String> {
    let (fastest, shortest) = best(runs);
    let mut lines = Vec::new();
    if let Some(best) = fastest {
        let name = language.pick("Highest RPS: ", "RPS 最高：");
        lines.push(format!("{name}{} ({} req/s)", load_name(&best.run.facts, language), digits(best.value, 2)));
    }
    if let Some(best) = shortest {
        let name = language.pick("Lowest latency: ", "时延最低：");
        lines.push(format!("{name}{} ({} ms)", load_name(&best.run.facts, language), digits(best.value * 1e3, 1)));
    }
    if lines.is_empty() {
        lines.push(language.pick("None: no load can be used.", "无：没有可用的负载。").to_string());
    }
    lines
}

/// The findings of the runs, whose sections are collapsed.
fn findings_of_runs(runs: &[&Summary], language: Language) -> String {
    let shared = of_runs(runs, language);
    let all: String = shared.iter().map(|one| finding(&one.entry, Some(&one.loads), language)).collect();
    let title = language.pick("Findings of single runs", "各次测试的诊断");
    if all.is_empty() { all } else { format!("<h3>{title}</h3>{all}") }
}

/// The names of the loads; runs that are void or ended early are marked.
fn names(runs: &[&Summary], language: Language) -> Vec<String> {
    runs.iter().map(|run| load_name(&run.facts, language) + &early_end::mark(run, language)).collect()
}

/// The CSS class of the row of a run.
fn class(run: &Summary) -> &'static str {
    match Grade::from_share(success_rate(run)) {
        Grade::Good => "good",
        Grade::Passable => "passable",
        Grade::Bad => "bad",
    }
}
