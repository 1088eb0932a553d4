//! The client's times compared with the server's own times, request by request, as a table and as JSON.

use serde_json::{Value as Json, json};

use super::json_value::finite;
use super::language::Language;
use super::server::{verdict_json, verdict_text};
use super::table::{Align, Milliseconds, Table, wrap};
use crate::finding::Figure;
use crate::stats::Summary;
use crate::stats::quantile::Series;
use crate::stats::server_timings::{ServerTimings, TimingComparison};

/// The table; empty if no response contains the server's times.
pub fn text(s: &Summary, width: usize) -> String {
    let Some(timings) = &s.server_timings else { return String::new() };
    let figures = |time: &TimingComparison| {
        let d = &time.difference;
        [time.client.value(500), time.server.value(500), d.min, d.value(500), d.value(990), d.max]
    };
    let medians = timings.times.iter().flat_map(|time| [time.client.value(500), time.server.value(500)]);
    let ms = Milliseconds::new(medians.flatten());
    let row = |time: &TimingComparison| {
        std::iter::once(name_of(time, timings.with_queue))
            .chain(figures(time).map(|seconds| ms.optional(seconds)))
            .chain([verdict_text(&time.verdict, Language::En)])
            .collect()
    };
    let head = ["Time (ms)", "Client 50%", "Server 50%", "Diff min", "50%", "99%", "max", "Verdict"];
    let mut aligns = vec![Align::Right; head.len()];
    (aligns[0], aligns[head.len() - 1]) = (Align::Left, Align::Left);
    let table = Table {
        head: head.map(String::from).to_vec(),
        aligns,
        rows: timings.times.iter().map(row).collect(),
        grid: false,
    };
    let requests = timings.requests;
    let mut out = format!(
        "\nRequest by request, compared with the server's own times ({requests} requests):\n{}",
        table.render()
    );
    out.push_str(&wrap("", explanation(timings), width));
    out
}

/// The time with what the server's value of it is, which is not that of the server's metrics.
fn name_of(time: &TimingComparison, with_queue: bool) -> String {
    let part = match (time.name, with_queue) {
        (Figure::Ttft, true) => "queue + prefill",
        (Figure::Ttft, false) => "prefill",
        _ => "decode",
    };
    format!("{} ({part})", time.name)
}

fn explanation(timings: &ServerTimings) -> &'static str {
    if timings.with_queue {
        "The client's TTFT counts from the first byte sent, the server's from the start of its queue. The difference \
         is the network, the server's frontend, the rest of the engine step during which the request arrives, and the \
         client's measurement error."
    } else {
        "The client's TTFT counts from the first byte sent, the server's from the start of the prefill. The difference \
         is the wait for a slot, which this server does not report, the network, the server's frontend, and the \
         client's measurement error."
    }
}

/// The same as JSON; null if there is none.
pub fn json(s: &Summary) -> Json {
    let Some(timings) = &s.server_timings else { return Json::Null };
    let series = |s: &Series| {
        let at = |per_mille| finite(s.value(per_mille));
        json!({"mean": finite(s.mean), "min": finite(s.min), "50%": at(500), "99%": at(990), "max": finite(s.max)})
    };
    let time = |time: &TimingComparison| {
        let (verdict, apart_s, _) = verdict_json(&time.verdict);
        json!({
            "name": time.name,
            "count": time.difference.count,
            "client_s": series(&time.client),
            "server_s": series(&time.server),
            "difference_s": series(&time.difference),
            "verdict": verdict,
            "apart_s": apart_s,
        })
    };
    json!({
        "requests": timings.requests,
        "with_queue": timings.with_queue,
        "times": timings.times.iter().map(time).collect::<Vec<_>>(),
    })
}
