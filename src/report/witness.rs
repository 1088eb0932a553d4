//! The witness compared with the load, as a table and as JSON.

use serde_json::{Value as Json, json};

use super::json_value::finite;
use super::server::signed_time;
use super::table::{Align, Table, optional, wrap};
use crate::stats::Summary;
use crate::stats::comparison::Difference;
use crate::stats::witness::{Agreement, LEVELS, WitnessTime};

/// The table; empty without a witness.
pub fn text(s: &Summary, width: usize) -> String {
    let Some(witness) = &s.witness else { return String::new() };
    let row = |time: &WitnessTime| {
        let values = LEVELS.iter().zip(&time.differences).flat_map(|(&level, difference)| {
            [
                optional(time.load.value(level)),
                optional(time.witness.value(level)),
                difference_text(difference.as_ref()),
            ]
        });
        let verdict = match time.verdict {
            Agreement::Agree => "agree",
            Agreement::Differ => "DIFFER",
            Agreement::TooFew => "too few",
        };
        std::iter::once(time.name.to_string()).chain(values).chain([verdict.to_string()]).collect()
    };
    let head = ["Seconds", "Load 50%", "Witness", "Difference", "Load 90%", "Witness", "Difference", "Verdict"];
    let mut aligns = vec![Align::Right; head.len()];
    (aligns[0], aligns[head.len() - 1]) = (Align::Left, Align::Left);
    let table = Table {
        head: head.map(String::from).to_vec(),
        aligns,
        rows: witness.times.iter().map(row).collect(),
        grid: false,
    };
    let words = format!(
        "{} of its {} requests succeeded during the load. Times count from the first byte sent; differences have 95 % \
         confidence intervals.",
        witness.counted, witness.requests
    );
    format!("\nThe witness compared with the load:\n{}{}", table.render(), wrap("", &words, width))
}

fn difference_text(difference: Option<&Difference>) -> String {
    let Some(difference) = difference else { return "-".to_string() };
    let side = |side: Option<f64>| side.map_or_else(|| "-".to_string(), signed_time);
    format!("{} ({} .. {})", signed_time(difference.value), side(difference.low), side(difference.high))
}

/// The same as JSON; null without a witness.
pub fn json(s: &Summary) -> Json {
    let Some(witness) = &s.witness else { return Json::Null };
    let level = |time: &WitnessTime, place: usize| {
        let (level, difference) = (LEVELS[place], time.differences[place]);
        json!({
            "load_s": finite(time.load.value(level)),
            "witness_s": finite(time.witness.value(level)),
            "difference_s": finite(difference.map(|difference| difference.value)),
            "interval_s": difference.map(|difference| json!([finite(difference.low), finite(difference.high)])),
        })
    };
    let time = |time: &WitnessTime| {
        let verdict = match time.verdict {
            Agreement::Agree => "agree",
            Agreement::Differ => "differ",
            Agreement::TooFew => "too few",
        };
        let samples = time.witness.count;
        json!({"name": time.name, "samples": samples, "50%": level(time, 0), "90%": level(time, 1), "verdict": verdict})
    };
    json!({
        "requests": witness.requests,
        "counted": witness.counted,
        "failed": witness.failed,
        "times": witness.times.iter().map(time).collect::<Vec<_>>(),
    })
}
