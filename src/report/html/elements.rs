//! Elements of the page: tables, lists, rows of charts.

use super::chart::Chart;
use super::escape::{escape, prose};
use crate::report::language::Language;
use crate::report::table::{self, AT_MOST_SIGN, digits, mark};

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

/// A table of numbers whose cells have a CSS class each; none if it is empty.
pub fn table_of_cells(head: &[String], rows: &[Vec<(&str, String)>]) -> String {
    let cell = |(class, text): &(&str, String)| match *class {
        "" => format!("<td>{}</td>", escape(text)),
        class => format!("<td class=\"{class}\">{}</td>", escape(text)),
    };
    let head: String = head.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
    let rows: String =
        rows.iter().map(|row| format!("<tr>{}</tr>", row.iter().map(cell).collect::<String>())).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
}

/// Lines as an unordered list.
pub fn list(lines: &[String]) -> String {
    format!("<ul>{}</ul>", lines.iter().map(|line| format!("<li>{}</li>", prose(line))).collect::<String>())
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
pub fn charts(charts: &[Chart]) -> String {
    format!("<div class=\"charts\">{}</div>", charts.iter().map(Chart::render).collect::<String>())
}

/// A table of names and values; values are HTML.
pub fn facts(rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("<tr><th>{}</th><td>{value}</td></tr>", escape(name));
    let rows: String = rows.iter().map(row).collect();
    format!("<div class=\"scroll\"><table class=\"words facts\"><tbody>{rows}</tbody></table></div>")
}

/// The meaning of `≤` before a percentile.
pub fn at_most_note(language: Language) -> String {
    format!("<p class=\"note\">{AT_MOST_SIGN} {}</p>", table::at_most_note(language))
}

/// Whether one of these cells is only an upper bound.
pub fn has_bounds(cells: &[String]) -> bool {
    cells.iter().any(|cell| cell.starts_with(AT_MOST_SIGN))
}
