//! Verdicts: what was asked for against what the server saw, and what the client reported against the truth.

use super::claims::Claims;
use super::client::ClientRun;
use super::deviations::{self, Deviation};
use super::figures::{self, Figure, Figures};
use super::observed::{MAX_TESTS, Observed};
use super::verdict::{Check, Verdict};
use super::{Judging, ServerError};
use crate::mock::{RoleStyle, Truth};

/// What the checks are made of.
pub struct Facts<'a> {
    pub judging: &'a Judging,
    pub client: &'a ClientRun,
    pub observed: &'a Observed,
    pub truths: &'a [Truth],
    /// How the server announced the role.
    pub role: RoleStyle,
    pub server: ServerError,
}

/// The name of the check of the server itself.
pub const MOCK: &str = "mock";
/// Offered rates may differ from the rate asked for by so much, and by what a Poisson process varies.
const RATE_TOLERANCE: f64 = 0.02;
/// A closed loop keeps at least this share of its slots in use.
const MIN_FULL_SHARE: f64 = 0.97;
/// A thread that is busy for longer than this share of a second cannot keep up with arrivals, and neither can threads that
/// together use this share of their cores.
const SATURATED: f64 = 0.95;
/// Later sends of the mock than this make its truth worthless for times of milliseconds, nanoseconds.
const MAX_LATENESS_NS: u64 = 5_000_000;
/// So do send times that are less certain than this, nanoseconds.
const MAX_UNCERTAINTY_NS: u64 = 1_000_000;
/// Reported rates may differ from the true ones by this share.
const THROUGHPUT_TOLERANCE: f64 = 0.03;
/// Why the mock rejects requests.
const REASONS: &str = "which had an unknown path, invalid JSON, or were no HTTP";
/// If at most this share of the requests are repeated, the others differ from one another, so that repeated ones may have been
/// sent again instead of others.
const FEW_REPEATED: f64 = 0.1;

/// All checks of a run, and how far the reported figures are from the true ones.
pub fn evaluate(facts: &Facts<'_>, claims: Option<&Result<Claims, String>>) -> (Vec<Check>, Vec<Deviation>) {
    let mut checks = vec![server(facts), ended(facts)];
    let of_load = [
        frozen(facts),
        requests(facts),
        rate(facts),
        in_flight(facts),
        full(facts),
        bodies(facts),
        given_up(facts),
        busy(facts),
    ];
    checks.extend(of_load.into_iter().flatten());
    let mut all_deviations = Vec::new();
    match claims {
        None => {}
        Some(Err(error)) => checks.push(Check::new("result", false, error.clone())),
        Some(Ok(claims)) => {
            checks.push(counts(facts, claims));
            let truth = figures::of_successes(facts.truths);
            checks.extend([request_rate(claims, &truth), throughput(claims, &truth)].into_iter().flatten());
            for figure in Figure::ALL {
                let (check, deviations) =
                    deviations::figure(facts.truths, claims, figure, facts.role, facts.judging.read);
                checks.push(check);
                all_deviations.extend(deviations);
            }
        }
    }
    (checks, all_deviations)
}

/// Whether the mock itself was good enough to judge.
fn server(facts: &Facts<'_>) -> Check {
    let ServerError { lateness_p99_ns, lateness_max_ns, dropped, .. } = facts.server;
    let ServerError { uncertainty_p99_ns, uncertainty_max_ns, .. } = facts.server;
    let ms = |ns: u64| ns as f64 / 1e6;
    let mut text = format!(
        "the mock sent at most {:.3} ms late, p99 {:.3} ms; its records have the times at which it sent, to within {:.3} ms, \
         p99 {:.3} ms",
        ms(lateness_max_ns),
        ms(lateness_p99_ns),
        ms(uncertainty_max_ns),
        ms(uncertainty_p99_ns)
    );
    if dropped > 0 {
        text.push_str(&format!("; {dropped} requests have no record"));
    }
    let in_time = lateness_p99_ns <= MAX_LATENESS_NS && uncertainty_p99_ns <= MAX_UNCERTAINTY_NS;
    Check::new(MOCK, in_time && dropped == 0, text)
}

/// Whether a client that was to be stopped was running long enough.
fn frozen(facts: &Facts<'_>) -> Option<Check> {
    let text = "all its processes were stopped for a second while answers arrived";
    Some(match facts.client.frozen? {
        true => Check::new("stop", true, text.to_string()),
        false => Check::unknown("stop", "the client ended before it could be stopped: let it send more requests"),
    })
}

