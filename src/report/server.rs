//! The server's metrics compared with the client's figures, as tables and as JSON.

use serde_json::{Value as Json, json};

use super::i18n::Label;
use super::language::Language;
use super::table::{Align, Milliseconds, Table, number, optional, wrap};
use crate::finding::{CountNote, Figure};
use crate::server::metric_catalog::Gauge;
use crate::stats::Summary;
use crate::stats::quantile::Quantile;
use crate::stats::reconcile::{Bounds, Compared, Counted, LEVELS, Reconciliation, Split};
use crate::stats::tolerance::Verdict;
use crate::time::format_ns;

/// Bytes in a GiB.
const GIB: f64 = 1_073_741_824.0;

/// The tables; empty without metrics of the server.
pub fn text(s: &Summary, width: usize) -> String {
    let mut out = String::new();
    if let Some(server) = &s.server {
        let (scrapes, window) = (server.scrapes, number(server.window_s));
        let warmup = if s.facts.has_flowing_warmup() { ", both sides with the warm-up" } else { "" };
        out.push_str(&format!("\nServer metrics ({}, {scrapes} scrapes over {window} s{warmup}):\n", server.server));
    }
    for (index, table) in tables(s, Language::En).iter().enumerate() {
        out.push_str(&fitting(table, width));
        if index == 0 && s.server.as_ref().is_some_and(has_levels) {
            out.push_str(&wrap("", Label::BucketsNote.en(), width));
        }
    }
    out + &used(s, Language::En)
        .map_or_else(String::new, |table| format!("\nThe server started by ringmark:\n{}", table.render()))
}

/// Whether quantiles of the server are shown.
pub(crate) fn has_levels(server: &Reconciliation) -> bool {
    server.times.iter().any(|time| !time.levels.is_empty())
}

/// A table about the server.
#[derive(Clone, Debug)]
pub struct ServerTable {
    pub table: Table,
    /// The last column contains verdicts, which may be sentences.
    pub has_verdicts: bool,
}

/// The tables of the server's metrics, without the resource use of its process.
pub fn tables(s: &Summary, language: Language) -> Vec<ServerTable> {
    let Some(server) = &s.server else { return Vec::new() };
    let times = (!server.times.is_empty()).then(|| times(server, language));
    let with_verdicts = |table| ServerTable { table, has_verdicts: true };
    let plain = |table| ServerTable { table, has_verdicts: false };
    let tables = [
        times.map(with_verdicts),
        split(server, language).map(plain),
        counts(server, language).map(with_verdicts),
        state(s, server, language).map(plain),
    ];
    tables.into_iter().flatten().collect()
}

/// The table. If it is too wide, its verdicts become lines below it; if it is still too wide, the intervals in
/// parentheses are removed.
fn fitting(shown: &ServerTable, width: usize) -> String {
    if !shown.has_verdicts || shown.table.width() <= width {
        return shown.table.render();
    }
    let mut short = shown.table.clone();
    short.head.pop();
    short.aligns.pop();
    let mut lines = String::new();
    for row in &mut short.rows {
        let verdict = row.pop().unwrap_or_default();
        if !verdict.is_empty() {
            lines.push_str(&wrap(&format!("{}: ", row[0]), &verdict, width));
        }
    }
    if short.width() > width {
        for cell in short.rows.iter_mut().flat_map(|row| row.iter_mut().skip(1)) {
            cell.truncate(cell.find(" (").unwrap_or(cell.len()));
        }
    }
    short.render() + &lines
}

/// The resource use of a server that this program started.
pub fn used(s: &Summary, language: Language) -> Option<Table> {
    let used = s.server_use.as_ref()?;
    let gib = |bytes: Option<f64>| optional(bytes.map(|bytes| bytes / GIB));
    let row = |name: Label, value: String| vec![name.text(language).to_string(), value];
    Some(Table {
        head: texts([Label::UsedByServer, Label::Value], language),
        aligns: vec![Align::Left, Align::Decimal],
        rows: vec![
            row(Label::BusyCores, optional(used.cores)),
            row(Label::PeakMemory, gib(used.peak_rss_bytes)),
            row(Label::PeakGpuMemory, gib(used.peak_gpu_bytes)),
        ],
        grid: false,
    })
}

