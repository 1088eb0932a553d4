//! The rendered requests of a run.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use super::conversation::{Conversations, LimitPosition};
use super::dataset::{self, Dataset};
use super::error::WorkloadError;
use super::item::Item;
use super::options::{item_options, preflight_options};
use super::progress::StepProgress;
use super::recipe::{Recipe, Source};
use super::rng::{self, Purpose};
use super::tokenizer::Tokenizer;
use super::tokens::{TokenUse, Tokens};
use super::{api_program, headers};
use crate::api::Dialect;
use crate::api::prompt::Prompt;
use crate::api::request_body::{self, Body, Options};
use crate::api::sampling_params::MaxTokens;
use crate::record::Phase;

/// Words of random text whose tokens the tokenizer caches: more than any vocabulary has.
const RANDOM_WORDS: usize = 1 << 18;

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
    pub notes: Vec<String>,
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
        Workload::build_watched(recipe, authority, path, &StepProgress::default())
    }

    /// [`Workload::build`], which may take a while: `progress` says how far it is.
    pub fn build_watched(
        recipe: &Recipe,
        authority: &str,
        path: &str,
        progress: &StepProgress,
    ) -> Result<Workload, WorkloadError> {
        let tokens = recipe.tokens.as_ref().map(|asked| open_tokens(asked, recipe)).transpose()?;
        let Dataset { items, notes } = dataset::read(recipe, tokens.as_ref(), progress)?;
        let (bodies, conversations, preflight) = render_all(recipe, items, progress)?;
        let max_tokens = match recipe.options.sampling.max_tokens {
            Some(MaxTokens::Drawn { low, high }) => (low, high),
            _ => (0, 0),
        };
        Ok(Workload {
            head: headers::write(&recipe.headers, recipe.options.stream, authority, path),
            bodies,
            conversations,
            preflight,
            max_tokens,
            seed: recipe.seed,
            id_prefix: if headers::names_request_id(&recipe.headers) {
                String::new()
            } else {
                recipe.id_prefix.clone()
            },
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
            Some(LimitPosition::Before(at)) => {
                self.write_parts(phase, index, [&before[..at], limit, &before[at..], history, after], out)
            }
            Some(LimitPosition::After(at)) => {
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
        rng::uniform_at(seed, Purpose::MaxTokens, index, low, high)
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

fn open_tokens(asked: &TokenUse, recipe: &Recipe) -> Result<Tokens, WorkloadError> {
    let mut tokenizer = Tokenizer::open(Path::new(&asked.tokenizer))?;
    if recipe.source.is_random_text() {
        tokenizer.remember_words(RANDOM_WORDS);
    }
    Tokens::new(asked, tokenizer, recipe.options.dialect)
}

/// The bodies of all prompts, and that of the connection test, which asks what the last one asks.
fn render_all(
    recipe: &Recipe,
    items: Vec<Item>,
    progress: &StepProgress,
) -> Result<(Vec<Body>, Option<Conversations>, Body), WorkloadError> {
    if let Dialect::Program(program) = recipe.options.dialect {
        let mut bodies = api_program::bodies(program, recipe, &items, progress)?;
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
    request_body::render(&item_options(options, item), &item.prompt)
        .map_err(|what| item.error(recipe.source.path(), what))
}
