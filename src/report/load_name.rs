//! The name of a load in tables and messages.

use super::language::Language;
use crate::record::facts::RunFacts;

/// The load of a run in short: `Concurrency 8`, `Rate 5` or both.
pub(crate) fn load_name(facts: &RunFacts, language: Language) -> String {
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

/// The size of a load beside a point: `8`, `5/s` or both.
pub(crate) fn short_load(facts: &RunFacts) -> String {
    let concurrency = facts.parallel.map(|parallel| parallel.to_string());
    let rate = facts.rate_per_s.filter(|&rate| rate > 0.0).map(|rate| format!("{rate}/s"));
    concurrency.into_iter().chain(rate).collect::<Vec<_>>().join(", ")
}
