//! The result at a glance: the end of what a run prints. With the lines that say where the files are, it fits on 24
//! lines of 80 columns.

use unicode_width::UnicodeWidthStr;

use super::early_end::EarlyEnd;
use super::findings::entries;
use super::html::bounds::{at_most_s, mean_at_most_s};
use super::language::Language;
use super::load_name::load_name;
use super::objective::measured_with_bound;
use super::table::{AT_MOST_SIGN, Align, Decimals, Table, cut, digits, few_note, mark, wrap};
use crate::finding::{Figure, Severity};
use crate::stats::Summary;
use crate::stats::measurement_error::Bound;
use crate::stats::quantile::{LEVELS, Series};
use crate::stats::slo::Judged;

/// The most findings that are shown.
const FINDINGS: usize = 3;
/// Lines of a small screen, and those of them that follow: three about the files, and the prompt.
const SCREEN: usize = 24;
const AFTER: usize = 4;
/// The most lines of one finding.
const FINDING_LINES: usize = 2;
/// Percentiles of the table.
const SHOWN: [(&str, u32); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)];

/// What `≤` before a percentile means.
pub(crate) const AT_MOST: &str = "this client's error exceeds the figure: the true one is at most this";

/// A colour of the terminal.
#[derive(Clone, Copy)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
}

/// Requests, throughput, times, objectives, the client's error, and findings.
pub fn render(s: &Summary, width: usize, colours: bool) -> String {
    let requests = wrap("", &requests(s), width) + &failures(s, width);
    let figures = requests + &wrap("", &throughput(s), width) + &times(s, width);
    let trust = wrap("", &trust(s), width);
    let room = (SCREEN - AFTER).saturating_sub(figures.lines().count() + trust.lines().count());
    let least = findings(s, width, colours, 0).lines().count();
    let mut objectives = objectives(s, colours);
    if objectives.lines().count() + least > room {
        objectives = joined_objectives(s, width, colours);
    }
    let findings = findings(s, width, colours, room.saturating_sub(objectives.lines().count()));
    format!("\n{figures}{objectives}{trust}{findings}")
}

/// "400 requests in 63 s, Concurrency 200: 400 ok, 0 failed". What ended the run early follows, which a reader must not
/// miss among the findings.
fn requests(s: &Summary) -> String {
    let counts = &s.counts;
    let rest = [(counts.unfinished, "unfinished"), (counts.unsent, "unsent"), (counts.unknown, "unknown")];
    let rest: String =
        rest.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!(", {count} {name}")).collect();
    let time = s.time_s.map_or_else(String::new, |time| format!(" in {} s", digits(time, 0)));
    let load = load_name(&s.facts, Language::En);
    let requests = if counts.scheduled == 1 { "request" } else { "requests" };
    let end = EarlyEnd::of_run(s).map_or_else(String::new, |end| format!("; {}", end.clause(Language::En)));
    format!("{} {requests}{time}, {load}: {} ok, {} failed{rest}{end}", counts.scheduled, counts.ok, counts.failed)
}

/// The failures by class and the most frequent error text, on one line.
fn failures(s: &Summary, width: usize) -> String {
    let Some(most) = s.failures.first() else { return String::new() };
    /// A text of which less than this is shown is left out.
    const LEAST: usize = 12;
    let classes: Vec<String> =
        s.failures.iter().map(|failure| format!("{} {}", failure.count, failure.failure.name())).collect();
    let classes = format!("Failures: {}", classes.join(", "));
    let before = "; most frequent: ";
    let room = width.saturating_sub(classes.width() + before.width());
    let text = most.texts.first().filter(|text| room >= text.example.width().min(LEAST));
    let text = text.map_or_else(String::new, |text| format!("{before}{}", text.example));
    cut(&format!("{classes}{text}"), width) + "\n"
}

fn throughput(s: &Summary) -> String {
    let t = &s.throughput;
    let rate = |value: Option<f64>, unit: &str| value.map(|value| format!("{} {unit}", digits(value, 0)));
    let tokens = if s.generates_text() {
        [rate(t.output_tokens_per_s, "output tok/s"), rate(t.total_tokens_per_s, "total tok/s")]
    } else {
        [rate(t.input_tokens_per_s, "input tok/s"), None]
    };
    let parts = std::iter::once(rate(t.requests_per_s, "req/s")).chain(tokens);
    let parts: Vec<String> = parts.flatten().collect();
    if parts.is_empty() { "Throughput: -".to_string() } else { format!("Throughput: {}", parts.join(", ")) }
}

