//! Flags of the prompts: dataset, tokenizer, prompt lengths, conversations, request template.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::dataset_args::{self, DatasetArgs};
use super::names::{self, is_program};
use super::url::Endpoint;
use super::values::{self, json_text_or_null, seconds_ns};
use crate::api::Dialect;
use crate::finding::Finding;
use crate::options::DataSource;
use crate::plan::PlanError;
use crate::workload::files::Shape;
use crate::workload::fit::Fit;
use crate::workload::multi_turn::{MAX_TURNS, MultiTurn, TurnData};
use crate::workload::random_text::RandomLengths;
use crate::workload::random_texts::Texts;
use crate::workload::random_vl::{Format, Pictures};
use crate::workload::tokens::TokenUse;
use crate::workload::trace::Trace;
use crate::workload::{Lengths, Source, speed_benchmark};

const HEADING: &str = "Prompts";
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
/// Datasets that generate prompts of the requested lengths, so that no prompt is filtered by length.
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
/// Default number of requests of a run.
const DEFAULT_NUMBER: u64 = 1000;
/// The dataset of recorded requests, whose arrival times are the schedule.
const TRACE: &str = "trace";
/// Maximum width and height of a picture, pixels, and maximum number of pictures in a request. Larger values are typing
/// errors.
const MAX_SIDE: u16 = 16_384;
const MAX_PICTURES: u32 = 1000;
/// Maximum tokens of a random prompt. Larger values are typing errors.
const MAX_RANDOM_TOKENS: u64 = 10_000_000;
/// Most tokens of all shared prefixes together, which are kept in memory.
const MAX_PREFIX_TOKENS: u64 = 50_000_000;
/// Datasets of conversations. The three names of ShareGPT are equivalent; evalscope has one name for each language.
const CONVERSATIONS: [&str; 5] = [
    "random_multi_turn",
    "share_gpt_multi_turn",
    "share_gpt_zh_multi_turn",
    "share_gpt_en_multi_turn",
    "custom_multi_turn",
];
/// Maximum pause between two turns, seconds. Larger values are typing errors.
const MAX_THINK_S: f64 = 3600.0;

