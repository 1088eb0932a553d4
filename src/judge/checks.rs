//! Verdicts: what was asked for against what the server saw, and what the client reported against the truth.

use serde::Serialize;

use super::claims::{Claims, Reported};
use super::client::ClientRun;
use super::figures::{Defined, Figure, definitions, is_success};
use super::observed::Observed;
use super::{Judging, ServerError};
use crate::mock::Truth;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// The figure is one by another definition than this program's.
    OtherDefinition,
    /// The figure is wrong, and the client reported that its figures are affected.
    Warned,
    Fail,
    /// The client did not report what would be checked.
    Unknown,
}

/// One question about a client, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    pub text: String,
}

/// What the checks are made of.
pub struct Facts<'a> {
    pub judging: &'a Judging,
    pub client: &'a ClientRun,
    pub observed: &'a Observed,
    pub truths: &'a [Truth],
    pub server: ServerError,
}

/// A reported time may differ from the true one by so much, or by [`TOLERANCE_SHARE`] of it.
const TOLERANCE_MS: f64 = 1.0;
const TOLERANCE_SHARE: f64 = 0.01;
/// The figure is one by another definition if its error by that definition is smaller by this factor.
const CLEARLY_NEARER: f64 = 2.0;
/// Offered rates may differ from the rate asked for by so much, and by what a Poisson process varies.
const RATE_TOLERANCE: f64 = 0.02;
/// A closed loop keeps at least this share of its slots in use.
const MIN_FULL_SHARE: f64 = 0.97;
/// A connection test and a warm-up request are no repetition.
const EXTRA_REQUESTS: u64 = 2;
/// A thread that is busy for longer than this share of a second cannot keep up with arrivals.
const SATURATED: f64 = 0.95;
/// Later sends of the mock than this make its truth worthless for times of milliseconds, nanoseconds.
const MAX_LATENESS_NS: u64 = 5_000_000;

/// All checks of a run.
pub fn evaluate(facts: &Facts<'_>, claims: Option<&Result<Claims, String>>) -> Vec<Check> {
    let mut checks = vec![server(facts), ended(facts)];
    checks.extend(
        [requests(facts), rate(facts), in_flight(facts), full(facts), bodies(facts), busy(facts)].into_iter().flatten(),
    );
    match claims {
        None => {}
        Some(Err(error)) => checks.push(Check { name: "result".into(), verdict: Verdict::Fail, text: error.clone() }),
        Some(Ok(claims)) => {
            checks.push(counts(facts, claims));
            checks.extend(throughput(facts, claims));
            checks.extend(Figure::ALL.into_iter().map(|figure| times(facts.truths, claims, figure)));
        }
    }
    checks
}

fn check(name: &str, pass: bool, text: String) -> Check {
    Check { name: name.to_string(), verdict: if pass { Verdict::Pass } else { Verdict::Fail }, text }
}

/// Whether the mock itself was good enough to judge.
fn server(facts: &Facts<'_>) -> Check {
    let ServerError { lateness_p99_ns, lateness_max_ns, dropped, .. } = facts.server;
    let text = format!(
        "the mock sent at most {:.3} ms late, p99 {:.3} ms; its records have the times at which it sent",
        lateness_max_ns as f64 / 1e6,
        lateness_p99_ns as f64 / 1e6
    );
    check("mock", lateness_p99_ns <= MAX_LATENESS_NS && dropped == 0, text)
}

fn ended(facts: &Facts<'_>) -> Check {
    let client = facts.client;
    let text = match (client.timed_out, client.status) {
        (true, _) => format!("the client did not end within {} s", facts.judging.timeout.as_secs()),
        (false, Some(status)) => format!("the client ended with status {status} after {:.1} s", client.wall_s),
        (false, None) => format!("a signal ended the client after {:.1} s", client.wall_s),
    };
    // Failed requests are a reason to end with another status.
    let pass = !client.timed_out && (client.status == Some(0) || facts.truths.iter().any(|truth| !is_success(truth)));
    check("end", pass && client.status.is_some(), text)
}

fn requests(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.number?;
    let received = facts.observed.requests;
    let text = match received {
        _ if received < asked => format!("{received} requests of {asked}: {} were not sent", asked - received),
        _ if received > asked + EXTRA_REQUESTS => {
            format!("{received} requests instead of {asked}: some were sent again")
        }
        _ => format!("{received} requests, {asked} asked for"),
    };
    Some(check("requests", (asked..=asked + EXTRA_REQUESTS).contains(&received), text))
}

