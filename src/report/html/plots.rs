//! The charts of a run.

use hdrhistogram::Histogram;

use super::axis::Scale;
use super::bounds::{curve_with_bounds, has_token_times};
use super::chart::{AxisText, Chart, ChartLine, Level, Point, Y, points, scaled};
use super::objectives::{self, time_levels};
use super::over_time::{interval_note, joined_note, over_time, time_axis, times_over_time, unit};
use super::run::Run;
use super::server;
use super::timeline::{cumulative, percentile_curve, thin};
use super::words::Words;
use crate::finding::Figure as Time;
use crate::plan::slo::{Criterion, Figure, Quantity};
use crate::record::Phase;
use crate::report::i18n::failure_name;
use crate::stats::Summary;
use crate::stats::measurement_error::CLOCK_NS;
use crate::stats::samples::Sample;

/// Points of a cumulative curve.
const CURVE_POINTS: usize = 400;
/// Classes of failures that have a line of their own.
const MOST_CLASSES: usize = 5;

/// The charts of one run. At most about `most_dots` requests are drawn as single points.
pub fn run_charts(run: &Run, most_dots: usize) -> Vec<Chart> {
    let criteria = objectives::criteria(&[&run.summary]);
    let criteria = &criteria[..];
    let mut charts = vec![cdf(run, criteria), percentiles(run, criteria)];
    if !run.summary.one_clock {
        // There is no common time to draw the others over.
        charts.iter_mut().for_each(|chart| chart.lines.retain(|line| !line.points.is_empty()));
        return charts;
    }
    if has_token_times(&run.summary) {
        charts.extend([ttft_over_time(run, criteria), itl_over_time(run, criteria)]);
    } else {
        charts.push(latency_over_time(run, criteria));
    }
    charts.push(in_flight(run));
    if run.summary.generates_text() {
        charts.push(tokens_over_time(run, criteria));
    }
    if run.samples.iter().any(|sample| sample.failed) {
        charts.extend([success_over_time(run, criteria), failures_over_time(run)]);
    }
    charts.extend([scatter(run, most_dots, criteria), client_error(run)]);
    // Without streams no curve has a first token.
    charts.iter_mut().for_each(|chart| chart.lines.retain(|line| !line.points.is_empty()));
    charts.extend(server::charts(run));
    charts
}

fn latency_words() -> Words {
    Words::new("Latency", "端到端时延")
}

/// The axis of percentiles.
pub fn percentile_axis() -> AxisText {
    AxisText::new(Words::new("percentile", "百分位数"), "")
}

fn sorted_s(run: &Run, value: fn(&Sample) -> Option<f64>) -> Vec<f32> {
    let mut values: Vec<f32> = run
        .samples
        .iter()
        .filter(|sample| sample.ok)
        .filter_map(|sample| value(&sample))
        .map(|ns| (ns / 1e9) as f32)
        .collect();
    values.sort_unstable_by(f32::total_cmp);
    values
}

fn ttft(sample: &Sample) -> Option<f64> {
    sample.ttft.map(|ns| ns as f64)
}

fn latency(sample: &Sample) -> Option<f64> {
    Some(sample.latency as f64)
}

/// The error of a single time between two timestamps, seconds. A shorter time is not known.
pub fn floor_s(s: &Summary) -> f64 {
    (s.measurement_error.stamp.ns + 2 * CLOCK_NS) as f64 / 1e9
}

/// Marks values below the error of a single time, so that they are not drawn as 0.
pub fn above(floor_s: f64, points: Vec<Point>) -> Vec<Point> {
    let mark = |point: Point| match point.y {
        Y::Known(value) if value < floor_s => Point { y: Y::Below(floor_s), ..point },
        _ => point,
    };
    points.into_iter().map(mark).collect()
}

fn cdf(run: &Run, criteria: &[Criterion]) -> Chart {
    let mut curves = vec![(latency_words(), sorted_s(run, latency))];
    if has_token_times(&run.summary) {
        curves.insert(0, ("TTFT".into(), sorted_s(run, ttft)));
    }
    let largest = curves.iter().filter_map(|curve| curve.1.last()).fold(0.0f32, |a, &b| a.max(b));
    let (name, factor) = unit(f64::from(largest));
    let line = |(title, values): (Words, Vec<f32>)| {
        let pairs = cumulative(&values, CURVE_POINTS).into_iter().map(|(x, y)| (x * factor, y));
        ChartLine::new(title, points(pairs))
    };
    let levels = time_levels(criteria, &[Quantity::Ttft, Quantity::Latency], factor);
    let base = Chart::new(
        Words::new("Latency distribution (CDF)", "时延分布 (CDF)"),
        AxisText::new(Words::new("time", "时间"), name),
        AxisText::new(Words::new("requests at or below", "不超过该值的请求占比"), "%"),
    );
    Chart {
        y_at_least: Some(100.0),
        lines: curves.into_iter().map(line).collect(),
        levels: levels.into_iter().map(|level| Level { upright: true, ..level }).collect(),
        ..base
    }
}

