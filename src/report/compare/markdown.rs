//! A comparison as Markdown, for the summaries of CI jobs: tables as GitHub and GitLab show them.

use super::cells::{cells, heads, marks};
use super::gate::{self, Gate};
use super::rows::compare;
use super::sides::{Comparison, about, letter, note};
use super::warnings::warnings;
use crate::finding::Severity;
use crate::report::language::Language;
use crate::visible::visible_line;

/// The verdicts of `--fail-on`, then the sides, then a table for each load and side.
pub fn markdown(comparison: &Comparison<'_>, gate: Option<&Gate>) -> String {
    let mut out = "## Comparison\n\n".to_string();
    if let Some(gate) = gate {
        let verdict = if gate.has_failed() { "**failed**" } else { "passed" };
        out.push_str(&format!("Gate: {verdict}\n\n"));
        let rows = gate.tests.iter().map(gate::cells);
        push_table(&mut out, &gate::HEADS.map(str::to_string), rows);
        out.push_str(&format!("{}\n\n", escape(&gate::note(gate))));
    }
    for (number, side) in comparison.sides.iter().enumerate() {
        let (about, name) = (escape(&about(side, Language::En)), escape(&side.name));
        out.push_str(&format!("- {}: {about}, {name}\n", letter(number)));
    }
    for load in &comparison.loads {
        let Some((first, others)) = load.entries.split_first() else { continue };
        let name = load.name.map_or_else(String::new, |name| format!("{}: ", escape(&name.text(Language::En))));
        for other in others {
            out.push_str(&format!("\n### {name}{} against A\n\n", letter(other.side)));
            let compared = compare(&first.runs, &other.runs);
            for warning in warnings(first, other, &compared, Language::En) {
                let severity = if warning.severity == Severity::Void { "VOID" } else { "Caution" };
                out.push_str(&format!("**{severity}**: {}\n\n", escape(&warning.text)));
            }
            let rows = compared.rows.iter().map(|row| cells(row, Language::En));
            push_table(&mut out, &heads(&letter(other.side), Language::En), rows);
            for (mark, note) in marks(&compared.rows, Language::En) {
                out.push_str(&format!("{} {}\n\n", escape(mark), escape(&note)));
            }
        }
    }
    for missing in &comparison.missing {
        out.push_str(&format!("{}\n\n", escape(&missing.text(Language::En))));
    }
    out + &escape(note(comparison, Language::En)) + "\n"
}

fn push_table(out: &mut String, heads: &[String], rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    out.push_str(&line(heads));
    out.push_str(&format!("|{}\n", " --- |".repeat(heads.len())));
    rows.for_each(|row| out.push_str(&line(&row)));
    out.push('\n');
}

/// Text without characters that have a meaning in Markdown or HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_be_markup() {
        assert_eq!(escape("a|b<img>*x*\n[y](z)"), "a\\|b&lt;img&gt;\\*x\\*\\\\n\\[y\\](z)");
    }

    #[test]
    fn tables_have_a_line_below_their_heads() {
        let mut out = String::new();
        push_table(
            &mut out,
            &["A".to_string(), "B".to_string()],
            [vec!["1".to_string(), "2|3".to_string()]].into_iter(),
        );
        assert_eq!(out, "| A | B |\n| --- | --- |\n| 1 | 2\\|3 |\n\n");
    }
}
