//! Repeated runs of one load and their variation, as tables and as JSON.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::i18n::Label;
use super::language::Language;
use super::load_name::{load_name, short_load};
use super::table::{AT_MOST_SIGN, Align, Decimals, Table, digits};
use crate::finding::Figure as Time;
use crate::record::facts::RunFacts;
use crate::stats::time_bounds::highest_at_most_s;
use crate::stats::{Summary, comparison};

/// A figure of a run: its name in tables, which have times in milliseconds, its name in `--slo`, its unit, and its value.
type Figure = (Label, &'static str, &'static str, fn(&Summary) -> Option<f64>);

/// The figures whose spread is shown.
const FIGURES: [Figure; 8] = [
    (Label::Rps, "rps", "req/s", |s| s.throughput.requests_per_s),
    (Label::OutputTokPerS, "tps", "tok/s", |s| s.throughput.output_tokens_per_s),
    (Label::AvgTtftMs, "avg_ttft", "s", |s| s.series.ttft_s.mean),
    (Label::P99TtftMs, "p99_ttft", "s", |s| s.series.ttft_s.value(990)),
    (Label::AvgTpotMs, "avg_tpot", "s", |s| s.series.tpot_s.mean),
    (Label::P99TpotMs, "p99_tpot", "s", |s| s.series.tpot_s.value(990)),
    (Label::AvgLatencyMs, "avg_latency", "s", |s| s.series.latency_s.mean),
    (Label::P99LatencyMs, "p99_latency", "s", |s| s.series.latency_s.value(990)),
];

/// A run and its database.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<'a> {
    pub summary: &'a Summary,
    pub database: &'a Path,
}

/// The distribution of a figure over the runs of one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Sample standard deviation; `None` for a single run.
    pub deviation: Option<f64>,
    /// Half the width of the mean's 95 % confidence interval; `None` for a single run.
    pub half_width: Option<f64>,
}

/// The time of a figure that is a p99.
fn p99_time(label: Label) -> Option<Time> {
    match label {
        Label::P99TtftMs => Some(Time::Ttft),
        Label::P99TpotMs => Some(Time::Tpot),
        Label::P99LatencyMs => Some(Time::Latency),
        _ => None,
    }
}

/// The highest upper bound of a p99 that the client's error exceeds in one of the runs, seconds: all that is known of it.
fn upper_bound_s(runs: &[&Summary], figure: &Figure) -> Option<f64> {
    highest_at_most_s(runs.iter().copied(), p99_time(figure.0)?, 990)
}

/// Whether a table of these runs has an upper bound in place of a figure.
pub(crate) fn has_bounds(runs: &[&Summary]) -> bool {
    let is_bounded = |group: &Vec<&Summary>| FIGURES.iter().any(|figure| upper_bound_s(group, figure).is_some());
    groups(runs).iter().filter(|group| group.len() > 1).any(is_bounded)
}

impl Spread {
    /// `None` if no run has the figure.
    pub(crate) fn compute(runs: &[&Summary], figure: impl Fn(&Summary) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        let (mean, deviation, half_width) = comparison::mean_of_repeats(&values)?;
        Some(Spread { mean, low, high, deviation, half_width })
    }

    /// Standard deviation over mean.
    pub(crate) fn variation(&self) -> Option<f64> {
        self.deviation.filter(|_| self.mean != 0.0).map(|deviation| deviation / self.mean.abs())
    }

    /// Highest minus lowest value in percent of the mean.
    pub(crate) fn percent(&self) -> Option<f64> {
        (self.mean != 0.0).then(|| (self.high - self.low) / self.mean.abs() * 100.0)
    }
}

/// Whether two runs belong to one call and offered the same load.
pub(crate) fn are_repeats(a: &Summary, b: &Summary) -> bool {
    let load = |s: &Summary| {
        let f = &s.facts;
        (f.mode, f.parallel, f.rate_per_s.map(f64::to_bits), f.arrival.clone(), f.requests, f.duration_ns)
    };
    a.facts.request_id_prefix == b.facts.request_id_prefix && load(a) == load(b)
}

/// The runs grouped by load, in the order of the first run of each load.
pub fn groups<'a>(runs: &[&'a Summary]) -> Vec<Vec<&'a Summary>> {
    grouped(runs, |run| run)
}

