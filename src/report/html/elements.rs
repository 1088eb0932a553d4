//! Elements of the page: tables, lists, rows of charts.

use super::chart::{Chart, escape};
use crate::report::language::Language;
use crate::report::table::{self, digits, mark};

/// A table of numbers. Each row is its CSS class and its cells.
pub fn table(head: &[String], rows: &[(&str, Vec<String>)]) -> String {
    let cells = |tag: &str, cells: &[String]| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let row = |(class, row): &(&str, Vec<String>)| match *class {
        "" => format!("<tr>{}</tr>", cells("td", row)),
        class => format!("<tr class=\"{class}\">{}</tr>", cells("td", row)),
    };
    let body: String = rows.iter().map(row).collect();
    // Browsers repeat a `thead` on every page of a printed table.
    let head = cells("th", head);
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")
}

/// Lines as an unordered list.
pub fn list(lines: &[String]) -> String {
    format!("<ul>{}</ul>", lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect::<String>())
}

/// A figure with at least `decimals` decimals; "-" if it is unknown.
pub fn fixed(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_string(), |value| digits(value, decimals))
}

/// The meaning of the mark of percentiles.
pub fn few_note(language: Language) -> String {
    format!("<p class=\"note\">* {}</p>", table::few_note(language))
}

/// Whether one of these cells is marked.
pub fn has_marks(cells: &[String]) -> bool {
    cells.iter().any(|cell| cell.ends_with(mark(true)))
}

/// The charts, side by side if they fit.
pub fn charts(charts: &[Chart], language: Language) -> String {
    let nothing = language.pick("No data.", "无数据。");
    let drawn: String = charts.iter().map(|chart| chart.render(nothing)).collect();
    format!("<div class=\"charts\">{drawn}</div>")
}
