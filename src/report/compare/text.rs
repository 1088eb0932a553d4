//! A comparison on the screen.

use super::cells::{cells, heads, marks};
use super::gate::{self, Gate};
use super::rows::compare;
use super::sides::{Comparison, Entry, about, letter, note};
use super::verdicts::sentence;
use super::warnings::warnings;
use crate::finding::Severity;
use crate::report::language::Language;
use crate::report::table::{Align, Table, cut, wrap};
use crate::visible::visible;

/// Lines are at least this long, even on narrower screens.
const NARROWEST: usize = 60;

/// The tables as text, in lines of at most `width` columns.
pub fn render(comparison: &Comparison<'_>, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut out = "Runs:\n".to_string();
    for (number, side) in comparison.sides.iter().enumerate() {
        out.push_str(&format!("  {} {}\n", letter(number), cut(&about(side, Language::En), width - 5)));
        out.push_str(&format!("    {}\n", cut_front(&side.name, width - 5)));
    }
    for load in &comparison.loads {
        let Some((first, others)) = load.entries.split_first() else { continue };
        let name = load.name.map_or_else(String::new, |name| format!("{}: ", name.text(Language::En)));
        for other in others {
            out.push_str(&format!("\n{name}{} against A:\n{}", letter(other.side), pair(first, other, width)));
        }
    }
    if !comparison.missing.is_empty() {
        out.push('\n');
    }
    comparison.missing.iter().for_each(|missing| out.push_str(&wrap("", &missing.text(Language::En), width)));
    let note = wrap("", note(comparison, Language::En), width);
    visible(&format!("{out}\n{note}")).into_owned()
}

/// The verdicts of `--fail-on` as text, in lines of at most `width` columns.
pub fn render_gate(gate: &Gate, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut aligns = vec![Align::Left; gate::HEADS.len()];
    aligns[3..7].fill(Align::Right);
    let table = Table {
        head: gate::HEADS.map(str::to_string).to_vec(),
        aligns,
        rows: gate.tests.iter().map(gate::cells).collect(),
        grid: false,
    };
    let verdict = if gate.has_failed() { "FAILED" } else { "passed" };
    let mut out = format!("\nGate (--fail-on): {verdict}\n");
    blocks(table, width).iter().for_each(|block| out.push_str(&block.render()));
    visible(&(out + &wrap("", &gate::note(gate), width))).into_owned()
}

/// Warnings and tables of two entries.
fn pair(a: &Entry<'_>, b: &Entry<'_>, width: usize) -> String {
    let compared = compare(&a.runs, &b.runs);
    let mut out = String::new();
    for warning in warnings(a, b, &compared, Language::En) {
        let severity = if warning.severity == Severity::Void { "VOID: " } else { "Caution: " };
        out.push_str(&wrap(severity, &warning.text, width));
    }
    let table = Table {
        head: heads(&letter(b.side), Language::En),
        aligns: [vec![Align::Left], vec![Align::Right; 5], vec![Align::Left]].concat(),
        rows: compared.rows.iter().map(|row| cells(row, Language::En)).collect(),
        grid: false,
    };
    blocks(table, width).iter().for_each(|block| out.push_str(&block.render()));
    for (mark, note) in marks(&compared.rows, Language::En) {
        out.push_str(&wrap(&format!("{mark} "), &note, width));
    }
    let sentence = sentence(&letter(b.side), &compared, Language::En);
    if !sentence.is_empty() {
        out.push_str(&wrap("", &sentence, width));
    }
    out
}

/// The column at which a table that is too wide is divided first: values before it, differences from it on.
const DIVISION: usize = 5;

/// The table, or blocks of it that fit: each has the first column and as many others as fit.
fn blocks(table: Table, width: usize) -> Vec<Table> {
    if table.width() <= width {
        return vec![table];
    }
    let of = |columns: &[usize]| Table {
        head: columns.iter().map(|&column| table.head[column].clone()).collect(),
        aligns: columns.iter().map(|&column| table.aligns[column]).collect(),
        rows: table.rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect(),
        grid: table.grid,
    };
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    for column in 1..table.head.len() {
        let fits = |block: &[usize]| column != DIVISION && of(&[block, &[column]].concat()).width() <= width;
        match blocks.last_mut() {
            Some(block) if fits(block) => block.push(column),
            _ => blocks.push(vec![0, column]),
        }
    }
    blocks.iter().map(|columns| of(columns)).collect()
}

/// The end of a path that is longer than `width` columns, because paths of runs differ at their end.
fn cut_front(path: &str, width: usize) -> String {
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    backwards(&cut(&backwards(path), width))
}
