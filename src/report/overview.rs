//! The combined report of a sweep as text: its arguments, a row for each load, the best loads, and recommendations.

use unicode_width::UnicodeWidthStr;

use super::advice::{Grade, best, by_load, recommendations, success_rate};
use super::early_end;
use super::findings::{self, SharedEntry};
use super::glance;
use super::html::bounds::{at_most_s, series};
use super::language::Language;
use super::load_name::load_name;
use super::repeats;
use super::table::{AT_MOST_SIGN, Align, Decimals, Table, cut, digits, few_note, mark, number, percent_down, wrap};
use crate::finding::{Figure, Severity};
use crate::record::facts::Mode;
use crate::stats::Summary;

/// Lines are at least this long, even on narrower screens.
const NARROWEST: usize = 60;

/// The report over the runs of a call, sorted by load. `output` is shown as the folder of the files. With `colour`,
/// rows are coloured by success rate.
pub fn render(runs: &[&Summary], output: Option<&str>, width: usize, colour: bool) -> String {
    let width = width.max(NARROWEST);
    let runs = &by_load(runs)[..];
    let Some(first) = runs.first() else { return String::new() };
    let mut out = format!("\nPerformance report: {}\n", cut(&first.facts.model, width.saturating_sub(20)));
    for line in findings::void_lines(runs, Language::En) {
        out.push_str(&wrap("VOID: ", &line, width));
    }
    out.push_str(&basic_information(runs, output, width));
    out.push_str("\nDetailed performance metrics:\n");
    for table in load_tables(runs, width) {
        out.push_str(&coloured(&table, runs, colour));
    }
    out.push_str(&footnote(runs, width));
    for (name, table) in repeats::tables(runs, Language::En) {
        out.push_str(&format!("\nFrom run to run: {name}\n{}", table.fitted(width).render()));
    }
    out.push_str(&repeats_footnote(runs, width));
    let objectives = objectives(runs, colour);
    if !objectives.is_empty() {
        out.push_str(&format!("\nService level objectives:\n{objectives}"));
    }
    out.push_str(&best_loads(runs));
    out.push_str(&advice(runs, width, str::to_string));
    out + &cautions(runs, width)
}

/// The report on a screen of 24 lines: what matters most comes last. At most [`FINDINGS`] findings, shortened, and one
/// table of loads, with as many columns as fit; [`render`] has the rest.
pub fn render_on_screen(runs: &[&Summary], output: Option<&str>, width: usize, colour: bool) -> String {
    let width = width.max(NARROWEST);
    let runs = &by_load(runs)[..];
    let Some(first) = runs.first() else { return String::new() };
    let mut out = format!("\nPerformance report: {}\n", cut(&first.facts.model, width.saturating_sub(20)));
    out.push_str(&basic_information(runs, output, width));
    out.push_str(&best_loads(runs));
    out.push_str(&advice(runs, width, with_file));
    let findings = worst_findings(runs, width, colour);
    if !findings.is_empty() {
        out.push_str(&format!("\nFindings of single runs:\n{findings}"));
    }
    let (table, left_out) = fitting_table(runs, width);
    out.push_str(&format!("\nDetailed performance metrics:\n{}", coloured(&table, runs, colour)));
    out.push_str(&footnote(runs, width));
    out.push_str(&left_out_note(&left_out, width));
    if let Some(table) = repeats::glance(runs) {
        out.push_str(&format!("\nMean of the runs ± 95 % confidence interval:\n{}", table.fitted(width).render()));
        out.push_str(&repeats_footnote(runs, width));
    }
    for run in runs.iter().filter(|run| run.slo.is_some()) {
        let joined = |colour| {
            let verdicts = glance::objectives(run, colour).trim_end().replace('\n', "; ");
            format!("{}: {verdicts}\n", load_name(&run.facts, Language::En))
        };
        match joined(false).trim_end().width() <= width {
            true => out.push_str(&joined(colour)),
            false => out.push_str(&objectives_of(run, colour)),
        }
    }
    out
}

/// The most findings of single runs on the screen.
const FINDINGS: usize = 4;

