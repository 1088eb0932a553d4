//! Times of a run with their bounds from the client's measurement error. Of a figure that this error exceeds, only the
//! upper bound is known.

use super::measurement_error::Bound;
use super::quantile::{LEVELS, Level, Series};
use super::slo::JudgedValue;
use super::summary::Summary;
use crate::finding::Figure;
use crate::plan::slo::{self, Quantity, Statistic};

/// The distribution of a time.
pub fn series(s: &Summary, figure: Figure) -> &Series {
    match figure {
        Figure::Ttft => &s.series.ttft_s,
        Figure::Itl => &s.series.itl_s,
        Figure::Tpot => &s.series.tpot_s,
        Figure::Latency => &s.series.latency_s,
    }
}

/// The lower and the upper end of a time: only TPOT can be a range, otherwise they are the same.
pub fn ends(s: &Summary, figure: Figure) -> (&Series, &Series) {
    match figure {
        Figure::Tpot => s.series.tpot_ends(),
        Figure::Ttft | Figure::Itl | Figure::Latency => (series(s, figure), series(s, figure)),
    }
}

/// The bounds of its percentiles from the measurement error, at the places of [`LEVELS`].
pub fn bounds(s: &Summary, figure: Figure) -> &[Bound] {
    let own = &s.measurement_error;
    match figure {
        Figure::Ttft => &own.ttft_s,
        Figure::Itl => &own.itl_s,
        Figure::Tpot => &own.tpot_s,
        Figure::Latency => &own.latency_s,
    }
}

/// The upper bound of a percentile, seconds, if its error is as large as the figure itself.
pub fn at_most_s(s: &Summary, figure: Figure, per_mille: u32) -> Option<f64> {
    let bound = bounds(s, figure).get(LEVELS.iter().position(|level| level.per_mille == per_mille)?)?;
    let value = ends(s, figure).1.value(per_mille)?;
    (bound.low <= 0.0 || bound.high - value > value).then_some(bound.high)
}

/// The highest of these upper bounds over several runs; `None` if no run has one.
pub fn highest_at_most_s<'a>(
    runs: impl IntoIterator<Item = &'a Summary>,
    figure: Figure,
    per_mille: u32,
) -> Option<f64> {
    runs.into_iter().filter_map(|run| at_most_s(run, figure, per_mille)).reduce(f64::max)
}

/// An upper bound of a mean, seconds: every value counts as the upper bound of the next percentile at or above it.
/// `None` without bounds.
pub fn mean_at_most_s(s: &Summary, figure: Figure) -> Option<f64> {
    let bounds = bounds(s, figure);
    let mut below = 0;
    let part = |(level, bound): (&Level, &Bound)| {
        let share = f64::from(level.per_mille - below) / 1000.0;
        below = level.per_mille;
        share * bound.high
    };
    (bounds.len() == LEVELS.len()).then(|| LEVELS.iter().zip(bounds).map(part).sum())
}

/// The same upper bound of a value by which an objective is judged, in its own unit. One that is computed with failed
/// requests has none.
pub fn judged_at_most(s: &Summary, figure: slo::Figure, judged: JudgedValue) -> Option<f64> {
    let slo::Figure::Of(Statistic::PerMille(per_mille), quantity) = figure else { return None };
    let time = time_of(quantity);
    let is_of_succeeded = series(s, time).value(per_mille) == judged.value;
    at_most_s(s, time, per_mille).filter(|_| is_of_succeeded)
}

/// The time that a criterion on this quantity is about.
pub(crate) fn time_of(quantity: Quantity) -> Figure {
    match quantity {
        Quantity::Ttft => Figure::Ttft,
        Quantity::Itl => Figure::Itl,
        Quantity::Tpot => Figure::Tpot,
        Quantity::Latency => Figure::Latency,
    }
}