fn grouped<T: Copy>(runs: &[T], summary: fn(&T) -> &Summary) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| are_repeats(summary(&group[0]), summary(run))) {
            Some(group) => group.push(*run),
            None => groups.push(vec![*run]),
        }
    }
    groups
}

/// For each load with several runs its name and a table: the mean of each figure with its 95 % confidence interval, the
/// coefficient of variation, and the extremes. The last columns can be left out on a narrow screen.
pub fn tables(runs: &[&Summary], language: Language) -> Vec<(String, Table)> {
    let groups = groups(runs);
    let of_group = |group: &Vec<&Summary>| {
        let count = format!("{} {}", group.len(), language.pick("runs", "次测试"));
        (format!("{}, {count}", load_name(&group[0].facts, language)), table(group, language))
    };
    groups.iter().filter(|group| group.len() > 1).map(of_group).collect()
}

fn table(group: &[&Summary], language: Language) -> Table {
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |value| format!("{value:.1}"));
    let row = |of: Figure| {
        let (name, _, unit, figure) = of;
        let factor = if unit == "s" { 1e3 } else { 1.0 };
        if let Some(bound) = upper_bound_s(group, &of) {
            let only = [name.text(language).to_string(), bound_text(bound)];
            return Some(only.into_iter().chain(vec!["-".to_string(); 5]).collect());
        }
        let spread = Spread::compute(group, |run| figure(run).map(|value| value * factor))?;
        let decimals = decimals(spread.mean);
        let text = |value: f64| format!("{value:.decimals$}");
        Some(vec![
            name.text(language).to_string(),
            text(spread.mean),
            spread.half_width.map_or_else(|| "-".to_string(), text),
            percent(spread.variation().map(|share| share * 100.0)),
            text(spread.low),
            text(spread.high),
            percent(spread.percent()),
        ])
    };
    let head = [
        language.pick("Figure", "指标"),
        Label::Mean.text(language),
        language.pick("± 95 % CI", "± 95 % 置信区间"),
        language.pick("CV (%)", "变异系数 (%)"),
        language.pick("Lowest", "最低"),
        language.pick("Highest", "最高"),
        language.pick("Spread (%)", "极差 (%)"),
    ];
    Table {
        head: head.map(str::to_string).to_vec(),
        aligns: [vec![Align::Left], vec![Align::Right; 6]].concat(),
        rows: FIGURES.into_iter().filter_map(row).collect(),
        grid: false,
    }
}

/// An upper bound in milliseconds.
fn bound_text(seconds: f64) -> String {
    let ms = seconds * 1e3;
    format!("{AT_MOST_SIGN} {}", Decimals::for_digits([ms], 0).ceil(ms))
}

