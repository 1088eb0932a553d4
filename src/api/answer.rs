//! The state machine of one response: takes bytes with their arrival timestamps, gives token arrivals, counts and an
//! outcome.

use super::choices::{ChoicePiece, OtherChoices};
use super::dialect::{Dialect, UsageEnd};
use super::error_text;
use super::event_fast_path::{EventTemplate, TemplateMatch};
use super::meaning::{Meaning, Usage};
use super::tool_calls::{self, CallPiece, ToolCall};
use crate::finding::Oddity;
use crate::protocol::http1::Head;
use crate::protocol::json::Repairs;
use crate::protocol::response::{Eof, Piece, Progress, Response};
use crate::protocol::sse::Event;
use crate::protocol::{WireError, json};
use crate::record::arrivals::EarlyRange;
use crate::record::delivery::{self, Events, SILENT_BYTES, SilentKind};
use crate::record::{Failure, Finish, Oddities, Outcome, ServerTimes};
use crate::time::Tick;

/// Bytes kept of the body of an error status, to find the server's error message in.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// After a failure the rest of the response is read, so that the connection can be reused, up to this many bytes.
const MAX_DRAIN_BYTES: usize = 1 << 20;
/// Buffers are shrunk to this size between responses, bytes.
const KEPT_BYTES: usize = 64 * 1024;
/// Data that servers send to keep a connection open, in lower case, where the standard has comments.
const HEARTBEATS: [&[u8]; 7] =
    [b"ping", b"pong", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive", b": keep-alive"];

/// The options of an [`Answer`], fixed before the first byte of a response.
#[derive(Clone, Copy, Debug)]
pub struct AnswerOptions {
    pub dialect: Dialect,
    /// The request asked for SSE. A JSON reply to a streaming request is still read as JSON.
    pub stream: bool,
    pub keep_text: bool,
    /// Keep the raw body (`--save full`).
    pub keep_raw: bool,
    /// Longest event accepted, bytes.
    pub max_event_bytes: usize,
    /// Longest response accepted, bytes (`--max-response-size`).
    pub max_response_bytes: u64,
}

/// What has been received of a response so far.
#[derive(Clone, Debug, Default)]
pub struct AnswerData {
    /// HTTP status; 0 before the response head is complete.
    pub status: u16,
    /// The body is a stream of events.
    pub streamed: bool,
    /// Arrival of the first byte of the response head; interim responses (1xx) are skipped.
    pub first_byte: Option<Tick>,
    pub first_token: Option<Tick>,
    /// Arrival of the first event with text that is not reasoning.
    pub first_answer_token: Option<Tick>,
    /// Arrival of the event that ends the stream: `[DONE]`, or the end event of the dialect. The response ends with it;
    /// the body may stay open for longer.
    pub end_event: Option<Tick>,
    /// Arrival of every output event. A response that is not streamed counts as one event, which arrives when the
    /// response is complete.
    pub arrivals: Vec<Tick>,
    /// By how much some of these events may have arrived earlier; see [`Answer::bound_read`].
    pub early: Vec<EarlyRange>,
    /// The same of every event without output.
    pub silent_early_ns: Vec<u32>,
    /// The same of the end event.
    pub end_early_ns: u32,
    /// The choice of each of these events (255: that one or a later one); empty as long as all are of the first choice.
    pub choices: Vec<u8>,
    /// Arrivals of the events of a choice without output; of announcements of a role or a block, those before its first
    /// output.
    pub silent: Vec<Tick>,
    /// Choice and kind of each of these; see [`Events::silent_kinds`].
    pub silent_kinds: Vec<u8>,
    /// SSE events with data, the end marker included.
    pub events: u32,
    /// Output events that arrived in the same read as a later one of the same choice.
    pub coalesced: u32,
    /// Reads that contained two or more output events of one choice.
    pub coalesced_reads: u32,
    /// The read of the last output event also contained later events, or the end of the body.
    pub last_shared: bool,
    /// Bytes of the response, head and framing included.
    pub received_bytes: u64,
    pub usage: Usage,
    /// The server's own timings, if the response has a single choice.
    pub times: Option<ServerTimes>,
    pub finish: Finish,
    pub oddities: Oddities,
    /// Answer text of the first choice (UTF-8), including refusals, without tool calls.
    pub text: Vec<u8>,
    /// Reasoning of the first choice.
    pub reasoning: Vec<u8>,
    /// Tool calls of the first choice.
    pub calls: Vec<ToolCall>,
    /// The same as JSON, and the other choices as a JSON list of messages; set at the end of the response, empty if there
    /// are none.
    pub tool_calls: Vec<u8>,
    pub other_choices: Vec<u8>,
    /// The other choices until the end of the response.
    others: OtherChoices,
    /// The body as the server wrote it, after chunked decoding.
    pub raw: Vec<u8>,
    /// Error text, from the server or ours.
    pub error: String,
}

impl AnswerData {
    /// Clears the state but keeps its buffers, shrinking large ones.
    fn clear(&mut self) {
        for bytes in [&mut self.text, &mut self.reasoning, &mut self.raw, &mut self.choices, &mut self.silent_kinds] {
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
        }
        for ticks in [&mut self.arrivals, &mut self.silent] {
            ticks.clear();
            ticks.shrink_to(KEPT_BYTES / size_of::<Tick>());
        }
        self.early.clear();
        self.early.shrink_to(KEPT_BYTES / size_of::<EarlyRange>());
        self.silent_early_ns.clear();
        self.error.clear();
        *self = AnswerData {
            arrivals: std::mem::take(&mut self.arrivals),
            early: std::mem::take(&mut self.early),
            silent_early_ns: std::mem::take(&mut self.silent_early_ns),
            text: std::mem::take(&mut self.text),
            reasoning: std::mem::take(&mut self.reasoning),
            raw: std::mem::take(&mut self.raw),
            choices: std::mem::take(&mut self.choices),
            silent: std::mem::take(&mut self.silent),
            silent_kinds: std::mem::take(&mut self.silent_kinds),
            error: std::mem::take(&mut self.error),
            ..AnswerData::default()
        };
    }

    /// Passes the text and reasoning buffers of a choice to `add`.
    #[inline]
    fn with_texts(&mut self, choice: u32, add: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        if choice == 0 {
            add(&mut self.text, &mut self.reasoning);
        } else if let Some(other) = self.others.output_of(choice) {
            add(&mut other.text, &mut other.reasoning);
        }
    }

    fn append(&mut self, choice: u32, new_text: &str, new_reasoning: &str) {
        self.with_texts(choice, |text, reasoning| {
            text.extend_from_slice(new_text.as_bytes());
            reasoning.extend_from_slice(new_reasoning.as_bytes());
        });
    }

    fn add_call(&mut self, piece: &CallPiece<'_>) {
        let calls = match piece.choice {
            0 => Some(&mut self.calls),
            choice => self.others.output_of(choice).map(|other| &mut other.calls),
        };
        calls.into_iter().for_each(|calls| tool_calls::add_piece(calls, piece));
    }

    fn note_output(&mut self, choice: u32, at: Tick) {
        if choice > 0 && self.choices.is_empty() {
            self.choices.resize(self.arrivals.len(), 0);
        }
        if choice > 0 || !self.choices.is_empty() {
            self.choices.push(u8::try_from(choice).unwrap_or(u8::MAX));
        }
        self.first_token.get_or_insert(at);
        self.arrivals.push(at);
    }

    fn note_silent(&mut self, choice: u32, kind: SilentKind, at: Tick) {
        self.silent.push(at);
        self.silent_kinds.extend([u8::try_from(choice).unwrap_or(u8::MAX), kind as u8]);
    }

    /// Notes the announcement of a role, unless the choice has had output: that may be the step of its first token.
    fn note_role(&mut self, choice: u32, at: Tick) {
        let number = u8::try_from(choice).unwrap_or(u8::MAX);
        let has_output = match self.choices.is_empty() {
            true => choice == 0 && !self.arrivals.is_empty(),
            false => self.choices.contains(&number),
        };
        if !has_output {
            self.note_silent(choice, SilentKind::Role, at);
        }
    }

    /// The number of events without output from `from` on, announcements of a role left out.
    fn silent_since(&self, from: usize) -> usize {
        let kinds = self.silent_kinds.get(from * SILENT_BYTES..).unwrap_or_default();
        kinds.chunks_exact(SILENT_BYTES).filter(|kind| kind[1] != SilentKind::Role as u8).count()
    }

    /// The number of output events from `from` on that a later one of the same choice follows.
    fn followed_since(&self, from: usize) -> u32 {
        let mut followed = 0;
        let mut seen = [false; 256];
        for place in from..self.arrivals.len() {
            let choice = self.choices.get(place).copied().unwrap_or(0);
            followed += u32::from(std::mem::replace(&mut seen[usize::from(choice)], true));
        }
        followed
    }

    fn note_usage(&mut self, usage: Usage) {
        self.usage.input_tokens = usage.input_tokens.or(self.usage.input_tokens);
        self.usage.output_tokens = usage.output_tokens.or(self.usage.output_tokens);
        self.usage.cached_tokens = usage.cached_tokens.or(self.usage.cached_tokens);
        self.usage.reasoning_tokens = usage.reasoning_tokens.or(self.usage.reasoning_tokens);
    }
}

/// What the caller does after a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read on: the response is not complete.
    More,
    /// The response is complete or has failed for good; see [`Answer::outcome`].
    Done {
        /// The connection can carry another request.
        reuse: bool,
    },
}

