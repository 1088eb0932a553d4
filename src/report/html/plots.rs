//! The charts of a run and of a sweep.

use hdrhistogram::Histogram;

use super::chart::{Chart, ChartLine, Scale};
use super::over_time::{Points, interval_note, over_time, scaled, unit};
use super::run::Run;
use super::server;
use super::timeline::{cumulative, percentile_curve, thin};
use crate::record::Phase;
use crate::report::language::Language;
use crate::report::repeats::Spread;
use crate::stats::Summary;
use crate::stats::samples::Sample;

/// Points of a cumulative curve.
const CURVE_POINTS: usize = 400;

/// A name and the figure of a run that it shows.
type Curve<'a> = (&'a str, fn(&Summary) -> Option<f64>);

/// The charts of one run. At most about `most_dots` requests are drawn as single points.
pub fn run_charts(run: &Run, most_dots: usize, language: Language) -> Vec<Chart> {
    let mut charts = vec![cdf(run, language), percentiles(run, language)];
    if run.summary.series.ttft_s.count > 0 {
        charts.extend([ttft_over_time(run, language), itl_over_time(run, language)]);
    }
    charts.push(in_flight(run, language));
    if run.summary.generates_text() {
        charts.push(tokens_over_time(run, language));
    }
    charts.extend([scatter(run, most_dots, language), client_error(run, language)]);
    // Without streams no curve has a first token.
    charts.iter_mut().for_each(|chart| chart.lines.retain(|line| !line.points.is_empty()));
    charts.extend(server::charts(run, language));
    charts
}

fn sorted_s(run: &Run, value: fn(&Sample) -> Option<f64>) -> Vec<f32> {
    let mut values: Vec<f32> =
        run.samples.iter().filter(|sample| sample.ok).filter_map(value).map(|ns| (ns / 1e9) as f32).collect();
    values.sort_unstable_by(f32::total_cmp);
    values
}

fn ttft(sample: &Sample) -> Option<f64> {
    sample.ttft.map(|ns| ns as f64)
}

fn latency(sample: &Sample) -> Option<f64> {
    Some(sample.latency as f64)
}

