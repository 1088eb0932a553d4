//! Tables in `+---+` frames. Widths are terminal columns: a Chinese character has two.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use super::language::Language;
use crate::stats::quantile::SAMPLES_BEYOND;
use crate::visible::{visible, visible_line};

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
    Center,
    /// Numbers are aligned at their decimal points, the widest at the right edge.
    Decimal,
}

/// A table with a header row.
#[derive(Clone, Debug)]
pub struct Table {
    pub head: Vec<String>,
    pub aligns: Vec<Align>,
    pub rows: Vec<Vec<String>>,
    /// A line between all rows, and a double line below the header.
    pub grid: bool,
}

impl Table {
    /// The table as lines, each with a newline. A line break in the header starts another line of it.
    pub fn render(&self) -> String {
        let heads = self.heads();
        let columns: Vec<Vec<String>> = (0..self.head.len()).map(|column| self.column(column)).collect();
        let width_of = |(head, cells): (&Vec<String>, &Vec<String>)| {
            head.iter().chain(cells).map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = heads.iter().zip(&columns).map(width_of).collect();
        let line = |fill: &str| {
            let dashes: Vec<String> = widths.iter().map(|width| fill.repeat(width + 2)).collect();
            format!("+{}+\n", dashes.join("+"))
        };
        let row = |columns: &[Vec<String>], index: usize, aligned: fn(Align) -> Align| {
            let padded =
                |((cells, &width), &align): ((&Vec<String>, &usize), &Align)| pad(&cells[index], width, aligned(align));
            let cells: Vec<String> = columns.iter().zip(&widths).zip(&self.aligns).map(padded).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let head: String = (0..self.head_lines()).map(|index| row(&heads, index, head_align)).collect();
        let mut out = line("-") + &head + &line(if self.grid { "=" } else { "-" });
        for index in 0..self.rows.len() {
            out.push_str(&row(&columns, index, |align| align));
            if self.grid || index + 1 == self.rows.len() {
                out.push_str(&line("-"));
            }
        }
        out
    }

    /// Lines of the header.
    pub(crate) fn head_lines(&self) -> usize {
        self.head.iter().map(|head| head.split('\n').count()).max().unwrap_or(1)
    }

    /// The header of each column in as many lines as the longest has, empty ones above.
    fn heads(&self) -> Vec<Vec<String>> {
        let most = self.head_lines();
        let lines = |head: &String| {
            let lines: Vec<String> = head.split('\n').map(|line| visible_line(line).into_owned()).collect();
            [vec![String::new(); most - lines.len()], lines].concat()
        };
        self.head.iter().map(lines).collect()
    }

    /// The table with as many of its columns as fit, at least the first.
    pub(crate) fn fitted(mut self, width: usize) -> Table {
        while self.head.len() > 1 && self.width() > width {
            self.head.pop();
            self.aligns.pop();
            self.rows.iter_mut().for_each(|row| drop(row.pop()));
        }
        self
    }

    /// Width of the table in terminal columns.
    pub fn width(&self) -> usize {
        self.render().lines().next().map_or(0, UnicodeWidthStr::width)
    }

    /// The cells of a column; decimal ones are padded after the point.
    fn column(&self, column: usize) -> Vec<String> {
        let cells: Vec<Cow<'_, str>> = self.rows.iter().map(|row| visible_line(&row[column])).collect();
        let behind = |cell: &str| cell.find('.').map_or(0, |point| cell.len() - point);
        let most = match self.aligns[column] {
            Align::Decimal => cells.iter().filter(|cell| is_number(cell)).map(|cell| behind(cell)).max().unwrap_or(0),
            Align::Left | Align::Right | Align::Center => 0,
        };
        let fitted = cells.into_iter().map(|cell| {
            let fill = if most > 0 && is_number(&cell) { most - behind(&cell) } else { 0 };
            format!("{cell}{}", " ".repeat(fill))
        });
        fitted.collect()
    }
}

fn is_number(cell: &str) -> bool {
    cell.strip_suffix('*').unwrap_or(cell).parse::<f64>().is_ok()
}

fn head_align(align: Align) -> Align {
    if align == Align::Decimal { Align::Right } else { align }
}

/// The text padded with spaces to `width` columns.
fn pad(text: &str, width: usize, align: Align) -> String {
    let missing = width.saturating_sub(text.width());
    let left = match align {
        Align::Left => 0,
        Align::Right | Align::Decimal => missing,
        Align::Center => missing / 2,
    };
    format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))
}

