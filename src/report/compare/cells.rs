//! Rows of a comparison as text. Each row has its own unit and decimals, so that small times, and differences much
//! smaller than the values, are readable.

use super::rows::{Kind, Row, RowName, Value, Verdict};
use crate::report::i18n::time_name;
use crate::report::language::Language;
use crate::report::table::{AT_MOST_SIGN, Decimals, at_most_note, few_note, mark, number};

/// The heads of the columns; `name` is the other side's.
pub fn heads(name: &str, language: Language) -> Vec<String> {
    vec![
        language.pick("Figure", "指标").to_string(),
        "A".to_string(),
        name.to_string(),
        format!("{name} − A"),
        "%".to_string(),
        language.pick("95 % interval", "95 % 置信区间").to_string(),
        match language {
            Language::En => format!("{name} is"),
            Language::Zh => format!("{name} 相比 A"),
        },
    ]
}

/// The cells of a row, one for each head.
pub fn cells(row: &Row, language: Language) -> Vec<String> {
    let format = NumberFormat::for_row(row);
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |value| format.text(value));
    let marked = |value: Value| match value.at_most {
        Some(bound) => format!("{AT_MOST_SIGN} {}", format.text_up(bound)),
        None => optional(value.value) + mark(value.few),
    };
    let known = row.difference.filter(|difference| difference.low.is_some() || difference.high.is_some());
    let interval = known.map_or_else(
        || "-".to_string(),
        |difference| format!("{} .. {}", optional(difference.low), optional(difference.high)),
    );
    vec![
        figure(row, language),
        marked(row.a),
        marked(row.b),
        optional(row.change()),
        row.percent().map_or_else(|| "-".to_string(), percent_text),
        interval,
        verdict(row.verdict, language).to_string(),
    ]
}

/// What the marks in these rows mean: each with its mark.
pub(super) fn marks(rows: &[Row], language: Language) -> Vec<(&'static str, String)> {
    let is_marked = |value: &Value| value.few && value.at_most.is_none();
    let few = rows.iter().any(|row| is_marked(&row.a) || is_marked(&row.b)).then(|| (mark(true), few_note(language)));
    let bounds = rows.iter().any(Row::is_bounded).then(|| (AT_MOST_SIGN, at_most_note(language).to_string()));
    few.into_iter().chain(bounds).collect()
}

/// A change in percent: larger ones than [`MOST_PERCENT`] are not meant to be compared.
pub(super) fn percent_text(percent: f64) -> String {
    match percent > MOST_PERCENT {
        true => format!("> {MOST_PERCENT:.0}"),
        false => unsigned_zero(format!("{percent:+.1}")),
    }
}

/// The figure with its unit; times are in milliseconds.
fn figure(row: &Row, language: Language) -> String {
    match row.name {
        RowName::Label(label) => label.text(language).to_string(),
        RowName::Time(statistic, figure) => time_name(statistic, figure, "ms", language),
    }
}

/// The figure without its unit.
pub(super) fn plain_name(row: &Row, language: Language) -> String {
    let name = figure(row, language);
    name.split_once(" (").map_or(name.as_str(), |(name, _)| name).to_string()
}

fn verdict(verdict: Verdict, language: Language) -> &'static str {
    match verdict {
        Verdict::Better => language.pick("better", "更好"),
        Verdict::Worse => language.pick("worse", "更差"),
        Verdict::NotSure => language.pick("no sure difference", "无显著差异"),
        Verdict::TooFew => language.pick("too few samples", "样本不足"),
        Verdict::Unknown => language.pick("not known", "未知"),
        Verdict::NotComparable => language.pick("not comparable", "不可比"),
        Verdict::Void => language.pick("void", "无效"),
        Verdict::None => "-",
    }
}

/// The number format of a row.
struct NumberFormat {
    /// Factor from the stored unit to the displayed one.
    factor: f64,
    /// `None` for integers.
    decimals: Option<usize>,
}

/// Significant digits of the larger value, and of the larger end of the interval.
const DIGITS: i32 = 3;
/// The largest change in percent that is shown as a number.
const MOST_PERCENT: f64 = 1000.0;
/// Maximum of significant digits of a value, however small its difference is.
const MOST_DIGITS: i32 = 7;