/// A state machine that reads one response after the other. It does no I/O and reads no clock: timestamps come with the
/// bytes.
///
/// Call [`Answer::start`] before every response but the first, [`Answer::push`] for every read, and after
/// [`Step::Done`] read [`Answer::outcome`] and [`Answer::seen`].
///
/// The outcome of a complete response is the first of these that applies:
/// - an error status, an error inside the stream, a finish reason of an answer that the server gave up, or an event or
///   body that is not JSON: that failure;
/// - a stream that ended early (framing complete, but neither finish reason, usage without choices nor `[DONE]`):
///   truncated;
/// - output: ok;
/// - no output: empty, even if the server counted output tokens.
///
/// JSON that common clients accept although it is invalid is accepted, and noted in [`AnswerData::oddities`]. After the end
/// event of a stream nothing can fail any more.
#[derive(Debug)]
pub struct Answer {
    pub options: AnswerOptions,
    pub seen: AnswerData,
    outcome: Outcome,
    response: Response,
    reading: EventReader,
    /// Output events and pieces that [`Answer::bound_read`] has bounded.
    bounded: (usize, u32),
    /// The last read had bytes behind the end of the response.
    left_over: bool,
}

impl Answer {
    /// An answer before its first byte.
    pub fn new(options: AnswerOptions) -> Answer {
        Answer {
            options,
            seen: AnswerData::default(),
            outcome: Outcome::Unfinished,
            response: Response::new(options.stream, options.max_event_bytes),
            reading: EventReader::default(),
            bounded: (0, 0),
            left_over: false,
        }
    }