fn percentiles(run: &Run, criteria: &[Criterion]) -> Chart {
    let floor_s = floor_s(&run.summary);
    let bounded = |time, curve| scaled(curve_with_bounds(&[&run.summary], time, curve), 1e3);
    let measured = |time, values: &[f32]| bounded(time, above(floor_s, points(percentile_curve(values))));
    let mut lines = Vec::new();
    if has_token_times(&run.summary) {
        // The error of a TPOT is divided by its tokens.
        let tpot = points(percentile_curve(&sorted_s(run, |sample| sample.tpot)));
        lines.push(ChartLine::new("TTFT", measured(Time::Ttft, &sorted_s(run, ttft))));
        lines.push(ChartLine::new("ITL", bounded(Time::Itl, above(floor_s, points(run.timeline.gap_curve())))));
        lines.push(ChartLine::new("TPOT", bounded(Time::Tpot, tpot)));
    }
    lines.push(ChartLine::new(latency_words(), measured(Time::Latency, &sorted_s(run, latency))));
    let all = [Quantity::Ttft, Quantity::Itl, Quantity::Tpot, Quantity::Latency];
    let base = Chart::new(Words::new("Percentile curves", "百分位数曲线"), percentile_axis(), AxisText::unit("ms"));
    Chart {
        x_scale: Scale::Tail,
        y_scale: Scale::Log,
        lines,
        levels: time_levels(criteria, &all, 1e3),
        note: Words::new(
            "Each further nine has the same width; every curve ends at its largest sample.",
            "横轴每多一个 9 占相同宽度；曲线终点为最大样本。",
        ),
        ..base
    }
}

fn ttft_over_time(run: &Run, criteria: &[Criterion]) -> Chart {
    let [p50, p99] = run.timeline.due_quantiles(&run.samples, |sample| sample.ttft, [500, 990]);
    due_chart(run, Words::new("TTFT over time", "TTFT 随时间变化"), [p50, p99], Quantity::Ttft, criteria)
}

fn latency_over_time(run: &Run, criteria: &[Criterion]) -> Chart {
    let [p50, p99] = run.timeline.due_quantiles(&run.samples, |sample| Some(sample.latency), [500, 990]);
    due_chart(run, Words::new("Latency over time", "端到端时延随时间变化"), [p50, p99], Quantity::Latency, criteria)
}

fn due_chart(run: &Run, title: Words, lines: [Vec<Point>; 2], quantity: Quantity, criteria: &[Criterion]) -> Chart {
    let [p50, p99] = lines;
    let (chart, factor) = times_over_time(title, vec![("p50".into(), p50), ("p99".into(), p99)]);
    Chart {
        levels: time_levels(criteria, &[quantity], factor),
        note: joined_note(run.timeline.request_interval_s()),
        ..chart
    }
}

fn itl_over_time(run: &Run, criteria: &[Criterion]) -> Chart {
    let floor_s = floor_s(&run.summary);
    let [p50, p99] = run.timeline.gap_quantiles().map(|points| above(floor_s, points));
    let title = Words::new("ITL over time", "ITL 随时间变化");
    let (chart, factor) = times_over_time(title, vec![("p50".into(), p50), ("p99".into(), p99)]);
    Chart {
        levels: time_levels(criteria, &[Quantity::Itl], factor),
        note: joined_note(run.timeline.interval_s()),
        ..chart
    }
}

fn in_flight(run: &Run) -> Chart {
    let (mean, most) = run.timeline.in_flight(&run.samples);
    let curves = vec![(Words::new("mean", "平均"), mean), (Words::new("max", "最大"), most)];
    let title = Words::new("Requests in flight", "在途请求数");
    Chart {
        note: interval_note(run.timeline.interval_s()),
        ..over_time(title, Words::new("requests", "个请求"), curves)
    }
}

fn tokens_over_time(run: &Run, criteria: &[Criterion]) -> Chart {
    let title = Words::new("Output tokens per second, by arrival", "每秒输出 token 数（按到达时刻）");
    let name = Words::new("output", "输出");
    Chart {
        levels: objectives::levels(criteria, |figure| figure == Figure::OutputTokensPerS, 1.0),
        note: interval_note(run.timeline.interval_s()),
        ..over_time(title, "tok/s", vec![(name, run.timeline.tokens_per_s())])
    }
}

fn success_over_time(run: &Run, criteria: &[Criterion]) -> Chart {
    let title = Words::new("Success rate over time, by due time", "成功率随时间变化（按计划时刻）");
    let name = Words::new("succeeded", "成功率");
    Chart {
        y_at_least: Some(100.0),
        levels: objectives::success_levels(criteria),
        note: joined_note(run.timeline.request_interval_s()),
        ..over_time(title, "%", vec![(name, run.timeline.success_percent(&run.samples))])
    }
}