/// The text truncated to `width` columns, with `...` for the missing part.
pub fn cut(text: &str, width: usize) -> String {
    let clean = visible_line(text);
    if clean.width() <= width {
        return clean.into_owned();
    }
    let mut out = String::new();
    for c in clean.chars() {
        if out.width() + c.to_string().width() + 3 > width {
            break;
        }
        out.push(c);
    }
    out + "..."
}

/// The text in lines of at most `width` columns. The first starts with `first`, the others with as many spaces.
pub fn wrap(first: &str, text: &str, width: usize) -> String {
    let first = visible(first);
    let indent = first.width();
    let (mut out, mut used) = (first.to_string(), indent);
    for word in &with_units(&visible(text)) {
        let wide = word.width();
        if used > indent && used + 1 + wide > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
        }
        if used > indent {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += wide;
    }
    out.push('\n');
    out
}

/// Whether a word is a unit, which stays on the line of its number.
pub fn is_unit(word: &str) -> bool {
    const UNITS: [&str; 8] = ["%", "s", "ms", "µs", "ns", "req/s", "tok/s", "MB"];
    UNITS.contains(&word.trim_end_matches(['.', ',', ':', ';', ')']))
}

/// The words of a text; a number and its unit are one word.
fn with_units(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut().filter(|last| is_unit(word) && last.ends_with(|c: char| c.is_ascii_digit())) {
            Some(number) => *number = format!("{number} {word}"),
            None => words.push(word.to_string()),
        }
    }
    words
}

/// Significant digits shown of any value.
const SIGNIFICANT: i32 = 3;
/// Maximum of decimals: times in seconds have a resolution of nanoseconds.
const MOST_DECIMALS: usize = 9;

/// A number with this many decimals, or more if it would show fewer than three digits.
pub fn digits(value: f64, decimals: usize) -> String {
    // Rounds to 0 with any number of decimals; an empty sum is -0.
    if value.abs() < 0.5e-9 {
        return format!("{:.decimals$}", 0.0);
    }
    let needed = SIGNIFICANT - 1 - value.abs().log10().floor() as i32;
    let decimals = decimals.max(usize::try_from(needed).unwrap_or(0).min(MOST_DECIMALS));
    format!("{value:.decimals$}")
}

