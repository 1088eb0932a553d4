//! The table of the turns of conversations, as text and as JSON.

use serde_json::{Value as Json, json};

use super::i18n::Label;
use super::json_value::finite;
use super::table::{Align, Table, optional};
use crate::stats::Summary;
use crate::stats::turns::TurnRow;

/// Rows shown on the screen and on the page; JSON contains all.
const SHOWN: usize = 40;
/// The columns before this one are counts and times, the others tokens.
const TIMES_END: usize = 7;

/// Headers and cells of the table; `None` if no conversation has a second turn. `per_s`: how many of the unit of times are
/// a second; the headers name seconds.
pub fn cells(s: &Summary, per_s: f64) -> Option<(Vec<Label>, Vec<Vec<String>>)> {
    let rows = &s.turns.as_ref().filter(|turns| turns.rows.len() > 1)?.rows;
    let cached = rows.iter().any(|row| row.cached_tokens.is_some());
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_string(), |share| format!("{:.1}", share * 100.0));
    let time = |seconds: Option<f64>| seconds.map(|seconds| seconds * per_s);
    let mut heads = vec![
        Label::Turn,
        Label::Requests,
        Label::Succeeded,
        Label::TtftAverage,
        Label::TtftP99,
        Label::LatencyAverage,
        Label::LatencyP99,
        Label::InputTokens,
        Label::OutputTokens,
        Label::History,
    ];
    if cached {
        heads.extend([Label::CachedTokens, Label::CachedShare]);
    }
    let row = |row: &TurnRow| {
        let mut cells = vec![row.turn.to_string(), row.requests.to_string(), row.ok.to_string()];
        let figures = [
            time(row.ttft_s.mean),
            time(row.ttft_s.value(990)),
            time(row.latency_s.mean),
            time(row.latency_s.value(990)),
            row.input_tokens,
            row.output_tokens,
        ];
        cells.extend(figures.map(optional));
        cells.push(percent(row.said_before_share));
        if cached {
            cells.extend([optional(row.cached_tokens), percent(row.cached_share)]);
        }
        cells
    };
    Some((heads, rows.iter().take(SHOWN).map(row).collect()))
}

/// The table as text, divided into two if it is wider than the screen; empty for single requests.
pub fn text(s: &Summary, width: usize) -> String {
    let (Some((heads, rows)), Some(turns)) = (cells(s, 1.0), &s.turns) else { return String::new() };
    let planned = turns.planned.map_or_else(String::new, |planned| format!(" of {planned}"));
    let more = match turns.rows.len().saturating_sub(rows.len()) {
        0 => String::new(),
        more => format!("{more} more turns are in benchmark_summary.json\n"),
    };
    let table = |columns: &[usize]| Table {
        aligns: vec![Align::Decimal; columns.len()],
        head: columns.iter().map(|&column| heads[column].en().to_string()).collect(),
        rows: rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect(),
        grid: false,
    };
    let all: Vec<usize> = (0..heads.len()).collect();
    let whole = table(&all);
    let body = if whole.width() <= width {
        whole.render()
    } else {
        table(&all[..TIMES_END]).render() + &table(&[&all[..1], &all[TIMES_END..]].concat()).render()
    };
    format!(
        "\nTurns ({}{planned} conversations begun, {} ended by a failed turn):\n{body}{more}",
        turns.begun, turns.broken
    )
}

/// All rows as JSON; null for single requests.
pub fn json(s: &Summary) -> Json {
    let Some(turns) = &s.turns else { return Json::Null };
    let row = |row: &TurnRow| {
        json!({
            "Turn": row.turn,
            "Requests": row.requests,
            "Succeeded": row.ok,
            "Average TTFT (s)": finite(row.ttft_s.mean),
            "P50 TTFT (s)": finite(row.ttft_s.value(500)),
            "P99 TTFT (s)": finite(row.ttft_s.value(990)),
            "Average latency (s)": finite(row.latency_s.mean),
            "P50 latency (s)": finite(row.latency_s.value(500)),
            "P99 latency (s)": finite(row.latency_s.value(990)),
            "Average input tokens": finite(row.input_tokens),
            "Average output tokens": finite(row.output_tokens),
            "Average cached tokens": finite(row.cached_tokens),
            "Cached (share)": finite(row.cached_share),
            "Said before (share)": finite(row.said_before_share),
        })
    };
    json!({
        "Conversations": turns.planned,
        "Begun": turns.begun,
        "Ended by a failed turn": turns.broken,
        "Turns": turns.rows.iter().map(row).collect::<Vec<_>>(),
    })
}
