//! The sections of the page that consist of text and tables.

use std::fmt::Write;

use super::chart::escape;
use super::elements::{charts, few_note, fixed, has_marks, list, table};
use super::run::Run;
use super::{plots, server};
use crate::finding::{Finding, Severity};
use crate::report::definitions::{DEFINITIONS, Definition, Pair};
use crate::report::findings::{Entry, entries, void_lines};
use crate::report::i18n::{Label, failure_name};
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::summary_rows::{self, client_rows, shown_columns};
use crate::report::table::{mark, number, optional};
use crate::report::turns;
use crate::stats::Summary;
use crate::stats::failure_texts::FailureText;
use crate::stats::quantile::{LEVELS, Series};
use crate::time::format_ns;

/// The page's title.
pub fn title(model: &str, language: Language) -> String {
    format!("{} · {model}", language.pick("Performance report", "性能压测报告"))
}

/// The heading and what was measured.
pub fn head(runs: &[Run], language: Language) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let facts = &first.run.facts;
    let mut out = format!("<h1>{}</h1>", escape(&title(&facts.model, language)));
    let addresses = match facts.addresses.is_empty() {
        true => String::new(),
        false => format!(" ({})", facts.addresses.join(", ")),
    };
    let parts = [
        format!("{} {}{addresses}", language.pick("Server", "服务端"), facts.url),
        format!("API {}", facts.api),
        format!("{} {}", language.pick("dataset", "数据集"), facts.dataset),
        format!("{} {}", language.pick("data seed", "数据种子"), facts.seed),
        language.pick("streaming", "流式响应").to_string() + if facts.stream { " ✓" } else { " ✗" },
        format!("{} {}", language.pick("started", "开始于"), started(first)),
    ];
    let _ = write!(out, "<p class=\"sub\">{}</p>", escape(&parts.join(" · ")));
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    for line in void_lines(&summaries, language) {
        let _ = write!(out, "<p class=\"banner\">{}{}</p>", language.pick("VOID: ", "无效："), escape(&line));
    }
    out
}

/// The start of the run in UTC.
fn started(run: &Run) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(run.run.clock.unix_ns));
    at.map_or_else(|_| "-".to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Everything about one run, with its number if its load has several runs; collapsed if `folded`.
pub fn run(run: &Run, number: Option<usize>, folded: bool, most_dots: usize, language: Language) -> String {
    let s = &run.summary;
    let mut name = format!("{}{}", language.pick("Run: ", "测试："), load_name(&s.facts, language));
    if let Some(number) = number {
        let _ = match language {
            Language::En => write!(name, " · run {number}"),
            Language::Zh => write!(name, " · 第 {number} 次"),
        };
    }
    let mut body = cards(s, language);
    body.push_str(&findings(&s.findings, language));
    body.push_str(&charts(&plots::run_charts(run, most_dots, language), language));
    let _ = write!(body, "<h3>{}</h3>{}", language.pick("Percentiles", "百分位数"), percentiles(s, language));
    if let Some((heads, rows)) = turns::cells(s) {
        let heads: Vec<String> = heads.into_iter().map(|head| head.text(language).to_string()).collect();
        let rows: Vec<(&str, Vec<String>)> = rows.into_iter().map(|cells| ("", cells)).collect();
        let _ = write!(body, "<h3>{}</h3>{}", language.pick("Turns", "各轮次指标"), table(&heads, &rows));
    }
    let _ = write!(
        body,
        "<div class=\"two\"><div><h3>{}</h3>{}</div><div><h3>{}</h3>{}</div></div>",
        language.pick("Summary", "汇总"),
        summary_table(s, language),
        language.pick("The client's own figures", "客户端自身指标"),
        client_table(s, language),
    );
    body.push_str(&server::section(s, language));
    body.push_str(&failures(s, language));
    if folded {
        format!("<details><summary>{}</summary>{body}</details>", escape(&name))
    } else {
        format!("<h2>{}</h2>{body}", escape(&name))
    }
}

fn cards(s: &Summary, language: Language) -> String {
    let series = &s.series;
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |s| format_ns((s * 1e9) as u64));
    let few = |series: &Series| series.at(990).is_some_and(|quantile| quantile.few);
    let pair = |series: &Series| (ms(series.value(500)), format!("p99 {}{}", ms(series.value(990)), mark(few(series))));
    let of_all = match language {
        Language::En => format!("of {}", s.counts.scheduled),
        Language::Zh => format!("共 {} 个", s.counts.scheduled),
    };
    let mut cards = vec![
        (language.pick("Succeeded requests", "成功请求"), (s.counts.ok.to_string(), of_all)),
        (
            language.pick("Requests per second", "请求吞吐量"),
            (fixed(s.throughput.requests_per_s, 2), "req/s".to_string()),
        ),
    ];
    if s.generates_text() {
        let rate = (fixed(s.throughput.output_tokens_per_s, 2), "tok/s".to_string());
        cards.push((language.pick("Output throughput", "输出 token 吞吐量"), rate));
    } else {
        let rate = (fixed(s.throughput.input_tokens_per_s, 2), "tok/s".to_string());
        cards.push((language.pick("Input throughput", "输入 token 吞吐量"), rate));
    }
    // Nothing has these times if nothing was streamed.
    if series.ttft_s.count > 0 {
        cards.push((language.pick("TTFT, median", "TTFT 中位数"), pair(&series.ttft_s)));
        cards.push((language.pick("ITL, median", "ITL 中位数"), pair(&series.itl_s)));
        cards.push((language.pick("TPOT, median", "TPOT 中位数"), pair(&series.tpot_s)));
    }
    cards.extend([
        (language.pick("Latency, median", "端到端时延中位数"), pair(&series.latency_s)),
        (
            language.pick("Peak in flight", "峰值并发数"),
            (
                s.concurrency.peak.to_string(),
                format!("{} {}", language.pick("mean", "平均"), fixed(s.concurrency.mean, 2)),
            ),
        ),
    ]);
    if let Some(verdict) = &s.slo {
        let met = if verdict.is_met() {
            language.pick("SLO met", "SLO 达标")
        } else {
            language.pick("SLO missed", "SLO 未达标")
        };
        cards.push((
            language.pick("Goodput", "有效吞吐量"),
            (fixed(verdict.goodput_per_s, 2), format!("req/s · {met}")),
        ));
    }
    let lag = s.client.receive_lag;
    if lag.count > 0 {
        let median = format!("p50 {}", format_ns(lag.p50));
        cards.push((language.pick("Receive lag p99 (client)", "客户端接收滞后 p99"), (format_ns(lag.p99), median)));
    }
    let card = |(name, (value, detail)): &(&str, (String, String))| {
        format!(
            "<div class=\"card\"><span>{name}</span><b>{}</b><small>{}</small></div>",
            escape(value),
            escape(detail)
        )
    };
    let series = [&series.ttft_s, &series.itl_s, &series.tpot_s, &series.latency_s];
    let note = if series.into_iter().any(few) { few_note(language) } else { String::new() };
    format!("<div class=\"cards\">{}</div>{note}", cards.iter().map(card).collect::<String>())
}

