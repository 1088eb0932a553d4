//! Where prompts come from, and what the tokenizer does with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Arrival, Endpoint, PlanError, Schedule, spell, turns};
use crate::api::Dialect;
use crate::finding::Finding;
use crate::spec::Spec;
use crate::workload::files::Shape;
use crate::workload::random::RandomLengths;
use crate::workload::random_texts::Texts;
use crate::workload::random_vl::{Format, Pictures};
use crate::workload::tokens::TokenUse;
use crate::workload::trace::Trace;
use crate::workload::{Lengths, Source, speed};

const DATASETS: [&str; 19] = [
    "builtin",
    "line_by_line",
    "openqa",
    "longalpaca",
    "sharegpt",
    "random",
    "random_embedding",
    "random_rerank",
    "random_vl",
    "embedding",
    "rerank",
    "speed_benchmark",
    "speed_benchmark_long",
    "random_multi_turn",
    "share_gpt_multi_turn",
    "share_gpt_zh_multi_turn",
    "share_gpt_en_multi_turn",
    "custom_multi_turn",
    "trace",
];
/// Datasets that are made in lengths of their own, so that nothing is left out by its length.
const MADE: [&str; 8] = [
    "trace",
    "random_vl",
    "random",
    "random_embedding",
    "random_rerank",
    "random_multi_turn",
    "speed_benchmark",
    "speed_benchmark_long",
];
/// Requests of a run for which neither `--number` nor `--duration` is given.
const DEFAULT_NUMBER: u64 = 1000;
/// The dataset whose times are the schedule.
const TRACE: &str = "trace";
/// Largest side of a picture, pixels, and most pictures in one request: more is a slip.
const MAX_SIDE: u16 = 16_384;
const MAX_PICTURES: u32 = 1000;
/// Tokens of a random prompt: more is a slip.
const MAX_RANDOM_TOKENS: u64 = 10_000_000;

/// The prompts of the call. What of `extra` belongs to the dataset is taken out of it.
pub fn source(
    spec: &Spec,
    trace: Option<&Arc<Trace>>,
    extra: &mut Map<String, Value>,
    notes: &mut Vec<Finding>,
) -> Result<Source, PlanError> {
    let name = spec.dataset.as_deref();
    if let Some(name) = name.filter(|name| !DATASETS.contains(name) && !is_program(name)) {
        let (given, suggested) = (name.to_string(), spell::nearest(name, &DATASETS));
        return Err(PlanError::Unknown { flag: "--dataset", kind: "dataset", given, suggested, known: &DATASETS });
    }
    check_belonging(spec)?;
    if let Some(conversations) = turns::source(spec)? {
        return Ok(conversations);
    }
    if let Some(prompt) = &spec.prompt {
        if spec.dataset.is_some() || spec.dataset_path.is_some() || spec.dataset_offset > 0 {
            notes.push(Finding::DatasetNotRead);
        }
        return prompt_source(prompt);
    }
    let Some(name) = name else {
        return match &spec.dataset_path {
            None => Ok(Source::Builtin),
            Some(path) => Err(PlanError::conflict(format!(
                "--dataset-path belongs to a dataset read from a file: add --dataset line_by_line to read {}",
                path.display()
            ))),
        };
    };
    if name == TRACE {
        let trace = trace.ok_or(PlanError::conflict("--dataset trace needs its file: add --dataset-path FILE"))?;
        if trace.needs_tokenizer() && spec.tokenizer_path.is_none() {
            return Err(PlanError::conflict(
                "--dataset trace has lengths but no prompts: add --tokenizer-path to make them",
            ));
        }
        return Ok(Source::Trace(trace.clone()));
    }
    if let Some(source) = file_source(name, spec)? {
        return Ok(source);
    }
    if spec.dataset_path.is_some() {
        return Err(PlanError::conflict(format!("--dataset {name} reads no file: leave --dataset-path out")));
    }
    let texts = |texts: Result<Texts, String>| texts.map_err(|what| PlanError::value("--extra-args", what));
    Ok(match name {
        "random" => Source::Random(random_lengths(name, spec)?),
        "random_embedding" => Source::RandomTexts(random_lengths(name, spec)?, texts(Texts::embedding(extra))?),
        "random_rerank" => Source::RandomTexts(random_lengths(name, spec)?, texts(Texts::rerank(extra))?),
        "random_vl" => Source::RandomVl(random_lengths(name, spec)?, pictures(spec)?),
        "speed_benchmark" => Source::Speed { long: false },
        "speed_benchmark_long" => Source::Speed { long: true },
        "builtin" => Source::Builtin,
        program => Source::Program(PathBuf::from(program)),
    })
}

