//! The rendered requests of a run: all of them before it starts, or, if only its duration ends it and the data allows it,
//! the next ones while it lasts.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::conversation::{self, Conversations};
use super::dataset::{self, Dataset};
use super::error::WorkloadError;
use super::item::Item;
use super::options::{item_options, preflight_options};
use super::progress::StepProgress;
use super::recipe::{Recipe, Source};
use super::rng::{self, Purpose};
use super::script::{Frame, LimitPosition};
use super::stream::{BodyStream, BuildAhead, Builders, Built, Place, StreamOwner};
use super::tokenizer::Tokenizer;
use super::tokens::{TokenUse, Tokens};
use super::{api_program, headers};
use crate::api::Dialect;
use crate::api::request_body::{self, Body, Options};
use crate::api::sampling_params::{MaxTokens, REQUEST_SEEDS, SEED_DIGITS};

use crate::finding::Finding;
use crate::record::Phase;
use crate::record::share::Share;

/// Words of random text whose tokens the tokenizer caches: more than any vocabulary has.
const RANDOM_WORDS: usize = 1 << 18;

/// Every request of a run, rendered. A `--number` above the size of the data cycles through it, so memory only holds
/// distinct requests. Request `i` of a phase is a function of the [`super::rng::Randomness`] of the run and `i`.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Request line and constant headers, without the last headers, which differ between requests.
    pub head: Vec<u8>,
    /// Distinct bodies. Except for recorded traffic, measured requests use them from the first on, warm-up requests from
    /// the last backwards, so that measured requests do not depend on the warm-up and do not hit prefixes that it cached.
    pub bodies: Vec<Body>,
    /// How many of the bodies measured requests use before they start again: the others are those of the warm-up.
    pub cycle: usize,
    /// Recorded traffic keeps its order, because bodies and times belong together: the warm-up uses this many first
    /// bodies, and measured requests those after them. `None` for other data.
    pub recorded_warmup: Option<u64>,
    /// The bodies of measured requests, or the conversations, if they are built while the run lasts; then `bodies` or
    /// `conversations` holds one of them and those of the warm-up.
    pub(crate) stream: Option<Arc<StreamOwner>>,
    /// Different requests that the data has for a run of any length; `None` if it has enough, or is meant to repeat.
    pub(crate) different: Option<u64>,
    /// Bodies of the witness, which cycles through them. Empty: it uses the measured ones, from the last backwards.
    pub witness: Vec<Body>,
    /// If requests are turns of conversations: the conversations; those of the warm-up only, if the others come from a
    /// stream. Then `bodies` is empty.
    pub conversations: Option<Conversations>,
    /// The body of the connection test.
    pub preflight: Body,
    /// Range of a `max_tokens` that is drawn for each request.
    pub max_tokens: (u32, u32),
    /// Seeds the drawn limits.
    pub seed: u64,
    /// Prefix of the `X-Request-Id` header, which is `<id_prefix>-<phase letter><index>`. Empty if the user sets the
    /// header.
    pub id_prefix: String,
    /// Facts about the prompts that affect how results are interpreted.
    pub notes: Vec<Finding>,
}

impl Workload {
    /// A workload of given bytes, for tests and calibrations. `bodies` must not be empty.
    #[cfg(feature = "internals")]
    pub fn fixed(head: Vec<u8>, bodies: Vec<Box<[u8]>>, id_prefix: &str) -> Workload {
        let bodies: Vec<Body> =
            bodies.into_iter().map(|bytes| Body { bytes, max_tokens_at: None, seed_at: None }).collect();
        let preflight = bodies[0].clone();
        let id_prefix = id_prefix.to_string();
        Workload {
            head,
            cycle: bodies.len(),
            recorded_warmup: None,
            stream: None,
            different: None,
            bodies,
            witness: Vec::new(),
            conversations: None,
            preflight,
            max_tokens: (0, 0),
            seed: 0,
            id_prefix,
            notes: Vec::new(),
        }
    }

    /// Reads the data set and renders every request for a server at `authority` (the `Host` header) and `path`.
    pub fn build(recipe: &Recipe, authority: &str, path: &str) -> Result<Workload, WorkloadError> {
        Workload::build_ahead(recipe, authority, path, &Arc::default(), &BuildAhead::default())
    }

