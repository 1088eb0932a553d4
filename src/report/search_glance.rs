//! The end of what a search prints: what was found, the order of the loads, and the table of loads.

use super::glance::{Colour, coloured};
use super::html::search_sentences;
use super::language::Language;
use super::overview::worst_findings;
use super::search::{NARROWEST, ordered, path, probe_notes, probe_tables, title};
use super::table::wrap;
use crate::search::StoredSearch;
use crate::stats::Summary;

/// The result of a search on a screen: the loads that were found first. `report::search::render` has the rest. `notice`
/// says why the search ended early.
pub fn render(runs: &[&Summary], stored: &StoredSearch, notice: &str, width: usize, colours: bool) -> String {
    let width = width.max(NARROWEST);
    let mut out = format!("\n{}:\n", title(&stored.plan, Language::En));
    out.push_str(notice);
    out.push_str(&verdicts(runs, stored, width, colours));
    let probes = ordered(&stored.probes);
    if probes.is_empty() {
        return out + "No load was measured to its end.\n";
    }
    out.push_str(&wrap("In order: ", &path(&stored.plan, &stored.probes, Language::En), width));
    out.push_str(&worst_findings(runs, width, colours));
    out.push_str(&probe_tables(&stored.plan, &probes, width));
    out + &probe_notes(&stored.plan, &probes, width)
}

/// A line for each aim: the load that was found, or that there is none.
pub fn verdicts(runs: &[&Summary], stored: &StoredSearch, width: usize, colours: bool) -> String {
    let mut out = String::new();
    for (sentence, selection) in search_sentences(runs, stored).iter().zip(&stored.selections) {
        let (sign, colour) = match selection.value {
            Some(_) => ("✓ ", Colour::Green),
            None => ("✗ ", Colour::Red),
        };
        let found =
            selection.value.map_or_else(String::new, |load| format!("{} {load}: ", stored.plan.variable.name()));
        let sentence = sentence.en.trim_end_matches('.');
        let text = wrap(sign, &format!("{found}{sentence} ({}).", selection.reason.en()), width);
        out.push_str(&text.replacen(sign, &coloured(sign, colour, colours), 1));
    }
    out
}
