//! The server's metrics compared with the client's figures, as tables and as JSON.

use serde_json::{Value as Json, json};

use super::table::{Align, Table, number, optional, wrap};
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
        let (looks, window) = (server.looks, number(server.window_s));
        out.push_str(&format!("\nServer metrics ({}, {looks} scrapes over {window} s):\n", server.server));
    }
    for (index, table) in tables(s).iter().enumerate() {
        out.push_str(&fitting(table, width));
        if index == 0 && s.server.as_ref().is_some_and(has_levels) {
            out.push_str(&wrap("", BUCKETS_NOTE, width));
        }
    }
    out + &used(s).map_or_else(String::new, |table| format!("\nThe server started by ringmark:\n{}", table.render()))
}

/// The note on the server's quantiles.
pub const BUCKETS_NOTE: &str =
    "Server quantiles are given by the bounds of histogram buckets. TTFT and latency count from the first byte sent.";

/// Whether quantiles of the server are shown.
pub fn has_levels(server: &Reconciliation) -> bool {
    server.times.iter().any(|time| !time.levels.is_empty())
}

/// The tables of the server's metrics, without the resource use of its process.
pub fn tables(s: &Summary) -> Vec<Table> {
    let Some(server) = &s.server else { return Vec::new() };
    let times = (!server.times.is_empty()).then(|| times(server));
    [times, split(server), counts(server), state(s, server)].into_iter().flatten().collect()
}

/// The table. If it is too wide, its last column, which contains sentences, becomes lines below it; if it is still too
/// wide, the intervals in parentheses are removed.
fn fitting(table: &Table, width: usize) -> String {
    if table.width() <= width || table.head.last().is_none_or(|head| head != "Verdict") {
        return table.render();
    }
    let mut short = table.clone();
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
pub fn used(s: &Summary) -> Option<Table> {
    let used = s.server_use.as_ref()?;
    let gib = |bytes: Option<f64>| optional(bytes.map(|bytes| bytes / GIB));
    let row = |name: &str, value: String| vec![name.to_string(), value];
    Some(Table {
        head: ["Used by the server", "Value"].map(String::from).to_vec(),
        aligns: vec![Align::Left, Align::Decimal],
        rows: vec![
            row("Cores busy on average", optional(used.cores)),
            row("Peak memory (GiB)", gib(used.peak_rss_bytes)),
            row("Peak GPU memory (GiB)", gib(used.peak_gpu_bytes)),
        ],
        grid: false,
    })
}

/// The same as JSON; null for any other server.
pub fn use_json(s: &Summary) -> Json {
    let Some(used) = &s.server_use else { return Json::Null };
    json!({"cores": used.cores, "peak_rss_bytes": used.peak_rss_bytes, "peak_gpu_bytes": used.peak_gpu_bytes})
}

fn times(server: &Reconciliation) -> Table {
    let mut rows = Vec::new();
    for time in &server.times {
        let quantile = |level: usize| time.levels.get(level).map_or("-".to_string(), |(client, _)| client_text(client));
        let interval = |level: usize| time.levels.get(level).map_or("-".to_string(), |(_, server)| bounds_text(server));
        let mut row = vec![format!("{} client", time.name), optional(time.client_mean_s)];
        row.extend((0..LEVELS.len()).map(quantile));
        row.push(verdict_text(&time.verdict));
        rows.push(row);
        let mut row = vec![format!("{} server", time.name), optional(time.server_mean_s)];
        row.extend((0..LEVELS.len()).map(interval));
        row.push(String::new());
        rows.push(row);
    }
    if let Some((mean, levels)) = &server.queue {
        let mut row = vec!["Queue server".to_string(), optional(*mean)];
        row.extend((0..LEVELS.len()).map(|level| levels.get(level).map_or("-".to_string(), bounds_text)));
        row.push(String::new());
        rows.push(row);
    }
    let head = ["Seconds", "Mean", "50%", "90%", "99%", "Verdict"];
    Table {
        head: head.map(String::from).to_vec(),
        aligns: vec![Align::Left, Align::Right, Align::Center, Align::Center, Align::Center, Align::Left],
        rows,
        grid: false,
    }
}

/// The value with its confidence interval.
fn client_text(quantile: &Quantile) -> String {
    let value = number(quantile.value);
    match quantile.interval {
        Some(interval) => format!("{value} ({} .. {})", optional(interval.low), optional(interval.high)),
        None => value,
    }
}

fn bounds_text(bounds: &Bounds) -> String {
    match bounds.high {
        Some(high) => format!("{} .. {}", number(bounds.low), number(high)),
        None => format!("above {}", number(bounds.low)),
    }
}

pub(super) fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Consistent => "consistent".to_string(),
        Verdict::Apart { by_s } => {
            let side = if *by_s > 0.0 { "client" } else { "server" };
            format!("apart: {side} +{}", format_ns((by_s.abs() * 1e9) as u64))
        }
        Verdict::NotJudged(why) => format!("not judged: {why}"),
    }
}

