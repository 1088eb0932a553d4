//! The server's metrics on the page: tables that compare them with the client's figures, and its load over the run.

use std::fmt::Write;

use super::chart::{Chart, ChartLine, escape};
use super::elements;
use super::over_time::{Points, over_time};
use super::run::Run;
use crate::report::i18n::Label;
use crate::report::language::Language;
use crate::report::server::{has_levels, tables, used};
use crate::report::table::{Table, number};
use crate::server::metric_catalog::{self, Quantity};
use crate::stats::Summary;

/// The tables; empty without metrics of the server.
pub fn section(s: &Summary, language: Language) -> String {
    let mut out = String::new();
    if let Some(server) = &s.server {
        let title = language.pick("Server metrics", "服务端自身指标");
        let scrapes = match language {
            Language::En => format!("{} scrapes over {} s", server.scrapes, number(server.window_s)),
            Language::Zh => format!("{} 秒内采集 {} 次", number(server.window_s), server.scrapes),
        };
        let warmup = match s.facts.has_flowing_warmup() {
            true => language.pick(" · both sides with the warm-up", " · 双方均包含预热请求"),
            false => "",
        };
        let _ = write!(out, "<h3>{title}</h3><p class=\"note\">{} · {scrapes}{warmup}</p>", escape(server.server));
    }
    for (index, one) in tables(s, language).iter().enumerate() {
        out.push_str(&table(&one.table));
        if index == 0 && s.server.as_ref().is_some_and(has_levels) {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(Label::BucketsNote.text(language)));
        }
    }
    if let Some(used) = used(s, language) {
        let title = language.pick("The server started by ringmark", "由 ringmark 启动的服务端");
        let _ = write!(out, "<h3>{title}</h3>{}", table(&used));
    }
    out
}

fn table(shown: &Table) -> String {
    let rows: Vec<(&str, Vec<String>)> = shown.rows.iter().map(|row| ("", row.clone())).collect();
    elements::table(&shown.head, &rows)
}

/// Running and waiting requests at the server, and the use of its cache, for each scrape.
pub fn charts(run: &Run, language: Language) -> Vec<Chart> {
    let curve = |quantity| -> Points {
        let values = metric_catalog::over_time(&run.scrapes, &run.summary.facts.model, quantity);
        values.into_iter().map(|(at, value)| (run.timeline.seconds(at.0), value)).collect()
    };
    let requests = [
        (language.pick("running", "运行中"), curve(Quantity::Running)),
        (language.pick("waiting", "等待中"), curve(Quantity::Waiting)),
    ];
    let percent = |points: Points| points.into_iter().map(|(x, y)| (x, y.map(|share| share * 100.0))).collect();
    let cache = [(language.pick("in use", "使用率"), percent(curve(Quantity::CacheUse)))];
    let title = language.pick("Requests at the server", "服务端请求数");
    let cache_title = language.pick("The server's KV cache", "服务端 KV 缓存");
    let requests = chart(run, title, language.pick("requests", "请求数"), requests.to_vec(), language);
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
        language.pick("From the server's metrics, one point for each scrape.", "取自服务端指标，每次采集一个点。");
    (!lines.is_empty()).then(|| Chart {
        lines,
        y_label: y_label.to_string(),
        note: note.to_string(),
        ..over_time(run, title, Vec::new(), language)
    })
}
