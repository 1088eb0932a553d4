//! The head of an HTTP/1.1 response: status, framing of the body, and whether the connection can be reused.

use std::mem::MaybeUninit;

use memchr::memchr_iter;

use super::error::WireError;

/// Longest head accepted, bytes. Proxies limit heads to 8-32 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most header fields accepted.
const MAX_FIELDS: usize = 128;
/// The start of every head. Old proxies respond with HTTP/1.0.
const START: &[u8] = b"HTTP/1.";
/// Maximum number of unexpected bytes shown in an error.
const SHOWN_BYTES: usize = 48;

/// The fields of a head that matter to a load generator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub framing: Framing,
    /// The connection can be reused after this response.
    pub keep_alive: bool,
    pub media: Media,
    /// The reason phrase; stored only if the status is not 200.
    pub reason: String,
    /// `Location`; stored only if the status is not 200.
    pub location: Option<String>,
    /// `Content-Encoding`, if the body is compressed.
    pub content_coding: Option<String>,
}

/// How the end of the body is determined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By its length in bytes.
    Length(u64),
    Chunked,
    /// By the end of the connection.
    #[default]
    UntilClose,
}

/// The media type, as far as the parsing of the body depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    EventStream,
    Json,
    #[default]
    Other,
}

/// A longer head is not kept to compare the next one with it, bytes.
const MAX_KEPT_BYTES: usize = 1024;

/// Parses heads that may arrive in pieces. Servers send the same head again and again, until the second of its `Date`
/// changes: one that begins with the same bytes as the last is not parsed again.
#[derive(Debug, Default)]
pub struct HeadReader {
    carry: Vec<u8>,
    /// The last head that came in one piece, with status 200; empty if there is none.
    last: Vec<u8>,
    last_head: Head,
}

impl HeadReader {
    /// Discards a partial head.
    pub fn reset(&mut self) {
        self.carry.clear();
        self.carry.shrink_to(4096);
    }

    /// Whether a part of a head has arrived.
    pub fn is_within(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Consumes bytes from the front of `input` until the head is complete. `None`: all bytes were consumed, more are
    /// needed.
    ///
    /// # Errors
    /// The bytes are not an HTTP/1.x response head, or it exceeds [`MAX_HEAD_BYTES`].
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Head>, WireError> {
        if self.carry.is_empty() {
            if let Some(rest) = input.strip_prefix(self.last.as_slice()).filter(|_| !self.last.is_empty()) {
                *input = rest;
                return Ok(Some(self.last_head.clone()));
            }
            check_start(input)?;
            if let Some(end) = find_end(input, 0) {
                let (bytes, rest) = input.split_at(end);
                *input = rest;
                let head = parse(bytes)?;
                self.keep(bytes, &head);
                return Ok(Some(head));
            }
        }
        self.read_split(input)
    }

    fn keep(&mut self, bytes: &[u8], head: &Head) {
        self.last.clear();
        // A copy of such a head has nothing on the heap.
        if bytes.len() <= MAX_KEPT_BYTES && head.status == 200 && head.content_coding.is_none() {
            self.last.extend_from_slice(bytes);
            self.last_head = head.clone();
        }
    }

    fn read_split(&mut self, input: &mut &[u8]) -> Result<Option<Head>, WireError> {
        let before = self.carry.len();
        let room = MAX_HEAD_BYTES.saturating_sub(before);
        self.carry.extend_from_slice(&input[..input.len().min(room)]);
        check_start(&self.carry)?;
        // The blank line begins at most two bytes before the new bytes: the old bytes may end in "\n\r".
        if let Some(end) = find_end(&self.carry, before.saturating_sub(2)) {
            *input = &input[end.saturating_sub(before)..];
            let head = parse(&self.carry[..end]);
            self.reset();
            return head.map(Some);
        }
        if self.carry.len() >= MAX_HEAD_BYTES {
            return Err(WireError::HeadTooLong { limit: MAX_HEAD_BYTES });
        }
        *input = &[];
        Ok(None)
    }
}

/// Fails on the first byte that differs from an HTTP/1.x response, so that another protocol does not cause a timeout.
fn check_start(bytes: &[u8]) -> Result<(), WireError> {
    let compared = bytes.len().min(START.len());
    if bytes[..compared] == START[..compared] {
        return Ok(());
    }
    let hint = match bytes {
        [0x15 | 0x16, 0x03, ..] => " (these are TLS records: use https:// in --url)",
        [0, 0, _, 4, ..] => " (this is HTTP/2; ringmark speaks HTTP/1.1)",
        _ => "",
    };
    let start = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    Err(WireError::NotHttp { start, hint })
}

/// The offset just after the blank line that ends the head, searching for line ends from offset `from`.
fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    for line_end in memchr_iter(b'\n', &bytes[from..]) {
        match &bytes[from + line_end + 1..] {
            [b'\n', ..] => return Some(from + line_end + 2),
            [b'\r', b'\n', ..] => return Some(from + line_end + 3),
            _ => {}
        }
    }
    None
}

