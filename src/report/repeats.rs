//! Runs that measured one load several times, and how much they differ.

use super::advice::load_name;
use super::html::word;
use super::language::Language;
use super::table::{Align, Table, number};
use crate::stats::Summary;

/// A figure of a run by its name.
type Figure = (&'static str, fn(&Summary) -> Option<f64>);

/// The figures whose spread is shown.
const FIGURES: [Figure; 8] = [
    ("RPS", |s| s.throughput.requests_per_s),
    ("Output tok/s", |s| s.throughput.output_tokens_per_s),
    ("Avg TTFT (s)", |s| s.series.ttft_s.mean),
    ("P99 TTFT (s)", |s| s.series.ttft_s.value(990)),
    ("Avg TPOT (s)", |s| s.series.tpot_s.mean),
    ("P99 TPOT (s)", |s| s.series.tpot_s.value(990)),
    ("Avg latency (s)", |s| s.series.latency_s.mean),
    ("P99 latency (s)", |s| s.series.latency_s.value(990)),
];

/// A figure over the runs of one load that have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// `None` when no run has the figure.
    pub fn of(runs: &[&Summary], figure: fn(&Summary) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        Some(Spread { mean: values.iter().sum::<f64>() / values.len() as f64, low, high })
    }

    /// From the lowest to the highest, in percent of the mean.
    pub fn percent(&self) -> Option<f64> {
        (self.mean != 0.0).then(|| (self.high - self.low) / self.mean.abs() * 100.0)
    }
}

/// Whether two runs of one call offered the same load.
pub fn are_repeats(a: &Summary, b: &Summary) -> bool {
    let load = |s: &Summary| {
        let f = &s.facts;
        (f.mode, f.parallel, f.rate_per_s.map(f64::to_bits), f.arrival.clone(), f.requests, f.duration_ns)
    };
    a.facts.request_id_prefix == b.facts.request_id_prefix && load(a) == load(b)
}

/// The runs of each load together, loads in the order in which they first ran.
pub fn groups<'a>(runs: &[&'a Summary]) -> Vec<Vec<&'a Summary>> {
    let mut groups: Vec<Vec<&'a Summary>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| are_repeats(group[0], run)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// For each load with several runs its name, and a table with mean, lowest and highest of its figures.
pub fn tables(runs: &[&Summary], language: Language) -> Vec<(String, Table)> {
    let groups = groups(runs);
    let of_group = |group: &Vec<&Summary>| {
        let count = format!("{} {}", group.len(), language.pick("runs", "次测试"));
        (format!("{}, {count}", load_name(&group[0].facts, language)), table(group, language))
    };
    groups.iter().filter(|group| group.len() > 1).map(of_group).collect()
}

fn table(group: &[&Summary], language: Language) -> Table {
    let row = |(name, figure): Figure| {
        let spread = Spread::of(group, figure)?;
        let percent = spread.percent().map_or_else(|| "-".to_string(), |percent| format!("{percent:.1} %"));
        let figures = [spread.mean, spread.low, spread.high].map(number);
        Some([&[word(name, language).to_string()], &figures[..], &[percent]].concat())
    };
    let head = [
        language.pick("Figure", "指标"),
        language.pick("Mean", "平均"),
        language.pick("Lowest", "最低"),
        language.pick("Highest", "最高"),
        language.pick("Spread", "波动"),
    ];
    Table {
        head: head.map(str::to_string).to_vec(),
        aligns: [vec![Align::Left], vec![Align::Right; 4]].concat(),
        rows: FIGURES.into_iter().filter_map(row).collect(),
        grid: false,
    }
}
