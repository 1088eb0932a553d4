//! The charts over the loads of a sweep.

use super::axis::Scale;
use super::bounds;
use super::chart::{AxisText, Chart, ChartLine, Level, Point, Y, highest, scaled};
use super::objectives::{self, speed_levels, time_levels};
use super::over_time::unit;
use super::words::Words;
use crate::finding::Figure as Time;
use crate::plan::slo::{Criterion, Figure, Quantity};
use crate::report::advice::success_rate;
use crate::report::load_name::short_load;
use crate::report::repeats::Spread;
use crate::stats::Summary;

/// The largest ratio of loads on a linear axis.
const WIDE: f64 = 8.0;

/// The runs at each load, from the lowest to the highest.
#[derive(Debug)]
pub struct Loads<'a> {
    groups: Vec<(f64, Vec<&'a Summary>)>,
    x: AxisText,
    criteria: Vec<Criterion>,
}

/// Load curves over the runs of a sweep.
pub fn sweep_charts(runs: &[&Summary]) -> Vec<Chart> {
    let loads = Loads::new(runs);
    let generates_text = runs.iter().any(|run| run.generates_text());
    let mut charts = vec![requests(&loads), tokens(&loads, generates_text)];
    if generates_text {
        let avg = || Words::new("avg", "平均");
        let ttft =
            [(avg(), Time::Ttft, None), ("p50".into(), Time::Ttft, Some(500)), ("p99".into(), Time::Ttft, Some(990))];
        charts.push(times(&loads, Words::new("TTFT over load", "TTFT 随负载变化"), &ttft, &[Quantity::Ttft]));
        let gaps = [
            (Words::new("TPOT avg", "TPOT 平均"), Time::Tpot, None),
            ("TPOT p99".into(), Time::Tpot, Some(990)),
            ("ITL p50".into(), Time::Itl, Some(500)),
            ("ITL p99".into(), Time::Itl, Some(990)),
        ];
        let title = Words::new("TPOT and ITL over load", "TPOT 与 ITL 随负载变化");
        charts.push(times(&loads, title, &gaps, &[Quantity::Tpot, Quantity::Itl]));
    }
    charts.push(latency(&loads));
    if runs.iter().any(|run| run.counts.failed > 0) {
        charts.push(success(&loads));
    }
    if generates_text {
        charts.push(per_user(&loads));
        charts.extend(runs.iter().any(|run| run.per_gpu().is_some()).then(|| per_gpu(&loads)));
        charts.extend(pareto(&loads));
        charts.push(trade_off(&loads));
    }
    charts
}

