//! Where prompts come from, and what the tokenizer does with them.

use std::path::PathBuf;

use super::{Endpoint, PlanError, spell};
use crate::api::Dialect;
use crate::spec::Spec;
use crate::workload::random::RandomLengths;
use crate::workload::tokens::TokenUse;
use crate::workload::{Lengths, Source};

const DATASETS: [&str; 3] = ["builtin", "line_by_line", "random"];
/// Tokens of a random prompt: more is a slip.
const MAX_RANDOM_TOKENS: u64 = 10_000_000;

/// The prompts of the call.
pub fn source(spec: &Spec, notes: &mut Vec<String>) -> Result<Source, PlanError> {
    let name = spec.dataset.as_deref();
    if let Some(name) = name.filter(|name| !DATASETS.contains(name)) {
        let (given, suggested) = (name.to_string(), spell::nearest(name, &DATASETS));
        return Err(PlanError::Unknown { flag: "--dataset", kind: "dataset", given, suggested, known: &DATASETS });
    }
    check_belonging(spec)?;
    if let Some(prompt) = &spec.prompt {
        if spec.dataset.is_some() || spec.dataset_path.is_some() || spec.dataset_offset > 0 {
            notes.push("--prompt is given: the dataset is not read".to_string());
        }
        return prompt_source(prompt);
    }
    match (name, &spec.dataset_path) {
        (Some("line_by_line"), Some(path)) => Ok(Source::LineByLine(path.clone())),
        (Some("line_by_line"), None) => {
            Err(PlanError::conflict("--dataset line_by_line needs its file: add --dataset-path FILE"))
        }
        (Some("random"), None) => random(spec),
        (Some(name), Some(_)) => {
            Err(PlanError::conflict(format!("--dataset {name} reads no file: leave --dataset-path out")))
        }
        (None, Some(path)) => Err(PlanError::conflict(format!(
            "--dataset-path belongs to a dataset read from a file: add --dataset line_by_line to read {}",
            path.display()
        ))),
        (_, None) => Ok(Source::Builtin),
    }
}

fn prompt_source(prompt: &str) -> Result<Source, PlanError> {
    match prompt.strip_prefix('@') {
        Some("") => Err(PlanError::value("--prompt", "@ needs a file name behind it, as @prompt.txt")),
        Some(file) => Ok(Source::PromptFile(PathBuf::from(file))),
        None if prompt.is_empty() => Err(PlanError::value("--prompt", "is empty; give a text or @FILE")),
        None => Ok(Source::Prompt(prompt.to_string())),
    }
}

/// Flags that belong to one dataset are refused beside another one: they would do nothing.
fn check_belonging(spec: &Spec) -> Result<(), PlanError> {
    let random = spec.prompt.is_none() && spec.dataset.as_deref() == Some("random");
    if spec.prefix_length > 0 && !random {
        return Err(PlanError::conflict("--prefix-length belongs to --dataset random"));
    }
    if spec.tokenizer_path.is_none() {
        let needing = [
            (spec.tokenize_prompt, "--tokenize-prompt"),
            (spec.apply_chat_template.is_some(), "--apply-chat-template"),
        ];
        if let Some((_, flag)) = needing.into_iter().find(|(given, _)| *given) {
            return Err(PlanError::conflict(format!("{flag} needs a tokenizer: add --tokenizer-path")));
        }
    }
    Ok(())
}

fn random(spec: &Spec) -> Result<Source, PlanError> {
    if spec.tokenizer_path.is_none() {
        return Err(PlanError::conflict("--dataset random makes prompts of exact token counts: add --tokenizer-path"));
    }
    let Some(max) = spec.max_prompt_length else {
        return Err(PlanError::conflict(
            "--dataset random needs the length of its prompts: add --max-prompt-length (and --min-prompt-length), tokens",
        ));
    };
    let least = if spec.prefix_length > 0 { 0 } else { 1 };
    for (flag, value) in [("--max-prompt-length", max), ("--prefix-length", spec.prefix_length)] {
        if value > MAX_RANDOM_TOKENS {
            return Err(PlanError::value(
                flag,
                format!("of random prompts must be at most {MAX_RANDOM_TOKENS}, not {value}"),
            ));
        }
    }
    Ok(Source::Random(RandomLengths {
        min: spec.min_prompt_length.max(least).min(max) as u32,
        max: max as u32,
        prefix: spec.prefix_length as u32,
    }))
}

/// The lengths kept. Random prompts are made in their lengths, so nothing is left out of them.
pub fn lengths(spec: &Spec) -> Result<Lengths, PlanError> {
    if let Some(max) = spec.max_prompt_length.filter(|max| *max < spec.min_prompt_length) {
        return Err(PlanError::conflict(format!(
            "--min-prompt-length {} is above --max-prompt-length {max}",
            spec.min_prompt_length
        )));
    }
    let made = spec.prompt.is_none() && spec.dataset.as_deref() == Some("random");
    if made { Ok(Lengths::default()) } else { Ok(Lengths { min: spec.min_prompt_length, max: spec.max_prompt_length }) }
}

/// The tokenizer, where one is given.
pub fn tokens(spec: &Spec) -> Result<Option<TokenUse>, PlanError> {
    match spec.tokenizer_path.as_deref() {
        None => Ok(None),
        Some(path) if path.trim().is_empty() => {
            Err(PlanError::value("--tokenizer-path", "is empty; give a folder that holds tokenizer.json, or that file"))
        }
        Some(path) => Ok(Some(TokenUse {
            tokenizer: path.to_string(),
            template: spec.apply_chat_template,
            ids: spec.tokenize_prompt,
        })),
    }
}

/// Sends requests to `/v1/completions` where the prompts have no other form, with a note when the URL said chat.
pub fn redirect(spec: &Spec, found: &mut Endpoint) {
    const CHAT: &str = "/chat/completions";
    let reason = match spec.dataset.as_deref() {
        _ if spec.tokenize_prompt => "--tokenize-prompt sends token ids",
        _ => return,
    };
    if found.dialect != Dialect::Chat {
        return;
    }
    found.target.path = found.target.path.replacen(CHAT, "/completions", 1);
    found.target.url = found.target.url.replacen(CHAT, "/completions", 1);
    found.dialect = Dialect::Completions;
    let note = format!("{reason}, which /chat/completions does not take: requests go to {}", found.target.url);
    found.note = Some(match found.note.take() {
        Some(earlier) => format!("{earlier}; {note}"),
        None => note,
    });
}
