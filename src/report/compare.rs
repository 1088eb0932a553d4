//! Runs side by side: every figure of each against the first, with how sure the difference is.

use super::Measured;
use super::advice::load_name;
use super::html::{escape, numbers_table, word, wrap as page};
use super::language::Language;
use super::table::{Align, Table, cut, number, wrap};
use crate::stats::Summary;
use crate::stats::difference::{self, Difference};
use crate::stats::gather::Sample;
use crate::stats::quantile::Series;

/// Narrower screens get lines of this length all the same.
const NARROWEST: usize = 80;

/// One side of a comparison: a run, or several of one load.
pub struct Side<'a> {
    pub name: String,
    /// At least one.
    pub runs: Vec<&'a Measured>,
}

/// One figure of two sides; of repeated runs it is the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub figure: &'static str,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// `None` where either side has too few samples to say how sure it is.
    pub difference: Option<Difference>,
    /// More is better.
    pub more_is_better: bool,
}

impl Row {
    /// The change in percent of the first side's value.
    pub fn percent(&self) -> Option<f64> {
        self.a.zip(self.b).filter(|(a, _)| *a != 0.0).map(|(a, b)| (b - a) / a * 100.0)
    }

    /// What the interval says, in a word.
    fn verdict(&self, language: Language) -> &'static str {
        match self.difference {
            None => language.pick("not known", "未知"),
            Some(difference) if !difference.is_sure() => language.pick("no sure difference", "无显著差异"),
            Some(difference) if (difference.value > 0.0) == self.more_is_better => language.pick("better", "更好"),
            Some(_) => language.pick("worse", "更差"),
        }
    }
}

/// Every figure of `b` against `a`.
pub fn rows(a: &Side<'_>, b: &Side<'_>) -> Vec<Row> {
    let single = |side: &Side<'_>| side.runs.len() == 1;
    // What the runs say of themselves counts only where there is nothing that says how they vary.
    let repeated = !(single(a) && single(b));
    let row = |figure: &'static str, of: &dyn Fn(&Summary) -> Option<f64>, within: &dyn Fn() -> Option<Difference>| {
        let values = |side: &Side<'_>| -> Vec<f64> { side.runs.iter().filter_map(|run| of(&run.summary)).collect() };
        let (va, vb) = (values(a), values(b));
        let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let difference = if repeated { difference::of_runs(&va, &vb) } else { within() };
        Row { figure, a: mean(&va), b: mean(&vb), difference, more_is_better: false }
    };
    let (run_a, run_b) = (a.runs[0], b.runs[0]);
    let rate = |figure, of: &dyn Fn(&Summary) -> Option<f64>, amount: fn(&Sample) -> f64| {
        let rates = |run: &Measured| difference::rates(&run.samples, amount);
        Row { more_is_better: true, ..row(figure, of, &|| difference::of_means(&rates(run_a), &rates(run_b))) }
    };
    let mut rows = vec![
        rate("Requests/s", &|s| s.throughput.requests_per_s, |_| 1.0),
        rate("Output tok/s", &|s| s.throughput.output_tokens_per_s, |s| f64::from(s.output_tokens.unwrap_or(0))),
    ];
    for time in &TIMES {
        let series = |run: &Measured| (time.series)(&run.summary).clone();
        let within = || (time.mean_difference)(&run_a.samples, &run_b.samples);
        rows.push(row(time.mean, &|s| (time.series)(s).mean, &within));
        for (figure, per_mille) in time.quantiles.into_iter().zip([500, 900, 990]) {
            let within = || quantile_difference(&series(run_a), &series(run_b), per_mille);
            rows.push(row(figure, &|s| (time.series)(s).value(per_mille), &within));
        }
    }
    rows
}

