//! The overview of a sweep on the page: a row for each load, the best loads, and recommendations.

use std::fmt::Write;

use super::chart::escape;
use super::elements::{few_note, fixed, has_marks, list, table};
use super::parts::finding;
use crate::record::facts::Mode;
use crate::report::advice::{Grade, best, recommendations, success_rate};
use crate::report::findings::of_runs;
use crate::report::i18n::Label;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::repeats;
use crate::report::table::{digits, quantile};
use crate::stats::Summary;

type Column = (Label, fn(&Summary) -> String);

const OF_TEXT: [Column; 8] = [
    (Label::Rps, |s| fixed(s.throughput.requests_per_s, 2)),
    (Label::OutputTokPerS, |s| fixed(s.throughput.output_tokens_per_s, 1)),
    (Label::AvgLatency, |s| fixed(s.series.latency_s.mean, 3)),
    (Label::P99Latency, |s| quantile(&s.series.latency_s, 990, 3)),
    (Label::AvgTtft, |s| fixed(s.series.ttft_s.mean, 4)),
    (Label::P99Ttft, |s| quantile(&s.series.ttft_s, 990, 4)),
    (Label::AvgTpot, |s| fixed(s.series.tpot_s.mean, 4)),
    (Label::P99Tpot, |s| quantile(&s.series.tpot_s, 990, 4)),
];

/// The columns of embeddings and rankings.
const WITHOUT_TEXT: [Column; 4] =
    [OF_TEXT[0], (Label::InputThroughput, |s| fixed(s.throughput.input_tokens_per_s, 1)), OF_TEXT[2], OF_TEXT[3]];

/// The overview of a sweep: a row for each load, the best loads, and recommendations.
pub fn overview(runs: &[&Summary], language: Language) -> String {
    let mut out = format!("<h2>{}</h2>", language.pick("Loads", "各档负载"));
    // With few requests, the rate of a random schedule can differ much from its nominal rate.
    let scheduled = runs.iter().any(|run| run.facts.mode != Mode::Closed);
    let mut head = vec![language.pick("Load", "负载")];
    head.extend(scheduled.then(|| language.pick("Offered req/s", "到达率 (req/s)")));
    let columns: &[Column] = if runs.iter().any(|run| run.generates_text()) { &OF_TEXT } else { &WITHOUT_TEXT };
    head.extend(columns.iter().map(|(label, _)| label.text(language)));
    head.push(language.pick("Success", "成功率"));
    let head: Vec<String> = head.into_iter().map(str::to_string).collect();
    let rows: Vec<(&str, Vec<String>)> = runs.iter().map(|run| load_row(run, columns, scheduled, language)).collect();
    out.push_str(&table(&head, &rows));
    if rows.iter().any(|row| has_marks(&row.1)) {
        out.push_str(&few_note(language));
    }
    for (name, spread) in repeats::tables(runs, language) {
        let rows: Vec<(&str, Vec<String>)> = spread.rows.into_iter().map(|row| ("", row)).collect();
        let title = language.pick("From run to run: ", "重复测试的波动：");
        let _ = write!(out, "<h3>{title}{}</h3>{}", escape(&name), table(&spread.head, &rows));
    }
    let _ = write!(
        out,
        "<div class=\"two\"><div><h3>{}</h3>{}</div><div><h3>{}</h3>{}</div></div>{}<h2>{}</h2>",
        language.pick("Best configurations", "最佳配置"),
        list(&best_lines(runs, language)),
        language.pick("Recommendations", "建议"),
        list(&recommendations(runs, language)),
        findings_of_runs(runs, language),
        language.pick("Load curves", "负载曲线"),
    );
    out
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
        lines.push(format!("{name}{} ({} s)", load_name(&best.run.facts, language), digits(best.value, 3)));
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
