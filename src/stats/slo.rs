//! Service level objectives: `p99_ttft<=2 p99_tpot<=50ms`. A criterion judges a run by one of its figures, and each
//! request by the same bound, which gives goodput.

use std::fmt;

use super::gather::Sample;
use super::quantile::{LEVELS, Series};
use super::summary::Summary;
use crate::time::{S, scan_duration_ns};

/// One condition on a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    pub figure: Figure,
    pub comparison: Comparison,
    /// Seconds for times, requests or tokens per second for rates.
    pub bound: f64,
    /// As it was written.
    pub text: String,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Of(Statistic, Quantity),
    RequestsPerS,
    OutputTokensPerS,
}

/// Which value of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    Mean,
    /// One of [`LEVELS`], in thousandths; 1000 is the maximum.
    PerMille(u32),
}

/// What a request took, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    Ttft,
    Tpot,
    Itl,
    Latency,
}

/// How figure and bound are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    AtMost,
    Below,
    AtLeast,
    Above,
}

impl Comparison {
    /// Whether `value` holds against `bound`.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Comparison::AtMost => value <= bound,
            Comparison::Below => value < bound,
            Comparison::AtLeast => value >= bound,
            Comparison::Above => value > bound,
        }
    }
}

const NAMES: &str = "avg_ttft, p50_ttft, p90_ttft, p95_ttft, p99_ttft, max_ttft, the same of tpot, itl and latency, \
                     rps, tps";

/// Reads criteria separated by spaces or commas.
pub fn scan_all(text: &str) -> Result<Vec<Criterion>, String> {
    let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
    let criteria: Vec<Criterion> = words.map(scan).collect::<Result<_, _>>()?;
    if criteria.is_empty() { Err("is empty; write for example p99_ttft<=2".to_string()) } else { Ok(criteria) }
}

/// Reads one criterion: a figure, a comparison, a bound in seconds or with its unit.
pub fn scan(text: &str) -> Result<Criterion, String> {
    let normal = text.replace(['≤', '≦'], "<=").replace(['≥', '≧'], ">=");
    let at =
        normal.find(['<', '>']).ok_or_else(|| format!("'{text}' has no <= or >=; write for example p99_ttft<=2"))?;
    let (name, rest) = normal.split_at(at);
    let (comparison, bound) = match rest.strip_prefix("<=").or(rest.strip_prefix(">=")) {
        Some(bound) if rest.starts_with('<') => (Comparison::AtMost, bound),
        Some(bound) => (Comparison::AtLeast, bound),
        None if rest.starts_with('<') => (Comparison::Below, &rest[1..]),
        None => (Comparison::Above, &rest[1..]),
    };
    let figure = Figure::scan(name.trim()).ok_or_else(|| format!("'{}' is not known; known: {NAMES}", name.trim()))?;
    Ok(Criterion { figure, comparison, bound: figure.scan_bound(bound.trim())?, text: text.to_string() })
}

impl Figure {
    /// Reads a name such as `p99_ttft`, `avg_latency` or `rps`. A bare quantity means its maximum: every request.
    pub fn scan(name: &str) -> Option<Figure> {
        let name = name.to_lowercase();
        match name.as_str() {
            "rps" => return Some(Figure::RequestsPerS),
            "tps" => return Some(Figure::OutputTokensPerS),
            _ => {}
        }
        let (statistic, quantity) = name.split_once('_').unwrap_or(("max", &name));
        let quantity = match quantity {
            "ttft" => Quantity::Ttft,
            "tpot" => Quantity::Tpot,
            "itl" => Quantity::Itl,
            "latency" => Quantity::Latency,
            _ => return None,
        };
        let statistic = match statistic {
            "avg" | "mean" => Statistic::Mean,
            "max" => Statistic::PerMille(1000),
            percentile => {
                let percent = format!("{}%", percentile.strip_prefix('p')?);
                Statistic::PerMille(LEVELS.iter().find(|level| level.name == percent)?.per_mille)
            }
        };
        Some(Figure::Of(statistic, quantity))
    }

    /// Reads a bound on this figure: a number, for times seconds or with a unit.
    pub fn scan_bound(self, text: &str) -> Result<f64, String> {
        let bound = match self {
            Figure::Of(..) => scan_duration_ns(text, S).map(|ns| ns as f64 / S as f64),
            Figure::RequestsPerS | Figure::OutputTokensPerS => {
                text.parse::<f64>().map_err(|_| format!("'{text}' is not a number"))
            }
        }?;
        if bound.is_finite() && bound >= 0.0 { Ok(bound) } else { Err(format!("'{text}' must be 0 or more")) }
    }

