//! The requests of a run: request `i` is a pure function of the seed and `i`, and its bytes are ready before the clock
//! starts.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::Dialect;
use crate::api::render::{self, Body, MaxTokens, Options, Prompt};
use crate::finding::Finding;
use crate::record::Phase;

pub mod api_program;
pub mod arrivals;
mod builtin;
mod chat_template;
pub mod child;
pub mod conversation;
pub mod draw;
pub mod files;
pub mod head;
mod line_by_line;
pub mod making;
pub mod multi_turn;
pub mod parallel;
mod program;
mod prompt;
pub mod random;
pub mod random_texts;
pub mod random_vl;
mod read;
mod share_gpt;
pub mod speed;
pub mod tokenizer;
pub mod tokens;
pub mod trace;
mod words;

use conversation::{Conversations, Gap};
use draw::Purpose;
use files::Shape;
use head::Header;
use making::Making;
use multi_turn::{MultiTurn, TurnData};
use random::RandomLengths;
use random_texts::Texts;
use random_vl::Pictures;
use read::Item;
use tokenizer::Tokenizer;
use tokens::{TokenUse, Tokens};
use trace::Trace;

/// The longest output the connection test asks for: enough for a first token from any model, soon over.
const PREFLIGHT_MAX_TOKENS: u32 = 16;

/// Words of random text worth remembering: more than any vocabulary makes.
const RANDOM_WORDS: usize = 1 << 18;

/// Everything that decides the requests of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub source: Source,
    pub lengths: Lengths,
    /// The tokenizer and what it is used for, where one is given.
    pub tokens: Option<TokenUse>,
    /// Prompts of the data to leave out at its start.
    pub offset: u64,
    /// Prompts the run can use at most, warm-up included; `None` when only its duration ends it. Files are not read
    /// further than this.
    pub needed: Option<u64>,
    pub options: Options,
    /// Headers given by the user.
    pub headers: Vec<Header>,
    pub seed: u64,
    /// See [`Workload::id_prefix`].
    pub id_prefix: String,
}

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `--prompt TEXT`
    Prompt(String),
    /// `--prompt @FILE`: the whole file is one prompt.
    PromptFile(PathBuf),
    /// Our own questions.
    Builtin,
    /// One prompt a line: text, a JSON list of messages, or a JSON object that is a whole body.
    LineByLine(PathBuf),
    /// Random text of exact lengths.
    Random(RandomLengths),
    /// Random texts for embedding or ranking.
    RandomTexts(RandomLengths, Texts),
    /// Random text with pictures.
    RandomVl(RandomLengths, Pictures),
    /// One field of each entry of a file.
    File(PathBuf, Shape),
    /// A sample of conversations; with `output_len` each answer is made as long as the conversation's was.
    ShareGpt { path: PathBuf, output_len: bool },
    /// The lengths of Qwen's speed tables; `long`: the longest of them.
    Speed { long: bool },
    /// Conversations of several turns.
    MultiTurn(MultiTurn),
    /// Recorded requests.
    Trace(Arc<Trace>),
    /// What a program prints.
    Program(PathBuf),
}

impl Source {
    /// Whether requests are turns of conversations.
    pub fn is_conversations(&self) -> bool {
        matches!(self, Source::MultiTurn(_))
    }

    /// The file whose lines can be wrong.
    fn path(&self) -> Option<&Path> {
        match self {
            Source::PromptFile(path) | Source::LineByLine(path) | Source::File(path, _) => Some(path),
            Source::Program(path) => Some(path),
            Source::Prompt(_) | Source::Builtin | Source::Random(_) | Source::RandomTexts(..) => None,
            Source::RandomVl(..) => None,
            Source::ShareGpt { .. } | Source::Speed { .. } => None,
            Source::MultiTurn(asked) => asked.data.path(),
            Source::Trace(trace) => Some(&trace.path),
        }
    }
}

/// Prompt lengths kept, both ends included: tokens with a tokenizer, else characters. Whole bodies are not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    pub min: u64,
    pub max: Option<u64>,
}

