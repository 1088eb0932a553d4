//! The search for a load, as a pure function: from the probes so far to the next load, or to the selected loads. It uses
//! no clock and no state except the probes, so the same probes always give the same result.
//!
//! For conditions, the search assumes that they hold up to some load and fail above it. It doubles (or halves) the load
//! until it knows one load that holds and one that fails, then bisects. If only lower bounds fail (`rps>=100`) and no
//! lower load holds, more load may help, so that load does not count as a failure. For a maximum or minimum, the search
//! doubles or halves the load while the figure improves, then narrows the interval around the best load.

mod stored_search;

pub use stored_search::{StoredSearch, StoredSearchRun, find_searches};

use crate::finding::{SearchReason, SearchTrouble};
use crate::plan::sla::{Aim, SearchPlan, Space};
use crate::plan::slo::{Comparison, Criterion, Figure};
use crate::stats::Summary;
use crate::stats::slo::JudgedValue;
use crate::stats::time_bounds::judged_at_most;

/// While doubling, an improvement below this fraction counts as a plateau.
const MIN_IMPROVEMENT: f64 = 0.01;
/// Precision of the load with the best figure, as a fraction of that load.
const BEST_PRECISION: f64 = 0.05;

/// A figure measured at one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub name: String,
    /// The value of each run.
    pub values: Vec<Option<f64>>,
    /// Mean over the runs; `None` if a run lacks the figure. Infinite, like the value of a run, if failed requests decide
    /// it.
    pub mean: Option<f64>,
    /// A percentile with too few samples beyond it in one of the runs.
    pub few: bool,
    /// The upper bound of a percentile that the client's error exceeds in one of the runs: the highest of these bounds.
    pub at_most: Option<f64>,
}

/// A load that was tried, with its results.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub value: f64,
    pub runs: usize,
    /// Scheduled requests of all runs.
    pub total: u64,
    /// Successful requests of all runs.
    pub succeeded: u64,
    /// Whether every request that was sent succeeded.
    pub is_complete: bool,
    /// Offered request rate of the drawn schedules, per second, mean over the runs. For short random schedules it differs
    /// from the target rate.
    pub offered_per_s: Option<f64>,
    /// Why the figures cannot be used, such as failed requests or a void run. Empty if they can.
    pub trouble: Vec<SearchTrouble>,
    /// The figures of all conditions, in the order of the aims, without duplicates.
    pub observed: Vec<Observed>,
    /// One for each aim.
    pub verdicts: Vec<Verdict>,
}

/// The result of a probe for one aim.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// All conditions hold, and all requests succeeded unless the conditions limit failures.
    pub holds: bool,
    /// Only lower bounds, such as `rps>=100`, fail; more load may satisfy them.
    pub too_little: bool,
    /// For a maximum or minimum: the figure, negated for a minimum, so that larger is better. `None` for conditions, and if
    /// the figures cannot be used.
    pub score: Option<f64>,
}

/// The selected load for one aim.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The aim with units, for people.
    pub aim: String,
    /// The aim as it was given, for programs.
    pub criteria: String,
    /// `None` if no load that was tried is good enough.
    pub value: Option<f64>,
    pub reason: SearchReason,
}

impl Selection {
    fn new(aim: &Aim, value: Option<f64>, reason: SearchReason) -> Selection {
        Selection { aim: aim.to_string(), criteria: aim.as_given(), value, reason }
    }
}

/// The next step of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure this load.
    Probe(f64),
    /// The search is complete; one selection for each aim.
    Done(Vec<Selection>),
}

/// Computes the next step from the probes so far.
pub fn step(plan: &SearchPlan, probes: &[Probe]) -> Step {
    let mut selections = Vec::with_capacity(plan.aims.len());
    for (index, aim) in plan.aims.iter().enumerate() {
        let view = AimView { probes, aim: index };
        let selection = match aim {
            Aim::Hold(_) => highest(&plan.space, view),
            Aim::Best { .. } => best(&plan.space, view),
        };
        match selection {
            Ok((value, reason)) => selections.push(Selection::new(aim, value, reason)),
            Err(NeedsProbe(value)) => return Step::Probe(value),
        }
    }
    Step::Done(selections)
}

