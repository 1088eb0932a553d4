//! Figures whose bound from the client's measurement error exceeds them: all that is known of them is the bound.

use super::chart::Y;
use crate::finding::Figure;
use crate::stats::Summary;
use crate::stats::measurement_error::Bound;
use crate::stats::quantile::{LEVELS, Series};

/// Whether there are times of single tokens: only streams of text have them.
pub fn has_token_times(s: &Summary) -> bool {
    s.generates_text() && s.series.ttft_s.count > 0
}

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

/// A value of a time as text, of a range with both ends.
pub fn with_ends(
    s: &Summary,
    figure: Figure,
    value: impl Fn(&Series) -> Option<f64>,
    text: impl Fn(f64) -> String,
) -> String {
    let (low, high) = ends(s, figure);
    match (value(series(s, figure)), value(low).map(&text), value(high).map(&text)) {
        (Some(value), Some(low), Some(high)) if low != high => format!("{} ({low} … {high})", text(value)),
        (value, ..) => value.map_or_else(|| "-".to_string(), &text),
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

/// A percentile of a time, seconds.
pub fn percentile(s: &Summary, figure: Figure, per_mille: u32) -> Y {
    match at_most_s(s, figure, per_mille) {
        Some(high) => Y::AtMost(high),
        None => series(s, figure).value(per_mille).into(),
    }
}
