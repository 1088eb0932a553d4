//! Objectives on the page: the criteria of `--slo` and of a search, as lines of charts and as words.

use super::chart::Level;
use super::words::Words;
use crate::plan::sla::Aim;
use crate::plan::slo::{Comparison, Criterion, Figure, PERCENTILES, Quantity, Statistic, scan_all};
use crate::report::language::Language;
use crate::report::table::{Decimals, digits};
use crate::stats::Summary;

/// All criteria of these runs, each once.
pub fn criteria(runs: &[&Summary]) -> Vec<Criterion> {
    let of_run = |run: &&Summary| {
        let given = scan_all(&run.facts.slo).unwrap_or_default();
        let aims = run.facts.search.iter().flat_map(|plan| plan.aims.clone());
        let searched = aims.flat_map(|aim| match aim {
            Aim::Hold(criteria) => criteria,
            Aim::Best { .. } => Vec::new(),
        });
        given.into_iter().chain(searched).collect::<Vec<_>>()
    };
    let mut all: Vec<Criterion> = Vec::new();
    for criterion in runs.iter().flat_map(of_run) {
        if !all.iter().any(|known| known.text == criterion.text) {
            all.push(criterion);
        }
    }
    all
}

/// The lines of the criteria on these figures, with bounds multiplied by `factor`.
pub fn levels(criteria: &[Criterion], figures: impl Fn(Figure) -> bool, factor: f64) -> Vec<Level> {
    let of = criteria.iter().filter(|criterion| figures(criterion.figure));
    of.map(|criterion| Level { name: criterion.with_unit(), at: criterion.bound * factor, upright: false }).collect()
}

/// The lines of the criteria on these quantities, whatever their statistic, for an axis with `factor` units a second.
pub fn time_levels(criteria: &[Criterion], quantities: &[Quantity], factor: f64) -> Vec<Level> {
    levels(criteria, |figure| matches!(figure, Figure::Of(_, quantity) if quantities.contains(&quantity)), factor)
}

/// The lines of the criteria on the mean TPOT, whose reciprocal is the speed of a user, in tokens per second.
pub fn speed_levels(criteria: &[Criterion]) -> Vec<Level> {
    let all = levels(criteria, |figure| figure == Figure::Of(Statistic::Mean, Quantity::Tpot), 1.0);
    all.into_iter().filter(|level| level.at > 0.0).map(|level| Level { at: 1.0 / level.at, ..level }).collect()
}

/// The lines of the criteria on the share of requests that succeed, in percent. One on failed requests is at the rest.
pub fn success_levels(criteria: &[Criterion]) -> Vec<Level> {
    let failed = levels(criteria, |figure| figure == Figure::FailedPercent, 1.0);
    let failed = failed.into_iter().map(|level| Level { at: 100.0 - level.at, ..level });
    levels(criteria, |figure| figure == Figure::SucceededPercent, 1.0).into_iter().chain(failed).collect()
}

/// A criterion as a sentence has it: `p99 TTFT at most 400 ms`.
pub fn criterion_words(criterion: &Criterion) -> Words {
    Words::each(|language| {
        let comparison = match criterion.comparison {
            Comparison::AtMost => language.pick("at most", "不超过"),
            Comparison::Below => language.pick("below", "低于"),
            Comparison::AtLeast => language.pick("at least", "不低于"),
            Comparison::Above => language.pick("above", "高于"),
        };
        let (name, bound) = (figure_name(criterion.figure, language), bound_text(criterion.figure, criterion.bound));
        format!("{} {bound}", phrase(&name, comparison))
    })
}

/// Two words; Chinese characters need no space between them.
fn phrase(first: &str, second: &str) -> String {
    let is_ascii = |c: Option<char>| c.is_none_or(|c| c.is_ascii());
    let space = if is_ascii(first.chars().next_back()) || is_ascii(second.chars().next()) { " " } else { "" };
    format!("{first}{space}{second}")
}