/// A time with its figures.
struct Time {
    mean: &'static str,
    quantiles: [&'static str; 3],
    series: fn(&Summary) -> &Series,
    mean_difference: fn(&[Sample], &[Sample]) -> Option<Difference>,
}

const TIMES: [Time; 4] = [
    Time {
        mean: "Average TTFT (s)",
        quantiles: ["P50 TTFT (s)", "P90 TTFT (s)", "P99 TTFT (s)"],
        series: |s| &s.series.ttft_s,
        mean_difference: |a, b| of_means(a, b, |sample| sample.ttft.map(|ns| ns as f64)),
    },
    Time {
        mean: "Average ITL (s)",
        quantiles: ["P50 ITL (s)", "P90 ITL (s)", "P99 ITL (s)"],
        series: |s| &s.series.itl_s,
        mean_difference: |a, b| difference::of_ratios(&gaps(a), &gaps(b)),
    },
    Time {
        mean: "Average TPOT (s)",
        quantiles: ["P50 TPOT (s)", "P90 TPOT (s)", "P99 TPOT (s)"],
        series: |s| &s.series.tpot_s,
        mean_difference: |a, b| of_means(a, b, |sample| sample.tpot),
    },
    Time {
        mean: "Average latency (s)",
        quantiles: ["P50 latency (s)", "P90 latency (s)", "P99 latency (s)"],
        series: |s| &s.series.latency_s,
        mean_difference: |a, b| of_means(a, b, |sample| Some(sample.latency as f64)),
    },
];

/// Of a time in nanoseconds over the succeeded requests; the difference is in seconds.
fn of_means(a: &[Sample], b: &[Sample], ns: fn(&Sample) -> Option<f64>) -> Option<Difference> {
    let seconds = |samples: &[Sample]| -> Vec<f64> {
        samples.iter().filter(|sample| sample.ok).filter_map(ns).map(|ns| ns / 1e9).collect()
    };
    difference::of_means(&seconds(a), &seconds(b))
}

/// The gaps of each request: their sum in seconds, and their number.
fn gaps(samples: &[Sample]) -> Vec<(f64, f64)> {
    let with_gaps = samples.iter().filter(|sample| sample.ok && sample.gaps > 0);
    with_gaps.map(|sample| (sample.gaps_ns as f64 / 1e9, f64::from(sample.gaps))).collect()
}

fn quantile_difference(a: &Series, b: &Series, per_mille: u32) -> Option<Difference> {
    let pair = a.at(per_mille).zip(b.at(per_mille));
    let (a, b) = pair.filter(|(a, b)| a.interval.is_some() && b.interval.is_some())?;
    Some(difference::of_quantiles(a, b))
}

/// The tables as text: the first side against each other one.
pub fn render(sides: &[Side<'_>], width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut out = "Runs:\n".to_string();
    for (number, side) in sides.iter().enumerate() {
        out.push_str(&format!("  {} {}\n", letter(number), cut(&about(side, Language::En), width - 5)));
        out.push_str(&format!("    {}\n", cut_front(&side.name, width - 5)));
    }
    let Some((first, others)) = sides.split_first() else { return out };
    for (number, other) in others.iter().enumerate() {
        let name = letter(number + 1);
        let table = Table {
            head: heads(&name, Language::En),
            aligns: [vec![Align::Left], vec![Align::Right; 5], vec![Align::Left]].concat(),
            rows: rows(first, other).iter().map(|row| cells(row, Language::En)).collect(),
            grid: false,
        };
        out.push_str(&format!("\n{name} against A:\n{}", fitting(table, width)));
    }
    out + &wrap("", note(sides, Language::En), width)
}

/// The end of a path that is longer than `width` columns: there runs differ.
fn cut_front(path: &str, width: usize) -> String {
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    backwards(&cut(&backwards(path), width))
}

/// The line that introduces a side.
fn about(side: &Side<'_>, language: Language) -> String {
    let facts = &side.runs[0].summary.facts;
    let count = match (side.runs.len(), language) {
        (1, _) => String::new(),
        (count, Language::En) => format!(", {count} runs"),
        (count, Language::Zh) => format!("，{count} 次测试"),
    };
    format!("{}{count}, {}", load_name(facts, language), facts.model)
}

/// What the intervals are intervals of.
fn note(sides: &[Side<'_>], language: Language) -> &'static str {
    if sides.iter().any(|side| side.runs.len() > 1) {
        language.pick(
            "Values are means over the runs of a load, and so are percentiles. Intervals are from run to run (Welch's t); \
             a single run is taken to vary like the repeated ones.",
            "数值为同一负载各次测试的平均（百分位亦然）；区间为测试之间的差异（Welch t）。只测一次的一方按另一方的波动计。",
        )
    } else {
        language.pick(
            "Intervals are of these very runs. What differs from one run to the next by itself they do not know: use \
             --repeat before trusting a small difference.",
            "区间只针对这几次测试；测试之间自身的波动不在其内。差异较小时请用 --repeat 重复测试。",
        )
    }
}

/// Leaves out the interval, then the difference, where the table would not fit; percent and verdict stay.
fn fitting(mut table: Table, width: usize) -> String {
    for column in [5, 3] {
        if table.width() > width {
            table.head.remove(column);
            table.aligns.remove(column);
            table.rows.iter_mut().for_each(|row| drop(row.remove(column)));
        }
    }
    table.render()
}

/// A for the first run, B for the second, and so on.
fn letter(number: usize) -> String {
    match u8::try_from(number) {
        Ok(number) if number < 26 => char::from(b'A' + number).to_string(),
        _ => format!("#{}", number + 1),
    }
}

fn heads(name: &str, language: Language) -> Vec<String> {
    let difference = language.pick("difference", "差异");
    let verdict = format!("{name} {}", language.pick("is", "的结论"));
    let figure = language.pick("Figure", "指标").to_string();
    let interval = language.pick("95 % sure between", "95 % 区间").to_string();
    vec![
        figure,
        "A".to_string(),
        name.to_string(),
        format!("{name} − A, {difference}"),
        "%".to_string(),
        interval,
        verdict,
    ]
}

fn cells(row: &Row, language: Language) -> Vec<String> {
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_string(), number);
    let interval = row.difference.map_or_else(
        || "-".to_string(),
        |difference| format!("{} .. {}", optional(difference.low), optional(difference.high)),
    );
    vec![
        word(row.figure, language).to_string(),
        optional(row.a),
        optional(row.b),
        optional(row.a.zip(row.b).map(|(a, b)| b - a)),
        row.percent().map_or_else(|| "-".to_string(), |percent| format!("{percent:+.1}")),
        interval,
        row.verdict(language).to_string(),
    ]
}

/// The same as a page.
pub fn html(sides: &[Side<'_>], language: Language) -> String {
    let title = language.pick("Comparison of runs", "测试对比");
    let mut body = format!("<h1>{title}</h1><ul>");
    for (number, side) in sides.iter().enumerate() {
        let line = format!("{}: {} ({})", letter(number), about(side, language), side.name);
        body.push_str(&format!("<li>{}</li>", escape(&line)));
    }
    body.push_str("</ul>");
    if let Some((first, others)) = sides.split_first() {
        for (number, other) in others.iter().enumerate() {
            let name = letter(number + 1);
            let class = |row: &Row| match row.difference.filter(Difference::is_sure) {
                Some(difference) if (difference.value > 0.0) == row.more_is_better => "good",
                Some(_) => "bad",
                None => "",
            };
            let rows = rows(first, other);
            let rows: Vec<(&str, Vec<String>)> = rows.iter().map(|row| (class(row), cells(row, language))).collect();
            let against = language.pick("against", "对比");
            body.push_str(&format!("<h2>{name} {against} A</h2>{}", numbers_table(&heads(&name, language), &rows)));
        }
    }
    body.push_str(&format!("<p class=\"note\">{}</p>", note(sides, language)));
    page(title, &body, language)
}
