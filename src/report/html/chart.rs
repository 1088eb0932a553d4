//! Charts as SVG, in both languages. Points become paths in a fixed coordinate system; the values that the page's script
//! shows under the pointer are stored beside them, so that they are those of the data and not of pixels.

use std::fmt::Write;

use super::axis::{Axis, Scale, exact, short};
use super::escape::escape;
use super::words::Words;

/// Width and height of the drawing, and of the margins around the plot.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// Lines with at most this many points have markers, and single points are drawn larger.
const FEW_POINTS: usize = 25;
/// An objective or a bound extends an axis up to these multiples of the highest value. A higher objective is only named.
const LINEAR_REACH: f64 = 2.5;
const LOG_REACH: f64 = 100.0;
/// About the width of a character of a tick label, on a phone.
const CHARACTER: f64 = 10.0;

/// The value of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Y {
    /// Breaks the line.
    Unknown,
    Known(f64),
    /// A figure whose measurement error is as large as the figure: its upper bound.
    AtMost(f64),
    /// A figure that is smaller than this error of each single value.
    Below(f64),
}

impl Y {
    /// Where the point is drawn.
    pub fn at(self) -> Option<f64> {
        match self {
            Y::Unknown => None,
            Y::Known(value) | Y::AtMost(value) | Y::Below(value) => Some(value),
        }
    }

    fn known(self) -> Option<f64> {
        if let Y::Known(value) = self { Some(value) } else { None }
    }

    /// In a smaller or a larger unit.
    pub fn times(self, factor: f64) -> Y {
        match self {
            Y::Unknown => Y::Unknown,
            Y::Known(value) => Y::Known(value * factor),
            Y::AtMost(value) => Y::AtMost(value * factor),
            Y::Below(value) => Y::Below(value * factor),
        }
    }
}

impl From<Option<f64>> for Y {
    fn from(value: Option<f64>) -> Y {
        value.filter(|value| value.is_finite()).map_or(Y::Unknown, Y::Known)
    }
}

/// A point of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: Y,
    /// The interval that the point summarises, if it is one.
    pub span: Option<(f64, f64)>,
    /// The lowest and the highest of several values, of which `y` is the mean.
    pub bar: Option<(f64, f64)>,
    /// Drawn beside the point.
    pub label: Option<String>,
}

impl Point {
    /// A point with a value.
    pub fn new(x: f64, y: impl Into<Y>) -> Point {
        Point { x, y: y.into(), span: None, bar: None, label: None }
    }
}

/// Points from pairs.
pub fn points(pairs: impl IntoIterator<Item = (f64, Option<f64>)>) -> Vec<Point> {
    pairs.into_iter().map(|(x, y)| Point::new(x, y)).collect()
}

/// The points with their values multiplied by `factor`.
pub fn scaled(points: Vec<Point>, factor: f64) -> Vec<Point> {
    let scale = |point: Point| Point {
        y: point.y.times(factor),
        bar: point.bar.map(|(low, high)| (low * factor, high * factor)),
        ..point
    };
    points.into_iter().map(scale).collect()
}

/// The highest value of these points; 0 without any.
pub fn highest<'a>(points: impl IntoIterator<Item = &'a Point>) -> f64 {
    let tops = points.into_iter().flat_map(|point| [point.y.at(), point.bar.map(|bar| bar.1)]);
    tops.flatten().fold(0.0, f64::max)
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Line,
    Dots,
    /// Large dots around points of other series.
    Selected,
}

/// One series of a chart.
#[derive(Clone, Debug)]
pub struct ChartLine {
    pub name: Words,
    pub points: Vec<Point>,
    pub kind: Kind,
    /// Drawn in the colour of failures.
    pub alarm: bool,
}

impl ChartLine {
    /// A line through all points.
    pub fn new(name: impl Into<Words>, points: Vec<Point>) -> ChartLine {
        ChartLine { name: name.into(), points, kind: Kind::Line, alarm: false }
    }

    /// Single points.
    pub fn dots(name: impl Into<Words>, points: Vec<Point>, alarm: bool) -> ChartLine {
        ChartLine { name: name.into(), points, kind: Kind::Dots, alarm }
    }
}

/// An objective: a dashed line across the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    pub name: String,
    pub at: f64,
    /// At a value of the x axis.
    pub upright: bool,
}

/// The name and the unit of an axis; one of them can be empty.
#[derive(Clone, Debug, Default)]
pub struct AxisText {
    pub name: Words,
    pub unit: Words,
}