fn split(server: &Reconciliation) -> Option<Table> {
    let split = server.split.as_ref()?;
    let rows = parts(split).map(|(name, seconds)| vec![name.to_string(), signed_time(seconds)]).to_vec();
    Some(Table {
        head: vec!["Parts of the mean TTFT".to_string(), "Time".to_string()],
        aligns: vec![Align::Left, Align::Right],
        rows,
        grid: false,
    })
}

fn parts(split: &Split) -> [(&'static str, f64); 6] {
    [
        ("TTFT from due", split.whole_s),
        ("Connecting", split.connect_s),
        ("Send lag", split.send_lag_s),
        ("Network and server frontend", split.between_s),
        ("The server's own TTFT", split.server_s),
        ("Receive lag (unstamped reads)", split.receive_lag_s),
    ]
}

pub(super) fn signed_time(seconds: f64) -> String {
    let text = format_ns((seconds.abs() * 1e9).round() as u64);
    if seconds < 0.0 { format!("-{text}") } else { text }
}

fn counts(server: &Reconciliation) -> Option<Table> {
    if server.counts.is_empty() {
        return None;
    }
    let row = |count: &Counted| {
        let client = count.client.map_or_else(|| "-".to_string(), |client| client.to_string());
        vec![count.name.to_string(), client, count.server.to_string(), equality(count)]
    };
    Some(Table {
        head: ["Counts", "Client", "Server", "Verdict"].map(String::from).to_vec(),
        aligns: vec![Align::Left, Align::Right, Align::Right, Align::Left],
        rows: server.counts.iter().map(row).collect(),
        grid: false,
    })
}

fn equality(count: &Counted) -> String {
    let word = match count.equal {
        Some(true) => "equal",
        Some(false) => "apart",
        None => "not judged",
    };
    count.note.as_ref().map_or_else(|| word.to_string(), |note| format!("{word}: {note}"))
}

/// The server's gauges and the client's concurrency.
fn state(s: &Summary, server: &Reconciliation) -> Option<Table> {
    let mut rows = Vec::new();
    let mut row = |name: &str, gauge: Option<Gauge>| {
        if let Some(gauge) = gauge {
            rows.push(vec![name.to_string(), optional(gauge.mean), number(gauge.max)]);
        }
    };
    row("Running (server)", server.running);
    row("Waiting (server)", server.waiting);
    row("Cache use (server, share)", server.cache_use);
    if rows.is_empty() {
        return None;
    }
    rows.push(vec!["In flight (client)".to_string(), optional(s.concurrency.mean), s.concurrency.peak.to_string()]);
    if let Some(preemptions) = server.preemptions {
        rows.push(vec!["Preemptions (server)".to_string(), "-".to_string(), preemptions.to_string()]);
    }
    Some(Table {
        head: ["State", "Mean of scrapes", "Maximum"].map(String::from).to_vec(),
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
        "looks": server.looks,
        "restarts": server.resets,
        "times": server.times.iter().map(time_json).collect::<Vec<_>>(),
        "counts": server.counts.iter().map(count_json).collect::<Vec<_>>(),
        "ttft_split_s": server.split.as_ref().map(|split| {
            Json::Object(parts(split).into_iter().map(|(name, seconds)| (name.to_string(), json!(seconds))).collect())
        }),
        "queue": queue,
        "running": gauge(server.running),
        "waiting": gauge(server.waiting),
        "cache_use": gauge(server.cache_use),
        "preemptions": server.preemptions,
    })
}

fn level_name(per_mille: u32) -> String {
    format!("{}%", f64::from(per_mille) / 10.0)
}

fn bounds_json(bounds: &Bounds) -> Json {
    json!([bounds.low, bounds.high])
}

/// The name of a verdict, the excess difference in seconds, and the reason if the times were not comparable.
pub(super) fn verdict_json(verdict: &Verdict) -> (&'static str, Option<f64>, Option<&str>) {
    match verdict {
        Verdict::Consistent => ("consistent", None, None),
        Verdict::Apart { by_s } => ("apart", Some(*by_s), None),
        Verdict::NotJudged(why) => ("not judged", None, Some(why)),
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
        "server_mean_s": time.server_mean_s,
        "quantiles": Json::Object(of_levels.collect()),
        "own_error_s": time.measurement_error_s,
        "verdict": verdict,
        "apart_s": apart_s,
        "why": why,
    })
}

fn count_json(count: &Counted) -> Json {
    json!({
        "name": count.name.to_string(), "metric": count.metric, "client": count.client, "server": count.server,
        "equal": count.equal, "note": count.note,
    })
}
