//! Parses service level objectives such as `p99_ttft<=2 p99_tpot<=50ms`. [`crate::stats::slo`] evaluates them.

use std::fmt;

use serde_json::Value as Json;

use crate::finding::Finding;
pub use crate::record::search::{Comparison, Criterion, Figure, Quantity, Statistic};
use crate::time::{S, scan_duration_ns};

/// The percentiles that a criterion can name, with their values in per mille.
pub(crate) const PERCENTILES: [(&str, u32); 12] = [
    ("p10", 100),
    ("p25", 250),
    ("p50", 500),
    ("p66", 660),
    ("p75", 750),
    ("p80", 800),
    ("p90", 900),
    ("p95", 950),
    ("p98", 980),
    ("p99", 990),
    ("p99.9", 999),
    ("max", 1000),
];

const NAMES: &str = "avg_ttft, p50_ttft, p90_ttft, p95_ttft, p99_ttft, max_ttft, the same of tpot, itl and latency, \
                     rps, tps, goodput, failed, success";

/// Comparisons as they are written, and what separates a figure from `max` and `min`.
pub(crate) const OPERATORS: [char; 8] = ['<', '>', '≤', '≥', '≦', '≧', '=', ':'];

/// Parses criteria separated by spaces or commas, or evalscope's JSON with one group of conditions.
pub(crate) fn scan_all(text: &str) -> Result<Vec<Criterion>, String> {
    if is_json(text) {
        return match groups_of_json(text)?.as_slice() {
            [group] => group.iter().map(|(name, condition)| scan(&format!("{name}{condition}"))).collect(),
            groups => Err(format!(
                "has {} groups of conditions, but all objectives apply together: put them into one group",
                groups.len()
            )),
        };
    }
    let criteria: Vec<Criterion> = conditions(text).iter().map(|text| scan(text)).collect::<Result<_, _>>()?;
    if criteria.is_empty() { Err("is empty; write for example p99_ttft<=2".to_string()) } else { Ok(criteria) }
}

/// Splits a text into conditions, at spaces and commas. Spaces around an operator and before a unit separate nothing.
pub(crate) fn conditions(text: &str) -> Vec<String> {
    let has_digit = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let is_unit = |word: &str| word == "%" || (!has_digit(word) && scan_duration_ns(&format!("1{word}"), S).is_ok());
    let is_number = |word: &str| word.ends_with(|last: char| last.is_ascii_digit() || last == '.');
    let mut found: Vec<String> = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
        let continues = |open: &&mut String| {
            word.starts_with(OPERATORS)
                || open.ends_with(OPERATORS)
                || (open.contains(OPERATORS) && is_number(open) && is_unit(word))
        };
        match found.last_mut().filter(continues) {
            Some(open) => open.push_str(word),
            None => found.push(word.to_string()),
        }
    }
    found
}

/// Findings about bounds that cannot be meant: seconds where milliseconds are likely.
pub(crate) fn notes(criteria: &[Criterion]) -> Vec<Finding> {
    let doubtful = criteria.iter().filter(|criterion| criterion.is_bare_and_huge());
    doubtful
        .map(|criterion| Finding::BoundInSeconds { criterion: criterion.text.clone(), seconds: criterion.bound })
        .collect()
}

/// Whether the conditions are JSON.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['[', '{'])
}

/// Parses evalscope's JSON, an object or a list of objects, into groups of names and conditions.
pub(crate) fn groups_of_json(text: &str) -> Result<Vec<Vec<(String, String)>>, String> {
    const FORM: &str = "write for example '[{\"p99_ttft\": \"<=2\", \"p99_tpot\": \"<=0.05\"}]'";
    let json: Json = serde_json::from_str(text).map_err(|error| format!("is not valid JSON ({error}); {FORM}"))?;
    let groups = match json {
        Json::Array(groups) => groups,
        one => vec![one],
    };
    let condition = |(name, value): (&String, &Json)| match value {
        Json::String(condition) => Ok((name.clone(), condition.trim().to_string())),
        other => {
            Err(format!("'{name}' has the condition {other}, but needs a text such as \"<=2\", \"max\" or \"min\""))
        }
    };
    let group = |group: &Json| match group.as_object().filter(|map| !map.is_empty()) {
        Some(map) => map.iter().map(condition).collect(),
        None => Err(format!("contains {group} instead of a group of conditions; {FORM}")),
    };
    let groups: Vec<_> = groups.iter().map(group).collect::<Result<_, _>>()?;
    if groups.is_empty() { Err(format!("is an empty list; {FORM}")) } else { Ok(groups) }
}

