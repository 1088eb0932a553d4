//! The plan of a load search, which is stored with each of its runs. `crate::plan::sla` and `crate::plan::slo` parse
//! it from the command line; [`crate::search`] decides which load is tried next.

use serde::{Deserialize, Serialize};

/// A load search, fully resolved. Every run of a search stores it, so that the result of the search can be derived from
/// its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchPlan {
    pub variable: Variable,
    pub aims: Vec<Aim>,
    pub space: Space,
    /// Runs at each load.
    pub runs: u32,
    pub size: RunSize,
    /// The cap on requests in flight of a search for a rate.
    pub fixed_parallel: Option<u32>,
}

/// The load parameter that the search varies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variable {
    #[default]
    Parallel,
    Rate,
}

impl Variable {
    /// The value of `--sla-variable`.
    pub fn name(self) -> &'static str {
        match self {
            Variable::Parallel => "parallel",
            Variable::Rate => "rate",
        }
    }
}

/// One aim of the search. Each aim is searched for independently of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// The highest load at which all of these criteria hold.
    Hold(Vec<Criterion>),
    /// The load that maximizes (`most`) or minimizes a figure.
    Best { figure: Figure, name: String, most: bool },
}

/// The loads that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    pub lower: f64,
    pub upper: f64,
    /// The first load, within the bounds.
    pub start: f64,
    /// Only whole numbers.
    pub whole: bool,
    /// Two loads that differ by less than this share of the lower one count as equal.
    pub precision: f64,
}

/// What ends each run of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunSize {
    /// This many requests.
    Number(u64),
    /// This many requests for each unit of the load.
    Multiple(f64),
    /// Only `--duration`.
    Duration,
}

/// One condition on a run: a service level objective, or a criterion of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    pub figure: Figure,
    pub comparison: Comparison,
    /// Seconds for times, requests or tokens per second for rates.
    pub bound: f64,
    /// The condition as the user wrote it.
    pub text: String,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Of(Statistic, Quantity),
    RequestsPerS,
    OutputTokensPerS,
    /// Failed requests of those that succeeded or failed, percent.
    FailedPercent,
    /// The rest of them, percent.
    SucceededPercent,
    /// Requests per second that met every bound themselves.
    Goodput,
}

/// Which value of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    Mean,
    /// One of [`crate::plan::slo::PERCENTILES`], in thousandths; 1000 is the maximum.
    PerMille(u32),
}

/// A duration of a request, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    Ttft,
    Tpot,
    Itl,
    Latency,
}

/// How figure and bound are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    AtMost,
    Below,
    AtLeast,
    Above,
}

impl Comparison {
    /// Whether `value` meets `bound`.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Comparison::AtMost => value <= bound,
            Comparison::Below => value < bound,
            Comparison::AtLeast => value >= bound,
            Comparison::Above => value > bound,
        }
    }
}
