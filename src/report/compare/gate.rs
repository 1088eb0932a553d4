//! `compare --fail-on`: figures that must not get worse, for CI jobs. A figure fails if its mean over the runs of a load
//! has got worse by at least the limit and the difference is significant: see [`crate::stats::rank_sum`] for the test and
//! its false alarms.
//!
//! Times are those of the succeeded requests, and a server that refuses work answers the rest sooner. So a success rate
//! that has fallen significantly fails too, whether or not it is named.

use super::sides::{Comparison, Entry, Load, letter};
use crate::plan::slo::{Figure, Quantity, Statistic};
use crate::report::Measured;
use crate::report::advice::{Grade, success_rate};
use crate::report::language::Language;
use crate::report::table::{AT_MOST_SIGN, at_most_note, number};
use crate::stats::Summary;
use crate::stats::quantile::Series;
use crate::stats::rank_sum::{holm, least_p, p_of_increase, repeats_needed};
use crate::stats::time_bounds;

/// The most false alarms: the chance that any figure fails though both sides are alike.
pub const LEVEL: f64 = 0.01;

/// A figure with the change from which on it can fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// As given.
    pub name: String,
    pub figure: Figure,
    /// The smallest change that fails, in the direction that is worse: in percent of A's value; for the shares of requests
    /// in percentage points.
    pub by_percent: f64,
    /// It is not given, but guards the comparison.
    pub implied: bool,
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// The change is beyond the limit, but not significant.
    NotSure,
    Failed,
}

/// One figure of one load of one side, against A.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// `None` if there is one load.
    pub load: Option<String>,
    /// The place of the other side.
    pub side: usize,
    pub limit: Limit,
    /// Means over the runs, in the figure's unit.
    pub a: f64,
    pub b: f64,
    /// The upper bounds of both where the client's error exceeds a percentile in one of the runs, in the figure's unit.
    pub at_most: [Option<f64>; 2],
    /// From A to the other side, in the unit of the limit.
    pub change_percent: f64,
    /// The chance of such values if both sides are alike.
    pub p: f64,
    pub outcome: Outcome,
}

/// The result of `--fail-on`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gate {
    pub tests: Vec<Test>,
}

impl Gate {
    /// Whether any figure fails.
    pub fn has_failed(&self) -> bool {
        self.tests.iter().any(|test| test.outcome == Outcome::Failed)
    }
}

impl Limit {
    /// A larger value is worse.
    fn is_worse_above(&self) -> bool {
        matches!(self.figure, Figure::Of(..) | Figure::FailedPercent)
    }

    /// A share of requests, whose change is in percentage points.
    fn is_share(&self) -> bool {
        matches!(self.figure, Figure::FailedPercent | Figure::SucceededPercent)
    }

    /// As `p99_ttft:+5%`.
    pub fn text(&self) -> String {
        match self.implied {
            true => format!("{} (always tested)", self.name),
            false => {
                format!("{}:{}{}%", self.name, if self.is_worse_above() { '+' } else { '-' }, number(self.by_percent))
            }
        }
    }
}

/// Parses limits such as `p99_ttft:+5%,tps:-3%`.
///
/// # Errors
/// What is wrong, and what to write.
pub fn scan_limits(text: &str) -> Result<Vec<Limit>, String> {
    let mut limits: Vec<Limit> = Vec::new();
    for part in text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()) {
        let form = || format!("'{part}' is not FIGURE:+PERCENT or FIGURE:-PERCENT, for example p99_ttft:+5%");
        let (name, change) = part.split_once(':').ok_or_else(form)?;
        let figure = Figure::scan(name).ok_or_else(|| Figure::unknown(name))?;
        let size = change.strip_suffix('%').and_then(|change| change.strip_prefix(['+', '-'])).ok_or_else(form)?;
        let by_percent: f64 = size.parse().ok().filter(|by: &f64| by.is_finite() && *by >= 0.0).ok_or_else(form)?;
        let limit = Limit { name: name.to_lowercase(), figure, by_percent, implied: false };
        if limit.is_worse_above() != change.starts_with('+') {
            let better = if limit.is_worse_above() { "lower" } else { "higher" };
            return Err(format!("'{part}': a {better} {name} is better, so write {}", limit.text()));
        }
        if limits.iter().any(|other| other.figure == figure) {
            return Err(format!("{name} is given twice"));
        }
        limits.push(limit);
    }
    if limits.is_empty() { Err("is empty; write for example p99_ttft:+5%".to_string()) } else { Ok(limits) }
}