/// Parses one criterion: a figure, a comparison, and a bound in seconds or with a unit. Spaces have no meaning.
pub(crate) fn scan(text: &str) -> Result<Criterion, String> {
    let text: String = text.split_whitespace().collect();
    let normal = text.replace(['≤', '≦'], "<=").replace(['≥', '≧'], ">=");
    let at =
        normal.find(['<', '>']).ok_or_else(|| format!("'{text}' has no <= or >=; write for example p99_ttft<=2"))?;
    let (name, rest) = normal.split_at(at);
    let (comparison, bound) = match rest.strip_prefix("<=").or(rest.strip_prefix(">=")) {
        Some(bound) if rest.starts_with('<') => (Comparison::AtMost, bound),
        Some(bound) => (Comparison::AtLeast, bound),
        None if rest.starts_with('<') => (Comparison::Below, &rest[1..]),
        None => (Comparison::Above, &rest[1..]),
    };
    let figure = Figure::scan(name.trim()).ok_or_else(|| Figure::unknown(name.trim()))?;
    Ok(Criterion { figure, comparison, bound: figure.scan_bound(bound.trim())?, text })
}

impl Figure {
    /// Parses a name such as `p99_ttft`, `avg_latency` or `rps`. A quantity without a statistic means its maximum, which
    /// applies to every request.
    pub fn scan(name: &str) -> Option<Figure> {
        let name = name.to_lowercase();
        match name.as_str() {
            "rps" => return Some(Figure::RequestsPerS),
            "tps" => return Some(Figure::OutputTokensPerS),
            "failed" => return Some(Figure::FailedPercent),
            "success" => return Some(Figure::SucceededPercent),
            "goodput" => return Some(Figure::Goodput),
            _ => {}
        }
        let (statistic, quantity) = name.split_once('_').unwrap_or(("max", &name));
        let quantity = match quantity {
            "ttft" => Quantity::Ttft,
            "tpot" => Quantity::Tpot,
            "itl" => Quantity::Itl,
            "latency" => Quantity::Latency,
            _ => return None,
        };
        let statistic = match statistic {
            "avg" | "mean" => Statistic::Mean,
            percentile => Statistic::PerMille(PERCENTILES.iter().find(|known| known.0 == percentile)?.1),
        };
        Some(Figure::Of(statistic, quantity))
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::Of(..) => "s",
            Figure::RequestsPerS | Figure::Goodput => "req/s",
            Figure::OutputTokensPerS => "tok/s",
            Figure::FailedPercent | Figure::SucceededPercent => "%",
        }
    }

    /// The error message for a name that [`Figure::scan`] does not accept.
    pub fn unknown(name: &str) -> String {
        format!("'{name}' is not a known figure; known: {NAMES}")
    }

    /// Parses a bound for this figure: a number; times are in seconds or have a unit.
    pub fn scan_bound(self, text: &str) -> Result<f64, String> {
        let bound = match self {
            Figure::Of(..) => scan_duration_ns(text, S).map(|ns| ns as f64 / S as f64),
            Figure::RequestsPerS | Figure::OutputTokensPerS | Figure::Goodput => number(text),
            Figure::FailedPercent | Figure::SucceededPercent => percent(text),
        }?;
        if bound.is_finite() && bound >= 0.0 { Ok(bound) } else { Err(format!("'{text}' must be 0 or more")) }
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

/// Parses a share. Without a percent sign, 1 could be 1 % or all.
fn percent(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(text) => number(text.trim())?,
        None if number(text)? == 0.0 => 0.0,
        None => return Err(format!("'{text}' must be a percentage, for example 1%")),
    };
    if share <= 100.0 { Ok(share) } else { Err(format!("'{text}' is more than 100%")) }
}

impl Criterion {
    /// The text of the criterion, with the unit added if it is missing. Microseconds are written in one way.
    pub fn with_unit(&self) -> String {
        match (self.figure, self.text.strip_suffix("us")) {
            (Figure::Of(..), Some(bound)) => format!("{bound}µs"),
            (Figure::Of(..), None) if self.is_bare() => format!("{} s", self.text),
            _ => self.text.clone(),
        }
    }

    /// The unit in which a measured value is shown beside this criterion, that of its text, and how many of it are one
    /// of [`Figure::unit`].
    pub fn shown_unit(&self) -> (&'static str, f64) {
        let units = [("ms", "ms", 1e3), ("us", "µs", 1e6), ("µs", "µs", 1e6), ("ns", "ns", 1e9)];
        let written = units.into_iter().find(|(unit, ..)| self.text.ends_with(unit));
        written
            .map(|(_, shown, per_unit)| (shown, per_unit))
            .filter(|_| matches!(self.figure, Figure::Of(..)))
            .unwrap_or((self.figure.unit(), 1.0))
    }

    /// Whether `value` meets the bound. Failed requests make a time infinite, which meets nothing.
    pub fn is_met_by(&self, value: f64) -> bool {
        value.is_finite() && self.comparison.holds(value, self.bound)
    }

    /// Whether the bound is one of each single request too: a response has many ITLs, and rates and shares are of a run.
    pub(crate) fn is_of_a_request(&self) -> bool {
        matches!(self.figure, Figure::Of(_, Quantity::Ttft | Quantity::Tpot | Quantity::Latency))
    }

    /// Whether a value that is only known to be at most `at_most` may miss the bound.
    pub(crate) fn is_left_open_by(&self, at_most: f64) -> bool {
        match self.comparison {
            Comparison::AtMost | Comparison::Below => !self.is_met_by(at_most),
            Comparison::AtLeast | Comparison::Above => true,
        }
    }

    /// The bound has no unit.
    fn is_bare(&self) -> bool {
        self.text.ends_with(|last: char| last.is_ascii_digit() || last == '.')
    }

