//! Searches on servers that are functions.

use super::*;
use crate::plan::sla::Variable;
use crate::spec::{SlaSpec, Spec};
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
    let observed =
        |(name, value): (&str, f64)| Observed { name: name.to_string(), values: vec![Some(value)], mean: Some(value) };
    let trouble = if ok { Vec::new() } else { vec![SearchTrouble::Failed { run: 1, succeeded: 1, sent: 2 }] };
    let observed = figures.into_iter().map(observed).collect();
    let mut probe =
        Probe { value, runs: 1, total: 2, succeeded: 2, offered_per_s: None, trouble, observed, verdicts: Vec::new() };
    probe.verdicts = plan.aims.iter().map(|aim| judge(aim, &probe)).collect();
    probe
}

#[test]
fn the_highest_parallel_that_holds_is_found_exactly() {
    for capacity in [1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 100.0, 1000.0] {
        for start in [1, 3, 8, 64, 5000] {
            let plan = plan(Variable::Parallel, "p99_ttft<=2", |spec| spec.load.parallel = vec![start]);
            let ended =
                search(&plan, &mut |value| (true, vec![("p99_ttft", if value <= capacity { 1.0 } else { 3.0 })]));
            assert_eq!(ended.values(), [Some(capacity)], "from {start}: {:?}", ended.probed);
            assert_eq!(ended.found[0].reason, SearchReason::HoldsHere { fails_at: capacity + 1.0 });
        }
    }
}

#[test]
fn nothing_and_everything_end_at_the_bounds() {
    let bounds = |spec: &mut Spec| {
        (spec.sla.sla_lower_bound, spec.sla.sla_upper_bound) = (Some(3.0), Some(50.0));
        spec.load.parallel = vec![10];
    };
    let plan = plan(Variable::Parallel, "p99_ttft<=2", bounds);
    let ended = search(&plan, &mut |_| (true, vec![("p99_ttft", 9.0)]));
    assert_eq!((ended.values(), ended.probed), (vec![None], vec![10.0, 5.0, 3.0]));
    assert_eq!(ended.found[0].reason, SearchReason::FailsAtLowerBound { lower: 3.0 });
    let ended = search(&plan, &mut |_| (true, vec![("p99_ttft", 1.0)]));
    assert_eq!((ended.values(), ended.probed), (vec![Some(50.0)], vec![10.0, 20.0, 40.0, 50.0]));
    assert_eq!(ended.found[0].reason, SearchReason::HoldsToUpperBound);
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
            let plan = plan(Variable::Rate, "p99_latency<=2", |spec| spec.load.rate = vec![start]);
            let ended =
                search(&plan, &mut |value| (true, vec![("p99_latency", if value <= capacity { 1.0 } else { 3.0 })]));
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
fn a_load_that_gives_too_little_is_no_end() {
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
        // Past the peak from the start on.
        (64, "rps>=100", Some(40.0)),
        (640, "rps>=380", Some(40.0)),
    ] {
        let plan = plan(Variable::Parallel, params, |spec| spec.load.parallel = vec![start]);
        let ended = search(&plan, &mut server);
        assert_eq!(ended.values(), [found], "{params} from {start}: {:?}, {:?}", ended.probed, ended.found);
    }
}

#[test]
fn noise_moves_the_result_but_never_breaks_the_search() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..300 {
        let plan = plan(Variable::Parallel, "p99_ttft<=2 | avg_ttft<=1.5", |spec| spec.load.parallel = vec![4]);
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
        for params in ["p99_ttft<=2", "p99_ttft=min", "p99_ttft>=2", "p99_ttft>=1 p99_ttft<=3"] {
            let plan = plan(Variable::Rate, params, |_| ());
            search(&plan, &mut |_| (rng.random_bool(0.8), vec![("p99_ttft", rng.random_range(0.0..4.0))]));
        }
    }
}

#[test]
fn the_most_of_a_figure_is_found_at_its_peak_or_where_it_stops_to_rise() {
    for peak in [1.0, 5.0, 24.0, 100.0, 700.0] {
        for start in [1, 16, 1000] {
            let plan = plan(Variable::Parallel, "tps=max", |spec| spec.load.parallel = vec![start]);
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
    let from_above = plan(Variable::Parallel, "tps=max", |spec| spec.load.parallel = vec![512]);
    let found = search(&from_above, &mut |value| (value <= 20.0, vec![("tps", value)])).values()[0].unwrap();
    assert!((16.0..=20.0).contains(&found), "{found}");
    assert_eq!(search(&bounded, &mut |_| (false, vec![("tps", 1.0)])).values(), [None]);
}

#[test]
fn the_least_of_a_time_is_at_the_lowest_load() {
    let plan = plan(Variable::Rate, "avg_latency=min", |spec| spec.load.rate = vec![4.0]);
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