/// The table of times in milliseconds; the figures that the run does not have are left out.
fn times(s: &Summary, width: usize) -> String {
    let series = &s.series;
    type Row<'a> = (&'a str, Figure, &'a Series);
    let mut figures: Vec<Row<'_>> =
        vec![("TTFT (ms)", Figure::Ttft, &series.ttft_s), ("ITL (ms)", Figure::Itl, &series.itl_s)];
    if series.tpot_range.is_none() || series.tpot_is_within() {
        figures.push(("TPOT (ms)", Figure::Tpot, &series.tpot_s));
    }
    if let Some(range) = &series.tpot_range {
        figures.extend([("TPOT from (ms)", Figure::Tpot, &range.low_s), ("TPOT to (ms)", Figure::Tpot, &range.high_s)]);
    }
    figures.push(("Latency (ms)", Figure::Latency, &series.latency_s));
    let known: Vec<&Row<'_>> = figures.iter().filter(|(_, _, series)| series.mean.is_some()).collect();
    if known.is_empty() {
        return String::new();
    }
    let bound = |time: Figure, per_mille: u32| at_most_s(s, time, per_mille);
    let row = |(name, time, series): &&Row<'_>| {
        let mean = mean_text(s, *time, series);
        let quantiles = SHOWN.map(|(_, per_mille)| match (bound(*time, per_mille), series.at(per_mille)) {
            (Some(bound), _) => format!("≤ {}", Decimals(2).ceil(bound * 1e3)),
            (None, Some(quantile)) => ms(quantile.value) + mark(quantile.few),
            (None, None) => "-".to_string(),
        });
        [name.to_string(), mean].into_iter().chain(quantiles).collect()
    };
    let table = Table {
        head: ["", "mean"].into_iter().chain(SHOWN.map(|(name, _)| name)).map(String::from).collect(),
        aligns: [Align::Left].into_iter().chain([Align::Decimal; 5]).collect(),
        rows: known.iter().map(row).collect(),
        grid: false,
    };
    let few = |series: &Series| SHOWN.iter().any(|(_, at)| series.at(*at).is_some_and(|quantile| quantile.few));
    let marked = known.iter().any(|(_, _, series)| few(series));
    let few = if marked { wrap("* ", &few_note(Language::En), width) } else { String::new() };
    let bounded = known.iter().any(|(_, time, _)| SHOWN.iter().any(|(_, at)| bound(*time, *at).is_some()));
    let bounded = if bounded { wrap("≤ ", AT_MOST, width) } else { String::new() };
    table.render() + &few + &bounded
}

/// The least time that the table shows as a number, seconds.
const LEAST_S: f64 = 0.000_005;

/// Milliseconds with two decimals, the same in every cell. A time is not rounded to none.
fn ms(seconds: f64) -> String {
    if seconds > 0.0 && seconds < LEAST_S { "< 0.01".to_string() } else { format!("{:.2}", seconds * 1e3) }
}

/// A mean, which the sum of its parts gives more exactly than their percentiles. One that would be rounded to none is
/// shown by its bound, as the percentiles are.
fn mean_text(s: &Summary, time: Figure, series: &Series) -> String {
    let Some(mean) = series.mean else { return "-".to_string() };
    let is_bounded = SHOWN.iter().any(|(_, per_mille)| at_most_s(s, time, *per_mille).is_some());
    match mean_at_most_s(s, time).filter(|_| mean < LEAST_S && is_bounded) {
        Some(bound) => format!("{AT_MOST_SIGN} {}", Decimals(2).ceil(bound * 1e3)),
        None => ms(mean),
    }
}

/// A line per objective: met or missed, and what was measured.
pub fn objectives(s: &Summary, colours: bool) -> String {
    let line = |(sign, colour, text): (&str, Colour, String)| format!("{} {text}\n", coloured(sign, colour, colours));
    verdicts(s).into_iter().map(line).collect()
}

/// The same with as many objectives on a line as fit.
fn joined_objectives(s: &Summary, width: usize, colours: bool) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for (sign, colour, text) in verdicts(s) {
        let wide = sign.width() + 1 + text.width();
        let separator = match used {
            0 => "",
            used if used + 2 + wide <= width => "; ",
            _ => "\n",
        };
        used = if separator == "; " { used + 2 + wide } else { wide };
        out.push_str(&format!("{separator}{} {text}", coloured(sign, colour, colours)));
    }
    out + "\n"
}

/// Of each objective: the sign of its verdict with its colour, and the text behind it.
fn verdicts(s: &Summary) -> Vec<(&'static str, Colour, String)> {
    let verdict = |one: &Judged| {
        let (sign, colour) = if one.met { ("✓", Colour::Green) } else { ("✗", Colour::Red) };
        let measured = measured_with_bound(s, one).unwrap_or_else(|| "not measured".to_string());
        (sign, colour, format!("{}: {measured}", one.criterion.with_unit()))
    };
    s.slo.iter().flat_map(|slo| &slo.criteria).map(verdict).collect()
}

