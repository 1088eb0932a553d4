//! The search for a load, as a pure function: from everything probed so far to the load to be probed next, or to the
//! loads that were found. It reads no clock, does nothing, and remembers nothing but its probes, so the same probes
//! always lead to the same search.
//!
//! Conditions are taken to hold up to some load and to fail above it: the load is doubled (or halved) until one that
//! holds and one that fails are known, and their distance is halved from there. Where nothing fails but a figure that is
//! to be at least something (`rps>=100`), and no lower load holds, more load may help: that is no failure yet. For the
//! most or the least of a figure the load is doubled in the direction in which it gets better, and what lies around the
//! best one is narrowed down.

mod stored_search;

pub use stored_search::{StoredSearch, StoredSearchRun, find_searches};

use crate::finding::{SearchReason, SearchTrouble};
use crate::plan::sla::{Aim, SearchPlan, Space};
use crate::plan::slo::{Comparison, Criterion, Figure};
use crate::stats::Summary;

/// While doubling, a figure has to get better by this share, or the search has arrived on a plateau.
const BETTER: f64 = 0.01;
/// The best load is not looked for more closely than this share of it.
const PRECISION_OF_BEST: f64 = 0.05;

/// A figure of the runs at one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub name: String,
    /// Of each run.
    pub values: Vec<Option<f64>>,
    /// Mean over the runs; `None` when a run does not have it.
    pub mean: Option<f64>,
}

/// A load that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub value: f64,
    pub runs: usize,
    /// Requests of all runs.
    pub total: u64,
    pub succeeded: u64,
    /// What the schedule came to, mean over the runs, where the load is a rate: short schedules differ from it by chance.
    pub offered_per_s: Option<f64>,
    /// Why its figures do not count: failed requests, a void run. Empty when they do.
    pub trouble: Vec<SearchTrouble>,
    /// A figure for each of the aims' conditions, in their order, without repetition.
    pub observed: Vec<Observed>,
    /// For each aim.
    pub verdicts: Vec<Verdict>,
}

/// A probe before one aim.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Every request succeeded, and every condition holds.
    pub holds: bool,
    /// It does not, but only for figures that are to be at least something: more load may give them.
    pub too_little: bool,
    /// The figure that is to be at its best, larger is better; `None` for conditions, and where it does not count.
    pub score: Option<f64>,
}

/// What was found for one aim.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    pub aim: String,
    /// `None` when no load that was tried is good enough.
    pub value: Option<f64>,
    pub reason: SearchReason,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure this load.
    Probe(f64),
    /// All aims are decided, a selection for each.
    Done(Vec<Selection>),
}

/// What comes next after these probes.
pub fn step(plan: &SearchPlan, probes: &[Probe]) -> Step {
    let mut found = Vec::with_capacity(plan.aims.len());
    for (index, aim) in plan.aims.iter().enumerate() {
        let view = AimView { probes, aim: index };
        let selection = match aim {
            Aim::Hold(_) => highest(&plan.space, view),
            Aim::Best { .. } => best(&plan.space, view),
        };
        match selection {
            Ok((value, reason)) => found.push(Selection { aim: aim.to_string(), value, reason }),
            Err(NeedsProbe(value)) => return Step::Probe(value),
        }
    }
    Step::Done(found)
}

/// What is known for each aim before the search has ended: it was interrupted, or not all of its runs are at hand.
pub fn so_far(plan: &SearchPlan, probes: &[Probe]) -> Vec<Selection> {
    let of_aim = |(index, aim): (usize, &Aim)| {
        let is_good = |probe: &&Probe| probe.verdicts.get(index).is_some_and(|verdict| verdict.holds);
        let good = probes.iter().filter(is_good);
        let value = match aim {
            Aim::Hold(_) => good.map(|probe| probe.value).reduce(f64::max),
            Aim::Best { .. } => best_of(AimView { probes, aim: index }),
        };
        Selection { aim: aim.to_string(), value, reason: SearchReason::Undecided { has_best: value.is_some() } }
    };
    plan.aims.iter().enumerate().map(of_aim).collect()
}

