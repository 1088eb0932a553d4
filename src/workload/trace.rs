//! Traces: recorded arrival times and the lengths of recorded requests. Three formats are recognised by their fields:
//!
//! - Mooncake, JSON Lines: `timestamp` (ms), `input_length`, `output_length`, and `hash_ids`, one for each block of
//!   [512] tokens of the input; equal ids are equal blocks, which preserves shared prefixes;
//! - BurstGPT, CSV or JSON Lines: `Timestamp` (s), `Request tokens`, `Response tokens` (failed requests have 0 and
//!   are skipped);
//! - JSON Lines with a `timestamp` (s) and a whole request `body`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::context::{Context, Residuals};
use super::error::WorkloadError;
use super::item::Item;
use super::random_text::RandomText;
use crate::api::prompt::Prompt;

/// Maximum input or output of a row, tokens.
const MAX_TOKENS: u64 = 10_000_000;
const MS: f64 = 1e6;
const S: f64 = 1e9;

/// A trace, ordered by time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub path: PathBuf,
    /// At least one.
    pub rows: Vec<Row>,
}

/// One recorded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Line of the file, from 1.
    pub line: u64,
    /// Since the first row, nanoseconds.
    pub at_ns: u64,
    pub request: RecordedRequest,
}

/// The contents of a recorded request.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordedRequest {
    /// Its lengths in tokens, and the ids of the blocks of its input, if they are known.
    Lengths { input: u32, output: u32, blocks: Vec<u64> },
    /// Its body.
    Body(Map<String, Value>),
}

/// Reads a trace. `flag` is the flag that names the file.
pub fn read(path: &Path, flag: &'static str) -> Result<Trace, WorkloadError> {
    let bytes = fs::read(path).map_err(|cause| WorkloadError::Unreadable { flag, path: path.to_path_buf(), cause })?;
    let text = String::from_utf8(bytes).map_err(|_| WorkloadError::File {
        flag,
        path: path.to_path_buf(),
        what: "is not UTF-8 text".to_string(),
    })?;
    let mut lines =
        text.trim_start_matches('\u{feff}').lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).peekable();
    let header = lines.next_if(|(line, _)| !line.trim_start().starts_with('{')).map(|(line, _)| columns(line));
    let mut rows: Vec<(f64, Row)> = Vec::new();
    for (text, line) in lines {
        let row = match &header {
            None => from_json(text),
            Some(names) => from_csv(names, text),
        };
        let found = row.map_err(|what| WorkloadError::Line { path: path.to_path_buf(), line, what })?;
        rows.extend(found.map(|(at_ns, request)| (at_ns, Row { line, at_ns: 0, request })));
    }
    if rows.is_empty() {
        return Err(WorkloadError::Empty { flag, path: path.to_path_buf() });
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first = rows[0].0;
    let rows = rows.into_iter().map(|(at, row)| Row { at_ns: (at - first).round() as u64, ..row }).collect();
    Ok(Trace { path: path.to_path_buf(), rows })
}

/// A row and its time in nanoseconds; `None` for a row that is skipped.
type TimedRequest = Option<(f64, RecordedRequest)>;

fn from_json(text: &str) -> Result<TimedRequest, String> {
    let row: Value = serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    if let Some(Value::Object(body)) = row.get("body") {
        let at = number("timestamp").ok_or("has no number \"timestamp\" (seconds)")?;
        return Ok(Some((time(at, S)?, RecordedRequest::Body(body.clone()))));
    }
    if let (Some(at), Some(input), Some(output)) =
        (number("timestamp"), number("input_length"), number("output_length"))
    {
        let ids = row.get("hash_ids").and_then(Value::as_array);
        let blocks = ids.map(|ids| ids.iter().filter_map(Value::as_u64).collect()).unwrap_or_default();
        let request = RecordedRequest::Lengths { input: tokens(input)?.max(1), output: tokens(output)?.max(1), blocks };
        return Ok(Some((time(at, MS)?, request)));
    }
    match (number("Timestamp"), number("Request tokens"), number("Response tokens")) {
        (Some(at), Some(input), Some(output)) => burst(at, input, output),
        _ => Err("is not a row of a trace: it needs timestamp, input_length and output_length (Mooncake), Timestamp, \
                  Request tokens and Response tokens (BurstGPT), or timestamp and body"
            .to_string()),
    }
}

/// The column names in the first line of a CSV file.
fn columns(line: &str) -> Vec<String> {
    line.split(',').map(|name| name.trim().trim_matches('"').to_string()).collect()
}

fn from_csv(names: &[String], text: &str) -> Result<TimedRequest, String> {
    let cells: Vec<&str> = text.split(',').collect();
    let cell = |name: &str| -> Result<f64, String> {
        let place = names.iter().position(|column| column == name);
        let place = place.ok_or_else(|| format!("the first line has no column \"{name}\", which BurstGPT has"))?;
        let text = cells.get(place).map_or("", |cell| cell.trim().trim_matches('"'));
        text.parse().map_err(|_| format!("'{text}' in the column \"{name}\" is not a number"))
    };
    burst(cell("Timestamp")?, cell("Request tokens")?, cell("Response tokens")?)
}

