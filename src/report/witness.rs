//! The witness compared with the load, as a table and as JSON.

use serde_json::{Value as Json, json};

use super::json_value::finite;
use super::table::{Align, Milliseconds, Table, wrap};
use crate::stats::Summary;
use crate::stats::comparison::Difference;
use crate::stats::witness::{Agreement, LEVELS, WitnessTime};

/// The table; empty without a witness.
pub fn text(s: &Summary, width: usize) -> String {
    let Some(witness) = &s.witness else { return String::new() };
    let medians = witness.times.iter().flat_map(|time| [time.load.value(LEVELS[0]), time.witness.value(LEVELS[0])]);
    let ms = Milliseconds::new(medians.flatten());
    let row = |time: &WitnessTime| {
        let values = LEVELS.iter().zip(&time.differences).flat_map(|(&level, difference)| {
            [
                ms.optional(time.load.value(level)),
                ms.optional(time.witness.value(level)),
                difference_text(difference.as_ref(), ms),
            ]
        });
        let verdict = match time.verdict {
            Agreement::Agree => "agree",
            Agreement::Differ => "DIFFER",
            Agreement::TooFew => "too few",
        };
        std::iter::once(time.name.to_string()).chain(values).chain([verdict.to_string()]).collect()
    };
    let head = ["Time (ms)", "Load 50%", "Witness", "Difference", "Load 90%", "Witness", "Difference", "Verdict"];
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

fn difference_text(difference: Option<&Difference>, ms: Milliseconds) -> String {
    let Some(difference) = difference else { return "-".to_string() };
    let [low, high] = [difference.low, difference.high].map(|end| ms.optional(end));
    format!("{} ({low} .. {high})", ms.text(difference.value))
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
