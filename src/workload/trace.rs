//! Traces: recorded arrival times and the lengths of recorded requests. The format is detected from its fields:
//!
//! - Mooncake, JSON Lines: `timestamp` (ms), `input_length`, `output_length`, and `hash_ids`, one for each block of 512
//!   tokens of the input; equal ids are equal blocks, which preserves shared prefixes. `tools` and the fields of `extra`
//!   are sent;
//! - Bailian (Qwen), the same fields with `timestamp` in seconds and blocks of 16 tokens: recognised by `chat_id`, by
//!   times that are not whole, or by the number of ids for each input;
//! - BurstGPT, CSV or JSON Lines: `Timestamp` (s), `Request tokens`, `Response tokens`;
//! - Azure 2023 and 2024, CSV: `TIMESTAMP` (a date and time), `ContextTokens`, `GeneratedTokens`;
//! - JSON Lines with a `timestamp` (s) and a whole request `body`.
//!
//! Rows of BurstGPT and Azure without input or output tokens are failed requests and are skipped.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::context::Context;
use super::error::WorkloadError;
use super::files::open_text;
use super::item::Item;
use super::random_text::RandomText;
use super::residuals::Residuals;
use crate::api::prompt::Prompt;
use crate::files::read_line;

/// Maximum input or output of a row, tokens.
const MAX_TOKENS: u64 = 10_000_000;
const MS: f64 = 1e6;
const S: f64 = 1e9;

/// A trace, ordered by time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub path: PathBuf,
    pub format: TraceFormat,
    /// Rows without input or output tokens, which are not in `rows`.
    pub skipped: u64,
    /// At least one.
    pub rows: Vec<Row>,
}

/// The format of a trace, which determines the meaning of its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceFormat {
    /// As in the finding about it.
    pub name: &'static str,
    pub unit: TraceUnit,
    /// Tokens for each hash id.
    pub block: u32,
}

/// The unit of recorded times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceUnit {
    Seconds,
    Milliseconds,
}

impl TraceUnit {
    /// Parses `s` or `ms`.
    pub(crate) fn scan(text: &str) -> Result<TraceUnit, String> {
        match text {
            "s" => Ok(TraceUnit::Seconds),
            "ms" => Ok(TraceUnit::Milliseconds),
            _ => Err(format!("'{text}' is neither s nor ms")),
        }
    }

    /// The abbreviation.
    pub fn name(self) -> &'static str {
        match self {
            TraceUnit::Seconds => "s",
            TraceUnit::Milliseconds => "ms",
        }
    }

    fn ns(self) -> f64 {
        match self {
            TraceUnit::Seconds => S,
            TraceUnit::Milliseconds => MS,
        }
    }
}

/// Tokens for each hash id of Mooncake and of Bailian.
const MOONCAKE_BLOCK: u32 = 512;
const BAILIAN_BLOCK: u32 = 16;

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
    /// Its lengths in tokens, the ids of the blocks of its input, if they are known, and further fields of its body.
    Lengths { input: u32, output: u32, blocks: Vec<u64>, extra: Map<String, Value> },
    /// Its body.
    Body(Map<String, Value>),
}