fn findings(findings: &[Finding], language: Language) -> String {
    let all: String = entries(findings).iter().map(|one| finding(one, None, language)).collect();
    if all.is_empty() { all } else { format!("<h3>{}</h3>{all}", language.pick("Findings", "诊断")) }
}

/// One finding, or the symptoms of one cause, with the load if that is not clear from the context.
pub fn finding(entry: &Entry<'_>, load: Option<&str>, language: Language) -> String {
    let (class, name) = match entry.severity {
        Severity::Note => ("plain", language.pick("Note", "提示")),
        Severity::Caution => ("caution", language.pick("Caution", "注意")),
        Severity::Void => ("void", language.pick("Void", "无效")),
    };
    let load = load.map_or_else(String::new, |load| format!("{load}{}", language.pick(": ", "：")));
    let headline = escape(&entry.headline(language));
    let symptoms = entry.symptoms(language);
    let symptoms = if symptoms.is_empty() { String::new() } else { list(&symptoms) };
    format!("<div class=\"finding {class}\"><b>{name}</b>{}{headline}{symptoms}</div>", escape(&load))
}

fn percentiles(s: &Summary, language: Language) -> String {
    let columns = shown_columns(s);
    let head: Vec<String> = std::iter::once(language.pick("Percentiles", "百分位数").to_string())
        .chain(columns.iter().map(|column| column.0.text(language).to_string()))
        .collect();
    let cell = |series: &Series, row: usize| match series.quantiles.get(row) {
        Some(quantile) => number(quantile.value) + mark(quantile.few),
        None => "-".to_string(),
    };
    let row = |(row, level): (usize, &crate::stats::quantile::Level)| {
        let cells = columns.iter().map(|column| cell(column.1, row));
        ("", std::iter::once(level.name.to_string()).chain(cells).collect())
    };
    let mut rows: Vec<(&str, Vec<String>)> = LEVELS.iter().enumerate().map(row).collect();
    for (name, per_mille) in [("50%", 500), ("99%", 990)] {
        let interval = |column: &(Label, &Series)| {
            let interval = column.1.at(per_mille).and_then(|quantile| quantile.interval);
            interval.map_or_else(|| "-".to_string(), |i| format!("{} … {}", optional(i.low), optional(i.high)))
        };
        let name = format!("{name} · {}", language.pick("95 % CI", "95 % 置信区间"));
        rows.push(("ci", std::iter::once(name).chain(columns.iter().map(interval)).collect()));
    }
    rows.extend(measurement_error_rows(s, &columns, language));
    let note = if rows.iter().any(|row| has_marks(&row.1)) { few_note(language) } else { String::new() };
    format!("{}{note}", table(&head, &rows))
}