/// A number with four decimals, or as many as it needs to show three digits, without trailing zeros.
pub fn number(value: f64) -> String {
    let text = digits(value, 4);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// The decimals that all values of a column have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimals(pub usize);

impl Decimals {
    /// As many as [`digits`] gives to the value that needs most of them.
    pub(crate) fn for_digits(values: impl IntoIterator<Item = f64>, least: usize) -> Decimals {
        Decimals::longest(values.into_iter().map(|value| digits(value, least))).max(Decimals(least))
    }

    /// As many as [`number`] gives to the value that needs most of them.
    pub(crate) fn for_numbers(values: impl IntoIterator<Item = f64>) -> Decimals {
        Decimals::longest(values.into_iter().map(number))
    }

    fn longest(texts: impl Iterator<Item = String>) -> Decimals {
        let decimals = |text: String| text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        Decimals(texts.map(decimals).max().unwrap_or(0))
    }

    /// The value with these decimals. What is rounded to 0 has no sign.
    pub fn text(self, value: f64) -> String {
        let text = format!("{value:.*}", self.0);
        let is_zero = !text.contains(|c: char| c.is_ascii_digit() && c != '0');
        if is_zero { text.trim_start_matches('-').to_string() } else { text }
    }

    /// The same; "-" if it is unknown.
    pub(crate) fn optional(self, value: Option<f64>) -> String {
        value.map_or_else(|| "-".to_string(), |value| self.text(value))
    }

    /// The value rounded down.
    pub(crate) fn floor(self, value: f64) -> String {
        self.text((value * self.units()).floor() / self.units())
    }

    /// The value rounded up.
    pub(crate) fn ceil(self, value: f64) -> String {
        self.text((value * self.units()).ceil() / self.units())
    }

    /// How many units of the last decimal are 1.
    fn units(self) -> f64 {
        10f64.powi(self.0 as i32)
    }
}

/// Times of one table in milliseconds, all with the same decimals: two, or as many as the shortest time needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Milliseconds(Decimals);

impl Milliseconds {
    /// For a table with these times, in seconds.
    pub fn new(seconds: impl IntoIterator<Item = f64>) -> Milliseconds {
        /// Ten nanoseconds: no time is known better.
        const MOST: usize = 5;
        /// The least decimals, with which a time of 0.1 ms has two digits.
        const LEAST: usize = 2;
        let shortest = seconds.into_iter().map(|s| (s * 1e3).abs()).filter(|&ms| ms >= 1e-5).reduce(f64::min);
        let needed = shortest.map_or(LEAST, |ms| usize::try_from(1 - ms.log10().floor() as i32).unwrap_or(0));
        Milliseconds(Decimals(needed.clamp(LEAST, MOST)))
    }

    /// A time in seconds.
    pub fn text(self, seconds: f64) -> String {
        self.0.text(seconds * 1e3)
    }

    /// The same; "-" if it is unknown.
    pub fn optional(self, seconds: Option<f64>) -> String {
        self.0.optional(seconds.map(|seconds| seconds * 1e3))
    }
}

/// The name of a time in seconds, for a column that has milliseconds.
pub(crate) fn in_ms(name: &str) -> String {
    name.replace("(s)", "(ms)")
}

/// The footnote that explains the mark of percentiles.
pub(crate) fn few_note(language: Language) -> String {
    match language {
        Language::En => format!("fewer than {SAMPLES_BEYOND} samples lie beyond: another run may differ much"),
        Language::Zh => format!("大于该值的样本不足 {SAMPLES_BEYOND} 个：重复测试的结果可能相差较大"),
    }
}

/// Before the upper bound of a percentile that the client's error exceeds.
pub(crate) const AT_MOST_SIGN: &str = "≤";

/// What [`AT_MOST_SIGN`] means.
pub(crate) fn at_most_note(language: Language) -> &'static str {
    language.pick(
        "The client's measurement error exceeds the figure: the true value is at most this.",
        "客户端的测量误差超过该值：真实值不高于此。",
    )
}

/// The footnote of values that failed requests decide.
pub(crate) fn infinite_note(language: Language) -> &'static str {
    language.pick("∞: a failed request counts as slower than any bound", "∞：失败的请求视为慢于任何界限")
}

/// The mark of a percentile with too few samples beyond it.
pub fn mark(few: bool) -> &'static str {
    if few { "*" } else { "" }
}

/// A share of 1 in percent with one decimal, rounded down: where a request failed it is not 100.0.
pub(crate) fn percent_down(share: f64) -> String {
    // A share that is exact in percent stays what it is.
    Decimals(1).floor(share * 100.0 + 1e-9)
}

/// A share of 1 in percent. More than all is only named so: its size has no meaning.
pub(crate) fn share_text(share: f64) -> String {
    if share > 1.0 { "> 100 %".to_string() } else { format!("{:.2} %", share * 100.0) }
}

