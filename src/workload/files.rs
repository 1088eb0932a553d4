//! Data sets that use one field of each entry of a file: openqa, longalpaca, embedding, rerank. A file is JSON Lines or
//! one JSON array, regardless of its name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::error::WorkloadError;
use crate::api::prompt::Prompt;
use crate::files::read_line;

const FLAG: &str = "--dataset-path";

/// The format of an entry of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// HC3's `open_qa.jsonl`: the field `question`.
    OpenQa,
    /// LongAlpaca: the field `instruction`.
    LongAlpaca,
    /// A text for embedding: `text`, `input`, `sentence` or `content`, or a line of text.
    Embedding,
    /// `query` with `documents`, `passages` or `texts`.
    Rerank,
}

/// Reads prompts with their line numbers (in an array, numbers of entries) until `take` returns `false`.
pub fn read(path: &Path, shape: Shape, mut take: impl FnMut(Prompt, u64) -> bool) -> Result<(), WorkloadError> {
    let mut found = false;
    entries(path, shape == Shape::Embedding, |entry, place| {
        let prompt = prompt_of(shape, entry)?;
        let Some(prompt) = prompt else { return Ok(true) };
        found = true;
        Ok(take(prompt, place))
    })?;
    if found { Ok(()) } else { Err(WorkloadError::Empty { flag: FLAG, path: path.to_path_buf() }) }
}

/// Reads every entry of a file with its number, from 1, until `take` returns `false`. With `text_lines`, a line that
/// does not begin like JSON is a text.
pub fn entries(
    path: &Path,
    text_lines: bool,
    take: impl FnMut(Value, u64) -> Result<bool, String>,
) -> Result<(), WorkloadError> {
    entries_that_begin(path, text_lines, b"{\"]", take)
}

/// Like [`entries`], for entries that are lists.
pub fn lists(path: &Path, take: impl FnMut(Value, u64) -> Result<bool, String>) -> Result<(), WorkloadError> {
    entries_that_begin(path, false, b"[", take)
}

/// `signs`: the characters that may follow the opening bracket of a file that is one array.
fn entries_that_begin(
    path: &Path,
    text_lines: bool,
    signs: &[u8],
    mut take: impl FnMut(Value, u64) -> Result<bool, String>,
) -> Result<(), WorkloadError> {
    let unreadable = |cause| WorkloadError::Unreadable { flag: FLAG, path: path.to_path_buf(), cause };
    let mut file = open_text(path, FLAG)?;
    if begins_an_array(&mut file, signs).map_err(unreadable)? {
        return array_entries(path, file, take);
    }
    let wrong = |line, what| WorkloadError::Line { path: path.to_path_buf(), line, what };
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if read_line(&mut file, &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let text = str::from_utf8(&bytes).map_err(|_| wrong(line, "is not UTF-8 text".to_string()))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let entry = match serde_json::from_str(text) {
            Ok(entry) => entry,
            Err(_) if text_lines && !text.starts_with('{') => Value::from(text),
            Err(error) => {
                let text = error.to_string();
                let what = text.split(" at line ").next().unwrap_or_default();
                return Err(wrong(line, format!("is not valid JSON: {what} at column {}", error.column())));
            }
        };
        if !take(entry, line).map_err(|what| wrong(line, what))? {
            break;
        }
    }
    Ok(())
}

/// Opens a file of text.
///
/// # Errors
/// It cannot be read, or it begins like a file of another format.
pub(crate) fn open_text(path: &Path, flag: &'static str) -> Result<BufReader<File>, WorkloadError> {
    let unreadable = |cause| WorkloadError::Unreadable { flag, path: path.to_path_buf(), cause };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let start = file.fill_buf().map_err(unreadable)?;
    match other_format(start) {
        Some(what) => Err(WorkloadError::File { flag, path: path.to_path_buf(), what: what.to_string() }),
        None => Ok(file),
    }
}

