//! JSON parsing in two ways: a full, validating parser with reused buffers, and scanning functions that find and check
//! one string without parsing the rest.

use std::borrow::Cow;
use std::cell::Cell;

use memchr::memchr2;
use simd_json::prelude::{TypedScalarValue, ValueAsScalar, ValueIntoString, Writable};
pub use simd_json::tape::Value;
use simd_json::{Buffers, INPUT_PADDING, Tape};

/// Buffers larger than this are freed after use, bytes.
const KEPT_BYTES: usize = 1 << 20;

/// The buffers of the full parser. All streams of a thread share one set, which stays in the CPU cache.
struct Scratch {
    input: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The bytes are not JSON. The parser's own error is not included because it does not help a user of a load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Parses `json` and calls `read` with its value.
pub fn with_value<R>(json: &[u8], read: impl FnOnce(Value<'_, '_>) -> R) -> Result<R, NotJson> {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| {
        Box::new(Scratch { input: Vec::new(), buffers: Buffers::new(1024), tape: Tape(Vec::new()) })
    });
    let Scratch { input, buffers, tape } = &mut *scratch;
    input.clear();
    input.extend_from_slice(json);
    input.resize(json.len() + INPUT_PADDING, 0);
    let mut filled = std::mem::replace(tape, Tape(Vec::new())).reset();
    let result = simd_json::fill_tape_padded(input, json.len(), buffers, &mut filled)
        .map_err(|_| NotJson)
        .map(|()| read(filled.as_value()));
    *tape = filled.reset();
    if scratch.input.capacity() <= KEPT_BYTES {
        SCRATCH.set(Some(scratch));
    }
    result
}

/// What was replaced in a document so that it could be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repairs {
    /// Invalid UTF-8 or a lone surrogate in a string, replaced by U+FFFD.
    pub text: bool,
    /// `NaN`, an infinity, or a number beyond 64 bits, replaced by `null`.
    pub numbers: bool,
}

thread_local! {
    static REPAIRED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Parses `json` and calls `read` with its value, as [`with_value`] does, and accepts in addition what Python's `json`
/// module accepts: lone surrogates, invalid UTF-8 within strings (which its callers replace), `NaN`, `Infinity`, and
/// numbers of any size. `read` gets what was replaced.
pub(crate) fn with_lenient_value<R>(json: &[u8], read: impl FnOnce(Value<'_, '_>, Repairs) -> R) -> Result<R, NotJson> {
    let mut read = Some(read);
    let strict = with_value(json, |value| read.take().map(|read| read(value, Repairs::default())));
    let result = match strict {
        Ok(result) => result,
        Err(NotJson) => {
            let mut repaired = REPAIRED.take();
            let repairs = repair_into(json, &mut repaired);
            let result = match repairs {
                Repairs { text: false, numbers: false } => Err(NotJson),
                _ => with_value(&repaired, |value| read.take().map(|read| read(value, repairs))),
            };
            repaired.clear();
            repaired.shrink_to(KEPT_BYTES);
            REPAIRED.set(repaired);
            result?
        }
    };
    result.ok_or(NotJson)
}

/// Writes `json` to `out` with the replacements of [`Repairs`].
fn repair_into(json: &[u8], out: &mut Vec<u8>) -> Repairs {
    let mut repairs = Repairs::default();
    out.clear();
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        if byte == b'"' {
            out.push(byte);
            rest = repair_string(&rest[1..], out, &mut repairs.text);
        } else if byte == b'-' || byte.is_ascii_alphanumeric() {
            let length = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
            let (scalar, tail) = rest.split_at(length.unwrap_or(rest.len()));
            if is_beyond_range(scalar) {
                out.extend_from_slice(b"null");
                repairs.numbers = true;
            } else {
                out.extend_from_slice(scalar);
            }
            rest = tail;
        } else {
            out.push(byte);
            rest = &rest[1..];
        }
    }
    repairs
}

