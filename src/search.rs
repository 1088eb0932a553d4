//! The search for a load, as a pure function: from everything probed so far to the load to be probed next, or to the
//! loads that were found. It reads no clock, does nothing, and remembers nothing but its probes, so the same probes
//! always lead to the same search.
//!
//! Conditions are taken to hold up to some load and to fail above it: the load is doubled (or halved) until one that
//! holds and one that fails are known, and their distance is halved from there. For the most or the least of a figure
//! the load is doubled in the direction in which it gets better, and what lies around the best one is narrowed down.

mod stored;

pub use stored::{Stored, Told, told};

use crate::plan::sla::{Aim, SearchPlan, Space};
use crate::plan::slo::{Criterion, Figure};
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
    /// Why its figures do not count: failed requests, a void run. Empty when they do.
    pub trouble: Vec<String>,
    /// A figure for each of the aims' conditions, in their order, without repetition.
    pub observed: Vec<Observed>,
    /// For each aim.
    pub judged: Vec<Judged>,
}

/// A probe before one aim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Every request succeeded, and every condition holds.
    pub holds: bool,
    /// The figure that is to be at its best, larger is better; `None` for conditions, and where it does not count.
    pub score: Option<f64>,
}

/// What was found for one aim.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    pub aim: String,
    /// `None` when no load that was tried is good enough.
    pub value: Option<f64>,
    pub reason: String,
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
        let seen = Seen { probes, aim: index };
        let selection = match aim {
            Aim::Hold(_) => highest(&plan.space, seen),
            Aim::Best { .. } => best(&plan.space, seen),
        };
        match selection {
            Ok((value, reason)) => found.push(Selection { aim: aim.to_string(), value, reason }),
            Err(Needed(value)) => return Step::Probe(value),
        }
    }
    Step::Done(found)
}

/// What is known for each aim before the search has ended: it was interrupted, or not all of its runs are at hand.
pub fn so_far(plan: &SearchPlan, probes: &[Probe]) -> Vec<Selection> {
    let of_aim = |(index, aim): (usize, &Aim)| {
        let judged = |probe: &&Probe| probe.judged.get(index).is_some_and(|judged| judged.holds);
        let good = probes.iter().filter(judged);
        let value = match aim {
            Aim::Hold(_) => good.map(|probe| probe.value).reduce(f64::max),
            Aim::Best { .. } => best_of(Seen { probes, aim: index }),
        };
        Selection { aim: aim.to_string(), value, reason: "not decided: the best load so far".to_string() }
    };
    plan.aims.iter().enumerate().map(of_aim).collect()
}

/// The load that has to be probed before more can be said.
struct Needed(f64);

type Found = (Option<f64>, String);

/// The probes as one aim sees them.
#[derive(Clone, Copy)]
struct Seen<'a> {
    probes: &'a [Probe],
    aim: usize,
}

impl Seen<'_> {
    fn judged(self, value: f64) -> Result<Judged, Needed> {
        let probe = self.probes.iter().find(|probe| probe.value == value).ok_or(Needed(value))?;
        Ok(probe.judged[self.aim])
    }

    fn holds(self, value: f64) -> Result<bool, Needed> {
        Ok(self.judged(value)?.holds)
    }

    /// Larger is better; a load whose figures do not count is worse than every other.
    fn score(self, value: f64) -> Result<f64, Needed> {
        Ok(self.judged(value)?.score.unwrap_or(f64::NEG_INFINITY))
    }
}

