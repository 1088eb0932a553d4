//! Searches against simulated servers, which are functions from load to figures.

use super::*;
use crate::plan::sla::Variable;
use crate::spec::{SlaSpec, Spec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A simulated server: for a load, whether all requests succeed, and the figures by name.
type Server<'a> = &'a mut dyn FnMut(f64) -> (bool, Vec<(&'static str, f64)>);

/// The probed loads and the selections of a completed search.
struct Outcome {
    probed: Vec<f64>,
    found: Vec<Selection>,
}

impl Outcome {
    fn values(&self) -> Vec<Option<f64>> {
        self.found.iter().map(|selection| selection.value).collect()
    }
}

fn plan(variable: Variable, params: &str, change: impl FnOnce(&mut Spec)) -> SearchPlan {
    let sla = SlaSpec {
        sla_auto_tune: true,
        sla_variable: Some(variable),
        sla_params: vec![params.to_string()],
        ..SlaSpec::default()
    };
    let mut spec = Spec::default().with(|s| s.sla = sla);
    change(&mut spec);
    spec.search().unwrap().unwrap()
}

/// Runs a search to its end. Asserts that no load is probed twice.
fn search(plan: &SearchPlan, server: Server<'_>) -> Outcome {
    let mut probes: Vec<Probe> = Vec::new();
    loop {
        match step(plan, &probes) {
            Step::Done(found) => {
                return Outcome { probed: probes.iter().map(|probe| probe.value).collect(), found };
            }
            Step::Probe(value) => {
                let space = &plan.space;
                assert!((space.lower..=space.upper).contains(&value), "{value} is out of bounds");
                assert!(probes.iter().all(|probe| probe.value != value), "{value} was probed already");
                assert!(probes.len() < 60, "the search does not end");
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
        few: false,
        at_most: None,
    };
    let trouble = if ok { Vec::new() } else { vec![SearchTrouble::Failed { run: 1, succeeded: 1, sent: 2 }] };
    let observed = figures.into_iter().map(observed).collect();
    let mut probe = Probe {
        value,
        runs: 1,
        total: 2,
        succeeded: 2,
        is_complete: true,
        offered_per_s: None,
        trouble,
        observed,
        verdicts: Vec::new(),
    };
    probe.verdicts = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
    probe
}

#[test]
fn the_highest_parallel_that_holds_is_found_exactly() {
    for capacity in [1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1000.0] {
        for start in [1, 3, 8, 64, 5000] {
            let plan = plan(Variable::Parallel, "p99_ttft<=2", |spec| spec.load.parallel = vec![start]);
            let outcome =
                search(&plan, &mut |value| (true, vec![("p99_ttft", if value <= capacity { 1.0 } else { 3.0 })]));
            assert_eq!(outcome.values(), [Some(capacity)], "from {start}: {:?}", outcome.probed);
            assert_eq!(outcome.found[0].reason, SearchReason::HoldsHere { fails_at: capacity + 1.0 });
        }
    }
}

#[test]
fn a_search_without_a_transition_ends_at_a_bound() {
    let bounds = |spec: &mut Spec| {
        (spec.sla.sla_lower_bound, spec.sla.sla_upper_bound) = (Some(3.0), Some(50.0));
        spec.load.parallel = vec![10];
    };
    let plan = plan(Variable::Parallel, "p99_ttft<=2", bounds);
    let outcome = search(&plan, &mut |_| (true, vec![("p99_ttft", 9.0)]));
    assert_eq!((outcome.values(), outcome.probed), (vec![None], vec![10.0, 5.0, 3.0]));
    assert_eq!(outcome.found[0].reason, SearchReason::FailsAtLowerBound { lower: 3.0 });
    let outcome = search(&plan, &mut |_| (true, vec![("p99_ttft", 1.0)]));
    assert_eq!((outcome.values(), outcome.probed), (vec![Some(50.0)], vec![10.0, 20.0, 40.0, 50.0]));
    assert_eq!(outcome.found[0].reason, SearchReason::HoldsToUpperBound);
}

#[test]
fn equal_bounds_need_one_probe() {
    for (params, ttft, found) in
        [("p99_ttft<=2", 1.0, Some(8.0)), ("p99_ttft<=2", 3.0, None), ("p99_ttft=min", 3.0, Some(8.0))]
    {
        let bounds = |spec: &mut Spec| {
            (spec.sla.sla_lower_bound, spec.sla.sla_upper_bound) = (Some(8.0), Some(8.0));
        };
        let plan = plan(Variable::Parallel, params, bounds);
        let outcome = search(&plan, &mut |_| (true, vec![("p99_ttft", ttft)]));
        assert_eq!((outcome.values(), outcome.probed), (vec![found], vec![8.0]));
    }
}

#[test]
fn fractional_rates_are_searched() {
    for capacity in [0.13, 0.37, 1.0, 2.6, 47.3, 3141.0] {
        for start in [0.5, 1.0, 10.0] {
            let plan = plan(Variable::Rate, "p99_latency<=2", |spec| spec.load.rate = vec![start]);
            let outcome =
                search(&plan, &mut |value| (true, vec![("p99_latency", if value <= capacity { 1.0 } else { 3.0 })]));
            let found = outcome.values()[0].unwrap();
            assert!(found <= capacity && found >= capacity * 0.97, "{capacity}: {:?}", outcome.probed);
            assert!(outcome.probed.iter().all(|value| format!("{value}").len() <= 6), "{:?}", outcome.probed);
        }
    }
}

#[test]
fn a_load_with_failed_requests_does_not_hold() {
    let plan = plan(Variable::Parallel, "p99_ttft<=2", |_| ());
    let outcome = search(&plan, &mut |value| (value <= 12.0, vec![("p99_ttft", 1.0)]));
    assert_eq!(outcome.values(), [Some(12.0)]);
    let outcome = search(&plan, &mut |_| (true, Vec::new()));
    assert_eq!(outcome.values(), [None], "a condition on a missing figure does not hold");
}

#[test]
fn conditions_of_a_group_are_combined_and_groups_are_searched_separately() {
    let mut server = |value: f64| (true, vec![("p99_ttft", value / 10.0), ("p99_tpot", value / 1000.0)]);
    let both = plan(Variable::Parallel, r#"[{"p99_ttft": "<=2", "p99_tpot": "<=50ms"}]"#, |_| ());
    assert_eq!(search(&both, &mut server).values(), [Some(20.0)]);
    let each = plan(Variable::Parallel, r#"[{"p99_ttft": "<=2"}, {"p99_tpot": "<=50ms"}]"#, |_| ());
    let outcome = search(&each, &mut server);
    assert_eq!(outcome.values(), [Some(20.0), Some(50.0)]);
    let impossible = plan(Variable::Parallel, "p99_ttft<=2 rps>=5", |_| ());
    assert_eq!(search(&impossible, &mut server).values(), [None]);
}

#[test]
fn a_load_below_a_lower_bound_does_not_end_the_search() {
    let mut server = |value: f64| {
        let rps = if value <= 40.0 { 10.0 * value } else { 1000.0 / value };
        (true, vec![("rps", rps), ("p99_ttft", value / 10.0)])
    };
    for (start, params, found) in [
        (1, "rps>=100", Some(40.0)),
        (1, "rps>=100 p99_ttft<=2", Some(20.0)),
        (16, "rps>=100 p99_ttft<=2", Some(20.0)),
        (1, "rps>=100 p99_ttft<=0.5", None),
        (1, "rps>1000", None),
        // The start is past the peak.
        (64, "rps>=100", Some(40.0)),
        (640, "rps>=380", Some(40.0)),
    ] {
        let plan = plan(Variable::Parallel, params, |spec| spec.load.parallel = vec![start]);
        let outcome = search(&plan, &mut server);
        assert_eq!(outcome.values(), [found], "{params} from {start}: {:?}, {:?}", outcome.probed, outcome.found);
    }
}

#[test]
fn noisy_figures_still_end_the_search() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..300 {
        let plan = plan(Variable::Parallel, "p99_ttft<=2 | avg_ttft<=1.5", |spec| spec.load.parallel = vec![4]);
        let mut noise = || rng.random_range(0.9..1.1);
        let outcome = search(&plan, &mut |value| {
            (true, vec![("p99_ttft", value / 50.0 * noise()), ("avg_ttft", value / 50.0 * noise())])
        });
        for (value, around) in outcome.values().into_iter().zip([100.0, 75.0]) {
            let value = value.unwrap();
            assert!((around * 0.85..around * 1.15).contains(&value), "{value}: {:?}", outcome.probed);
        }
    }
    // Searches with random figures also end.
    for _ in 0..300 {
        for params in ["p99_ttft<=2", "p99_ttft=min", "p99_ttft>=2", "p99_ttft>=1 p99_ttft<=3"] {
            let plan = plan(Variable::Rate, params, |_| ());
            search(&plan, &mut |_| (rng.random_bool(0.8), vec![("p99_ttft", rng.random_range(0.0..4.0))]));
        }
    }
}

#[test]
fn a_maximum_is_found_at_the_peak_or_at_the_start_of_a_plateau() {
    for peak in [1.0, 5.0, 24.0, 100.0, 700.0] {
        for start in [1, 16, 1000] {
            let plan = plan(Variable::Parallel, "tps=max", |spec| spec.load.parallel = vec![start]);
            let outcome = search(&plan, &mut |value| (true, vec![("tps", 1000.0 / (value / peak + peak / value))]));
            let found = outcome.values()[0].unwrap();
            assert!((found / peak - 1.0).abs() <= 0.1, "{peak} from {start}: {found}, {:?}", outcome.probed);
        }
    }
    let plateau = plan(Variable::Parallel, r#"[{"tps": "max"}]"#, |_| ());
    let outcome = search(&plateau, &mut |value: f64| (true, vec![("tps", value.min(64.0))]));
    assert_eq!(outcome.values(), [Some(64.0)]);
    assert!(outcome.probed.iter().all(|value| *value <= 256.0), "{:?}", outcome.probed);
}

#[test]
fn a_maximum_search_stops_at_the_bound_and_before_failing_loads() {
    let bounded = plan(Variable::Parallel, "tps=max", |spec| spec.sla.sla_upper_bound = Some(100.0));
    assert_eq!(search(&bounded, &mut |value| (true, vec![("tps", value)])).values(), [Some(100.0)]);
    let found = search(&bounded, &mut |value| (value <= 20.0, vec![("tps", value)])).values()[0].unwrap();
    assert!((18.0..=20.0).contains(&found), "{found}");
    let from_above = plan(Variable::Parallel, "tps=max", |spec| spec.load.parallel = vec![512]);
    let found = search(&from_above, &mut |value| (value <= 20.0, vec![("tps", value)])).values()[0].unwrap();
    assert!((16.0..=20.0).contains(&found), "{found}");
    assert_eq!(search(&bounded, &mut |_| (false, vec![("tps", 1.0)])).values(), [None]);
}

#[test]
fn a_minimum_latency_is_found_at_the_lowest_load() {
    let plan = plan(Variable::Rate, "avg_latency=min", |spec| spec.load.rate = vec![4.0]);
    let outcome = search(&plan, &mut |value| (true, vec![("avg_latency", 1.0 + value)]));
    assert_eq!(outcome.values(), [Some(0.1)], "{:?}", outcome.probed);
}

#[test]
fn an_interrupted_search_selects_the_best_load_so_far() {
    let holds = plan(Variable::Parallel, "p99_ttft<=2", |_| ());
    let probes: Vec<Probe> = [(1.0, 1.0), (2.0, 1.5), (4.0, 3.0)]
        .map(|(value, ttft)| probe(&holds, value, (true, vec![("p99_ttft", ttft)])))
        .to_vec();
    assert_eq!(so_far(&holds, &probes)[0].value, Some(2.0));
    assert_eq!(so_far(&holds, &[])[0].value, None);
}

#[test]
fn failures_are_accepted_where_the_conditions_limit_them() {
    let plan = plan(Variable::Parallel, "p99_ttft<=2 failed<=1%", |_| ());
    let some_failed = |failed: f64| {
        let mut found = probe(&plan, 4.0, (true, vec![("p99_ttft", 1.0), ("failed", failed)]));
        found.is_complete = false;
        judge(&plan.aims[0], &found).holds
    };
    assert!(some_failed(1.0) && !some_failed(1.1));
    let infinite = probe(&plan, 4.0, (true, vec![("p99_ttft", f64::INFINITY), ("failed", 0.0)]));
    assert!(!judge(&plan.aims[0], &infinite).holds);
    let strict = self::plan(Variable::Parallel, "p99_ttft<=2", |_| ());
    let found = Probe { is_complete: false, ..probe(&strict, 4.0, (true, vec![("p99_ttft", 1.0)])) };
    assert!(!judge(&strict.aims[0], &found).holds, "without such a condition, all requests must succeed");
}
