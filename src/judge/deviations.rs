//! How far the reported figures are from the true ones: errors, and differences of definition.

use serde::{Deserialize, Serialize};

use super::claims::{Claims, Reported};
use super::figures::{Defined, Figure, definitions, successes};
use super::result_file::Format;
use super::verdict::{Check, Verdict};
use crate::mock::{RoleStyle, Truth};

/// A reported time may differ from the true one by so much, or by [`TOLERANCE_SHARE`] of it.
const TOLERANCE_MS: f64 = 1.0;
const TOLERANCE_SHARE: f64 = 0.01;
/// The same for times over many tokens of an answer, in which errors at its ends are divided by their number.
const AVERAGED_TOLERANCE_MS: f64 = 0.1;
/// The figure is one by another definition if its error by that definition is smaller by this factor.
const CLEARLY_NEARER: f64 = 2.0;

/// A mean or percentile beside the true one, milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    pub figure: Figure,
    /// `mean`, `p50`, `max` and so on.
    pub of: String,
    pub reported_ms: f64,
    /// By this program's definition. Where percentiles are defined in several ways, the nearest of these values.
    pub true_ms: f64,
    /// By the client's definition, which is `definition` if it is another one.
    pub true_by_own_definition_ms: f64,
    pub definition: Option<String>,
    /// Reported minus true by the client's own definition, and the same relative to the latter; `None` if that is 0.
    pub error_ms: f64,
    pub error_percent: Option<f64>,
    /// Whether the error is larger than the tolerance.
    pub is_wrong: bool,
}

/// The check of a figure, and how far each of its values is from the true one. `role` is how the server announced it,
/// `format` is the client's program if that is known.
pub fn figure(
    truths: &[Truth],
    claims: &Claims,
    figure: Figure,
    role: RoleStyle,
    format: Option<Format>,
) -> (Check, Vec<Deviation>) {
    let reported = claims.reported(figure);
    if reported.is_empty() {
        return (Check::unknown(figure.name(), "not reported"), Vec::new());
    }
    let all: Vec<&Truth> = truths.iter().collect();
    let candidates = definitions(&successes(truths), &all, figure, role);
    let Some(standard) = candidates.first().filter(|standard| !standard.values_ms.is_empty()) else {
        return (Check::unknown(figure.name(), "the server sent nothing to compare it with"), Vec::new());
    };
    let of_standard = Errors::new(figure, reported, standard);
    let Some(worst) = of_standard.worst() else {
        return (Check::unknown(figure.name(), "no mean or percentile is reported"), Vec::new());
    };
    if worst.is_tolerable() {
        let check = Check::new(figure.name(), true, worst.text());
        return (check, deviations(figure, &of_standard, &of_standard, None));
    }
    let documented = format.and_then(|format| format.definition(figure));
    let fitting = fitting(figure, reported, &candidates[1..], &of_standard, documented);
    let (verdict, text) = match &fitting {
        Some((other, errors)) => by_other_definition(other, errors, worst),
        None => (Verdict::Fail, worst.text()),
    };
    let (verdict, text) = match &claims.warning {
        Some(warning) if verdict == Verdict::Fail => {
            (Verdict::Warned, format!("{text}; the client reported: {warning}"))
        }
        _ => (verdict, text),
    };
    let own = fitting.as_ref().map_or(&of_standard, |(_, errors)| errors);
    let definition = fitting.as_ref().map(|(other, _)| other.definition);
    let check = Check { name: figure.name().to_string(), verdict, text };
    (check, deviations(figure, &of_standard, own, definition))
}

/// The definition, other than the standard one, by which the client measured: one by which every value is right, first that of
/// the client's program (`documented`); or else that, if the typical value is not farther from it; or else one by which the typical
/// value is clearly nearer to a true one; or else one by which the mean is, and the typical value not farther.
fn fitting<'a>(
    figure: Figure,
    reported: &Reported,
    others: &'a [Defined],
    standard: &Errors,
    documented: Option<&str>,
) -> Option<(&'a Defined, Errors)> {
    let mut others: Vec<(&Defined, Errors)> =
        others.iter().map(|other| (other, Errors::new(figure, reported, other))).collect();
    others.sort_by(|a, b| a.1.distance().total_cmp(&b.1.distance()));
    let is_right = |errors: &Errors| errors.worst().is_some_and(Error::is_tolerable);
    let is_nearer = |other: f64, standard: f64| standard > 1.0 && other <= standard / CLEARLY_NEARER;
    let is_not_farther = |errors: &Errors| errors.distance() <= standard.distance() + 1.0;
    let has_nearer_mean = |errors: &Errors| {
        is_not_farther(errors)
            && errors.mean_distance().zip(standard.mean_distance()).is_some_and(|(other, own)| is_nearer(other, own))
    };
    let find = |fits: &dyn Fn(&Defined, &Errors) -> bool| others.iter().position(|(other, errors)| fits(other, errors));
    let is_documented = |other: &Defined| Some(other.definition) == documented;
    let found = find(&|other, errors| is_documented(other) && is_right(errors))
        .or_else(|| find(&|_, errors| is_right(errors)))
        .or_else(|| find(&|other, errors| is_documented(other) && is_not_farther(errors)))
        .or_else(|| find(&|_, errors| is_nearer(errors.distance(), standard.distance())))
        .or_else(|| {
            let nearer = others.iter().enumerate().filter(|(_, (_, errors))| has_nearer_mean(errors));
            let distances = nearer.filter_map(|(place, (_, errors))| Some((errors.mean_distance()?, place)));
            distances.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, place)| place)
        });
    found.map(|place| others.swap_remove(place))
}

