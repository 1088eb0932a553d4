//! A run's tables as text for a screen of a given width.

use std::path::Path;

use super::findings::entries;
use super::i18n::{Label, Statistic, time_name};
use super::language::Language;
use super::objective::{measured_with_bound, requests_within_note};
use super::summary_rows::{self, DATABASE_PATH, Row, StatisticValue, client_rows, documented_columns, shown_columns};
use super::table::{Align, Decimals, Milliseconds, Table, cut, few_note, in_ms, infinite_note, mark, wrap};
use super::{glance, measurement_error, server, server_timings, turns, witness};
use crate::finding::{Figure, Severity};
use crate::stats::Summary;
use crate::stats::failure_texts::FailureText;
use crate::stats::quantile::{LEVELS, Level, Quantile, Series};
use crate::stats::slo::Judged;
use crate::stats::speed::SpeedRow;
use crate::visible::{visible, visible_line};

/// Lines are at least this long, even on narrower screens.
const NARROWEST: usize = 60;
/// Text from elsewhere does not make the summary wider than this many columns.
const WIDEST: usize = 80;

/// Everything about a run: void findings, summary, failures, percentiles, the client's own figures, findings.
pub fn render(s: &Summary, width: usize) -> String {
    render_stored(s, None, width)
}

/// The same of a run in this database, whose path follows the summary.
pub fn render_stored(s: &Summary, database: Option<&Path>, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut out = String::new();
    out.push_str(&findings(s, width, "VOID: do not use these figures.", |severity| severity == Severity::Void));
    out.push_str("Benchmarking summary:\n");
    out.push_str(&with_database(summary_table(s, |_| true), database));
    out.push_str(&slo(s, width));
    out.push_str(&speed(s));
    out.push_str(&failures(s, width));
    out.push_str(&percentiles(&shown_columns(s), width));
    out.push_str(&turns::text(s, width));
    out.push_str(&intervals(s));
    out.push_str(&steady(s, width));
    out.push_str("\nClient's own figures:\n");
    out.push_str(&client_table(s).render());
    out.push_str(&measurement_error::text(s, width));
    out.push_str(&witness::text(s, width));
    out.push_str(&server::text(s, width));
    out.push_str(&server_timings::text(s, width));
    out.push_str(&findings(s, width, "\nFindings:", |severity| severity != Severity::Void));
    visible(&out).into_owned()
}

/// What a run prints: evalscope's tables, failures, and the result at a glance. The rest is in [`render`].
pub fn brief(s: &Summary, width: usize, colours: bool) -> String {
    let width = width.max(NARROWEST);
    let mut out = String::from("Benchmarking summary:\n");
    out.push_str(&summary_table(s, |row| row.brief).render());
    out.push_str(&requests_within(s, width));
    out.push_str(&speed(s));
    out.push_str(&percentiles(&documented_columns(s), width));
    out.push_str(&failures(s, width));
    out + &glance::render(s, width, colours)
}

fn summary_table(s: &Summary, wanted: impl Fn(&Row) -> bool) -> Table {
    let shown = summary_rows::summary(s).into_iter().filter(|row| row.is_shown() && wanted(row));
    Table {
        head: vec!["Key".to_string(), "Value".to_string()],
        aligns: vec![Align::Left, Align::Decimal],
        rows: shown.map(|row| vec![row.key.en().to_string(), row.value.text()]).collect(),
        grid: true,
    }
}

/// The table with the path of the database: its last row if that leaves it within [`WIDEST`], otherwise a line below it.
fn with_database(mut table: Table, database: Option<&Path>) -> String {
    let Some(path) = database.map(|path| path.display().to_string()) else { return table.render() };
    table.rows.push(vec![DATABASE_PATH.to_string(), path]);
    if table.width() <= WIDEST {
        return table.render();
    }
    let below = table.rows.pop().unwrap_or_default().join(": ");
    format!("{}{}\n", table.render(), visible_line(&below))
}

/// A line if requests are within the SLO by some of its criteria only.
fn requests_within(s: &Summary, width: usize) -> String {
    let note = s.slo.as_ref().and_then(|verdict| requests_within_note(&verdict.criteria, Language::En));
    note.map_or_else(String::new, |note| wrap("", &note, width))
}

