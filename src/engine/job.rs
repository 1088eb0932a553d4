//! A request, or a conversation, that a slot sends.

use crate::record::Phase;
use crate::time::Tick;

/// A request, or a conversation, to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub phase: Phase,
    /// The number of the request. For a run of conversations, a slot gets the job with the number of the conversation.
    pub index: u64,
    pub conversation: Option<u64>,
    pub turn: u32,
    pub due: Tick,
    pub previous_end: Option<Tick>,
    /// How long it waited for its body; `None` if that was built before the run.
    pub body_wait_ns: Option<u64>,
}

impl Job {
    /// A job without a predecessor.
    pub fn new(phase: Phase, index: u64, due: Tick) -> Job {
        Job { phase, index, conversation: None, turn: 0, due, previous_end: None, body_wait_ns: None }
    }
}