/// The preliminary selection for each aim of a search that was interrupted or whose runs are incomplete.
pub(crate) fn so_far(plan: &SearchPlan, probes: &[Probe]) -> Vec<Selection> {
    let select = |(index, aim): (usize, &Aim)| {
        let is_good = |probe: &&Probe| probe.verdicts.get(index).is_some_and(|verdict| verdict.holds);
        let good = probes.iter().filter(is_good);
        let value = match aim {
            Aim::Hold(_) => good.map(|probe| probe.value).reduce(f64::max),
            Aim::Best { .. } => best_of(AimView { probes, aim: index }),
        };
        Selection::new(aim, value, SearchReason::Undecided { has_best: value.is_some() })
    };
    plan.aims.iter().enumerate().map(select).collect()
}

/// The load that must be probed before the search can continue.
struct NeedsProbe(f64);

type Decision = (Option<f64>, SearchReason);

/// The probes, with the verdicts for one aim.
#[derive(Clone, Copy)]
struct AimView<'a> {
    probes: &'a [Probe],
    aim: usize,
}

impl AimView<'_> {
    fn verdict(self, value: f64) -> Result<Verdict, NeedsProbe> {
        let probe = self.probes.iter().find(|probe| probe.value == value).ok_or(NeedsProbe(value))?;
        Ok(probe.verdicts[self.aim])
    }

    fn holds(self, value: f64) -> Result<bool, NeedsProbe> {
        Ok(self.verdict(value)?.holds)
    }

    /// Whether a higher load may be tried: the conditions hold, or only lower bounds fail and no lower load holds.
    fn bears_more(self, value: f64) -> Result<bool, NeedsProbe> {
        let verdict = self.verdict(value)?;
        let lower_holds = || self.probes.iter().any(|probe| probe.value < value && probe.verdicts[self.aim].holds);
        Ok(verdict.holds || (verdict.too_little && !lower_holds()))
    }

    /// The score of a load; larger is better. Minus infinity if its figures cannot be used.
    fn score(self, value: f64) -> Result<f64, NeedsProbe> {
        Ok(self.verdict(value)?.score.unwrap_or(f64::NEG_INFINITY))
    }
}