/// The findings of the runs as at the end of a single run: the most severe first, one for each cause. Notes are counted.
pub(crate) fn worst_findings(runs: &[&Summary], width: usize, colour: bool) -> String {
    let mut all = findings::of_runs(runs, Language::En);
    let mut index = 0;
    while index < all.len() {
        let (before, rest) = all.split_at(index);
        match before.iter().any(|shared| shared.entry.is_same_problem(&rest[0].entry)) {
            true => drop(all.remove(index)),
            false => index += 1,
        }
    }
    let text = |SharedEntry { first_load, other_loads, entry, .. }: &SharedEntry<'_>| {
        // Their figures can differ from those of the first.
        let others = match other_loads {
            0 => String::new(),
            1 => ", similar at 1 more load".to_string(),
            count => format!(", similar at {count} more loads"),
        };
        (entry.severity, format!("{first_load}{others}: {}", with_file(&entry.headline(Language::En))))
    };
    let notes = findings::count_notes(runs);
    glance::most_severe(&all.iter().map(text).collect::<Vec<_>>(), notes, FINDINGS, width, colour)
}

/// A text that refers to the tables of failures, which are in the file only.
fn with_file(text: &str) -> String {
    text.replace("the table of failures", "the failures in performance_summary.txt")
}

fn advice(runs: &[&Summary], width: usize, reworded: fn(&str) -> String) -> String {
    let advice = recommendations(runs, Language::En);
    if advice.is_empty() {
        return String::new();
    }
    let lines: String = advice.iter().map(|line| wrap("- ", &reworded(line), width)).collect();
    format!("\nPerformance recommendations:\n{lines}")
}

/// The verdict on each objective, for each load.
pub fn objectives(runs: &[&Summary], colour: bool) -> String {
    match runs {
        [run] => glance::objectives(run, colour),
        _ => by_load(runs).iter().map(|run| objectives_of(run, colour)).collect(),
    }
}

/// The verdict on each objective of a run, each line with the load.
fn objectives_of(run: &Summary, colour: bool) -> String {
    let load = load_name(&run.facts, Language::En);
    glance::objectives(run, colour).lines().map(|line| format!("{load}: {line}\n")).collect()
}

/// The findings of single runs, repeated for the reader of the combined report.
fn cautions(runs: &[&Summary], width: usize) -> String {
    let mut out = String::new();
    let all = findings::of_runs(runs, Language::En);
    for SharedEntry { loads, entry, .. } in all.iter().filter(|shared| shared.entry.severity == Severity::Caution) {
        out.push_str(&wrap("Caution: ", &format!("{loads}: {}", entry.headline(Language::En)), width));
        entry.symptoms(Language::En).iter().for_each(|symptom| out.push_str(&wrap("  - ", symptom, width)));
    }
    if out.is_empty() { out } else { format!("\nFindings of single runs:\n{out}") }
}

/// The times of the table whose p99 it has.
const TIMES: [Figure; 3] = [Figure::Latency, Figure::Ttft, Figure::Tpot];

fn footnote(runs: &[&Summary], width: usize) -> String {
    let has = |which: &dyn Fn(&Cell) -> bool| runs.iter().any(|run| TIMES.iter().any(|time| which(&p99(run, *time))));
    let few =
        if has(&|cell| cell.after == mark(true)) { wrap("* ", &few_note(Language::En), width) } else { String::new() };
    let bounds = if has(&|cell| cell.before == AT_MOST) { wrap("<= ", glance::AT_MOST, width) } else { String::new() };
    few + &bounds + &unusual_ends(runs, width)
}

/// What the bounds in the tables of repeated runs mean.
fn repeats_footnote(runs: &[&Summary], width: usize) -> String {
    if repeats::has_bounds(runs) { wrap(&format!("{AT_MOST_SIGN} "), glance::AT_MOST, width) } else { String::new() }
}

/// A line below the table of loads for each load with rows that must not be read like the others: void runs, and those
/// that ended early.
fn unusual_ends(runs: &[&Summary], width: usize) -> String {
    let of_load = |group: &Vec<&Summary>| {
        let void = group.iter().any(|run| run.is_void()).then(|| "void, do not use its figures".to_string());
        let words: Vec<String> = void.into_iter().chain(early_end::clause(group, Language::En)).collect();
        let load = load_name(&group[0].facts, Language::En);
        if words.is_empty() { String::new() } else { wrap("", &format!("{load}: {}", words.join("; ")), width) }
    };
    repeats::groups(runs).iter().map(of_load).collect()
}

/// Columns of the line of a load, which may be on a small screen.
const LINE: usize = 80;