/// The same as JSON; null for any other server.
pub(crate) fn use_json(s: &Summary) -> Json {
    let Some(used) = &s.server_use else { return Json::Null };
    json!({"cores": used.cores, "peak_rss_bytes": used.peak_rss_bytes, "peak_gpu_bytes": used.peak_gpu_bytes})
}

/// Labels as the cells of a row.
fn texts<const N: usize>(labels: [Label; N], language: Language) -> Vec<String> {
    labels.map(|label| label.text(language).to_string()).to_vec()
}

/// The name of a time as one side measured it.
fn name_of_side(figure: Figure, client: bool, language: Language) -> String {
    match language {
        Language::En => format!("{} {}", figure.en(), if client { "client" } else { "server metrics" }),
        Language::Zh => format!("{}（{}）", figure.zh(), if client { "客户端" } else { "服务端指标" }),
    }
}

fn times(server: &Reconciliation, language: Language) -> Table {
    let ms = Milliseconds::new(all_times_s(server));
    let range = |low: f64, high: f64| format!("{} .. {}", ms.text(low), ms.text(high));
    let bounds = |bounds: &Bounds| match bounds.high {
        Some(high) => range(bounds.low, high),
        None => format!("{} {}", language.pick("above", "大于"), ms.text(bounds.low)),
    };
    // The value with its confidence interval.
    let of_client = |quantile: &Quantile| match quantile.interval {
        Some(interval) => {
            let [value, low, high] = [Some(quantile.value), interval.low, interval.high].map(|end| ms.optional(end));
            format!("{value} ({low} .. {high})")
        }
        None => ms.text(quantile.value),
    };
    // A narrow table has the value without its range.
    let in_range = |value: f64, low: f64, high: f64| format!("~{} ({})", ms.text(value), range(low, high));
    let mut rows = Vec::new();
    for time in &server.times {
        let ends = time.client_ends.as_ref();
        let quantile = |level: usize| match (time.levels.get(level), ends) {
            (Some((client, _)), Some((low, high))) => in_range(client.value, low.levels_s[level], high.levels_s[level]),
            (Some((client, _)), None) => of_client(client),
            (None, _) => "-".to_string(),
        };
        let mean = match (time.client_mean_s, ends) {
            (Some(mean_s), Some((low, high))) => in_range(mean_s, low.mean_s, high.mean_s),
            (mean_s, _) => ms.optional(mean_s),
        };
        let interval = |level: usize| time.levels.get(level).map_or("-".to_string(), |(_, server)| bounds(server));
        let mut row = vec![name_of_side(time.name, true, language), mean];
        row.extend((0..LEVELS.len()).map(quantile));
        let remarks = frontend_text(time, language) + &silent_text(time, language);
        row.push(verdict_text(&time.verdict, language) + &remarks);
        rows.push(row);
        let mut row = vec![name_of_side(time.name, false, language), ms.optional(time.server_mean_s)];
        row.extend((0..LEVELS.len()).map(interval));
        row.push(String::new());
        rows.push(row);
    }
    if let Some((mean, levels)) = &server.queue {
        let mut row = vec![Label::QueueServer.text(language).to_string(), ms.optional(*mean)];
        row.extend((0..LEVELS.len()).map(|level| levels.get(level).map_or("-".to_string(), bounds)));
        row.push(String::new());
        rows.push(row);
    }
    let mut head = texts([Label::TimeMs, Label::Mean], language);
    head.extend(["50%", "90%", "99%"].map(String::from));
    head.push(Label::Verdict.text(language).to_string());
    Table {
        head,
        aligns: vec![Align::Left, Align::Right, Align::Center, Align::Center, Align::Center, Align::Left],
        rows,
        grid: false,
    }
}

/// The figures of the table of times, seconds. Ends of intervals have the decimals of these.
fn all_times_s(server: &Reconciliation) -> Vec<f64> {
    let of_one = |time: &Compared| {
        let levels = time.levels.iter().map(|(client, _)| client.value);
        [time.client_mean_s, time.server_mean_s].into_iter().flatten().chain(levels).collect::<Vec<f64>>()
    };
    server.times.iter().flat_map(of_one).collect()
}