/// The name of a figure in a sentence.
pub fn figure_name(figure: Figure, language: Language) -> String {
    match figure {
        Figure::RequestsPerS => language.pick("request throughput", "请求吞吐量").to_string(),
        Figure::OutputTokensPerS => language.pick("output", "输出吞吐量").to_string(),
        Figure::FailedPercent => language.pick("failed requests", "失败率").to_string(),
        Figure::SucceededPercent => language.pick("succeeded requests", "成功率").to_string(),
        Figure::Goodput => language.pick("goodput", "有效吞吐量").to_string(),
        Figure::Of(statistic, quantity) => {
            let quantity = match quantity {
                Quantity::Ttft => "TTFT",
                Quantity::Tpot => "TPOT",
                Quantity::Itl => "ITL",
                Quantity::Latency => language.pick("latency", "端到端时延"),
            };
            let statistic = match statistic {
                Statistic::Mean => language.pick("mean", "平均").to_string(),
                Statistic::PerMille(1000) => language.pick("maximum", "最大").to_string(),
                Statistic::PerMille(per_mille) => {
                    PERCENTILES.iter().find(|known| known.1 == per_mille).map_or("p", |known| known.0).to_string()
                }
            };
            phrase(&statistic, quantity)
        }
    }
}

/// How many of the unit in which a figure is shown are one of its own: times are shown in milliseconds.
pub fn shown_factor(figure: Figure) -> f64 {
    if matches!(figure, Figure::Of(..)) { 1e3 } else { 1.0 }
}

/// A bound of a figure with its unit.
fn bound_text(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Of(..) => format!("{} ms", milliseconds(value)),
        Figure::FailedPercent | Figure::SucceededPercent => format!("{} %", trimmed(value)),
        Figure::RequestsPerS | Figure::OutputTokensPerS | Figure::Goodput => {
            format!("{} {}", trimmed(value), figure.unit())
        }
    }
}

/// Seconds as milliseconds with at least three digits, without zeros at the end of decimals.
pub fn milliseconds(seconds: f64) -> String {
    trimmed(seconds * 1e3)
}

/// The same rounded up, for upper bounds.
pub fn milliseconds_up(seconds: f64) -> String {
    let ms = seconds * 1e3;
    without_zeros(Decimals::for_digits([ms], 0).ceil(ms))
}

fn trimmed(value: f64) -> String {
    without_zeros(digits(value, 0))
}

fn without_zeros(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_words_with_units() {
        let words = |text: &str| criterion_words(&scan_all(text).unwrap()[0]);
        assert_eq!(words("p99_ttft<0.4"), Words::new("p99 TTFT below 400 ms", "p99 TTFT 低于 400 ms"));
        assert_eq!(
            words("avg_latency<=2s"),
            Words::new("mean latency at most 2000 ms", "平均端到端时延不超过 2000 ms")
        );
        assert_eq!(words("p99.9_itl<=12.5ms").en, "p99.9 ITL at most 12.5 ms");
        assert_eq!(words("failed<=1%"), Words::new("failed requests at most 1 %", "失败率不超过 1 %"));
        assert_eq!(words("rps>=10").en, "request throughput at least 10 req/s");
    }

    #[test]
    fn objectives_are_levels_in_the_unit_of_the_chart() {
        let criteria = scan_all("p99_ttft<=400ms avg_ttft<=1 p99_itl<=50ms").unwrap();
        let levels = time_levels(&criteria, &[Quantity::Ttft], 1e3);
        assert_eq!(levels.iter().map(|level| level.at).collect::<Vec<_>>(), [400.0, 1000.0]);
        assert_eq!(levels[1].name, "avg_ttft<=1 s");
        let success = success_levels(&scan_all("success>=99% failed<=5% rps>=1").unwrap());
        assert_eq!(success.iter().map(|level| level.at).collect::<Vec<_>>(), [99.0, 95.0]);
    }
}