/// One short line about a run of a sweep, shown when it ends: what was measured, times in milliseconds. Figures for which
/// [`LINE`] has no room are left out, the mean TPOT first; all of them are in the table of loads.
pub fn one_line(s: &Summary) -> String {
    let t = &s.throughput;
    let value = |name: &str, value: Option<f64>, unit: &str| Some(format!("{name}{}{unit}", short(value?)));
    let ms = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e3);
    let p99 = |name: &str, time: Figure| {
        let cell = p99(s, time);
        let (before, milliseconds) = (cell.before, ms(cell.value)?);
        Some(match before == AT_MOST {
            true => format!("{name} p99 {before} {} ms", Decimals::for_digits([milliseconds], 0).ceil(milliseconds)),
            false => format!("{name} p99 {} ms", short(milliseconds)),
        })
    };
    let times = if s.generates_text() {
        let tpot = if s.series.tpot_range.is_some() { "TPOT ~" } else { "TPOT " };
        [p99("TTFT", Figure::Ttft), value(tpot, ms(s.series.tpot_s.mean), " ms")]
    } else {
        [p99("latency", Figure::Latency), None]
    };
    let tokens = match s.generates_text() {
        true => value("", t.output_tokens_per_s, " tok/s"),
        false => value("", t.input_tokens_per_s, " input tok/s"),
    };
    let [first, second] = times;
    let failed = (s.counts.failed > 0).then(|| format!("{} failed", s.counts.failed));
    let load = load_name(&s.facts, Language::En) + &early_end::mark(s, Language::En);
    let requests = value("", t.requests_per_s, " req/s");
    let line = |parts: [&Option<String>; 5]| {
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        format!("{load}: {}", parts.join(", "))
    };
    let none = None;
    let choices = [[&requests, &tokens, &first, &second, &failed], [&requests, &tokens, &first, &none, &failed]];
    let lines = choices.map(line);
    let fits = |text: &&String| text.width() <= LINE;
    lines.iter().find(fits).unwrap_or(&lines[1]).clone()
}

/// A number with three digits, or all before the point.
fn short(value: f64) -> String {
    digits(value, 0)
}

fn basic_information(runs: &[&Summary], output: Option<&str>, width: usize) -> String {
    let facts = &runs[0].facts;
    let time_s = sum(runs.iter().filter_map(|run| run.time_s));
    let generated = sum(runs.iter().filter_map(|run| generated(run)));
    let rate = generated.zip(time_s).filter(|pair| pair.1 > 0.0).map(|(tokens, time_s)| tokens / time_s);
    let known = |value: Option<f64>, decimals: usize, unit: &str| match value {
        Some(value) => format!("{} {unit}", digits(value, decimals)),
        None => "-".to_string(),
    };
    let mut rows = vec![
        ("Model", facts.model.clone()),
        ("Dataset", facts.dataset.clone()),
        ("API", facts.api.clone()),
        ("URL", facts.url.clone()),
        ("Address", if facts.addresses.is_empty() { "-".to_string() } else { facts.addresses.join(", ") }),
        ("Total generated", generated.map_or_else(|| "-".to_string(), |tokens| format!("{tokens:.0} tokens"))),
        ("Total test time", known(time_s, 2, "s")),
        ("Average output rate", known(rate, 2, "tok/s")),
    ];
    if runs.iter().all(|run| !run.generates_text()) {
        rows.retain(|(name, _)| !matches!(*name, "Total generated" | "Average output rate"));
    }
    rows.extend(output.map(|output| ("Output path", output.to_string())));
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let table = Table {
        head: vec!["Basic information".to_string(), String::new()],
        aligns: vec![Align::Left, Align::Left],
        rows: rows
            .into_iter()
            .map(|(name, value)| vec![name.to_string(), cut(&value, width.saturating_sub(name_width.max(17) + 7))])
            .collect(),
        grid: false,
    };
    table.render()
}

/// The sum of the known values; `None` if none is known.
fn sum(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(|a, b| a + b)
}

/// Output tokens of a run: 0 if no request succeeded, unknown if no response has a count.
fn generated(s: &Summary) -> Option<f64> {
    let tokens = &s.series.output_tokens;
    if s.counts.ok == 0 { Some(0.0) } else { Some(tokens.mean? * tokens.count as f64) }
}

/// A cell of the table of loads: a value with what stands around it.
#[derive(Clone, Copy)]
struct Cell {
    before: &'static str,
    value: Option<f64>,
    after: &'static str,
}

/// Before an upper bound, which is rounded up.
const AT_MOST: &str = "<=";

