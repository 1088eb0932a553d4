//! The value by which an objective is judged, as text.

use super::i18n::Label;
use super::language::Language;
use super::table::{Decimals, digits, mark};
use crate::plan::slo::Figure;
use crate::stats::Summary;
use crate::stats::slo::Judged;
use crate::stats::time_bounds::judged_at_most;

/// The value with its unit: `45.82* ms`. `None` if the run does not have the figure.
pub(crate) fn measured(one: &Judged) -> Option<String> {
    let (unit, _) = one.criterion.shown_unit();
    Some(format!("{}{} {unit}", value(one)?, mark(one.judged.few)))
}

/// The same with the upper bound of a percentile that the client's error exceeds: `18.89 ms (≤ 105.00 ms)`.
pub(crate) fn measured_with_bound(run: &Summary, one: &Judged) -> Option<String> {
    let (unit, per_unit) = one.criterion.shown_unit();
    let bound = upper_bound(run, one).map(|bound| Decimals(if unit == "s" { 3 } else { 2 }).ceil(bound * per_unit));
    Some(measured(one)? + &bound.map_or_else(String::new, |bound| format!(" (≤ {bound} {unit})")))
}

/// The upper bound of a percentile whose error is as large as itself, in its own unit.
pub(crate) fn upper_bound(run: &Summary, one: &Judged) -> Option<f64> {
    judged_at_most(run, one.criterion.figure, one.judged)
}

/// By which of these criteria the share of requests within the SLO is judged, if not by all of them.
pub(crate) fn requests_within_note(criteria: &[Judged], language: Language) -> Option<String> {
    let names = |of_a_request: bool| {
        let of = criteria.iter().filter(|one| one.criterion.is_of_a_request() == of_a_request);
        let names: Vec<String> = of.map(|one| one.criterion.with_unit()).collect();
        names.join(language.pick(", ", "、"))
    };
    let (judged, not) = (names(true), names(false));
    if not.is_empty() {
        return None;
    }
    let name = Label::WithinSlo.text(language).split(" (").next().unwrap_or_default();
    Some(match (language, judged.is_empty()) {
        (Language::En, true) => format!("{name}: those that succeeded; no single request is judged by {not}"),
        (Language::En, false) => format!("{name}: judged by {judged}; no single request is judged by {not}"),
        (Language::Zh, true) => format!("{name}：即成功的请求；{not} 不用于判定单个请求"),
        (Language::Zh, false) => format!("{name}：按 {judged} 判定；{not} 不用于判定单个请求"),
    })
}

/// The value in the unit of its criterion. What is shown never contradicts the verdict: a value that is rounded to its
/// bound has more decimals.
fn value(one: &Judged) -> Option<String> {
    let (unit, per_unit) = one.criterion.shown_unit();
    let value = one.judged.value? * per_unit;
    if !value.is_finite() {
        return Some("∞".to_string());
    }
    let short = match one.criterion.figure {
        Figure::Of(..) if unit != "s" => Decimals(2).text(value),
        Figure::Of(..) => digits(value, 3),
        Figure::FailedPercent | Figure::SucceededPercent => Decimals(2).text(value),
        Figure::RequestsPerS | Figure::OutputTokensPerS | Figure::Goodput => digits(value, 2),
    };
    let long = || format!("{value:.9}").trim_end_matches('0').to_string();
    Some(if agrees(one, &short, per_unit) { short } else { long() })
}

/// Whether a value as it is shown, in a unit of which so many are one of the figure's, has the verdict of the exact one.
pub(crate) fn agrees(one: &Judged, shown: &str, per_unit: f64) -> bool {
    shown.parse::<f64>().is_ok_and(|shown| one.criterion.is_met_by(shown / per_unit) == one.met)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::slo::scan_all;
    use crate::stats::slo::JudgedValue;

    fn text(criterion: &str, value: f64) -> String {
        let criterion = scan_all(criterion).unwrap().remove(0);
        let met = criterion.is_met_by(value);
        measured(&Judged { criterion, judged: JudgedValue { value: Some(value), few: false }, met }).unwrap()
    }

    #[test]
    fn values_have_the_unit_of_the_criterion_and_two_decimals() {
        assert_eq!(text("p99_ttft<=400ms", 0.045_815_3), "45.82 ms");
        assert_eq!(text("p99_ttft<=2", 0.045_815_3), "0.0458 s");
        assert_eq!(text("p99_ttft<=2", f64::INFINITY), "∞ s");
        assert_eq!((text("failed<=1%", 1.0 / 3.0), text("rps>=10", 12.0)), ("0.33 %".into(), "12.00 req/s".into()));
    }

    #[test]
    fn rounding_does_not_contradict_the_verdict() {
        assert_eq!(text("p99_ttft<=400ms", 0.400_000_3), "400.0003 ms");
        assert_eq!(text("p99_ttft<400ms", 0.399_999_9), "399.9999 ms");
        assert_eq!(text("p99_ttft<=400ms", 0.4), "400.00 ms");
    }
}
