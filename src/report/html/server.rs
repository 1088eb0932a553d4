//! The server's metrics on the page: tables that compare them with the client's figures, and its load over the run.

use std::fmt::Write;

use super::chart::{Chart, ChartLine, escape};
use super::elements::table;
use super::over_time::{Points, over_time};
use super::run::Run;
use crate::report::i18n::word;
use crate::report::language::Language;
use crate::report::server::{BUCKETS_NOTE, has_levels, tables, used};
use crate::report::table::{Table, number};
use crate::server::metric_catalog::{self, Quantity};
use crate::stats::Summary;

/// The tables; empty without metrics of the server.
pub fn section(s: &Summary, language: Language) -> String {
    let mut out = String::new();
    if let Some(server) = &s.server {
        let title = language.pick("Server metrics", "服务端自身指标");
        let looks = match language {
            Language::En => format!("{} scrapes over {} s", server.looks, number(server.window_s)),
            Language::Zh => format!("{} 秒内查看 {} 次", number(server.window_s), server.looks),
        };
        let _ = write!(out, "<h3>{title}</h3><p class=\"note\">{} · {looks}</p>", escape(server.server));
    }
    for (index, one) in tables(s).iter().enumerate() {
        out.push_str(&in_words(one, language));
        if index == 0 && s.server.as_ref().is_some_and(has_levels) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(word(BUCKETS_NOTE, language)));
        }
    }
    if let Some(used) = used(s) {
        let title = language.pick("The server started by ringmark", "由本程序启动的服务");
        let _ = write!(out, "<h3>{title}</h3>{}", in_words(&used, language));
    }
    out
}

fn in_words(shown: &Table, language: Language) -> String {
    let words = |cells: &[String]| cells.iter().map(|cell| cell_in_words(cell, language)).collect::<Vec<_>>();
    let rows: Vec<(&str, Vec<String>)> = shown.rows.iter().map(|row| ("", words(row))).collect();
    table(&words(&shown.head), &rows)
}

/// A cell in a language. A verdict is followed by a colon and by how much, on which side, or why.
fn cell_in_words(cell: &str, language: Language) -> String {
    let Some((verdict, why)) = cell.split_once(": ").filter(|_| language == Language::Zh) else {
        return word(cell, language).to_string();
    };
    let sides = ["client +", "server +"];
    let why = match sides.into_iter().find_map(|side| Some((why.strip_prefix(side)?, side))) {
        Some((time, side)) => format!("{} {time}", word(side, language)),
        None => word(why, language).to_string(),
    };
    format!("{}：{why}", word(verdict, language))
}

/// Running and waiting requests at the server, and the use of its cache, for each scrape.
pub fn charts(run: &Run, language: Language) -> Vec<Chart> {
    let curve = |quantity| -> Points {
        let looks = metric_catalog::over_time(&run.looks, &run.summary.facts.model, quantity);
        looks.into_iter().map(|(at, value)| (run.timeline.seconds(at.0), value)).collect()
    };
    let requests = [
        (language.pick("running", "运行中"), curve(Quantity::Running)),
        (language.pick("waiting", "等待中"), curve(Quantity::Waiting)),
    ];
    let percent = |points: Points| points.into_iter().map(|(x, y)| (x, y.map(|share| share * 100.0))).collect();
    let cache = [(language.pick("in use", "已使用"), percent(curve(Quantity::CacheUse)))];
    let title = language.pick("Requests at the server", "服务端请求数");
    let cache_title = language.pick("The server's cache", "服务端缓存");
    let requests = chart(run, title, language.pick("requests", "请求"), requests.to_vec(), language);
    let cache = chart(run, cache_title, "%", cache.to_vec(), language);
    [requests, cache].into_iter().flatten().collect()
}

fn chart(run: &Run, title: &str, y_label: &str, curves: Vec<(&str, Points)>, language: Language) -> Option<Chart> {
    let lines: Vec<ChartLine> = curves
        .into_iter()
        .filter(|curve| !curve.1.is_empty())
        .map(|(name, points)| ChartLine::new(name, points))
        .collect();
    let note =
        language.pick("From the server's metrics, one point for each scrape.", "来自服务端指标页，每次查看一个点。");
    (!lines.is_empty()).then(|| Chart {
        lines,
        y_label: y_label.to_string(),
        note: note.to_string(),
        ..over_time(run, title, Vec::new(), language)
    })
}