    /// Prepares for the next response. Keeps buffers and the learned shape of the server's events; applies changed
    /// [`Answer::options`].
    pub fn start(&mut self) {
        self.seen.clear();
        self.outcome = Outcome::Unfinished;
        self.response.reset();
        self.response.expect_stream = self.options.stream;
        self.response.set_max_event_bytes(self.options.max_event_bytes);
        self.reading.start();
        self.bounded = (0, 0);
        self.left_over = false;
    }

    /// Turns the fast path off, so that every event is parsed in full. The result is the same; for tests and benches.
    #[cfg(feature = "internals")]
    pub fn always_parse_in_full(&mut self) {
        self.reading.always_in_full = true;
    }

    /// Takes the bytes of one read, which arrived at `at`.
    pub fn push(&mut self, bytes: &[u8], at: Tick) -> Step {
        if self.outcome != Outcome::Unfinished {
            return self.push_rest(bytes);
        }
        if bytes.is_empty() {
            return Step::More;
        }
        let Answer { options, seen, response, reading, .. } = self;
        seen.received_bytes += bytes.len() as u64;
        if seen.received_bytes > options.max_response_bytes {
            return self.refuse_length(at);
        }
        seen.first_byte.get_or_insert(at);
        let outputs = seen.arrivals.len();
        let progress = response.push(bytes, &mut |piece| reading.take(piece, seen, options, at));
        self.note_read(outputs, at, matches!(progress, Ok(Progress::Complete { .. })));
        match progress {
            Ok(Progress::More) => self.drain(bytes.len(), at),
            Ok(Progress::Complete { left_over }) => {
                self.seen.received_bytes -= left_over as u64;
                self.left_over = left_over > 0;
                self.conclude(at);
                Step::Done { reuse: self.response.head().keep_alive && left_over == 0 }
            }
            Err(_) if self.end_after_end_event() => Step::Done { reuse: false },
            Err(error) => self.break_off(&error, at),
        }
    }

