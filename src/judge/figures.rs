//! The true figures, from the times at which the server sent, and those by other definitions that clients use.
//!
//! All times are milliseconds. A request begins when the server reads its first byte; a client on the same machine begins
//! some tens of microseconds earlier.

use serde::{Deserialize, Serialize};

use super::observed::nearest;
use crate::mock::{End, Endpoint, RoleStyle, Truth};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    #[serde(rename = "TTFT")]
    Ttft,
    #[serde(rename = "ITL")]
    Itl,
    #[serde(rename = "TPOT")]
    Tpot,
    #[serde(rename = "latency")]
    Latency,
}

impl Figure {
    pub const ALL: [Figure; 4] = [Figure::Ttft, Figure::Itl, Figure::Tpot, Figure::Latency];

    pub fn name(self) -> &'static str {
        match self {
            Figure::Ttft => "TTFT",
            Figure::Itl => "ITL",
            Figure::Tpot => "TPOT",
            Figure::Latency => "latency",
        }
    }
}

/// The values of a figure by one definition, sorted.
#[derive(Clone, Debug)]
pub struct Defined {
    pub definition: &'static str,
    pub values_ms: Vec<f64>,
}

impl Defined {
    fn new(definition: &'static str, values: impl Iterator<Item = f64>) -> Defined {
        let mut values_ms: Vec<f64> = values.collect();
        values_ms.sort_unstable_by(f64::total_cmp);
        Defined { definition, values_ms }
    }

    pub fn mean(&self) -> Option<f64> {
        let count = self.values_ms.len() as f64;
        (count > 0.0).then(|| self.values_ms.iter().sum::<f64>() / count)
    }

    /// The values between which every usual definition of this percentile lies.
    pub fn percentile(&self, percent: f64) -> Option<(f64, f64)> {
        let last = self.values_ms.len().checked_sub(1)?;
        let place = percent / 100.0 * self.values_ms.len() as f64;
        // Interpolating definitions lie between neighbours of the nearest rank.
        let low = (place.floor() as usize).saturating_sub(1).min(last);
        let high = (place.ceil() as usize).min(last);
        Some((self.values_ms[low], self.values_ms[high]))
    }
}

/// Whether the answer is complete and without an error.
pub fn is_success(truth: &Truth) -> bool {
    truth.end == End::Complete && truth.status == 200 && !truth.sends.is_empty()
}

/// The requests with a complete answer.
pub fn successes(truths: &[Truth]) -> Vec<&Truth> {
    truths.iter().filter(|truth| is_success(truth)).collect()
}

/// The definition of an ITL that is one value for each answer.
pub const ITL_OF_ANSWER: &str = "as one value for each answer, its TPOT";
/// The definition of a TPOT that counts the first token and the time before it.
pub const TPOT_FROM_REQUEST: &str = "from the request to the last token, divided by all tokens";

/// A figure by all definitions that are possible with such a `role`; the first one is the definition of this program. `ok`
/// are the requests with a complete answer, `all` is every request.
pub fn definitions(ok: &[&Truth], all: &[&Truth], figure: Figure, role: RoleStyle) -> Vec<Defined> {
    let has_role = ok.iter().any(|truth| truth.endpoint == Endpoint::Chat);
    let role = if has_role { role } else { RoleStyle::None };
    let mut defined = match figure {
        Figure::Ttft => ttft(ok),
        Figure::Itl => itl(ok, role),
        Figure::Tpot => tpot(ok, role),
        Figure::Latency => vec![
            each("to the last byte", ok, latency),
            each("to the last token", ok, |truth| Some(ms(truth.received_first, *truth.sends.last()?))),
        ],
    };
    if all.len() > ok.len() {
        defined.extend(with_failures(all, figure));
    }
    defined
}

/// A figure of which each request has one value.
fn each(definition: &'static str, truths: &[&Truth], value: impl Fn(&Truth) -> Option<f64>) -> Defined {
    Defined::new(definition, truths.iter().filter_map(|truth| value(truth)))
}