/// The highest load at which the conditions hold.
fn highest(space: &Space, view: AimView<'_>) -> Result<Decision, NeedsProbe> {
    let (mut low, mut high) = if view.bears_more(space.start)? {
        let mut low = space.start;
        loop {
            if low >= space.upper {
                return at_the_top(space, view, low);
            }
            let next = (low * 2.0).min(space.upper);
            if !view.bears_more(next)? {
                break (low, next);
            }
            low = next;
        }
    } else {
        let mut high = space.start;
        loop {
            if high <= space.lower {
                return Ok((None, SearchReason::FailsAtLowerBound { lower: space.lower }));
            }
            let next = space.half(high);
            if view.bears_more(next)? {
                break (next, high);
            }
            high = next;
        }
    };
    while let Some(middle) = space.between(low, high, (low + high) / 2.0) {
        if view.bears_more(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    if !view.holds(low)? {
        return Ok((None, SearchReason::Between { too_little_at: low, fails_at: high }));
    }
    let above = view.probes.iter().find(|probe| probe.value > high && probe.verdicts[view.aim].holds);
    let reason = match above {
        Some(probe) => SearchReason::HoldsAgain { fails_at: high, holds_at: probe.value },
        None => SearchReason::HoldsHere { fails_at: high },
    };
    Ok((Some(low), reason))
}

/// The selection if no load up to the upper bound failed.
fn at_the_top(space: &Space, view: AimView<'_>, upper: f64) -> Result<Decision, NeedsProbe> {
    if view.holds(upper)? {
        return Ok((Some(upper), SearchReason::HoldsToUpperBound));
    }
    // All loads from the start upwards were below a lower bound, so the start may be past the peak. If a load below it
    // holds, the start counts as a failure and the search continues from there.
    let mut below = space.start;
    while below > space.lower {
        below = space.half(below);
        view.holds(below)?;
    }
    Ok((None, SearchReason::TooLittleEverywhere))
}

/// The load at which the score is highest.
fn best(space: &Space, view: AimView<'_>) -> Result<Decision, NeedsProbe> {
    let coarse = Space { precision: space.precision.max(BEST_PRECISION), ..*space };
    let (mut low, mut peak, mut high) = bracket(&coarse, view)?;
    loop {
        let (above, below) =
            (coarse.between(peak, high, (peak * high).sqrt()), coarse.between(low, peak, (low * peak).sqrt()));
        let upward = high / peak >= peak / low;
        let Some(next) = (if upward { above.or(below) } else { below.or(above) }) else { break };
        // Of two loads with the same score, the lower one is better.
        let better =
            if next > peak { view.score(next)? > view.score(peak)? } else { view.score(next)? >= view.score(peak)? };
        match (better, next > peak) {
            (true, true) => (low, peak) = (peak, next),
            (true, false) => (high, peak) = (peak, next),
            (false, true) => high = next,
            (false, false) => low = next,
        }
    }
    Ok(match best_of(view) {
        Some(value) => (Some(value), SearchReason::Best),
        None => (None, SearchReason::NoneUsable),
    })
}

/// A load with a neighbour on each side that is not better: `(low, peak, high)`.
fn bracket(space: &Space, view: AimView<'_>) -> Result<(f64, f64, f64), NeedsProbe> {
    let start = space.start;
    let better = |a: f64, b: f64| -> Result<bool, NeedsProbe> {
        let (a, b) = (view.score(a)?, view.score(b)?);
        Ok(a > f64::NEG_INFINITY && (b == f64::NEG_INFINITY || a > b + MIN_IMPROVEMENT * b.abs()))
    };
    let double = |value: f64| (value * 2.0).min(space.upper);
    let (mut low, mut peak, mut next) = (start, start, double(start));
    let failed = view.score(start)? == f64::NEG_INFINITY;
    // Higher loads are not tried if the start has failures.
    while !failed && next > peak && better(next, peak)? {
        (low, peak, next) = (peak, next, double(next));
    }
    if peak > start {
        return Ok((low, peak, next));
    }
    let (mut high, mut next) = (if failed { start } else { double(start) }, space.half(start));
    while next < peak && (better(next, peak)? || view.score(peak)? == f64::NEG_INFINITY) {
        (high, peak, next) = (peak, next, space.half(next));
    }
    Ok((next, peak, high))
}

/// The load with the highest score; the lowest one if several are equal.
fn best_of(view: AimView<'_>) -> Option<f64> {
    let scored = |probe: &Probe| Some((probe.verdicts[view.aim].score?, probe.value));
    let first = |a: (f64, f64), b: (f64, f64)| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a };
    view.probes.iter().filter_map(scored).reduce(first).map(|(_, value)| value)
}

impl Space {
    /// Half of `value`, at least the lower bound.
    fn half(&self, value: f64) -> f64 {
        self.round(value / 2.0).max(self.lower)
    }

    /// A load near `target`, strictly between `low` and `high`; `None` if these are within the precision.
    fn between(&self, low: f64, high: f64, target: f64) -> Option<f64> {
        if high - low <= self.precision * low {
            return None;
        }
        let value = self.round(target);
        (low < value && value < high).then_some(value)
    }

    /// Rounds down to an integer, or to three significant digits.
    fn round(&self, value: f64) -> f64 {
        if self.whole {
            return value.floor();
        }
        let unit = 10f64.powf(value.log10().floor() - 2.0);
        // For small units, dividing gives the value with the shortest decimal form.
        if unit < 1.0 { (value / unit).round() / (1.0 / unit).round() } else { (value / unit).round() * unit }
    }
}

impl Probe {
    /// Combines the runs at a load.
    pub(crate) fn from_runs(plan: &SearchPlan, value: f64, runs: &[&Summary]) -> Probe {
        let mut probe = Probe {
            value,
            runs: runs.len(),
            total: runs.iter().map(|run| run.counts.scheduled).sum(),
            succeeded: runs.iter().map(|run| run.counts.ok).sum(),
            is_complete: runs.iter().all(|run| run.counts.ok == run.counts.sent()),
            offered_per_s: mean(runs.iter().map(|run| run.rates.offered_per_s)),
            trouble: runs.iter().enumerate().flat_map(|(index, run)| trouble(plan, index + 1, run)).collect(),
            observed: Vec::new(),
            verdicts: Vec::new(),
        };
        for (name, figure) in plan.aims.iter().flat_map(figures) {
            if !probe.observed.iter().any(|observed| observed.name == name) {
                let judged: Vec<JudgedValue> = runs.iter().map(|run| run.searched(figure)).collect();
                let values: Vec<Option<f64>> = judged.iter().map(|judged| judged.value).collect();
                let (mean, few) = (mean(values.iter().copied()), judged.iter().any(|judged| judged.few));
                let bounds = runs.iter().zip(&judged).filter_map(|(run, judged)| judged_at_most(run, figure, *judged));
                let at_most = bounds.reduce(f64::max);
                probe.observed.push(Observed { name, values, mean, few, at_most });
            }
        }
        probe.verdicts = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
        probe
    }

    /// A load that this machine cannot generate.
    pub fn refused(plan: &SearchPlan, value: f64, why: SearchTrouble) -> Probe {
        let verdicts = vec![Verdict::default(); plan.aims.len()];
        Probe { trouble: vec![why], verdicts, ..Probe::from_runs(plan, value, &[]) }
    }

    /// The figure of this name.
    pub(crate) fn figure(&self, name: &str) -> Option<&Observed> {
        self.observed.iter().find(|observed| observed.name == name)
    }

    fn mean(&self, name: &str) -> Option<f64> {
        self.figure(name).and_then(|observed| observed.mean)
    }

    /// The figures of an aim whose bound leaves open whether this load has what the aim demands: a condition holds for the
    /// figure but not for the bound, or the figure is to be the best one.
    pub(crate) fn uncertain(&self, aim: &Aim) -> Vec<&Observed> {
        let is_bounded = |observed: &&Observed| observed.at_most.is_some();
        match aim {
            Aim::Best { name, .. } => self.figure(name).into_iter().filter(is_bounded).collect(),
            Aim::Hold(criteria) => {
                let open = criteria.iter().filter_map(|criterion| {
                    let observed = self.figure(&figure_name(criterion))?;
                    criterion.is_left_open_by(observed.at_most?).then_some(observed)
                });
                let mut found: Vec<&Observed> = Vec::new();
                open.for_each(|observed| {
                    if !found.contains(&observed) {
                        found.push(observed);
                    }
                });
                found
            }
        }
    }
}

/// The mean; `None` if a run lacks the figure or there is no run.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Option<Vec<f64>> = values.collect();
    known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<f64>() / known.len() as f64)
}

