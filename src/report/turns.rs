//! The table of the turns of conversations, as text and as JSON.

use serde_json::{Value as Json, json};

use super::i18n::Label;
use super::json_value::finite;
use super::language::Language;
use super::table::{Align, Decimals, Table, in_ms};
use crate::stats::Summary;
use crate::stats::turns::TurnRow;

/// Rows shown on the screen and on the page; JSON contains all.
const SHOWN: usize = 40;
/// The columns before this one are counts and times, the others tokens.
const TIMES_END: usize = 7;

/// Headers and cells of the table, times in milliseconds; `None` if no conversation has a second turn.
pub fn cells(s: &Summary, language: Language) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let rows = &s.turns.as_ref().filter(|turns| turns.rows.len() > 1)?.rows;
    let rows = &rows[..rows.len().min(SHOWN)];
    let count = |label: Label, of: fn(&TurnRow) -> u64| {
        (label, rows.iter().map(|row| of(row).to_string()).collect::<Vec<String>>())
    };
    let column = |label: Label, decimals: Decimals, values: Vec<Option<f64>>| {
        (label, values.into_iter().map(|value| decimals.optional(value)).collect::<Vec<String>>())
    };
    let time = |label: Label, of: fn(&TurnRow) -> Option<f64>| {
        let ms: Vec<Option<f64>> = rows.iter().map(|row| of(row).map(|seconds| seconds * 1e3)).collect();
        column(label, Decimals::for_digits(ms.iter().copied().flatten(), 2), ms)
    };
    let tokens = |label: Label, of: fn(&TurnRow) -> Option<f64>| {
        let tokens: Vec<Option<f64>> = rows.iter().map(of).collect();
        column(label, Decimals::for_numbers(tokens.iter().copied().flatten()), tokens)
    };
    let percent = |label: Label, of: fn(&TurnRow) -> Option<f64>| {
        column(label, Decimals(1), rows.iter().map(|row| of(row).map(|share| share * 100.0)).collect())
    };
    let mut columns: Vec<(Label, Vec<String>)> = vec![
        count(Label::Turn, |row| row.turn.into()),
        count(Label::Requests, |row| row.requests),
        count(Label::Succeeded, |row| row.ok),
        time(Label::TtftAverage, |row| row.ttft_s.mean),
        time(Label::TtftP99, |row| row.ttft_s.value(990)),
        time(Label::LatencyAverage, |row| row.latency_s.mean),
        time(Label::LatencyP99, |row| row.latency_s.value(990)),
        tokens(Label::InputTokens, |row| row.input_tokens),
        tokens(Label::OutputTokens, |row| row.output_tokens),
        percent(Label::History, |row| row.said_before_share),
    ];
    if rows.iter().any(|row| row.cached_tokens.is_some()) {
        columns.push(tokens(Label::CachedTokens, |row| row.cached_tokens));
        columns.push(percent(Label::CachedShare, |row| row.cached_share));
    }
    let heads = columns.iter().map(|(label, _)| in_ms(label.text(language))).collect();
    let row = |row: usize| columns.iter().map(|(_, cells)| cells[row].clone()).collect();
    Some((heads, (0..rows.len()).map(row).collect()))
}

/// The table as text, divided into two if it is wider than the screen; empty for single requests.
pub fn text(s: &Summary, width: usize) -> String {
    let (Some((heads, rows)), Some(turns)) = (cells(s, Language::En), &s.turns) else { return String::new() };
    let planned = turns.planned.map_or_else(String::new, |planned| format!(" of {planned}"));
    let more = match turns.rows.len().saturating_sub(rows.len()) {
        0 => String::new(),
        more => format!("{more} more turns are in benchmark_summary.json\n"),
    };
    let table = |columns: &[usize]| Table {
        aligns: vec![Align::Decimal; columns.len()],
        head: columns.iter().map(|&column| heads[column].clone()).collect(),
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
