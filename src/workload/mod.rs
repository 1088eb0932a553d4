//! The requests of a run: request `i` is a pure function of the seed and `i`, and its bytes are ready before the clock
//! starts.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::Dialect;
use crate::api::render::{self, Body, MaxTokens, Options};
use crate::record::Phase;

pub mod api_program;
pub mod arrivals;
mod builtin;
mod chat_template;
pub mod child;
pub mod draw;
pub mod files;
pub mod head;
mod line_by_line;
pub mod making;
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

use draw::Purpose;
use files::Shape;
use head::Header;
use making::Making;
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
    /// Recorded requests.
    Trace(Arc<Trace>),
    /// What a program prints.
    Program(PathBuf),
}

impl Source {
    /// The file whose lines can be wrong.
    fn path(&self) -> Option<&Path> {
        match self {
            Source::PromptFile(path) | Source::LineByLine(path) | Source::File(path, _) => Some(path),
            Source::Program(path) => Some(path),
            Source::Prompt(_) | Source::Builtin | Source::Random(_) | Source::RandomTexts(..) => None,
            Source::RandomVl(..) => None,
            Source::ShareGpt { .. } | Source::Speed { .. } => None,
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
    /// The body of the connection test.
    pub preflight: Body,
    /// Range from which a `max_tokens` left open in a body is drawn.
    pub max_tokens: (u32, u32),
    pub seed: u64,
    /// Prefix of the `X-Request-Id` header, which is `<id_prefix>-<phase letter><index>`. Empty: no such header,
    /// because the user gave one.
    pub id_prefix: String,
    /// What the reader of the figures should know about how the prompts were made.
    pub notes: Vec<String>,
}

impl Workload {
    /// A workload of given bytes, as tests and calibrations use it. `bodies` must not be empty.
    pub fn fixed(head: Vec<u8>, bodies: Vec<Box<[u8]>>, id_prefix: &str) -> Workload {
        let bodies: Vec<Body> = bodies.into_iter().map(|bytes| Body { bytes, max_tokens_at: None }).collect();
        let preflight = bodies[0].clone();
        let id_prefix = id_prefix.to_string();
        Workload { head, bodies, preflight, max_tokens: (0, 0), seed: 0, id_prefix, notes: Vec::new() }
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
        let (bodies, preflight) = render_all(recipe, items, making)?;
        let max_tokens = match recipe.options.sampling.max_tokens {
            Some(MaxTokens::Drawn { low, high }) => (low, high),
            _ => (0, 0),
        };
        Ok(Workload {
            head: head::write(recipe, authority, path),
            bodies,
            preflight,
            max_tokens,
            seed: recipe.seed,
            id_prefix: if head::names_request_id(&recipe.headers) { String::new() } else { recipe.id_prefix.clone() },
            notes,
        })
    }

    /// The JSON body of request `index`.
    pub fn body(&self, phase: Phase, index: u64) -> Cow<'_, [u8]> {
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

    /// Appends the whole HTTP/1.1 request `index` of `phase` to `out`.
    pub fn write_request(&self, phase: Phase, index: u64, out: &mut Vec<u8>) {
        const VEC: &str = "writing to a Vec cannot fail";
        let body = self.template(phase, index);
        out.extend_from_slice(&self.head);
        if !self.id_prefix.is_empty() {
            write!(out, "X-Request-Id: {}-{}{index}\r\n", self.id_prefix, letter(phase)).expect(VEC);
        }
        let Some(at) = body.max_tokens_at else {
            write!(out, "Content-Length: {}\r\n\r\n", body.bytes.len()).expect(VEC);
            out.extend_from_slice(&body.bytes);
            return;
        };
        let limit = self.max_tokens_of(phase, index);
        let digits = limit.checked_ilog10().unwrap_or(0) as usize + 1;
        write!(out, "Content-Length: {}\r\n\r\n", body.bytes.len() + digits).expect(VEC);
        let (before, after) = body.bytes.split_at(at as usize);
        out.extend_from_slice(before);
        write!(out, "{limit}").expect(VEC);
        out.extend_from_slice(after);
    }

    fn template(&self, phase: Phase, index: u64) -> &Body {
        let count = self.bodies.len() as u64;
        let place = match phase {
            Phase::Preflight => return &self.preflight,
            Phase::Warmup => count - 1 - index % count,
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
    if matches!(recipe.source, Source::Random(_) | Source::RandomTexts(..) | Source::RandomVl(..) | Source::Trace(_)) {
        tokenizer.remember_words(RANDOM_WORDS);
    }
    Tokens::new(asked, tokenizer, recipe.options.dialect)
}

/// The bodies of all prompts, and that of the connection test, which asks what the last one asks.
fn render_all(recipe: &Recipe, items: Vec<Item>, making: &Making) -> Result<(Vec<Body>, Body), WorkloadError> {
    if let Dialect::Program(program) = recipe.options.dialect {
        let mut bodies = api_program::bodies(program, recipe, &items, making)?;
        let preflight = bodies.pop().expect("the last body is that of the connection test");
        return Ok((bodies, preflight));
    }
    let last = items.last().expect("read gives at least one prompt").clone();
    // Each prompt goes as its bytes come, so that the two never stand in memory together.
    let bodies: Result<Vec<Body>, WorkloadError> =
        items.into_iter().map(|item| render_item(&recipe.options, &item, recipe)).collect();
    // The first wrong line is the one to name.
    let bodies = bodies?;
    let preflight = render_item(&preflight_options(&recipe.options), &Item { output_tokens: None, ..last }, recipe)?;
    Ok((bodies, preflight))
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