impl AxisText {
    /// A name with a unit.
    pub fn new(name: impl Into<Words>, unit: impl Into<Words>) -> AxisText {
        AxisText { name: name.into(), unit: unit.into() }
    }

    /// An axis that is named by its unit.
    pub fn unit(unit: impl Into<Words>) -> AxisText {
        AxisText { name: Words::default(), unit: unit.into() }
    }

    fn label(&self) -> Words {
        let join = |name: &str, unit: &str| match (name.is_empty(), unit.is_empty()) {
            (false, false) => format!("{name}, {unit}"),
            _ => format!("{name}{unit}"),
        };
        Words::new(join(&self.name.en, &self.unit.en), join(&self.name.zh, &self.unit.zh))
    }
}

/// A chart with its texts.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: Words,
    pub x: AxisText,
    pub y: AxisText,
    pub x_scale: Scale,
    pub y_scale: Scale,
    /// Where the x axis has ticks; empty: at round values.
    pub x_ticks: Vec<f64>,
    /// The y axis extends at least to this value, for quantities with a natural maximum.
    pub y_at_least: Option<f64>,
    pub lines: Vec<ChartLine>,
    pub levels: Vec<Level>,
    /// Every level is on the axis, however far it is from the values.
    pub shows_all_levels: bool,
    /// A note below the chart.
    pub note: Words,
}

impl Chart {
    /// A chart with linear scales and without series.
    pub fn new(title: Words, x: AxisText, y: AxisText) -> Chart {
        Chart {
            title,
            x,
            y,
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            x_ticks: Vec::new(),
            y_at_least: None,
            lines: Vec::new(),
            levels: Vec::new(),
            shows_all_levels: false,
            note: Words::default(),
        }
    }

    /// The chart as a `figure`; without points a text that says so.
    pub fn render(&self) -> String {
        let mut out = format!("<figure class=\"chart\"><figcaption>{}</figcaption>", self.title.html());
        let all = || self.lines.iter().flat_map(|line| &line.points).filter(|point| point.y.at().is_some());
        if all().next().is_none() {
            let _ = write!(out, "<p class=\"empty\">{}</p></figure>", Words::new("No data.", "无数据。").html());
            return out;
        }
        // Levels and bounds that are far from all values would leave no room for these.
        let with_near = |values: Vec<f64>, scale: Scale, others: Vec<f64>| {
            let reach = match (self.shows_all_levels, scale) {
                (true, _) => f64::INFINITY,
                (false, Scale::Log) => LOG_REACH,
                (false, Scale::Linear | Scale::Tail) => LINEAR_REACH,
            };
            let highest = values.iter().copied().reduce(f64::max);
            let most = highest.map_or(f64::INFINITY, |highest| highest.max(f64::MIN_POSITIVE) * reach);
            values.into_iter().chain(others.into_iter().filter(|&other| other <= most)).collect::<Vec<f64>>()
        };
        let levels = |upright: bool| self.levels.iter().filter(move |level| level.upright == upright).map(|l| l.at);
        let bars = all().filter_map(|point| point.bar).flat_map(|bar| [bar.0, bar.1]);
        let known: Vec<f64> = all().filter_map(|point| point.y.known()).chain(bars).collect();
        let bounds = all().filter(|point| point.y.known().is_none()).filter_map(|point| point.y.at());
        let xs = with_near(all().map(|point| point.x).collect(), self.x_scale, levels(true).collect());
        let ys = with_near(known, self.y_scale, bounds.collect());
        let ys = with_near(ys, self.y_scale, levels(false).collect());
        let x = Axis::over(&xs, self.x_scale, None, (LEFT, WIDTH - RIGHT));
        let y = Axis::over(&ys, self.y_scale, self.y_at_least, (HEIGHT - BOTTOM, TOP));
        self.legend(&x, &y, &mut out);
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"{}{}{}>",
            escape(&if self.title.en == self.title.zh {
                self.title.en.clone()
            } else {
                format!("{} / {}", self.title.en, self.title.zh)
            }),
            self.x.name.attributes("x"),
            self.x.unit.attributes("xu"),
            self.y.unit.attributes("yu"),
        );
        self.frame(&x, &y, &mut out);
        for level in self.levels.iter().filter(|level| axis_of(level, &x, &y).contains(level.at)) {
            draw_level(level, &x, &y, &mut out);
        }
        for (index, line) in self.lines.iter().enumerate() {
            draw(line, index, &x, &y, &mut out);
        }
        draw_labels(&self.lines, &x, &y, &mut out);
        out.push_str("</svg>");
        self.notes(&mut out);
        out.push_str("</figure>");
        out
    }

    fn legend(&self, x: &Axis, y: &Axis, out: &mut String) {
        out.push_str("<div class=\"legend\">");
        for (index, line) in self.lines.iter().enumerate() {
            let _ = write!(out, "<span class=\"{}\">{}</span>", class(line, index), line.name.html());
        }
        for level in &self.levels {
            let beyond = match axis_of(level, x, y).contains(level.at) {
                true => String::new(),
                false => Words::new(" (beyond the chart)", "（超出图表范围）").html(),
            };
            let _ = write!(out, "<span class=\"level\">{}{beyond}</span>", escape(&level.name));
        }
        out.push_str("</div>");
    }

    fn notes(&self, out: &mut String) {
        if !self.note.is_empty() {
            let _ = write!(out, "<p class=\"note\">{}</p>", self.note.html());
        }
        let has = |which: fn(&Y) -> bool| self.lines.iter().flat_map(|line| &line.points).any(|point| which(&point.y));
        if has(|y| matches!(y, Y::AtMost(_))) {
            let note = Words::new(
                "▽ The client's measurement error exceeds the figure: the true value is at most this.",
                "▽ 客户端的测量误差超过该值：真实值不高于此。",
            );
            let _ = write!(out, "<p class=\"note\">{}</p>", note.html());
        }
        if has(|y| matches!(y, Y::Below(_))) {
            let note = Words::new(
                "▽ Smaller than the error of a timestamp, at which it is drawn.",
                "▽ 小于时间戳的误差，画在误差处。",
            );
            let _ = write!(out, "<p class=\"note\">{}</p>", note.html());
        }
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
        let mut free_from = f64::NEG_INFINITY;
        for tick in if self.x_ticks.is_empty() { x.ticks() } else { self.x_ticks.clone() } {
            let (at, text) = (x.place(tick), short(tick));
            let _ = write!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{}\"/>", HEIGHT - BOTTOM);
            // Loads can be closer to each other than their labels are wide.
            let half = text.len() as f64 * CHARACTER / 2.0;
            if at - half >= free_from {
                let below = HEIGHT - BOTTOM + 17.0;
                let _ = write!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>");
                free_from = at + half;
            }
        }
        let (middle_x, middle_y) = ((LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0);
        let _ = write!(
            out,
            "<text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\" class=\"axis\">{}</text>\
             <text transform=\"translate(13 {middle_y}) rotate(-90)\" text-anchor=\"middle\" class=\"axis\">{}</text>",
            HEIGHT - 8.0,
            self.x.label().tagged("tspan"),
            self.y.label().tagged("tspan")
        );
    }
}

