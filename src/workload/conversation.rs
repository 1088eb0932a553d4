//! Conversations, rendered before the run except for the model's answers. Conversation `i` is a pure function of the
//! [`super::rng::Randomness`] of the run and `i`; the bodies of its later turns contain the answers as well.
//!
//! The body of a turn is the conversation's frame around its history: the messages so far, including the model's
//! answers, separated by commas.

use std::collections::HashMap;

use serde_json::Value;

use super::error::WorkloadError;
use super::item::{Item, user_message};
use super::recipe::Recipe;
use super::rng::{self, Purpose};
use crate::api::prompt::Prompt;
use crate::api::request_body::{self, Options};
use crate::api::tool_calls::ToolCall;
use crate::record::Phase;

/// Every conversation of a run. A `--number` above the size of the data cycles through it.
#[derive(Clone, Debug)]
pub struct Conversations {
    all: Vec<Conversation>,
    frames: Vec<Frame>,
    /// Number of requests before each conversation of the data; the last element is the number of all requests.
    before: Vec<u64>,
    /// How many of them measured requests use before they start again.
    cycle: usize,
    think_us: (u32, u32),
    seed: u64,
}

/// The messages that each turn adds to the history, as JSON separated by commas.
type TurnBytes = Box<[Box<[u8]>]>;

/// A conversation that was built while the run lasts.
#[derive(Clone, Debug)]
pub struct BuiltConversation {
    frame: Frame,
    turns: TurnBytes,
    /// The index of its first request.
    first: u64,
}

/// What is known of a conversation before it starts.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The parts of every body around the history.
    pub frame: &'a Frame,
    /// The messages that each turn adds to the history, as JSON separated by commas; at least one.
    pub turns: &'a [Box<[u8]>],
    /// For each turn, the tool calls whose results are among its messages; empty if no turn has any.
    answered_calls: &'a [Box<[ToolCall]>],
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
    /// Renders a conversation whose first request has the index `first`.
    pub(super) fn render(item: &Item, first: u64, recipe: &Recipe) -> Result<BuiltConversation, WorkloadError> {
        let (frame, turns) =
            cut(&recipe.options, &item.turns).map_err(|what| item.error(recipe.source.path(), what))?;
        Ok(BuiltConversation { frame, turns, first })
    }

    /// What is known of it.
    pub fn script(&self) -> Script<'_> {
        // Generated conversations have no tool calls.
        Script { frame: &self.frame, turns: &self.turns, answered_calls: &[], first: self.first }
    }
}

#[derive(Clone, Debug)]
struct Conversation {
    /// Index into [`Conversations::frames`].
    frame: u32,
    turns: TurnBytes,
    /// For each turn, the tool calls whose results are among its messages; empty if no turn has any.
    answered_calls: Box<[Box<[ToolCall]>]>,
}

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

/// The content of the message between two turns while a body is rendered. Prompts do not contain this text with NUL
/// characters around it.
const SEAM: &str = "\0turn\0";

impl Conversations {
    /// Renders the conversations of a data set. `items` must not be empty.
    pub fn render(
        items: &[Item],
        cycle: usize,
        think_us: (u32, u32),
        recipe: &Recipe,
    ) -> Result<Conversations, WorkloadError> {
        let seed = recipe.randomness.run_seed();
        let mut made = Conversations { all: Vec::new(), frames: Vec::new(), before: vec![0], cycle, think_us, seed };
        let mut known: HashMap<Frame, u32> = HashMap::new();
        let mut requests = 0;
        for item in items {
            let (frame, turns) =
                cut(&recipe.options, &item.turns).map_err(|what| item.error(recipe.source.path(), what))?;
            // Frames differ only if an API has a field of its own for the system message.
            let frame = *known.entry(frame).or_insert_with_key(|frame| {
                made.frames.push(frame.clone());
                made.frames.len() as u32 - 1
            });
            requests += turns.len() as u64;
            made.before.push(requests);
            let with_results = item.answered_calls.iter().any(|calls| !calls.is_empty());
            let calls = item.answered_calls.iter().filter(|_| with_results).map(|calls| calls.clone().into());
            made.all.push(Conversation { frame, turns, answered_calls: calls.collect() });
        }
        Ok(made)
    }

    /// What is known of a conversation.
    pub fn script(&self, phase: Phase, number: u64) -> Script<'_> {
        let Conversation { frame, turns, answered_calls } = &self.all[self.place(phase, number)];
        let (frame, first) = (&self.frames[*frame as usize], self.requests_before(phase, number));
        Script { frame, turns, answered_calls, first }
    }

    /// Number of requests in all conversations of `phase` before `number`, which is the index of its first request.
    pub(crate) fn requests_before(&self, phase: Phase, number: u64) -> u64 {
        let size = if phase == Phase::Warmup { self.all.len() } else { self.cycle };
        let (count, all) = (size as u64, self.before[size]);
        let (rounds, rest) = (number / count, (number % count) as usize);
        let of_this_round = match phase {
            // Warm-up uses the data from its end; see [`super::requests::Workload::bodies`].
            Phase::Warmup => all - self.before[self.all.len() - rest],
            _ => self.before[rest],
        };
        rounds.saturating_mul(all).saturating_add(of_this_round)
    }

    /// Passes every byte that determines the bodies to `take`, except for the model's answers.
    pub(super) fn each_part(&self, take: &mut dyn FnMut(&[u8])) {
        for conversation in &self.all {
            for turn in &conversation.turns {
                take(&(turn.len() as u64).to_le_bytes());
                take(turn);
            }
            take(format!("{} {:?}", conversation.frame, conversation.answered_calls).as_bytes());
        }
        for frame in &self.frames {
            take(&(frame.before.len() as u64).to_le_bytes());
            take(&frame.before);
            take(&frame.after);
            take(format!("{:?} {:?}", frame.max_tokens_at, frame.seed_at).as_bytes());
        }
        take(format!("{} {:?} {}", self.cycle, self.think_us, self.seed).as_bytes());
    }

    /// The think time before request `index`, nanoseconds.
    pub(crate) fn think_ns(&self, phase: Phase, index: u64) -> u64 {
        let (low, high) = self.think_us;
        u64::from(rng::uniform_at(rng::phase_seed(self.seed, phase), Purpose::ThinkTime, index, low, high)) * 1000
    }

    /// Whether there is a think time between turns.
    pub fn thinks(&self) -> bool {
        self.think_us.1 > 0
    }

    fn place(&self, phase: Phase, number: u64) -> usize {
        let count = self.all.len() as u64;
        let place = if phase == Phase::Warmup { count - 1 - number % count } else { number % self.cycle as u64 };
        place as usize
    }
}

