//! Datasets of conversations: what the user says in each turn. What the data has for answers is not used: the model's
//! own take their place.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::line_by_line::check_messages;
use super::making::Making;
use super::random::{RandomLengths, RandomText, make_each};
use super::read::{Item, Sieve, need, user_message};
use super::tokens::Tokens;
use super::{Recipe, WorkloadError, draw, files};
use crate::api::render::{Prompt, content_text};
use crate::finding::Finding;
use draw::Purpose;

/// Most turns of one conversation: more is a slip.
pub const MAX_TURNS: u32 = 1000;

/// Conversations as they were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiTurn {
    pub data: TurnData,
    /// Conversations of the data with fewer turns are left out; made ones have at least so many.
    pub min_turns: u32,
    /// Conversations of the data are cut to so many turns.
    pub max_turns: u32,
    /// Range of the pause between an answer and the next turn, both ends included, microseconds.
    pub think_us: (u32, u32),
}

/// Where the turns come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnData {
    /// Random texts of exact lengths.
    Random(RandomLengths),
    /// ShareGPT: what its users said.
    ShareGpt(PathBuf),
    /// One conversation a line: a list of messages, or of texts.
    Custom(PathBuf),
}

impl TurnData {
    /// The file whose lines can be wrong.
    pub fn path(&self) -> Option<&Path> {
        match self {
            TurnData::Random(_) => None,
            TurnData::ShareGpt(path) | TurnData::Custom(path) => Some(path),
        }
    }
}

/// The conversations the run uses; the lengths kept are those of the first text a user says.
pub fn read(
    asked: &MultiTurn,
    recipe: &Recipe,
    tokens: Option<&Tokens>,
    wanted: u64,
    making: &Making,
    notes: &mut Vec<Finding>,
) -> Result<Vec<Item>, WorkloadError> {
    let scan: fn(Value) -> Result<Vec<Vec<Value>>, String> = match &asked.data {
        TurnData::Random(lengths) => {
            return random(lengths, asked, recipe, need(tokens, "--dataset random_multi_turn")?, making, notes);
        }
        TurnData::ShareGpt(_) => share_gpt,
        TurnData::Custom(_) => custom,
    };
    let path = asked.data.path().expect("only random conversations have no file");
    let mut sieve = Sieve::new(recipe, tokens, wanted);
    let mut found = 0u64;
    let take = |entry: Value, line: u64| {
        let mut turns = scan(entry)?;
        found += 1;
        if turns.len() < asked.min_turns as usize {
            return Ok(true);
        }
        turns.truncate(asked.max_turns as usize);
        Ok(sieve.take(conversation(turns, line)))
    };
    match asked.data {
        TurnData::Custom(_) => files::lists(path, take)?,
        _ => files::entries(path, false, take)?,
    }
    let wrong = |what: String| WorkloadError::File { flag: "--dataset-path", path: path.to_path_buf(), what };
    match found {
        0 => Err(wrong("holds no conversation".to_string())),
        _ if sieve.has_seen_none() => {
            Err(wrong(format!("has no conversation of --min-turns {} or more, among {found}", asked.min_turns)))
        }
        _ => sieve.finish(recipe.offset),
    }
}

/// A conversation with its first text as the prompt that is measured.
fn conversation(turns: Vec<Vec<Value>>, line: u64) -> Item {
    let said = turns.first().and_then(|messages| messages.iter().find(|message| message["role"] == "user"));
    let prompt = Prompt::Text(said.map(content_text).unwrap_or_default());
    Item { turns, ..Item::at(prompt, line) }
}

