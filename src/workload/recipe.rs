//! The inputs that determine the requests of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::context::Lengths;
use super::files::Shape;
use super::fit::Fit;
use super::headers::Header;
use super::multi_turn::{MultiTurn, TurnData};
use super::random_text::RandomLengths;
use super::random_texts::Texts;
use super::random_vl::Pictures;
use super::rng::Randomness;
use super::tokens::TokenUse;
use super::trace::{RecordedRequest, Trace};
use crate::api::request_body::Options;
use crate::api::sampling_params::MaxTokens;

/// The inputs that determine the requests of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub source: Source,
    pub lengths: Lengths,
    /// The length that the texts of a file are cut to.
    pub fit: Option<Fit>,
    /// The tokenizer and its use, if one is given.
    pub tokens: Option<TokenUse>,
    /// Prompts to skip at the start of the data. Generated prompts are numbered from here on.
    pub offset: u64,
    /// How many of these `--dataset-offset` skips, so that they are not used when the data starts again either; the
    /// others are those of earlier runs of the call.
    pub skipped: u64,
    /// Prompts that measured requests and the warm-up can use at most; `None` if only its duration ends the run. Files
    /// are read beyond this by what the connection test and the witness need.
    pub needed: Option<u64>,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// Prompts for the witness; 0 without one.
    pub witness: u64,
    /// Whether one request is sent before the run.
    pub tests_connection: bool,
    pub options: Options,
    /// Headers given by the user.
    pub headers: Vec<Header>,
    pub randomness: Randomness,
    /// Prefix of the `X-Request-Id` header; see [`super::requests::Workload::id_prefix`].
    pub id_prefix: String,
    /// What classes get as arguments of the call: the names of all flags, with underscores, and their values, with null for
    /// those that are not given. Empty if neither the dataset nor the API is a program.
    pub plugin_arguments: Arc<Map<String, Json>>,
}

impl Recipe {
    /// Whether requests can be built while the run lasts, and have to because only its duration ends it.
    pub(crate) fn is_streamed(&self) -> bool {
        let can = self.source.is_generated() || matches!(self.source, Source::Program(_) | Source::ShareGpt { .. });
        self.needed.is_none() && can
    }
}

impl Recipe {
    /// Whether prompts are generated and share nothing on purpose: no prefix, no history, no recorded sharing.
    pub(crate) fn has_distinct_prompts(&self) -> bool {
        match &self.source {
            Source::Random(lengths) | Source::RandomTexts(lengths, _) | Source::RandomVl(lengths, _) => {
                lengths.prefix == 0
            }
            // Without block ids, each text is generated on its own.
            Source::Trace(trace) => trace
                .rows
                .iter()
                .all(|row| matches!(&row.request, RecordedRequest::Lengths { blocks, .. } if blocks.is_empty())),
            _ => false,
        }
    }

    /// Whether requests ask with `ignore_eos` for answers of full length.
    pub(crate) fn ignores_eos(&self) -> bool {
        let asked = self.field("ignore_eos").map_or(self.sets_each_length(), |value| value == &Json::Bool(true));
        asked && self.options.dialect.streams()
    }

    /// The shortest answer that a request asks for with `ignore_eos`, tokens; `None` if it is not the same for all, and
    /// for several choices.
    pub(crate) fn full_answer_tokens(&self) -> Option<u32> {
        let sampling = &self.options.sampling;
        if !self.ignores_eos() || self.sets_each_length() || sampling.n_choices.unwrap_or(1) > 1 {
            return None;
        }
        let given = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| self.field(name));
        match (given, sampling.max_tokens?) {
            (Some(limit), _) => limit.as_u64().and_then(|limit| u32::try_from(limit).ok()),
            (None, MaxTokens::Fixed(limit)) => Some(limit),
            (None, MaxTokens::Drawn { low, .. }) => Some(low),
        }
    }

    /// Whether each row of the data sets the length of its answer.
    fn sets_each_length(&self) -> bool {
        matches!(self.source, Source::Trace(_) | Source::ShareGpt { output_len: true, .. })
    }

    /// A field that the user gave for every body.
    fn field(&self, name: &str) -> Option<&Json> {
        let of_template = || self.options.template.as_ref().and_then(|template| template.get(name));
        self.options.extra.get(name).or_else(of_template)
    }
}

/// The source of the prompts.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `--prompt TEXT`
    Prompt(String),
    /// `--prompt @FILE`: the whole file is one prompt.
    PromptFile(PathBuf),
    /// The built-in questions.
    Builtin,
    /// One prompt per line: text, a JSON list of messages, or a JSON object that is a whole request body.
    LineByLine(PathBuf),
    /// Random text of exact lengths.
    Random(RandomLengths),
    /// Random texts for embedding or ranking.
    RandomTexts(RandomLengths, Texts),
    /// Random text with images.
    RandomVl(RandomLengths, Pictures),
    /// One field of each entry of a file.
    File(PathBuf, Shape),
    /// A sample of conversations. With `output_len` each answer gets the length of the answer in the data.
    ShareGpt { path: PathBuf, output_len: bool },
    /// The prompt lengths of a speed benchmark, tokens.
    Speed { lengths: Vec<usize> },
    /// Conversations of several turns.
    MultiTurn(MultiTurn),
    /// Recorded requests.
    Trace(Arc<Trace>),
    /// The output of a program.
    Program(PathBuf),
}

impl Source {
    /// Whether requests are turns of conversations of several turns.
    pub(crate) fn is_conversations(&self) -> bool {
        matches!(self, Source::MultiTurn(_))
    }

    /// The file whose line numbers the prompts carry, for error messages.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::PromptFile(path) | Source::LineByLine(path) | Source::File(path, _) => Some(path),
            Source::Program(path) => Some(path),
            Source::MultiTurn(asked) => asked.data.path(),
            Source::Trace(trace) => Some(&trace.path),
            _ => None,
        }
    }

    /// Whether prompts are generated, so that there are as many different ones as a run needs.
    pub(crate) fn is_generated(&self) -> bool {
        self.is_random_text() && !matches!(self, Source::Trace(_))
    }

    /// Whether its prompts repeat by design.
    pub(crate) fn repeats_by_design(&self) -> bool {
        matches!(self, Source::Prompt(_) | Source::PromptFile(_) | Source::Speed { .. })
    }

    /// Whether the text of prompts is generated from the vocabulary of the tokenizer.
    pub(crate) fn is_random_text(&self) -> bool {
        match self {
            Source::Random(_) | Source::RandomTexts(..) | Source::RandomVl(..) | Source::Trace(_) => true,
            Source::MultiTurn(asked) => matches!(asked.data, TurnData::Random(_)),
            _ => false,
        }
    }
}
