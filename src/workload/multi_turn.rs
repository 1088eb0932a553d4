//! Data sets of conversations: the messages of the user in each turn. Answers in the data are not used; the model's own
//! answers take their place.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::context::Context;
use super::error::WorkloadError;
use super::files;
use super::item::{Item, user_message};
use super::line_by_line::check_messages;
use super::random_text::{RandomLengths, RandomText};
use super::rng::{self, Purpose};
use super::sieve::Sieve;
use crate::api::prompt::{Prompt, content_text};
use crate::api::tool_calls::{self, ToolCall};

/// Maximum number of turns of a conversation.
pub(crate) const MAX_TURNS: u32 = 1000;

/// The options of a data set of conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiTurn {
    pub data: TurnData,
    /// Conversations of a file with fewer turns are skipped; generated ones have at least this many.
    pub min_turns: u32,
    /// Conversations are cut to this many turns.
    pub max_turns: u32,
    /// Range of the think time between an answer and the next turn, both ends included, microseconds.
    pub think_us: (u32, u32),
}

/// The source of the turns.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnData {
    /// Random texts of exact lengths.
    Random(RandomLengths),
    /// ShareGPT: the messages of its users.
    ShareGpt(PathBuf),
    /// One conversation per line: a list of messages, or of texts.
    Custom(PathBuf),
}

impl TurnData {
    /// The file that is read, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            TurnData::Random(_) => None,
            TurnData::ShareGpt(path) | TurnData::Custom(path) => Some(path),
        }
    }
}

/// Reads or generates the conversations of the run. They are selected by the length of the first user message.
pub fn read(asked: &MultiTurn, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    let scan: fn(Value) -> Result<Turns, String> = match &asked.data {
        TurnData::Random(lengths) => return random(lengths, asked, context),
        TurnData::ShareGpt(_) => share_gpt,
        TurnData::Custom(_) => custom,
    };
    let path = asked.data.path().expect("only random conversations have no file");
    let mut sieve = Sieve::new(context);
    let mut found = 0u64;
    let take = |entry: Value, line: u64| {
        let mut turns = scan(entry)?;
        found += 1;
        if turns.messages.len() < asked.min_turns as usize {
            return Ok(true);
        }
        turns.messages.truncate(asked.max_turns as usize);
        turns.answered_calls.truncate(asked.max_turns as usize);
        Ok(sieve.take(conversation(turns, line)))
    };
    match asked.data {
        TurnData::Custom(_) => files::lists(path, take)?,
        _ => files::entries(path, false, take)?,
    }
    let wrong = |what: String| WorkloadError::File { flag: "--dataset-path", path: path.to_path_buf(), what };
    match found {
        0 => Err(wrong("contains no conversation".to_string())),
        _ if sieve.has_seen_none() => {
            Err(wrong(format!("has no conversation of --min-turns {} or more, among {found}", asked.min_turns)))
        }
        _ => sieve.finish(),
    }
}

/// The turns of a conversation: for each its messages, and the tool calls whose results are among them.
#[derive(Debug, Default, PartialEq)]
struct Turns {
    messages: Vec<Vec<Value>>,
    answered_calls: Vec<Vec<ToolCall>>,
}

impl From<Vec<Vec<Value>>> for Turns {
    fn from(messages: Vec<Vec<Value>>) -> Turns {
        Turns { messages, answered_calls: Vec::new() }
    }
}

/// A conversation, with its first user message as the prompt for selection by length.
fn conversation(turns: Turns, line: u64) -> Item {
    let Turns { messages: turns, answered_calls } = turns;
    let said = turns.first().and_then(|messages| messages.iter().find(|message| message["role"] == "user"));
    let prompt = Prompt::Text(said.map(content_text).unwrap_or_default());
    Item { turns, answered_calls, ..Item::at(prompt, line) }
}