/// The highest load at which the conditions hold.
fn highest(space: &Space, seen: Seen<'_>) -> Result<Found, Needed> {
    let (mut low, mut high) = if seen.holds(space.start)? {
        let mut low = space.start;
        loop {
            if low >= space.upper {
                return Ok((Some(low), "holds up to the upper bound".to_string()));
            }
            let next = (low * 2.0).min(space.upper);
            if !seen.holds(next)? {
                break (low, next);
            }
            low = next;
        }
    } else {
        let mut high = space.start;
        loop {
            if high <= space.lower {
                return Ok((None, format!("fails even at the lower bound, {}", space.lower)));
            }
            let next = space.half(high);
            if seen.holds(next)? {
                break (next, high);
            }
            high = next;
        }
    };
    while let Some(middle) = space.between(low, high, (low + high) / 2.0) {
        if seen.holds(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    let above = seen.probes.iter().find(|probe| probe.value > high && probe.judged[seen.aim].holds);
    let reason = match above {
        Some(probe) => format!("holds here, fails at {high}, and holds again at {}: runs differ much", probe.value),
        None => format!("holds here, fails at {high}"),
    };
    Ok((Some(low), reason))
}

/// The load at which the score is highest.
fn best(space: &Space, seen: Seen<'_>) -> Result<Found, Needed> {
    let coarse = Space { precision: space.precision.max(PRECISION_OF_BEST), ..*space };
    let (mut low, mut peak, mut high) = bracket(&coarse, seen)?;
    loop {
        let (above, below) =
            (coarse.between(peak, high, (peak * high).sqrt()), coarse.between(low, peak, (low * peak).sqrt()));
        let upward = high / peak >= peak / low;
        let Some(next) = (if upward { above.or(below) } else { below.or(above) }) else { break };
        // Of two equal loads the lower one is better.
        let better =
            if next > peak { seen.score(next)? > seen.score(peak)? } else { seen.score(next)? >= seen.score(peak)? };
        match (better, next > peak) {
            (true, true) => (low, peak) = (peak, next),
            (true, false) => (high, peak) = (peak, next),
            (false, true) => high = next,
            (false, false) => low = next,
        }
    }
    Ok(match best_of(seen) {
        Some(value) => (Some(value), "the best load that was tried".to_string()),
        None => (None, "at no load that was tried did every request succeed, with this figure".to_string()),
    })
}

/// A load, and one on each side of it that is no better.
fn bracket(space: &Space, seen: Seen<'_>) -> Result<(f64, f64, f64), Needed> {
    let start = space.start;
    let better = |a: f64, b: f64| -> Result<bool, Needed> {
        let (a, b) = (seen.score(a)?, seen.score(b)?);
        Ok(a > f64::NEG_INFINITY && (b == f64::NEG_INFINITY || a > b + BETTER * b.abs()))
    };
    let double = |value: f64| (value * 2.0).min(space.upper);
    let (mut low, mut peak, mut next) = (start, start, double(start));
    let failed = seen.score(start)? == f64::NEG_INFINITY;
    // More load cannot help where requests fail already.
    while !failed && next > peak && better(next, peak)? {
        (low, peak, next) = (peak, next, double(next));
    }
    if peak > start {
        return Ok((low, peak, next));
    }
    let (mut high, mut next) = (if failed { start } else { double(start) }, space.half(start));
    while next < peak && (better(next, peak)? || seen.score(peak)? == f64::NEG_INFINITY) {
        (high, peak, next) = (peak, next, space.half(next));
    }
    Ok((next, peak, high))
}

/// The load with the highest score, the lowest of several.
fn best_of(seen: Seen<'_>) -> Option<f64> {
    let scored = |probe: &Probe| Some((probe.judged[seen.aim].score?, probe.value));
    let first = |a: (f64, f64), b: (f64, f64)| if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a };
    seen.probes.iter().filter_map(scored).reduce(first).map(|(_, value)| value)
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
    pub fn of(plan: &SearchPlan, value: f64, runs: &[&Summary]) -> Probe {
        let mut probe = Probe {
            value,
            runs: runs.len(),
            total: runs.iter().map(|run| run.counts.scheduled).sum(),
            succeeded: runs.iter().map(|run| run.counts.ok).sum(),
            trouble: runs.iter().enumerate().flat_map(|(index, run)| trouble(index + 1, run)).collect(),
            observed: Vec::new(),
            judged: Vec::new(),
        };
        for (name, figure) in plan.aims.iter().flat_map(figures) {
            if !probe.observed.iter().any(|observed| observed.name == name) {
                let values: Vec<Option<f64>> = runs.iter().map(|run| figure.of(run)).collect();
                let known: Option<Vec<f64>> = values.iter().copied().collect();
                let mean = known.filter(|known| !known.is_empty()).map(|k| k.iter().sum::<f64>() / k.len() as f64);
                probe.observed.push(Observed { name, values, mean });
            }
        }
        probe.judged = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
        probe
    }

    /// A load that this machine cannot offer.
    pub fn refused(plan: &SearchPlan, value: f64, why: String) -> Probe {
        let judged = vec![Judged { holds: false, score: None }; plan.aims.len()];
        Probe { trouble: vec![why], judged, ..Probe::of(plan, value, &[]) }
    }

    fn mean(&self, name: &str) -> Option<f64> {
        self.observed.iter().find(|observed| observed.name == name).and_then(|observed| observed.mean)
    }
}

/// Why a run's figures do not count.
fn trouble(number: usize, run: &Summary) -> Option<String> {
    if run.is_void() {
        return Some(format!("run {number} is void"));
    }
    let c = &run.counts;
    let (sent, ok) = (c.scheduled.saturating_sub(c.unsent), c.ok);
    (ok == 0 || ok < sent).then(|| format!("run {number}: {ok} of {sent} requests succeeded"))
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

fn judge(aim: &Aim, probe: &Probe) -> Judged {
    let counts = probe.trouble.is_empty();
    match aim {
        Aim::Hold(criteria) => {
            let met = |c: &Criterion| probe.mean(&name_of(c)).is_some_and(|mean| c.comparison.holds(mean, c.bound));
            Judged { holds: counts && criteria.iter().all(met), score: None }
        }
        Aim::Best { name, most, .. } => {
            let score = probe.mean(name).filter(|_| counts).map(|mean| if *most { mean } else { -mean });
            Judged { holds: score.is_some(), score }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sla::{Sla, Variable};
    use crate::spec::Spec;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// What the server does at a load: every request succeeds, and the figures of the conditions by name.
    type Server<'a> = &'a mut dyn FnMut(f64) -> (bool, Vec<(&'static str, f64)>);

    struct Ended {
        probed: Vec<f64>,
        found: Vec<Selection>,
    }

    impl Ended {
        fn values(&self) -> Vec<Option<f64>> {
            self.found.iter().map(|selection| selection.value).collect()
        }
    }

    fn plan(variable: Variable, params: &str, change: impl FnOnce(&mut Spec)) -> SearchPlan {
        let sla = Sla {
            sla_auto_tune: true,
            sla_variable: Some(variable),
            sla_params: vec![params.to_string()],
            ..Sla::default()
        };
        let mut spec = Spec { sla, ..Spec::default() };
        change(&mut spec);
        SearchPlan::of(&spec).unwrap().unwrap()
    }

    /// Searches to the end. No load may be probed twice.
    fn search(plan: &SearchPlan, server: Server<'_>) -> Ended {
        let mut probes: Vec<Probe> = Vec::new();
        loop {
            match step(plan, &probes) {
                Step::Done(found) => {
                    return Ended { probed: probes.iter().map(|probe| probe.value).collect(), found };
                }
                Step::Probe(value) => {
                    let space = &plan.space;
                    assert!((space.lower..=space.upper).contains(&value), "{value} is out of bounds");
                    assert!(probes.iter().all(|probe| probe.value != value), "{value} was probed already");
                    assert!(probes.len() < 60, "it does not end");
                    probes.push(probe(plan, value, server(value)));
                }
            }
        }
    }

    fn probe(plan: &SearchPlan, value: f64, (ok, figures): (bool, Vec<(&str, f64)>)) -> Probe {
        let observed = |(name, value): (&str, f64)| Observed {
            name: name.to_string(),
            values: vec![Some(value)],
            mean: Some(value),
        };
        let trouble = if ok { Vec::new() } else { vec!["run 1: 1 of 2 requests succeeded".to_string()] };
        let observed = figures.into_iter().map(observed).collect();
        let mut probe = Probe { value, runs: 1, total: 2, succeeded: 2, trouble, observed, judged: Vec::new() };
        probe.judged = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
        probe
    }

    #[test]
    fn the_highest_parallel_that_holds_is_found_exactly() {
        for capacity in [1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1000.0] {
            for start in [1, 3, 8, 64, 5000] {
                let plan = plan(Variable::Parallel, "p99_ttft<=2", |spec| spec.parallel = vec![start]);
                let ended =
                    search(&plan, &mut |value| (true, vec![("p99_ttft", if value <= capacity { 1.0 } else { 3.0 })]));
                assert_eq!(ended.values(), [Some(capacity)], "from {start}: {:?}", ended.probed);
                assert!(ended.found[0].reason.contains(&format!("fails at {}", capacity + 1.0)), "{:?}", ended.found);
            }
        }
    }

    #[test]
    fn nothing_and_everything_end_at_the_bounds() {
        let bounds = |spec: &mut Spec| {
            (spec.sla.sla_lower_bound, spec.sla.sla_upper_bound) = (Some(3.0), Some(50.0));
            spec.parallel = vec![10];
        };
        let plan = plan(Variable::Parallel, "p99_ttft<=2", bounds);
        let ended = search(&plan, &mut |_| (true, vec![("p99_ttft", 9.0)]));
        assert_eq!((ended.values(), ended.probed), (vec![None], vec![10.0, 5.0, 3.0]));
        assert!(ended.found[0].reason.contains("lower bound, 3"));
        let ended = search(&plan, &mut |_| (true, vec![("p99_ttft", 1.0)]));
        assert_eq!((ended.values(), ended.probed), (vec![Some(50.0)], vec![10.0, 20.0, 40.0, 50.0]));
        assert!(ended.found[0].reason.contains("upper bound"));
    }

    #[test]
    fn equal_bounds_take_one_probe() {
        for (params, ttft, found) in
            [("p99_ttft<=2", 1.0, Some(8.0)), ("p99_ttft<=2", 3.0, None), ("p99_ttft=min", 3.0, Some(8.0))]
        {
            let bounds = |spec: &mut Spec| {
                (spec.sla.sla_lower_bound, spec.sla.sla_upper_bound) = (Some(8.0), Some(8.0));
            };
            let plan = plan(Variable::Parallel, params, bounds);
            let ended = search(&plan, &mut |_| (true, vec![("p99_ttft", ttft)]));
            assert_eq!((ended.values(), ended.probed), (vec![found], vec![8.0]));
        }
    }

    #[test]
    fn rates_need_not_be_whole() {
        for capacity in [0.13, 0.37, 1.0, 2.6, 47.3, 3141.0] {
            for start in [0.5, 1.0, 10.0] {
                let plan = plan(Variable::Rate, "p99_latency<=2", |spec| spec.rate = vec![start]);
                let ended = search(&plan, &mut |value| {
                    (true, vec![("p99_latency", if value <= capacity { 1.0 } else { 3.0 })])
                });
                let found = ended.values()[0].unwrap();
                assert!(found <= capacity && found >= capacity * 0.97, "{capacity}: {:?}", ended.probed);
                assert!(ended.probed.iter().all(|value| format!("{value}").len() <= 6), "{:?}", ended.probed);
            }
        }
    }

    #[test]
    fn failed_requests_are_no_success() {
        let plan = plan(Variable::Parallel, "p99_ttft<=2", |_| ());
        let ended = search(&plan, &mut |value| (value <= 12.0, vec![("p99_ttft", 1.0)]));
        assert_eq!(ended.values(), [Some(12.0)]);
        let ended = search(&plan, &mut |_| (true, Vec::new()));
        assert_eq!(ended.values(), [None], "a figure that is missing does not hold");
    }

    #[test]
    fn conditions_of_a_group_hold_together_and_groups_are_searched_one_by_one() {
        let mut server = |value: f64| (true, vec![("p99_ttft", value / 10.0), ("p99_tpot", value / 1000.0)]);
        let both = plan(Variable::Parallel, r#"[{"p99_ttft": "<=2", "p99_tpot": "<=50ms"}]"#, |_| ());
        assert_eq!(search(&both, &mut server).values(), [Some(20.0)]);
        let each = plan(Variable::Parallel, r#"[{"p99_ttft": "<=2"}, {"p99_tpot": "<=50ms"}]"#, |_| ());
        let ended = search(&each, &mut server);
        assert_eq!(ended.values(), [Some(20.0), Some(50.0)]);
        let impossible = plan(Variable::Parallel, "p99_ttft<=2 rps>=5", |_| ());
        assert_eq!(search(&impossible, &mut server).values(), [None]);
    }

    #[test]
    fn noise_moves_the_result_but_never_breaks_the_search() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..300 {
            let plan = plan(Variable::Parallel, "p99_ttft<=2 | avg_ttft<=1.5", |spec| spec.parallel = vec![4]);
            let mut noise = || rng.random_range(0.9..1.1);
            let ended = search(&plan, &mut |value| {
                (true, vec![("p99_ttft", value / 50.0 * noise()), ("avg_ttft", value / 50.0 * noise())])
            });
            for (value, around) in ended.values().into_iter().zip([100.0, 75.0]) {
                let value = value.unwrap();
                assert!((around * 0.85..around * 1.15).contains(&value), "{value}: {:?}", ended.probed);
            }
        }
        // What makes no sense at all still ends.
        for _ in 0..300 {
            for params in ["p99_ttft<=2", "p99_ttft=min"] {
                let plan = plan(Variable::Rate, params, |_| ());
                search(&plan, &mut |_| (rng.random_bool(0.8), vec![("p99_ttft", rng.random_range(0.0..4.0))]));
            }
        }
    }

    #[test]
    fn the_most_of_a_figure_is_found_at_its_peak_or_where_it_stops_to_rise() {
        for peak in [1.0, 5.0, 24.0, 100.0, 700.0] {
            for start in [1, 16, 1000] {
                let plan = plan(Variable::Parallel, "tps=max", |spec| spec.parallel = vec![start]);
                let ended = search(&plan, &mut |value| (true, vec![("tps", 1000.0 / (value / peak + peak / value))]));
                let found = ended.values()[0].unwrap();
                assert!((found / peak - 1.0).abs() <= 0.1, "{peak} from {start}: {found}, {:?}", ended.probed);
            }
        }
        let plateau = plan(Variable::Parallel, r#"[{"tps": "max"}]"#, |_| ());
        let ended = search(&plateau, &mut |value: f64| (true, vec![("tps", value.min(64.0))]));
        assert_eq!(ended.values(), [Some(64.0)]);
        assert!(ended.probed.iter().all(|value| *value <= 256.0), "{:?}", ended.probed);
    }

    #[test]
    fn the_most_ends_at_the_bound_and_not_where_requests_fail() {
        let bounded = plan(Variable::Parallel, "tps=max", |spec| spec.sla.sla_upper_bound = Some(100.0));
        assert_eq!(search(&bounded, &mut |value| (true, vec![("tps", value)])).values(), [Some(100.0)]);
        let found = search(&bounded, &mut |value| (value <= 20.0, vec![("tps", value)])).values()[0].unwrap();
        assert!((18.0..=20.0).contains(&found), "{found}");
        let from_above = plan(Variable::Parallel, "tps=max", |spec| spec.parallel = vec![512]);
        let found = search(&from_above, &mut |value| (value <= 20.0, vec![("tps", value)])).values()[0].unwrap();
        assert!((16.0..=20.0).contains(&found), "{found}");
        assert_eq!(search(&bounded, &mut |_| (false, vec![("tps", 1.0)])).values(), [None]);
    }

    #[test]
    fn the_least_of_a_time_is_at_the_lowest_load() {
        let plan = plan(Variable::Rate, "avg_latency=min", |spec| spec.rate = vec![4.0]);
        let ended = search(&plan, &mut |value| (true, vec![("avg_latency", 1.0 + value)]));
        assert_eq!(ended.values(), [Some(0.1)], "{:?}", ended.probed);
    }

    #[test]
    fn an_interrupted_search_says_what_it_knows() {
        let holds = plan(Variable::Parallel, "p99_ttft<=2", |_| ());
        let probes: Vec<Probe> = [(1.0, 1.0), (2.0, 1.5), (4.0, 3.0)]
            .map(|(value, ttft)| probe(&holds, value, (true, vec![("p99_ttft", ttft)])))
            .to_vec();
        assert_eq!(so_far(&holds, &probes)[0].value, Some(2.0));
        assert_eq!(so_far(&holds, &[])[0].value, None);
    }
}