fn slo(s: &Summary, width: usize) -> String {
    let Some(verdict) = &s.slo else { return String::new() };
    let row = |one: &Judged| {
        let measured = measured_with_bound(s, one).unwrap_or_else(|| "-".to_string());
        vec![one.criterion.with_unit(), measured, if one.met { "met" } else { "MISSED" }.to_string()]
    };
    let table = Table {
        head: ["Objective", "Measured", "Verdict"].map(str::to_string).to_vec(),
        aligns: vec![Align::Left, Align::Right, Align::Left],
        rows: verdict.criteria.iter().map(row).collect(),
        grid: false,
    };
    let mut out = format!("\nService level objectives:\n{}{}", table.render(), requests_within(s, width));
    if verdict.criteria.iter().any(|judged| judged.judged.few) {
        out.push_str(&wrap("", &format!("* {}", few_note(Language::En)), width));
    }
    if verdict.criteria.iter().any(|judged| judged.judged.value == Some(f64::INFINITY)) {
        out.push_str(&wrap("", infinite_note(Language::En), width));
    }
    out
}

fn speed(s: &Summary) -> String {
    if s.speed.is_empty() {
        return String::new();
    }
    let memory = s.gpu_memory_gb.map_or_else(|| "-".to_string(), |gb| format!("{gb:.2}"));
    let row = |row: &SpeedRow| vec![row.prompt_tokens.to_string(), format!("{:.2}", row.tokens_per_s), memory.clone()];
    let table = Table {
        head: ["Prompt Tokens", "Speed(tokens/s)", "GPU Memory(GB)"].map(str::to_string).to_vec(),
        aligns: vec![Align::Center; 3],
        rows: s.speed.iter().map(row).collect(),
        grid: false,
    };
    format!("\nSpeed Benchmark Results:\n{}", table.render())
}

fn failures(s: &Summary, width: usize) -> String {
    if s.failures.is_empty() {
        return String::new();
    }
    // The approximate width of the frame and of the two columns before.
    let text_width = width.saturating_sub(36);
    let mut rows = Vec::new();
    for failure in &s.failures {
        let line = |text: &FailureText| cut(&format!("{} x {}", text.count, text.en()), text_width);
        let mut texts = failure.texts.iter().map(line);
        let first = texts.next().unwrap_or_default();
        rows.push(vec![failure.failure.name().to_string(), failure.count.to_string(), first]);
        let others =
            (failure.others > 0 && !failure.texts.is_empty()).then(|| format!("and {} others", failure.others));
        rows.extend(texts.chain(others).map(|text| vec![String::new(), String::new(), text]));
    }
    let table = Table {
        head: vec!["Failure".to_string(), "Requests".to_string(), "Detail".to_string()],
        aligns: vec![Align::Left, Align::Right, Align::Left],
        rows,
        grid: false,
    };
    format!("\nFailures:\n{}", table.render())
}

/// One table if it fits, else times, then tokens; a table of times that does not fit is cut before TPOT.
fn percentiles(columns: &[(Label, &Series)], width: usize) -> String {
    let whole = percentile_table(columns);
    let times = columns.iter().position(|(label, _)| *label == Label::InputTokens).unwrap_or(columns.len());
    let body = if whole.width() <= width || columns.len() <= 4 {
        whole.render()
    } else {
        let (times, tokens) = columns.split_at(times);
        let tpot = times.iter().position(|(label, _)| *label == Label::Tpot);
        let cut = tpot.filter(|_| percentile_table(times).width() > width).unwrap_or(0);
        let parts = [&times[..cut], &times[cut..], tokens];
        parts.into_iter().filter(|part| !part.is_empty()).map(|part| percentile_table(part).render()).collect()
    };
    let marked = columns.iter().any(|(_, series)| series.quantiles.iter().any(|quantile| quantile.few));
    let footnote = if marked { wrap("* ", &few_note(Language::En), width) } else { String::new() };
    format!("\nPercentile results:\n{body}{footnote}")
}

fn percentile_table(columns: &[(Label, &Series)]) -> Table {
    let cells: Vec<Vec<String>> = columns.iter().map(|(_, series)| percentile_cells(series)).collect();
    let row = |(row, level): (usize, &Level)| {
        std::iter::once(level.name.to_string()).chain(cells.iter().map(|cells| cells[row].clone())).collect()
    };
    Table {
        head: std::iter::once("Percentiles")
            .chain(columns.iter().map(|column| column.0.en()))
            .map(String::from)
            .collect(),
        aligns: vec![Align::Center; columns.len() + 1],
        rows: LEVELS.iter().enumerate().map(row).collect(),
        grid: false,
    }
}