    /// Like [`Workload::build`], with progress reported to `progress`. `ahead` is about the requests of a run that only
    /// its duration ends: as long as the workload lives, they are built before they are needed.
    pub fn build_ahead(
        recipe: &Recipe,
        authority: &str,
        path: &str,
        progress: &Arc<StepProgress>,
        ahead: &BuildAhead,
    ) -> Result<Workload, WorkloadError> {
        let tokens = recipe.tokens.as_ref().map(|asked| open_tokens(asked, recipe)).transpose()?;
        let (data, stream) = if recipe.is_streamed() {
            let (data, stream) = start_stream(recipe, tokens, progress, ahead)?;
            (data, Some(Arc::new(StreamOwner(stream))))
        } else {
            (dataset::read(recipe, tokens.as_ref(), progress)?, None)
        };
        let (cycle, notes) = (data.cycle, data.notes.clone());
        let Rendered { bodies, witness, conversations, preflight } = render_all(recipe, data, progress)?;
        let endless_file = recipe.needed.is_none() && stream.is_none() && !recipe.source.repeats_by_design();
        let different = endless_file.then(|| match &conversations {
            Some(conversations) => conversations.requests_before(Phase::Measured, cycle as u64),
            None => bodies.len() as u64,
        });
        let max_tokens = match recipe.options.sampling.max_tokens {
            Some(MaxTokens::Drawn { low, high }) => (low, high),
            _ => (0, 0),
        };
        Ok(Workload {
            head: headers::write(&recipe.headers, recipe.options.stream, authority, path),
            bodies,
            cycle,
            recorded_warmup: matches!(recipe.source, Source::Trace(_)).then_some(recipe.warmup),
            stream,
            different,
            witness,
            conversations,
            preflight,
            max_tokens,
            seed: recipe.randomness.run_seed(),
            id_prefix: if headers::names_request_id(&recipe.headers) {
                String::new()
            } else {
                recipe.id_prefix.clone()
            },
            notes,
        })
    }

    /// Number of requests of a shard for `number` units of `--number`: requests, or conversations with all their turns.
    pub(crate) fn requests_of(&self, phase: Phase, number: u64, share: Share) -> u64 {
        match &self.conversations {
            Some(conversations) if share.count() == 1 => conversations.requests_before(phase, number),
            Some(conversations) => {
                let own = (0..share.part(number)).map(|nth| share.number(nth));
                own.map(|number| conversations.script(phase, number).turns.len() as u64).sum()
            }
            None => share.part(number),
        }
    }

    /// Passes every byte that determines the bodies of the requests to `take`: the same for all shards of a load. Of
    /// bodies that are built while the run lasts, only the first is there.
    pub(crate) fn each_part(&self, take: &mut dyn FnMut(&[u8])) {
        for body in self.bodies.iter().chain(&self.witness).chain([&self.preflight]) {
            take(&(body.bytes.len() as u64).to_le_bytes());
            take(&body.bytes);
            take(format!("{:?} {:?}", body.max_tokens_at, body.seed_at).as_bytes());
        }
        let (low, high) = self.max_tokens;
        let Workload { cycle, recorded_warmup, seed, .. } = self;
        take(format!("{cycle} {recorded_warmup:?} {low} {high} {seed}").as_bytes());
        if let Some(conversations) = &self.conversations {
            conversations.each_part(take);
        }
    }

    /// The bodies of measured requests, or the conversations, if they are built while the run lasts. Each is taken once, and
    /// its requests carry their bodies in their records.
    pub(crate) fn stream(&self) -> Option<&BodyStream> {
        self.stream.as_ref().map(|owner| &*owner.0)
    }

    /// Builds no further requests.
    pub(crate) fn end_stream(&self) -> Result<(), WorkloadError> {
        let Some(stream) = self.stream() else { return Ok(()) };
        stream.close();
        stream.take_error().map_or(Ok(()), Err)
    }

    /// What is known about the prompts only after a run that sent this many requests.
    pub(crate) fn notes_after(&self, requests: u64) -> Vec<Finding> {
        let mut notes = Vec::new();
        if let Some(stream) = self.stream() {
            stream.residuals.report(&mut notes);
        }
        let different = self.different.or_else(|| self.stream()?.repeated_prompts());
        if let Some(prompts) = different.filter(|prompts| requests > *prompts) {
            notes.push(Finding::PromptsRepeat { prompts, requests, most: requests.div_ceil(prompts) });
        }
        notes
    }