    /// Bounds the arrivals of what was pushed since the last call, all of one read: it may have arrived up to `early_ns`
    /// earlier than the time given to [`Answer::push`]. `exact`: the last byte of the read arrived at that time, and so
    /// did an event that ends with it.
    #[inline]
    pub(crate) fn bound_read(&mut self, early_ns: u32, exact: bool) {
        let exact = exact && self.ends_with_event();
        let Answer { seen, reading, .. } = self;
        let (from, pieces) = std::mem::replace(&mut self.bounded, (seen.arrivals.len(), reading.pieces));
        let early_of = |piece: u32| if exact && piece == reading.pieces { 0 } else { early_ns };
        let last_is_exact = seen.arrivals.len() > from && early_of(reading.output_piece) == 0;
        let to = seen.arrivals.len() - usize::from(last_is_exact);
        if to > from && early_ns > 0 {
            seen.early.push(EarlyRange { from: from as u32, to: to as u32, ns: early_ns });
        }
        if reading.end_piece > pieces {
            seen.end_early_ns = early_of(reading.end_piece);
        }
        if seen.silent.len() > seen.silent_early_ns.len() {
            seen.silent_early_ns.resize(seen.silent.len(), early_ns);
            if let Some(last) = seen.silent_early_ns.last_mut() {
                *last = early_of(reading.silent_piece);
            }
        }
    }

    /// Whether [`Answer::bound_read`] would give a bound to anything: a time that may have been earlier.
    #[inline]
    pub(crate) fn needs_bound(&self, exact: bool) -> bool {
        let Answer { seen, reading, bounded: (outputs, pieces), .. } = self;
        let is_last = |piece: u32| exact && piece == reading.pieces && self.ends_with_event();
        let is_inexact = |count: usize, piece: u32| count > usize::from(is_last(piece));
        is_inexact(seen.arrivals.len() - outputs, reading.output_piece)
            || is_inexact(usize::from(reading.end_piece > *pieces), reading.end_piece)
            || is_inexact(seen.silent_since(seen.silent_early_ns.len()), reading.silent_piece)
    }

    /// Whether the last byte of the last read is that of an event, or of the body of a response without events.
    fn ends_with_event(&self) -> bool {
        !self.left_over && (self.response.ends_with_event() || !self.response.is_events())
    }

    /// Arrival of the last counted token: of the last output event, or of a later event without text if the server counts
    /// more tokens than there were output events (the end-of-sequence token); see [`delivery`]. The request was sent at
    /// `sent`.
    pub fn last_token(&self, sent: Option<Tick>) -> Option<Tick> {
        let AnswerData { arrivals: outputs, choices, silent, silent_kinds, first_byte: head, .. } = &self.seen;
        let is_counted = self.seen.streamed && self.options.dialect.generates_text();
        let tokens = self.seen.usage.output_tokens.filter(|_| is_counted);
        delivery::last_token(Events { outputs, choices, silent, silent_kinds, head: *head }, tokens, sent)
    }

    /// By how much [`Answer::last_token`], which is `last_token`, may have been earlier.
    pub(crate) fn last_token_early_ns(&self, last_token: Option<Tick>) -> u32 {
        let seen = &self.seen;
        let last_range = seen.early.last().filter(|range| range.to as usize == seen.arrivals.len());
        let output_ns = last_range.map_or(0, |range| range.ns);
        let output = seen.arrivals.last().map(|at| (at, &output_ns));
        // Of all events that have the time of the last token, the widest bound.
        let silent = seen.silent.iter().zip(&seen.silent_early_ns);
        let last = silent.chain(output).filter(|(at, _)| Some(**at) == last_token);
        last.map(|(_, ns)| *ns).max().unwrap_or(0)
    }

    /// Whether the last read had bytes behind the end of the response.
    pub(crate) fn has_left_over(&self) -> bool {
        self.left_over
    }