/// The percentiles of a column, with the same decimals.
fn percentile_cells(series: &Series) -> Vec<String> {
    let decimals = Decimals::for_numbers(series.quantiles.iter().map(|quantile| quantile.value));
    let text = |quantile: &Quantile| decimals.text(quantile.value) + mark(quantile.few);
    (0..LEVELS.len()).map(|row| series.quantiles.get(row).map_or_else(|| "-".to_string(), text)).collect()
}

/// The confidence intervals of median and p99, if there are enough samples.
fn intervals(s: &Summary) -> String {
    let is_time = |name: &Label| {
        matches!(name, Label::Ttft | Label::Itl | Label::Tpot | Label::TpotFrom | Label::TpotTo | Label::Latency)
    };
    let known = |series: &Series| series.at(500).is_some_and(|quantile| quantile.interval.is_some());
    let columns = shown_columns(s).into_iter().filter(|(name, series)| is_time(name) && known(series));
    let columns: Vec<(Label, &Series)> = columns.collect();
    let interval = |series: &Series, per_mille: u32| series.at(per_mille).and_then(|quantile| quantile.interval);
    let ends = columns.iter().flat_map(|(_, series)| [500, 990].map(|at| interval(series, at)));
    let ms = Milliseconds::new(ends.flatten().flat_map(|interval| [interval.low, interval.high]).flatten());
    let cell = |series: &Series, per_mille: u32| match interval(series, per_mille) {
        Some(interval) => format!("{} .. {}", ms.optional(interval.low), ms.optional(interval.high)),
        None => "-".to_string(),
    };
    let row = |(name, series): &(Label, &Series)| vec![in_ms(name.en()), cell(series, 500), cell(series, 990)];
    if columns.is_empty() {
        return String::new();
    }
    let table = Table {
        head: vec!["95 % interval".to_string(), "50%".to_string(), "99%".to_string()],
        aligns: vec![Align::Left, Align::Center, Align::Center],
        rows: columns.iter().map(row).collect(),
        grid: false,
    };
    format!("\nConfidence intervals:\n{}", table.render())
}

fn steady(s: &Summary, width: usize) -> String {
    let Some(steady) = &s.steady else { return String::new() };
    let rows = summary_rows::steady(s);
    let ms = Milliseconds::new(rows.iter().flat_map(|(_, whole, part)| [whole.value, part.value]).flatten());
    let text = |value: &StatisticValue| ms.optional(value.value) + mark(value.few && value.value.is_some());
    let row = |((statistic, figure), whole, part): &((Statistic, Figure), StatisticValue, StatisticValue)| {
        vec![time_name(*statistic, *figure, "ms", Language::En), text(whole), text(part)]
    };
    let table = Table {
        head: vec!["Key".to_string(), "Whole run".to_string(), "Steady part".to_string()],
        aligns: vec![Align::Left, Align::Decimal, Align::Decimal],
        rows: rows.iter().map(row).collect(),
        grid: false,
    };
    let marked = rows.iter().any(|(_, whole, part)| whole.few || part.few);
    let footnote = if marked { wrap("* ", &few_note(Language::En), width) } else { String::new() };
    let heading = format!("Steady part ({} requests sent after the first wave)", steady.requests);
    format!("\n{heading}:\n{}{footnote}", table.render())
}

fn client_table(s: &Summary) -> Table {
    Table {
        head: vec!["Key".to_string(), "Value".to_string()],
        aligns: vec![Align::Left, Align::Right],
        rows: client_rows(s).into_iter().map(|(key, value)| vec![key.en().to_string(), value]).collect(),
        grid: false,
    }
}

/// The findings of these severities: each a paragraph, or a headline with its symptoms below it.
fn findings(s: &Summary, width: usize, title: &str, wanted: impl Fn(Severity) -> bool) -> String {
    let mut out = String::new();
    for entry in entries(&s.findings).into_iter().filter(|entry| wanted(entry.severity)) {
        let name = match entry.severity {
            Severity::Note => "Note: ",
            Severity::Caution => "Caution: ",
            Severity::Void => "Void: ",
        };
        out.push_str(&wrap(name, &entry.headline(Language::En), width));
        entry.symptoms(Language::En).iter().for_each(|symptom| out.push_str(&wrap("  - ", symptom, width)));
    }
    if out.is_empty() { out } else { format!("{title}\n{out}") }
}
