//! Flags of the search for the highest load that meets SLOs, or for the load with the best figure.

use serde::Serialize;

use super::load::LoadSpec;
use super::output::check_streamed;
use super::values;
use crate::finding::Finding;
use crate::plan::PlanError;
use crate::plan::sla::{Aim, RunSize, SearchPlan, Space, Variable};
use crate::plan::slo::{self, Figure, OPERATORS, conditions, groups_of_json, is_json, scan};

const HEADING: &str = "Search for a load";
const DEFAULT_RUNS: u32 = 3;
const DEFAULT_UPPER: f64 = 65_536.0;
/// Slow servers handle less than one request per second.
const DEFAULT_LOWER_RATE: f64 = 0.1;
const DEFAULT_RATE_PRECISION: f64 = 0.02;
/// Requests for each unit of concurrency.
const DEFAULT_PARALLEL_MULTIPLE: f64 = 2.0;
/// Seconds of load at each rate. Overload of an open loop takes some time to become visible.
const DEFAULT_RATE_MULTIPLE: f64 = 10.0;

/// Flags of the search for a load.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct SlaSpec {
    /// Search for the highest load that meets --sla-params, or for the load with the best figure; exit status 1 if no load
    /// qualifies
    #[arg(long, help_heading = HEADING)]
    pub sla_auto_tune: bool,
    /// Variable of the search: parallel (closed loop) or rate (open loop) [default: parallel]
    #[arg(long, value_name = "WHAT", value_parser = values::variable(), help_heading = HEADING)]
    pub sla_variable: Option<Variable>,
    /// SLOs to meet: '[{"p99_ttft": "<=2", "p99_tpot": "<=50ms"}]' or 'p99_ttft<=2 p99_tpot<=50ms'; times are in seconds
    /// unless they have a unit. Several groups ('a<=1 | b<=2') are searched separately. '{"tps": "max"}' (or min)
    /// searches for the load with the best figure. All requests must succeed, unless the group has failed or success
    #[arg(long, value_name = "CRITERIA", num_args = 1.., help_heading = HEADING)]
    pub sla_params: Vec<String>,
    /// Number of runs at each load; their figures are averaged [default: 3]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub sla_num_runs: Option<u32>,
    /// Highest load to try [default: 65536]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub sla_upper_bound: Option<f64>,
    /// Lowest load to try [default: 1 for parallel, 0.1 for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub sla_lower_bound: Option<f64>,
    /// Limit on concurrent requests in a search for a rate [default: none, an open loop]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub sla_fixed_parallel: Option<u32>,
    /// Requests of each run as a multiple of the load, if neither --number nor --duration is given [default: 2 for
    /// parallel, 10 for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub sla_number_multiplier: Option<f64>,
    /// Stop when the passing and the failing load differ by less than this fraction [default: 0 (exact) for parallel, 0.02
    /// for rate]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub sla_precision: Option<f64>,
}

impl SlaSpec {
    /// The plan of the search; `None` without `--sla-auto-tune`.
    pub(super) fn resolve(&self, load: &LoadSpec, dataset: Option<&str>) -> Result<Option<SearchPlan>, PlanError> {
        if !self.sla_auto_tune {
            return match self.first_given() {
                Some(flag) => Err(PlanError::conflict(format!("{flag} applies only to a search: add --sla-auto-tune"))),
                None => Ok(None),
            };
        }
        let variable = self.sla_variable.unwrap_or_default();
        self.check_load(load, dataset, variable)?;
        let runs = self.sla_num_runs.unwrap_or(DEFAULT_RUNS);
        if runs == 0 {
            return Err(PlanError::value("--sla-num-runs", "must be at least 1"));
        }
        Ok(Some(SearchPlan {
            variable,
            aims: parse_aims(&self.sla_params).map_err(|what| PlanError::value("--sla-params", what))?,
            space: self.space(load, variable)?,
            runs,
            size: self.size(load, variable)?,
            fixed_parallel: self.sla_fixed_parallel,
        }))
    }