/// Generates conversations: number of turns and lengths are drawn uniformly, each text independently.
fn random(lengths: &RandomLengths, asked: &MultiTurn, context: &Context<'_>) -> Result<Vec<Item>, WorkloadError> {
    let text = RandomText::new(context.tokens_for("--dataset random_multi_turn")?, context.randomness)?;
    let turns = |number: u64| {
        rng::uniform_at(context.randomness.run_seed(), Purpose::Turns, number, asked.min_turns, asked.max_turns)
    };
    let make = |number: u64| {
        let said = |turn: u32| {
            // Numbers of conversations stay far below this, so every text has a number of its own, and the first turns
            // of consecutive conversations have consecutive numbers.
            let nth = number + (u64::from(turn) << 28);
            let length = lengths.draw(context.randomness, nth) as usize;
            Ok(vec![user_message(context.residuals.note(text.text(nth, length, 0)?))])
        };
        let turns = (0..turns(number)).map(said).collect::<Result<Vec<_>, WorkloadError>>()?;
        Ok(conversation(turns.into(), 0))
    };
    context.generate_counted("Generating conversations", make, |number| u64::from(turns(number)))
}

/// The user messages of a ShareGPT conversation. Two formats exist: `conversations` of `from` and `value`, and
/// `conversation` of `human` and `assistant`.
fn share_gpt(entry: Value) -> Result<Turns, String> {
    let turns = entry.get("conversations").or_else(|| entry.get("conversation")).and_then(Value::as_array);
    let turns = turns.ok_or(
        "has no list \"conversations\"; ShareGPT is [{\"conversations\": [{\"from\", \"value\"}, ...]}, ...] or \
         {\"conversation\": [{\"human\", \"assistant\"}, ...]}",
    )?;
    let said = |turn: &Value| {
        let is_user = matches!(turn["from"].as_str(), Some("human" | "user"));
        let text = if is_user { turn["value"].as_str() } else { turn["human"].as_str() };
        text.map(str::trim).filter(|text| !text.is_empty()).map(|text| vec![user_message(text)])
    };
    Ok(turns.iter().filter_map(said).collect::<Vec<_>>().into())
}

/// The turns of a list of messages, or of an object that contains one: the messages between the answers. In a list of
/// texts each text is a turn. Of the answers only the tool calls are used whose results follow.
fn custom(entry: Value) -> Result<Turns, String> {
    const SHAPE: &str = "a conversation is [{\"role\", \"content\"}, ...] or a list of texts";
    let entries = match entry {
        Value::Array(entries) => entries,
        Value::Object(mut fields) => match fields.remove("messages") {
            Some(Value::Array(entries)) => entries,
            _ => return Err(format!("is an object without a list \"messages\"; {SHAPE}")),
        },
        _ => return Err(format!("is not a list; {SHAPE}")),
    };
    if !entries.is_empty() && entries.iter().all(Value::is_string) {
        if let Some(place) = entries.iter().position(|text| text.as_str().is_none_or(|text| text.trim().is_empty())) {
            return Err(format!("has an empty text at position {}", place + 1));
        }
        return Ok(entries.into_iter().map(|text| vec![user_message(text)]).collect::<Vec<_>>().into());
    }
    let Prompt::Messages(messages) = check_messages(entries)? else {
        return Err(format!("is not a list of messages; {SHAPE}"));
    };
    let turns = turns_of(messages)?;
    if !turns.messages.iter().flatten().any(|message| message["role"] == "user") {
        return Err(format!("has no user message; {SHAPE}"));
    }
    Ok(turns)
}

/// Splits messages at the answers, and notes the tool calls that the messages between them answer.
fn turns_of(messages: Vec<Value>) -> Result<Turns, String> {
    let mut turns = Turns::default();
    let mut recorded: Vec<ToolCall> = Vec::new();
    let mut begins = true;
    for mut message in messages {
        if message["role"] == "assistant" {
            if !begins {
                recorded.clear();
            }
            recorded.extend(tool_calls::from_list(&message["tool_calls"]));
            begins = true;
            continue;
        }
        if begins {
            turns.messages.push(Vec::new());
            turns.answered_calls.push(Vec::new());
            begins = false;
        }
        if message["role"] == "tool" {
            if turns.messages.len() == 1 {
                return Err("has a message of role \"tool\" before the first answer".to_string());
            }
            let turn = turns.messages.len();
            if let Some(calls) = turns.answered_calls.last_mut() {
                calls.push(answered_call(&mut message, &mut recorded, &format!("call_{turn}_{}", calls.len())));
            }
        }
        if let Some(turn) = turns.messages.last_mut() {
            turn.push(message);
        }
    }
    Ok(turns)
}