    /// A time without a unit that is so long in seconds that milliseconds are likely.
    fn is_bare_and_huge(&self) -> bool {
        let Figure::Of(_, quantity) = self.figure else { return false };
        let least_s = match quantity {
            Quantity::Ttft => 60.0,
            Quantity::Tpot | Quantity::Itl => 5.0,
            Quantity::Latency => 1000.0,
        };
        self.is_bare() && self.bound >= least_s
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criteria_are_parsed_with_units() {
        let found = scan_all("p99_ttft<=2 p99_tpot<=50ms, rps>=3.5 avg_latency<1 max_itl≤1s ttft<=1").unwrap();
        let short: Vec<(Figure, Comparison, f64)> = found.iter().map(|c| (c.figure, c.comparison, c.bound)).collect();
        let of = |per_mille, quantity| Figure::Of(Statistic::PerMille(per_mille), quantity);
        assert_eq!(
            short,
            [
                (of(990, Quantity::Ttft), Comparison::AtMost, 2.0),
                (of(990, Quantity::Tpot), Comparison::AtMost, 0.05),
                (Figure::RequestsPerS, Comparison::AtLeast, 3.5),
                (Figure::Of(Statistic::Mean, Quantity::Latency), Comparison::Below, 1.0),
                (of(1000, Quantity::Itl), Comparison::AtMost, 1.0),
                (of(1000, Quantity::Ttft), Comparison::AtMost, 1.0),
            ]
        );
    }

    #[test]
    fn json_gives_the_same_criteria() {
        let json = scan_all(r#"[{"p99_ttft": "<=2", "rps": ">=3"}]"#).unwrap();
        assert_eq!(json, scan_all("p99_ttft<=2 rps>=3").unwrap());
        assert_eq!(json.iter().map(Criterion::with_unit).collect::<Vec<_>>(), ["p99_ttft<=2 s", "rps>=3"]);
        assert_eq!(scan_all(r#"{"p99_ttft":"<=2s"}"#).unwrap()[0].with_unit(), "p99_ttft<=2s");
        assert_eq!(scan_all("p99_itl<=500us").unwrap()[0].with_unit(), "p99_itl<=500µs");
        for (bad, what) in [
            (r#"[{"p99_ttft":"<=2"},{"rps":">=3"}]"#, "2 groups"),
            (r#"[{"p99_ttft":2}]"#, "a text such as"),
            (r#"[{"p99_ttft":"min"}]"#, "<="),
            ("[{", "JSON"),
            ("[]", "empty"),
        ] {
            assert!(scan_all(bad).unwrap_err().contains(what), "{bad}: {}", scan_all(bad).unwrap_err());
        }
    }

    #[test]
    fn spaces_around_operators_and_before_units_separate_nothing() {
        let texts = |text: &str| scan_all(text).unwrap().into_iter().map(|c| c.text).collect::<Vec<_>>();
        assert_eq!(texts("p99_ttft <= 2 ms"), ["p99_ttft<=2ms"]);
        assert_eq!(
            texts("p99_ttft<= 2 s,failed <=1 % rps >= 3 tps>5"),
            ["p99_ttft<=2s", "failed<=1%", "rps>=3", "tps>5"]
        );
        assert_eq!(scan_all("p99_ttft ≤ 2 ms").unwrap(), scan_all("p99_ttft≤2ms").unwrap());
        assert_eq!(texts(r#"{"p99_ttft": " <= 2 ms"}"#), ["p99_ttft<=2ms"]);
        assert!(scan_all("p99_ttft <= 2 p99_tpot").is_err());
    }

    #[test]
    fn shares_are_percentages() {
        let found = scan_all("failed<=1% success>=99.5% failed<=0 goodput>=2.5").unwrap();
        let short: Vec<(Figure, f64)> = found.iter().map(|c| (c.figure, c.bound)).collect();
        assert_eq!(
            short,
            [
                (Figure::FailedPercent, 1.0),
                (Figure::SucceededPercent, 99.5),
                (Figure::FailedPercent, 0.0),
                (Figure::Goodput, 2.5)
            ]
        );
        assert_eq!(found[0].with_unit(), "failed<=1%");
    }

    #[test]
    fn bounds_that_cannot_be_meant_are_noted() {
        let noted = |text: &str| notes(&scan_all(text).unwrap()).len();
        assert_eq!(noted("p99_ttft<=500 p50_tpot<=50 p99_latency<=2000"), 3);
        assert_eq!(noted("p99_ttft<=59 p99_ttft<=500s p99_ttft<=500ms p99_latency<=600 rps>=500"), 0);
    }

    #[test]
    fn invalid_criteria_are_rejected_with_a_reason() {
        for (bad, what) in [
            ("p99_ttft", "<="),
            ("p97_ttft<=1", "known"),
            ("x<=1", "known"),
            ("rps>=fast", "number"),
            ("", "empty"),
            ("failed<=1", "percentage"),
            ("success>=101%", "100%"),
        ] {
            assert!(scan_all(bad).unwrap_err().contains(what), "{bad}");
        }
    }
}
