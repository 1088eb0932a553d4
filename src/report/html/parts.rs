//! The sections of the page that consist of text and tables.

use std::fmt::Write;

use super::bounds::{self, at_most_s, has_token_times};
use super::elements::{at_most_note, charts, few_note, fixed, has_bounds, has_marks, list, table};
use super::escape::{escape, prose};
use super::objectives::milliseconds;
use super::run::Run;
use super::words::{Contents, Words, both};
use super::{plots, server};
use crate::finding::{Figure, Finding, Severity};
use crate::report::definitions::{DEFINITIONS, Definition, Pair};
use crate::report::early_end;
use crate::report::findings::{Entry, entries};
use crate::report::i18n::{Label, failure_name};
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::merge::ShardTable;
use crate::report::summary_rows::{self, client_rows, percentile_columns};
use crate::report::table::{Decimals, in_ms, mark};
use crate::report::turns;
use crate::stats::Summary;
use crate::stats::failure_texts::FailureText;
use crate::stats::measurement_error::Bound;
use crate::stats::quantile::{LEVELS, Level, Series};
use crate::time::format_ns;

/// The page's title.
pub fn title(model: &str, language: Language) -> String {
    format!("{} · {model}", language.pick("Performance report", "性能压测报告"))
}

/// The place of a run on the page.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub index: usize,
    /// Its number, if its load has several runs.
    pub number: Option<usize>,
    /// Collapsed, as one of several runs.
    pub folded: bool,
    /// Has an entry in the contents.
    pub listed: bool,
}

/// Everything about one run.
pub fn run(run: &Run, place: Place, most_dots: usize, contents: &mut Contents) -> String {
    let s = &run.summary;
    let load = Words::each(|language| load_with_number(s, place.number, language));
    let name = Words::new(format!("Run: {}", load.en), format!("测试：{}", load.zh));
    let id = format!("run-{}", place.index + 1);
    // The sections of a run that is alone on the page are in the contents.
    let mut heading = |part: &str, title: Words| match place.folded {
        true => format!("<h3>{}</h3>", title.html()),
        false => contents.heading("h3", part, title),
    };
    let mut body = both(|language| cards(s, language) + &findings(&s.findings, language));
    body.push_str(&heading("charts", Words::new("Charts", "图表")));
    body.push_str(&charts(&plots::run_charts(run, most_dots)));
    body.push_str(&heading("percentiles", Words::new("Percentiles", "百分位数")));
    body.push_str(&both(|language| percentiles(s, language)));
    if turns::cells(s, Language::En).is_some() {
        body.push_str(&heading("turns", Words::new("Turns", "各轮次指标")));
        body.push_str(&both(|language| {
            let (heads, rows) = turns::cells(s, language).unwrap_or_default();
            let rows: Vec<(&str, Vec<String>)> = rows.into_iter().map(|cells| ("", cells)).collect();
            table(&heads, &rows)
        }));
    }
    body.push_str(&heading("summary", Words::new("Summary", "汇总")));
    body.push_str(&both(|language| {
        format!(
            "<div class=\"two\"><div>{}</div><div>{}</div></div>",
            summary_table(s, language),
            client_table(s, language)
        )
    }));
    if let Some(shards) = &run.shards {
        body.push_str(&heading("shards", Words::new("Shards", "分片")));
        body.push_str(&both(|language| shard_table(shards, language)));
    }
    body.push_str(&both(|language| server::section(s, language)));
    if !place.folded {
        return format!("<h2>{}</h2>{body}", name.html());
    }
    if place.listed {
        contents.add(&id, load);
    }
    if !s.failures.is_empty() {
        body.push_str(&both(|language| {
            format!("<h3>{}</h3>{}", language.pick("Failures", "失败列表"), failure_table(&[s], language))
        }));
    }
    // The target of a link is inside, so that the browser opens the section.
    format!("<details><summary>{}</summary><span id=\"{id}\"></span>{body}</details>", name.html())
}