/// The verdict on a figure that was measured by another definition, by which it can still be wrong.
fn by_other_definition(other: &Defined, errors: &Errors, standard: &Error) -> (Verdict, String) {
    let wrong = errors.worst().filter(|worst| !worst.is_tolerable());
    let worst = errors.worst().map_or(String::new(), Error::text);
    let but = if wrong.is_some() { "and wrong: " } else { "" };
    let verdict = if wrong.is_some() { Verdict::Fail } else { Verdict::OtherDefinition };
    (verdict, format!("measured {}, {but}{worst}; by this program's definition: {}", other.definition, standard.text()))
}

fn deviations(figure: Figure, standard: &Errors, own: &Errors, definition: Option<&str>) -> Vec<Deviation> {
    let of_pair = |(standard, own): (&Error, &Error)| Deviation {
        figure,
        of: own.of.clone(),
        reported_ms: own.reported_ms,
        true_ms: standard.true_ms,
        true_by_own_definition_ms: own.true_ms,
        definition: definition.map(str::to_string),
        error_ms: own.reported_ms - own.true_ms,
        error_percent: own.percent(),
        is_wrong: !own.is_tolerable(),
    };
    standard.0.iter().zip(&own.0).map(of_pair).collect()
}

/// The error of one mean or percentile.
#[derive(Clone, Debug)]
struct Error {
    of: String,
    reported_ms: f64,
    true_ms: f64,
    tolerance_ms: f64,
}

impl Error {
    fn tolerances(&self) -> f64 {
        (self.reported_ms - self.true_ms).abs() / self.tolerance_ms
    }

    fn is_tolerable(&self) -> bool {
        self.tolerances() <= 1.0
    }

    fn percent(&self) -> Option<f64> {
        (self.true_ms > 0.0).then(|| (self.reported_ms / self.true_ms - 1.0) * 100.0)
    }

    fn text(&self) -> String {
        let share = self.percent().map_or(String::new(), |percent| format!(", {percent:+.1} %"));
        let error = self.reported_ms - self.true_ms;
        format!("{} {:.3} ms reported, {:.3} ms true ({error:+.3} ms{share})", self.of, self.reported_ms, self.true_ms)
    }
}

/// The errors of all values of a figure by one definition: the mean first, then by percent.
#[derive(Clone, Debug)]
struct Errors(Vec<Error>);

impl Errors {
    fn new(figure: Figure, reported: &Reported, defined: &Defined) -> Errors {
        let error = |of: String, reported_ms: f64, true_ms: f64| {
            let is_averaged = figure == Figure::Tpot || (figure == Figure::Itl && of == "mean");
            let least_ms = if is_averaged { AVERAGED_TOLERANCE_MS } else { TOLERANCE_MS };
            Error { of, reported_ms, true_ms, tolerance_ms: least_ms.max(true_ms * TOLERANCE_SHARE) }
        };
        let mean = reported.mean.zip(defined.mean());
        let mean = mean.map(|(reported_ms, true_ms)| error("mean".to_string(), reported_ms, true_ms));
        let mut percentiles: Vec<(f64, &str, f64)> = reported
            .percentiles
            .iter()
            .filter_map(|(percent, value)| Some((percent.parse().ok()?, percent.as_str(), *value)))
            .collect();
        percentiles.sort_by(|a, b| a.0.total_cmp(&b.0));
        let of_percentile = |(percent, name, value): (f64, &str, f64)| {
            let (low, high) = defined.percentile(percent)?;
            let name = if percent == 100.0 { "max".to_string() } else { format!("p{name}") };
            Some(error(name, value, value.clamp(low, high)))
        };
        Errors(mean.into_iter().chain(percentiles.into_iter().filter_map(of_percentile)).collect())
    }

