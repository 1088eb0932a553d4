//! One answer as it arrives: bytes and their arrival instants in, counts, instants and an outcome out.

use super::{Dialect, Usage};
use crate::record::{Failure, Finish, Outcome};
use crate::time::Tick;

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
    pub status: u16,
    pub streamed: bool,
    pub first_byte: Option<Tick>,
    pub first_token: Option<Tick>,
    pub last_token: Option<Tick>,
    /// Arrival of every output event.
    pub arrivals: Vec<Tick>,
    pub events: u32,
    pub coalesced: u32,
    pub coalesced_reads: u32,
    pub received_bytes: u64,
    pub usage: Usage,
    pub finish: Finish,
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
    pub raw: Vec<u8>,
    /// The server's words, or ours, about what went wrong.
    pub error: String,
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
pub struct Answer {
    pub options: AnswerOptions,
    pub seen: Seen,
    outcome: Outcome,
}

impl Answer {
    /// An answer that has seen nothing.
    pub fn new(options: AnswerOptions) -> Answer {
        Answer { options, seen: Seen::default(), outcome: Outcome::Unfinished }
    }

    /// Forgets the last response, keeping memory and what was learned of the server's event shape.
    pub fn start(&mut self) {
        todo!()
    }

    /// Takes the bytes of one read, which arrived at `at`.
    pub fn push(&mut self, _bytes: &[u8], _at: Tick) -> Step {
        todo!()
    }

    /// The peer closed its side at `at`.
    pub fn push_eof(&mut self, _at: Tick) -> Step {
        todo!()
    }

    /// The transport failed: the answer ends here with this class and text, unless it was already complete.
    pub fn fail(&mut self, failure: Failure, text: &str) {
        self.outcome = Outcome::Failed(failure);
        self.seen.error = text.to_string();
    }

    /// How it ended; [`Outcome::Unfinished`] before that.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}