impl NumberFormat {
    fn for_row(row: &Row) -> NumberFormat {
        let largest = |values: [Option<f64>; 2]| values.into_iter().flatten().map(f64::abs).fold(0.0, f64::max);
        let shown = |value: Value| value.at_most.or(value.value);
        let value = largest([shown(row.a), shown(row.b)]);
        let factor = match row.kind {
            Kind::Time => 1e3,
            Kind::Share => 100.0,
            Kind::Count | Kind::Rate => 1.0,
        };
        if row.kind == Kind::Count {
            return NumberFormat { factor, decimals: None };
        }
        // Differences below the last digit of the value are rounding errors.
        let counts = |part: &f64| part.abs() > value / 10f64.powi(MOST_DIGITS);
        let ends = row.difference.map_or([None, None], |difference| [difference.low, difference.high]);
        let ends = ends.map(|end| end.filter(counts));
        let smallest = ends.into_iter().flatten().map(f64::abs).fold(f64::INFINITY, f64::min);
        let change = row.change().filter(counts).map_or(0.0, f64::abs);
        // The end of the interval nearer to 0 must not be rounded to 0, which would contradict the verdict.
        let wanted = [(value, DIGITS), (largest(ends), DIGITS), (change, 2), (smallest, 1)];
        let wanted = wanted.into_iter().map(|(value, digits)| decimals(value * factor, digits)).max().unwrap_or(0);
        NumberFormat { factor, decimals: Some(wanted.min(decimals(value * factor, MOST_DIGITS))) }
    }

    /// The value rounded up.
    fn text_up(&self, value: f64) -> String {
        Decimals(self.decimals.unwrap_or(0)).ceil(value * self.factor)
    }

    fn text(&self, value: f64) -> String {
        let value = value * self.factor;
        let Some(decimals) = self.decimals else { return number(value) };
        unsigned_zero(format!("{value:.decimals$}"))
    }
}

/// The number without its sign if it was rounded to 0.
fn unsigned_zero(number: String) -> String {
    let is_zero = !number.contains(|c: char| c.is_ascii_digit() && c != '0');
    if is_zero { number.trim_start_matches(['-', '+']).to_string() } else { number }
}

/// The decimals that give a number this many significant digits.
fn decimals(value: f64, digits: i32) -> usize {
    if value <= 0.0 || !value.is_finite() {
        return 0;
    }
    usize::try_from(digits - 1 - value.log10().floor() as i32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Figure;
    use crate::report::i18n::{Label, Statistic};
    use crate::stats::comparison::Difference;

    fn row(kind: Kind, a: f64, b: f64, ends: (f64, f64)) -> Row {
        let value = |value| Value { value: Some(value), few: false, at_most: None };
        let difference = Some(Difference { value: b - a, low: Some(ends.0), high: Some(ends.1) });
        let name = match kind {
            Kind::Time => RowName::Time(Statistic::Average, Figure::Itl),
            Kind::Count | Kind::Share | Kind::Rate => RowName::Label(Label::RequestsPerS),
        };
        Row { name, kind, a: value(a), b: value(b), difference, verdict: Verdict::Better }
    }

    #[test]
    fn differences_of_small_times_can_be_read() {
        let cells = cells(&row(Kind::Time, 0.000_973, 0.000_969, (-0.000_005_2, -0.000_002_8)), Language::En);
        assert_eq!(cells[0], "Average ITL (ms)");
        assert_eq!(cells[1..4], ["0.97300", "0.96900", "-0.00400"]);
        assert_eq!(cells[5], "-0.00520 .. -0.00280");
    }

    #[test]
    fn times_are_in_milliseconds_and_equal_ones_have_no_sign() {
        let cells = cells(&row(Kind::Time, 12.5, 12.5, (-0.0, 0.0)), Language::Zh);
        assert_eq!(cells[..4], ["平均 ITL (ms)", "12500", "12500", "0"]);
        assert_eq!(cells[5], "0 .. 0");
    }

    #[test]
    fn a_difference_without_an_interval_has_none_and_huge_percentages_are_bounded() {
        let mut unknown = row(Kind::Rate, 0.001, 95.0, (0.0, 0.0));
        unknown.difference = Some(Difference { value: 1.0, low: None, high: None });
        let cells = cells(&unknown, Language::En);
        assert_eq!((cells[4].as_str(), cells[5].as_str()), ("> 1000", "-"));
    }

    #[test]
    fn large_values_do_not_get_endless_decimals() {
        let interval = |low, high| cells(&row(Kind::Rate, 20_000.0, 20_000.0, (low, high)), Language::En)[5].clone();
        assert_eq!(interval(-0.000_05, 0.000_15), "0 .. 0");
        assert_eq!(interval(0.005, 150.0), "0.01 .. 150.00");
    }
}