/// Flags of the prompts.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataSpec {
    /// Tokenizer: a folder with tokenizer.json (and the chat template), that file, or a model id such as
    /// Qwen/Qwen2.5-0.5B-Instruct, whose tokenizer is downloaded once (see --data-source)
    #[arg(long, alias = "tokenizer", value_name = "PATH", help_heading = HEADING)]
    pub tokenizer_path: Option<String>,
    /// Whether the chat template of the tokenizer is applied.
    #[command(flatten)]
    #[serde(flatten)]
    pub chat_template: ChatTemplate,
    /// Send prompts as token ids to /v1/completions; needs --tokenizer-path
    #[arg(long, help_heading = HEADING)]
    pub tokenize_prompt: bool,
    /// random: length of a prefix that prompts share, tokens; added to --min/--max-prompt-length
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub prefix_length: u64,
    /// random: number of different prefixes of --prefix-length tokens; request i begins with prefix i modulo N [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub prefix_count: Option<u32>,
    /// Dataset. builtin: 100 questions in several languages. From a file: line_by_line, openqa, longalpaca, sharegpt,
    /// embedding, rerank. Generated with exact token counts, with --tokenizer-path and --max-prompt-length: random,
    /// random_embedding, random_rerank, random_vl (with pictures). evalscope's speed tests: speed_benchmark,
    /// speed_benchmark_long. Conversations: random_multi_turn, share_gpt_multi_turn, custom_multi_turn (each line is a list
    /// of messages or texts). trace: a file of recorded requests with times, lengths and shared prefixes (open loop). Or a
    /// program that prints one JSON value per line, such as ./my_prompts.py, or a Python file with a class that is registered
    /// for evalscope (FILE.py:NAME selects one of several) [default: builtin]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub dataset: Option<String>,
    /// File of the dataset. line_by_line: each line is a text, a JSON list of messages, or a JSON object (a whole request
    /// body). Others: JSON Lines or one JSON array. A program gets it as RINGMARK_DATASET_PATH. Without it, openqa, longalpaca, sharegpt and share_gpt_*_multi_turn are
    /// downloaded once
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub dataset_path: Option<PathBuf>,
    /// Arguments of the dataset. line_by_line, openqa, longalpaca: target_input_len cuts texts to at most so many tokens;
    /// with "input_len_mode": "drop", shorter ones are skipped. speed_benchmark: lengths, a list of prompt lengths.
    /// random_embedding: batch_size. random_rerank: num_documents, document_length_ratio. A program gets all of them as
    /// RINGMARK_DATASET_ARGS
    #[arg(long, value_name = "JSON", help_heading = HEADING)]
    #[serde(serialize_with = "json_text_or_null")]
    pub dataset_args: Option<String>,
    /// Hub for missing datasets and tokenizers: modelscope, huggingface, or local (no downloads). The caches of the hubs' own
    /// tools are used and filled; there is no fallback to the other hub. Environment: MODELSCOPE_ENDPOINT,
    /// MODELSCOPE_CACHE, MODELSCOPE_API_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE
    #[arg(long, value_name = "HUB", default_value = "modelscope", value_parser = values::data_source(), help_heading = HEADING)]
    pub data_source: DataSource,
    /// sharegpt: request the output length of the recorded conversation, with max_tokens and ignore_eos
    #[arg(long, help_heading = HEADING)]
    pub sharegpt_output_len: bool,
    /// random_vl: width of each picture, pixels [default: 224]
    #[arg(long, value_name = "N", value_parser = values::count::<u16>, help_heading = HEADING)]
    pub image_width: Option<u16>,
    /// random_vl: height of each picture, pixels [default: 224]
    #[arg(long, value_name = "N", value_parser = values::count::<u16>, help_heading = HEADING)]
    pub image_height: Option<u16>,
    /// random_vl: picture format: RGB, RGBA or L (greyscale) as PNG, or JPEG [default: RGB]
    #[arg(long, value_name = "FORMAT", help_heading = HEADING)]
    pub image_format: Option<String>,
    /// random_vl: number of pictures in each request [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub image_num: Option<u32>,
    /// Skip N prompts at the start of the dataset. Each run of a call continues after the prompts planned for the runs
    /// before it
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub dataset_offset: u64,
    /// Determines the lengths, the choices and the schedule of the call; never sent to the server. Every run of the call
    /// draws its own from it [default: --seed, else a fixed number]
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub data_seed: Option<u64>,
    /// Changes the synthetic text and pictures of the random datasets and of traces, so that the server's prefix cache
    /// cannot answer a second call. The same salt and data seed give the same bytes [default: another number in each
    /// call, printed and stored]
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub salt: Option<u64>,
    /// Send multi-turn conversations: each turn includes the previous messages and the model's own responses. Implied by
    /// datasets of conversations. --number and --warmup-num then count conversations, --parallel is the number of
    /// concurrent conversations, --rate is the number started per second. A failed turn ends its conversation
    #[arg(long, help_heading = HEADING)]
    pub multi_turn: bool,
    /// Minimum turns of a conversation; shorter ones in a file are skipped [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub min_turns: Option<u32>,
    /// Maximum turns of a conversation; longer ones in a file are truncated [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub max_turns: Option<u32>,
    /// Pause between a response and the next turn, seconds; two values: drawn uniformly from this range for each turn
    /// [default: 0]
    #[arg(long = "think-time", value_name = "S", num_args = 1..=2, value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "think_time")]
    pub think_time_s: Vec<f64>,
    /// Use one prompt for every request: a text or @FILE; overrides --dataset
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = HEADING)]
    pub prompt: Option<String>,
    /// Template of the request body: JSON or @FILE. In its strings, %m and %p are replaced with the model and the prompt; %p
    /// as the whole content of a message also accepts a list of messages. Beside its fields only model, prompt and flags
    /// that are given are sent, no defaults and no stream_options
    #[arg(long, value_name = "JSON", help_heading = HEADING)]
    #[serde(serialize_with = "json_text_or_null")]
    pub query_template: Option<String>,
    /// Minimum prompt length: tokens with --tokenizer-path, otherwise characters. random: lower end of the drawn lengths
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub min_prompt_length: u64,
    /// Maximum prompt length: tokens with --tokenizer-path, otherwise characters [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count::<u64>, help_heading = HEADING)]
    pub max_prompt_length: Option<u64>,
}

