//! Parser of the text format in which servers expose metrics: Prometheus' format 0.0.4 and OpenMetrics.
//!
//! Lines are parsed independently. An invalid line is reported and skipped, so that it does not affect the others.

use std::collections::BTreeMap;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    /// Names and values, in the order of the page.
    pub labels: Vec<(String, String)>,
    /// May be NaN or infinite.
    pub value: f64,
    /// As written: milliseconds in Prometheus' format, seconds in OpenMetrics.
    pub timestamp: Option<f64>,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// The type of a metric family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    #[default]
    Untyped,
}

/// A parsed line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PageLine {
    /// A line without information: empty, a comment, `# EOF`, `# UNIT`.
    Nothing,
    Help {
        name: String,
        text: String,
    },
    Type {
        name: String,
        kind: Kind,
    },
    Sample(Sample),
}

/// A parsed page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsPage {
    pub samples: Vec<Sample>,
    /// Types by family name.
    pub kinds: BTreeMap<String, Kind>,
    /// The numbers (from 1) of the first invalid lines, with the reason as a predicate.
    pub invalid_lines: Vec<(usize, String)>,
    /// The page has more samples than [`MAX_SAMPLES`]; the others are missing.
    pub is_cut: bool,
}

/// Maximum number of samples of a page, which bounds the memory. The pages of large deployments have some ten thousand.
pub const MAX_SAMPLES: usize = 300_000;

/// Maximum number of invalid lines reported for a page.
const MAX_INVALID_LINES: usize = 8;

/// Parses a page. Bytes that are not UTF-8 become replacement characters.
pub fn parse_page(bytes: &[u8]) -> MetricsPage {
    let text = String::from_utf8_lossy(bytes);
    let mut page = MetricsPage::default();
    for (index, text) in text.split('\n').enumerate() {
        match parse_line(text) {
            Ok(PageLine::Nothing | PageLine::Help { .. }) => {}
            Ok(PageLine::Type { name, kind }) => drop(page.kinds.insert(name, kind)),
            Ok(PageLine::Sample(_)) if page.samples.len() >= MAX_SAMPLES => {
                page.is_cut = true;
                break;
            }
            Ok(PageLine::Sample(sample)) => page.samples.push(sample),
            Err(_) if page.invalid_lines.len() >= MAX_INVALID_LINES => {}
            Err(reason) => page.invalid_lines.push((index + 1, reason)),
        }
    }
    page
}

/// Parses one line, without its newline.
///
/// # Errors
/// The reason as a predicate, such as "has no value".
pub(crate) fn parse_line(text: &str) -> Result<PageLine, String> {
    let text = text.trim_matches([' ', '\t', '\r']);
    match text.strip_prefix('#') {
        None if text.is_empty() => Ok(PageLine::Nothing),
        None => sample(text).map(PageLine::Sample),
        Some(comment) => Ok(parse_comment(comment)),
    }
}

/// Parses `HELP name text` or `TYPE name kind`; other text after a `#` is a comment.
fn parse_comment(comment: &str) -> PageLine {
    let (word, rest) = split_word(comment.trim_start());
    let (name, rest) = split_word(rest);
    if name.is_empty() {
        return PageLine::Nothing;
    }
    match word {
        "HELP" => PageLine::Help { name: name.to_string(), text: unescape(rest) },
        "TYPE" => PageLine::Type { name: name.to_string(), kind: kind(rest) },
        _ => PageLine::Nothing,
    }
}

fn kind(word: &str) -> Kind {
    match word.trim_end() {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        _ => Kind::Untyped,
    }
}

/// The first word and the rest, without the whitespace between them.
fn split_word(text: &str) -> (&str, &str) {
    match text.find([' ', '\t']) {
        Some(end) => (&text[..end], text[end..].trim_start_matches([' ', '\t'])),
        None => (text, ""),
    }
}