fn axis_of<'a>(level: &Level, x: &'a Axis, y: &'a Axis) -> &'a Axis {
    if level.upright { x } else { y }
}

fn class(line: &ChartLine, index: usize) -> String {
    if line.alarm { "bad".to_string() } else { format!("c{}", index % 6) }
}

fn draw_level(level: &Level, x: &Axis, y: &Axis, out: &mut String) {
    let path = match level.upright {
        true => format!("M{:.1} {TOP}V{}", x.place(level.at), HEIGHT - BOTTOM),
        false => format!("M{LEFT} {:.1}H{}", y.place(level.at), WIDTH - RIGHT),
    };
    let _ = write!(out, "<path class=\"line guide\" data-level=\"{}\" d=\"{path}\"/>", escape(&level.name));
}

fn draw(line: &ChartLine, index: usize, x: &Axis, y: &Axis, out: &mut String) {
    let class = class(line, index);
    let kind = match (line.kind, line.points.len() <= FEW_POINTS) {
        (Kind::Selected, _) => "dots guide",
        (Kind::Line, _) => "line",
        (Kind::Dots, true) => "dots mark",
        (Kind::Dots, false) => "dots",
    };
    let place = |point: &Point| {
        let value = point.y.known().filter(|&value| y.scale.has(value))?;
        Some((x.place(point.x), y.place(value)))
    };
    let (mut path, mut values) = (String::new(), String::new());
    let mut pen_down = false;
    for (i, point) in line.points.iter().enumerate() {
        let Some((px, py)) = place(point) else {
            pen_down = false;
            continue;
        };
        add_value(point, &mut values);
        let alone = !pen_down && line.points.get(i + 1).is_none_or(|next| place(next).is_none());
        if line.kind != Kind::Line || alone {
            // A stroke of length 0 is drawn as a round dot.
            let _ = write!(path, "M{px:.1} {py:.1}h0");
        } else {
            let _ = write!(path, "{}{px:.1} {py:.1}", if pen_down { 'L' } else { 'M' });
            pen_down = true;
        }
    }
    let name = line.name.attributes("name");
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"{kind} {class}\"{name} data-v=\"{values}\" d=\"{path}\"/>");
    }
    if line.kind == Kind::Line && line.points.len() <= FEW_POINTS {
        let marks = line.points.iter().filter_map(place).map(|(px, py)| format!("M{px:.1} {py:.1}h0"));
        let _ = write!(out, "<path class=\"dots mark {class}\" d=\"{}\"/>", marks.collect::<String>());
    }
    draw_bounds(line, &class, &name, x, y, out);
    draw_bars(line, &class, x, y, out);
}