impl Lengths {
    /// Whether a prompt of this length is kept.
    pub fn holds(self, length: u64) -> bool {
        length >= self.min && self.max.is_none_or(|max| length <= max)
    }
}

/// Why there are no requests to send. Each text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("{flag}: cannot read {}: {cause}", path.display())]
    Unreadable { flag: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{flag}: {} is empty; it needs at least one prompt", path.display())]
    Empty { flag: &'static str, path: PathBuf },
    #[error("{}, line {line}: {what}", path.display())]
    Line { path: PathBuf, line: u64, what: String },
    #[error("{flag}: {} {what}", path.display())]
    File { flag: &'static str, path: PathBuf, what: String },
    #[error("{0}")]
    Data(String),
    #[error(
        "none of the {read} prompts has a length between --min-prompt-length {min} and --max-prompt-length {max} \
         {unit}; the shortest has {shortest}, the longest {longest}"
    )]
    NothingLeft { read: u64, min: u64, max: String, shortest: u64, longest: u64, unit: &'static str },
}

/// Every request of a run, rendered. Memory grows with the distinct bytes only: `--number` past the data cycles.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Request line and constant headers, up to but without the last ones, which differ by request.
    pub head: Vec<u8>,
    /// Distinct bodies. Measured requests take them from the first on, warm-up requests from the last one backwards,
    /// so that the measured requests do not depend on the warm-up and meet no cache that it filled for them.
    pub bodies: Vec<Body>,
    /// Where requests are turns of conversations, these stand in the place of the bodies, of which there are none.
    pub conversations: Option<Conversations>,
    /// The body of the connection test.
    pub preflight: Body,
    /// Range from which a `max_tokens` left open in a body is drawn.
    pub max_tokens: (u32, u32),
    pub seed: u64,
    /// Prefix of the `X-Request-Id` header, which is `<id_prefix>-<phase letter><index>`. Empty: no such header,
    /// because the user gave one.
    pub id_prefix: String,
    /// What the reader of the figures should know about how the prompts were made.
    pub notes: Vec<Finding>,
}

/// Which turn is to be written.
#[derive(Clone, Copy, Debug)]
pub struct TurnOf<'a> {
    pub conversations: &'a Conversations,
    /// Of the conversation.
    pub number: u64,
    /// Of the request.
    pub index: u64,
}

impl Workload {
    /// A workload of given bytes, as tests and calibrations use it. `bodies` must not be empty.
    pub fn fixed(head: Vec<u8>, bodies: Vec<Box<[u8]>>, id_prefix: &str) -> Workload {
        let bodies: Vec<Body> = bodies.into_iter().map(|bytes| Body { bytes, max_tokens_at: None }).collect();
        let preflight = bodies[0].clone();
        let id_prefix = id_prefix.to_string();
        Workload {
            head,
            bodies,
            conversations: None,
            preflight,
            max_tokens: (0, 0),
            seed: 0,
            id_prefix,
            notes: Vec::new(),
        }
    }

    /// Reads the data and renders every request of it, for a server at `authority` (the `Host` header) and `path`.
    pub fn build(recipe: &Recipe, authority: &str, path: &str) -> Result<Workload, WorkloadError> {
        Workload::build_watched(recipe, authority, path, &Making::default())
    }

    /// [`Workload::build`], which may take a while: `making` says how far it is.
    pub fn build_watched(
        recipe: &Recipe,
        authority: &str,
        path: &str,
        making: &Making,
    ) -> Result<Workload, WorkloadError> {
        let tokens = recipe.tokens.as_ref().map(|asked| open_tokens(asked, recipe)).transpose()?;
        let read::Found { items, notes } = read::read(recipe, tokens.as_ref(), making)?;
        let (bodies, conversations, preflight) = render_all(recipe, items, making)?;
        let max_tokens = match recipe.options.sampling.max_tokens {
            Some(MaxTokens::Drawn { low, high }) => (low, high),
            _ => (0, 0),
        };
        Ok(Workload {
            head: head::write(recipe, authority, path),
            bodies,
            conversations,
            preflight,
            max_tokens,
            seed: recipe.seed,
            id_prefix: if head::names_request_id(&recipe.headers) { String::new() } else { recipe.id_prefix.clone() },
            notes,
        })
    }