pub(super) fn verdict_text(verdict: &Verdict, language: Language) -> String {
    match (verdict, language) {
        (Verdict::Consistent, Language::En) => "consistent".to_string(),
        (Verdict::Consistent, Language::Zh) => "一致".to_string(),
        (Verdict::Apart { by_s }, Language::En) => {
            let side = if *by_s > 0.0 { "client" } else { "server" };
            format!("apart: {side} +{}", format_ns((by_s.abs() * 1e9) as u64))
        }
        (Verdict::Apart { by_s }, Language::Zh) => {
            let side = if *by_s > 0.0 { "客户端" } else { "服务端" };
            format!("不一致：{side}长 {}", format_ns((by_s.abs() * 1e9) as u64))
        }
        (Verdict::NotJudged(why), Language::En) => format!("not judged: {}", why.en()),
        (Verdict::NotJudged(why), Language::Zh) => format!("未判定：{}", why.zh()),
    }
}

/// How many of the gaps are to tokens without text, behind the verdict.
fn silent_text(time: &Compared, language: Language) -> String {
    match (time.silent_tokens, language) {
        (0, _) => String::new(),
        (gaps, Language::En) => format!("; mean of all tokens, {gaps} of them without text"),
        (gaps, Language::Zh) => format!("；全部 token 的均值，其中 {gaps} 个没有文本"),
    }
}

/// The time in the frontend and the network, behind the verdict.
fn frontend_text(time: &Compared, language: Language) -> String {
    let Some(frontend_s) = time.frontend_s.filter(|_| time.verdict == Verdict::Consistent) else {
        return String::new();
    };
    let length = format_ns((frontend_s * 1e9).round() as u64);
    match language {
        Language::En => format!("; frontend and network: {length}"),
        Language::Zh => format!("；前端与网络：{length}"),
    }
}

fn split(server: &Reconciliation, language: Language) -> Option<Table> {
    let split = server.split.as_ref()?;
    let parts = parts(split);
    let ms = Milliseconds::new(parts.iter().map(|part| part.1));
    let row = |(name, seconds): (Label, f64)| vec![name.text(language).to_string(), ms.text(seconds)];
    Some(Table {
        head: texts([Label::PartsOfTtft, Label::TimeMs], language),
        aligns: vec![Align::Left, Align::Right],
        rows: parts.map(row).to_vec(),
        grid: false,
    })
}

fn parts(split: &Split) -> [(Label, f64); 6] {
    [
        (Label::TtftFromDue, split.whole_s),
        (Label::Connecting, split.connect_s),
        (Label::SendLagPart, split.send_lag_s),
        (Label::NetworkAndFrontend, split.between_s),
        (Label::ServerTtft, split.server_s),
        (Label::ReceiveLagPart, split.receive_lag_s),
    ]
}

fn counts(server: &Reconciliation, language: Language) -> Option<Table> {
    if server.counts.is_empty() {
        return None;
    }
    let row = |count: &Counted| {
        let client = count.client.map_or_else(|| "-".to_string(), |client| client.to_string());
        vec![
            language.pick(count.name.en(), count.name.zh()).to_string(),
            client,
            count.server.to_string(),
            equality(count, language),
        ]
    };
    Some(Table {
        head: texts([Label::Counts, Label::Client, Label::Server, Label::Verdict], language),
        aligns: vec![Align::Left, Align::Right, Align::Right, Align::Left],
        rows: server.counts.iter().map(row).collect(),
        grid: false,
    })
}

fn equality(count: &Counted, language: Language) -> String {
    let verdict = match count.equal {
        Some(true) => language.pick("equal", "相等"),
        Some(false) => language.pick("apart", "不一致"),
        None => language.pick("not judged", "未判定"),
    };
    match (count.note, language) {
        (None, _) => verdict.to_string(),
        (Some(note), Language::En) => format!("{verdict}: {}", note.en()),
        (Some(note), Language::Zh) => format!("{verdict}：{}", note.zh()),
    }
}

