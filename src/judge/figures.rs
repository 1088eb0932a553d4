//! The true figures, from the times at which the server sent, and those by other definitions that clients use.
//!
//! All times are milliseconds. A request begins when the server reads its first byte; a client on the same machine begins
//! some tens of microseconds earlier.

use serde::Serialize;

use super::observed::nearest;
use crate::mock::{End, Truth};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Figure {
    Ttft,
    Itl,
    Tpot,
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

/// A figure of these requests by all definitions; the first one is the definition of this program.
pub fn definitions(truths: &[&Truth], figure: Figure) -> Vec<Defined> {
    let of = |name: &'static str, value: &dyn Fn(&Truth) -> Option<f64>| {
        Defined::new(name, truths.iter().filter_map(|truth| value(truth)))
    };
    match figure {
        Figure::Ttft => vec![
            of("to the first token", &|truth| Some(ms(truth.received_first, *truth.sends.first()?))),
            of("to the head of the response, or to the role that is sent with it", &|truth| {
                Some(ms(truth.received_first, truth.head_sent?))
            }),
        ],
        Figure::Itl => vec![
            Defined::new("gaps between output events", truths.iter().flat_map(|truth| gaps(truth))),
            Defined::new(
                "gaps divided by the tokens of an event",
                truths.iter().flat_map(|truth| gaps_by_token(truth)),
            ),
            of("one mean of each answer", &|truth| per_event(truth)),
        ],
        Figure::Tpot => vec![
            of("from the first to the last token, divided by the tokens after the first", &|truth| {
                truth.choices.first()?.tpot_ns().map(|ns| ns / 1e6)
            }),
            of("divided by output events instead of tokens", &|truth| per_event(truth)),
            of("whole latency divided by all tokens", &|truth| {
                (truth.output_tokens > 0).then(|| Some(latency(truth)? / f64::from(truth.output_tokens)))?
            }),
            of("divided by all tokens, the first included", &|truth| {
                let (first, last) = (truth.sends.first()?, truth.sends.last()?);
                (truth.output_tokens > 0).then(|| ms(*first, *last) / f64::from(truth.output_tokens))
            }),
        ],
        Figure::Latency => vec![
            of("to the last byte", &|truth| latency(truth)),
            of("to the last token", &|truth| Some(ms(truth.received_first, *truth.sends.last()?))),
        ],
    }
}

fn ms(from: crate::time::Tick, to: crate::time::Tick) -> f64 {
    to.ns_since(from) as f64 / 1e6
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

fn per_event(truth: &Truth) -> Option<f64> {
    let (first, last) = (truth.sends.first()?, truth.sends.last()?);
    (truth.sends.len() > 1).then(|| ms(*first, *last) / (truth.sends.len() - 1) as f64)
}

/// Mean and percentiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Complete answers without an error, and the others.
    pub ok: u64,
    pub failed: u64,
    /// From the first request to the last byte of the last answer, seconds.
    pub duration_s: f64,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    pub ttft_ms: Times,
    pub itl_ms: Times,
    pub tpot_ms: Times,
    pub latency_ms: Times,
}

/// The figures of the complete answers, by this program's definitions.
pub fn of_successes(truths: &[Truth]) -> Figures {
    let ok: Vec<&Truth> = truths.iter().filter(|truth| is_success(truth)).collect();
    let first = truths.iter().map(|truth| truth.received_first).min();
    let last = truths.iter().filter_map(|truth| truth.last_byte).max();
    let duration_s = first.zip(last).map_or(0.0, |(first, last)| last.seconds_since(first));
    let per_s = |count: f64| (duration_s > 0.0).then(|| count / duration_s);
    let times = |figure| definitions(&ok, figure).first().map(Times::new).unwrap_or_default();
    Figures {
        ok: ok.len() as u64,
        failed: (truths.len() - ok.len()) as u64,
        duration_s,
        requests_per_s: per_s(ok.len() as f64),
        output_tokens_per_s: per_s(ok.iter().map(|truth| f64::from(truth.output_tokens)).sum()),
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