    /// Rejects aims at figures of streamed responses if the requests do not ask for any.
    pub(super) fn check_streamed(&self, stream: bool) -> Result<(), PlanError> {
        const FLAG: &str = "--sla-params";
        if !self.sla_auto_tune {
            return Ok(());
        }
        let aims = parse_aims(&self.sla_params).map_err(|what| PlanError::value(FLAG, what))?;
        let figures = aims.iter().flat_map(|aim| match aim {
            Aim::Hold(criteria) => criteria.iter().map(|criterion| criterion.figure).collect(),
            Aim::Best { figure, .. } => vec![*figure],
        });
        figures.into_iter().try_for_each(|figure| check_streamed(FLAG, figure, stream))
    }

    /// Findings about the criteria of a search.
    pub(super) fn notes(&self) -> Vec<Finding> {
        let aims = if self.sla_auto_tune { parse_aims(&self.sla_params).unwrap_or_default() } else { Vec::new() };
        let criteria = aims.iter().flat_map(|aim| match aim {
            Aim::Hold(criteria) => criteria.as_slice(),
            Aim::Best { .. } => &[],
        });
        slo::notes(&criteria.cloned().collect::<Vec<_>>())
    }

    /// The first flag of the search that is given, except `--sla-auto-tune`.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            (self.sla_variable.is_some(), "--sla-variable"),
            (!self.sla_params.is_empty(), "--sla-params"),
            (self.sla_num_runs.is_some(), "--sla-num-runs"),
            (self.sla_upper_bound.is_some(), "--sla-upper-bound"),
            (self.sla_lower_bound.is_some(), "--sla-lower-bound"),
            (self.sla_fixed_parallel.is_some(), "--sla-fixed-parallel"),
            (self.sla_number_multiplier.is_some(), "--sla-number-multiplier"),
            (self.sla_precision.is_some(), "--sla-precision"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }

    /// Rejects flags of the load that conflict with the search.
    fn check_load(&self, load: &LoadSpec, dataset: Option<&str>, variable: Variable) -> Result<(), PlanError> {
        let fixed = self.sla_fixed_parallel;
        if load.repeat > 1 {
            return Err(PlanError::conflict("--repeat does not apply to a search: use --sla-num-runs"));
        }
        if load.number.len() > 1 {
            return Err(PlanError::conflict("--sla-auto-tune takes one value of --number, which applies to every run"));
        }
        let (several, flag) = match variable {
            Variable::Parallel => (load.parallel.len() > 1, "--parallel"),
            Variable::Rate => (load.rate.len() > 1, "--rate"),
        };
        if several {
            return Err(PlanError::conflict(format!(
                "--sla-auto-tune takes one {flag} to start from: give one value, or omit it"
            )));
        }
        match variable {
            Variable::Parallel if load.open_loop => Err(PlanError::conflict(
                "--sla-variable parallel is a closed loop: remove --open-loop, or use --sla-variable rate",
            )),
            Variable::Parallel if load.rate.iter().any(|rate| *rate > 0.0) => Err(PlanError::conflict(
                "--sla-variable parallel has no rate: remove --rate, or use --sla-variable rate",
            )),
            Variable::Parallel if fixed.is_some() => {
                Err(PlanError::conflict("--sla-fixed-parallel applies to a search for a rate: add --sla-variable rate"))
            }
            Variable::Rate if fixed.is_some() && load.open_loop => Err(PlanError::conflict(
                "--sla-fixed-parallel limits concurrent requests and --open-loop does not: remove one of them",
            )),
            Variable::Rate
                if load.arrival.as_deref().is_some_and(|law| law == "burst" || law.starts_with("trace:")) =>
            {
                Err(PlanError::conflict(
                    "--sla-variable rate needs an --arrival with a rate: poisson, constant or gamma:CV",
                ))
            }
            _ if dataset == Some("trace") => Err(PlanError::conflict(
                "--dataset trace has fixed arrival times, which --sla-auto-tune cannot vary: use another dataset",
            )),
            _ => Ok(()),
        }
    }