    /// Takes bytes after the end event, with which the response ended: only the end of the body matters.
    fn push_rest(&mut self, bytes: &[u8]) -> Step {
        if self.seen.end_event.is_none() {
            return Step::Done { reuse: false };
        }
        self.seen.received_bytes += bytes.len() as u64;
        if self.seen.received_bytes > self.options.max_response_bytes {
            return Step::Done { reuse: false };
        }
        match self.response.push(bytes, &mut |_| {}) {
            Ok(Progress::More) => Step::More,
            Ok(Progress::Complete { left_over }) => {
                self.seen.received_bytes -= left_over as u64;
                Step::Done { reuse: self.response.head().keep_alive && left_over == 0 }
            }
            Err(_) => Step::Done { reuse: false },
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
        self.note_read(outputs, at, true);
        let (failure, text) = match eof {
            Eof::Complete => {
                self.conclude(at);
                return Step::Done { reuse: false };
            }
            Eof::WithinBody if self.end_after_end_event() => return Step::Done { reuse: false },
            Eof::BeforeHead => (Failure::ClosedEarly, "the server closed the connection before it answered"),
            Eof::WithinHead => (Failure::Truncated, "the server closed the connection within the response head"),
            Eof::WithinBody => (Failure::Truncated, "the server closed the connection within the response"),
        };
        self.fail(failure, text);
        Step::Done { reuse: false }
    }

    /// Ends the response with a transport failure of this class and text, unless it is complete or its end event has
    /// arrived. An error that the server reported before takes precedence.
    pub fn fail(&mut self, failure: Failure, text: &str) {
        if self.outcome != Outcome::Unfinished || self.end_after_end_event() {
            return;
        }
        self.reading.fail(&mut self.seen, failure, || text.to_string());
        self.settle();
    }

    /// Ends a response whose end event has arrived, although its body is open. Returns whether it has.
    pub fn end_after_end_event(&mut self) -> bool {
        let Some(at) = self.seen.end_event.filter(|_| self.outcome == Outcome::Unfinished) else { return false };
        self.conclude(at);
        true
    }

    /// Ends a response that is longer than the limit.
    fn refuse_length(&mut self, at: Tick) -> Step {
        if !self.end_after_end_event() {
            let limit = format_bytes(self.options.max_response_bytes);
            self.reading.fail(&mut self.seen, Failure::Protocol, || {
                format!("the response is longer than {limit} (--max-response-size)")
            });
            self.conclude(at);
        }
        Step::Done { reuse: false }
    }

    /// The memory that the response holds so far, bytes.
    #[inline]
    pub(crate) fn held_bytes(&self) -> u64 {
        let seen = &self.seen;
        let bytes = seen.text.len() + seen.reasoning.len() + seen.raw.len() + seen.choices.len();
        let waiting = self.reading.body.len() + self.response.held_bytes() + seen.others.held_bytes();
        (bytes + seen.arrivals.len() * size_of::<Tick>() + waiting) as u64
    }

    /// Frees the memory of a large response whose record was made.
    pub(crate) fn release(&mut self) {
        if self.held_bytes() > KEPT_BYTES as u64 {
            self.seen.clear();
            self.response.reset();
            self.reading.start();
        }
    }

    /// The outcome; [`Outcome::Unfinished`] until the response ends.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Updates counters after a read. `outputs` is the number of output events before it, `complete` that it ended the body.
    fn note_read(&mut self, outputs: usize, at: Tick, complete: bool) {
        let seen = &mut self.seen;
        seen.streamed = self.response.is_events();
        let brought = seen.arrivals.len() - outputs;
        if brought > 0 {
            seen.last_shared = complete || seen.events > self.reading.last_output;
        }
        if brought > 1 {
            let followed = seen.followed_since(outputs);
            seen.coalesced += followed;
            seen.coalesced_reads += u32::from(followed > 0);
        }
        // After an interim response, the final head may have begun in the same read.
        if seen.first_byte.is_none() && self.response.is_within_head() {
            seen.first_byte = Some(at);
        }
    }

    /// Continues after a failure, so that the connection can be reused, up to [`MAX_DRAIN_BYTES`].
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

    /// Ends the response after a protocol error: the framing of later bytes is unknown.
    fn break_off(&mut self, error: &WireError, at: Tick) -> Step {
        self.reading.fail(&mut self.seen, Failure::Protocol, || error.to_string());
        self.conclude(at);
        Step::Done { reuse: false }
    }

    /// Ends the response and determines its outcome.
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

    /// Sets the outcome, the error text and the texts of all choices.
    fn settle(&mut self) {
        if self.reading.failure == Some(Failure::Status) {
            self.seen.error = status_words(&self.reading.body, self.response.head());
        }
        if self.response.is_mislabeled() {
            self.seen.oddities.add(Oddity::MediaType);
        }
        if self.response.lacks_blank_lines() {
            self.seen.oddities.add(Oddity::MissingBlankLines);
        }
        self.reading.check_usage(&mut self.seen, &self.options);
        let AnswerData { others, calls, tool_calls, other_choices, .. } = &mut self.seen;
        others.take_messages(other_choices);
        if !calls.is_empty() {
            tool_calls.extend_from_slice(tool_calls::list(calls).to_string().as_bytes());
        }
        self.outcome = self.reading.failure.map_or(Outcome::Ok, Outcome::Failed);
    }
}

/// A number of bytes in words.
fn format_bytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB && bytes.is_multiple_of(MIB) { format!("{} MiB", bytes / MIB) } else { format!("{bytes} bytes") }
}

