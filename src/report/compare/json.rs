//! A comparison as JSON: the results of `compare --json`.

use serde_json::{Value as Json, json};

use super::gate::{Gate, LEVEL, Outcome, Test};
use super::rows::{Kind, Row, RowName, Value, Verdict, compare};
use super::sides::{Comparison, Entry, letter};
use super::warnings::warnings;
use crate::finding::Severity;
use crate::report::i18n::{Label, Statistic};
use crate::report::json_value::finite;
use crate::report::language::Language;
use crate::report::repeats;

/// The sides, the loads with their rows, and the result of `--fail-on`.
pub fn json(comparison: &Comparison<'_>, gate: Option<&Gate>) -> Json {
    let side = |(number, side): (usize, &super::Side<'_>)| {
        json!({
            "side": letter(number),
            "name": side.name,
            "model": side.runs[0].summary.facts.model,
            "runs": side.runs.len(),
            "void": side.runs.iter().any(|run| run.summary.is_void()),
        })
    };
    let mut pairs = Vec::new();
    for load in &comparison.loads {
        let Some((a, others)) = load.entries.split_first() else { continue };
        let name = load.name.map(|name| name.text(Language::En));
        pairs.extend(others.iter().map(|b| pair(a, b, name.as_deref())));
    }
    json!({
        "sides": comparison.sides.iter().enumerate().map(side).collect::<Vec<_>>(),
        "comparisons": pairs,
        "not_compared": comparison.missing.iter().map(|missing| missing.text(Language::En)).collect::<Vec<_>>(),
        "fail_on": gate.map(of_gate),
    })
}

fn pair(a: &Entry<'_>, b: &Entry<'_>, name: Option<&str>) -> Json {
    let compared = compare(&a.runs, &b.runs);
    let warnings = warnings(a, b, &compared, Language::En);
    let warning = |warning: &super::warnings::Warning| json!({"severity": if warning.severity == Severity::Void { "void" } else { "caution" }, "text": warning.text});
    json!({
        "side": letter(b.side),
        "load_name": name,
        "load": repeats::load(&a.runs[0].summary.facts),
        "runs": [a.runs.len(), b.runs.len()],
        "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
        "figures": compared.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Json {
    let value = |value: Value| json!({"value": finite(value.value), "few_samples": value.few, "upper_bound": finite(value.at_most)});
    json!({
        "figure": figure(row.name),
        "unit": unit(row.kind, row.name),
        "a": value(row.a),
        "b": value(row.b),
        "change": finite(row.change()),
        "change_percent": finite(row.percent()),
        "ci95_low": finite(row.difference.and_then(|difference| difference.low)),
        "ci95_high": finite(row.difference.and_then(|difference| difference.high)),
        "verdict": verdict(row.verdict),
    })
}

/// The name of a figure, as `--slo` and `--fail-on` have it if they do.
fn figure(name: RowName) -> String {
    match name {
        RowName::Time(statistic, figure) => format!("{}_{}", statistic_name(statistic), figure.en().to_lowercase()),
        RowName::Label(Label::SucceedRequests) => "succeeded_requests".to_string(),
        RowName::Label(Label::FailedRequests) => "failed_requests".to_string(),
        RowName::Label(Label::UnfinishedRequests) => "unfinished_requests".to_string(),
        RowName::Label(Label::UnsentRequests) => "unsent_requests".to_string(),
        RowName::Label(Label::SuccessRate) => "success".to_string(),
        RowName::Label(Label::RequestsPerS) => "rps".to_string(),
        RowName::Label(Label::OutputTokPerS) => "tps".to_string(),
        RowName::Label(label) => label.en().to_string(),
    }
}

fn statistic_name(statistic: Statistic) -> String {
    match statistic.per_mille() {
        Some(per_mille) => format!("p{}", f64::from(per_mille) / 10.0),
        None => "avg".to_string(),
    }
}

fn unit(kind: Kind, name: RowName) -> &'static str {
    match (kind, name) {
        (Kind::Count, _) => "requests",
        // The success rate is from 0 to 1.
        (Kind::Share, _) => "share",
        (Kind::Rate, RowName::Label(Label::OutputTokPerS)) => "tok/s",
        (Kind::Rate, _) => "req/s",
        (Kind::Time, _) => "s",
    }
}

fn verdict(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Better => Some("better"),
        Verdict::Worse => Some("worse"),
        Verdict::NotSure => Some("not_sure"),
        Verdict::TooFew => Some("too_few_samples"),
        Verdict::Unknown => Some("unknown"),
        Verdict::NotComparable => Some("not_comparable"),
        Verdict::Void => Some("void"),
        Verdict::None => None,
    }
}

fn of_gate(gate: &Gate) -> Json {
    let test = |test: &Test| {
        json!({
            "side": letter(test.side),
            "load_name": test.load,
            "figure": test.limit.name,
            "unit": test.limit.figure.unit(),
            "limit_percent": test.limit.by_percent,
            "implied": test.limit.implied,
            "a": finite(Some(test.a)),
            "b": finite(Some(test.b)),
            "a_upper_bound": finite(test.at_most[0]),
            "b_upper_bound": finite(test.at_most[1]),
            "change_percent": finite(Some(test.change_percent)),
            "p": finite(Some(test.p)),
            "verdict": match test.outcome {
                Outcome::Passed => "passed",
                Outcome::NotSure => "not_sure",
                Outcome::Failed => "failed",
            },
        })
    };
    json!({"failed": gate.has_failed(), "level": LEVEL, "tests": gate.tests.iter().map(test).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Figure;

    #[test]
    fn figures_have_the_names_of_objectives() {
        assert_eq!(figure(RowName::Time(Statistic::P99, Figure::Ttft)), "p99_ttft");
        assert_eq!(figure(RowName::Time(Statistic::Average, Figure::Latency)), "avg_latency");
        for name in ["p99_ttft", "avg_latency", "p50_itl", "rps", "tps", "success"] {
            assert!(crate::plan::slo::Figure::scan(name).is_some(), "{name}");
        }
    }
}