fn burst(at: f64, input: f64, output: f64) -> Result<TimedRequest, String> {
    let (input, output) = (tokens(input)?, tokens(output)?);
    if input == 0 || output == 0 {
        return Ok(None);
    }
    Ok(Some((time(at, S)?, RecordedRequest::Lengths { input, output, blocks: Vec::new() })))
}

fn time(at: f64, unit_ns: f64) -> Result<f64, String> {
    let ns = at * unit_ns;
    // A hundred years, so that nanoseconds do not overflow.
    if ns.is_finite() && (0.0..3.2e18).contains(&ns) { Ok(ns) } else { Err(format!("{at} is not a time")) }
}

fn tokens(count: f64) -> Result<u32, String> {
    if (0.0..=MAX_TOKENS as f64).contains(&count) {
        Ok(count as u32)
    } else {
        Err(format!("{count} is not a number of tokens"))
    }
}

impl Trace {
    /// The arrival times, nanoseconds from the start, `speed` times as fast as recorded.
    pub fn arrivals(&self, speed: f64) -> Vec<u64> {
        self.rows.iter().map(|row| (row.at_ns as f64 / speed).round() as u64).collect()
    }

    /// Whether prompts have to be generated, which needs a tokenizer.
    pub fn needs_tokenizer(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.request, RecordedRequest::Lengths { .. }))
    }

    /// One item for each row that the run can use, from the offset on.
    pub fn items(&self, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
        let tokens = context.tokens.filter(|_| self.needs_tokenizer());
        let random = tokens.map(|tokens| RandomText::new(tokens, context.randomness)).transpose()?;
        let frame = random.as_ref().map_or(Ok(0), RandomText::frame)?;
        let rows = self.rows.len() as u64;
        let needed = context.needed.map_or(rows, |needed| needed.max(1).saturating_add(context.aside));
        context.generate_count("Generating prompts", needed.min(rows), |place| {
            let number = context.offset.wrapping_add(place);
            item(&self.rows[(number % rows) as usize], number, random.as_ref(), frame, &context.residuals)
        })
    }
}

fn item(
    row: &Row,
    number: u64,
    random: Option<&RandomText<'_>>,
    frame: u64,
    residuals: &Residuals,
) -> Result<Item, WorkloadError> {
    match (&row.request, random) {
        (RecordedRequest::Body(body), _) => Ok(Item::at(Prompt::Body(body.clone()), row.line)),
        (RecordedRequest::Lengths { input, output, blocks }, Some(random)) => {
            let length = u64::from(*input).saturating_sub(frame).max(1) as usize;
            let prompt = residuals.note(random.blocks(number, (blocks, 512), length, frame)?);
            Ok(Item { output_tokens: Some(*output), ..Item::at(prompt, row.line) })
        }
        (RecordedRequest::Lengths { .. }, None) => Err(WorkloadError::Data(
            "this trace has lengths but no prompts: add --tokenizer-path to generate prompts".to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Trace, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, text).unwrap();
        read(&path, "--dataset-path").map_err(|error| error.to_string())
    }

    fn lengths(input: u32, output: u32, blocks: &[u64]) -> RecordedRequest {
        RecordedRequest::Lengths { input, output, blocks: blocks.to_vec() }
    }

    #[test]
    fn three_shapes_are_read_in_order_of_time() {
        let mooncake = of("{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47]}\n\n{\"timestamp\": 27000, \"input_length\": 10, \"output_length\": 0, \"hash_ids\": []}\n").unwrap();
        assert_eq!((mooncake.rows[0].at_ns, &mooncake.rows[0].request), (0, &lengths(10, 1, &[])));
        assert_eq!((mooncake.rows[1].at_ns, &mooncake.rows[1].request), (482_000_000, &lengths(6955, 52, &[46, 47])));
        assert_eq!(mooncake.arrivals(2.0), [0, 241_000_000]);

        let csv = of("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n45.5,GPT-4,417,276,693,API log\n").unwrap();
        assert_eq!(csv.rows.iter().map(|row| row.at_ns).collect::<Vec<_>>(), [0, 40_500_000_000]);
        assert_eq!(csv.rows[1].request, lengths(417, 276, &[]), "a failed request is left out");
        let json = of("{\"Timestamp\": 5, \"Model\": \"m\", \"Request tokens\": 4, \"Response tokens\": 8}").unwrap();
        assert_eq!(json.rows[0].request, lengths(4, 8, &[]));
        let body = of("{\"timestamp\": 1.5, \"body\": {\"prompt\": \"x\"}}").unwrap();
        assert!(
            matches!(&body.rows[0].request, RecordedRequest::Body(body) if body.len() == 1) && !body.needs_tokenizer()
        );
    }

    #[test]
    fn wrong_rows_are_named() {
        for (text, what) in [
            ("", "is empty"),
            ("{\"timestamp\": 1}", "line 1: is not a row of a trace"),
            ("{\"timestamp\": ", "line 1: is not valid JSON"),
            ("{\"timestamp\": -1, \"body\": {}}", "-1 is not a time"),
            ("Timestamp,Tokens\n1,2\n", "line 2: the first line has no column \"Request tokens\""),
            ("Timestamp,Request tokens,Response tokens\n1,x,3\n", "line 2: 'x' in the column \"Request tokens\""),
            ("{\"timestamp\":0,\"input_length\":1e12,\"output_length\":1}", "1000000000000 is not a number of tokens"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