    /// Requests that `number` of what `--number` counts come to: as many, or every turn of so many conversations.
    pub fn requests_of(&self, phase: Phase, number: u64) -> u64 {
        match &self.conversations {
            Some(conversations) => conversations.requests_before(phase, number),
            None => number,
        }
    }

    /// The JSON body of request `index`; empty for a turn of a conversation, which is known only when it is sent.
    pub fn body(&self, phase: Phase, index: u64) -> Cow<'_, [u8]> {
        if self.conversations.is_some() && phase != Phase::Preflight {
            return Cow::Borrowed(&[]);
        }
        let body = self.template(phase, index);
        match body.max_tokens_at {
            None => Cow::Borrowed(&body.bytes),
            Some(at) => {
                let (before, after) = body.bytes.split_at(at as usize);
                let limit = self.max_tokens_of(phase, index).to_string();
                Cow::Owned([before, limit.as_bytes(), after].concat())
            }
        }
    }

    /// Appends the whole HTTP/1.1 request `index` of `phase`, no turn of a conversation, to `out`.
    pub fn write_request(&self, phase: Phase, index: u64, out: &mut Vec<u8>) {
        let body = self.template(phase, index);
        match body.max_tokens_at {
            None => self.write_parts(phase, index, [&body.bytes], out),
            Some(at) => {
                let (before, after) = body.bytes.split_at(at as usize);
                let limit = self.max_tokens_of(phase, index).to_string();
                self.write_parts(phase, index, [before, limit.as_bytes(), after], out)
            }
        };
    }

    /// Appends request `index`, a turn of a conversation, to `out`, and says where in it the body begins. `history` are
    /// the messages so far, this turn's at the end, as JSON between commas.
    pub fn write_turn(&self, phase: Phase, turn: TurnOf<'_>, history: &[u8], out: &mut Vec<u8>) -> usize {
        let TurnOf { conversations, number, index } = turn;
        let frame = conversations.frame(phase, number);
        let (before, after) = (&frame.before[..], &frame.after[..]);
        let limit = self.max_tokens_of(phase, index).to_string();
        let limit = limit.as_bytes();
        match frame.max_tokens_at {
            None => self.write_parts(phase, index, [before, history, after], out),
            Some(Gap::Before(at)) => {
                self.write_parts(phase, index, [&before[..at], limit, &before[at..], history, after], out)
            }
            Some(Gap::After(at)) => {
                self.write_parts(phase, index, [before, history, &after[..at], limit, &after[at..]], out)
            }
        }
    }

    /// Appends a request with a body of these parts, and says where the body begins.
    fn write_parts<const N: usize>(&self, phase: Phase, index: u64, parts: [&[u8]; N], out: &mut Vec<u8>) -> usize {
        const VEC: &str = "writing to a Vec cannot fail";
        out.extend_from_slice(&self.head);
        if !self.id_prefix.is_empty() {
            write!(out, "X-Request-Id: {}-{}{index}\r\n", self.id_prefix, letter(phase)).expect(VEC);
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        write!(out, "Content-Length: {length}\r\n\r\n").expect(VEC);
        let start = out.len();
        parts.iter().for_each(|part| out.extend_from_slice(part));
        start
    }

    fn template(&self, phase: Phase, index: u64) -> &Body {
        let count = self.bodies.len() as u64;
        let place = match phase {
            Phase::Preflight => return &self.preflight,
            // From the end: the prompts that the measured requests come to last, so that no cache of theirs helps.
            Phase::Warmup | Phase::Witness => count - 1 - index % count,
            Phase::Measured => index % count,
        };
        &self.bodies[place as usize]
    }

    fn max_tokens_of(&self, phase: Phase, index: u64) -> u32 {
        let (low, high) = self.max_tokens;
        // Warm-up draws stand apart from the measured ones, so that neither moves the other.
        let seed = if phase == Phase::Measured { self.seed } else { !self.seed };
        draw::uniform_at(seed, Purpose::MaxTokens, index, low, high)
    }
}