fn sample(text: &str) -> Result<Sample, String> {
    let end = text.find(['{', ' ', '\t']).unwrap_or(text.len());
    let (mut name, mut rest) = (text[..end].to_string(), text[end..].trim_start_matches([' ', '\t']));
    let mut labels = Vec::new();
    if rest.starts_with('{') {
        let (parsed, quoted_name, after) = label_set(rest)?;
        (labels, rest) = (parsed, after);
        // A name with UTF-8 characters is quoted among the labels.
        name = quoted_name.unwrap_or(name);
    }
    if name.is_empty() {
        return Err("has no metric name".to_string());
    }
    // In OpenMetrics, ` # ` precedes an exemplar, which is ignored.
    let rest = rest.split('#').next().unwrap_or(rest);
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or("has no value")?)?;
    let timestamp = words.next().map(number).transpose()?;
    match words.next() {
        Some(word) => Err(format!("has '{}' after its timestamp", shortened(word))),
        None => Ok(Sample { name, labels, value, timestamp }),
    }
}

/// Labels, a metric name among them, and the text after the closing brace.
type LabelSet<'a> = (Vec<(String, String)>, Option<String>, &'a str);

/// Parses `{name="value",...}`; a comma before the closing brace is allowed.
fn label_set(text: &str) -> Result<LabelSet<'_>, String> {
    let (mut labels, mut quoted_name) = (Vec::new(), None);
    let mut rest = text[1..].trim_start_matches([' ', '\t']);
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, quoted_name, behind));
        }
        let (label, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted)?,
            None => {
                let end = rest.find(['=', '}', ',', '"', ' ', '\t']).unwrap_or(rest.len());
                (rest[..end].to_string(), &rest[end..])
            }
        };
        let was_quoted = rest.starts_with('"');
        let behind = behind.trim_start_matches([' ', '\t']);
        rest = match behind.strip_prefix('=') {
            Some(value) if !label.is_empty() => {
                let value = value.trim_start_matches([' ', '\t']);
                let value = value.strip_prefix('"').ok_or("has a label value without quotes")?;
                let (value, behind) = quoted_text(value)?;
                labels.push((label, value));
                behind
            }
            None if was_quoted && quoted_name.is_none() => {
                quoted_name = Some(label);
                behind
            }
            _ => return Err("has a label without a name or without a value".to_string()),
        };
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(behind) = rest.strip_prefix(',') {
            rest = behind.trim_start_matches([' ', '\t']);
        } else if !rest.starts_with('}') {
            return Err("has labels without closing brace".to_string());
        }
    }
}

/// The text up to the closing quote, unescaped, and the text after the quote.
fn quoted_text(text: &str) -> Result<(String, &str), String> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok((unescape(&text[..at]), &text[at + 1..])),
            _ => {}
        }
    }
    Err("has a label value without closing quote".to_string())
}

/// Unescapes `\\`, `\"` and `\n`; before other characters the backslash is kept.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_string();
    }
    let (mut out, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some(same @ ('\\' | '"')) => out.push(same),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// Parses a number in Go's format: `1.5e+06`, `NaN`, `+Inf`.
pub fn number(word: &str) -> Result<f64, String> {
    match word.to_ascii_lowercase().as_str() {
        "inf" | "+inf" => Ok(f64::INFINITY),
        "-inf" => Ok(f64::NEG_INFINITY),
        "nan" => Ok(f64::NAN),
        _ => word.parse().map_err(|_| format!("has '{}' where a number should be", shortened(word))),
    }
}

fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}