/// The decimals with which a mean has at least three digits; its interval and its extremes have as many.
fn decimals(mean: f64) -> usize {
    digits(mean, 0).split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

/// One row for each load that has several runs: the means of the most important figures, each with its 95 % confidence
/// interval. `None` without such a load.
pub(crate) fn glance(runs: &[&Summary]) -> Option<Table> {
    const SHOWN: [&str; 4] = ["rps", "tps", "p99_ttft", "p99_latency"];
    let groups: Vec<Vec<&Summary>> = groups(runs).into_iter().filter(|group| group.len() > 1).collect();
    let shown = FIGURES.iter().filter(|figure| SHOWN.contains(&figure.1));
    // Embeddings and rankings have no output tokens and no TTFT.
    let known: Vec<&Figure> = shown.filter(|figure| runs.iter().any(|run| figure.3(run).is_some())).collect();
    let spread = |group: &[&Summary], figure: &Figure| {
        let factor = if figure.2 == "s" { 1e3 } else { 1.0 };
        Spread::compute(group, |run| figure.3(run).map(|value| value * factor))
    };
    // The cells of a column have the same decimals.
    let column = |figure: &&Figure| -> Vec<String> {
        let spreads: Vec<Option<Spread>> = groups.iter().map(|group| spread(group, figure)).collect();
        let bounds = groups.iter().map(|group| upper_bound_s(group, figure));
        let decimals = Decimals::for_digits(spreads.iter().flatten().map(|spread| spread.mean), 0);
        let text = |Spread { mean, half_width, .. }: &Spread| {
            let interval = half_width.map_or_else(String::new, |half| format!(" ± {}", decimals.text(half)));
            format!("{}{interval}", decimals.text(*mean))
        };
        let cell = |(spread, bound): (&Option<Spread>, Option<f64>)| match bound {
            Some(bound) => bound_text(bound),
            None => spread.as_ref().map_or_else(|| "-".to_string(), text),
        };
        spreads.iter().zip(bounds).map(cell).collect()
    };
    let columns: Vec<Vec<String>> = known.iter().map(column).collect();
    let row = |(place, group): (usize, &Vec<&Summary>)| {
        let first = [short_load(&group[0].facts), group.len().to_string()];
        first.into_iter().chain(columns.iter().map(|column| column[place].clone())).collect()
    };
    let names = known.iter().map(|figure| figure.0.en().to_string());
    let head: Vec<String> = ["Load".to_string(), "Runs".to_string()].into_iter().chain(names).collect();
    let table = Table {
        aligns: vec![Align::Right; head.len()],
        head,
        rows: groups.iter().enumerate().map(row).collect(),
        grid: false,
    };
    (!groups.is_empty()).then_some(table)
}

/// The content of `repeats_summary.json`. Paths are relative to `root`, the folder of this file; `complete` means that
/// no run is missing.
pub fn json(runs: &[Repeat<'_>], root: &Path, complete: bool) -> Json {
    let loads = grouped(runs, |run| run.summary);
    json!({
        "complete": complete,
        "loads": loads.iter().map(|runs| load_json(runs, root)).collect::<Vec<_>>(),
    })
}

fn load_json(runs: &[Repeat<'_>], root: &Path) -> Json {
    let facts = &runs[0].summary.facts;
    let summaries: Vec<&Summary> = runs.iter().map(|run| run.summary).collect();
    let figures: Map<String, Json> =
        FIGURES.into_iter().map(|figure| (figure.1.to_string(), figure_json(&summaries, figure))).collect();
    let mut out = load(facts);
    out.insert("runs".to_string(), runs.iter().map(|run| run_json(run, root)).collect());
    out.insert("figures".to_string(), Json::Object(figures));
    Json::Object(out)
}

/// The load that a run offered.
pub(super) fn load(facts: &RunFacts) -> Map<String, Json> {
    let members = [
        ("mode", json!(facts.mode)),
        ("parallel", json!(facts.parallel)),
        ("rate", json!(facts.rate_per_s)),
        ("arrival", json!(facts.arrival)),
        ("number", json!(facts.requests)),
        ("duration", json!(facts.duration_ns.map(|ns| ns as f64 / 1e9))),
    ];
    members.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn run_json(run: &Repeat<'_>, root: &Path) -> Json {
    let database = run.database.strip_prefix(root).unwrap_or(run.database);
    let counts = &run.summary.counts;
    json!({
        "folder": database.parent().map(|folder| folder.to_string_lossy()),
        "database": database.to_string_lossy(),
        "total_requests": counts.scheduled,
        "succeeded_requests": counts.ok,
        "interrupted": run.summary.end.as_ref().is_none_or(|end| end.interrupted),
        "void": run.summary.is_void(),
    })
}

fn figure_json(runs: &[&Summary], of_runs: Figure) -> Json {
    let (_, _, unit, figure) = of_runs;
    let values: Vec<Option<f64>> = runs.iter().map(|run| figure(run)).collect();
    let spread = Spread::compute(runs, figure);
    let of = |value: fn(&Spread) -> Option<f64>| spread.as_ref().and_then(value);
    json!({
        "unit": unit,
        "values": values,
        "mean": of(|s| Some(s.mean)),
        "standard_deviation": of(|s| s.deviation),
        "coefficient_of_variation": of(Spread::variation),
        "ci95_low": of(|s| Some(s.mean - s.half_width?)),
        "ci95_high": of(|s| Some(s.mean + s.half_width?)),
        "lowest": of(|s| Some(s.low)),
        "highest": of(|s| Some(s.high)),
        "upper_bound": upper_bound_s(runs, &of_runs),
    })
}
