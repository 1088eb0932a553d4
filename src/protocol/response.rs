//! Incremental parser of one HTTP response: head, framing and events. It determines where the response ends; it does not
//! interpret events.

use super::chunked::{Decoded, Decoder};
use super::error::WireError;
use super::http1::{Framing, Head, HeadReader, Media};
use super::sse::{Event, Framer};

/// Maximum number of interim responses (1xx) before the final one.
const MAX_INTERIM: u32 = 16;

/// At most this many bytes at the start of a body are needed to tell its form.
const LONGEST_START: usize = 16;
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// How the lines of an event stream begin.
const FIELDS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];

/// A part of a response.
#[derive(Debug)]
pub enum Piece<'a> {
    /// The end of an interim response (100 Continue, 103 Early Hints); the final response follows.
    Interim,
    Head(&'a Head),
    /// Bytes of the body as the server wrote them, without chunked coding. Precedes the events or body bytes in them.
    Raw(&'a [u8]),
    /// An event of a streamed body.
    Event(Event<'a>),
    /// Bytes of a body that is not a stream of events.
    Body(&'a [u8]),
}

/// Whether the response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The response is complete; the last `left_over` bytes of the input do not belong to it.
    Complete {
        left_over: usize,
    },
}

/// Where in the response the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// At the end of the body.
    Complete,
    BeforeHead,
    WithinHead,
    WithinBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Complete,
}

/// How the body is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Too few bytes of the body have arrived to tell.
    Unknown,
    Events,
    Plain,
}

/// The state of one response; reused for the next response on the same connection.
#[derive(Debug)]
pub struct Response {
    /// The request asked for SSE: a body of unclear type that looks like events is parsed as events.
    pub expect_stream: bool,
    stage: Stage,
    shape: Shape,
    reader: HeadReader,
    head: Head,
    decoder: Decoder,
    framer: Framer,
    /// The start of a body of unknown form.
    start: Vec<u8>,
    /// Remaining bytes of a body with a length.
    remaining: u64,
    interim: u32,
    /// The last push ended with body bytes, or with the line end behind a chunk.
    ends_with_body: bool,
}

impl Response {
    /// A response of which nothing has arrived. `max_event_bytes`: longest event accepted.
    pub fn new(expect_stream: bool, max_event_bytes: usize) -> Response {
        Response {
            expect_stream,
            stage: Stage::Head,
            shape: Shape::Unknown,
            reader: HeadReader::default(),
            head: Head::default(),
            decoder: Decoder::default(),
            framer: Framer::new(max_event_bytes),
            start: Vec::new(),
            remaining: 0,
            interim: 0,
            ends_with_body: false,
        }
    }

    /// Resets the state for the next response and frees large buffers.
    pub fn reset(&mut self) {
        self.stage = Stage::Head;
        self.shape = Shape::Unknown;
        self.reader.reset();
        self.head = Head::default();
        self.decoder = Decoder::default();
        self.framer.reset();
        self.start.clear();
        self.remaining = 0;
        self.interim = 0;
    }

    /// Sets the longest event accepted, bytes.
    pub(crate) fn set_max_event_bytes(&mut self, bytes: usize) {
        self.framer.max_event_bytes = bytes;
    }

    /// The head; empty before it has arrived.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the body is parsed as a stream of events.
    pub(crate) fn is_events(&self) -> bool {
        self.shape == Shape::Events
    }

    /// Whether the body is a stream of events under the media type of something else.
    pub(crate) fn is_mislabeled(&self) -> bool {
        self.is_events() && self.head.media != Media::EventStream
    }

    /// Whether events came without a blank line between them.
    pub(crate) fn lacks_blank_lines(&self) -> bool {
        self.framer.lacks_blank_lines()
    }

    /// Whether the last byte of the last push completed an event, but for the line end behind a chunk.
    pub(crate) fn ends_with_event(&self) -> bool {
        self.ends_with_body && self.framer.ends_with_event()
    }