fn letter(phase: Phase) -> char {
    match phase {
        Phase::Preflight => 'p',
        Phase::Warmup => 'w',
        Phase::Measured => 'm',
        Phase::Witness => 'x',
    }
}

/// The options of the connection test: the run's own, with a short answer.
fn preflight_options(options: &Options) -> Options {
    let mut short = options.clone();
    let limit = match options.sampling.max_tokens {
        Some(MaxTokens::Fixed(limit)) | Some(MaxTokens::Drawn { high: limit, .. }) => limit,
        None => PREFLIGHT_MAX_TOKENS,
    };
    let limit = limit.min(PREFLIGHT_MAX_TOKENS);
    short.sampling.max_tokens = Some(MaxTokens::Fixed(limit));
    short.sampling.min_tokens = options.sampling.min_tokens.map(|least| least.min(limit));
    short
}

fn open_tokens(asked: &TokenUse, recipe: &Recipe) -> Result<Tokens, WorkloadError> {
    let mut tokenizer = Tokenizer::open(Path::new(&asked.tokenizer))?;
    let makes_text = match &recipe.source {
        Source::Random(_) | Source::RandomTexts(..) | Source::RandomVl(..) | Source::Trace(_) => true,
        Source::MultiTurn(asked) => matches!(asked.data, TurnData::Random(_)),
        _ => false,
    };
    if makes_text {
        tokenizer.remember_words(RANDOM_WORDS);
    }
    Tokens::new(asked, tokenizer, recipe.options.dialect)
}

/// The bodies of all prompts, and that of the connection test, which asks what the last one asks.
fn render_all(
    recipe: &Recipe,
    items: Vec<Item>,
    making: &Making,
) -> Result<(Vec<Body>, Option<Conversations>, Body), WorkloadError> {
    if let Dialect::Program(program) = recipe.options.dialect {
        let mut bodies = api_program::bodies(program, recipe, &items, making)?;
        let preflight = bodies.pop().expect("the last body is that of the connection test");
        return Ok((bodies, None, preflight));
    }
    let last = items.last().expect("read gives at least one prompt").clone();
    let (bodies, conversations) = match &recipe.source {
        Source::MultiTurn(asked) => (Vec::new(), Some(Conversations::render(&items, asked.think_us, recipe)?)),
        // Each prompt goes as its bytes come, so that the two never stand in memory together.
        _ => {
            let bodies = items.into_iter().map(|item| render_item(&recipe.options, &item, recipe));
            (bodies.collect::<Result<Vec<Body>, WorkloadError>>()?, None)
        }
    };
    let prompt = last.turns.first().cloned().map_or(last.prompt.clone(), Prompt::Messages);
    let preflight =
        render_item(&preflight_options(&recipe.options), &Item { output_tokens: None, prompt, ..last }, recipe)?;
    Ok((bodies, conversations, preflight))
}

/// The body of one prompt.
fn render_item(options: &Options, item: &Item, recipe: &Recipe) -> Result<Body, WorkloadError> {
    render::body(&item_options(options, item), &item.prompt).map_err(|what| item.error(recipe, what))
}

/// The options of one prompt, which may say itself how long its answer is to be.
fn item_options<'a>(options: &'a Options, item: &Item) -> Cow<'a, Options> {
    item.output_tokens.map_or(Cow::Borrowed(options), |count| Cow::Owned(exact_output(options, count)))
}

/// Options that make the answer `count` tokens long.
fn exact_output(options: &Options, count: u32) -> Options {
    let mut exact = options.clone();
    exact.sampling.max_tokens = Some(MaxTokens::Fixed(count));
    exact.sampling.min_tokens = None;
    exact.extra.entry("ignore_eos").or_insert(true.into());
    exact
}
