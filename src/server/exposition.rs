//! The text in which servers expose their metrics: Prometheus' format 0.0.4, and what OpenMetrics adds to it.
//!
//! Read a line at a time. A line that cannot be read is kept as a complaint and skipped: a server with one odd label
//! must not cost us the other six hundred lines.

use std::collections::BTreeMap;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    /// In the order of the page.
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

/// What a family is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    #[default]
    Untyped,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Nothing: empty, a comment, `# EOF`, `# UNIT`.
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

/// A whole page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub samples: Vec<Sample>,
    /// Types by family name.
    pub kinds: BTreeMap<String, Kind>,
    /// Numbers, from 1, of lines that could not be read, with the reason; only the first few.
    pub wrong: Vec<(usize, String)>,
}

/// Complaints kept of a page.
const MOST_WRONG: usize = 8;

/// Reads a page. Bytes that are not UTF-8 become replacement characters.
pub fn page(bytes: &[u8]) -> Page {
    let text = String::from_utf8_lossy(bytes);
    let mut page = Page::default();
    for (index, text) in text.split('\n').enumerate() {
        match line(text) {
            Ok(Line::Nothing | Line::Help { .. }) => {}
            Ok(Line::Type { name, kind }) => drop(page.kinds.insert(name, kind)),
            Ok(Line::Sample(sample)) => page.samples.push(sample),
            Err(_) if page.wrong.len() >= MOST_WRONG => {}
            Err(reason) => page.wrong.push((index + 1, reason)),
        }
    }
    page
}

/// Reads one line, without its newline.
pub fn line(text: &str) -> Result<Line, String> {
    let text = text.trim_matches([' ', '\t', '\r']);
    match text.strip_prefix('#') {
        None if text.is_empty() => Ok(Line::Nothing),
        None => sample(text).map(Line::Sample),
        Some(comment) => Ok(described(comment)),
    }
}

/// `HELP name text` or `TYPE name kind`; anything else behind a `#` is a comment.
fn described(comment: &str) -> Line {
    let (word, rest) = split_word(comment.trim_start());
    let (name, rest) = split_word(rest);
    if name.is_empty() {
        return Line::Nothing;
    }
    match word {
        "HELP" => Line::Help { name: name.to_string(), text: unescape(rest) },
        "TYPE" => Line::Type { name: name.to_string(), kind: kind(rest) },
        _ => Line::Nothing,
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

/// The first word and what follows it, blanks between them dropped.
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
        let (found, quoted_name, behind) = label_set(rest)?;
        (labels, rest) = (found, behind);
        // A name outside the old alphabet stands quoted among the labels.
        name = quoted_name.unwrap_or(name);
    }
    if name.is_empty() {
        return Err("has no metric name".to_string());
    }
    // Behind ` # ` OpenMetrics puts an exemplar, which is none of our business.
    let rest = rest.split('#').next().unwrap_or(rest);
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or("has no value")?)?;
    let timestamp = words.next().map(number).transpose()?;
    match words.next() {
        Some(word) => Err(format!("has '{}' behind its timestamp", shortened(word))),
        None => Ok(Sample { name, labels, value, timestamp }),
    }
}

/// Labels, a name that stood among them, and the text behind.
type LabelSet<'a> = (Vec<(String, String)>, Option<String>, &'a str);

/// Reads `{name="value",...}`; a comma before the brace is allowed.
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
            return Err("has labels that do not end".to_string());
        }
    }
}

/// The text up to the closing quote, unescaped, and what stands behind the quote.
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
    Err("has a label value that does not end".to_string())
}

/// Undoes `\\`, `\"` and `\n`; another character keeps its backslash.
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

/// A number as Go writes it: `1.5e+06`, `NaN`, `+Inf`.
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

/// Labels as they are written between the braces.
pub fn write_labels(labels: &[(String, String)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

/// Labels back from [`write_labels`]; `None` when the text is something else.
pub fn read_labels(text: &str) -> Option<Vec<(String, String)>> {
    let braced = format!("{{{text}}}");
    let (labels, None, "") = label_set(&braced).ok()? else { return None };
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Sample {
        match line(text) {
            Ok(Line::Sample(sample)) => sample,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn samples_have_names_labels_values_and_times() {
        let plain = one("up 1");
        assert_eq!((plain.name.as_str(), plain.value, plain.labels.len(), plain.timestamp), ("up", 1.0, 0, None));
        let full = one("a:b_total{x=\"1\", le = \"+Inf\",} 8.128902e+06 1395066363000");
        assert_eq!((full.label("x"), full.label("le"), full.label("y")), (Some("1"), Some("+Inf"), None));
        assert_eq!((full.value, full.timestamp), (8_128_902.0, Some(1_395_066_363_000.0)));
        assert_eq!(one("a{} \t -2").value, -2.0);
        assert_eq!(one("a {b=\"c\"} 3\r").value, 3.0);
        assert_eq!(one("{\"http.status\",code=\"200\"} 7").name, "http.status");
    }

    #[test]
    fn labels_hold_anything_once_escaped() {
        let sample = one(r#"m{path="C:\\dir\n\"x\" {,} =# \q"} 1 # {trace="1"} 0.5 1.2"#);
        assert_eq!(sample.label("path"), Some("C:\\dir\n\"x\" {,} =# \\q"));
        assert_eq!((sample.value, sample.timestamp), (1.0, None));
    }

    #[test]
    fn numbers_are_those_of_go() {
        assert!(one("a NaN").value.is_nan());
        assert_eq!((one("a +Inf").value, one("a -Inf").value), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!(one("a 1e-9").value, 1e-9);
    }

    #[test]
    fn comments_say_what_a_family_is() {
        assert_eq!(line("# TYPE a:b histogram"), Ok(Line::Type { name: "a:b".into(), kind: Kind::Histogram }));
        assert_eq!(
            line("#  HELP a two\\nlines \\\\"),
            Ok(Line::Help { name: "a".into(), text: "two\nlines \\".into() })
        );
        for nothing in ["", "# EOF", "#", "# a comment {", "# UNIT a seconds", "  "] {
            assert_eq!(line(nothing), Ok(Line::Nothing), "{nothing}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_only_itself() {
        for wrong in ["a", "a x", "a{b} 1", "a{b=c} 1", "a{b=\"c} 1", "a{b=\"c\" 1", "{} 1", "a 1 2 3", "a{=\"c\"} 1"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
        let page = page(b"a 1\nbroken{\n\xff 2\nb 3");
        assert_eq!(page.samples.len(), 3);
        assert_eq!(page.wrong.len(), 1);
        assert_eq!(page.wrong[0].0, 2);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = line(&text);
            page(&bytes);
        }

        #[test]
        fn labels_come_back_as_they_were(
            labels in proptest::collection::vec(("[a-z_]{1,5}", "[a-z\\\\\"{}=, \n#é]{0,12}"), 0..5),
            value in any::<f64>(),
        ) {
            prop_assert_eq!(read_labels(&write_labels(&labels)), Some(labels.clone()));
            let sample = one(&format!("m{{{}}} {value}", write_labels(&labels)));
            prop_assert!(sample.value == value || value.is_nan() && sample.value.is_nan());
            prop_assert_eq!(sample.labels, labels);
        }
    }
}
