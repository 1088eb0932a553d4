//! Incremental parser of server-sent events (the event stream of the HTML standard, without reconnection).
//!
//! Lines of data that are JSON documents of their own are events of their own even without a blank line between them. Such
//! a line is passed on when it ends; its blank line need not have arrived.
//!
//! An event within one read is passed on as a slice of that read. Only an event that spans several reads is copied, into
//! a buffer that is freed between responses if it is large.

use memchr::{memchr, memchr2, memrchr2};

use super::error::WireError;
use super::json;

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
    /// The last byte of the last push completed an event.
    ends_with_event: bool,
    block: BlockEvents,
}

/// The events of the current block of lines, of which the standard allows one.
#[derive(Clone, Copy, Debug, Default)]
struct BlockEvents {
    /// An event was passed on, and no blank line has followed.
    unseparated: bool,
    /// Two events of this body stood in one block.
    missing_blank_line: bool,
}

impl BlockEvents {
    fn count_event(&mut self) {
        self.missing_blank_line |= self.unseparated;
        self.unseparated = true;
    }
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
            ends_with_event: false,
            block: BlockEvents::default(),
        }
    }

    /// Whether events of this body came without a blank line between them.
    pub(crate) fn lacks_blank_lines(&self) -> bool {
        self.block.missing_blank_line
    }

    /// Whether the last byte that was pushed completed an event. False before [`Framer::push`] of a new read, after
    /// [`Framer::start_read`].
    pub(crate) fn ends_with_event(&self) -> bool {
        self.ends_with_event
    }

    /// Notes that a new read begins.
    pub(crate) fn start_read(&mut self) {
        self.ends_with_event = false;
    }

    /// Bytes of the incomplete event.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.carry.len()
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
        self.block = BlockEvents::default();
    }

    /// Parses the next bytes of the body and passes every event that they complete to `sink`.
    ///
    /// # Errors
    /// An event is longer than `max_event_bytes`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), WireError> {
        let mut input = bytes;
        self.ends_with_event = false;
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
                self.block.count_event();
                self.block.unseparated = false;
                sink(Event { name: b"", data, complete: true });
                self.ends_with_event = rest.is_empty();
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
            dispatch(&self.carry, &mut self.joined, &mut self.block, BlockExtent::Cut, sink);
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
            if memrchr2(b'\n', b'\r', input).is_some() {
                self.pass_whole_lines(sink);
            }
            return Ok(&[]);
        };
        let left = if self.carry.is_empty() {
            taken - dispatch(&input[..taken], &mut self.joined, &mut self.block, BlockExtent::Whole, sink)
        } else {
            self.carry.extend_from_slice(&input[..taken]);
            let used = dispatch(&self.carry, &mut self.joined, &mut self.block, BlockExtent::Whole, sink);
            let left = self.carry.len() - used;
            self.carry.clear();
            left
        };
        self.ends_with_event = left == 0 && taken > 0 && end.after == input.len();
        self.block.unseparated = false;
        Ok(&input[end.after..])
    }

    /// Passes on the events in the complete lines of an unfinished block.
    fn pass_whole_lines(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        let lines = memrchr2(b'\n', b'\r', &self.carry).map_or(0, |last| last + 1);
        let block = &self.carry[..lines];
        let used = dispatch(block, &mut self.joined, &mut self.block, BlockExtent::Unfinished, sink);
        self.ends_with_event = used > 0 && used == self.carry.len();
        self.carry.drain(..used);
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

/// How much of a block is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockExtent {
    /// Up to its blank line.
    Whole,
    /// Some lines of it; more may follow.
    Unfinished,
    /// The body ended within it.
    Cut,
}

/// Parses lines of one block and passes on its event, if it has data, or its events, if data that is a whole document is
/// followed by more lines. Returns how many bytes the events that were passed on took.
fn dispatch(
    block: &[u8],
    joined: &mut Vec<u8>,
    events: &mut BlockEvents,
    extent: BlockExtent,
    sink: &mut impl FnMut(Event<'_>),
) -> usize {
    let mut used = 0;
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
                let more_lines = extent == BlockExtent::Unfinished || !rest.is_empty();
                let data = first.map(|data| if several { joined.as_slice() } else { data });
                if let Some(data) = data.filter(|data| more_lines && is_document(data)) {
                    events.count_event();
                    sink(Event { name, data, complete: true });
                    (name, first, several) = (b"", None, false);
                    used = block.len() - rest.len();
                }
            }
            _ => {}
        }
    }
    if let Some(data) = first.filter(|_| extent != BlockExtent::Unfinished) {
        events.count_event();
        let data = if several { joined } else { data };
        sink(Event { name, data, complete: extent == BlockExtent::Whole });
        used = block.len();
    }
    used
}

/// Whether the data cannot continue in another line: a JSON object or list, or the end marker.
fn is_document(data: &[u8]) -> bool {
    data == b"[DONE]" || json::is_balanced(data)
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
    fn documents_on_lines_of_their_own_are_events() {
        let read = |body: &[u8]| {
            let mut framer = Framer::new(1 << 20);
            let mut events = Vec::new();
            framer.push(body, &mut |event| events.push(String::from_utf8_lossy(event.data).into_owned())).unwrap();
            (events, framer.lacks_blank_lines())
        };
        let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let loose = b"data: {\"a\":1}\ndata: {\"b\":\"}\"}\r\ndata: [DONE]\n";
        assert_eq!(read(loose), (owned(&["{\"a\":1}", "{\"b\":\"}\"}", "[DONE]"]), true));
        for cut in 0..=loose.len() {
            let (first, second) = loose.split_at(cut);
            assert_eq!(frame(&[first, second]), frame(&[loose]), "{cut}");
        }
        // With blank lines the line end is as good, and one document may have several lines.
        assert_eq!(read(b"data: {\"a\":1}\n"), (owned(&["{\"a\":1}"]), false));
        assert_eq!(read(b"data: {}\n\ndata: {}\n\n"), (owned(&["{}", "{}"]), false));
        assert_eq!(read(b"data: {\ndata: \"a\":1}\n\n"), (owned(&["{\n\"a\":1}"]), false));
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
