//! The requests of a run: request `i` is a pure function of the seed and `i`, and its bytes are ready before the clock
//! starts.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use crate::api::render::{self, Body, MaxTokens, Options, Prompt};
use crate::record::Phase;

pub mod arrivals;
mod builtin;
pub mod draw;
pub mod head;
mod line_by_line;
mod prompt;

use draw::Purpose;
use head::Header;

/// The longest output the connection test asks for: enough for a first token from any model, soon over.
const PREFLIGHT_MAX_TOKENS: u32 = 16;

/// Everything that decides the requests of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub source: Source,
    pub lengths: Lengths,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--prompt TEXT`
    Prompt(String),
    /// `--prompt @FILE`: the whole file is one prompt.
    PromptFile(PathBuf),
    /// Our own questions.
    Builtin,
    /// One prompt a line: text, a JSON list of messages, or a JSON object that is a whole body.
    LineByLine(PathBuf),
}

/// Prompt lengths kept, in characters, both ends included. Whole bodies are not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    pub min_chars: u64,
    pub max_chars: Option<u64>,
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
    Prompt(String),
    #[error(
        "none of the {read} prompts has a length between --min-prompt-length {min} and --max-prompt-length {max} \
         characters; the shortest has {shortest}, the longest {longest}"
    )]
    NothingLeft { read: u64, min: u64, max: String, shortest: u64, longest: u64 },
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
}

impl Workload {
    /// A workload of given bytes, as tests and calibrations use it. `bodies` must not be empty.
    pub fn fixed(head: Vec<u8>, bodies: Vec<Box<[u8]>>, id_prefix: &str) -> Workload {
        let bodies: Vec<Body> = bodies.into_iter().map(|bytes| Body { bytes, max_tokens_at: None }).collect();
        let preflight = bodies[0].clone();
        Workload { head, bodies, preflight, max_tokens: (0, 0), seed: 0, id_prefix: id_prefix.to_string() }
    }

    /// Reads the data and renders every request of it, for a server at `authority` (the `Host` header) and `path`.
    pub fn build(recipe: &Recipe, authority: &str, path: &str) -> Result<Workload, WorkloadError> {
        let prompts = read(recipe)?;
        let mut bodies = Vec::with_capacity(prompts.len());
        for item in &prompts {
            bodies.push(render::body(&recipe.options, &item.prompt).map_err(|what| item.error(recipe, what))?);
        }
        let last = prompts.last().expect("read gives at least one prompt");
        let preflight =
            render::body(&preflight_options(&recipe.options), &last.prompt).map_err(|what| last.error(recipe, what))?;
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

/// A prompt and the place it came from.
struct Item {
    prompt: Prompt,
    /// Line of the file, from 1; 0 when it did not come from a line.
    line: u64,
}

impl Item {
    fn error(&self, recipe: &Recipe, what: String) -> WorkloadError {
        match &recipe.source {
            Source::LineByLine(path) => WorkloadError::Line { path: path.clone(), line: self.line, what },
            _ => WorkloadError::Prompt(what),
        }
    }
}

/// The prompts the run uses: those of the asked length, from the offset on, no more than it can send.
fn read(recipe: &Recipe) -> Result<Vec<Item>, WorkloadError> {
    let wanted = recipe.needed.map_or(u64::MAX, |needed| needed.max(1).saturating_add(recipe.offset));
    let mut sieve =
        Sieve { lengths: recipe.lengths, wanted, kept: Vec::new(), read: 0, shortest: u64::MAX, longest: 0 };
    match &recipe.source {
        Source::Prompt(text) => {
            sieve.take(Item { prompt: prompt::from_text(text)?, line: 0 });
        }
        Source::PromptFile(path) => {
            sieve.take(Item { prompt: prompt::from_file(path)?, line: 0 });
        }
        Source::Builtin => {
            for text in builtin::prompts() {
                if !sieve.take(Item { prompt: Prompt::Text(text.to_string()), line: 0 }) {
                    break;
                }
            }
        }
        Source::LineByLine(path) => line_by_line::read(path, |prompt, line| sieve.take(Item { prompt, line }))?,
    }
    sieve.finish(recipe.offset)
}

/// Keeps prompts of the asked length until there are enough.
struct Sieve {
    lengths: Lengths,
    wanted: u64,
    kept: Vec<Item>,
    read: u64,
    shortest: u64,
    longest: u64,
}

impl Sieve {
    /// Looks at one prompt; says whether more are wanted.
    fn take(&mut self, item: Item) -> bool {
        self.read += 1;
        let fits = match length_in_chars(&item.prompt) {
            None => true,
            Some(chars) => {
                self.shortest = self.shortest.min(chars);
                self.longest = self.longest.max(chars);
                chars >= self.lengths.min_chars && self.lengths.max_chars.is_none_or(|max| chars <= max)
            }
        };
        if fits {
            self.kept.push(item);
        }
        (self.kept.len() as u64) < self.wanted
    }

    /// Drops the offset. One that reaches past the data goes round, as a sweep's later runs do.
    fn finish(mut self, offset: u64) -> Result<Vec<Item>, WorkloadError> {
        if self.kept.is_empty() {
            let max = self.lengths.max_chars.map_or("none".to_string(), |max| max.to_string());
            let (shortest, longest) = (self.shortest, self.longest);
            return Err(WorkloadError::NothingLeft {
                read: self.read,
                min: self.lengths.min_chars,
                max,
                shortest,
                longest,
            });
        }
        let count = self.kept.len() as u64;
        if count < self.wanted {
            // Everything was read: the run cycles through it, starting at the offset.
            self.kept.rotate_left((offset % count) as usize);
        } else {
            self.kept.drain(..offset.min(count - 1) as usize);
        }
        Ok(self.kept)
    }
}

/// Characters of a prompt; `None` for a whole body.
fn length_in_chars(prompt: &Prompt) -> Option<u64> {
    let chars = |text: &str| text.chars().count() as u64;
    match prompt {
        Prompt::Text(text) => Some(chars(text)),
        Prompt::Messages(messages) => {
            Some(messages.iter().filter_map(|message| message.get("content")?.as_str()).map(chars).sum())
        }
        Prompt::Embedding(texts) => Some(texts.iter().map(|text| chars(text)).sum()),
        Prompt::Rerank { query, documents } => {
            Some(chars(query) + documents.iter().map(|document| chars(document)).sum::<u64>())
        }
        Prompt::Body(_) => None,
    }
}