/// Random conversations: turns and lengths drawn uniformly, each text by itself.
fn random(
    lengths: &RandomLengths,
    asked: &MultiTurn,
    recipe: &Recipe,
    tokens: &Tokens,
    making: &Making,
    notes: &mut Vec<Finding>,
) -> Result<Vec<Item>, WorkloadError> {
    let text = RandomText::new(tokens, recipe.seed)?;
    make_each("Making conversations", recipe, making, notes, |index, residuals| {
        let turns = draw::uniform_at(recipe.seed, Purpose::Turns, index, asked.min_turns, asked.max_turns);
        let said = |turn: u32| {
            let nth = index.wrapping_mul(u64::from(MAX_TURNS)).wrapping_add(u64::from(turn));
            let length = draw::uniform_at(recipe.seed, Purpose::PromptLength, nth, lengths.min, lengths.max);
            Ok(vec![user_message(residuals.note(text.text(nth, length as usize, 0)?))])
        };
        let turns = (0..turns).map(said).collect::<Result<_, WorkloadError>>()?;
        Ok(conversation(turns, 0))
    })
}

/// What the users of a ShareGPT conversation said. Two shapes are in use: `conversations` of `from` and `value`, and
/// `conversation` of `human` and `assistant`.
fn share_gpt(entry: Value) -> Result<Vec<Vec<Value>>, String> {
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
    Ok(turns.iter().filter_map(said).collect())
}

/// A list of messages, or an object that has one: what stands before, between and after the answers. A list of texts:
/// one turn each.
fn custom(entry: Value) -> Result<Vec<Vec<Value>>, String> {
    const SHAPE: &str = "a conversation is [{\"role\", \"content\"}, ...] or a list of texts";
    let entries = match entry {
        Value::Array(entries) => entries,
        Value::Object(mut fields) => match fields.remove("messages") {
            Some(Value::Array(entries)) => entries,
            _ => return Err(format!("is an object without a list \"messages\"; {SHAPE}")),
        },
        _ => return Err(format!("is no list; {SHAPE}")),
    };
    if !entries.is_empty() && entries.iter().all(Value::is_string) {
        if let Some(place) = entries.iter().position(|text| text.as_str().is_none_or(|text| text.trim().is_empty())) {
            return Err(format!("has nothing in its text {}", place + 1));
        }
        return Ok(entries.into_iter().map(|text| vec![user_message(text)]).collect());
    }
    let Prompt::Messages(messages) = check_messages(entries)? else { return Err(format!("is wrong; {SHAPE}")) };
    let parts = messages.split(|message| message["role"] == "assistant");
    let turns: Vec<Vec<Value>> = parts.filter(|part| !part.is_empty()).map(<[Value]>::to_vec).collect();
    if !turns.iter().flatten().any(|message| message["role"] == "user") {
        return Err(format!("has no message of a user; {SHAPE}"));
    }
    Ok(turns)
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
        assert_eq!(custom(row).unwrap(), [vec![system, user("a")], vec![user("b"), user("c")]]);
        assert_eq!(custom(json!(["a", "b"])).unwrap(), [[user("a")], [user("b")]]);
        assert_eq!(custom(json!({"messages": [user("a")]})).unwrap(), [[user("a")]]);
        for (wrong, word) in [
            (json!(3), "no list"),
            (json!({"x": 1}), "\"messages\""),
            (json!([answer]), "no message of a user"),
            (json!([]), "no message of a user"),
            (json!(["a", " "]), "nothing in its text 2"),
            (json!([{"content": "x"}]), "\"role\""),
            (json!(["a", {"role": "user", "content": "b"}]), "message 1"),
        ] {
            assert!(custom(wrong.clone()).unwrap_err().contains(word), "{wrong}");
        }
    }

    #[test]
    fn share_gpt_comes_in_two_shapes() {
        let v3 = json!({"conversations": [{"from": "human", "value": " a "}, {"from": "gpt", "value": "x"},
                                           {"from": "human", "value": ""}, {"from": "user", "value": "b"}]});
        let swift = json!({"conversation": [{"human": "a", "assistant": "x"}, {"human": "b", "assistant": "y"}]});
        for row in [v3, swift] {
            assert_eq!(share_gpt(row).unwrap(), [[user_message("a")], [user_message("b")]]);
        }
        assert!(share_gpt(json!({"conversations": 3})).unwrap_err().contains("\"conversations\""));
    }
}