    /// The value of this figure; `None` when the run has none.
    pub fn of(self, s: &Summary) -> Option<f64> {
        match self {
            Figure::RequestsPerS => s.throughput.requests_per_s,
            Figure::OutputTokensPerS => s.throughput.output_tokens_per_s,
            Figure::Of(statistic, quantity) => {
                let series: &Series = match quantity {
                    Quantity::Ttft => &s.series.ttft_s,
                    Quantity::Tpot => &s.series.tpot_s,
                    Quantity::Itl => &s.series.itl_s,
                    Quantity::Latency => &s.series.latency_s,
                };
                match statistic {
                    Statistic::Mean => series.mean,
                    Statistic::PerMille(per_mille) => series.value(per_mille),
                }
            }
        }
    }
}

impl Criterion {
    /// Whether the run keeps it; a run without the figure does not.
    pub fn met(&self, s: &Summary) -> bool {
        self.figure.of(s).is_some_and(|value| self.comparison.holds(value, self.bound))
    }

    /// Whether one request keeps the bound. Conditions on rates and on ITL say nothing about one request, and neither
    /// does TPOT about an answer of one token.
    fn met_by(&self, sample: &Sample) -> bool {
        let Figure::Of(_, quantity) = self.figure else { return true };
        let ns = match quantity {
            Quantity::Ttft => sample.ttft.map(|ns| ns as f64),
            Quantity::Latency => Some(sample.latency as f64),
            Quantity::Tpot => sample.tpot,
            Quantity::Itl => None,
        };
        match ns {
            Some(ns) => self.comparison.holds(ns / S as f64, self.bound),
            None => quantity != Quantity::Ttft,
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a run stands against its objectives.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Each criterion with the run's value and whether it is met.
    pub criteria: Vec<(Criterion, Option<f64>, bool)>,
    /// Requests that succeeded and kept every bound themselves.
    pub good_requests: u64,
    /// Those over the time of the run.
    pub goodput_per_s: Option<f64>,
    /// Those over all requests that ended.
    pub good_share: Option<f64>,
}

impl Verdict {
    /// Judges a run.
    pub fn of(criteria: &[Criterion], s: &Summary, samples: &[Sample]) -> Verdict {
        let good = |sample: &&Sample| sample.ok && criteria.iter().all(|criterion| criterion.met_by(sample));
        let good_requests = samples.iter().filter(good).count() as u64;
        let ended = s.counts.ok + s.counts.failed;
        Verdict {
            criteria: criteria.iter().map(|c| (c.clone(), c.figure.of(s), c.met(s))).collect(),
            good_requests,
            goodput_per_s: s.time_s.map(|time| good_requests as f64 / time),
            good_share: (ended > 0).then(|| good_requests as f64 / ended as f64),
        }
    }

    /// Every criterion is met.
    pub fn is_met(&self) -> bool {
        self.criteria.iter().all(|(_, _, met)| *met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_read_with_units() {
        let found = scan_all("p99_ttft<=2 p99_tpot<=50ms, rps>=3.5 avg_latency<1 max_itl≤1s ttft<=1").unwrap();
        let short: Vec<(Figure, Comparison, f64)> = found.iter().map(|c| (c.figure, c.comparison, c.bound)).collect();
        let of = |per_mille, quantity| Figure::Of(Statistic::PerMille(per_mille), quantity);
        assert_eq!(
            short,
            [
                (of(990, Quantity::Ttft), Comparison::AtMost, 2.0),
                (of(990, Quantity::Tpot), Comparison::AtMost, 0.05),
                (Figure::RequestsPerS, Comparison::AtLeast, 3.5),
                (Figure::Of(Statistic::Mean, Quantity::Latency), Comparison::Below, 1.0),
                (of(1000, Quantity::Itl), Comparison::AtMost, 1.0),
                (of(1000, Quantity::Ttft), Comparison::AtMost, 1.0),
            ]
        );
    }

    #[test]
    fn mistakes_say_what_is_known() {
        for (bad, what) in
            [("p99_ttft", "<="), ("p97_ttft<=1", "known"), ("x<=1", "known"), ("rps>=fast", "number"), ("", "empty")]
        {
            assert!(scan_all(bad).unwrap_err().contains(what), "{bad}");
        }
    }
}