fn ttft(ok: &[&Truth]) -> Vec<Defined> {
    vec![
        each("to the first token", ok, first_token),
        each("to the head of the response, or to the role that is sent with it", ok, |truth| {
            Some(ms(truth.received_first, truth.head_sent?))
        }),
    ]
}

fn itl(ok: &[&Truth], role: RoleStyle) -> Vec<Defined> {
    let all_gaps = |before: &dyn Fn(&Truth) -> Option<f64>| {
        let values: Vec<f64> = ok.iter().flat_map(|truth| before(truth).into_iter().chain(gaps(truth))).collect();
        values.into_iter()
    };
    let mut defined = vec![
        Defined::new("as gaps between output events", ok.iter().flat_map(|truth| gaps(truth))),
        Defined::new("as gaps divided by the tokens of an event", ok.iter().flat_map(|truth| gaps_by_token(truth))),
        each(ITL_OF_ANSWER, ok, token_time),
        each("as one mean gap for each answer", ok, event_time),
    ];
    defined.extend(match role {
        RoleStyle::None => None,
        RoleStyle::Separate => Some(Defined::new(
            "as gaps between events, from the role, which is sent with the head, to the first token included",
            all_gaps(&|truth| Some(ms(truth.head_sent?, *truth.sends.first()?))),
        )),
        RoleStyle::WithFirst => Some(Defined::new(
            "as gaps between events, from the role, which is sent with the first token, to that token included",
            all_gaps(&|truth| truth.sends.first().map(|_| 0.0)),
        )),
    });
    defined
}

fn tpot(ok: &[&Truth], role: RoleStyle) -> Vec<Defined> {
    let by_tokens =
        |span: Option<f64>, tokens: u32| Some(span? / f64::from(Some(tokens).filter(|&tokens| tokens > 0)?));
    let mut defined = vec![
        each("from the first to the last token, divided by the tokens after the first", ok, token_time),
        each("divided by output events instead of tokens", ok, event_time),
        each("as the whole latency divided by all tokens", ok, |truth| by_tokens(latency(truth), truth.output_tokens)),
        each(TPOT_FROM_REQUEST, ok, |truth| {
            by_tokens(Some(ms(truth.received_first, *truth.sends.last()?)), truth.output_tokens)
        }),
        each("from the first to the last token, divided by all tokens", ok, |truth| {
            by_tokens(Some(ms(*truth.sends.first()?, *truth.sends.last()?)), truth.output_tokens)
        }),
        each("from the first to the last token, divided by the tokens asked for, less one", ok, |truth| {
            let span = ms(*truth.sends.first()?, *truth.sends.last()?);
            by_tokens(Some(span), truth.max_tokens?.saturating_sub(1))
        }),
    ];
    if role == RoleStyle::Separate {
        defined.push(each(
            "from the role, which is sent with the head, divided by the tokens after the first",
            ok,
            |truth| by_tokens(Some(ms(truth.head_sent?, *truth.sends.last()?)), truth.output_tokens.saturating_sub(1)),
        ));
    }
    defined
}

/// The figure over all answers, and over all that have a token.
fn with_failures(all: &[&Truth], figure: Figure) -> Vec<Defined> {
    const WITH_CUT: &str = "over answers that were not complete as well";
    const WITH_ERRORS: &str = "over all answers, errors included";
    let started: Vec<&Truth> = all.iter().copied().filter(|truth| !truth.sends.is_empty()).collect();
    match figure {
        Figure::Ttft => vec![
            each(WITH_CUT, &started, first_token),
            each(WITH_ERRORS, all, |truth| first_token(truth).or(Some(ms(truth.received_first, truth.head_sent?)))),
        ],
        Figure::Itl => vec![Defined::new(WITH_CUT, started.iter().flat_map(|truth| gaps(truth)))],
        Figure::Tpot => vec![each(WITH_CUT, &started, token_time)],
        Figure::Latency => vec![each(WITH_CUT, &started, latency), each(WITH_ERRORS, all, latency)],
    }
}

fn ms(from: crate::time::Tick, to: crate::time::Tick) -> f64 {
    to.ns_since(from) as f64 / 1e6
}