fn shard_table(shards: &ShardTable, language: Language) -> String {
    let head: Vec<String> = shards.head.iter().map(|(en, zh)| language.pick(en, zh).to_string()).collect();
    let rows: Vec<(&str, Vec<String>)> = shards.rows.iter().map(|cells| ("", cells.clone())).collect();
    let joint_head =
        [language.pick("All shards", "所有分片"), language.pick("At least", "下限"), language.pick("At most", "上限")];
    let joint_row = |((en, zh), ends): &((&'static str, &'static str), [String; 2])| {
        let cells = [language.pick(en, zh).to_string()].into_iter().chain(ends.clone());
        ("", cells.collect::<Vec<String>>())
    };
    let joint: Vec<(&str, Vec<String>)> = shards.joint.iter().map(joint_row).collect();
    let sentences = shards
        .sentences
        .iter()
        .map(|(en, zh)| format!("<p>{}</p>", escape(if language == Language::En { en } else { zh })));
    let sentences: String = sentences.collect();
    table(&head, &rows) + &sentences + &table(&joint_head.map(str::to_string), &joint)
}

fn load_with_number(s: &Summary, number: Option<usize>, language: Language) -> String {
    let mut name = load_name(&s.facts, language);
    if let Some(number) = number {
        let _ = match language {
            Language::En => write!(name, " · run {number}"),
            Language::Zh => write!(name, " · 第 {number} 次"),
        };
    }
    name + &early_end::mark(s, language)
}

fn cards(s: &Summary, language: Language) -> String {
    let series = &s.series;
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |s| format!("{} ms", milliseconds(s)));
    let few = |series: &Series| series.at(990).is_some_and(|quantile| quantile.few);
    let at = |time: Figure, per_mille: u32| match at_most_s(s, time, per_mille) {
        Some(bound) => format!("≤ {}", ms(Some(bound))),
        None => bounds::with_ends(s, time, |series| series.value(per_mille), |value| ms(Some(value))),
    };
    let pair = |time: Figure| (at(time, 500), format!("p99 {}{}", at(time, 990), mark(few(bounds::series(s, time)))));
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
        cards.push((language.pick("Speed per user", "单用户速度"), (fixed(s.per_user(), 2), "tok/s".to_string())));
    } else {
        let rate = (fixed(s.throughput.input_tokens_per_s, 2), "tok/s".to_string());
        cards.push((language.pick("Input throughput", "输入 token 吞吐量"), rate));
    }
    if let Some(rate) = s.per_gpu() {
        cards.push((language.pick("Throughput per GPU", "单 GPU 吞吐量"), (fixed(Some(rate), 2), "tok/s".to_string())));
    }
    // Nothing has these times if nothing was streamed.
    if has_token_times(s) {
        cards.push((language.pick("TTFT, median", "TTFT 中位数"), pair(Figure::Ttft)));
        cards.push((language.pick("ITL, median", "ITL 中位数"), pair(Figure::Itl)));
        cards.push((language.pick("TPOT, median", "TPOT 中位数"), pair(Figure::Tpot)));
    }
    cards.extend([
        (language.pick("Latency, median", "端到端时延中位数"), pair(Figure::Latency)),
        (
            language.pick("Peak in flight", "峰值并发数"),
            (
                s.concurrency.peak.map_or_else(|| "-".to_string(), |peak| peak.to_string()),
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
    let has_bounds = cards.iter().any(|(_, (value, detail))| value.contains('≤') || detail.contains('≤'));
    let card = |(name, (value, detail)): &(&str, (String, String))| {
        format!(
            "<div class=\"card\"><span>{name}</span><b>{}</b><small>{}</small></div>",
            escape(value),
            escape(detail)
        )
    };
    let series = [&series.ttft_s, &series.itl_s, &series.tpot_s, &series.latency_s];
    let mut note = if series.into_iter().any(few) { few_note(language) } else { String::new() };
    if has_bounds {
        note.push_str(&at_most_note(language));
    }
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
    let headline = prose(&entry.headline(language));
    let symptoms = entry.symptoms(language);
    let symptoms = if symptoms.is_empty() { String::new() } else { list(&symptoms) };
    format!("<div class=\"finding {class}\"><b>{name}</b>{}{headline}{symptoms}</div>", escape(&load))
}

/// A column of the percentiles: its title, its values, how many of its unit are one of them, the decimals of all its
/// cells, and the time that it is.
struct Column<'a> {
    label: Label,
    series: &'a Series,
    factor: f64,
    decimals: Decimals,
    time: Option<Figure>,
}

impl Column<'_> {
    /// A value of the column.
    fn text(&self, value: f64) -> String {
        self.decimals.text(value * self.factor)
    }

    /// Bounds of a value, rounded outwards: what is shown contains the true value too.
    fn bound(&self, bound: &Bound) -> String {
        let [low, high] = [bound.low, bound.high].map(|end| end * self.factor);
        format!("{} … {}", self.decimals.floor(low), self.decimals.ceil(high))
    }
}

/// The columns of the percentiles: times in milliseconds, for embeddings and rankings no figures of text, and for a TPOT
/// that is a range both ends, and the value shown if that is not the lower one.
fn columns<'a>(s: &'a Summary) -> Vec<Column<'a>> {
    let values = |series: &Series| series.quantiles.iter().map(|quantile| quantile.value).collect::<Vec<f64>>();
    let time = |label, time, series: &'a Series| {
        let decimals = Decimals::for_digits(values(series).into_iter().map(|seconds| seconds * 1e3), 2);
        Column { label, series, factor: 1e3, decimals, time: Some(time) }
    };
    let one = |label, figure| time(label, figure, bounds::series(s, figure));
    let mut times = vec![one(Label::TtftMs, Figure::Ttft), one(Label::ItlMs, Figure::Itl)];
    if s.series.tpot_range.is_none() || s.series.tpot_is_within() {
        times.push(one(Label::TpotMs, Figure::Tpot));
    }
    if let Some(range) = &s.series.tpot_range {
        times.extend([
            time(Label::TpotFromMs, Figure::Tpot, &range.low_s),
            time(Label::TpotToMs, Figure::Tpot, &range.high_s),
        ]);
    }
    times.push(one(Label::LatencyMs, Figure::Latency));
    let others = percentile_columns(s).into_iter().skip_while(|(label, _)| *label != Label::InputTokens);
    let others = others.map(|(label, series)| {
        let decimals = Decimals::for_numbers(values(series));
        Column { label, series, factor: 1.0, decimals, time: None }
    });
    let of_text = |column: &Column<'_>| !matches!(column.label, Label::LatencyMs | Label::InputTokens);
    times.into_iter().chain(others).filter(|column| s.generates_text() || !of_text(column)).collect()
}

