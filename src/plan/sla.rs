//! The plan of a search for the highest load that meets its SLOs, or for the load with the best figure. [`crate::search`]
//! selects the loads to try.

use super::slo::Criterion;
pub use crate::record::search::{Aim, RunSize, SearchPlan, Space, Variable};

impl SearchPlan {
    /// Requests of each run at a load; `None` if only the duration ends it.
    pub fn number_at(&self, value: f64) -> Option<u64> {
        match self.size {
            RunSize::Number(number) => Some(number),
            RunSize::Multiple(multiple) => Some(((value * multiple).round() as u64).max(1)),
            RunSize::Duration => None,
        }
    }
}

impl Aim {
    /// The conditions as they were given.
    pub(crate) fn as_given(&self) -> String {
        match self {
            Aim::Hold(criteria) => criteria.iter().map(Criterion::to_string).collect::<Vec<_>>().join(", "),
            Aim::Best { .. } => self.to_string(),
        }
    }
}

impl std::fmt::Display for Aim {
    /// Formats the aim with units, which the flag may omit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Aim::Hold(criteria) => {
                f.write_str(&criteria.iter().map(Criterion::with_unit).collect::<Vec<_>>().join(", "))
            }
            Aim::Best { name, most, .. } => write!(f, "{} {name}", if *most { "most" } else { "least" }),
        }
    }
}