    fn space(&self, load: &LoadSpec, variable: Variable) -> Result<Space, PlanError> {
        let whole = variable == Variable::Parallel;
        let lower = self.sla_lower_bound.unwrap_or(if whole { 1.0 } else { DEFAULT_LOWER_RATE });
        let upper = self.sla_upper_bound.unwrap_or(DEFAULT_UPPER);
        for (flag, bound) in [("--sla-lower-bound", lower), ("--sla-upper-bound", upper)] {
            if whole && (bound.fract() != 0.0 || !(1.0..=1e9).contains(&bound)) {
                return Err(PlanError::value(flag, format!("must be a whole number of at least 1, not {bound}")));
            }
            if !whole && !(1e-6..=1e8).contains(&bound) {
                return Err(PlanError::value(
                    flag,
                    format!("must be between 0.000001 and 100000000 per second, not {bound}"),
                ));
            }
        }
        if lower > upper {
            return Err(PlanError::conflict(format!(
                "--sla-lower-bound {lower} is above --sla-upper-bound {upper}: there is no load to try"
            )));
        }
        let given = match variable {
            Variable::Parallel => load.parallel.first().map(|parallel| f64::from(*parallel)),
            Variable::Rate => load.rate.first().copied().filter(|rate| *rate != -1.0),
        };
        let start = given.unwrap_or(1.0).clamp(lower, upper);
        let precision = self.sla_precision.unwrap_or(if whole { 0.0 } else { DEFAULT_RATE_PRECISION });
        if !(0.0..1.0).contains(&precision) || (!whole && precision < 0.001) {
            return Err(PlanError::value(
                "--sla-precision",
                format!("must be a fraction below 1, and at least 0.001 for a rate, not {precision}"),
            ));
        }
        Ok(Space { lower, upper, start, whole, precision })
    }

    fn size(&self, load: &LoadSpec, variable: Variable) -> Result<RunSize, PlanError> {
        let multiple = self.sla_number_multiplier;
        if let Some(wrong) = multiple.filter(|multiple| !multiple.is_finite() || *multiple <= 0.0) {
            return Err(PlanError::value("--sla-number-multiplier", format!("must be above 0, not {wrong}")));
        }
        match (multiple, load.number.first()) {
            (Some(_), Some(_)) => Err(PlanError::conflict(
                "--number and --sla-number-multiplier both set the number of requests: keep one of them",
            )),
            (Some(multiple), None) => Ok(RunSize::Multiple(multiple)),
            (None, Some(number)) => Ok(RunSize::Number(*number)),
            (None, None) if load.duration_s.is_some() => Ok(RunSize::Duration),
            (None, None) => Ok(RunSize::Multiple(match variable {
                Variable::Parallel => DEFAULT_PARALLEL_MULTIPLE,
                Variable::Rate => DEFAULT_RATE_MULTIPLE,
            })),
        }
    }
}

/// `load` with the load of the search set to `value`.
pub(super) fn load_at(load: &LoadSpec, search: &SearchPlan, value: f64) -> LoadSpec {
    let mut at = load.clone();
    match search.variable {
        Variable::Parallel => {
            at.parallel = vec![value as u32];
            at.rate.clear();
        }
        Variable::Rate => {
            at.rate = vec![value];
            at.parallel = search.fixed_parallel.into_iter().collect();
            at.open_loop = search.fixed_parallel.is_none();
        }
    }
    at.number = search.number_at(value).into_iter().collect();
    at
}

/// Parses the aims of `--sla-params`: a JSON object (all conditions must hold), a list of objects (one aim each), or text as
/// for `--slo`, with `|` between aims.
fn parse_aims(params: &[String]) -> Result<Vec<Aim>, String> {
    let text = params.join(" ");
    let text = text.trim();
    let aims = if is_json(text) { parse_json(text)? } else { parse_text(text)? };
    let bests = aims.iter().filter(|aim| matches!(aim, Aim::Best { .. })).count();
    if bests > 0 && aims.len() > 1 {
        return Err("max and min cannot be combined with other conditions: give one figure".to_string());
    }
    let is_goodput = |aim: &Aim| match aim {
        Aim::Hold(criteria) => criteria.iter().any(|criterion| criterion.figure == Figure::Goodput),
        Aim::Best { figure, .. } => *figure == Figure::Goodput,
    };
    if aims.len() > 1 && aims.iter().any(is_goodput) {
        return Err("goodput depends on the other conditions of its group: give one group, without '|'".to_string());
    }
    Ok(aims)
}

