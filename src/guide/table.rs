//! Tables in Markdown and on a terminal.

use super::inline::{Inline, padded};

/// Columns between two columns of a table.
const GAP: usize = 2;
/// No column is made narrower than this, unless its content is.
const NARROW: usize = 12;

/// The cells of a table row in Markdown; `None` if the line is no row.
pub(super) fn cells(line: &str) -> Option<Vec<String>> {
    // A bar inside of a cell is escaped.
    const BAR: &str = "\u{0}";
    let escaped = line.trim().replace("\\|", BAR);
    let inner = escaped.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().replace(BAR, "|")).collect())
}

/// A line of Markdown as the content of a cell.
pub(super) fn cell_text(line: &str) -> String {
    let text = match cells(line) {
        Some(cells) => cells.join("; "),
        None => line.trim_start_matches(['>', '-', ' ']).to_string(),
    };
    text.replace('|', "\\|")
}

/// A table on a terminal: the first row is the heading, in bold if it was pushed so.
pub(super) fn render(rows: Vec<Vec<Inline>>, width: usize) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let measure = |column: usize, of: fn(&Inline) -> usize| {
        rows.iter().filter_map(|row| row.get(column)).map(of).max().unwrap_or(0)
    };
    let natural: Vec<usize> = (0..columns).map(|column| measure(column, Inline::width)).collect();
    let least: Vec<usize> = (0..columns).map(|column| measure(column, Inline::longest_word).min(NARROW)).collect();
    let widths = fit(&natural, &least, width.saturating_sub(GAP * columns.saturating_sub(1)));
    let mut out = Vec::new();
    for (number, row) in rows.into_iter().enumerate() {
        out.extend(render_row(row, &widths));
        if number == 0 {
            let total = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
            out.push("─".repeat(total));
        }
    }
    out
}

/// The lines of a row.
fn render_row(row: Vec<Inline>, widths: &[usize]) -> Vec<String> {
    let cells: Vec<Vec<(String, usize)>> =
        row.into_iter().zip(widths).map(|(cell, width)| cell.lines(*width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |number: usize| {
        let parts = cells.iter().zip(widths).map(|(cell, width)| {
            let (text, used) = cell.get(number).map_or(("", 0), |(text, used)| (text.as_str(), *used));
            padded(text, used, *width)
        });
        parts.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_string()
    };
    (0..height).map(line).collect()
}

/// Widths of columns that want `natural` columns each, in `available` columns together. Narrow ones get what they want,
/// the others share the rest.
fn fit(natural: &[usize], least: &[usize], available: usize) -> Vec<usize> {
    let mut widths: Vec<Option<usize>> = vec![None; natural.len()];
    loop {
        let open = widths.iter().filter(|width| width.is_none()).count();
        let left = available.saturating_sub(widths.iter().flatten().sum());
        let Some(share) = left.checked_div(open) else { break };
        let settled = (0..natural.len()).filter(|&at| widths[at].is_none() && natural[at] <= share).collect::<Vec<_>>();
        if settled.is_empty() {
            for at in 0..natural.len() {
                widths[at] = widths[at].or(Some(share.max(least[at]).max(1)));
            }
            break;
        }
        settled.into_iter().for_each(|at| widths[at] = Some(natural[at]));
    }
    widths.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_markdown_have_cells() {
        assert_eq!(cells("| `a` | b \\| c |"), Some(vec!["`a`".to_string(), "b | c".to_string()]));
        assert_eq!(cells("a | b"), None);
        assert_eq!((cell_text("> a | b"), cell_text("| a | b |")), ("a \\| b".to_string(), "a; b".to_string()));
    }

    #[test]
    fn wide_columns_share_what_narrow_ones_leave() {
        assert_eq!(fit(&[5, 10], &[5, 5], 40), [5, 10]);
        assert_eq!(fit(&[5, 100, 100], &[5, 12, 12], 45), [5, 20, 20]);
        assert_eq!(fit(&[100], &[12], 4), [12]);
        assert_eq!(fit(&[], &[], 4), [0; 0]);
    }
}