/// The client's own error as a share of the medians, and the number of findings.
fn trust(s: &Summary) -> String {
    let own = &s.measurement_error;
    let mut times = vec![("TTFT", &s.series.ttft_s, &own.ttft_s), ("ITL", &s.series.itl_s, &own.itl_s)];
    if s.series.ttft_s.count == 0 {
        // Nothing was streamed.
        times = vec![("latency", &s.series.latency_s, &own.latency_s)];
    }
    let shares = times.into_iter().filter_map(|(name, series, bounds)| Some((share(series, bounds)?, name)));
    let shares: Vec<String> = shares.map(|(share, name)| format!("{share} of {name}")).collect();
    let all = entries(&s.findings);
    let count = |severity: Severity, one: &str, many: &str| {
        let count = all.iter().filter(|entry| entry.severity == severity).count();
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let counts = [
        count(Severity::Void, "void", "void"),
        count(Severity::Caution, "caution", "cautions"),
        count(Severity::Note, "note", "notes"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let findings = if counts.is_empty() { "no findings".to_string() } else { counts.join(", ") };
    if shares.is_empty() {
        return format!("Findings: {findings}");
    }
    format!("Own error at p50: {}; {findings}", shares.join(", "))
}

/// The larger distance from the median to its bounds, as a share of the median: `≤ 0.17 %`.
fn share(series: &Series, bounds: &[Bound]) -> Option<String> {
    let place = LEVELS.iter().position(|level| level.per_mille == 500)?;
    let (median, bound) = (series.quantiles.get(place)?.value, bounds.get(place)?);
    let percent = (bound.high - median).max(median - bound.low) / median * 100.0;
    match percent {
        percent if percent.is_nan() => None,
        // Of a median of 0 as well.
        percent if percent > 100.0 => Some("> 100 %".to_string()),
        percent => Some(format!("{AT_MOST_SIGN} {} %", Decimals(2).ceil(percent.max(0.01)))),
    }
}

/// The most severe findings on `room` lines, each on one or two. The worst one has a line however little room there is;
/// the line above counts all of them.
fn findings(s: &Summary, width: usize, colours: bool, room: usize) -> String {
    let all = entries(&s.findings);
    let texts: Vec<(Severity, String)> =
        all.iter().map(|entry| (entry.severity, entry.headline(Language::En))).collect();
    let Some((severity, worst)) = texts.first() else { return String::new() };
    let several = (1..=FINDINGS).rev().map(|most| most_severe(&texts, 0, most, width, colours));
    let alone = (1..=FINDING_LINES).rev().map(|lines| finding(*severity, worst, lines, width, colours));
    let fits = |text: &String| text.lines().count() <= room;
    several.chain(alone).find(fits).unwrap_or_else(|| finding(*severity, worst, 1, width, colours))
}

/// The first `most` of these findings, and how many more there are, and how many notes that are only counted.
pub(crate) fn most_severe(
    all: &[(Severity, String)],
    notes: usize,
    most: usize,
    width: usize,
    colours: bool,
) -> String {
    let shown = all.iter().take(most).map(|(severity, text)| finding(*severity, text, FINDING_LINES, width, colours));
    let mut out: String = shown.collect();
    let more = (all.len() > most).then(|| format!("and {} more", all.len() - most));
    let notes = (notes > 0).then(|| format!("{notes} {}", if notes == 1 { "note" } else { "notes" }));
    let rest: Vec<String> = more.into_iter().chain(notes).collect();
    if !rest.is_empty() {
        out.push_str(&format!("{} in performance_summary.txt\n", rest.join(" and ")));
    }
    out
}

/// One finding on at most `most` lines.
fn finding(severity: Severity, text: &str, most: usize, width: usize, colours: bool) -> String {
    let (name, colour) = match severity {
        Severity::Note => ("Note: ", None),
        Severity::Caution => ("Caution: ", Some(Colour::Yellow)),
        Severity::Void => ("Void: ", Some(Colour::Red)),
    };
    let text = wrap(name, text, width);
    let mut lines: Vec<&str> = text.lines().take(most).collect();
    let cut = text.lines().count() > lines.len();
    // Room for the dots.
    let shortened = lines.last().filter(|_| cut).map(|line| shorten(line, width));
    if let (Some(last), Some(shortened)) = (lines.last_mut(), shortened.as_deref()) {
        *last = shortened;
    }
    let text = lines.join("\n") + "\n";
    match (colour, text.strip_prefix(name)) {
        (Some(colour), Some(rest)) => coloured(name, colour, colours) + rest,
        _ => text,
    }
}

/// The line with "..." at its end, without the words for which there is no room then.
fn shorten(line: &str, width: usize) -> String {
    let mut line = line;
    while line.width() + 4 > width {
        match line.trim_end().rfind(' ') {
            Some(space) if !line[..space].trim().is_empty() => line = &line[..space],
            _ => break,
        }
    }
    format!("{} ...", line.trim_end())
}

pub(crate) fn coloured(text: &str, colour: Colour, colours: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_finding_ends_with_dots_within_the_width() {
        let line = "Caution: one two three four five six seven eight nine ten eleven twelve thirtee";
        let short = shorten(line, 80);
        assert!(short.len() <= 80 && short.ends_with("twelve ..."), "{short}");
    }
}
