//! The server's metrics on the page: tables that compare them with the client's figures, and its load over the run.

use std::fmt::Write;

use super::chart::{Chart, Point, escape, points};
use super::elements;
use super::over_time::over_time;
use super::run::Run;
use super::words::Words;
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
pub fn charts(run: &Run) -> Vec<Chart> {
    let curve = |quantity, factor: f64| -> Vec<Point> {
        let values = metric_catalog::over_time(&run.scrapes, &run.summary.facts.model, quantity);
        points(values.into_iter().map(|(at, value)| (run.timeline.seconds(at.0), value.map(|value| value * factor))))
    };
    let requests = vec![
        (Words::new("running", "运行中"), curve(Quantity::Running, 1.0)),
        (Words::new("waiting", "等待中"), curve(Quantity::Waiting, 1.0)),
    ];
    let cache = vec![(Words::new("in use", "使用率"), curve(Quantity::CacheUse, 100.0))];
    let title = Words::new("Requests at the server", "服务端请求数");
    let requests = chart(title, Words::new("requests", "个请求"), requests);
    let cache = chart(Words::new("The server's KV cache", "服务端 KV 缓存"), "%".into(), cache);
    [requests, cache].into_iter().flatten().collect()
}

fn chart(title: Words, unit: Words, mut curves: Vec<(Words, Vec<Point>)>) -> Option<Chart> {
    curves.retain(|curve| !curve.1.is_empty());
    let note = Words::new("From the server's metrics, one point for each scrape.", "取自服务端指标，每次采集一个点。");
    (!curves.is_empty()).then(|| Chart { note, ..over_time(title, unit, curves) })
}