/// Reads a trace. `flag` is the flag that names the file.
pub fn read(path: &Path, flag: &'static str) -> Result<Trace, WorkloadError> {
    let unreadable = |cause| WorkloadError::Unreadable { flag, path: path.to_path_buf(), cause };
    let (mut file, mut bytes) = (open_text(path, flag)?, Vec::new());
    let (mut rows, mut skipped, mut seen): (Vec<(f64, Row)>, u64, FormatFacts) = Default::default();
    let (mut is_first, mut names) = (true, None);
    for line in 1.. {
        bytes.clear();
        if read_line(&mut file, &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let wrong = |what: String| WorkloadError::Line { path: path.to_path_buf(), line, what };
        let text = str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text".to_string()))?;
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            continue;
        }
        if std::mem::take(&mut is_first) && !text.trim_start().starts_with('{') {
            names = Some(columns(text));
            continue;
        }
        let row = match &names {
            None => from_json(text, &mut seen),
            Some(names) => from_csv(names, text, &mut seen),
        };
        let found = row.map_err(wrong)?;
        skipped += u64::from(found.is_none());
        rows.extend(found.map(|(at, request)| (at, Row { line, at_ns: 0, request })));
    }
    let format = seen.format();
    if rows.is_empty() {
        return Err(WorkloadError::Empty { flag, path: path.to_path_buf() });
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, unit_ns) = (rows[0].0, format.unit.ns());
    let offset = |at: f64| ((at - first) * unit_ns).round() as u64;
    let rows = rows.into_iter().map(|(at, row)| Row { at_ns: offset(at), ..row }).collect();
    Ok(Trace { path: path.to_path_buf(), format, skipped, rows })
}

/// Facts about the rows read so far, which determine the format.
#[derive(Debug, Default)]
struct FormatFacts {
    /// The name of a format that has times in seconds and no hash ids.
    plain: Option<&'static str>,
    /// A row has a field that only Bailian has.
    chats: bool,
    /// A time is not a whole number.
    fractions: bool,
    /// The largest number of input tokens for each hash id; 0 without hash ids.
    most_per_id: u32,
}

impl FormatFacts {
    fn format(&self) -> TraceFormat {
        let small = (1..=BAILIAN_BLOCK).contains(&self.most_per_id);
        let (name, unit, block) = match self.plain {
            Some(name) => (name, TraceUnit::Seconds, MOONCAKE_BLOCK),
            None if self.chats || self.fractions || small => {
                let block = if small || self.most_per_id == 0 { BAILIAN_BLOCK } else { MOONCAKE_BLOCK };
                ("Bailian", TraceUnit::Seconds, block)
            }
            None => ("Mooncake", TraceUnit::Milliseconds, MOONCAKE_BLOCK),
        };
        TraceFormat { name, unit, block }
    }
}

/// A row and its time in the unit of the trace; `None` for a row that is skipped.
type TimedRequest = Option<(f64, RecordedRequest)>;

fn from_json(text: &str, seen: &mut FormatFacts) -> Result<TimedRequest, String> {
    let row: Value = serde_json::from_str(text).map_err(|error| format!("is not valid JSON: {error}"))?;
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    if let Some(Value::Object(body)) = row.get("body") {
        let at = number("timestamp").ok_or("has no number \"timestamp\" (seconds)")?;
        seen.plain = Some("request bodies");
        return Ok(Some((time(at)?, RecordedRequest::Body(body.clone()))));
    }
    if let (Some(at), Some(input), Some(output)) =
        (number("timestamp"), number("input_length"), number("output_length"))
    {
        let ids = row.get("hash_ids").and_then(Value::as_array);
        let blocks: Vec<u64> = ids.map(|ids| ids.iter().filter_map(Value::as_u64).collect()).unwrap_or_default();
        let (input, output) = (tokens(input)?.max(1), tokens(output)?.max(1));
        seen.chats |= row.get("chat_id").is_some() || row.get("parent_chat_id").is_some();
        seen.fractions |= at.fract() != 0.0;
        if !blocks.is_empty() {
            seen.most_per_id = seen.most_per_id.max(input.div_ceil(blocks.len() as u32));
        }
        let request = RecordedRequest::Lengths { input, output, blocks, extra: extra(&row)? };
        return Ok(Some((time(at)?, request)));
    }
    match (number("Timestamp"), number("Request tokens"), number("Response tokens")) {
        (Some(at), Some(input), Some(output)) => {
            seen.plain = Some(BURST_GPT);
            without_ids(at, input, output)
        }
        _ => Err("is not a row of a trace: it needs timestamp, input_length and output_length (Mooncake), Timestamp, \
                  Request tokens and Response tokens (BurstGPT), or timestamp and body"
            .to_string()),
    }
}