/// Copies a string up to its closing quote, which is included. Returns the input after it.
fn repair_string<'a>(body: &'a [u8], out: &mut Vec<u8>, repaired: &mut bool) -> &'a [u8] {
    let mut rest = body;
    loop {
        let plain = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        for chunk in rest[..plain].utf8_chunks() {
            out.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
                *repaired = true;
            }
        }
        rest = &rest[plain..];
        match rest {
            [] => return rest,
            [b'"', tail @ ..] => {
                out.push(b'"');
                return tail;
            }
            [b'\\', b'u', digits @ ..] if escape(&rest[1..]).is_none() && digits.get(..4).and_then(hex4).is_some() => {
                out.extend_from_slice(b"\\ufffd");
                *repaired = true;
                rest = &digits[4..];
            }
            _ => {
                let length = escape(&rest[1..]).map_or(2, |(_, length)| 1 + length).min(rest.len());
                out.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
}

/// Whether a scalar is a number that JSON or 64 bits cannot represent.
fn is_beyond_range(scalar: &[u8]) -> bool {
    if matches!(scalar, b"NaN" | b"Infinity" | b"-Infinity") {
        return true;
    }
    let Ok(text) = std::str::from_utf8(scalar) else { return false };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return false;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().is_err() && text.parse::<u64>().is_err();
    }
    text.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Whether `json` is one object or list with balanced brackets and nothing but blanks after it. Nothing else is checked.
pub(crate) fn is_balanced(json: &[u8]) -> bool {
    let begin = skip_blanks(json, 0);
    let end = matches!(json.get(begin), Some(b'{' | b'[')).then(|| skip_nested(json, begin)).flatten();
    end.is_some_and(|end| skip_blanks(json, end) == json.len())
}

/// The keys and values of an object, in order; none for other values.
pub fn entries<'t, 'i>(value: Value<'t, 'i>) -> impl Iterator<Item = (&'i str, Value<'t, 'i>)> {
    value.as_object().into_iter().flat_map(|object| object.iter())
}

/// The elements of an array; none for other values.
pub(crate) fn elements<'t, 'i>(value: Value<'t, 'i>) -> impl Iterator<Item = Value<'t, 'i>> {
    value.as_array().into_iter().flat_map(|array| array.iter())
}

/// The text of a string; `None` for other values.
pub fn text<'i>(value: Value<'_, 'i>) -> Option<&'i str> {
    value.into_string()
}

/// A count: an integer, or a float with an integral value (some servers write `12.0`).
pub fn count(value: Value<'_, '_>) -> Option<u32> {
    let float = || value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0).map(|number| number as u64);
    value.as_u64().or_else(float).and_then(|number| u32::try_from(number).ok())
}

/// A number of milliseconds, converted to nanoseconds; `None` for other values and for negative numbers.
pub fn milliseconds(value: Value<'_, '_>) -> Option<u64> {
    value.cast_f64().filter(|ms| ms.is_finite() && *ms >= 0.0).map(|ms| (ms * 1e6).round() as u64)
}

/// Whether the value is `null`.
pub fn is_null(value: Value<'_, '_>) -> bool {
    value.is_null()
}

/// The value as JSON text.
pub fn encode(value: Value<'_, '_>) -> String {
    value.encode()
}

/// Parses decimal digits; `None` for other input and for numbers that do not fit into 64 bits.
pub(crate) fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// One step into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into the value of this key of an object.
    Key(&'a str),
    /// Into the first element of an array.
    First,
}

