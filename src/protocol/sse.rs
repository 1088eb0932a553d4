//! Incremental parser of server-sent events (the event stream of the HTML standard, without reconnection).
//!
//! An event within one read is passed on as a slice of that read. Only an event that spans several reads is copied, into
//! a buffer that is freed between responses if it is large.

use memchr::{memchr, memchr2};

use super::error::WireError;

/// A buffer larger than this is freed between responses, bytes.
const KEPT_CARRY_BYTES: usize = 64 * 1024;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field; empty if absent.
    pub name: &'a [u8],
    /// The `data:` lines, joined by line feeds.
    pub data: &'a [u8],
    /// Whether the event was ended by a blank line. `false`: the body ended first.
    pub complete: bool,
}

/// Splits a body into events.
#[derive(Debug)]
pub struct Framer {
    /// Longest event accepted, bytes.
    pub max_event_bytes: usize,
    /// The incomplete event at the end of the last read.
    carry: Vec<u8>,
    /// The joined `data:` lines of an event that has several.
    joined: Vec<u8>,
    /// The check for a byte order mark is done.
    started: bool,
    /// No byte of the current line has been parsed.
    at_line_start: bool,
    /// The last byte was a CR that ended a line; a following line feed belongs to it.
    skip_lf: bool,
}

impl Framer {
    /// A framer at the start of a body. `max_event_bytes`: longest event accepted.
    pub fn new(max_event_bytes: usize) -> Framer {
        Framer {
            max_event_bytes,
            carry: Vec::new(),
            joined: Vec::new(),
            started: false,
            at_line_start: true,
            skip_lf: false,
        }
    }

    /// Resets the state for the next body and frees large buffers.
    pub fn reset(&mut self) {
        self.carry.clear();
        self.joined.clear();
        if self.carry.capacity() > KEPT_CARRY_BYTES {
            self.carry = Vec::new();
        }
        if self.joined.capacity() > KEPT_CARRY_BYTES {
            self.joined = Vec::new();
        }
        self.started = false;
        self.at_line_start = true;
        self.skip_lf = false;
    }

    /// Parses the next bytes of the body and passes every event that they complete to `sink`.
    ///
    /// # Errors
    /// An event is longer than `max_event_bytes`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), WireError> {
        let mut input = bytes;
        if !self.started && !self.pass_bom(&mut input) {
            return Ok(());
        }
        while !input.is_empty() {
            if self.skip_lf {
                self.skip_lf = false;
                input = input.strip_prefix(b"\n").unwrap_or(input);
                continue;
            }
            if self.carry.is_empty()
                && let Some((data, rest)) = simple_event(input)
                && input.len() - rest.len() - 1 <= self.max_event_bytes
            {
                sink(Event { name: b"", data, complete: true });
                input = rest;
                continue;
            }
            input = self.take_block(input, sink)?;
        }
        Ok(())
    }

    /// Handles the regular end of the body: an event without its blank line is passed on as well.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if !self.carry.is_empty() {
            dispatch(&self.carry, &mut self.joined, false, sink);
            self.carry.clear();
        }
    }

    /// Skips a byte order mark at the start of the body, which may arrive byte by byte. Returns false while undecided.
    fn pass_bom(&mut self, input: &mut &[u8]) -> bool {
        let seen = self.carry.len();
        let compared = input.len().min(BOM.len() - seen);
        if input[..compared] != BOM[seen..seen + compared] {
            self.started = true;
            // Bytes that looked like the start of a byte order mark belong to the first line.
            self.at_line_start = seen == 0;
            return true;
        }
        if seen + compared < BOM.len() {
            self.carry.extend_from_slice(input);
            return false;
        }
        self.carry.clear();
        self.started = true;
        *input = &input[compared..];
        true
    }

    /// Consumes bytes up to the end of the current block of lines, or all bytes if the block does not end in them.
    fn take_block<'a>(&mut self, input: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], WireError> {
        let end = self.find_block_end(input);
        let taken = end.map_or(input.len(), |end| end.content);
        if self.carry.len() + taken > self.max_event_bytes {
            return Err(WireError::EventTooLong { limit: self.max_event_bytes });
        }
        let Some(end) = end else {
            self.carry.extend_from_slice(input);
            return Ok(&[]);
        };
        if self.carry.is_empty() {
            dispatch(&input[..taken], &mut self.joined, true, sink);
        } else {
            self.carry.extend_from_slice(&input[..taken]);
            dispatch(&self.carry, &mut self.joined, true, sink);
            self.carry.clear();
        }
        Ok(&input[end.after..])
    }

    /// Searches for the blank line that ends the current block. The position within a line is kept across reads.
    fn find_block_end(&mut self, input: &[u8]) -> Option<BlockEnd> {
        let mut line = 0;
        while let Some(offset) = memchr2(b'\n', b'\r', &input[line..]) {
            let terminator = line + offset;
            let blank = offset == 0 && self.at_line_start;
            self.at_line_start = true;
            let mut next = terminator + 1;
            if input[terminator] == b'\r' {
                match input.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.skip_lf = true,
                }
            }
            if blank {
                return Some(BlockEnd { content: terminator, after: next });
            }
            line = next;
        }
        self.at_line_start &= line == input.len();
        None
    }
}

