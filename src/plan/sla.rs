//! The search for the highest load that keeps service levels, or for the best one, fully decided. [`crate::search`] says
//! which load is tried next.

use serde::{Deserialize, Serialize};

use super::slo::{Criterion, Figure};

/// What is varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variable {
    #[default]
    Parallel,
    Rate,
}

impl Variable {
    /// As `--sla-variable` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Variable::Parallel => "parallel",
            Variable::Rate => "rate",
        }
    }
}

/// One aim of the search, followed independently of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// The highest load at which all of these hold.
    Hold(Vec<Criterion>),
    /// The load at which a figure is at its most, or at its least.
    Best { figure: Figure, name: String, most: bool },
}

/// The loads that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    pub lower: f64,
    pub upper: f64,
    /// The first one, within the bounds.
    pub start: f64,
    /// Only whole numbers.
    pub whole: bool,
    /// Two loads with a smaller difference, as a share of the lower one, are as good as one.
    pub precision: f64,
}

/// A search, fully decided. Every run of it stores this, so that its runs together tell what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchPlan {
    pub variable: Variable,
    pub aims: Vec<Aim>,
    pub space: Space,
    /// Runs at each load.
    pub runs: u32,
    pub size: Size,
    /// The cap on requests in flight of a search for a rate.
    pub fixed_parallel: Option<u32>,
}

/// How long each run is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    Number(u64),
    /// Requests for each unit of the load.
    Multiple(f64),
    /// Only `--duration` ends it.
    Duration,
}

impl SearchPlan {
    /// Requests of each run at a load; `None` where only the duration ends it.
    pub fn number_at(&self, value: f64) -> Option<u64> {
        match self.size {
            Size::Number(number) => Some(number),
            Size::Multiple(multiple) => Some(((value * multiple).round() as u64).max(1)),
            Size::Duration => None,
        }
    }
}

impl std::fmt::Display for Aim {
    /// With units, which the flag may leave out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Aim::Hold(criteria) => {
                f.write_str(&criteria.iter().map(Criterion::with_unit).collect::<Vec<_>>().join(", "))
            }
            Aim::Best { name, most, .. } => write!(f, "{} {name}", if *most { "most" } else { "least" }),
        }
    }
}
