//! The client's measurement error: its share of the figures, and the resulting bounds of every percentile.

use serde_json::{Map, Value as Json, json};

use super::json_value::finite;
use super::table::{Align, Decimals, Milliseconds, Table, in_ms, number, share_text, wrap};
use crate::host::calibration::{Calibration, Spread};
use crate::stats::Summary;
use crate::stats::measurement_error::{Bound, StampSource};
use crate::stats::quantile::{LEVELS, Series};
use crate::time::format_ns;

/// Rows of the table of bounds; the JSON file has all of them.
const SHOWN: [u32; 5] = [500, 900, 990, 999, 1000];

/// Both tables; empty if no request succeeded.
pub fn text(s: &Summary, width: usize) -> String {
    if s.measurement_error.latency_s.is_empty() {
        return String::new();
    }
    let mut out = format!("\nThe client's measurement error, as a share of the medians:\n{}", shares(s).render());
    out.push_str(&format!("\nBounds from the measurement error (they contain the true value):\n{}", bounds(s, width)));
    out.push_str(&wrap("", &ground(s), width));
    out
}

/// The four figures with their bounds.
fn figures(s: &Summary) -> [(&'static str, &Series, &[Bound]); 4] {
    let own = &s.measurement_error;
    [
        ("TTFT (s)", &s.series.ttft_s, &own.ttft_s),
        ("ITL (s)", &s.series.itl_s, &own.itl_s),
        ("TPOT (s)", &s.series.tpot_s, &own.tpot_s),
        ("Latency (s)", &s.series.latency_s, &own.latency_s),
    ]
}

fn shares(s: &Summary) -> Table {
    let c = &s.client;
    let series = &s.series;
    let (names, medians) = match series.ttft_s.count {
        // Nothing was streamed.
        0 => (vec!["99% of latency"], vec![series.latency_s.value(500)]),
        _ => (vec!["99% of TTFT", "99% of ITL"], vec![series.ttft_s.value(500), series.itl_s.value(500)]),
    };
    let row = |name: &str, ns: [Option<u64>; 2]| {
        let length = ns.map(|ns| ns.map_or_else(|| "-".to_string(), format_ns));
        let shares = medians.iter().map(|&median| match (ns[1], median) {
            (Some(ns), Some(median)) if median > 0.0 => share_text(ns as f64 / 1e9 / median),
            _ => "-".to_string(),
        });
        [name.to_string()].into_iter().chain(length).chain(shares).collect()
    };
    let lag = |lag: crate::stats::client::Lag| {
        if lag.count > 0 { [Some(lag.p50), Some(lag.p99)] } else { [None, None] }
    };
    Table {
        aligns: std::iter::once(Align::Left).chain(vec![Align::Right; 2 + names.len()]).collect(),
        head: ["Own error", "50%", "99%"].into_iter().chain(names).map(String::from).collect(),
        rows: vec![
            row("Own send lag", lag(c.own_send_lag)),
            row("Receive lag", lag(c.receive_lag)),
            row("Loop gap", lag(c.loop_gap)),
            row("Kernel timestamps (99.9%)", [None, Some(s.measurement_error.stamp.ns)]),
        ],
        grid: false,
    }
}

/// One table if it fits, else two.
fn bounds(s: &Summary, width: usize) -> String {
    let figures: Vec<_> = figures(s).into_iter().filter(|(_, series, _)| series.count > 0).collect();
    let whole = bounds_table(&figures);
    if whole.width() <= width || figures.len() <= 2 {
        return whole.render();
    }
    bounds_table(&figures[..2]).render() + &bounds_table(&figures[2..]).render()
}

fn bounds_table(figures: &[(&'static str, &Series, &[Bound])]) -> Table {
    /// Decimals of the distance from a figure to its bounds, milliseconds.
    const DISTANCE: Decimals = Decimals(4);
    let shown = || LEVELS.iter().enumerate().filter(|(_, level)| SHOWN.contains(&level.per_mille));
    let column = |(_, series, bounds): &(&'static str, &Series, &[Bound])| -> Vec<String> {
        let ms = Milliseconds::new(shown().filter_map(|(row, _)| series.quantiles.get(row)).map(|q| q.value));
        let by = |seconds: f64| DISTANCE.text(seconds.max(0.0) * 1e3);
        let text = |value: f64, bound: &Bound| {
            format!("{} -{} +{}", ms.text(value), by(value - bound.low), by(bound.high - value))
        };
        let cell = |row: usize| Some(text(series.quantiles.get(row)?.value, bounds.get(row)?));
        shown().map(|(row, _)| cell(row).unwrap_or_else(|| "-".to_string())).collect()
    };
    let columns: Vec<Vec<String>> = figures.iter().map(column).collect();
    let row = |(place, level): (usize, &str)| {
        std::iter::once(level.to_string()).chain(columns.iter().map(|cells| cells[place].clone())).collect()
    };
    Table {
        head: std::iter::once("Percentiles".to_string()).chain(figures.iter().map(|figure| in_ms(figure.0))).collect(),
        aligns: vec![Align::Center; figures.len() + 1],
        rows: shown().map(|(_, level)| level.name).enumerate().map(row).collect(),
        grid: false,
    }
}

/// The basis of the bounds.
fn ground(s: &Summary) -> String {
    let own = &s.measurement_error;
    let stamp = match &own.stamp.source {
        StampSource::Calibrated => "calibrated on this machine at a similar load",
        StampSource::Default => "by default; 'ringmark rig --calibrate' measures this machine",
        StampSource::Unfit(_) => "by default, because the calibration does not fit",
    };
    let stall = own.stall_ns.map_or_else(|| "-".to_string(), format_ns);
    format!(
        "Kernel timestamps are accurate to {} ({stamp}), the workers' clocks to {}; the longest stall of a worker was \
         {stall}. Receive lag and stalls affect a figure only if events shared a read or had no timestamp.",
        format_ns(own.stamp.ns),
        format_ns(own.clock_ns)
    )
}

/// The same as JSON, with every percentile.
pub fn json(s: &Summary) -> Json {
    let own = &s.measurement_error;
    let (source, why) = match &own.stamp.source {
        StampSource::Default => ("default", None),
        StampSource::Calibrated => ("calibration", None),
        StampSource::Unfit(why) => ("default", Some(why.to_string())),
    };
    let of_levels = |bounds: &[Bound]| {
        let pair = |bound: &Bound| json!([finite(Some(bound.low)), finite(Some(bound.high))]);
        Json::Object(LEVELS.iter().zip(bounds).map(|(level, bound)| (level.name.to_string(), pair(bound))).collect())
    };
    let bounds: Map<String, Json> =
        figures(s).into_iter().map(|(name, _, bounds)| (name.to_string(), of_levels(bounds))).collect();
    json!({
        "Stamp error (ns)": own.stamp.ns,
        "Stamp error from": source,
        "Clock error (ns)": own.clock_ns,
        "Calibration does not fit because": why,
        "Longest stall (ns)": own.stall_ns,
        "Gaps in doubt (share)": own.doubtful.map_or(0.0, |doubtful| doubtful.share),
        "Bounds": bounds,
    })
}

/// A calibration as two columns, for the screen.
pub(crate) fn calibration_text(c: &Calibration, width: usize) -> String {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    let rate = |value: Option<f64>| optional(value.map(|rate| number(rate.round())));
    let share = |value: Option<f64>| optional(value.map(|share| format!("{:.2} %", share * 100.0)));
    let row = |name: &str, value: String| vec![name.to_string(), value];
    let load = &c.load;
    let shape = [
        load.parallel.map(|parallel| format!("parallel {parallel}")),
        load.rate_per_s.map(|rate| format!("{rate} requests/s")),
    ];
    let table = Table {
        head: ["Calibration against the mock", "Value"].map(String::from).to_vec(),
        aligns: vec![Align::Left, Align::Right],
        rows: vec![
            row("Load", shape.into_iter().flatten().collect::<Vec<_>>().join(", ")),
            row(
                "TTFT / ITL / tokens",
                format!("{} / {} / {}", format_ns(load.ttft_ns), format_ns(load.itl_ns), load.tokens),
            ),
            row("Workers", load.workers.to_string()),
            row("Requests / events", format!("{} / {}", c.requests, c.events)),
            row("Events/s at this load", rate(c.events_per_s)),
            row("Events/s at full speed", rate(c.sustained_events_per_s)),
            row("CPU per event", optional(c.cpu_per_event_ns.map(|ns| format_ns(ns as u64)))),
            row("Timestamp after the send p50 / p99 / p99.9 / max", spread(c.stamp_error)),
            row("Receive lag p50 / p99 / p99.9 / max", spread(c.receive_lag)),
            row("Send lag p50 / p99 / p99.9 / max", spread(c.send_lag)),
            row("Events that share a read", share(c.coalesced)),
            row("Reads with a kernel timestamp", share(c.stamped)),
        ],
        grid: false,
    };
    let notes: String = c.notes.iter().map(|note| wrap("Note: ", note, width)).collect();
    table.render() + &notes
}

fn spread(spread: Spread) -> String {
    if spread.count == 0 {
        return "-".to_string();
    }
    [spread.p50, spread.p99, spread.p999, spread.max].map(format_ns).join(" / ")
}