/// The server's gauges and the client's concurrency.
fn state(s: &Summary, server: &Reconciliation, language: Language) -> Option<Table> {
    let mut rows = Vec::new();
    let mut row = |name: Label, gauge: Option<Gauge>| {
        if let Some(gauge) = gauge {
            rows.push(vec![name.text(language).to_string(), optional(gauge.mean), number(gauge.max)]);
        }
    };
    row(Label::RunningServer, server.running);
    row(Label::WaitingServer, server.waiting);
    row(Label::CacheUseServer, server.cache_use);
    if rows.is_empty() && server.cached_share.is_none() {
        return None;
    }
    let in_flight = Label::InFlightClient.text(language).to_string();
    let peak = s.concurrency.peak.map_or_else(|| "-".to_string(), |peak| peak.to_string());
    rows.push(vec![in_flight, optional(s.concurrency.mean), peak]);
    if let Some(preemptions) = server.preemptions {
        let name = Label::PreemptionsServer.text(language).to_string();
        rows.push(vec![name, "-".to_string(), preemptions.to_string()]);
    }
    if let Some(share) = server.cached_share {
        rows.push(vec![Label::CachedTokensServer.text(language).to_string(), number(share), "-".to_string()]);
    }
    Some(Table {
        head: texts([Label::State, Label::MeanOfScrapes, Label::Maximum], language),
        aligns: vec![Align::Left, Align::Decimal, Align::Decimal],
        rows,
        grid: false,
    })
}

/// The same figures as JSON; null if there are none.
pub fn json(s: &Summary) -> Json {
    let Some(server) = &s.server else { return Json::Null };
    let gauge = |gauge: Option<Gauge>| gauge.map_or(Json::Null, |gauge| json!({"mean": gauge.mean, "max": gauge.max}));
    let queue = server.queue.as_ref().map(|(mean, levels)| {
        let of_levels = LEVELS.iter().zip(levels).map(|(level, bounds)| (level_name(*level), bounds_json(bounds)));
        json!({"mean_s": mean, "quantiles_s": Json::Object(of_levels.collect())})
    });
    json!({
        "server": server.server,
        "window_s": server.window_s,
        "with_warmup": s.facts.has_flowing_warmup(),
        "looks": server.scrapes,
        "restarts": server.resets,
        "times": server.times.iter().map(time_json).collect::<Vec<_>>(),
        "counts": server.counts.iter().map(count_json).collect::<Vec<_>>(),
        "ttft_split_s": server.split.as_ref().map(|split| {
            Json::Object(parts(split).into_iter().map(|(name, seconds)| (name.en().to_string(), json!(seconds))).collect())
        }),
        "queue": queue,
        "running": gauge(server.running),
        "waiting": gauge(server.waiting),
        "cache_use": gauge(server.cache_use),
        "preemptions": server.preemptions,
        "cached_share": server.cached_share,
    })
}

fn level_name(per_mille: u32) -> String {
    format!("{}%", f64::from(per_mille) / 10.0)
}

fn bounds_json(bounds: &Bounds) -> Json {
    json!([bounds.low, bounds.high])
}

/// The name of a verdict, the excess difference in seconds, and the reason if the times were not comparable.
pub(super) fn verdict_json(verdict: &Verdict) -> (&'static str, Option<f64>, Option<String>) {
    match verdict {
        Verdict::Consistent => ("consistent", None, None),
        Verdict::Apart { by_s } => ("apart", Some(*by_s), None),
        Verdict::NotJudged(why) => ("not judged", None, Some(why.en())),
    }
}

fn time_json(time: &Compared) -> Json {
    let (verdict, apart_s, why) = verdict_json(&time.verdict);
    let of_levels = LEVELS.iter().zip(&time.levels).map(|(level, (client, server))| {
        let interval = client.interval.map(|interval| json!([interval.low, interval.high]));
        let both = json!({"client_s": client.value, "client_interval_s": interval, "server_s": bounds_json(server)});
        (level_name(*level), both)
    });
    json!({
        "name": time.name,
        "metric": time.metric,
        "client_count": time.client_count,
        "server_count": time.server_count,
        "client_mean_s": time.client_mean_s,
        "client_mean_low_s": time.client_ends.as_ref().map(|(low, _)| low.mean_s),
        "client_mean_high_s": time.client_ends.as_ref().map(|(_, high)| high.mean_s),
        "server_mean_s": time.server_mean_s,
        "quantiles": Json::Object(of_levels.collect()),
        "frontend_and_network_s": time.frontend_s,
        "own_error_s": time.measurement_error_s,
        "tokens_without_text": time.silent_tokens,
        "verdict": verdict,
        "apart_s": apart_s,
        "why": why,
    })
}

fn count_json(count: &Counted) -> Json {
    json!({
        "name": count.name.en(), "metric": count.metric, "client": count.client, "server": count.server,
        "equal": count.equal, "note": count.note.map(CountNote::en),
    })
}