    /// The JSON body of request `index`; empty for a turn of a conversation, which is complete only when it is sent, and
    /// for a request whose body comes from a stream.
    pub fn body(&self, phase: Phase, index: u64) -> Cow<'_, [u8]> {
        let is_streamed = self.stream.is_some() && phase == Phase::Measured;
        if is_streamed || self.conversations.is_some() && phase != Phase::Preflight {
            return Cow::Borrowed(&[]);
        }
        let body = self.template(phase, index);
        let limit = self.max_tokens_of(phase, index).to_string();
        let mut bytes = match body.max_tokens_at {
            None => Cow::Borrowed(&body.bytes[..]),
            Some(at) => {
                let (before, after) = body.bytes.split_at(at as usize);
                Cow::Owned([before, limit.as_bytes(), after].concat())
            }
        };
        if let Some(at) = seed_offset(body, limit.len()) {
            self.put_seed(phase, index, &mut bytes.to_mut()[at..]);
        }
        bytes
    }

    /// Appends the whole HTTP/1.1 request `index` of `phase` to `out`; not for turns of conversations, nor for requests
    /// whose bodies come from a stream.
    pub fn write_request(&self, phase: Phase, index: u64, out: &mut Vec<u8>) {
        self.write_body(phase, index, self.template(phase, index), out);
    }

    /// Appends the whole HTTP/1.1 request `index` of `phase`, which has this body, to `out`.
    pub(crate) fn write_body(&self, phase: Phase, index: u64, body: &Body, out: &mut Vec<u8>) {
        let (start, limit_len) = match body.max_tokens_at {
            None => (self.write_parts(phase, index, [&body.bytes], out), 0),
            Some(at) => {
                let (before, after) = body.bytes.split_at(at as usize);
                let limit = self.max_tokens_of(phase, index).to_string();
                (self.write_parts(phase, index, [before, limit.as_bytes(), after], out), limit.len())
            }
        };
        if let Some(at) = seed_offset(body, limit_len) {
            self.put_seed(phase, index, &mut out[start + at..]);
        }
    }

    /// Appends the request `index` of `phase`, a turn of a conversation with this frame, to `out` and returns the offset of
    /// its body. `history` are the messages so far including this turn's, as JSON separated by commas.
    pub(crate) fn write_turn(
        &self,
        (phase, index): (Phase, u64),
        frame: &Frame,
        history: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let (before, after) = (&frame.before[..], &frame.after[..]);
        let limit = self.max_tokens_of(phase, index).to_string();
        let limit = limit.as_bytes();
        let start = match frame.max_tokens_at {
            None => self.write_parts(phase, index, [before, history, after], out),
            Some(LimitPosition::Before(at)) => {
                self.write_parts(phase, index, [&before[..at], limit, &before[at..], history, after], out)
            }
            Some(LimitPosition::After(at)) => {
                self.write_parts(phase, index, [before, history, &after[..at], limit, &after[at..]], out)
            }
        };
        // The length of a limit that is inserted before the seed in the same part moves it; counted from the other end, the
        // other part does not.
        let seed = match (frame.seed_at, frame.max_tokens_at) {
            (None, _) => return start,
            (Some(LimitPosition::Before(at)), Some(LimitPosition::Before(limit_at))) if limit_at <= at => {
                start + at + limit.len()
            }
            (Some(LimitPosition::Before(at)), _) => start + at,
            (Some(LimitPosition::After(at)), Some(LimitPosition::After(limit_at))) if at < limit_at => {
                out.len() - (after.len() - at) - limit.len()
            }
            (Some(LimitPosition::After(at)), _) => out.len() - (after.len() - at),
        };
        self.put_seed(phase, index, &mut out[seed..]);
        start
    }

    /// Writes the seed of request `index` over the digits at the start of `bytes`.
    fn put_seed(&self, phase: Phase, index: u64, bytes: &mut [u8]) {
        let (low, high) = REQUEST_SEEDS;
        let seed = rng::uniform_at(rng::phase_seed(self.seed, phase), Purpose::RequestSeed, index, low, high);
        bytes[..SEED_DIGITS].copy_from_slice(seed.to_string().as_bytes());
    }

    /// Appends a request with a body of these parts, and returns the offset of the body.
    fn write_parts<const N: usize>(&self, phase: Phase, index: u64, parts: [&[u8]; N], out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&self.head);
        if !self.id_prefix.is_empty() {
            for part in [&b"X-Request-Id: "[..], self.id_prefix.as_bytes(), &[b'-', letter(phase)]] {
                out.extend_from_slice(part);
            }
            put_decimal(index, out);
            out.extend_from_slice(b"\r\n");
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        out.extend_from_slice(b"Content-Length: ");
        put_decimal(length as u64, out);
        out.extend_from_slice(b"\r\n\r\n");
        let start = out.len();
        parts.iter().for_each(|part| out.extend_from_slice(part));
        start
    }

    fn template(&self, phase: Phase, index: u64) -> &Body {
        let count = self.bodies.len() as u64;
        let place = match phase {
            Phase::Preflight => return &self.preflight,
            Phase::Witness if !self.witness.is_empty() => {
                return &self.witness[(index % self.witness.len() as u64) as usize];
            }
            Phase::Warmup if self.recorded_warmup.is_some() => index % count,
            // From the end, where the prompts of the warm-up or those that measured requests use last are, so that the
            // prefix cache is not warmed for them.
            Phase::Warmup | Phase::Witness => count - 1 - index % count,
            Phase::Measured => self.recorded_warmup.unwrap_or(0).wrapping_add(index) % self.cycle as u64,
        };
        &self.bodies[place as usize]
    }

    fn max_tokens_of(&self, phase: Phase, index: u64) -> u32 {
        let (low, high) = self.max_tokens;
        rng::uniform_at(rng::phase_seed(self.seed, phase), Purpose::MaxTokens, index, low, high)
    }
}

