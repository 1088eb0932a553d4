//! A comparison as an HTML page.

use super::cells::{cells, heads};
use super::rows::{Row, Verdict, compare};
use super::sides::{Comparison, Entry, about, letter, note};
use super::warnings::warnings;
use crate::finding::Severity;
use crate::report::html::{Words, both, escape, numbers_table, wrap};
use crate::report::language::Language;
use crate::report::table::few_note;

/// The page, self-contained, in both languages; it is shown in `language` first.
pub fn html(comparison: &Comparison<'_>, language: Language) -> String {
    let title = Words::each(|language| title(language).to_string());
    wrap(&title, &both(|language| body(comparison, language)), language)
}

fn title(language: Language) -> &'static str {
    language.pick("Comparison of runs", "测试对比")
}

fn body(comparison: &Comparison<'_>, language: Language) -> String {
    let title = title(language);
    // Paths and names of models are long words, which would make a phone scroll sideways.
    let mut body = format!("<h1>{title}</h1><ul style=\"overflow-wrap:anywhere\">");
    for (number, side) in comparison.sides.iter().enumerate() {
        let line = format!("{}: {} ({})", letter(number), about(side, language), side.name);
        body.push_str(&format!("<li>{}</li>", escape(&line)));
    }
    body.push_str("</ul>");
    for load in &comparison.loads {
        let Some((first, others)) = load.entries.split_first() else { continue };
        let heading = match load.name {
            Some(name) => {
                body.push_str(&format!("<h2>{}</h2>", escape(&name.text(language))));
                "h3"
            }
            None => "h2",
        };
        for other in others {
            let (name, against) = (letter(other.side), language.pick("against", "对比"));
            body.push_str(&format!("<{heading}>{name} {against} A</{heading}>{}", pair(first, other, language)));
        }
    }
    for missing in &comparison.missing {
        body.push_str(&format!("<p>{}</p>", escape(&missing.text(language))));
    }
    body.push_str(&format!("<p class=\"note\">{}</p>", note(comparison, language)));
    body
}

/// Warnings and table of two entries.
fn pair(a: &Entry<'_>, b: &Entry<'_>, language: Language) -> String {
    let compared = compare(&a.runs, &b.runs);
    let mut out = String::new();
    for warning in warnings(a, b, &compared, language) {
        let (class, name) = match warning.severity {
            Severity::Void => ("void", language.pick("VOID", "无效")),
            Severity::Caution | Severity::Note => ("caution", language.pick("Caution", "注意")),
        };
        let text = escape(&warning.text);
        out.push_str(&format!("<div class=\"finding {class}\"><b>{name}</b>{text}</div>"));
    }
    let class = |row: &Row| match row.verdict {
        Verdict::Better => "good",
        Verdict::Worse => "bad",
        _ => "",
    };
    let rows: Vec<(&str, Vec<String>)> = compared.rows.iter().map(|row| (class(row), cells(row, language))).collect();
    out.push_str(&numbers_table(&heads(&letter(b.side), language), &rows));
    if compared.rows.iter().any(|row| row.a.few || row.b.few) {
        out.push_str(&format!("<p class=\"note\">* {}</p>", few_note(language)));
    }
    out
}
