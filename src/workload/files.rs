//! Data sets that use one field of each entry of a file: openqa, longalpaca, embedding, rerank. A file is JSON Lines or
//! one JSON array, regardless of its name.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::{Deserializer, Value};

use super::error::WorkloadError;
use crate::api::prompt::Prompt;
use crate::files::{Dataset, EntryStart, read_line};

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

/// Reads every entry of a file with its number, from 1, until `take` returns `false`. With `text_lines`, a line that is
/// neither an object nor a string of JSON is a text.
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
            // Such as "4" or "[1]".
            Ok(entry) if text_lines && !matches!(entry, Value::Object(_) | Value::String(_)) => Value::from(text),
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

/// A file of text that is being read.
pub(crate) type TextFile = BufReader<Dataset<File>>;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Opens a file of text.
///
/// # Errors
/// It cannot be read, or it begins like a file of another format.
pub(crate) fn open_text(path: &Path, flag: &'static str) -> Result<TextFile, WorkloadError> {
    let unreadable = |cause| WorkloadError::Unreadable { flag, path: path.to_path_buf(), cause };
    let file = Dataset::new(File::open(path).map_err(unreadable)?);
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
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
fn begins_an_array(file: &mut TextFile, inner: &[u8]) -> std::io::Result<bool> {
    let start = file.fill_buf()?;
    let mut signs = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).iter().filter(|b| !b.is_ascii_whitespace());
    Ok(signs.next() == Some(&b'[') && signs.next().is_none_or(|sign| inner.contains(sign)))
}

/// Reads the entries of a file that is one array, one at a time.
fn array_entries(
    path: &Path,
    mut file: TextFile,
    take: impl FnMut(Value, u64) -> Result<bool, String>,
) -> Result<(), WorkloadError> {
    let wrong = |what: String| WorkloadError::File { flag: FLAG, path: path.to_path_buf(), what };
    let unreadable = |cause| WorkloadError::Unreadable { flag: FLAG, path: path.to_path_buf(), cause };
    if file.fill_buf().map_err(unreadable)?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    let start = file.get_ref().entries();
    let mut json = Deserializer::from_reader(file);
    let mut ended = None;
    let read = json.deserialize_seq(Entries { take, start, ended: &mut ended }).and_then(|()| json.end());
    match (ended, read) {
        (Some((_, Ok(()))), _) | (None, Ok(())) => Ok(()),
        (Some((number, Err(what))), _) => Err(wrong(format!("is invalid: entry {number} {what}"))),
        (None, Err(error)) if error.is_io() => Err(unreadable(error.into())),
        (None, Err(error)) => Err(wrong(format!("is not valid JSON: {error}"))),
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Passes the entries of an array to `take`.
struct Entries<'a, F> {
    take: F,
    start: EntryStart,
    /// The number of the entry after which no more are needed, or of one that `take` rejects, with the reason.
    ended: &'a mut Option<(u64, Result<(), String>)>,
}

impl<'de, F: FnMut(Value, u64) -> Result<bool, String>> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        for number in 1.. {
            self.start.begin();
            let Some(entry) = entries.next_element()? else { break };
            let ended = match (self.take)(entry, number) {
                Ok(true) => continue,
                Ok(false) => Ok(()),
                Err(what) => Err(what),
            };
            *self.ended = Some((number, ended));
            // The only way to leave the rest unread.
            return Err(A::Error::custom("no more entries are needed"));
        }
        Ok(())
    }
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

    /// The entries of a file with this text, or the error without its path.
    fn read_all(text: &[u8], text_lines: bool, enough: usize) -> Result<Vec<Value>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, text).unwrap();
        let mut found = Vec::new();
        let read = entries(&path, text_lines, |entry, number| {
            found.push(entry);
            assert_eq!(number, found.len() as u64);
            if found.last() == Some(&Value::from("bad")) { Err("is bad".into()) } else { Ok(found.len() < enough) }
        });
        let path = path.display().to_string();
        read.map(|()| found).map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn arrays_are_read_entry_by_entry() {
        let of = |texts: &[&str]| Ok(texts.iter().copied().map(Value::from).collect::<Vec<_>>());
        assert_eq!(read_all(b"\xef\xbb\xbf [\"a\", \"b\"]\n", false, 9), of(&["a", "b"]));
        assert_eq!(read_all(b"[]", false, 9), of(&[]));
        assert_eq!(read_all(b"[\"a\", \"b\", what is never read", false, 2), of(&["a", "b"]));
        let error = |text: &[u8]| read_all(text, false, 9).unwrap_err();
        assert_eq!(error(b"[\"a\", \"bad\", 7]"), "--dataset-path: FILE is invalid: entry 2 is bad");
        assert!(error(b"[\"a\", ").contains("FILE is not valid JSON: EOF while parsing"), "{}", error(b"[\"a\", "));
        assert!(error(b"[\"a\"] x").contains("FILE is not valid JSON: trailing characters"));
        assert!(error(b"[\"\xff\"]").contains("FILE is not valid JSON"));
    }

    #[test]
    fn lines_of_text_may_look_like_json() {
        let lines = ["4", "true", "null", "[1] first", "[3, 4]", "plain", "-1.5e3"];
        let mut text = lines.join("\n");
        text.push_str("\n\"quoted\"\n{\"text\": \"a\"}\n");
        let found = read_all(text.as_bytes(), true, 99).unwrap();
        assert_eq!(found[..7], lines.map(Value::from));
        assert_eq!(found[7..], [Value::from("quoted"), serde_json::json!({"text": "a"})]);
        assert_eq!(read_all(b"4\n", false, 9), Ok(vec![Value::from(4)]));
        assert!(read_all(b"{\"text\"\n", true, 9).unwrap_err().contains("line 1: is not valid JSON"));
    }
}
