//! The name of a load in tables and messages.

use super::language::Language;
use super::table::number;
use crate::record::facts::RunFacts;

/// The load of a run in short: `Concurrency 8`, `Rate 5` or both.
pub(crate) fn load_name(facts: &RunFacts, language: Language) -> String {
    let concurrency = facts.parallel.map(|p| format!("{} {p}", language.pick("Concurrency", "并发")));
    let rate = facts.rate_per_s.map(|rate| match facts.arrival.as_deref() {
        Some("burst") => language.pick("Burst", "突发").to_string(),
        _ => format!("{} {} req/s", language.pick("Rate", "速率"), number(rate)),
    });
    match (concurrency, rate) {
        (Some(concurrency), Some(rate)) => format!("{concurrency}, {rate}"),
        (one, other) => one.or(other).unwrap_or_else(|| "-".to_string()),
    }
}

/// The size of a load beside a point: `8`, `5/s` or both.
pub(crate) fn short_load(facts: &RunFacts) -> String {
    let concurrency = facts.parallel.map(|parallel| parallel.to_string());
    let rate = facts.rate_per_s.filter(|&rate| rate > 0.0).map(|rate| format!("{}/s", number(rate)));
    concurrency.into_iter().chain(rate).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_four_decimals_at_most() {
        let name = |rate| {
            let facts = RunFacts { rate_per_s: Some(rate), parallel: None, arrival: None, ..RunFacts::default() };
            (load_name(&facts, Language::En), short_load(&facts))
        };
        let expected = [("Rate 1.3333 req/s", "1.3333/s"), ("Rate 5 req/s", "5/s"), ("Rate 2.5 req/s", "2.5/s")];
        let expected = expected.map(|(long, short)| (long.to_string(), short.to_string()));
        assert_eq!([4.0 / 3.0, 5.0, 2.5].map(name), expected);
    }
}