/// The pictures of `random_vl`.
fn pictures(spec: &Spec) -> Result<Pictures, PlanError> {
    const SIDE: u16 = 224;
    let (width, height) = (spec.image_width.unwrap_or(SIDE), spec.image_height.unwrap_or(SIDE));
    for (flag, side) in [("--image-width", width), ("--image-height", height)] {
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(PlanError::value(flag, format!("must be from 1 to {MAX_SIDE}, not {side}")));
        }
    }
    let count = spec.image_num.unwrap_or(1);
    if !(1..=MAX_PICTURES).contains(&count) {
        return Err(PlanError::value("--image-num", format!("must be from 1 to {MAX_PICTURES}, not {count}")));
    }
    let format = Format::scan(spec.image_format.as_deref().unwrap_or("RGB"));
    let format = format.map_err(|what| PlanError::value("--image-format", what))?;
    Ok(Pictures { width, height, format, count })
}

/// Whether a dataset or an API is named as a file is: every program is, nothing of ours.
pub fn is_program(name: &str) -> bool {
    name.contains(['/', '.'])
}

/// Datasets that are read from a file.
fn file_source(name: &str, spec: &Spec) -> Result<Option<Source>, PlanError> {
    let make: fn(&Spec, PathBuf) -> Source = match name {
        "line_by_line" => |_, path| Source::LineByLine(path),
        "openqa" => |_, path| Source::File(path, Shape::OpenQa),
        "longalpaca" => |_, path| Source::File(path, Shape::LongAlpaca),
        "embedding" => |_, path| Source::File(path, Shape::Embedding),
        "rerank" => |_, path| Source::File(path, Shape::Rerank),
        "sharegpt" => |spec, path| Source::ShareGpt { path, output_len: spec.sharegpt_output_len },
        _ => return Ok(None),
    };
    if name == "sharegpt" && spec.tokenizer_path.is_none() {
        return Err(PlanError::conflict("--dataset sharegpt is sampled by lengths in tokens: add --tokenizer-path"));
    }
    let Some(path) = &spec.dataset_path else {
        return Err(PlanError::conflict(format!(
            "--dataset {name} needs its file: add --dataset-path FILE{}",
            origin(name)
        )));
    };
    Ok(Some(make(spec, path.clone())))
}

/// Where people get the file of a dataset.
fn origin(name: &str) -> &'static str {
    match name {
        "openqa" => " (open_qa.jsonl of HC3-Chinese)",
        "longalpaca" => " (LongAlpaca-12k.json)",
        "sharegpt" => " (ShareGPT_V3_unfiltered_cleaned_split.json)",
        _ => "",
    }
}

/// The file of recorded times, where one is asked for, and the flag that names it. Whoever plans reads it first.
pub fn trace_file(spec: &Spec) -> Option<(&Path, &'static str)> {
    match (&spec.dataset_path, spec.arrival.as_deref().and_then(|text| text.strip_prefix("trace:"))) {
        (_, Some(file)) => Some((Path::new(file), "--arrival")),
        (Some(path), None) if is_trace(spec) => Some((path, "--dataset-path")),
        _ => None,
    }
}

/// Whether the data is a trace, whose times are the schedule.
pub fn is_trace(spec: &Spec) -> bool {
    spec.prompt.is_none() && spec.dataset.as_deref() == Some(TRACE)
}

/// The schedule of recorded times, where one is asked for.
pub fn trace_schedule(spec: &Spec, trace: Option<&Arc<Trace>>) -> Result<Option<Schedule>, PlanError> {
    let by_arrival = spec.arrival.as_deref().is_some_and(|text| text.starts_with("trace:"));
    if !is_trace(spec) && !by_arrival {
        if spec.trace_speed.is_some() {
            return Err(PlanError::conflict(
                "--trace-speed is about recorded times: add --dataset trace or --arrival trace:FILE",
            ));
        }
        return Ok(None);
    }
    if is_trace(spec) && spec.arrival.is_some() {
        return Err(PlanError::conflict("--dataset trace has its own times: leave --arrival out"));
    }
    if spec.rate.iter().any(|rate| *rate != -1.0) {
        return Err(PlanError::conflict("recorded times are the rate: leave --rate out (--trace-speed scales them)"));
    }
    if spec.ramp_s > 0.0 {
        return Err(PlanError::conflict("recorded times have no ramp: leave --ramp out"));
    }
    let speed = spec.trace_speed.unwrap_or(1.0);
    if !(1e-6..=1e6).contains(&speed) {
        return Err(PlanError::value("--trace-speed", format!("must be between 0.000001 and 1000000, not {speed}")));
    }
    let trace = trace.ok_or(PlanError::conflict("--dataset trace needs its file: add --dataset-path FILE"))?;
    let times = trace.arrivals(speed);
    let span_s = times.last().copied().unwrap_or(0) as f64 / 1e9;
    let rate_per_s = if span_s > 0.0 { (times.len() - 1) as f64 / span_s } else { times.len() as f64 };
    Ok(Some(Schedule { rate_per_s, arrival: Arrival::Trace(times.into()) }))
}