fn rate(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.rate?;
    let offered = facts.observed.rate?;
    // The sum of n gaps of a Poisson process varies by 1/sqrt(n) of itself; three times that is rare. Gaps that vary more
    // than those of a Poisson process are the client's fault.
    let variation = facts.observed.gap_variation.map_or(1.0, |variation| variation.min(1.0));
    let spread = 3.0 * variation / (facts.observed.requests.max(2) as f64 - 1.0).sqrt();
    let pass = (offered / asked - 1.0).abs() <= RATE_TOLERANCE + spread;
    let variation = facts.observed.gap_variation.map_or(String::new(), |variation| {
        format!("; the gaps' coefficient of variation is {variation:.2} (constant 0, Poisson 1)")
    });
    Some(check("rate", pass, format!("{offered:.2} requests/s offered, {asked} asked for{variation}")))
}

fn in_flight(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.parallel?;
    let peak = facts.observed.peak_in_flight;
    Some(check("limit", peak <= u64::from(asked), format!("at most {peak} requests in flight, {asked} allowed")))
}

fn full(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.parallel?;
    // With a rate, the slots are a limit.
    if facts.judging.asked.rate.is_some() {
        return None;
    }
    let mean = facts.observed.mean_in_flight?;
    let ms = |seconds: Option<f64>| seconds.map_or("-".to_string(), |seconds| format!("{:.2} ms", seconds * 1e3));
    let text = format!(
        "{mean:.2} requests in flight on average until the last was sent; first wave {}, from an answer to the next \
         request {} (p50), {} (p99)",
        ms(facts.observed.first_wave_s),
        ms(facts.observed.turnaround_p50_s),
        ms(facts.observed.turnaround_p99_s)
    );
    Some(check("slots in use", mean >= MIN_FULL_SHARE * f64::from(asked), text))
}

fn bodies(facts: &Facts<'_>) -> Option<Check> {
    let seen = facts.observed;
    let prompt = seen.prompt_tokens?;
    let limit = seen
        .max_tokens
        .map_or("no limit of output tokens".to_string(), |limit| format!("max_tokens {} to {}", limit.min, limit.max));
    let text = format!(
        "{:.0} % streamed, {:.0} % asked for usage; prompts of {} to {} words, {} of them repeated; {limit}; {} connections",
        seen.streamed * 100.0,
        seen.usage_asked * 100.0,
        prompt.min,
        prompt.max,
        seen.repeated_prompts,
        seen.connections
    );
    Some(check("bodies", seen.streamed == 1.0 || seen.streamed == 0.0, text))
}

fn busy(facts: &Facts<'_>) -> Option<Check> {
    let client = facts.client;
    let steady = client.steady_cpu_per_event_us.map_or(String::new(), |us| format!(", {us:.1} µs for each event"));
    let text = format!(
        "{:.2} s of CPU time{steady}; its busiest thread used {:.0} % of a core; {} threads, {:.1} MiB",
        client.cpu_s,
        client.busiest_thread * 100.0,
        client.peak_threads,
        client.peak_rss_bytes as f64 / f64::from(1 << 20)
    );
    Some(check("saturation", client.busiest_thread < SATURATED, text))
}

fn counts(facts: &Facts<'_>, claims: &Claims) -> Check {
    let ok = facts.truths.iter().filter(|truth| is_success(truth)).count() as f64;
    let failed = facts.truths.len() as f64 - ok;
    let Some(claimed) = claims.ok else {
        return unknown("outcomes", "the client did not report how many requests succeeded");
    };
    // Requests of its own, such as a connection test, are not in a client's figures.
    let extra = EXTRA_REQUESTS as f64;
    let pass =
        claimed <= ok && claimed + extra >= ok && claims.failed.is_none_or(|claimed| (claimed - failed).abs() <= extra);
    let reported = claims.failed.map_or(String::new(), |failed| format!(" and {failed} failed"));
    check("outcomes", pass, format!("{claimed} ok{reported} reported; {ok} were complete, {failed} not"))
}

fn unknown(name: &str, text: &str) -> Check {
    Check { name: name.to_string(), verdict: Verdict::Unknown, text: text.to_string() }
}