fn cdf(run: &Run, language: Language) -> Chart {
    let curves = [("TTFT", sorted_s(run, ttft)), (language.pick("Latency", "端到端时延"), sorted_s(run, latency))];
    let largest = curves.iter().filter_map(|curve| curve.1.last()).fold(0.0f32, |a, &b| a.max(b));
    let (name, factor) = unit(f64::from(largest));
    let line = |(title, values): &(&str, Vec<f32>)| {
        let points = cumulative(values, CURVE_POINTS).into_iter().map(|(x, y)| (x * factor, y)).collect();
        ChartLine::new(*title, points)
    };
    Chart {
        title: language.pick("Latency distribution (CDF)", "时延分布 (CDF)").to_string(),
        x_label: name.to_string(),
        y_label: language.pick("requests at or below, %", "不超过该值的请求占比 %").to_string(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        y_at_least: Some(100.0),
        lines: curves.iter().map(line).collect(),
        note: String::new(),
    }
}

fn percentiles(run: &Run, language: Language) -> Chart {
    let curves: [(&str, Points); 4] = [
        ("TTFT", percentile_curve(&sorted_s(run, ttft))),
        ("ITL", percentile_curve(run.timeline.gaps_s())),
        ("TPOT", percentile_curve(&sorted_s(run, |sample| sample.tpot))),
        (language.pick("Latency", "端到端时延"), percentile_curve(&sorted_s(run, latency))),
    ];
    Chart {
        title: language.pick("Percentile curves", "百分位数曲线").to_string(),
        x_label: language.pick("percentile", "百分位数").to_string(),
        y_label: "ms".to_string(),
        x_scale: Scale::Tail,
        y_scale: Scale::Log,
        y_at_least: None,
        lines: curves.into_iter().map(|(name, points)| ChartLine::new(name, scaled(points, 1e3))).collect(),
        note: language
            .pick(
                "Each further nine has the same width; every curve ends at its largest sample.",
                "横轴每多一个 9 占相同宽度；曲线终点为最大样本。",
            )
            .to_string(),
    }
}

fn ttft_over_time(run: &Run, language: Language) -> Chart {
    let ([p50, p99], interval_s) = run.timeline.due_quantiles(&run.samples, |sample| sample.ttft, [500, 990]);
    let title = language.pick("TTFT over time", "TTFT 随时间变化");
    Chart {
        note: interval_note(interval_s, language),
        ..over_time(run, title, vec![("p50", p50), ("p99", p99)], language)
    }
}

fn itl_over_time(run: &Run, language: Language) -> Chart {
    let at = |per_mille| run.timeline.gap_quantile(per_mille);
    let title = language.pick("ITL over time", "ITL 随时间变化");
    over_time(run, title, vec![("p50", at(500)), ("p99", at(990))], language)
}

fn in_flight(run: &Run, language: Language) -> Chart {
    let (mean, most) = run.timeline.in_flight(&run.samples);
    let curves = vec![(language.pick("mean", "平均"), mean), (language.pick("max", "最大"), most)];
    let mut chart = over_time(run, language.pick("Requests in flight", "在途请求数"), Vec::new(), language);
    chart.lines = curves.into_iter().map(|(name, points)| ChartLine::new(name, points)).collect();
    chart.y_label = language.pick("requests", "请求数").to_string();
    chart
}

fn tokens_over_time(run: &Run, language: Language) -> Chart {
    let title = language.pick("Output tokens per second, by arrival", "每秒输出 token 数（按到达时刻）");
    let mut chart = over_time(run, title, Vec::new(), language);
    chart.lines = vec![ChartLine::new("tok/s", run.timeline.tokens_per_s())];
    chart.y_label = "tok/s".to_string();
    chart
}

fn scatter(run: &Run, most_dots: usize, language: Language) -> Chart {
    let (name, factor) = unit(run.samples.iter().map(|sample| sample.latency).max().unwrap_or(0) as f64 / 1e9);
    let dots = |value: &dyn Fn(&Sample) -> Option<u64>| {
        let points = run
            .samples
            .iter()
            .filter_map(|sample| Some((run.timeline.seconds(sample.due), value(sample)? as f64 / 1e9 * factor)));
        thin(points.collect(), most_dots / 2)
    };
    let (latencies, thinned) = dots(&|sample| sample.ok.then_some(sample.latency));
    let (ttfts, _) = dots(&|sample| sample.ttft.filter(|_| sample.ok));
    let (failed, failed_thinned) = dots(&|sample| (!sample.ok).then_some(sample.latency));
    let mut lines = vec![
        ChartLine::dots(language.pick("Latency", "端到端时延"), latencies, false),
        ChartLine::dots("TTFT", ttfts, false),
    ];
    if !failed.is_empty() {
        lines.push(ChartLine::dots(language.pick("failed", "失败"), failed, true));
    }
    let note = match (thinned || failed_thinned, language) {
        (false, _) => language.pick("One dot per request.", "每个请求一个点。"),
        (true, Language::En) => {
            "Too many requests to draw: of each group of neighbours the shortest and the longest are shown."
        }
        (true, Language::Zh) => "请求过多：每组相邻请求只画时延最短与最长的。",
    };
    Chart {
        title: language.pick("Each request", "逐个请求").to_string(),
        x_label: language.pick("due, seconds since the start", "计划时刻（开始后的秒数）").to_string(),
        y_label: name.to_string(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        y_at_least: None,
        lines,
        note: note.to_string(),
    }
}

fn client_error(run: &Run, language: Language) -> Chart {
    let of_samples = |value: fn(&Sample) -> Option<u64>| {
        let mut values: Vec<f32> = run.samples.iter().filter_map(value).map(|ns| ns as f32 / 1e3).collect();
        values.sort_unstable_by(f32::total_cmp);
        percentile_curve(&values)
    };
    let lines = vec![
        ChartLine::new(language.pick("receive lag", "接收滞后"), receive_lag(run)),
        ChartLine::new(language.pick("send lag", "发送滞后"), of_samples(|sample| sample.send_lag)),
        ChartLine::new(language.pick("turnaround", "周转时间"), of_samples(|sample| sample.turnaround)),
    ];
    Chart {
        title: language.pick("The client's own delays", "客户端自身延迟").to_string(),
        x_label: language.pick("percentile", "百分位数").to_string(),
        y_label: "µs".to_string(),
        x_scale: Scale::Tail,
        y_scale: Scale::Log,
        y_at_least: None,
        lines,
        note: String::new(),
    }
}

/// Quantiles of the workers' merged histograms, microseconds.
fn receive_lag(run: &Run) -> Points {
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
    percents.map(|percent| (percent, Some(merged.value_at_quantile(percent / 100.0) as f64 / 1e3))).collect()
}

/// Load curves over the runs of a sweep.
pub fn sweep_charts(runs: &[&Summary], language: Language) -> Vec<Chart> {
    let by_rate = runs.iter().all(|run| run.facts.parallel.is_none());
    let load = move |s: &Summary| if by_rate { s.facts.rate_per_s } else { s.facts.parallel.map(f64::from) };
    let mut ordered: Vec<(f64, &Summary)> = runs.iter().filter_map(|run| Some((load(run)?, *run))).collect();
    ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
    let spread = ordered.last().map_or(1.0, |last| last.0) / ordered.first().map_or(1.0, |first| first.0);
    let x_scale = if spread > 8.0 { Scale::Log } else { Scale::Linear };
    let x_label = if by_rate {
        language.pick("request rate, req/s", "到达率 (req/s)")
    } else {
        language.pick("concurrency", "并发数")
    };
    let chart = |title: &str, y_label: &str, curves: &[Curve]| Chart {
        title: title.to_string(),
        x_label: x_label.to_string(),
        y_label: y_label.to_string(),
        x_scale,
        y_scale: Scale::Linear,
        y_at_least: None,
        lines: curves.iter().map(|(name, of)| ChartLine::new(*name, over_loads(&ordered, *of))).collect(),
        note: String::new(),
    };
    let mut charts = vec![
        chart(language.pick("Requests per second", "请求吞吐量"), "req/s", &[("RPS", |s| s.throughput.requests_per_s)]),
        chart(
            language.pick("Tokens per second", "token 吞吐量"),
            "tok/s",
            &[
                (language.pick("output", "输出"), |s| s.throughput.output_tokens_per_s),
                (language.pick("total", "总计"), |s| s.throughput.total_tokens_per_s),
            ],
        ),
        chart(
            language.pick("TTFT over load", "TTFT 随负载变化"),
            "s",
            &[
                (language.pick("avg", "平均"), |s| s.series.ttft_s.mean),
                ("p50", |s| s.series.ttft_s.value(500)),
                ("p99", |s| s.series.ttft_s.value(990)),
            ],
        ),
        chart(
            language.pick("TPOT and ITL over load", "TPOT 与 ITL 随负载变化"),
            "ms",
            &[
                (language.pick("TPOT avg", "TPOT 平均"), |s| s.series.tpot_s.mean.map(|s| s * 1e3)),
                ("TPOT p99", |s| s.series.tpot_s.value(990).map(|s| s * 1e3)),
                ("ITL p50", |s| s.series.itl_s.value(500).map(|s| s * 1e3)),
                ("ITL p99", |s| s.series.itl_s.value(990).map(|s| s * 1e3)),
            ],
        ),
        chart(
            language.pick("Latency over load", "端到端时延随负载变化"),
            "s",
            &[
                (language.pick("avg", "平均"), |s| s.series.latency_s.mean),
                ("p50", |s| s.series.latency_s.value(500)),
                ("p99", |s| s.series.latency_s.value(990)),
            ],
        ),
    ];
    charts.push(trade_off(&ordered, language));
    charts
}

/// A figure at each load, the mean of its runs.
fn over_loads(ordered: &[(f64, &Summary)], of: fn(&Summary) -> Option<f64>) -> Points {
    let of_load = |runs: &[(f64, &Summary)]| {
        let runs_at = runs.iter().map(|(_, run)| *run).collect::<Vec<_>>();
        (runs[0].0, Spread::compute(&runs_at, of).map(|spread| spread.mean))
    };
    ordered.chunk_by(|a, b| a.0 == b.0).map(of_load).collect()
}

/// Latency against throughput, with the loads connected in their order.
fn trade_off(ordered: &[(f64, &Summary)], language: Language) -> Chart {
    let throughput = over_loads(ordered, |s| s.throughput.output_tokens_per_s);
    let line = |of: fn(&Summary) -> Option<f64>| {
        let pairs = throughput.iter().zip(over_loads(ordered, of));
        pairs.filter_map(|((_, rate), (_, value))| Some(((*rate)?, value))).collect()
    };
    Chart {
        title: language.pick("TTFT against throughput", "TTFT 与吞吐量的关系").to_string(),
        x_label: "tok/s".to_string(),
        y_label: "s".to_string(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        y_at_least: None,
        lines: vec![
            ChartLine::new("TTFT p50", line(|s| s.series.ttft_s.value(500))),
            ChartLine::new("TTFT p99", line(|s| s.series.ttft_s.value(990))),
        ],
        note: String::new(),
    }
}