/// Requests of a run when neither `--number` nor `--duration` says.
pub fn default_number(spec: &Spec, trace: Option<&Arc<Trace>>) -> u64 {
    if let Some(trace) = trace {
        return trace.rows.len() as u64;
    }
    match spec.dataset.as_deref().filter(|_| spec.prompt.is_none()) {
        Some("speed_benchmark") => speed::size(false),
        Some("speed_benchmark_long") => speed::size(true),
        _ => DEFAULT_NUMBER,
    }
}

/// Whether answers are to be as long as they may: the speed tables are about full answers.
pub fn full_answers(spec: &Spec) -> bool {
    is_speed(spec) && spec.min_tokens.is_none()
}

fn is_speed(spec: &Spec) -> bool {
    let name = spec.dataset.as_deref().filter(|_| spec.prompt.is_none());
    matches!(name, Some("speed_benchmark" | "speed_benchmark_long"))
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
    let images = [
        (spec.image_width.is_some(), "--image-width"),
        (spec.image_height.is_some(), "--image-height"),
        (spec.image_format.is_some(), "--image-format"),
        (spec.image_num.is_some(), "--image-num"),
    ];
    let vl = spec.prompt.is_none() && spec.dataset.as_deref() == Some("random_vl");
    if let Some((_, flag)) = images.into_iter().find(|(given, _)| *given && !vl) {
        return Err(PlanError::conflict(format!("{flag} belongs to --dataset random_vl")));
    }
    if spec.sharegpt_output_len && (spec.prompt.is_some() || spec.dataset.as_deref() != Some("sharegpt")) {
        return Err(PlanError::conflict("--sharegpt-output-len belongs to --dataset sharegpt"));
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

/// The range of lengths that random texts are drawn from.
pub fn random_lengths(name: &str, spec: &Spec) -> Result<RandomLengths, PlanError> {
    if spec.tokenizer_path.is_none() {
        return Err(PlanError::conflict(format!(
            "--dataset {name} makes prompts of exact token counts: add --tokenizer-path"
        )));
    }
    let Some(max) = spec.max_prompt_length else {
        return Err(PlanError::conflict(format!(
            "--dataset {name} needs the length of its prompts: add --max-prompt-length (and --min-prompt-length), tokens"
        )));
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
    Ok(RandomLengths {
        min: spec.min_prompt_length.max(least).min(max) as u32,
        max: max as u32,
        prefix: spec.prefix_length as u32,
    })
}

/// The lengths kept. Random prompts are made in their lengths, so nothing is left out of them.
pub fn lengths(spec: &Spec) -> Result<Lengths, PlanError> {
    if let Some(max) = spec.max_prompt_length.filter(|max| *max < spec.min_prompt_length) {
        return Err(PlanError::conflict(format!(
            "--min-prompt-length {} is above --max-prompt-length {max}",
            spec.min_prompt_length
        )));
    }
    let made = spec.prompt.is_none() && spec.dataset.as_deref().is_some_and(|name| MADE.contains(&name));
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
    let note: fn(String, String) -> Finding = match spec.dataset.as_deref() {
        _ if spec.tokenize_prompt => |_, url| Finding::TokenIdsRedirected { url },
        Some(_) if is_speed(spec) => |dataset, url| Finding::BarePromptsRedirected { dataset, url },
        _ => return,
    };
    if found.dialect != Dialect::Chat {
        return;
    }
    found.target.path = found.target.path.replacen(CHAT, "/completions", 1);
    found.target.url = found.target.url.replacen(CHAT, "/completions", 1);
    found.dialect = Dialect::Completions;
    found.notes.push(note(spec.dataset.clone().unwrap_or_default(), found.target.url.clone()));
}