/// Renders a body with a seam between all turns and cuts it there, so that every API and every template determines the
/// position and the form of messages.
fn cut(options: &Options, turns: &[Vec<Value>]) -> Result<(Frame, TurnBytes), String> {
    let seam = user_message(SEAM);
    let mut messages = vec![seam.clone()];
    for turn in turns {
        messages.extend(turn.iter().cloned());
        messages.push(seam.clone());
    }
    let body = request_body::render(options, &Prompt::Messages(messages))?;
    let seam = seam.to_string();
    let seams: Vec<usize> = memchr::memmem::find_iter(&body.bytes, &seam).collect();
    if seams.len() != turns.len() + 1 {
        return Err(
            "the body has no place for the messages of a conversation: in a template, write %p alone as the content \
                    of one message, or as \"messages\""
                .to_string(),
        );
    }
    let end = seams[turns.len()] + seam.len();
    let position = |at: u32| match (at as usize).checked_sub(end) {
        None => LimitPosition::Before(at as usize),
        Some(at) => LimitPosition::After(at),
    };
    let frame = Frame {
        before: body.bytes[..seams[0]].into(),
        after: body.bytes[end..].into(),
        max_tokens_at: body.max_tokens_at.map(position),
        seed_at: body.seed_at.map(position),
    };
    let part = |pair: &[usize]| {
        // There is a comma on both sides, and nothing between them if the API moves system messages elsewhere.
        let between = &body.bytes[pair[0] + seam.len()..pair[1]];
        between.get(1..between.len() - 1).unwrap_or_default().into()
    };
    let parts: TurnBytes = seams.windows(2).map(part).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("a turn of this conversation has no message that this API accepts".to_string());
    }
    Ok((frame, parts))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::api::Dialect;
    use crate::api::sampling_params::{MaxTokens, Sampling};

    fn options(dialect: Dialect, max_tokens: MaxTokens) -> Options {
        let sampling = Sampling { max_tokens: Some(max_tokens), ..Sampling::default() };
        Options { dialect, model: "m".to_string(), stream: false, sampling, template: None, extra: Map::new() }
    }

    fn turns() -> Vec<Vec<Value>> {
        let system = json!({"role": "system", "content": "be brief"});
        vec![vec![system, user_message("a \"b\"")], vec![user_message("c")]]
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_body_is_cut_between_its_turns() {
        let (frame, parts) = cut(&options(Dialect::Chat, MaxTokens::Fixed(7)), &turns()).unwrap();
        assert_eq!(text(&frame.before), r#"{"model":"m","messages":["#);
        assert_eq!(text(&frame.after), r#"],"max_tokens":7,"stream":false}"#);
        assert_eq!(text(&parts[0]), r#"{"role":"system","content":"be brief"},{"role":"user","content":"a \"b\""}"#);
        assert_eq!(text(&parts[1]), r#"{"role":"user","content":"c"}"#);
    }

    #[test]
    fn a_drawn_limit_and_a_system_text_stay_in_their_places() {
        let (frame, parts) = cut(&options(Dialect::Anthropic, MaxTokens::Drawn { low: 1, high: 9 }), &turns()).unwrap();
        assert!(text(&frame.before).contains(r#""system":"be brief""#), "{}", text(&frame.before));
        assert_eq!(text(&parts[0]), r#"{"role":"user","content":"a \"b\""}"#);
        let Some(LimitPosition::After(at)) = frame.max_tokens_at else { panic!("{:?}", frame.max_tokens_at) };
        assert!(text(&frame.after[..at]).ends_with(r#""max_tokens":"#), "{}", text(&frame.after));
    }

    #[test]
    fn warm_up_takes_the_data_from_its_end() {
        let conversation = |turns: usize| Conversation {
            frame: 0,
            turns: vec![Box::default(); turns].into(),
            answered_calls: Box::default(),
        };
        let all = vec![conversation(1), conversation(3), conversation(2)];
        let before = vec![0, 1, 4, 6];
        let frame = Frame { before: Box::default(), after: Box::default(), max_tokens_at: None, seed_at: None };
        let made = Conversations { all, frames: vec![frame], before, cycle: 3, think_us: (0, 0), seed: 0 };
        let of = |phase| (0..7).map(|n| made.requests_before(phase, n)).collect::<Vec<_>>();
        assert_eq!(of(Phase::Measured), [0, 1, 4, 6, 7, 10, 12]);
        assert_eq!(of(Phase::Warmup), [0, 2, 5, 6, 8, 11, 12]);
        let turns = |phase, number| made.script(phase, number).turns.len();
        assert_eq!((turns(Phase::Warmup, 0), turns(Phase::Measured, 4)), (2, 3));
    }
}