/// The range of the string at `path` in `json`, without quotes. Keys with escapes are not recognized; of equal keys the
/// first one is used. The document must be one that [`with_value`] accepts. For other input the result is unspecified,
/// but the function does not panic.
pub fn find_string(json: &[u8], path: &[Step<'_>]) -> Option<std::ops::Range<usize>> {
    let mut at = skip_blanks(json, 0);
    for step in path {
        at = match step {
            Step::Key(key) => find_key(json, at, key.as_bytes())?,
            Step::First => {
                let element = (json.get(at) == Some(&b'[')).then(|| skip_blanks(json, at + 1))?;
                (json.get(element) != Some(&b']')).then_some(element)?
            }
        };
    }
    let end = skip_string(json, at)?;
    Some(at + 1..end - 1)
}

/// The offset of the value of `key` in the object that begins at `at`.
fn find_key(json: &[u8], at: usize, key: &[u8]) -> Option<usize> {
    if json.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = skip_blanks(json, at + 1);
    loop {
        let key_end = skip_string(json, at)?;
        let found = &json[at + 1..key_end - 1] == key;
        let colon = skip_blanks(json, key_end);
        let value = (json.get(colon) == Some(&b':')).then(|| skip_blanks(json, colon + 1))?;
        if found {
            return Some(value);
        }
        let comma = skip_blanks(json, skip_value(json, value)?);
        at = (json.get(comma) == Some(&b',')).then(|| skip_blanks(json, comma + 1))?;
    }
}

fn skip_blanks(json: &[u8], at: usize) -> usize {
    let blanks = json[at.min(json.len())..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    at + blanks.count()
}

/// The offset just after the closing quote of the string that begins at `at`.
fn skip_string(json: &[u8], at: usize) -> Option<usize> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let found = from + memchr2(b'"', b'\\', json.get(from..)?)?;
        if json[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// The offset just after the value that begins at `at`.
fn skip_value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => skip_string(json, at),
        b'{' | b'[' => skip_nested(json, at),
        _ => {
            let scalar = json[at..].iter().take_while(|byte| !matches!(byte, b',' | b'}' | b']'));
            Some(at + scalar.count())
        }
    }
}

fn skip_nested(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = skip_string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Whether `body` is valid between the quotes of a JSON string: UTF-8, no bare quote or control character, only valid
/// escapes.
pub fn is_string_body(body: &[u8]) -> bool {
    let mut rest = body;
    let mut ascii = true;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'\\' => match escape(tail) {
                Some((_, length)) => rest = &tail[length..],
                None => return false,
            },
            b'"' | 0..0x20 => return false,
            _ => ascii &= byte < 0x80,
        }
    }
    ascii || std::str::from_utf8(body).is_ok()
}

/// Unescapes a string body; `None` if it is invalid.
pub fn unescape(body: &[u8]) -> Option<Cow<'_, str>> {
    if !body.iter().any(|&byte| byte == b'\\' || byte == b'"' || byte < 0x20) {
        return std::str::from_utf8(body).ok().map(Cow::Borrowed);
    }
    let mut text = Vec::with_capacity(body.len());
    unescape_into(body, &mut text).then_some(())?;
    String::from_utf8(text).ok().map(Cow::Owned)
}

/// Appends the unescaped text of a string body to `text`. Returns false and leaves `text` unchanged if the body is
/// invalid (see [`is_string_body`]).
pub(crate) fn unescape_into(body: &[u8], text: &mut Vec<u8>) -> bool {
    let before = text.len();
    let mut rest = body;
    let valid = loop {
        let plain = rest.iter().position(|&byte| byte == b'\\' || byte == b'"' || byte < 0x20);
        text.extend_from_slice(&rest[..plain.unwrap_or(rest.len())]);
        let Some(plain) = plain else { break true };
        let tail = &rest[plain + 1..];
        let Some((character, length)) = escape(tail).filter(|_| rest[plain] == b'\\') else { break false };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &tail[length..];
    };
    let valid = valid && std::str::from_utf8(&text[before..]).is_ok();
    if !valid {
        text.truncate(before);
    }
    valid
}