    /// The largest error, in tolerances.
    fn worst(&self) -> Option<&Error> {
        self.0.iter().max_by(|a, b| a.tolerances().total_cmp(&b.tolerances()))
    }

    /// The error of the mean, in tolerances.
    fn mean_distance(&self) -> Option<f64> {
        self.0.first().filter(|error| error.of == "mean").map(Error::tolerances)
    }

    /// The error of the median, or else of the mean, in tolerances: it shows the definition, while the largest error also
    /// has the client's delays.
    fn distance(&self) -> f64 {
        let typical = self.0.iter().find(|error| error.of == "p50").or_else(|| self.0.first());
        typical.map_or(f64::INFINITY, Error::tolerances)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::ITL_OF_ANSWER;
    use super::*;
    use crate::mock::{Config, Mock};

    fn reported(mean: f64, p50: f64, max: f64) -> Reported {
        let percentiles = [("50", p50), ("100", max)].map(|(percent, value)| (percent.to_string(), value));
        Reported { mean: Some(mean), percentiles: percentiles.into() }
    }

    #[test]
    fn a_tolerance_is_small_for_what_many_tokens_average() {
        let defined = Defined { definition: "", values_ms: vec![10.0; 100] };
        let worst = |figure, mean| Errors::new(figure, &reported(mean, 10.0, 10.0), &defined).worst().cloned().unwrap();
        assert!(worst(Figure::Itl, 10.05).is_tolerable() && !worst(Figure::Itl, 10.3).is_tolerable());
        assert!(!worst(Figure::Tpot, 9.8).is_tolerable());
        assert!(worst(Figure::Ttft, 10.9).is_tolerable() && !worst(Figure::Ttft, 11.1).is_tolerable());
    }

    /// The records of a server whose role comes with the head and whose first token comes 20 ms later.
    fn truths() -> Vec<Truth> {
        use std::io::{Read, Write};
        let config = Config::from_query("ttft=20ms&itl=2ms&tokens=5&role=separate&close=announce").unwrap();
        let mut mock = Mock::start(&config, &[], (std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        for _ in 0..3 {
            let body = r#"{"stream": true, "messages": [{"role": "user", "content": "x"}]}"#;
            let mut stream = std::net::TcpStream::connect(mock.addr()).unwrap();
            let head =
                format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        mock.stop().unwrap();
        mock.truth()
    }

    #[test]
    fn a_figure_with_a_wrong_tail_only_is_wrong() {
        let truths = truths();
        let all: Vec<&Truth> = truths.iter().collect();
        let standard = &definitions(&all, &all, Figure::Latency, RoleStyle::Separate)[0];
        let (mean, (p50, _), (max, _)) =
            (standard.mean().unwrap(), standard.percentile(50.0).unwrap(), standard.percentile(100.0).unwrap());
        let claims = Claims { latency_ms: reported(mean, p50, max + 30.0), ..Claims::default() };
        let (check, deviations) = figure(&truths, &claims, Figure::Latency, RoleStyle::Separate, None);
        assert_eq!((check.verdict, &deviations[0].definition), (Verdict::Fail, &None), "{check:?}");
    }

    #[test]
    fn a_figure_by_another_definition_can_be_wrong_by_that_one_too() {
        let truths = truths();
        let all: Vec<&Truth> = truths.iter().collect();
        let of_role = &definitions(&all, &all, Figure::Ttft, RoleStyle::Separate)[1];
        let (mean, (p50, _), (max, _)) =
            (of_role.mean().unwrap(), of_role.percentile(50.0).unwrap(), of_role.percentile(100.0).unwrap());
        let judged = |max: f64| {
            let claims = Claims { ttft_ms: reported(mean, p50, max), ..Claims::default() };
            figure(&truths, &claims, Figure::Ttft, RoleStyle::Separate, None)
        };
        let (right, deviations) = judged(max);
        assert_eq!(right.verdict, Verdict::OtherDefinition, "{right:?}");
        assert!(
            deviations.iter().all(|one| !one.is_wrong && one.true_ms > 15.0 && one.true_by_own_definition_ms < 15.0)
        );
        assert!(deviations[0].definition.as_ref().is_some_and(|name| name.contains("role")), "{deviations:?}");
        let (wrong, deviations) = judged(max + 8.0);
        assert_eq!(wrong.verdict, Verdict::Fail, "{wrong:?}");
        assert!(wrong.text.contains("and wrong"), "{wrong:?}");
        let largest = deviations.iter().find(|one| one.of == "max").unwrap();
        assert!(largest.is_wrong && (largest.error_ms - 8.0).abs() < 1e-6, "{largest:?}");
    }

    fn percentiles(mean: f64, percentiles: &[(&str, f64)]) -> Reported {
        let percentiles = percentiles.iter().map(|(percent, value)| ((*percent).to_string(), *value));
        Reported { mean: Some(mean), percentiles: percentiles.collect() }
    }

    fn definition_of(figure: Figure, reported: &Reported, all: &[Defined], documented: Option<&str>) -> Option<String> {
        let standard = Errors::new(figure, reported, &all[0]);
        fitting(figure, reported, &all[1..], &standard, documented).map(|(other, _)| other.definition.to_string())
    }

    /// Gaps as those of a server that sends 2,000 answers of 50 tokens every 20 ms: mean 20.0, p90 20.11, p99 22.47.
    fn gaps() -> Vec<f64> {
        let of_answer = |answer: usize| {
            (0..49).map(move |gap| match (answer * 49 + gap) % 100 {
                0 | 1 => 22.471,
                2..=11 => 20.109,
                _ => 19.931,
            })
        };
        (0..2000).flat_map(of_answer).collect()
    }

    fn defined(definition: &'static str, mut values_ms: Vec<f64>) -> Defined {
        values_ms.sort_unstable_by(f64::total_cmp);
        Defined { definition, values_ms }
    }

    #[test]
    fn a_definition_shows_in_the_mean_if_it_has_the_same_median() {
        let with_role = [gaps(), vec![0.0; 2000]].concat();
        let all =
            [defined("gaps", gaps()), defined("with the role", with_role), defined("each answer", vec![20.0; 2000])];
        // vllm-rs bench serve, 200 streams: p99 is wrong by both definitions, by 0.7 µs more than the tolerance.
        let values = percentiles(19.605, &[("50", 19.93), ("90", 20.322), ("99", 23.4724)]);
        assert_eq!(definition_of(Figure::Itl, &values, &all, None).as_deref(), Some("with the role"));
        // A client that is late has no other definition.
        let late = percentiles(20.42, &[("50", 20.0), ("90", 22.4), ("99", 34.7)]);
        assert_eq!(definition_of(Figure::Itl, &late, &all, None), None);
    }

    #[test]
    fn a_late_client_keeps_the_definition_of_its_program() {
        let all = [defined("gaps", gaps()), defined(ITL_OF_ANSWER, vec![20.0; 2000])];
        // AIPerf and GuideLLM, 200 streams.
        for values in [
            percentiles(21.512, &[("50", 21.76), ("90", 26.046), ("99", 28.998), ("100", 31.459)]),
            percentiles(18.32, &[("50", 18.464), ("90", 20.927), ("99", 35.757), ("100", 45.111)]),
        ] {
            assert_eq!(definition_of(Figure::Itl, &values, &all, None), None);
            for format in [Format::Aiperf, Format::Guidellm] {
                let documented = format.definition(Figure::Itl);
                assert_eq!(definition_of(Figure::Itl, &values, &all, documented).as_deref(), Some(ITL_OF_ANSWER));
            }
        }
        // Another version of the program can have another definition.
        let far = [defined("gaps", gaps()), defined(ITL_OF_ANSWER, vec![30.0; 2000])];
        let values = percentiles(20.4, &[("50", 21.2), ("99", 26.0)]);
        assert_eq!(definition_of(Figure::Itl, &values, &far, Format::Aiperf.definition(Figure::Itl)), None);
    }

    #[test]
    fn a_definition_that_the_role_makes_impossible_is_not_tried() {
        let truths = truths();
        let all: Vec<&Truth> = truths.iter().collect();
        let names = |figure, role| -> Vec<&str> {
            definitions(&all, &all, figure, role).iter().map(|defined| defined.definition).collect()
        };
        for figure in [Figure::Itl, Figure::Tpot] {
            let has = |role, text: &str| names(figure, role).iter().any(|name| name.contains(text));
            assert!(has(RoleStyle::Separate, "sent with the head"));
            assert!(!has(RoleStyle::WithFirst, "sent with the head") && !has(RoleStyle::None, "role"));
            assert!(!has(RoleStyle::Separate, "sent with the first token"));
            assert_eq!(has(RoleStyle::WithFirst, "sent with the first token"), figure == Figure::Itl);
        }
        // genai-bench, 200 streams, whose first token came late: TPOT from the head would be 22.0 ms.
        let late = percentiles(22.696, &[("50", 21.935), ("90", 26.767), ("99", 39.505)]);
        let claims = Claims { tpot_ms: late, ..Claims::default() };
        let (check, _) = figure(&truths, &claims, Figure::Tpot, RoleStyle::WithFirst, Some(Format::GenaiBench));
        assert!(check.verdict == Verdict::Fail && !check.text.contains("role"), "{check:?}");
    }
}
