//! One answer as it arrives: bytes and their arrival instants in, counts, instants and an outcome out.

use super::choices::Others;
use super::template::{Match, Template};
use super::{Dialect, Meaning, Usage, words};
use crate::protocol::http1::Head;
use crate::protocol::response::{Eof, Piece, Progress, Response};
use crate::protocol::sse::Event;
use crate::protocol::{WireError, json};
use crate::record::{Failure, Finish, Outcome, ServerTimes};
use crate::time::Tick;

/// Of the body of an error status, so much is kept to find the server's words in, bytes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// After a failure the rest of the response is read, so that the connection stays usable, but not more than this.
const MAX_DRAIN_BYTES: usize = 1 << 20;
/// Buffers above this size are given back between responses, bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// What an [`Answer`] has to know before the first byte.
#[derive(Clone, Copy, Debug)]
pub struct AnswerOptions {
    pub dialect: Dialect,
    /// SSE was asked for. A JSON reply to a streaming request is still read as JSON.
    pub stream: bool,
    pub keep_text: bool,
    /// Keep the raw body (`--save full`).
    pub keep_raw: bool,
    /// Longest event accepted, bytes.
    pub max_event_bytes: usize,
}

/// What the answer has shown so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// HTTP status; 0 before the head.
    pub status: u16,
    /// The body is a stream of events.
    pub streamed: bool,
    /// First byte of the response head; interim responses (1xx) do not count.
    pub first_byte: Option<Tick>,
    pub first_token: Option<Tick>,
    pub last_token: Option<Tick>,
    /// Arrival of every output event. An answer that is not streamed counts as one, which arrives when it is complete.
    pub arrivals: Vec<Tick>,
    /// SSE events with data, the end marker included.
    pub events: u32,
    /// Output events that shared a read with a later one.
    pub coalesced: u32,
    /// Reads that brought two or more output events.
    pub coalesced_reads: u32,
    /// Bytes of the response, head and framing included.
    pub received_bytes: u64,
    pub usage: Usage,
    /// What the server states of its own time for the one answer there is.
    pub times: Option<ServerTimes>,
    pub finish: Finish,
    /// Answer text (UTF-8); refusals too, tool calls not. When the answer is over, that of all choices, with
    /// [`crate::record::CHOICES_APART`] between them; the same for the reasoning.
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
    /// Until then, what choices behind the first have said.
    others: Others,
    /// The body as the server wrote it, chunked coding undone.
    pub raw: Vec<u8>,
    /// The server's words, or ours, about what went wrong.
    pub error: String,
}

impl Seen {
    /// Forgets everything but the memory, of which large parts are given back.
    fn clear(&mut self) {
        for bytes in [&mut self.text, &mut self.reasoning, &mut self.raw] {
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
        }
        self.arrivals.clear();
        self.arrivals.shrink_to(KEPT_BYTES / size_of::<Tick>());
        self.error.clear();
        *self = Seen {
            arrivals: std::mem::take(&mut self.arrivals),
            text: std::mem::take(&mut self.text),
            reasoning: std::mem::take(&mut self.reasoning),
            raw: std::mem::take(&mut self.raw),
            error: std::mem::take(&mut self.error),
            ..Seen::default()
        };
    }

    /// Gives text and reasoning of a choice to `add`.
    #[inline]
    fn with_texts(&mut self, choice: u32, add: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        if choice == 0 {
            add(&mut self.text, &mut self.reasoning);
        } else if let Some(other) = self.others.of(choice) {
            add(&mut other.text, &mut other.reasoning);
        }
    }

    fn keep(&mut self, choice: u32, said: &str, thought: &str) {
        self.with_texts(choice, |text, reasoning| {
            text.extend_from_slice(said.as_bytes());
            reasoning.extend_from_slice(thought.as_bytes());
        });
    }

    fn note_output(&mut self, at: Tick) {
        self.first_token.get_or_insert(at);
        self.last_token = Some(at);
        self.arrivals.push(at);
    }

    fn note_usage(&mut self, usage: Usage) {
        self.usage.input_tokens = usage.input_tokens.or(self.usage.input_tokens);
        self.usage.output_tokens = usage.output_tokens.or(self.usage.output_tokens);
        self.usage.cached_tokens = usage.cached_tokens.or(self.usage.cached_tokens);
        self.usage.reasoning_tokens = usage.reasoning_tokens.or(self.usage.reasoning_tokens);
    }
}

/// What to do after a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The response goes on.
    More,
    /// The response is complete or has failed for good; see [`Answer::outcome`].
    Done {
        /// The connection may carry another request.
        reuse: bool,
    },
}

