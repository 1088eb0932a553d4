//! Charts as SVG. Points become paths in a fixed coordinate system. The page's script computes the values under the
//! pointer from the paths, so that they are not stored twice.

use std::fmt::Write;
use std::ops::Range;

use crate::visible::{controls_display, push_escaped};

/// Width and height of the drawing, and of the margins around the plot.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// Lines with at most this many points have markers, and single points are drawn larger.
const FEW_POINTS: usize = 25;

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
    /// Percentiles from 0 to 100; each further nine has the same width.
    Tail,
}

impl Scale {
    fn apply(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Tail => -(1.0 - value / 100.0).max(1e-9).log10(),
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Scale::Linear => "lin",
            Scale::Log => "log",
            Scale::Tail => "tail",
        }
    }
}

/// One series of a chart. A `None` breaks the line.
#[derive(Clone, Debug)]
pub struct ChartLine {
    pub name: String,
    pub points: Vec<(f64, Option<f64>)>,
    /// Single points instead of a line.
    pub dots: bool,
    /// Drawn in the colour of failures.
    pub alarm: bool,
    /// Not measured values but a guide: a bound (dashed, without markers) or selected points (large dots).
    pub guide: bool,
}

impl ChartLine {
    /// A line through all points.
    pub fn new(name: impl Into<String>, points: Vec<(f64, Option<f64>)>) -> ChartLine {
        ChartLine { name: name.into(), points, dots: false, alarm: false, guide: false }
    }

    /// Single points.
    pub fn dots(name: impl Into<String>, points: Vec<(f64, f64)>, alarm: bool) -> ChartLine {
        let points = points.into_iter().map(|(x, y)| (x, Some(y))).collect();
        ChartLine { name: name.into(), points, dots: true, alarm, guide: false }
    }

    /// A bound at `y` from one end of the loads to the other.
    pub fn level(name: impl Into<String>, y: f64, ends: &Range<f64>) -> ChartLine {
        let points = vec![(ends.start, Some(y)), (ends.end, Some(y))];
        ChartLine { name: name.into(), points, dots: false, alarm: true, guide: true }
    }
}

/// A chart with its labels.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x_scale: Scale,
    pub y_scale: Scale,
    /// The axis extends at least to this value, for quantities with a natural maximum.
    pub y_at_least: Option<f64>,
    pub lines: Vec<ChartLine>,
    /// A note below the chart.
    pub note: String,
}

/// One axis: its domain in scaled values, and its position in the drawing.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = (self.scale.apply(value) - self.from) / (self.to - self.from);
        self.begin + share * (self.end - self.begin)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(self.from, self.to),
            Scale::Log => log_ticks(self.from, self.to),
            Scale::Tail => {
                let all = [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999];
                all.into_iter().filter(|&value| self.scale.apply(value) <= self.to + 1e-9).collect()
            }
        }
    }
}

impl Chart {
    /// The chart as a `figure`; without points the text `nothing`.
    pub fn render(&self, nothing: &str) -> String {
        let mut out = format!("<figure class=\"chart\"><figcaption>{}</figcaption>", escape(&self.title));
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs: Vec<f64> = points().filter(|point| point.1.is_some()).map(|point| point.0).collect();
        let ys: Vec<f64> = points().filter_map(|point| point.1).collect();
        if ys.is_empty() {
            let _ = write!(out, "<p class=\"empty\">{}</p></figure>", escape(nothing));
            return out;
        }
        let x = axis(&xs, self.x_scale, None, (LEFT, WIDTH - RIGHT));
        let y = axis(&ys, self.y_scale, self.y_at_least, (HEIGHT - BOTTOM, TOP));
        self.legend(&mut out);
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-x=\"{} {} {} {} {}\" \
             data-y=\"{} {} {} {} {}\">",
            escape(&self.title),
            x.scale.tag(),
            x.from,
            x.to,
            x.begin,
            x.end,
            y.scale.tag(),
            y.from,
            y.to,
            y.begin,
            y.end,
        );
        self.frame(&x, &y, &mut out);
        for (index, line) in self.lines.iter().enumerate() {
            draw(line, index, &x, &y, &mut out);
        }
        out.push_str("</svg>");
        if !self.note.is_empty() {
            let _ = write!(out, "<p class=\"note\">{}</p>", escape(&self.note));
        }
        out.push_str("</figure>");
        out
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<div class=\"legend\">");
        for (index, line) in self.lines.iter().enumerate() {
            let _ = write!(out, "<span class=\"{}\">{}</span>", class(line, index), escape(&line.name));
        }
        out.push_str("</div>");
    }

    /// Grid, ticks and labels.
    fn frame(&self, x: &Axis, y: &Axis, out: &mut String) {
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}\
                 </text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 17.0,
                short(tick)
            );
        }
        let (middle_x, middle_y) = ((LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0);
        let _ = write!(
            out,
            "<text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\" class=\"axis\">{}</text>\
             <text transform=\"translate(13 {middle_y}) rotate(-90)\" text-anchor=\"middle\" class=\"axis\">{}</text>",
            HEIGHT - 8.0,
            escape(&self.x_label),
            escape(&self.y_label)
        );
    }
}