/// A figure; "-" if it is unknown.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_string(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(align: Align, cells: &[&str]) -> String {
        table_of(align, cells).render()
    }

    fn table_of(align: Align, cells: &[&str]) -> Table {
        Table {
            head: vec!["Key".into(), "Value".into()],
            aligns: vec![Align::Left, align],
            rows: cells.iter().map(|cell| vec!["k".into(), cell.to_string()]).collect(),
            grid: false,
        }
    }

    #[test]
    fn decimal_points_are_aligned() {
        let expected = "\
+-----+------------+
| Key |      Value |
+-----+------------+
| k   |    62.9998 |
| k   | 13379.1    |
| k   |   400      |
| k   |          - |
+-----+------------+
";
        assert_eq!(table(Align::Decimal, &["62.9998", "13379.1", "400", "-"]), expected);
    }

    #[test]
    fn a_header_can_have_several_lines() {
        let two =
            Table { head: vec!["Key".into(), "P99\nTTFT".into()], ..table_of(Align::Decimal, &["0.5*", "12.25"]) };
        let expected = "\
+-----+-------+
|     |   P99 |
| Key |  TTFT |
+-----+-------+
| k   |  0.5* |
| k   | 12.25 |
+-----+-------+
";
        assert_eq!((two.render().as_str(), two.head_lines()), (expected, 2));
    }

    #[test]
    fn the_values_of_a_column_have_the_same_decimals() {
        let texts = |decimals: Decimals| [0.029, 0.5, 12.0, -0.00001].map(|value| decimals.text(value));
        assert_eq!(texts(Decimals::for_numbers([0.029, 0.5, 12.0])), ["0.029", "0.500", "12.000", "0.000"]);
        assert_eq!(texts(Decimals::for_digits([0.029, 0.5], 1)), ["0.0290", "0.5000", "12.0000", "0.0000"]);
        assert_eq!(Decimals::for_digits([], 2), Decimals(2));
        assert_eq!((Decimals(2).floor(12.3449), Decimals(2).ceil(12.3401)), ("12.34".to_string(), "12.35".to_string()));
        assert_eq!([0.57, 0.9996, 1.0, 0.0].map(percent_down), ["57.0", "99.9", "100.0", "0.0"]);
        assert_eq!([0.0712, 1.0, 94_970.0].map(share_text), ["7.12 %", "100.00 %", "> 100 %"]);
        let ms = |seconds: &[f64]| Milliseconds::new(seconds.iter().copied()).text(seconds[0]);
        assert_eq!(
            [ms(&[0.0123, 0.5]), ms(&[0.000_012, 0.5]), ms(&[0.5, 0.000_012]), ms(&[0.0])],
            ["12.30", "0.012", "500.000", "0.00"]
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let text = table(Align::Center, &["通义千问", "abc"]);
        let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
        assert_eq!(cut("通义千问模型", 9), "通义千...");
    }

    #[test]
    fn text_from_elsewhere_cannot_control_a_terminal() {
        assert_eq!(cut("a\nb\u{1b}c", 12), "a\\nb\\u{1b}c");
        assert_eq!(wrap("- ", "a\nb\u{1b}[31m", 20), "- a b\\u{1b}[31m\n");
        let text = table(Align::Left, &["x\u{202e}\n|"]);
        assert!(text.contains("| x\\u{202e}\\n| |\n"), "{text}");
    }

    #[test]
    fn numbers_have_four_decimals_or_three_digits() {
        assert_eq!(
            [0.0290, 1024.0, 1.0 / 3.0, 0.00001, -0.000012345, 100.0, 1e-12].map(number),
            ["0.029", "1024", "0.3333", "0.00001", "-0.0000123", "100", "0"]
        );
        assert_eq!(
            [0.0, -0.0, 0.000_004_2, 0.000_999_96, 0.0213, 37.27, 1234.5].map(|value| digits(value, 2)),
            ["0.00", "0.00", "0.00000420", "0.001000", "0.0213", "37.27", "1234.50"]
        );
    }

    #[test]
    fn marks_do_not_move_decimal_points() {
        assert!(table(Align::Decimal, &["62.5*", "3.75"]).contains("| 62.5* |\n| k   |  3.75 |"));
    }

    #[test]
    fn long_text_is_wrapped_under_its_beginning() {
        assert_eq!(wrap("- ", "one two three", 9), "- one two\n  three\n");
        assert_eq!(wrap("- ", "extraordinarily", 5), "- extraordinarily\n");
        assert_eq!(wrap("- ", "one 10 % of 2 ms.", 8), "- one\n  10 %\n  of\n  2 ms.\n");
    }
}
