//! Tables in `+---+` frames. Widths are terminal columns: a Chinese character has two.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use super::language::Language;
use crate::stats::quantile::{Quantile, SAMPLES_BEYOND, Series};
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
    /// The table as lines, each with a newline.
    pub fn render(&self) -> String {
        let columns: Vec<Vec<String>> = (0..self.head.len()).map(|column| self.column(column)).collect();
        let widths: Vec<usize> =
            columns.iter().map(|cells| cells.iter().map(|cell| cell.width()).max().unwrap_or(0)).collect();
        let line = |fill: &str| {
            let dashes: Vec<String> = widths.iter().map(|width| fill.repeat(width + 2)).collect();
            format!("+{}+\n", dashes.join("+"))
        };
        let row = |index: usize| {
            let cells: Vec<String> = columns
                .iter()
                .zip(&widths)
                .zip(&self.aligns)
                .map(|((cells, &width), &align)| {
                    pad(&cells[index], width, if index == 0 { head_align(align) } else { align })
                })
                .collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut out = line("-") + &row(0) + &line(if self.grid { "=" } else { "-" });
        for index in 1..=self.rows.len() {
            out.push_str(&row(index));
            if self.grid || index == self.rows.len() {
                out.push_str(&line("-"));
            }
        }
        out
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

    /// Header and cells of a column; decimal cells are padded after the point.
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
        std::iter::once(visible_line(&self.head[column]).into_owned()).chain(fitted).collect()
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

/// The words of a text; a number and its unit are one word.
fn with_units(text: &str) -> Vec<String> {
    const UNITS: [&str; 6] = ["%", "s", "ms", "µs", "ns", "req/s"];
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_unit = UNITS.contains(&word.trim_end_matches(['.', ',', ':', ';', ')']));
        match words.last_mut().filter(|last| is_unit && last.ends_with(|c: char| c.is_ascii_digit())) {
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

/// The footnote that explains the mark of percentiles.
pub(crate) fn few_note(language: Language) -> String {
    match language {
        Language::En => format!("fewer than {SAMPLES_BEYOND} samples lie beyond: another run may differ much"),
        Language::Zh => format!("大于该值的样本不足 {SAMPLES_BEYOND} 个：重复测试的结果可能相差较大"),
    }
}

/// The footnote of values that failed requests decide.
pub(crate) fn infinite_note(language: Language) -> &'static str {
    language.pick("∞: a failed request counts as slower than any bound", "∞：失败的请求视为慢于任何界限")
}

/// The mark of a percentile with too few samples beyond it.
pub fn mark(few: bool) -> &'static str {
    if few { "*" } else { "" }
}

/// The percentile of a series at this level, with its mark; "-" without samples.
pub fn quantile(series: &Series, per_mille: u32, decimals: usize) -> String {
    let text = |quantile: &Quantile| digits(quantile.value, decimals) + mark(quantile.few);
    series.at(per_mille).map_or_else(|| "-".to_string(), text)
}

/// A figure; "-" if it is unknown.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_string(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(align: Align, cells: &[&str]) -> String {
        Table {
            head: vec!["Key".into(), "Value".into()],
            aligns: vec![Align::Left, align],
            rows: cells.iter().map(|cell| vec!["k".into(), cell.to_string()]).collect(),
            grid: false,
        }
        .render()
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
    fn few_samples_beyond_are_marked() {
        let few = Series::compute(&[0.5, 0.25]);
        let many = Series::compute(&(0..2000).map(f64::from).collect::<Vec<_>>());
        assert_eq!((quantile(&few, 990, 3), quantile(&many, 990, 1)), ("0.500*".to_string(), "1979.0".to_string()));
        assert_eq!(quantile(&Series::default(), 990, 3), "-");
        assert!(table(Align::Decimal, &["62.5*", "3.75"]).contains("| 62.5* |\n| k   |  3.75 |"));
    }

    #[test]
    fn long_text_is_wrapped_under_its_beginning() {
        assert_eq!(wrap("- ", "one two three", 9), "- one two\n  three\n");
        assert_eq!(wrap("- ", "extraordinarily", 5), "- extraordinarily\n");
        assert_eq!(wrap("- ", "one 10 % of 2 ms.", 8), "- one\n  10 %\n  of\n  2 ms.\n");
    }
}
