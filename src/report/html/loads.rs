//! The overview of a sweep on the page: a row for each load, the best loads, and recommendations.

use std::fmt::Write;

use super::bounds::{at_most_s, with_ends};
use super::elements::{at_most_note, charts, few_note, fixed, has_bounds, has_marks, list, table};
use super::escape::escape;
use super::load_plots::sweep_charts;
use super::parts::finding;
use super::words::{Contents, Words, both};
use crate::finding::Figure;
use crate::record::facts::Mode;
use crate::report::advice::{Grade, best, recommendations, success_rate};
use crate::report::findings::of_runs;
use crate::report::i18n::Label;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::repeats;
use crate::report::table::{digits, mark};
use crate::stats::Summary;

/// A column of the table of loads.
type Column = (Label, fn(&Summary) -> String);

const OF_TEXT: [Column; 9] = [
    (Label::Rps, |s| fixed(s.throughput.requests_per_s, 2)),
    (Label::OutputTokPerS, |s| fixed(s.throughput.output_tokens_per_s, 1)),
    (Label::PerUser, |s| fixed(s.per_user(), 1)),
    (Label::AvgLatencyMs, |s| milliseconds(s, Figure::Latency, None)),
    (Label::P99LatencyMs, |s| milliseconds(s, Figure::Latency, Some(990))),
    (Label::AvgTtftMs, |s| milliseconds(s, Figure::Ttft, None)),
    (Label::P99TtftMs, |s| milliseconds(s, Figure::Ttft, Some(990))),
    (Label::AvgTpotMs, |s| milliseconds(s, Figure::Tpot, None)),
    (Label::P99TpotMs, |s| milliseconds(s, Figure::Tpot, Some(990))),
];

/// The columns of embeddings and rankings.
const WITHOUT_TEXT: [Column; 4] =
    [OF_TEXT[0], (Label::InputTokPerS, |s| fixed(s.throughput.input_tokens_per_s, 1)), OF_TEXT[3], OF_TEXT[4]];

/// Only with `--gpus`.
const PER_GPU: Column = (Label::PerGpu, |s| fixed(s.per_gpu(), 1));

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
    let mut head = vec![language.pick("Load", "负载")];
    head.extend(scheduled.then(|| language.pick("Offered req/s", "到达率 (req/s)")));
    head.extend(columns.iter().map(|(label, _)| label.text(language)));
    head.push(language.pick("Success", "成功率"));
    let head: Vec<String> = head.into_iter().map(str::to_string).collect();
    let rows: Vec<(&str, Vec<String>)> = runs.iter().map(|run| load_row(run, columns, scheduled, language)).collect();
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
    out
}

/// The mean or a percentile of a time in milliseconds.
fn milliseconds(s: &Summary, time: Figure, per_mille: Option<u32>) -> String {
    let text = |seconds: f64| digits(seconds * 1e3, 1);
    let Some(per_mille) = per_mille else { return with_ends(s, time, |series| series.mean, text) };
    let few = super::bounds::series(s, time).at(per_mille).is_some_and(|quantile| quantile.few);
    match at_most_s(s, time, per_mille) {
        Some(bound) => format!("≤ {}", text(bound)),
        None => with_ends(s, time, |series| series.value(per_mille), text) + mark(few),
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

fn load_row(run: &Summary, columns: &[Column], scheduled: bool, language: Language) -> (&'static str, Vec<String>) {
    let class = match Grade::from_share(success_rate(run)) {
        Grade::Good => "good",
        Grade::Passable => "passable",
        Grade::Bad => "bad",
    };
    let void = if run.is_void() { language.pick(" (void)", "（无效）") } else { "" };
    let mut cells = vec![load_name(&run.facts, language) + void];
    cells.extend(scheduled.then(|| fixed(run.rates.offered_per_s, 2)));
    cells.extend(columns.iter().map(|(_, cell)| cell(run)));
    cells.push(success_rate(run).map_or_else(|| "-".to_string(), |share| format!("{:.1} %", share * 100.0)));
    (class, cells)
}