/// The end of a block: the offset of the blank line, and the offset of the first byte after it.
#[derive(Clone, Copy)]
struct BlockEnd {
    content: usize,
    after: usize,
}

/// Fast path for the usual event: one `data:` line, ended by line feeds. Returns the data and the input after the event.
fn simple_event(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let value = input.strip_prefix(b"data:")?;
    // Lines that end in a carriage return take the slow path.
    let (line, rest) = value.split_at(memchr2(b'\n', b'\r', value)?);
    let rest = rest.strip_prefix(b"\n\n")?;
    Some((line.strip_prefix(b" ").unwrap_or(line), rest))
}

/// Parses the lines of one block and passes on its event, if it has data.
fn dispatch(block: &[u8], joined: &mut Vec<u8>, complete: bool, sink: &mut impl FnMut(Event<'_>)) {
    let mut name: &[u8] = b"";
    let mut first: Option<&[u8]> = None;
    let mut several = false;
    let mut rest = block;
    while !rest.is_empty() {
        let (field, value) = split_field(next_line(&mut rest));
        match field {
            b"event" => name = value,
            // Not in the standard: older llama.cpp servers report errors in a field `error`.
            b"data" | b"error" => {
                if field == b"error" {
                    name = b"error";
                }
                match first {
                    None => first = Some(value),
                    Some(data) => {
                        if !several {
                            joined.clear();
                            joined.extend_from_slice(data);
                            several = true;
                        }
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(data) = first {
        sink(Event { name, data: if several { joined } else { data }, complete });
    }
}

/// Consumes one line and its terminator from the front of `rest`. Returns the line.
fn next_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some(end) = memchr2(b'\n', b'\r', rest) else {
        return std::mem::take(rest);
    };
    let (line, tail) = rest.split_at(end);
    *rest = tail.strip_prefix(b"\r\n").unwrap_or(&tail[1..]);
    line
}

/// The field name and value of a line. A comment has an empty name, a line without colon an empty value.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', line) else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, String, bool);

    fn frame(pieces: &[&[u8]]) -> Vec<Owned> {
        let mut framer = Framer::new(1 << 20);
        let mut events = Vec::new();
        let mut sink = |event: Event<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            events.push((text(event.name), text(event.data), event.complete));
        };
        for piece in pieces {
            framer.push(piece, &mut sink).unwrap();
        }
        framer.finish(&mut sink);
        events
    }

    /// A direct implementation of the standard: the whole body at once, line by line.
    fn reference(body: &[u8]) -> Vec<Owned> {
        let text = String::from_utf8_lossy(body).into_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut name, mut data) = (Vec::new(), String::new(), None::<String>);
        let mut lines: Vec<&str> = text.split('\n').collect();
        let unterminated = lines.pop().unwrap_or("");
        let last = lines.len();
        if !unterminated.is_empty() {
            lines.push(unterminated);
        }
        let mut complete = true;
        lines.push("");
        for (number, line) in lines.iter().enumerate() {
            if line.is_empty() {
                complete = number < last;
                if let Some(data) = data.take() {
                    events.push((name.clone(), data, complete));
                }
                name.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            if field == "event" || field == "error" {
                name = if field == "error" { "error" } else { value }.to_string();
            }
            if field == "data" || field == "error" {
                data = Some(data.map_or(value.to_string(), |data| data + "\n" + value));
            }
        }
        assert!(!complete || data.is_none());
        events
    }

    fn plain(data: &str) -> Owned {
        (String::new(), data.to_string(), true)
    }

    #[test]
    fn line_ends_comments_names_and_joined_data_are_parsed() {
        assert_eq!(frame(&[b"data: a\n\ndata:b\r\n\r\ndata:  c\r\r"]), [plain("a"), plain("b"), plain(" c")]);
        assert_eq!(frame(&[b": ping\n\n:\n\ndata: x\n:y\nid: 7\nretry\ndata\ndata: z\n\n"]), [plain("x\n\nz")]);
        assert_eq!(
            frame(&[b"\xEF\xBB\xBFevent: error\ndata: {}\n\nevent: nothing\n\ndata: 1\n\n"]),
            [("error".into(), "{}".into(), true), plain("1")]
        );
        assert_eq!(frame(&[b"error: {\"code\":1}\n\n"]), [("error".into(), "{\"code\":1}".into(), true)]);
    }

    #[test]
    fn last_event_needs_no_blank_line() {
        assert_eq!(frame(&[b"data: a\n\ndata: b"]), [plain("a"), (String::new(), "b".into(), false)]);
        assert_eq!(frame(&[b"data: a\r\n"]), [(String::new(), "a".into(), false)]);
        assert_eq!(frame(&[b"da"]), []);
    }

    #[test]
    fn every_split_parses_like_the_reference() {
        let bodies: [&[u8]; 6] = [
            b"\xEF\xBB\xBFdata: a\r\n\r\ndata: b\n\ndata: c\r\rdata: d\r\n\n",
            b"\r\n\r\ndata: a\r\ndata: b\r\n\r\n\r\n\r\nevent: e\rdata: \xe2\x82\xac\r\r",
            b"\xEF\xBBdata: not a mark\n\ndata: x\n\n",
            b"data\n\ndata:\n\ndata: \n\n:\n\n\n\n\ndata: end",
            b"data: a\n\rdata: b\r\n\rdata: c\n\n",
            b"",
        ];
        for body in bodies {
            let expected = reference(body);
            assert_eq!(frame(&[body]), expected, "{}", body.escape_ascii());
            for cut in 0..=body.len() {
                let (first, second) = body.split_at(cut);
                assert_eq!(frame(&[first, second]), expected, "{} at {cut}", body.escape_ascii());
            }
            assert_eq!(frame(&body.chunks(1).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn too_long_events_are_rejected_whole_or_in_pieces() {
        let body = [b"data: ".as_slice(), &[b'x'; 200], b"\n\n"].concat();
        let mut framer = Framer::new(100);
        assert_eq!(framer.push(&body, &mut |_| {}), Err(WireError::EventTooLong { limit: 100 }));
        let mut framer = Framer::new(100);
        assert!(body.chunks(7).any(|piece| framer.push(piece, &mut |_| {}).is_err()));
    }

    #[test]
    fn memory_of_large_events_is_freed() {
        let mut framer = Framer::new(1 << 20);
        framer.push(&vec![b'x'; 500_000], &mut |_| {}).unwrap();
        framer.reset();
        assert_eq!(framer.carry.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_stream_parses_like_the_reference(
            body in r"(data: ?|event:|error:|:|id|\n|\r|\r\n|\n\n|x|é|\u{feff}){0,30}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 2),
        ) {
            let bytes = body.as_bytes();
            let expected = reference(bytes);
            prop_assert_eq!(frame(&[bytes]), expected.clone());
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort();
            prop_assert_eq!(frame(&[&bytes[..at[0]], &bytes[at[0]..at[1]], &bytes[at[1]..]]), expected.clone());
            prop_assert_eq!(frame(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        }
    }
}
