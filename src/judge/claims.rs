//! The figures that a client reported.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::figures::Figure;

/// Mean and percentiles of a figure, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    pub mean: Option<f64>,
    /// By percent as text, such as "99.9"; "100" is the maximum.
    pub percentiles: BTreeMap<String, f64>,
}

impl Reported {
    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.mean.is_none() && self.percentiles.is_empty()
    }

    /// All values multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Reported {
        let percentiles = self.percentiles.iter().map(|(percent, value)| (percent.clone(), value * factor));
        Reported { mean: self.mean.map(|value| value * factor), percentiles: percentiles.collect() }
    }
}

/// What a client reported; `None` for what it did not. Each figure stands under the name that the client gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    pub file: PathBuf,
    pub ok: Option<f64>,
    pub failed: Option<f64>,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// The client's own statement that its figures are affected by itself.
    pub warning: Option<String>,
    pub ttft_ms: Reported,
    pub itl_ms: Reported,
    pub tpot_ms: Reported,
    pub latency_ms: Reported,
}

impl Claims {
    /// What was reported of a figure.
    pub fn reported(&self, figure: Figure) -> &Reported {
        match figure {
            Figure::Ttft => &self.ttft_ms,
            Figure::Itl => &self.itl_ms,
            Figure::Tpot => &self.tpot_ms,
            Figure::Latency => &self.latency_ms,
        }
    }
}