/// Where the seed is in a body with a limit of this length.
fn seed_offset(body: &Body, limit_len: usize) -> Option<usize> {
    let at = body.seed_at?;
    Some(at as usize + if body.max_tokens_at.is_some_and(|limit| limit <= at) { limit_len } else { 0 })
}

fn letter(phase: Phase) -> u8 {
    match phase {
        Phase::Preflight => b'p',
        Phase::Warmup => b'w',
        Phase::Measured => b'm',
        Phase::Witness => b'x',
    }
}

/// Appends decimal digits, for each request, without the formatting machinery.
fn put_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

fn open_tokens(asked: &TokenUse, recipe: &Recipe) -> Result<Tokens, WorkloadError> {
    let mut tokenizer = Tokenizer::open(Path::new(&asked.tokenizer))?;
    if recipe.source.is_random_text() {
        tokenizer.remember_words(RANDOM_WORDS);
    }
    let tokens = Tokens::new(asked, tokenizer, recipe.options.dialect)?;
    if tokens.tokenizer.has_template() && asked.template != Some(false) {
        // A template that takes too much is found before the run, while nothing else is rendered. It may refuse this prompt.
        let _ = tokens.tokenizer.chat_of("Hi");
    }
    Ok(tokens)
}

/// How long to wait for prompts that come one after the other, before the run starts with those that are there.
const FILL_LIMIT: Duration = Duration::from_secs(10);
const FILL_PERIOD: Duration = Duration::from_millis(2);

/// Starts to build bodies, on threads that end with the stream, and waits until it is full. Returns the prompts that are
/// needed besides.
fn start_stream(
    recipe: &Recipe,
    tokens: Option<Tokens>,
    progress: &Arc<StepProgress>,
    ahead: &BuildAhead,
) -> Result<(Dataset, Arc<BodyStream>), WorkloadError> {
    let stream = Arc::new(BodyStream::new(ahead.bodies, ahead.share));
    let (ready, before) = bounded(1);
    let tokens = Arc::new(tokens);
    let builders = {
        let (recipe, stream, tokens, progress) = (recipe.clone(), stream.clone(), tokens.clone(), progress.clone());
        let (keep_off, chunk) = (ahead.keep_off.clone(), chunk_size(&recipe, ahead.bodies));
        move || {
            let tokens = (*tokens).as_ref();
            let render = |items: Vec<(Place, Item)>| render_streamed(&recipe, tokens, items);
            let builders =
                Builders { stream: &stream, keep_off: &keep_off, chunk, render: &render, ready, progress: &progress };
            if let Err(error) = dataset::build(&recipe, tokens, &builders) {
                stream.fail(error);
            }
        }
    };
    let spawned = thread::Builder::new().name("requests".to_string()).spawn(builders);
    spawned.map_err(|error| WorkloadError::Data(format!("cannot start a thread that builds requests: {error}")))?;
    let failed = || stream.take_error().unwrap_or_else(|| WorkloadError::Data("no request could be built".to_string()));
    // The sender is dropped if the data set cannot be read.
    let items = before.recv().map_err(|_| failed())?;
    let data = dataset::arrange(recipe, (*tokens).as_ref(), items, progress)?;
    let mut left =
        if recipe.source.is_generated() { u32::MAX } else { FILL_LIMIT.div_duration_f64(FILL_PERIOD) as u32 };
    while !stream.was_full() && left > 0 {
        if stream.has_failed() {
            return Err(failed());
        }
        thread::sleep(FILL_PERIOD);
        left -= 1;
    }
    Ok((data, stream))
}