/// The recorded call that this message answers: the one with its id, else the first that is left. A message without an id
/// gets that of the call, or `new_id`.
fn answered_call(message: &mut Value, recorded: &mut Vec<ToolCall>, new_id: &str) -> ToolCall {
    let id = message["tool_call_id"].as_str().unwrap_or_default().to_string();
    let place = recorded.iter().position(|call| !id.is_empty() && call.id == id).unwrap_or(0);
    let mut call = if place < recorded.len() {
        recorded.remove(place)
    } else {
        ToolCall::new("", message["name"].as_str().unwrap_or("tool"), "{}")
    };
    if !id.is_empty() {
        call.id = id;
    } else if call.id.is_empty() {
        call.id = new_id.to_string();
    }
    message["tool_call_id"] = Value::from(call.id.as_str());
    call
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_part_the_turns() {
        let user = |text: &str| user_message(text);
        let answer = json!({"role": "assistant", "content": "x"});
        let system = json!({"role": "system", "content": "s"});
        let row = json!([system, user("a"), answer, answer, user("b"), user("c"), answer]);
        let messages = |row| custom(row).unwrap().messages;
        assert_eq!(messages(row), [vec![system, user("a")], vec![user("b"), user("c")]]);
        assert_eq!(messages(json!(["a", "b"])), [[user("a")], [user("b")]]);
        assert_eq!(messages(json!({"messages": [user("a")]})), [[user("a")]]);
        for (wrong, word) in [
            (json!(3), "not a list"),
            (json!({"x": 1}), "\"messages\""),
            (json!([answer]), "no user message"),
            (json!([]), "no user message"),
            (json!(["a", " "]), "empty text at position 2"),
            (json!([{"content": "x"}]), "\"role\""),
            (json!(["a", {"role": "user", "content": "b"}]), "message 1"),
        ] {
            assert!(custom(wrong.clone()).unwrap_err().contains(word), "{wrong}");
        }
    }

    #[test]
    fn results_of_tools_follow_their_calls() {
        let call =
            |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        let calling = json!({"role": "assistant", "content": null, "tool_calls": [call("a", "f"), call("b", "g")]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "4"});
        let row = json!([user_message("q"), calling, result("b"), result("a"), user_message("r")]);
        let turns = custom(row).unwrap();
        assert_eq!(turns.messages[1], [result("b"), result("a"), user_message("r")]);
        let recorded = [ToolCall::new("b", "g", "{}"), ToolCall::new("a", "f", "{}")];
        assert_eq!(turns.answered_calls, [vec![], recorded.to_vec()]);
        // Without recorded calls and ids, both sides get the same id.
        let bare = json!({"role": "tool", "name": "h", "content": "4"});
        let turns = custom(json!([user_message("q"), {"role": "assistant", "content": "x"}, bare])).unwrap();
        let call = &turns.answered_calls[1][0];
        assert_eq!((call.name.as_str(), json!(call.id)), ("h", turns.messages[1][0]["tool_call_id"].clone()));
        assert!(custom(json!([bare, user_message("q")])).unwrap_err().contains("before the first answer"));
    }

    #[test]
    fn share_gpt_comes_in_two_shapes() {
        let v3 = json!({"conversations": [{"from": "human", "value": " a "}, {"from": "gpt", "value": "x"},
                                           {"from": "human", "value": ""}, {"from": "user", "value": "b"}]});
        let swift = json!({"conversation": [{"human": "a", "assistant": "x"}, {"human": "b", "assistant": "y"}]});
        for row in [v3, swift] {
            assert_eq!(share_gpt(row).unwrap().messages, [[user_message("a")], [user_message("b")]]);
        }
        assert!(share_gpt(json!({"conversations": 3})).unwrap_err().contains("\"conversations\""));
    }
}
