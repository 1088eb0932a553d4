//! A run's tables as text, for a screen of a given width.

use super::findings::entries;
use super::language::Language;
use super::rows::{self, Value};
use super::table::{Align, Table, cut, few_note, mark, number, wrap};
use super::{join, own_error, server, turns, witness};
use crate::finding::Severity;
use crate::plan::slo::Criterion;
use crate::stats::Summary;
use crate::stats::quantile::{LEVELS, Quantile, Series};
use crate::stats::speed::SpeedRow;
use crate::stats::summary::Lag;
use crate::time::format_ns;

/// Narrower screens get lines of this length all the same.
const NARROWEST: usize = 60;

/// Everything about a run: void findings, summary, failures, percentiles, the client's own figures, findings.
pub fn render(s: &Summary, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut out = String::new();
    out.push_str(&findings(s, width, "VOID: do not use these figures.", |severity| severity == Severity::Void));
    out.push_str("Benchmarking summary:\n");
    out.push_str(&summary_table(s).render());
    out.push_str(&slo(s));
    out.push_str(&speed(s));
    out.push_str(&failures(s, width));
    out.push_str(&percentiles(s, width));
    out.push_str(&turns::text(s, width));
    out.push_str(&intervals(s));
    out.push_str(&steady(s, width));
    out.push_str("\nClient's own figures:\n");
    out.push_str(&client_table(s).render());
    out.push_str(&own_error::text(s, width));
    out.push_str(&witness::text(s, width));
    out.push_str(&server::text(s, width));
    out.push_str(&join::text(s, width));
    out.push_str(&findings(s, width, "\nFindings:", |severity| severity != Severity::Void));
    out
}

fn summary_table(s: &Summary) -> Table {
    let shown = rows::summary(s).into_iter().filter(|row| row.always || row.value != Value::Unknown);
    Table {
        head: vec!["Key".to_string(), "Value".to_string()],
        aligns: vec![Align::Left, Align::Decimal],
        rows: shown.map(|row| vec![row.key.to_string(), value_text(&row.value)]).collect(),
        grid: true,
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Number(value) => number(*value),
        Value::Count(count) => count.to_string(),
        Value::Unknown => "-".to_string(),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_string(), number)
}