/// The load that has to be probed before more can be said.
struct NeedsProbe(f64);

type Decision = (Option<f64>, SearchReason);

/// The probes as one aim sees them.
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

    /// The conditions hold, or lack nothing but more load.
    fn bears_more(self, value: f64) -> Result<bool, NeedsProbe> {
        let verdict = self.verdict(value)?;
        let lower_holds = || self.probes.iter().any(|probe| probe.value < value && probe.verdicts[self.aim].holds);
        Ok(verdict.holds || (verdict.too_little && !lower_holds()))
    }

    /// Larger is better; a load whose figures do not count is worse than every other.
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

/// Nothing spoke against more load up to the upper bound.
fn at_the_top(space: &Space, view: AimView<'_>, upper: f64) -> Result<Decision, NeedsProbe> {
    if view.holds(upper)? {
        return Ok((Some(upper), SearchReason::HoldsToUpperBound));
    }
    // All loads from the start on gave too little: it may have lain past the best one already. One below it that holds
    // makes a failure of the start, and the search goes on from there.
    let mut below = space.start;
    while below > space.lower {
        below = space.half(below);
        view.holds(below)?;
    }
    Ok((None, SearchReason::TooLittleEverywhere))
}

/// The load at which the score is highest.
fn best(space: &Space, view: AimView<'_>) -> Result<Decision, NeedsProbe> {
    let coarse = Space { precision: space.precision.max(PRECISION_OF_BEST), ..*space };
    let (mut low, mut peak, mut high) = bracket(&coarse, view)?;
    loop {
        let (above, below) =
            (coarse.between(peak, high, (peak * high).sqrt()), coarse.between(low, peak, (low * peak).sqrt()));
        let upward = high / peak >= peak / low;
        let Some(next) = (if upward { above.or(below) } else { below.or(above) }) else { break };
        // Of two equal loads the lower one is better.
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

/// A load, and one on each side of it that is no better.
fn bracket(space: &Space, view: AimView<'_>) -> Result<(f64, f64, f64), NeedsProbe> {
    let start = space.start;
    let better = |a: f64, b: f64| -> Result<bool, NeedsProbe> {
        let (a, b) = (view.score(a)?, view.score(b)?);
        Ok(a > f64::NEG_INFINITY && (b == f64::NEG_INFINITY || a > b + BETTER * b.abs()))
    };
    let double = |value: f64| (value * 2.0).min(space.upper);
    let (mut low, mut peak, mut next) = (start, start, double(start));
    let failed = view.score(start)? == f64::NEG_INFINITY;
    // More load cannot help where requests fail already.
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

/// The load with the highest score, the lowest of several.
fn best_of(view: AimView<'_>) -> Option<f64> {
    let scored = |probe: &Probe| Some((probe.verdicts[view.aim].score?, probe.value));
    let first = |a: (f64, f64), b: (f64, f64)| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a };
    view.probes.iter().filter_map(scored).reduce(first).map(|(_, value)| value)
}

impl Space {
    /// Half the load, but not below the lower bound.
    fn half(&self, value: f64) -> f64 {
        self.round(value / 2.0).max(self.lower)
    }

    /// A load near `wished` strictly between two others; `None` when these are close enough.
    fn between(&self, low: f64, high: f64, wished: f64) -> Option<f64> {
        if high - low <= self.precision * low {
            return None;
        }
        let value = self.round(wished);
        (low < value && value < high).then_some(value)
    }

    /// A whole number, or one of three digits.
    fn round(&self, value: f64) -> f64 {
        if self.whole {
            return value.floor();
        }
        let unit = 10f64.powf(value.log10().floor() - 2.0);
        // Divided rather than multiplied, where that gives the number that is written with fewest digits.
        if unit < 1.0 { (value / unit).round() / (1.0 / unit).round() } else { (value / unit).round() * unit }
    }
}

impl Probe {
    /// What the runs at a load say.
    pub fn from_runs(plan: &SearchPlan, value: f64, runs: &[&Summary]) -> Probe {
        let mut probe = Probe {
            value,
            runs: runs.len(),
            total: runs.iter().map(|run| run.counts.scheduled).sum(),
            succeeded: runs.iter().map(|run| run.counts.ok).sum(),
            offered_per_s: mean(runs.iter().map(|run| run.rates.offered_per_s)),
            trouble: runs.iter().enumerate().flat_map(|(index, run)| trouble(index + 1, run)).collect(),
            observed: Vec::new(),
            verdicts: Vec::new(),
        };
        for (name, figure) in plan.aims.iter().flat_map(figures) {
            if !probe.observed.iter().any(|observed| observed.name == name) {
                let values: Vec<Option<f64>> =
                    runs.iter().map(|run| figure.value(&run.throughput, &run.series)).collect();
                let mean = mean(values.iter().copied());
                probe.observed.push(Observed { name, values, mean });
            }
        }
        probe.verdicts = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
        probe
    }

    /// A load that this machine cannot offer.
    pub fn refused(plan: &SearchPlan, value: f64, why: SearchTrouble) -> Probe {
        let verdicts = vec![Verdict::default(); plan.aims.len()];
        Probe { trouble: vec![why], verdicts, ..Probe::from_runs(plan, value, &[]) }
    }

    fn mean(&self, name: &str) -> Option<f64> {
        self.observed.iter().find(|observed| observed.name == name).and_then(|observed| observed.mean)
    }
}

/// `None` where a run lacks the figure.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Option<Vec<f64>> = values.collect();
    known.filter(|known| !known.is_empty()).map(|known| known.iter().sum::<f64>() / known.len() as f64)
}

/// Why a run's figures do not count.
fn trouble(run: usize, summary: &Summary) -> Option<SearchTrouble> {
    if summary.is_void() {
        return Some(SearchTrouble::Void { run });
    }
    let c = &summary.counts;
    let (sent, succeeded) = (c.scheduled.saturating_sub(c.unsent), c.ok);
    (succeeded == 0 || succeeded < sent).then_some(SearchTrouble::Failed { run, succeeded, sent })
}

/// The figures that an aim needs, each with its name.
pub fn figures(aim: &Aim) -> Vec<(String, Figure)> {
    match aim {
        Aim::Hold(criteria) => criteria.iter().map(|c| (name_of(c), c.figure)).collect(),
        Aim::Best { figure, name, .. } => vec![(name.clone(), *figure)],
    }
}

/// The criterion's text up to its comparison: the name under which its figure is observed.
pub fn name_of(criterion: &Criterion) -> String {
    let end = criterion.text.find(['<', '>', '≤', '≥', '≦', '≧']).unwrap_or(criterion.text.len());
    criterion.text[..end].trim().to_string()
}

fn judge(aim: &Aim, probe: &Probe) -> Verdict {
    let counts = probe.trouble.is_empty();
    match aim {
        Aim::Hold(criteria) => {
            let met = |c: &Criterion| probe.mean(&name_of(c)).is_some_and(|mean| c.comparison.holds(mean, c.bound));
            let wants_more = |c: &&Criterion| matches!(c.comparison, Comparison::AtLeast | Comparison::Above);
            let holds = counts && criteria.iter().all(met);
            let too_little = counts && !holds && criteria.iter().filter(|c| !wants_more(c)).all(met);
            Verdict { holds, too_little, score: None }
        }
        Aim::Best { name, most, .. } => {
            let score = probe.mean(name).filter(|_| counts).map(|mean| if *most { mean } else { -mean });
            Verdict { holds: score.is_some(), too_little: false, score }
        }
    }
}

#[cfg(test)]
mod tests;
