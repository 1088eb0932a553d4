//! Charts over the time of a run, and the units of their values.

use super::chart::{Chart, ChartLine, Scale, short};
use super::run::Run;
use crate::report::language::Language;

/// Points of a line; a `None` breaks it.
pub type Points = Vec<(f64, Option<f64>)>;

/// The unit for values up to `most_s` seconds: its name, and how many of it are a second.
pub fn unit(most_s: f64) -> (&'static str, f64) {
    match most_s {
        s if s >= 2.0 => ("s", 1.0),
        s if s >= 0.002 => ("ms", 1e3),
        _ => ("µs", 1e6),
    }
}

fn most(lines: &[Points]) -> f64 {
    lines.iter().flatten().filter_map(|point| point.1).fold(0.0, f64::max)
}

/// The points with their values multiplied by `factor`.
pub fn scaled(points: Points, factor: f64) -> Points {
    points.into_iter().map(|(x, y)| (x, y.map(|y| y * factor))).collect()
}

/// A chart of times, in seconds, over the time of the run.
pub fn over_time(run: &Run, title: &str, curves: Vec<(&str, Points)>, language: Language) -> Chart {
    let lines: Vec<Points> = curves.iter().map(|curve| curve.1.clone()).collect();
    let (name, factor) = unit(most(&lines));
    Chart {
        title: title.to_string(),
        x_label: language.pick("seconds since the start", "开始后的秒数").to_string(),
        y_label: name.to_string(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        y_at_least: None,
        lines: curves.into_iter().map(|(name, points)| ChartLine::new(name, scaled(points, factor))).collect(),
        note: interval_note(run.timeline.interval_s(), language),
    }
}

/// A note on the length of the intervals that each point summarises.
pub fn interval_note(interval_s: f64, language: Language) -> String {
    let interval = short(interval_s);
    match language {
        Language::En => format!("Over intervals of {interval} s."),
        Language::Zh => format!("每个点统计 {interval} 秒。"),
    }
}