fn slo(s: &Summary) -> String {
    let Some(verdict) = &s.slo else { return String::new() };
    let row = |(criterion, value, met): &(Criterion, Option<f64>, bool)| {
        let measured =
            value.map_or_else(|| "-".to_string(), |value| format!("{} {}", number(value), criterion.figure.unit()));
        vec![criterion.with_unit(), measured, if *met { "met" } else { "MISSED" }.to_string()]
    };
    let table = Table {
        head: ["Objective", "Measured", "Verdict"].map(str::to_string).to_vec(),
        aligns: vec![Align::Left, Align::Right, Align::Left],
        rows: verdict.criteria.iter().map(row).collect(),
        grid: false,
    };
    format!("\nService level objectives:\n{}", table.render())
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
    // Frame and the two columns before it take about this much.
    let words_width = width.saturating_sub(36);
    let mut rows = Vec::new();
    for failure in &s.failures {
        let words = |(text, count): &(String, u64)| cut(&format!("{count} x {text}"), words_width);
        let mut texts = failure.texts.iter().map(words);
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

/// The columns of the percentile table.
pub fn percentile_columns(s: &Summary) -> [(&'static str, &Series); 8] {
    let series = &s.series;
    [
        ("TTFT (s)", &series.ttft_s),
        ("ITL (s)", &series.itl_s),
        ("TPOT (s)", &series.tpot_s),
        ("Latency (s)", &series.latency_s),
        ("Input tokens", &series.input_tokens),
        ("Output tokens", &series.output_tokens),
        ("Output (tok/s)", &series.output_rate_per_s),
        ("Total (tok/s)", &series.total_rate_per_s),
    ]
}

/// One table where it fits, else two: times, then tokens.
fn percentiles(s: &Summary, width: usize) -> String {
    let columns = percentile_columns(s);
    let whole = percentile_table(&columns);
    let body = if whole.width() <= width {
        whole.render()
    } else {
        percentile_table(&columns[..4]).render() + &percentile_table(&columns[4..]).render()
    };
    let marked = columns.iter().any(|(_, series)| series.quantiles.iter().any(|quantile| quantile.few));
    let footnote = if marked { wrap("* ", &few_note(Language::En), width) } else { String::new() };
    format!("\nPercentile results:\n{body}{footnote}")
}

fn percentile_table(columns: &[(&'static str, &Series)]) -> Table {
    let cell = |series: &Series, row: usize| series.quantiles.get(row).map_or_else(|| "-".to_string(), quantile_text);
    let rows = LEVELS.iter().enumerate().map(|(row, level)| {
        std::iter::once(level.name.to_string()).chain(columns.iter().map(|(_, series)| cell(series, row))).collect()
    });
    Table {
        head: std::iter::once("Percentiles").chain(columns.iter().map(|column| column.0)).map(String::from).collect(),
        aligns: vec![Align::Center; columns.len() + 1],
        rows: rows.collect(),
        grid: false,
    }
}

fn quantile_text(quantile: &Quantile) -> String {
    number(quantile.value) + mark(quantile.few)
}

/// The intervals of median and p99, where there are samples enough for them.
fn intervals(s: &Summary) -> String {
    let columns = percentile_columns(s);
    let cell = |series: &Series, per_mille: u32| match series.at(per_mille).and_then(|quantile| quantile.interval) {
        Some(interval) => format!("{} .. {}", optional(interval.low), optional(interval.high)),
        None => "-".to_string(),
    };
    let rows: Vec<Vec<String>> = columns[..4]
        .iter()
        .filter(|(_, series)| series.at(500).is_some_and(|quantile| quantile.interval.is_some()))
        .map(|(name, series)| vec![name.to_string(), cell(series, 500), cell(series, 990)])
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let table = Table {
        head: vec!["95 % sure between".to_string(), "50%".to_string(), "99%".to_string()],
        aligns: vec![Align::Left, Align::Center, Align::Center],
        rows,
        grid: false,
    };
    format!("\nConfidence intervals:\n{}", table.render())
}

fn steady(s: &Summary, width: usize) -> String {
    let Some(steady) = &s.steady else { return String::new() };
    let rows = rows::steady(s);
    let table = Table {
        head: vec!["Key".to_string(), "Whole run".to_string(), "Steady part".to_string()],
        aligns: vec![Align::Left, Align::Decimal, Align::Decimal],
        rows: rows.iter().map(|(key, whole, part)| vec![key.to_string(), whole.text(), part.text()]).collect(),
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
        rows: client_rows(s).into_iter().map(|(key, value)| vec![key.to_string(), value]).collect(),
        grid: false,
    }
}

/// The client's own figures, each a name and a value.
pub fn client_rows(s: &Summary) -> Vec<(&'static str, String)> {
    let c = &s.client;
    let mut rows: Vec<(&'static str, String)> = Vec::new();
    let mut row = |key: &'static str, value: String| rows.push((key, value));
    row("Receive lag p50 / p99 / max", lag_text(c.receive_lag));
    row("Send lag p50 / p99 / max", lag_text(c.send_lag));
    row("Turnaround p50 / p99 / max", lag_text(c.turnaround));
    row("Connect time p50 / p99 / max", lag_text(c.connect));
    if c.tls_handshake.count > 0 {
        row("TLS handshake p50 / p99 / max", lag_text(c.tls_handshake));
    }
    row("Loop gap p50 / p99 / max", lag_text(c.loop_gap));
    let service = &s.series.service_ttft_s;
    row(
        "TTFT from the wire avg / p50 / p99 (s)",
        [service.mean, service.value(500), service.value(990)].map(optional).join(" / "),
    );
    row("Reads with two or more events", share_text(c.coalesced_reads));
    row("Events that share a read", share_text(c.coalesced_events));
    row("Reads with the kernel's stamp", share_text(c.stamped_reads));
    row("Mean concurrency while sending", optional(s.concurrency.mean_while_sending));
    row("Worker CPU avg / max", format!("{} / {}", share_text(c.cpu_mean), share_text(c.cpu_max)));
    row("CPU per output event", c.cpu_per_event_ns.map_or_else(|| "-".to_string(), |ns| format_ns(ns as u64)));
    let workers = c.workers > 0;
    let known = |text: String| if workers { text } else { "-".to_string() };
    row("Context switches own / forced", known(format!("{} / {}", c.voluntary_switches, c.involuntary_switches)));
    row("Connections opened", known(c.connections_opened.to_string()));
    rows
}

fn lag_text(lag: Lag) -> String {
    if lag.count == 0 {
        return "-".to_string();
    }
    [lag.p50, lag.p99, lag.max].map(format_ns).join(" / ")
}

fn share_text(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_string(), |share| format!("{:.2} %", share * 100.0))
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