/// Parses a complete head.
fn parse(bytes: &[u8]) -> Result<Head, WireError> {
    if bytes.len() > MAX_HEAD_BYTES {
        return Err(WireError::HeadTooLong { limit: MAX_HEAD_BYTES });
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)
        .map_err(|error| WireError::Head(error.to_string()))?;
    if status != httparse::Status::Complete(bytes.len()) {
        return Err(WireError::Head("it is incomplete".to_string()));
    }
    let mut head = Head { status: parsed.code.unwrap_or(0), ..Head::default() };
    if head.status != 200 {
        head.reason = parsed.reason.unwrap_or("").trim().to_string();
    }
    let mut lengths = Lengths::default();
    head.keep_alive = parsed.version == Some(1);
    for field in parsed.headers.iter() {
        read_field(&mut head, &mut lengths, field)?;
    }
    lengths.decide(&mut head, parsed.version == Some(1));
    Ok(head)
}

/// The header fields that determine framing and connection reuse.
#[derive(Default)]
struct Lengths {
    content_length: Option<u64>,
    chunked: bool,
    closes: bool,
    keeps: bool,
}

impl Lengths {
    fn decide(&self, head: &mut Head, http_1_1: bool) {
        head.framing = match (head.status, self.chunked, self.content_length) {
            (204 | 304, _, _) => Framing::Length(0),
            (_, true, _) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => Framing::UntilClose,
        };
        // RFC 9112, section 6.3: with both Content-Length and chunked coding, or chunked coding in HTTP/1.0, the chunked
        // coding applies and the connection is closed.
        let doubtful = self.chunked && (self.content_length.is_some() || !http_1_1);
        head.keep_alive = (http_1_1 || self.keeps) && !self.closes && !doubtful && head.framing != Framing::UntilClose;
    }
}