/// Why the figures of a run cannot be used for any aim.
fn trouble(plan: &SearchPlan, run: usize, summary: &Summary) -> Option<SearchTrouble> {
    if summary.is_void() {
        return Some(SearchTrouble::Void { run });
    }
    let (sent, succeeded) = (summary.counts.sent(), summary.counts.ok);
    let accepted = plan.aims.iter().any(limits_failures);
    (succeeded == 0 || (succeeded < sent && !accepted)).then_some(SearchTrouble::Failed { run, succeeded, sent })
}

/// Whether the aim has a condition on failed requests. Without one, all requests must succeed.
fn limits_failures(aim: &Aim) -> bool {
    let is_limit = |c: &Criterion| matches!(c.figure, Figure::FailedPercent | Figure::SucceededPercent);
    matches!(aim, Aim::Hold(criteria) if criteria.iter().any(is_limit))
}

/// The figures of an aim with their names.
pub fn figures(aim: &Aim) -> Vec<(String, Figure)> {
    match aim {
        Aim::Hold(criteria) => criteria.iter().map(|c| (figure_name(c), c.figure)).collect(),
        Aim::Best { figure, name, .. } => vec![(name.clone(), *figure)],
    }
}

/// The name of the criterion's figure: its text up to the comparison operator.
pub(crate) fn figure_name(criterion: &Criterion) -> String {
    let end = criterion.text.find(['<', '>', '≤', '≥', '≦', '≧']).unwrap_or(criterion.text.len());
    criterion.text[..end].trim().to_string()
}

fn judge(aim: &Aim, probe: &Probe) -> Verdict {
    let usable = probe.trouble.is_empty() && (probe.is_complete || limits_failures(aim));
    match aim {
        Aim::Hold(criteria) => {
            let met = |c: &Criterion| probe.mean(&figure_name(c)).is_some_and(|mean| c.is_met_by(mean));
            let wants_more = |c: &&Criterion| matches!(c.comparison, Comparison::AtLeast | Comparison::Above);
            let holds = usable && criteria.iter().all(met);
            let too_little = usable && !holds && criteria.iter().filter(|c| !wants_more(c)).all(met);
            Verdict { holds, too_little, score: None }
        }
        Aim::Best { name, most, .. } => {
            let score = probe.mean(name).filter(|_| usable).map(|mean| if *most { mean } else { -mean });
            Verdict { holds: score.is_some(), too_little: false, score }
        }
    }
}

#[cfg(test)]
mod tests;