/// The column names in the first line of a CSV file.
fn columns(line: &str) -> Vec<String> {
    line.split(',').map(|name| name.trim().trim_matches('"').to_string()).collect()
}

const BURST_GPT: &str = "BurstGPT";

/// The fields that a row adds to the body: `tools`, and those of `extra`.
fn extra(row: &Value) -> Result<Map<String, Value>, String> {
    let mut fields = match row.get("extra") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) => return Err("has an \"extra\" that is not an object".to_string()),
    };
    if let Some(tools) = row.get("tools").filter(|tools| !tools.is_null()) {
        fields.insert("tools".to_string(), tools.clone());
    }
    Ok(fields)
}

fn from_csv(names: &[String], text: &str, seen: &mut FormatFacts) -> Result<TimedRequest, String> {
    let cells: Vec<&str> = text.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
    let azure = names.iter().any(|name| name == "ContextTokens");
    seen.plain = Some(if azure { "Azure" } else { BURST_GPT });
    let cell = |name: &str| -> Result<&str, String> {
        let place = names.iter().position(|column| column == name);
        let format = if azure { "Azure's trace" } else { BURST_GPT };
        let place = place.ok_or_else(|| format!("the first line has no column \"{name}\", which {format} has"))?;
        Ok(cells.get(place).copied().unwrap_or_default())
    };
    let number = |name: &str| -> Result<f64, String> {
        let text = cell(name)?;
        text.parse().map_err(|_| format!("'{text}' in the column \"{name}\" is not a number"))
    };
    if azure {
        let at = cell("TIMESTAMP")?;
        let at = seconds_of(at).ok_or_else(|| format!("'{at}' in the column \"TIMESTAMP\" is not a date and time"))?;
        return without_ids(at, number("ContextTokens")?, number("GeneratedTokens")?);
    }
    without_ids(number("Timestamp")?, number("Request tokens")?, number("Response tokens")?)
}

/// Seconds since 1970 of `2023-11-16 18:17:03.9799600` or `2024-05-10 00:00:00.009930+00:00`. Time zones are ignored:
/// all rows of a trace have the same.
fn seconds_of(text: &str) -> Option<f64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let time = time.split(['+', 'Z', '-']).next()?;
    let date: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year @ 0..=9999, month @ 1..=12, day @ 1..=31] = date[..] else { return None };
    let time: Vec<f64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = time[..] else { return None };
    // Days since 1970 in the Gregorian calendar, by Howard Hinnant's algorithm (days_from_civil): years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days as f64 * 86_400.0 + hours * 3600.0 + minutes * 60.0 + seconds)
}

fn without_ids(at: f64, input: f64, output: f64) -> Result<TimedRequest, String> {
    let (input, output) = (tokens(input)?, tokens(output)?);
    if input == 0 || output == 0 {
        return Ok(None);
    }
    Ok(Some((time(at)?, RecordedRequest::Lengths { input, output, blocks: Vec::new(), extra: Map::new() })))
}

/// A time in seconds or milliseconds.
fn time(at: f64) -> Result<f64, String> {
    // A hundred years in seconds, so that nanoseconds do not overflow.
    if at.is_finite() && (0.0..3.2e9).contains(&at) { Ok(at) } else { Err(format!("{at} is not a time")) }
}

fn tokens(count: f64) -> Result<u32, String> {
    if (0.0..=MAX_TOKENS as f64).contains(&count) {
        Ok(count as u32)
    } else {
        Err(format!("{count} is not a number of tokens"))
    }
}

impl Trace {
    /// The same trace with its times in another unit and other blocks; `None` leaves what was detected.
    #[must_use]
    pub(crate) fn read_as(mut self, unit: Option<TraceUnit>, block: Option<u32>) -> Trace {
        if let Some(unit) = unit {
            let factor = unit.ns() / self.format.unit.ns();
            self.rows.iter_mut().for_each(|row| row.at_ns = (row.at_ns as f64 * factor).round() as u64);
            self.format.unit = unit;
        }
        self.format.block = block.unwrap_or(self.format.block);
        self
    }