/// Appends `text`, escaped for a JSON string, without quotes.
pub(crate) fn escape_into(text: &str, json: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|&byte| byte == b'\\' || byte == b'"' || byte < 0x20) {
        json.extend_from_slice(&rest[..plain]);
        match rest[plain] {
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => json.extend_from_slice(&[b'\\', byte]),
            byte => {
                json.extend_from_slice(b"\\u00");
                json.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[plain + 1..];
    }
    json.extend_from_slice(rest);
}

/// The character of an escape and the length of the escape without its backslash.
fn escape(tail: &[u8]) -> Option<(char, usize)> {
    let simple = match tail.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(tail),
        _ => return None,
    };
    Some((simple, 1))
}

/// `u` and four hexadecimal digits, or two such escapes that form a surrogate pair. A lone surrogate is invalid.
fn unicode_escape(tail: &[u8]) -> Option<(char, usize)> {
    let first = hex4(tail.get(1..5)?)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 5));
    }
    let second = tail.get(5..11)?.strip_prefix(b"\\u").and_then(hex4)?;
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let character = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?;
    Some((character, 11))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &byte| Some(value << 4 | char::from(byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The result of serde_json for the same string body.
    fn reference(body: &[u8]) -> Option<String> {
        serde_json::from_slice(&[b"\"", body, b"\""].concat()).ok()
    }

    fn check(body: &[u8]) {
        let expected = reference(body);
        assert_eq!(unescape(body).map(Cow::into_owned), expected, "{}", body.escape_ascii());
        assert_eq!(is_string_body(body), expected.is_some(), "{}", body.escape_ascii());
        let mut text = b"before".to_vec();
        assert_eq!(unescape_into(body, &mut text), expected.is_some());
        assert_eq!(text, [b"before", expected.clone().unwrap_or_default().as_bytes()].concat());
        if expected.is_some() {
            let json = [b"\"", body, b"\""].concat();
            let full = with_value(&json, |value| value.as_str().map(str::to_string)).unwrap();
            assert_eq!(full, expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn escapes_parse_like_the_reference() {
        let bodies: [&[u8]; 16] = [
            b"",
            b"plain",
            "naïve 語 🦀".as_bytes(),
            br#"\n\t\r\b\f\/\\\""#,
            br"\u0041\u00e9\u8a9e",
            br"\ud83e\udd80!",
            br"\uD83E",
            br"\udd80",
            br"\ud83e\u0041",
            br"\ud83e\n",
            br"\u12",
            br"\x",
            b"\\",
            b"a\"b",
            b"a\nb",
            b"\xff\xfe",
        ];
        bodies.into_iter().for_each(check);
    }

    #[test]
    fn what_python_accepts_is_repaired() {
        let read = |json: &[u8]| with_lenient_value(json, |value, repairs| (encode(value), repairs)).ok();
        let text = Repairs { text: true, numbers: false };
        let numbers = Repairs { text: false, numbers: true };
        let check = |json: &[u8], repaired: &str, repairs| {
            assert_eq!(read(json), Some((repaired.to_string(), repairs)), "{}", json.escape_ascii());
        };
        check(br#"{"a":"\u0041"}"#, r#"{"a":"A"}"#, Repairs::default());
        check(
            br#"{"a":"x\ud83ey","b":"\udd80","c":"\ud83e\udd80\ud83e"}"#,
            "{\"a\":\"x\u{fffd}y\",\"b\":\"\u{fffd}\",\"c\":\"\u{1f980}\u{fffd}\"}",
            text,
        );
        check(
            b"{\"a\":\"x\xff\xe8\xaa\",\"b\":\"\\\"\xff\"}",
            "{\"a\":\"x\u{fffd}\u{fffd}\",\"b\":\"\\\"\u{fffd}\"}",
            text,
        );
        check(
            br#"[NaN,Infinity,-Infinity,1e400,-1e400,18446744073709551616,-9223372036854775809,true,1.5,"NaN"]"#,
            r#"[null,null,null,null,null,null,null,true,1.5,"NaN"]"#,
            numbers,
        );
        check(br#"{"a":NaN,"b":"\ud83e"}"#, "{\"a\":null,\"b\":\"\u{fffd}\"}", Repairs { text: true, numbers: true });
        for wrong in [
            r#"{"a":"\ud83e"#,
            r#"{"a":nan}"#,
            r#"{"a":"\ud83e\"#,
            r#"{"a":"\u12"}"#,
            "[NaN",
            "[01]",
            "\"a\u{1}\\ud83e\"",
            "+Infinity",
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn balanced_documents_are_recognized() {
        for whole in ["{}", " {\"a\":[1,{\"b\":\"}\"}]} ", "[]"] {
            assert!(is_balanced(whole.as_bytes()), "{whole}");
        }
        for part in ["", "{", "{\"a\":\"}", "{}{", "x", "{\"a\":[}", "\"a\""] {
            assert!(!is_balanced(part.as_bytes()), "{part}");
        }
    }

    #[test]
    fn strings_are_found_by_path() {
        let json = br#" {"a":{"text":"no"},"s":"\"text\":\"x","choices":[ {"n":-1.5e3,"l":[1,[2,{"k":"]"}]],"delta" : {"role":null,"content": "a\"b"}}]}"#;
        let path = [Step::Key("choices"), Step::First, Step::Key("delta"), Step::Key("content")];
        let found = find_string(json, &path).unwrap();
        assert_eq!(&json[found], br#"a\"b"#);
        assert_eq!(find_string(json, &[Step::Key("choices"), Step::Key("delta")]), None);
        assert_eq!(find_string(json, &[Step::Key("missing")]), None);
        assert_eq!(find_string(br#"{"a":[]}"#, &[Step::Key("a"), Step::First]), None);
        for cut in 0..json.len() {
            let _ = find_string(&json[..cut], &path);
        }
    }

    #[test]
    fn integers_have_limits() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b""), None);
        assert_eq!(parse_u64(b"+1"), None);
    }

    #[test]
    fn full_parser_rejects_invalid_json() {
        for bad in ["", "{", "{\"a\":1}x", "nul", "{\"a\":\"\u{1}\"}", "data"] {
            assert!(with_value(bad.as_bytes(), |_| ()).is_err(), "{bad}");
        }
        assert!(with_value(b"null", |_| ()).is_ok());
        assert!(with_value(b"{\"a\":\"\xff\"}", |_| ()).is_err());
        let nested = with_value(b"1", |_| with_value(b"2", |value| value.as_u64()));
        assert_eq!(nested, Ok(Ok(Some(2))));
    }

    proptest! {
        #[test]
        fn string_bodies_parse_like_the_reference(body in r#"(\\["\\/bfnrtux]|\\u[dD][89abcdefC-F][0-9a-f]{2}|\\u[0-9a-f]{4}|[a-z"é語🦀\n]){0,12}"#) {
            check(body.as_bytes());
        }

        #[test]
        fn escaped_text_round_trips(text in r#"[\x00-\x1f"\\/a-zé語🦀\x7f]{0,12}"#) {
            let mut body = Vec::new();
            escape_into(&text, &mut body);
            prop_assert_eq!(reference(&body), Some(text));
        }

        #[test]
        fn valid_documents_are_never_repaired(
            body in r#"(\\u[0-9a-fd]{4}|\\n|[a-zé語]|NaN){0,8}"#,
            number in r"-?[0-9]{1,25}(\.[0-9]{1,3})?(e[0-9]{1,3})?",
        ) {
            let json = format!(r#"{{"s":"{body}","n":{number}}}"#);
            let strict = with_value(json.as_bytes(), encode);
            let lenient = with_lenient_value(json.as_bytes(), |value, repairs| (encode(value), repairs));
            if let Ok(strict) = strict {
                prop_assert_eq!(lenient, Ok((strict, Repairs::default())));
            } else if let Ok((_, repairs)) = lenient {
                prop_assert!(repairs.text || repairs.numbers);
            }
        }

        #[test]
        fn arbitrary_bytes_parse_like_the_reference(body in prop::collection::vec(any::<u8>(), 0..12)) {
            check(&body);
        }
    }
}