/// A pure state machine that reads one response after the other. No I/O, no clock: time comes with the bytes.
///
/// Call [`Answer::start`] before every response but the first, [`Answer::push`] for every read, and after
/// [`Step::Done`] look at [`Answer::outcome`] and [`Answer::seen`].
///
/// How a complete response is judged, the first that fits:
/// an error status, an error inside the stream, an event or body that is not JSON: that failure;
/// a stream that broke off (framing complete, but neither finish reason, usage nor `[DONE]`): truncated;
/// output: ok;
/// no output though the server counted tokens and stopped at the length limit: ok, with no first token (vLLM holds
/// back the bytes of an incomplete character, so `max_tokens: 1` can end so);
/// no output: empty.
#[derive(Debug)]
pub struct Answer {
    pub options: AnswerOptions,
    pub seen: Seen,
    outcome: Outcome,
    response: Response,
    reading: Reading,
}

impl Answer {
    /// An answer that has seen nothing.
    pub fn new(options: AnswerOptions) -> Answer {
        Answer {
            options,
            seen: Seen::default(),
            outcome: Outcome::Unfinished,
            response: Response::new(options.stream, options.max_event_bytes),
            reading: Reading::default(),
        }
    }

    /// Forgets the last response, keeping memory and what was learned of the server's event shape. Takes up changed
    /// [`Answer::options`].
    pub fn start(&mut self) {
        self.seen.clear();
        self.outcome = Outcome::Unfinished;
        self.response.reset();
        self.response.expect_stream = self.options.stream;
        self.response.set_max_event_bytes(self.options.max_event_bytes);
        self.reading.start();
    }

    /// Parse every event in full. The result is the same, only slower; for tests and benches.
    #[cfg(feature = "internals")]
    pub fn always_parse_in_full(&mut self) {
        self.reading.always_in_full = true;
    }

    /// Takes the bytes of one read, which arrived at `at`.
    pub fn push(&mut self, bytes: &[u8], at: Tick) -> Step {
        if self.outcome != Outcome::Unfinished {
            return Step::Done { reuse: false };
        }
        if bytes.is_empty() {
            return Step::More;
        }
        let Answer { options, seen, response, reading, .. } = self;
        seen.received_bytes += bytes.len() as u64;
        seen.first_byte.get_or_insert(at);
        let outputs = seen.arrivals.len();
        let progress = response.push(bytes, &mut |piece| reading.take(piece, seen, options, at));
        self.note_read(outputs, at);
        match progress {
            Ok(Progress::More) => self.drain(bytes.len(), at),
            Ok(Progress::Complete { left_over }) => {
                self.seen.received_bytes -= left_over as u64;
                self.conclude(at);
                Step::Done { reuse: self.response.head().keep_alive && left_over == 0 }
            }
            Err(error) => self.break_off(&error, at),
        }
    }

    /// The peer closed its side at `at`.
    pub fn push_eof(&mut self, at: Tick) -> Step {
        if self.outcome != Outcome::Unfinished {
            return Step::Done { reuse: false };
        }
        let Answer { options, seen, response, reading, .. } = self;
        let outputs = seen.arrivals.len();
        let eof = response.push_eof(&mut |piece| reading.take(piece, seen, options, at));
        self.note_read(outputs, at);
        let (failure, text) = match eof {
            Eof::Complete => {
                self.conclude(at);
                return Step::Done { reuse: false };
            }
            Eof::BeforeHead => (Failure::ClosedEarly, "the server closed the connection before it answered"),
            Eof::WithinHead => (Failure::Truncated, "the server closed the connection within the response head"),
            Eof::WithinBody => (Failure::Truncated, "the server closed the connection within the response"),
        };
        self.fail(failure, text);
        Step::Done { reuse: false }
    }

    /// The transport failed: the answer ends here with this class and text, unless it was already complete. An error
    /// that the server reported before stands: it says more.
    pub fn fail(&mut self, failure: Failure, text: &str) {
        if self.outcome != Outcome::Unfinished {
            return;
        }
        self.reading.fail(&mut self.seen, failure, || text.to_string());
        self.settle();
    }

    /// How it ended; [`Outcome::Unfinished`] before that.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Bookkeeping after a read: `outputs` is the number of output events before it.
    fn note_read(&mut self, outputs: usize, at: Tick) {
        let seen = &mut self.seen;
        seen.streamed = self.response.is_events();
        let brought = seen.arrivals.len() - outputs;
        if brought > 1 {
            seen.coalesced += brought as u32 - 1;
            seen.coalesced_reads += 1;
        }
        // Behind an interim response the real head may have begun in the same read.
        if seen.first_byte.is_none() && self.response.is_within_head() {
            seen.first_byte = Some(at);
        }
    }

    /// After a failure: read on for the sake of the connection, within limits.
    fn drain(&mut self, bytes: usize, at: Tick) -> Step {
        if self.reading.failure.is_none() {
            return Step::More;
        }
        self.reading.drained += bytes;
        if self.reading.drained <= MAX_DRAIN_BYTES {
            return Step::More;
        }
        self.conclude(at);
        Step::Done { reuse: false }
    }

