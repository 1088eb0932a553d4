//! Verdicts on figures that are computed from the server's own records, so that no delay of this machine is in them: those
//! of a client that is right in every scenario, and those of clients that make the mistake which the scenario is for.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::checks::{Facts, evaluate};
use super::claims::{Claims, Reported};
use super::client::ClientRun;
use super::figures::{self, Figure, definitions, successes};
use super::observed::observe;
use super::verdict::{Check, Verdict};
use super::watch::Usage;
use super::{Asked, Judging, ServerError, scenario};
use crate::mock::{Config, Mock, RoleStyle, Truth};

const REQUESTS: usize = 20;

/// The server's records of a scenario, from requests that were sent at the same time.
fn records(keys: &str) -> Vec<Truth> {
    let mut mock = Mock::start(&Config::from_query(keys).unwrap(), &[], (std::net::Ipv4Addr::LOCALHOST, 0).into());
    let mock = mock.as_mut().unwrap();
    let body = r#"{"stream": true, "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}"#;
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut streams: Vec<TcpStream> = (0..REQUESTS).map(|_| TcpStream::connect(mock.addr()).unwrap()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
    // A connection that the server resets has no more answer.
    streams.iter_mut().for_each(|stream| drop(stream.read_to_end(&mut Vec::new())));
    mock.stop().unwrap();
    mock.truth()
}

fn reported(mut values_ms: Vec<f64>) -> Reported {
    values_ms.sort_unstable_by(f64::total_cmp);
    let at = |share| super::observed::nearest(&values_ms, share).unwrap();
    let percentiles = [("50", at(0.5)), ("99", at(0.99)), ("100", at(1.0))];
    Reported {
        mean: Some(values_ms.iter().sum::<f64>() / values_ms.len() as f64),
        percentiles: percentiles.map(|(percent, value)| (percent.to_string(), value)).into(),
    }
}

/// The values of a figure by the definition whose text contains `definition`.
fn values(truths: &[Truth], figure: Figure, definition: &str) -> Vec<f64> {
    let all: Vec<&Truth> = truths.iter().collect();
    let roles = [RoleStyle::Separate, RoleStyle::WithFirst];
    let defined = roles.map(|role| definitions(&successes(truths), &all, figure, role)).concat();
    defined.into_iter().find(|one| one.definition.contains(definition)).unwrap().values_ms
}

/// What a client reports that measures as this program does, without any delay.
fn right(truths: &[Truth]) -> Claims {
    let truth = figures::of_successes(truths);
    let figure = |figure| reported(values(truths, figure, ""));
    Claims {
        ok: Some(truth.ok as f64),
        failed: Some(truth.failed as f64),
        requests_per_s: truth.requests_per_s,
        output_tokens_per_s: truth.output_tokens_per_s,
        ttft_ms: figure(Figure::Ttft),
        itl_ms: figure(Figure::Itl),
        tpot_ms: figure(Figure::Tpot),
        latency_ms: figure(Figure::Latency),
        ..Claims::default()
    }
}

/// The verdicts by check, for a client that was asked for `rate_factor` times the rate that it offered.
fn verdicts(keys: &str, truths: &[Truth], claims: Claims, rate_factor: f64) -> Vec<(String, Verdict)> {
    let offered = observe(truths, 0, &Asked::default()).rate.unwrap();
    let asked = Asked { number: Some(REQUESTS as u64), rate: Some(offered * rate_factor), ..Asked::default() };
    let client = ClientRun { status: Some(0), ..ClientRun::default() };
    let checks = checks_of(keys, truths, claims, asked, false, &client);
    checks.into_iter().map(|check| (check.name, check.verdict)).collect()
}

fn checks_of(
    keys: &str,
    truths: &[Truth],
    claims: Claims,
    asked: Asked,
    distinct_prompts: bool,
    client: &ClientRun,
) -> Vec<Check> {
    let judging = Judging {
        name: String::new(),
        command: Vec::new(),
        mock: String::new(),
        parallel: 0,
        rate: 0.0,
        number: 0,
        asked,
        distinct_prompts,
        read: None,
        result: None,
        timeout: std::time::Duration::ZERO,
    };
    let observed = observe(truths, 0, &asked);
    let role = Config::from_query(keys).unwrap().role;
    let server = ServerError::default();
    let facts = Facts { judging: &judging, client, observed: &observed, truths, role, server };
    evaluate(&facts, Some(&Ok(claims))).0
}

/// A mistake: the check that finds it, and the verdict.
struct Mistake {
    scenario: &'static str,
    check: &'static str,
    verdict: Verdict,
    make: fn(&[Truth], &mut Claims),
}

const fn mistake(
    scenario: &'static str,
    check: &'static str,
    verdict: Verdict,
    make: fn(&[Truth], &mut Claims),
) -> Mistake {
    Mistake { scenario, check, verdict, make }
}

const MISTAKES: [Mistake; 13] = [
    // The clock starts 3 ms early, or the tail is 3 ms too long.
    mistake("steady", "TTFT", Verdict::Fail, |truths, claims| {
        claims.ttft_ms = reported(values(truths, Figure::Ttft, "").iter().map(|ms| ms + 3.0).collect());
    }),
    mistake("steady", "latency", Verdict::Fail, |_, claims| {
        claims.latency_ms.percentiles.entry("100".to_string()).and_modify(|ms| *ms += 0.05 * *ms);
    }),
    // Events that arrive together are handled one after another.
    mistake("burst", "TTFT", Verdict::Fail, |truths, claims| {
        let queued = values(truths, Figure::Ttft, "").into_iter().enumerate().map(|(place, ms)| ms + place as f64);
        claims.ttft_ms = reported(queued.collect());
    }),
    mistake("role_first", "TTFT", Verdict::OtherDefinition, |truths, claims| {
        claims.ttft_ms = reported(values(truths, Figure::Ttft, "to the role"));
    }),
    mistake("role_first", "ITL", Verdict::OtherDefinition, |truths, claims| {
        claims.itl_ms = reported(values(truths, Figure::Itl, "role, which is sent with the head"));
    }),
    mistake("several_tokens", "TPOT", Verdict::OtherDefinition, |truths, claims| {
        claims.tpot_ms = reported(values(truths, Figure::Tpot, "output events"));
    }),
    mistake("several_tokens", "throughput", Verdict::OtherDefinition, |truths, claims| {
        claims.output_tokens_per_s = figures::of_successes(truths).output_events_per_s;
    }),
    mistake("early_close", "outcomes", Verdict::Fail, |truths, claims| {
        (claims.ok, claims.failed) = (Some(truths.len() as f64), Some(0.0));
    }),
    mistake("stall", "ITL", Verdict::Fail, |truths, claims| {
        claims.itl_ms = reported(values(truths, Figure::Itl, "").into_iter().filter(|ms| *ms < 500.0).collect());
    }),
    // A second in which the client did not run is in its longest gap.
    mistake("frozen_client", "ITL", Verdict::Fail, |_, claims| {
        claims.itl_ms.percentiles.entry("100".to_string()).and_modify(|ms| *ms += 1000.0);
    }),
    mistake("frozen_client", "ITL", Verdict::Warned, |_, claims| {
        claims.itl_ms.percentiles.entry("100".to_string()).and_modify(|ms| *ms += 1000.0);
        claims.warning = Some("the client was stopped".to_string());
    }),
    mistake("too_many_requests", "outcomes", Verdict::Fail, |truths, claims| {
        (claims.ok, claims.failed) = (Some(truths.len() as f64), Some(0.0));
    }),
    // Answers that took longer than a second are left out.
    mistake("slow_first_token", "TTFT", Verdict::Fail, |_, claims| claims.ttft_ms = reported(vec![1000.0])),
];

#[test]
fn in_every_scenario_the_right_figures_pass_and_its_mistakes_are_found() {
    std::thread::scope(|scope| {
        for scenario in &scenario::ALL {
            scope.spawn(|| {
                let truths = records(scenario.mock);
                assert_eq!(truths.len(), REQUESTS, "{}", scenario.name);
                for (check, verdict) in verdicts(scenario.mock, &truths, right(&truths), 1.0) {
                    // Nothing was measured of a process, and no limit was asked for.
                    let is_unknown = ["saturation", "limit"].contains(&check.as_str());
                    let expected = if is_unknown { Verdict::Unknown } else { Verdict::Pass };
                    assert_eq!(verdict, expected, "{}: {check}", scenario.name);
                }
                let own = MISTAKES.iter().filter(|mistake| mistake.scenario == scenario.name);
                assert!(own.clone().count() > 0, "{} has no mistake", scenario.name);
                for mistake in own {
                    let mut claims = right(&truths);
                    (mistake.make)(&truths, &mut claims);
                    let found = verdicts(scenario.mock, &truths, claims, 1.0)
                        .into_iter()
                        .find(|(check, _)| check == mistake.check);
                    let (check, verdict) = found.unwrap();
                    assert_eq!(verdict, mistake.verdict, "{}: {check}", scenario.name);
                }
            });
        }
    });
}

#[test]
fn a_rate_that_was_not_offered_is_found() {
    let keys = "ttft=1ms&itl=1ms&tokens=2";
    let truths = records(keys);
    let rate = |factor| verdicts(keys, &truths, right(&truths), factor).into_iter().find(|(check, _)| check == "rate");
    assert_eq!(rate(1.0).unwrap().1, Verdict::Pass);
    assert_eq!(rate(10.0).unwrap().1, Verdict::Fail);
}

#[test]
fn a_client_whose_threads_use_its_cores_together_is_saturated() {
    let keys = "ttft=1ms&itl=1ms&tokens=2";
    let truths = records(keys);
    let verdict = |thread, share| {
        let usage = Usage {
            busiest_thread: Some(thread),
            busiest_share: Some(share),
            cores: Some(1.0),
            steady_cpu_per_event_us: Some(3.0),
            fixed_cpu_s: Some(1.25),
            ..Usage::default()
        };
        let client = ClientRun { status: Some(0), usage, ..ClientRun::default() };
        let checks = checks_of(keys, &truths, right(&truths), Asked::default(), false, &client);
        let check = checks.into_iter().find(|check| check.name == "saturation").unwrap();
        assert!(
            check.text.contains("of the client's core;") && check.text.contains("1.25 s besides"),
            "{}",
            check.text
        );
        check.verdict
    };
    assert_eq!(verdict(0.52, 0.8), Verdict::Pass);
    assert_eq!(verdict(0.52, 0.97), Verdict::Fail);
    assert_eq!(verdict(0.97, 0.5), Verdict::Fail);
}

#[test]
fn requests_are_compared_by_their_prompts() {
    let keys = "ttft=1ms&itl=1ms&tokens=2";
    let mut truths = records(keys);
    let check = |truths: &[Truth], number: u64, distinct| {
        let asked = Asked { number: Some(number), ..Asked::default() };
        let checks = checks_of(keys, truths, right(truths), asked, distinct, &ClientRun::default());
        let check = checks.into_iter().find(|check| check.name == "requests").unwrap();
        (check.verdict, check.text)
    };
    let number = REQUESTS as u64;
    // All prompts are the same one, so that there is nothing to compare.
    assert_eq!(check(&truths, number, false).0, Verdict::Pass);
    assert_eq!(check(&truths, number, true).0, Verdict::Fail);
    for (place, truth) in truths.iter_mut().enumerate() {
        truth.prompt_hash = place as u64;
    }
    assert_eq!(check(&truths, number, true).0, Verdict::Pass);
    assert!(check(&truths, number + 1, false).1.contains("0 repeated, 1 lost"));
    truths[7].prompt_hash = 6;
    for (distinct, verdict, text) in
        [(true, Verdict::Fail, ": 1 repeated, 1 lost"), (false, Verdict::Unknown, "1 were repeated and 1 lost")]
    {
        let found = check(&truths, number, distinct);
        assert!(found.0 == verdict && found.1.contains(text), "{found:?}");
    }
    let more = check(&truths, number - 1, false);
    assert!(more.0 == Verdict::Fail && more.1.contains("1 repeated, 0 lost"), "{more:?}");
}