/// Tests every limit on every load and side of a comparison whose runs are not void.
///
/// # Errors
/// If a figure cannot be judged: too few repeats, a side without the figure, or too many failed requests.
pub fn judge(comparison: &Comparison<'_>, limits: &[Limit]) -> Result<Gate, String> {
    let mut limits = limits.to_vec();
    if !limits.iter().any(Limit::is_share) {
        let (name, figure) = ("success".to_string(), Figure::SucceededPercent);
        limits.push(Limit { name, figure, by_percent: 0.0, implied: true });
    }
    let others = |load: &Load<'_>| load.entries.len().saturating_sub(1);
    let tests_of_all = limits.len() * comparison.loads.iter().map(others).sum::<usize>();
    let mut gate = Gate::default();
    for load in &comparison.loads {
        let Some((a, others)) = load.entries.split_first() else { continue };
        for b in others {
            let name = load.name.map(|name| name.text(Language::En));
            check_repeats(a, b, name.as_deref(), tests_of_all)?;
            for limit in &limits {
                gate.tests.push(test(comparison, (a, b), name.clone(), limit)?);
            }
        }
    }
    let chances: Vec<f64> = gate.tests.iter().map(|test| test.p).collect();
    for (test, significant) in gate.tests.iter_mut().zip(holm(&chances, LEVEL)) {
        test.outcome = outcome(test, significant);
    }
    Ok(gate)
}

fn outcome(test: &Test, significant: bool) -> Outcome {
    let worse_by = if test.limit.is_worse_above() { test.change_percent } else { -test.change_percent };
    match (worse_by > 0.0 && worse_by >= test.limit.by_percent, significant) {
        (true, true) => Outcome::Failed,
        (true, false) if !test.limit.implied => Outcome::NotSure,
        _ => Outcome::Passed,
    }
}

/// Checks that a complete separation of both sides is significant in the first of `tests` tests.
fn check_repeats(a: &Entry<'_>, b: &Entry<'_>, load: Option<&str>, tests: usize) -> Result<(), String> {
    let (ka, kb) = (a.runs.len(), b.runs.len());
    if least_p(ka, kb) * tests as f64 <= LEVEL {
        return Ok(());
    }
    let needed = repeats_needed(tests, LEVEL);
    let at = load.map_or_else(String::new, |load| format!(" at {load}"));
    Err(format!(
        "--fail-on needs repeated runs to measure how much runs differ by themselves: for {tests} tests (figures, loads and \
         the success rate) {needed} on each side, but {} has {ka} and {} has {kb}{at}: measure both with --repeat {needed}",
        letter(a.side),
        letter(b.side)
    ))
}

fn test(
    comparison: &Comparison<'_>,
    (a, b): (&Entry<'_>, &Entry<'_>),
    load: Option<String>,
    limit: &Limit,
) -> Result<Test, String> {
    let values_a = values(comparison, a, limit)?;
    let values_b = values(comparison, b, limit)?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(&values_a), mean(&values_b));
    if mean_a == 0.0 && !limit.is_share() {
        return Err(format!("--fail-on: A's {} is 0, so that changes have no percentage", limit.name));
    }
    let change_percent = if limit.is_share() { mean_b - mean_a } else { (mean_b / mean_a - 1.0) * 100.0 };
    let p =
        if limit.is_worse_above() { p_of_increase(&values_a, &values_b) } else { p_of_increase(&values_b, &values_a) };
    let at_most = [a, b].map(|entry| upper_bound(entry, limit.figure));
    let (side, limit) = (b.side, limit.clone());
    Ok(Test { load, side, limit, a: mean_a, b: mean_b, at_most, change_percent, p, outcome: Outcome::Passed })
}

/// The figure of each run.
fn values(comparison: &Comparison<'_>, entry: &Entry<'_>, limit: &Limit) -> Result<Vec<f64>, String> {
    let side = || format!("{} ({})", letter(entry.side), comparison.sides[entry.side].name);
    let value = |run: &&Measured| {
        let summary = &run.summary;
        let share = success_rate(summary);
        if matches!(limit.figure, Figure::Of(..)) && Grade::from_share(share) != Grade::Good {
            let percent = share.map_or_else(|| "-".to_string(), |share| number(share * 100.0));
            return Err(format!(
                "--fail-on cannot judge {}: only {percent} % of the requests of {} succeeded",
                limit.name,
                side()
            ));
        }
        figure(summary, limit.figure).ok_or_else(|| format!("--fail-on: {} has no {}", side(), limit.name))
    };
    entry.runs.iter().map(value).collect()
}

fn figure(summary: &Summary, figure: Figure) -> Option<f64> {
    match figure {
        Figure::RequestsPerS => summary.throughput.requests_per_s,
        Figure::OutputTokensPerS => summary.throughput.output_tokens_per_s,
        Figure::SucceededPercent => success_rate(summary).map(|share| share * 100.0),
        Figure::FailedPercent => success_rate(summary).map(|share| (1.0 - share) * 100.0),
        Figure::Goodput => summary.slo.as_ref()?.goodput_per_s,
        Figure::Of(Statistic::Mean, quantity) => series(summary, quantity).mean,
        Figure::Of(Statistic::PerMille(per_mille), quantity) => series(summary, quantity).value(per_mille),
    }
}

