//! Conversations: which datasets have them, and what cannot stand beside them.

use super::{PlanError, data, request};
use crate::api::Dialect;
use crate::spec::Spec;
use crate::workload::Source;
use crate::workload::multi_turn::{MAX_TURNS, MultiTurn, TurnData};

/// Datasets of conversations. The three names of ShareGPT are one: evalscope has one for each language of its file.
const DATASETS: [&str; 5] = [
    "random_multi_turn",
    "share_gpt_multi_turn",
    "share_gpt_zh_multi_turn",
    "share_gpt_en_multi_turn",
    "custom_multi_turn",
];
/// Longest pause between two turns, seconds: more is a slip.
const MAX_THINK_S: f64 = 3600.0;

/// The conversations of the call, where that is what its dataset has.
pub fn source(spec: &Spec) -> Result<Option<Source>, PlanError> {
    let asked = spec.dataset.as_deref().filter(|_| spec.prompt.is_none());
    let Some(name) = asked.filter(|name| DATASETS.contains(name)) else {
        return check_belonging(spec).map(|()| None);
    };
    if spec.tokenize_prompt {
        return Err(PlanError::conflict("--tokenize-prompt sends no messages, so it cannot carry conversations"));
    }
    if spec.n_choices.is_some_and(|choices| choices > 1) {
        return Err(PlanError::conflict("a conversation goes on from one answer: leave --n-choices out"));
    }
    let path = || {
        let hint = if name == "custom_multi_turn" { "each line a list of messages" } else { "ShareGPT conversations" };
        let missing = format!("--dataset {name} needs its file: add --dataset-path FILE ({hint})");
        spec.dataset_path.clone().ok_or(PlanError::conflict(missing))
    };
    let data = match name {
        "random_multi_turn" if spec.dataset_path.is_some() => {
            return Err(PlanError::conflict(format!("--dataset {name} reads no file: leave --dataset-path out")));
        }
        "random_multi_turn" if spec.max_turns.is_none() => {
            return Err(PlanError::conflict(format!(
                "--dataset {name} draws the turns of each conversation: add --max-turns (and --min-turns)"
            )));
        }
        "random_multi_turn" => TurnData::Random(data::random_lengths(name, spec)?),
        "custom_multi_turn" => TurnData::Custom(path()?),
        _ => TurnData::ShareGpt(path()?),
    };
    let (min_turns, max_turns) = turns(spec)?;
    Ok(Some(Source::MultiTurn(MultiTurn { data, min_turns, max_turns, think_us: think_us(&spec.think_time_s)? })))
}

/// A conversation needs an endpoint that takes messages.
pub fn check_dialect(source: &Source, dialect: Dialect) -> Result<(), PlanError> {
    if matches!(source, Source::MultiTurn(_)) && !dialect.takes_conversations() {
        return Err(PlanError::conflict(
            "a conversation is a list of messages and answers, which this API does not take: use /v1/chat/completions",
        ));
    }
    Ok(())
}

/// Flags of conversations are refused beside other datasets: they would do nothing.
fn check_belonging(spec: &Spec) -> Result<(), PlanError> {
    let flags = [
        (spec.multi_turn, "--multi-turn"),
        (spec.min_turns.is_some(), "--min-turns"),
        (spec.max_turns.is_some(), "--max-turns"),
        (!spec.think_time_s.is_empty(), "--think-time"),
    ];
    match flags.into_iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(PlanError::conflict(format!(
            "{flag} is about conversations: add --dataset random_multi_turn, share_gpt_multi_turn or custom_multi_turn"
        ))),
        None => Ok(()),
    }
}

/// Fewest and most turns of a conversation.
fn turns(spec: &Spec) -> Result<(u32, u32), PlanError> {
    let (min, max) = (spec.min_turns.unwrap_or(1), spec.max_turns.unwrap_or(MAX_TURNS));
    for (flag, turns) in [("--min-turns", min), ("--max-turns", max)] {
        if !(1..=MAX_TURNS).contains(&turns) {
            return Err(PlanError::value(flag, format!("must be from 1 to {MAX_TURNS}, not {turns}")));
        }
    }
    if min > max {
        return Err(PlanError::conflict(format!("--min-turns {min} is above --max-turns {max}")));
    }
    Ok((min, max))
}

/// The range of pauses, microseconds: none, one length, or the two ends of a range.
fn think_us(seconds: &[f64]) -> Result<(u32, u32), PlanError> {
    const FLAG: &str = "--think-time";
    if let Some(wrong) = seconds.iter().find(|s| **s > MAX_THINK_S) {
        return Err(PlanError::value(FLAG, format!("must be at most {MAX_THINK_S} seconds, not {wrong}")));
    }
    let us = |seconds: f64| Ok((request::seconds_ns(FLAG, seconds, true)? / 1000) as u32);
    match *seconds {
        [] => Ok((0, 0)),
        [pause] => us(pause).map(|pause| (pause, pause)),
        [low, high] if low > high => {
            Err(PlanError::value(FLAG, format!("is a range from least to most, but {low} is above {high}")))
        }
        [low, high] => Ok((us(low)?, us(high)?)),
        _ => Err(PlanError::value(FLAG, format!("takes one length or the two ends of a range, not {}", seconds.len()))),
    }
}