/// A column of the table of loads: its name in evalscope's report, the decimals that its values have at least, and the
/// cell of a run.
#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    least: usize,
    cell: fn(&Summary) -> Cell,
}

impl Column {
    const fn new(name: &'static str, least: usize, cell: fn(&Summary) -> Cell) -> Column {
        Column { name, least, cell }
    }

    /// The cells of all runs, with the same decimals.
    fn cells(&self, runs: &[&Summary]) -> Vec<String> {
        let cells: Vec<Cell> = runs.iter().map(|run| (self.cell)(run)).collect();
        let decimals = Decimals::for_digits(cells.iter().filter_map(|cell| cell.value), self.least);
        let text = |Cell { before, value, after }: &Cell| match value {
            Some(value) if *before == AT_MOST => format!("{before}{}{after}", decimals.ceil(*value)),
            Some(value) => format!("{before}{}{after}", decimals.text(*value)),
            None => "-".to_string(),
        };
        cells.iter().map(text).collect()
    }
}

const LOADS: [Column; 8] = [
    Column::new("RPS", 2, |s| plain(s.throughput.requests_per_s)),
    Column::new("Avg Lat.(s)", 3, |s| plain(s.series.latency_s.mean)),
    Column::new("P99 Lat.(s)", 3, |s| p99(s, Figure::Latency)),
    Column::new("Gen. toks/s", 2, |s| plain(s.throughput.output_tokens_per_s)),
    Column::new("Avg TTFT(s)", 3, |s| plain(s.series.ttft_s.mean)),
    Column::new("P99 TTFT(s)", 3, |s| p99(s, Figure::Ttft)),
    Column::new("Avg TPOT(s)", 4, |s| in_range(s, plain(s.series.tpot_s.mean))),
    Column::new("P99 TPOT(s)", 4, |s| in_range(s, p99(s, Figure::Tpot))),
];
/// The last column.
const SUCCESS: &str = "Success Rate";

fn plain(value: Option<f64>) -> Cell {
    Cell { before: "", value, after: "" }
}

fn p99(s: &Summary, time: Figure) -> Cell {
    if let Some(bound) = at_most_s(s, time, 990) {
        return Cell { before: AT_MOST, value: Some(bound), after: "" };
    }
    let quantile = series(s, time).at(990);
    Cell { before: "", value: quantile.map(|q| q.value), after: mark(quantile.is_some_and(|q| q.few)) }
}

/// Marks a TPOT that is the most plausible value of a range.
fn in_range(s: &Summary, cell: Cell) -> Cell {
    if s.series.tpot_range.is_some() && cell.before.is_empty() { Cell { before: "~", ..cell } } else { cell }
}

/// The table of all columns has at most this width.
const WIDEST: usize = 110;

/// The table of these columns, with or without that of success. If it is wider than `width`, the names of the columns
/// have two lines.
fn load_table(runs: &[&Summary], columns: &[Column], success: bool, width: usize) -> Table {
    let mut table = whole_table(runs, columns, success);
    if table.width() > width {
        table.head.iter_mut().for_each(|name| *name = name.replacen(' ', "\n", 1));
    }
    table
}

/// One table if it fits, else three that repeat the load.
fn load_tables(runs: &[&Summary], width: usize) -> Vec<Table> {
    let width = width.min(WIDEST);
    if runs.iter().all(|run| !run.generates_text()) {
        return vec![load_table(runs, &LOADS_WITHOUT_TEXT, true, width)];
    }
    let whole = load_table(runs, &LOADS, true, width);
    if whole.width() <= width {
        return vec![whole];
    }
    let parts: [(&[usize], bool); 3] = [(&[0, 3], true), (&[1, 2], false), (&[4, 5, 6, 7], false)];
    parts.iter().map(|(part, success)| load_table(runs, &pick(part), *success, width)).collect()
}

/// One table of loads with as many columns as fit, and the names of the columns that are left out, the least important.
fn fitting_table(runs: &[&Summary], width: usize) -> (Table, Vec<&'static str>) {
    let width = width.min(WIDEST);
    if runs.iter().all(|run| !run.generates_text()) {
        return (load_table(runs, &LOADS_WITHOUT_TEXT, true, width), Vec::new());
    }
    let choices: [(&[usize], bool); 7] = [
        (&[0, 1, 2, 3, 4, 5, 6, 7], true),
        (&[0, 2, 3, 4, 5, 6, 7], true),
        (&[0, 2, 3, 5, 6, 7], true),
        (&[0, 2, 3, 5, 6], true),
        (&[0, 3, 5, 6], true),
        (&[0, 3, 5], true),
        (&[0, 3, 5], false),
    ];
    let table = |(chosen, success): (&[usize], bool)| load_table(runs, &pick(chosen), success, width);
    let fits = |choice: &&(&[usize], bool)| table(**choice).width() <= width;
    let (chosen, success) = *choices.iter().find(fits).unwrap_or(&choices[choices.len() - 1]);
    let left_out = LOADS.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, column)| column.name);
    (table((chosen, success)), left_out.chain((!success).then_some(SUCCESS)).collect())
}

