//! What is known of a conversation before it starts: the messages of its user, and its bodies except for the history.

use crate::api::tool_calls::ToolCall;

/// The messages that each turn adds to the history, as JSON separated by commas.
pub(super) type TurnBytes = Box<[Box<[u8]>]>;

/// The parts of a body before and after the history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub before: Box<[u8]>,
    pub after: Box<[u8]>,
    /// Where the digits of a drawn `max_tokens` are inserted.
    pub max_tokens_at: Option<LimitPosition>,
    /// The same of the digits of a drawn seed.
    pub seed_at: Option<LimitPosition>,
}

/// A position in a frame, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitPosition {
    /// Offset in [`Frame::before`].
    Before(usize),
    /// Offset in [`Frame::after`].
    After(usize),
}

/// A conversation that was built while the run lasts.
#[derive(Clone, Debug)]
pub struct BuiltConversation {
    pub(super) frame: Frame,
    pub(super) turns: TurnBytes,
    /// The index of its first request.
    pub(super) first: u64,
}

/// What is known of a conversation before it starts.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The parts of every body around the history.
    pub frame: &'a Frame,
    /// The messages that each turn adds to the history, as JSON separated by commas; at least one.
    pub turns: &'a [Box<[u8]>],
    /// For each turn, the tool calls whose results are among its messages; empty if no turn has any.
    pub(super) answered_calls: &'a [Box<[ToolCall]>],
    /// The index of its first request.
    pub first: u64,
}

impl<'a> Script<'a> {
    /// The tool calls whose results a turn adds to the history; none beyond the last turn.
    pub fn answered_calls(&self, turn: u32) -> &'a [ToolCall] {
        self.answered_calls.get(turn as usize).map_or(&[], |calls| &calls[..])
    }
}

impl BuiltConversation {
    /// What is known of it.
    pub fn script(&self) -> Script<'_> {
        // Generated conversations have no tool calls.
        Script { frame: &self.frame, turns: &self.turns, answered_calls: &[], first: self.first }
    }
}