/// What to do about a file that begins with these bytes; `None` if it may be text.
fn other_format(start: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "is a gzip file: decompress it (gunzip)"),
        (b"\x28\xb5\x2f\xfd", "is a zstd file: decompress it (unzstd)"),
        (b"\xfd7zXZ", "is an xz file: decompress it (unxz)"),
        (b"BZh", "is a bzip2 file: decompress it (bunzip2)"),
        (b"PK\x03\x04", "is a zip archive: extract it (unzip)"),
        (
            b"PAR1",
            "is a Parquet file: convert it to JSON Lines, for example with pandas: to_json(lines=True, orient='records')",
        ),
        (b"ARROW1", "is an Arrow file: convert it to JSON Lines"),
        (b"SQLite format 3", "is an SQLite database, not a file of prompts"),
    ];
    FORMATS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, what)| *what)
}

/// Whether the first character of the file opens a JSON array and the second is one of `inner`. The position in the
/// file is unchanged.
fn begins_an_array(file: &mut BufReader<File>, inner: &[u8]) -> std::io::Result<bool> {
    let start = file.fill_buf()?;
    let mut signs = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).iter().filter(|b| !b.is_ascii_whitespace());
    Ok(signs.next() == Some(&b'[') && signs.next().is_none_or(|sign| inner.contains(sign)))
}

fn array_entries(
    path: &Path,
    mut file: BufReader<File>,
    mut take: impl FnMut(Value, u64) -> Result<bool, String>,
) -> Result<(), WorkloadError> {
    let wrong = |what: String| WorkloadError::File { flag: FLAG, path: path.to_path_buf(), what };
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    read.map_err(|cause| WorkloadError::Unreadable { flag: FLAG, path: path.to_path_buf(), cause })?;
    let all: Vec<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| wrong(format!("is not valid JSON: {error}")))?;
    for (place, entry) in all.into_iter().enumerate() {
        let number = place as u64 + 1;
        if !take(entry, number).map_err(|what| wrong(format!("is invalid: entry {number} {what}")))? {
            break;
        }
    }
    Ok(())
}

/// The prompt of one entry; `None` if its text is empty.
fn prompt_of(shape: Shape, entry: Value) -> Result<Option<Prompt>, String> {
    let text = |names: &[&str]| -> Result<Option<String>, String> {
        let found = names.iter().find_map(|name| entry.get(name)?.as_str()).ok_or_else(|| match names {
            [name] => format!("has no text in a field \"{name}\""),
            names => format!("has no text in any of the fields {}", names.join(", ")),
        })?;
        Ok(Some(found.trim().to_string()).filter(|text| !text.is_empty()))
    };
    match shape {
        Shape::OpenQa => Ok(text(&["question"])?.map(Prompt::Text)),
        Shape::LongAlpaca => Ok(text(&["instruction"])?.map(Prompt::Text)),
        Shape::Embedding => match &entry {
            Value::String(text) => Ok(Some(Prompt::Embedding(vec![text.clone()])).filter(|_| !text.trim().is_empty())),
            _ => Ok(text(&["text", "input", "sentence", "content"])?.map(|text| Prompt::Embedding(vec![text]))),
        },
        Shape::Rerank => {
            let query = text(&["query"])?.ok_or("has an empty \"query\"")?;
            let documents = ["documents", "passages", "texts"].iter().find_map(|name| entry.get(name)?.as_array());
            let documents = documents.ok_or("has no list in any of the fields documents, passages, texts")?;
            let texts: Option<Vec<String>> = documents.iter().map(document_text).collect();
            let documents =
                texts.filter(|texts| !texts.is_empty()).ok_or("has no documents, or a document without text")?;
            Ok(Some(Prompt::Rerank { query, documents }))
        }
    }
}

/// The text of a document, which is a string or an object with a field `text`.
pub(crate) fn document_text(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("text")?.as_str());
    text.map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        for (start, word) in
            [(&b"\x1f\x8b\x08\x00"[..], "gzip file: decompress it"), (b"PAR1\x15\x04", "Parquet file: convert")]
        {
            std::fs::write(&path, start).unwrap();
            let errors = [
                entries(&path, true, |_, _| Ok(true)).unwrap_err(),
                crate::workload::line_by_line::read(&path, |_, _| true).unwrap_err(),
                crate::workload::trace::read(&path, "--dataset-path").unwrap_err(),
            ];
            for error in errors.map(|error| error.to_string()) {
                assert!(error.contains(word) && error.contains("--dataset-path"), "{error}");
            }
        }
        assert_eq!(other_format("a text".as_bytes()), None);
    }
}