fn throughput(facts: &Facts<'_>, claims: &Claims) -> Option<Check> {
    let truth = super::figures::of_successes(facts.truths);
    let (claimed, real) = (claims.output_tokens_per_s?, truth.output_tokens_per_s?);
    let error = claimed / real - 1.0;
    let text = format!(
        "{claimed:.1} output tok/s reported, {real:.1} from the first request to the last byte ({:+.1} %)",
        error * 100.0
    );
    Some(check("throughput", error.abs() <= 0.03, text))
}

/// The reported times of a figure against the true ones.
fn times(truths: &[Truth], claims: &Claims, figure: Figure) -> Check {
    let reported = claims.of(figure);
    if reported.mean.is_none() && reported.percentiles.is_empty() {
        return unknown(figure.name(), "not reported");
    }
    let ok: Vec<&Truth> = truths.iter().filter(|truth| is_success(truth)).collect();
    let all: Vec<&Truth> = truths.iter().filter(|truth| !truth.sends.is_empty()).collect();
    let mut candidates = definitions(&ok, figure);
    if all.len() > ok.len() {
        candidates.extend(
            definitions(&all, figure)
                .into_iter()
                .take(1)
                .map(|defined| Defined { definition: "including answers that were not complete", ..defined }),
        );
    }
    let errors: Vec<Option<Error>> = candidates.iter().map(|defined| worst_error(reported, defined)).collect();
    let Some(Some(standard)) = errors.first() else {
        return unknown(figure.name(), "the server sent nothing to compare it with");
    };
    if standard.is_tolerable() {
        return check(figure.name(), true, standard.text());
    }
    let others = candidates.iter().zip(&errors).skip(1).filter_map(|(defined, error)| Some((defined, error.as_ref()?)));
    let distance =
        |defined: &Defined| typical_error(reported, defined).map_or(f64::INFINITY, |error| error.tolerances());
    let nearest = others.min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
    let fitting = nearest.filter(|(defined, _)| distance(defined) <= distance(&candidates[0]) / CLEARLY_NEARER);
    match fitting {
        Some((defined, error)) => Check {
            name: figure.name().to_string(),
            verdict: Verdict::OtherDefinition,
            text: format!(
                "measured {}: {}; by this program's definition: {}",
                defined.definition,
                error.text(),
                standard.text()
            ),
        },
        None => match &claims.warning {
            Some(warning) => Check {
                name: figure.name().to_string(),
                verdict: Verdict::Warned,
                text: format!("{}; the client reported: {warning}", standard.text()),
            },
            None => check(figure.name(), false, standard.text()),
        },
    }
}

/// The largest error of a figure's mean and percentiles, in tolerances.
#[derive(Clone, Debug)]
struct Error {
    of: String,
    reported_ms: f64,
    true_ms: f64,
}

impl Error {
    fn tolerances(&self) -> f64 {
        (self.reported_ms - self.true_ms).abs() / TOLERANCE_MS.max(self.true_ms * TOLERANCE_SHARE)
    }

    fn is_tolerable(&self) -> bool {
        self.tolerances() <= 1.0
    }

    fn text(&self) -> String {
        let error = self.reported_ms - self.true_ms;
        let share =
            if self.true_ms > 0.0 { format!(", {:+.1} %", error / self.true_ms * 100.0) } else { String::new() };
        format!("{} {:.3} ms reported, {:.3} ms true ({error:+.3} ms{share})", self.of, self.reported_ms, self.true_ms)
    }
}

fn errors<'a>(reported: &'a Reported, defined: &'a Defined) -> impl Iterator<Item = Error> + 'a {
    let mean = reported.mean.zip(defined.mean());
    let mean = mean.map(|(reported_ms, true_ms)| Error { of: "mean".to_string(), reported_ms, true_ms });
    let of_percentile = |(percent, value): (&String, &f64)| {
        let (low, high) = defined.percentile(percent.parse().ok()?)?;
        let name = if percent == "100" { "max".to_string() } else { format!("p{percent}") };
        Some(Error { of: name, reported_ms: *value, true_ms: value.clamp(low, high) })
    };
    mean.into_iter().chain(reported.percentiles.iter().filter_map(of_percentile))
}

fn worst_error(reported: &Reported, defined: &Defined) -> Option<Error> {
    errors(reported, defined).max_by(|a, b| a.tolerances().total_cmp(&b.tolerances()))
}

/// The error of the median, or of the mean: it shows the definition, while the largest one also has the client's delays.
fn typical_error(reported: &Reported, defined: &Defined) -> Option<Error> {
    errors(reported, defined).find(|error| error.of == "p50").or_else(|| errors(reported, defined).next())
}