fn read_field(head: &mut Head, lengths: &mut Lengths, field: &httparse::Header<'_>) -> Result<(), WireError> {
    let name = field.name;
    let value = field.value;
    if name.eq_ignore_ascii_case("content-length") {
        read_content_length(lengths, value)?;
    } else if name.eq_ignore_ascii_case("transfer-encoding") {
        for coding in items(value) {
            if !coding.eq_ignore_ascii_case(b"chunked") || lengths.chunked {
                return Err(WireError::Head(format!("transfer-encoding '{}'", value.escape_ascii())));
            }
            lengths.chunked = true;
        }
    } else if name.eq_ignore_ascii_case("connection") {
        for option in items(value) {
            lengths.closes |= option.eq_ignore_ascii_case(b"close");
            lengths.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    } else if name.eq_ignore_ascii_case("content-type") {
        head.media = media(value);
    } else if name.eq_ignore_ascii_case("content-encoding") {
        let coded = items(value).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        head.content_coding = coded.then(|| String::from_utf8_lossy(value).trim().to_string());
    } else if head.status != 200 && name.eq_ignore_ascii_case("location") {
        head.location = Some(String::from_utf8_lossy(value).trim().to_string());
    }
    Ok(())
}

/// Several values of `Content-Length` must be equal.
fn read_content_length(lengths: &mut Lengths, value: &[u8]) -> Result<(), WireError> {
    let wrong = |what: &str| WireError::Head(format!("{what} content-length '{}'", value.escape_ascii()));
    let mut any = false;
    for item in items(value) {
        let length = super::json::parse_u64(item).ok_or_else(|| wrong("bad"))?;
        if lengths.content_length.is_some_and(|other| other != length) {
            return Err(wrong("contradictory"));
        }
        lengths.content_length = Some(length);
        any = true;
    }
    if any { Ok(()) } else { Err(wrong("bad")) }
}

fn media(value: &[u8]) -> Media {
    let kind = value.split(|&byte| byte == b';').next().unwrap_or(value).trim_ascii();
    if kind.eq_ignore_ascii_case(b"text/event-stream") {
        Media::EventStream
    } else if kind.eq_ignore_ascii_case(b"application/json") || ends_with_json(kind) {
        Media::Json
    } else {
        Media::Other
    }
}

/// Types such as `application/problem+json`.
fn ends_with_json(kind: &[u8]) -> bool {
    kind.len() > 5 && kind[kind.len() - 5..].eq_ignore_ascii_case(b"+json")
}

/// The items of a comma-separated list.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Option<Head>, WireError> {
        HeadReader::default().read(&mut text.as_bytes())
    }

    fn complete(text: &str) -> Head {
        whole(text).unwrap().unwrap()
    }

    #[test]
    fn fields_are_parsed_in_any_order_and_case() {
        let head = complete(
            "HTTP/1.1 200 OK\r\nCONTENT-TYPE: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: Chunked\r\n\r\n",
        );
        assert_eq!((head.status, head.framing, head.media), (200, Framing::Chunked, Media::EventStream));
        assert!(head.keep_alive && head.reason.is_empty());
        let head = complete("HTTP/1.1 503 No Way\r\nconnection: foo, Close\r\nContent-Length: 12\r\n\r\n");
        assert_eq!((head.framing, head.keep_alive, head.reason.as_str()), (Framing::Length(12), false, "No Way"));
    }

    #[test]
    fn keep_alive_follows_version_fields_and_framing() {
        assert!(!complete("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n").keep_alive);
        assert!(complete("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n").keep_alive);
        assert!(!complete("HTTP/1.1 200 OK\r\n\r\n").keep_alive);
        assert!(!complete("HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n").keep_alive);
        assert_eq!(complete("HTTP/1.1 204 No\r\n\r\n").framing, Framing::Length(0));
        assert_eq!(complete("HTTP/1.1 304 No\r\ncontent-length: 77\r\n\r\n").framing, Framing::Length(0));
    }

    #[test]
    fn contradictory_lengths_are_rejected() {
        assert!(whole("HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n").is_err());
        assert!(whole("HTTP/1.1 200 OK\r\ncontent-length: 4, 5\r\n\r\n").is_err());
        assert!(whole("HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n").is_err());
        assert!(whole("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n").is_err());
        assert!(whole("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n").is_err());
        assert_eq!(
            complete("HTTP/1.1 200 OK\r\ncontent-length: 4, 4\r\ncontent-length: 4\r\n\r\n").framing,
            Framing::Length(4)
        );
    }

    #[test]
    fn head_parses_equally_at_every_split() {
        let text =
            "HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\nContent-Type: application/json\r\n\r\nabc";
        let expected = complete(text);
        for cut in 0..text.len() {
            let mut reader = HeadReader::default();
            let (mut first, mut second) = text.as_bytes().split_at(cut);
            let head = match reader.read(&mut first).unwrap() {
                Some(head) => head,
                None => reader.read(&mut second).unwrap().unwrap(),
            };
            assert_eq!(head, expected);
            assert_eq!([first, second].concat(), b"abc", "cut at {cut}");
        }
    }

    #[test]
    fn a_head_is_read_the_same_after_any_other() {
        let heads = [
            "HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: 2\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Length: 33\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked\n\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 429 Slow\r\nLocation: /\r\nContent-Length: 3\r\n\r\n",
        ];
        let mut reader = HeadReader::default();
        for (first, second) in heads.iter().flat_map(|first| heads.map(|second| (first, second))) {
            for head in [first, second, second] {
                let text = format!("{head}\r\n\r\nabc");
                let mut input = text.as_bytes();
                reader.reset();
                assert_eq!(reader.read(&mut input).unwrap().unwrap(), complete(head));
                assert_eq!(input, b"\r\n\r\nabc");
                // The start of it is none.
                let mut cut = &head.as_bytes()[..head.len() - 1];
                assert_eq!(reader.read(&mut cut), Ok(None), "{head}");
            }
        }
    }

    #[test]
    fn other_protocols_are_rejected_at_the_first_byte() {
        let error = whole("SSH-2.0-OpenSSH_9.6\r\n").unwrap_err().to_string();
        assert!(error.contains("SSH-2.0-OpenSSH_9.6"), "{error}");
        let error = HeadReader::default().read(&mut &b"\x15\x03\x01\x00\x02\x02"[..]).unwrap_err().to_string();
        assert!(error.contains("https://"), "{error}");
        assert!(whole("HTTP/1.1 abc\r\n\r\n").is_err());
    }

    #[test]
    fn too_long_heads_are_rejected_whole_or_in_pieces() {
        let mut text = String::from("HTTP/1.1 200 OK\r\nx: ");
        text.push_str(&"y".repeat(MAX_HEAD_BYTES));
        assert_eq!(whole(&text), Err(WireError::HeadTooLong { limit: MAX_HEAD_BYTES }));
        text.push_str("\r\n\r\n");
        assert_eq!(whole(&text), Err(WireError::HeadTooLong { limit: MAX_HEAD_BYTES }));
        let mut reader = HeadReader::default();
        let failed = text.as_bytes().chunks(1000).any(|mut piece| reader.read(&mut piece).is_err());
        assert!(failed);
    }
}