/// Formats labels as they are written between the braces.
pub fn write_labels(labels: &[(String, String)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

/// Parses the output of [`write_labels`]; `None` if the text is invalid.
pub fn read_labels(text: &str) -> Option<Vec<(String, String)>> {
    let braced = format!("{{{text}}}");
    let (labels, None, "") = label_set(&braced).ok()? else { return None };
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_sample(text: &str) -> Sample {
        match parse_line(text) {
            Ok(PageLine::Sample(sample)) => sample,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn samples_are_parsed() {
        let plain = parse_sample("up 1");
        assert_eq!((plain.name.as_str(), plain.value, plain.labels.len(), plain.timestamp), ("up", 1.0, 0, None));
        let full = parse_sample("a:b_total{x=\"1\", le = \"+Inf\",} 8.128902e+06 1395066363000");
        assert_eq!((full.label("x"), full.label("le"), full.label("y")), (Some("1"), Some("+Inf"), None));
        assert_eq!((full.value, full.timestamp), (8_128_902.0, Some(1_395_066_363_000.0)));
        assert_eq!(parse_sample("a{} \t -2").value, -2.0);
        assert_eq!(parse_sample("a {b=\"c\"} 3\r").value, 3.0);
        assert_eq!(parse_sample("{\"http.status\",code=\"200\"} 7").name, "http.status");
    }

    #[test]
    fn escaped_labels_are_parsed() {
        let sample = parse_sample(r#"m{path="C:\\dir\n\"x\" {,} =# \q"} 1 # {trace="1"} 0.5 1.2"#);
        assert_eq!(sample.label("path"), Some("C:\\dir\n\"x\" {,} =# \\q"));
        assert_eq!((sample.value, sample.timestamp), (1.0, None));
    }

    #[test]
    fn numbers_are_parsed_in_gos_format() {
        assert!(parse_sample("a NaN").value.is_nan());
        assert_eq!((parse_sample("a +Inf").value, parse_sample("a -Inf").value), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!(parse_sample("a 1e-9").value, 1e-9);
    }

    #[test]
    fn help_and_type_comments_are_parsed() {
        assert_eq!(
            parse_line("# TYPE a:b histogram"),
            Ok(PageLine::Type { name: "a:b".into(), kind: Kind::Histogram })
        );
        assert_eq!(
            parse_line("#  HELP a two\\nlines \\\\"),
            Ok(PageLine::Help { name: "a".into(), text: "two\nlines \\".into() })
        );
        for nothing in ["", "# EOF", "#", "# a comment {", "# UNIT a seconds", "  "] {
            assert_eq!(parse_line(nothing), Ok(PageLine::Nothing), "{nothing}");
        }
    }

    #[test]
    fn invalid_lines_are_skipped() {
        for wrong in ["a", "a x", "a{b} 1", "a{b=c} 1", "a{b=\"c} 1", "a{b=\"c\" 1", "{} 1", "a 1 2 3", "a{=\"c\"} 1"] {
            assert!(parse_line(wrong).is_err(), "{wrong}");
        }
        let page = parse_page(b"a 1\nbroken{\n\xff 2\nb 3");
        assert_eq!(page.samples.len(), 3);
        assert_eq!(page.invalid_lines.len(), 1);
        assert_eq!(page.invalid_lines[0].0, 2);
    }

    #[test]
    fn samples_of_a_page_are_limited() {
        let page = parse_page(&b"a 1\n".repeat(MAX_SAMPLES));
        assert!(page.samples.len() == MAX_SAMPLES && !page.is_cut);
        let page = parse_page(&b"a 1\n".repeat(MAX_SAMPLES + 5));
        assert!(page.samples.len() == MAX_SAMPLES && page.is_cut);
    }

    proptest! {
        #[test]
        fn arbitrary_input_does_not_panic(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_line(&text);
            parse_page(&bytes);
        }

        #[test]
        fn labels_round_trip(
            labels in proptest::collection::vec(("[a-z_]{1,5}", "[a-z\\\\\"{}=, \n#é]{0,12}"), 0..5),
            value in any::<f64>(),
        ) {
            prop_assert_eq!(read_labels(&write_labels(&labels)), Some(labels.clone()));
            let sample = parse_sample(&format!("m{{{}}} {value}", write_labels(&labels)));
            prop_assert!(sample.value == value || value.is_nan() && sample.value.is_nan());
            prop_assert_eq!(sample.labels, labels);
        }
    }
}
