//! Charts over the time of a run, and the units of their values.

use super::axis::exact;
use super::chart::{AxisText, Chart, ChartLine, Point, highest, scaled};
use super::words::Words;

/// The unit for values up to `most_s` seconds: its name, and how many of it are a second. Milliseconds as in the tables of
/// the page, unless they would have more than four digits.
pub fn unit(most_s: f64) -> (&'static str, f64) {
    if most_s < 10.0 { ("ms", 1e3) } else { ("s", 1.0) }
}

/// The axis of the time of a run.
pub fn time_axis() -> AxisText {
    AxisText::new(Words::new("since the start", "开始后"), "s")
}

/// A chart over the time of a run.
pub fn over_time(title: Words, y_unit: impl Into<Words>, curves: Vec<(Words, Vec<Point>)>) -> Chart {
    let lines = curves.into_iter().map(|(name, points)| ChartLine::new(name, points)).collect();
    Chart { lines, ..Chart::new(title, time_axis(), AxisText::unit(y_unit)) }
}

/// A chart of times, in seconds, over the time of a run; and how many of its units are a second.
pub fn times_over_time(title: Words, curves: Vec<(Words, Vec<Point>)>) -> (Chart, f64) {
    let (name, factor) = unit(highest(curves.iter().flat_map(|curve| &curve.1)));
    let curves = curves.into_iter().map(|(name, points)| (name, scaled(points, factor))).collect();
    (over_time(title, name, curves), factor)
}

/// A note on the length of the intervals that each point summarises.
pub fn interval_note(interval_s: f64) -> Words {
    let interval = exact(interval_s);
    Words::new(format!("Over intervals of {interval} s."), format!("每个点统计 {interval} s。"))
}

/// The same where neighbouring intervals with few samples are joined.
pub fn joined_note(interval_s: f64) -> Words {
    let interval = exact(interval_s);
    Words::new(
        format!("Over intervals of {interval} s, longer where they have fewer than 10 samples."),
        format!("每个点统计 {interval} s；样本不足 10 个的区间与相邻区间合并。"),
    )
}