fn series(summary: &Summary, quantity: Quantity) -> &Series {
    time_bounds::series(summary, time_bounds::time_of(quantity))
}

/// The highest upper bound of a percentile that the client's error exceeds in one of the runs.
fn upper_bound(entry: &Entry<'_>, figure: Figure) -> Option<f64> {
    let Figure::Of(Statistic::PerMille(per_mille), quantity) = figure else { return None };
    let runs = entry.runs.iter().map(|run| &run.summary);
    time_bounds::highest_at_most_s(runs, time_bounds::time_of(quantity), per_mille)
}

/// Heads of the table.
pub(super) const HEADS: [&str; 8] = ["Load", "Side", "Limit", "A", "Side's value", "Change (%)", "p", "Verdict"];

/// A test as cells of the table.
pub(super) fn cells(test: &Test) -> Vec<String> {
    let unit = test.limit.figure.unit();
    let value = |value: f64, at_most: Option<f64>| {
        let bound = at_most.map(|bound| format!(" ({AT_MOST_SIGN} {})", number(bound)));
        format!("{}{} {unit}", number(value), bound.unwrap_or_default())
    };
    vec![
        test.load.clone().unwrap_or_else(|| "-".to_string()),
        letter(test.side),
        test.limit.text(),
        value(test.a, test.at_most[0]),
        value(test.b, test.at_most[1]),
        format!("{:+.2}", test.change_percent),
        format!("{:.4}", test.p),
        match test.outcome {
            Outcome::Passed => "passed".to_string(),
            Outcome::NotSure => "not sure: beyond the limit, but not significant".to_string(),
            Outcome::Failed => "FAILED".to_string(),
        },
    ]
}

/// What the verdicts mean.
pub(super) fn note(gate: &Gate) -> String {
    let bounds = match gate.tests.iter().any(|test| test.at_most != [None, None]) {
        true => format!(" {AT_MOST_SIGN}: {}", at_most_note(Language::En)),
        false => String::new(),
    };
    format!(
        "A figure fails if it has got worse by at least its limit and the difference is significant: exact rank-sum test over \
         the runs, corrected for {} tests by Holm's method, so that equal sides fail in at most {} % of all comparisons. \
         Changes of the machine or the server between the two calls are differences too.{bounds}",
        gate.tests.len(),
        number(LEVEL * 100.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        let limits = scan_limits("p99_ttft:+5%, tps:-3% failed:+0.5%").unwrap();
        let texts: Vec<String> = limits.iter().map(Limit::text).collect();
        assert_eq!(texts, ["p99_ttft:+5%", "tps:-3%", "failed:+0.5%"]);
        for (bad, what) in [
            ("", "is empty"),
            ("p99_ttft", "for example p99_ttft:+5%"),
            ("p99_ttft:+5", "for example"),
            ("p99_ttft:5%", "for example"),
            ("p99_ttft:+x%", "for example"),
            ("p99_ttft:+-5%", "for example"),
            ("p97_ttft:+5%", "not a known figure"),
            ("p99_ttft:-5%", "a lower p99_ttft is better, so write p99_ttft:+5%"),
            ("tps:+5%", "a higher tps is better, so write tps:-5%"),
            ("tps:-5%,TPS:-4%", "twice"),
        ] {
            let error = scan_limits(bad).unwrap_err();
            assert!(error.contains(what), "{bad}: {error}");
        }
    }

    #[test]
    fn a_test_fails_beyond_its_limit_only_if_it_is_significant() {
        let test = |name: &str, change_percent: f64, implied: bool| Test {
            load: None,
            side: 1,
            limit: Limit { implied, ..scan_limits(name).unwrap().remove(0) },
            a: 1.0,
            b: 1.0,
            at_most: [None, None],
            change_percent,
            p: 0.001,
            outcome: Outcome::Passed,
        };
        for (name, change, significant, expected) in [
            ("p99_ttft:+5%", 5.0, true, Outcome::Failed),
            ("p99_ttft:+5%", 4.9, true, Outcome::Passed),
            ("p99_ttft:+5%", 9.0, false, Outcome::NotSure),
            ("p99_ttft:+5%", -9.0, true, Outcome::Passed),
            ("tps:-3%", -3.0, true, Outcome::Failed),
            ("tps:-3%", 9.0, true, Outcome::Passed),
            ("tps:-0%", 0.0, true, Outcome::Passed),
        ] {
            assert_eq!(outcome(&test(name, change, false), significant), expected, "{name} {change}");
        }
        assert_eq!(outcome(&test("success:-0%", -1.0, true), false), Outcome::Passed);
        assert_eq!(outcome(&test("success:-0%", -1.0, true), true), Outcome::Failed);
    }
}