fn failures_over_time(run: &Run) -> Chart {
    let classes = run.timeline.failures(&run.samples);
    let named = |class| Words::each(|language| failure_name(class, language).to_string());
    let mut curves: Vec<(Words, Vec<Point>)> =
        classes.iter().take(MOST_CLASSES).map(|(class, points)| (named(*class), points.clone())).collect();
    let mut rest = classes.into_iter().skip(MOST_CLASSES).map(|(_, points)| points);
    if let Some(first) = rest.next() {
        curves.push((Words::new("others", "其他"), rest.fold(first, |sum, more| added(sum, &more))));
    }
    let title = Words::new("Failures over time, by due time", "失败数随时间变化（按计划时刻）");
    Chart {
        note: interval_note(run.timeline.request_interval_s()),
        ..over_time(title, Words::new("requests", "个请求"), curves)
    }
}

fn added(sum: Vec<Point>, more: &[Point]) -> Vec<Point> {
    let add = |(point, other): (Point, &Point)| match (point.y, other.y) {
        (Y::Known(a), Y::Known(b)) => Point { y: Y::Known(a + b), ..point },
        _ => point,
    };
    sum.into_iter().zip(more).map(add).collect()
}

fn scatter(run: &Run, most_dots: usize, criteria: &[Criterion]) -> Chart {
    let (name, factor) = unit(run.samples.iter().map(|sample| sample.latency).max().unwrap_or(0) as f64 / 1e9);
    let dots = |value: &dyn Fn(&Sample) -> Option<u64>| {
        let points = run
            .samples
            .iter()
            .filter_map(|sample| Some((run.timeline.seconds(sample.due), value(&sample)? as f64 / 1e9 * factor)));
        let (pairs, thinned) = thin(points.collect(), most_dots / 2);
        (points_of(pairs), thinned)
    };
    let (latencies, thinned) = dots(&|sample| sample.ok.then_some(sample.latency));
    let with_ttft = has_token_times(&run.summary);
    let (ttfts, _) = dots(&|sample| sample.ttft.filter(|_| with_ttft && sample.ok));
    let (failed, failed_thinned) = dots(&|sample| (!sample.ok).then_some(sample.latency));
    let mut lines = vec![ChartLine::dots(latency_words(), latencies, false)];
    if !ttfts.is_empty() {
        lines.push(ChartLine::dots("TTFT", ttfts, false));
    }
    if !failed.is_empty() {
        lines.push(ChartLine::dots(Words::new("failed", "失败"), failed, true));
    }
    let note = match thinned || failed_thinned {
        false => Words::new("One dot per request.", "每个请求一个点。"),
        true => Words::new(
            "Too many requests to draw: of each group of neighbours the shortest and the longest are shown.",
            "请求过多：每组相邻请求只画时延最短与最长的。",
        ),
    };
    let title = Words::new("Each request, by due time", "逐个请求（按计划时刻）");
    let levels = time_levels(criteria, &[Quantity::Ttft, Quantity::Latency], factor);
    Chart { lines, levels, note, ..Chart::new(title, time_axis(), AxisText::unit(name)) }
}

fn points_of(pairs: Vec<(f64, f64)>) -> Vec<Point> {
    points(pairs.into_iter().map(|(x, y)| (x, Some(y))))
}

fn client_error(run: &Run) -> Chart {
    let of_samples = |value: fn(&Sample) -> Option<u64>| {
        let mut values: Vec<f32> =
            run.samples.iter().filter_map(|sample| value(&sample)).map(|ns| ns as f32 / 1e3).collect();
        values.sort_unstable_by(f32::total_cmp);
        points(percentile_curve(&values))
    };
    let lines = vec![
        ChartLine::new(Words::new("receive lag", "接收滞后"), receive_lag(run)),
        ChartLine::new(Words::new("send lag", "发送滞后"), of_samples(|sample| sample.send_lag)),
        ChartLine::new(Words::new("turnaround", "周转时间"), of_samples(|sample| sample.turnaround)),
    ];
    let title = Words::new("The client's own delays", "客户端自身延迟");
    Chart {
        x_scale: Scale::Tail,
        y_scale: Scale::Log,
        lines,
        ..Chart::new(title, percentile_axis(), AxisText::unit("µs"))
    }
}

/// Quantiles of the workers' merged histograms, microseconds.
fn receive_lag(run: &Run) -> Vec<Point> {
    let mut merged = Histogram::<u64>::new(3).expect("three digits are valid");
    for worker in run.run.workers.iter().filter(|worker| worker.phase == Phase::Measured) {
        // Cannot fail: the sum resizes itself.
        merged += &worker.receive_lag_ns;
    }
    if merged.is_empty() {
        return Vec::new();
    }
    let nines = (merged.len() as f64).log10();
    let percents = (0..=(nines * 24.0) as usize).map(|i| (1.0 - 10f64.powf(-(i as f64) / 24.0)) * 100.0);
    points(percents.map(|percent| (percent, Some(merged.value_at_quantile(percent / 100.0) as f64 / 1e3))))
}