    /// The bytes are broken: nothing after them can be trusted.
    fn break_off(&mut self, error: &WireError, at: Tick) -> Step {
        self.reading.fail(&mut self.seen, Failure::Protocol, || error.to_string());
        self.conclude(at);
        Step::Done { reuse: false }
    }

    /// The response is over.
    fn conclude(&mut self, at: Tick) {
        if self.reading.failure.is_none() {
            if self.response.is_events() {
                self.reading.judge_stream(&mut self.seen, &self.options);
            } else {
                self.reading.judge_document(&mut self.seen, &self.options, at);
            }
        }
        self.settle();
    }

    /// Turns what was found into the outcome.
    fn settle(&mut self) {
        if self.reading.failure == Some(Failure::Status) {
            self.seen.error = status_words(&self.reading.body, self.response.head());
        }
        let Seen { others, text, reasoning, .. } = &mut self.seen;
        others.join(text, reasoning);
        self.outcome = self.reading.failure.map_or(Outcome::Ok, Outcome::Failed);
    }
}

/// What an error status says: where a redirect leads, the words of the body, or the reason phrase.
fn status_words(body: &[u8], head: &Head) -> String {
    let words = words::of_body(body);
    match &head.location {
        Some(location) if (300..400).contains(&head.status) => format!("redirected to {location} (put that in --url)"),
        _ if words.is_empty() => words::tidy(&head.reason),
        _ => words,
    }
}

/// How far the meaning of one response has been understood.
#[derive(Debug, Default)]
struct Reading {
    template: Template,
    always_in_full: bool,
    /// The body, when it is not a stream of events.
    body: Vec<u8>,
    /// The first thing that went wrong.
    failure: Option<Failure>,
    /// Bytes read since then.
    drained: usize,
    /// The stream said that it is over: a finish reason, a usage that closes it, a last event, or `[DONE]`.
    ended: bool,
    /// Times have been stated at the end of a choice.
    timed: bool,
    /// Usage stood beside a choice: it closes the stream unless more output follows, for then it is a running count.
    usage_beside_choice: bool,
}