/// The labels of the points, each in the first place beside its point where it covers no other label. A label without
/// such a place is left out; its value is shown under the pointer.
fn draw_labels(lines: &[ChartLine], x: &Axis, y: &Axis, out: &mut String) {
    /// Distance of a label from its point, and its height, on a phone.
    const GAP: f64 = 6.0;
    const LABEL_HEIGHT: f64 = 17.0;
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for point in lines.iter().flat_map(|line| &line.points) {
        let Some(label) = &point.label else { continue };
        let Some(value) = point.y.known().filter(|&value| y.scale.has(value)) else { continue };
        let (px, py) = (x.place(point.x), y.place(value));
        let width = label.chars().count() as f64 * CHARACTER;
        let (above, below) = (py - GAP, py + GAP + 0.7 * LABEL_HEIGHT);
        let places = [(px + GAP, above), (px + GAP, below), (px - GAP - width, above), (px - GAP - width, below)];
        let area = |(left, base): (f64, f64)| [left, base - LABEL_HEIGHT, left + width, base];
        let is_free = |place: &(f64, f64)| {
            let [left, top, right, base] = area(*place);
            let apart = |other: &[f64; 4]| right <= other[0] || left >= other[2] || base <= other[1] || top >= other[3];
            left >= LEFT && right <= WIDTH && top >= 0.0 && base <= HEIGHT - BOTTOM && taken.iter().all(apart)
        };
        let Some(place) = places.into_iter().find(is_free) else { continue };
        taken.push(area(place));
        // A label at the left of its point ends there, however wide its characters are.
        let (at, anchor) = if place.0 < px { (px - GAP, " text-anchor=\"end\"") } else { (place.0, "") };
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\"{anchor}>{}</text>", place.1, escape(label));
    }
}

/// The points that are only known to be below a value, as triangles at that value.
fn draw_bounds(line: &ChartLine, class: &str, name: &str, x: &Axis, y: &Axis, out: &mut String) {
    let (mut path, mut values) = (String::new(), String::new());
    for point in line.points.iter().filter(|point| matches!(point.y, Y::AtMost(_) | Y::Below(_))) {
        let Some(at) = point.y.at().filter(|&at| y.scale.has(at)) else { continue };
        // One that is beyond the chart is at its upper edge.
        let _ = write!(path, "M{:.1} {:.1}l-4 -7h8z", x.place(point.x), y.place(at).max(TOP));
        add_value(point, &mut values);
    }
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"atmost {class}\"{name} data-v=\"{values}\" d=\"{path}\"/>");
    }
}

fn draw_bars(line: &ChartLine, class: &str, x: &Axis, y: &Axis, out: &mut String) {
    let mut path = String::new();
    for point in &line.points {
        let Some((low, high)) = point.bar.filter(|&(low, high)| y.scale.has(low) && low < high) else { continue };
        let (at, low, high) = (x.place(point.x), y.place(low), y.place(high));
        let _ = write!(path, "M{at:.1} {low:.1}V{high:.1}M{0:.1} {low:.1}h8M{0:.1} {high:.1}h8", at - 4.0);
    }
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"bar {class}\" d=\"{path}\"/>");
    }
}