fn class(line: &ChartLine, index: usize) -> String {
    if line.alarm { "bad".to_string() } else { format!("c{}", index % 6) }
}

fn draw(line: &ChartLine, index: usize, x: &Axis, y: &Axis, out: &mut String) {
    let kind = match (line.dots, line.points.len() <= FEW_POINTS) {
        (false, _) if line.guide => "line guide",
        (true, _) if line.guide => "dots guide",
        (false, _) => "line",
        (true, true) => "dots mark",
        (true, false) => "dots",
    };
    let _ = write!(out, "<path class=\"{kind} {}\" data-name=\"{}\" d=\"", class(line, index), escape(&line.name));
    let mut pen_down = false;
    for (i, &(at, value)) in line.points.iter().enumerate() {
        let Some(value) = value.filter(|&value| y.scale != Scale::Log || value > 0.0) else {
            pen_down = false;
            continue;
        };
        let (px, py) = (x.place(at), y.place(value));
        let alone = !pen_down && line.points.get(i + 1).is_none_or(|next| next.1.is_none());
        if line.dots || alone {
            // A stroke of length 0 is drawn as a round dot.
            let _ = write!(out, "M{px:.1} {py:.1}h0");
        } else {
            let _ = write!(out, "{}{px:.1} {py:.1}", if pen_down { 'L' } else { 'M' });
            pen_down = true;
        }
    }
    out.push_str("\"/>");
    if !line.dots && !line.guide && line.points.len() <= FEW_POINTS {
        mark(line, index, x, y, out);
    }
}

/// Markers at the points of a line with few points.
fn mark(line: &ChartLine, index: usize, x: &Axis, y: &Axis, out: &mut String) {
    let _ = write!(out, "<path class=\"dots mark {}\" d=\"", class(line, index));
    for &(at, value) in &line.points {
        if let Some(value) = value.filter(|&value| y.scale != Scale::Log || value > 0.0) {
            let _ = write!(out, "M{:.1} {:.1}h0", x.place(at), y.place(value));
        }
    }
    out.push_str("\"/>");
}

/// An axis that contains all values.
fn axis(values: &[f64], scale: Scale, at_least: Option<f64>, (begin, end): (f64, f64)) -> Axis {
    let usable = values.iter().copied().filter(|&value| scale != Scale::Log || value > 0.0);
    let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low > high { (1.0, 1.0) } else { (low, high.max(at_least.unwrap_or(high))) };
    let (from, to) = match scale {
        Scale::Linear => (low.min(0.0), high),
        Scale::Log => (scale.apply(low) - 0.03, scale.apply(high) + 0.03),
        Scale::Tail => (0.0, scale.apply(high)),
    };
    let to = if to > from { to } else { from + 1.0 };
    // A margin above the highest point.
    let to = if scale == Scale::Linear && at_least.is_none() { from + (to - from) * 1.04 } else { to };
    Axis { scale, from, to, begin, end }
}

fn linear_ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= rough).unwrap_or(rough);
    let first = (from / step).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

fn log_ticks(from: f64, to: f64) -> Vec<f64> {
    let decades = (from.floor() as i32)..=(to.ceil() as i32);
    let factors: &[f64] = if to - from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
    let inside: Vec<f64> = all.filter(|tick| (from..=to).contains(&tick.log10())).collect();
    if inside.is_empty() { vec![10f64.powf((from + to) / 2.0)] } else { inside }
}

/// The label of a tick.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let (value, suffix) = match size {
        s if s >= 1e9 => (value / 1e9, "G"),
        s if s >= 1e6 => (value / 1e6, "M"),
        s if s >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        0.0 => 0,
        v if v >= 100.0 => 3,
        v if v >= 1.0 => 3,
        v => (2.0 - v.log10().floor()) as usize,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// Escapes text for HTML, including attributes. Characters that control the display become visible.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if controls_display(c) && !matches!(c, '\n' | '\t') => push_escaped(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>, y_scale: Scale) -> String {
        let lines = vec![ChartLine::new("a <b>", points)];
        let words = || "t".to_string();
        Chart {
            title: words(),
            x_label: words(),
            y_label: words(),
            x_scale: Scale::Linear,
            y_scale,
            y_at_least: None,
            lines,
            note: String::new(),
        }
        .render("nothing")
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(linear_ticks(0.0, 1.04).len(), 6);
        assert_eq!(linear_ticks(0.0, 52.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(log_ticks(0.0, 1.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!([0.0, 0.5, 12.0, 12_000.0, 0.00123].map(short), ["0", "0.5", "12", "12k", "0.00123"]);
    }

    #[test]
    fn every_chart_is_drawn_without_impossible_numbers() {
        for points in [vec![], vec![(0.0, None)], vec![(0.0, Some(0.0))], vec![(1.0, Some(2.0)), (1.0, None)]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
                let svg = chart(points.clone(), scale);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        assert!(chart(vec![(0.0, Some(1.0))], Scale::Linear).contains("a &lt;b&gt;"));
        assert!(chart(vec![], Scale::Linear).contains("nothing"));
    }
}