    /// The rows recorded from `from_ns` until before `to_ns`, with times from the first of these on; `None` if there
    /// are none.
    #[must_use]
    pub fn window(mut self, from_ns: u64, to_ns: u64) -> Option<Trace> {
        self.rows.retain(|row| (from_ns..to_ns).contains(&row.at_ns));
        let first = self.rows.first()?.at_ns;
        self.rows.iter_mut().for_each(|row| row.at_ns -= first);
        Some(self)
    }

    /// The rows after the first `skipped`, with times from the first of these on; `None` if there are none.
    #[must_use]
    pub(crate) fn after(mut self, skipped: u64) -> Option<Trace> {
        self.rows.drain(..usize::try_from(skipped).map_or(self.rows.len(), |skipped| skipped.min(self.rows.len())));
        self.window(0, u64::MAX)
    }

    /// The arrival times, nanoseconds from the start, `speed` times as fast as recorded.
    pub fn arrivals(&self, speed: f64) -> Vec<u64> {
        self.rows.iter().map(|row| (row.at_ns as f64 / speed).round() as u64).collect()
    }

    /// Whether prompts have to be generated, which needs a tokenizer.
    pub(crate) fn needs_tokenizer(&self) -> bool {
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
            self.item(
                (number.wrapping_sub(context.skipped) % rows) as usize,
                number,
                (random.as_ref(), frame),
                context.residuals,
            )
        })
    }

    fn item(
        &self,
        place: usize,
        number: u64,
        (random, frame): (Option<&RandomText<'_>>, u64),
        residuals: &Residuals,
    ) -> Result<Item, WorkloadError> {
        let row = &self.rows[place];
        match (&row.request, random) {
            (RecordedRequest::Body(body), _) => Ok(Item::at(Prompt::Body(body.clone()), row.line)),
            (RecordedRequest::Lengths { input, output, blocks, extra }, Some(random)) => {
                let length = u64::from(*input).saturating_sub(frame).max(1) as usize;
                let prompt = residuals.note(random.blocks(number, (blocks, self.format.block), length, frame)?);
                Ok(Item { output_tokens: Some(*output), extra: extra.clone(), ..Item::at(prompt, row.line) })
            }
            (RecordedRequest::Lengths { .. }, None) => Err(WorkloadError::Data(
                "this trace has lengths but no prompts: add --tokenizer-path to generate prompts".to_string(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        std::fs::write(&path, text).unwrap();
        read(&path, "--dataset-path").map_err(|error| error.to_string())
    }

    fn lengths(input: u32, output: u32, blocks: &[u64]) -> RecordedRequest {
        RecordedRequest::Lengths { input, output, blocks: blocks.to_vec(), extra: Map::new() }
    }

    #[test]
    fn three_shapes_are_read_in_order_of_time() {
        let mooncake = parse("{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47]}\n\n{\"timestamp\": 27000, \"input_length\": 10, \"output_length\": 0, \"hash_ids\": []}\n").unwrap();
        assert_eq!((mooncake.rows[0].at_ns, &mooncake.rows[0].request), (0, &lengths(10, 1, &[])));
        assert_eq!((mooncake.rows[1].at_ns, &mooncake.rows[1].request), (482_000_000, &lengths(6955, 52, &[46, 47])));
        assert_eq!(mooncake.arrivals(2.0), [0, 241_000_000]);

        let csv = parse("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n45.5,GPT-4,417,276,693,API log\n").unwrap();
        assert_eq!(csv.rows.iter().map(|row| row.at_ns).collect::<Vec<_>>(), [0, 40_500_000_000]);
        assert_eq!(csv.rows[1].request, lengths(417, 276, &[]), "a failed request is left out");
        let json =
            parse("{\"Timestamp\": 5, \"Model\": \"m\", \"Request tokens\": 4, \"Response tokens\": 8}").unwrap();
        assert_eq!(json.rows[0].request, lengths(4, 8, &[]));
        let body = parse("{\"timestamp\": 1.5, \"body\": {\"prompt\": \"x\"}}").unwrap();
        assert!(
            matches!(&body.rows[0].request, RecordedRequest::Body(body) if body.len() == 1) && !body.needs_tokenizer()
        );
    }

    #[test]
    fn the_format_is_detected_and_can_be_overridden() {
        let detected = |text: &str| parse(text).unwrap().format;
        let bailian = "{\"chat_id\": 0, \"timestamp\": 0, \"input_length\": 33, \"output_length\": 5, \"hash_ids\": [1, 2, 3]}\n\
                       {\"chat_id\": 1, \"timestamp\": 2, \"input_length\": 16, \"output_length\": 5, \"hash_ids\": [1]}\n";
        let format = TraceFormat { name: "Bailian", unit: TraceUnit::Seconds, block: 16 };
        assert_eq!((detected(bailian), parse(bailian).unwrap().rows[1].at_ns), (format, 2_000_000_000));
        let row = |rest: &str| format!("{{\"input_length\": 900, \"output_length\": 1, {rest}}}");
        let name = |rest: &str| detected(&row(rest)).name;
        assert_eq!(name("\"timestamp\": 7, \"hash_ids\": [1, 2]"), "Mooncake");
        assert_eq!(name("\"timestamp\": 0.5, \"hash_ids\": [1, 2]"), "Bailian");
        let forced = parse(bailian).unwrap().read_as(Some(TraceUnit::Milliseconds), Some(64));
        assert_eq!((forced.rows[1].at_ns, forced.format.block), (2_000_000, 64));
        assert!(TraceUnit::scan("us").is_err());
    }

    #[test]
    fn azure_and_rows_without_tokens() {
        let azure = parse("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,374,44\n2023-11-17 00:00:01.2500000,9,0\n2023-11-17 00:00:02.0000000,396,109\n").unwrap();
        assert_eq!((azure.format.name, azure.skipped, azure.rows.len()), ("Azure", 1, 2));
        assert_eq!((azure.rows[1].at_ns, &azure.rows[1].request), (2_500_000_000, &lengths(396, 109, &[])));
        let later = parse(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-28 23:59:59+00:00,1,2\n2024-03-01 00:00:00.25+00:00,1,2\n",
        );
        assert_eq!(later.unwrap().rows[1].at_ns, 86_401_250_000_000, "a leap day between them");
        assert!(
            parse("TIMESTAMP,ContextTokens,GeneratedTokens\nx,1,2\n").unwrap_err().contains("is not a date and time")
        );
    }

    #[test]
    fn a_window_begins_with_its_first_row() {
        let trace = parse(
            "{\"timestamp\": 0, \"body\": {}}\n{\"timestamp\": 2, \"body\": {}}\n{\"timestamp\": 3, \"body\": {}}\n",
        )
        .unwrap();
        let window = trace.clone().window(S as u64, 3 * S as u64).unwrap();
        assert_eq!(window.rows.iter().map(|row| (row.line, row.at_ns)).collect::<Vec<_>>(), [(2, 0)]);
        assert_eq!(trace.window(9 * S as u64, 10 * S as u64), None);
    }

    #[test]
    fn fields_of_a_row_are_kept() {
        let row =
            |rest: &str| parse(&format!("{{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, {rest}}}"));
        let trace = row("\"tools\": [1], \"extra\": {\"priority\": 7}").unwrap();
        let RecordedRequest::Lengths { extra, .. } = &trace.rows[0].request else { panic!("{trace:?}") };
        assert_eq!(Value::from(extra.clone()), serde_json::json!({"priority": 7, "tools": [1]}));
        assert!(row("\"extra\": 3").unwrap_err().contains("not an object"));
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
            let error = parse(text).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