/// Prompts that are rendered together: a program is started for each group.
fn chunk_size(recipe: &Recipe, bodies: u64) -> u64 {
    match recipe.options.dialect {
        Dialect::Program(_) => (bodies / 4).max(1),
        _ => 1,
    }
}

/// The bodies of measured requests, or conversations, with these places.
fn render_streamed(
    recipe: &Recipe,
    tokens: Option<&Tokens>,
    mut items: Vec<(Place, Item)>,
) -> Result<Vec<Built>, WorkloadError> {
    if recipe.source.is_conversations() {
        let render = |(place, item): &(Place, Item)| conversation::build(item, place.requests, recipe);
        return items.iter().map(|item| render(item).map(Built::Conversation)).collect();
    }
    if let Some(tokens) = tokens.filter(|tokens| tokens.changes_prompts()) {
        for (_, item) in &mut items {
            item.prompt = dataset::sent_form(tokens, recipe.source.path(), item)?;
        }
    }
    let bodies = match recipe.options.dialect {
        Dialect::Program(program) => api_program::some_bodies(program, recipe, &items)?,
        _ => items.iter().map(|(_, item)| render_item(&recipe.options, item, recipe)).collect::<Result<_, _>>()?,
    };
    Ok(bodies.into_iter().map(Built::Body).collect())
}

/// The bodies of a run.
struct Rendered {
    bodies: Vec<Body>,
    witness: Vec<Body>,
    conversations: Option<Conversations>,
    preflight: Body,
}

/// Renders the bodies of all prompts.
fn render_all(recipe: &Recipe, data: Dataset, progress: &StepProgress) -> Result<Rendered, WorkloadError> {
    let Dataset { mut items, witness, test, cycle, .. } = data;
    if let Dialect::Program(program) = recipe.options.dialect {
        let count = items.len();
        items.extend(witness);
        let mut bodies = api_program::bodies(program, recipe, &items, &test, progress)?;
        let preflight = bodies.pop().expect("the last body is that of the connection test");
        let witness = bodies.split_off(count);
        return Ok(Rendered { bodies, witness, conversations: None, preflight });
    }
    // Each prompt is dropped when it is rendered, to save memory.
    let render = |items: Vec<Item>| -> Result<Vec<Body>, WorkloadError> {
        items.into_iter().map(|item| render_item(&recipe.options, &item, recipe)).collect()
    };
    let (bodies, conversations) = match &recipe.source {
        Source::MultiTurn(asked) => (Vec::new(), Some(Conversations::render(&items, cycle, asked.think_us, recipe)?)),
        _ => (render(items)?, None),
    };
    let preflight = render_item(&preflight_options(&recipe.options), &test, recipe)?;
    let witness = if conversations.is_some() { Vec::new() } else { render(witness)? };
    Ok(Rendered { bodies, witness, conversations, preflight })
}

/// The body of one prompt.
fn render_item(options: &Options, item: &Item, recipe: &Recipe) -> Result<Body, WorkloadError> {
    request_body::render(&item_options(options, item), &item.prompt)
        .map_err(|what| item.error(recipe.source.path(), what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_digits_are_those_of_std() {
        for number in [0, 9, 10, 4_096, 1_234_567_890, u64::MAX] {
            let mut out = b"x".to_vec();
            put_decimal(number, &mut out);
            assert_eq!(out, format!("x{number}").into_bytes());
        }
    }
}