impl<'a> Loads<'a> {
    /// The runs sorted by load.
    pub fn new(runs: &[&'a Summary]) -> Loads<'a> {
        let by_rate = runs.iter().all(|run| run.facts.parallel.is_none());
        let load = |s: &Summary| if by_rate { s.facts.rate_per_s } else { s.facts.parallel.map(f64::from) };
        let mut ordered: Vec<(f64, &Summary)> = runs.iter().filter_map(|run| Some((load(run)?, *run))).collect();
        ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
        let groups = ordered.chunk_by(|a, b| a.0 == b.0);
        let x = match by_rate {
            true => AxisText::new(Words::new("request rate", "到达率"), "req/s"),
            false => AxisText::new(Words::new("concurrency", "并发数"), ""),
        };
        Loads {
            groups: groups.map(|group| (group[0].0, group.iter().map(|one| one.1).collect())).collect(),
            x,
            criteria: objectives::criteria(runs),
        }
    }

    /// A figure at each load: the mean of its runs, and their range.
    pub fn figure(&self, of: impl Fn(&Summary) -> Option<f64>) -> Vec<Point> {
        let point = |(load, runs): &(f64, Vec<&Summary>)| mean_point(*load, runs, &of);
        self.groups.iter().map(point).collect()
    }

    /// The mean or a percentile of a time at each load, seconds. A percentile that is only known by its bound in one of
    /// the runs is known by the highest bound.
    pub fn time(&self, time: Time, per_mille: Option<u32>) -> Vec<Point> {
        let Some(per_mille) = per_mille else { return self.figure(|s| bounds::series(s, time).mean) };
        let point = |(load, runs): &(f64, Vec<&Summary>)| {
            let bound = bounds::highest_at_most_s(runs.iter().copied(), time, per_mille);
            match bound {
                Some(bound) => Point::new(*load, Y::AtMost(bound)),
                None => mean_point(*load, runs, &|s| bounds::series(s, time).value(per_mille)),
            }
        };
        self.groups.iter().map(point).collect()
    }

    /// A chart over the loads, with ticks at those that were measured.
    fn chart(&self, title: Words, y: AxisText, lines: Vec<ChartLine>) -> Chart {
        Loads::chart_of(std::iter::once(self), title, y, lines)
    }

    /// A chart over the loads of several sides.
    pub fn chart_of<'b>(
        sides: impl Iterator<Item = &'b Loads<'a>>,
        title: Words,
        y: AxisText,
        lines: Vec<ChartLine>,
    ) -> Chart
    where
        'a: 'b,
    {
        let sides: Vec<&Loads<'_>> = sides.collect();
        let mut xs: Vec<f64> = sides.iter().flat_map(|side| side.groups.iter().map(|group| group.0)).collect();
        xs.sort_unstable_by(f64::total_cmp);
        xs.dedup();
        let x = sides.first().map_or_else(AxisText::default, |side| side.x.clone());
        let spread = xs.last().copied().unwrap_or(1.0) / xs.first().copied().unwrap_or(1.0);
        let repeated = lines.iter().flat_map(|line| &line.points).any(|point| point.bar.is_some());
        let note = if repeated { bars_note() } else { Words::default() };
        let x_scale = if spread > WIDE { Scale::Log } else { Scale::Linear };
        Chart { x_scale, x_ticks: xs, lines, note, ..Chart::new(title, x, y) }
    }

    fn levels(&self, figure: Figure) -> Vec<Level> {
        objectives::levels(&self.criteria, |other| other == figure, 1.0)
    }
}

fn bars_note() -> Words {
    Words::new("Bars: lowest to highest of the runs; points: their mean.", "竖条为各次测试的最低至最高值，点为平均值。")
}

fn mean_point(load: f64, runs: &[&Summary], of: &dyn Fn(&Summary) -> Option<f64>) -> Point {
    let spread = Spread::compute(runs, of);
    let bar = spread.filter(|spread| spread.deviation.is_some()).map(|spread| (spread.low, spread.high));
    Point { bar, ..Point::new(load, spread.map(|spread| spread.mean)) }
}

fn requests(loads: &Loads<'_>) -> Chart {
    let mut lines =
        vec![ChartLine::new(Words::new("succeeded", "成功"), loads.figure(|s| s.throughput.requests_per_s))];
    if loads.groups.iter().flat_map(|group| &group.1).any(|run| run.slo.is_some()) {
        let goodput = loads.figure(|s| s.slo.as_ref()?.goodput_per_s);
        lines.push(ChartLine::new(Words::new("goodput", "有效吞吐量"), goodput));
    }
    let chart = loads.chart(Words::new("Requests per second", "请求吞吐量"), AxisText::unit("req/s"), lines);
    Chart { levels: [loads.levels(Figure::RequestsPerS), loads.levels(Figure::Goodput)].concat(), ..chart }
}

fn tokens(loads: &Loads<'_>, generates_text: bool) -> Chart {
    let lines = match generates_text {
        true => vec![
            ChartLine::new(Words::new("output", "输出"), loads.figure(|s| s.throughput.output_tokens_per_s)),
            ChartLine::new(Words::new("total", "总计"), loads.figure(|s| s.throughput.total_tokens_per_s)),
        ],
        false => vec![ChartLine::new(Words::new("input", "输入"), loads.figure(|s| s.throughput.input_tokens_per_s))],
    };
    let chart = loads.chart(Words::new("Tokens per second", "token 吞吐量"), AxisText::unit("tok/s"), lines);
    Chart { levels: loads.levels(Figure::OutputTokensPerS), ..chart }
}

/// A chart of several statistics of times, in the unit that fits them.
fn times(loads: &Loads<'_>, title: Words, curves: &[(Words, Time, Option<u32>)], of: &[Quantity]) -> Chart {
    let all: Vec<(Words, Vec<Point>)> =
        curves.iter().map(|(name, time, per_mille)| (name.clone(), loads.time(*time, *per_mille))).collect();
    let (unit, factor) = unit(highest(all.iter().flat_map(|curve| &curve.1)));
    let lines = all.into_iter().map(|(name, points)| ChartLine::new(name, scaled(points, factor))).collect();
    let chart = loads.chart(title, AxisText::unit(unit), lines);
    Chart { levels: time_levels(&loads.criteria, of, factor), ..chart }
}

fn latency(loads: &Loads<'_>) -> Chart {
    let curves = [
        (Words::new("avg", "平均"), Time::Latency, None),
        ("p50".into(), Time::Latency, Some(500)),
        ("p99".into(), Time::Latency, Some(990)),
    ];
    times(loads, Words::new("Latency over load", "端到端时延随负载变化"), &curves, &[Quantity::Latency])
}

fn success(loads: &Loads<'_>) -> Chart {
    let percent = loads.figure(|s| success_rate(s).map(|share| share * 100.0));
    let lines = vec![ChartLine::new(Words::new("succeeded", "成功"), percent)];
    let chart = loads.chart(Words::new("Success rate over load", "成功率随负载变化"), AxisText::unit("%"), lines);
    Chart { y_at_least: Some(100.0), levels: objectives::success_levels(&loads.criteria), ..chart }
}

fn per_user(loads: &Loads<'_>) -> Chart {
    let lines = vec![ChartLine::new(Words::new("output", "输出"), loads.figure(Summary::per_user))];
    let title = Words::new("Tokens per second and user", "每用户 token 速度");
    Chart { levels: speed_levels(&loads.criteria), ..loads.chart(title, AxisText::unit("tok/s"), lines) }
}

fn per_gpu(loads: &Loads<'_>) -> Chart {
    let lines = vec![ChartLine::new(Words::new("output", "输出"), loads.figure(Summary::per_gpu))];
    loads.chart(Words::new("Tokens per second and GPU", "每 GPU token 吞吐量"), AxisText::unit("tok/s"), lines)
}

/// Two figures against each other, with the loads connected in their order and named.
fn against(loads: &Loads<'_>, x: impl Fn(&Summary) -> Option<f64>, y: impl Fn(&Summary) -> Y) -> Vec<Point> {
    let point = |(_, runs): &(f64, Vec<&Summary>)| {
        let x = Spread::compute(runs, &x)?.mean;
        let bound = runs.iter().any(|run| matches!(y(run), Y::AtMost(_)));
        let value = |run: &Summary| match y(run) {
            Y::Known(value) | Y::AtMost(value) => Some(value),
            Y::Unknown | Y::Below(_) => None,
        };
        let mean = Spread::compute(runs, value)?.mean;
        let y = if bound { Y::AtMost(mean) } else { Y::Known(mean) };
        Some(Point { label: Some(short_load(&runs[0].facts)), ..Point::new(x, y) })
    };
    loads.groups.iter().filter_map(point).collect()
}

/// Tokens per second of one user against those of all users, or of a GPU.
fn pareto(loads: &Loads<'_>) -> Option<Chart> {
    let with_gpus = loads.groups.iter().flat_map(|group| &group.1).all(|run| run.per_gpu().is_some());
    let of_all = |s: &Summary| if with_gpus { s.per_gpu() } else { s.throughput.output_tokens_per_s };
    let points = against(loads, Summary::per_user, |s| of_all(s).into());
    let (title, y) = match with_gpus {
        true => (
            Words::new("Speed of a user against throughput of a GPU", "单用户速度与单 GPU 吞吐量的权衡"),
            Words::new("per GPU", "每 GPU"),
        ),
        false => (
            Words::new("Speed of a user against throughput", "单用户速度与总吞吐量的权衡"),
            Words::new("in total", "总计"),
        ),
    };
    let x = AxisText::new(Words::new("per user", "每用户"), "tok/s");
    let y = AxisText::new(y, "tok/s");
    let note = Words::new(
        "Each point is a load, named beside it. Further right is faster for a user, further up is more for all.",
        "每个点为一档负载，旁注其大小。越靠右单用户越快，越靠上总量越大。",
    );
    let lines = vec![ChartLine::new(Words::new("loads", "各档负载"), points)];
    let of_all = if with_gpus { Vec::new() } else { loads.levels(Figure::OutputTokensPerS) };
    let levels = [of_all, upright(speed_levels(&loads.criteria))].concat();
    (!lines[0].points.is_empty()).then(|| Chart { lines, levels, note, ..Chart::new(title, x, y) })
}

/// TTFT against throughput.
fn trade_off(loads: &Loads<'_>) -> Chart {
    let line = |per_mille| {
        against(loads, |s| s.throughput.output_tokens_per_s, |s| bounds::percentile(s, Time::Ttft, per_mille))
    };
    let lines = [("TTFT p50", line(500)), ("TTFT p99", line(990))];
    let (unit, factor) = unit(highest(lines.iter().flat_map(|line| &line.1)));
    let base = Chart::new(
        Words::new("TTFT against throughput", "TTFT 与吞吐量的关系"),
        AxisText::new(Words::new("output", "输出"), "tok/s"),
        AxisText::unit(unit),
    );
    Chart {
        lines: lines.into_iter().map(|(name, points)| ChartLine::new(name, scaled(points, factor))).collect(),
        levels: [
            time_levels(&loads.criteria, &[Quantity::Ttft], factor),
            upright(loads.levels(Figure::OutputTokensPerS)),
        ]
        .concat(),
        ..base
    }
}

/// Objectives at values of the x axis.
fn upright(levels: Vec<Level>) -> Vec<Level> {
    levels.into_iter().map(|level| Level { upright: true, ..level }).collect()
}
