//! The conclusions from a sweep: its best loads and recommendations. [`super::knee`] decides; this file computes the
//! loads for it, and `messages` contains the sentences for its verdict.

mod messages;

use super::knee::{Load, SOUND, decide};
use super::language::Language;
use super::load_name::load_name;
use super::repeats::{self, Spread};
use super::table::percent_down;
use crate::finding::Finding;
use crate::record::facts::RunFacts;
use crate::stats::Summary;
use crate::stats::quantile::Series;

/// Success rates of at least this are good, or passable.
const GOOD: f64 = SOUND;
const PASSABLE: f64 = 0.80;

/// The grade of a success rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    Good,
    Passable,
    Bad,
}

impl Grade {
    /// The grade of a share from 0 to 1; unknown counts as bad.
    pub(crate) fn from_share(share: Option<f64>) -> Grade {
        match share {
            Some(share) if share >= GOOD => Grade::Good,
            Some(share) if share >= PASSABLE => Grade::Passable,
            _ => Grade::Bad,
        }
    }
}

/// Succeeded requests divided by those that succeeded or failed; `None` if there are none.
pub(crate) fn success_rate(s: &Summary) -> Option<f64> {
    let ended = s.counts.ok + s.counts.failed;
    (ended > 0).then(|| s.counts.ok as f64 / ended as f64)
}

/// The runs sorted by load, those of one load together in the order in which they ran. Closed loops come before rates.
pub(crate) fn by_load<'a>(runs: &[&'a Summary]) -> Vec<&'a Summary> {
    sorted_groups(runs).concat()
}

/// The indices of the runs in the order of [`by_load`].
pub fn order(runs: &[&Summary]) -> Vec<usize> {
    let place = |sorted: &&Summary| runs.iter().position(|run| std::ptr::eq(*run, *sorted));
    by_load(runs).iter().filter_map(place).collect()
}

fn sorted_groups<'a>(runs: &[&'a Summary]) -> Vec<Vec<&'a Summary>> {
    let key = |group: &Vec<&Summary>| {
        let facts = &group[0].facts;
        (facts.rate_per_s.unwrap_or(-1.0), facts.parallel, facts.requests)
    };
    let mut groups = repeats::groups(runs);
    groups.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)))
    });
    groups
}

/// The figures of the runs of one load. Void runs are excluded unless all are void.
fn load_of(group: &[&Summary]) -> Load {
    let usable: Vec<&Summary> = group.iter().copied().filter(|run| !run.is_void()).collect();
    let runs = if usable.is_empty() { group } else { &usable[..] };
    let mean = |of: fn(&Summary) -> Option<f64>| Spread::compute(runs, of).map(|spread| spread.mean);
    let total = |of: fn(&Summary) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
    let ended = total(|s| s.counts.ok + s.counts.failed);
    Load {
        parallel: runs[0].facts.parallel,
        rate_per_s: runs[0].facts.rate_per_s,
        offered_span_s: mean(|s| span_s(s.counts.ok + s.counts.failed + s.counts.unfinished, s.rates.offered_per_s)),
        answered_span_s: mean(|s| span_s(s.counts.ok, s.rates.achieved_per_s)),
        offered_per_s: mean(|s| s.rates.offered_per_s),
        achieved_per_s: mean(|s| s.rates.achieved_per_s),
        requests_per_s: mean(|s| s.throughput.requests_per_s),
        latency_s: mean(|s| s.series.latency_s.mean),
        ttft_s: mean(|s| s.series.ttft_s.mean),
        latency_spread_s: mean(|s| latency_spread_s(&s.series.latency_s)),
        success: (ended > 0).then(|| total(|s| s.counts.ok) as f64 / ended as f64),
        void: usable.is_empty(),
        interrupted: runs.iter().any(|run| run.end.as_ref().is_some_and(|end| end.interrupted)),
        overloaded: runs.iter().any(|run| run.findings.iter().any(|finding| matches!(finding, Finding::Growth { .. }))),
    }
}