fn percentiles(s: &Summary, language: Language) -> String {
    let columns = columns(s);
    let head: Vec<String> = std::iter::once(language.pick("Percentiles", "百分位数").to_string())
        .chain(columns.iter().map(|column| column.label.text(language).to_string()))
        .collect();
    let cell = |column: &Column<'_>, row: usize| {
        let bound = column.time.and_then(|time| at_most_s(s, time, LEVELS[row].per_mille));
        match (bound, column.series.quantiles.get(row)) {
            (Some(bound), _) => format!("≤ {}", column.decimals.ceil(bound * column.factor)),
            (None, Some(quantile)) => column.text(quantile.value) + mark(quantile.few),
            (None, None) => "-".to_string(),
        }
    };
    let row = |(row, level): (usize, &Level)| {
        let cells = columns.iter().map(|column| cell(column, row));
        ("", std::iter::once(level.name.to_string()).chain(cells).collect())
    };
    let mut rows: Vec<(&str, Vec<String>)> = LEVELS.iter().enumerate().map(row).collect();
    for (name, per_mille) in [("50%", 500), ("99%", 990)] {
        let interval = |column: &Column<'_>| {
            let end = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |value| column.text(value));
            let interval = column.series.at(per_mille).and_then(|quantile| quantile.interval);
            interval.map_or_else(|| "-".to_string(), |i| format!("{} … {}", end(i.low), end(i.high)))
        };
        let name = format!("{name} · {}", language.pick("95 % CI", "95 % 置信区间"));
        rows.push(("ci", std::iter::once(name).chain(columns.iter().map(interval)).collect()));
    }
    rows.extend(measurement_error_rows(s, &columns, language));
    let mut note = if rows.iter().any(|row| has_marks(&row.1)) { few_note(language) } else { String::new() };
    if rows.iter().any(|row| has_bounds(&row.1)) {
        note.push_str(&at_most_note(language));
    }
    format!("{}{note}", table(&head, &rows))
}