/// Bounds of median and p99 from the client's measurement error; only the times have such bounds.
fn measurement_error_rows(
    s: &Summary,
    columns: &[(Label, &Series)],
    language: Language,
) -> Vec<(&'static str, Vec<String>)> {
    let own = &s.measurement_error;
    let row = |(name, level): (&str, usize)| {
        let bound = |(label, _): &(Label, &Series)| {
            let bounds = match label {
                Label::Ttft => &own.ttft_s,
                Label::Itl => &own.itl_s,
                Label::Tpot => &own.tpot_s,
                Label::Latency => &own.latency_s,
                _ => return "-".to_string(),
            };
            bounds.get(level).map_or_else(|| "-".to_string(), |b| format!("{} … {}", number(b.low), number(b.high)))
        };
        let name = format!("{name} · {}", language.pick("measurement error", "测量误差界"));
        ("ci", std::iter::once(name).chain(columns.iter().map(bound)).collect())
    };
    let levels = LEVELS.iter().enumerate().filter(|(_, level)| matches!(level.per_mille, 500 | 990));
    levels.map(|(place, level)| row((level.name, place))).collect()
}

fn summary_table(s: &Summary, language: Language) -> String {
    let shown = summary_rows::summary(s).into_iter().filter(summary_rows::Row::is_shown);
    let rows: Vec<(&str, Vec<String>)> =
        shown.map(|row| ("", vec![row.key.text(language).to_string(), row.value.text()])).collect();
    table(&[language.pick("Key", "指标").to_string(), language.pick("Value", "数值").to_string()], &rows)
}

fn client_table(s: &Summary, language: Language) -> String {
    let row = |(key, value): (Label, String)| ("", vec![key.text(language).to_string(), value]);
    let rows: Vec<(&str, Vec<String>)> = client_rows(s).into_iter().map(row).collect();
    table(&[language.pick("Key", "指标").to_string(), language.pick("Value", "数值").to_string()], &rows)
}

fn failures(s: &Summary, language: Language) -> String {
    if s.failures.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<h3>{}</h3><div class=\"scroll\"><table class=\"words\"><thead><tr><th>{}</th><th>{}</th><th>{}</th></tr></thead>\
         <tbody>",
        language.pick("Failures", "失败列表"),
        language.pick("Class", "类别"),
        language.pick("Requests", "请求数"),
        language.pick("Detail", "错误信息"),
    );
    for failure in &s.failures {
        let line = |text: &FailureText| match language {
            Language::En => format!("{} × {}", text.count, escape(&text.en())),
            Language::Zh => format!("{} × {}", text.count, escape(&text.zh())),
        };
        let texts = failure.texts.iter().map(line);
        let others = (failure.others > 0 && !failure.texts.is_empty()).then(|| match language {
            Language::En => format!("and {} others", failure.others),
            Language::Zh => format!("及其他 {} 个", failure.others),
        });
        let texts: Vec<String> = texts.chain(others).collect();
        let (name, count) = (failure_name(failure.failure, language), failure.count);
        let _ = write!(out, "<tr><td>{name}</td><td>{count}</td><td>{}</td></tr>", texts.join("<br/>"));
    }
    out.push_str("</tbody></table></div>");
    out
}

/// The definitions of all figures.
pub fn definitions(language: Language) -> String {
    let cell = |[en, zh]: Pair| format!("<td>{}</td>", escape(language.pick(en, zh)));
    let row = |definition: &Definition| {
        format!("<tr>{}{}{}</tr>", cell(definition.name), cell(definition.formula), cell(definition.meaning))
    };
    format!(
        "<h2>{}</h2><div class=\"scroll\"><table class=\"words\"><thead><tr><th>{}</th><th>{}</th><th>{}</th></tr></thead>\
         <tbody>{}</tbody></table></div>",
        language.pick("Definitions", "指标定义"),
        language.pick("Figure", "指标"),
        language.pick("Formula", "公式"),
        language.pick("Meaning", "说明"),
        DEFINITIONS.iter().map(row).collect::<String>()
    )
}
