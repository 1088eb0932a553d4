//! What a sweep says about the server: its best loads, and what to try next. Facts only; the words are chosen where
//! they are shown.

use super::language::Language;
use super::repeats;
use crate::record::facts::{Mode, RunFacts};
use crate::stats::Summary;

/// Success rates from here on are good, and from there on passable.
const GOOD: f64 = 0.95;
const PASSABLE: f64 = 0.80;

/// How a success rate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Good,
    Passable,
    Bad,
}

impl Grade {
    /// The grade of a share from 0 to 1; unknown counts as bad.
    pub fn of(share: Option<f64>) -> Grade {
        match share {
            Some(share) if share >= GOOD => Grade::Good,
            Some(share) if share >= PASSABLE => Grade::Passable,
            _ => Grade::Bad,
        }
    }
}

/// Requests that succeeded over those that ended; `None` when none did.
pub fn success_rate(s: &Summary) -> Option<f64> {
    let ended = s.counts.ok + s.counts.failed;
    (ended > 0).then(|| s.counts.ok as f64 / ended as f64)
}

/// The load of a run in a few characters, as `Concurrency 8`, `Rate 5` or both.
pub fn load_name(facts: &RunFacts, language: Language) -> String {
    let concurrency = facts.parallel.map(|p| format!("{} {p}", language.pick("Concurrency", "并发")));
    let rate = facts.rate_per_s.map(|rate| match facts.arrival.as_deref() {
        Some("burst") => language.pick("Burst", "突发").to_string(),
        _ => format!("{} {rate} req/s", language.pick("Rate", "速率")),
    });
    match (concurrency, rate) {
        (Some(concurrency), Some(rate)) => format!("{concurrency}, {rate}"),
        (one, other) => one.or(other).unwrap_or_else(|| "-".to_string()),
    }
}

/// A load that stands out, and by which value: the mean of its runs.
#[derive(Clone, Copy, Debug)]
pub struct Best<'a> {
    /// One of its runs.
    pub run: &'a Summary,
    pub value: f64,
}

/// The load with the most requests per second, and the one with the shortest average latency.
pub fn best<'a>(runs: &[&'a Summary]) -> (Option<Best<'a>>, Option<Best<'a>>) {
    let groups = repeats::groups(runs);
    let all = |of: fn(&Summary) -> Option<f64>| -> Vec<Best<'a>> {
        let value = |group: &Vec<&'a Summary>| {
            let run = *group.iter().find(|run| run.counts.ok > 0)?;
            let value = repeats::Spread::of(group, of)?.mean;
            value.is_finite().then_some(Best { run, value })
        };
        groups.iter().filter_map(value).collect()
    };
    let fastest = all(|s| s.throughput.requests_per_s).into_iter().max_by(|a, b| a.value.total_cmp(&b.value));
    let shortest = all(|s| s.series.latency_s.mean).into_iter().min_by(|a, b| a.value.total_cmp(&b.value));
    (fastest, shortest)
}

/// What a sweep advises, each a sentence.
pub fn recommendations(runs: &[&Summary], language: Language) -> Vec<String> {
    let mut out = Vec::new();
    let groups = repeats::groups(runs);
    let (fastest, _) = best(runs);
    if let (Some(fastest), true) = (fastest, groups.len() > 1) {
        out.push(about_load(&groups, fastest.run, language));
    }
    // The worst run of the last load.
    let rates = groups.last().into_iter().flatten().map(|run| success_rate(run));
    let last = rates.min_by(|a, b| a.unwrap_or(0.0).total_cmp(&b.unwrap_or(0.0)));
    if let Some(rate) = last.filter(|rate| Grade::of(*rate) != Grade::Good) {
        out.push(about_failures(rate, language));
    }
    if runs.iter().any(|run| run.is_void()) {
        out.push(
            language
                .pick(
                    "At least one run is void (see its findings): do not base decisions on it.",
                    "至少有一次测试无效（见其结论），请勿据此做决定。",
                )
                .to_string(),
        );
    }
    out
}

fn about_load(groups: &[Vec<&Summary>], fastest: &Summary, language: Language) -> String {
    let is = |group: Option<&Vec<&Summary>>| group.into_iter().flatten().any(|run| std::ptr::eq(*run, fastest));
    let load = load_name(&fastest.facts, language);
    if is(groups.last()) {
        match (fastest.facts.mode, language) {
            (Mode::Open, Language::En) => {
                "The highest rate gave the most requests/s: the server has not reached its bottleneck. Try higher rates."
            }
            (_, Language::En) => {
                "The highest load gave the most requests/s: the server has not reached its bottleneck. Try higher \
                 concurrency."
            }
            (_, Language::Zh) => "最高负载下吞吐量仍在上升：系统尚未达到性能瓶颈，可尝试更高的负载。",
        }
        .to_string()
    } else if is(groups.first()) {
        language.pick(
            "The lowest load gave the most requests/s: every higher one is past the bottleneck. Consider lowering the \
             load.",
            "最低负载下吞吐量最高：更高的负载均已超过性能瓶颈，建议降低负载。",
        ).to_string()
    } else {
        match language {
            Language::En => format!("The optimum is around {load}: beyond it requests/s no longer rise."),
            Language::Zh => format!("最佳负载在 {load} 附近：超过后吞吐量不再上升。"),
        }
    }
}

fn about_failures(rate: Option<f64>, language: Language) -> String {
    let percent = rate.map_or_else(|| "0".to_string(), |rate| format!("{:.1}", rate * 100.0));
    match language {
        Language::En => format!(
            "Only {percent} % of the requests succeeded at the last load. Look at the failures table and at the \
             server's resources."
        ),
        Language::Zh => format!("最后一档负载的成功率仅为 {percent} %，请查看失败列表并检查服务端资源。"),
    }
}