/// Bounds of median and p99 from the client's measurement error; only the times have such bounds.
fn measurement_error_rows(s: &Summary, columns: &[Column<'_>], language: Language) -> Vec<(&'static str, Vec<String>)> {
    let row = |(name, level): (&str, usize)| {
        let bound = |column: &Column<'_>| {
            let bound = column.time.and_then(|time| bounds::bounds(s, time).get(level));
            bound.map_or_else(|| "-".to_string(), |bound| column.bound(bound))
        };
        let name = format!("{name} · {}", language.pick("measurement error", "测量误差界"));
        ("ci", std::iter::once(name).chain(columns.iter().map(bound)).collect())
    };
    let levels = LEVELS.iter().enumerate().filter(|(_, level)| matches!(level.per_mille, 500 | 990));
    levels.map(|(place, level)| row((level.name, place))).collect()
}

fn summary_table(s: &Summary, language: Language) -> String {
    let shown = summary_rows::summary(s).into_iter().filter(summary_rows::Row::is_shown);
    let cells = |row: summary_rows::Row| match row.is_response_time() {
        true => vec![in_ms(row.key.text(language)), row.value.ms_text()],
        false => vec![row.key.text(language).to_string(), row.value.text()],
    };
    let rows: Vec<(&str, Vec<String>)> = shown.map(|row| ("", cells(row))).collect();
    table(&[language.pick("Figure", "指标").to_string(), language.pick("Value", "数值").to_string()], &rows)
}

fn client_table(s: &Summary, language: Language) -> String {
    let row = |(key, value): (Label, String)| ("", vec![key.text(language).to_string(), value]);
    let rows: Vec<(&str, Vec<String>)> = client_rows(s).into_iter().map(row).collect();
    table(
        &[
            language.pick("The client's own figures", "客户端自身指标").to_string(),
            language.pick("Value", "数值").to_string(),
        ],
        &rows,
    )
}

/// The failures of these runs by class; of several runs with the load of each.
pub fn failure_table(runs: &[&Summary], language: Language) -> String {
    let several = runs.len() > 1;
    let mut head = vec![language.pick("Class", "类别"), language.pick("Requests", "请求数")];
    if several {
        head.insert(0, language.pick("Load", "负载"));
    }
    head.push(language.pick("Detail", "错误信息"));
    let head: String = head.into_iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let mut out = format!("<div class=\"scroll\"><table class=\"words\"><thead><tr>{head}</tr></thead><tbody>");
    for (run, failure) in runs.iter().flat_map(|run| run.failures.iter().map(move |failure| (run, failure))) {
        let load = match several {
            true => format!("<td>{}</td>", escape(&load_name(&run.facts, language))),
            false => String::new(),
        };
        let line = |text: &FailureText| match language {
            Language::En => format!("{} × {}", text.count, escape(&text.en())),
            Language::Zh => format!("{} × {}", text.count, escape(&text.zh())),
        };
        // The section of a run has all texts.
        let shown = if several { 1 } else { failure.texts.len() };
        let rest: u64 = failure.texts.iter().skip(shown).map(|text| text.count).sum::<u64>() + failure.others;
        let texts = failure.texts.iter().take(shown).map(line);
        let others = (rest > 0 && !failure.texts.is_empty()).then(|| match language {
            Language::En => format!("and {rest} others"),
            Language::Zh => format!("及其他 {rest} 个"),
        });
        let texts: Vec<String> = texts.chain(others).collect();
        let (name, count) = (failure_name(failure.failure, language), failure.count);
        let _ = write!(out, "<tr>{load}<td>{name}</td><td>{count}</td><td>{}</td></tr>", texts.join("<br/>"));
    }
    out.push_str("</tbody></table></div>");
    out
}

/// The definitions of all figures.
pub fn definitions(language: Language) -> String {
    let cell = |[en, zh]: Pair| format!("<td>{}</td>", prose(language.pick(en, zh)));
    let row = |definition: &Definition| {
        format!("<tr>{}{}{}</tr>", cell(definition.name), cell(definition.formula), cell(definition.meaning))
    };
    format!(
        "<div class=\"scroll\"><table class=\"words\"><thead><tr><th>{}</th><th>{}</th><th>{}</th></tr></thead>\
         <tbody>{}</tbody></table></div>",
        language.pick("Figure", "指标"),
        language.pick("Formula", "公式"),
        language.pick("Meaning", "说明"),
        DEFINITIONS.iter().map(row).collect::<String>()
    )
}