/// Adds `x|y|label` of a point, separated from the one before by `;`.
fn add_value(point: &Point, values: &mut String) {
    if !values.is_empty() {
        values.push(';');
    }
    match point.span {
        Some((from, to)) => values.push_str(&format!("{}–{}", exact(from), exact(to))),
        None => values.push_str(&exact(point.x)),
    }
    let sign = match point.y {
        Y::AtMost(_) => "≤ ",
        Y::Below(_) => "&lt; ",
        Y::Unknown | Y::Known(_) => "",
    };
    let _ = write!(values, "|{sign}{}", point.y.at().map_or_else(String::new, exact));
    if let Some((low, high)) = point.bar.filter(|bar| bar.0 < bar.1) {
        let _ = write!(values, " ({} … {})", exact(low), exact(high));
    }
    if let Some(label) = &point.label {
        let _ = write!(values, "|{}", escape(label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>, y_scale: Scale) -> Chart {
        let lines = vec![ChartLine::new("a <b>", points)];
        Chart { y_scale, lines, ..Chart::new("t".into(), AxisText::unit("s"), AxisText::unit("ms")) }
    }

    #[test]
    fn every_chart_is_drawn_without_impossible_numbers() {
        for pairs in [vec![], vec![(0.0, None)], vec![(0.0, Some(0.0))], vec![(1.0, Some(2.0)), (1.0, None)]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
                let svg = chart(points(pairs.clone()), scale).render();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        assert!(chart(points([(0.0, Some(1.0))]), Scale::Linear).render().contains("a &lt;b&gt;"));
        assert!(chart(vec![], Scale::Linear).render().contains("No data."));
    }

    #[test]
    fn values_under_the_pointer_are_those_of_the_data() {
        let mut all = points([(1.0, Some(0.0971)), (2.0, None), (3.0, Some(97.126_49))]);
        all[0].bar = Some((0.095, 0.099));
        all[2].span = Some((2.5, 3.5));
        all.push(Point { label: Some("<8>".to_string()), ..Point::new(4.0, Y::AtMost(0.02)) });
        all.push(Point::new(5.0, Y::Below(0.02)));
        let svg = chart(all, Scale::Linear).render();
        assert!(svg.contains("data-v=\"1|0.0971 (0.095 … 0.099);2.5–3.5|97.126\""), "{svg}");
        assert!(svg.contains("data-v=\"4|≤ 0.02|&lt;8&gt;;5|&lt; 0.02\""), "{svg}");
        assert_eq!((svg.matches("class=\"bar").count(), svg.matches("h8z").count()), (1, 2));
    }

    #[test]
    fn values_without_a_figure_are_marked_and_not_drawn_as_0() {
        let svg = chart(vec![Point::new(1.0, Y::AtMost(0.5)), Point::new(2.0, Some(1.0))], Scale::Log).render();
        assert!(svg.contains("class=\"atmost c0\"") && svg.contains("at most this"), "{svg}");
    }

    #[test]
    fn objectives_are_drawn_or_named() {
        let level = |at| Level { name: format!("p99<={at}"), at, upright: false };
        let base = chart(points([(1.0, Some(1.0))]), Scale::Linear);
        let svg = Chart { levels: vec![level(2.0), level(9.0)], ..base }.render();
        assert_eq!((svg.matches("line guide").count(), svg.matches("beyond the chart").count()), (1, 1));
        assert!(svg.contains("<span class=\"level\">p99&lt;=9"), "{svg}");
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let labelled = |x: f64, y: f64, label: &str| Point { label: Some(label.to_string()), ..Point::new(x, Some(y)) };
        let same = (0..6).map(|i| labelled(1.0, 1.0, &format!("<{i}>"))).chain([labelled(2.0, 2.0, "8")]);
        let svg = chart(same.collect(), Scale::Linear).render();
        let drawn = |label: &str| svg.matches(&format!("&lt;{label}&gt;</text>")).count();
        // Four places beside a point, then none.
        assert_eq!((0..6).map(|i| drawn(&i.to_string())).sum::<usize>(), 4, "{svg}");
        assert!(svg.contains(">8</text>"), "{svg}");
        let places: Vec<&str> = svg.split("<text x=").filter(|text| text.contains("&lt;")).collect();
        assert!(places.windows(2).all(|pair| pair[0][..14] != pair[1][..14]), "{places:?}");
    }

    #[test]
    fn ticks_are_at_the_given_values_and_labels_do_not_overlap() {
        let base = chart(points([(1.0, Some(1.0)), (1000.0, Some(2.0))]), Scale::Linear);
        let svg = Chart { x_ticks: vec![1.0, 2.0, 500.0, 1000.0], ..base }.render();
        for (label, is_there) in
            [(">1</text>", true), (">2</text>", true), (">500</text>", true), (">250</text>", false)]
        {
            assert_eq!(svg.contains(label), is_there, "{label}");
        }
        let x_labels = svg.matches("text-anchor=\"middle\">").count();
        assert_eq!(x_labels, 3, "the label of 2 has no room beside that of 1");
    }
}
