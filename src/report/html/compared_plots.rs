//! Charts of the runs of several sides: a line for each side.

use super::axis::Scale;
use super::bounds::curve_with_bounds;
use super::chart::{AxisText, Chart, ChartLine, Point, highest, points, scaled};
use super::load_plots::Loads;
use super::objectives::{self, time_levels};
use super::over_time::unit;
use super::plots::{above, floor_s, percentile_axis};
use super::timeline::percentile_curve;
use super::words::Words;
use crate::finding::Figure as Time;
use crate::plan::slo::{Criterion, Figure, Quantity};
use crate::stats::Summary;
use crate::stats::samples::{Sample, Samples};

/// The runs of a side, with their requests.
#[derive(Debug)]
pub struct ComparedSide<'a> {
    pub name: String,
    pub runs: Vec<(&'a Summary, &'a Samples)>,
}

/// A time of a request, nanoseconds.
type OfSample = fn(&Sample) -> Option<f64>;

/// The percentiles of each time, with the requests of all runs of a side together.
pub fn percentile_charts(sides: &[ComparedSide<'_>]) -> Vec<Chart> {
    let times: [(Words, Time, OfSample); 3] = [
        (Words::new("TTFT percentiles", "TTFT 百分位数"), Time::Ttft, |sample| sample.ttft.map(|ns| ns as f64)),
        (Words::new("TPOT percentiles", "TPOT 百分位数"), Time::Tpot, |sample| sample.tpot),
        (Words::new("Latency percentiles", "端到端时延百分位数"), Time::Latency, |sample| {
            Some(sample.latency as f64)
        }),
    ];
    times.into_iter().filter_map(|(title, time, value)| percentile_chart(sides, title, time, value)).collect()
}

/// `None` if no side has the time.
fn percentile_chart(sides: &[ComparedSide<'_>], title: Words, time: Time, value: OfSample) -> Option<Chart> {
    let curves = sides.iter().map(|side| (side.name.as_str(), curve(side, time, value)));
    let curves: Vec<(&str, Vec<Point>)> = curves.filter(|curve| !curve.1.is_empty()).collect();
    let (unit, factor) = unit(highest(curves.iter().flat_map(|curve| &curve.1)));
    let lines: Vec<ChartLine> =
        curves.into_iter().map(|(name, curve)| ChartLine::new(name, scaled(curve, factor))).collect();
    let chart = Chart {
        x_scale: Scale::Tail,
        y_scale: Scale::Log,
        ..Chart::new(title, percentile_axis(), AxisText::unit(unit))
    };
    let levels = time_levels(&criteria(sides), &[quantity_of(time)], factor);
    (!lines.is_empty()).then_some(Chart { lines, levels, ..chart })
}

/// The percentiles of all requests of a side, seconds, with the marks and bounds of those of a run.
fn curve(side: &ComparedSide<'_>, time: Time, value: OfSample) -> Vec<Point> {
    let samples = side.runs.iter().flat_map(|run| run.1).filter(|sample| sample.ok);
    let mut seconds: Vec<f32> = samples.filter_map(|sample| value(&sample)).map(|ns| (ns / 1e9) as f32).collect();
    seconds.sort_unstable_by(f32::total_cmp);
    let runs = summaries(side);
    let curve = points(percentile_curve(&seconds));
    // The error of a TPOT is divided by its tokens.
    let floors = runs.iter().filter(|_| time != Time::Tpot).map(|run| floor_s(run));
    curve_with_bounds(&runs, time, above(floors.fold(0.0, f64::max), curve))
}

/// The most important figures over the loads of each side. Sides of one load have a point.
pub fn load_charts(sides: &[ComparedSide<'_>]) -> Vec<Chart> {
    let loads: Vec<(&str, Loads<'_>)> =
        sides.iter().map(|side| (side.name.as_str(), Loads::new(&summaries(side)))).collect();
    let generates_text = sides.iter().flat_map(|side| &side.runs).any(|run| run.0.generates_text());
    let criteria = criteria(sides);
    let rate = |title: Words, figure: Figure, of: fn(&Summary) -> Option<f64>| {
        let lines = loads.iter().map(|(name, loads)| ChartLine::new(*name, loads.figure(of)));
        let unit = AxisText::unit(figure.unit());
        let chart = Loads::chart_of(loads.iter().map(|loads| &loads.1), title, unit, lines.collect());
        Chart { levels: objectives::levels(&criteria, |other| other == figure, 1.0), ..chart }
    };
    let time = |title: Words, time: Time, per_mille: Option<u32>| {
        let curves: Vec<Vec<Point>> = loads.iter().map(|(_, loads)| loads.time(time, per_mille)).collect();
        let (unit, factor) = unit(highest(curves.iter().flatten()));
        let lines = loads.iter().zip(curves).map(|((name, _), curve)| ChartLine::new(*name, scaled(curve, factor)));
        let chart = Loads::chart_of(loads.iter().map(|loads| &loads.1), title, AxisText::unit(unit), lines.collect());
        Chart { levels: time_levels(&criteria, &[quantity_of(time)], factor), ..chart }
    };
    let title = Words::new("Requests per second", "请求吞吐量");
    let mut charts = vec![rate(title, Figure::RequestsPerS, |s| s.throughput.requests_per_s)];
    if generates_text {
        charts.extend([
            rate(Words::new("Output tokens per second", "输出 token 吞吐量"), Figure::OutputTokensPerS, |s| {
                s.throughput.output_tokens_per_s
            }),
            time(Words::new("p99 TTFT over load", "p99 TTFT 随负载变化"), Time::Ttft, Some(990)),
            time(Words::new("Mean TPOT over load", "平均 TPOT 随负载变化"), Time::Tpot, None),
        ]);
    }
    charts.push(time(Words::new("p99 latency over load", "p99 端到端时延随负载变化"), Time::Latency, Some(990)));
    charts
}

/// The criteria of all sides, each once.
fn criteria(sides: &[ComparedSide<'_>]) -> Vec<Criterion> {
    objectives::criteria(&sides.iter().flat_map(summaries).collect::<Vec<_>>())
}

/// What criteria on a time are about.
fn quantity_of(time: Time) -> Quantity {
    match time {
        Time::Ttft => Quantity::Ttft,
        Time::Itl => Quantity::Itl,
        Time::Tpot => Quantity::Tpot,
        Time::Latency => Quantity::Latency,
    }
}

fn summaries<'a>(side: &ComparedSide<'a>) -> Vec<&'a Summary> {
    side.runs.iter().map(|run| run.0).collect()
}
