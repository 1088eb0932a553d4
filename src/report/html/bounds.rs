//! Figures whose bound from the client's measurement error exceeds them: all that is known of them is the bound.

use super::chart::{Point, Y};
use crate::finding::Figure;
use crate::stats::Summary;
use crate::stats::quantile::{LEVELS, Series};
pub use crate::stats::time_bounds::{at_most_s, bounds, ends, highest_at_most_s, mean_at_most_s, series};

/// Whether there are times of single tokens: only streams of text have them.
pub fn has_token_times(s: &Summary) -> bool {
    s.generates_text() && s.series.ttft_s.count > 0
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

/// A percentile of a time, seconds.
pub fn percentile(s: &Summary, figure: Figure, per_mille: u32) -> Y {
    match at_most_s(s, figure, per_mille) {
        Some(high) => Y::AtMost(high),
        None => series(s, figure).value(per_mille).into(),
    }
}

/// A curve of percentiles of these runs, its points from the lowest percent to the highest, seconds. Where the next
/// percentile at or above a point is only known by its bound, so is the point.
pub fn curve_with_bounds(runs: &[&Summary], figure: Figure, points: Vec<Point>) -> Vec<Point> {
    let bound = |percent: f64| {
        let level = LEVELS.iter().find(|level| f64::from(level.per_mille) / 10.0 >= percent)?;
        highest_at_most_s(runs.iter().copied(), figure, level.per_mille)
    };
    let with_bound = |point: Point| match bound(point.x) {
        Some(bound) => Point { y: Y::AtMost(bound), ..point },
        None => point,
    };
    points.into_iter().map(with_bound).collect()
}
