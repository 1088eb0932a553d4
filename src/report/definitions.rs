//! The definitions of the HTML report as text, for `--help`.

use super::i18n::DEFINITIONS;
use super::table::wrap;

/// Every figure with its formula, then its meaning, in lines of at most `width` columns.
pub fn text(width: usize) -> String {
    let mut out = "Definitions (times are seconds; the HTML report has them too):\n".to_string();
    for definition in &DEFINITIONS {
        let [name, formula, meaning] = [definition.name, definition.formula, definition.meaning].map(|pair| pair[0]);
        let formula = if formula.is_empty() { String::new() } else { format!(" = {formula}") };
        out.push_str(&wrap("  ", &format!("{name}{formula}"), width));
        out.push_str(&wrap("      ", meaning, width));
    }
    out.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn every_formula_fits_a_narrow_screen() {
        let text = text(80);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        for what in ["TTFT = first_token − due", "/ (output_tokens − 1)", "Goodput = ", "arrival[i+1]"] {
            assert!(text.contains(what), "{what}: {text}");
        }
    }
}
