//! Runs side by side: every figure of each against the first, with how sure the difference is.

use super::Measured;
use super::advice::load_name;
use super::html::{escape, numbers_table, wrap as page};
use super::language::Language;
use super::table::{Align, Table, cut, number, wrap};
use crate::stats::difference::{self, Difference};
use crate::stats::gather::Sample;
use crate::stats::quantile::Series;

/// Narrower screens get lines of this length all the same.
const NARROWEST: usize = 80;

/// A run with the name under which it is shown.
pub struct Named<'a> {
    pub name: String,
    pub run: &'a Measured,
}

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub figure: &'static str,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// `None` where either run has too few samples to say how sure it is.
    pub difference: Option<Difference>,
    /// More is better.
    pub more_is_better: bool,
}

impl Row {
    /// The change in percent of the first run's value.
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
pub fn rows(a: &Measured, b: &Measured) -> Vec<Row> {
    let rate = |figure, of: fn(&Measured) -> Option<f64>, amount: fn(&Sample) -> f64| Row {
        figure,
        a: of(a),
        b: of(b),
        difference: difference::of_means(
            &difference::rates(&a.samples, amount),
            &difference::rates(&b.samples, amount),
        ),
        more_is_better: true,
    };
    let mut rows = vec![
        rate("Requests/s", |run| run.summary.throughput.requests_per_s, |_| 1.0),
        rate(
            "Output tok/s",
            |run| run.summary.throughput.output_tokens_per_s,
            |sample| f64::from(sample.output_tokens.unwrap_or(0)),
        ),
    ];
    type Times = (&'static str, [&'static str; 3], fn(&Measured) -> &Series, Option<fn(&Sample) -> Option<f64>>);
    let times: [Times; 4] = [
        (
            "Average TTFT (s)",
            ["P50 TTFT (s)", "P90 TTFT (s)", "P99 TTFT (s)"],
            |run| &run.summary.series.ttft_s,
            Some(|sample| sample.ttft.map(|ns| ns as f64 / 1e9)),
        ),
        ("Average ITL (s)", ["P50 ITL (s)", "P90 ITL (s)", "P99 ITL (s)"], |run| &run.summary.series.itl_s, None),
        (
            "Average TPOT (s)",
            ["P50 TPOT (s)", "P90 TPOT (s)", "P99 TPOT (s)"],
            |run| &run.summary.series.tpot_s,
            Some(|sample| sample.tpot.map(|ns| ns / 1e9)),
        ),
        (
            "Average latency (s)",
            ["P50 latency (s)", "P90 latency (s)", "P99 latency (s)"],
            |run| &run.summary.series.latency_s,
            Some(|sample| Some(sample.latency as f64 / 1e9)),
        ),
    ];
    for (mean_name, names, series, value) in times {
        let samples = |run: &Measured, value: fn(&Sample) -> Option<f64>| {
            run.samples.iter().filter(|sample| sample.ok).filter_map(value).collect::<Vec<f64>>()
        };
        rows.push(Row {
            figure: mean_name,
            a: series(a).mean,
            b: series(b).mean,
            difference: value.and_then(|value| difference::of_means(&samples(a, value), &samples(b, value))),
            more_is_better: false,
        });
        for (figure, per_mille) in names.into_iter().zip([500, 900, 990]) {
            rows.push(quantile_row(figure, series(a), series(b), per_mille));
        }
    }
    rows
}

fn quantile_row(figure: &'static str, a: &Series, b: &Series, per_mille: u32) -> Row {
    let pair = a.at(per_mille).zip(b.at(per_mille));
    let known = pair.filter(|(a, b)| a.interval.is_some() && b.interval.is_some());
    let difference = known.map(|(a, b)| difference::of_quantiles(a, b));
    Row { figure, a: a.value(per_mille), b: b.value(per_mille), difference, more_is_better: false }
}

/// The tables as text: the first run against each other one.
pub fn render(runs: &[Named<'_>], width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut out = "Runs:\n".to_string();
    for (number, named) in runs.iter().enumerate() {
        let facts = &named.run.summary.facts;
        let line = format!("{} ({}, {})", named.name, facts.model, load_name(facts, Language::En));
        out.push_str(&format!("  {} {}\n", letter(number), cut(&line, width - 5)));
    }
    let Some((first, others)) = runs.split_first() else { return out };
    for (number, other) in others.iter().enumerate() {
        let name = letter(number + 1);
        let table = Table {
            head: heads(&name, Language::En),
            aligns: [vec![Align::Left], vec![Align::Right; 5], vec![Align::Left]].concat(),
            rows: rows(first.run, other.run).iter().map(|row| cells(row, Language::En)).collect(),
            grid: false,
        };
        out.push_str(&format!("\n{name} against A:\n{}", fitting(table, width)));
    }
    out + &wrap("", NOTE_EN, width)
}

const NOTE_EN: &str = "Intervals are of these very runs. What differs from one run to the next by itself they do not \
                       know: repeat runs before trusting a small difference.";
const NOTE_ZH: &str = "区间只针对这几次测试；测试之间自身的波动不在其内。差异较小时请重复测试。";

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
        row.figure.to_string(),
        optional(row.a),
        optional(row.b),
        optional(row.a.zip(row.b).map(|(a, b)| b - a)),
        row.percent().map_or_else(|| "-".to_string(), |percent| format!("{percent:+.1}")),
        interval,
        row.verdict(language).to_string(),
    ]
}

/// The same as a page.
pub fn html(runs: &[Named<'_>], language: Language) -> String {
    let title = language.pick("Comparison of runs", "测试对比");
    let mut body = format!("<h1>{title}</h1><ul>");
    for (number, named) in runs.iter().enumerate() {
        let facts = &named.run.summary.facts;
        let line = format!("{}: {} ({}, {})", letter(number), named.name, facts.model, load_name(facts, language));
        body.push_str(&format!("<li>{}</li>", escape(&line)));
    }
    body.push_str("</ul>");
    if let Some((first, others)) = runs.split_first() {
        for (number, other) in others.iter().enumerate() {
            let name = letter(number + 1);
            let class = |row: &Row| match row.difference.filter(Difference::is_sure) {
                Some(difference) if (difference.value > 0.0) == row.more_is_better => "good",
                Some(_) => "bad",
                None => "",
            };
            let rows = rows(first.run, other.run);
            let rows: Vec<(&str, Vec<String>)> = rows.iter().map(|row| (class(row), cells(row, language))).collect();
            let against = language.pick("against", "对比");
            body.push_str(&format!("<h2>{name} {against} A</h2>{}", numbers_table(&heads(&name, language), &rows)));
        }
    }
    body.push_str(&format!("<p class=\"note\">{}</p>", language.pick(NOTE_EN, NOTE_ZH)));
    page(title, &body, language)
}