impl Reading {
    fn start(&mut self) {
        self.template.start();
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES);
        self.failure = None;
        self.drained = 0;
        self.ended = false;
        self.timed = false;
        self.usage_beside_choice = false;
    }

    /// The first failure stands; later ones follow from it.
    fn fail(&mut self, seen: &mut Seen, failure: Failure, text: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            seen.error = text();
        }
    }

    fn take(&mut self, piece: Piece<'_>, seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        match piece {
            Piece::Event(event) => self.take_event(event, seen, options, at),
            Piece::Raw(bytes) if options.keep_raw => seen.raw.extend_from_slice(bytes),
            Piece::Raw(_) => {}
            Piece::Body(bytes) => self.take_body(bytes, seen, options),
            Piece::Interim => seen.first_byte = None,
            Piece::Head(head) => {
                seen.status = head.status;
                seen.first_byte.get_or_insert(at);
                self.take_head(head, seen);
            }
        }
    }

    fn take_head(&mut self, head: &Head, seen: &mut Seen) {
        if head.status != 200 {
            // Its words follow when the body is complete.
            self.fail(seen, Failure::Status, String::new);
        } else if let Some(coding) = &head.content_coding {
            self.fail(seen, Failure::Body, || {
                format!("the answer is compressed ({}) though that was not asked for", words::tidy(coding))
            });
        }
    }

    fn take_body(&mut self, bytes: &[u8], seen: &mut Seen, options: &AnswerOptions) {
        match self.failure {
            Some(Failure::Status) => {
                let room = MAX_ERROR_BODY_BYTES.saturating_sub(self.body.len());
                self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Some(_) => {}
            None if self.body.len() + bytes.len() > options.max_event_bytes => {
                self.fail(seen, Failure::Protocol, || {
                    format!("the body of the answer is longer than {} bytes", options.max_event_bytes)
                });
            }
            None => self.body.extend_from_slice(bytes),
        }
    }

    fn take_event(&mut self, event: Event<'_>, seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        let data = event.data.trim_ascii();
        if data.is_empty() || self.failure.is_some() {
            return;
        }
        seen.events += 1;
        if !self.always_in_full
            && let Some(found) = self.template.read(event.name, data)
        {
            self.take_match(found, seen, options, at);
        } else if options.dialect.is_end_marker(data) {
            self.ended = true;
        } else {
            self.take_in_full(event, data, seen, options, at);
        }
    }

    fn take_match(&mut self, found: Match<'_>, seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        if found.body.is_empty() {
            return;
        }
        self.usage_beside_choice = false;
        seen.note_output(at);
        if options.keep_text {
            seen.with_texts(found.choice, |text, reasoning| {
                json::unescape_into(found.body, if found.reasoning { reasoning } else { text });
            });
        }
    }

    fn take_in_full(&mut self, event: Event<'_>, data: &[u8], seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        let named_error = event.name == b"error";
        let read = json::with_value(data, |value| {
            let mut meaning = options.dialect.read(event.name, value);
            if named_error {
                meaning.error.get_or_insert_with(|| words::of_error(value));
            }
            if !self.always_in_full {
                self.template.learn(event.name, data, &meaning);
            }
            self.take_meaning(&meaning, seen, options, at);
        });
        if read.is_ok() {
            return;
        }
        if named_error {
            self.fail(seen, Failure::InStream, || words::of_body(data));
        } else if !event.complete {
            self.fail(seen, Failure::Truncated, || "the stream ended within an event".to_string());
        } else if options.dialect.takes_plain_text() {
            take_plain_text(data, seen, options, at);
        } else if matches!(event.name, b"" | b"message")
            || (options.dialect.names_its_events() && event.name != b"ping")
        {
            // Events of names that the dialect does not know may carry what they like.
            self.fail(seen, Failure::Body, || format!("an event is not JSON: {}", words::excerpt(data)));
        }
    }

    fn take_meaning(&mut self, meaning: &Meaning<'_>, seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        if meaning.output {
            self.usage_beside_choice = false;
            seen.note_output(at);
            if options.keep_text {
                seen.keep(meaning.choice, &meaning.text, &meaning.reasoning);
                meaning.others.iter().for_each(|other| seen.keep(other.choice, &other.text, &other.reasoning));
            }
        }
        if let Some(usage) = meaning.usage {
            seen.note_usage(usage);
            if options.dialect.usage_ends_stream() {
                self.ended |= meaning.choices == 0;
                self.usage_beside_choice = true;
            }
        }
        if let Some(times) = meaning.times {
            // Of several answers to one request each states its own; running times beside a token are not the whole.
            if meaning.finish.is_some() || meaning.choices == 0 {
                seen.times = if self.timed { None } else { Some(times) };
                self.timed = true;
            }
        }
        self.ended |= meaning.ended;
        if let Some(finish) = meaning.finish {
            seen.finish = finish;
            self.ended = true;
        }
        if let Some(error) = &meaning.error {
            self.fail(seen, Failure::InStream, || error.clone());
        }
    }

    /// A stream whose framing is complete.
    fn judge_stream(&mut self, seen: &mut Seen, options: &AnswerOptions) {
        let ended = self.ended || self.usage_beside_choice || !options.dialect.tells_its_end();
        if !ended && seen.events > 0 {
            self.fail(seen, Failure::Truncated, || {
                "the stream broke off: neither finish reason, usage nor [DONE] came".to_string()
            });
        } else if seen.arrivals.is_empty() && !stopped_before_a_character(seen) {
            self.fail(seen, Failure::Empty, || "the stream carried no output".to_string());
        }
    }

    /// A whole body that is not a stream.
    fn judge_document(&mut self, seen: &mut Seen, options: &AnswerOptions, at: Tick) {
        let body = std::mem::take(&mut self.body);
        let document = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body).trim_ascii();
        if document.is_empty() {
            self.fail(seen, Failure::Empty, || "the answer has no body".to_string());
        } else {
            let read = json::with_value(document, |value| {
                let meaning = options.dialect.read(b"", value);
                self.take_meaning(&meaning, seen, options, at);
                meaning.choices
            });
            match read {
                Ok(_) if !seen.arrivals.is_empty() || stopped_before_a_character(seen) => {}
                Ok(0) => self
                    .fail(seen, Failure::Empty, || format!("the answer has no choices: {}", words::excerpt(document))),
                Ok(_) => self.fail(seen, Failure::Empty, || "the answer carried no output".to_string()),
                Err(_) if options.dialect.takes_plain_text() => take_plain_text(document, seen, options, at),
                Err(_) => self.fail(seen, Failure::Body, || {
                    format!("the answer is neither JSON nor an event stream: {}", words::excerpt(document))
                }),
            }
        }
        self.body = body;
    }
}

/// Output that is not JSON, of a server that only the user's program knows.
fn take_plain_text(text: &[u8], seen: &mut Seen, options: &AnswerOptions, at: Tick) {
    seen.note_output(at);
    if options.keep_text {
        seen.text.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
    }
}

/// The server did what it was asked, and nothing can be seen of it: the length limit fell within a character.
fn stopped_before_a_character(seen: &Seen) -> bool {
    seen.finish == Finish::Length && seen.usage.output_tokens.is_some_and(|tokens| tokens > 0)
}