/// Whether the tokenizer's chat template is applied before prompts are counted. Two flags for one option.
#[derive(clap::Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplate {
    /// Count prompt tokens after applying the chat template; on /v1/completions also send the result [default: on chat
    /// endpoints]
    #[arg(long, conflicts_with = "no_apply_chat_template", help_heading = HEADING)]
    pub apply_chat_template: bool,
    /// Count prompt tokens without the chat template
    #[arg(long, help_heading = HEADING)]
    pub no_apply_chat_template: bool,
}

impl ChatTemplate {
    /// The choice; `None` applies the template on chat endpoints only.
    pub fn choice(self) -> Option<bool> {
        match (self.apply_chat_template, self.no_apply_chat_template) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}

impl From<bool> for ChatTemplate {
    fn from(apply: bool) -> ChatTemplate {
        ChatTemplate { apply_chat_template: apply, no_apply_chat_template: !apply }
    }
}

impl Serialize for ChatTemplate {
    /// Serializes one member, `apply_chat_template`: true, false or null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("apply_chat_template", self.choice())])
    }
}

impl DataSpec {
    /// The source of the prompts. Fields of `extra` that belong to the dataset are removed from it.
    pub(super) fn source(
        &self,
        trace: Option<&Arc<Trace>>,
        n_choices: Option<u32>,
        extra: &mut Map<String, Value>,
        notes: &mut Vec<Finding>,
    ) -> Result<Source, PlanError> {
        let name = self.dataset.as_deref();
        if let Some(name) = name.filter(|name| !DATASETS.contains(name) && !is_program(name)) {
            let (given, suggested) = (name.to_string(), names::nearest(name, &DATASETS));
            return Err(PlanError::Unknown { flag: "--dataset", kind: "dataset", given, suggested, known: &DATASETS });
        }
        self.check_belonging()?;
        let own = self.dataset_args()?;
        if let Some(conversations) = self.conversations(n_choices)? {
            return Ok(conversations);
        }
        if let Some(prompt) = &self.prompt {
            if self.dataset.is_some() || self.dataset_path.is_some() || self.dataset_offset > 0 {
                notes.push(Finding::DatasetNotRead);
            }
            let flags = self.flags_of_datasets();
            if !flags.is_empty() {
                notes.push(Finding::FlagsBesidePrompt { flags });
            }
            return prompt_source(prompt);
        }
        let Some(name) = name else {
            return match &self.dataset_path {
                None => Ok(Source::Builtin),
                Some(path) => Err(PlanError::conflict(format!(
                    "--dataset-path needs a dataset that is read from a file: add --dataset line_by_line to read {}",
                    path.display()
                ))),
            };
        };
        if name == TRACE {
            let trace = trace.ok_or(PlanError::conflict("--dataset trace needs a file: add --dataset-path FILE"))?;
            if trace.needs_tokenizer() && self.tokenizer_path.is_none() {
                return Err(PlanError::conflict(
                    "--dataset trace has prompt lengths but no prompts: add --tokenizer-path to generate them",
                ));
            }
            return Ok(Source::Trace(trace.clone()));
        }
        if let Some(source) = self.file_source(name)? {
            return Ok(source);
        }
        if self.dataset_path.is_some() && !is_program(name) {
            return Err(PlanError::conflict(format!("--dataset {name} reads no file: leave --dataset-path out")));
        }
        if !is_program(name) {
            // evalscope's older place of these arguments.
            let of_texts = ["batch_size", "num_documents", "document_length_ratio"];
            extra.extend(
                own.iter().filter(|(name, _)| of_texts.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())),
            );
        }
        let texts = |texts: Result<Texts, String>| texts.map_err(|what| PlanError::value("--extra-args", what));
        Ok(match name {
            "random" => Source::Random(self.random_lengths(name)?),
            "random_embedding" => Source::RandomTexts(self.random_lengths(name)?, texts(Texts::embedding(extra))?),
            "random_rerank" => Source::RandomTexts(self.random_lengths(name)?, texts(Texts::rerank(extra))?),
            "random_vl" => Source::RandomVl(self.random_lengths(name)?, self.pictures()?),
            "speed_benchmark" | "speed_benchmark_long" => Source::Speed { lengths: self.speed_lengths(name, &own)? },
            "builtin" => Source::Builtin,
            program => Source::Program(PathBuf::from(program)),
        })
    }

    /// Size, format and number of the pictures of `random_vl`.
    fn pictures(&self) -> Result<Pictures, PlanError> {
        const SIDE: u16 = 224;
        let (width, height) = (self.image_width.unwrap_or(SIDE), self.image_height.unwrap_or(SIDE));
        for (flag, side) in [("--image-width", width), ("--image-height", height)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(PlanError::value(flag, format!("must be from 1 to {MAX_SIDE}, not {side}")));
            }
        }
        let count = self.image_num.unwrap_or(1);
        if !(1..=MAX_PICTURES).contains(&count) {
            return Err(PlanError::value("--image-num", format!("must be from 1 to {MAX_PICTURES}, not {count}")));
        }
        let format = Format::scan(self.image_format.as_deref().unwrap_or("RGB"));
        let format = format.map_err(|what| PlanError::value("--image-format", what))?;
        Ok(Pictures { width, height, format, count })
    }

    /// The source of a dataset that is read from a file; `None` for other datasets.
    fn file_source(&self, name: &str) -> Result<Option<Source>, PlanError> {
        let make: fn(&DataSpec, PathBuf) -> Source = match name {
            "line_by_line" => |_, path| Source::LineByLine(path),
            "openqa" => |_, path| Source::File(path, Shape::OpenQa),
            "longalpaca" => |_, path| Source::File(path, Shape::LongAlpaca),
            "embedding" => |_, path| Source::File(path, Shape::Embedding),
            "rerank" => |_, path| Source::File(path, Shape::Rerank),
            "sharegpt" => |data, path| Source::ShareGpt { path, output_len: data.sharegpt_output_len },
            _ => return Ok(None),
        };
        if name == "sharegpt" && self.tokenizer_path.is_none() {
            return Err(PlanError::conflict("--dataset sharegpt filters prompts by token count: add --tokenizer-path"));
        }
        let Some(path) = &self.dataset_path else {
            return Err(PlanError::conflict(format!(
                "--dataset {name} needs its file: add --dataset-path FILE{}",
                origin(name)
            )));
        };
        Ok(Some(make(self, path.clone())))
    }

    /// The source of a dataset of conversations; `None` for other datasets.
    fn conversations(&self, n_choices: Option<u32>) -> Result<Option<Source>, PlanError> {
        let asked = self.dataset.as_deref().filter(|_| self.prompt.is_none());
        let Some(name) = asked.filter(|name| CONVERSATIONS.contains(name)) else {
            return self.refuse_turns().map(|()| None);
        };
        if self.tokenize_prompt {
            return Err(PlanError::conflict(
                "--tokenize-prompt cannot send conversations, which are messages: remove --tokenize-prompt",
            ));
        }
        if n_choices.is_some_and(|choices| choices > 1) {
            return Err(PlanError::conflict(
                "--n-choices does not apply to conversations, which continue from one response: remove it",
            ));
        }
        let path = || {
            let hint =
                if name == "custom_multi_turn" { "each line a list of messages" } else { "ShareGPT conversations" };
            let missing = format!("--dataset {name} needs its file: add --dataset-path FILE ({hint})");
            self.dataset_path.clone().ok_or(PlanError::conflict(missing))
        };
        let data = match name {
            "random_multi_turn" if self.dataset_path.is_some() => {
                return Err(PlanError::conflict(format!("--dataset {name} reads no file: leave --dataset-path out")));
            }
            "random_multi_turn" if self.max_turns.is_none() => {
                return Err(PlanError::conflict(format!(
                    "--dataset {name} draws the number of turns: add --max-turns (and --min-turns)"
                )));
            }
            "random_multi_turn" => TurnData::Random(self.random_lengths(name)?),
            "custom_multi_turn" => TurnData::Custom(path()?),
            _ => TurnData::ShareGpt(path()?),
        };
        let (min_turns, max_turns) = self.turns()?;
        Ok(Some(Source::MultiTurn(MultiTurn { data, min_turns, max_turns, think_us: think_us(&self.think_time_s)? })))
    }

    /// The flags of conversations, and whether they are given.
    fn flags_of_turns(&self) -> [(bool, &'static str); 4] {
        [
            (self.multi_turn, "--multi-turn"),
            (self.min_turns.is_some(), "--min-turns"),
            (self.max_turns.is_some(), "--max-turns"),
            (!self.think_time_s.is_empty(), "--think-time"),
        ]
    }

    /// The flags of images, and whether they are given.
    fn flags_of_images(&self) -> [(bool, &'static str); 4] {
        [
            (self.image_width.is_some(), "--image-width"),
            (self.image_height.is_some(), "--image-height"),
            (self.image_format.is_some(), "--image-format"),
            (self.image_num.is_some(), "--image-num"),
        ]
    }

    /// The given flags that only a dataset has a use for.
    fn flags_of_datasets(&self) -> Vec<String> {
        let lengths = [
            (self.prefix_length > 0, "--prefix-length"),
            (self.min_prompt_length > 0, "--min-prompt-length"),
            (self.max_prompt_length.is_some(), "--max-prompt-length"),
            (self.sharegpt_output_len, "--sharegpt-output-len"),
            (self.salt.is_some(), "--salt"),
            (self.dataset_args.is_some(), "--dataset-args"),
        ];
        let all = lengths.into_iter().chain(self.flags_of_images());
        all.filter(|(given, _)| *given).map(|(_, flag)| flag.to_string()).collect()
    }

    /// Rejects flags of conversations if the dataset has none.
    fn refuse_turns(&self) -> Result<(), PlanError> {
        match self.flags_of_turns().into_iter().find(|(given, _)| *given) {
            Some((_, flag)) => Err(PlanError::conflict(format!(
                "{flag} applies to conversations: add --dataset random_multi_turn, share_gpt_multi_turn or custom_multi_turn"
            ))),
            None => Ok(()),
        }
    }

    /// Minimum and maximum turns of a conversation.
    fn turns(&self) -> Result<(u32, u32), PlanError> {
        let (min, max) = (self.min_turns.unwrap_or(1), self.max_turns.unwrap_or(MAX_TURNS));
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

    /// Rejects flags that have no effect with the selected dataset.
    fn check_belonging(&self) -> Result<(), PlanError> {
        let dataset = self.dataset.as_deref();
        // Beside --prompt they are ignored, as the dataset is.
        let is_prompt = self.prompt.is_some();
        if self.prefix_length > 0 && !is_prompt && dataset != Some("random") {
            return Err(PlanError::conflict("--prefix-length applies only to --dataset random"));
        }
        if self.prefix_count.is_some() && self.prefix_length == 0 {
            return Err(PlanError::conflict(
                "--prefix-count needs the length of the prefixes: add --prefix-length, with --dataset random",
            ));
        }
        let has_images = is_prompt || dataset == Some("random_vl");
        if let Some((_, flag)) = self.flags_of_images().into_iter().find(|(given, _)| *given && !has_images) {
            return Err(PlanError::conflict(format!("{flag} applies only to --dataset random_vl")));
        }
        if self.sharegpt_output_len && !is_prompt && dataset != Some("sharegpt") {
            return Err(PlanError::conflict("--sharegpt-output-len applies only to --dataset sharegpt"));
        }
        if self.tokenizer_path.is_none() {
            let needing = [
                (self.tokenize_prompt, "--tokenize-prompt"),
                (self.chat_template.choice().is_some(), "--apply-chat-template"),
            ];
            if let Some((_, flag)) = needing.into_iter().find(|(given, _)| *given) {
                return Err(PlanError::conflict(format!("{flag} needs a tokenizer: add --tokenizer-path")));
            }
        }
        Ok(())
    }

    /// Rejects a salt for data without synthetic text.
    pub(super) fn check_salt(&self, source: &Source) -> Result<(), PlanError> {
        // Beside --prompt it is ignored, as the dataset is.
        let has_random_text = match source {
            Source::Trace(trace) => trace.needs_tokenizer(),
            source => source.is_random_text() || self.prompt.is_some(),
        };
        if self.salt.is_some() && !has_random_text {
            return Err(PlanError::conflict(
                "--salt applies only to datasets of random text (random, random_embedding, random_rerank, random_vl, \
                 random_multi_turn, and trace with lengths): remove --salt",
            ));
        }
        Ok(())
    }

    /// The trace without the rows that `--dataset-offset` skips, if the trace is the dataset.
    pub(super) fn after_offset(&self, trace: Arc<Trace>) -> Result<Arc<Trace>, PlanError> {
        if !self.is_trace() || self.dataset_offset == 0 {
            return Ok(trace);
        }
        let (rows, path) = (trace.rows.len(), trace.path.clone());
        Arc::unwrap_or_clone(trace).after(self.dataset_offset).map(Arc::new).ok_or_else(|| {
            let what = format!("{} skips all recorded requests: {} has {rows}", self.dataset_offset, path.display());
            let of_window = "; --trace-window, if given, selects them first";
            PlanError::value("--dataset-offset", what + of_window)
        })
    }

    /// The range of lengths of random texts.
    fn random_lengths(&self, name: &str) -> Result<RandomLengths, PlanError> {
        if self.tokenizer_path.is_none() {
            return Err(PlanError::conflict(format!(
                "--dataset {name} generates prompts with exact token counts: add --tokenizer-path"
            )));
        }
        let Some(max) = self.max_prompt_length else {
            return Err(PlanError::conflict(format!(
                "--dataset {name} needs a prompt length in tokens: add --max-prompt-length (and --min-prompt-length)"
            )));
        };
        let least = if self.prefix_length > 0 { 0 } else { 1 };
        for (flag, value) in [("--max-prompt-length", max), ("--prefix-length", self.prefix_length)] {
            if value > MAX_RANDOM_TOKENS {
                return Err(PlanError::value(
                    flag,
                    format!("of random prompts must be at most {MAX_RANDOM_TOKENS}, not {value}"),
                ));
            }
        }
        let prefixes = self.prefix_count.unwrap_or(1);
        if u64::from(prefixes) * self.prefix_length > MAX_PREFIX_TOKENS {
            return Err(PlanError::value(
                "--prefix-count",
                format!("of {prefixes} prefixes must have at most {MAX_PREFIX_TOKENS} tokens in all"),
            ));
        }
        Ok(RandomLengths {
            min: self.min_prompt_length.max(least).min(max) as u32,
            max: max as u32,
            prefix: self.prefix_length as u32,
            prefixes,
        })
    }

    /// The accepted prompt lengths; no limits for datasets that generate their lengths, and for `--prompt`.
    pub(super) fn lengths(&self) -> Result<Lengths, PlanError> {
        if let Some(max) = self.max_prompt_length.filter(|max| *max < self.min_prompt_length) {
            return Err(PlanError::conflict(format!(
                "--min-prompt-length {} is above --max-prompt-length {max}",
                self.min_prompt_length
            )));
        }
        let made = self.dataset.as_deref().is_some_and(|name| MADE.contains(&name));
        if made || self.prompt.is_some() {
            Ok(Lengths::default())
        } else {
            Ok(Lengths { min: self.min_prompt_length, max: self.max_prompt_length })
        }
    }

    /// How the tokenizer is used; `None` without `--tokenizer-path`.
    pub(super) fn tokens(&self) -> Result<Option<TokenUse>, PlanError> {
        match self.tokenizer_path.as_deref() {
            None => Ok(None),
            Some(path) if path.trim().is_empty() => {
                Err(PlanError::value("--tokenizer-path", "is empty; give a folder with tokenizer.json, or that file"))
            }
            Some(path) => Ok(Some(TokenUse {
                tokenizer: path.to_string(),
                template: self.chat_template.choice(),
                ids: self.tokenize_prompt,
            })),
        }
    }

    /// The default number of requests of a run without recorded times.
    pub(super) fn default_number(&self) -> u64 {
        match self.dataset.as_deref().filter(|_| self.prompt.is_none()) {
            Some(name @ ("speed_benchmark" | "speed_benchmark_long")) => {
                // Errors are reported where the source is made.
                let own = self.dataset_args().unwrap_or_default();
                speed_benchmark::size(self.speed_lengths(name, &own).unwrap_or_default().len())
            }
            _ => DEFAULT_NUMBER,
        }
    }

    /// The parsed `--dataset-args`; none beside `--prompt`.
    fn dataset_args(&self) -> Result<DatasetArgs, PlanError> {
        let text = self.dataset_args.as_deref().filter(|_| self.prompt.is_none());
        dataset_args::parse(text, self.dataset.as_deref())
    }

    /// The lengths of the speed benchmark: those of `--dataset-args`, else evalscope's.
    fn speed_lengths(&self, name: &str, own: &DatasetArgs) -> Result<Vec<usize>, PlanError> {
        let usual = match name {
            "speed_benchmark_long" => &speed_benchmark::LONG_LENGTHS[..],
            _ => &speed_benchmark::LENGTHS[..],
        };
        Ok(dataset_args::lengths(own)?.unwrap_or_else(|| usual.to_vec()))
    }

    /// The length that the texts of a file are cut to.
    pub(super) fn fit(&self) -> Result<Option<Fit>, PlanError> {
        if self.dataset.as_deref().is_some_and(is_program) {
            return Ok(None);
        }
        let has_limits = self.min_prompt_length > 0 || self.max_prompt_length.is_some();
        dataset_args::fit(&self.dataset_args()?, self.tokenizer_path.is_some(), has_limits)
    }

    /// Whether the dataset is a trace, whose arrival times are the schedule.
    pub(super) fn is_trace(&self) -> bool {
        self.prompt.is_none() && self.dataset.as_deref() == Some(TRACE)
    }

    /// Whether the minimum output length defaults to the maximum, as evalscope's speed tests require.
    pub(super) fn wants_full_answers(&self) -> bool {
        let name = self.dataset.as_deref().filter(|_| self.prompt.is_none());
        matches!(name, Some("speed_benchmark" | "speed_benchmark_long"))
    }

    /// Redirects a chat endpoint to `/v1/completions`, with a finding, if the prompts require that endpoint.
    pub(super) fn redirect(&self, found: &mut Endpoint) {
        const CHAT: &str = "/chat/completions";
        let note: fn(String, String) -> Finding = match self.dataset {
            _ if self.tokenize_prompt => |_, url| Finding::TokenIdsRedirected { url },
            Some(_) if self.wants_full_answers() => |dataset, url| Finding::BarePromptsRedirected { dataset, url },
            _ => return,
        };
        if found.dialect != Dialect::Chat {
            return;
        }
        found.target.path = found.target.path.replacen(CHAT, "/completions", 1);
        found.target.url = found.target.url.replacen(CHAT, "/completions", 1);
        found.dialect = Dialect::Completions;
        found.notes.push(note(self.dataset.clone().unwrap_or_default(), found.target.url.clone()));
    }
}

/// The name of a dataset's original file, for error messages.
fn origin(name: &str) -> &'static str {
    match name {
        "openqa" => " (open_qa.jsonl of HC3-Chinese)",
        "longalpaca" => " (LongAlpaca-12k.json)",
        "sharegpt" => " (ShareGPT_V3_unfiltered_cleaned_split.json)",
        _ => "",
    }
}

fn prompt_source(prompt: &str) -> Result<Source, PlanError> {
    match prompt.strip_prefix('@') {
        Some("") => Err(PlanError::value("--prompt", "@ must be followed by a file name, for example @prompt.txt")),
        Some(file) => Ok(Source::PromptFile(PathBuf::from(file))),
        None if prompt.is_empty() => Err(PlanError::value("--prompt", "is empty; give a text or @FILE")),
        None => Ok(Source::Prompt(prompt.to_string())),
    }
}

/// Rejects conversations if the dialect does not accept messages.
pub(super) fn check_dialect(source: &Source, dialect: Dialect) -> Result<(), PlanError> {
    if matches!(source, Source::MultiTurn(_)) && !dialect.takes_conversations() {
        return Err(PlanError::conflict("conversations need an API that accepts messages: use /v1/chat/completions"));
    }
    Ok(())
}

/// Minimum and maximum pause in microseconds, from no value, one value, or a range.
fn think_us(seconds: &[f64]) -> Result<(u32, u32), PlanError> {
    const FLAG: &str = "--think-time";
    if let Some(wrong) = seconds.iter().find(|s| **s > MAX_THINK_S) {
        return Err(PlanError::value(FLAG, format!("must be at most {MAX_THINK_S} seconds, not {wrong}")));
    }
    let us = |seconds: f64| Ok((seconds_ns(FLAG, seconds, true)? / 1000) as u32);
    match *seconds {
        [] => Ok((0, 0)),
        [pause] => us(pause).map(|pause| (pause, pause)),
        [low, high] if low > high => {
            Err(PlanError::value(FLAG, format!("must be a range MIN MAX, but {low} is above {high}")))
        }
        [low, high] => Ok((us(low)?, us(high)?)),
        _ => Err(PlanError::value(FLAG, format!("takes one value or a range MIN MAX, not {} values", seconds.len()))),
    }
}