fn ended(facts: &Facts<'_>) -> Check {
    let client = facts.client;
    let text = match (client.timed_out, client.status) {
        (true, _) => format!("the client did not end within {} s", facts.judging.timeout.as_secs()),
        (false, Some(status)) => format!("the client ended with status {status} after {:.1} s", client.wall_s),
        (false, None) => format!("a signal ended the client after {:.1} s", client.wall_s),
    };
    // Failed requests are a reason to end with another status.
    let pass =
        !client.timed_out && (client.status == Some(0) || facts.truths.iter().any(|truth| !figures::is_success(truth)));
    Check::new("end", pass && client.status.is_some(), text)
}

fn requests(facts: &Facts<'_>) -> Option<Check> {
    let seen = facts.observed;
    let (received, repeated) = (seen.requests, seen.repeated);
    let refused = match seen.refused {
        0 => String::new(),
        refused => format!("; {refused} more were rejected, {REASONS}"),
    };
    if received == 0 {
        let text = match seen.refused {
            0 => "the client sent no request".to_string(),
            count => format!("the client sent no valid request: {count} were rejected, {REASONS}"),
        };
        return Some(Check::new("requests", false, text));
    }
    let tests = match seen.tests {
        0 => String::new(),
        1 => ", after a connection test".to_string(),
        tests => format!(", after {tests} requests before the load"),
    };
    let after = tests + &refused;
    let distinct = facts.judging.distinct_prompts;
    let Some(asked) = facts.judging.asked.number else {
        let text = format!("{received} requests, {repeated} of them repeated{after}");
        return distinct.then(|| Check::new("requests", repeated == 0, text));
    };
    let lost = asked.saturating_sub(received - repeated);
    let has_identity = distinct || repeated as f64 <= FEW_REPEATED * received as f64;
    let identities = if has_identity { format!(": {repeated} repeated, {lost} lost") } else { String::new() };
    let text = match received {
        _ if received < asked => format!("{received} requests of {asked}{identities}{after}"),
        _ if received > asked => format!("{received} requests instead of {asked}{identities}{after}"),
        _ if repeated > 0 && has_identity => format!("{received} requests, {asked} asked for{identities}{after}"),
        _ => format!("{received} requests, {asked} asked for{after}"),
    };
    if received == asked && repeated > 0 && has_identity && !distinct {
        let text = format!(
            "{received} requests, {asked} asked for, but {repeated} equal earlier ones. If the client was to send different              prompts, {repeated} were repeated and {lost} lost: --distinct-prompts checks that{after}"
        );
        return Some(Check::unknown("requests", &text));
    }
    Some(Check::new("requests", received == asked && (repeated == 0 || !distinct), text))
}

fn rate(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.rate?;
    let offered = facts.observed.rate?;
    // The sum of n gaps of a Poisson process varies by 1/sqrt(n) of itself; three times that is rare. Gaps that vary more
    // than those of a Poisson process are the client's fault.
    let variation = facts.observed.gap_variation.map_or(1.0, |variation| variation.min(1.0));
    let spread = 3.0 * variation / (facts.observed.requests.max(2) as f64 - 1.0).sqrt();
    let pass = (asked / offered - 1.0).abs() <= RATE_TOLERANCE + spread;
    let variation = facts.observed.gap_variation.map_or(String::new(), |variation| {
        format!("; the gaps' coefficient of variation is {variation:.2} (constant 0, Poisson 1)")
    });
    let ms = |seconds: Option<f64>| seconds.map_or("-".to_string(), |seconds| format!("{:.2} ms", seconds * 1e3));
    let gaps = format!(", p50 {}, p99 {}", ms(facts.observed.gap_p50_s), ms(facts.observed.gap_p99_s));
    let variation = variation + &gaps;
    Some(Check::new("rate", pass, format!("{offered:.2} requests/s offered, {asked} asked for{variation}")))
}

fn in_flight(facts: &Facts<'_>) -> Option<Check> {
    let peak = facts.observed.peak_in_flight;
    let mean = facts.observed.mean_in_flight.map_or("-".to_string(), |mean| format!("{mean:.2}"));
    let seen = format!("at most {peak} requests in flight, {mean} on average");
    let check = match facts.judging.asked.parallel {
        Some(asked) => Check::new("limit", peak <= u64::from(asked), format!("{seen}, {asked} allowed")),
        None => Check::unknown("limit", &format!("{seen}; no limit was asked for (--parallel)")),
    };
    (facts.observed.requests > 0).then_some(check)
}