fn parse_json(text: &str) -> Result<Vec<Aim>, String> {
    let pairs = |group: &Vec<(String, String)>| aim(group.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    groups_of_json(text)?.iter().map(pairs).collect()
}

fn parse_text(text: &str) -> Result<Vec<Aim>, String> {
    if text.is_empty() {
        return Err(
            "is required with --sla-auto-tune: give for example --sla-params 'p99_ttft<=2 p99_tpot<=0.05'".to_string()
        );
    }
    let one = |group: &str| {
        let words = conditions(group);
        if words.is_empty() {
            return Err(format!("'{text}' has an empty group before or after '|'"));
        }
        aim(words.iter().map(|word| {
            let at = word.find(OPERATORS).unwrap_or(word.len());
            (&word[..at], word[at..].trim_start_matches([':', '=']))
        }))
    };
    text.split('|').map(one).collect()
}

/// Builds an aim from pairs of name and condition.
fn aim<'a>(conditions: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Aim, String> {
    let conditions: Vec<(&str, &str)> = conditions.collect();
    let is_extreme = |condition: &str| condition == "max" || condition == "min";
    match conditions.as_slice() {
        [(name, condition)] if is_extreme(condition) => {
            let figure = Figure::scan(name).ok_or_else(|| Figure::unknown(name))?;
            Ok(Aim::Best { figure, name: name.to_string(), most: *condition == "max" })
        }
        several if several.iter().any(|(_, condition)| is_extreme(condition)) => {
            Err("max and min cannot be combined with other conditions: give one figure".to_string())
        }
        all => all
            .iter()
            .map(|(name, condition)| scan(&format!("{name}{condition}")))
            .collect::<Result<_, _>>()
            .map(Aim::Hold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(variable: Variable, params: &str) -> SlaSpec {
        SlaSpec {
            sla_auto_tune: true,
            sla_variable: Some(variable),
            sla_params: vec![params.to_string()],
            ..SlaSpec::default()
        }
    }

    fn plan(change: impl FnOnce(&mut SlaSpec, &mut LoadSpec)) -> Result<SearchPlan, String> {
        let (mut sla, mut load) = (spec(Variable::Parallel, "p99_ttft<=2"), LoadSpec::default());
        change(&mut sla, &mut load);
        sla.resolve(&load, None).map(|plan| plan.unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn json_and_text_give_the_same_aims() {
        let json =
            parse_aims(&[r#"[{"p99_ttft": "<=2s", "p99_tpot": "<= 50ms"}, {"rps": ">=3"}]"#.to_string()]).unwrap();
        let words = parse_aims(&["p99_ttft<=2s".to_string(), "p99_tpot≤50ms | rps>=3".to_string()]).unwrap();
        let shown = |aims: &[Aim]| aims.iter().map(Aim::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&words), ["p99_ttft<=2s, p99_tpot≤50ms", "rps>=3"]);
        let bounds = |aims: &[Aim]| match &aims[0] {
            Aim::Hold(criteria) => criteria.iter().map(|c| (c.figure, c.comparison, c.bound)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        // The members of a JSON object are unordered.
        for bound in bounds(&json) {
            assert!(bounds(&words).contains(&bound), "{bound:?}");
        }
        assert_eq!(
            parse_aims(&[r#"{"tps": "max"}"#.to_string()]).unwrap(),
            parse_aims(&["tps=max".to_string()]).unwrap()
        );
        assert_eq!(parse_aims(&["p99_ttft<=2".to_string()]).unwrap()[0].to_string(), "p99_ttft<=2 s");
    }

    #[test]
    fn invalid_conditions_are_rejected() {
        for (params, what) in [
            ("", "is required with --sla-auto-tune"),
            ("[]", "empty list"),
            ("[{}]", "group of conditions"),
            (r#"[{"p99_ttft": 2}]"#, "a text such as"),
            (r#"[{"p98.7_ttft": "<=2"}]"#, "is not a known figure"),
            (r#"[{"p99_ttft": "2"}]"#, "<="),
            (r#"[{"tps": "max", "p99_ttft": "<=2"}]"#, "cannot be combined"),
            (r#"[{"tps": "max"}, {"p99_ttft": "<=2"}]"#, "cannot be combined"),
            ("{\"tps\": ", "not valid JSON"),
            ("p99_ttft<=2 |", "an empty group"),
        ] {
            let error = parse_aims(&[params.to_string()]).unwrap_err();
            assert!(error.contains(what), "{params}: {error}");
        }
    }

    #[test]
    fn conflicting_flags_are_rejected() {
        type Change = fn(&mut SlaSpec, &mut LoadSpec);
        let cases: [(Change, &str); 12] = [
            (|s, _| s.sla_lower_bound = Some(9.0), ""),
            (|s, _| (s.sla_lower_bound, s.sla_upper_bound) = (Some(9.0), Some(3.0)), "there is no load to try"),
            (|s, _| s.sla_lower_bound = Some(1.5), "whole number"),
            (|s, _| s.sla_upper_bound = Some(0.0), "whole number"),
            (|_, load| load.parallel = vec![1, 2], "one --parallel"),
            (|_, load| load.rate = vec![5.0], "--rate"),
            (|_, load| load.open_loop = true, "--open-loop"),
            (|s, _| s.sla_fixed_parallel = Some(3), "--sla-variable rate"),
            (|s, load| (load.number, s.sla_number_multiplier) = (vec![5], Some(2.0)), "keep one"),
            (|s, _| s.sla_number_multiplier = Some(0.0), "above 0"),
            (|s, _| s.sla_num_runs = Some(0), "at least 1"),
            (|_, load| load.repeat = 2, "--sla-num-runs"),
        ];
        for (change, what) in cases {
            match plan(change) {
                Ok(_) => assert_eq!(what, ""),
                Err(error) => assert!(!what.is_empty() && error.contains(what), "{error}"),
            }
        }
        let load = LoadSpec::default();
        let mut alone = spec(Variable::Rate, "p99_ttft<=2");
        alone.sla_auto_tune = false;
        assert!(alone.resolve(&load, None).unwrap_err().to_string().contains("add --sla-auto-tune"));
        assert_eq!(SlaSpec::default().resolve(&load, None), Ok(None));
    }

    #[test]
    fn each_load_gives_a_load_spec() {
        let search = plan(|_, load| load.parallel = vec![4]).unwrap();
        assert_eq!((search.space.start, search.space.lower, search.space.upper, search.runs), (4.0, 1.0, 65_536.0, 3));
        let at = load_at(&LoadSpec::default(), &search, 7.0);
        assert_eq!((at.parallel, at.number, at.open_loop), (vec![7], vec![14], false));

        let mut sla = spec(Variable::Rate, "p99_ttft<=2");
        let mut load = LoadSpec { rate: vec![2.5], ..LoadSpec::default() };
        let at = |sla: &SlaSpec, load: &LoadSpec| {
            let search = sla.resolve(load, None).unwrap().unwrap();
            load_at(load, &search, 2.5)
        };
        let first = at(&sla, &load);
        assert_eq!(
            (first.rate, first.number, first.open_loop, first.parallel.is_empty()),
            (vec![2.5], vec![25], true, true)
        );
        sla.sla_fixed_parallel = Some(8);
        let capped = at(&sla, &load);
        assert_eq!((capped.open_loop, capped.parallel), (false, vec![8]));
        load.duration_s = Some(5.0);
        assert!(at(&sla, &load).number.is_empty());
    }
}