fn pick(columns: &[usize]) -> Vec<Column> {
    columns.iter().map(|&column| LOADS[column]).collect()
}

/// Where the columns are for which the screen is too narrow.
fn left_out_note(columns: &[&str], width: usize) -> String {
    match columns {
        [] => String::new(),
        columns => wrap(
            "",
            &format!("Not on a screen this narrow: {}; see performance_summary.txt", columns.join(", ")),
            width,
        ),
    }
}

/// The columns of embeddings and rankings.
const LOADS_WITHOUT_TEXT: [Column; 4] =
    [LOADS[0], LOADS[1], LOADS[2], Column::new("In. toks/s", 2, |s| plain(s.throughput.input_tokens_per_s))];

fn whole_table(runs: &[&Summary], columns: &[Column], success: bool) -> Table {
    let by_parallel = runs.iter().any(|run| run.facts.parallel.is_some());
    let by_rate = runs.iter().any(|run| run.facts.rate_per_s.is_some());
    let of_each = |cell: &dyn Fn(&Summary) -> Option<String>| -> Vec<String> {
        runs.iter().map(|run| cell(run).unwrap_or_else(|| "-".to_string())).collect()
    };
    let mut shown: Vec<(&str, Vec<String>)> = Vec::new();
    if by_parallel {
        shown.push(("Conc.", of_each(&|run| run.facts.parallel.map(|parallel| parallel.to_string()))));
    }
    if by_rate {
        shown.push(("Rate", of_each(&|run| run.facts.rate_per_s.map(number))));
    }
    // With few requests, the rate of a random schedule can differ much from its nominal rate.
    if runs.iter().any(|run| run.facts.mode != Mode::Closed) {
        let offered = Column::new("Offered", 2, |s| plain(s.rates.offered_per_s));
        shown.push((offered.name, offered.cells(runs)));
    }
    shown.extend(columns.iter().map(|column| (column.name, column.cells(runs))));
    if success {
        shown.push((SUCCESS, of_each(&|run| Some(format!("{}%", percent_down(success_rate(run)?))))));
    }
    Table {
        aligns: vec![Align::Decimal; shown.len()],
        head: shown.iter().map(|column| column.0.to_string()).collect(),
        rows: (0..runs.len()).map(|run| shown.iter().map(|column| column.1[run].clone()).collect()).collect(),
        grid: false,
    }
}

/// The table as text, with the line of each run in the colour of its success rate.
fn coloured(table: &Table, runs: &[&Summary], colour: bool) -> String {
    // Frame, head, frame.
    let head = table.head_lines() + 2;
    let text = table.render();
    if !colour {
        return text;
    }
    let line = |(index, line): (usize, &str)| match index.checked_sub(head).and_then(|row| runs.get(row)) {
        Some(run) => {
            let code = match Grade::from_share(success_rate(run)) {
                Grade::Good => 32,
                Grade::Passable => 33,
                Grade::Bad => 31,
            };
            format!("\u{1b}[{code}m{line}\u{1b}[0m\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().enumerate().map(line).collect()
}

fn best_loads(runs: &[&Summary]) -> String {
    let (fastest, shortest) = best(runs);
    let mut rows = Vec::new();
    if let Some(best) = fastest {
        let value = format!("{} req/s", digits(best.value, 2));
        rows.push(vec!["Highest RPS".to_string(), load_name(&best.run.facts, Language::En), value]);
    }
    if let Some(best) = shortest {
        let value = format!("{} s", digits(best.value, 3));
        rows.push(vec!["Lowest latency".to_string(), load_name(&best.run.facts, Language::En), value]);
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = ["Best", "Load", "Value"].map(str::to_string).to_vec();
    let table = Table { head, aligns: vec![Align::Left, Align::Left, Align::Right], rows, grid: false };
    format!("\nBest performance configuration:\n{}", table.render())
}