/// The time that this many events at this rate span.
fn span_s(events: u64, per_s: Option<f64>) -> Option<f64> {
    Some(events.checked_sub(1)? as f64 / per_s?)
}

fn latency_spread_s(latency: &Series) -> Option<f64> {
    Some(latency.max? - latency.min?)
}

/// The loads of one kind, sorted, each with one of its runs for its name.
struct Kind<'a> {
    loads: Vec<Load>,
    runs: Vec<&'a Summary>,
}

/// Groups of comparable loads: the same model and data, all with a rate or all without. In the order of their first
/// run.
fn kinds<'a>(runs: &[&'a Summary]) -> Vec<Kind<'a>> {
    let alike = |a: &RunFacts, b: &RunFacts| {
        a.rate_per_s.is_some() == b.rate_per_s.is_some()
            && (&a.model, &a.dataset, &a.api) == (&b.model, &b.dataset, &b.api)
    };
    let mut kinds: Vec<Kind<'a>> = Vec::new();
    for group in sorted_groups(runs) {
        let load = load_of(&group);
        match kinds.iter_mut().find(|kind| alike(&kind.runs[0].facts, &group[0].facts)) {
            Some(kind) => {
                kind.loads.push(load);
                kind.runs.push(group[0]);
            }
            None => kinds.push(Kind { loads: vec![load], runs: vec![group[0]] }),
        }
    }
    kinds
}

/// The best load by some figure, and the mean of that figure over its runs.
#[derive(Clone, Copy, Debug)]
pub struct Best<'a> {
    /// One of its runs.
    pub run: &'a Summary,
    pub value: f64,
}

/// The load with the most requests per second, and the load with the shortest average latency; the lowest of equal
/// ones. Loads that are void, or at which too many requests fail, are excluded.
pub fn best<'a>(runs: &[&'a Summary]) -> (Option<Best<'a>>, Option<Best<'a>>) {
    let kinds = kinds(runs);
    let all = |of: fn(&Load) -> Option<f64>| {
        let pairs = kinds.iter().flat_map(|kind| kind.loads.iter().zip(&kind.runs));
        let sound = pairs.filter(|(load, _)| load.is_sound());
        let best = sound.filter_map(|(load, run)| Some(Best { run, value: of(load)? }));
        best.filter(|best| best.value.is_finite()).collect::<Vec<Best<'a>>>()
    };
    let fastest = all(|load| load.requests_per_s).into_iter().rev().max_by(|a, b| a.value.total_cmp(&b.value));
    let shortest = all(|load| load.latency_s).into_iter().min_by(|a, b| a.value.total_cmp(&b.value));
    (fastest, shortest)
}

/// The recommendations from a sweep, each of one or two sentences.
pub fn recommendations(runs: &[&Summary], language: Language) -> Vec<String> {
    let mut out = Vec::new();
    for kind in kinds(runs) {
        let names: Vec<String> = kind.runs.iter().map(|run| load_name(&run.facts, language)).collect();
        out.extend(messages::sentence(decide(&kind.loads), &kind.loads, &names, language));
        let failing = kind.loads.iter().zip(&kind.runs).filter(|(load, _)| load.is_failing());
        let failing: Vec<String> = failing.map(|(load, run)| share_at(load, run, language)).collect();
        if !failing.is_empty() {
            out.push(about_failures(&failing, language));
        }
    }
    out
}

fn share_at(load: &Load, run: &Summary, language: Language) -> String {
    let percent = percent(load.success.unwrap_or(0.0));
    let name = load_name(&run.facts, language);
    match language {
        Language::En => format!("{percent} at {name}"),
        Language::Zh => format!("{name} 为 {percent}"),
    }
}

fn about_failures(failing: &[String], language: Language) -> String {
    match language {
        Language::En => format!(
            "Too few requests succeeded: {}. Look at the table of failures and at the server's resources.",
            failing.join(", ")
        ),
        Language::Zh => format!("成功率过低：{}。请查看失败列表并检查服务端资源。", failing.join("，")),
    }
}

/// As the tables have it.
fn percent(share: f64) -> String {
    format!("{} %", percent_down(share))
}