/// The error text of an error status: the redirect target, the message in the body, or the reason phrase.
fn status_words(body: &[u8], head: &Head) -> String {
    let words = error_text::from_body(body);
    match &head.location {
        Some(location) if (300..400).contains(&head.status) => {
            format!("redirected to {location} (use that address in --url)")
        }
        _ if words.is_empty() => error_text::single_line(&head.reason),
        _ => words,
    }
}

/// Interprets the events and the body of one response.
#[derive(Debug, Default)]
struct EventReader {
    template: EventTemplate,
    always_in_full: bool,
    /// The body, when it is not a stream of events.
    body: Vec<u8>,
    /// The first failure.
    failure: Option<Failure>,
    /// Bytes read since the failure.
    drained: usize,
    /// The stream has ended: it had a finish reason, a usage that closes it, a last event, or `[DONE]`.
    ended: bool,
    /// A choice has ended with timings.
    timed: bool,
    /// Usage came, and no output after it.
    usage_is_last: bool,
    /// The number of the last event with output, from 1.
    last_output: u32,
    /// Number of events, with data or without, and the numbers of the last one with output, of the last one of a choice
    /// without output, and of the end event.
    pieces: u32,
    output_piece: u32,
    silent_piece: u32,
    end_piece: u32,
}

impl EventReader {
    fn start(&mut self) {
        self.template.start();
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES);
        self.failure = None;
        self.drained = 0;
        self.ended = false;
        self.timed = false;
        self.usage_is_last = false;
        self.last_output = 0;
        self.pieces = 0;
        self.output_piece = 0;
        self.silent_piece = 0;
        self.end_piece = 0;
    }

    /// Records a failure, unless there was one before.
    fn fail(&mut self, seen: &mut AnswerData, failure: Failure, text: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            seen.error = text();
        }
    }

    fn take(&mut self, piece: Piece<'_>, seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
        match piece {
            Piece::Event(event) => {
                self.pieces += 1;
                self.take_event(event, seen, options, at);
            }
            Piece::Raw(bytes) if options.keep_raw => seen.raw.extend_from_slice(bytes),
            Piece::Raw(_) => {}
            Piece::Body(bytes) => self.take_body(bytes),
            Piece::Interim => seen.first_byte = None,
            Piece::Head(head) => {
                seen.status = head.status;
                seen.first_byte.get_or_insert(at);
                self.take_head(head, seen);
            }
        }
    }

    fn take_head(&mut self, head: &Head, seen: &mut AnswerData) {
        if head.status != 200 {
            // The error text is set when the body is complete.
            self.fail(seen, Failure::Status, String::new);
        } else if let Some(coding) = &head.content_coding {
            self.fail(seen, Failure::Body, || {
                format!(
                    "the response is compressed ({}), which the request did not ask for",
                    error_text::single_line(coding)
                )
            });
        }
    }

    fn take_body(&mut self, bytes: &[u8]) {
        match self.failure {
            Some(Failure::Status) => {
                let room = MAX_ERROR_BODY_BYTES.saturating_sub(self.body.len());
                self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Some(_) => {}
            None => self.body.extend_from_slice(bytes),
        }
    }

    fn take_event(&mut self, event: Event<'_>, seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
        let data = event.data.trim_ascii();
        if data.is_empty() {
            return;
        }
        if self.failure.is_some() {
            // A failed stream ends with its end event, too: its body may stay open.
            if seen.end_event.is_none() && options.dialect.is_end_marker(data) {
                self.note_end(seen, at);
            }
            return;
        }
        seen.events += 1;
        if seen.end_event.is_some() {
            return;
        }
        if !self.always_in_full
            && let Some(found) = self.template.read(event.name, data)
        {
            self.take_match(found, seen, options, at);
        } else if options.dialect.is_end_marker(data) {
            self.note_end(seen, at);
        } else {
            self.take_in_full(event, data, seen, options, at);
        }
    }

    fn note_end(&mut self, seen: &mut AnswerData, at: Tick) {
        self.ended = true;
        self.end_piece = self.pieces;
        seen.end_event = Some(at);
    }

    fn take_match(&mut self, found: TemplateMatch<'_>, seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
        if found.body.is_empty() {
            self.silent_piece = self.pieces;
            seen.note_silent(found.choice, SilentKind::Step, at);
            return;
        }
        self.note_output(seen, found.choice, at);
        if !found.reasoning {
            seen.first_answer_token.get_or_insert(at);
        }
        if options.keep_text {
            seen.with_texts(found.choice, |text, reasoning| {
                json::unescape_into(found.body, if found.reasoning { reasoning } else { text });
            });
        }
    }

    fn take_in_full(
        &mut self,
        event: Event<'_>,
        data: &[u8],
        seen: &mut AnswerData,
        options: &AnswerOptions,
        at: Tick,
    ) {
        let named_error = event.name == b"error";
        let read = json::with_lenient_value(data, |value, repairs| {
            let mut meaning = options.dialect.read(event.name, value);
            if named_error {
                meaning.error.get_or_insert_with(|| error_text::from_json(value));
            }
            note_repairs(repairs, seen);
            // Events like a repaired one are odd as well.
            if !self.always_in_full && repairs == Repairs::default() {
                self.template.learn(event.name, data, &meaning);
            }
            self.take_meaning(&meaning, seen, options, at);
        });
        if read.is_ok() {
            return;
        }
        if named_error {
            self.fail(seen, Failure::InStream, || error_text::from_body(data));
        } else if HEARTBEATS.iter().any(|word| word.eq_ignore_ascii_case(data)) && event.complete {
            seen.oddities.add(Oddity::Heartbeats);
        } else if !event.complete {
            self.fail(seen, Failure::Truncated, || "the stream ended within an event".to_string());
        } else if options.dialect.accepts_plain_text() {
            self.output_piece = self.pieces;
            take_plain_text(data, seen, options, at);
        } else if matches!(event.name, b"" | b"message") || (options.dialect.has_event_names() && event.name != b"ping")
        {
            // Events with names that the dialect does not know may carry any data.
            self.fail(seen, Failure::Body, || format!("an event is not JSON: {}", error_text::excerpt(data)));
        }
    }

    fn take_meaning(&mut self, meaning: &Meaning<'_>, seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
        if meaning.output {
            self.note_outputs(meaning, seen, at);
            if !meaning.text.is_empty() || meaning.others.iter().any(|other| !other.text.is_empty()) {
                seen.first_answer_token.get_or_insert(at);
            }
            if options.keep_text {
                seen.append(meaning.choice, &meaning.text, &meaning.reasoning);
                meaning.others.iter().for_each(|other| seen.append(other.choice, &other.text, &other.reasoning));
            }
        }
        if options.keep_text {
            meaning.calls.iter().for_each(|call| seen.add_call(call));
        }
        if !meaning.output && (meaning.finish.is_some() || meaning.choices > 0) {
            self.note_silent(meaning, seen, at);
        }
        if let Some(usage) = meaning.usage {
            seen.note_usage(usage);
            self.usage_is_last = true;
            let without_choices = meaning.choices == 0 && !seen.arrivals.is_empty();
            self.ended |= without_choices && options.dialect.usage_end() == UsageEnd::WithoutChoices;
        }
        if let Some(times) = meaning.times {
            // With several choices each has its own timings, and none is the response's. Timings beside a token are
            // not final.
            if meaning.finish.is_some() || meaning.choices == 0 {
                seen.times = if self.timed { None } else { Some(times) };
                self.timed = true;
            }
        }
        if meaning.ended {
            self.note_end(seen, at);
        }
        if let Some(finish) = meaning.finish {
            seen.finish = finish;
            self.ended = true;
        }
        if let Some(error) = &meaning.error {
            self.fail(seen, Failure::InStream, || error.clone());
        }
        if let Some(reason) = meaning.aborted {
            let reason = error_text::excerpt(reason.as_bytes());
            self.fail(seen, Failure::InStream, || {
                format!("the server did not complete the answer: finish reason '{reason}'")
            });
        }
    }

    fn note_output(&mut self, seen: &mut AnswerData, choice: u32, at: Tick) {
        self.usage_is_last = false;
        self.last_output = seen.events;
        self.output_piece = self.pieces;
        seen.note_output(choice, at);
    }

    /// Notes an event without output in each of its choices.
    fn note_silent(&mut self, meaning: &Meaning<'_>, seen: &mut AnswerData, at: Tick) {
        let kind = match meaning.finish {
            None if meaning.announces => SilentKind::Role,
            None => SilentKind::Step,
            Some(Finish::Length) => SilentKind::Length,
            Some(_) => SilentKind::Stop,
        };
        let choices = [meaning.choice].into_iter().chain(meaning.others.iter().map(|other| other.choice));
        if kind != SilentKind::Role {
            self.silent_piece = self.pieces;
            choices.for_each(|choice| seen.note_silent(choice, kind, at));
        } else if seen.events > 0 {
            choices.for_each(|choice| seen.note_role(choice, at));
        }
    }

    /// Notes the output of an event in each choice that it has output of. A body that is not a stream is one event.
    fn note_outputs(&mut self, meaning: &Meaning<'_>, seen: &mut AnswerData, at: Tick) {
        let has_text = |other: &&ChoicePiece| !other.text.is_empty() || !other.reasoning.is_empty();
        let mut others = meaning.others.iter().filter(has_text).peekable();
        // Output without text, such as a tool call, is that of the first choice.
        let first = !meaning.text.is_empty() || !meaning.reasoning.is_empty() || others.peek().is_none();
        let streamed = seen.events > 0;
        if first || !streamed {
            self.note_output(seen, meaning.choice, at);
        }
        if streamed {
            others.for_each(|other| self.note_output(seen, other.choice, at));
        }
    }

    /// Compares the server's usage with the output.
    fn check_usage(&mut self, seen: &mut AnswerData, options: &AnswerOptions) {
        if seen.arrivals.is_empty() || !options.dialect.generates_text() {
            return;
        }
        if seen.usage.output_tokens == Some(0) {
            seen.usage.output_tokens = None;
            seen.usage.input_tokens = seen.usage.input_tokens.filter(|&tokens| tokens > 0);
            seen.oddities.add(Oddity::ZeroUsage);
        }
        let Some(tokens) = seen.usage.output_tokens.filter(|_| seen.streamed) else { return };
        let several_choices = !seen.choices.is_empty();
        if !several_choices && (tokens as usize) < seen.arrivals.len() && self.failure.is_none() {
            seen.oddities.add(Oddity::FewerTokensThanEvents);
        }
    }

    /// Judges a stream whose framing is complete, or whose end event has arrived.
    fn judge_stream(&mut self, seen: &mut AnswerData, options: &AnswerOptions) {
        let usage_ended = self.usage_is_last && options.dialect.usage_end() == UsageEnd::Last;
        let ended = self.ended || usage_ended || !options.dialect.marks_end();
        if !ended && seen.events > 0 {
            self.fail(seen, Failure::Truncated, || {
                "the stream ended without finish reason, usage or [DONE]".to_string()
            });
        } else if seen.arrivals.is_empty() {
            let text = no_output("the stream", seen);
            self.fail(seen, Failure::Empty, || text);
        }
    }

    /// Judges a whole body that is not a stream.
    fn judge_document(&mut self, seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
        let body = std::mem::take(&mut self.body);
        let document = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body).trim_ascii();
        if document.is_empty() {
            self.fail(seen, Failure::Empty, || "the response has no body".to_string());
        } else {
            let read = json::with_lenient_value(document, |value, repairs| {
                let meaning = options.dialect.read(b"", value);
                note_repairs(repairs, seen);
                self.take_meaning(&meaning, seen, options, at);
                meaning.choices
            });
            match read {
                Ok(_) if !seen.arrivals.is_empty() => {}
                Ok(0) => self.fail(seen, Failure::Empty, || {
                    format!("the response has no choices: {}", error_text::excerpt(document))
                }),
                Ok(_) => {
                    let text = no_output("the response", seen);
                    self.fail(seen, Failure::Empty, || text);
                }
                Err(_) if options.dialect.accepts_plain_text() => take_plain_text(document, seen, options, at),
                Err(_) => self.fail(seen, Failure::Body, || {
                    format!("the response is neither JSON nor an event stream: {}", error_text::excerpt(document))
                }),
            }
        }
        self.body = body;
    }
}

/// Takes output that is not JSON, from a server that only the user's program can read.
fn take_plain_text(text: &[u8], seen: &mut AnswerData, options: &AnswerOptions, at: Tick) {
    seen.note_output(0, at);
    if options.keep_text {
        seen.text.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
    }
}

/// The error text of a response without output. Servers count tokens without text: the end-of-sequence token, and parts of
/// a character at the length limit.
fn no_output(what: &str, seen: &AnswerData) -> String {
    let counted = seen.usage.output_tokens.filter(|&tokens| tokens > 0);
    counted.map_or_else(
        || format!("{what} carried no output"),
        |tokens| format!("{what} carried no output; the server counted {tokens} output tokens without text"),
    )
}

fn note_repairs(repairs: Repairs, seen: &mut AnswerData) {
    if repairs.text {
        seen.oddities.add(Oddity::InvalidText);
    }
    if repairs.numbers {
        seen.oddities.add(Oddity::InvalidNumbers);
    }
}
