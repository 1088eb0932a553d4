//! `--dataset ./program`: prompts printed by a program, one JSON value per line, read before the run starts, or while it
//! lasts if only its duration ends it.

use std::path::Path;

use serde_json::Value;

use super::context::Context;
use super::error::WorkloadError;
use super::line_by_line::check_messages;
use super::plugin_process::{self, Call, Feed};
use crate::api::prompt::Prompt;

/// Variables with the values of flags.
const VARIABLES: [(&str, &str); 5] = [
    ("RINGMARK_DATASET_PATH", "dataset_path"),
    ("RINGMARK_DATASET_ARGS", "dataset_args"),
    ("RINGMARK_TOKENIZER_PATH", "tokenizer_path"),
    ("RINGMARK_MIN_PROMPT_LENGTH", "min_prompt_length"),
    ("RINGMARK_MAX_PROMPT_LENGTH", "max_prompt_length"),
];

/// The type of the absent input.
type NoInput = fn(&mut Feed) -> Result<(), String>;

/// Runs the program and reads prompts with their line numbers. All lines are read and checked, even after `take`
/// returned `false`, unless requests are built while the run lasts: then the program is stopped. The environment describes the run: `RINGMARK_NUMBER` (requests, warm-up included; unset if only
/// the duration ends the run), `RINGMARK_OFFSET`, `RINGMARK_SEED` (the data seed), `RINGMARK_MODEL`, and, if they are given,
/// `RINGMARK_DATASET_PATH`, `RINGMARK_DATASET_ARGS`, `RINGMARK_TOKENIZER_PATH`, `RINGMARK_MIN_PROMPT_LENGTH` and `RINGMARK_MAX_PROMPT_LENGTH`.
pub fn read(
    path: &Path,
    context: &Context<'_>,
    mut take: impl FnMut(Prompt, u64) -> bool,
) -> Result<(), WorkloadError> {
    let wrong = |what: String| WorkloadError::Data(format!("--dataset {}: {what}", path.display()));
    let mut environment = vec![
        ("RINGMARK_OFFSET", context.offset.to_string()),
        ("RINGMARK_SEED", context.randomness.data_seed.to_string()),
        ("RINGMARK_MODEL", context.model.to_string()),
    ];
    environment.extend(context.needed.map(|needed| ("RINGMARK_NUMBER", needed.to_string())));
    environment.extend(VARIABLES.into_iter().filter_map(|(variable, flag)| {
        let value = context.plugin_arguments.get(flag).filter(|value| !value.is_null())?;
        Some((variable, value.as_str().map_or_else(|| value.to_string(), str::to_string)))
    }));
    let call = Call { path, verb: None, environment, arguments: context.plugin_arguments };
    let (mut more, mut found) = (true, false);
    let read = plugin_process::run(&call, None::<NoInput>, |line, number| {
        let prompt = parse(line)?;
        found = true;
        if more {
            more = take(prompt, number);
        }
        // The error ends the program.
        if more || context.builders.is_none() { Ok(()) } else { Err("is not needed".to_string()) }
    });
    match read {
        Err(_) if !more && context.builders.is_some() => return Ok(()),
        read => read.map_err(wrong)?,
    }
    if found { Ok(()) } else { Err(wrong("the program printed no prompt".to_string())) }
}

/// Parses a string, a list of messages, `{"messages": [...]}`, or a whole request body.
fn parse(line: &str) -> Result<Prompt, String> {
    match serde_json::from_str(line) {
        Ok(Value::String(text)) => Ok(Prompt::Text(text)),
        Ok(Value::Array(messages)) => check_messages(messages),
        Ok(Value::Object(body)) => match body.get("messages") {
            Some(Value::Array(messages)) if body.len() == 1 => check_messages(messages.clone()),
            _ => Ok(Prompt::Body(body)),
        },
        Ok(_) => Err("is neither a string, a list of messages nor an object".to_string()),
        Err(error) => {
            Err(format!("is not JSON ({error}); print each prompt as JSON, in Python with print(json.dumps(prompt))"))
        }
    }
}