    /// Bytes of an incomplete event.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.framer.held_bytes()
    }

    /// Whether a part of a head has arrived.
    pub(crate) fn is_within_head(&self) -> bool {
        self.stage == Stage::Head && self.reader.is_within()
    }

    /// Parses the bytes of one read and passes the parts of the response to `sink`.
    ///
    /// # Errors
    /// The bytes are not valid HTTP/1.1 or SSE within the limits.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> Result<Progress, WireError> {
        let mut input = bytes;
        self.ends_with_body = false;
        self.framer.start_read();
        while self.stage == Stage::Head {
            if input.is_empty() {
                return Ok(Progress::More);
            }
            if let Some(head) = self.reader.read(&mut input)? {
                self.enter_body(head, sink)?;
            }
        }
        if self.stage == Stage::Body {
            self.read_body(&mut input, sink)?;
        }
        match self.stage {
            Stage::Complete => Ok(Progress::Complete { left_over: input.len() }),
            _ => Ok(Progress::More),
        }
    }

    /// Handles the end of the connection.
    pub fn push_eof(&mut self, sink: &mut impl FnMut(Piece<'_>)) -> Eof {
        match self.stage {
            Stage::Head if self.reader.is_within() || self.interim > 0 => Eof::WithinHead,
            Stage::Head => Eof::BeforeHead,
            Stage::Body if self.head.framing == Framing::UntilClose => {
                self.complete(sink);
                Eof::Complete
            }
            Stage::Body => Eof::WithinBody,
            Stage::Complete => Eof::Complete,
        }
    }

    fn enter_body(&mut self, head: Head, sink: &mut impl FnMut(Piece<'_>)) -> Result<(), WireError> {
        if (100..200).contains(&head.status) {
            self.interim += 1;
            if head.status == 101 || self.interim > MAX_INTERIM {
                return Err(WireError::Head(format!("unexpected status {}", head.status)));
            }
            sink(Piece::Interim);
            return Ok(());
        }
        self.head = head;
        sink(Piece::Head(&self.head));
        self.stage = Stage::Body;
        if let Framing::Length(length) = self.head.framing {
            self.remaining = length;
            if length == 0 {
                self.complete(sink);
            }
        }
        Ok(())
    }

    fn read_body(&mut self, input: &mut &[u8], sink: &mut impl FnMut(Piece<'_>)) -> Result<(), WireError> {
        match self.head.framing {
            Framing::Length(_) => {
                let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
                let (body, rest) = input.split_at(taken);
                *input = rest;
                self.remaining -= taken as u64;
                self.ends_with_body = input.is_empty();
                self.take_body(body, sink)?;
                if self.remaining == 0 {
                    self.complete(sink);
                }
            }
            Framing::Chunked => {
                let mut after_data = *input;
                loop {
                    match self.decoder.decode(input)? {
                        Decoded::Data(data) => {
                            after_data = *input;
                            self.take_body(data, sink)?;
                        }
                        Decoded::More => break,
                        Decoded::End => {
                            self.complete(sink);
                            break;
                        }
                    }
                }
                self.ends_with_body = b"\r\n".starts_with(after_data);
            }
            Framing::UntilClose => {
                self.ends_with_body = true;
                self.take_body(std::mem::take(input), sink)?;
            }
        }
        Ok(())
    }

    fn take_body(&mut self, body: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> Result<(), WireError> {
        if body.is_empty() {
            return Ok(());
        }
        sink(Piece::Raw(body));
        if self.shape != Shape::Unknown {
            return self.pass_body(body, sink);
        }
        let mut body = body;
        if self.start.is_empty() {
            // Blank lines before the first event or before a document are ignored.
            let blank = body.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            body = &body[blank..];
        }
        let held = self.start.len();
        self.start.extend_from_slice(&body[..body.len().min(LONGEST_START - held)]);
        let Some(shape) = self.detect_shape() else { return Ok(()) };
        self.shape = shape;
        let mut start = std::mem::take(&mut self.start);
        start.truncate(held);
        self.pass_body(&start, sink)?;
        self.pass_body(body, sink)?;
        start.clear();
        self.start = start;
        Ok(())
    }

    /// Passes on bytes of a body whose form is known.
    fn pass_body(&mut self, body: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> Result<(), WireError> {
        if body.is_empty() {
            return Ok(());
        }
        match self.shape {
            Shape::Events => self.framer.push(body, &mut |event| sink(Piece::Event(event))),
            _ => {
                sink(Piece::Body(body));
                Ok(())
            }
        }
    }

    /// Determines how to parse the body; `None` if its first bytes do not tell yet. Servers send wrong media types in both
    /// directions, so the bytes decide as well: a JSON document begins with a bracket, an event never does.
    fn detect_shape(&self) -> Option<Shape> {
        let start = self.start.as_slice();
        if self.head.status != 200 || self.head.content_coding.is_some() {
            return Some(Shape::Plain);
        }
        let text = start.strip_prefix(BOM).unwrap_or(start);
        if text.is_empty() || (text.len() < BOM.len() && BOM.starts_with(text)) {
            return None;
        }
        match text[0] {
            b'{' | b'[' => Some(Shape::Plain),
            _ if self.head.media == Media::EventStream => Some(Shape::Events),
            _ if !self.expect_stream => Some(Shape::Plain),
            _ if FIELDS.iter().any(|field| text.starts_with(field)) => Some(Shape::Events),
            _ if FIELDS.iter().any(|field| field.starts_with(text)) => None,
            _ => Some(Shape::Plain),
        }
    }

    fn complete(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        match self.shape {
            Shape::Events => self.framer.finish(&mut |event| sink(Piece::Event(event))),
            Shape::Unknown if !self.start.is_empty() => sink(Piece::Body(&self.start)),
            Shape::Unknown | Shape::Plain => {}
        }
        self.stage = Stage::Complete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the pieces and returns the parts as text, and the body bytes.
    fn transcript(pieces: &[&[u8]]) -> (String, Vec<u8>) {
        let mut response = Response::new(true, 1 << 20);
        let (mut log, mut body) = (String::new(), Vec::new());
        let mut left_over = 0;
        let mut complete = false;
        for piece in pieces {
            if complete {
                left_over += piece.len();
                continue;
            }
            let progress = response.push(piece, &mut |piece| match piece {
                Piece::Interim => log.push_str("interim "),
                Piece::Head(head) => log.push_str(&format!("{} ", head.status)),
                Piece::Raw(_) => {}
                Piece::Event(event) => log.push_str(&format!("<{}> ", String::from_utf8_lossy(event.data))),
                Piece::Body(bytes) => body.extend_from_slice(bytes),
            });
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Complete { left_over: more }) => {
                    complete = true;
                    left_over += more;
                }
                Err(error) => return (format!("{log}error {}", error.to_string().len().min(1)), body),
            }
        }
        log.push_str(if complete { "complete" } else { "more" });
        if left_over > 0 {
            log.push_str(&format!(" +{left_over}"));
        }
        (log, body)
    }

    fn check(bytes: &[u8], expected: &str, expected_body: &[u8]) {
        let whole = transcript(&[bytes]);
        assert_eq!((whole.0.as_str(), whole.1.as_slice()), (expected, expected_body));
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(transcript(&[first, second]), whole, "cut at {cut}");
        }
        assert_eq!(transcript(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn every_framing_parses_equally_at_every_split() {
        check(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "interim interim 200 complete", b"{}");
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n8\r\ndata: a\n\r\n9;x\r\n\ndata: b\n\r\n1\r\n\n\r\n0\r\nT: v\r\n\r\nHTTP", "200 <a> <b> complete +4", b"");
        check(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\r\n\r\ndata: b\r\n\r\n",
            "200 <a> <b> more",
            b"",
        );
        check(b"HTTP/1.1 204 No Content\r\n\r\n", "204 complete", b"");
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 complete", b"");
        check(
            b"HTTP/1.1 500 Oh\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: no\n",
            "500 complete",
            b"data: no\n",
        );
        check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n", "200 error 1", b"");
        check(b"HTTP/1.1 101 Switching\r\n\r\n", "error 1", b"");
    }

    #[test]
    fn documents_and_streams_are_distinguished_by_type_and_first_byte() {
        check(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4\r\n\r\n\n\n{}",
            "200 complete",
            b"{}",
        );
        check(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\ndata: x\n\n",
            "200 <x> complete",
            b"",
        );
        check(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            "200 complete",
            b"<html>",
        );
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ndata: x", "200 <x> complete", b"");
        let text = |body: &str| {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
                .into_bytes()
        };
        for start in ["id: 0\nevent: message\n", "event: message\n", "retry: 3\n\n", ": hi\n\n", "\u{feff}"] {
            check(&text(&format!("{start}data: x\n\n")), "200 <x> complete", b"");
        }
        for page in ["internal error", "event", "dat", "retry later", "\u{feff}", "i"] {
            check(&text(page), "200 complete", page.as_bytes());
        }
    }

    #[test]
    fn end_of_connection_is_classified_by_framing() {
        let eof_after = |bytes: &[u8]| {
            let mut response = Response::new(true, 1 << 20);
            response.push(bytes, &mut |_| {}).unwrap();
            response.push_eof(&mut |_| {})
        };
        assert_eq!(eof_after(b""), Eof::BeforeHead);
        assert_eq!(eof_after(b"HTTP/1.1 2"), Eof::WithinHead);
        assert_eq!(eof_after(b"HTTP/1.1 100 C\r\n\r\n"), Eof::WithinHead);
        assert_eq!(eof_after(b"HTTP/1.1 200 OK\r\n\r\nx"), Eof::Complete);
        assert_eq!(eof_after(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"), Eof::WithinBody);
        assert_eq!(eof_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), Eof::WithinBody);
    }
}