fn first_token(truth: &Truth) -> Option<f64> {
    Some(ms(truth.received_first, *truth.sends.first()?))
}

/// From the first to the last token, by the tokens after the first.
fn token_time(truth: &Truth) -> Option<f64> {
    truth.choices.first()?.tpot_ns().map(|ns| ns / 1e6)
}

fn latency(truth: &Truth) -> Option<f64> {
    Some(ms(truth.received_first, truth.last_byte?))
}

fn gaps(truth: &Truth) -> impl Iterator<Item = f64> {
    truth.sends.windows(2).map(|pair| ms(pair[0], pair[1]))
}

/// Every token after those of the first event has an equal part of the gap before its event.
fn gaps_by_token(truth: &Truth) -> impl Iterator<Item = f64> {
    let tokens = (f64::from(truth.output_tokens) / truth.sends.len().max(1) as f64).round().max(1.0);
    gaps(truth).flat_map(move |gap| std::iter::repeat_n(gap / tokens, tokens as usize))
}

/// From the first to the last event, by the events after the first.
fn event_time(truth: &Truth) -> Option<f64> {
    let (first, last) = (truth.sends.first()?, truth.sends.last()?);
    (truth.sends.len() > 1).then(|| ms(*first, *last) / (truth.sends.len() - 1) as f64)
}

/// Mean and percentiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub count: usize,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl Times {
    fn new(defined: &Defined) -> Times {
        let at = |share| nearest(&defined.values_ms, share);
        Times {
            count: defined.values_ms.len(),
            mean: defined.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// The true figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Complete answers without an error, and the others.
    pub ok: u64,
    pub failed: u64,
    /// From the first request to the last byte of the last answer, seconds.
    pub duration_s: f64,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// All answers; output events of the complete ones, and the tokens that their requests asked for at most.
    #[serde(default)]
    pub answers_per_s: Option<f64>,
    #[serde(default)]
    pub output_events_per_s: Option<f64>,
    #[serde(default)]
    pub asked_tokens_per_s: Option<f64>,
    pub ttft_ms: Times,
    pub itl_ms: Times,
    pub tpot_ms: Times,
    pub latency_ms: Times,
}

/// The figures of the complete answers, by this program's definitions.
pub fn of_successes(truths: &[Truth]) -> Figures {
    let ok = successes(truths);
    let first = truths.iter().map(|truth| truth.received_first).min();
    let last = truths.iter().filter_map(|truth| truth.last_byte).max();
    let duration_s = first.zip(last).map_or(0.0, |(first, last)| last.seconds_since(first));
    let per_s = |count: f64| (duration_s > 0.0).then(|| count / duration_s);
    let times = |figure| definitions(&ok, &ok, figure, RoleStyle::None).first().map(Times::new).unwrap_or_default();
    Figures {
        ok: ok.len() as u64,
        failed: (truths.len() - ok.len()) as u64,
        duration_s,
        requests_per_s: per_s(ok.len() as f64),
        output_tokens_per_s: per_s(ok.iter().map(|truth| f64::from(truth.output_tokens)).sum()),
        answers_per_s: per_s(truths.len() as f64),
        output_events_per_s: per_s(ok.iter().map(|truth| truth.sends.len() as f64).sum()),
        asked_tokens_per_s: per_s(ok.iter().filter_map(|truth| truth.max_tokens).map(f64::from).sum()),
        ttft_ms: times(Figure::Ttft),
        itl_ms: times(Figure::Itl),
        tpot_ms: times(Figure::Tpot),
        latency_ms: times(Figure::Latency),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_between_the_neighbours_of_its_rank() {
        let defined = Defined::new("", (1..=100).map(f64::from));
        // Nearest rank: 99; linear interpolation: 99.01.
        assert_eq!(defined.percentile(99.0), Some((99.0, 100.0)));
        assert_eq!(defined.percentile(50.0), Some((50.0, 51.0)));
        assert_eq!(defined.percentile(100.0), Some((100.0, 100.0)));
        assert_eq!(Defined::new("", std::iter::empty()).percentile(50.0), None);
    }
}