fn full(facts: &Facts<'_>) -> Option<Check> {
    let asked = facts.judging.asked.parallel?;
    // With a rate, the slots are a limit. A client that was stopped is not to blame for empty ones.
    if facts.judging.asked.rate.is_some() || facts.client.frozen == Some(true) {
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
    Some(Check::new("slots in use", mean >= MIN_FULL_SHARE * f64::from(asked), text))
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
    Some(Check::new("bodies", seen.streamed == 1.0 || seen.streamed == 0.0, text))
}

fn given_up(facts: &Facts<'_>) -> Option<Check> {
    let given_up = facts.observed.given_up;
    let text = format!("{given_up} requests whose connection the client closed before the end of the answer");
    (facts.observed.requests > 0).then(|| Check::new("given up", given_up == 0, text))
}

fn busy(facts: &Facts<'_>) -> Option<Check> {
    let usage = &facts.client.usage;
    let parts = usage.steady_cpu_per_event_us.zip(usage.fixed_cpu_s);
    let parts =
        parts.map_or(String::new(), |(us, fixed_s)| format!(", {us:.1} µs for each event and {fixed_s:.2} s besides"));
    let percent = |share: Option<f64>| share.map_or("-".to_string(), |share| format!("{:.0} %", share * 100.0));
    let cores = usage.cores.map_or("cores".to_string(), |cores| match cores {
        1.0 => "core".to_string(),
        _ => format!("{cores} cores"),
    });
    let text = format!(
        "{:.2} s of CPU time{parts}; its busiest thread used {} of a core for a second, all together {} of the client's \
         {cores}; {} threads, {:.1} MiB",
        usage.cpu_s,
        percent(usage.busiest_thread),
        percent(usage.busiest_share),
        usage.peak_threads,
        usage.peak_rss_bytes as f64 / f64::from(1 << 20)
    );
    Some(match usage.busiest_thread.zip(usage.busiest_share) {
        Some((thread, all)) => Check::new("saturation", thread.max(all) < SATURATED, text),
        None => Check::unknown("saturation", &text),
    })
}

fn counts(facts: &Facts<'_>, claims: &Claims) -> Check {
    let ok = figures::successes(facts.truths).len() as f64;
    let failed = facts.truths.len() as f64 - ok;
    let Some(claimed) = claims.ok else {
        return Check::unknown("outcomes", "the client did not report how many requests succeeded");
    };
    // Requests before the load are not in a client's figures. How many these are is only certain if the client was asked
    // for a number of requests.
    let extra = if facts.judging.asked.number.is_some() { 0.0 } else { MAX_TESTS as f64 };
    let pass =
        claimed <= ok && claimed + extra >= ok && claims.failed.is_none_or(|claimed| (claimed - failed).abs() <= extra);
    let reported = claims.failed.map_or(String::new(), |failed| format!(" and {failed} failed"));
    Check::new("outcomes", pass, format!("{claimed} ok{reported} reported; {ok} were complete, {failed} not"))
}

fn request_rate(claims: &Claims, truth: &Figures) -> Option<Check> {
    let others = [("all answers, errors included", truth.answers_per_s)];
    reported_rate("requests/s", "requests/s", claims.requests_per_s?, truth.requests_per_s?, &others)
}

fn throughput(claims: &Claims, truth: &Figures) -> Option<Check> {
    let others = [
        ("output events", truth.output_events_per_s),
        ("the tokens that were asked for at most", truth.asked_tokens_per_s),
    ];
    reported_rate("throughput", "output tok/s", claims.output_tokens_per_s?, truth.output_tokens_per_s?, &others)
}

/// A reported rate against the true one, and against those by other definitions.
fn reported_rate(name: &str, unit: &str, claimed: f64, real: f64, others: &[(&str, Option<f64>)]) -> Option<Check> {
    let error = |real: f64| claimed / real - 1.0;
    let is_near = |real: f64| error(real).abs() <= THROUGHPUT_TOLERANCE;
    let text = format!(
        "{claimed:.2} {unit} reported, {real:.2} from the first request to the last byte ({:+.1} %)",
        error(real) * 100.0
    );
    let other = others.iter().find(|(_, rate)| rate.is_some_and(is_near));
    let (verdict, counted) = match (is_near(real), other) {
        (true, _) => (Verdict::Pass, String::new()),
        (false, Some((other, _))) => (Verdict::OtherDefinition, format!("counts {other}: ")),
        (false, None) => (Verdict::Fail, String::new()),
    };
    Some(Check { name: name.to_string(), verdict, text: counted + &text })
}
